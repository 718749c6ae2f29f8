//! The frames that are timed, and the replies they must get: made by somebody else's encoder.

use std::net::IpAddr;

use anyhow::{Context as _, Result, bail};
use etherparse::PacketBuilder;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SourceFields {
    /// The last four bytes of the source address.
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
        let ip = match self.addresses {
            [IpAddr::V4(from), IpAddr::V4(to)] => link.ipv4(from.octets(), to.octets(), self.ttl),
            [IpAddr::V6(from), IpAddr::V6(to)] => link.ipv6(from.octets(), to.octets(), self.ttl),
            [from, to] => bail!("a packet from {from} to {to} belongs to no family"),
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
            data: self.data,
        }
    }

    /// Whether it is an IPv4 packet.
    pub(super) fn is_v4(&self) -> bool {
        self.addresses[0].is_ipv4()
    }
}

impl SourceFields {
    /// IPv4's; the header checksum covers the source.
    pub(super) const IPV4: Self = Self { source: 14 + 12, checksum: 14 + 10 };
    /// IPv6's; ICMPv6's checksum covers the source.
    pub(super) const IPV6: Self = Self { source: 14 + 8 + 12, checksum: 14 + 40 + 2 };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(from: &str, to: &str) -> Packet {
        let addresses = [from, to].map(|address| address.parse().unwrap());
        Packet { macs: [[2; 6], [4; 6]], addresses, ttl: 9, message: Message::Request, data: 56 }
    }

    #[test]
    fn the_last_bytes_of_the_source_are_found() {
        for (fields, from, to) in [
            (SourceFields::IPV4, "10.1.2.3", "192.0.2.1"),
            (SourceFields::IPV6, "2001:db8::a01:203", "2001:db8::1"),
        ] {
            let frame = packet(from, to).encode().unwrap();
            assert_eq!(frame[fields.source as usize..][..4], [10, 1, 2, 3]);
        }
    }

    #[test]
    fn the_checksum_over_the_source_is_found() {
        for (fields, from, other, to) in [
            (SourceFields::IPV4, "10.1.2.3", "10.1.2.4", "192.0.2.1"),
            (SourceFields::IPV6, "2001:db8::3", "2001:db8::4", "2001:db8::1"),
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
    fn a_reply_goes_back() {
        let reply = packet("10.1.2.3", "192.0.2.1").reply();
        assert_eq!((reply.macs, reply.ttl), ([[4; 6], [2; 6]], 64));
        assert_eq!(reply.encode().unwrap()[34], 0);
    }
}
