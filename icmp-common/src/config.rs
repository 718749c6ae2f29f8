//! The settings of a loaded program: frozen read-only data, on which the kernel's verifier prunes branches.

use crate::{ABI_VERSION, Plain, bucket::Fill, wire::ethernet::MacParts};

/// Settings, written once before the program is loaded and never changed: new settings are a new program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Config {
    /// The interface's MAC address.
    pub interface_mac: MacParts,
    /// [`ABI_VERSION`] of whoever wrote this.
    pub abi_version: u32,
    /// TTL or hop limit of replies.
    pub ttl: u8,
    /// 1: answer; 0: all answers are switched off (RFC 1812 4.3.3.6).
    pub enabled: u8,
    /// 1: verify a request's ICMP checksum before answering it.
    pub verify_checksum: u8,
    /// A [`NextHop`] as its number.
    pub next_hop: u8,
    /// The address from which the interface sends errors about packets to others, in memory order; zeros: it has none.
    pub source6: [u64; 2],
    /// The same for IPv4.
    pub source4: u32,
    /// 1: the rules depend on a dynamic set.
    pub dynamic: u8,
    /// Zeros.
    pub reserved: [u8; 3],
    /// IPv6 tables: of sources, then of destinations.
    pub tables6: [Table6Config; 2],
    /// How many errors `reject` may send, to one source and in all; in ticks of [`crate::errors`].
    pub errors: [Fill; 2],
    /// What the access list needs, by the number of the [`crate::Family`].
    pub acl: [AclConfig; 2],
}

/// Numbers that belong to an IPv6 table; see [`crate::tables`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Table6Config {
    /// Number of lines in the index, minus one; the number is a power of two.
    pub index_mask: u32,
    /// Number of ranges that hold where the index knows nothing; they stand first.
    pub fallback_count: u32,
}

/// What the access list of one family needs: how far a packet has to be looked at, and where in the tables the family begins.
///
/// `source` is the source's value, or 0 without `sources`; `class` the destination's class. Then the pair is
/// - `source` without `blocks`: the rules do not depend on the destination;
/// - cell `pairs + source * 64 + class` of the pairs if `blocks` is 1;
/// - else the block is cell `rows + source * blocks + class / 64` of the rows, and the pair cell
///   `pairs + block * 64 + class % 64` of the pairs.
///
/// What the rules say is cell `chains + (pair << kind_bits) + kind` of the chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct AclConfig {
    /// 1: there are rules, or a default other than to permit.
    pub rules: u8,
    /// 1: they depend on the source.
    pub sources: u8,
    /// Bits that the number of a kind takes; 0: they do not depend on the kind.
    pub kind_bits: u8,
    /// Zero.
    pub reserved: u8,
    /// Blocks of destination classes; 0: they do not depend on the destination.
    pub blocks: u32,
    /// Where the family's rows begin.
    pub rows: u32,
    /// Where its pairs begin.
    pub pairs: u32,
    /// Where its chains begin.
    pub chains: u32,
}

// SAFETY: integers and arrays of integers alone; the assertion below leaves no room for padding.
unsafe impl Plain for Config {}

const _: () = assert!(size_of::<Config>() == 112);

impl AclConfig {
    /// No rules.
    pub const NONE: Self =
        Self { rules: 0, sources: 0, kind_bits: 0, reserved: 0, blocks: 0, rows: 0, pairs: 0, chains: 0 };
}

/// Where a reply's frame is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum NextHop {
    /// To the MAC address that the request came from.
    Swap = 0,
    /// To the neighbour that the kernel's routing table names.
    Fib = 1,
}

impl Config {
    /// What an object file holds before a loader has filled it in: it answers nothing and permits everything.
    pub const UNSET: Self = Self {
        interface_mac: MacParts::NONE,
        abi_version: ABI_VERSION,
        ttl: 64,
        enabled: 0,
        verify_checksum: 1,
        next_hop: NextHop::Swap as u8,
        source6: [0; 2],
        source4: 0,
        dynamic: 0,
        reserved: [0; 3],
        tables6: [Table6Config { index_mask: 0, fallback_count: 0 }; 2],
        errors: [Fill { interval: 1, burst: 1 }; 2],
        acl: [AclConfig::NONE; 2],
    };
}
