//! Slots for counters of messages by type and code.
//!
//! 65,536 counters a family would be a megabyte on each CPU. So a type has a counter for each of its first codes, as many as the IANA
//! registries know, and one for all codes beyond; a type from a range that nobody has assigned has one counter.

use crate::Family;

/// How many codes of one family's types are told apart, where it is more than one: type, codes 0 to this number exclusively.
type Codes = &'static [(u8, u16)];

/// <https://www.iana.org/assignments/icmp-parameters>: unreachable, redirect, router advertisement (RFC 5944), time exceeded,
/// parameter problem, Photuris (RFC 2521), extended echo reply (RFC 8335).
const CODES4: Codes = &[(3, 16), (5, 4), (9, 17), (11, 2), (12, 3), (40, 6), (43, 5)];
/// <https://www.iana.org/assignments/icmpv6-parameters>: unreachable, time exceeded, parameter problem, router renumbering, node
/// information query and response (RFC 4620), RPL with its secure messages (RFC 6550), duplicate address request and
/// confirmation (RFC 6775, RFC 8505), extended echo reply.
const CODES6: Codes =
    &[(1, 11), (3, 2), (4, 12), (138, 2), (139, 3), (140, 3), (155, 139), (157, 5), (158, 5), (161, 5)];

/// Where a type's counters begin, and how many codes are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct TypeSlots {
    /// The slot of code 0.
    pub first: u16,
    /// Codes from this one on share the slot with this number behind the first.
    pub codes: u16,
}

/// Types from ranges in which some are assigned.
const fn is_assigned(family: Family, icmp_type: usize) -> bool {
    match family {
        Family::Ipv4 => icmp_type < 64,
        Family::Ipv6 => icmp_type < 8 || icmp_type >= 128 && icmp_type < 192,
    }
}

/// Room for slots: a power of two.
pub const MESSAGE_SLOTS: usize = 1 << 10;

/// The slots of each family's types.
pub static TYPES: [[TypeSlots; 256]; 2] = [IPV4.0, IPV6.0];

const IPV4: ([TypeSlots; 256], usize) = types(Family::Ipv4, CODES4, 2);
const IPV6: ([TypeSlots; 256], usize) = types(Family::Ipv6, CODES6, IPV4.1);
const _: () = assert!(IPV6.1 <= MESSAGE_SLOTS);

/// The slots of one family's types, from this one on, and the slot behind them.
const fn types(family: Family, codes: Codes, mut slot: usize) -> ([TypeSlots; 256], usize) {
    let mut types = [TypeSlots { first: 0, codes: 0 }; 256];
    let mut number = 0;
    while number < codes.len() {
        types[codes[number].0 as usize].codes = codes[number].1;
        number += 1;
    }
    let mut of_type = 0;
    while of_type < 256 {
        let slots = &mut types[of_type];
        if slots.codes == 0 && is_assigned(family, of_type) {
            slots.codes = 1;
        }
        slots.first = slot as u16;
        slot += slots.codes as usize + 1;
        of_type += 1;
    }
    (types, slot)
}

impl TypeSlots {
    /// The slot of one code. By arithmetic: the kernel's verifier would follow a comparison both ways.
    #[inline(always)]
    #[must_use]
    pub const fn slot(self, code: u8) -> u32 {
        let beyond = code as i32 - self.codes as i32;
        // All ones if it is one of those that are told apart.
        let told = beyond >> 31;
        (self.first as i32 + self.codes as i32 + (beyond & told)) as u32
    }
}

/// The slot of a family's fragments other than the first one.
#[inline(always)]
#[must_use]
pub const fn fragments(family: Family) -> u32 {
    family as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_belongs_to_one_type() {
        let mut slots = [0_u32; MESSAGE_SLOTS];
        for family in Family::ALL {
            slots[fragments(family) as usize] += 1;
            for types in TYPES[family as usize] {
                for code in 0..=types.codes {
                    slots[types.slot(code as u8) as usize] += 1;
                }
                assert_eq!(types.slot(255), types.slot(types.codes as u8));
            }
        }
        let (used, free) = slots.split_at(IPV6.1);
        assert!(used.iter().all(|uses| *uses == 1) && free.iter().all(|uses| *uses == 0));
        // Time exceeded, in reassembly; echo request; an error of RPL, secured.
        assert_eq!(TYPES[0][11].slot(1), TYPES[0][11].slot(0) + 1);
        assert_ne!(TYPES[0][8].slot(0), TYPES[0][8].slot(1));
        assert_ne!(TYPES[1][155].slot(0x8a), TYPES[1][155].slot(0x8b));
    }
}
