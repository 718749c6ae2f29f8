//! Step "classify": source class, destination class, kind class -> what the rules say.
//!
//! The tables and their layouts are described in [`icmp_common::tables`] and [`icmp_common::config::AclConfig`]. A cell that
//! is missing, which no table of ours has, counts as zero.

use icmp_common::{
    Family,
    config::{AclConfig, DYNAMIC_DESTINATIONS, DYNAMIC_SOURCES, QUOTES, Table6Config},
    dynamic::{DYNAMIC_SETS, Membership, Until},
    limits::Rate,
    tables::{
        BLOCK, Decision, Destination, DestinationCell, Entry, FRAGMENT, LINE_BITS, LINE_STEPS, LINES, Line6,
        MAX_ENTRIES, MAX_RUN6, MISMATCH, MTU, Outcome, RANGES, RUN6_STEPS, Range6, Ranges4, Ruling,
        host_slot4, host_slot6, line6,
    },
    wire::{
        Wire,
        ethernet::VlanTag,
        icmp::{self, Icmp, TOO_BIG4, TOO_BIG6},
        ipv4::{self, Ipv4},
        ipv6::{self, Address6, Halves, Ipv6, words},
    },
};

use crate::{
    Frame, Side, State, Step, ban, hidden,
    parse::{Message, UNTAGGED},
    tell::{logs, note_rule},
    unlikely,
};

/// What differs between the families in classifying a packet.
pub(crate) trait Classifiable: Wire {
    /// The family.
    const FAMILY: Family;

    /// The value of the source address.
    fn source_value<S: State>(&self, state: &S) -> u32;
    /// What the destination address is to rules and responder.
    fn destination_cell<S: State>(&self, state: &S) -> DestinationCell;
    /// TTL or hop limit.
    fn hops(&self) -> u8;
    /// DSCP.
    fn dscp(&self) -> u8;
    /// Length of the IP packet, header included.
    fn packet_length(&self) -> usize;
    /// The key of the bucket that it takes from by a rate.
    fn limit_key(&self, rate: &Rate) -> [u64; 2];
    /// Its source or its destination, as words in memory order; an IPv4 address in the lower half of the first one.
    fn address(&self, side: Side) -> [u64; 2];
    /// What the message of the packet whose IP header begins at `at` quotes, if it is one that quotes.
    fn quote<F: Frame>(frame: &F, at: usize) -> Option<Quote>;
}

/// By which address a rate counts.
#[inline(always)]
const fn side_of(rate: &Rate) -> Side {
    if rate.is(Rate::DESTINATION) { Side::Destination } else { Side::Source }
}

/// What the rules say about a packet, and what its destination is, if they had to look ([`asks_destination`]).
pub(crate) struct Classified {
    pub(crate) outcome: Outcome,
    pub(crate) destination: DestinationCell,
}

/// Finds the rule that decides about a packet whose IP header begins at `at`, and counts the packet for it. `RARE`: addresses are looked
/// up in functions of their own.
#[inline(always)]
pub(crate) fn classify<const RARE: bool, Ip: Classifiable, F: Frame, S: State>(
    frame: &F,
    state: &mut S,
    at: usize,
    message: Message,
) -> Classified {
    if acl::<Ip, _, _>(state, |acl| &acl.rules) == 0 {
        return Classified { outcome: Outcome::new(Ruling::Permit, 0), destination: DestinationCell::NONE };
    }
    let Found { mut decisions, destination } = look_up::<RARE, Ip, F, S>(frame, state, at, message);
    let conditional = decisions.iter().any(|decision| decision.entry().is_some());
    if unlikely(conditional)
        && let Some(facts) = facts::<Ip, F, S>(frame, state, at)
    {
        for decision in &mut decisions {
            *decision = state.settle(*decision, facts);
        }
    }
    let [by_source, by_destination, by_pair] = decisions;
    let first = by_source.min(by_destination).min(by_pair);
    let outcome = first.outcome();
    let length = frame.read::<Ip>(at).map_or(0, |ip| ip.packet_length() as u32);
    state.count_rule(outcome.slot(), length);
    state.log(Step::Classify, outcome.0);
    note_rule(state, outcome.slot());
    if logs(state) && outcome.logs() {
        state.note(frame, outcome.slot(), 0);
    }
    Classified { outcome, destination }
}

/// Whether rules depend on the destination. A setting, of which the kernel's verifier knows what it is: of a mark in what was found it
/// would not.
#[inline(always)]
pub(crate) fn asks_destination<Ip: Classifiable, S: State>(state: &S) -> bool {
    acl::<Ip, _, _>(state, |acl| &acl.rules) != 0
        && (acl::<Ip, _, _>(state, |acl| &acl.destinations) != 0
            || acl::<Ip, _, _>(state, |acl| &acl.blocks) != 0)
}

/// A setting of the family's access list.
#[inline(always)]
fn acl<Ip: Classifiable, S: State, T: Copy>(state: &S, field: impl FnOnce(&AclConfig) -> &T) -> T {
    state.setting(|config| field(&config.acl[Ip::FAMILY as usize]))
}

/// What the tables say about a packet.
struct Found {
    /// Decisions of the first rule among those that name no destination, a destination alone, and both.
    decisions: [Decision; 3],
    /// What its destination is, if that had to be looked up.
    destination: DestinationCell,
}

/// Looks up the decisions for the packet's source, destination and kind. The packet is read again for each, as in step
/// "answer". Where rules depend on the destination it is looked up for the responder, too.
#[inline(always)]
fn look_up<const RARE: bool, Ip: Classifiable, F: Frame, S: State>(
    frame: &F,
    state: &S,
    at: usize,
    message: Message,
) -> Found {
    let kind_bits = acl::<Ip, _, _>(state, |acl| &acl.kind_bits);
    let kind = match message.known() {
        Some(message) => state.kind(Ip::FAMILY, message).into(),
        None => FRAGMENT,
    };
    let mut source = 0;
    if acl::<Ip, _, _>(state, |acl| &acl.sources) != 0
        && let Some(ip) = frame.read::<Ip>(at)
    {
        source = match RARE {
            true => state.source(Ip::FAMILY, ip.address(Side::Source)),
            false => ip.source_value(state),
        };
    }
    let number = acl::<Ip, _, _>(state, |acl| &acl.by_source) + (source << kind_bits) + kind;
    let by_source = decision(state, number);
    let alone = acl::<Ip, _, _>(state, |acl| &acl.destinations) != 0;
    let blocks = acl::<Ip, _, _>(state, |acl| &acl.blocks);
    let mut found =
        Found { decisions: [by_source, Decision::NONE, Decision::NONE], destination: DestinationCell::NONE };
    if !alone && blocks == 0 {
        return found;
    }
    let Some(ip) = frame.read::<Ip>(at) else { return found };
    let cell = match RARE {
        true => state.destination(Ip::FAMILY, ip.address(Side::Destination)),
        false => ip.destination_cell(state),
    };
    found.destination = cell;
    let class = cell.class();
    if alone {
        let number = acl::<Ip, _, _>(state, |acl| &acl.by_destination) + (class << kind_bits) + kind;
        found.decisions[1] = decision(state, number);
    }
    if blocks != 0 {
        let mut block = source;
        if blocks != 1 {
            let cell = acl::<Ip, _, _>(state, |acl| &acl.rows) + source * blocks + class / BLOCK;
            block = cell_of(state, cell);
        }
        let cell = acl::<Ip, _, _>(state, |acl| &acl.pairs) + block * BLOCK + class % BLOCK;
        let pair = cell_of(state, cell);
        // Pair 0: no rule names both this source and this destination. That is so for most.
        if pair != 0 {
            let number = acl::<Ip, _, _>(state, |acl| &acl.by_pair) + (pair << kind_bits) + kind;
            found.decisions[2] = decision(state, number);
        }
    }
    found
}

/// The block or pair with this number.
#[inline(always)]
fn cell_of<S: State>(state: &S, number: u32) -> u32 {
    state.table(number * size_of::<u32>() as u32).copied().unwrap_or(0)
}

/// The decision with this number.
#[inline(always)]
fn decision<S: State>(state: &S, number: u32) -> Decision {
    state.table(number * size_of::<Decision>() as u32).copied().unwrap_or(Decision::NONE)
}

/// What conditions of rules are about, besides addresses and kind. Whole words, so that it can be handed over as such.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Facts {
    /// From the lowest byte up: TTL or hop limit, DSCP, length of the IP packet (two bytes), number of the outer VLAN tag (two bytes;
    /// 4096, which none has, without a tag), MTU that the message tells (two bytes).
    pub packet: u64,
    /// Bit n: the source is in the dynamic set n. Bit 16 + n: the destination is. From bit 32 on: what the message quotes
    /// ([`MISMATCH`], [`MTU`]).
    pub sets: u64,
}

/// What conditions are about, of the packet whose IP header begins at `at`.
#[inline(always)]
fn facts<Ip: Classifiable, F: Frame, S: State>(frame: &F, state: &S, at: usize) -> Option<Facts> {
    let ip = frame.read::<Ip>(at)?;
    let vlan = if at == UNTAGGED { NO_VLAN } else { frame.read::<VlanTag>(UNTAGGED)?.number() };
    let (hops, dscp, length) =
        (u64::from(ip.hops()), u64::from(ip.dscp()), ip.packet_length() as u64 & 0xffff);
    let packet = u64::from(vlan) << 32 | length << 16 | dscp << 8 | hops;
    // Look-ups in dynamic sets cost more than all the rest together.
    let depends = state.setting(|config| &config.facts);
    let mut sets = 0;
    if depends & DYNAMIC_SOURCES != 0 {
        sets = state.sets_of(Ip::FAMILY, frame.read::<Ip>(at)?.address(Side::Source));
    }
    if depends & DYNAMIC_DESTINATIONS != 0 {
        let address = frame.read::<Ip>(at)?.address(Side::Destination);
        sets |= state.sets_of(Ip::FAMILY, address) << DYNAMIC_SETS;
    }
    let mut quote = Quote::NONE;
    if depends & QUOTES != 0 {
        quote = Ip::quote(frame, at).unwrap_or(Quote::NONE);
    }
    Some(Facts { packet: packet | quote.mtu << 48, sets: sets | quote.what << 32 })
}

/// What a message quotes.
pub(crate) struct Quote {
    /// [`MISMATCH`] and [`MTU`].
    what: u64,
    /// The MTU; what is more than 16 bits hold is as much as they hold.
    mtu: u64,
}

impl Quote {
    const NONE: Self = Self { what: 0, mtu: 0 };

    #[inline(always)]
    const fn new(is_own: bool, mtu: Option<u64>) -> Self {
        let mismatch = if is_own { 0 } else { MISMATCH as u64 };
        match mtu {
            Some(mtu) if mtu > 0xffff => Self { what: mismatch | MTU as u64, mtu: 0xffff },
            Some(mtu) => Self { what: mismatch | MTU as u64, mtu },
            None => Self { what: mismatch, mtu: 0 },
        }
    }
}

const NO_VLAN: u16 = 4096;

/// Bit n: an address, as words in memory order, is in the dynamic set n. It is [`State::sets_of`] that is called.
#[inline(always)]
pub(crate) fn sets_of<S: State>(state: &S, family: Family, [high, low]: [u64; 2]) -> u64 {
    let membership = match family {
        Family::Ipv4 => state.membership4((high as u32).to_ne_bytes()),
        Family::Ipv6 => state.membership6([high.to_ne_bytes(), low.to_ne_bytes()]),
    };
    let mut sets = membership.map_or(0, |sets| members(state, sets));
    if ban::are_there(state) {
        let is_banned = ban::is_banned(state, family, [high, low]);
        sets |= u64::from(is_banned) << (state.setting(|config| &config.ban_set) & (DYNAMIC_SETS as u8 - 1));
    }
    sets
}

/// Bit n: still a member of the set n. By arithmetic, as [`satisfies`].
#[inline(always)]
fn members<S: State>(state: &S, membership: &Membership) -> u64 {
    let now = hidden(Until::from_nanoseconds(state.now()).0 as usize) as u64;
    let mut sets = 0;
    for (set, until) in membership.until.iter().enumerate() {
        sets |= now.wrapping_sub(u64::from(*until)) >> 63 << set;
    }
    sets
}

/// The decision that remains of one with conditions, and of those that come next where they do not hold. It is [`State::settle`]
/// that is called.
#[inline(always)]
pub(crate) fn settle<S: State>(state: &S, mut decision: Decision, facts: Facts) -> Decision {
    let entries = state.setting(|config| &config.entries);
    for _ in 0..MAX_ENTRIES {
        let Some(number) = decision.entry() else { return decision };
        let Some(entry) = state.table::<Entry>(entries + number * size_of::<Entry>() as u32) else { break };
        if satisfies(facts, entry) {
            return decision.with(entry.outcome);
        }
        decision = entry.next;
    }
    Decision::NONE
}

/// Whether a rule's conditions hold.
///
/// By arithmetic: from each comparison the kernel's verifier would learn something about the packet, and follow the rest of the
/// list once for every combination of what it can have learned.
#[inline(always)]
fn satisfies(facts: Facts, entry: &Entry) -> bool {
    // Negative unless the value is within both ends.
    let within = |value: u64, [least, most]: [u64; 2]| value.wrapping_sub(least) | most.wrapping_sub(value);
    // Negative unless both are equal, or the second one stands for any.
    let equals = |value: u64, wanted: u64, any: u64| {
        let (unequal, some) = (value ^ wanted, wanted ^ any);
        unequal.wrapping_neg() & some.wrapping_neg()
    };
    // Negative unless the set is among these, or stands for any.
    let is_in = |sets: u64, set: u8| {
        let some = u64::from(set ^ Entry::ANY);
        ((sets >> (set & (DYNAMIC_SETS as u8 - 1)) & 1).wrapping_sub(1)) & some.wrapping_neg()
    };
    // Negative if something has to be quoted that is not.
    let quotes = (u64::from(entry.quotes) & !(facts.sets >> (2 * DYNAMIC_SETS))).wrapping_neg();
    let part = |shift: u32, mask: u64| facts.packet >> shift & mask;
    let hops = within(part(0, 0xff), entry.ttl.map(u64::from));
    let dscp = equals(part(8, 0xff), entry.dscp.into(), Entry::ANY.into());
    let length = within(part(16, 0xffff), entry.length.map(u64::from));
    let vlan = equals(part(32, 0xffff), entry.vlan.into(), Entry::ANY_VLAN.into());
    let source = is_in(facts.sets, entry.source_set);
    let destination = is_in(facts.sets >> DYNAMIC_SETS, entry.destination_set);
    let mtu = within(part(48, 0xffff), entry.quoted_mtu.map(u64::from));
    (hops | dscp | length | vlan | source | destination | quotes | mtu) >> 63 == 0
}

/// What a destination is, as words in memory order. It is [`State::destination`] that is called, but for what most packets take.
#[inline(always)]
pub(crate) fn destination<S: State>(state: &S, family: Family, [high, low]: [u64; 2]) -> DestinationCell {
    match family {
        Family::Ipv4 => destination4(state, (high as u32).to_ne_bytes()),
        Family::Ipv6 => destination6(state, [high.to_ne_bytes(), low.to_ne_bytes()]),
    }
}

/// The value of a source, as words in memory order. It is [`State::source`] that is called, but for what most packets take.
#[inline(always)]
pub(crate) fn source<S: State>(state: &S, family: Family, [high, low]: [u64; 2]) -> u32 {
    let value = match family {
        Family::Ipv4 => value4(state, Side::Source, u32::from_be_bytes((high as u32).to_ne_bytes())),
        Family::Ipv6 => {
            let address = Address6::from_halves([high.to_ne_bytes(), low.to_ne_bytes()]);
            value6(state, Side::Source, address)
        }
    };
    value.unwrap_or_default()
}

/// What an IPv4 destination is.
#[inline(always)]
fn destination4<S: State>(state: &S, address: [u8; 4]) -> DestinationCell {
    let number = u32::from_ne_bytes(address);
    let slot = host_slot4(number);
    if state.host4(slot) == number {
        return DestinationCell::new(state.host_class4(slot).into(), Destination::Served);
    }
    DestinationCell(value4(state, Side::Destination, u32::from_be_bytes(address)).unwrap_or_default())
}

/// The value of an IPv4 address.
#[inline(always)]
fn value4<S: State>(state: &S, side: Side, address: u32) -> Option<u32> {
    let cell = state.root4(side, (address >> 16) as u16);
    if cell & LINES == 0 {
        return Some(cell);
    }
    let mut line = cell & ((1 << LINE_BITS) - 1);
    let mut half = 1 << (cell >> LINE_BITS & 31) >> 1;
    // All ranges that start at or before the address are no larger than this.
    let most = address << 16 | 0xffff;
    for _ in 0..LINE_STEPS {
        if half == 0 {
            break;
        }
        if ranges4(state, line + half)?.ranges[0] <= most {
            line += half;
        }
        half >>= 1;
    }
    let ranges = &ranges4(state, line)?.ranges;
    let mut place = 0;
    for half in [8, 4, 2, 1] {
        if ranges[(place + half) % RANGES] <= most {
            place += half;
        }
    }
    Some(ranges[place % RANGES] & 0xffff)
}

#[inline(always)]
fn ranges4<S: State>(state: &S, line: u32) -> Option<&Ranges4> {
    state.table(line * size_of::<Ranges4>() as u32)
}

/// What an IPv6 destination is.
#[inline(always)]
fn destination6<S: State>(state: &S, address: Halves) -> DestinationCell {
    let number = words(address);
    let slot = host_slot6(number);
    let [high, low] = state.host6(slot);
    if high == number[0] && low == number[1] {
        return DestinationCell::new(state.host_class6(slot).into(), Destination::Served);
    }
    DestinationCell(value6(state, Side::Destination, Address6::from_halves(address)).unwrap_or_default())
}

/// The value of an IPv6 address.
#[inline(always)]
fn value6<S: State>(state: &S, side: Side, address: Address6) -> Option<u32> {
    let key = (address.high >> 32) as u32;
    let line = line6(key, table6(state, side, |table| &table.index_mask));
    let index = table6(state, side, |table| &table.index);
    let line = state.table::<Line6>(index + line * size_of::<Line6>() as u32)?;
    let mut first = 0;
    let mut count = table6(state, side, |table| &table.fallback_count);
    for cell in &line.cells {
        if cell.key == key && cell.count != 0 {
            (first, count) = (cell.first, cell.count);
            break;
        }
    }
    // Binary search for the last range that starts at or before the address. The first one of a run always
    // does.
    count &= MAX_RUN6 * 2 - 1;
    for _ in 0..RUN6_STEPS {
        if count <= 1 {
            break;
        }
        let half = count / 2;
        let middle = range6(state, side, first + half)?;
        let start = Address6 { high: middle.start_high, low: middle.start_low };
        if start <= address {
            first += half;
        }
        count -= half;
    }
    Some(range6(state, side, first)?.value)
}

#[inline(always)]
fn range6<S: State>(state: &S, side: Side, place: u32) -> Option<&Range6> {
    state.table(table6(state, side, |table| &table.ranges) + place * size_of::<Range6>() as u32)
}

/// A setting of an IPv6 table.
#[inline(always)]
fn table6<S: State>(state: &S, side: Side, field: impl FnOnce(&Table6Config) -> &u32) -> u32 {
    state.setting(|config| field(&config.tables6[side as usize]))
}

impl Classifiable for Ipv4 {
    const FAMILY: Family = Family::Ipv4;

    #[inline(always)]
    fn source_value<S: State>(&self, state: &S) -> u32 {
        value4(state, Side::Source, u32::from_be_bytes(self.source)).unwrap_or_default()
    }

    #[inline(always)]
    fn destination_cell<S: State>(&self, state: &S) -> DestinationCell {
        destination4(state, self.destination)
    }

    #[inline(always)]
    fn hops(&self) -> u8 {
        self.ttl
    }

    #[inline(always)]
    fn dscp(&self) -> u8 {
        self.tos >> 2
    }

    #[inline(always)]
    fn packet_length(&self) -> usize {
        self.total_length()
    }

    #[inline(always)]
    fn limit_key(&self, rate: &Rate) -> [u64; 2] {
        let [address, _] = self.address(side_of(rate));
        [address & u64::from(rate.mask4), 0]
    }

    #[inline(always)]
    fn address(&self, side: Side) -> [u64; 2] {
        let address = if side == Side::Source { self.source } else { self.destination };
        [u32::from_ne_bytes(address).into(), 0]
    }

    #[inline(always)]
    fn quote<F: Frame>(frame: &F, at: usize) -> Option<Quote> {
        let header = frame.read::<Self>(at)?;
        let message = at + header.header_length();
        let icmp = frame.read::<Icmp>(message)?;
        if header.fragment_offset() != 0 || !icmp::quotes4(icmp.icmp_type()) {
            return None;
        }
        let mtu = if icmp.message() == TOO_BIG4 { Some(icmp.mtu4().into()) } else { None };
        let begins = message + icmp::HEADER;
        let is_whole = begins + ipv4::HEADER <= at + header.total_length();
        let quoted = frame.read::<Self>(begins).filter(|_| is_whole);
        let is_own = quoted.is_some_and(|quoted| {
            u32::from_ne_bytes(quoted.source) == u32::from_ne_bytes(header.destination)
        });
        Some(Quote::new(is_own, mtu))
    }
}

impl Classifiable for Ipv6 {
    const FAMILY: Family = Family::Ipv6;

    #[inline(always)]
    fn source_value<S: State>(&self, state: &S) -> u32 {
        value6(state, Side::Source, Address6::from_halves(self.source)).unwrap_or_default()
    }

    #[inline(always)]
    fn destination_cell<S: State>(&self, state: &S) -> DestinationCell {
        destination6(state, self.destination)
    }

    #[inline(always)]
    fn hops(&self) -> u8 {
        self.hop_limit
    }

    #[inline(always)]
    fn dscp(&self) -> u8 {
        self.traffic_class() >> 2
    }

    #[inline(always)]
    fn packet_length(&self) -> usize {
        size_of::<Self>() + self.payload_length()
    }

    #[inline(always)]
    fn limit_key(&self, rate: &Rate) -> [u64; 2] {
        let [high, low] = self.address(side_of(rate));
        [high & rate.mask6[0], low & rate.mask6[1]]
    }

    #[inline(always)]
    fn address(&self, side: Side) -> [u64; 2] {
        words(if side == Side::Source { self.source } else { self.destination })
    }

    #[inline(always)]
    fn quote<F: Frame>(frame: &F, at: usize) -> Option<Quote> {
        let header = frame.read::<Self>(at)?;
        let message = at + ipv6::HEADER;
        let icmp = frame.read::<Icmp>(message)?;
        // Behind extension headers no quote is looked for.
        if header.next_header != ipv6::ICMPV6 || !icmp::quotes6(icmp.icmp_type()) {
            return None;
        }
        let mtu = if icmp.icmp_type() == TOO_BIG6 { Some(icmp.mtu6().into()) } else { None };
        let begins = message + icmp::HEADER;
        let is_whole = begins + ipv6::HEADER <= at + header.packet_length();
        let quoted = frame.read::<Self>(begins).filter(|_| is_whole);
        let is_own = quoted.is_some_and(|quoted| words(quoted.source) == words(header.destination));
        Some(Quote::new(is_own, mtu))
    }
}
