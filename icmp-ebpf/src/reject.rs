//! Step "reject": with which code an error is sent about a packet that a rule rejects. A packet about which none is sent is
//! dropped without a word.

use icmp_common::{
    Family,
    tables::Ruling,
    wire::{
        icmp::{self, PROHIBITED6, TypeAndCode},
        ipv4::Ipv4,
        ipv6::{self, Ipv6},
    },
};

use crate::Frame;

/// The code of the error about the packet whose IP header begins at `ip`; `None` if its message deserves none.
#[inline(always)]
pub(crate) fn reject<F: Frame>(frame: &F, ip: usize, family: Family, ruling: Ruling) -> Option<u8> {
    match family {
        Family::Ipv4 => {
            let message = ip + frame.read::<Ipv4>(ip)?.header_length();
            icmp::deserves_error4(frame.read::<TypeAndCode>(message)?.icmp_type()).then_some(code4(ruling))
        }
        Family::Ipv6 => {
            // Whether the message behind extension headers is an error would have to be looked for; no answer is no harm.
            if frame.read::<Ipv6>(ip)?.next_header != ipv6::ICMPV6 {
                return None;
            }
            let message = frame.read::<TypeAndCode>(ip + ipv6::HEADER)?;
            icmp::deserves_error6(message.icmp_type()).then_some(PROHIBITED6)
        }
    }
}

/// RFC 1812 5.2.7.1.
#[inline(always)]
const fn code4(ruling: Ruling) -> u8 {
    match ruling {
        Ruling::RejectNet => 9,
        Ruling::RejectHost => 10,
        _ => 13,
    }
}
