//! The layout of the counters: one value per CPU, read in one system call, so that a reading is one moment.

use crate::{Family, reason::Reason};

/// Room for reasons. More than there are, so that a new reason changes no layout.
pub const REASON_SLOTS: usize = 64;

/// Slots for rules. Twice as many as there may be rules, so that any policy can follow any other without a slot changing
/// hands while both may count; see `icmp-userspace/src/policy/slots.rs`.
pub const RULE_SLOTS: usize = 1 << 15;
/// Most rules of a policy, presets included. What no rule matches and what the guard keeps takes two slots more.
pub const MAX_RULES: usize = RULE_SLOTS / 2 - 2;
/// Slots in one value of the map of rule counters.
pub const RULE_CHUNK: usize = 512;

/// Packets by rule, as one CPU counted them: a part of all slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct RuleCounters {
    /// `packets[slot % RULE_CHUNK]` of the value with the number `slot / RULE_CHUNK`.
    pub packets: [u64; RULE_CHUNK],
}

const _: () = assert!(RULE_SLOTS.is_multiple_of(RULE_CHUNK) && size_of::<RuleCounters>() == 4096);

impl RuleCounters {
    /// Counts one packet for the rule with this slot, whose value this must be.
    #[inline(always)]
    pub const fn count(&mut self, slot: u32) {
        let count = &mut self.packets[slot as usize & (RULE_CHUNK - 1)];
        *count = count.wrapping_add(1);
    }
}

/// Packets by family and reason, as one CPU counted them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Counters {
    /// `packets[family][reason]`; indices are the numbers of [`Family`] and [`Reason`].
    pub packets: [[u64; REASON_SLOTS]; 2],
}

const _: () = assert!(size_of::<Counters>() == 1024);
const _: () = assert!(Reason::ALL.len() <= REASON_SLOTS);

impl Counters {
    /// Nothing counted.
    pub const ZERO: Self = Self { packets: [[0; REASON_SLOTS]; 2] };

    /// Packets of one family counted under one reason.
    #[must_use]
    pub const fn get(&self, family: Family, reason: Reason) -> u64 {
        self.packets[family as usize][reason as usize]
    }

    /// Counts one packet.
    #[inline(always)]
    pub const fn count(&mut self, slot: Slot) {
        // In one flat index, and masked, because the kernel's verifier does not know what values a slot has.
        let packets = self.packets.as_flattened_mut();
        let count = &mut packets[slot.0 as usize & (2 * REASON_SLOTS - 1)];
        *count = count.wrapping_add(1);
    }

    /// Adds another CPU's counters.
    pub fn add(&mut self, other: &Self) {
        for (sums, parts) in self.packets.iter_mut().zip(&other.packets) {
            for (sum, part) in sums.iter_mut().zip(parts) {
                *sum = sum.wrapping_add(*part);
            }
        }
    }
}

/// The place of a family's reason in the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(u32);

impl Slot {
    /// The place of `reason` among those of `family`.
    #[inline(always)]
    #[must_use]
    pub const fn new(family: Family, reason: Reason) -> Self {
        Self(family as u32 * REASON_SLOTS as u32 + reason as u32)
    }
}
