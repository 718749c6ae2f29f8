//! The guardian of a policy that waits for confirmation: a process of its own, which nobody types, that brings the former
//! policy back at the deadline.

use std::time::Duration;

use icmp_userspace::kernel::{
    Error,
    attach::{Places, Site},
    interface::Netlink,
    privileges,
    record::Pending,
};
use tokio::time::sleep;

use super::{
    confirm::{Why, roll_back},
    outlive,
};

/// What the guardian is told.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The interface's number
    index: u32,
    /// See `Pending`
    #[arg(long)]
    deadline: u64,
    /// See `Pending`
    #[arg(long)]
    previous: u32,
}

/// How often it looks whether it is still needed.
const PAUSE: Duration = Duration::from_secs(1);
/// How often it tries; a policy that nobody can confirm must not stay because of one failure.
const ATTEMPTS: u32 = 30;

/// Starts the guardian, in the network namespace of this thread, and waits until it does not depend on us any more.
pub(super) fn start(places: &Places, index: u32, pending: &Pending) -> anyhow::Result<()> {
    let mut arguments = vec!["guardian".to_owned(), index.to_string()];
    arguments.extend(["--deadline".to_owned(), pending.deadline.to_string()]);
    arguments.extend(["--previous".to_owned(), pending.previous.to_string()]);
    outlive::start(places, &arguments, "starting the process that would bring the former policy back")
        .map(drop)
}

impl Arguments {
    pub(super) async fn run(&self, places: &Places) -> anyhow::Result<()> {
        // Better no policy than one that nobody brings back.
        privileges::check()?;
        outlive::be_ready()?;
        let netlink = Netlink::open()?;
        let pending = Pending { deadline: self.deadline, previous: self.previous };
        let mut failed = 0;
        loop {
            match guard(&netlink, places, self.index, pending).await {
                Ok(true) => return Ok(()),
                Ok(false) => sleep(PAUSE.min(Duration::from_secs(pending.left()))).await,
                Err(error) if failed == ATTEMPTS => return Err(error),
                Err(_) => {
                    failed += 1;
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Does what is to be done now; true if nothing will be any more.
async fn guard(netlink: &Netlink, places: &Places, index: u32, pending: Pending) -> anyhow::Result<bool> {
    // An interface that is gone, or that nothing is attached to, needs no guardian.
    let Some(interface) = netlink.by_index(index).await? else { return Ok(true) };
    let mut site = match Site::open(netlink, &interface.name, places).await {
        Err(Error::NotAttached { .. }) => return Ok(true),
        site => site?,
    };
    if site.record().and_then(|record| record.pending) != Some(pending) {
        return Ok(true);
    }
    if pending.left() > 0 {
        return Ok(false);
    }
    roll_back(netlink, &mut site, Why::Deadline).await?;
    Ok(true)
}
