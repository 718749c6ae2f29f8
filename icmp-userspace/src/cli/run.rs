//! `icmpctl run`: attach, stay, follow the interface's addresses, detach at the end.

use std::path::Path;

use anyhow::{Context as _, bail};
use icmp_userspace::{
    kernel::{
        attach::Site,
        interface::{Netlink, Watch},
    },
    observe::counters,
    policy::{
        Policy,
        compile::{self, Tables},
    },
};
use tokio::signal::unix::{SignalKind, signal};

use super::settings::{self, Settings};

/// What can be typed behind `run`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: Settings,
    /// Leave the program attached at the end
    #[arg(long)]
    keep: bool,
}

impl Arguments {
    pub(super) async fn run(&self, bpffs: &Path) -> anyhow::Result<()> {
        super::output::log_to_stderr(true);
        let policy = self.settings.policy()?;
        let options = self.settings.options(true)?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listening to SIGINT")?;
        let mut terminate = signal(SignalKind::terminate()).context("listening to SIGTERM")?;
        let netlink = Netlink::open()?;
        // Listening begins before the first look, so that no change is missed between them.
        let mut watch = Watch::open()?;
        let site = Site::lock(&netlink, &self.settings.interface, bpffs, "run").await?;
        let (outcome, mut known) = settings::attach(&netlink, &site, &policy, &options).await?;
        settings::announce(&site, &outcome);
        let name = &site.interface.name;
        loop {
            tokio::select! {
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                () = watch.changed() => {
                    if !follow(&netlink, &site, &policy, &mut known).await? {
                        site.detach()?;
                        bail!("{name} is gone: its pins have been removed");
                    }
                }
            }
        }
        say_totals(&site);
        if self.keep {
            site.leave()?;
            log::info!("left attached to {name}; `icmpctl detach {name}` takes it off");
        } else {
            site.detach()?;
            log::info!("detached from {name}");
        }
        Ok(())
    }
}

/// Puts tables in place that fit the interface as it is now, if it is not as it was; false if it is gone.
async fn follow(
    netlink: &Netlink,
    site: &Site,
    policy: &Policy,
    known: &mut compile::Interface,
) -> anyhow::Result<bool> {
    let Some(interface) = netlink.by_index(site.interface.index).await? else { return Ok(false) };
    let now = netlink.describe(&interface).await?;
    if now != *known {
        let replaced = Tables::compile(policy, &now).map_err(anyhow::Error::from);
        // What runs goes on running: an address that can't be served is no reason to serve none.
        match replaced.and_then(|tables| Ok(site.replace(super::OBJECT, &tables)?)) {
            Ok(()) => log::info!("{} changed: {}", interface.name, describe(known, &now)),
            Err(error) => log::error!("following the addresses of {}: {error:#}", interface.name),
        }
        *known = now;
    }
    Ok(true)
}

fn describe(before: &compile::Interface, now: &compile::Interface) -> String {
    let list = |addresses: &[(std::net::IpAddr, u8)], others: &[(std::net::IpAddr, u8)], sign: char| {
        let new = addresses.iter().filter(|address| !others.contains(address));
        new.map(|(address, _)| format!("{sign}{address}")).collect::<Vec<_>>()
    };
    let mut changes = list(&now.addresses, &before.addresses, '+');
    changes.extend(list(&before.addresses, &now.addresses, '-'));
    if now.mac != before.mac {
        changes.push("another MAC address".to_owned());
    }
    if changes.is_empty() { "broadcast addresses".to_owned() } else { changes.join(" ") }
}

fn say_totals(site: &Site) {
    let Ok(counters) = counters::read_pinned(&site.counters_pin()) else { return };
    for total in counters::totals(&counters) {
        let counters::Total { family, received, answered, passed, malformed } = total;
        log::info!(
            "{family}: {received} received, {answered} answered, {passed} passed, {malformed} malformed"
        );
    }
}
