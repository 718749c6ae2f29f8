//! Pins: what keeps a program attached and the maps that outlive it alive when no process holds them.
//!
//! `<bpffs>/icmpctl/v<ABI>/<interface>/{link,counters,...}`, one file for each map of [`KEPT`]. The interface's name there is
//! made of the number of its network namespace and its own, because names are neither unique across namespaces nor constant.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aya::maps::MapInfo;
use icmp_common::ABI_VERSION;
use rustix::fs::statfs;

use super::{
    bpf::XdpLink,
    channels::Which,
    error::{Doing as _, Error},
    load::{BUCKETS, KEPT, KeptMap, Program},
    namespace,
};

/// Where BPF file systems are mounted by custom.
pub const BPFFS: &str = "/sys/fs/bpf";

/// `BPF_FS_MAGIC` of `linux/magic.h`.
const BPF_FS: i64 = 0xcafe_4a11;

/// The directory of one interface's pins; it need not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pins {
    root: PathBuf,
    key: String,
}

impl Pins {
    /// The pins of an interface of the current network namespace in the BPF file system at `bpffs`.
    pub fn of(bpffs: &Path, interface: u32) -> Result<Self, Error> {
        require_bpffs(bpffs)?;
        let key = format!("netns{}-if{interface}", namespace::current()?);
        Ok(Self { root: root(bpffs), key })
    }

    /// The pins of all interfaces of the current network namespace.
    pub fn all(bpffs: &Path) -> Result<Vec<(u32, Self)>, Error> {
        require_bpffs(bpffs)?;
        let prefix = format!("netns{}-if", namespace::current()?);
        let root = root(bpffs);
        let entries = match fs::read_dir(&root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).doing(|| format!("listing {}", root.display())),
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut all: Vec<_> = names
            .filter_map(|key| {
                let interface = key.strip_prefix(&prefix)?.parse().ok()?;
                Some((interface, Self { root: root.clone(), key }))
            })
            .collect();
        all.sort_unstable_by_key(|(interface, _)| *interface);
        Ok(all)
    }

    /// What stands for the interface in names of files.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    fn directory(&self) -> PathBuf {
        self.root.join(&self.key)
    }

    /// The pin of the link.
    #[must_use]
    pub fn link(&self) -> PathBuf {
        self.directory().join("link")
    }

    /// The pin of the map that is called so in the object file; it need not exist.
    #[must_use]
    pub fn map(&self, name: &str) -> Option<PathBuf> {
        KEPT.iter().find(|map| map.name == name).map(|map| self.of_map(map))
    }

    /// The pin of a channel's ring buffer, which is there while the channel is open.
    pub(super) fn channel(&self, which: Which) -> PathBuf {
        self.directory().join(which.pin())
    }

    /// Removes what an open channel has pinned.
    pub(super) fn remove_channel(&self, which: Which) -> Result<(), Error> {
        remove_pin(&self.channel(which))
    }

    fn of_map(&self, map: &KeptMap) -> PathBuf {
        self.directory().join(map.pin)
    }

    /// Makes the directory.
    fn create(&self) -> Result<(), Error> {
        fs::create_dir_all(self.directory()).doing(|| format!("making {}", self.directory().display()))
    }

    /// Opens the pinned link, if there is one; what is pinned there but can't be ours is an error.
    pub fn open_link(&self, interface: u32) -> Result<Option<XdpLink>, Error> {
        let path = self.link();
        if !exists(&path)? {
            return Ok(None);
        }
        let foreign = |why: String| Error::ForeignPin { path: path.clone(), why };
        let link = match XdpLink::open(&path) {
            Ok(link) => link,
            // Somebody has detached it just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(foreign(format!("opening it: {error}"))),
        };
        let info = link.info().map_err(|error| foreign(error.to_string()))?;
        // 0: the interface went away, and another one may have got its number since.
        if info.interface != interface && info.interface != 0 {
            return Err(foreign(format!("it is attached to interface {}", info.interface)));
        }
        Ok((info.interface == interface).then_some(link))
    }

    /// The maps that outlive programs, by name, with their pins: all of them, or none if one is missing, because they belong
    /// together. What is pinned there but can't be ours is an error.
    pub fn kept(&self) -> Result<Vec<(&'static str, PathBuf)>, Error> {
        let mut kept = Vec::new();
        let mut complete = true;
        for map in &KEPT {
            complete &= self.is_pinned(map)?;
            kept.push((map.name, self.of_map(map)));
        }
        Ok(if complete { kept } else { Vec::new() })
    }

    /// Whether there are as many lines of buckets as a policy wants, and one more.
    pub fn fit(&self, lines: u32) -> Result<bool, Error> {
        let Some(pin) = self.map(BUCKETS) else { return Ok(false) };
        let info = MapInfo::from_pin(&pin).map_err(|error| Error::Load(error.to_string()))?;
        Ok(info.max_entries() == lines + 1)
    }

    /// Pins a program's buckets in the place of others.
    pub fn pin_buckets(&self, program: &Program) -> Result<(), Error> {
        let Some(pin) = self.map(BUCKETS) else { return Ok(()) };
        remove_pin(&pin)?;
        program.pin(BUCKETS, &pin)
    }

    /// Whether the map that is called so in the object file is pinned; what is pinned there but can't be ours is an error.
    pub fn has(&self, name: &str) -> Result<bool, Error> {
        KEPT.iter().find(|map| map.name == name).map_or(Ok(false), |map| self.is_pinned(map))
    }

    /// Pins all maps of a program that are to outlive it, in the place of others that may be there.
    pub fn pin_all(&self, program: &Program) -> Result<(), Error> {
        self.create()?;
        for map in &KEPT {
            remove_pin(&self.of_map(map))?;
            program.pin(map.name, &self.of_map(map))?;
        }
        Ok(())
    }

    fn is_pinned(&self, map: &KeptMap) -> Result<bool, Error> {
        let path = self.of_map(map);
        if !exists(&path)? {
            return Ok(false);
        }
        let foreign = |why: String| Error::ForeignPin { path: path.clone(), why };
        let info = match MapInfo::from_pin(&path) {
            Ok(info) => info,
            // Somebody has removed it just now.
            Err(_) if !exists(&path)? => return Ok(false),
            Err(error) => return Err(foreign(format!("opening it: {error}"))),
        };
        let found = (info.map_type().ok(), info.key_size(), info.value_size(), info.max_entries());
        let entries = map.entries.unwrap_or(info.max_entries());
        let expected = (Some(map.kind), map.key, map.value, entries);
        if found == expected { Ok(true) } else { Err(foreign(format!("it is not a map of {}", map.pin))) }
    }

    /// Whether there are any pins, or what is left of them.
    pub fn exist(&self) -> Result<bool, Error> {
        exists(&self.directory())
    }

    /// Removes the pins and their directory. What is not a pin of ours stays, and with it the directory.
    pub fn remove(&self) -> Result<(), Error> {
        remove_pin(&self.link())?;
        for map in &KEPT {
            remove_pin(&self.of_map(map))?;
        }
        for which in Which::ALL {
            self.remove_channel(which)?;
        }
        let directory = self.directory();
        ignore_missing(fs::remove_dir(&directory)).doing(|| format!("removing {}", directory.display()))?;
        // The directories above are everybody's: they go with the last interface.
        let _ = fs::remove_dir(&self.root);
        let _ = self.root.parent().map(fs::remove_dir);
        Ok(())
    }
}

fn root(bpffs: &Path) -> PathBuf {
    bpffs.join("icmpctl").join(format!("v{ABI_VERSION}"))
}

fn exists(path: &Path) -> Result<bool, Error> {
    path.try_exists().doing(|| format!("looking for {}", path.display()))
}

fn remove_pin(path: &Path) -> Result<(), Error> {
    ignore_missing(fs::remove_file(path)).doing(|| format!("removing the pin {}", path.display()))
}

fn ignore_missing(outcome: io::Result<()>) -> io::Result<()> {
    outcome.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

fn require_bpffs(path: &Path) -> Result<(), Error> {
    if is_bpffs(path) { Ok(()) } else { Err(Error::NoBpffs { path: path.to_owned() }) }
}

/// Whether a BPF file system is mounted there.
pub(super) fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|status| status.f_type == BPF_FS)
}
