//! The layout of dynamic sets: prefixes that come and go while a policy runs.
//!
//! One longest-prefix-match map for each family, pinned, so that it outlives replacements. The value of a prefix holds, for
//! each dynamic set, until when addresses in it are members: the latest time of all entries of that set that cover the prefix,
//! its own included. So the longest match alone tells about all sets, and an entry that has expired stops matching by itself.

/// Most dynamic sets that a policy may have.
pub const DYNAMIC_SETS: usize = 16;
/// Most prefixes, of all dynamic sets of one family together.
pub const DYNAMIC_ENTRIES: u32 = 1 << 16;

/// Until when the addresses of a prefix are members, by the number of the set: [`Until`] as its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Membership {
    /// One time for each set.
    pub until: [u32; DYNAMIC_SETS],
}

const _: () = assert!(size_of::<Membership>() == 64);

impl Membership {
    /// In no set.
    pub const NONE: Self = Self { until: [Until::NEVER.0; DYNAMIC_SETS] };

    /// Until when they are members of the set of this number; masked, because the kernel's verifier does not know how many there
    /// are.
    #[inline(always)]
    #[must_use]
    pub const fn until(&self, set: u8) -> Until {
        Until(self.until[set as usize & (DYNAMIC_SETS - 1)])
    }
}

/// A moment in units of 1/16 second of the monotonic clock (`CLOCK_MONOTONIC`), rounded up; enough for eight years of uptime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Until(pub u32);

impl Until {
    /// Long past.
    pub const NEVER: Self = Self(0);
    /// No end.
    pub const FOREVER: Self = Self(u32::MAX);

    /// The unit that a time in nanoseconds falls into; at most the last one before [`Self::FOREVER`].
    #[inline(always)]
    #[must_use]
    pub const fn from_nanoseconds(time: u64) -> Self {
        let units = time / (1_000_000_000 / 16);
        Self(if units < u32::MAX as u64 { units as u32 } else { u32::MAX - 1 })
    }

    /// Whether it still lies ahead at a moment of the monotonic clock, in nanoseconds.
    #[inline(always)]
    #[must_use]
    pub const fn is_ahead(self, now: u64) -> bool {
        self.0 == u32::MAX || self.0 > Self::from_nanoseconds(now).0
    }
}
