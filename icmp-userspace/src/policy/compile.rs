//! Policies: meaning -> tables. The layouts are described in [`icmp_common::tables`]; what is written here,
//! `icmp-ebpf/src/classify.rs` reads.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::LazyLock,
};

use icmp_common::{
    ABI_VERSION,
    config::Config,
    tables::{
        CHUNK, Cell6, Chunk4, Destination, Hosts, Line6, MAX_RUN6, ROOT4_CHUNKS, Range6, host_slot4,
        host_slot6, line6,
    },
    wire::{ethernet::Mac, ipv6::words},
};
use thiserror::Error;

use super::{Policy, prefix::Prefix};

/// Most memory that the tables of one policy may take, in bytes.
pub const MEMORY_BUDGET: usize = 256 << 20;

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

/// Whether no address of a prefix is one host's.
fn is_reserved(prefix: Prefix) -> bool {
    RESERVED.iter().any(|(reserved, _)| reserved.contains(prefix))
}

/// What the tables need to know of the interface that they are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Its addresses, each with the length of its subnet's prefix.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Broadcast addresses that it is configured with.
    pub broadcasts: Vec<Ipv4Addr>,
}

/// A policy, ready to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    /// Settings.
    pub config: Config,
    /// Served hosts.
    pub hosts: Box<Hosts>,
    /// IPv4 destinations.
    pub chunks4: Vec<Chunk4>,
    /// IPv6 destinations: the index.
    pub index6: Vec<Line6>,
    /// IPv6 destinations: the ranges.
    pub ranges6: Vec<Range6>,
}

/// A policy whose tables would take too much memory.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "the {prefixes} served prefixes of [respond] `to` need more than the {} MiB of tables that a policy may take; \
     join neighbouring addresses to shorter prefixes",
    MEMORY_BUDGET >> 20
)]
pub struct TooLarge {
    /// How many prefixes there are.
    pub prefixes: usize,
}

impl Tables {
    /// Compiles a policy for an interface.
    pub fn compile(policy: &Policy, interface: &Interface) -> Result<Self, TooLarge> {
        let respond = &policy.respond;
        let own =
            interface.addresses.iter().filter(|_| respond.own).map(|(address, _)| Prefix::host(*address));
        let mut served: Vec<Prefix> = respond.prefixes.iter().copied().chain(own).collect();
        // Short ones first: a longer one inside a shorter one then changes nothing and takes no room.
        served.sort_unstable_by_key(|prefix| (prefix.length(), prefix.address()));
        served.dedup();
        let too_large = || TooLarge { prefixes: served.len() };

        let mut trie = Trie4::new();
        let mut v6 = Vec::new();
        for prefix in &served {
            match prefix.address() {
                IpAddr::V4(address) => {
                    trie.set(address.to_bits(), prefix.length(), Destination::Served)
                        .ok_or_else(too_large)?;
                }
                IpAddr::V6(address) => v6.push((address.to_bits(), prefix.length(), Destination::Served)),
            }
        }
        for (prefix, _) in RESERVED.iter() {
            match prefix.address() {
                IpAddr::V4(address) => {
                    trie.set(address.to_bits(), prefix.length(), Destination::NotUnicast)
                        .ok_or_else(too_large)?;
                }
                IpAddr::V6(address) => v6.push((address.to_bits(), prefix.length(), Destination::NotUnicast)),
            }
        }
        for broadcast in broadcasts(interface) {
            trie.set(broadcast.to_bits(), 32, Destination::NotUnicast).ok_or_else(too_large)?;
        }
        let (index6, ranges6, fallback6_count) = compile6(&v6).ok_or_else(too_large)?;
        let config = Config {
            interface_mac: Mac::new(interface.mac).parts(),
            abi_version: ABI_VERSION,
            index6_mask: index6.len() as u32 - 1,
            fallback6_count,
            ttl: respond.ttl,
            enabled: respond.enabled.into(),
            verify_checksum: respond.verify_checksum.into(),
            next_hop: respond.next_hop as u8,
        };
        let hosts = Box::new(hosts(&served, &trie));
        let tables = Self { config, hosts, chunks4: trie.chunks, index6, ranges6 };
        if tables.memory() > MEMORY_BUDGET { Err(too_large()) } else { Ok(tables) }
    }

    /// What they take in the kernel, in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        size_of_val(&*self.chunks4) + size_of_val(&*self.index6) + size_of_val(&*self.ranges6)
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
fn hosts(served: &[Prefix], trie: &Trie4) -> Hosts {
    let mut hosts = Hosts::NONE;
    for prefix in served {
        match prefix.address() {
            // A host that is some subnet's broadcast address is not served.
            IpAddr::V4(address)
                if prefix.length() == 32 && trie.get(address) == Destination::Served as u32 =>
            {
                let number = u32::from_ne_bytes(address.octets());
                let slot = host_slot4(number);
                if hosts.v4[slot] == Hosts::NONE.v4[slot] {
                    hosts.v4[slot] = number;
                }
            }
            IpAddr::V6(address) if prefix.length() == 128 && !is_reserved(*prefix) => {
                let octets = address.octets();
                let (halves, _) = octets.as_chunks();
                let number = words([halves[0], halves[1]]);
                let slot = host_slot6(number);
                if hosts.v6[slot] == Hosts::NONE.v6[slot] {
                    hosts.v6[slot] = number;
                }
            }
            _ => {}
        }
    }
    hosts
}

/// The IPv4 trie while it grows.
struct Trie4 {
    chunks: Vec<Chunk4>,
}

impl Trie4 {
    fn new() -> Self {
        Self { chunks: vec![[0; 256]; ROOT4_CHUNKS] }
    }

    /// Makes all addresses of a prefix a `destination`, whatever they were; `None` if that takes too much memory.
    fn set(&mut self, address: u32, length: u8, destination: Destination) -> Option<()> {
        let [first, second, third, fourth] = address.to_be_bytes();
        if length <= 8 {
            let chunks = 1 << (8 - length);
            self.chunks[usize::from(first)..][..chunks].fill([destination as u32; 256]);
            return Some(());
        }
        let mut chunk = usize::from(first);
        for (byte, end) in [(second, 16), (third, 24), (fourth, 32)] {
            let cells = &mut self.chunks[chunk];
            if length <= end {
                cells[usize::from(byte)..][..1 << (end - length)].fill(destination as u32);
                return Some(());
            }
            let cell = cells[usize::from(byte)];
            if cell == destination as u32 {
                return Some(());
            }
            chunk = if cell & CHUNK != 0 { (cell & !CHUNK) as usize } else { self.split(chunk, byte)? };
        }
        Some(())
    }

    /// What an address is, as the number of a [`Destination`].
    fn get(&self, address: Ipv4Addr) -> u32 {
        let [first, second, third, fourth] = address.octets().map(usize::from);
        let mut cell = self.chunks[first][second];
        for byte in [third, fourth] {
            if cell & CHUNK != 0 {
                cell = self.chunks[(cell & !CHUNK) as usize][byte];
            }
        }
        cell
    }

    /// Puts a new chunk behind a cell, with that cell's destination throughout.
    fn split(&mut self, chunk: usize, byte: u8) -> Option<usize> {
        let new = self.chunks.len();
        if new * size_of::<Chunk4>() >= MEMORY_BUDGET {
            return None;
        }
        let cell = &mut self.chunks[chunk][usize::from(byte)];
        let inherited = std::mem::replace(cell, CHUNK | new as u32);
        self.chunks.push([inherited; 256]);
        Some(new)
    }
}

/// Where ranges of IPv6 addresses begin, and what their addresses are; each reaches to the next one's start.
type Ranges = BTreeMap<u128, Destination>;

/// Index, ranges, and the length of the fallback run. Where prefixes overlap, later ones prevail. `None` if they
/// take too much memory.
fn compile6(entries: &[(u128, u8, Destination)]) -> Option<(Vec<Line6>, Vec<Range6>, u32)> {
    let mut all = Ranges::from([(0, Destination::NotServed)]);
    for (address, length, destination) in entries {
        paint(&mut all, *address, *length, *destination);
    }
    let mut before = None;
    all.retain(|_, destination| before.replace(*destination) != Some(*destination));
    // A key gets a run of its own if anything begins or ends within it. What is left to the fallback run then
    // changes between keys alone.
    let mut fallback = Ranges::new();
    let mut runs: BTreeMap<u32, Ranges> = BTreeMap::new();
    for (start, destination) in &all {
        let key = (start >> 96) as u32;
        let begin = u128::from(key) << 96;
        if *start == begin {
            fallback.insert(begin, *destination);
            continue;
        }
        runs.entry(key)
            .or_insert_with(|| Ranges::from([(begin, at(&all, begin))]))
            .insert(*start, *destination);
        if let Some(next) = begin.checked_add(1 << 96) {
            fallback.insert(next, at(&all, next));
        }
    }
    let mut ranges = Vec::new();
    let fallback_count = append(&mut ranges, &fallback)?;
    let mut cells = Vec::with_capacity(runs.len());
    for (key, run) in &runs {
        let first = ranges.len() as u32;
        cells.push(Cell6 { key: *key, first, count: append(&mut ranges, run)?, reserved: 0 });
    }
    Some((index6(&cells)?, ranges, fallback_count))
}

/// What an address is.
fn at(ranges: &Ranges, address: u128) -> Destination {
    ranges.range(..=address).next_back().map_or(Destination::NotServed, |(_, destination)| *destination)
}

/// Makes all addresses of a prefix a `destination`, whatever they were.
fn paint(ranges: &mut Ranges, first: u128, length: u8, destination: Destination) {
    let last = first | u128::MAX.checked_shr(length.into()).unwrap_or(0);
    if let Some(next) = last.checked_add(1) {
        let behind = at(ranges, next);
        ranges.insert(next, behind);
    }
    let covered: Vec<u128> = ranges.range(first..=last).map(|(start, _)| *start).collect();
    for start in covered {
        ranges.remove(&start);
    }
    ranges.insert(first, destination);
}

/// Appends a run, neighbours that are the same joined, and returns its length.
fn append(ranges: &mut Vec<Range6>, run: &Ranges) -> Option<u32> {
    let begin = ranges.len();
    for (start, destination) in run {
        let (start_high, start_low) = ((start >> 64) as u64, *start as u64);
        let destination = *destination as u32;
        if ranges[begin..].last().is_none_or(|last| last.destination != destination) {
            ranges.push(Range6 { start_high, start_low, destination, reserved: 0 });
        }
    }
    let count = (ranges.len() - begin) as u32;
    (count <= MAX_RUN6 && size_of_val(&**ranges) <= MEMORY_BUDGET).then_some(count)
}

/// Hashes cells to lines: as many lines as it takes for no line to overflow.
fn index6(cells: &[Cell6]) -> Option<Vec<Line6>> {
    let mut count = (cells.len() / 2).next_power_of_two();
    'larger: while count * size_of::<Line6>() <= MEMORY_BUDGET / 2 {
        let mut lines = vec![Line6::default(); count];
        for cell in cells {
            let line = &mut lines[line6(cell.key, count as u32 - 1) as usize];
            let Some(free) = line.cells.iter_mut().find(|cell| cell.count == 0) else {
                count *= 2;
                continue 'larger;
            };
            *free = *cell;
        }
        return Some(lines);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Respond;

    fn tables(to: &[&str], addresses: &[(&str, u8)]) -> Tables {
        let prefixes = to.iter().map(|text| text.parse().unwrap()).collect();
        let policy = Policy { respond: Respond { prefixes, ..Respond::default() }, ..Policy::default() };
        let addresses =
            addresses.iter().map(|(address, length)| (address.parse().unwrap(), *length)).collect();
        Tables::compile(&policy, &Interface { mac: [2; 6], addresses, broadcasts: Vec::new() }).unwrap()
    }

    #[test]
    fn short_prefixes_take_no_room() {
        let tables =
            tables(&["192.0.0.0/16", "192.0.2.0/24", "192.0.2.1", "2001:db8::/32", "2001:db8:1::/64"], &[]);
        assert_eq!(tables.chunks4.len(), ROOT4_CHUNKS);
        // Fallback: ::, behind it, 2001:db8::/32, behind it, multicast. And a run for what begins like ::1.
        assert_eq!((tables.config.fallback6_count, tables.ranges6.len()), (5, 7));
    }

    #[test]
    fn a_host_takes_two_chunks() {
        assert_eq!(tables(&["192.0.2.1"], &[]).chunks4.len(), ROOT4_CHUNKS + 2);
    }

    #[test]
    fn refuses_what_takes_too_much_memory() {
        let scattered =
            (0..300_000_u32).map(|number| Prefix::host(IpAddr::V4(((1 << 24) + (number << 10) + 1).into())));
        let policy = Policy {
            respond: Respond { prefixes: scattered.collect(), ..Respond::default() },
            ..Policy::default()
        };
        let interface = Interface { mac: [2; 6], addresses: Vec::new(), broadcasts: Vec::new() };
        let error = Tables::compile(&policy, &interface).map(|tables| tables.memory()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the 300000 served prefixes of [respond] `to` need more than the 256 MiB of tables that a policy may \
             take; join neighbouring addresses to shorter prefixes"
        );
    }
}
