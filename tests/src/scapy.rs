//! Scapy: frames by an encoder that knows what etherparse does not, and a client that compares bytes.

use std::{iter, process::Command};

use crate::netns::{Namespace, run};

/// What the scripts have besides scapy: the addresses of [`crate::frames`], and a ping of each family. Debian's interpreter has
/// Debian's scapy; another one may be before it in `PATH`.
const PRELUDE: &str = r#"
from scapy.all import *
load_contrib("geneve")
load_contrib("mpls")
conf.verb = 0
eth = Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02")
ip4 = dict(src="192.0.2.2", dst="192.0.2.1")
ip6 = dict(src="2001:db8::2", dst="2001:db8::1")
far4 = dict(ip4, dst="198.51.100.53")
far6 = dict(ip6, dst="2001:db8:53::53")
data = bytes(range(56))
echo4 = ICMP(id=0x1234, seq=7) / data
echo6 = ICMPv6EchoRequest(id=0x1234, seq=7, data=data)
ping4 = IP(**ip4) / echo4
ping6 = IPv6(**ip6) / echo6
"#;

/// Runs a script in a namespace, and returns what it prints.
#[must_use]
pub fn script(namespace: &Namespace, text: &str) -> String {
    run(python(&mut namespace.command("/usr/bin/python3"), text))
}

/// The frames that expressions stand for.
#[must_use]
pub fn frames<'a>(expressions: impl Iterator<Item = &'a str>) -> Vec<Vec<u8>> {
    let lines = expressions.map(|expression| format!("print(bytes({expression}).hex())\n"));
    let text = run(python(&mut Command::new("/usr/bin/python3"), &lines.collect::<String>()));
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    text.lines().map(|line| line.as_bytes().chunks(2).map(byte).collect()).collect()
}

fn python<'a>(command: &'a mut Command, text: &str) -> &'a mut Command {
    let whole: String = iter::once(PRELUDE).chain(iter::once(text)).collect();
    command.args(["-c", &whole])
}
