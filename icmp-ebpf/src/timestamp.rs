//! Timestamp requests (RFC 792, RFC 1122 3.2.2.8) to served addresses, where these are switched on.
//!
//! As Linux does it, what stands behind the three timestamps is not sent back.

use icmp_common::{
    Family,
    reason::Reason,
    wire::{
        Packet,
        icmp::{TIMESTAMP, Timestamp},
        ipv4::{self, Ipv4},
    },
};

use crate::{
    Frame, Side, State,
    answer::{Answerable as _, refusal, turn_around, verify, way_back},
    classify::Classifiable as _,
};

/// Answers a timestamp request, or says why not.
#[inline(always)]
pub(crate) fn timestamp<F: Frame, S: State>(frame: &mut F, state: &mut S, ip: usize) -> Reason {
    let Some(packet) = frame.read::<Packet<Ipv4>>(ip) else { return Reason::BadHeader };
    if !packet.icmp.is_plain(TIMESTAMP.request) {
        return Reason::OtherCode;
    }
    let mut cell = state.destination(Family::Ipv4, packet.ip.address(Side::Destination));
    if let Some(reason) = refusal::<Ipv4, F, S>(frame, state, ip, true, &mut cell) {
        return reason;
    }
    let Some(header) = frame.read::<Ipv4>(ip) else { return Reason::BadHeader };
    if header.message_length() < size_of::<Timestamp>() {
        return Reason::TooShort;
    }
    if let Some(reason) = verify::<Ipv4, F, S>(frame, state, ip) {
        return reason;
    }
    let Some(next_hop) = way_back::<Ipv4, F, S>(frame, state, ip) else { return Reason::NoNextHop };
    // Ethernet's least length stays. What can't be cut off is padding.
    if frame.holds(ip, LEAST_PAYLOAD) {
        let _ = frame.cut(ip + LEAST_PAYLOAD);
    }
    let time = milliseconds_of_day(state.utc());
    if let Some(message) = frame.write::<Timestamp>(ip + ipv4::HEADER) {
        message.answer(time);
    }
    if let Some(header) = frame.write::<Ipv4>(ip) {
        header.set_total_length((ipv4::HEADER + size_of::<Timestamp>()) as u16);
    }
    turn_around::<Ipv4, F, S>(frame, state, ip, next_hop);
    Reason::Timestamp
}

/// Bytes that a frame has behind its Ethernet header at least (IEEE 802.3 3.2.8): a reply is shorter.
const LEAST_PAYLOAD: usize = 46;

/// The time of the day in milliseconds, of UTC in nanoseconds.
#[inline(always)]
const fn milliseconds_of_day(utc: u64) -> u32 {
    const DAY: u64 = 24 * 60 * 60 * 1000;
    (utc / 1_000_000 % DAY) as u32
}
