//! The programs that the tests and the lab call, and those that boot other kernels.

use anyhow::{Result, bail};

use crate::{Setup, apt, cargo::find};

/// Each program that tests and lab call, and the Debian package that has it.
const TOOLS: [(&str, &str); 8] = [
    ("ip", "iproute2"),
    ("ping", "iputils-ping"),
    ("fping", "fping"),
    ("tcpdump", "tcpdump"),
    ("bpftool", "bpftool"),
    ("ethtool", "ethtool"),
    ("nft", "nftables"),
    ("chrt", "util-linux"),
];

/// What booting Debian's kernels takes besides.
const EMULATOR: [(&str, &str); 6] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("apt-get", "apt"),
    ("dpkg-deb", "dpkg"),
    ("strip", "binutils"),
    ("timeout", "coreutils"),
    ("xz", "xz-utils"),
];

/// What programs are needed for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Tests and lab.
    Here,
    /// Tests under other kernels.
    Kernels,
}

impl Use {
    fn programs(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let more: &[_] = if self == Self::Kernels { &EMULATOR } else { &[] };
        TOOLS.iter().chain(more).copied()
    }

    const fn why(self) -> &'static str {
        match self {
            Self::Here => "programs that the tests and the lab call",
            Self::Kernels => "programs that run the tests under other kernels",
        }
    }
}

/// Makes sure that every program is there.
pub(crate) fn ensure(setup: Setup, needed: Use) -> Result<()> {
    let missing = missing(needed, |program| find(program).is_some());
    if missing.is_empty() {
        return Ok(());
    }
    if setup.no_install || !apt::usable() {
        bail!(
            "{} are missing: those of these packages: {}\nInstall them as root, on Debian with:\n  {}",
            needed.why(),
            missing.join(", "),
            apt::recipe(&missing)
        );
    }
    apt::install(&missing, needed.why())
}

/// The programs that tests call.
pub(crate) fn called_by_tests() -> impl Iterator<Item = &'static str> {
    TOOLS.iter().map(|(program, _)| *program)
}

/// The packages of those programs that are not there.
fn missing(needed: Use, is_there: impl Fn(&str) -> bool) -> Vec<&'static str> {
    needed.programs().filter(|(program, _)| !is_there(program)).map(|(_, package)| package).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_programs_are_named_by_their_packages() {
        let there = |program: &str| !matches!(program, "ip" | "ping" | "qemu-system-x86_64");
        assert_eq!(missing(Use::Here, there), ["iproute2", "iputils-ping"]);
        assert_eq!(missing(Use::Kernels, there), ["iproute2", "iputils-ping", "qemu-system-x86"]);
        assert!(missing(Use::Kernels, |_| true).is_empty());
    }
}
