//! The [`State`] of the kernel: settings and tables from maps, the routing table from a helper.

use core::ptr;

use aya_ebpf::{bindings::xdp_md, helpers::bpf_fib_lookup};
use icmp_common::{
    config::{self, Config},
    counters::Slot,
    tables::{Chunk4, HOST_SLOTS, Hosts, Line6, Range6},
    wire::{ethernet::MacParts, ipv4, ipv6},
};

use super::maps::{CONFIG, COUNTERS, DST4, DST6_INDEX, DST6_RANGES, HOSTS};
use crate::{NextHop, Route, State};

/// The program's maps, and the context that helpers want.
pub struct Maps {
    context: *mut xdp_md,
}

impl Maps {
    /// The maps, for an XDP program that was called with `context`.
    #[inline(always)]
    #[must_use]
    pub const fn new(context: *mut xdp_md) -> Self {
        Self { context }
    }
}

/// Reads one setting. Volatile: the compiler must not take the object file's value for the loader's.
macro_rules! setting {
    ($($field:ident).+) => {{
        let config = ptr::from_ref(&CONFIG).cast::<Config>();
        // SAFETY: `Global<Config>` is a `Config` in read-only data that nobody writes once the program is loaded.
        unsafe { ptr::read_volatile(&raw const (*config).$($field).+) }
    }};
}

impl State for Maps {
    #[inline(always)]
    fn enabled(&self) -> bool {
        setting!(enabled) != 0
    }

    #[inline(always)]
    fn ttl(&self) -> u8 {
        setting!(ttl)
    }

    #[inline(always)]
    fn verify_checksum(&self) -> bool {
        setting!(verify_checksum) != 0
    }

    #[inline(always)]
    fn next_hop_from_fib(&self) -> bool {
        setting!(next_hop) == config::NextHop::Fib as u8
    }

    #[inline(always)]
    fn interface_mac(&self) -> MacParts {
        MacParts { head: setting!(interface_mac.head), tail: setting!(interface_mac.tail), reserved: 0 }
    }

    #[inline(always)]
    fn host4(&self, slot: usize) -> u32 {
        let slot = slot & (HOST_SLOTS - 1);
        let hosts = ptr::from_ref(&HOSTS).cast::<Hosts>();
        // SAFETY: as for settings; the slot is within bounds.
        unsafe { ptr::read_volatile(&raw const (*hosts).v4[slot]) }
    }

    #[inline(always)]
    fn host6(&self, slot: usize) -> [u64; 2] {
        let slot = slot & (HOST_SLOTS - 1);
        let hosts = ptr::from_ref(&HOSTS).cast::<Hosts>();
        // SAFETY: as for settings; the slot is within bounds.
        let high = unsafe { ptr::read_volatile(&raw const (*hosts).v6[slot][0]) };
        // SAFETY: as above.
        let low = unsafe { ptr::read_volatile(&raw const (*hosts).v6[slot][1]) };
        [high, low]
    }

    #[inline(always)]
    fn chunk4(&self, number: u32) -> Option<&Chunk4> {
        DST4.get(number)
    }

    #[inline(always)]
    fn index6_mask(&self) -> u32 {
        setting!(index6_mask)
    }

    #[inline(always)]
    fn index6(&self, line: u32) -> Option<&Line6> {
        DST6_INDEX.get(line)
    }

    #[inline(always)]
    fn fallback6_count(&self) -> u32 {
        setting!(fallback6_count)
    }

    #[inline(always)]
    fn range6(&self, place: u32) -> Option<&Range6> {
        DST6_RANGES.get(place)
    }

    #[inline(always)]
    fn next_hop(&mut self, route: &Route) -> Option<NextHop> {
        // SAFETY: the kernel calls an XDP program with a valid context.
        let interface = unsafe { (*self.context).ingress_ifindex };
        let mut lookup = FibLookup::new(interface, route);
        let size = size_of::<FibLookup>() as i32;
        // No flags: all routes count, and not only those out of this interface.
        // SAFETY: context and parameters are valid, and the size is that of the parameters.
        let outcome = unsafe { bpf_fib_lookup(self.context.cast(), (&raw mut lookup).cast(), size, 0) };
        (outcome == 0 && lookup.interface() == interface).then(|| lookup.next_hop())
    }

    #[inline(always)]
    fn count(&mut self, slot: Slot) {
        if let Some(counters) = COUNTERS.get_ptr_mut(0) {
            // SAFETY: this CPU's own value; XDP programs do not interrupt each other on one CPU.
            unsafe { (*counters).count(slot) };
        }
    }
}

/// The helper's parameters, `struct bpf_fib_lookup` of `linux/bpf.h`, as eight words: of smaller fields the compiler
/// would make accesses that are not aligned, which the verifier takes in packets but not on the stack. The target's
/// byte order is little-endian.
///
/// 0: family, protocol, two ports, length of the packet; 1: interface, type of service; 2, 3: source; 4, 5:
/// destination; 6, 7: VLAN, and then the answer: the interface's MAC address and the neighbour's, six bytes each.
struct FibLookup([u64; 8]);

/// Address families as the helper numbers them (`linux/socket.h`).
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

impl FibLookup {
    #[inline(always)]
    fn new(interface: u32, route: &Route) -> Self {
        let head = |family, protocol, length: u16| {
            let [low, high] = length.to_ne_bytes();
            u64::from_ne_bytes([family, protocol, 0, 0, 0, 0, low, high])
        };
        let interface = u64::from(interface);
        match *route {
            Route::Ipv4 { tos, total_length, source, destination } => {
                let [from, to] = [source, destination].map(|address| u32::from_ne_bytes(address).into());
                let head = head(AF_INET, ipv4::ICMP, total_length);
                Self([head, interface | u64::from(tos) << 32, from, 0, to, 0, 0, 0])
            }
            Route::Ipv6 { total_length, source, destination } => {
                let ([a, b], [c, d]) = (ipv6::words(source), ipv6::words(destination));
                Self([head(AF_INET6, ipv6::ICMPV6, total_length), interface, a, b, c, d, 0, 0])
            }
        }
    }

    /// The interface, of the packet at first, and then, in the answer, of the route.
    #[inline(always)]
    const fn interface(&self) -> u32 {
        self.0[1] as u32
    }

    /// The MAC addresses that the helper left.
    #[inline(always)]
    fn next_hop(&self) -> NextHop {
        let (begin, end) = (self.0[6] >> 32, self.0[7]);
        let part = |head: u64, tail: u64| MacParts { head: head as u32, tail: tail as u16, reserved: 0 };
        NextHop { source: part(begin, end), destination: part(end >> 16, end >> 48) }
    }
}
