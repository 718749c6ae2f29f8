//! Files as they are read: whole, not too long, and not while somebody writes to them.

use std::{
    fs::{self, Metadata},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use thiserror::Error;

/// Longest file that is read, in bytes. A million prefixes fit.
pub(super) const MAX_BYTES: u64 = 64 << 20;

/// Why a file was not read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The system refused.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is longer than anyone would write.
    #[error("it is longer than {} MiB; is it the right file?", MAX_BYTES >> 20)]
    TooLong,
    /// It is a directory, a pipe or a device.
    #[error("it is not a regular file")]
    NotRegular,
    /// Somebody wrote to it.
    #[error("it changed while it was read; put a new file in its place by renaming")]
    Changed,
}

/// Reads a regular file.
pub(super) fn regular(path: &Path) -> Result<Vec<u8>, ReadError> {
    read(path, true, || ())
}

/// Reads a file or what comes through a pipe.
pub(super) fn any(path: &Path) -> Result<Vec<u8>, ReadError> {
    read(path, false, || ())
}

/// `meanwhile` is called when everything has been read and nothing has been compared.
fn read(path: &Path, regular: bool, meanwhile: impl FnOnce()) -> Result<Vec<u8>, ReadError> {
    let mut options = fs::OpenOptions::new();
    options.read(true);
    if regular {
        // Nobody may ever write to a pipe: opening it must not wait.
        options.custom_flags(libc::O_NONBLOCK);
    }
    let file = options.open(path)?;
    let before = file.metadata()?;
    if regular && !before.is_file() {
        return Err(ReadError::NotRegular);
    }
    let mut bytes = Vec::with_capacity(before.len().min(MAX_BYTES) as usize + 1);
    (&file).take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(ReadError::TooLong);
    }
    meanwhile();
    let stamp = |of: &Metadata| (of.len(), of.mtime(), of.mtime_nsec());
    let same = stamp(&before) == stamp(&file.metadata()?) && bytes.len() as u64 == before.len();
    if before.is_file() && !same { Err(ReadError::Changed) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn reads_what_is_there() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, "text").unwrap();
        assert_eq!(regular(file.path()).unwrap(), b"text");
        assert_eq!(any(file.path()).unwrap(), b"text");
    }

    #[test]
    fn notices_writing() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, "text").unwrap();
        let path = file.path().to_owned();
        let error = read(&path, true, || write!(file, "more").unwrap()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "it changed while it was read; put a new file in its place by renaming"
        );
    }

    #[test]
    fn refuses_what_is_no_regular_file() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        for path in [directory.path(), &pipe] {
            assert!(matches!(regular(path), Err(ReadError::NotRegular)), "{}", path.display());
        }
    }

    #[test]
    fn refuses_what_is_too_long() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(MAX_BYTES + 1).unwrap();
        assert!(matches!(regular(file.path()), Err(ReadError::TooLong)));
    }
}
