//! Step "tell": what rules log becomes an event, and packets that somebody captures are copied.
//!
//! Where no rule logs and nobody captures, the kernel's verifier removes this step. Whether a packet is told is asked when its rule is
//! known, and what there is to say of it is noted then, because an answer no longer knows what it was; its reason is added at the
//! exit. Capturing is the kernel's alone (`kernel/capture.rs`): on the host, whoever hands over a frame has it.

use icmp_common::{
    Family,
    counters::Slot,
    events::{Event, Log},
    wire::{
        Packet,
        ethernet::{self, VlanTag},
        ipv4::Ipv4,
        ipv6::{self, Ipv6},
    },
};

use crate::{
    Frame, Side, State,
    classify::Classifiable,
    parse::{
        DOUBLE_TAGGED, Message, TAGGED, UNTAGGED, Unusual, parse_unusual_ipv4, parse_unusual_ipv6, tags,
    },
};

/// Whether any rule logs.
#[inline(always)]
pub(crate) fn logs<S: State>(state: &S) -> bool {
    state.setting(|config| &config.logs) != 0
}

/// Whether anybody captures.
#[inline(always)]
pub(crate) fn captures<S: State>(state: &S) -> bool {
    state.setting(|config| &config.channels[0].on) != 0 || state.setting(|config| &config.channels[1].on) != 0
}

/// A packet has come that is counted at the exit, and that nothing has changed yet.
#[inline(always)]
pub(crate) fn arrive<S: State>(state: &mut S, family: Family) {
    if captures(state) {
        state.arrive(family);
    }
}

/// The rule with this slot decides about the packet.
#[inline(always)]
pub(crate) fn note_rule<S: State>(state: &mut S, slot: u32) {
    if captures(state)
        && let Some(telling) = state.telling()
    {
        telling.slot = slot;
    }
}

/// Notes the packet, because the rule with this slot logs it, if it is its turn; or, with [`Event::OVER`], that somebody is over the rate
/// with this slot as of this packet. It is [`State::note`] that is called.
#[inline(always)]
pub(crate) fn note<F: Frame, S: State>(frame: &F, state: &mut S, slot: u32, flags: u8) {
    if flags & Event::OVER != 0
        && let Some(telling) = state.telling()
        && telling.pending != 0
    {
        telling.event.slot = slot;
        telling.event.flags |= Event::OVER;
        return;
    }
    if wants(state, slot) {
        describe(frame, state, slot, flags);
    }
}

/// Whether it is a packet's turn to be told.
#[inline(always)]
fn wants<S: State>(state: &mut S, slot: u32) -> bool {
    let first = state.setting(|config| &config.log);
    let Some(log) = state.table::<Log>(first + slot * size_of::<Log>() as u32).copied() else { return false };
    let window = state.window();
    state.telling().is_some_and(|telling| telling.wants(log, window))
}

/// Tells of the packet that is under way, if it has been noted, now that its reason is known.
#[inline(always)]
pub(crate) fn tell<S: State>(state: &mut S, slot: Slot) {
    if logs(state) && state.telling().is_some_and(|telling| telling.pending != 0) {
        state.tell(slot);
    }
    if captures(state) {
        state.leave(slot);
    }
}

/// Writes down what there is to say of a packet.
#[inline(always)]
fn describe<F: Frame, S: State>(frame: &F, state: &mut S, slot: u32, flags: u8) {
    let (ip, ether_type) = match tags(frame) {
        Some((0, ether_type)) => (UNTAGGED, ether_type),
        Some((1, ether_type)) => (TAGGED, ether_type),
        Some((_, ether_type)) => (DOUBLE_TAGGED, ether_type),
        None => return,
    };
    let event = match ether_type {
        ethernet::IPV4 => event::<Ipv4, F, S>(frame, state, ip, message4(frame, ip)),
        _ => event::<Ipv6, F, S>(frame, state, ip, message6(frame, ip)),
    };
    let Some(event) = event else { return };
    if let Some(telling) = state.telling() {
        let suppressed = telling.event.suppressed;
        telling.event = Event { slot, suppressed, flags: event.flags | flags, ..event };
        telling.pending = 1;
    }
}

/// What there is to say of a packet whose IP header begins at `ip`.
#[inline(always)]
fn event<Ip: Classifiable, F: Frame, S: State>(
    frame: &F,
    state: &S,
    ip: usize,
    message: Message,
) -> Option<Event> {
    let vlan = if ip == UNTAGGED { Event::NO_VLAN } else { frame.read::<VlanTag>(UNTAGGED)?.number() };
    let (message, flags) = message.known().map_or((0, Event::NO_TYPE), |message| (message, 0));
    let header = frame.read::<Ip>(ip)?;
    Some(Event {
        time: state.now(),
        source: header.address(Side::Source),
        destination: header.address(Side::Destination),
        slot: 0,
        interface: state.setting(|config| &config.interface_index),
        suppressed: 0,
        length: header.packet_length() as u16,
        vlan,
        family: Ip::FAMILY as u8,
        reason: 0,
        icmp_type: message as u8,
        code: (message >> 8) as u8,
        flags,
        reserved: [0; 3],
    })
}

/// Type and code of an IPv4 packet's message.
#[inline(always)]
fn message4<F: Frame>(frame: &F, ip: usize) -> Message {
    known(parse_unusual_ipv4(frame, ip))
}

/// The same in IPv6.
#[inline(always)]
fn message6<F: Frame>(frame: &F, ip: usize) -> Message {
    match frame.read::<Packet<Ipv6>>(ip) {
        Some(packet) if packet.ip.next_header == ipv6::ICMPV6 => Message::new(packet.icmp.message()),
        _ => known(parse_unusual_ipv6(frame, ip)),
    }
}

#[inline(always)]
fn known(unusual: Unusual) -> Message {
    if unusual.ours { unusual.message } else { Message::FRAGMENT }
}
