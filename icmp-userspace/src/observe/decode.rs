//! What a frame says, for people: addresses, type and code by name, and what an error quotes.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use etherparse::{Ipv6ExtensionSlice, LaxNetSlice, LaxSlicedPacket};
use icmp_common::{
    Family,
    wire::{icmp, ipv4, ipv6, udp::UDP},
};
use serde::Serialize;

use crate::policy::names;

/// Number of TCP behind IP.
pub(super) const TCP: u8 = 6;

/// A packet, as far as it could be understood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decoded {
    /// Numbers of its VLANs, the outer one first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vlans: Vec<u16>,
    /// Where it comes from.
    pub from: IpAddr,
    /// Where it goes.
    pub to: IpAddr,
    /// Number of the protocol behind IP.
    pub protocol: u8,
    /// What is behind IP, if that is ICMP and its beginning is there.
    pub message: Option<Message>,
    /// Ports behind IP, if that is TCP or UDP.
    #[serde(skip)]
    pub ports: Option<[u16; 2]>,
    /// Whether it is a fragment other than the first.
    pub fragment: bool,
    /// Length of the IP packet in bytes, as its header says.
    pub length: usize,
    /// How many of these are headers of IP.
    #[serde(skip)]
    pub headers: usize,
    /// TTL or hop limit.
    pub ttl: u8,
    /// DSCP.
    pub dscp: u8,
    /// What an error quotes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quoted: Option<Box<Self>>,
}

/// An ICMP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Its name, if it has one.
    pub name: Option<&'static str>,
    /// Type.
    #[serde(rename = "type")]
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// What else its header says.
    #[serde(skip)]
    pub detail: Option<Detail>,
}

/// What the header of an ICMP message says besides type and code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// To which of several requests or replies it belongs: RFC 792, RFC 4443 4, RFC 8335.
    Exchange {
        /// Identifier.
        id: u16,
        /// Sequence number.
        sequence: u16,
    },
    /// The MTU of the link that a packet was too big for: RFC 1191, RFC 4443 3.2.
    Mtu(u32),
    /// The gateway that a redirect names: RFC 792.
    Gateway(Ipv4Addr),
    /// What Neighbour Discovery is about: RFC 4861 4.3 to 4.5.
    Target(Ipv6Addr),
}

impl Decoded {
    /// What is in a frame; `None` if that is not IP.
    #[must_use]
    pub fn of_frame(frame: &[u8]) -> Option<Self> {
        let sliced = LaxSlicedPacket::from_ethernet(frame).ok()?;
        Some(Self { vlans: sliced.vlan_ids().iter().map(|id| id.value()).collect(), ..of(&sliced, true)? })
    }
}

/// What is in a packet; `deep` to see what it quotes.
fn of(sliced: &LaxSlicedPacket<'_>, deep: bool) -> Option<Decoded> {
    let mut decoded = match sliced.net.as_ref()? {
        LaxNetSlice::Ipv4(slice) => {
            let header = slice.header();
            Decoded {
                vlans: Vec::new(),
                from: header.source_addr().into(),
                to: header.destination_addr().into(),
                protocol: header.protocol().0,
                message: None,
                ports: None,
                fragment: header.fragments_offset().value() != 0,
                length: header.total_len().into(),
                headers: header.slice().len(),
                ttl: header.ttl(),
                dscp: header.dcp().value(),
                quoted: None,
            }
        }
        LaxNetSlice::Ipv6(slice) => {
            let header = slice.header();
            let is_later = |extension| matches!(extension, Ipv6ExtensionSlice::Fragment(fragment) if fragment.fragment_offset().value() != 0);
            Decoded {
                vlans: Vec::new(),
                from: header.source_addr().into(),
                to: header.destination_addr().into(),
                protocol: slice.payload().ip_number.0,
                message: None,
                ports: None,
                fragment: slice.extensions().clone().into_iter().any(is_later),
                length: ipv6::HEADER + usize::from(header.payload_length()),
                headers: ipv6::HEADER + slice.extensions().slice().len(),
                ttl: header.hop_limit(),
                dscp: header.dscp().value(),
                quoted: None,
            }
        }
        LaxNetSlice::Arp(_) => return None,
    };
    let payload = sliced.ip_payload().map_or(&[][..], |payload| payload.payload);
    if let (Some(family), false, [kind, code, ..]) = (decoded.family_of_icmp(), decoded.fragment, payload) {
        let name = names::of(family, *kind, Some(*code)).or_else(|| names::of(family, *kind, None));
        let detail = detail(family, *kind, *code, payload);
        decoded.message = Some(Message { name, kind: *kind, code: *code, detail });
        if deep && quotes(family, *kind) {
            let quote = payload.get(icmp::HEADER..).and_then(|quote| LaxSlicedPacket::from_ip(quote).ok());
            decoded.quoted = quote.and_then(|sliced| of(&sliced, false)).map(Box::new);
        }
    }
    if let (TCP | UDP, false, [a, b, c, d, ..]) = (decoded.protocol, decoded.fragment, payload) {
        decoded.ports = Some([u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])]);
    }
    Some(decoded)
}

/// What the header of a message says besides type and code, if all of that is there.
fn detail(family: Family, kind: u8, code: u8, message: &[u8]) -> Option<Detail> {
    let rest = *message.get(4..)?.first_chunk::<4>()?;
    let [a, b, c, d] = rest;
    let exchange =
        || Detail::Exchange { id: u16::from_be_bytes([a, b]), sequence: u16::from_be_bytes([c, d]) };
    // Of the second half of an extended echo's header the first byte is the number.
    let probe = || Detail::Exchange { id: u16::from_be_bytes([a, b]), sequence: c.into() };
    let target = || message.get(icmp::HEADER..)?.first_chunk::<16>().copied();
    match (family, kind, code) {
        (Family::Ipv4, 0 | 8 | 13..=18, _) | (Family::Ipv6, 128 | 129, _) => Some(exchange()),
        (Family::Ipv4, 42 | 43, _) | (Family::Ipv6, 160 | 161, _) => Some(probe()),
        (Family::Ipv4, 3, 4) => Some(Detail::Mtu(u16::from_be_bytes([c, d]).into())),
        (Family::Ipv6, 2, _) => Some(Detail::Mtu(u32::from_be_bytes(rest))),
        (Family::Ipv4, 5, _) => Some(Detail::Gateway(rest.into())),
        (Family::Ipv6, 135..=137, _) => target().map(|target| Detail::Target(target.into())),
        _ => None,
    }
}

/// Whether messages of a type quote a packet (RFC 792, RFC 4443).
const fn quotes(family: Family, kind: u8) -> bool {
    match family {
        Family::Ipv4 => matches!(kind, 3..=5 | 11 | 12),
        Family::Ipv6 => matches!(kind, 1..=4),
    }
}

impl Decoded {
    /// The family whose ICMP it is, if it is that.
    #[must_use]
    pub const fn family_of_icmp(&self) -> Option<Family> {
        match (self.from, self.protocol) {
            (IpAddr::V4(_), ipv4::ICMP) => Some(Family::Ipv4),
            (IpAddr::V6(_), ipv6::ICMPV6) => Some(Family::Ipv6),
            _ => None,
        }
    }
}

impl fmt::Display for Decoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, length, ttl, .. } = self;
        write!(f, "{from} > {to}: ")?;
        match (self.message, self.family_of_icmp()) {
            (Some(Message { name: Some(name), kind, code, .. }), _) => {
                write!(f, "{name} (type {kind}, code {code})")?
            }
            (Some(Message { name: None, kind, code, .. }), _) => write!(f, "ICMP type {kind}, code {code}")?,
            (None, Some(_)) if self.fragment => write!(f, "ICMP, a later fragment")?,
            (None, Some(_)) => write!(f, "ICMP, cut off")?,
            (None, None) => write!(f, "IP protocol {}", self.protocol)?,
        }
        let hops = if from.is_ipv4() { "TTL" } else { "hop limit" };
        write!(f, ", {length} bytes, {hops} {ttl}")?;
        if self.dscp != 0 {
            write!(f, ", DSCP {}", self.dscp)?;
        }
        self.vlans.iter().try_for_each(|vlan| write!(f, ", VLAN {vlan}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of a packet in hexadecimal digits, in an Ethernet frame.
    fn frame(ether_type: &str, packet: &str) -> Vec<u8> {
        let hex = ["020000000001", "020000000002", ether_type, packet].concat();
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    fn shown(frame: &[u8]) -> String {
        Decoded::of_frame(frame).map_or_else(|| "-".to_owned(), |decoded| decoded.to_string())
    }

    /// A captured error, with what it quotes.
    #[test]
    fn an_error_and_its_quote_are_decoded() {
        let packet = "45000038e25f0000ff0181e6c0a80164c0a801c8030dfcf2000000004500001c30f200003a016848c0a80164\
                      c0a801c808006f16a8c3e025";
        let decoded = Decoded::of_frame(&frame("0800", packet)).unwrap();
        assert_eq!(
            decoded.to_string(),
            "192.168.1.100 > 192.168.1.200: administratively-prohibited (type 3, code 13), 56 bytes, TTL 255"
        );
        let quoted = decoded.quoted.unwrap().to_string();
        assert_eq!(quoted, "192.168.1.100 > 192.168.1.200: echo (type 8, code 0), 28 bytes, TTL 58");
    }

    #[test]
    fn tags_and_odd_packets_are_decoded() {
        let ping6 = "6b80000000083a4020010db800000000000000000000000120010db80000000000000000000000028000000012340001";
        assert_eq!(
            shown(&frame("81000007", &format!("86dd{ping6}"))),
            "2001:db8::1 > 2001:db8::2: echo (type 128, code 0), 48 bytes, hop limit 64, DSCP 46, VLAN 7"
        );
        // RFC 792's header with a fragment offset, and one with a type that has no name.
        let fragment = "4500001c000000b940010000c0000201c00002020000000000000000";
        assert_eq!(
            shown(&frame("0800", fragment)),
            "192.0.2.1 > 192.0.2.2: ICMP, a later fragment, 28 bytes, TTL 64"
        );
        let nameless = "4500001c0000000040010000c0000201c0000202c809000000000000";
        assert_eq!(
            shown(&frame("0800", nameless)),
            "192.0.2.1 > 192.0.2.2: ICMP type 200, code 9, 28 bytes, TTL 64"
        );
        let tcp = "4500001400000000400600000a0000010a000002";
        assert_eq!(shown(&frame("0800", tcp)), "10.0.0.1 > 10.0.0.2: IP protocol 6, 20 bytes, TTL 64");
    }

    /// Whatever the bytes are, and wherever they end.
    #[test]
    fn broken_frames_are_no_trouble() {
        let packet = "45000038e25f0000ff0181e6c0a80164c0a801c8030dfcf2000000004500001c30f200003a016848c0a80164\
                      c0a801c808006f16a8c3e025";
        let whole = frame("0800", packet);
        for end in 0..whole.len() {
            for byte in [0x00, 0x4f, 0xff] {
                let mut frame = whole[..end].to_vec();
                if let Some(last) = frame.last_mut() {
                    *last = byte;
                }
                let _ = shown(&frame);
            }
        }
        assert_eq!(shown(&whole[..20]), "-");
        assert_eq!(shown(&frame("0806", "00")), "-");
    }
}
