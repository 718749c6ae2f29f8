//! Loading: tables and the kernel half's object file become a program in the kernel, not yet attached.

use std::{
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{Map, MapData, MapError, MapType},
    programs::{ProgramError, Xdp},
};
use icmp_common::{
    Plain,
    config::Config,
    counters::{Counters, RULE_CHUNK, RULE_SLOTS, RuleCounters},
    dynamic::{DYNAMIC_ENTRIES, Membership},
    errors::{ERROR_LINES, ERROR_SECRET},
    tables::{Cells, Hosts, Kinds, LINE, Root4},
};
use rustix::rand::{GetRandomFlags, getrandom};

use super::error::{Doing as _, Error};
use crate::policy::compile::Tables;

/// A map that outlives the program, pinned: what has been counted, and what changes while the program runs.
#[derive(Clone, Copy, Debug)]
pub struct KeptMap {
    /// Its name in the object file.
    pub name: &'static str,
    /// The file name of its pin.
    pub pin: &'static str,
    /// Its type.
    pub kind: MapType,
    /// Size of a key in bytes.
    pub key: u32,
    /// Size of a value in bytes.
    pub value: u32,
    /// Most entries.
    pub entries: u32,
}

/// All maps that outlive the program.
pub static KEPT: [KeptMap; 5] = [
    KeptMap {
        name: "COUNTERS",
        pin: "counters",
        kind: MapType::PerCpuArray,
        key: 4,
        value: size_of::<Counters>() as u32,
        entries: 1,
    },
    KeptMap {
        name: "RULES",
        pin: "rules",
        kind: MapType::PerCpuArray,
        key: 4,
        value: size_of::<RuleCounters>() as u32,
        entries: (RULE_SLOTS / RULE_CHUNK) as u32,
    },
    KeptMap {
        name: "DYNAMIC4",
        pin: "dynamic4",
        kind: MapType::LpmTrie,
        key: 4 + 4,
        value: size_of::<Membership>() as u32,
        entries: DYNAMIC_ENTRIES,
    },
    KeptMap {
        name: "DYNAMIC6",
        pin: "dynamic6",
        kind: MapType::LpmTrie,
        key: 4 + 16,
        value: size_of::<Membership>() as u32,
        entries: DYNAMIC_ENTRIES,
    },
    KeptMap {
        name: "ERRORS",
        pin: "errors",
        kind: MapType::Array,
        key: 4,
        value: size_of::<Cells>() as u32,
        entries: ERROR_LINES as u32,
    },
];

/// A loaded program with its maps. Dropping it unloads it, unless a link holds it.
pub struct Program {
    object: Ebpf,
}

impl Program {
    /// Loads `object` with `tables`. `kept` are pins of maps in [`KEPT`], by name, that [`super::pins`] has checked; the
    /// program goes on with them. The verifier's log, should it have one to tell, goes to `verifier_log`.
    pub fn load(
        object: &[u8],
        tables: &Tables,
        kept: &[(&str, PathBuf)],
        verifier_log: &Path,
    ) -> Result<Self, Error> {
        let config = Config::bytes(std::slice::from_ref(&tables.config));
        let hosts = Hosts::bytes(std::slice::from_ref(&tables.hosts));
        let kinds = Kinds::bytes(std::slice::from_ref(&tables.kinds));
        let filled = filled(tables);
        let mut loader = EbpfLoader::new();
        loader
            // The object has no relocations against the kernel's own types: its BTF need not be read.
            .btf(None)
            .override_global("CONFIG", config, true)
            .override_global("HOSTS", hosts, true)
            .override_global("KINDS", kinds, true)
            .override_global("SRC4_ROOT", Root4::bytes(std::slice::from_ref(&tables.sources4.root)), true)
            .override_global(
                "DST4_ROOT",
                Root4::bytes(std::slice::from_ref(&tables.destinations4.root)),
                true,
            );
        for Filled { name, entries, .. } in &filled {
            loader.map_max_entries(name, *entries);
        }
        for (name, path) in kept {
            loader.map_pin_path(name, path);
        }
        let mut program =
            Self { object: loader.load(object).map_err(|error| load_failed(error, verifier_log))? };
        for Filled { name, bytes, .. } in &filled {
            program.fill(name, bytes)?;
        }
        if kept.iter().all(|(name, _)| *name != "ERRORS") {
            program.fill("ERRORS", Cells::bytes(&fresh_error_lines()?))?;
        }
        program.xdp()?.load().map_err(|error| program_failed(error, verifier_log))?;
        Ok(program)
    }

    /// Its file descriptor, for attaching it.
    pub fn fd(&mut self) -> Result<BorrowedFd<'_>, Error> {
        let fd = self.xdp()?.fd().map_err(|error| Error::Load(error.to_string()))?;
        Ok(fd.as_fd())
    }

    /// Its id in the kernel.
    pub fn id(&mut self) -> Result<u32, Error> {
        let info = self.xdp()?.info().map_err(|error| Error::Load(error.to_string()))?;
        Ok(info.id())
    }

    /// The program itself, for test runs.
    pub fn xdp(&mut self) -> Result<&mut Xdp, Error> {
        let program = self.object.program_mut("icmpctl").ok_or_else(|| missing("program icmpctl"))?;
        program.try_into().map_err(|error: ProgramError| Error::Load(error.to_string()))
    }

    /// Pins one of its maps.
    pub fn pin(&self, name: &str, path: &Path) -> Result<(), Error> {
        super::bpf::pin(self.map(name)?.fd().as_fd(), path).doing(|| format!("pinning {}", path.display()))
    }

    /// The map of its counters.
    pub fn counters(&self) -> Result<MapData, Error> {
        self.open("COUNTERS")
    }

    /// One of its maps, opened once more.
    pub(super) fn open(&self, name: &str) -> Result<MapData, Error> {
        let fd = self.map(name)?.fd().as_fd().try_clone_to_owned();
        let fd = fd.doing(|| format!("opening the map {name} once more"))?;
        MapData::from_fd(fd).map_err(|error| Error::Load(chain(&error)))
    }

    fn map(&self, name: &str) -> Result<&MapData, Error> {
        match self.object.map(name).ok_or_else(|| missing(name))? {
            Map::Array(map) | Map::PerCpuArray(map) | Map::LpmTrie(map) => Ok(map),
            _ => Err(missing(name)),
        }
    }

    /// Copies a table into its map through memory: a million cells are one copy, not a million system calls.
    fn fill(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let doing = || format!("filling the map {name}");
        let map = self.map(name)?;
        let fd = map.fd().as_fd().as_raw_fd();
        // SAFETY: the map is ours alone; no other process maps it, and the program is not loaded yet.
        let mapped = unsafe { memmap2::MmapOptions::new().len(bytes.len()).map_mut(fd) };
        let mut mapped = mapped.doing(doing)?;
        mapped.copy_from_slice(bytes);
        Ok(())
    }
}

/// A table and the map that it fills.
struct Filled<'a> {
    name: &'static str,
    entries: u32,
    bytes: &'a [u8],
}

impl<'a> Filled<'a> {
    fn new<T: Plain>(name: &'static str, values: &'a [T]) -> Self {
        const { assert!(size_of::<T>().is_multiple_of(8), "array values are 8 bytes apart") };
        Self { name, entries: values.len() as u32, bytes: T::bytes(values) }
    }
}

/// All tables that fill maps.
fn filled(tables: &Tables) -> [Filled<'_>; 10] {
    [
        Filled::new("SRC4_RANGES", &tables.sources4.lines),
        Filled::new("DST4_RANGES", &tables.destinations4.lines),
        Filled::new("SRC6_INDEX", &tables.sources6.index),
        Filled::new("SRC6_RANGES", &tables.sources6.ranges),
        Filled::new("DST6_INDEX", &tables.destinations6.index),
        Filled::new("DST6_RANGES", &tables.destinations6.ranges),
        Filled::new("ROWS", &tables.rows),
        Filled::new("PAIRS", &tables.pairs),
        Filled::new("DECISIONS", &tables.decisions),
        Filled::new("ENTRIES", &tables.entries),
    ]
}

/// The buckets for errors, all full, and a secret for them.
fn fresh_error_lines() -> Result<Vec<Cells>, Error> {
    let mut lines = vec![Cells { cells: [0; LINE] }; ERROR_LINES];
    let mut secret = [0; size_of::<Cells>()];
    getrandom(&mut secret, GetRandomFlags::empty())
        .doing(|| "asking the kernel for random numbers".to_owned())?;
    for (word, bytes) in lines[ERROR_SECRET as usize].cells.iter_mut().zip(secret.as_chunks().0) {
        *word = u32::from_ne_bytes(*bytes);
    }
    Ok(lines)
}

fn missing(what: &str) -> Error {
    Error::Load(format!("{what} is missing from the object file"))
}

fn load_failed(error: EbpfError, verifier_log: &Path) -> Error {
    match error {
        EbpfError::MapError(MapError::CreateError { io_error, .. }) => refused("create BPF maps", io_error),
        EbpfError::ProgramError(error) => program_failed(error, verifier_log),
        error => Error::Load(chain(&error)),
    }
}

fn program_failed(error: ProgramError, verifier_log: &Path) -> Error {
    match error {
        ProgramError::LoadError { io_error, verifier_log: log } => {
            let log = log.to_string();
            if log.trim().is_empty() {
                return refused("load XDP programs", io_error);
            }
            match fs::write(verifier_log, log) {
                Ok(()) => Error::Verifier { error: io_error, log: verifier_log.to_owned() },
                Err(error) => Error::System { what: format!("writing {}", verifier_log.display()), error },
            }
        }
        ProgramError::SyscallError(error) => refused("load XDP programs", error.io_error),
        error => Error::Load(chain(&error)),
    }
}

/// A refusal without a word from the verifier: privileges, limits, or a kernel that does not know the command.
fn refused(what: &'static str, error: io::Error) -> Error {
    match error.raw_os_error() {
        Some(libc::ENOSYS | libc::EINVAL) => Error::OldKernel { what, error },
        _ => Error::System { what: format!("asking the kernel to {what}"), error },
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
