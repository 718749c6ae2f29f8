//! START HERE: the way of a packet.
//!
//! The data path is written once, generic over a [`Frame`] (bounds-checked bytes) and a [`State`] (settings,
//! tables, counters, the kernel's routing table), and runs in the kernel (`main.rs`, `kernel/`) and on the host
//! (`explain`, tests). [`handle`] reads as the list of its steps; each step is a file of its own.

#![no_std]
// BPF's inline assembly; the kernel half is built with a compiler that allows it.
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

mod answer;
mod ban;
mod classify;
mod count;
mod error;
mod frame;
#[cfg(target_arch = "bpf")]
pub mod kernel;
mod limit;
mod parse;
mod probe;
mod reject;
mod state;
mod tell;
mod timestamp;
mod traceroute;

pub use classify::Facts;
pub use frame::{Frame, MAX_SUM};
pub use icmp_common::reason::{Reason, Step, Verdict};
pub use state::{NextHop, Route, Side, State};

use icmp_common::{
    Family,
    counters::Slot,
    tables::Ruling,
    wire::{Packet, icmp::TIMESTAMP, ipv4::Ipv4, ipv6::Ipv6},
};

use answer::{Answerable, answer, discard};
use classify::classify;
use count::{count, exit};
use error::{Sent, error};
use parse::{
    DOUBLE_TAGGED, Message, Parsed, TAGGED, UNTAGGED, parse, parse_unusual_ipv4, parse_unusual_ipv6, tags,
};
use probe::probe;
use reject::reject;
use tell::arrive;
use timestamp::timestamp;
use traceroute::traceroute;

/// Takes one frame all the way. On [`Verdict::Answer`] the frame has become its answer, on [`Verdict::Reject`] the
/// error about it; on [`Verdict::Pass`] not one byte of it has changed.
#[inline(always)]
pub fn handle<F: Frame, S: State>(frame: &mut F, state: &mut S) -> Verdict {
    // The way is the same behind VLAN tags, only further back. Each number of tags gets its own copy of it, so
    // that every offset in it is a constant.
    let end = match tags(frame) {
        Some((0, ether_type)) => way::<UNTAGGED, F, S>(frame, state, ether_type),
        Some((1, ether_type)) => way::<TAGGED, F, S>(frame, state, ether_type),
        Some((_, ether_type)) => way::<DOUBLE_TAGGED, F, S>(frame, state, ether_type),
        None => return Verdict::Pass,
    };
    if end.is_verdict() { end.verdict() } else { rare(frame, state, end) }
}

/// Where the way of a packet ends: at a verdict, and then what there was to count is counted, or at something rare. One number,
/// because the compiler moves fields about that have no value, which the kernel's verifier does not let pass.
#[derive(Clone, Copy, PartialEq, Eq)]
struct End(u32);

impl End {
    const PASS: Self = Self(0);
    const ANSWER: Self = Self(1);
    const DENY: Self = Self(2);
    const MALFORMED: Self = Self(3);
    const LIMIT: Self = Self(4);
    /// Set if the packet is of IPv6; with this bit begin those ends that are rare.
    const IPV6: u32 = 1 << 8;
    /// It has to be looked at more closely.
    const UNUSUAL: u32 = 1 << 9;
    /// A rule rejects it: the ruling stands in the bits from 16 on.
    const REJECTED: u32 = 1 << 10;
    /// A request of another type than echo, which is answered if it deserves it.
    const QUERY: u32 = 1 << 11;
    /// UDP to a port to which traceroute sends its probes.
    const TRACEROUTE: u32 = 1 << 12;

    #[inline(always)]
    fn at(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Answer => Self::ANSWER,
            Verdict::Pass => Self::PASS,
            // An error about a packet is only sent from `rare`.
            Verdict::Deny | Verdict::Reject => Self::DENY,
            Verdict::Limit => Self::LIMIT,
            Verdict::Malformed => Self::MALFORMED,
        }
    }

    #[inline(always)]
    const fn is_verdict(self) -> bool {
        self.0 < Self::IPV6
    }

    #[inline(always)]
    const fn verdict(self) -> Verdict {
        match self {
            Self::ANSWER => Verdict::Answer,
            Self::DENY => Verdict::Deny,
            Self::MALFORMED => Verdict::Malformed,
            Self::LIMIT => Verdict::Limit,
            _ => Verdict::Pass,
        }
    }

    #[inline(always)]
    const fn ruling(self) -> Ruling {
        Ruling::from_number(self.0 >> 16)
    }

    #[inline(always)]
    const fn rejected(family: Family, ruling: Ruling) -> Self {
        Self(Self::REJECTED | Self::of(family) | (ruling as u32) << 16)
    }

    #[inline(always)]
    const fn rare(what: u32, family: Family) -> Self {
        Self(what | Self::of(family))
    }

    #[inline(always)]
    const fn is(self, what: u32) -> bool {
        self.0 & what != 0
    }

    const fn of(family: Family) -> u32 {
        match family {
            Family::Ipv4 => 0,
            Family::Ipv6 => Self::IPV6,
        }
    }
}

/// What is rare: unusual packets, requests other than echo, and what an error is sent about. One copy for any number of VLAN tags,
/// which are counted again.
#[inline(always)]
fn rare<F: Frame, S: State>(frame: &mut F, state: &mut S, end: End) -> Verdict {
    cold();
    let ip = match tags(frame) {
        Some((0, _)) => UNTAGGED,
        Some((1, _)) => TAGGED,
        _ => DOUBLE_TAGGED,
    };
    let family = if end.is(End::IPV6) { Family::Ipv6 } else { Family::Ipv4 };
    let mut message = head(frame, ip, family);
    if end.is(End::QUERY) {
        let reason = query(frame, state, ip, family);
        return count(state, family, reason, Some(message));
    }
    let is_probe = end.is(End::TRACEROUTE);
    let code = if is_probe {
        let code = traceroute(frame, state, ip, family);
        if code.is_some() {
            arrive(state, family);
        }
        code
    } else {
        let mut ruling = end;
        if end.is(End::UNUSUAL) {
            (ruling, message) = unusual(frame, state, forgotten(ip), family);
            if !ruling.is(End::REJECTED) {
                return ruling.verdict();
            }
        }
        reject(frame, ip, family, ruling.ruling())
    };
    // The one place where errors are built.
    state.log(Step::Reject, code.map_or(u32::MAX, u32::from));
    let sent = match code {
        Some(code) => error(frame, state, ip, family, code),
        None => Sent::No,
    };
    let reason = match (is_probe, sent) {
        // Nothing happens to it, and it is no ICMP.
        (true, Sent::No) => return Verdict::Pass,
        (true, Sent::Yes) => Reason::Traceroute,
        (true, Sent::OverLimit | Sent::Lost) => Reason::TracerouteOverLimit,
        (false, Sent::Yes) => Reason::Rejected,
        (false, Sent::OverLimit) => Reason::RejectOverLimit,
        (false, Sent::No | Sent::Lost) => Reason::RejectedSilently,
    };
    count(state, family, reason, (!is_probe).then_some(message))
}

/// Type and code of a message that stands directly behind the IP header.
#[inline(always)]
fn head<F: Frame>(frame: &F, ip: usize, family: Family) -> Message {
    let message = match family {
        Family::Ipv4 => frame.read::<Packet<Ipv4>>(ip).map(|packet| packet.icmp.message()),
        Family::Ipv6 => frame.read::<Packet<Ipv6>>(ip).map(|packet| packet.icmp.message()),
    };
    message.map_or(Message::FRAGMENT, Message::new)
}

/// The way of a packet whose network layer begins at `IP`.
#[inline(always)]
fn way<const IP: usize, F: Frame, S: State>(frame: &mut F, state: &mut S, ether_type: u16) -> End {
    let traceroute = state.setting(|config| &config.traceroute) != 0;
    // parse: Ethernet, up to two VLAN tags, IPv4 or IPv6, ICMP. What is not ICMP pays for this step alone.
    let (family, outcome) = match parse::<IP, F>(frame, ether_type, traceroute) {
        Parsed::NotOurs => return End::PASS,
        Parsed::Ipv4 => (Family::Ipv4, message::<IP, Ipv4, F, S>(frame, state)),
        Parsed::Ipv6 => (Family::Ipv6, message::<IP, Ipv6, F, S>(frame, state)),
        Parsed::UnusualIpv4 => return End::rare(End::UNUSUAL, Family::Ipv4),
        Parsed::UnusualIpv6 => return End::rare(End::UNUSUAL, Family::Ipv6),
        Parsed::Traceroute4 => return End::rare(End::TRACEROUTE, Family::Ipv4),
        Parsed::Traceroute6 => return End::rare(End::TRACEROUTE, Family::Ipv6),
    };
    // count, tell: every ICMP packet leaves here, once, with one verdict and one reason; what is rare, in `rare`. Answers, which are
    // most, get a copy of these steps in which both are constants, and of which the type need not be looked at.
    End::at(match (family, outcome) {
        (_, Err(end)) => return end,
        (Family::Ipv4, Ok(Reason::Echo)) => count(state, Family::Ipv4, Reason::Echo, None),
        (Family::Ipv6, Ok(Reason::Echo)) => count(state, Family::Ipv6, Reason::Echo, None),
        (family, Ok(reason)) => count(state, family, reason, Some(head(frame, IP, family))),
    })
}

/// [`limit::is_within`] for either family.
#[inline(always)]
fn is_within<F: Frame, S: State>(frame: &F, state: &mut S, ip: usize, family: Family, rate: u32) -> bool {
    match family {
        Family::Ipv4 => limit::is_within::<Ipv4, F, S>(frame, state, ip, rate),
        Family::Ipv6 => limit::is_within::<Ipv6, F, S>(frame, state, ip, rate),
    }
}

/// What becomes of a message that is whole and stands directly behind the IP header, or what is rare about it.
#[inline(always)]
fn message<const IP: usize, Ip: Answerable, F: Frame, S: State>(
    frame: &mut F,
    state: &mut S,
) -> Result<Reason, End> {
    state.log(Step::Parse, Ip::FAMILY as u32);
    arrive(state, Ip::FAMILY);
    let Some(packet) = frame.read::<Packet<Ip>>(IP) else { return Ok(Reason::BadHeader) };
    let message = Message::new(packet.icmp.message());
    // classify: source, destination, type and code -> what the rules say.
    let classified = classify::<false, Ip, F, S>(frame, state, IP, message);
    match classified.outcome.ruling() {
        Ruling::Permit => {}
        // limit: the rule's rates.
        Ruling::Limit => {
            let is_within = limit::is_within::<Ip, F, S>(frame, state, IP, classified.outcome.rate());
            state.log(Step::Limit, is_within.into());
            if !is_within {
                return Ok(Reason::OverLimit);
            }
        }
        Ruling::Deny => return Ok(Reason::Denied),
        ruling => return Err(End::rejected(Ip::FAMILY, ruling)),
    }
    // answer: echo requests to served addresses, in place; other requests, in `rare`.
    let reason = answer::<IP, Ip, F, S>(frame, state, classified.destination);
    state.log(Step::Answer, reason.map_or(u32::MAX, |reason| reason as u32));
    reason.ok_or(End::rare(End::QUERY, Ip::FAMILY))
}

/// What becomes of a request of another type than echo: timestamp or extended echo.
#[inline(always)]
fn query<F: Frame, S: State>(frame: &mut F, state: &mut S, ip: usize, family: Family) -> Reason {
    match family {
        Family::Ipv4 => match frame.read::<Packet<Ipv4>>(ip).map(|packet| packet.icmp.icmp_type()) {
            Some(icmp_type) if icmp_type == TIMESTAMP.request => timestamp(frame, state, ip),
            _ => probe::<Ipv4, F, S>(frame, state, ip),
        },
        Family::Ipv6 => probe::<Ipv6, F, S>(frame, state, ip),
    }
}

/// What becomes of a packet that the stack is better at: it passes, unless the rules say otherwise. One that is broken and was
/// sent to us is dropped before any rule is asked. With type and code of its message, as far as they are known.
#[inline(always)]
fn unusual<F: Frame, S: State>(frame: &mut F, state: &mut S, ip: usize, family: Family) -> (End, Message) {
    // Never so; said here, because it has been forgotten.
    if ip > DOUBLE_TAGGED {
        return (End::PASS, Message::FRAGMENT);
    }
    let parsed = match family {
        Family::Ipv4 => parse_unusual_ipv4(frame, ip),
        Family::Ipv6 => parse_unusual_ipv6(frame, ip),
    };
    let message = parsed.message;
    if !parsed.ours {
        return (End::PASS, message);
    }
    state.log(Step::Parse, family as u32);
    arrive(state, family);
    if parsed.reason == Reason::BadHeader {
        let reason = discard(frame, state);
        return (End::at(count(state, family, reason, Some(message))), message);
    }
    let message = Message::from_number(forgotten(message.number() as usize) as u32);
    let aside = Slot::from_number(forgotten(Slot::new(family, parsed.reason).number() as usize) as u32);
    let outcome = match family {
        Family::Ipv4 => classify::<true, Ipv4, F, S>(frame, state, ip, message).outcome,
        Family::Ipv6 => classify::<true, Ipv6, F, S>(frame, state, ip, message).outcome,
    };
    let reason = match outcome.ruling() {
        Ruling::Permit => None,
        Ruling::Limit if is_within(frame, state, ip, family, outcome.rate()) => None,
        Ruling::Limit => Some(Reason::OverLimit),
        Ruling::Deny => Some(Reason::Denied),
        ruling => return (End::rejected(family, ruling), message),
    };
    match reason {
        Some(reason) => (End::at(count(state, family, reason, Some(message))), message),
        None => {
            exit(state, family, aside, Some(message));
            (End::PASS, message)
        }
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

/// The same number, of which the kernel's verifier no longer knows what it is: it would follow all that comes after once for each that it
/// can be.
#[inline(always)]
fn forgotten(number: usize) -> usize {
    #[cfg(target_arch = "bpf")]
    let number = kernel::icmpctl_forget(number as u32) as usize;
    number
}

/// The same number, of which the compiler no longer knows where it came from.
///
/// Without this it drops later bounds checks that follow from a length it has seen checked. They do follow, but the kernel's
/// verifier only believes in checks against constants. And it makes comparisons of arithmetic, which the verifier would follow both
/// ways.
#[inline(always)]
fn hidden(number: usize) -> usize {
    #[cfg(target_arch = "bpf")]
    let number = {
        let mut number = number;
        // A move to itself: without any instruction, two lines of debug information would share one place, which
        // the kernel refuses.
        // SAFETY: it changes nothing.
        unsafe {
            core::arch::asm!("{0} = {0}", inout(reg) number, options(pure, nomem, nostack, preserves_flags));
        }
        number
    };
    number
}
