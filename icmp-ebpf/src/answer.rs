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
    checksum, config,
    reason::Reason,
    tables::{Destination, DestinationCell},
    wire::{
        Packet,
        ethernet::{Ethernet, Mac, MacParts},
        icmp::{ECHO4, ECHO6, Echo, PROBE4, PROBE6, TIMESTAMP},
        ipv4::{self, Ipv4},
        ipv6::{self, Ipv6},
    },
};

use crate::{
    Frame, MAX_SUM, NextHop, Route, State,
    classify::{Classifiable, asks_destination},
    parse::UNTAGGED,
    unlikely,
};

/// What differs between the families in answering an echo request.
pub(crate) trait Answerable: Classifiable {
    /// The types of request and reply.
    const ECHO: Echo;
    /// The same of extended echo.
    const PROBE: Echo;
    /// Whether the ICMP checksum covers a pseudo-header.
    const PSEUDO_HEADER: bool;

    /// Whether requests of a type other than echo are answered.
    fn is_query<S: State>(icmp_type: u8, state: &S) -> bool;
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

/// Answers an echo request, or says why not. `cell` is what its destination is, if rules asked. `None`: it is
/// a request of another type that may be answered.
///
/// The packet is read again for each question instead of once: what is not held over a table look-up needs no
/// register, of which there are few, and its bytes are in the cache.
#[inline(always)]
pub(crate) fn answer<const IP: usize, Ip: Answerable, F: Frame, S: State>(
    frame: &mut F,
    state: &mut S,
    mut cell: DestinationCell,
) -> Option<Reason> {
    let Some(packet) = frame.read::<Packet<Ip>>(IP) else { return Some(Reason::BadHeader) };
    if unlikely(!packet.icmp.is_plain(Ip::ECHO.request)) {
        let icmp_type = packet.icmp.icmp_type();
        if icmp_type == Ip::ECHO.request {
            return Some(Reason::OtherCode);
        }
        return if Ip::is_query(icmp_type, state) { None } else { Some(Reason::OtherType) };
    }
    let is_known = asks_destination::<Ip, S>(state);
    if let Some(reason) = refusal::<Ip, F, S>(frame, state, IP, is_known, &mut cell) {
        return Some(reason);
    }
    Some(echo::<IP, Ip, F, S>(frame, state, cell.class() & (DestinationCell::CLASSES - 1)))
}

/// Why a request, of whatever type, is not answered, as far as its addresses and the IP header can tell. `cell` is what its destination
/// is; if that is not known it becomes so.
#[inline(always)]
pub(crate) fn refusal<Ip: Answerable, F: Frame, S: State>(
    frame: &F,
    state: &S,
    ip: usize,
    is_known: bool,
    cell: &mut DestinationCell,
) -> Option<Reason> {
    if unlikely(state.setting(|config| &config.enabled) == 0) {
        return Some(Reason::AnswersOff);
    }
    if let Some(reason) = not_for_us(frame, state) {
        return Some(reason);
    }
    // With the ICMP header, as everywhere else on an answer's way: bounds that are asked alike are asked once.
    let Some(packet) = frame.read::<Packet<Ip>>(ip) else { return Some(Reason::BadHeader) };
    if !is_known {
        *cell = packet.ip.destination_cell(state);
    }
    match cell.destination() {
        Destination::Served => {}
        Destination::NotServed | Destination::Own => return Some(Reason::NotServed),
        Destination::NotUnicast => return Some(Reason::NotUnicast),
    }
    let Some(packet) = frame.read::<Packet<Ip>>(ip) else { return Some(Reason::BadHeader) };
    if unlikely(!packet.ip.source_is_another_host()) {
        return Some(Reason::BadSource);
    }
    if unlikely(!packet.ip.header_verifies()) {
        return Some(Reason::BadHeaderChecksum);
    }
    None
}

/// Answers an echo request that nothing speaks against so far.
#[inline(always)]
fn echo<const IP: usize, Ip: Answerable, F: Frame, S: State>(
    frame: &mut F,
    state: &mut S,
    class: u32,
) -> Reason {
    let Some(packet) = frame.read::<Packet<Ip>>(IP) else { return Reason::BadHeader };
    let checksum = packet.icmp.reply_checksum(Ip::ECHO);
    // Without a pseudo-header a result of 0 is ambiguous (see `checksum::update`); then the message has to be
    // looked at in any case.
    let ambiguous = !Ip::PSEUDO_HEADER && unlikely(checksum == 0);
    let look = verifies(state) || ambiguous;
    if unlikely(by_fib(state)) {
        return reply_by_fib::<IP, Ip, F, S>(frame, state, class, checksum, look);
    }
    if look {
        return match look_at_message::<IP, Ip, F, S>(frame, state, checksum) {
            Ok(checksum) => rewrite::<IP, Ip, F, S>(frame, state, class, checksum, None),
            Err(reason) => reason,
        };
    }
    rewrite::<IP, Ip, F, S>(frame, state, class, checksum, None)
}

/// Verifies the request's checksum, and settles what the reply's is.
#[inline(always)]
fn look_at_message<const IP: usize, Ip: Answerable, F: Frame, S: State>(
    frame: &mut F,
    state: &S,
    checksum: u16,
) -> Result<u16, Reason> {
    let length = |frame: &F| Some(frame.read::<Ip>(IP)?.message_length());
    let sum = frame.sum::<MAX_SUM>(IP + size_of::<Ip>(), length).ok_or(Reason::TooLong)?;
    // After the message, so that nothing is held over the loop.
    let pseudo_header = frame.read::<Ip>(IP).ok_or(Reason::BadHeader)?.pseudo_header_sum();
    if verifies(state) && unlikely(!checksum::verifies(pseudo_header + sum)) {
        return Err(Reason::BadChecksum);
    }
    // If type and checksum are the only words of the request that are not zero, all that the reply's checksum
    // covers is zero, and the checksum of that is 0xffff.
    let zeros =
        !Ip::PSEUDO_HEADER && checksum == 0 && sum == checksum::sum(&[Ip::ECHO.request, 0, 0xf7, 0xff]);
    Ok(if zeros { 0xffff } else { checksum })
}

/// Why a request of another type than echo is not answered, as far as its ICMP checksum can tell. Those that are usual are short,
/// and each byte that may have to be looked at makes loading the program slower.
#[inline(always)]
pub(crate) fn verify<Ip: Answerable, F: Frame, S: State>(
    frame: &mut F,
    state: &S,
    ip: usize,
) -> Option<Reason> {
    const MOST: usize = 576;
    if !verifies(state) {
        return None;
    }
    let length = |frame: &F| Some(frame.read::<Ip>(ip)?.message_length());
    let Some(sum) = frame.sum::<MOST>(ip + size_of::<Ip>(), length) else { return Some(Reason::TooLong) };
    let Some(header) = frame.read::<Ip>(ip) else { return Some(Reason::BadHeader) };
    (!checksum::verifies(header.pseudo_header_sum() + sum)).then_some(Reason::BadChecksum)
}

/// The MAC addresses of a request's reply; `None` if the routing table does not say where it goes.
#[inline(always)]
pub(crate) fn way_back<Ip: Answerable, F: Frame, S: State>(
    frame: &F,
    state: &mut S,
    ip: usize,
) -> Option<NextHop> {
    let route = frame.read::<Ip>(ip)?.reply_route();
    way_to(frame, state, ip, &route)
}

/// The MAC addresses of what is sent back, by way of a route: those of the frame that came, exchanged, or what the routing table
/// says; `None` if it does not say.
#[inline(always)]
pub(crate) fn way_to<F: Frame, S: State>(
    frame: &F,
    state: &mut S,
    ip: usize,
    route: &Route,
) -> Option<NextHop> {
    if !by_fib(state) {
        let ethernet = frame.read::<Ethernet>(0)?;
        return Some(NextHop { source: ethernet.destination.parts(), destination: ethernet.source.parts() });
    }
    // Behind a VLAN tag another interface's routes count, of which this one knows nothing.
    if ip != UNTAGGED {
        return None;
    }
    state.next_hop(route)
}

/// Makes the headers before a message, which is a reply already, those of a reply.
#[inline(always)]
pub(crate) fn turn_around<Ip: Answerable, F: Frame, S: State>(
    frame: &mut F,
    state: &S,
    ip: usize,
    next_hop: NextHop,
) {
    if let Some(header) = frame.write::<Ip>(ip) {
        header.turn_around(state.setting(|config| &config.ttl));
    }
    if let Some(ethernet) = frame.write::<Ethernet>(0) {
        ethernet.source = Mac::from_parts(next_hop.source);
        ethernet.destination = Mac::from_parts(next_hop.destination);
    }
}

/// Makes the request its reply, to be sent where the routing table says.
#[inline(always)]
fn reply_by_fib<const IP: usize, Ip: Answerable, F: Frame, S: State>(
    frame: &mut F,
    state: &mut S,
    class: u32,
    mut checksum: u16,
    look: bool,
) -> Reason {
    if look {
        match look_at_message::<IP, Ip, F, S>(frame, state, checksum) {
            Ok(settled) => checksum = settled,
            Err(reason) => return reason,
        }
    }
    match way_back::<Ip, F, S>(frame, state, IP) {
        Some(next_hop) => rewrite::<IP, Ip, F, S>(frame, state, class, checksum, Some(next_hop)),
        None => Reason::NoNextHop,
    }
}

/// Counts the request for the prefix that it is served by, and rewrites it. Without a next hop its MAC addresses are exchanged.
#[inline(always)]
fn rewrite<const IP: usize, Ip: Answerable, F: Frame, S: State>(
    frame: &mut F,
    state: &mut S,
    class: u32,
    checksum: u16,
    next_hop: Option<NextHop>,
) -> Reason {
    if state.setting(|config| &config.counts_served) != 0 {
        count_served::<IP, Ip, F, S>(frame, state, class);
    }
    let Some(packet) = frame.write::<Packet<Ip>>(IP) else { return Reason::BadHeader };
    packet.ip.turn_around(state.setting(|config| &config.ttl));
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

/// Counts a request for the prefix that its destination is served by.
#[inline(always)]
fn count_served<const IP: usize, Ip: Answerable, F: Frame, S: State>(frame: &F, state: &mut S, class: u32) {
    let place = state.setting(|config| &config.served[Ip::FAMILY as usize]) + class * size_of::<u32>() as u32;
    let Some(slot) = state.table::<u32>(place).copied() else { return };
    let Some(packet) = frame.read::<Packet<Ip>>(IP) else { return };
    let length = packet.ip.packet_length() as u32;
    state.count_rule(slot, length);
}

/// A packet whose IP header is impossible: it is ours to drop only if it was sent to us.
#[inline(always)]
pub(crate) fn discard<F: Frame, S: State>(frame: &F, state: &S) -> Reason {
    not_for_us(frame, state).unwrap_or(Reason::BadHeader)
}

/// Why a frame is none that the interface's own host would take in as unicast from somebody else.
#[inline(always)]
pub(crate) fn not_for_us<F: Frame, S: State>(frame: &F, state: &S) -> Option<Reason> {
    let Some(ethernet) = frame.read::<Ethernet>(0) else { return Some(Reason::OtherHost) };
    let (destination, source) = (ethernet.destination.parts(), ethernet.source.parts());
    let own = interface_mac(state);
    // In parts, because of which the first one mostly decides.
    if unlikely(destination.head != own.head) || unlikely(destination.tail != own.tail) {
        let group = destination.is_group();
        return Some(if group { Reason::LinkMulticast } else { Reason::OtherHost });
    }
    // The destination is our own address.
    let from_us = unlikely(source.head == destination.head) && source.tail == destination.tail;
    if from_us || unlikely(source.is_group()) {
        return Some(Reason::OwnFrame);
    }
    None
}

/// The interface's MAC address; in parts, each of them a load that the verifier replaces by its value.
#[inline(always)]
fn interface_mac<S: State>(state: &S) -> MacParts {
    let head = state.setting(|config| &config.interface_mac.head);
    let tail = state.setting(|config| &config.interface_mac.tail);
    MacParts { head, tail, reserved: 0 }
}

/// Whether a request's ICMP checksum is verified.
#[inline(always)]
fn verifies<S: State>(state: &S) -> bool {
    state.setting(|config| &config.verify_checksum) != 0
}

/// Whether extended echo requests are answered.
#[inline(always)]
fn probes<S: State>(state: &S) -> bool {
    state.setting(|config| &config.probe) != 0
}

/// Whether replies go where the routing table says, instead of where the request came from.
#[inline(always)]
fn by_fib<S: State>(state: &S) -> bool {
    state.setting(|config| &config.next_hop) == config::NextHop::Fib as u8
}

impl Answerable for Ipv4 {
    const ECHO: Echo = ECHO4;
    const PROBE: Echo = PROBE4;
    const PSEUDO_HEADER: bool = false;

    #[inline(always)]
    fn is_query<S: State>(icmp_type: u8, state: &S) -> bool {
        let timestamp = state.setting(|config| &config.timestamp) != 0;
        timestamp && icmp_type == TIMESTAMP.request || probes(state) && icmp_type == PROBE4.request
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
    const PROBE: Echo = PROBE6;
    const PSEUDO_HEADER: bool = true;

    #[inline(always)]
    fn is_query<S: State>(icmp_type: u8, state: &S) -> bool {
        probes(state) && icmp_type == PROBE6.request
    }

    #[inline(always)]
    fn source_is_another_host(&self) -> bool {
        let (source, destination) = (ipv6::words(self.source), ipv6::words(self.destination));
        // The last halves differ, mostly; that is asked first.
        ipv6::is_node(source) && (source[1] != destination[1] || source[0] != destination[0])
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
