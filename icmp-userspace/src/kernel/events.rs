//! The events of an interface: its ring buffer, who consumes it, and which program tells them.
//!
//! One process at a time consumes events, so that there is room for others: the one that holds the lock. Who comes while another one
//! does looks on, and takes over when that one has ended.

use std::path::{Path, PathBuf};

use aya::maps::MapInfo;
use icmp_common::{Plain as _, events::Event};

use super::{
    attach::Site,
    error::{Doing as _, Error},
    listing::{self, Found},
    load::EVENTS,
    lock::Lock,
    pins::Pins,
    record::Files,
    ring::{self, Ring, step},
    state::Generation,
};

/// Events, as they are read.
pub struct Events {
    interface: String,
    index: u32,
    pins: Pins,
    files: Files,
    ring: Ring,
    /// The map's id.
    map: u32,
    /// If nobody else consumes.
    lock: Option<Lock>,
    record: Vec<u8>,
}

/// Where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// With the oldest event that the ring buffer still has.
    Oldest,
    /// With the first one that nobody has consumed.
    Unread,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// An event.
    Event(Event),
    /// So many events were overwritten before they were read.
    Missed(u64),
    /// Nothing yet.
    Nothing,
}

/// What tells events now.
pub struct Source {
    /// The program that is attached, if one is.
    pub program: Option<u32>,
    /// What belongs to it; `None` if nothing is known of it.
    pub generation: Result<Option<Generation>, Error>,
}

impl Events {
    /// Opens those of an interface that our program is attached to.
    pub fn open(site: &Site, begin: Begin) -> Result<Self, Error> {
        let Site { interface, pins, files, .. } = site;
        let pin = pin_of(pins)?;
        let mut ring = Ring::open(&pin, false)?;
        if begin == Begin::Oldest {
            ring.look_back(size_of::<Event>());
        }
        Ok(Self {
            interface: interface.name.clone(),
            index: interface.index,
            pins: pins.clone(),
            files: files.clone(),
            ring,
            map: map_id(&pin)?,
            lock: None,
            record: Vec::new(),
        })
    }

    /// The next event. Where there is none, all that have been asked for are consumed, unless somebody else sees to that.
    pub fn read(&mut self) -> Result<Next, Error> {
        loop {
            match self.ring.next(&mut self.record) {
                // What is none can't have been told by a program of ours.
                ring::Next::Record => {
                    let event = Event::from_bytes(&self.record);
                    return Ok(event.map_or(Next::Missed(1), Next::Event));
                }
                ring::Next::Missed(bytes) => return Ok(Next::Missed(bytes / step(size_of::<Event>()))),
                ring::Next::Nothing if self.lock.is_some() => {
                    self.ring.consume()?;
                    return Ok(Next::Nothing);
                }
                ring::Next::Nothing => match Lock::take(&self.files.events, &self.interface, "events") {
                    // What its last holder has left to read comes first.
                    Ok(lock) => self.lock = Some(lock),
                    Err(Error::Locked { .. }) => return Ok(Next::Nothing),
                    Err(error) => return Err(error),
                },
            }
        }
    }

    /// The program that is attached, if one of ours is.
    pub fn attached(&self) -> Result<Option<u32>, Error> {
        listing::attached(&self.pins, self.index)
    }

    /// What tells events now. Where the ring buffer is another one, reading goes on with that.
    pub fn source(&mut self) -> Result<Source, Error> {
        let Found { program, generation, .. } = listing::find(&self.pins, self.index)?;
        if program.is_some() {
            let pin = pin_of(&self.pins)?;
            let map = map_id(&pin)?;
            if map != self.map {
                self.ring = Ring::open(&pin, false)?;
                self.map = map;
            }
        }
        Ok(Source { program, generation })
    }

    /// Where is pinned what has become of all events.
    #[must_use]
    pub fn telling(&self) -> Option<PathBuf> {
        self.pins.map("TELLING")
    }

    /// The interface's number.
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.index
    }
}

fn pin_of(pins: &Pins) -> Result<PathBuf, Error> {
    pins.map(EVENTS).ok_or_else(|| Error::Load(format!("no map {EVENTS} is kept")))
}

fn map_id(pin: &Path) -> Result<u32, Error> {
    let info = MapInfo::from_pin(pin).map_err(std::io::Error::other);
    Ok(info.doing(|| format!("opening the ring buffer {}", pin.display()))?.id())
}
