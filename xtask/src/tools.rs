//! The programs that the tests and the lab call.

use anyhow::{Result, bail};

use crate::{Setup, apt, cargo::find};

/// Each program and the Debian package that has it.
const TOOLS: [(&str, &str); 14] = [
    ("ip", "iproute2"),
    ("ping", "iputils-ping"),
    ("fping", "fping"),
    ("tcpdump", "tcpdump"),
    ("bpftool", "bpftool"),
    ("ethtool", "ethtool"),
    ("nft", "nftables"),
    ("chrt", "util-linux"),
    ("traceroute", "traceroute"),
    ("mtr", "mtr-tiny"),
    ("tracepath", "iputils-tracepath"),
    ("hping3", "hping3"),
    ("nping", "nmap"),
    ("scapy", "python3-scapy"),
];

/// Makes sure that every program is there.
pub(crate) fn ensure(setup: Setup) -> Result<()> {
    let missing = missing(|program| find(program).is_some());
    if missing.is_empty() {
        return Ok(());
    }
    if setup.no_install || !apt::usable() {
        bail!(
            "the tests and the lab need programs from these packages: {}\n\
             Install them as root, on Debian with:\n  {}",
            missing.join(", "),
            apt::recipe(&missing)
        );
    }
    apt::install(&missing, "programs that the tests and the lab call")
}

/// The packages of those programs that are not there.
fn missing(is_there: impl Fn(&str) -> bool) -> Vec<&'static str> {
    TOOLS.iter().filter(|(program, _)| !is_there(program)).map(|(_, package)| *package).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_programs_are_named_by_their_packages() {
        assert_eq!(missing(|program| !matches!(program, "ip" | "ping")), ["iproute2", "iputils-ping"]);
        assert!(missing(|_| true).is_empty());
    }
}
