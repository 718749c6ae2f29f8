//! The layout of the tables that a policy becomes: what an address is, and which rule decides about a packet.
//!
//! All that has no fixed size stands one after the other in one map, whose size is the policy's, and is found by the number of the
//! byte at which it begins; the rest is frozen read-only data, of which a cell is one load away.
//!
//! They are filled before the program is loaded and not changed while it runs; new contents are a new program.
//! `icmp-userspace/src/policy/compile/` writes them, `icmp-ebpf/src/classify.rs` reads them. What a policy does not need,
//! [`crate::config::AclConfig`] says, and the kernel's verifier drops.
//!
//! **Addresses.** A source address has a class: a number that stands for all addresses that the rules can't tell
//! apart. A destination address has a class, too, and is besides served or not ([`DestinationCell`]). Both are found in
//! tables of the same layout:
//!
//! - IPv4: DXR (Zec, Rizzo, Mikuc: DXR, ACM SIGCOMM CCR 42(5), 2012). The first 16 bits select a cell of the root ([`Root4`]),
//!   which holds the value, or names the lines ([`Ranges4`]) in which the ranges stand that these 65,536 addresses fall into,
//!   sorted, so that the last one that starts at or before the address has the value.
//! - IPv6: the first 32 bits are hashed to a [`Line6`] of four cells, of which one may have these 32 bits as its key; it
//!   names a run of [`Range6`]s, sorted by start, that cover all addresses with these 32 bits. Where no cell has them, the
//!   run at the beginning covers all of IPv6: it holds the prefixes of up to 32 bits, and the few others that found no room in
//!   their line.
//!
//! Before all that, [`Hosts`] holds the served hosts: most requests go to few single addresses.
//!
//! **Rules.** Type and code give a kind ([`Kinds`]): a number that stands for all messages that the rules can't tell apart.
//! The first rule that matches a packet is the first of three: the first of those that name no destination, which source class
//! and kind tell; the first of those that name a destination alone, which destination class and kind tell; and the first of those
//! that name both, which are looked up by the pair of classes. Tables for all combinations of sources and destinations, which
//! would grow with the product of their numbers, are so not needed. [`crate::config::AclConfig`] says where each is; a policy
//! pays only for those that it has.
//!
//! What is found is a [`Decision`]: it can be compared with others, for which rule comes first, and holds an [`Outcome`], or the
//! number of an [`Entry`], because the rule depends on more than addresses and kind.

use crate::{Plain, counters::RULE_SLOTS};

/// What a destination address is to the responder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Destination {
    /// Somebody else's.
    NotServed = 0,
    /// Echo requests to it are answered.
    Served = 1,
    /// Not one host's address, although a served prefix may cover it: broadcast, multicast, reserved.
    NotUnicast = 2,
    /// The interface's own, but left to the stack.
    Own = 3,
}

/// The value of a destination address in the tables: its class in the upper bits, a [`Destination`] in the lower two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DestinationCell(pub u32);

impl DestinationCell {
    /// Most classes of destinations: tables have 16 bits for a value.
    pub const CLASSES: u32 = 1 << 14;
    /// Nothing is known of an address.
    pub const NONE: Self = Self(0);

    /// The cell of a class.
    #[must_use]
    pub const fn new(class: u32, destination: Destination) -> Self {
        Self(class << 2 | destination as u32)
    }

    /// What the address is to the responder.
    #[inline(always)]
    #[must_use]
    pub const fn destination(self) -> Destination {
        match self.0 & 3 {
            1 => Destination::Served,
            2 => Destination::NotUnicast,
            3 => Destination::Own,
            _ => Destination::NotServed,
        }
    }

    /// What it is to the rules.
    #[inline(always)]
    #[must_use]
    pub const fn class(self) -> u32 {
        self.0 >> 2
    }
}

/// Slots for served hosts, in each family.
pub const HOST_SLOTS: usize = 256;

/// Served hosts. A free slot holds an address that is hashed to another one, so that none is found there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Hosts {
    /// IPv6 addresses, as [`words`](crate::wire::ipv6::words) makes them.
    pub v6: [[u64; 2]; HOST_SLOTS],
    /// IPv4 addresses in memory order.
    pub v4: [u32; HOST_SLOTS],
    /// Classes of the IPv6 addresses, as destinations.
    pub class6: [u16; HOST_SLOTS],
    /// Classes of the IPv4 addresses, as destinations.
    pub class4: [u16; HOST_SLOTS],
}

impl Hosts {
    /// No hosts: zeros, which belong to slot 0, and there ones, which do not.
    pub const NONE: Self = {
        let mut hosts = Self {
            v6: [[0; 2]; HOST_SLOTS],
            v4: [0; HOST_SLOTS],
            class6: [0; HOST_SLOTS],
            class4: [0; HOST_SLOTS],
        };
        hosts.v6[0] = [u64::MAX; 2];
        hosts.v4[0] = u32::MAX;
        hosts
    };
}

const _: () = assert!(host_slot4(0) == 0 && host_slot4(u32::MAX) != 0);
const _: () = assert!(host_slot6([0; 2]) == 0 && host_slot6([u64::MAX; 2]) != 0);

/// The slot of an IPv4 address, which is in memory order.
#[inline(always)]
#[must_use]
pub const fn host_slot4(address: u32) -> usize {
    // Fibonacci hashing (Knuth, TAOCP 3, 6.4): the upper bits of the product depend on all bits of the key.
    (address.wrapping_mul(0x9e37_79b1) >> 24) as usize
}

/// The slot of an IPv6 address, which is in memory order.
#[inline(always)]
#[must_use]
pub const fn host_slot6(address: [u64; 2]) -> usize {
    (address[0].wrapping_add(address[1]).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize
}

/// The root of an IPv4 table: a cell for each first 16 bits of an address, in host order.
///
/// A cell is the value of all its addresses, or, with [`LINES`] set, the number of the first line of its ranges (the
/// lower 26 bits; from the beginning of all tables) and the binary logarithm of the number of lines (5 bits above those).
pub type Root4 = [u32; 1 << 16];
/// Set in a cell of the root that names lines of ranges instead of a value.
pub const LINES: u32 = 1 << 31;
/// Bits of such a cell that are a line's number.
pub const LINE_BITS: u32 = 26;
/// Most steps by which lines are halved: a line has 16 ranges, and 65,536 addresses have no more than so many.
pub const LINE_STEPS: u32 = 12;

/// Ranges in one line.
pub const RANGES: usize = 16;

/// A cache line of ranges of IPv4 addresses with the same first 16 bits: each one's start, the last 16 bits of its
/// first address, in the upper half; its value in the lower. What is free at the end repeats the last range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Ranges4 {
    /// The ranges, by rising start.
    pub ranges: [u32; RANGES],
}

/// Most ranges that the addresses with the same first 32 bits may fall into.
pub const MAX_RUN6: u32 = 1 << 21;
/// Steps that a binary search over [`MAX_RUN6`] ranges takes.
pub const RUN6_STEPS: u32 = 21;

const _: () = assert!(1 << RUN6_STEPS == MAX_RUN6);

/// A cell of the IPv6 index; free if `count` is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Cell6 {
    /// The first 32 bits of the addresses that it speaks of, in host order.
    pub key: u32,
    /// The place of its first range among the table's.
    pub first: u32,
    /// How many ranges it has.
    pub count: u32,
    /// Zero.
    pub reserved: u32,
}

/// Four cells of the IPv6 index: one cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Line6 {
    /// The cells, in any order.
    pub cells: [Cell6; 4],
}

/// A range of IPv6 addresses, up to the start of the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Range6 {
    /// The first 64 bits of its first address, in host order.
    pub start_high: u64,
    /// The last 64 bits of its first address, in host order.
    pub start_low: u64,
    /// The value of its addresses.
    pub value: u32,
    /// Zero.
    pub reserved: u32,
}

/// The line in which the cell for addresses that begin with `key` (host order) is, if there is one.
#[inline(always)]
#[must_use]
pub const fn line6(key: u32, mask: u32) -> u32 {
    ((key as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u32 & mask
}

/// The kind of each message, by the number of its family and by `code << 8 | type`: the two bytes as they are loaded, and all
/// messages with code 0, which are most, side by side.
pub type Kinds = [[u16; 1 << 16]; 2];
/// The kind of fragments other than the first: type and code are not known.
pub const FRAGMENT: u32 = 0;

/// Bytes of a cache line, at which every table begins.
pub const CACHE_LINE: usize = 64;
/// 64 bytes of all tables together.
pub type Line = [u64; CACHE_LINE / 8];

/// Destination classes whose pairs stand side by side.
pub const BLOCK: u32 = 64;

/// What the first matching rule among some says: its place among all rules in the upper half, so that the least of several
/// decisions is that of the first rule, and below it an [`Outcome`], or, with [`CONDITION`] set, the number of an [`Entry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Decision(pub u64);

impl Decision {
    /// No rule matches: behind all others, and without conditions.
    pub const NONE: Self = Self::new(u32::MAX, Outcome(0));

    /// The decision of the rule at a place.
    #[must_use]
    pub const fn new(place: u32, outcome: Outcome) -> Self {
        Self((place as u64) << 32 | outcome.0 as u64)
    }

    /// The decision of the rule at a place, if the conditions of an entry hold.
    #[must_use]
    pub const fn conditional(place: u32, entry: u32) -> Self {
        Self((place as u64) << 32 | (CONDITION | entry) as u64)
    }

    /// The decision of the same rule, now that its outcome is known.
    #[inline(always)]
    #[must_use]
    pub const fn with(self, outcome: Outcome) -> Self {
        Self(self.0 >> 32 << 32 | outcome.0 as u64)
    }

    /// The number of the entry, if there are conditions.
    #[inline(always)]
    #[must_use]
    pub const fn entry(self) -> Option<u32> {
        let cell = self.0 as u32;
        if cell & CONDITION == 0 { None } else { Some(cell & !CONDITION) }
    }

    /// The outcome, if there are no conditions.
    #[inline(always)]
    #[must_use]
    pub const fn outcome(self) -> Outcome {
        Outcome(self.0 as u32)
    }
}

/// Set in a [`Decision`] that holds the number of an [`Entry`] instead of an [`Outcome`].
pub const CONDITION: u32 = 1 << 31;
/// Most entries that have to be tried one after the other.
pub const MAX_ENTRIES: u32 = 64;

/// What becomes of a packet, as far as rules say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Ruling {
    /// It goes on.
    Permit = 0,
    /// It is dropped.
    Deny = 1,
    /// It is dropped, and an error says so: code 9 in IPv4.
    RejectNet = 2,
    /// The same with code 10.
    RejectHost = 3,
    /// The same with code 13.
    RejectCommunication = 4,
    /// It goes on if it is within the rates of a limit: this number and those above it, by the first rate.
    Limit = 5,
}

impl Ruling {
    /// The ruling with this number.
    #[inline(always)]
    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Deny,
            2 => Self::RejectNet,
            3 => Self::RejectHost,
            4 => Self::RejectCommunication,
            5.. => Self::Limit,
            0 => Self::Permit,
        }
    }
}

/// The number of [`Ruling::Limit`] with the first of all rates.
const FIRST_RATE: u32 = Ruling::Limit as u32;
/// Most rates: an [`Outcome`] has 15 bits for such a number.
pub const MOST_RATES: u32 = (1 << 15) - FIRST_RATE;

/// A ruling, the slot of the rule that made it, and whether the rule logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Outcome(pub u32);

impl Outcome {
    /// The ruling of the rule that counts in `slot`.
    #[must_use]
    pub const fn new(ruling: Ruling, slot: u32) -> Self {
        Self((ruling as u32) << 16 | slot)
    }

    /// The ruling of a rule that limits, whose rates begin with that of the number `rate`.
    #[must_use]
    pub const fn limit(rate: u32, slot: u32) -> Self {
        Self((FIRST_RATE + rate) << 16 | slot)
    }

    /// The same of a rule that logs.
    #[must_use]
    pub const fn logging(self) -> Self {
        Self(self.0 | LOGS)
    }

    /// Whether the rule logs.
    #[inline(always)]
    #[must_use]
    pub const fn logs(self) -> bool {
        self.0 & LOGS != 0
    }

    /// The ruling.
    #[inline(always)]
    #[must_use]
    pub const fn ruling(self) -> Ruling {
        Ruling::from_number(self.0 >> 16)
    }

    /// The number of the first rate, if the ruling is to limit.
    #[inline(always)]
    #[must_use]
    pub const fn rate(self) -> u32 {
        (self.0 >> 16).wrapping_sub(FIRST_RATE)
    }

    /// The rule's slot among the counters.
    #[inline(always)]
    #[must_use]
    pub const fn slot(self) -> u32 {
        self.0 & (LOGS - 1)
    }
}

/// Set in an [`Outcome`] whose rule logs: the bit above those of slots.
const LOGS: u32 = RULE_SLOTS as u32;
const _: () = assert!(LOGS == 1 << 15);

/// A rule that depends on more than addresses and kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Entry {
    /// What holds if a condition does not: the decision of the next rule.
    pub next: Decision,
    /// What the rule says.
    pub outcome: Outcome,
    /// Least and most length of the IP packet in bytes, header included.
    pub length: [u16; 2],
    /// Number of the outer VLAN tag; [`Entry::ANY_VLAN`].
    pub vlan: u16,
    /// Least and most TTL or hop limit.
    pub ttl: [u8; 2],
    /// DSCP; [`Entry::ANY`].
    pub dscp: u8,
    /// Number of the dynamic set that the source is in; [`Entry::ANY`].
    pub source_set: u8,
    /// Number of the dynamic set that the destination is in; [`Entry::ANY`].
    pub destination_set: u8,
    /// [`MISMATCH`] and [`MTU`], if the message has to quote such a thing.
    pub quotes: u8,
    /// Least and most MTU that it tells, with [`MTU`].
    pub quoted_mtu: [u16; 2],
    /// Zeros.
    pub reserved: [u8; 4],
}

/// What a message quotes (RFC 792, RFC 4443): a packet that its receiver has not sent (RFC 5927 4).
pub const MISMATCH: u8 = 1 << 0;
/// An MTU: "fragmentation needed", "packet too big".
pub const MTU: u8 = 1 << 1;

impl Entry {
    /// Any DSCP, any address.
    pub const ANY: u8 = 0xff;
    /// With or without a VLAN tag.
    pub const ANY_VLAN: u16 = 0xffff;

    /// An entry without conditions, and with nothing behind it.
    #[must_use]
    pub const fn new(outcome: Outcome) -> Self {
        Self {
            next: Decision::NONE,
            outcome,
            length: [0, u16::MAX],
            vlan: Self::ANY_VLAN,
            ttl: [0, u8::MAX],
            dscp: Self::ANY,
            source_set: Self::ANY,
            destination_set: Self::ANY,
            quotes: 0,
            quoted_mtu: [0, u16::MAX],
            reserved: [0; 4],
        }
    }

    /// Whether it has no conditions.
    #[must_use]
    pub fn is_unconditional(&self) -> bool {
        Self { next: self.next, ..Self::new(self.outcome) } == *self
    }
}

// SAFETY, for all of these: integers and arrays of integers; the assertions below leave no room for padding.
// SAFETY: as above.
unsafe impl Plain for Line6 {}
// SAFETY: as above.
unsafe impl Plain for Range6 {}
// SAFETY: as above.
unsafe impl Plain for Hosts {}
// SAFETY: as above.
unsafe impl Plain for Ranges4 {}
// SAFETY: as above.
unsafe impl Plain for Decision {}
// SAFETY: as above.
unsafe impl Plain for Entry {}
// SAFETY: an array of integers.
unsafe impl Plain for Root4 {}
// SAFETY: arrays of integers.
unsafe impl Plain for Kinds {}
// SAFETY: an array of integers.
unsafe impl Plain for Line {}
// SAFETY: an integer.
unsafe impl Plain for u32 {}
// SAFETY: an integer.
unsafe impl Plain for u64 {}

const _: () = assert!(size_of::<Line6>() == 64 && size_of::<Range6>() == 24);
const _: () = assert!(size_of::<Ranges4>() == CACHE_LINE && size_of::<Line>() == CACHE_LINE);
const _: () = assert!(size_of::<Hosts>() == 6 << 10 && size_of::<Entry>() == 32);
