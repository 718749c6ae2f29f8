//! What became of the packets: the program's counters, those of the kernel's stack in the server's namespace, and those of the
//! veth pair.

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::network::{Network, SERVER, SERVER_END};

/// What became of ICMP packets since the server's namespace exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Echo requests answered by the program.
    pub(crate) program: u64,
    /// Packets that the program denied, rejected ones included.
    pub(crate) denied: u64,
    /// Of these, those about which it sent an error.
    pub(crate) rejected: u64,
    /// Packets that were over a limit of the program's.
    pub(crate) limited: u64,
    /// Echo requests answered by the kernel's stack.
    pub(crate) stack: u64,
}

impl Counts {
    /// Reads them. A program that is not attached has counted nothing.
    pub(crate) fn read(network: &Network) -> Result<Self> {
        let stats = network.icmpctl(&["stats", "--json"])?;
        let of_program = |verdict| total(&stats, verdict).context("reading the program's counters");
        let snmp = network.run_in(SERVER, &["cat", "/proc/net/snmp", "/proc/net/snmp6"])?;
        let stack = echo_replies(&snmp).context("reading the kernel's counters")?;
        let [program, denied, rejected, limited] =
            ["answered", "denied", "rejected", "limited"].map(of_program);
        Ok(Self { program: program?, denied: denied?, rejected: rejected?, limited: limited?, stack })
    }

    /// What was counted after `before`.
    pub(crate) fn since(self, before: &Self) -> Self {
        // The program's counters begin anew when it is attached anew.
        Self {
            program: self.program.saturating_sub(before.program),
            denied: self.denied.saturating_sub(before.denied),
            rejected: self.rejected.saturating_sub(before.rejected),
            limited: self.limited.saturating_sub(before.limited),
            stack: self.stack.saturating_sub(before.stack),
        }
    }
}

/// Frames that the veth pair has dropped because a ring was full, or for another reason of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Drops {
    /// On the way to the server.
    pub(crate) requests: u64,
    /// On the way back.
    pub(crate) replies: u64,
}

impl Drops {
    /// Reads them at the server's end, which knows both.
    pub(crate) fn read(network: &Network) -> Result<Self> {
        let links = network.run("ip", &["-n", SERVER, "-s", "-j", "link", "show", "dev", SERVER_END])?;
        drops(&links).context("reading what `ip -s link` says of the server's end")
    }

    /// What was dropped after `before`.
    pub(crate) const fn since(self, before: &Self) -> Self {
        Self { requests: self.requests - before.requests, replies: self.replies - before.replies }
    }
}

fn drops(links: &str) -> Result<Drops> {
    let links: Value = serde_json::from_str(links)?;
    let dropped = |way: &str| links[0]["stats64"][way]["dropped"].as_u64().with_context(|| way.to_owned());
    Ok(Drops { requests: dropped("rx")?, replies: dropped("tx")? })
}

/// Packets of both families that `icmpctl stats --json` lists under a verdict.
fn total(stats: &str, verdict: &str) -> Result<u64> {
    let stats: Value = serde_json::from_str(stats)?;
    let of_server = stats.as_array().into_iter().flatten().filter(|entry| entry["interface"] == SERVER_END);
    let totals = of_server.filter_map(|entry| entry["totals"].as_array()).flatten();
    Ok(totals.filter_map(|total| total[verdict].as_u64()).sum())
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
    fn only_the_servers_packets_count() {
        let stats = r#"[{"interface":"server0","totals":[{"answered":3,"denied":1},{"answered":4,"denied":0}]},
                        {"interface":"other","totals":[{"answered":9,"denied":9}]}]"#;
        assert_eq!(total(stats, "answered").ok(), Some(7));
        assert_eq!(total(stats, "denied").ok(), Some(1));
        assert_eq!(total("[]", "answered").ok(), Some(0));
    }

    #[test]
    fn drops_are_told_apart_by_their_way() {
        let links = r#"[{"ifname":"server0","stats64":{"rx":{"packets":9,"dropped":2},"tx":{"dropped":1}}}]"#;
        assert_eq!(drops(links).ok(), Some(Drops { requests: 2, replies: 1 }));
        assert!(drops("[]").is_err());
    }
}
