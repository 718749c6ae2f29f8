//! The settings of a loaded program: frozen read-only data, on which the kernel's verifier prunes branches.

use crate::{ABI_VERSION, Plain, wire::ethernet::MacParts};

/// Settings, written once before the program is loaded and never changed: new settings are a new program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Config {
    /// The interface's MAC address.
    pub interface_mac: MacParts,
    /// [`ABI_VERSION`] of whoever wrote this.
    pub abi_version: u32,
    /// Number of lines in the IPv6 index, minus one; the number is a power of two. See [`crate::tables`].
    pub index6_mask: u32,
    /// Number of ranges that hold where the IPv6 index knows nothing; they stand first.
    pub fallback6_count: u32,
    /// TTL or hop limit of replies.
    pub ttl: u8,
    /// 1: answer; 0: all answers are switched off (RFC 1812 4.3.3.6).
    pub enabled: u8,
    /// 1: verify a request's ICMP checksum before answering it.
    pub verify_checksum: u8,
    /// A [`NextHop`] as its number.
    pub next_hop: u8,
}

// SAFETY: integers alone; the assertion below leaves no room for padding.
unsafe impl Plain for Config {}

const _: () = assert!(size_of::<Config>() == 24);
const _: () = assert!(core::mem::offset_of!(Config, ttl) == 20);

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
    /// What an object file holds before a loader has filled it in: it answers nothing.
    pub const UNSET: Self = Self {
        interface_mac: MacParts::NONE,
        abi_version: ABI_VERSION,
        index6_mask: 0,
        fallback6_count: 0,
        ttl: 64,
        enabled: 0,
        verify_checksum: 1,
        next_hop: NextHop::Swap as u8,
    };
}
