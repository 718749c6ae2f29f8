//! Step "parse": Ethernet, up to two VLAN tags, IPv4 or IPv6, ICMP.
//!
//! Whatever else an interface receives pays for this step up to "not ours": a few comparisons. Nothing is
//! changed here, and nothing is judged that needs settings or tables.

use icmp_common::{
    Family,
    reason::Reason,
    wire::{
        Packet,
        ethernet::{self, Ethernet, VlanTag},
        icmp,
        ipv4::{self, Ipv4},
        ipv6::{self, Ipv6},
    },
};

use crate::{Frame, unlikely};

/// What a frame turned out to be.
pub(crate) enum Parsed {
    /// Not ICMP, or nothing that IP could be read from.
    NotOurs,
    /// An ICMP message that is whole and stands directly behind a plain IPv4 header.
    Ipv4,
    /// An ICMPv6 message that is whole and stands directly behind an IPv6 header.
    Ipv6,
    /// ICMP that is left to the stack as it stands.
    Aside(Family, Reason),
    /// ICMP whose IP header is impossible.
    Broken(Family),
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

/// Finds the ICMP message in a frame whose network layer begins at `IP`.
#[inline(always)]
pub(crate) fn parse<const IP: usize, F: Frame>(frame: &F, ether_type: u16) -> Parsed {
    match ether_type {
        ethernet::IPV4 => parse_ipv4(frame, IP),
        ethernet::IPV6 => parse_ipv6(frame, IP),
        _ => Parsed::NotOurs,
    }
}

#[inline(always)]
fn parse_ipv4<F: Frame>(frame: &F, ip: usize) -> Parsed {
    // With the ICMP header at once: no frame of Ethernet's least length ends before it.
    let Some(packet) = frame.read::<Packet<Ipv4>>(ip) else { return parse_short_ipv4(frame, ip) };
    let header = &packet.ip;
    if header.protocol != ipv4::ICMP {
        return Parsed::NotOurs;
    }
    let total_length = header.total_length();
    let plain = header.version_ihl() == ipv4::PLAIN && !header.is_fragment();
    if unlikely(!plain || total_length < size_of::<Packet<Ipv4>>() || !frame.holds(ip, total_length)) {
        return parse_unusual_ipv4(frame, ip, header);
    }
    Parsed::Ipv4
}

/// A frame too short for an ICMP message, which may yet be a fragment of one.
#[inline(always)]
fn parse_short_ipv4<F: Frame>(frame: &F, ip: usize) -> Parsed {
    match frame.read::<Ipv4>(ip) {
        Some(header) if header.protocol == ipv4::ICMP => parse_unusual_ipv4(frame, ip, header),
        _ => Parsed::NotOurs,
    }
}

/// What is not a whole message behind a plain header: options, a fragment, or broken.
#[inline(always)]
fn parse_unusual_ipv4<F: Frame>(frame: &F, ip: usize, header: &Ipv4) -> Parsed {
    let total_length = header.total_length();
    let header_length = usize::from(header.version_ihl() & 0xf) * 4;
    let version = header.version_ihl() >> 4;
    if version != 4
        || header_length < ipv4::HEADER
        || total_length < header_length
        || !frame.holds(ip, total_length)
    {
        return Parsed::Broken(Family::Ipv4);
    }
    if header.is_fragment() {
        return Parsed::Aside(Family::Ipv4, Reason::Fragment);
    }
    if total_length < header_length + icmp::HEADER {
        return Parsed::Broken(Family::Ipv4);
    }
    Parsed::Aside(Family::Ipv4, Reason::IpOptions)
}

#[inline(always)]
fn parse_ipv6<F: Frame>(frame: &F, ip: usize) -> Parsed {
    let Some(header) = frame.read::<Ipv6>(ip) else { return Parsed::NotOurs };
    if header.next_header != ipv6::ICMPV6 {
        // TCP and UDP, which are most, are told from extension headers by one comparison.
        let common = matches!(header.next_header, 1..=42);
        return if common { Parsed::NotOurs } else { parse_ipv6_extension(frame, ip, header) };
    }
    let payload_length = header.payload_length();
    if header.version() != 6
        || payload_length < icmp::HEADER
        || !frame.holds(ip, ipv6::HEADER + payload_length)
    {
        return Parsed::Broken(Family::Ipv6);
    }
    Parsed::Ipv6
}

/// RFC 8200 lets extension headers follow each other without end; only the first is looked at, and only to see
/// whether ICMPv6 comes next.
#[inline(always)]
fn parse_ipv6_extension<F: Frame>(frame: &F, ip: usize, header: &Ipv6) -> Parsed {
    if ipv6::is_extension(header.next_header)
        && let Some(next_header) = frame.read::<ipv6::NextHeader>(ip + ipv6::HEADER)
        && next_header.0 == [ipv6::ICMPV6]
    {
        return Parsed::Aside(Family::Ipv6, Reason::ExtensionHeader);
    }
    Parsed::NotOurs
}
