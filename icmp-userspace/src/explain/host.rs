//! The data path's host build: a frame in a vector, and a state of compiled tables.
//!
//! It decides about packets for a policy that is not loaded, and is the reference with which tests compare the loaded program;
//! so it is as plain as it can be.

use std::{
    collections::HashMap,
    sync::atomic::AtomicU64,
    time::{SystemTime, UNIX_EPOCH},
};

use icmp_common::{
    Family, Plain,
    bans::{self, BAN_LINES, Banned, HostLine, Source},
    bucket::{self, Ask, CELLS, Lasting, Place, TICK, Taken},
    checksum,
    config::Config,
    counters::{Counters, Slot},
    dynamic::{Membership, Until},
    events::{self, Event, Telling},
    limits::{PURSES, Purse},
    wire::{Wire, ipv6::Halves},
};
use icmp_ebpf::{Frame, MAX_SUM, NextHop, Route, Side, State, Verdict};

use super::outcome::{Outcome, counted};
use crate::policy::compile::Tables;

/// A frame in a vector.
pub struct VecFrame(pub Vec<u8>);

/// Bytes that a frame may grow by: the headroom that drivers give to XDP programs (`XDP_PACKET_HEADROOM` of `linux/bpf.h`).
const HEADROOM: usize = 256;

impl Frame for VecFrame {
    fn holds(&self, at: usize, length: usize) -> bool {
        at + length <= self.0.len()
    }

    fn read<T: Wire>(&self, at: usize) -> Option<&T> {
        let bytes = self.0.get(at..)?.get(..size_of::<T>())?;
        // SAFETY: the slice is as long as a `T`, which has alignment 1 and for which any bytes are valid.
        Some(unsafe { &*bytes.as_ptr().cast() })
    }

    fn write<T: Wire>(&mut self, at: usize) -> Option<&mut T> {
        let bytes = self.0.get_mut(at..)?.get_mut(..size_of::<T>())?;
        // SAFETY: as above, and the slice is borrowed mutably for as long.
        Some(unsafe { &mut *bytes.as_mut_ptr().cast() })
    }

    fn sum<const MOST: usize>(&mut self, at: usize, length: impl Fn(&Self) -> Option<usize>) -> Option<u64> {
        const { assert!(MOST <= MAX_SUM) };
        let length = length(self).filter(|length| *length <= MOST)?;
        Some(checksum::sum(self.0.get(at..)?.get(..length)?))
    }

    fn grow(&mut self, bytes: usize) -> bool {
        if bytes > HEADROOM {
            return false;
        }
        self.0.splice(0..0, std::iter::repeat_n(0, bytes));
        true
    }

    fn cut(&mut self, length: usize) -> bool {
        let shorter = length <= self.0.len();
        self.0.truncate(length);
        shorter
    }
}

/// Settings and tables of a policy, empty dynamic sets, full buckets, counters from zero, and one entry of a routing table.
pub struct HostState<'a> {
    tables: &'a Tables,
    /// What the routing table says.
    pub next_hop: Option<NextHop>,
    /// What it has been asked.
    pub asked: Option<Route>,
    /// What has been counted.
    pub counters: Counters,
    /// Slots, of those for rules, in which packets have been counted, and the lengths of these. The first one is that of the rule that
    /// has decided.
    pub rules: Vec<(u32, u32)>,
    /// What has been told.
    pub events: Vec<Event>,
    telling: Box<Telling>,
    /// Nanoseconds of the clock.
    pub now: u64,
    /// Nanoseconds of UTC since 1970.
    pub utc: u64,
    /// Members of dynamic sets: an address of either family, in network order, and what it belongs to.
    pub members: Vec<(Vec<u8>, Membership)>,
    /// Lines of buckets, by their number; those that nobody has used yet are missing.
    buckets: HashMap<u32, [AtomicU64; CELLS]>,
    /// Lines of bans, by their number; those that nobody is in yet are missing.
    bans: HashMap<u32, HostLine<[AtomicU64; CELLS]>>,
    /// Purses, by their number.
    purses: HashMap<u32, Purse>,
    random: u32,
}

impl<'a> HostState<'a> {
    /// The state with which a program begins.
    #[must_use]
    pub fn new(tables: &'a Tables) -> Self {
        Self {
            tables,
            next_hop: None,
            asked: None,
            counters: Counters::ZERO,
            rules: Vec::new(),
            events: Vec::new(),
            telling: Box::new(Telling::ZERO),
            now: 0,
            utc: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |utc| utc.as_nanos() as u64),
            members: Vec::new(),
            buckets: HashMap::new(),
            bans: HashMap::new(),
            purses: HashMap::new(),
            random: 0,
        }
    }

    /// Takes a frame all the way.
    pub fn handle(&mut self, frame: Vec<u8>) -> (Verdict, Vec<u8>) {
        let mut frame = VecFrame(frame);
        let verdict = icmp_ebpf::handle(&mut frame, self);
        (verdict, frame.0)
    }

    /// Takes a frame all the way, and tells what came of it.
    #[must_use]
    pub fn outcome(mut self, frame: Vec<u8>) -> Outcome {
        let (verdict, frame) = self.handle(frame);
        let counted = counted(&Counters::ZERO, &self.counters);
        Outcome { verdict, counted, rule: self.rules.first().map(|(slot, _)| *slot), frame }
    }

    fn buckets(&mut self, place: Place) -> &[AtomicU64; CELLS] {
        self.buckets.entry(place.line & self.tables.config.bucket_mask).or_default()
    }

    fn membership(&self, address: &[u8]) -> Option<&Membership> {
        self.members.iter().find(|(member, _)| member == address).map(|(_, membership)| membership)
    }
}

impl State for HostState<'_> {
    fn setting<T: Copy>(&self, field: impl FnOnce(&Config) -> &T) -> T {
        *field(&self.tables.config)
    }

    fn host4(&self, slot: usize) -> u32 {
        self.tables.hosts.v4[slot]
    }

    fn host_class4(&self, slot: usize) -> u16 {
        self.tables.hosts.class4[slot]
    }

    fn host6(&self, slot: usize) -> [u64; 2] {
        self.tables.hosts.v6[slot]
    }

    fn host_class6(&self, slot: usize) -> u16 {
        self.tables.hosts.class6[slot]
    }

    fn kind(&self, family: Family, message: u16) -> u16 {
        self.tables.kinds[family as usize][usize::from(message)]
    }

    fn root4(&self, side: Side, begin: u16) -> u32 {
        self.tables.roots4[side as usize][usize::from(begin)]
    }

    fn table<T: Plain>(&self, byte: u32) -> Option<&T> {
        self.tables.image.get(byte)
    }

    fn membership4(&self, address: [u8; 4]) -> Option<&Membership> {
        self.membership(&address)
    }

    fn membership6(&self, address: Halves) -> Option<&Membership> {
        self.membership(address.as_flattened())
    }

    fn now(&self) -> u64 {
        self.now
    }

    fn utc(&self) -> u64 {
        self.utc
    }

    fn take(&mut self, place: Place, ask: Ask) -> Taken {
        let (longest, now) = (self.tables.config.longest_span, self.now / TICK);
        bucket::take(self.buckets(place), place.tag, ask, longest, now)
    }

    fn give_back(&mut self, place: Place, credit: u64) {
        let (longest, now) = (self.tables.config.longest_span, self.now / TICK);
        bucket::give_back(self.buckets(place), place.tag, credit, longest, now);
    }

    fn lasts(&mut self, place: Place, pause: u64) -> Lasting {
        let (longest, now) = (self.tables.config.longest_span, self.now / TICK);
        bucket::lasts(self.buckets(place), place.tag, pause, longest, now)
    }

    fn holds_ban(&self, place: Place, source: &Source, now: Until) -> bool {
        let line = self.bans.get(&(place.line % BAN_LINES));
        line.is_some_and(|line| bans::is_banned(line, place.tag, source, now))
    }

    fn put_ban(&mut self, place: Place, banned: Banned, end: Until, now: Until) {
        let line = self.bans.entry(place.line % BAN_LINES).or_default();
        bans::ban(line, place.tag, banned, end, now);
    }

    fn purse(&mut self, place: Place) -> Option<&mut Purse> {
        Some(self.purses.entry(place.line % PURSES as u32).or_default())
    }

    fn random(&mut self) -> u32 {
        // Nobody attacks this: a step of a generator of Numerical Recipes, 7.1, will do.
        self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.random >> 16
    }

    fn next_hop(&mut self, route: &Route) -> Option<NextHop> {
        self.asked = Some(*route);
        self.next_hop
    }

    fn count(&mut self, slot: Slot, message: Option<u32>) {
        self.counters.count(slot);
        if let Some(message) = message {
            self.counters.count_message(message, slot);
        }
    }

    fn count_rule(&mut self, slot: u32, length: u32) {
        self.rules.push((slot, length));
    }

    fn telling(&mut self) -> Option<&mut Telling> {
        Some(&mut self.telling)
    }

    fn window(&self) -> u32 {
        events::window(self.now / TICK)
    }

    fn tell(&mut self, slot: Slot) {
        self.telling.pending = 0;
        self.events.push(Event { reason: slot.reason() as u8, ..self.telling.event });
    }

    // Who hands over a frame has it, before and after.
    fn arrive(&mut self, _family: Family) {}

    fn leave(&mut self, _slot: Slot) {}
}
