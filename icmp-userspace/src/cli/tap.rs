//! What `capture` and `top` share: opening a channel of the program that runs, and closing it, also when they have been killed.
//!
//! An open channel costs something. So whoever opens one starts a process first, which nobody types, that waits for his end and
//! closes what he has left open.

use std::time::Duration;

use anyhow::Context as _;
use icmp_common::events::Channel;
use icmp_userspace::kernel::{
    Error,
    attach::{Places, Site},
    change::Change,
    channels::{Tap, Which},
    interface::Netlink,
    privileges,
    state::Snapshot,
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};
use tokio::time::sleep;

use super::{install::Compiled, outlive, source::Source};

/// What the process that waits is told.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The interface's number
    index: u32,
    /// Whose end it waits for
    process: i32,
}

/// How long it waits before it tries once more, and how often it does.
const PAUSE: Duration = Duration::from_secs(1);
const ATTEMPTS: u32 = 30;

/// Opens a channel on an interface. What runs goes on, with the same policy.
pub(super) async fn open(
    netlink: &Netlink,
    places: &Places,
    site: &mut Site,
    which: Which,
    channel: Channel,
) -> anyhow::Result<Tap> {
    let mut change = site.change("opening a channel").await?;
    change.refuse_pending()?;
    let (compiled, program) = as_it_runs(netlink, &change).await?;
    let words = ["tap".to_owned(), change.site().interface.index.to_string(), std::process::id().to_string()];
    outlive::start(places, &words, "starting the process that would close the channel")?;
    Ok(change.open_channel(which, channel, &compiled.to_install(Snapshot::Of(program)))?)
}

/// Closes a channel; what runs goes on without.
pub(super) async fn close(netlink: &Netlink, site: &mut Site, tap: Tap) -> anyhow::Result<()> {
    let mut change = site.change("closing a channel").await?;
    let (compiled, program) = as_it_runs(netlink, &change).await?;
    Ok(change.close_channel(tap, &compiled.to_install(Snapshot::Of(program)))?)
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
        privileges::check()?;
        let process = Pid::from_raw(self.process).context("no process has this number")?;
        let process = pidfd_open(process, PidfdFlags::empty()).context("waiting for a process")?;
        outlive::be_ready()?;
        // A process that has ended has no locks any more.
        while poll(&mut [PollFd::new(&process, PollFlags::IN)], None) == Err(rustix::io::Errno::INTR) {}
        let netlink = Netlink::open()?;
        let mut failed = 0;
        loop {
            match close_left(&netlink, places, self.index).await {
                Err(_) if failed < ATTEMPTS => {
                    failed += 1;
                    sleep(PAUSE).await;
                }
                outcome => return outcome,
            }
        }
    }
}

/// Closes the channels that nobody holds any more.
async fn close_left(netlink: &Netlink, places: &Places, index: u32) -> anyhow::Result<()> {
    // An interface that is gone, or that nothing is attached to, has no channels.
    let Some(interface) = netlink.by_index(index).await? else { return Ok(()) };
    let mut site = match Site::open(netlink, &interface.name, places).await {
        Err(Error::NotAttached { .. }) => return Ok(()),
        site => site?,
    };
    let mut change = site.change("closing a channel").await?;
    if change.has_stale_channel() {
        let (compiled, program) = as_it_runs(netlink, &change).await?;
        change.swap(&compiled.to_install(Snapshot::Of(program)))?;
    }
    Ok(())
}
