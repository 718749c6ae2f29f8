//! Step "parse": Ethernet, up to two VLAN tags, IPv4 or IPv6, ICMP.
//!
//! Whatever else an interface receives pays for this step up to "not ours": a few comparisons. Nothing is
//! changed here, and nothing is judged that needs settings or tables.

use icmp_common::{
    reason::Reason,
    wire::{
        Packet,
        ethernet::{self, Ethernet, VlanTag},
        icmp::{self, TypeAndCode},
        ipv4::{self, Ipv4},
        ipv6::{self, Extension, Ipv6},
        udp::{self, Udp},
    },
};

use crate::{Frame, unlikely};

/// What a frame turned out to be.
#[derive(Clone, Copy)]
pub(crate) enum Parsed {
    /// Not ICMP, or nothing that IP could be read from.
    NotOurs,
    /// An ICMP message that is whole and stands directly behind a plain IPv4 header.
    Ipv4,
    /// An ICMPv6 message that is whole and stands directly behind an IPv6 header.
    Ipv6,
    /// ICMP behind an IPv4 header with options, a fragment, or broken: see [`parse_unusual_ipv4`].
    UnusualIpv4,
    /// An IPv6 packet that is broken, or whose extension headers have to be looked through: see [`parse_unusual_ipv6`].
    UnusualIpv6,
    /// UDP, whole and directly behind a plain IPv4 header, to a port to which traceroute sends its probes.
    Traceroute4,
    /// The same behind an IPv6 header.
    Traceroute6,
}

/// What an unusual packet turned out to be. All fields always have a value, because the kernel's verifier does not let one be moved
/// that has none.
#[derive(Clone, Copy)]
pub(crate) struct Unusual {
    /// [`Parsed::NotOurs`] where all else means nothing.
    pub(crate) ours: bool,
    /// Why it is left to the stack, or [`Reason::BadHeader`].
    pub(crate) reason: Reason,
    /// What is known of the message.
    pub(crate) message: Message,
}

impl Unusual {
    const NOT_OURS: Self = Self { ours: false, reason: Reason::BadHeader, message: Message::FRAGMENT };
    const BROKEN: Self = Self { ours: true, reason: Reason::BadHeader, message: Message::FRAGMENT };

    const fn aside(reason: Reason, message: Message) -> Self {
        Self { ours: true, reason, message }
    }
}

/// Type (lower byte) and code of a message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Message(u32);

impl Message {
    /// A fragment other than the first, or too short a first one: neither is known.
    pub(crate) const FRAGMENT: Self = Self(u32::MAX);

    /// Type and code, as [`icmp::Icmp::message`] gives them.
    #[inline(always)]
    pub(crate) fn new(message: u16) -> Self {
        Self(message.into())
    }

    /// The message with this number.
    #[inline(always)]
    pub(crate) const fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// As a number.
    #[inline(always)]
    pub(crate) const fn number(self) -> u32 {
        self.0
    }

    /// Type and code, if they are known.
    #[inline(always)]
    pub(crate) fn known(self) -> Option<u16> {
        (self != Self::FRAGMENT).then_some(self.0 as u16)
    }
}

/// Where the network layer's header begins, behind no, one or two VLAN tags.
pub(crate) const UNTAGGED: usize = size_of::<Ethernet>();
pub(crate) const TAGGED: usize = UNTAGGED + size_of::<VlanTag>();
pub(crate) const DOUBLE_TAGGED: usize = TAGGED + size_of::<VlanTag>();

/// How many VLAN tags a frame has, and the EtherType behind them. A third tag is an EtherType that is not ours.
#[inline(always)]
pub(crate) fn tags<F: Frame>(frame: &F) -> Option<(usize, u16)> {
    let ether_type = frame.read::<Ethernet>(0)?.ether_type();
    if !unlikely(ethernet::is_tag(ether_type)) {
        return Some((0, ether_type));
    }
    let ether_type = frame.read::<VlanTag>(UNTAGGED)?.ether_type();
    if !ethernet::is_tag(ether_type) {
        return Some((1, ether_type));
    }
    Some((2, frame.read::<VlanTag>(TAGGED)?.ether_type()))
}

/// Finds the ICMP message in a frame whose network layer begins at `IP`; and probes of traceroute, if these are looked for.
#[inline(always)]
pub(crate) fn parse<const IP: usize, F: Frame>(frame: &F, ether_type: u16, traceroute: bool) -> Parsed {
    match ether_type {
        ethernet::IPV4 => parse_ipv4(frame, IP, traceroute),
        ethernet::IPV6 => parse_ipv6(frame, IP, traceroute),
        _ => Parsed::NotOurs,
    }
}

#[inline(always)]
fn parse_ipv4<F: Frame>(frame: &F, ip: usize, traceroute: bool) -> Parsed {
    // With the ICMP header at once: no frame of Ethernet's least length ends before it.
    let Some(packet) = frame.read::<Packet<Ipv4>>(ip) else { return parse_short_ipv4(frame, ip) };
    let header = &packet.ip;
    if header.protocol != ipv4::ICMP {
        let probe = traceroute && header.protocol == udp::UDP && is_probe4(frame, ip);
        return if probe { Parsed::Traceroute4 } else { Parsed::NotOurs };
    }
    let total_length = header.total_length();
    let plain = header.version_ihl() == ipv4::PLAIN && !header.is_fragment();
    if unlikely(!plain || total_length < size_of::<Packet<Ipv4>>() || !frame.holds(ip, total_length)) {
        return Parsed::UnusualIpv4;
    }
    Parsed::Ipv4
}

/// A frame too short for an ICMP message, which may yet be a fragment of one.
#[inline(always)]
fn parse_short_ipv4<F: Frame>(frame: &F, ip: usize) -> Parsed {
    match frame.read::<Ipv4>(ip) {
        Some(header) if header.protocol == ipv4::ICMP => Parsed::UnusualIpv4,
        _ => Parsed::NotOurs,
    }
}

#[inline(always)]
fn parse_ipv6<F: Frame>(frame: &F, ip: usize, traceroute: bool) -> Parsed {
    let Some(header) = frame.read::<Ipv6>(ip) else { return Parsed::NotOurs };
    if header.next_header != ipv6::ICMPV6 {
        if traceroute && header.next_header == udp::UDP && is_probe6(frame, ip) {
            return Parsed::Traceroute6;
        }
        // TCP and UDP, which are most, are told from extension headers by one comparison.
        let common = matches!(header.next_header, 1..=42);
        return if common { Parsed::NotOurs } else { Parsed::UnusualIpv6 };
    }
    let payload_length = header.payload_length();
    if header.version() != 6
        || payload_length < icmp::HEADER
        || !frame.holds(ip, ipv6::HEADER + payload_length)
    {
        return Parsed::UnusualIpv6;
    }
    Parsed::Ipv6
}

/// Whether this packet, which is UDP, is a whole one to a port to which traceroute sends its probes.
#[inline(always)]
fn is_probe4<F: Frame>(frame: &F, ip: usize) -> bool {
    let Some(header) = frame.read::<Ipv4>(ip) else { return false };
    let total_length = header.total_length();
    header.version_ihl() == ipv4::PLAIN
        && !header.is_fragment()
        && total_length >= ipv4::HEADER + size_of::<Udp>()
        && frame.holds(ip, total_length)
        && is_to_traceroute(frame, ip + ipv4::HEADER)
}

/// The same in IPv6.
#[inline(always)]
fn is_probe6<F: Frame>(frame: &F, ip: usize) -> bool {
    let Some(header) = frame.read::<Ipv6>(ip) else { return false };
    let payload_length = header.payload_length();
    header.version() == 6
        && payload_length >= size_of::<Udp>()
        && frame.holds(ip, ipv6::HEADER + payload_length)
        && is_to_traceroute(frame, ip + ipv6::HEADER)
}

#[inline(always)]
fn is_to_traceroute<F: Frame>(frame: &F, at: usize) -> bool {
    frame.read::<Udp>(at).is_some_and(|header| udp::is_traceroute(header.destination()))
}

/// What is not a whole message behind a plain IPv4 header: options, a fragment, or broken.
#[inline(always)]
pub(crate) fn parse_unusual_ipv4<F: Frame>(frame: &F, ip: usize) -> Unusual {
    let Some(header) = frame.read::<Ipv4>(ip) else { return Unusual::NOT_OURS };
    let total_length = header.total_length();
    let header_length = header.header_length();
    let version = header.version_ihl() >> 4;
    if version != 4
        || header_length < ipv4::HEADER
        || total_length < header_length
        || !frame.holds(ip, total_length)
    {
        return Unusual::BROKEN;
    }
    let message = message_at(frame, ip + header_length);
    if header.is_fragment() {
        let begins =
            header.fragment_offset() == 0 && total_length >= header_length + size_of::<TypeAndCode>();
        return Unusual::aside(Reason::Fragment, if begins { message } else { Message::FRAGMENT });
    }
    if total_length < header_length + icmp::HEADER {
        return Unusual::BROKEN;
    }
    Unusual::aside(Reason::IpOptions, message)
}

/// Most extension headers that are looked behind. RFC 8200 4.1 recommends no more than six, two of which hide what follows.
const MAX_EXTENSIONS: usize = 4;

/// What follows extension headers, if anything is well. RFC 8200 lets them follow each other without end; a packet with more of
/// them than hosts send is none of ours.
#[inline(always)]
pub(crate) fn parse_unusual_ipv6<F: Frame>(frame: &F, ip: usize) -> Unusual {
    let Some(header) = frame.read::<Ipv6>(ip) else { return Unusual::NOT_OURS };
    let mut next_header = header.next_header;
    if next_header == ipv6::ICMPV6 {
        return Unusual::BROKEN;
    }
    let mut at = ip + ipv6::HEADER;
    for _ in 0..MAX_EXTENSIONS {
        if !ipv6::is_extension(next_header) {
            break;
        }
        let Some(extension) = frame.read::<Extension>(at) else { return Unusual::NOT_OURS };
        let is_fragment = next_header == ipv6::FRAGMENT;
        next_header = extension.next_header;
        if is_fragment && extension.fragment_offset() != 0 {
            let ours = next_header == ipv6::ICMPV6;
            return Unusual { ours, ..Unusual::aside(Reason::ExtensionHeader, Message::FRAGMENT) };
        }
        at += if is_fragment { ipv6::FRAGMENT_HEADER } else { extension.length() };
    }
    if next_header != ipv6::ICMPV6 {
        return Unusual::NOT_OURS;
    }
    Unusual::aside(Reason::ExtensionHeader, message_at(frame, at))
}

/// Type and code of the message that begins at `at`, if the frame holds them.
#[inline(always)]
fn message_at<F: Frame>(frame: &F, at: usize) -> Message {
    frame.read::<TypeAndCode>(at).map_or(Message::FRAGMENT, |head| Message::new(head.message()))
}
