//! `icmpctl run`: attach, stay, follow the interface's addresses, detach at the end.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, bail};
use icmp_userspace::{
    kernel::{
        attach::Site,
        interface::{Interface, Netlink, Watch},
    },
    observe::counters,
    policy::{
        Policy,
        compile::{self, Tables},
        slots::Slots,
    },
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::sleep,
};

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
        let mut signals = Signals::listen()?;
        let netlink = Netlink::open()?;
        // Listening begins before the first look, so that no change is missed between them.
        let mut watch = Watch::open()?;
        let mut site = Site::lock(&netlink, &self.settings.interface, bpffs, "run").await?;
        let (outcome, known) = settings::attach(&netlink, &mut site, &policy, &options).await?;
        settings::announce(&site, &outcome);
        let mut follower = Follower { netlink, site, policy, known, complaint: None };
        let stayed = follower.stay(&mut signals, &mut watch).await;
        let site = &follower.site;
        let name = &site.interface.name;
        say_totals(site);
        if self.keep && stayed.is_ok() {
            site.leave()?;
            log::info!("left attached to {name}; `icmpctl detach {name}` takes it off");
            return Ok(());
        }
        // Whatever went wrong, nothing stays attached that nobody follows.
        let detached = site.detach();
        stayed?;
        detached?;
        log::info!("detached from {name}");
        Ok(())
    }
}

/// The signals that end `run`: Ctrl-C, a service manager, a terminal that is closed.
struct Signals([Signal; 3]);

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("listening to signals");
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hangup] = kinds.map(listen);
        Ok(Self([interrupt?, terminate?, hangup?]))
    }

    async fn any(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// What failed is tried again after this time.
const RETRY: Duration = Duration::from_secs(5);

/// Keeps the tables as the interface is.
struct Follower {
    netlink: Netlink,
    site: Site,
    policy: Policy,
    /// The interface as the tables know it.
    known: compile::Interface,
    /// What went wrong last, so that it is said once.
    complaint: Option<String>,
}

impl Follower {
    /// Follows the interface until a signal comes; an error if it or the attachment is gone.
    async fn stay(&mut self, signals: &mut Signals, watch: &mut Watch) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                () = signals.any() => return Ok(()),
                () = watch.changed() => {}
                () = sleep(RETRY), if self.complaint.is_some() => {}
            }
            let name = self.site.interface.name.clone();
            let Some(interface) = self.netlink.by_index(self.site.interface.index).await? else {
                bail!("{name} is gone: its pins have been removed");
            };
            if !self.site.is_attached() {
                bail!("somebody has detached the program from {name}: its pins have been removed");
            }
            // What runs goes on running: an address that can't be served is no reason to serve none.
            if let Err(error) = self.follow(&interface).await {
                let complaint = format!("following the addresses of {name}: {error:#}");
                if self.complaint.as_ref() != Some(&complaint) {
                    log::error!("{complaint}");
                }
                self.complaint = Some(complaint);
            } else {
                self.complaint = None;
            }
        }
    }

    /// Puts tables in place that fit the interface as it is now, if it is not as it was.
    async fn follow(&mut self, interface: &Interface) -> anyhow::Result<()> {
        let now = self.netlink.describe(interface).await?;
        if now != self.known {
            let tables =
                Tables::compile(&self.policy, &now, &Slots::assign(&self.policy, &Slots::default())?)?;
            self.site.replace(super::OBJECT, &tables)?;
            log::info!("{} changed: {}", interface.name, describe(&self.known, &now));
            self.known = now;
        }
        Ok(())
    }
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
        let counters::Total { family, received, answered, denied, rejected, passed, malformed } = total;
        log::info!(
            "{family}: {received} received, {answered} answered, {passed} passed, {denied} denied ({rejected} of them told so), {malformed} malformed"
        );
    }
}
