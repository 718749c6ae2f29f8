//! Step "parse": Ethernet, up to two VLAN tags, IPv4 or IPv6, ICMP.
//!
//! Whatever else an interface receives pays for this step up to "not ours": a few comparisons. Nothing is
//! changed here, and nothing is judged that needs settings or tables.

use icmp_common::{
    Family,
    reason::Reason,
    wire::{
        ethernet::{self, Ethernet, VlanTag},
        icmp,
        ipv4::{self, Ipv4},
        ipv6::{self, Ipv6},
    },
};

use crate::Frame;

/// An ICMP message that is whole and stands directly behind a plain IP header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message {
    /// Where the IP header begins, in bytes.
    pub(crate) ip: usize,
}

/// What a frame turned out to be.
pub(crate) enum Parsed {
    /// Not ICMP, or nothing that IP could be read from.
    NotOurs,
    /// An ICMP message.
    Ipv4(Message),
    /// An ICMPv6 message.
    Ipv6(Message),
    /// ICMP that is left to the stack as it stands.
    Aside(Family, Reason),
    /// ICMP whose IP header is impossible.
    Broken(Family),
}

/// Finds the ICMP message in a frame.
#[inline(always)]
pub(crate) fn parse<F: Frame>(frame: &F) -> Parsed {
    let Some((ether_type, ip)) = network_header(frame) else { return Parsed::NotOurs };
    match ether_type {
        ethernet::IPV4 => parse_ipv4(frame, ip),
        ethernet::IPV6 => parse_ipv6(frame, ip),
        _ => Parsed::NotOurs,
    }
}

/// The EtherType behind the tags, and where its header begins. A third tag is an EtherType that is not ours.
#[inline(always)]
fn network_header<F: Frame>(frame: &F) -> Option<(u16, usize)> {
    let mut ether_type = frame.read::<Ethernet>(0)?.ether_type();
    let mut at = size_of::<Ethernet>();
    for _ in 0..2 {
        if !matches!(ether_type, ethernet::VLAN | ethernet::SERVICE_VLAN) {
            break;
        }
        ether_type = frame.read::<VlanTag>(at)?.ether_type();
        at += size_of::<VlanTag>();
    }
    Some((ether_type, at))
}

#[inline(always)]
fn parse_ipv4<F: Frame>(frame: &F, ip: usize) -> Parsed {
    let Some(header) = frame.read::<Ipv4>(ip) else { return Parsed::NotOurs };
    if header.protocol != ipv4::ICMP {
        return Parsed::NotOurs;
    }
    let total_length = header.total_length();
    let plain = header.version_ihl() == ipv4::PLAIN && !header.is_fragment();
    if plain && total_length >= ipv4::HEADER + icmp::HEADER && frame.holds(ip, total_length) {
        return Parsed::Ipv4(Message { ip });
    }
    parse_ipv4_unusual(frame, ip, header)
}

/// What is not a whole message behind a plain header: options, a fragment, or broken.
#[inline(always)]
fn parse_ipv4_unusual<F: Frame>(frame: &F, ip: usize, header: &Ipv4) -> Parsed {
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
    let payload_length = header.payload_length();
    if header.next_header != ipv6::ICMPV6 {
        return parse_ipv6_extension(frame, ip, header);
    }
    if header.version() != 6
        || payload_length < icmp::HEADER
        || !frame.holds(ip, ipv6::HEADER + payload_length)
    {
        return Parsed::Broken(Family::Ipv6);
    }
    Parsed::Ipv6(Message { ip })
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
