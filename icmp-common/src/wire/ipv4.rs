//! The IPv4 header (RFC 791).

use super::wire;
use crate::checksum;

/// Protocol number of ICMP.
pub const ICMP: u8 = 1;
/// First byte of a header without options: version 4, five 32-bit words.
pub const PLAIN: u8 = 0x45;
/// Length of a header without options, in bytes.
pub const HEADER: usize = 20;

/// An IPv4 header without its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Ipv4 {
    version_ihl: u8,
    /// DSCP (6 bits) and ECN (2 bits).
    pub tos: u8,
    total_length: [u8; 2],
    id: [u8; 2],
    flags_offset: [u8; 2],
    /// Time to live.
    pub ttl: u8,
    /// What follows the header.
    pub protocol: u8,
    checksum: [u8; 2],
    /// Source address.
    pub source: [u8; 4],
    /// Destination address.
    pub destination: [u8; 4],
}

wire!(Ipv4: 20 bytes);

/// The flag Don't Fragment.
const DONT_FRAGMENT: u16 = 0x4000;

impl Ipv4 {
    /// A header before an ICMP message of `length` bytes, checksum included. It must not be fragmented, and so needs no
    /// identification (RFC 6864 4.1).
    #[inline(always)]
    #[must_use]
    pub const fn new(length: u16, tos: u8, ttl: u8, source: [u8; 4], destination: [u8; 4]) -> Self {
        let mut header = Self {
            version_ihl: PLAIN,
            tos,
            total_length: (length + HEADER as u16).to_be_bytes(),
            id: [0; 2],
            flags_offset: DONT_FRAGMENT.to_be_bytes(),
            ttl,
            protocol: ICMP,
            checksum: [0; 2],
            source,
            destination,
        };
        header.checksum = (!checksum::fold(header.sum())).to_ne_bytes();
        header
    }

    /// Version (high nibble) and header length in 32-bit words (low nibble): [`PLAIN`] for most.
    #[inline(always)]
    #[must_use]
    pub const fn version_ihl(&self) -> u8 {
        self.version_ihl
    }

    /// Length of header and payload, in bytes.
    #[inline(always)]
    #[must_use]
    pub const fn total_length(&self) -> usize {
        u16::from_be_bytes(self.total_length) as usize
    }

    /// Whether it is a fragment, the first one included: More Fragments is set or the offset is not 0.
    #[inline(always)]
    #[must_use]
    pub const fn is_fragment(&self) -> bool {
        u16::from_be_bytes(self.flags_offset) & 0x3fff != 0
    }

    /// Length of the header with its options, in bytes: 0 to 60.
    #[inline(always)]
    #[must_use]
    pub const fn header_length(&self) -> usize {
        (self.version_ihl & 0xf) as usize * 4
    }

    /// Where the payload stands in the datagram that this is a fragment of, in bytes; 0 in one that is whole.
    #[inline(always)]
    #[must_use]
    pub const fn fragment_offset(&self) -> u16 {
        u16::from_be_bytes(self.flags_offset) << 3
    }

    /// Whether the header checksum of this header, which has no options, is right.
    #[inline(always)]
    #[must_use]
    pub const fn checksum_verifies(&self) -> bool {
        checksum::verifies(self.sum())
    }

    /// The sum of the header without options, for [`checksum::fold`].
    #[inline(always)]
    const fn sum(&self) -> u64 {
        let first =
            u32::from_ne_bytes([self.version_ihl, self.tos, self.total_length[0], self.total_length[1]]);
        let second = u32::from_ne_bytes([self.id[0], self.id[1], self.flags_offset[0], self.flags_offset[1]]);
        let third = u32::from_ne_bytes([self.ttl, self.protocol, self.checksum[0], self.checksum[1]]);
        first as u64
            + second as u64
            + third as u64
            + u32::from_ne_bytes(self.source) as u64
            + u32::from_ne_bytes(self.destination) as u64
    }

    /// Sets the time to live and keeps the header checksum right.
    #[inline(always)]
    pub const fn set_ttl(&mut self, ttl: u8) {
        // The protocol, the other byte of the word, adds as much to the one as to the other.
        let old = u16::from_ne_bytes([self.ttl, 0]);
        let new = u16::from_ne_bytes([ttl, 0]);
        self.checksum = checksum::update(u16::from_ne_bytes(self.checksum), old, new).to_ne_bytes();
        self.ttl = ttl;
    }

    /// Sets the length of header and payload, in bytes, and keeps the header checksum right.
    #[inline(always)]
    pub const fn set_total_length(&mut self, length: u16) {
        let (old, new) = (u16::from_ne_bytes(self.total_length), length.to_be());
        self.checksum = checksum::update(u16::from_ne_bytes(self.checksum), old, new).to_ne_bytes();
        self.total_length = new.to_ne_bytes();
    }

    /// Exchanges source and destination; no checksum changes by it.
    #[inline(always)]
    pub const fn reverse(&mut self) {
        let (source, destination) = (u32::from_ne_bytes(self.source), u32::from_ne_bytes(self.destination));
        self.source = destination.to_ne_bytes();
        self.destination = source.to_ne_bytes();
    }
}

/// Whether an address (in memory order) can be the source of a packet that deserves an answer: one host's, from
/// outside (RFC 1122 3.2.1.3). Not so 0/8, 127/8, 224/4 and 240/4.
#[inline(always)]
#[must_use]
pub const fn is_host(address: u32) -> bool {
    /// A number in memory order whose first byte is this one and the rest zeros.
    const fn first(byte: u8) -> u32 {
        u32::from_ne_bytes([byte, 0, 0, 0])
    }
    // By a mask, because the compiler would load a byte of its own.
    let begin = address & first(0xff);
    begin != first(0) && begin != first(127) && begin < first(224)
}
