//! The layout of the counters: one value per CPU, read in one system call, so that a reading is one moment.

use crate::{
    Family,
    messages::MESSAGE_SLOTS,
    reason::{Reason, Verdict},
};

/// Room for reasons. More than there are, so that a new reason changes no layout.
pub const REASON_SLOTS: usize = 64;

/// Slots for rules. Twice as many as there may be of what counts there, so that any policy can follow any other without a slot
/// changing hands while both may count; see `icmp-userspace/src/policy/slots.rs`.
pub const RULE_SLOTS: usize = 1 << 15;
/// Most served prefixes that are counted each on its own.
pub const MAX_SERVED: usize = 1 << 10;
/// Most rules of a policy, presets included. What else counts takes the rest: what no rule matches, what the guard keeps, served
/// prefixes.
pub const MAX_RULES: usize = RULE_SLOTS / 2 - MAX_SERVED - 16;
/// Slots in one value of the map of rule counters.
pub const RULE_CHUNK: usize = 256;

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Amount {
    /// Packets.
    pub packets: u64,
    /// Bytes of these IP packets, headers included.
    pub bytes: u64,
}

/// Packets by rule, as one CPU counted them: a part of all slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct RuleCounters {
    /// `amounts[slot % RULE_CHUNK]` of the value with the number `slot / RULE_CHUNK`.
    pub amounts: [Amount; RULE_CHUNK],
}

const _: () = assert!(RULE_SLOTS.is_multiple_of(RULE_CHUNK) && size_of::<RuleCounters>() == 4096);

impl RuleCounters {
    /// Counts one packet of some length for what has this slot, whose value this must be.
    #[inline(always)]
    pub const fn count(&mut self, slot: u32, length: u32) {
        let amount = &mut self.amounts[slot as usize & (RULE_CHUNK - 1)];
        amount.packets = amount.packets.wrapping_add(1);
        amount.bytes = amount.bytes.wrapping_add(length as u64);
    }
}

/// Packets by family and reason, and by type and code, as one CPU counted them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Counters {
    /// `packets[family][reason]`; indices are the numbers of [`Family`] and [`Reason`].
    pub packets: [[u64; REASON_SLOTS]; 2],
    /// `messages[slot]`: packets by type and code ([`crate::messages`]), first those that went to the stack, then those that did not.
    /// Echo requests that were answered are not among them: their reason says what they were.
    pub messages: [[u64; 2]; MESSAGE_SLOTS],
}

const _: () = assert!(size_of::<Counters>() == 1024 + 16 * MESSAGE_SLOTS);
// The kernel's largest value of a per-CPU array (`PCPU_MIN_UNIT_SIZE`).
const _: () = assert!(size_of::<Counters>() <= 32 << 10);
const _: () = assert!(Reason::ALL.len() <= REASON_SLOTS);

/// Bit n: packets counted under reason n have this verdict.
pub const fn reasons_of(verdict: Verdict) -> u64 {
    let mut bits = 0;
    let mut number = 0;
    while number < Reason::ALL.len() {
        let reason = Reason::ALL[number];
        if reason.verdict() as u8 == verdict as u8 {
            bits |= 1 << reason as u32;
        }
        number += 1;
    }
    bits
}

const PASSING: u64 = reasons_of(Verdict::Pass);

impl Counters {
    /// Nothing counted.
    pub const ZERO: Self = Self { packets: [[0; REASON_SLOTS]; 2], messages: [[0; 2]; MESSAGE_SLOTS] };

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

    /// Counts one packet with the message of one slot ([`crate::messages`]) that is counted in another.
    #[inline(always)]
    pub const fn count_message(&mut self, message: u32, slot: Slot) {
        // By arithmetic and masked, as above.
        let dropped = !(PASSING >> slot.reason()) & 1;
        let index = (message as usize) << 1 | dropped as usize;
        let counts = self.messages.as_flattened_mut();
        let count = &mut counts[index & (2 * MESSAGE_SLOTS - 1)];
        *count = count.wrapping_add(1);
    }

    /// Adds another CPU's counters.
    pub fn add(&mut self, other: &Self) {
        let sums = self.packets.as_flattened_mut().iter_mut().chain(self.messages.as_flattened_mut());
        for (sum, part) in sums.zip(other.packets.as_flattened().iter().chain(other.messages.as_flattened()))
        {
            *sum = sum.wrapping_add(*part);
        }
    }
}

/// The place of a family's reason in the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(u32);

impl Slot {
    /// The place with this number.
    #[inline(always)]
    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// Its number: that of the reason in the lower six bits, that of the family above them.
    #[inline(always)]
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The number of the family.
    #[inline(always)]
    #[must_use]
    pub const fn family(self) -> usize {
        // Masked, because the kernel's verifier does not know what values a slot has.
        (self.0 / REASON_SLOTS as u32) as usize & 1
    }

    /// The number of the reason.
    #[inline(always)]
    #[must_use]
    pub const fn reason(self) -> u32 {
        self.0 % REASON_SLOTS as u32
    }

    /// The place of `reason` among those of `family`.
    #[inline(always)]
    #[must_use]
    pub const fn new(family: Family, reason: Reason) -> Self {
        Self(family as u32 * REASON_SLOTS as u32 + reason as u32)
    }
}
