//! Who answered: the program's counters, and those of the kernel's stack in the server's namespace.

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::network::{Network, SERVER, SERVER_END};

/// Echo requests answered since the server's namespace exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// By the program.
    pub(crate) program: u64,
    /// By the kernel's stack.
    pub(crate) stack: u64,
}

impl Counts {
    /// Reads both. Without an attached program it has answered nothing.
    pub(crate) fn read(network: &Network) -> Result<Self> {
        let stats = network.icmpctl(&["stats", "--json"])?;
        let program = answered(&stats).context("reading the program's counters")?;
        let snmp = network.run_in(SERVER, &["cat", "/proc/net/snmp", "/proc/net/snmp6"])?;
        let stack = echo_replies(&snmp).context("reading the kernel's counters")?;
        Ok(Self { program, stack })
    }

    /// What was counted after `before`.
    pub(crate) fn since(self, before: &Self) -> Self {
        // The program's counters begin anew when it is attached anew.
        Self {
            program: self.program.saturating_sub(before.program),
            stack: self.stack.saturating_sub(before.stack),
        }
    }
}

/// Packets that `icmpctl stats --json` says were answered, in both families.
fn answered(stats: &str) -> Result<u64> {
    let stats: Value = serde_json::from_str(stats)?;
    let of_server = stats.as_array().into_iter().flatten().filter(|entry| entry["interface"] == SERVER_END);
    let totals = of_server.filter_map(|entry| entry["totals"].as_array()).flatten();
    Ok(totals.filter_map(|total| total["answered"].as_u64()).sum())
}

/// `IcmpOutEchoReps` and `Icmp6OutEchoReplies` in the text of `/proc/net/snmp` and `/proc/net/snmp6`.
fn echo_replies(snmp: &str) -> Option<u64> {
    let mut icmp = snmp.lines().filter_map(|line| line.strip_prefix("Icmp: "));
    let (names, values) = (icmp.next()?, icmp.next()?);
    let place = names.split_whitespace().position(|name| name == "OutEchoReps")?;
    let v4: u64 = values.split_whitespace().nth(place)?.parse().ok()?;
    let mut lines = snmp.lines().map(str::split_whitespace);
    let v6 = lines.find_map(|mut line| (line.next()? == "Icmp6OutEchoReplies").then(|| line.next())?)?;
    Some(v4 + v6.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn echo_replies_of_both_families_are_added() {
        let snmp = "Ip: Forwarding\nIp: 2\nIcmp: InMsgs OutEchoReps OutMsgs\nIcmp: 7 40 9\nIcmpMsg: InType8\nIcmpMsg: 3\n\
                    Ip6InReceives   \t5\nIcmp6OutEchos \t1\nIcmp6OutEchoReplies             \t2\n";
        assert_eq!(echo_replies(snmp), Some(42));
        assert_eq!(echo_replies("Icmp: InMsgs\nIcmp: 7\n"), None);
    }

    #[test]
    fn only_the_servers_answers_count() {
        let stats = r#"[{"interface":"server0","totals":[{"answered":3},{"answered":4}]},
                        {"interface":"other","totals":[{"answered":9}]}]"#;
        assert_eq!(answered(stats).ok(), Some(7));
        assert_eq!(answered("[]").ok(), Some(0));
    }
}
