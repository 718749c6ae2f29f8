//! The real `ping`, and what the kernel's own counters say of its packets.

use std::fs;

use crate::netns::Namespace;

/// Sends pings and returns how many were sent and how many answers came.
///
/// # Panics
///
/// Panics if `ping` has not sent anything.
#[must_use]
pub fn ping(namespace: &Namespace, arguments: &str) -> (u64, u64) {
    let text = ping_says(namespace, arguments);
    let summary = text.lines().find(|line| line.contains("packets transmitted"));
    let summary = summary.unwrap_or_else(|| panic!("ping {arguments}: {text}"));
    let mut numbers = summary.split(", ").map(|part| part.split(' ').next().unwrap().parse());
    (numbers.next().unwrap().unwrap(), numbers.next().unwrap().unwrap())
}

/// Sends pings and returns all that `ping` prints.
#[must_use]
pub fn ping_says(namespace: &Namespace, arguments: &str) -> String {
    let mut command = namespace.command("ping");
    if !arguments.contains("-f") {
        command.args(["-i", "0.01"]);
    }
    command.args(["-n", "-W", "1"]).args(arguments.split(' '));
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

/// How many echo requests a namespace's stack has received, of both families.
#[must_use]
pub fn stack_received(namespace: &Namespace) -> u64 {
    let v4 = namespace.enter(|| fs::read_to_string("/proc/thread-self/net/snmp").unwrap());
    let mut icmp = v4.lines().filter(|line| line.starts_with("Icmp:")).map(str::split_whitespace);
    let (names, values) = (icmp.next().unwrap(), icmp.next().unwrap());
    let echos4 = names.zip(values).find(|(name, _)| *name == "InEchos").unwrap().1;
    echos4.parse::<u64>().unwrap() + stack_counted6(namespace, "Icmp6InEchos")
}

/// What a counter of a namespace's IPv6 stack holds; 0 for one that is not listed, as long as there was nothing to count.
#[must_use]
pub fn stack_counted6(namespace: &Namespace, name: &str) -> u64 {
    let text = namespace.enter(|| fs::read_to_string("/proc/thread-self/net/snmp6").unwrap());
    let mut rows = text.lines().filter_map(|line| line.split_once(char::is_whitespace));
    rows.find(|(row, _)| *row == name).map_or(0, |(_, value)| value.trim().parse().unwrap())
}
