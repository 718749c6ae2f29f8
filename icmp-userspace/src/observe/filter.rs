//! Filters of captures: which packets are wanted, in the words of rules.
//!
//! The kernel half is given a sieve, by which it lets go what is not wanted for its addresses or its type; what passes that is
//! judged by all of the filter here.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use icmp_common::Family;

use super::decode::Decoded;
use crate::policy::{
    acl::{Address, Kinds, Matching, Options},
    diagnostic::Invalid,
    prefix::Prefix,
    rules,
};

/// Which packets are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter(Matching);

/// What is asked of a packet in the kernel: no packet that a filter takes fails it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sieve {
    /// Whether packets of a family may be wanted, by the number of the [`Family`].
    pub families: [bool; 2],
    /// Of which source; the mask is zero where it does not matter.
    pub source: Masked,
    /// Of which destination.
    pub destination: Masked,
    /// Which types may be wanted: type t is bit t % 64 of word t / 64.
    pub types: [u64; 4],
    /// Whether fragments other than the first may be, of which no type is known.
    pub untyped: bool,
}

/// The bits of an address that matter, as words in memory order; an IPv4 address is the lower half of the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Masked {
    /// What these bits are; all others are zero.
    pub value: [u64; 2],
    /// Which bits.
    pub mask: [u64; 2],
}

impl Filter {
    /// Understands a filter: what stands in a rule behind its action.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let invalid =
            |diagnostics| Invalid { path: PathBuf::from("filter"), text: text.to_owned(), diagnostics };
        rules::filter(text).map(Self).map_err(invalid)
    }

    /// Whether a packet is wanted.
    #[must_use]
    pub fn takes(&self, packet: &Decoded) -> bool {
        let Matching { protocol: _, source, destination, kinds, kind_text: _, options } = &self.0;
        let Options { length, ttl, dscp, vlan, .. } = options;
        let Some(family) = packet.family_of_icmp() else { return false };
        let is_kind = match (&kinds[family as usize], packet.message) {
            (Kinds::None, _) | (Kinds::These(_), None) => false,
            (Kinds::Any, _) => true,
            (Kinds::Fragments, message) => message.is_none(),
            (Kinds::These(ranges), Some(message)) => ranges.iter().any(|range| {
                (range.types[0]..=range.types[1]).contains(&message.kind)
                    && (range.codes[0]..=range.codes[1]).contains(&message.code)
            }),
        };
        is_kind
            && is_at(source, packet.from)
            && is_at(destination, packet.to)
            && length.is_none_or(|[least, most]| (least.into()..=most.into()).contains(&packet.length))
            && ttl.is_none_or(|[least, most]| (least..=most).contains(&packet.ttl))
            && dscp.is_none_or(|dscp| packet.dscp == dscp)
            && vlan.is_none_or(|vlan| packet.vlans.first() == Some(&vlan))
    }

    /// What can be asked in the kernel.
    #[must_use]
    pub fn sieve(&self) -> Sieve {
        let Matching { source, destination, kinds, .. } = &self.0;
        let mut types = [0_u64; 4];
        let mut add = |kind: u8| types[usize::from(kind / 64)] |= 1 << (kind % 64);
        for kinds in kinds {
            match kinds {
                Kinds::None | Kinds::Fragments => {}
                Kinds::Any => (0..=u8::MAX).for_each(&mut add),
                Kinds::These(ranges) => {
                    ranges.iter().for_each(|range| (range.types[0]..=range.types[1]).for_each(&mut add));
                }
            }
        }
        Sieve {
            families: Family::ALL.map(|family| kinds[family as usize] != Kinds::None),
            source: Masked::of(source),
            destination: Masked::of(destination),
            types,
            untyped: kinds.iter().any(|kinds| matches!(kinds, Kinds::Any | Kinds::Fragments)),
        }
    }
}

fn is_at(wanted: &Address, address: IpAddr) -> bool {
    match (wanted, address) {
        (Address::Any, _) => true,
        (Address::Prefix(prefix), address) => prefix.contains(Prefix::host(address)),
        (Address::Wildcard { address, mask }, IpAddr::V4(of_packet)) => {
            (of_packet.to_bits() ^ address.to_bits()) & !mask.to_bits() == 0
        }
        // No filter names a set.
        (Address::Wildcard { .. } | Address::Set(_), _) => false,
    }
}

impl Masked {
    fn of(wanted: &Address) -> Self {
        let ones = |address: IpAddr| match address {
            IpAddr::V4(_) => IpAddr::from([u8::MAX; 4]),
            IpAddr::V6(_) => IpAddr::from([u8::MAX; 16]),
        };
        let (value, mask) = match wanted {
            Address::Any | Address::Set(_) => return Self { value: [0; 2], mask: [0; 2] },
            Address::Prefix(prefix) => {
                let mask = Prefix::containing(ones(prefix.address()), prefix.length()).address();
                (prefix.address(), mask)
            }
            Address::Wildcard { address, mask } => {
                (IpAddr::V4(*address), IpAddr::V4(Ipv4Addr::from_bits(!mask.to_bits())))
            }
        };
        Self { value: words(value), mask: words(mask) }
    }
}

/// An address as words in memory order.
fn words(address: IpAddr) -> [u64; 2] {
    match address {
        IpAddr::V4(address) => [u32::from_ne_bytes(address.octets()).into(), 0],
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            [(bits >> 64) as u64, bits as u64].map(u64::to_be)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Filter::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn errors_show_the_place() {
        assert_eq!(
            error("icmp any host 192.0.2.1 ecoh"),
            "filter:1:25: unknown message type: ecoh\n  |\n1 | icmp any host 192.0.2.1 ecoh\n  |                         ^^^^\n  = did you mean echo?"
        );
        for (text, message) in [
            ("", "expected a protocol, found the end of the line"),
            ("icmp", "expected a source, found the end of the line"),
            ("icmp any", "expected a destination, found the end of the line"),
            ("tcp any any", "rules are about ICMP alone, this one is about tcp"),
            ("deny icmp any any", "a filter has no action"),
            ("icmp set:trusted any", "a filter names no sets"),
            ("icmp any any log 1/7", "a filter knows no log"),
            ("icmp any any unreachable quoted-source mismatch", "a filter knows no quoted-source"),
            (
                "icmp any any echo fragments",
                "a type and `fragments`: fragments other than the first carry no type",
            ),
            ("icmp any any ttl 9-3", "the range 9-3 ends before it begins"),
            (
                "icmp host 192.0.2.1 host 2001:db8::1",
                "2001:db8::1 is of IPv6, but the source 192.0.2.1 of IPv4",
            ),
        ] {
            let error = error(text);
            assert!(error.lines().next().unwrap().ends_with(&format!(": {message}")), "{error}");
        }
        let ends = "= expected a number, or an option: fragments, length, ttl, dscp, vlan";
        assert!(error("icmp4 any any 200 x").ends_with(ends));
    }

    #[test]
    fn the_sieve_is_as_fine_as_it_can_be() {
        let sieve = |text: &str| Filter::parse(text).unwrap().sieve();
        let any = Masked { value: [0; 2], mask: [0; 2] };
        assert_eq!(
            sieve("icmp any any"),
            Sieve { families: [true; 2], source: any, destination: any, types: [u64::MAX; 4], untyped: true }
        );
        let word = |bytes: [u8; 8]| u64::from_le_bytes(bytes);
        assert_eq!(
            sieve("icmp 192.0.2.0/24 any echo"),
            Sieve {
                families: [true, false],
                source: Masked {
                    value: [word([192, 0, 2, 0, 0, 0, 0, 0]), 0],
                    mask: [word([255, 255, 255, 0, 0, 0, 0, 0]), 0],
                },
                destination: any,
                types: [1 << 8, 0, 0, 0],
                untyped: false,
            }
        );
        assert_eq!(
            sieve("icmp6 any host 2001:db8::1 {echo, echo-reply}"),
            Sieve {
                families: [false, true],
                source: any,
                destination: Masked {
                    value: [word([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0]), word([0, 0, 0, 0, 0, 0, 0, 1])],
                    mask: [u64::MAX; 2],
                },
                types: [0, 0, 3, 0],
                untyped: false,
            }
        );
        assert_eq!(sieve("icmp any any echo").types, [1 << 8, 0, 1, 0]);
        let fragments = sieve("icmp4 10.0.0.1 0.0.1.4 any fragments");
        assert_eq!((fragments.types, fragments.untyped), ([0; 4], true));
        assert_eq!(fragments.source.mask, [word([255, 255, 254, 251, 0, 0, 0, 0]), 0]);
    }
}
