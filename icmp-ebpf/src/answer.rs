//! Step "answer": an echo request to a served address becomes its reply, in place.
//!
//! What a reply takes over from its request, and why:
//! - Identification and Don't Fragment (RFC 6864): copied. The requester chose an identification that is unique
//!   for the pair of addresses, so it is unique for the reversed pair; a request that must not be fragmented
//!   has none that could be relied on, so its reply must not be fragmented either.
//! - DSCP (RFC 1812 4.3.2.5), and the ECN bits with it; traffic class in IPv6: copied, as Linux does.
//! - Flow label: copied, so that a flow's replies stay one flow (Linux: `flowlabel_reflect`).
//! - VLAN tags with their priority: untouched, because the frame is.
//!
//! Nothing is written before the last check has passed: a packet that is not answered leaves as it came.

use icmp_common::{
    checksum,
    reason::Reason,
    tables::Destination,
    wire::{
        Wire,
        ethernet::{Ethernet, Mac},
        icmp::{ECHO4, ECHO6, Echo, Icmp},
        ipv4::{self, Ipv4},
        ipv6::Ipv6,
    },
};

use crate::{
    Frame, NextHop, Route, State,
    classify::{destination4, destination6},
    parse::UNTAGGED,
    unlikely,
};

/// What differs between the families in answering an echo request.
pub(crate) trait Answerable: Wire {
    /// The types of request and reply.
    const ECHO: Echo;
    /// Whether the ICMP checksum covers a pseudo-header.
    const PSEUDO_HEADER: bool;

    /// What the packet's destination is to us.
    fn destination<S: State>(&self, state: &S) -> Destination;
    /// Whether the source is one host's, and another's than the destination.
    fn source_is_another_host(&self) -> bool;
    /// Length of the ICMP message, its header included, in bytes. Ethernet padding is not part of it.
    fn message_length(&self) -> usize;
    /// Whether the header's own checksum is right, if it has one.
    fn header_verifies(&self) -> bool;
    /// The pseudo-header's part in the ICMP checksum.
    fn pseudo_header_sum(&self) -> u64;
    /// The reply's way, as the routing table wants it described.
    fn reply_route(&self) -> Route;
    /// Makes it the reply's header.
    fn turn_around(&mut self, ttl: u8);
}

/// An IP header without options, and the header of the ICMP message behind it.
#[derive(Clone, Copy)]
#[repr(C)]
struct Packet<Ip> {
    ip: Ip,
    icmp: Icmp,
}

const _: () = assert!(align_of::<Packet<Ipv6>>() == 1 && size_of::<Packet<Ipv4>>() == 28);
// SAFETY: two headers that are Wire, one after the other; with alignment 1 there is no padding between them.
unsafe impl<Ip: Wire> Wire for Packet<Ip> {}

/// Answers an echo request, or says why not.
///
/// The packet is read again for each question instead of once: what is not held over a table look-up needs no
/// register, of which there are few, and its bytes are in the cache.
#[inline(always)]
pub(crate) fn answer<const IP: usize, Ip: Answerable, F: Frame, S: State>(
    frame: &mut F,
    state: &mut S,
) -> Reason {
    let Some(packet) = frame.read::<Packet<Ip>>(IP) else { return Reason::BadHeader };
    if unlikely(!packet.icmp.is_plain(Ip::ECHO.request)) {
        let other_type = packet.icmp.icmp_type() != Ip::ECHO.request;
        return if other_type { Reason::OtherType } else { Reason::OtherCode };
    }
    if unlikely(!state.enabled()) {
        return Reason::AnswersOff;
    }
    if let Some(reason) = not_for_us(frame, state) {
        return reason;
    }
    match packet.ip.destination(state) {
        Destination::Served => {}
        Destination::NotServed => return Reason::NotServed,
        Destination::NotUnicast => return Reason::NotUnicast,
    }
    let Some(packet) = frame.read::<Packet<Ip>>(IP) else { return Reason::BadHeader };
    if unlikely(!packet.ip.source_is_another_host()) {
        return Reason::BadSource;
    }
    if unlikely(!packet.ip.header_verifies()) {
        return Reason::BadHeaderChecksum;
    }
    let mut reply_checksum = packet.icmp.reply_checksum(Ip::ECHO);
    // Without a pseudo-header a result of 0 is ambiguous (see `checksum::update`); then the message has to be
    // looked at in any case.
    let ambiguous = !Ip::PSEUDO_HEADER && unlikely(reply_checksum == 0);
    if state.verify_checksum() || ambiguous {
        let pseudo_header = packet.ip.pseudo_header_sum();
        let at = IP + size_of::<Ip>();
        let length = |frame: &F| Some(frame.read::<Ip>(IP)?.message_length());
        let Some(sum) = frame.sum(at, length) else { return Reason::TooLong };
        if state.verify_checksum() && unlikely(!checksum::verifies(pseudo_header + sum)) {
            return Reason::BadChecksum;
        }
        // Type and checksum are the only words of the request that are not zero: all that the reply's checksum
        // covers is zero, and the checksum of that is 0xffff.
        if ambiguous && sum == checksum::sum(&[Ip::ECHO.request, 0, 0xf7, 0xff]) {
            reply_checksum = 0xffff;
        }
    }
    if unlikely(state.next_hop_from_fib()) {
        return match next_hop::<IP, Ip, F, S>(frame, state) {
            Some(next_hop) => reply::<IP, Ip, F, S>(frame, state, reply_checksum, Some(next_hop)),
            None => Reason::NoNextHop,
        };
    }
    reply::<IP, Ip, F, S>(frame, state, reply_checksum, None)
}

/// The kernel's answer to where the reply goes.
#[inline(always)]
fn next_hop<const IP: usize, Ip: Answerable, F: Frame, S: State>(
    frame: &F,
    state: &mut S,
) -> Option<NextHop> {
    // Behind a VLAN tag another interface's routes count, of which this one knows nothing.
    let packet = frame.read::<Packet<Ip>>(IP).filter(|_| IP == UNTAGGED)?;
    state.next_hop(&packet.ip.reply_route())
}

/// Makes the request its reply. Without a next hop it goes where the request came from.
#[inline(always)]
fn reply<const IP: usize, Ip: Answerable, F: Frame, S: State>(
    frame: &mut F,
    state: &S,
    checksum: u16,
    next_hop: Option<NextHop>,
) -> Reason {
    let ttl = state.ttl();
    let Some(packet) = frame.write::<Packet<Ip>>(IP) else { return Reason::BadHeader };
    packet.ip.turn_around(ttl);
    packet.icmp.set_type(Ip::ECHO.reply, checksum);
    // A frame that holds the packet holds this, too.
    if let Some(ethernet) = frame.write::<Ethernet>(0) {
        ethernet.reverse();
        if let Some(NextHop { source, destination }) = next_hop {
            ethernet.source = Mac::from_parts(source);
            ethernet.destination = Mac::from_parts(destination);
        }
    }
    Reason::Echo
}

/// A packet whose IP header is impossible: it is ours to drop only if it was sent to us.
#[inline(always)]
pub(crate) fn discard<F: Frame, S: State>(frame: &F, state: &S) -> Reason {
    not_for_us(frame, state).unwrap_or(Reason::BadHeader)
}

/// Why a frame is none that the interface's own host would take in as unicast from somebody else.
#[inline(always)]
fn not_for_us<F: Frame, S: State>(frame: &F, state: &S) -> Option<Reason> {
    let Some(ethernet) = frame.read::<Ethernet>(0) else { return Some(Reason::OtherHost) };
    let (destination, source) = (ethernet.destination.parts(), ethernet.source.parts());
    if unlikely(!destination.is(state.interface_mac())) {
        let group = destination.is_group();
        return Some(if group { Reason::LinkMulticast } else { Reason::OtherHost });
    }
    // The destination is our own address.
    if unlikely(source.is(destination)) || unlikely(source.is_group()) {
        return Some(Reason::OwnFrame);
    }
    None
}

impl Answerable for Ipv4 {
    const ECHO: Echo = ECHO4;
    const PSEUDO_HEADER: bool = false;

    #[inline(always)]
    fn destination<S: State>(&self, state: &S) -> Destination {
        destination4(state, self.destination)
    }

    #[inline(always)]
    fn source_is_another_host(&self) -> bool {
        let (source, destination) = (u32::from_ne_bytes(self.source), u32::from_ne_bytes(self.destination));
        ipv4::is_host(source) && source != destination
    }

    #[inline(always)]
    fn message_length(&self) -> usize {
        self.total_length().wrapping_sub(size_of::<Self>())
    }

    #[inline(always)]
    fn header_verifies(&self) -> bool {
        self.checksum_verifies()
    }

    #[inline(always)]
    fn pseudo_header_sum(&self) -> u64 {
        0
    }

    #[inline(always)]
    fn reply_route(&self) -> Route {
        Route::Ipv4 {
            tos: self.tos,
            total_length: self.total_length() as u16,
            source: self.destination,
            destination: self.source,
        }
    }

    #[inline(always)]
    fn turn_around(&mut self, ttl: u8) {
        self.reverse();
        self.set_ttl(ttl);
    }
}

impl Answerable for Ipv6 {
    const ECHO: Echo = ECHO6;
    const PSEUDO_HEADER: bool = true;

    #[inline(always)]
    fn destination<S: State>(&self, state: &S) -> Destination {
        destination6(state, self.destination)
    }

    #[inline(always)]
    fn source_is_another_host(&self) -> bool {
        self.source().is_node() && self.source() != self.destination()
    }

    #[inline(always)]
    fn message_length(&self) -> usize {
        self.payload_length()
    }

    #[inline(always)]
    fn header_verifies(&self) -> bool {
        true
    }

    #[inline(always)]
    fn pseudo_header_sum(&self) -> u64 {
        self.pseudo_header_sum()
    }

    #[inline(always)]
    fn reply_route(&self) -> Route {
        Route::Ipv6 {
            total_length: (size_of::<Self>() + self.payload_length()) as u16,
            source: self.destination,
            destination: self.source,
        }
    }

    #[inline(always)]
    fn turn_around(&mut self, ttl: u8) {
        self.reverse();
        self.hop_limit = ttl;
    }
}
