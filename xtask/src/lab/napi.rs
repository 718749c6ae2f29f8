//! A core for the server: its end's packets are taken in by a kernel thread (threaded NAPI), while the generator keeps another core
//! busy. So a server that is too slow loses packets, as it does behind a network card, and its time can be told from the generator's.

use std::{collections::BTreeSet, fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use rustix::{
    process::Pid,
    thread::{sched_getaffinity, sched_setaffinity},
};

use super::network::{Network, SERVER, SERVER_END};

/// The kernel thread.
pub(crate) struct Thread(i32);

impl Thread {
    /// Starts it, away from the core on which floods are made. Call it once the server's end has its program.
    pub(crate) fn start(network: &Network) -> Result<Self> {
        let before = threads()?;
        threaded(network, true)?;
        let new: Vec<_> = threads()?.difference(&before).copied().collect();
        ensure!(new.len() == 1, "the server's end has {} threads for its packets instead of 1", new.len());
        let thread = Self(new[0]);
        let pid = Pid::from_raw(thread.0);
        let mut others = sched_getaffinity(None).context("asking for the CPUs that we may use")?;
        others.unset(0);
        if others.count() > 0 {
            sched_setaffinity(pid, &others).context("moving the server's thread")?;
        }
        // It goes before all processes, as interrupts do.
        network.run("chrt", &["--fifo", "--pid", "1", &thread.0.to_string()])?;
        Ok(thread)
    }

    /// Time that a core has spent in it.
    pub(crate) fn time(&self) -> Result<Duration> {
        let path = format!("/proc/{}/schedstat", self.0);
        let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let nanoseconds = text.split(' ').next().and_then(|number| number.parse().ok());
        nanoseconds.map(Duration::from_nanos).with_context(|| format!("understanding {path}"))
    }

    /// Ends it: packets are taken in where they arrive again.
    pub(crate) fn stop(self, network: &Network) -> Result<()> {
        threaded(network, false)
    }
}

fn threaded(network: &Network, on: bool) -> Result<()> {
    let command = format!("echo {} > /sys/class/net/{SERVER_END}/threaded", u8::from(on));
    network.run_in(SERVER, &["sh", "-c", &command]).map(drop)
}

/// All such threads of interfaces with the name of the server's end, by number.
fn threads() -> Result<BTreeSet<i32>> {
    let mut threads = BTreeSet::new();
    for entry in fs::read_dir("/proc").context("reading /proc")? {
        let entry = entry?;
        // A process that has ended meanwhile is none of them.
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if name.starts_with(&format!("napi/{SERVER_END}-")) {
            threads.extend(entry.file_name().to_str().and_then(|number| number.parse::<i32>().ok()));
        }
    }
    Ok(threads)
}
