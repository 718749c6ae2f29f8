//! Channels: through which packets are captured, while somebody holds them.
//!
//! A channel is settings of the program: who opens one puts the program in its own place with them, and whoever changes anything
//! meanwhile leaves them as they are. It is open as long as its lock is held; what a killed process has left, the next change
//! removes, which is made by his guardian (`cli/tap.rs`). Its ring buffer is pinned for as long.

use std::path::PathBuf;

use icmp_common::{
    Plain as _,
    events::{CAPTURE, CHANNELS, Channel, SAMPLES},
};

use super::{
    attach::Site,
    change::{Change, New},
    error::Error,
    load::Taps,
    lock::Lock,
    pins::Pins,
    record::Files,
    ring::Ring,
};

/// One of the channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// That of `icmpctl capture`.
    Capture,
    /// That of `icmpctl top`.
    Samples,
}

impl Which {
    /// All channels.
    pub const ALL: [Self; CHANNELS] = [Self::Capture, Self::Samples];

    /// Its number.
    #[must_use]
    pub const fn number(self) -> usize {
        match self {
            Self::Capture => CAPTURE,
            Self::Samples => SAMPLES,
        }
    }

    /// The name of its ring buffer in the object file.
    pub(super) const fn map(self) -> &'static str {
        match self {
            Self::Capture => "CAPTURED",
            Self::Samples => "SAMPLED",
        }
    }

    /// The file name of its ring buffer's pin.
    pub(super) const fn pin(self) -> &'static str {
        match self {
            Self::Capture => "captured",
            Self::Samples => "sampled",
        }
    }

    /// Bytes of its ring buffer.
    pub(super) const fn bytes(self) -> u32 {
        match self {
            Self::Capture => 8 << 20,
            Self::Samples => 1 << 20,
        }
    }

    /// Who holds it.
    const fn verb(self) -> &'static str {
        match self {
            Self::Capture => "capture",
            Self::Samples => "top",
        }
    }
}

/// A channel that is open.
pub struct Tap {
    which: Which,
    lock: Lock,
}

impl Change<'_> {
    /// Opens a channel, and the ring buffer of what comes through it. `new` is what is in place already.
    pub fn open_channel(
        &mut self,
        which: Which,
        channel: Channel,
        new: &New<'_>,
    ) -> Result<(Tap, Ring), Error> {
        let name = &self.site.interface.name;
        let lock = Lock::take(self.site.files.channel(which), name, which.verb())?;
        // What a killed process has left is another one's.
        self.site.pins.remove_channel(which)?;
        let (words, _) = Channel::bytes(std::slice::from_ref(&channel)).as_chunks();
        let settings = words.iter().map(|word| u64::from_ne_bytes(*word)).collect();
        self.amend(|record| record.channels[which.number()] = Some(settings))?;
        self.swap(new)?;
        let ring = Ring::open(&self.site.pins.channel(which), true)?;
        Ok((Tap { which, lock }, ring))
    }

    /// Refuses to go on if somebody holds a channel.
    pub fn refuse_held(&self, which: Which) -> Result<(), Error> {
        let Site { interface, files, .. } = &*self.site;
        Lock::take(files.channel(which), &interface.name, which.verb()).map(drop)
    }

    /// Closes a channel. `new` is what is in place already.
    pub fn close_channel(&mut self, tap: Tap, new: &New<'_>) -> Result<(), Error> {
        let Tap { which, lock } = tap;
        self.amend(|record| record.channels[which.number()] = None)?;
        drop(lock);
        self.swap(new).map(|_| ())
    }

    /// Closes channels that nobody holds any more. `new` is what is in place already.
    pub fn close_stale_channels(&mut self, new: &New<'_>) -> Result<(), Error> {
        let is_stale = |which: &Which| !Lock::is_held(self.site.files.channel(*which));
        let stale: Vec<_> = Which::ALL.into_iter().filter(is_stale).collect();
        self.amend(|record| stale.iter().for_each(|which| record.channels[which.number()] = None))?;
        self.swap(new).map(|_| ())
    }

    /// Whether the program that runs has a channel that nobody holds any more.
    #[must_use]
    pub fn has_stale_channel(&self) -> bool {
        let Some(record) = self.site.files.read() else { return false };
        Which::ALL.into_iter().any(|which| {
            record.channels[which.number()].is_some() && !Lock::is_held(self.site.files.channel(which))
        })
    }

    /// Whether anybody holds a channel.
    #[must_use]
    pub fn is_open(&self, which: Which) -> bool {
        Lock::is_held(self.site.files.channel(which))
    }

    /// Looks on at what comes through a channel that somebody else holds.
    pub fn look_on(&self, which: Which) -> Result<Ring, Error> {
        Ring::open(&self.site.pins.channel(which), false)
    }

    /// Removes the locks that killed processes have left.
    pub(super) fn remove_stale_locks(&self) -> Result<(), Error> {
        Which::ALL.into_iter().try_for_each(|which| Lock::remove_stale(self.site.files.channel(which)))
    }
}

/// The channels that the next program has: those that are held.
pub(super) fn held(files: &Files, pins: &Pins) -> Taps {
    let mut taps = Taps { channels: [Channel::OFF; CHANNELS], rings: Vec::new() };
    let Some(record) = files.read() else { return taps };
    for which in Which::ALL {
        let settings =
            record.channels[which.number()].as_deref().and_then(|words| Channel::at(words, 0).copied());
        if let Some(settings) = settings.filter(|_| Lock::is_held(files.channel(which))) {
            taps.channels[which.number()] = settings;
            let pin: PathBuf = pins.channel(which);
            let pin = pin.exists().then_some(pin);
            taps.rings.push((which, pin));
        }
    }
    taps
}
