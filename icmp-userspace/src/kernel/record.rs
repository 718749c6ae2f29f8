//! What a BPF file system can't hold about an attachment: one small JSON file beside the pins, in
//! `/run/icmpctl`, which like them does not outlive a reboot.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use icmp_common::events::CHANNELS;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::{
    channels::Which,
    error::{Doing as _, Error},
    lock::Lock,
};

/// Everything but pins that icmpctl keeps about interfaces.
const DIRECTORY: &str = "/run/icmpctl";

/// Longest record that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// What is known of an attachment besides what the kernel says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The interface's name when it was attached.
    pub interface: String,
    /// The directory of its state; see [`super::state`].
    pub state: PathBuf,
    /// Why generic mode had to do, if native mode was tried.
    pub why_generic: Option<String>,
    /// Seconds since 1970 when it was attached.
    pub since: u64,
    /// Process id of the `icmpctl run` that follows the interface's addresses, if one does.
    pub follower: Option<u32>,
    /// The policy in place, if it goes unless it is confirmed.
    #[serde(default)]
    pub pending: Option<Pending>,
    /// Settings of channels that are open, by their number, as the words that the program has; see [`super::channels`].
    #[serde(default)]
    pub channels: [Option<Vec<u64>>; CHANNELS],
    /// What is wrong with the policy file, of which the policy in place is an earlier state.
    #[serde(default)]
    pub complaint: Option<String>,
}

impl Record {
    /// Of a program that is attached now.
    #[must_use]
    pub fn new(interface: &str, state: &Path) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            interface: interface.to_owned(),
            state: state.to_owned(),
            why_generic: None,
            since: now.as_secs(),
            follower: None,
            pending: None,
            channels: [const { None }; CHANNELS],
            complaint: None,
        }
    }
}

/// A policy that waits for confirmation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// When it goes: milliseconds on the clock that counts from boot on, also in suspend, and that nobody sets.
    pub deadline: u64,
    /// The program whose policy comes back.
    pub previous: u32,
}

impl Pending {
    /// Seconds until the deadline, rounded up; 0 if it has passed.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.deadline.saturating_sub(since_boot()).div_ceil(1000)
    }

    /// Whether the deadline passed so long ago that its guardian must be gone.
    #[must_use]
    pub fn is_overdue(&self) -> bool {
        since_boot() > self.deadline.saturating_add(GRACE)
    }
}

/// How many milliseconds the guardian has before others do its work.
const GRACE: u64 = 3_000;

/// Reads the clock of [`Pending::deadline`].
#[must_use]
pub fn since_boot() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32).as_millis() as u64
}

/// Where the record, the locks and the verifier's log of one interface are.
#[derive(Clone, Debug)]
pub struct Files {
    /// The record.
    pub record: PathBuf,
    /// The lock of whoever attaches, detaches, or stays.
    pub lock: PathBuf,
    /// The lock of a single change.
    pub change: PathBuf,
    /// The verifier's log, should there be one.
    pub verifier_log: PathBuf,
    /// The lock of who consumes events.
    pub events: PathBuf,
    /// The locks of the channels.
    channels: [PathBuf; CHANNELS],
}

impl Files {
    /// The files of the interface that `key` stands for; their directory is made if there is none.
    pub fn of(key: &str) -> Result<Self, Error> {
        let directory = Path::new(DIRECTORY);
        fs::create_dir_all(directory).doing(|| format!("making {DIRECTORY}"))?;
        Ok(Self {
            record: directory.join(format!("{key}.json")),
            lock: directory.join(format!("{key}.lock")),
            change: directory.join(format!("{key}.change")),
            verifier_log: directory.join(format!("{key}.verifier.log")),
            events: directory.join(format!("{key}.events")),
            channels: Which::ALL.map(|which| directory.join(format!("{key}.{}", which.pin()))),
        })
    }

    /// The lock of a channel.
    #[must_use]
    pub fn channel(&self, which: Which) -> &Path {
        &self.channels[which.number()]
    }

    /// Reads the record. A record that is missing, or that an older or broken icmpctl wrote, is none: everything
    /// in it can be done without.
    #[must_use]
    pub fn read(&self) -> Option<Record> {
        let metadata = fs::metadata(&self.record).ok()?;
        let text = (metadata.len() <= MAX_BYTES).then(|| fs::read_to_string(&self.record))?.ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Writes the record: all of it or nothing, whatever happens meanwhile.
    pub fn write(&self, record: &Record) -> Result<(), Error> {
        let doing = || format!("writing {}", self.record.display());
        let text = serde_json::to_vec_pretty(record).map_err(io::Error::other).doing(doing)?;
        let mut file = tempfile::NamedTempFile::new_in(DIRECTORY).doing(doing)?;
        file.write_all(&text).doing(doing)?;
        file.as_file().sync_all().doing(doing)?;
        file.persist(&self.record).map_err(|error| error.error).doing(doing)?;
        Ok(())
    }

    /// Removes the record, the verifier's log of an attempt that failed, and locks that killed readers have left.
    pub fn remove(&self) -> Result<(), Error> {
        let locks = self.channels.iter().chain([&self.events]);
        let left = locks.filter(|lock| !Lock::is_held(lock));
        for path in [&self.record, &self.verifier_log].into_iter().chain(left) {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).doing(|| format!("removing {}", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
