//! The IPv6 header (RFC 8200).

use super::wire;

/// Next-header number of ICMPv6.
pub const ICMPV6: u8 = 58;
/// Length of the fixed header, in bytes.
pub const HEADER: usize = 40;

/// A fixed IPv6 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Ipv6 {
    version_class_label: [u8; 4],
    payload_length: [u8; 2],
    /// What follows the header.
    pub next_header: u8,
    /// Hops left.
    pub hop_limit: u8,
    /// Source address.
    pub source: [u8; 16],
    /// Destination address.
    pub destination: [u8; 16],
}

wire!(Ipv6: 40 bytes);

/// An IPv6 address as two integers in host order: the first and the last 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address6 {
    /// The first 64 bits.
    pub high: u64,
    /// The last 64 bits.
    pub low: u64,
}

impl Address6 {
    /// Reads an address in network order.
    #[inline(always)]
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        let value = u128::from_be_bytes(bytes);
        Self { high: (value >> 64) as u64, low: value as u64 }
    }

    /// Whether it can be the source of a packet that deserves an answer: one node's, from outside (RFC 4443
    /// 2.2). Not so multicast addresses and those whose first 64 bits are zero: unspecified, loopback, and
    /// the IPv4-mapped ones, which never stand on a wire.
    #[inline(always)]
    #[must_use]
    pub const fn is_node(self) -> bool {
        self.high != 0 && self.high >> 56 != 0xff
    }
}

impl Ipv6 {
    /// The version: 6.
    #[inline(always)]
    #[must_use]
    pub const fn version(&self) -> u8 {
        self.version_class_label[0] >> 4
    }

    /// The traffic class: DSCP (6 bits) and ECN (2 bits).
    #[inline(always)]
    #[must_use]
    pub const fn traffic_class(&self) -> u8 {
        self.version_class_label[0] << 4 | self.version_class_label[1] >> 4
    }

    /// Length of what follows the fixed header, in bytes.
    #[inline(always)]
    #[must_use]
    pub const fn payload_length(&self) -> usize {
        u16::from_be_bytes(self.payload_length) as usize
    }

    /// Source address.
    #[inline(always)]
    #[must_use]
    pub const fn source(&self) -> Address6 {
        Address6::from_bytes(self.source)
    }

    /// Destination address.
    #[inline(always)]
    #[must_use]
    pub const fn destination(&self) -> Address6 {
        Address6::from_bytes(self.destination)
    }

    /// Exchanges source and destination; no checksum changes by it.
    #[inline(always)]
    pub const fn reverse(&mut self) {
        let (source, destination) = (words(self.source), words(self.destination));
        self.source = bytes(destination);
        self.destination = bytes(source);
    }

    /// The sum of the pseudo-header that an ICMPv6 message's checksum covers (RFC 8200 8.1), for
    /// [`crate::checksum::fold`].
    #[inline(always)]
    #[must_use]
    pub fn pseudo_header_sum(&self) -> u64 {
        crate::checksum::sum(&self.source)
            + crate::checksum::sum(&self.destination)
            + u64::from(u16::from_ne_bytes(self.payload_length))
            + u64::from(u16::from_ne_bytes([0, ICMPV6]))
    }
}

/// An address as two integers in memory order.
#[inline(always)]
#[must_use]
pub const fn words(address: [u8; 16]) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = address;
    [u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u64::from_ne_bytes([i, j, k, l, m, n, o, p])]
}

/// The address of which these are the [`words`].
#[inline(always)]
const fn bytes(words: [u64; 2]) -> [u8; 16] {
    let ([a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]) =
        (words[0].to_ne_bytes(), words[1].to_ne_bytes());
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

/// Whether a next-header number is that of an extension header whose first byte is again a next-header number
/// and behind which ICMPv6 is found on real networks: hop-by-hop options, routing, fragment, destination
/// options.
#[inline(always)]
#[must_use]
pub const fn is_extension(next_header: u8) -> bool {
    matches!(next_header, 0 | 43 | 44 | 60)
}

/// The first byte of an extension header: what follows that header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct NextHeader(pub [u8; 1]);

wire!(NextHeader: 1 bytes);
