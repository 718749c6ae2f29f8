//! Attaching, replacing and detaching the program on an interface.
//!
//! An attachment is a pinned link, counters pinned beside it, and a record. The link is pinned last: whatever ends the
//! process before leaves nothing attached.

use std::{
    io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use aya::programs::loaded_programs;
use serde::Serialize;

use super::{
    bpf::XdpLink,
    error::{Doing as _, Error},
    interface::{Interface, Netlink, RunningMode},
    load::Program,
    lock::Lock,
    pins::Pins,
    privileges,
    record::{Files, Record},
};
use crate::policy::compile::Tables;

/// Which mode is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Native where the driver takes it, else generic.
    Auto,
    /// In the driver, or not at all.
    Native,
    /// In the stack's entry.
    Generic,
}

/// `XDP_FLAGS_*` of `linux/if_link.h`.
const FLAG_GENERIC: u32 = 1 << 1;
const FLAG_NATIVE: u32 = 1 << 2;

/// How to attach.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the program shall run.
    pub mode: Mode,
    /// Whether somebody else's program may be replaced.
    pub force: bool,
    /// Where the policy came from, for the record.
    pub policy: Option<PathBuf>,
    /// Whether this process stays and follows the interface's addresses.
    pub follows: bool,
}

/// What attaching came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The program's id.
    pub program: u32,
    /// Where it runs.
    pub mode: RunningMode,
    /// Why it does not run natively, if that was tried.
    pub why_generic: Option<String>,
    /// The id of the program of ours that was there before.
    pub replaced: Option<u32>,
}

/// An interface whose attachment this process may change: it holds the lock.
pub struct Site {
    /// The interface.
    pub interface: Interface,
    pins: Pins,
    files: Files,
    /// The link, once this process has attached or replaced a program: it is ours wherever the interface goes.
    link: Option<XdpLink>,
    _lock: Lock,
}

impl Site {
    /// Locks an interface. `verb` is what whoever finds it locked is told about us.
    pub async fn lock(netlink: &Netlink, name: &str, bpffs: &Path, verb: &str) -> Result<Self, Error> {
        privileges::check()?;
        let interface = netlink.by_name(name).await?;
        let pins = Pins::of(bpffs, interface.index)?;
        let files = Files::of(pins.key())?;
        let lock = Lock::take(&files.lock, name, verb)?;
        Ok(Self { interface, pins, files, link: None, _lock: lock })
    }

    /// Loads a program and attaches it. If one of ours is attached already it is replaced atomically, and the
    /// counters go on.
    pub async fn attach(
        &mut self,
        netlink: &Netlink,
        object: &[u8],
        tables: &Tables,
        options: &Options,
    ) -> Result<Outcome, Error> {
        let index = self.interface.index;
        let existing = self.pins.open_link(index)?;
        let replaced = match &existing {
            Some(link) => Some(link.info().doing(|| "asking what is attached".to_owned())?.program),
            None => None,
        };
        if existing.is_none() {
            self.make_way(netlink, options.force).await?;
        } else if !self.runs_as(options.mode) {
            return Err(Error::OtherMode { interface: self.interface.name.clone() });
        }
        // Telling about somebody else's program, and detaching it, took more.
        privileges::drop_others()?;
        let mut counters = self.pins.has_counters()?.then(|| self.pins.counters());
        if existing.is_none() && counters.take().is_some() {
            // Left over from a program that is attached no more; they do not count for this one.
            self.pins.remove()?;
        }
        let kept: Vec<_> = counters.iter().map(|path| ("COUNTERS", path.clone())).collect();
        let mut program = Program::load(object, tables, &kept, &self.files.verifier_log)?;
        let (link, why_generic) = match existing {
            Some(link) => {
                self.update(&link, &mut program)?;
                let record = self.files.read();
                (link, record.and_then(|record| record.why_generic))
            }
            None => create_link(&self.interface, &mut program, options.mode)?,
        };
        self.pins.create()?;
        if counters.is_none() {
            program.pin("COUNTERS", &self.pins.counters())?;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.files.write(&Record {
            interface: self.interface.name.clone(),
            policy: options.policy.clone(),
            why_generic: why_generic.clone(),
            since: now.as_secs(),
            follower: options.follows.then(std::process::id),
        })?;
        if replaced.is_none() {
            link.pin(&self.pins.link()).doing(|| format!("pinning {}", self.pins.link().display()))?;
        }
        self.link = Some(link);
        let attached = netlink.by_index(index).await?.and_then(|interface| interface.xdp);
        let mode = attached.map_or(RunningMode::Native, |attached| attached.mode);
        Ok(Outcome { program: program.id()?, mode, why_generic, replaced })
    }

    /// Puts a program with other tables in the place of the one that this process has attached; each packet meets the
    /// one or the other.
    pub fn replace(&self, object: &[u8], tables: &Tables) -> Result<(), Error> {
        let link = self.link.as_ref().ok_or_else(|| self.not_attached())?;
        let counters = self.pins.has_counters()?.then(|| self.pins.counters());
        let kept: Vec<_> = counters.iter().map(|path| ("COUNTERS", path.clone())).collect();
        let mut program = Program::load(object, tables, &kept, &self.files.verifier_log)?;
        self.update(link, &mut program)
    }

    /// Whether what this process has attached still is.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.link.as_ref().and_then(|link| link.info().ok()).is_some_and(|info| info.interface != 0)
    }

    fn update(&self, link: &XdpLink, program: &mut Program) -> Result<(), Error> {
        link.update(program.fd()?).doing(|| format!("replacing the program on {}", self.interface.name))
    }

    /// Detaches our program and removes its pins; also what a killed process left of them. Nothing is touched unless
    /// all of it is ours.
    pub fn detach(&self) -> Result<(), Error> {
        privileges::drop_others()?;
        let opened = match self.link {
            Some(_) => None,
            None => self.pins.open_link(self.interface.index)?,
        };
        let link = self.link.as_ref().or(opened.as_ref());
        if link.is_none() && !self.pins.exist()? {
            return Err(self.not_attached());
        }
        self.pins.has_counters()?;
        // An interface that is gone has taken its link along.
        if let Some(link) = link.filter(|link| link.info().is_ok_and(|info| info.interface != 0)) {
            link.detach().doing(|| format!("detaching from {}", self.interface.name))?;
        }
        self.pins.remove()?;
        self.files.remove()
    }

    /// Leaves the program attached when its follower ends.
    pub fn leave(&self) -> Result<(), Error> {
        match self.files.read() {
            Some(record) => self.files.write(&Record { follower: None, ..record }),
            None => Ok(()),
        }
    }

    /// Where its counters are pinned.
    #[must_use]
    pub fn counters_pin(&self) -> PathBuf {
        self.pins.counters()
    }

    fn not_attached(&self) -> Error {
        Error::NotAttached { interface: self.interface.name.clone() }
    }

    /// Whether the attached program already runs where it is wanted.
    fn runs_as(&self, mode: Mode) -> bool {
        let running = self.interface.xdp.map(|attached| attached.mode);
        match mode {
            Mode::Auto => true,
            Mode::Native => running == Some(RunningMode::Native),
            Mode::Generic => running == Some(RunningMode::Generic),
        }
    }

    /// Refuses to touch somebody else's program, or detaches it if told to.
    async fn make_way(&self, netlink: &Netlink, force: bool) -> Result<(), Error> {
        let Some(attached) = self.interface.xdp else { return Ok(()) };
        let interface = || self.interface.name.clone();
        if !force {
            let owner = program_name(attached.program).map(|name| format!("named {name:?}"));
            return Err(Error::Foreign { interface: interface(), id: attached.program, owner });
        }
        let doing = || format!("detaching program {} from {}", attached.program, self.interface.name);
        match XdpLink::find(self.interface.index, attached.program).doing(doing)? {
            Some(link) => link.detach().doing(doing),
            None => netlink.detach_xdp(&self.interface, attached.mode).await,
        }
    }
}

fn program_name(id: u32) -> Option<String> {
    let program = loaded_programs().filter_map(Result::ok).find(|program| program.id() == id)?;
    program.name_as_str().map(str::to_owned)
}

/// An interface that has our pins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attachment {
    /// Its name; that from when it was attached if it is gone.
    pub interface: String,
    /// Whether the program is attached.
    pub state: State,
    /// Where the program runs.
    pub mode: Option<RunningMode>,
    /// Why in generic mode, if native mode was tried.
    pub why_generic: Option<String>,
    /// The program's id.
    pub program: Option<u32>,
    /// Seconds since 1970 when it was attached.
    pub since: Option<u64>,
    /// The process that follows the interface's addresses, if it is alive.
    pub follower: Option<u32>,
    /// The policy file; none stands for the default policy.
    pub policy: Option<PathBuf>,
    /// What is wrong with the pins, if they are not ours.
    pub problem: Option<String>,
}

/// Whether pins are alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The program is attached.
    Attached,
    /// The `icmpctl run` that attached it died; it goes on, but follows nothing.
    Orphaned,
    /// Pins are left of a program that is attached no more.
    Stale,
    /// What is pinned is somebody else's, or the interface has gone elsewhere.
    Foreign,
}

impl State {
    /// The word that listings use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::Orphaned => "orphaned",
            Self::Stale => "stale",
            Self::Foreign => "foreign",
        }
    }
}

impl Attachment {
    /// What whoever sees the listing should know besides.
    #[must_use]
    pub fn note(&self) -> Option<String> {
        let name = &self.interface;
        match (self.state, &self.why_generic) {
            (State::Orphaned, _) => Some(format!(
                "{name}: its `icmpctl run` ended without detaching; addresses are not followed. `icmpctl run {name}` takes \
                 over, `icmpctl detach {name}` takes it off"
            )),
            (State::Stale, _) => Some(format!(
                "{name}: pins are left over, nothing is attached. `icmpctl detach {name}` removes them"
            )),
            (State::Foreign, _) => self.problem.as_ref().map(|problem| format!("{name}: {problem}")),
            (State::Attached, Some(why)) => Some(format!("{name}: generic mode, not native: {why}")),
            (State::Attached, None) => None,
        }
    }
}

/// The attachments of the current network namespace, or that of one interface.
pub async fn list(netlink: &Netlink, bpffs: &Path, only: Option<&str>) -> Result<Vec<Attachment>, Error> {
    privileges::check()?;
    let mut attachments = Vec::new();
    for (index, pins) in chosen(netlink, bpffs, only).await? {
        let interface = netlink.by_index(index).await?;
        let record = Files::of(pins.key())?.read();
        let (link, problem) = match pins.open_link(index) {
            Ok(link) => (link, None),
            Err(error @ Error::ForeignPin { .. }) => (None, Some(error.to_string())),
            Err(error) => return Err(error),
        };
        let info = link.map(|link| link.info()).transpose().doing(|| "asking what is attached".to_owned())?;
        let follower = record.as_ref().and_then(|record| record.follower);
        let alive = follower.filter(|pid| is_icmpctl(*pid));
        let state = match (&info, follower.is_some() && alive.is_none()) {
            (None, _) if problem.is_some() => State::Foreign,
            (None, _) => State::Stale,
            (Some(_), true) => State::Orphaned,
            (Some(_), false) => State::Attached,
        };
        let name = interface.as_ref().map(|interface| interface.name.clone());
        attachments.push(Attachment {
            interface: name
                .or_else(|| record.as_ref().map(|record| record.interface.clone()))
                .unwrap_or_else(|| format!("interface {index}")),
            state,
            mode: interface.and_then(|interface| interface.xdp).map(|attached| attached.mode),
            why_generic: record.as_ref().and_then(|record| record.why_generic.clone()),
            program: info.map(|info| info.program),
            since: record.as_ref().map(|record| record.since),
            follower: alive,
            policy: record.and_then(|record| record.policy),
            problem,
        });
    }
    Ok(attachments)
}

/// Removes the pins that an interface left when it went away; false if there are none.
pub async fn forget(netlink: &Netlink, bpffs: &Path, name: &str) -> Result<bool, Error> {
    let mut forgotten = false;
    for (index, pins) in Pins::all(bpffs)? {
        let files = Files::of(pins.key())?;
        let was_called_so = files.read().is_some_and(|record| record.interface == name);
        if was_called_so && netlink.by_index(index).await?.is_none() {
            let _lock = Lock::take(&files.lock, name, "detach")?;
            pins.open_link(index)?;
            pins.has_counters()?;
            pins.remove()?;
            files.remove()?;
            forgotten = true;
        }
    }
    Ok(forgotten)
}

/// Names and pinned counters of the interfaces that have them, or of one.
pub async fn counters(
    netlink: &Netlink,
    bpffs: &Path,
    only: Option<&str>,
) -> Result<Vec<(String, PathBuf)>, Error> {
    privileges::check()?;
    let mut found = Vec::new();
    for (index, pins) in chosen(netlink, bpffs, only).await? {
        if pins.has_counters()? {
            let interface = netlink.by_index(index).await?;
            let name = interface.map_or_else(|| format!("interface {index}"), |interface| interface.name);
            found.push((name, pins.counters()));
        }
    }
    Ok(found)
}

async fn chosen(netlink: &Netlink, bpffs: &Path, only: Option<&str>) -> Result<Vec<(u32, Pins)>, Error> {
    let Some(name) = only else { return Pins::all(bpffs) };
    let interface = netlink.by_name(name).await?;
    let pins = Pins::of(bpffs, interface.index)?;
    if !pins.exist()? {
        return Err(Error::NotAttached { interface: interface.name });
    }
    Ok(vec![(interface.index, pins)])
}

/// Whether a process is there, and is one of us: numbers of processes are used again.
fn is_icmpctl(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == "icmpctl")
}

/// Creates the link, and says why in generic mode if native mode was tried.
fn create_link(
    interface: &Interface,
    program: &mut Program,
    mode: Mode,
) -> Result<(XdpLink, Option<String>), Error> {
    let why = match mode {
        Mode::Generic => None,
        // The veth driver drops such replies without a word (Linux, drivers/net/veth.c: veth_xdp_xmit).
        Mode::Auto if interface.is_veth => Some(
            "it is a veth, whose other end takes replies sent natively only if a native XDP program is attached there, \
             too; if so, choose --mode native"
                .to_owned(),
        ),
        Mode::Auto | Mode::Native => match XdpLink::create(program.fd()?, interface.index, FLAG_NATIVE) {
            Ok(link) => return Ok((link, None)),
            Err(error) if !driver_refuses(&error) => return Err(attach_failed(interface, "native", error)),
            Err(error) => {
                let hint = hint(&error, interface);
                if mode == Mode::Native {
                    return Err(Error::NativeRefused { interface: interface.name.clone(), error, hint });
                }
                Some(hint.map_or_else(|| error.to_string(), |hint| format!("{error}: {hint}")))
            }
        },
    };
    let link = XdpLink::create(program.fd()?, interface.index, FLAG_GENERIC);
    Ok((link.map_err(|error| attach_failed(interface, "generic", error))?, why))
}

/// Whether an error is the driver's word about native mode, and not about who we are or what is attached.
fn driver_refuses(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ERANGE | libc::ENOMEM | libc::ENOSPC)
    )
}

/// What a driver's error mostly means.
fn hint(error: &io::Error, interface: &Interface) -> Option<String> {
    let text = match error.raw_os_error()? {
        libc::EOPNOTSUPP => "its driver has no XDP".to_owned(),
        libc::ERANGE if interface.is_veth => {
            "the MTU of its other end is more than the driver can hand to XDP in one piece".to_owned()
        }
        libc::ERANGE => {
            format!("its MTU of {} is more than the driver can hand to XDP in one piece", interface.mtu)
        }
        libc::EINVAL => format!("its driver has no XDP for its settings; the MTU is {}", interface.mtu),
        libc::ENOMEM | libc::ENOSPC => {
            "its driver has too few queues or too little memory for XDP".to_owned()
        }
        _ => return None,
    };
    Some(text)
}

fn attach_failed(interface: &Interface, mode: &str, error: io::Error) -> Error {
    match error.raw_os_error() {
        Some(libc::EINVAL | libc::ENOSYS) => Error::OldKernel { what: "attach XDP programs by links", error },
        _ => Error::System { what: format!("attaching to {} in {mode} mode", interface.name), error },
    }
}
