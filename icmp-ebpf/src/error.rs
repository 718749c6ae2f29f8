//! Errors: a packet becomes the ICMP error "destination unreachable" about it.
//!
//! The error is put before the packet, which it quotes unchanged, as far as it fits (RFC 1812 4.3.2.3, RFC 4443 2.4 (c)).
//! VLAN tags stay. When no error may be sent is asked in the order of RFC 1122 3.2.2 and RFC 4443 2.4 (e); whether one more may
//! be, last of all.
//!
//! Errors are rare by nature, because they are limited: this is written once, for any number of VLAN tags, and not three times as
//! the way of an answer.

use icmp_common::{
    Family, checksum,
    tables::Destination,
    wire::{
        ethernet::{Ethernet, Mac, VlanTag},
        icmp::{self, Icmp, UNREACHABLE4, UNREACHABLE6},
        ipv4::{self, Ipv4},
        ipv6::{self, Halves, Ipv6},
    },
};

use crate::{
    Frame, NextHop, Route, State,
    answer::{not_for_us, way_to},
    classify::Classifiable,
    limit::is_within,
    parse::{TAGGED, UNTAGGED},
};

/// Most bytes of an IPv4 error (RFC 1812 4.3.2.3), and what of them comes before the quote.
const MOST4: usize = 576;
const BEFORE4: usize = ipv4::HEADER + icmp::HEADER;
/// The same for IPv6 (RFC 4443 2.4 (c)).
const MOST6: usize = 1280;
const BEFORE6: usize = ipv6::HEADER + icmp::HEADER;
/// Most bytes of an IPv4 header, rounded up to what a sum takes.
const HEADER_SUM: usize = 64;

/// Precedence 6, internetwork control (RFC 1812 4.3.2.5).
const PRECEDENCE: u8 = 6 << 5;

/// What has come of it.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Sent {
    /// None may be sent about this packet; it is as it was.
    No = 0,
    /// The frame is the error.
    Yes = 1,
    /// More than are allowed have been sent; the packet is as it was.
    OverLimit = 2,
    /// None could be made of the packet, which is no longer what it was.
    Lost = 3,
}

/// Makes the packet whose IP header begins at `ip` the error about it, with this code.
#[inline(always)]
pub(crate) fn error<F: Frame, S: State>(
    frame: &mut F,
    state: &mut S,
    ip: usize,
    family: Family,
    code: u8,
) -> Sent {
    let sent = match family {
        Family::Ipv4 => error4(frame, state, ip, code),
        Family::Ipv6 => error6(frame, state, ip, code),
    };
    match sent {
        Some(sent) => sent,
        None => Sent::No,
    }
}

/// `None`: no error may be sent.
#[inline(always)]
fn error4<F: Frame, S: State>(frame: &mut F, state: &mut S, ip: usize, code: u8) -> Option<Sent> {
    if not_for_us(frame, state).is_some() {
        return None;
    }
    let header = frame.read::<Ipv4>(ip)?;
    let (source, destination, length) = (header.source, header.destination, header.total_length());
    let from = u32::from_ne_bytes(source);
    if !ipv4::is_host(from) || source == destination || header.fragment_offset() != 0 {
        return None;
    }
    let header_sum = frame.sum::<HEADER_SUM>(ip, |frame| Some(frame.read::<Ipv4>(ip)?.header_length()))?;
    if !checksum::verifies(header_sum) {
        return None;
    }
    // A subnet's broadcast address, which only the tables know.
    if state.destination(Family::Ipv4, [from.into(), 0]).destination() == Destination::NotUnicast {
        return None;
    }
    let to = u32::from_ne_bytes(destination).into();
    let source4 = match state.destination(Family::Ipv4, [to, 0]).destination() {
        Destination::NotUnicast => return None,
        Destination::Served | Destination::Own => destination,
        Destination::NotServed => u32::to_ne_bytes(state.setting(|config| &config.source4)),
    };
    if source4 == [0; 4] {
        return None;
    }
    let quoted = length.min(MOST4 - BEFORE4);
    let route = Route::Ipv4 {
        tos: PRECEDENCE,
        total_length: (BEFORE4 + quoted) as u16,
        source: source4,
        destination: source,
    };
    let next_hop = way_to(frame, state, ip, &route)?;
    if !may_send::<Ipv4, F, S>(frame, state, ip) {
        return Some(Sent::OverLimit);
    }
    if !frame.grow(BEFORE4) {
        return None;
    }
    let ttl = state.setting(|config| &config.ttl);
    let header = Ipv4::new((icmp::HEADER + quoted) as u16, PRECEDENCE, ttl, source4, source);
    match write4(frame, ip, next_hop, quoted, header, code) {
        Some(()) => Some(Sent::Yes),
        None => Some(Sent::Lost),
    }
}

/// Writes the error before the packet, where there is room for it by now.
#[inline(always)]
fn write4<F: Frame>(
    frame: &mut F,
    ip: usize,
    next_hop: NextHop,
    quoted: usize,
    header: Ipv4,
    code: u8,
) -> Option<()> {
    put_before(frame, ip, BEFORE4, quoted, next_hop)?;
    *frame.write::<Ipv4>(ip)? = header;
    let at = ip + ipv4::HEADER;
    *frame.write::<Icmp>(at)? = Icmp::error(UNREACHABLE4, code);
    let sum = frame.sum::<MOST4>(at, |frame| Some(frame.read::<Ipv4>(ip)?.total_length() - ipv4::HEADER))?;
    frame.write::<Icmp>(at)?.set_checksum(!checksum::fold(sum));
    Some(())
}

/// `None`: no error may be sent.
#[inline(always)]
fn error6<F: Frame, S: State>(frame: &mut F, state: &mut S, ip: usize, code: u8) -> Option<Sent> {
    if not_for_us(frame, state).is_some() {
        return None;
    }
    let header = frame.read::<Ipv6>(ip)?;
    let (source, destination, length) = (header.source, header.destination, header.packet_length());
    if !ipv6::is_node(ipv6::words(source)) || source == destination {
        return None;
    }
    let source6 = match state.destination(Family::Ipv6, ipv6::words(destination)).destination() {
        Destination::NotUnicast => return None,
        Destination::Served | Destination::Own => destination,
        Destination::NotServed => own_source6(state),
    };
    if source6 == [[0; 8]; 2] {
        return None;
    }
    let quoted = length.min(MOST6 - BEFORE6);
    let route = Route::Ipv6 { total_length: (BEFORE6 + quoted) as u16, source: source6, destination: source };
    let next_hop = way_to(frame, state, ip, &route)?;
    if !may_send::<Ipv6, F, S>(frame, state, ip) {
        return Some(Sent::OverLimit);
    }
    if !frame.grow(BEFORE6) {
        return None;
    }
    let hops = state.setting(|config| &config.ttl);
    let header = Ipv6::new((icmp::HEADER + quoted) as u16, hops, source6, source);
    match write6(frame, ip, next_hop, quoted, header, code) {
        Some(()) => Some(Sent::Yes),
        None => Some(Sent::Lost),
    }
}

/// Writes the error before the packet, where there is room for it by now.
#[inline(always)]
fn write6<F: Frame>(
    frame: &mut F,
    ip: usize,
    next_hop: NextHop,
    quoted: usize,
    header: Ipv6,
    code: u8,
) -> Option<()> {
    put_before(frame, ip, BEFORE6, quoted, next_hop)?;
    *frame.write::<Ipv6>(ip)? = header;
    let at = ip + ipv6::HEADER;
    *frame.write::<Icmp>(at)? = Icmp::error(UNREACHABLE6, code);
    let sum = frame.sum::<MOST6>(at, |frame| Some(frame.read::<Ipv6>(ip)?.payload_length()))?;
    let pseudo_header = frame.read::<Ipv6>(ip)?.pseudo_header_sum();
    frame.write::<Icmp>(at)?.set_checksum(!checksum::fold(pseudo_header + sum));
    Some(())
}

/// Whether one more error may be sent to the packet's source, and one more in all.
#[inline(always)]
fn may_send<Ip: Classifiable, F: Frame, S: State>(frame: &F, state: &mut S, ip: usize) -> bool {
    let rate = state.setting(|config| &config.error_rate);
    is_within::<Ip, F, S>(frame, state, ip, rate)
}

/// The address from which errors about packets to others are sent.
#[inline(always)]
fn own_source6<S: State>(state: &S) -> Halves {
    let half = |half: u64| half.to_ne_bytes();
    [half(state.setting(|config| &config.source6[0])), half(state.setting(|config| &config.source6[1]))]
}

/// Cuts the packet, before which there is so much room, to what is quoted of it, and puts the link layer's header before the room.
#[inline(always)]
fn put_before<F: Frame>(
    frame: &mut F,
    ip: usize,
    room: usize,
    quoted: usize,
    next_hop: NextHop,
) -> Option<()> {
    if !frame.cut(room + ip + quoted) {
        return None;
    }
    let mut ethernet = *frame.read::<Ethernet>(room)?;
    ethernet.source = Mac::from_parts(next_hop.source);
    ethernet.destination = Mac::from_parts(next_hop.destination);
    *frame.write::<Ethernet>(0)? = ethernet;
    if ip >= TAGGED {
        let tag = *frame.read::<VlanTag>(room + UNTAGGED)?;
        *frame.write::<VlanTag>(UNTAGGED)? = tag;
    }
    if ip > TAGGED {
        let tag = *frame.read::<VlanTag>(room + TAGGED)?;
        *frame.write::<VlanTag>(TAGGED)? = tag;
    }
    Some(())
}
