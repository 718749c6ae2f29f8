//! Filters of captures: which packets are wanted, in the words of rules.
//!
//! The kernel half is given a sieve, by which it lets go what is not wanted for its addresses or its type; what passes that is
//! judged by all of the filter here.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use icmp_common::{
    Family,
    events::{Captured, ChannelFamily},
    reason::{Reason, Verdict},
};

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

    /// What can be asked in the kernel, by the number of the [`Family`]: no packet that is wanted fails it.
    #[must_use]
    pub fn sieve(&self) -> [ChannelFamily; 2] {
        let Matching { source, destination, kinds, .. } = &self.0;
        let (source, destination) = (Masked::of(source), Masked::of(destination));
        Family::ALL.map(|family| {
            let types = match &kinds[family as usize] {
                Kinds::None => return ChannelFamily::NONE,
                // Of fragments the kernel does not know that what stands there is no type.
                Kinds::Any | Kinds::Fragments => [u64::MAX; 4],
                Kinds::These(ranges) => {
                    let mut types = [0; 4];
                    for kind in ranges.iter().flat_map(|range| range.types[0]..=range.types[1]) {
                        types[usize::from(kind / 64)] |= 1 << (kind % 64);
                    }
                    types
                }
            };
            ChannelFamily {
                types,
                source: source.value,
                source_mask: source.mask,
                destination: destination.value,
                destination_mask: destination.mask,
            }
        })
    }
}

/// The bits of an address that matter, as words in memory order; an IPv4 address is the lower half of the first one.
struct Masked {
    /// What these bits are; all others are zero.
    value: [u64; 2],
    /// Which bits.
    mask: [u64; 2],
}

/// Which of the packets that the kernel half tells of are wanted: those that a filter takes, and the answers to them.
pub struct Choice {
    filter: Filter,
    /// Packets that were wanted and have an answer, which is told behind them, but perhaps not at once.
    answered: VecDeque<(Captured, IpAddr)>,
}

/// Most packets whose answers are waited for: many more than there are processors.
const MOST_ANSWERED: usize = 1 << 12;

impl Choice {
    /// What a filter takes.
    #[must_use]
    pub const fn new(filter: Filter) -> Self {
        Self { filter, answered: VecDeque::new() }
    }

    /// Whether a packet is wanted, of which all that matters has been captured.
    pub fn wants(&mut self, head: &Captured, frame: &[u8]) -> bool {
        let Some(packet) = Decoded::of_frame(frame) else { return false };
        if head.leaves == 0 {
            let wanted = self.filter.takes(&packet);
            let verdict = head.reason().map(Reason::verdict);
            if wanted && matches!(verdict, Some(Verdict::Answer | Verdict::Reject)) {
                if self.answered.len() == MOST_ANSWERED {
                    self.answered.pop_front();
                }
                self.answered.push_back((*head, packet.from));
            }
            return wanted;
        }
        // It goes to where the packet came from, and is told to be of the same moment.
        let place = self.answered.iter().position(|(answered, from)| {
            (answered.time, answered.slot, answered.reason) == (head.time, head.slot, head.reason)
                && *from == packet.to
        });
        place.and_then(|place| self.answered.remove(place)).is_some()
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
        let (all, none) = (ChannelFamily::ALL, ChannelFamily::NONE);
        assert_eq!(sieve("icmp any any"), [all; 2]);
        assert_eq!(sieve("icmp6 any any fragments"), [none, all]);
        let word = |bytes: [u8; 8]| u64::from_le_bytes(bytes);
        let network = ChannelFamily {
            types: [1 << 8, 0, 0, 0],
            source: [word([192, 0, 2, 0, 0, 0, 0, 0]), 0],
            source_mask: [word([255, 255, 255, 0, 0, 0, 0, 0]), 0],
            ..all
        };
        assert_eq!(sieve("icmp 192.0.2.0/24 any echo"), [network, none]);
        let host = ChannelFamily {
            types: [0, 0, 3, 0],
            destination: [word([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0]), word([0, 0, 0, 0, 0, 0, 0, 1])],
            destination_mask: [u64::MAX; 2],
            ..all
        };
        assert_eq!(sieve("icmp6 any host 2001:db8::1 {echo, echo-reply}"), [none, host]);
        let [echo4, echo6] = sieve("icmp any any echo");
        assert_eq!((echo4.types, echo6.types), ([1 << 8, 0, 0, 0], [0, 0, 1, 0]));
        let [wildcard, _] = sieve("icmp4 10.0.0.1 0.0.1.4 any");
        assert_eq!(wildcard.source_mask, [word([255, 255, 254, 251, 0, 0, 0, 0]), 0]);
    }

    /// An answer comes along with the packet that it is to, wherever it stands behind that, and no other one does.
    #[test]
    fn answers_are_wanted_with_what_they_answer() {
        let frame = |from: u8, to: u8, icmp_type: u8| {
            let mut frame = vec![2; 12];
            frame.extend([8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0]);
            frame.extend([192, 0, 2, from, 192, 0, 2, to, icmp_type, 0, 0, 0, 0x12, 0x34, 0, 7]);
            frame
        };
        let head =
            |time, leaves| Captured { time, leaves, reason: Reason::Echo as u8, ..Captured::default() };
        let mut choice = Choice::new(Filter::parse("icmp host 192.0.2.2 any echo").unwrap());
        assert!(choice.wants(&head(5, 0), &frame(2, 1, 8)));
        assert!(!choice.wants(&head(5, 0), &frame(3, 1, 8)));
        // Of the same nanosecond, on another processor.
        assert!(!choice.wants(&head(5, 1), &frame(1, 3, 0)));
        assert!(choice.wants(&head(6, 0), &frame(2, 1, 8)));
        assert!(choice.wants(&head(5, 1), &frame(1, 2, 0)));
        assert!(choice.wants(&head(6, 1), &frame(1, 2, 0)));
        assert!(!choice.wants(&head(6, 1), &frame(1, 2, 0)));
        // What has no answer waits for none.
        let passed = Captured { reason: Reason::NotServed as u8, ..head(7, 0) };
        assert!(choice.wants(&passed, &frame(2, 1, 8)));
        assert!(choice.answered.is_empty());
    }
}
