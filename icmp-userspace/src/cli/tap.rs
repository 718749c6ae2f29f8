//! What `capture` and `top` share: opening a channel of the program that runs, and closing it.

use icmp_common::events::Channel;
use icmp_userspace::kernel::{
    attach::Site,
    change::Change,
    channels::{Tap, Which},
    interface::Netlink,
    state::Snapshot,
};

use super::{install::Compiled, source::Source};

/// Opens a channel on an interface. What runs goes on, with the same policy.
pub(super) async fn open(
    netlink: &Netlink,
    site: &mut Site,
    which: Which,
    channel: Channel,
) -> anyhow::Result<Tap> {
    let mut change = site.change("opening a channel").await?;
    let (compiled, program) = as_it_runs(netlink, &change).await?;
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
