//! The layout of the destination tables: which addresses are served.
//!
//! They are filled before the program is loaded and not changed while it runs; new contents are a new program.
//! `icmp-userspace/src/policy/compile.rs` writes them, `icmp-ebpf/src/classify.rs` reads them.
//!
//! **Hosts**: most requests go to few single addresses. Those that are served stand in small tables of slots, each at
//! the place that its address is hashed to, unless another one has it. What is found there is served; whatever is
//! not found there is looked up in the tables proper, which hold everything.
//!
//! **IPv4**: a prefix trie with strides of 16, 8 and 8 bits, leaf-pushed into chunks of 256 cells: one load for a
//! prefix of up to 16 bits, two up to 24, three beyond, however many prefixes there are. The first 256 chunks
//! are the root: the first 8 bits of an address are the number of a chunk, the next 8 the place of a cell in it.
//! A cell is a [`Destination`], or, with [`CHUNK`] set, the number of the chunk for the next 8 bits.
//!
//! **IPv6**: the first 32 bits are hashed to a [`Line6`] of four cells, of which one may have these 32 bits as
//! its key; it names a run of [`Range6`]s, sorted by start, that cover all addresses with these 32 bits. Where
//! no cell has them, the run of `Config::fallback6_count` ranges at the beginning covers all of IPv6: it holds
//! the prefixes shorter than 32 bits. The range that an address belongs to is the last that starts at or
//! before it.

use crate::Plain;

/// What a destination address is to the responder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Destination {
    /// Somebody else's, or left to the stack.
    NotServed = 0,
    /// Echo requests to it are answered.
    Served = 1,
    /// Not one host's address, although a served prefix may cover it: broadcast, multicast, reserved.
    NotUnicast = 2,
}

impl Destination {
    /// Reads a cell's value. A number that is none, which no compiler of ours writes, is not served.
    #[inline(always)]
    #[must_use]
    pub const fn from_cell(cell: u32) -> Self {
        match cell {
            1 => Self::Served,
            2 => Self::NotUnicast,
            _ => Self::NotServed,
        }
    }
}

/// Slots for served hosts, in each family.
pub const HOST_SLOTS: usize = 256;

/// Served hosts. A free slot holds an address that is hashed to another one, so that none is found there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Hosts {
    /// IPv6 addresses, as [`words`](crate::wire::ipv6::words) makes them.
    pub v6: [[u64; 2]; HOST_SLOTS],
    /// IPv4 addresses in memory order.
    pub v4: [u32; HOST_SLOTS],
}

impl Hosts {
    /// No hosts: zeros, which belong to slot 0, and there ones, which do not.
    pub const NONE: Self = {
        let mut hosts = Self { v6: [[0; 2]; HOST_SLOTS], v4: [0; HOST_SLOTS] };
        hosts.v6[0] = [u64::MAX; 2];
        hosts.v4[0] = u32::MAX;
        hosts
    };
}

const _: () = assert!(host_slot4(0) == 0 && host_slot4(u32::MAX) != 0);
const _: () = assert!(host_slot6([0; 2]) == 0 && host_slot6([u64::MAX; 2]) != 0);

/// The slot of an IPv4 address, which is in memory order.
#[inline(always)]
#[must_use]
pub const fn host_slot4(address: u32) -> usize {
    // Fibonacci hashing (Knuth, TAOCP 3, 6.4): the upper bits of the product depend on all bits of the key.
    (address.wrapping_mul(0x9e37_79b1) >> 24) as usize
}

/// The slot of an IPv6 address, which is in memory order.
#[inline(always)]
#[must_use]
pub const fn host_slot6(address: [u64; 2]) -> usize {
    (address[0].wrapping_add(address[1]).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize
}

/// 256 cells of the IPv4 trie.
pub type Chunk4 = [u32; 256];
/// How many chunks the root of the IPv4 trie has.
pub const ROOT4_CHUNKS: usize = 256;
/// Set in a cell of the IPv4 trie that holds a chunk's number instead of a [`Destination`].
pub const CHUNK: u32 = 1 << 31;

/// Most ranges that the addresses with the same first 32 bits may fall into.
pub const MAX_RUN6: u32 = 1 << 17;
/// Steps that a binary search over [`MAX_RUN6`] ranges takes.
pub const RUN6_STEPS: u32 = 17;

const _: () = assert!(1 << RUN6_STEPS == MAX_RUN6);

/// A cell of the IPv6 index; free if `count` is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Cell6 {
    /// The first 32 bits of the addresses that it speaks of, in host order.
    pub key: u32,
    /// Its first range's place.
    pub first: u32,
    /// How many ranges it has.
    pub count: u32,
    /// Zero.
    pub reserved: u32,
}

/// Four cells of the IPv6 index: one cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Line6 {
    /// The cells, in any order.
    pub cells: [Cell6; 4],
}

/// A range of IPv6 addresses, up to the start of the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Range6 {
    /// The first 64 bits of its first address, in host order.
    pub start_high: u64,
    /// The last 64 bits of its first address, in host order.
    pub start_low: u64,
    /// A [`Destination`] as its number.
    pub destination: u32,
    /// Zero.
    pub reserved: u32,
}

// SAFETY: integers and arrays of integers; the assertions below leave no room for padding.
unsafe impl Plain for Line6 {}
// SAFETY: as above.
unsafe impl Plain for Range6 {}
// SAFETY: as above.
unsafe impl Plain for Hosts {}

const _: () = assert!(size_of::<Line6>() == 64);
const _: () = assert!(size_of::<Range6>() == 24);
const _: () = assert!(size_of::<Hosts>() == 5 << 10);

/// The line in which the cell for addresses that begin with `key` (host order) is, if there is one.
#[inline(always)]
#[must_use]
pub const fn line6(key: u32, mask: u32) -> u32 {
    ((key as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u32 & mask
}
