//! What `run` and `attach` share: which policy, which mode.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::ValueEnum;
use icmp_common::config::NextHop;
use icmp_userspace::{
    kernel::{
        attach::{Mode, Options, Outcome, Site},
        interface::Netlink,
    },
    policy::{
        Policy,
        compile::{Interface, Tables},
        file,
        slots::Slots,
    },
};

/// How to attach, as it is typed.
#[derive(clap::Args)]
pub(super) struct Settings {
    /// The interface
    pub(super) interface: String,
    /// The policy file; without one the interface's own addresses are answered
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Where the program runs: native in the driver, generic in the stack's entry
    #[arg(long, value_enum, default_value = "auto")]
    mode: ModeName,
    /// Replace another XDP program that is attached there
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum ModeName {
    /// Native where the driver takes it, else generic
    Auto,
    /// Native, or fail
    Native,
    /// Generic
    Generic,
}

impl Settings {
    /// Reads the policy, or takes the default.
    pub(super) fn policy(&self) -> Result<Policy, file::FileError> {
        self.policy.as_deref().map_or_else(|| Ok(Policy::default()), file::read)
    }

    /// How to attach, as it is meant.
    pub(super) fn options(&self, follows: bool) -> anyhow::Result<Options> {
        let mode = match self.mode {
            ModeName::Auto => Mode::Auto,
            ModeName::Native => Mode::Native,
            ModeName::Generic => Mode::Generic,
        };
        let policy = self.policy.as_deref().map(absolute).transpose()?;
        Ok(Options { mode, force: self.force, policy, follows })
    }
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("making {} absolute", path.display()))
}

/// Compiles the policy for the interface as it is now and attaches it; says on stderr what is noteworthy.
pub(super) async fn attach(
    netlink: &Netlink,
    site: &mut Site,
    policy: &Policy,
    options: &Options,
) -> anyhow::Result<(Outcome, Interface)> {
    let interface = netlink.describe(&site.interface).await?;
    let tables = Tables::compile(policy, &interface, &Slots::assign(policy, &Slots::default())?)?;
    let outcome = site.attach(netlink, super::OBJECT, &tables, options).await?;
    let name = &site.interface.name;
    if let Some(why) = &outcome.why_generic {
        log::warn!("{name} runs in generic mode, at several times the cost a packet: {why}");
    }
    if policy.respond.own && interface.addresses.is_empty() {
        let follow = if options.follows { "; addresses that it gets will be" } else { "" };
        log::warn!("{name} has no addresses of its own that could be served{follow}");
    }
    if policy.respond.next_hop == NextHop::Fib {
        warn_without_forwarding(name);
    }
    Ok((outcome, interface))
}

/// The kernel answers look-ups from XDP only on interfaces that forward.
fn warn_without_forwarding(interface: &str) {
    for family in ["ipv4", "ipv6"] {
        let path = format!("/proc/sys/net/{family}/conf/{interface}/forwarding");
        if std::fs::read_to_string(path).is_ok_and(|value| value.trim() == "0") {
            log::warn!(
                "next-hop = \"fib\" works only where the interface forwards: until net.{family}.conf.{interface}.forwarding \
                 is 1, {family} requests are left to the stack"
            );
        }
    }
}

/// Says what is attached now.
pub(super) fn announce(site: &Site, outcome: &Outcome) {
    let Outcome { program, mode, replaced, .. } = outcome;
    let (name, mode) = (&site.interface.name, mode.name());
    match replaced {
        Some(old) => log::info!("{name}: program {program} replaces {old} ({mode} mode); its counters go on"),
        None => log::info!("{name}: program {program} attached in {mode} mode"),
    }
}
