//! Step "classify": source class, destination class, kind class -> what the rules say.
//!
//! The tables and their layouts are described in [`icmp_common::tables`] and [`icmp_common::config::AclConfig`]. A cell that
//! is missing, which no table of ours has, counts as zero.

use icmp_common::{
    Family,
    config::AclConfig,
    dynamic::Until,
    tables::{
        BLOCK, Cells, Destination, DestinationCell, Entry, FRAGMENT, LINE, LINE_BITS, LINE_STEPS, LINES,
        LIST, MAX_LIST, MAX_RUN6, Outcome, RUN6_STEPS, Ruling, host_slot4, host_slot6, line6,
    },
    wire::{
        Wire,
        ethernet::VlanTag,
        ipv4::Ipv4,
        ipv6::{Address6, Halves, Ipv6, words},
    },
};

use crate::{
    Frame, Side, State,
    parse::{Message, UNTAGGED},
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
    /// Whether an address, the source's or the destination's, is in a dynamic set now.
    fn is_member<S: State>(&self, state: &S, side: Side, set: u8) -> bool;
}

/// What the rules say about a packet, and what its destination is, if they had to look.
pub(crate) struct Classified {
    pub(crate) ruling: Ruling,
    pub(crate) destination: Option<Destination>,
}

/// Finds the rule that decides about a packet, and counts the packet for it.
#[inline(always)]
pub(crate) fn classify<const IP: usize, Ip: Classifiable, F: Frame, S: State>(
    frame: &F,
    state: &mut S,
    message: Message,
) -> Classified {
    if acl::<Ip, _, _>(state, |acl| &acl.rules) == 0 {
        return Classified { ruling: Ruling::Permit, destination: None };
    }
    let (decided, destination) = look_up::<IP, Ip, F, S>(frame, state, message).unwrap_or_default();
    let outcome = if unlikely(decided & LIST != 0) {
        walk::<IP, Ip, F, S>(frame, state, decided & !LIST)
    } else {
        Outcome(decided)
    };
    state.count_rule(outcome.slot());
    Classified { ruling: outcome.ruling(), destination }
}

/// A setting of the family's access list.
#[inline(always)]
fn acl<Ip: Classifiable, S: State, T: Copy>(state: &S, field: impl FnOnce(&AclConfig) -> &T) -> T {
    state.setting(|config| field(&config.acl[Ip::FAMILY as usize]))
}

/// The cell of the packet's source, destination and kind. The packet is read again for each, as in step "answer".
#[inline(always)]
fn look_up<const IP: usize, Ip: Classifiable, F: Frame, S: State>(
    frame: &F,
    state: &S,
    message: Message,
) -> Option<(u32, Option<Destination>)> {
    let mut pair = 0;
    if acl::<Ip, _, _>(state, |acl| &acl.sources) != 0 {
        pair = frame.read::<Ip>(IP)?.source_value(state);
    }
    let mut destination = None;
    let blocks = acl::<Ip, _, _>(state, |acl| &acl.blocks);
    if blocks != 0 {
        let cell = frame.read::<Ip>(IP)?.destination_cell(state);
        destination = Some(cell.destination());
        let class = cell.class();
        let mut block = pair;
        if blocks != 1 {
            let at = acl::<Ip, _, _>(state, |acl| &acl.rows) + pair * blocks + class / BLOCK;
            block = cell_of(state.rows(at / LINE as u32)?, at);
        }
        let at = acl::<Ip, _, _>(state, |acl| &acl.pairs) + block * BLOCK + class % BLOCK;
        pair = cell_of(state.pairs(at / LINE as u32)?, at);
    }
    let kind = match message.known() {
        Some(message) => state.kind(Ip::FAMILY, message).into(),
        None => FRAGMENT,
    };
    let at = acl::<Ip, _, _>(state, |acl| &acl.chains)
        + (pair << acl::<Ip, _, _>(state, |acl| &acl.kind_bits))
        + kind;
    Some((cell_of(state.chains(at / LINE as u32)?, at), destination))
}

/// The cell with this number, in its line.
#[inline(always)]
fn cell_of(line: &Cells, number: u32) -> u32 {
    line.cells[number as usize % LINE]
}

/// The first rule of a list whose conditions hold.
#[inline(always)]
fn walk<const IP: usize, Ip: Classifiable, F: Frame, S: State>(frame: &F, state: &S, first: u32) -> Outcome {
    for number in 0..MAX_LIST {
        let (Some(entry), Some(ip)) = (state.entry(first + number), frame.read::<Ip>(IP)) else { break };
        if entry.last != 0 || holds::<IP, Ip, F, S>(entry, ip, frame, state) {
            return entry.outcome;
        }
    }
    Outcome(0)
}

/// Whether a rule's further conditions hold.
#[inline(always)]
fn holds<const IP: usize, Ip: Classifiable, F: Frame, S: State>(
    entry: &Entry,
    ip: &Ip,
    frame: &F,
    state: &S,
) -> bool {
    let ([least_hops, most_hops], [least, most]) = (entry.ttl, entry.length);
    let (hops, length) = (ip.hops(), ip.packet_length());
    if hops < least_hops || hops > most_hops || length < usize::from(least) || length > usize::from(most) {
        return false;
    }
    if entry.dscp != Entry::ANY && entry.dscp != ip.dscp() {
        return false;
    }
    if entry.vlan != Entry::ANY_VLAN && !is_tagged::<IP, F>(frame, entry.vlan) {
        return false;
    }
    if state.setting(|config| &config.dynamic) == 0 {
        return true;
    }
    let is_in = |side, set| set == Entry::ANY || ip.is_member(state, side, set);
    is_in(Side::Source, entry.source_set) && is_in(Side::Destination, entry.destination_set)
}

/// Whether the outer VLAN tag has this number.
#[inline(always)]
fn is_tagged<const IP: usize, F: Frame>(frame: &F, number: u16) -> bool {
    IP != UNTAGGED && frame.read::<VlanTag>(UNTAGGED).is_some_and(|tag| tag.number() == number)
}

/// What an IPv4 destination is.
#[inline(always)]
pub(crate) fn destination4<S: State>(state: &S, address: [u8; 4]) -> DestinationCell {
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
    let [first, second, ..] = address.to_be_bytes();
    let cell = state.root4(side, first.into())?[usize::from(second)];
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
        if state.ranges4(side, line + half)?.ranges[0] <= most {
            line += half;
        }
        half >>= 1;
    }
    let ranges = &state.ranges4(side, line)?.ranges;
    let mut at = 0;
    for half in [8, 4, 2, 1] {
        if ranges[at + half] <= most {
            at += half;
        }
    }
    Some(ranges[at] & 0xffff)
}

/// What an IPv6 destination is.
#[inline(always)]
pub(crate) fn destination6<S: State>(state: &S, address: Halves) -> DestinationCell {
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
    let line =
        state.index6(side, line6(key, state.setting(|config| &config.tables6[side as usize].index_mask)))?;
    let mut first = 0;
    let mut count = state.setting(|config| &config.tables6[side as usize].fallback_count);
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
        let middle = state.range6(side, first + half)?;
        let start = Address6 { high: middle.start_high, low: middle.start_low };
        if start <= address {
            first += half;
        }
        count -= half;
    }
    Some(state.range6(side, first)?.value)
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
    fn is_member<S: State>(&self, state: &S, side: Side, set: u8) -> bool {
        let address = if side == Side::Source { self.source } else { self.destination };
        state.membership4(address).is_some_and(|membership| is_ahead(state, membership.until(set)))
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
    fn is_member<S: State>(&self, state: &S, side: Side, set: u8) -> bool {
        let address = if side == Side::Source { self.source } else { self.destination };
        state.membership6(address).is_some_and(|membership| is_ahead(state, membership.until(set)))
    }
}

/// Whether a time has not come yet. The clock is only asked where the answer depends on it.
#[inline(always)]
fn is_ahead<S: State>(state: &S, until: Until) -> bool {
    until != Until::NEVER && until.is_ahead(state.now())
}
