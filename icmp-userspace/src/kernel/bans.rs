//! Bans as they lie in their map: reading them, lifting them. Only the kernel half makes any; [`icmp_common::bans`] has the layout.
//!
//! A line is read, changed and written back. Whoever is banned in the same line in that moment is not, and will be with the next
//! packet that is over the limit.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, Ipv6Addr},
    path::Path,
};

use aya::{
    Pod,
    maps::{Array, Map, MapData, MapError},
};
use icmp_common::{
    Family,
    bans::{BanLine, Banned, Source, until},
    dynamic::Until,
};

use super::{
    error::{Doing as _, Error},
    pins::Pins,
    sets::Now,
};
use crate::policy::prefix::Prefix;

/// The name of the map in the object file.
pub(super) const BANS: &str = "BANS";

/// A source that is banned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ban {
    /// Who.
    pub prefix: Prefix,
    /// Since when it had been over the rate: milliseconds since 1970.
    pub since: u64,
    /// Until when it is banned, in the same way.
    pub until: u64,
    /// The slot that counts what is over the rate; none if its rule has left the policy.
    pub over_slot: Option<u32>,
}

/// A line as it lies in the map.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Value(pub(super) BanLine);

// SAFETY: integers and arrays of integers, without padding: any bytes are a value.
unsafe impl Pod for Value {}

type Lines = Array<MapData, Value>;

/// All bans that hold.
pub(super) fn read(pins: &Pins, now: Now) -> Result<Vec<Ban>, Error> {
    let mut bans = BTreeMap::new();
    each_line(pins, |line, _| {
        let held = line.cells.iter().zip(&line.banned).filter(|(cell, _)| holds(**cell, now));
        for (cell, banned) in held {
            let (Some(prefix), until) = (prefix(&banned.source), now.wall_of(until(*cell))) else { continue };
            let over_slot = (banned.over_slot != Banned::NO_SLOT).then_some(banned.over_slot);
            let ban = Ban { prefix, since: now.wall_of(Until(banned.since)), until, over_slot };
            // Two CPUs may have banned it at once.
            let longest = bans.entry(prefix).or_insert(ban);
            longest.until = longest.until.max(until);
        }
        Ok(())
    })?;
    Ok(bans.into_values().collect())
}

/// Lifts bans.
pub(super) fn lift(pins: &Pins, which: impl Fn(Prefix) -> bool) -> Result<(), Error> {
    amend(pins, |cell, banned| {
        if prefix(&banned.source).is_some_and(&which) {
            *cell = 0;
        }
    })
}

/// Forgets reasons that have left the policy, before their slots mean something else.
pub(super) fn forget_reasons(pins: &Pins, is_known: impl Fn(u32) -> bool) -> Result<(), Error> {
    amend(pins, |_, banned| {
        if !is_known(banned.over_slot) {
            banned.over_slot = Banned::NO_SLOT;
        }
    })
}

fn holds(cell: u64, now: Now) -> bool {
    until(cell).is_after(Until::from_nanoseconds(now.monotonic))
}

fn prefix(source: &Source) -> Option<Prefix> {
    let mut octets = [0; 16];
    for (part, word) in octets.chunks_mut(8).zip(source.address) {
        part.copy_from_slice(&word.to_ne_bytes());
    }
    let address = match source.family {
        family if family == Family::Ipv4 as u8 => Ipv4Addr::from(*octets.first_chunk()?).into(),
        family if family == Family::Ipv6 as u8 => Ipv6Addr::from(octets).into(),
        _ => return None,
    };
    Some(Prefix::containing(address, source.length))
}

/// Changes cells that are in use.
fn amend(pins: &Pins, mut change: impl FnMut(&mut u64, &mut Banned)) -> Result<(), Error> {
    each_line(pins, |line, write| {
        let before = *line;
        let cells = line.cells.iter_mut().zip(&mut line.banned);
        cells.filter(|(cell, _)| **cell != 0).for_each(|(cell, banned)| change(cell, banned));
        if *line == before { Ok(()) } else { write(*line) }
    })
}

/// Hands each line to a function, with what writes it back.
fn each_line(
    pins: &Pins,
    mut function: impl FnMut(
        &mut BanLine,
        &mut dyn FnMut(BanLine) -> Result<(), MapError>,
    ) -> Result<(), MapError>,
) -> Result<(), Error> {
    let Some(pin) = pins.map(BANS) else { return Ok(()) };
    let mut all = || -> Result<(), MapError> {
        let mut map = Lines::try_from(Map::Array(MapData::from_pin(&pin)?))?;
        for number in 0..map.len() {
            let Value(mut line) = map.get(&number, 0)?;
            function(&mut line, &mut |line| map.set(number, Value(line), 0))?;
        }
        Ok(())
    };
    all()
        .map_err(|error| io::Error::other(error.to_string()))
        .doing(|| format!("looking into the bans in {}", pin.display()))
}

/// What a pinned map holds.
pub(super) fn lines(pin: &Path) -> Result<Vec<Value>, MapError> {
    Lines::try_from(Map::Array(MapData::from_pin(pin)?))?.iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_prefixes() {
        let v4 = Source::new(Family::Ipv4, [u32::from_ne_bytes([192, 0, 2, 0]).into(), 0], 24);
        assert_eq!(prefix(&v4), Some("192.0.2.0/24".parse().unwrap()));
        let high = u64::from_ne_bytes([0x20, 1, 0xd, 0xb8, 0, 1, 0, 2]);
        let v6 = Source::new(Family::Ipv6, [high, 0], 64);
        assert_eq!(prefix(&v6), Some("2001:db8:1:2::/64".parse().unwrap()));
        assert_eq!(prefix(&Source { family: 7, ..v6 }), None);
    }
}
