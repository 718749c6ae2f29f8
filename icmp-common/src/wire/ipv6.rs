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
    pub source: Halves,
    /// Destination address.
    pub destination: Halves,
}

/// An IPv6 address as it stands in a frame, in two halves, so that it is loaded and stored as two words.
pub type Halves = [[u8; 8]; 2];

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
    pub const fn from_halves(address: Halves) -> Self {
        Self { high: u64::from_be_bytes(address[0]), low: u64::from_be_bytes(address[1]) }
    }
}

/// Whether an address, as [`words`] makes it, can be the source of a packet that deserves an answer: one node's, from
/// outside (RFC 4443 2.2). Not so multicast addresses and those whose first 64 bits are zero: unspecified, loopback,
/// and the IPv4-mapped ones, which never stand on a wire.
#[inline(always)]
#[must_use]
pub const fn is_node(address: [u64; 2]) -> bool {
    let multicast = u64::from_ne_bytes([0xff, 0, 0, 0, 0, 0, 0, 0]);
    address[0] != 0 && address[0] & multicast != multicast
}

impl Ipv6 {
    /// A header with hop limit `hops` before an ICMPv6 message of `length` bytes; traffic class and flow label are 0.
    #[inline(always)]
    #[must_use]
    pub const fn new(length: u16, hops: u8, source: Halves, destination: Halves) -> Self {
        Self {
            version_class_label: [0x60, 0, 0, 0],
            payload_length: length.to_be_bytes(),
            next_header: ICMPV6,
            hop_limit: hops,
            source,
            destination,
        }
    }

    /// The version: 6.
    #[inline(always)]
    #[must_use]
    pub const fn version(&self) -> u8 {
        self.version_class_label[0] >> 4
    }

    /// Traffic class: DSCP (6 bits) and ECN (2 bits).
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

    /// Exchanges source and destination; no checksum changes by it.
    #[inline(always)]
    pub const fn reverse(&mut self) {
        let ([a, b], [c, d]) = (words(self.source), words(self.destination));
        self.source[0] = c.to_ne_bytes();
        self.source[1] = d.to_ne_bytes();
        self.destination[0] = a.to_ne_bytes();
        self.destination[1] = b.to_ne_bytes();
    }

    /// The sum of the pseudo-header that an ICMPv6 message's checksum covers (RFC 8200 8.1), for
    /// [`crate::checksum::fold`].
    #[inline(always)]
    #[must_use]
    pub fn pseudo_header_sum(&self) -> u64 {
        // By the same words as in `reverse`, which the compiler would otherwise put together from smaller ones.
        let ([a, b], [c, d]) = (words(self.source), words(self.destination));
        let halves = |word: u64| (word >> 32) + (word & 0xffff_ffff);
        halves(a)
            + halves(b)
            + halves(c)
            + halves(d)
            + u64::from(u16::from_ne_bytes(self.payload_length))
            + u64::from(u16::from_ne_bytes([0, ICMPV6]))
    }
}

/// An address as two integers in memory order.
#[inline(always)]
#[must_use]
pub const fn words(address: Halves) -> [u64; 2] {
    [u64::from_ne_bytes(address[0]), u64::from_ne_bytes(address[1])]
}

/// Next-header number of the fragment header.
pub const FRAGMENT: u8 = 44;
/// Length of a fragment header, in bytes.
pub const FRAGMENT_HEADER: usize = 8;

/// Whether a next-header number is that of an extension header whose first byte is again a next-header number
/// and behind which ICMPv6 is found on real networks: hop-by-hop options, routing, fragment, destination
/// options.
#[inline(always)]
#[must_use]
pub const fn is_extension(next_header: u8) -> bool {
    matches!(next_header, 0 | 43 | FRAGMENT | 60)
}

/// The first four bytes of an extension header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Extension {
    /// What follows the extension header.
    pub next_header: u8,
    length: u8,
    offset: [u8; 2],
}

wire!(Extension: 4 bytes);

impl Extension {
    /// Length of the extension header in bytes; of a fragment header this is not the length.
    #[inline(always)]
    #[must_use]
    pub const fn length(&self) -> usize {
        (self.length as usize + 1) * 8
    }

    /// The offset in a fragment header, in bytes.
    #[inline(always)]
    #[must_use]
    pub const fn fragment_offset(&self) -> u16 {
        u16::from_be_bytes(self.offset) & 0xfff8
    }
}
