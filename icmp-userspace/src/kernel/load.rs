//! Loading: tables and the kernel half's object file become a program in the kernel, not yet attached.

use std::{
    fs, io,
    os::fd::{AsFd as _, BorrowedFd},
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{Array, Map, MapData, MapError, MapType},
    programs::{ProgramError, Xdp},
};
use icmp_common::{
    Plain,
    bans::{BAN_LINES, BanLine},
    bucket::CELLS,
    config::Config,
    counters::{Counters, RULE_CHUNK, RULE_SLOTS, RuleCounters},
    dynamic::{DYNAMIC_ENTRIES, Membership},
    events::{CHANNELS, Channel, EVENTS_BYTES, Telling},
    tables::{Hosts, Kinds, Root4},
};
use rustix::rand::{GetRandomFlags, getrandom};

use super::{
    bans::BANS,
    channels::Which,
    clock,
    error::{Doing as _, Error},
    object, release,
};
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
    /// Most entries; nothing where the policy says how many.
    pub entries: Option<u32>,
}

/// The name of the map of buckets.
pub(super) const BUCKETS: &str = "BUCKETS";

/// The name of the ring buffer of events.
pub(super) const EVENTS: &str = "EVENTS";

/// All maps that outlive the program.
pub static KEPT: [KeptMap; 8] = [
    KeptMap {
        name: "COUNTERS",
        pin: "counters",
        kind: MapType::PerCpuArray,
        key: 4,
        value: size_of::<Counters>() as u32,
        entries: Some(1),
    },
    KeptMap {
        name: "RULES",
        pin: "rules",
        kind: MapType::PerCpuArray,
        key: 4,
        value: size_of::<RuleCounters>() as u32,
        entries: Some((RULE_SLOTS / RULE_CHUNK) as u32),
    },
    KeptMap {
        name: "TELLING",
        pin: "telling",
        kind: MapType::PerCpuArray,
        key: 4,
        value: size_of::<Telling>() as u32,
        entries: Some(1),
    },
    KeptMap {
        name: EVENTS,
        pin: "events",
        kind: MapType::RingBuf,
        key: 0,
        value: 0,
        entries: Some(EVENTS_BYTES),
    },
    KeptMap {
        name: "DYNAMIC4",
        pin: "dynamic4",
        kind: MapType::LpmTrie,
        key: 4 + 4,
        value: size_of::<Membership>() as u32,
        entries: Some(DYNAMIC_ENTRIES),
    },
    KeptMap {
        name: "DYNAMIC6",
        pin: "dynamic6",
        kind: MapType::LpmTrie,
        key: 4 + 16,
        value: size_of::<Membership>() as u32,
        entries: Some(DYNAMIC_ENTRIES),
    },
    KeptMap {
        name: BANS,
        pin: "bans",
        kind: MapType::Array,
        key: 4,
        value: size_of::<BanLine>() as u32,
        entries: Some(BAN_LINES),
    },
    KeptMap {
        name: BUCKETS,
        pin: "buckets",
        kind: MapType::Array,
        key: 4,
        value: size_of::<[u64; CELLS]>() as u32,
        entries: None,
    },
];

/// The channels of a program.
pub struct Taps {
    /// Their settings.
    pub channels: [Channel; CHANNELS],
    /// Those that are open, and the pins of their ring buffers, unless these are yet to be made.
    pub rings: Vec<(Which, Option<PathBuf>)>,
}

impl Taps {
    /// All closed.
    pub const NONE: Self = Self { channels: [Channel::OFF; CHANNELS], rings: Vec::new() };
}

/// How often the verifier is asked that signals break off; libbpf does no more.
const TRIES: u32 = 5;

/// A loaded program with its maps. Dropping it unloads it, unless a link holds it.
pub struct Program {
    object: Ebpf,
}

impl Program {
    /// Loads `object` with `tables`. `kept` are pins of maps in [`KEPT`], by name, that [`super::pins`] has checked; the
    /// program goes on with them. `taps` are its channels. `secret` is the pin of buckets whose secret it goes on with, so that it finds what is in them and in
    /// the bans. The verifier's log, should it have one to tell, goes to `verifier_log`.
    pub fn load(
        object: &[u8],
        tables: &Tables,
        kept: &[(&str, PathBuf)],
        secret: Option<&Path>,
        taps: &Taps,
        verifier_log: &Path,
    ) -> Result<Self, Error> {
        let lines = tables.config.bucket_mask + 1;
        let secret = secret.map_or_else(new_secret, secret_of)?;
        let config = Config {
            bucket_secret: [secret[0], secret[1]],
            jiffy: clock::jiffy(),
            channels: taps.channels,
            ..tables.config
        };
        let config = Config::bytes(std::slice::from_ref(&config));
        let hosts = Hosts::bytes(std::slice::from_ref(&tables.hosts));
        let kinds = Kinds::bytes(std::slice::from_ref(&tables.kinds));
        let [sources4, destinations4] = &tables.roots4;
        let image = tables.image.bytes();
        let object = object::with_room(object, image.len())?;
        let mut loader = EbpfLoader::new();
        loader
            // The object has no relocations against the kernel's own types: its BTF need not be read.
            .btf(None)
            .override_global("CONFIG", config, true)
            .override_global("HOSTS", hosts, true)
            .override_global("KINDS", kinds, true)
            .override_global("SRC4_ROOT", Root4::bytes(std::slice::from_ref(sources4)), true)
            .override_global("DST4_ROOT", Root4::bytes(std::slice::from_ref(destinations4)), true)
            .override_global(object::TABLES, image, true);
        loader.map_max_entries(BUCKETS, lines + 1);
        for (name, path) in kept {
            loader.map_pin_path(name, path);
        }
        for (which, pin) in &taps.rings {
            loader.map_max_entries(which.map(), which.bytes());
            if let Some(pin) = pin {
                loader.map_pin_path(which.map(), pin);
            }
        }
        let mut program =
            Self { object: loader.load(&object).map_err(|error| load_failed(error, verifier_log))? };
        if kept.iter().all(|(name, _)| *name != BUCKETS) {
            program.keep_secret(lines, secret)?;
        }
        program.verify(verifier_log)?;
        Ok(program)
    }

    /// Has the kernel's verifier look at it; anew if a signal to this process has broken that off.
    fn verify(&mut self, verifier_log: &Path) -> Result<(), Error> {
        let mut tries = 1;
        loop {
            match self.xdp()?.load() {
                Err(ProgramError::LoadError { io_error, .. })
                    if io_error.kind() == io::ErrorKind::WouldBlock && tries < TRIES => {}
                outcome => return outcome.map_err(|error| program_failed(error, verifier_log)),
            }
            tries += 1;
        }
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
            Map::Array(map) | Map::PerCpuArray(map) | Map::LpmTrie(map) | Map::RingBuf(map) => Ok(map),
            _ => Err(missing(name)),
        }
    }

    /// Writes the secret of the buckets, which are all full as they are, behind their lines.
    fn keep_secret(&mut self, lines: u32, secret: Line) -> Result<(), Error> {
        let map = self.object.map_mut(BUCKETS).ok_or_else(|| missing(BUCKETS))?;
        let set = Array::<_, Line>::try_from(map).and_then(|mut map| map.set(lines, secret, 0));
        set.map_err(|error| Error::Load(chain(&error)))
    }
}

/// A line of buckets.
type Line = [u64; CELLS];

/// A secret for buckets.
fn new_secret() -> Result<Line, Error> {
    let mut secret = [0; size_of::<Line>()];
    getrandom(&mut secret, GetRandomFlags::empty())
        .doing(|| "asking the kernel for random numbers".to_owned())?;
    let (words, _) = secret.as_chunks();
    Ok(std::array::from_fn(|word| u64::from_ne_bytes(words[word])))
}

/// The secret of pinned buckets.
fn secret_of(pin: &Path) -> Result<Line, Error> {
    let read = MapData::from_pin(pin).and_then(|map| {
        let lines = Array::<_, Line>::try_from(Map::Array(map))?;
        lines.get(&lines.len().saturating_sub(1), 0)
    });
    read.map_err(|error| Error::Load(format!("reading {}: {}", pin.display(), chain(&error))))
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
            if release::is_too_old(&release::running()) {
                // Its verifier does not know all instructions, such as the compare-and-swap of Linux 5.12.
                return Error::OldKernel { what: "run this XDP program", error: io_error };
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
        // Among them E2BIG, for tables of a size that it does not know yet.
        _ if release::is_too_old(&release::running()) => Error::OldKernel { what, error },
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
