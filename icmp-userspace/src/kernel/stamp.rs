//! What a file looked like when it was read, so that a later change of it can be told without reading it again.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

/// A file as it was at one moment; two moments between which it was written differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: [i64; 2],
    changed: [i64; 2],
}

impl Stamp {
    /// The file at `path` as it is now; `None` if it can't be looked at.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let file = fs::metadata(path).ok()?;
        Some(Self {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            modified: [file.mtime(), file.mtime_nsec()],
            changed: [file.ctime(), file.ctime_nsec()],
        })
    }
}

/// A file with its stamp.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamped {
    /// Its name.
    pub path: PathBuf,
    /// What it looked like; none if it could not be looked at, or may have been written while it was read.
    pub stamp: Option<Stamp>,
}

/// File systems take their times from a clock that may be behind by this much.
const COARSE: Duration = Duration::from_millis(20);

impl Stamped {
    /// The file at `path` as it is now.
    #[must_use]
    pub fn now(path: &Path) -> Self {
        Self { path: path.to_owned(), stamp: Stamp::of(path) }
    }

    /// The file at `path`, which has been read since `begin`.
    #[must_use]
    pub fn read_since(path: &Path, begin: SystemTime) -> Self {
        let begin = (begin - COARSE).duration_since(UNIX_EPOCH).unwrap_or_default();
        let begin = [begin.as_secs() as i64, i64::from(begin.subsec_nanos())];
        let stamp = Stamp::of(path).filter(|stamp| stamp.changed < begin);
        Self { path: path.to_owned(), stamp }
    }

    /// Whether the file is not as it was.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        Stamp::of(&self.path) != self.stamp
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_change_a_file_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let (path, other) = (directory.path().join("file"), directory.path().join("other"));
        let missing = Stamped::now(&path);
        fs::write(&path, "one").unwrap();
        assert!(missing.has_changed());
        let stamped = Stamped::now(&path);
        assert!(!stamped.has_changed());
        fs::write(&other, "two").unwrap();
        fs::rename(&other, &path).unwrap();
        assert!(stamped.has_changed());
        let stamped = Stamped::now(&path);
        fs::write(&path, "three").unwrap();
        assert!(stamped.has_changed());
    }

    #[test]
    fn a_file_that_was_written_just_now_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let begin = SystemTime::now();
        fs::write(&path, "one").unwrap();
        assert!(Stamped::read_since(&path, begin).has_changed());
        let later = SystemTime::now() + Duration::from_secs(1);
        assert!(!Stamped::read_since(&path, later).has_changed());
    }
}
