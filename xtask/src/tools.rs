//! The programs that the tests and the lab call.

use anyhow::{Result, ensure};

use crate::{
    Setup, apt,
    cargo::{find, unpacked},
};

/// A program and the Debian package that has it.
type Tool = (&'static str, &'static str);

/// What the lab calls, and the tests, too.
const TOOLS: [Tool; 8] = [
    ("ip", "iproute2"),
    ("ping", "iputils-ping"),
    ("fping", "fping"),
    ("tcpdump", "tcpdump"),
    ("bpftool", "bpftool"),
    ("ethtool", "ethtool"),
    ("nft", "nftables"),
    ("chrt", "util-linux"),
];

/// What the tests call besides: people's own clients, and terminals.
const CLIENTS: [Tool; 9] = [
    ("traceroute", "traceroute"),
    ("mtr", "mtr-tiny"),
    ("tracepath", "iputils-tracepath"),
    ("hping3", "hping3"),
    ("nping", "nmap"),
    ("scapy", "python3-scapy"),
    ("script", "bsdutils"),
    ("tmux", "tmux"),
    ("tshark", "tshark"),
];

/// What the tests of metrics call, which is unpacked and not installed: as a package it would be a service that is started, and half
/// of it are pages for browsers.
const UNPACKED: [Tool; 2] = [("prometheus", "prometheus"), ("promtool", "prometheus")];
/// What icmpctl is measured beside, if that is wanted.
const PEERS: [Tool; 3] = [("iptables", "iptables"), ("xdp-filter", "xdp-tools"), ("nsenter", "util-linux")];

/// What it takes besides to boot Debian's kernels and to run tests in them.
const EMULATOR: [Tool; 6] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("apt-get", "apt"),
    ("dpkg-deb", "dpkg"),
    ("strip", "binutils"),
    ("timeout", "coreutils"),
    ("xz", "xz-utils"),
];

/// Makes sure that every program is there that the lab calls.
pub(crate) fn ensure(setup: Setup) -> Result<()> {
    ensure_these(setup, &TOOLS, "lab and bench")
}

/// Makes sure that everybody is there beside whom the bench can measure icmpctl.
pub(crate) fn ensure_peers(setup: Setup) -> Result<()> {
    ensure_these(setup, &PEERS, "comparisons")
}

/// Makes sure that every program is there that the tests or the lab call.
pub(crate) fn ensure_for_tests(setup: Setup) -> Result<()> {
    ensure_clients(setup, "the tests")?;
    ensure_prometheus(setup, "the tests")
}

/// Makes sure that people's own clients and terminals are there, and what the lab calls.
pub(crate) fn ensure_clients(setup: Setup, callers: &str) -> Result<()> {
    ensure_these(setup, &[&TOOLS[..], &CLIENTS].concat(), callers)
}

/// Makes sure that there is a Prometheus.
pub(crate) fn ensure_prometheus(setup: Setup, callers: &str) -> Result<()> {
    if missing(&UNPACKED, |program| find(program).is_some()).is_empty() {
        return Ok(());
    }
    let packages = missing(&UNPACKED, |_| false);
    refuse_without_apt(setup, &packages, callers)?;
    apt::unpack(&packages, &unpacked(), &format!("programs that {callers} call"))
}

/// Makes sure that every program is there that running tests under other kernels takes; these call what the lab calls.
pub(crate) fn ensure_for_kernels(setup: Setup) -> Result<()> {
    ensure_these(setup, &[&TOOLS[..], &EMULATOR].concat(), "the tests under other kernels")
}

/// The programs that tests under other kernels call.
pub(crate) fn called_in_kernels() -> impl Iterator<Item = &'static str> {
    TOOLS.iter().map(|(program, _)| *program)
}

fn ensure_these(setup: Setup, tools: &[Tool], callers: &str) -> Result<()> {
    let missing = missing(tools, |program| find(program).is_some());
    if missing.is_empty() {
        return Ok(());
    }
    refuse_without_apt(setup, &missing, callers)?;
    apt::install(&missing, &format!("programs that {callers} call"))
}

/// Says what is missing, where nothing may or can be installed.
fn refuse_without_apt(setup: Setup, missing: &[&str], callers: &str) -> Result<()> {
    ensure!(
        !setup.no_install && apt::usable(),
        "{callers} need programs from these packages: {}\n\
         Install them as root, on Debian with:\n  {}",
        missing.join(", "),
        apt::recipe(missing)
    );
    Ok(())
}

/// The packages of those programs that are not there.
fn missing(tools: &[Tool], is_there: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let missing = tools.iter().filter(|(program, _)| !is_there(program)).map(|(_, package)| *package);
    let mut packages: Vec<_> = missing.collect();
    packages.dedup();
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_programs_are_named_by_their_packages() {
        let others = |program: &str| !matches!(program, "ip" | "ping");
        assert_eq!(missing(&TOOLS, others), ["iproute2", "iputils-ping"]);
        assert_eq!(missing(&UNPACKED, |_| false), ["prometheus"]);
        assert!(missing(&TOOLS, |_| true).is_empty());
    }
}
