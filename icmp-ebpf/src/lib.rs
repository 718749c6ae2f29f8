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
use parse::{Parsed, parse};

/// Takes one frame all the way. On [`Verdict::Answer`] the frame has become its answer; on any other verdict
/// not one byte of it has changed.
#[inline(always)]
pub fn handle<F: Frame, S: State>(frame: &mut F, state: &mut S) -> Verdict {
    // parse: Ethernet, up to two VLAN tags, IPv4 or IPv6, ICMP. What is not ICMP pays for this step alone.
    match parse(frame) {
        Parsed::NotOurs => Verdict::Pass,
        // answer: echo requests to served addresses, in place.
        // count: every ICMP packet leaves through here, once, with one verdict and one reason.
        Parsed::Ipv4(message) => {
            let reason = answer::<Ipv4, _, _>(frame, state, message);
            count(state, Family::Ipv4, reason)
        }
        Parsed::Ipv6(message) => {
            let reason = answer::<Ipv6, _, _>(frame, state, message);
            count(state, Family::Ipv6, reason)
        }
        Parsed::Broken(family) => {
            let reason = discard(frame, state);
            count(state, family, reason)
        }
        Parsed::Aside(family, reason) => count(state, family, reason),
    }
}
