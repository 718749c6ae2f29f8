//! The frames that are timed, and what they must become: made by somebody else's encoder.

use std::net::IpAddr;

use anyhow::{Context as _, Result, bail};
use etherparse::{
    Icmpv4Type, IpDscp, IpHeaders, IpNumber, Ipv4Header, PacketBuilder, VlanId,
    icmpv4::DestUnreachableHeader::FilterProhibited,
};

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// An echo request.
    Request,
    /// An echo reply.
    Reply,
    /// A TCP segment in the middle of a connection.
    Tcp,
}

/// A frame, as far as cases differ in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    /// MAC addresses: source, destination.
    pub(super) macs: [[u8; 6]; 2],
    /// VLAN tags, up to two.
    pub(super) tags: usize,
    /// IP addresses: source, destination.
    pub(super) addresses: [IpAddr; 2],
    /// TTL or hop limit.
    pub(super) ttl: u8,
    /// What it says.
    pub(super) message: Message,
    /// Bytes of data.
    pub(super) data: usize,
}

/// Where a frame holds what changes when many sources send it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SourceFields {
    /// Four bytes of the source address.
    pub(super) source: u32,
    /// The checksum that covers them. TCP's is left as it is: nobody on the way looks at it.
    pub(super) checksum: u32,
}

impl Packet {
    /// Its bytes, all checksums right.
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        let data: Vec<u8> = (0..self.data).map(|number| number as u8).collect();
        let [source, destination] = self.macs;
        let link = PacketBuilder::ethernet2(source, destination);
        let v4 = self.is_v4();
        let [outer, inner] = [VlanId::try_new(7)?, VlanId::try_new(8)?];
        let ip = match (self.addresses, self.tags) {
            ([IpAddr::V4(from), IpAddr::V4(to)], 0) => link.ipv4(from.octets(), to.octets(), self.ttl),
            ([IpAddr::V4(from), IpAddr::V4(to)], 1) => {
                link.single_vlan(outer).ipv4(from.octets(), to.octets(), self.ttl)
            }
            ([IpAddr::V4(from), IpAddr::V4(to)], 2) => {
                link.double_vlan(outer, inner).ipv4(from.octets(), to.octets(), self.ttl)
            }
            ([IpAddr::V6(from), IpAddr::V6(to)], 0) => link.ipv6(from.octets(), to.octets(), self.ttl),
            ([from, to], tags) => bail!("no case has a packet from {from} to {to} with {tags} tags"),
        };
        let mut frame = Vec::new();
        let written = match (self.message, v4) {
            (Message::Request, true) => ip.icmpv4_echo_request(1, 1).write(&mut frame, &data),
            (Message::Request, false) => ip.icmpv6_echo_request(1, 1).write(&mut frame, &data),
            (Message::Reply, true) => ip.icmpv4_echo_reply(1, 1).write(&mut frame, &data),
            (Message::Reply, false) => ip.icmpv6_echo_reply(1, 1).write(&mut frame, &data),
            (Message::Tcp, _) => ip.tcp(443, 50_000, 1, 1000).ack(1).write(&mut frame, &data),
        };
        written.context("encoding a packet")?;
        Ok(frame)
    }

    /// The reply that it must get.
    pub(super) fn reply(&self) -> Self {
        let ([source, destination], [from, to]) = (self.macs, self.addresses);
        Self {
            macs: [destination, source],
            addresses: [to, from],
            ttl: 64,
            message: Message::Reply,
            ..self.clone()
        }
    }

    /// The error that a rule which rejects it sends: of IPv4, and with all of the packet, which is short.
    pub(super) fn error(&self) -> Result<Vec<u8>> {
        let ([source, destination], [IpAddr::V4(from), IpAddr::V4(to)]) = (self.macs, self.addresses) else {
            bail!("no case has an error of IPv6");
        };
        let header = Ipv4Header::new(0, 64, IpNumber::ICMP, to.octets(), from.octets())?;
        let header = Ipv4Header { dscp: IpDscp::try_new(48)?, ..header };
        let error = PacketBuilder::ethernet2(destination, source)
            .ip(IpHeaders::Ipv4(header, Default::default()))
            .icmpv4(Icmpv4Type::DestinationUnreachable(FilterProhibited));
        let mut frame = Vec::new();
        error.write(&mut frame, &self.encode()?[ETHERNET..]).context("encoding an error")?;
        Ok(frame)
    }

    /// Whether it is an IPv4 packet.
    pub(super) fn is_v4(&self) -> bool {
        self.addresses[0].is_ipv4()
    }
}

impl SourceFields {
    /// IPv4's; the header checksum covers the source.
    pub(super) const IPV4: Self = Self { source: 14 + 12, checksum: 14 + 10 };
    /// IPv6's, behind the first 16 bits of the source; ICMPv6's checksum covers it.
    pub(super) const IPV6_BEGIN: Self = Self { source: 14 + 8 + 2, checksum: 14 + 40 + 2 };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(from: &str, to: &str) -> Packet {
        let addresses = [from, to].map(|address| address.parse().unwrap());
        Packet { macs: [[2; 6], [4; 6]], tags: 0, addresses, ttl: 9, message: Message::Request, data: 56 }
    }

    #[test]
    fn the_bytes_of_the_source_are_found() {
        for (fields, from, to) in [
            (SourceFields::IPV4, "10.1.2.3", "192.0.2.1"),
            (SourceFields::IPV6_BEGIN, "2001:a01:203::7", "2001:db8::1"),
        ] {
            let frame = packet(from, to).encode().unwrap();
            assert_eq!(frame[fields.source as usize..][..4], [10, 1, 2, 3]);
        }
    }

    #[test]
    fn the_checksum_over_the_source_is_found() {
        for (fields, from, other, to) in [
            (SourceFields::IPV4, "10.1.2.3", "10.1.2.4", "192.0.2.1"),
            (SourceFields::IPV6_BEGIN, "2001:db8:3::", "2001:db8:4::", "2001:db8::1"),
        ] {
            let frame = packet(from, to).encode().unwrap();
            let another = packet(other, to).encode().unwrap();
            let SourceFields { source, checksum } = fields;
            let differ: Vec<usize> = (0..frame.len()).filter(|at| frame[*at] != another[*at]).collect();
            let mut expected = vec![checksum as usize + 1, source as usize + 3];
            expected.sort_unstable();
            assert_eq!(differ, expected);
        }
    }

    #[test]
    fn tags_stand_before_the_header() {
        let untagged = packet("10.1.2.3", "192.0.2.1");
        let plain = untagged.encode().unwrap();
        for tags in [1, 2] {
            let frame = Packet { tags, ..untagged.clone() }.encode().unwrap();
            assert_eq!((frame.len(), &frame[14 + 4 * tags..]), (plain.len() + 4 * tags, &plain[14..]));
        }
    }

    #[test]
    fn an_error_quotes_all_of_the_packet() {
        let packet = packet("10.1.2.3", "192.0.2.1");
        let (frame, error) = (packet.encode().unwrap(), packet.error().unwrap());
        assert_eq!(error[..12], [[2; 6], [4; 6]].concat());
        assert_eq!(error[34..36], [3, 13]);
        assert_eq!(error[42..], frame[14..]);
    }

    #[test]
    fn a_reply_goes_back() {
        let reply = packet("10.1.2.3", "192.0.2.1").reply();
        assert_eq!((reply.macs, reply.ttl), ([[4; 6], [2; 6]], 64));
        assert_eq!(reply.encode().unwrap()[34], 0);
    }
}
