//! The layout of limits: what a rate counts, and by what.
//!
//! The buckets lie in a table of lines ([`crate::bucket`]), a power of two of them, which outlives the program. One more line holds
//! the secret by which keys are hashed. The rates are a table among those of the policy: the rates of one limit stand one after the
//! other.
//!
//! What all packets of a rule share, or all packets to one destination, is taken out of the bucket for more than one packet at a
//! time, and kept in a purse of the CPU: so one bucket that all CPUs use is not one cache line that all CPUs write to. A purse that
//! is needed for another bucket is emptied into its own first.

use crate::{
    Plain,
    bucket::{CELLS, TICK},
};

/// Cells of the smallest and of the largest table of buckets.
pub const FEWEST_BUCKETS: u32 = 1 << 10;
/// As above.
pub const MOST_BUCKETS: u32 = 1 << 24;

/// Lines of a table with so many buckets, without the one that holds the secret.
#[must_use]
pub const fn bucket_lines(buckets: u32) -> u32 {
    buckets / CELLS as u32
}

/// Most rates of one limit.
pub const MAX_RATES: u32 = 4;

/// Purses of one CPU.
pub const PURSES: usize = 256;

/// What one CPU has taken out of buckets and not used yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Purses {
    /// The purses, by the lower bits of the line's hash.
    pub purses: [Purse; PURSES],
}

/// What one CPU has taken out of one bucket and not used yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Purse {
    /// The hash of the bucket's line.
    pub line: u32,
    /// Its tag; 0: nobody's.
    pub tag: u32,
    /// Ticks.
    pub credit: u64,
}

/// One rate of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Rate {
    /// Ticks from an empty bucket to a full one.
    pub span: u64,
    /// Ticks that bring one packet, or 1,024 bytes.
    pub cost: u64,
    /// Ticks that are taken at once, for a purse; 0: none is used.
    pub quantum: u64,
    /// What makes its buckets others than those of other rates.
    pub seed: u64,
    /// The bits of an IPv6 address, in memory order, by which it counts; none: all share one bucket.
    pub mask6: [u64; 2],
    /// The same for an IPv4 address.
    pub mask4: u32,
    /// The slot, among those of rules, that counts what is over.
    pub over_slot: u32,
    /// [`Rate::LAST`] and so on.
    pub flags: u16,
    /// Bits that are set in `mask4`.
    pub length4: u8,
    /// Bits that are set in `mask6`.
    pub length6: u8,
    /// A [`Penalty`] as its number; 0: nobody is banned.
    pub ban: u32,
}

/// For how long who is over a rate is banned, and after what time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Penalty {
    /// Seconds.
    pub seconds: u32,
    /// Seconds that he has to be over it.
    pub after: u32,
}

impl Penalty {
    /// Most seconds: a week.
    pub const MOST: u32 = 7 * 86_400;
    /// Most seconds after which: an hour.
    pub const MOST_AFTER: u32 = 3_600;
    const BITS: u32 = 20;

    /// As a number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.after << Self::BITS | self.seconds
    }

    /// What a number stands for.
    #[inline(always)]
    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        Self { seconds: number & ((1 << Self::BITS) - 1), after: number >> Self::BITS }
    }

    /// Ticks that he has to be over it.
    #[inline(always)]
    #[must_use]
    pub const fn after_ticks(self) -> u64 {
        self.after as u64 * SECOND
    }

    /// Ticks without a packet over the rate that end the time for which he has been over it.
    #[inline(always)]
    #[must_use]
    pub const fn pause(self) -> u64 {
        let after = self.after_ticks();
        if after < PAUSE { after } else { PAUSE }
    }
}

/// Ticks without a packet over a rate after which nobody is over it any longer: five seconds.
pub const PAUSE: u64 = 5 * SECOND;
/// Ticks of a second.
const SECOND: u64 = 1_000_000_000 / TICK;
const _: () =
    assert!(Penalty::MOST >> Penalty::BITS == 0 && Penalty::MOST_AFTER >> (32 - Penalty::BITS) == 0);

impl Rate {
    /// It is the last one of its limit.
    pub const LAST: u16 = 1 << 0;
    /// It counts by the destination, not by the source.
    pub const DESTINATION: u16 = 1 << 1;
    /// It counts bytes of IP packets, not packets.
    pub const BYTES: u16 = 1 << 2;
    /// What is over goes on as if it were not, once it is counted.
    pub const PASS: u16 = 1 << 3;
    /// Now half, now one and a half of the cost is taken, so that nobody learns from it how many others have asked.
    pub const RANDOM: u16 = 1 << 4;
    /// That somebody is over it is told.
    pub const LOG: u16 = 1 << 5;

    /// Ticks that bring a packet of this length.
    #[inline(always)]
    #[must_use]
    pub const fn cost_of(&self, length: usize) -> u64 {
        if self.is(Self::BYTES) {
            self.cost.wrapping_mul(length as u64).wrapping_add(512) >> 10
        } else {
            self.cost
        }
    }

    /// Whether a flag is set.
    #[inline(always)]
    #[must_use]
    pub const fn is(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

/// The most that is taken by a rate with [`Rate::RANDOM`] where the cost is this: so much has to fit into its buckets, and to be there.
#[inline(always)]
#[must_use]
pub const fn most_of_random(cost: u64) -> u64 {
    cost + cost / 2
}

// SAFETY: integers and an array of integers; the assertion below leaves no room for padding.
unsafe impl Plain for Rate {}

const _: () = assert!(size_of::<Rate>() == 64);
const _: () = assert!(size_of::<Purses>() == 4096);
