//! What the data path knows and remembers besides the frame: settings, tables, counters, the routing table.

use icmp_common::{
    counters::Slot,
    tables::{Chunk4, Line6, Range6},
    wire::{ethernet::MacParts, ipv6::Halves},
};

/// Settings, tables, counters and the routing table, in the kernel or on the host.
///
/// Settings answer from frozen read-only data, so that the kernel's verifier drops what a setting excludes.
pub trait State {
    /// Whether answers are switched on.
    fn enabled(&self) -> bool;
    /// TTL or hop limit of replies.
    fn ttl(&self) -> u8;
    /// Whether a request's ICMP checksum is verified.
    fn verify_checksum(&self) -> bool;
    /// Whether replies go where the routing table says, instead of where the request came from.
    fn next_hop_from_fib(&self) -> bool;
    /// The interface's MAC address.
    fn interface_mac(&self) -> MacParts;

    /// What is in a slot for served IPv4 hosts; see [`icmp_common::tables::Hosts`].
    fn host4(&self, slot: usize) -> u32;
    /// What is in a slot for served IPv6 hosts.
    fn host6(&self, slot: usize) -> [u64; 2];
    /// A chunk of the IPv4 trie; see [`icmp_common::tables`].
    fn chunk4(&self, number: u32) -> Option<&Chunk4>;
    /// The number of lines in the IPv6 index, minus one.
    fn index6_mask(&self) -> u32;
    /// A line of the IPv6 index.
    fn index6(&self, line: u32) -> Option<&Line6>;
    /// The length of the run of ranges that holds where the IPv6 index knows nothing.
    fn fallback6_count(&self) -> u32;
    /// An IPv6 range.
    fn range6(&self, place: u32) -> Option<&Range6>;

    /// Asks the routing table for the neighbour on this interface that a packet goes to, if it is known.
    fn next_hop(&mut self, route: &Route) -> Option<NextHop>;

    /// Counts one packet.
    fn count(&mut self, slot: Slot);
}

/// What the routing table wants to know of a packet. Addresses are in network order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// An IPv4 packet.
    Ipv4 {
        /// Type of service.
        tos: u8,
        /// Length of header and payload.
        total_length: u16,
        /// Where it will come from.
        source: [u8; 4],
        /// Where it shall go.
        destination: [u8; 4],
    },
    /// An IPv6 packet.
    Ipv6 {
        /// Length of header and payload.
        total_length: u16,
        /// Where it will come from.
        source: Halves,
        /// Where it shall go.
        destination: Halves,
    },
}

/// The MAC addresses of a frame that is sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// The interface's.
    pub source: MacParts,
    /// The neighbour's.
    pub destination: MacParts,
}
