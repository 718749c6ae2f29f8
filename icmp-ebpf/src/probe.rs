//! Extended echo requests (RFC 8335, PROBE) that ask about this interface, where these are switched on.
//!
//! A request says which interface of the host it means, by name, index or address, and is answered with whether that is up, and
//! runs IPv4 and IPv6. What is behind the header comes back as it was, as Linux does it. Questions about other interfaces and about
//! neighbours are left to the stack, which knows them.

use icmp_common::{
    Family,
    reason::Reason,
    wire::{
        Packet,
        icmp::{BY_ADDRESS, BY_INDEX, BY_NAME, IDENTIFIED4, IDENTIFIED6, Probe},
        ipv6::{Halves, words},
    },
};

use crate::{
    Frame, Side, State,
    answer::{Answerable, refusal, turn_around, verify, way_back},
};

/// Answers an extended echo request, or says why not.
#[inline(always)]
pub(crate) fn probe<Ip: Answerable, F: Frame, S: State>(frame: &mut F, state: &mut S, ip: usize) -> Reason {
    let Some(packet) = frame.read::<Packet<Ip>>(ip) else { return Reason::BadHeader };
    if !packet.icmp.is_plain(Ip::PROBE.request) {
        return Reason::OtherCode;
    }
    let mut cell = state.destination(Ip::FAMILY, packet.ip.address(Side::Destination));
    if let Some(reason) = refusal::<Ip, F, S>(frame, state, ip, true, &mut cell) {
        return reason;
    }
    let Some(header) = frame.read::<Ip>(ip) else { return Reason::BadHeader };
    let probing = state.setting(|config| &config.ranks[Ip::FAMILY as usize].probing);
    if state.source(Ip::FAMILY, header.address(Side::Source)) < probing {
        return Reason::ProbeNotAllowed;
    }
    if is_about_this(frame, state, ip + size_of::<Ip>(), header.message_length()) != Some(true) {
        return Reason::OtherProbe;
    }
    if let Some(reason) = verify::<Ip, F, S>(frame, state, ip) {
        return reason;
    }
    let Some(next_hop) = way_back::<Ip, F, S>(frame, state, ip) else { return Reason::NoNextHop };
    let interface_state = state.setting(|config| &config.interface_state);
    if let Some(message) = frame.write::<Probe>(ip + size_of::<Ip>()) {
        message.answer(Ip::PROBE, interface_state);
    }
    turn_around::<Ip, F, S>(frame, state, ip, next_hop);
    Reason::Probe
}

/// Whether the message of some length that begins at `at` asks about this interface; `None` if it can't be understood.
#[inline(always)]
fn is_about_this<F: Frame, S: State>(frame: &F, state: &S, at: usize, length: usize) -> Option<bool> {
    let request = frame.read::<Probe>(at)?;
    let (identifying, by) = (request.identifying()?, request.by);
    if length < size_of::<Probe>() + identifying {
        return None;
    }
    let at = at + size_of::<Probe>();
    let word = |place: usize| Some(*frame.read::<[u8; 4]>(at + 4 * place)?);
    match (by, identifying) {
        (BY_NAME, 4 | 8 | 12 | 16) => {
            let mut name = [[0; 4]; 4];
            for (place, part) in name.iter_mut().enumerate() {
                if 4 * place < identifying {
                    *part = word(place)?;
                }
            }
            let [a, b, c, d] = name.map(u32::from_ne_bytes).map(u64::from);
            let own = |half: usize| state.setting(|config| &config.interface_name[half]);
            Some(a | b << 32 == own(0) && c | d << 32 == own(1))
        }
        (BY_INDEX, 4) => {
            Some(u32::from_be_bytes(word(0)?) == state.setting(|config| &config.interface_index))
        }
        (BY_ADDRESS, 8) if word(0)? == IDENTIFIED4 => {
            let own = state.setting(|config| &config.ranks[0].own);
            let address = [u32::from_ne_bytes(word(1)?).into(), 0];
            Some(state.destination(Family::Ipv4, address).class() >= own)
        }
        (BY_ADDRESS, 20) if word(0)? == IDENTIFIED6 => {
            let own = state.setting(|config| &config.ranks[1].own);
            let address = words(*frame.read::<Halves>(at + 4)?);
            Some(state.destination(Family::Ipv6, address).class() >= own)
        }
        _ => None,
    }
}
