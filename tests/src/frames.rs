//! Frames, made by etherparse.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{IpHeaders, IpNumber, Ipv4Header, Ipv6Header, PacketBuilder};

/// The MAC address of the interface that tables are compiled for.
pub const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// The MAC address that requests come from.
pub const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// The server's and the client's addresses.
pub const SERVER4: [u8; 4] = [192, 0, 2, 1];
/// As above.
pub const CLIENT4: [u8; 4] = [192, 0, 2, 2];
/// As above.
pub const SERVER6: [u8; 16] = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
/// As above.
pub const CLIENT6: [u8; 16] = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

/// The server's other addresses: of the same interface, and of another one.
pub const SERVER4_TOO: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);
/// As above.
pub const SERVER6_TOO: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x11);
/// As above.
pub const ELSEWHERE4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
/// As above.
pub const ELSEWHERE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 7);
/// The link-local address of [`SERVER_MAC`].
pub const SERVER_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 1);
/// Where the IP header begins in a frame without VLAN tags.
pub const IP: usize = 14;
/// Where the ICMP message begins in such a frame, behind a plain IPv4 header.
pub const ICMP4: usize = IP + 20;
/// Where the ICMP message begins in such a frame, behind an IPv6 header.
pub const ICMP6: usize = IP + 40;

/// An ICMP message in a frame, an echo request from the client to the server unless changed.
#[derive(Clone, Debug)]
pub struct Ping<Ip> {
    /// MAC address that the frame is sent to.
    pub to: [u8; 6],
    /// MAC address that it comes from.
    pub from: [u8; 6],
    /// VLAN tags from the outside in: EtherType, and priority with VLAN number.
    pub tags: Vec<(u16, u16)>,
    /// The IP header; lengths and checksums are set by [`Ping::frame`].
    pub ip: Ip,
    /// ICMP type.
    pub icmp_type: u8,
    /// ICMP code.
    pub code: u8,
    /// Identifier of an echo.
    pub identifier: u16,
    /// Sequence number of an echo.
    pub sequence: u16,
    /// The echo's data.
    pub payload: Vec<u8>,
}

/// A ping over IPv4.
pub type Ping4 = Ping<Ipv4Header>;
/// A ping over IPv6.
pub type Ping6 = Ping<Ipv6Header>;

impl<Ip> Ping<Ip> {
    fn new(ip: Ip, icmp_type: u8) -> Self {
        Self {
            to: SERVER_MAC,
            from: CLIENT_MAC,
            tags: Vec::new(),
            ip,
            icmp_type,
            code: 0,
            identifier: 0x1234,
            sequence: 7,
            payload: payload(56),
        }
    }

    fn rest(&self) -> [u8; 4] {
        let ([a, b], [c, d]) = (self.identifier.to_be_bytes(), self.sequence.to_be_bytes());
        [a, b, c, d]
    }
}

impl Default for Ping4 {
    fn default() -> Self {
        let header = Ipv4Header::new(0, 61, IpNumber::ICMP, CLIENT4, SERVER4).unwrap();
        Self::new(Ipv4Header { identification: 0xbeef, ..header }, 8)
    }
}

impl Default for Ping6 {
    fn default() -> Self {
        let ip = Ipv6Header {
            hop_limit: 61,
            source: CLIENT6,
            destination: SERVER6,
            next_header: IpNumber::IPV6_ICMP,
            ..Ipv6Header::default()
        };
        Self::new(ip, 128)
    }
}

impl Ping4 {
    /// The whole frame.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(self.from, self.to)
            .ip(IpHeaders::Ipv4(self.ip.clone(), Default::default()))
            .icmpv4_raw(self.icmp_type, self.code, self.rest())
            .write(&mut frame, &self.payload)
            .unwrap();
        tagged(frame, &self.tags)
    }
}

impl Ping6 {
    /// The whole frame.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(self.from, self.to)
            .ip(IpHeaders::Ipv6(self.ip.clone(), Default::default()))
            .icmpv6_raw(self.icmp_type, self.code, self.rest())
            .write(&mut frame, &self.payload)
            .unwrap();
        tagged(frame, &self.tags)
    }
}

/// Data of a ping: no two neighbouring words of it are equal.
#[must_use]
pub fn payload(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 251) as u8).collect()
}

/// A UDP datagram from the client to the server, over IPv4.
#[must_use]
pub fn udp4() -> Vec<u8> {
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2(CLIENT_MAC, SERVER_MAC).ipv4(CLIENT4, SERVER4, 64);
    builder.udp(40000, 33434).write(&mut frame, &payload(32)).unwrap();
    frame
}

/// A UDP datagram from the client to the server, over IPv6.
#[must_use]
pub fn udp6() -> Vec<u8> {
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2(CLIENT_MAC, SERVER_MAC).ipv6(CLIENT6, SERVER6, 64);
    builder.udp(40000, 33434).write(&mut frame, &payload(32)).unwrap();
    frame
}

/// A TCP segment from the client to the server, over IPv4.
#[must_use]
pub fn tcp4() -> Vec<u8> {
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2(CLIENT_MAC, SERVER_MAC).ipv4(CLIENT4, SERVER4, 64);
    builder.tcp(40000, 80, 1, 64240).syn().write(&mut frame, &[]).unwrap();
    frame
}

/// Puts VLAN tags behind the MAC addresses.
#[must_use]
pub fn tagged(mut frame: Vec<u8>, tags: &[(u16, u16)]) -> Vec<u8> {
    let tags = tags.iter().flat_map(|(kind, control)| [kind.to_be_bytes(), control.to_be_bytes()]);
    frame.splice(12..12, tags.flatten());
    frame
}

/// Sets the checksum of the IPv4 header that begins at `ip` to what its other fields demand.
pub fn fix_header_checksum(frame: &mut [u8], ip: usize) {
    let (header, _) = Ipv4Header::from_slice(&frame[ip..]).unwrap();
    frame[ip + 10..ip + 12].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
}
