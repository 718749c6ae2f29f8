//! What `capture` and `top` share: opening a channel of the program that runs, and closing it, however they end.
//!
//! Of one that can't close it, because it was killed or has failed, the guardian does: a process of its own, which nobody types, that
//! waits for the end of the other one.

use std::{process::Child, time::Duration};

use anyhow::Context as _;
use icmp_common::events::Channel;
use icmp_userspace::kernel::{
    Error,
    attach::{Places, Site},
    change::Change,
    channels::{Tap, Which},
    interface::Netlink,
    privileges,
    ring::Ring,
    state::Snapshot,
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::retry_on_intr,
    process::{Pid, PidfdFlags, getppid, pidfd_open},
};
use tokio::time::sleep;

use super::{install::Compiled, outlive, source::Source};

/// What the guardian is told.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The interface's number
    index: u32,
    /// The process that holds a channel
    parent: i32,
}

/// How long it waits before it tries again what has failed.
const PAUSE: Duration = Duration::from_secs(1);
/// How often it tries.
const ATTEMPTS: u32 = 30;

/// A channel that is open.
pub(super) struct Tapped {
    tap: Tap,
    guardian: Child,
    index: u32,
}

impl Tapped {
    /// Opens a channel, and the ring buffer of what comes through it. What runs goes on, with the same policy.
    pub(super) async fn open(
        netlink: &Netlink,
        change: &mut Change<'_>,
        places: &Places,
        which: Which,
        channel: Channel,
    ) -> anyhow::Result<(Self, Ring)> {
        let index = change.site().interface.index;
        // It has to have what this process has.
        let words = ["tap-guardian".to_owned(), index.to_string(), std::process::id().to_string()];
        let guardian = outlive::start(places, &words, "starting the process that would close the channel")?;
        privileges::drop_others(false)?;
        let (compiled, program) = as_it_runs(netlink, change).await?;
        let new = compiled.to_install(Snapshot::Of(program));
        let (tap, ring) = change.open_channel(which, channel, &new)?;
        Ok((Self { tap, guardian, index }, ring))
    }

    /// Closes it, unless the interface or the attachment is gone; what runs goes on without.
    pub(super) async fn close(mut self, netlink: &Netlink, places: &Places) -> anyhow::Result<()> {
        // Whatever is attached there now: it need not be what was when the channel was opened.
        if let Some(mut site) = find(netlink, places, self.index).await? {
            let mut change = site.change("closing a channel").await?;
            let (compiled, program) = as_it_runs(netlink, &change).await?;
            change.close_channel(self.tap, &compiled.to_install(Snapshot::Of(program)))?;
        }
        // There is nothing left that it could do.
        let _ = self.guardian.kill();
        let _ = self.guardian.wait();
        Ok(())
    }
}

/// Where our program is attached to an interface; `None` if that is gone, or nothing of ours is attached.
async fn find(netlink: &Netlink, places: &Places, index: u32) -> anyhow::Result<Option<Site>> {
    let Some(interface) = netlink.by_index(index).await? else { return Ok(None) };
    match Site::open(netlink, &interface.name, places).await {
        Err(Error::NotAttached { .. } | Error::NoInterface { .. }) => Ok(None),
        site => Ok(Some(site?)),
    }
}

/// What runs, compiled anew, and its program.
async fn as_it_runs(netlink: &Netlink, change: &Change<'_>) -> anyhow::Result<(Compiled, u32)> {
    let program = change.must_run()?.program;
    let generation = change.generation_of(program)?;
    let source = Source::of_snapshot(&change.site().state().generation(program), &generation.source)?;
    Ok((Compiled::with(netlink, change, &source, generation).await?, program))
}

impl Arguments {
    pub(super) async fn run(&self, places: &Places) -> anyhow::Result<()> {
        // Better no channel than one that nobody closes.
        privileges::check()?;
        self.wait().context("waiting for the end of the process that holds a channel")?;
        privileges::drop_others(false)?;
        let netlink = Netlink::open()?;
        let mut failed = 0;
        loop {
            match self.close(&netlink, places).await {
                Err(error) if failed == ATTEMPTS => return Err(error),
                Err(_) => {
                    failed += 1;
                    sleep(PAUSE).await;
                }
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Waits for the end of the other process: then all that it held is free.
    fn wait(&self) -> anyhow::Result<()> {
        let parent = Pid::from_raw(self.parent).context("no process has such a number")?;
        let process = pidfd_open(parent, PidfdFlags::empty())?;
        // Otherwise it may be yet another one.
        if getppid() == Some(parent) {
            outlive::be_ready()?;
            retry_on_intr(|| poll(&mut [PollFd::new(&process, PollFlags::IN)], None))?;
        }
        Ok(())
    }

    /// Closes what that one has left open. Somebody else may have opened it since.
    async fn close(&self, netlink: &Netlink, places: &Places) -> anyhow::Result<()> {
        let Some(mut site) = find(netlink, places, self.index).await? else { return Ok(()) };
        let mut change = site.change("closing a channel").await?;
        if !change.has_stale_channel() {
            return Ok(());
        }
        let (compiled, program) = as_it_runs(netlink, &change).await?;
        Ok(change.close_stale_channels(&compiled.to_install(Snapshot::Of(program)))?)
    }
}
