//! The locks that keep two commands from changing one interface at once.
//!
//! One is held by whoever attaches, detaches, or stays (`run`), as long as it does; another one by every single change. So what
//! changes only the policy works beside a `run`, and all changes come one after another. The first one is taken before the second one.
//! Then there is one for each channel through which packets are captured, held by whoever does, and one for whoever consumes events.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::fs::{FlockOperation, flock};

use tokio::time::sleep;

use super::error::{Doing as _, Error};

/// How long a change may take that others wait for.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often they look.
const PAUSE: Duration = Duration::from_millis(10);

/// A held lock; dropping it releases it and removes its file.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// As [`Self::take`], but waits for whoever holds it.
    pub async fn wait(path: &Path, interface: &str, verb: &str) -> Result<Self, Error> {
        let begin = Instant::now();
        loop {
            match Self::take(path, interface, verb) {
                Err(Error::Locked { .. }) if begin.elapsed() < PATIENCE => sleep(PAUSE).await,
                outcome => return outcome,
            }
        }
    }

    /// Takes the lock at `path`, or says who holds it. `interface` is for that message, `verb` for the one that others
    /// get meanwhile.
    pub fn take(path: &Path, interface: &str, verb: &str) -> Result<Self, Error> {
        let doing = || format!("locking {}", path.display());
        loop {
            let mut file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
                .doing(doing)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let mut holder = String::new();
                    file.take(200).read_to_string(&mut holder).doing(doing)?;
                    let holder = holder.trim().to_owned();
                    return Err(Error::Locked { interface: interface.to_owned(), holder });
                }
                Err(error) => return Err(error).doing(doing),
            }
            // Who held it before may have removed the file between our opening and our locking it.
            let inode = file.metadata().doing(doing)?.ino();
            if fs::metadata(path).is_ok_and(|now| now.ino() == inode) {
                file.set_len(0).doing(doing)?;
                file.rewind().doing(doing)?;
                writeln!(file, "pid {}, icmpctl {verb}", std::process::id()).doing(doing)?;
                return Ok(Self { path: path.to_owned(), _file: file });
            }
        }
    }

    /// Whether anybody holds the lock at `path`. To find out it is taken for a moment, shared: who would take it has to be kept from that
    /// meanwhile, as by the lock of changes, or to try again.
    #[must_use]
    pub fn is_held(path: &Path) -> bool {
        let Ok(file) = File::open(path) else { return false };
        flock(&file, FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK)
    }

    /// Removes the file of a lock at `path` that nobody holds, nor is about to take.
    pub fn remove_stale(path: &Path) -> Result<(), Error> {
        if Self::is_held(path) {
            return Ok(());
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).doing(|| format!("removing {}", path.display()))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Still locked: whoever waits for it sees that the file is gone. If it can't be removed it does no harm.
        let _ = fs::remove_file(&self.path);
    }
}
