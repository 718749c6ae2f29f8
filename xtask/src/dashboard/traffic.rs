//! What the dashboard shows: clients who are answered and who are not, broken packets, and a flood that is over a limit.

use std::{
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{Running, start};
use crate::{
    ebpf::Objects,
    lab::{
        flood::{Crowd, Flood, Instruments},
        network::{
            ANYCAST4, ANYCAST6, CLIENT, CLIENT_END, CLIENT_MAC, CLIENT4, CLIENT6, CLOSED4, Network, OTHER4,
            SERVER_MAC, SERVER4, SERVER6,
        },
    },
    say,
};

/// Behind the lab's `[respond]`.
pub(crate) const POLICY: &str = r#"
timestamp = true

[limits]
buckets = 16384

[acl]
rules = """
10 deny icmp host 192.0.2.3 any echo
20 reject icmp any host 198.51.100.9 echo
30 permit icmp 2001:db8::/32 any echo
40 permit icmp 192.0.2.0/24 any echo
50 limit 2/s burst 10 per source, 5000/s per rule icmp any any echo log 1/10
"""
"#;

/// Some thousand hosts that ping now and then, and ten that do not stop.
const FLOOD: Crowd = Crowd { sources: 1 << 13, heavy: 10, gap: Duration::from_micros(150) };
/// When the crowd comes, and when all of it ends.
const CROWD: Duration = Duration::from_secs(70);
const END: Duration = Duration::from_secs(120);

/// Sends it.
pub(crate) fn send(network: &Network, objects: &Objects) -> Result<()> {
    say::step(&format!("sending packets of many sorts, for {END:?}"));
    let mut instruments = Instruments::load(objects, Some(FLOOD))?;
    instruments.pass_on_client(network)?;
    let begin = Instant::now();
    // From which second on, for how many seconds, and how often a second.
    let _running = [
        ping(0, 120, 400, CLIENT4, SERVER4)?,
        ping(0, 120, 150, CLIENT6, SERVER6)?,
        ping(20, 50, 300, CLIENT6, ANYCAST6)?,
        ping(45, 75, 350, CLIENT4, ANYCAST4)?,
        ping(10, 110, 250, OTHER4, SERVER4)?,
        ping(30, 90, 120, CLIENT4, CLOSED4)?,
        scapy(15, 40, 20, &format!("IP(src='{CLIENT4}', dst='{SERVER4}')/ICMP(chksum=1)/bytes(56)"))?,
        scapy(40, 80, 10, &format!("IPv6(src='{CLIENT6}', dst='{SERVER6}')/ICMPv6EchoRequest(cksum=1)"))?,
        scapy(5, 115, 8, &format!("IP(src='{CLIENT4}', dst='{SERVER4}')/ICMP(type=13)"))?,
    ];
    sleep(CROWD.saturating_sub(begin.elapsed()));
    let to_the_end = |_: &Instruments| {
        sleep(END.saturating_sub(begin.elapsed()));
        Ok(())
    };
    instruments.flood_during(network, Flood::Ipv4, to_the_end).map(drop)
}

/// Pings, later.
fn ping(from: u32, seconds: u32, rate: u32, source: &str, to: &str) -> Result<Running> {
    let (count, interval) = (seconds * rate, 1.0 / f64::from(rate));
    later(from, &format!("exec ping -q -n -c {count} -I {source} -i {interval:.4} {to}"))
}

/// Frames that no ping makes, later.
fn scapy(from: u32, seconds: u32, rate: u32, packet: &str) -> Result<Running> {
    let count = seconds * rate;
    let script = format!(
        "from scapy.all import *; sendp(Ether(src='{CLIENT_MAC}', dst='{SERVER_MAC}')/{packet}, iface='{CLIENT_END}', \
         count={count}, inter=1/{rate}, verbose=0)"
    );
    later(from, &format!("exec /usr/bin/python3 -c \"{script}\""))
}

fn later(from: u32, command: &str) -> Result<Running> {
    let script = format!("sleep {from}; {command}");
    start(Command::new("ip").args(["netns", "exec", CLIENT, "sh", "-c", &script]))
}
