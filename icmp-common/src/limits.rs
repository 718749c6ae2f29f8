//! The layout of limits: what a rate counts, and by what.
//!
//! The buckets lie in a table of lines ([`crate::bucket`]), a power of two of them, which outlives the program. One more line holds
//! the secret by which keys are hashed. The rates are a table among those of the policy: the rates of one limit stand one after the
//! other.
//!
//! Where much is allowed at once, tokens are taken out of a bucket several at a time and kept in a purse of the CPU: so one bucket
//! that all CPUs use is not one cache line that all CPUs write to, and what a token costs need not be a whole number of ticks.

use crate::{Plain, bucket::CELLS};

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

/// The purses of one CPU: whose tokens they are, [`crate::bucket::Place::tag`] mixed with its line, in the upper half, and how many in the lower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Purses {
    /// The purses, by the lower bits of what stands in their upper half.
    pub purses: [u64; PURSES],
}

/// One rate of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Rate {
    /// Ticks from an empty bucket to a full one.
    pub span: u64,
    /// Ticks that bring `quantum` tokens.
    pub cost: u64,
    /// What makes its buckets others than those of other rates.
    pub seed: u64,
    /// The bits of an IPv6 address, in memory order, by which it counts; none: all share one bucket.
    pub mask6: [u64; 2],
    /// The same for an IPv4 address.
    pub mask4: u32,
    /// Tokens that are taken at once; 1: no purse is used.
    pub quantum: u32,
    /// The slot, among those of rules, that counts what is over.
    pub over_slot: u32,
    /// [`Rate::LAST`] and so on.
    pub flags: u32,
}

impl Rate {
    /// It is the last one of its limit.
    pub const LAST: u32 = 1 << 0;
    /// It counts by the destination, not by the source.
    pub const DESTINATION: u32 = 1 << 1;
    /// A token is a byte of the IP packet, not a packet.
    pub const BYTES: u32 = 1 << 2;
    /// What is over goes on as if it were not, once it is counted.
    pub const PASS: u32 = 1 << 3;
    /// Now none, now two tokens are taken, one on average, so that nobody learns from it how many others have asked.
    pub const RANDOM: u32 = 1 << 4;

    /// Whether a flag is set.
    #[inline(always)]
    #[must_use]
    pub const fn is(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }
}

// SAFETY: integers and an array of integers; the assertion below leaves no room for padding.
unsafe impl Plain for Rate {}

const _: () = assert!(size_of::<Rate>() == 56);
const _: () = assert!(size_of::<Purses>() == 2048);
