//! Random ICMP packets of all sorts, encoded by etherparse, and what rules can ask about each.
//!
//! Addresses come from a small range, in which the prefixes of random policies (`rules`) lie, too, so that rules are hit often.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{
    IpDscp, IpEcn, IpFragOffset, IpHeaders, IpNumber, Ipv4Header, Ipv4Options, Ipv6Extensions,
    Ipv6FragmentHeader, Ipv6Header, Ipv6RawExtHeader, PacketBuilder,
};
use icmp_common::Family;
use proptest::prelude::*;

use crate::frames::{CLIENT_MAC, SERVER_MAC, SERVER4, SERVER6, payload, tagged};

/// A packet, and what rules can ask about it.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Its family.
    pub family: Family,
    /// Where it comes from.
    pub source: IpAddr,
    /// Where it goes.
    pub destination: IpAddr,
    /// Type and code; none in fragments other than the first.
    pub message: Option<[u8; 2]>,
    /// Length of the IP packet, header included.
    pub length: u16,
    /// TTL or hop limit.
    pub ttl: u8,
    /// DSCP.
    pub dscp: u8,
    /// Number of the outer VLAN tag.
    pub vlan: Option<u16>,
    /// Whether it is an error that quotes a packet which its receiver has not sent, or no whole header of one.
    pub quotes_others: bool,
    /// The MTU that it tells.
    pub quoted_mtu: Option<u16>,
    /// The whole frame.
    pub frame: Vec<u8>,
}

/// What a packet's headers have besides what all have.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Plain,
    /// IPv4 options, or an extension header.
    Options,
    FirstFragment,
    LaterFragment,
}

/// IPv4 addresses: mostly among the first few hosts of two neighbouring networks, one of which is the server's.
pub fn address4() -> impl Strategy<Value = Ipv4Addr> {
    let [a, b, c, _] = SERVER4;
    prop_oneof![
        6 => (0..2_u8, 0..8_u8).prop_map(move |(net, host)| [a, b, c + net, host].into()),
        2 => (0..8_u8, any::<u8>()).prop_map(move |(net, host)| [a, b, net, host].into()),
        1 => any::<[u8; 2]>().prop_map(move |[net, host]| [a, b + 1, net, host].into()),
        1 => any::<u32>().prop_map(Ipv4Addr::from_bits),
    ]
}

/// IPv6 addresses, likewise.
pub fn address6() -> impl Strategy<Value = Ipv6Addr> {
    let near = |third: u16, net: u16, host: u16| Ipv6Addr::new(0x2001, 0xdb8, third, net, 0, 0, 0, host);
    prop_oneof![
        6 => (0..2_u16, 0..8_u16).prop_map(move |(net, host)| near(0, net, host)),
        2 => (0..4_u16, 0..4_u16, any::<u16>()).prop_map(move |(third, net, host)| near(third, net, host)),
        1 => any::<[u16; 2]>().prop_map(|[second, host]| Ipv6Addr::new(0x2001, second, 0, 0, 0, 0, 0, host)),
        1 => any::<u128>().prop_map(Ipv6Addr::from_bits),
    ]
}

/// Addresses of either family.
pub fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![address4().prop_map(IpAddr::from), address6().prop_map(IpAddr::from)]
}

/// Types: echo, what the guard keeps from rules, what is near these, anything.
fn icmp_type(family: Family) -> BoxedStrategy<u8> {
    match family {
        Family::Ipv4 => prop_oneof![2 => Just(8), 1 => Just(3), 3 => 0..19_u8, 1 => any::<u8>()].boxed(),
        Family::Ipv6 => prop_oneof![2 => Just(128), 2 => 1..5_u8, 3 => 128..144_u8, 1 => any::<u8>()].boxed(),
    }
}

fn code() -> impl Strategy<Value = u8> {
    prop_oneof![3 => Just(0), 3 => 1..6_u8, 1 => any::<u8>()]
}

fn ttl() -> impl Strategy<Value = u8> {
    prop_oneof![2 => Just(1), 2 => Just(255), 2 => prop_oneof![Just(0), Just(2), Just(254)], 2 => any::<u8>()]
}

/// DSCP and ECN.
fn tos() -> impl Strategy<Value = (u8, u8)> {
    (prop_oneof![3 => prop_oneof![Just(0), Just(46)], 1 => 0..64_u8], 0..4_u8)
}

/// VLAN tags; rules name the outer one.
fn tags() -> impl Strategy<Value = Vec<(u16, u16)>> {
    let tag = |number: u16, priority: u16| priority << 13 | number;
    prop_oneof![
        2 => Just(Vec::new()),
        1 => (0..4_u16, 0..8_u16).prop_map(move |(number, priority)| vec![(0x8100, tag(number, priority))]),
        1 => (0..4_u16, 0..4_u16).prop_map(move |(outer, inner)| vec![(0x88a8, tag(outer, 1)), (0x8100, inner)]),
    ]
}

fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        5 => Just(Shape::Plain),
        1 => Just(Shape::Options),
        1 => Just(Shape::FirstFragment),
        2 => Just(Shape::LaterFragment),
    ]
}

/// What both families' packets have.
#[derive(Clone, Debug)]
struct Parts {
    shape: Shape,
    message: [u8; 2],
    ttl: u8,
    tos: (u8, u8),
    tags: Vec<(u16, u16)>,
    /// What follows the first four bytes of the message.
    rest: [u8; 4],
    data: usize,
    /// Whether the data begins with the header of a packet from the destination.
    quotes: bool,
}

fn parts(family: Family) -> impl Strategy<Value = Parts> {
    let length = prop_oneof![3 => 0..64_usize, 1 => 64..1400_usize];
    let rest = prop_oneof![
        2 => Just([0x12, 0x34, 0, 7]),
        // An MTU.
        2 => prop::sample::select(vec![0_u32, 67, 68, 576, 1279, 1280, 1500, 65_535, 65_536]).prop_map(u32::to_be_bytes),
        1 => any::<[u8; 4]>(),
    ];
    (shape(), icmp_type(family), code(), ttl(), tos(), tags(), (rest, length, any::<bool>())).prop_map(
        |(shape, icmp_type, code, ttl, tos, tags, (rest, data, quotes))| {
            let message = [icmp_type, code];
            Parts { shape, message, ttl, tos, tags, rest, data, quotes }
        },
    )
}

/// The data of a message to an address, and whether it quotes others, if it quotes anything: a header of `header` bytes, in which
/// the source stands at `source`.
fn data(parts: &Parts, header: usize, source: usize, destination: &[u8]) -> (Vec<u8>, bool) {
    let mut data = payload(parts.data);
    let place = source..source + destination.len();
    if let Some(quoted) = data.get_mut(place.clone()).filter(|_| parts.quotes) {
        quoted.copy_from_slice(destination);
    }
    let is_own = data.len() >= header && data[place] == *destination;
    (data, !is_own)
}

/// Any packet.
pub fn packet() -> impl Strategy<Value = Packet> {
    // Both sides near the rules' prefixes; a destination that is served more often.
    let to4 = prop_oneof![3 => address4(), 1 => Just(SERVER4.into())];
    let to6 = prop_oneof![3 => address6(), 1 => Just(SERVER6.into())];
    prop_oneof![
        (parts(Family::Ipv4), address4(), to4).prop_map(|(parts, from, to)| packet4(parts, from, to)),
        (parts(Family::Ipv6), address6(), to6).prop_map(|(parts, from, to)| packet6(parts, from, to)),
    ]
}

fn packet4(parts: Parts, source: Ipv4Addr, destination: Ipv4Addr) -> Packet {
    let (dscp, ecn) = parts.tos;
    let header = Ipv4Header::new(0, parts.ttl, IpNumber::ICMP, source.octets(), destination.octets());
    let mut header = Ipv4Header {
        dscp: IpDscp::try_new(dscp).unwrap(),
        ecn: IpEcn::try_new(ecn).unwrap(),
        ..header.unwrap()
    };
    match parts.shape {
        Shape::Plain => {}
        // Record Route.
        Shape::Options => header.options = Ipv4Options::from([7, 7, 4, 0, 0, 0, 0, 0]),
        Shape::FirstFragment => header.more_fragments = true,
        Shape::LaterFragment => header.fragment_offset = IpFragOffset::try_new(185).unwrap(),
    }
    let [icmp_type, code] = parts.message;
    let (data, others) = data(&parts, 20, 12, &destination.octets());
    let quotes = matches!(icmp_type, 3 | 4 | 5 | 11 | 12) && !matches!(parts.shape, Shape::LaterFragment);
    let mtu = (quotes && parts.message == [3, 4]).then(|| u16::from_be_bytes([parts.rest[2], parts.rest[3]]));
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(CLIENT_MAC, SERVER_MAC)
        .ip(IpHeaders::Ipv4(header, Default::default()))
        .icmpv4_raw(icmp_type, code, parts.rest)
        .write(&mut frame, &data)
        .unwrap();
    let packet = finished(parts, Family::Ipv4, source.into(), destination.into(), frame);
    Packet { quotes_others: quotes && others, quoted_mtu: mtu, ..packet }
}

fn packet6(parts: Parts, source: Ipv6Addr, destination: Ipv6Addr) -> Packet {
    let (dscp, ecn) = parts.tos;
    let header = Ipv6Header {
        traffic_class: dscp << 2 | ecn,
        hop_limit: parts.ttl,
        source: source.octets(),
        destination: destination.octets(),
        next_header: IpNumber::IPV6_ICMP,
        ..Ipv6Header::default()
    };
    let mut extensions = Ipv6Extensions::default();
    let fragment = |offset, more| {
        let offset = IpFragOffset::try_new(offset).unwrap();
        Some(Ipv6FragmentHeader::new(IpNumber::IPV6_ICMP, offset, more, 7))
    };
    match parts.shape {
        Shape::Plain => {}
        // PadN.
        Shape::Options => {
            extensions.destination_options =
                Some(Ipv6RawExtHeader::new_raw(IpNumber::IPV6_ICMP, &[1, 4, 0, 0, 0, 0]).unwrap());
        }
        Shape::FirstFragment => extensions.fragment = fragment(0, true),
        Shape::LaterFragment => extensions.fragment = fragment(181, false),
    }
    let [icmp_type, code] = parts.message;
    let (data, others) = data(&parts, 40, 8, &destination.octets());
    // Behind extension headers no quote is looked for.
    let quotes = icmp_type < 128 && matches!(parts.shape, Shape::Plain);
    let mtu = u32::from_be_bytes(parts.rest).try_into().unwrap_or(u16::MAX);
    let mtu = (quotes && icmp_type == 2).then_some(mtu);
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(CLIENT_MAC, SERVER_MAC)
        .ip(IpHeaders::Ipv6(header, extensions))
        .icmpv6_raw(icmp_type, code, parts.rest)
        .write(&mut frame, &data)
        .unwrap();
    let packet = finished(parts, Family::Ipv6, source.into(), destination.into(), frame);
    Packet { quotes_others: quotes && others, quoted_mtu: mtu, ..packet }
}

fn finished(parts: Parts, family: Family, source: IpAddr, destination: IpAddr, frame: Vec<u8>) -> Packet {
    let message = (!matches!(parts.shape, Shape::LaterFragment)).then_some(parts.message);
    Packet {
        family,
        source,
        destination,
        message,
        length: (frame.len() - 14) as u16,
        ttl: parts.ttl,
        dscp: parts.tos.0,
        vlan: parts.tags.first().map(|(_, control)| control & 0xfff),
        quotes_others: false,
        quoted_mtu: None,
        frame: tagged(frame, &parts.tags),
    }
}
