//! Random frames of all sorts. Each is described by what makes it differ from a good echo request, mostly no more than three things,
//! so that whoever sees one fail can read it, and so that it can be shrunk to what matters.
//!
//! Bytes are laid by hand, because no library encodes what is broken; checksums are etherparse's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::checksum::Sum16BitWords;
use proptest::{collection::vec, option::weighted, prelude::*, sample::select};

use crate::frames::{
    CLIENT_MAC, CLIENT4, CLIENT6, ELSEWHERE4, ELSEWHERE6, SERVER_LINK_LOCAL, SERVER_MAC, SERVER4,
    SERVER4_TOO, SERVER6, SERVER6_TOO, payload,
};

/// All addresses of the server's networks that requests come from, besides those that no host can have.
pub const NEIGHBOURS4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(192, 0, 2, 2), Ipv4Addr::new(192, 0, 2, 3), Ipv4Addr::new(192, 0, 2, 0)];
/// As above.
pub const NEIGHBOURS6: [Ipv6Addr; 4] = [
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 3),
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2),
    // The subnet's routers.
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0),
];

/// What a frame is before anything is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// An echo request from the client to the server.
    Echo4,
    /// The same over IPv6.
    Echo6,
    /// The client asks for the server's MAC address.
    Arp,
}

/// What one thing is changed to.
#[derive(Clone, Debug)]
pub enum Change {
    /// The MAC address that the frame is sent to.
    To([u8; 6]),
    /// The MAC address that it comes from.
    From([u8; 6]),
    /// VLAN tags from the outside in: EtherType, and priority with VLAN number.
    Tags(Vec<(u16, u16)>),
    /// The EtherType.
    EtherType(u16),
    /// Source address.
    Source(IpAddr),
    /// Destination address.
    Destination(IpAddr),
    /// Version.
    Version(u8),
    /// TTL or hop limit.
    Ttl(u8),
    /// Type of service or traffic class.
    Tos(u8),
    /// Protocol, or the last next header.
    Protocol(u8),
    /// What is added to the total length or payload length.
    Length(i16),
    /// Header length of IPv4 in words, whatever there is.
    HeaderLength(u8),
    /// Options of IPv4.
    Options(Vec<u8>),
    /// Identification.
    Identification(u16),
    /// Flags, and the offset in units of 8 bytes.
    Fragment(u16),
    /// Bits of the header checksum that are wrong.
    HeaderChecksum(u16),
    /// Flow label.
    FlowLabel(u32),
    /// An extension header more: its number, and what stands in it behind the number of the next one.
    Extension(u8, Vec<u8>),
    /// Type and code of the message.
    Message(u8, u8),
    /// Identifier and sequence number, or what stands there in other messages.
    Rest([u8; 4]),
    /// What stands behind, instead of a pattern.
    Data(u8),
    /// The message's checksum.
    Checksum(Checksum),
    /// Another protocol's packet.
    Upper(Upper),
    /// Operation, sender and target of ARP.
    Arp(u16, Ipv4Addr, Ipv4Addr),
    /// Bytes behind the packet: how many, and which.
    Padding(usize, u8),
    /// Any byte of the frame, if it has so many.
    Byte(usize, u8),
    /// What is left of the frame.
    Cut(usize),
}

/// The checksum of an ICMP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// These bits are wrong.
    Wrong(u16),
    /// It is this, right or wrong.
    Is(u16),
    /// It is this, and right, because of the identifier.
    Made(u16),
    /// It would be zero, and is written the other way in which zero can be written.
    OtherZero,
}

/// What an IP packet carries instead of ICMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upper {
    /// UDP to a port.
    Udp(u16),
    /// TCP with these flags.
    Tcp(u8),
    /// An echo request over IPv4 or IPv6 in a tunnel: protocols 4 and 41, and 47, GRE.
    Tunnel(u8),
}

/// A frame.
#[derive(Clone, Debug)]
pub struct Sketch {
    /// What it was.
    pub base: Base,
    /// Bytes of data behind the header of the message.
    pub data: usize,
    /// What is changed, the first first.
    pub changes: Vec<Change>,
}

impl Sketch {
    /// The frame's bytes.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        let mut parts = Parts::new(self.base);
        for change in &self.changes {
            parts.change(change);
        }
        let mut frame = [parts.to, parts.from].concat();
        for (kind, control) in &parts.tags {
            frame.extend(kind.to_be_bytes());
            frame.extend(control.to_be_bytes());
        }
        frame.extend(parts.ether_type.to_be_bytes());
        match self.base {
            Base::Echo4 => frame.extend(parts.ipv4(self.data)),
            Base::Echo6 => frame.extend(parts.ipv6(self.data)),
            Base::Arp => frame.extend(parts.arp()),
        }
        for change in &self.changes {
            match change {
                Change::Padding(length, byte) => frame.extend(std::iter::repeat_n(*byte, *length)),
                Change::Byte(at, byte) if *at < frame.len() => frame[*at] = *byte,
                Change::Cut(length) => frame.truncate(*length),
                _ => {}
            }
        }
        frame
    }
}

/// All fields of a frame.
struct Parts {
    to: [u8; 6],
    from: [u8; 6],
    tags: Vec<(u16, u16)>,
    ether_type: u16,
    source4: [u8; 4],
    destination4: [u8; 4],
    source6: [u8; 16],
    destination6: [u8; 16],
    version: u8,
    ttl: u8,
    tos: u8,
    protocol: u8,
    length: i16,
    header_length: Option<u8>,
    options: Vec<u8>,
    identification: u16,
    fragment: u16,
    header_checksum: u16,
    flow_label: u32,
    extensions: Vec<(u8, Vec<u8>)>,
    message: [u8; 2],
    rest: [u8; 4],
    fill: Option<u8>,
    checksum: Checksum,
    upper: Option<Upper>,
    arp: (u16, [u8; 4], [u8; 4]),
}

impl Parts {
    fn new(base: Base) -> Self {
        let (ether_type, version, protocol, icmp_type) = match base {
            Base::Echo4 => (0x0800, 4, 1, 8),
            Base::Echo6 => (0x86dd, 6, 58, 128),
            Base::Arp => (0x0806, 0, 0, 0),
        };
        Self {
            to: SERVER_MAC,
            from: CLIENT_MAC,
            tags: Vec::new(),
            ether_type,
            source4: CLIENT4,
            destination4: SERVER4,
            source6: CLIENT6,
            destination6: SERVER6,
            version,
            ttl: 61,
            tos: 0,
            protocol,
            length: 0,
            header_length: None,
            options: Vec::new(),
            identification: 0xbeef,
            fragment: 0,
            header_checksum: 0,
            flow_label: 0,
            extensions: Vec::new(),
            message: [icmp_type, 0],
            rest: [0x12, 0x34, 0, 7],
            fill: None,
            checksum: Checksum::Wrong(0),
            upper: None,
            arp: (1, CLIENT4, SERVER4),
        }
    }

    /// Makes a change; what is about the frame's bytes is made later.
    fn change(&mut self, change: &Change) {
        match change {
            Change::To(mac) => self.to = *mac,
            Change::From(mac) => self.from = *mac,
            Change::Tags(tags) => self.tags.clone_from(tags),
            Change::EtherType(number) => self.ether_type = *number,
            Change::Source(IpAddr::V4(address)) => self.source4 = address.octets(),
            Change::Source(IpAddr::V6(address)) => self.source6 = address.octets(),
            Change::Destination(IpAddr::V4(address)) => self.destination4 = address.octets(),
            Change::Destination(IpAddr::V6(address)) => self.destination6 = address.octets(),
            Change::Version(version) => self.version = *version,
            Change::Ttl(ttl) => self.ttl = *ttl,
            Change::Tos(tos) => self.tos = *tos,
            Change::Protocol(protocol) => self.protocol = *protocol,
            Change::Length(more) => self.length = *more,
            Change::HeaderLength(words) => self.header_length = Some(*words),
            Change::Options(options) => self.options.clone_from(options),
            Change::Identification(number) => self.identification = *number,
            Change::Fragment(bits) => self.fragment = *bits,
            Change::HeaderChecksum(bits) => self.header_checksum = *bits,
            Change::FlowLabel(label) => self.flow_label = *label,
            Change::Extension(number, content) => self.extensions.push((*number, content.clone())),
            Change::Message(icmp_type, code) => self.message = [*icmp_type, *code],
            Change::Rest(rest) => self.rest = *rest,
            Change::Data(byte) => self.fill = Some(*byte),
            Change::Checksum(checksum) => self.checksum = *checksum,
            Change::Upper(upper) => {
                self.upper = Some(*upper);
                self.protocol = match upper {
                    Upper::Udp(_) => 17,
                    Upper::Tcp(_) => 6,
                    Upper::Tunnel(protocol) => *protocol,
                };
            }
            Change::Arp(operation, sender, target) => {
                self.arp = (*operation, sender.octets(), target.octets());
            }
            Change::Padding(..) | Change::Byte(..) | Change::Cut(_) => {}
        }
    }

    fn ipv4(&self, data: usize) -> Vec<u8> {
        let addresses = Sum16BitWords::new().add_4bytes(self.source4).add_4bytes(self.destination4);
        let upper = self.upper(Base::Echo4, data, &addresses);
        let words = 5 + self.options.len() / 4;
        let length = ((words * 4 + upper.len()) as u16).wrapping_add_signed(self.length);
        let header_length = self.header_length.unwrap_or(words as u8);
        let mut packet = vec![self.version << 4 | header_length & 15, self.tos];
        for word in [length, self.identification, self.fragment] {
            packet.extend(word.to_be_bytes());
        }
        packet.extend([self.ttl, self.protocol, 0, 0]);
        packet.extend(self.source4);
        packet.extend(self.destination4);
        packet.extend(&self.options);
        let checksum =
            Sum16BitWords::new().add_slice(&packet).ones_complement().to_be() ^ self.header_checksum;
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        packet.extend(upper);
        packet
    }

    fn ipv6(&self, data: usize) -> Vec<u8> {
        let addresses = Sum16BitWords::new().add_16bytes(self.source6).add_16bytes(self.destination6);
        let upper = self.upper(Base::Echo6, data, &addresses);
        let mut extensions = Vec::new();
        let next = |at: usize| self.extensions.get(at).map_or(self.protocol, |(number, _)| *number);
        for (at, (_, content)) in self.extensions.iter().enumerate() {
            extensions.push(next(at + 1));
            extensions.extend(content);
        }
        let length = ((extensions.len() + upper.len()) as u16).wrapping_add_signed(self.length);
        let first =
            u32::from(self.version & 15) << 28 | u32::from(self.tos) << 20 | self.flow_label & 0xf_ffff;
        let mut packet = first.to_be_bytes().to_vec();
        packet.extend(length.to_be_bytes());
        packet.extend([next(0), self.ttl]);
        packet.extend(self.source6);
        packet.extend(self.destination6);
        packet.extend(extensions);
        packet.extend(upper);
        packet
    }

    fn arp(&self) -> Vec<u8> {
        let (operation, sender, target) = self.arp;
        let mut packet = vec![0, 1, 8, 0, 6, 4];
        packet.extend(operation.to_be_bytes());
        packet.extend(self.from);
        packet.extend(sender);
        packet.extend([0; 6]);
        packet.extend(target);
        packet
    }

    /// What the IP header is followed by; `addresses` is their sum, for pseudo-headers.
    fn upper(&self, base: Base, data: usize, addresses: &Sum16BitWords) -> Vec<u8> {
        let data = self.fill.map_or_else(|| payload(data), |byte| vec![byte; data]);
        let pseudo = |length: usize| {
            addresses.clone().add_2bytes((length as u16).to_be_bytes()).add_2bytes([0, self.protocol])
        };
        match self.upper {
            None if base == Base::Echo4 => self.message(&data, &Sum16BitWords::new()),
            None => self.message(&data, &pseudo(8 + data.len())),
            Some(Upper::Udp(port)) => {
                let mut datagram = 40_000_u16.to_be_bytes().to_vec();
                datagram.extend(port.to_be_bytes());
                datagram.extend((8 + data.len() as u16).to_be_bytes());
                datagram.extend([0, 0]);
                datagram.extend(data);
                let sum = pseudo(datagram.len()).add_slice(&datagram).to_ones_complement_with_no_zero();
                datagram[6..8].copy_from_slice(&sum.to_ne_bytes());
                datagram
            }
            Some(Upper::Tcp(flags)) => {
                let mut segment =
                    vec![0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 5 << 4, flags, 0xfa, 0xf0, 0, 0, 0, 0];
                segment.extend(data);
                let sum = pseudo(segment.len()).add_slice(&segment).ones_complement();
                segment[16..18].copy_from_slice(&sum.to_ne_bytes());
                segment
            }
            Some(Upper::Tunnel(protocol)) => match protocol {
                41 => Self::new(Base::Echo6).ipv6(data.len()),
                47 => [&[0, 0, 8, 0][..], &Self::new(Base::Echo4).ipv4(data.len())].concat(),
                _ => Self::new(Base::Echo4).ipv4(data.len()),
            },
        }
    }

    fn message(&self, data: &[u8], pseudo: &Sum16BitWords) -> Vec<u8> {
        let mut message = [&self.message[..], &[0, 0], &self.rest, data].concat();
        let right = |message: &[u8]| u16::from_be(pseudo.clone().add_slice(message).ones_complement());
        let mut make = |wanted: u16| {
            // With the identifier 0 it would be `other`: adding the difference to the sum makes it what is wanted.
            message[4..6].fill(0);
            let other = right(&message);
            let (sum, carry) = (!wanted).overflowing_add(other);
            message[4..6].copy_from_slice(&(sum + u16::from(carry)).to_be_bytes());
            wanted
        };
        let checksum = match self.checksum {
            Checksum::Made(wanted) => make(wanted),
            Checksum::OtherZero => !make(0),
            Checksum::Is(checksum) => checksum,
            Checksum::Wrong(bits) => right(&message) ^ bits,
        };
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
        message
    }
}

fn mac() -> impl Strategy<Value = [u8; 6]> {
    prop_oneof![
        4 => select(vec![
            SERVER_MAC,
            CLIENT_MAC,
            [0xff; 6],
            [0; 6],
            [0x01, 0x00, 0x5e, 0, 0, 1],
            [0x33, 0x33, 0, 0, 0, 1],
            [0x33, 0x33, 0xff, 0, 0, 1],
            [0x01, 0x80, 0xc2, 0, 0, 0],
            [2, 0, 0, 0, 0, 9],
            // The server's but for the bit of groups, and but for the last byte.
            [3, 0, 0, 0, 0, 1],
            [2, 0, 0, 0, 0, 0],
        ]),
        1 => any::<[u8; 6]>(),
    ]
}

fn tags() -> impl Strategy<Value = Vec<(u16, u16)>> {
    let kind = select(vec![0x8100, 0x8100, 0x88a8, 0x9100]);
    let control = prop_oneof![3 => select(vec![0, 1, 0xe02a, 0xb00a, 0x0fff]), 1 => any::<u16>()];
    vec((kind, control), 1..4)
}

fn ether_type() -> impl Strategy<Value = u16> {
    prop_oneof![
        3 => select(vec![0x0800, 0x86dd, 0x0806, 0x8035, 0x8864, 0x8847, 0x88cc, 0x0600, 0x05dc, 0, 64]),
        1 => any::<u16>(),
    ]
}

fn address4() -> impl Strategy<Value = IpAddr> {
    let known = vec![
        SERVER4.into(),
        SERVER4_TOO,
        ELSEWHERE4,
        NEIGHBOURS4[0],
        NEIGHBOURS4[1],
        NEIGHBOURS4[2],
        [192, 0, 2, 255].into(),
        [255; 4].into(),
        [0; 4].into(),
        [0, 1, 2, 3].into(),
        [127, 0, 0, 1].into(),
        [127, 255, 255, 255].into(),
        [224, 0, 0, 1].into(),
        [239, 255, 0, 1].into(),
        [240, 0, 0, 1].into(),
        [255, 255, 255, 254].into(),
        [169, 254, 0, 1].into(),
        [198, 51, 100, 9].into(),
        [8, 8, 8, 8].into(),
    ];
    prop_oneof![6 => select(known), 1 => far4()].prop_map(IpAddr::V4)
}

/// Any address that is not of the server's network, whose hosts are few.
fn far4() -> impl Strategy<Value = Ipv4Addr> {
    any::<[u8; 4]>().prop_map(|[a, b, c, d]| [a, b, if (a, b) == (192, 0) { 3 } else { c }, d].into())
}

fn address6() -> impl Strategy<Value = IpAddr> {
    let known: Vec<Ipv6Addr> = vec![
        SERVER6.into(),
        SERVER6_TOO,
        ELSEWHERE6,
        SERVER_LINK_LOCAL,
        NEIGHBOURS6[0],
        NEIGHBOURS6[1],
        NEIGHBOURS6[2],
        NEIGHBOURS6[3],
        Ipv6Addr::UNSPECIFIED,
        Ipv6Addr::LOCALHOST,
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
        Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0, 1),
        Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 1),
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 1),
        Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 0, 0x99),
        Ipv4Addr::from(CLIENT4).to_ipv6_mapped(),
        Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0xc000, 0x202),
        Ipv6Addr::new(0x2002, 0xc000, 0x202, 0, 0, 0, 0, 1),
        Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 1),
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1),
        Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0x808, 0x808),
        Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 9),
    ];
    let any = any::<[u8; 16]>().prop_map(Ipv6Addr::from);
    prop_oneof![6 => select(known), 1 => any].prop_map(IpAddr::V6)
}

fn ttl() -> impl Strategy<Value = u8> {
    prop_oneof![select(vec![0, 1, 2, 63, 64, 254, 255]), any::<u8>()]
}

fn protocol() -> impl Strategy<Value = u8> {
    prop_oneof![2 => select(vec![0, 1, 2, 4, 6, 17, 41, 43, 44, 47, 50, 51, 58, 59, 60, 132, 135, 255]), 1 => any::<u8>()]
}

/// What is added to a length: a little, or anything.
fn length() -> impl Strategy<Value = i16> {
    prop_oneof![3 => -70_i16..10, 1 => any::<i16>()]
}

fn options() -> impl Strategy<Value = Vec<u8>> {
    let any = vec(any::<[u8; 4]>(), 1..11).prop_map(|words| words.concat());
    let known = select(vec![
        // No operation, end of list.
        vec![1, 1, 1, 1],
        vec![0, 0, 0, 0],
        // Record Route, Timestamp, Router Alert.
        vec![7, 7, 4, 0, 0, 0, 0, 0],
        vec![68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        vec![148, 4, 0, 0],
        // Loose Source Route by way of the client.
        vec![131, 7, 4, 192, 0, 2, 2, 0],
        // One that is longer than there is room.
        vec![7, 40, 4, 0],
        vec![130, 0, 0, 0],
    ]);
    prop_oneof![3 => known, 1 => any]
}

fn fragment() -> impl Strategy<Value = u16> {
    const DF: u16 = 1 << 14;
    const MF: u16 = 1 << 13;
    prop_oneof![
        3 => select(vec![DF, MF, DF | MF, 1, MF | 1, 185, 0x1fff, 0x8000, 0x8000 | DF]),
        1 => any::<u16>(),
    ]
}

fn extension() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let options = select(vec![
        // Padding; an option that may be skipped, three that may not, in the ways that there are; Router Alert.
        vec![1, 4, 0, 0, 0, 0],
        vec![0x1e, 4, 0, 0, 0, 0],
        vec![0x5e, 4, 0, 0, 0, 0],
        vec![0x9e, 4, 0, 0, 0, 0],
        vec![0xde, 4, 0, 0, 0, 0],
        vec![5, 2, 0, 0, 1, 0],
        // Longer than there is room.
        vec![1, 40, 0, 0, 0, 0],
    ]);
    let with_options = (select(vec![0, 60]), options.prop_map(|options| [&[0], &*options].concat()));
    let offset = prop_oneof![3 => Just(0_u16), 2 => Just(1), 1 => select(vec![8_u16, 9, 0xfff8, 6])];
    let fragment = (offset, any::<u32>())
        .prop_map(|(offset, number)| (44, [&[0][..], &offset.to_be_bytes(), &number.to_be_bytes()].concat()));
    let routing = (select(vec![0, 2, 3, 4, 253]), 0..3_u8)
        .prop_map(|(kind, left)| (43, vec![0, kind, left, 0, 0, 0, 0]));
    let authentication = Just((51, vec![2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0]));
    let any = (select(vec![0, 43, 44, 51, 60, 135, 139, 140]), vec(any::<u8>(), 7..=7));
    prop_oneof![4 => with_options, 3 => fragment, 1 => routing, 1 => authentication, 1 => any]
}

fn message(base: Base) -> impl Strategy<Value = (u8, u8)> {
    let known = match base {
        Base::Echo4 => vec![0, 3, 4, 5, 8, 8, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 30, 40, 42, 43],
        _ => vec![
            1, 2, 3, 4, 100, 127, 128, 128, 128, 129, 130, 131, 133, 134, 135, 136, 137, 139, 140, 143, 160,
        ],
    };
    let icmp_type = prop_oneof![4 => select(known), 1 => any::<u8>()];
    let code = prop_oneof![3 => Just(0), 2 => 1..6_u8, 1 => any::<u8>()];
    (icmp_type, code)
}

fn checksum() -> impl Strategy<Value = Checksum> {
    prop_oneof![
        3 => (1..=u16::MAX).prop_map(Checksum::Wrong),
        1 => (0..16_u32).prop_map(|bit| Checksum::Wrong(1 << bit)),
        2 => select(vec![0, 0xffff]).prop_map(Checksum::Is),
        // Zero, and what becomes zero, or carries, when a request becomes a reply.
        3 => select(vec![0, 1, 0xf7ff, 0xf7fe, 0xf800, 0xfeff, 0xff00, 0xfffe]).prop_map(Checksum::Made),
        2 => Just(Checksum::OtherZero),
    ]
}

fn upper() -> impl Strategy<Value = Upper> {
    prop_oneof![
        2 => prop_oneof![select(vec![7, 53, 33434, 33500, 33534]), any::<u16>()].prop_map(Upper::Udp),
        1 => select(vec![0, 1, 2, 4, 0x10, 0x12, 0x18, 0xff]).prop_map(Upper::Tcp),
        1 => select(vec![4, 41, 47]).prop_map(Upper::Tunnel),
    ]
}

/// Changes that any frame can have.
fn change_of_frame() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => mac().prop_map(Change::To),
        2 => mac().prop_map(Change::From),
        3 => tags().prop_map(Change::Tags),
        1 => ether_type().prop_map(Change::EtherType),
        2 => (prop_oneof![1..20_usize, 1..400_usize], any::<u8>()).prop_map(|(length, byte)| Change::Padding(length, byte)),
        2 => (0..100_usize, any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        2 => prop_oneof![0..100_usize, 0..1500_usize].prop_map(Change::Cut),
    ]
}

/// Changes that packets of both families can have.
fn change_of_packet(base: Base) -> impl Strategy<Value = Change> {
    let address = || match base {
        Base::Echo4 => address4().boxed(),
        _ => address6().boxed(),
    };
    prop_oneof![
        6 => address().prop_map(Change::Source),
        6 => address().prop_map(Change::Destination),
        1 => (0..16_u8).prop_map(Change::Version),
        2 => ttl().prop_map(Change::Ttl),
        2 => any::<u8>().prop_map(Change::Tos),
        2 => protocol().prop_map(Change::Protocol),
        3 => length().prop_map(Change::Length),
        4 => message(base).prop_map(|(icmp_type, code)| Change::Message(icmp_type, code)),
        2 => prop_oneof![1 => Just([0; 4]), 1 => any::<[u8; 4]>()].prop_map(Change::Rest),
        1 => select(vec![0, 0xff]).prop_map(Change::Data),
        4 => checksum().prop_map(Change::Checksum),
        2 => upper().prop_map(Change::Upper),
    ]
}

fn change4() -> impl Strategy<Value = Change> {
    prop_oneof![
        1 => (0..16_u8).prop_map(Change::HeaderLength),
        2 => options().prop_map(Change::Options),
        1 => any::<u16>().prop_map(Change::Identification),
        3 => fragment().prop_map(Change::Fragment),
        2 => prop_oneof![1..=u16::MAX, (0..16_u32).prop_map(|bit| 1 << bit)].prop_map(Change::HeaderChecksum),
    ]
}

fn change6() -> impl Strategy<Value = Change> {
    prop_oneof![
        1 => (0..1_u32 << 20).prop_map(Change::FlowLabel),
        3 => extension().prop_map(|(number, content)| Change::Extension(number, content)),
    ]
}

fn change_of_arp() -> impl Strategy<Value = Change> {
    let address = || {
        select(vec![
            SERVER4.into(),
            SERVER4_TOO,
            ELSEWHERE4,
            NEIGHBOURS4[0],
            [0; 4].into(),
            [192, 0, 2, 255].into(),
        ])
    };
    (0..4_u16, address(), address())
        .prop_map(|(operation, sender, target)| Change::Arp(operation, sender, target))
}

/// Any frame.
pub fn sketch() -> impl Strategy<Value = Sketch> {
    let of = |base| {
        let change = match base {
            Base::Echo4 => {
                prop_oneof![3 => change_of_frame(), 7 => change_of_packet(base), 3 => change4()].boxed()
            }
            Base::Echo6 => {
                prop_oneof![3 => change_of_frame(), 7 => change_of_packet(base), 2 => change6()].boxed()
            }
            Base::Arp => prop_oneof![1 => change_of_frame(), 1 => change_of_arp()].boxed(),
        };
        // Shrinking takes changes away.
        let perhaps = weighted(0.6, change);
        let changes = prop_oneof![12 => vec(perhaps.clone(), 3), 1 => vec(perhaps, 10)];
        let changes = changes.prop_map(|changes| changes.into_iter().flatten().collect());
        let data = prop_oneof![
            3 => Just(56),
            3 => select(vec![0, 1, 2, 3, 4, 7, 8, 12, 1471, 1472]),
            3 => 0..200_usize,
            1 => 200..2000_usize,
        ];
        (data, changes).prop_map(move |(data, changes)| Sketch { base, data, changes })
    };
    prop_oneof![8 => of(Base::Echo4), 7 => of(Base::Echo6), 1 => of(Base::Arp)]
}
