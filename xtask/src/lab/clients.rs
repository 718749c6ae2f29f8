//! Real clients: iputils' ping, and what it says.

use std::fmt;

use anyhow::{Context as _, Result};

use super::network::{ANYCAST4, ANYCAST6, CLIENT, Network, SERVER4, SERVER6};

/// One call of ping.
pub(crate) struct Ping {
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
}

impl Ping {
    /// All calls of the lab.
    pub(crate) fn all() -> Vec<Self> {
        let sizes = [0, 56, 1472];
        let mut all = Vec::new();
        for address in [SERVER4, SERVER6, ANYCAST4, ANYCAST6] {
            all.extend(sizes.map(|size| Self { address, size, count: 20, flood: false }));
        }
        all.extend([SERVER4, SERVER6].map(|address| Self { address, size: 56, count: 20_000, flood: true }));
        all
    }

    /// Pings.
    pub(crate) fn run(&self, network: &Network) -> Result<Outcome> {
        let (size, count) = (self.size.to_string(), self.count.to_string());
        let pace: &[&str] = if self.flood { &["-f"] } else { &["-i", "0.02"] };
        let mut command = vec!["ping", "-n", "-q", "-w", "20", "-W", "1", "-c", &count, "-s", &size];
        command.extend(pace);
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
        let Self { address, size, count, flood } = self;
        let how = if *flood { "ping -f" } else { "ping" };
        write!(f, "{how} {address}: {count} requests of {size} bytes")
    }
}

/// Reads ping's last lines.
fn parse(said: &str) -> Option<Outcome> {
    let counts = said.lines().find(|line| line.contains("packets transmitted"))?;
    let number = |before: &str| counts.split(before).next()?.split([' ', ',']).next_back()?.parse().ok();
    let average = said.lines().find_map(|line| line.strip_prefix("rtt min/avg/max/mdev = "));
    Some(Outcome {
        sent: number(" packets transmitted")?,
        received: number(" received")?,
        average: average.and_then(|times| times.split('/').nth(1)?.parse().ok()),
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
        assert_eq!(parse(said), Some(Outcome { sent: 20, received: 19, average: Some(0.042) }));
    }

    #[test]
    fn small_pings_have_no_clock() {
        let said = "20 packets transmitted, 20 received, 0% packet loss, time 387ms\n";
        assert_eq!(parse(said), Some(Outcome { sent: 20, received: 20, average: None }));
        assert_eq!(parse("ping: connect: Network is unreachable\n"), None);
    }
}
