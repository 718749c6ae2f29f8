//! Destination tables: what the data path finds in compiled tables is what a walk over the prefixes finds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use icmp_ebpf::Reason;
use icmp_tests::{
    frames::{Ping4, Ping6},
    host::{self, handle},
};
use icmp_userspace::policy::{Policy, Respond, compile::Tables, prefix::Prefix};
use proptest::prelude::*;

fn compile(prefixes: &[Prefix], own: bool) -> Tables {
    let respond = Respond { own, prefixes: prefixes.to_vec(), ..Respond::default() };
    host::compile(&Policy { respond, ..Policy::default() })
}

/// What the data path makes of an echo request to an address.
fn found(tables: &Tables, address: IpAddr) -> Option<Reason> {
    let frame = match address {
        IpAddr::V4(address) => {
            let mut ping = Ping4 { payload: Vec::new(), ..Ping4::default() };
            (ping.ip.destination, ping.ip.source) = (address.octets(), [9, 9, 9, 9]);
            ping.frame()
        }
        IpAddr::V6(address) => {
            let mut ping = Ping6 { payload: Vec::new(), ..Ping6::default() };
            ping.ip.destination = address.octets();
            ping.ip.source = [9; 16];
            ping.frame()
        }
    };
    handle(tables, &frame).counted.map(|(_, reason)| reason)
}

/// What it should make of it, by a walk over everything.
fn walked(prefixes: &[Prefix], address: IpAddr) -> Option<Reason> {
    let reserved = match address {
        IpAddr::V4(v4) => {
            matches!(v4.octets(), [0 | 127 | 224..=255, ..]) || v4 == Ipv4Addr::new(192, 0, 2, 255)
        }
        IpAddr::V6(v6) => v6.is_multicast() || v6.is_loopback() || v6.is_unspecified(),
    };
    let served = prefixes.iter().any(|prefix| covers(*prefix, address));
    Some(match (reserved, served) {
        (true, _) => Reason::NotUnicast,
        (false, true) => Reason::Echo,
        (false, false) => Reason::NotServed,
    })
}

fn covers(prefix: Prefix, address: IpAddr) -> bool {
    let (first, address, width) = match (prefix.address(), address) {
        (IpAddr::V4(first), IpAddr::V4(address)) => (first.to_bits().into(), address.to_bits().into(), 32),
        (IpAddr::V6(first), IpAddr::V6(address)) => (first.to_bits(), address.to_bits(), 128),
        _ => return false,
    };
    let free = width - u32::from(prefix.length());
    let upper = |bits: u128| bits.checked_shr(free).unwrap_or(0);
    upper(first) == upper(address)
}

/// First, last and neighbouring addresses of a prefix: where tables go wrong.
fn edges(prefix: Prefix) -> Vec<IpAddr> {
    match prefix.address() {
        IpAddr::V4(first) => {
            let first = first.to_bits();
            let last = first | u32::MAX.checked_shr(prefix.length().into()).unwrap_or(0);
            let edges = [first.wrapping_sub(1), first, first / 2 + last / 2, last, last.wrapping_add(1)];
            edges.map(|bits| Ipv4Addr::from_bits(bits).into()).to_vec()
        }
        IpAddr::V6(first) => {
            let first = first.to_bits();
            let last = first | u128::MAX.checked_shr(prefix.length().into()).unwrap_or(0);
            let edges = [first.wrapping_sub(1), first, first / 2 + last / 2, last, last.wrapping_add(1)];
            edges.map(|bits| Ipv6Addr::from_bits(bits).into()).to_vec()
        }
    }
}

/// Addresses that differ from one of few others in few bits, so that prefixes of them overlap and adjoin.
fn address4() -> impl Strategy<Value = IpAddr> {
    let near =
        prop::sample::select(vec![0x0a00_0000_u32, 0xc000_02fe, 0xc633_64ff, 0x7eff_ffff, 0xdfff_ffff]);
    (near, any::<u32>(), 0_u32..=32).prop_map(|(near, noise, kept)| {
        Ipv4Addr::from_bits(near ^ noise.checked_shr(kept).unwrap_or(0)).into()
    })
}

fn address6() -> impl Strategy<Value = IpAddr> {
    let near = prop::sample::select(vec![
        0x2001_0db8_0000_0000_0000_0000_0000_0001_u128,
        0x2001_0db8_ffff_ffff_ffff_ffff_ffff_ffff,
        0x2001_0db9_0000_0000_0000_0000_0000_0000,
        0xfe80_0000_0000_0000_0000_0000_0000_0001,
        0xfeff_ffff_ffff_ffff_ffff_ffff_ffff_ffff,
        0,
    ]);
    (near, any::<u128>(), 0_u32..=128).prop_map(|(near, noise, kept)| {
        Ipv6Addr::from_bits(near ^ noise.checked_shr(kept).unwrap_or(0)).into()
    })
}

fn prefixes() -> impl Strategy<Value = Vec<Prefix>> {
    let v4 = (address4(), prop_oneof![1 => 0_u8..8, 9 => 8_u8..=32]);
    let v6 = (address6(), prop_oneof![2 => 0_u8..40, 8 => 28_u8..=128]);
    let prefix = prop_oneof![v4, v6].prop_map(|(address, length)| Prefix::containing(address, length));
    prop::collection::vec(prefix, 0..24)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// At the edges of every prefix and at other addresses near them, tables and walk agree.
    #[test]
    fn tables_agree_with_a_walk_over_the_prefixes(
        prefixes in prefixes(),
        others4 in prop::collection::vec(address4(), 20),
        others6 in prop::collection::vec(address6(), 20),
    ) {
        let tables = compile(&prefixes, false);
        let edges = prefixes.iter().flat_map(|prefix| edges(*prefix));
        for address in edges.chain(others4).chain(others6) {
            prop_assert_eq!(found(&tables, address), walked(&prefixes, address), "{}", address);
        }
    }

    /// The same for hosts by the hundred, more than have a place of their own in the tables.
    #[test]
    fn tables_agree_with_a_walk_over_many_hosts(
        hosts in prop::collection::btree_set(0_u32..1500, 0..500),
        probes in prop::collection::vec(0_u32..1500, 60),
    ) {
        let v4 = |number| IpAddr::from(Ipv4Addr::from_bits(0xc633_6400 + number));
        let v6 = |number| IpAddr::from(Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(number)));
        let prefixes: Vec<_> = hosts.iter().flat_map(|host| [v4(*host), v6(*host)]).map(Prefix::host).collect();
        let tables = compile(&prefixes, false);
        for probe in hosts.iter().take(60).chain(&probes) {
            for address in [v4(*probe), v6(*probe)] {
                prop_assert_eq!(found(&tables, address), walked(&prefixes, address), "{}", address);
            }
        }
    }
}

/// More networks of 32 bits than have room in their lines of the IPv6 index: all are found, and nothing between them.
#[test]
fn networks_without_room_in_the_index_are_found() {
    const NETWORKS: u32 = 100_000;
    let host = |number: u32| {
        // As irregular as networks are: the last step of MurmurHash3.
        let mixed = (number ^ number >> 16).wrapping_mul(0x85eb_ca6b);
        let mixed = (mixed ^ mixed >> 13).wrapping_mul(0xc2b2_ae35);
        let network = 0x2000_0000 | (mixed ^ mixed >> 16) >> 4;
        Ipv6Addr::from_bits(u128::from(network) << 96 | u128::from(number) << 8)
    };
    let prefixes: Vec<_> = (0..NETWORKS).map(|number| Prefix::host(host(number).into())).collect();
    let tables = compile(&prefixes, false);
    // Three ranges for each network that found no room, and hardly more.
    let fallback = tables.config.tables6[1].fallback_count;
    assert!((8..NETWORKS / 100).contains(&fallback), "{fallback}");
    for address in (0..NETWORKS).map(host) {
        let near =
            [address.to_bits() - 1, address.to_bits() + 1].map(|bits| Ipv6Addr::from_bits(bits).into());
        assert_eq!(found(&tables, address.into()), Some(Reason::Echo), "{address}");
        assert_eq!(near.map(|near| found(&tables, near)), [Some(Reason::NotServed); 2], "{address}");
    }
}

/// "own" serves the interface's addresses, and them alone.
#[test]
fn own_serves_the_interfaces_addresses() {
    let tables = compile(&[], true);
    for (address, reason) in [
        ("192.0.2.1", Reason::Echo),
        ("192.0.2.2", Reason::NotServed),
        ("192.0.2.255", Reason::NotUnicast),
        ("2001:db8::1", Reason::Echo),
        ("2001:db8::2", Reason::NotServed),
    ] {
        assert_eq!(found(&tables, address.parse().unwrap()), Some(reason), "{address}");
    }
}

/// Not even 0.0.0.0/0 and ::/0 serve addresses that no single host has.
#[test]
fn reserved_and_broadcast_addresses_are_never_served() {
    let everything = ["0.0.0.0/0", "::/0"].map(|text| text.parse().unwrap());
    let tables = compile(&everything, true);
    for address in [
        "0.0.0.0",
        "0.255.255.255",
        "127.0.0.1",
        "127.255.255.255",
        "192.0.2.255",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "ff02::1",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    ] {
        assert_eq!(found(&tables, address.parse().unwrap()), Some(Reason::NotUnicast), "{address}");
    }
    for address in ["1.0.0.0", "126.255.255.255", "192.0.2.254", "223.255.255.255", "::2", "feff::", "100::1"]
    {
        assert_eq!(found(&tables, address.parse().unwrap()), Some(Reason::Echo), "{address}");
    }
}
