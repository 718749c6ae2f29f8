//! What the data path knows and remembers besides the frame: settings, tables, counters, buckets, the routing table.

use icmp_common::{
    Family, Plain,
    bans::{Banned, Source},
    bucket::{Ask, Lasting, Place, Taken},
    config::Config,
    counters::Slot,
    dynamic::{Membership, Until},
    events::Telling,
    limits::Purse,
    reason::Step,
    tables::{Decision, DestinationCell},
    wire::{ethernet::MacParts, ipv6::Halves},
};

use crate::{
    Frame, ban,
    classify::{Facts, destination, sets_of, settle, source},
    limit::{Over, begins, over},
    tell::note,
};

/// Settings, tables, counters, buckets and the routing table, in the kernel or on the host.
pub trait State {
    /// One setting, from frozen read-only data: the kernel's verifier drops what it excludes.
    fn setting<T: Copy>(&self, field: impl FnOnce(&Config) -> &T) -> T;

    /// What is in a slot for served IPv4 hosts, and its class; see [`icmp_common::tables::Hosts`].
    fn host4(&self, slot: usize) -> u32;
    /// The class of what is in that slot.
    fn host_class4(&self, slot: usize) -> u16;
    /// What is in a slot for served IPv6 hosts.
    fn host6(&self, slot: usize) -> [u64; 2];
    /// The class of what is in that slot.
    fn host_class6(&self, slot: usize) -> u16;
    /// The kind of a message; see [`icmp_common::tables::Kinds`].
    fn kind(&self, family: Family, message: u16) -> u16;

    /// A cell of the root of an IPv4 table; see [`icmp_common::tables::Root4`].
    fn root4(&self, side: Side, begin: u16) -> u32;
    /// The value that begins at a byte of the tables; `None` behind their end. It takes 64 bytes at most.
    fn table<T: Plain>(&self, byte: u32) -> Option<&T>;
    /// What a destination, as words in memory order, is to rules and responder.
    fn destination(&self, family: Family, address: [u64; 2]) -> DestinationCell
    where
        Self: Sized,
    {
        destination(self, family, address)
    }
    /// The value of a source, as words in memory order.
    fn source(&self, family: Family, address: [u64; 2]) -> u32
    where
        Self: Sized,
    {
        source(self, family, address)
    }
    /// The decision that remains of one with conditions, and of those that come next where they do not hold.
    fn settle(&self, decision: Decision, facts: Facts) -> Decision
    where
        Self: Sized,
    {
        settle(self, decision, facts)
    }
    /// Bit n: an address, as words in memory order, is in the dynamic set n.
    fn sets_of(&self, family: Family, address: [u64; 2]) -> u64
    where
        Self: Sized,
    {
        sets_of(self, family, address)
    }
    /// What dynamic sets the longest prefix around an IPv4 address, in network order, belongs to, if there is one.
    fn membership4(&self, address: [u8; 4]) -> Option<&Membership>;
    /// The same for an IPv6 address.
    fn membership6(&self, address: Halves) -> Option<&Membership>;

    /// Nanoseconds of the monotonic clock, a few milliseconds late at most.
    fn now(&self) -> u64;

    /// Nanoseconds of UTC since 1970.
    fn utc(&self) -> u64;

    /// Whether a frame, whose IP header begins at `at`, is over the rate of this number.
    fn over<F: Frame>(&mut self, frame: &F, at: usize, family: Family, number: u32) -> Over
    where
        Self: Sized,
    {
        over(frame, self, at, family, number)
    }
    /// Takes tokens out of a bucket; see [`icmp_common::bucket`].
    fn take(&mut self, place: Place, ask: Ask) -> Taken;
    /// Puts ticks back into a bucket.
    fn give_back(&mut self, place: Place, credit: u64);
    /// The purse of this CPU that may hold tokens of a bucket; see [`icmp_common::limits`].
    fn purse(&mut self, place: Place) -> Option<&mut Purse>;
    /// How long something has gone on that is remembered in the place of a bucket; see [`icmp_common::bucket::lasts`].
    fn lasts(&mut self, place: Place, pause: u64) -> Lasting;

    /// Remembers that an address is over the rate that begins at a byte of the tables, and says for how many ticks it has been, if
    /// that is long enough for a ban, and the address may be banned; else 0.
    fn is_over(&mut self, rate: u32, family: Family, address: [u64; 2]) -> u64
    where
        Self: Sized,
    {
        ban::is_over(self, rate, family, address)
    }
    /// Bans an address that has been over a rate for so many ticks.
    fn bans(&mut self, rate: u32, family: Family, address: [u64; 2], ticks: u64)
    where
        Self: Sized,
    {
        ban::bans(self, rate, family, address, ticks);
    }
    /// Whether there is a ban of this prefix; see [`icmp_common::bans`].
    fn holds_ban(&self, place: Place, source: &Source, now: Until) -> bool;
    /// Bans, if there is room.
    fn put_ban(&mut self, place: Place, banned: Banned, end: Until, now: Until);

    /// A number that nobody can foresee.
    fn random(&mut self) -> u32;

    /// Asks the routing table for the neighbour on this interface that a packet goes to, if it is known.
    fn next_hop(&mut self, route: &Route) -> Option<NextHop>;

    /// Counts one packet, and, where that is told, in the slot of its message ([`icmp_common::messages`]).
    fn count(&mut self, slot: Slot, message: Option<u32>);
    /// Counts one packet of some length in a slot of those for rules.
    fn count_rule(&mut self, slot: u32, length: u32);

    /// Whether whoever a frame counts for begins to be over the rate that begins at a byte of the tables.
    fn begins<F: Frame>(&mut self, frame: &F, at: usize, family: Family, rate: u32) -> bool
    where
        Self: Sized,
    {
        begins(frame, self, at, family, rate)
    }
    /// What this CPU remembers of what it has told.
    fn telling(&mut self) -> Option<&mut Telling>;
    /// The [`window`](icmp_common::events::window) that it is.
    fn window(&self) -> u32;
    /// Notes a frame that the rule with this slot logs, or that is over the rate with this slot ([`icmp_common::events::Event::OVER`]).
    fn note<F: Frame>(&mut self, frame: &F, slot: u32, flags: u8)
    where
        Self: Sized,
    {
        note(frame, self, slot, flags);
    }
    /// Puts the event that has been noted into the ring buffer, about a packet that is counted in this slot.
    fn tell(&mut self, slot: Slot);

    /// Says what a step has come to, where the kernel half is built to log that (`kernel/log.rs` has what each number means).
    #[inline(always)]
    fn log(&self, _step: Step, _number: u32) {}

    /// Keeps the first bytes of the frame, if it may be one that somebody captures.
    fn arrive(&mut self, family: Family);
    /// Puts what is kept of the frame, and of its answer, into the ring buffer, if it is one that somebody captures.
    fn leave(&mut self, slot: Slot);
}

/// Which address of a packet a table is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Where it comes from.
    Source = 0,
    /// Where it goes.
    Destination = 1,
}

/// What the routing table wants to know of a packet. Addresses are in network order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// An IPv4 packet.
    Ipv4 {
        /// Type of service.
        tos: u8,
        /// Length of header and payload.
        total_length: u16,
        /// Where it will come from.
        source: [u8; 4],
        /// Where it shall go.
        destination: [u8; 4],
    },
    /// An IPv6 packet.
    Ipv6 {
        /// Length of header and payload.
        total_length: u16,
        /// Where it will come from.
        source: Halves,
        /// Where it shall go.
        destination: Halves,
    },
}

/// The MAC addresses of a frame that is sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// The interface's.
    pub source: MacParts,
    /// The neighbour's.
    pub destination: MacParts,
}
