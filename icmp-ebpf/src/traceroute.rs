//! Traceroute by UDP: its probes end at a served address that nobody owns.
//!
//! Traceroute counts a host as reached when this says that nobody listens to the port. Where the host owns the address, its stack
//! says so, unless somebody does listen; where it does not, as with a prefix that is announced by many, nobody would.

use icmp_common::{
    Family,
    tables::Destination,
    wire::{
        icmp::{PORT4, PORT6},
        ipv4::Ipv4,
        ipv6::Ipv6,
    },
};

use crate::{Frame, Side, State, classify::Classifiable as _};

/// The code of the error about a probe whose IP header begins at `ip`; `None` if it does not end here.
#[inline(always)]
pub(crate) fn traceroute<F: Frame, S: State>(frame: &F, state: &S, ip: usize, family: Family) -> Option<u8> {
    if state.setting(|config| &config.enabled) == 0 {
        return None;
    }
    let (address, code) = match family {
        Family::Ipv4 => (frame.read::<Ipv4>(ip)?.address(Side::Destination), PORT4),
        Family::Ipv6 => (frame.read::<Ipv6>(ip)?.address(Side::Destination), PORT6),
    };
    let cell = state.destination(family, address);
    let is_host = cell.class() >= state.setting(|config| &config.ranks[family as usize].host);
    (cell.destination() == Destination::Served && !is_host).then_some(code)
}
