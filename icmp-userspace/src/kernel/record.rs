//! What a BPF file system can't hold about an attachment: one small JSON file beside the pins, in
//! `/run/icmpctl`, which like them does not outlive a reboot.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::error::{Doing as _, Error};

/// Everything but pins that icmpctl keeps about interfaces.
const DIRECTORY: &str = "/run/icmpctl";

/// Longest record that is read, in bytes.
const MAX_BYTES: u64 = 1 << 16;

/// What is known of an attachment besides what the kernel says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The interface's name when it was attached.
    pub interface: String,
    /// The policy file, if one was given.
    pub policy: Option<PathBuf>,
    /// Why generic mode had to do, if native mode was tried.
    pub why_generic: Option<String>,
    /// Seconds since 1970 when it was attached.
    pub since: u64,
    /// Process id of the `icmpctl run` that follows the interface's addresses, if one does.
    pub follower: Option<u32>,
}

/// Where the record, the lock and the verifier's log of one interface are.
#[derive(Clone, Debug)]
pub struct Files {
    /// The record.
    pub record: PathBuf,
    /// The lock.
    pub lock: PathBuf,
    /// The verifier's log, should there be one.
    pub verifier_log: PathBuf,
}

impl Files {
    /// The files of the interface that `key` stands for; their directory is made if there is none.
    pub fn of(key: &str) -> Result<Self, Error> {
        let directory = Path::new(DIRECTORY);
        fs::create_dir_all(directory).doing(|| format!("making {DIRECTORY}"))?;
        Ok(Self {
            record: directory.join(format!("{key}.json")),
            lock: directory.join(format!("{key}.lock")),
            verifier_log: directory.join(format!("{key}.verifier.log")),
        })
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

    /// Removes the record, and the verifier's log of an attempt that failed.
    pub fn remove(&self) -> Result<(), Error> {
        for path in [&self.record, &self.verifier_log] {
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
