//! Network namespaces: entering one by name, and telling them apart.

use std::{fs, os::fd::AsFd as _, os::unix::fs::MetadataExt as _, path::Path};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::error::{Doing as _, Error};

/// Where ip-netns(8) keeps its names.
const NAMES: &str = "/run/netns";

/// Moves the calling thread into a network namespace that `ip netns` knows by this name. Mounts stay as they
/// are, so the BPF file system remains in sight.
pub fn enter(name: &str) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::Namespace { name: name.to_owned(), error };
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(failed(std::io::ErrorKind::InvalidInput.into()));
    }
    super::privileges::check()?;
    let namespace = fs::File::open(Path::new(NAMES).join(name)).map_err(failed)?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|error| failed(error.into()))
}

/// The number of the calling thread's network namespace; no two that exist at the same time share one.
pub fn current() -> Result<u64, Error> {
    let path = "/proc/thread-self/ns/net";
    fs::metadata(path).map(|metadata| metadata.ino()).doing(|| format!("looking at {path}"))
}

/// Whether the calling thread is in the network namespace of the first process.
///
/// Told by the number that procfs gives a file of each namespace's own, because a look at `/proc/1/ns` takes a capability that
/// nothing else here needs.
#[must_use]
pub fn is_initial() -> bool {
    let number = |path| fs::metadata(path).map(|metadata| metadata.ino()).ok();
    let own = number("/proc/thread-self/net/dev");
    own.is_some() && own == number("/proc/1/net/dev")
}
