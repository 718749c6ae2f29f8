//! A packet from a description: an ICMP message in a frame.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{
    IpDscp, IpFragOffset, IpHeaders, IpNumber, Ipv4Header, Ipv6Extensions, Ipv6FragmentHeader, Ipv6Header,
    PacketBuilder, PacketBuilderStep, VlanId, err::packet::BuildWriteError,
};
use icmp_common::{
    Family,
    wire::{icmp, ipv4, ipv6},
};
use thiserror::Error;

/// Where a packet comes from and where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// In IPv4.
    Ipv4(Ipv4Addr, Ipv4Addr),
    /// In IPv6.
    Ipv6(Ipv6Addr, Ipv6Addr),
}

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Where it comes from and where it goes.
    pub addresses: Addresses,
    /// Type and code; none for a fragment other than the first, in which they are not to be seen.
    pub message: Option<[u8; 2]>,
    /// Length of the IP packet in bytes; that of a common ping if none is given.
    pub length: Option<u16>,
    /// TTL or hop limit.
    pub ttl: u8,
    /// DSCP.
    pub dscp: u8,
    /// Number of its VLAN.
    pub vlan: Option<u16>,
}

/// A packet that can't be made.
#[derive(Debug, Error)]
pub enum PacketError {
    /// Source and destination do not fit each other.
    #[error("{from} and {to} are addresses of different families: a packet has two of one")]
    Mixed {
        /// Where it should come from.
        from: IpAddr,
        /// Where it should go.
        to: IpAddr,
    },
    /// No room for the headers.
    #[error("{length} bytes are too few: such a packet has at least {least}")]
    TooShort {
        /// How long it should be.
        length: u16,
        /// How long it has to be.
        least: usize,
    },
    /// The encoder refused.
    #[error("making the packet: {0}")]
    Encoder(#[from] BuildWriteError),
}

/// What `ping` sends behind the ICMP header, in bytes.
const DATA: usize = 56;
/// Where a fragment's data begins in the whole, in units of 8 bytes: behind what fits an Ethernet frame.
const OFFSET: u16 = 185;

impl Addresses {
    /// Both of one family.
    pub fn new(from: IpAddr, to: IpAddr) -> Result<Self, PacketError> {
        match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => Ok(Self::Ipv4(from, to)),
            (IpAddr::V6(from), IpAddr::V6(to)) => Ok(Self::Ipv6(from, to)),
            _ => Err(PacketError::Mixed { from, to }),
        }
    }

    /// Their family.
    #[must_use]
    pub const fn family(self) -> Family {
        match self {
            Self::Ipv4(..) => Family::Ipv4,
            Self::Ipv6(..) => Family::Ipv6,
        }
    }
}

impl Packet {
    /// The packet in a frame to the MAC address `to`, from a neighbour's.
    pub fn frame(&self, to: [u8; 6]) -> Result<Vec<u8>, PacketError> {
        let ip = self.ip();
        let headers = ip.header_len() + icmp::HEADER;
        let length = self.length.unwrap_or((headers + DATA) as u16);
        let data = usize::from(length).checked_sub(headers);
        let data = vec![0; data.ok_or(PacketError::TooShort { length, least: headers })?];
        let ethernet = PacketBuilder::ethernet2(neighbour(to), to);
        let step = match self.vlan {
            Some(vlan) => ethernet.single_vlan(VlanId::try_new(vlan).unwrap_or_default()).ip(ip),
            None => ethernet.ip(ip),
        };
        self.finish(step, &data)
    }

    fn ip(&self) -> IpHeaders {
        let dscp = IpDscp::try_new(self.dscp).unwrap_or_default();
        let fragment_offset = IpFragOffset::try_new(OFFSET).unwrap_or_default();
        let is_fragment = self.message.is_none();
        match self.addresses {
            Addresses::Ipv4(from, to) => {
                let header = Ipv4Header {
                    dscp,
                    dont_fragment: !is_fragment,
                    fragment_offset: if is_fragment { fragment_offset } else { IpFragOffset::ZERO },
                    time_to_live: self.ttl,
                    protocol: IpNumber(ipv4::ICMP),
                    source: from.octets(),
                    destination: to.octets(),
                    ..Ipv4Header::default()
                };
                IpHeaders::Ipv4(header, Default::default())
            }
            Addresses::Ipv6(from, to) => {
                let mut header = Ipv6Header {
                    next_header: IpNumber(ipv6::ICMPV6),
                    hop_limit: self.ttl,
                    source: from.octets(),
                    destination: to.octets(),
                    ..Ipv6Header::default()
                };
                header.set_dscp(dscp);
                let fragment = Ipv6FragmentHeader::new(IpNumber(ipv6::ICMPV6), fragment_offset, false, 1);
                let fragment = is_fragment.then_some(fragment);
                IpHeaders::Ipv6(header, Ipv6Extensions { fragment, ..Ipv6Extensions::default() })
            }
        }
    }

    fn finish(&self, step: PacketBuilderStep<IpHeaders>, data: &[u8]) -> Result<Vec<u8>, PacketError> {
        let mut frame = Vec::new();
        // An identifier and the first sequence number, in what is an echo.
        let rest = [0x12, 0x34, 0, 1];
        match (self.message, self.addresses.family()) {
            (Some([kind, code]), Family::Ipv4) => {
                step.icmpv4_raw(kind, code, rest).write(&mut frame, data)?
            }
            (Some([kind, code]), Family::Ipv6) => {
                step.icmpv6_raw(kind, code, rest).write(&mut frame, data)?
            }
            (None, family) => {
                let protocol = match family {
                    Family::Ipv4 => ipv4::ICMP,
                    Family::Ipv6 => ipv6::ICMPV6,
                };
                step.write(&mut frame, IpNumber(protocol), &[&[0; icmp::HEADER][..], data].concat())?;
            }
        }
        Ok(frame)
    }
}

/// The MAC address of somebody else than the one that has this one.
#[must_use]
pub const fn neighbour(mac: [u8; 6]) -> [u8; 6] {
    let [a, b, c, d, e, f] = mac;
    [a, b, c, d, e, f ^ 1]
}
