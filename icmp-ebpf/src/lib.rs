//! START HERE: the way of a packet.
//!
//! The data path is written once, generic over a [`Frame`] (bounds-checked bytes) and a [`State`] (settings,
//! tables, counters, the kernel's routing table), and runs in the kernel (`main.rs`, `kernel/`) and on the host
//! (tests). [`handle`] reads as the list of its steps; each step is a file of its own.

#![no_std]
// BPF's inline assembly; the kernel half is built with a compiler that allows it.
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

mod answer;
mod classify;
mod count;
mod frame;
#[cfg(target_arch = "bpf")]
pub mod kernel;
mod parse;
mod state;

pub use frame::{Frame, MAX_SUM};
pub use icmp_common::reason::{Reason, Verdict};
pub use state::{NextHop, Route, State};

use icmp_common::{
    Family,
    wire::{ipv4::Ipv4, ipv6::Ipv6},
};

use answer::{answer, discard};
use count::count;
use parse::{DOUBLE_TAGGED, Parsed, TAGGED, UNTAGGED, parse, tags};

/// Takes one frame all the way. On [`Verdict::Answer`] the frame has become its answer; on any other verdict
/// not one byte of it has changed.
#[inline(always)]
pub fn handle<F: Frame, S: State>(frame: &mut F, state: &mut S) -> Verdict {
    // The way is the same behind VLAN tags, only further back. Each number of tags gets its own copy of it, so
    // that every offset in it is a constant.
    match tags(frame) {
        Some((0, ether_type)) => way::<UNTAGGED, F, S>(frame, state, ether_type),
        Some((1, ether_type)) => way::<TAGGED, F, S>(frame, state, ether_type),
        Some((_, ether_type)) => way::<DOUBLE_TAGGED, F, S>(frame, state, ether_type),
        None => Verdict::Pass,
    }
}

/// The way of a packet whose network layer begins at `IP`.
#[inline(always)]
fn way<const IP: usize, F: Frame, S: State>(frame: &mut F, state: &mut S, ether_type: u16) -> Verdict {
    // parse: Ethernet, up to two VLAN tags, IPv4 or IPv6, ICMP. What is not ICMP pays for this step alone.
    let (family, reason) = match parse::<IP, F>(frame, ether_type) {
        Parsed::NotOurs => return Verdict::Pass,
        // answer: echo requests to served addresses, in place.
        Parsed::Ipv4 => (Family::Ipv4, answer::<IP, Ipv4, F, S>(frame, state)),
        Parsed::Ipv6 => (Family::Ipv6, answer::<IP, Ipv6, F, S>(frame, state)),
        Parsed::Broken(family) => (family, discard(frame, state)),
        Parsed::Aside(family, reason) => (family, reason),
    };
    // count: every ICMP packet leaves here, once, with one verdict and one reason. Answers, which are most, get a
    // copy of this step in which both are constants.
    match (family, reason) {
        (Family::Ipv4, Reason::Echo) => count(state, Family::Ipv4, Reason::Echo),
        (Family::Ipv6, Reason::Echo) => count(state, Family::Ipv6, Reason::Echo),
        (family, reason) => count(state, family, reason),
    }
}

/// The condition, of which the compiler learns that it rarely holds; see [`cold`].
#[inline(always)]
fn unlikely(condition: bool) -> bool {
    if condition {
        cold();
    }
    condition
}

/// Marks a way that is rarely taken. In the kernel one instruction stays there, so that what else happens on this way,
/// above all noting the reason, is not moved to before the jump.
#[inline(always)]
fn cold() {
    core::hint::cold_path();
    #[cfg(target_arch = "bpf")]
    // SAFETY: it changes nothing but a register that nobody uses.
    unsafe {
        core::arch::asm!("{0} = 0", out(reg) _, options(nomem, nostack));
    }
}
