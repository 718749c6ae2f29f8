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
mod reject;
mod state;

pub use frame::{Frame, MAX_SUM};
pub use icmp_common::reason::{Reason, Verdict};
pub use state::{NextHop, Route, Side, State};

use icmp_common::{
    Family,
    tables::Ruling,
    wire::{Packet, ipv4::Ipv4, ipv6::Ipv6},
};

use answer::{Answerable, answer, discard};
use classify::classify;
use count::count;
use parse::{
    DOUBLE_TAGGED, Message, Parsed, TAGGED, UNTAGGED, Unusual, parse, parse_unusual_ipv4, parse_unusual_ipv6,
    tags,
};
use reject::reject;

/// Takes one frame all the way. On [`Verdict::Answer`] the frame has become its answer, on [`Verdict::Reject`] the
/// error about it; on [`Verdict::Pass`] not one byte of it has changed.
#[inline(always)]
pub fn handle<F: Frame, S: State>(frame: &mut F, state: &mut S) -> Verdict {
    // The way is the same behind VLAN tags, only further back. Each number of tags gets its own copy of it, so
    // that every offset in it is a constant.
    let (ip, end) = match tags(frame) {
        Some((0, ether_type)) => (UNTAGGED, way::<UNTAGGED, F, S>(frame, state, ether_type)),
        Some((1, ether_type)) => (TAGGED, way::<TAGGED, F, S>(frame, state, ether_type)),
        Some((_, ether_type)) => (DOUBLE_TAGGED, way::<DOUBLE_TAGGED, F, S>(frame, state, ether_type)),
        None => return Verdict::Pass,
    };
    let End { verdict, family, ruling } = end;
    if !unlikely(verdict == Verdict::Reject) {
        return verdict;
    }
    // reject: build the ICMP error, and send that back.
    let reason = reject(frame, state, ip, family, ruling);
    count(state, family, reason)
}

/// Where the way of a packet ends: at a verdict, and then what there was to count is counted, or, with [`Verdict::Reject`], at a
/// rule that rejects it. All fields always have a value, because the kernel's verifier does not let one be moved that has none.
struct End {
    verdict: Verdict,
    family: Family,
    ruling: Ruling,
}

impl End {
    /// The packet is done with.
    const fn at(verdict: Verdict) -> Self {
        Self { verdict, family: Family::Ipv4, ruling: Ruling::Permit }
    }
}

/// The way of a packet whose network layer begins at `IP`.
#[inline(always)]
fn way<const IP: usize, F: Frame, S: State>(frame: &mut F, state: &mut S, ether_type: u16) -> End {
    // parse: Ethernet, up to two VLAN tags, IPv4 or IPv6, ICMP. What is not ICMP pays for this step alone.
    let (family, outcome) = match parse::<IP, F>(frame, ether_type) {
        Parsed::NotOurs => return End::at(Verdict::Pass),
        Parsed::Ipv4 => (Family::Ipv4, message::<IP, Ipv4, F, S>(frame, state)),
        Parsed::Ipv6 => (Family::Ipv6, message::<IP, Ipv6, F, S>(frame, state)),
        Parsed::UnusualIpv4 => {
            (Family::Ipv4, unusual::<IP, Ipv4, F, S>(frame, state, parse_unusual_ipv4(frame, IP)))
        }
        Parsed::UnusualIpv6 => {
            let parsed = parse_unusual_ipv6(frame, IP);
            if !parsed.ours {
                return End::at(Verdict::Pass);
            }
            (Family::Ipv6, unusual::<IP, Ipv6, F, S>(frame, state, parsed))
        }
    };
    // count: every ICMP packet leaves here, once, with one verdict and one reason; those that a rule rejects after the
    // error about them is built. Answers, which are most, get a copy of this step in which both are constants.
    End::at(match (family, outcome) {
        (family, Err(ruling)) => return End { verdict: Verdict::Reject, family, ruling },
        (Family::Ipv4, Ok(Reason::Echo)) => count(state, Family::Ipv4, Reason::Echo),
        (Family::Ipv6, Ok(Reason::Echo)) => count(state, Family::Ipv6, Reason::Echo),
        (family, Ok(reason)) => count(state, family, reason),
    })
}

/// What becomes of a message that is whole and stands directly behind the IP header; an error if it is rejected.
#[inline(always)]
fn message<const IP: usize, Ip: Answerable, F: Frame, S: State>(
    frame: &mut F,
    state: &mut S,
) -> Result<Reason, Ruling> {
    let Some(packet) = frame.read::<Packet<Ip>>(IP) else { return Ok(Reason::BadHeader) };
    let message = Message::new(packet.icmp.message());
    // classify: source, destination, type and code -> what the rules say.
    let classified = classify::<IP, Ip, F, S>(frame, state, message);
    match classified.ruling {
        // answer: echo requests to served addresses, in place.
        Ruling::Permit => Ok(answer::<IP, Ip, F, S>(frame, state, classified.destination)),
        Ruling::Deny => Ok(Reason::Denied),
        ruling => Err(ruling),
    }
}

/// What becomes of a packet that the stack is better at: it passes, unless the rules say otherwise. One that is broken and was
/// sent to us is dropped before any rule is asked.
#[inline(always)]
fn unusual<const IP: usize, Ip: Answerable, F: Frame, S: State>(
    frame: &F,
    state: &mut S,
    parsed: Unusual,
) -> Result<Reason, Ruling> {
    if parsed.reason == Reason::BadHeader {
        return Ok(discard(frame, state));
    }
    match classify::<IP, Ip, F, S>(frame, state, parsed.message).ruling {
        Ruling::Permit => Ok(parsed.reason),
        Ruling::Deny => Ok(Reason::Denied),
        ruling => Err(ruling),
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
