//! Attaching and detaching the program on an interface.
//!
//! An attachment is a pinned link, maps pinned beside it, a record, and a generation of state. The link is pinned last:
//! whatever ends the process before leaves nothing attached.

use std::{io, path::PathBuf};

use aya::programs::loaded_programs;

use super::{
    bpf::XdpLink,
    change::{Change, New},
    error::{Doing as _, Error},
    interface::{Interface, Netlink, RunningMode},
    load::{Program, Taps},
    lock::Lock,
    pins::Pins,
    privileges,
    record::{Files, Record},
    state::State,
};
use crate::policy::slots::Slots;

/// Where pins and state are kept.
#[derive(Clone, Debug)]
pub struct Places {
    /// The BPF file system for pins.
    pub bpffs: PathBuf,
    /// The directory for what pins can't hold.
    pub state: PathBuf,
}

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
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Where the program shall run.
    pub mode: Mode,
    /// Whether somebody else's program may be replaced.
    pub force: bool,
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

/// An interface that this process works on; what it changes there it changes through a [`Change`].
pub struct Site {
    /// The interface.
    pub interface: Interface,
    pub(super) pins: Pins,
    pub(super) files: Files,
    pub(super) state: State,
    /// The link, once a program of ours is attached: it is ours wherever the interface goes.
    pub(super) link: Option<XdpLink>,
    /// Held by whoever attaches, detaches, or stays.
    _lock: Option<Lock>,
}

impl Site {
    /// An interface to attach to or to detach from; nobody else does either until it is dropped. `verb` is what whoever tries is
    /// told about us.
    pub async fn lock(netlink: &Netlink, name: &str, places: &Places, verb: &str) -> Result<Self, Error> {
        privileges::check()?;
        let interface = netlink.by_name(name).await?;
        let pins = Pins::of(&places.bpffs, interface.index)?;
        let files = Files::of(pins.key())?;
        let lock = Lock::take(&files.lock, name, verb)?;
        Self::at(interface, pins, files, places, Some(lock))
    }

    /// An interface that our program is attached to.
    pub async fn open(netlink: &Netlink, name: &str, places: &Places) -> Result<Self, Error> {
        privileges::check()?;
        let interface = netlink.by_name(name).await?;
        let pins = Pins::of(&places.bpffs, interface.index)?;
        let files = Files::of(pins.key())?;
        let site = Self::at(interface, pins, files, places, None)?;
        if site.link.is_some() { Ok(site) } else { Err(site.not_attached()) }
    }

    fn at(
        interface: Interface,
        pins: Pins,
        files: Files,
        places: &Places,
        lock: Option<Lock>,
    ) -> Result<Self, Error> {
        let link = pins.open_link(interface.index)?;
        // What is attached stays with the state that it was attached with, whatever its interface is called now.
        let recorded = if link.is_some() { files.read() } else { None };
        let state = match recorded {
            Some(record) => State::at(record.state),
            None => State::of(&places.state, &interface.name)?,
        };
        Ok(Self { interface, pins, files, state, link, _lock: lock })
    }

    /// Begins a change, once all others are done. `verb` is what whoever waits in vain is told about us.
    pub async fn change(&mut self, verb: &str) -> Result<Change<'_>, Error> {
        let lock = Lock::wait(&self.files.change, &self.interface.name, verb).await?;
        Ok(Change::new(self, lock))
    }

    /// The program that is attached, if one of ours is.
    pub fn attached(&self) -> Result<Option<u32>, Error> {
        let Some(link) = &self.link else { return Ok(None) };
        let info = link.info().doing(|| format!("asking what is attached to {}", self.interface.name))?;
        Ok((info.interface != 0).then_some(info.program))
    }

    /// What is recorded of the attachment.
    #[must_use]
    pub fn record(&self) -> Option<Record> {
        self.files.read()
    }

    /// The state of the attachment.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Where a map that outlives programs is pinned; `None` if there is none of this name.
    #[must_use]
    pub fn map_pin(&self, name: &str) -> Option<PathBuf> {
        self.pins.map(name)
    }

    pub(super) fn not_attached(&self) -> Error {
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

impl Change<'_> {
    /// Loads a program and attaches it. If one of ours is attached already it is replaced atomically, and what has been counted
    /// stays.
    pub async fn attach(
        &mut self,
        netlink: &Netlink,
        new: &New<'_>,
        options: &Options,
    ) -> Result<Outcome, Error> {
        let replaced = self.site.attached()?;
        match replaced {
            None => {
                self.site.link = None;
                self.site.make_way(netlink, options.force).await?;
            }
            Some(_) if !self.site.runs_as(options.mode) => {
                return Err(Error::OtherMode { interface: self.site.interface.name.clone() });
            }
            Some(_) => self.refuse_pending()?,
        }
        // Telling about somebody else's program, and detaching it, took more.
        privileges::drop_others(options.follows)?;
        let program = match replaced {
            Some(_) => {
                let program = self.swap(new)?;
                let why_generic = self.site.files.read().and_then(|record| record.why_generic);
                self.record(why_generic, options)?;
                program
            }
            None => self.attach_anew(new, options)?,
        };
        let index = self.site.interface.index;
        let attached = netlink.by_index(index).await?.and_then(|interface| interface.xdp);
        let mode = attached.map_or(RunningMode::Native, |attached| attached.mode);
        let why_generic = self.site.files.read().and_then(|record| record.why_generic);
        Ok(Outcome { program, mode, why_generic, replaced })
    }

    /// Attaches where nothing of ours is attached; what fails leaves nothing behind.
    fn attach_anew(&mut self, new: &New<'_>, options: &Options) -> Result<u32, Error> {
        if !self.site.pins.kept()?.is_empty() || self.site.pins.exist()? {
            // Left over from a program that is attached no more; what it counted does not count for this one.
            self.site.pins.remove()?;
        }
        let mut program =
            Program::load(new.object, new.tables, &[], None, &Taps::NONE, &self.site.files.verifier_log)?;
        let id = program.id()?;
        let attached = self.link_anew(&mut program, id, new, options);
        match attached {
            Ok(link) => {
                self.site.link = Some(link);
                Ok(id)
            }
            Err(error) => {
                // The first error is the one that tells what happened.
                let _ = self.site.pins.remove();
                let _ = self.site.files.remove();
                self.site.state.discard(id);
                Err(error)
            }
        }
    }

    fn link_anew(
        &self,
        program: &mut Program,
        id: u32,
        new: &New<'_>,
        options: &Options,
    ) -> Result<XdpLink, Error> {
        let Site { interface, pins, state, .. } = &*self.site;
        pins.pin_all(program)?;
        state.write(id, new.generation, new.snapshot)?;
        self.enforce_sets(&new.generation.slots, &Slots::default())?;
        let (link, why_generic) = create_link(interface, program, options.mode)?;
        self.record(why_generic, options)?;
        link.pin(&pins.link()).doing(|| format!("pinning {}", pins.link().display()))?;
        self.settle(id, None)?;
        Ok(link)
    }

    fn record(&self, why_generic: Option<String>, options: &Options) -> Result<(), Error> {
        let follower = options.follows.then(std::process::id);
        let Site { interface, files, state, .. } = &*self.site;
        // Channels that are open stay so.
        let channels = files.read().map(|record| record.channels).unwrap_or_default();
        let new = Record::new(&interface.name, state.directory());
        files.write(&Record { why_generic, follower, channels, ..new })
    }

    /// Detaches our program and removes its pins; also what a killed process left of them. Nothing is touched unless
    /// all of it is ours. The last good policy stays in the state directory, and the entries of dynamic sets.
    pub fn detach(&mut self) -> Result<(), Error> {
        privileges::drop_others(false)?;
        self.remove_stale_locks()?;
        let Site { interface, pins, files, state, link, .. } = &mut *self.site;
        if link.is_none() && !pins.exist()? {
            return Err(Error::NotAttached { interface: interface.name.clone() });
        }
        pins.kept()?;
        // An interface that is gone has taken its link along.
        if let Some(link) = link.take().filter(|link| link.info().is_ok_and(|info| info.interface != 0)) {
            link.detach().doing(|| format!("detaching from {}", interface.name))?;
        }
        pins.remove()?;
        files.remove()?;
        state.remove_others(&[])
    }
}

/// The name that a program was loaded with, if the kernel tells.
pub(super) fn program_name(id: u32) -> Option<String> {
    let program = loaded_programs().filter_map(Result::ok).find(|program| program.id() == id)?;
    program.name_as_str().map(str::to_owned)
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
        libc::ERANGE => format!(
            "frames of its MTU of {} take several buffers, which its driver can't give to XDP; about 3,500 bytes fit one",
            interface.mtu
        ),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// C2: where the driver can't give jumbo frames to XDP, the error says so, and what would fit.
    #[test]
    fn c02_refusals_are_explained() {
        let interface = Interface {
            index: 2,
            name: "eth0".to_owned(),
            mac: [2; 6],
            mtu: 9000,
            is_veth: false,
            xdp: None,
        };
        let hint = |number| hint(&io::Error::from_raw_os_error(number), &interface);
        let jumbo = hint(libc::ERANGE).unwrap();
        assert!(jumbo.contains("MTU of 9000 take several buffers") && jumbo.contains("3,500"), "{jumbo}");
        assert_eq!(hint(libc::EOPNOTSUPP).unwrap(), "its driver has no XDP");
        assert_eq!(hint(libc::EPERM), None);
        for number in [libc::ERANGE, libc::EOPNOTSUPP, libc::EINVAL, libc::ENOMEM, libc::ENOSPC] {
            assert!(driver_refuses(&io::Error::from_raw_os_error(number)));
        }
        assert!(!driver_refuses(&io::Error::from_raw_os_error(libc::EPERM)));
    }
}
