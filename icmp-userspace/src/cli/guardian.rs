//! The guardian of a policy that waits for confirmation: a process of its own, which nobody types, that brings the former
//! policy back at the deadline.

use std::{
    io::{Read as _, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use icmp_userspace::kernel::{
    Error,
    attach::{Places, Site},
    interface::Netlink,
    privileges,
    record::Pending,
};
use tokio::time::sleep;

use super::confirm::{Why, roll_back};

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

/// What it says when it is on its own.
const READY: &[u8] = b"ready\n";
/// How often it looks whether it is still needed.
const PAUSE: Duration = Duration::from_secs(1);
/// How often it tries; a policy that nobody can confirm must not stay because of one failure.
const ATTEMPTS: u32 = 30;

/// Starts the guardian, in the network namespace of this thread, and waits until it does not depend on us any more.
pub(super) fn start(places: &Places, index: u32, pending: &Pending) -> anyhow::Result<()> {
    let doing = || "starting the process that would bring the former policy back";
    let absolute = |path: &Path| std::path::absolute(path).with_context(doing);
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("icmpctl")
        .args(["guardian", &index.to_string()])
        .args(["--deadline", &pending.deadline.to_string()])
        .args(["--previous", &pending.previous.to_string()])
        .arg("--bpffs")
        .arg(absolute(&places.bpffs)?)
        .arg("--state")
        .arg(absolute(&places.state)?)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().with_context(doing)?;
    let mut said = Vec::new();
    if let Some(stdout) = &mut child.stdout {
        stdout.take(READY.len() as u64).read_to_end(&mut said).with_context(doing)?;
    }
    ensure!(said == READY, "{} failed: it ended at once", doing());
    Ok(())
}

impl Arguments {
    pub(super) async fn run(&self, places: &Places) -> anyhow::Result<()> {
        // Better no policy than one that nobody brings back.
        privileges::check()?;
        rustix::process::setsid().context("beginning a session")?;
        std::io::stdout().write_all(READY)?;
        let nowhere = std::fs::File::options().write(true).open("/dev/null").context("opening /dev/null")?;
        rustix::stdio::dup2_stdout(&nowhere).context("closing the output")?;
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
