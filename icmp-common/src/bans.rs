//! The layout of bans: sources that were over a limit for so long that they are in the dynamic set `banned` by themselves.
//!
//! A table of fixed size, pinned, beside the maps of dynamic sets, which only user space writes. A line of it holds eight bans: their
//! cells, a tag and the time until which each holds, one cache line that tells of most sources that they are not banned; and behind
//! them who is banned, and why. A ban that has ended leaves its cell to the next one, so nobody has to tidy up. Where all cells of
//! a line are taken there is no further ban: the limit goes on for whom it would have been.

use core::cell::Cell;

use crate::{
    Family,
    bucket::{CELLS, Line},
    dynamic::Until,
};

/// Lines of the table.
pub const BAN_LINES: u32 = 1 << 10;
/// Most bans at once.
pub const BANS: u32 = BAN_LINES * CELLS as u32;

/// Most pairs of prefix lengths, for IPv4 and for IPv6, by which a policy bans.
pub const MAX_BAN_LENGTHS: usize = 4;

/// Prefixes of which lengths are banned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct BanLengths {
    /// The bits of an IPv6 address, in memory order.
    pub mask6: [u64; 2],
    /// The bits of an IPv4 address, in memory order.
    pub mask4: u32,
    /// Bits that are set in `mask4`; 0: nobody is banned.
    pub length4: u8,
    /// Bits that are set in `mask6`.
    pub length6: u8,
    /// Zeros.
    pub reserved: [u8; 2],
}

impl BanLengths {
    /// Nobody is banned.
    pub const NONE: Self = Self { mask6: [0; 2], mask4: 0, length4: 0, length6: 0, reserved: [0; 2] };
}

/// A source prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Source {
    /// Its first address in memory order; one of IPv4 in the lower half of the first word.
    pub address: [u64; 2],
    /// Its length.
    pub length: u8,
    /// Its [`Family`] as its number.
    pub family: u8,
    /// Zeros.
    pub reserved: [u8; 6],
}

impl Source {
    /// A prefix of a family.
    #[inline(always)]
    #[must_use]
    pub const fn new(family: Family, address: [u64; 2], length: u8) -> Self {
        Self { address, length, family: family as u8, reserved: [0; 6] }
    }

    /// What makes hashes of prefixes of this length and family others than those of others, and of buckets.
    #[inline(always)]
    #[must_use]
    pub const fn seed(&self) -> u64 {
        1 << 63 | (self.family as u64) << 8 | self.length as u64
    }
}

/// Who is banned, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Banned {
    /// Who.
    pub source: Source,
    /// Since when he had been over the rate, as [`Until`].
    pub since: u32,
    /// The slot, among those of rules, that counts what is over the rate.
    pub over_slot: u32,
}

impl Banned {
    /// Nobody.
    pub const NOBODY: Self =
        Self { source: Source::new(Family::Ipv4, [0; 2], 0), since: 0, over_slot: Self::NO_SLOT };
    /// In the place of a slot that means something else now.
    pub const NO_SLOT: u32 = u32::MAX;
}

/// A line of bans as it lies in the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct BanLine {
    /// The cells.
    pub cells: [u64; CELLS],
    /// Who is banned in each.
    pub banned: [Banned; CELLS],
}

const _: () = assert!(size_of::<BanLengths>() == 24);
const _: () = assert!(size_of::<Banned>() == 32);
const _: () = assert!(size_of::<BanLine>() == 320);

/// Until when the ban in a cell holds.
#[inline(always)]
#[must_use]
pub const fn until(cell: u64) -> Until {
    Until(cell as u32)
}

#[inline(always)]
const fn cell(tag: u32, until: Until) -> u64 {
    (tag as u64) << 32 | until.0 as u64
}

/// A line of bans, which several CPUs may use at once.
pub trait Bans {
    /// Its cells.
    fn cells(&self) -> &impl Line;
    /// Who is banned in a cell.
    fn banned(&self, cell: usize) -> Banned;
    /// Puts somebody into a cell that is claimed.
    fn put(&self, cell: usize, banned: Banned);
}

/// A line of bans of one thread alone, in the memory of a host.
pub struct HostLine<L> {
    cells: L,
    banned: [Cell<Banned>; CELLS],
}

impl<L: Default> Default for HostLine<L> {
    fn default() -> Self {
        Self { cells: L::default(), banned: [const { Cell::new(Banned::NOBODY) }; CELLS] }
    }
}

impl<L: Line> Bans for HostLine<L> {
    fn cells(&self) -> &impl Line {
        &self.cells
    }

    fn banned(&self, cell: usize) -> Banned {
        self.banned[cell].get()
    }

    fn put(&self, cell: usize, banned: Banned) {
        self.banned[cell].set(banned);
    }
}

/// Whether a source is banned. Its tag finds it, and then it is compared: nobody is banned in the place of another one.
#[inline(always)]
#[must_use]
pub fn is_banned<B: Bans>(line: &B, tag: u32, source: &Source, now: Until) -> bool {
    for place in 0..CELLS {
        let cell = line.cells().load(place);
        if cell >> 32 == tag as u64 && until(cell).is_after(now) && line.banned(place).source == *source {
            return true;
        }
    }
    false
}

/// For how long a cell stays claimed, in sixteenths of a second: whoever claims it is done in a fraction of that.
const CLAIM: u32 = 2;

/// Bans a source, or bans it for longer; false if there is no room.
#[inline(always)]
pub fn ban<B: Bans>(line: &B, tag: u32, banned: Banned, end: Until, now: Until) -> bool {
    let cells = line.cells();
    for place in 0..CELLS {
        let found = cells.load(place);
        if found >> 32 == tag as u64
            && until(found).is_after(now)
            && line.banned(place).source == banned.source
        {
            return end.0 <= until(found).0 || cells.exchange(place, found, cell(tag, end));
        }
    }
    for place in 0..CELLS {
        let found = cells.load(place);
        let is_free = until(found).0 == 0 || until(found).0.saturating_add(CLAIM) <= now.0;
        // Ending at this moment, it is a ban to nobody, and free to nobody.
        let claim = cell(tag, now);
        if is_free && cells.exchange(place, found, claim) {
            line.put(place, banned);
            return cells.exchange(place, claim, cell(tag, end));
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

    type HostLine = super::HostLine<[AtomicU64; CELLS]>;

    impl HostLine {
        fn bans(&self, tag: u32, source: Source, end: u32, now: u32) -> bool {
            let banned = Banned { source, since: 1, over_slot: 2 };
            ban(self, tag, banned, Until(end), Until(now))
        }

        fn is_banned(&self, tag: u32, source: Source, now: u32) -> bool {
            is_banned(self, tag, &source, Until(now))
        }
    }

    fn host(number: u64) -> Source {
        Source::new(Family::Ipv4, [number, 0], 32)
    }

    #[test]
    fn a_ban_holds_for_one_source_and_ends() {
        let line = HostLine::default();
        assert!(line.bans(7, host(1), 200, 100));
        assert!(line.is_banned(7, host(1), 100) && line.is_banned(7, host(1), 199));
        assert!(!line.is_banned(7, host(1), 200));
        // Not for others of the same tag, the same address in another family, or another prefix.
        assert!(!line.is_banned(7, host(2), 100));
        assert!(!line.is_banned(7, Source::new(Family::Ipv6, [1, 0], 32), 100));
        assert!(!line.is_banned(7, Source::new(Family::Ipv4, [1, 0], 24), 100));
    }

    #[test]
    fn it_becomes_longer_and_never_shorter() {
        let line = HostLine::default();
        for (end, now) in [(200, 100), (300, 150), (250, 160)] {
            assert!(line.bans(7, host(1), end, now));
        }
        assert!(line.is_banned(7, host(1), 299) && !line.is_banned(7, host(1), 300));
        assert_eq!(line.banned.iter().filter(|banned| banned.get().source == host(1)).count(), 1);
    }

    #[test]
    fn there_is_room_for_eight_and_again_when_they_have_ended() {
        let line = HostLine::default();
        for number in 1..=8 {
            assert!(line.bans(number, host(number.into()), 200 + number, 100));
        }
        assert!(!line.bans(9, host(9), 300, 100) && !line.is_banned(9, host(9), 100));
        assert!((1..=8).all(|number| line.is_banned(number, host(number.into()), 150)));
        // The first of them has ended.
        assert!(!line.bans(9, host(9), 300, 201 + CLAIM - 1));
        assert!(line.bans(9, host(9), 300, 201 + CLAIM));
        assert!(!line.bans(10, host(10), 300, 201 + CLAIM));
        assert!(line.is_banned(8, host(8), 207) && line.is_banned(9, host(9), 207));
    }

    #[test]
    fn what_somebody_else_claims_is_left_alone() {
        let line = HostLine::default();
        for cell in &line.cells {
            cell.store(super::cell(5, Until(100)), Relaxed);
        }
        assert!(!line.bans(7, host(1), 200, 100) && !line.bans(7, host(1), 200, 101));
        assert!(line.bans(7, host(1), 200, 100 + CLAIM));
    }
}
