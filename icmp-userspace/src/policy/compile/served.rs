//! What addresses are to the responder: served, own, not one host's; and who may ask about the interface.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::LazyLock,
};

use icmp_common::{
    config::Ranks,
    counters::MAX_SERVED,
    tables::{DestinationCell, Hosts, host_slot4, host_slot6},
    wire::ipv6::words,
};

use super::{
    Interface,
    classes::{Bits, Covered, Ranges},
};
use crate::policy::{
    Respond,
    prefix::Prefix,
    slots::{SERVED_OTHERS_TEXT, Slots, served_text},
};

pub(super) use icmp_common::tables::Destination;

/// Prefixes whose addresses are never one host's, and what they are instead. They are not served even where a
/// served prefix covers them (RFC 1122 3.2.1.3, RFC 4291 2.4).
pub static RESERVED: LazyLock<Vec<(Prefix, &str)>> = LazyLock::new(|| {
    let v4 = |a, length| Prefix::containing(IpAddr::V4(Ipv4Addr::new(a, 0, 0, 0)), length);
    let v6 =
        |first, length| Prefix::containing(IpAddr::V6(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0)), length);
    vec![
        (v4(0, 8), "\"this network\""),
        (v4(127, 8), "loopback"),
        (v4(224, 4), "multicast"),
        (v4(240, 4), "reserved, with broadcast at its end"),
        (Prefix::host(Ipv6Addr::UNSPECIFIED.into()), "no address"),
        (Prefix::host(Ipv6Addr::LOCALHOST.into()), "loopback"),
        (v6(0xff00, 8), "multicast"),
    ]
});

/// Selectors of destinations that no rule names; the first of those that addresses belong to says what they are.
const NOT_UNICAST: u32 = 0;
const SERVED: u32 = 1;
const OWN: u32 = 2;
const ELSEWHERE: u32 = 3;
/// The first selector of rules.
pub(super) const FIRST_DESTINATION: u32 = 4;
/// Behind all selectors of rules: this one and those above it stand for what answers are counted for. The last one that an address
/// belongs to counts: that of the longest prefix.
pub(super) const COUNTED: u32 = 1 << 31;

/// The selector of sources that may ask about the interface.
const PROBING: u32 = 0;
/// The first selector of rules.
pub(super) const FIRST_SOURCE: u32 = 1;

/// The prefixes of these selectors.
pub(super) type Served<A> = Vec<Covered<A>>;

/// What is served, own and not unicast in one family.
pub(super) fn prefixes<A: Bits>(respond: &Respond, interface: &Interface) -> Served<A> {
    let own = || interface.addresses.iter().map(|(address, _)| Prefix::host(*address));
    let served = respond.prefixes.iter().copied().chain(own().filter(|_| respond.own));
    let broadcasts = broadcasts(interface).map(|address| Prefix::host(address.into()));
    let reserved = RESERVED.iter().map(|(prefix, _)| *prefix);
    let elsewhere = interface.elsewhere.iter().copied();
    let not_unicast = broadcasts.chain(reserved).filter_map(with(NOT_UNICAST));
    let own_addresses = own().filter_map(with(OWN)).chain(elsewhere.filter_map(with(ELSEWHERE)));
    let counted = respond.counted().into_iter().zip(COUNTED..).flat_map(|(prefix, selector)| {
        let prefixes = prefix.map_or_else(|| own().collect(), |prefix| vec![prefix]);
        prefixes.into_iter().filter_map(with(selector))
    });
    not_unicast.chain(served.filter_map(with(SERVED))).chain(own_addresses).chain(counted).collect()
}

/// The slots in which answers are counted, by the numbers of [`Ranking::counted`].
pub(super) fn slots(respond: &Respond, slots: &Slots) -> Vec<u32> {
    let slot = |text: &str| slots.rule(text).unwrap_or_default();
    let counted = respond.counted().into_iter().map(|prefix| slot(&served_text(prefix)));
    std::iter::once(slot(SERVED_OTHERS_TEXT)).chain(counted).collect()
}

/// Who may ask about the interface.
pub(super) fn probing<A: Bits>(respond: &Respond) -> impl Iterator<Item = Covered<A>> {
    respond.probe.iter().copied().filter_map(with(PROBING))
}

fn with<A: Bits>(selector: u32) -> impl Fn(Prefix) -> Option<Covered<A>> {
    move |prefix| A::of(prefix).map(|(first, length)| (first, length, selector))
}

/// Lower bits of the rank of a destination, which say what its answers are counted for.
const COUNTED_BITS: u32 = 16;
const _: () = assert!(MAX_SERVED < 1 << COUNTED_BITS);

/// What addresses are besides, as far as anything that is answered asks for it; see [`icmp_common::config::Ranks`].
#[derive(Clone, Copy)]
pub(super) struct Ranking {
    is_asked: bool,
}

impl Ranking {
    pub(super) fn new(respond: &Respond) -> Self {
        Self { is_asked: respond.traceroute || !respond.probe.is_empty() }
    }

    /// The rank of destinations that belong to these selectors: 0, 1 if the host owns them, 2 if the interface does; and, in the
    /// lower bits, what answers are counted for: 0, or the number of what [`Respond::counted`] has, from 1 on.
    pub(super) fn of_destination(self, selectors: &[u32]) -> u32 {
        let owner = match self.is_asked {
            true if selectors.contains(&OWN) => 2,
            true if selectors.contains(&ELSEWHERE) => 1,
            _ => 0,
        };
        let counted = selectors.last().and_then(|last| last.checked_sub(COUNTED));
        owner << COUNTED_BITS | counted.map_or(0, |number| number + 1)
    }

    /// What answers for destinations of a rank are counted for.
    pub(super) const fn counted(rank: u32) -> u32 {
        rank & ((1 << COUNTED_BITS) - 1)
    }

    /// The rank of sources that belong to these selectors: 0, or 1 if they may ask about the interface.
    pub(super) fn of_source(self, selectors: &[u32]) -> u32 {
        u32::from(self.is_asked && selectors.contains(&PROBING))
    }

    /// The numbers from which on there are classes of higher ranks, if classes of these ranks stand in this order.
    pub(super) fn ranks(self, sources: &[u32], destinations: &[u32]) -> Ranks {
        if !self.is_asked {
            return Ranks::NONE;
        }
        let from = |ranks: &[u32], rank| ranks.partition_point(|other| *other < rank) as u32;
        let owner = |rank: u32| from(destinations, rank << COUNTED_BITS);
        Ranks { host: owner(1), own: owner(2), probing: from(sources, 1) }
    }
}

/// What addresses are that belong to these selectors.
pub(super) fn destination(selectors: &[u32]) -> Destination {
    match selectors.first() {
        Some(&NOT_UNICAST) => Destination::NotUnicast,
        Some(&SERVED) => Destination::Served,
        Some(&OWN) => Destination::Own,
        _ => Destination::NotServed,
    }
}

/// The broadcast addresses of an interface: those it is configured with, and the last address of each of its
/// subnets (RFC 1122 3.2.1.3 (d)); a subnet of one or two addresses has none (RFC 3021).
fn broadcasts(interface: &Interface) -> impl Iterator<Item = Ipv4Addr> {
    let last = interface.addresses.iter().filter_map(|(address, length)| match address {
        IpAddr::V4(address) if *length <= 30 => Some((address.to_bits() | u32::MAX >> length).into()),
        _ => None,
    });
    last.chain(interface.broadcasts.iter().copied())
}

/// The hosts among the served prefixes, as many as find their slots free; all are in the tables proper, too.
pub(super) fn hosts(
    respond: &Respond,
    interface: &Interface,
    destinations4: &Ranges<u32, u32>,
    destinations6: &Ranges<u128, u32>,
) -> Hosts {
    let mut hosts = Hosts::NONE;
    let own = interface.addresses.iter().filter(|_| respond.own).map(|(address, _)| Prefix::host(*address));
    for prefix in respond.prefixes.iter().copied().chain(own).filter(|prefix| prefix.is_host()) {
        match prefix.address() {
            IpAddr::V4(address) => {
                let cell = DestinationCell(value(destinations4, address.to_bits()));
                let number = u32::from_ne_bytes(address.octets());
                let slot = host_slot4(number);
                // A host that is some subnet's broadcast address is not served.
                if cell.destination() == Destination::Served && hosts.v4[slot] == Hosts::NONE.v4[slot] {
                    hosts.v4[slot] = number;
                    hosts.class4[slot] = cell.class() as u16;
                }
            }
            IpAddr::V6(address) => {
                let cell = DestinationCell(value(destinations6, address.to_bits()));
                let octets = address.octets();
                let (halves, _) = octets.as_chunks();
                let number = words([halves[0], halves[1]]);
                let slot = host_slot6(number);
                if cell.destination() == Destination::Served && hosts.v6[slot] == Hosts::NONE.v6[slot] {
                    hosts.v6[slot] = number;
                    hosts.class6[slot] = cell.class() as u16;
                }
            }
        }
    }
    hosts
}

/// The value of an address.
fn value<A: Bits>(ranges: &Ranges<A, u32>, address: A) -> u32 {
    // The first range begins at the first address.
    ranges[ranges.partition_point(|(start, _)| *start <= address) - 1].1
}
