//! The [`State`] of the kernel: settings and tables from maps, the routing table from a helper.

use core::ptr;

use aya_ebpf::{
    bindings::{BPF_FIB_LOOKUP_OUTPUT, xdp_md},
    helpers::bpf_fib_lookup,
};
use icmp_common::{
    config::{self, Config},
    counters::Slot,
    tables::{Chunk4, HOST_SLOTS, Hosts, Line6, Range6},
    wire::{
        ethernet::{Mac, MacParts},
        ipv4,
        ipv6::{self, Halves},
    },
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
        let (size, flags) = (size_of::<FibLookup>() as i32, BPF_FIB_LOOKUP_OUTPUT);
        // SAFETY: context and parameters are valid, and the size is that of the parameters.
        let outcome = unsafe { bpf_fib_lookup(self.context.cast(), (&raw mut lookup).cast(), size, flags) };
        (outcome == 0).then_some(NextHop {
            source: lookup.source_mac.parts(),
            destination: lookup.destination_mac.parts(),
        })
    }

    #[inline(always)]
    fn count(&mut self, slot: Slot) {
        if let Some(counters) = COUNTERS.get_ptr_mut(0) {
            // SAFETY: this CPU's own value; XDP programs do not interrupt each other on one CPU.
            unsafe { (*counters).count(slot) };
        }
    }
}

/// The helper's parameters, `struct bpf_fib_lookup` of `linux/bpf.h`, its unions resolved to what is asked here.
#[repr(C)]
struct FibLookup {
    family: u8,
    protocol: u8,
    ports: [u16; 2],
    total_length: u16,
    interface: u32,
    tos_or_flow: u32,
    source: [u32; 4],
    destination: [u32; 4],
    vlan: u32,
    source_mac: Mac,
    destination_mac: Mac,
}

const _: () = assert!(size_of::<FibLookup>() == 64);

/// Address families as the helper numbers them (`linux/socket.h`).
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

impl FibLookup {
    #[inline(always)]
    fn new(interface: u32, route: &Route) -> Self {
        let mut lookup = Self {
            family: AF_INET,
            protocol: ipv4::ICMP,
            ports: [0; 2],
            total_length: 0,
            interface,
            tos_or_flow: 0,
            source: [0; 4],
            destination: [0; 4],
            vlan: 0,
            source_mac: Mac::new([0; 6]),
            destination_mac: Mac::new([0; 6]),
        };
        match *route {
            Route::Ipv4 { tos, total_length, source, destination } => {
                lookup.total_length = total_length;
                lookup.tos_or_flow = u32::from_ne_bytes([tos, 0, 0, 0]);
                lookup.source[0] = u32::from_ne_bytes(source);
                lookup.destination[0] = u32::from_ne_bytes(destination);
            }
            Route::Ipv6 { total_length, source, destination } => {
                lookup.family = AF_INET6;
                lookup.protocol = ipv6::ICMPV6;
                lookup.total_length = total_length;
                lookup.source = words(source);
                lookup.destination = words(destination);
            }
        }
        lookup
    }
}

/// An IPv6 address as the helper takes it: four words in network order.
#[inline(always)]
fn words(address: Halves) -> [u32; 4] {
    let [[a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]] = address;
    [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]].map(u32::from_ne_bytes)
}
