//! Real clients: iputils' ping, and what it says.

use std::fmt;

use anyhow::{Context as _, Result};

use super::network::{ANYCAST4, ANYCAST6, CLIENT, Network, SERVER4, SERVER6};

/// One call of ping.
pub(crate) struct Ping {
    /// Where from, unless that is for the kernel to choose.
    pub(crate) from: Option<&'static str>,
    /// Where to.
    pub(crate) address: &'static str,
    /// Bytes of data.
    pub(crate) size: u32,
    /// Requests.
    pub(crate) count: u32,
    /// As fast as replies come, instead of one every 20 ms.
    pub(crate) flood: bool,
}

/// What ping said.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outcome {
    /// Requests that it sent.
    pub(crate) sent: u64,
    /// Replies that came.
    pub(crate) received: u64,
    /// Median-like figure of ping: the average round trip, in milliseconds; sizes below 16 carry no clock.
    pub(crate) average: Option<f64>,
    /// What it said of the first ICMP error that came.
    pub(crate) error: Option<String>,
}

impl Ping {
    /// All calls of the lab.
    pub(crate) fn all() -> Vec<Self> {
        let sizes = [0, 56, 1472];
        let mut all = Vec::new();
        for address in [SERVER4, SERVER6, ANYCAST4, ANYCAST6] {
            all.extend(sizes.map(|size| Self { from: None, address, size, count: 20, flood: false }));
        }
        let flood = |address| Self { from: None, address, size: 56, count: 20_000, flood: true };
        all.extend([SERVER4, SERVER6].map(flood));
        all
    }

    /// The command, without what is the same for all.
    pub(crate) fn what(&self) -> String {
        let how = if self.flood { "ping -f" } else { "ping" };
        let from = self.from.map_or_else(String::new, |from| format!(" -I {from}"));
        format!("{how}{from} {}", self.address)
    }

    /// Pings.
    pub(crate) fn run(&self, network: &Network) -> Result<Outcome> {
        let (size, count) = (self.size.to_string(), self.count.to_string());
        // With -q errors are not told of; with -w requests are sent until as many are answered.
        let pace: &[&str] = if self.flood { &["-q", "-f", "-w", "20"] } else { &["-i", "0.02"] };
        let mut command = vec!["ping", "-n", "-W", "1", "-c", &count, "-s", &size];
        command.extend(pace);
        command.extend(self.from.iter().flat_map(|from| ["-I", from]));
        command.push(self.address);
        let output =
            network.wait(std::process::Command::new("ip").args(["netns", "exec", CLIENT]).args(&command))?;
        // Exit status 1 says that replies are missing, which the counts below tell better.
        let said = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        parse(&said)
            .with_context(|| format!("understanding what `{}` said: {said}{complaint}", command.join(" ")))
    }
}

impl fmt::Display for Ping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { size, count, .. } = self;
        write!(f, "{}: {count} requests of {size} bytes", self.what())
    }
}

/// Reads ping's last lines, and the first one about an error.
fn parse(said: &str) -> Option<Outcome> {
    let counts = said.lines().find(|line| line.contains("packets transmitted"))?;
    let number = |before: &str| counts.split(before).next()?.split([' ', ',']).next_back()?.parse().ok();
    let average = said.lines().find_map(|line| line.strip_prefix("rtt min/avg/max/mdev = "));
    // "From ADDRESS icmp_seq=NUMBER Destination unreachable: ..."; IPv4's errors have short names.
    let error = said.lines().filter(|line| line.starts_with("From ")).find_map(|line| {
        let (_, error) = line.split_once("icmp_seq=")?.1.split_once(' ')?;
        Some(error.rsplit(": ").next().unwrap_or(error).to_owned())
    });
    Some(Outcome {
        sent: number(" packets transmitted")?,
        received: number(" received")?,
        average: average.and_then(|times| times.split('/').nth(1)?.parse().ok()),
        error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn understands_what_ping_says() {
        let said = "PING 192.0.2.1 (192.0.2.1) 56(84) bytes of data.\n\n--- 192.0.2.1 ping statistics ---\n\
                    20 packets transmitted, 19 received, 5% packet loss, time 387ms\n\
                    rtt min/avg/max/mdev = 0.010/0.042/0.065/0.011 ms, ipg/ewma 0.014/0.009 ms\n";
        assert_eq!(parse(said), Some(Outcome { sent: 20, received: 19, average: Some(0.042), error: None }));
    }

    #[test]
    fn small_pings_have_no_clock() {
        let said = "20 packets transmitted, 20 received, 0% packet loss, time 387ms\n";
        assert_eq!(parse(said), Some(Outcome { sent: 20, received: 20, average: None, error: None }));
        assert_eq!(parse("ping: connect: Network is unreachable\n"), None);
    }

    #[test]
    fn errors_are_told_in_pings_words() {
        for (line, error) in [
            ("From 198.51.100.9 icmp_seq=1 Packet filtered", "Packet filtered"),
            (
                "From 2001:db8:53::9 icmp_seq=1 Destination unreachable: Administratively prohibited",
                "Administratively prohibited",
            ),
        ] {
            let said = format!(
                "{line}\n\n2 packets transmitted, 0 received, +2 errors, 100% packet loss, time 20ms\n"
            );
            let outcome = Outcome { sent: 2, received: 0, average: None, error: Some(error.to_owned()) };
            assert_eq!(parse(&said), Some(outcome));
        }
    }
}
