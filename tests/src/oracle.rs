//! What should become of a frame, according to other people's code: etherparse encodes the expected reply or error, smoltcp
//! reads replies as their receiver would.

use etherparse::{
    IcmpEchoHeader, Icmpv4Type, Icmpv6Type, IpDscp, IpHeaders, IpNumber, Ipv4Header, Ipv6Header, NetSlice,
    PacketBuilder, SlicedPacket,
};
use icmp_common::Family;
use icmp_ebpf::{Reason, Verdict};
use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{
        EthernetFrame, EthernetProtocol, Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, Ipv4Packet,
        Ipv4Repr, Ipv6Packet,
    },
};

use crate::host::Outcome;

/// TTL and hop limit of replies unless a policy says otherwise.
pub const TTL: u8 = 64;

/// What handling `frame` comes to under a reason: a reply if it is [`Reason::Echo`], else no change.
#[must_use]
pub fn outcome(frame: &[u8], family: Family, reason: Reason) -> Outcome {
    let frame = if reason.verdict() == Verdict::Answer { reply(frame, TTL) } else { frame.to_vec() };
    Outcome { verdict: reason.verdict(), counted: Some((family, reason)), frame }
}

/// What handling a frame comes to that is not ICMP.
#[must_use]
pub fn untouched(frame: &[u8]) -> Outcome {
    Outcome { verdict: Verdict::Pass, counted: None, frame: frame.to_vec() }
}

/// The reply to the echo request in `frame`, encoded anew: every length and checksum in it is computed.
#[must_use]
pub fn reply(frame: &[u8], ttl: u8) -> Vec<u8> {
    let ip = ip_header(frame);
    let mut reply = [&frame[6..12], &frame[0..6], &frame[12..ip]].concat();
    match frame[ip - 2..ip] {
        [0x08, 0x00] => reply4(&frame[ip..], ttl, &mut reply),
        [0x86, 0xdd] => reply6(&frame[ip..], ttl, &mut reply),
        _ => panic!("not an echo request: {frame:02x?}"),
    }
    // Ethernet padding stays where it is.
    reply.extend(&frame[reply.len()..]);
    reply
}

/// The error about the IPv4 packet in `frame` (RFC 792, RFC 1812 4.3.2): back to where that came from, with its VLAN tags,
/// precedence 6, and as much of the packet as 576 bytes hold.
#[must_use]
pub fn error4(frame: &[u8], code: u8, source: [u8; 4], ttl: u8) -> Vec<u8> {
    let ip = ip_header(frame);
    let (about, _) = Ipv4Header::from_slice(&frame[ip..]).unwrap();
    let header = Ipv4Header::new(0, ttl, IpNumber::ICMP, source, about.source).unwrap();
    let header = Ipv4Header { dscp: IpDscp::try_new(6 << 3).unwrap(), ..header };
    let quoted = usize::from(about.total_len).min(576 - 28);
    let mut packet = Vec::new();
    PacketBuilder::ip(IpHeaders::Ipv4(header, Default::default()))
        .icmpv4_raw(3, code, [0; 4])
        .write(&mut packet, &frame[ip..ip + quoted])
        .unwrap();
    [&frame[6..12], &frame[0..6], &frame[12..ip], &packet].concat()
}

/// The error about the IPv6 packet in `frame` (RFC 4443 3.1), with as much of the packet as 1280 bytes hold.
#[must_use]
pub fn error6(frame: &[u8], code: u8, source: [u8; 16], hop_limit: u8) -> Vec<u8> {
    let ip = ip_header(frame);
    let (about, _) = Ipv6Header::from_slice(&frame[ip..]).unwrap();
    let header = Ipv6Header { hop_limit, source, destination: about.source, ..Ipv6Header::default() };
    let quoted = (40 + usize::from(about.payload_length)).min(1280 - 48);
    let mut packet = Vec::new();
    PacketBuilder::ip(IpHeaders::Ipv6(header, Default::default()))
        .icmpv6_raw(1, code, [0; 4])
        .write(&mut packet, &frame[ip..ip + quoted])
        .unwrap();
    [&frame[6..12], &frame[0..6], &frame[12..ip], &packet].concat()
}

/// Under which family a frame has to be counted, or that it must not be, if etherparse finds nothing wrong with it.
#[must_use]
pub fn counted(frame: &[u8]) -> Option<Option<Family>> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    // Of the EtherTypes that etherparse takes for a tag's, 0x9100 is in no standard.
    let tags = packet.vlan_ids().len();
    if tags > 2 || ip_header(frame) != 14 + 4 * tags {
        return Some(None);
    }
    let is = |condition: bool, family| condition.then_some(family);
    match packet.net? {
        NetSlice::Ipv4(ip) => Some(is(ip.header().protocol() == IpNumber::ICMP, Family::Ipv4)),
        NetSlice::Ipv6(ip) => match ip.header().next_header() {
            IpNumber::IPV6_ICMP => Some(Some(Family::Ipv6)),
            // Extension headers are looked behind, but not without end.
            _ if ip.extensions().is_empty() => Some(None),
            _ => None,
        },
        NetSlice::Arp(_) => Some(None),
    }
}

/// Where the IP header begins, behind any number of VLAN tags.
fn ip_header(frame: &[u8]) -> usize {
    let mut at = 14;
    while matches!(frame[at - 2..at], [0x81, 0x00] | [0x88, 0xa8]) {
        at += 4;
    }
    at
}

fn reply4(packet: &[u8], ttl: u8, reply: &mut Vec<u8>) {
    let (request, message) = Ipv4Header::from_slice(packet).unwrap();
    let message = &message[..usize::from(request.payload_len().unwrap())];
    let mut header =
        Ipv4Header { source: request.destination, destination: request.source, time_to_live: ttl, ..request };
    header.header_checksum = header.calc_header_checksum();
    let (echo, payload) = echo(message);
    let icmp = Icmpv4Type::EchoReply(echo);
    reply.extend(header.to_bytes());
    append_message(reply, 0, icmp.calc_checksum(payload), message);
}

fn reply6(packet: &[u8], hop_limit: u8, reply: &mut Vec<u8>) {
    let (request, message) = Ipv6Header::from_slice(packet).unwrap();
    let message = &message[..usize::from(request.payload_length)];
    let header =
        Ipv6Header { source: request.destination, destination: request.source, hop_limit, ..request };
    let (echo, payload) = echo(message);
    let icmp = Icmpv6Type::EchoReply(echo);
    let checksum = icmp.calc_checksum(header.source, header.destination, payload).unwrap();
    reply.extend(header.to_bytes());
    append_message(reply, 129, checksum, message);
}

fn echo(message: &[u8]) -> (IcmpEchoHeader, &[u8]) {
    let id = u16::from_be_bytes([message[4], message[5]]);
    let seq = u16::from_be_bytes([message[6], message[7]]);
    (IcmpEchoHeader { id, seq }, &message[8..])
}

fn append_message(reply: &mut Vec<u8>, icmp_type: u8, checksum: u16, request: &[u8]) {
    reply.extend([icmp_type, 0]);
    reply.extend(checksum.to_be_bytes());
    reply.extend(&request[4..]);
}

/// An echo reply, as smoltcp's parsers understand it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Identifier.
    pub identifier: u16,
    /// Sequence number.
    pub sequence: u16,
    /// Data.
    pub payload: Vec<u8>,
}

/// Reads an echo reply with every check that a receiver makes; an error names the check that failed.
pub fn receive(frame: &[u8]) -> Result<Received, String> {
    let ip = ip_header(frame);
    let failed = |what: &str| format!("{what} in {frame:02x?}");
    let inner = [&frame[..12], &frame[ip - 2..]].concat();
    let ethernet = EthernetFrame::new_checked(&*inner).map_err(|_| failed("no Ethernet frame"))?;
    match ethernet.ethertype() {
        EthernetProtocol::Ipv4 => {
            let packet = Ipv4Packet::new_checked(ethernet.payload()).map_err(|_| failed("no IPv4"))?;
            let checks = ChecksumCapabilities::default();
            Ipv4Repr::parse(&packet, &checks).map_err(|_| failed("a wrong header checksum"))?;
            let icmp = Icmpv4Packet::new_checked(packet.payload()).map_err(|_| failed("no ICMP"))?;
            match Icmpv4Repr::parse(&icmp, &checks) {
                Ok(Icmpv4Repr::EchoReply { ident, seq_no, data }) => {
                    Ok(Received { identifier: ident, sequence: seq_no, payload: data.to_vec() })
                }
                other => Err(failed(&format!("{other:?} instead of an echo reply"))),
            }
        }
        EthernetProtocol::Ipv6 => {
            let packet = Ipv6Packet::new_checked(ethernet.payload()).map_err(|_| failed("no IPv6"))?;
            let (source, destination) = (packet.src_addr(), packet.dst_addr());
            let icmp = Icmpv6Packet::new_checked(packet.payload()).map_err(|_| failed("no ICMPv6"))?;
            match Icmpv6Repr::parse(&source, &destination, &icmp, &ChecksumCapabilities::default()) {
                Ok(Icmpv6Repr::EchoReply { ident, seq_no, data }) => {
                    Ok(Received { identifier: ident, sequence: seq_no, payload: data.to_vec() })
                }
                other => Err(failed(&format!("{other:?} instead of an echo reply"))),
            }
        }
        other => Err(failed(&format!("EtherType {other}"))),
    }
}
