//! Policies: meaning -> tables. The layouts are described in [`icmp_common::tables`]; what is written here,
//! `icmp-ebpf/src/classify.rs` reads.

mod addresses;
mod classes;
mod image;
mod kinds;
pub mod limits;
mod logs;
mod rules;
mod served;
mod table4;
mod table6;

use std::net::{IpAddr, Ipv4Addr};

use icmp_common::{
    ABI_VERSION, Family,
    bans::MAX_BAN_LENGTHS,
    config::{AclConfig, Config, DYNAMIC_DESTINATIONS, DYNAMIC_SOURCES, QUOTES, Table6Config},
    events::MAX_LOGGED,
    limits::bucket_lines,
    tables::{Decision, Entry, Hosts, Kinds, MOST_RATES, Root4},
    wire::{
        ethernet::Mac,
        icmp::{ACTIVE, RUNS_IPV4, RUNS_IPV6},
        ipv6::words,
    },
};
use thiserror::Error;

use super::{
    Policy,
    acl::BANNED,
    prefix::Prefix,
    slots::{EVICTED_TEXT, Slots},
};
use addresses::check_wildcards;
use rules::Shared;
use table4::Table4;
use table6::Table6;

pub use image::Image;
pub use served::RESERVED;

/// Most memory that the tables of one policy may take, in bytes.
pub const MEMORY_BUDGET: usize = 256 << 20;

/// What the tables need to know of the interface that they are for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its number in its network namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Its addresses, each with the length of its subnet's prefix.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Broadcast addresses that it is configured with.
    pub broadcasts: Vec<Ipv4Addr>,
    /// What the host owns, here and on other interfaces, if the policy asks for it: what its routing table calls local.
    pub elsewhere: Vec<Prefix>,
    /// Seconds by which the kernel's clock of TAI is ahead of UTC, if the policy asks for them.
    pub tai_offset: u32,
}

/// A policy, ready to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    /// Settings.
    pub config: Config,
    /// Served hosts.
    pub hosts: Box<Hosts>,
    /// Kinds of messages.
    pub kinds: Box<Kinds>,
    /// Roots of the IPv4 tables: of sources, then of destinations.
    pub roots4: [Box<Root4>; 2],
    /// Everything else.
    pub image: Image,
    /// What all of it takes in the kernel, in bytes, by what it is for.
    pub sizes: [(&'static str, usize); 7],
}

/// A policy whose tables would be larger than tables may be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TooLarge {
    /// All of them together.
    #[error(
        "the tables of this policy would take {} MiB, more than the {} MiB that a policy may take; most of it is for {what}: join \
         neighbouring addresses to shorter prefixes", needed >> 20, MEMORY_BUDGET >> 20
    )]
    Memory {
        /// Bytes.
        needed: usize,
        /// What takes most.
        what: &'static str,
    },
    /// Sources and destinations that have to be told apart.
    #[error(
        "the {} rules that tell apart most sources and destinations ({}) make more combinations than a policy may have; put \
         addresses that are treated alike into a set, and name the set in one rule", rules.len(), list(rules)
    )]
    Combinations {
        /// Numbers of the rules at fault.
        rules: Vec<u32>,
    },
    /// Addresses with wildcard masks.
    #[error(
        "the wildcard masks of the policy ({}) stand for more than a million prefixes; let fewer bits before a zero be ones, or put \
         the prefixes that are meant into a set",
        list(rules)
    )]
    Wildcards {
        /// Numbers of the rules at fault, the worst first.
        rules: Vec<u32>,
    },
    /// Types and codes.
    #[error(
        "the rules tell apart {0} kinds of messages by type and code, more than a policy may; use ranges"
    )]
    Kinds(usize),
    /// Rates.
    #[error(
        "the policy has more than {MOST_RATES} rates; put addresses whose limits are alike into a set, and limit that"
    )]
    Rates,
    /// Rules that log.
    #[error(
        "{0} rules that log, those that limit counted twice, are more than the {MAX_LOGGED} that may; let one rule with a set do it"
    )]
    Logged(usize),
    /// Lengths of prefixes that are banned.
    #[error(
        "the limits ban prefixes of more than {MAX_BAN_LENGTHS} different lengths; give their `per source/LEN` the same LEN"
    )]
    BanLengths,
    /// Rules with options that may all apply to one packet.
    #[error(
        "{} rules with options or dynamic sets ({}) may all apply to one packet, more than can be tried; give them types, addresses \
         or sets of their own", rules.len(), list(rules)
    )]
    List {
        /// Numbers of the rules at fault.
        rules: Vec<u32>,
    },
    /// IPv6 prefixes with the same first 32 bits, or shorter than these.
    #[error(
        "the IPv6 {0} have too many prefixes with the same first 32 bits, or with no more bits than that; join neighbouring addresses \
         to shorter prefixes"
    )]
    Run6(&'static str),
}

/// The first few of many rules.
fn list(rules: &[u32]) -> String {
    let first: Vec<_> = rules.iter().take(5).map(|number| format!("rule {number}")).collect();
    let more = if rules.len() > 5 { ", ..." } else { "" };
    format!("{}{more}", first.join(", "))
}

impl Tables {
    /// Compiles a policy for an interface. `slots` are those that have been assigned to this policy.
    pub fn compile(policy: &Policy, interface: &Interface, slots: &Slots) -> Result<Self, TooLarge> {
        let respond = &policy.respond;
        check_wildcards(policy)?;
        let mut shared = Shared::default();
        let error_rate = shared.rates.of_errors(&policy.acl.errors, slots)?;
        let served = served::prefixes(respond, interface);
        let v4 = rules::compile::<u32>(policy, slots, Family::Ipv4, served, &mut shared)?;
        let served = served::prefixes(respond, interface);
        let v6 = rules::compile::<u128>(policy, slots, Family::Ipv6, served, &mut shared)?;
        let (v4_rules, v6_rules) = (v4.config, v6.config);
        let probes = !respond.probe.is_empty();
        let asked = |rules: &AclConfig| rules.sources != 0 || probes;
        let sources4 = if asked(&v4_rules) { Table4::new(&v4.sources, 0) } else { Table4::unused() };
        let destinations4 = Table4::new(&v4.destinations, sources4.lines.len() as u32);
        let sources6 = if asked(&v6_rules) { Table6::new(&v6.sources) } else { Some(Table6::unused()) };
        let sources6 = sources6.ok_or(TooLarge::Run6("sources"))?;
        let destinations6 = Table6::new(&v6.destinations).ok_or(TooLarge::Run6("destinations"))?;
        let sizes = [
            ("IPv4 sources", sources4.memory()),
            ("IPv4 destinations", destinations4.memory()),
            ("IPv6 sources", sources6.memory()),
            ("IPv6 destinations", destinations6.memory()),
            ("rules", shared.memory()),
            ("types and codes", size_of::<Kinds>()),
            ("limits", policy.limits.buckets as usize * size_of::<u64>() + size_of_val(shared.rates.rows())),
        ];
        within_budget(&sizes)?;

        let mut image = Image::new();
        image.append(&sources4.lines);
        image.append(&destinations4.lines);
        let tables6 = [sources6, destinations6].map(|table| Table6Config {
            index: image.append(&table.index),
            ranges: image.append(&table.ranges),
            ..table.config
        });
        let rows = image.append(&shared.rows) / size_of::<u32>() as u32;
        let pairs = image.append(&shared.pairs) / size_of::<u32>() as u32;
        let decisions = image.append(&shared.decisions) / size_of::<Decision>() as u32;
        let entries = image.append(&shared.entries);
        let acl = [v4_rules, v6_rules].map(|acl| AclConfig {
            by_source: acl.by_source + decisions,
            by_destination: acl.by_destination + decisions,
            by_pair: acl.by_pair + decisions,
            rows: acl.rows + rows,
            pairs: acl.pairs + pairs,
            ..acl
        });
        let rates = image.append(shared.rates.rows());
        let logged = logs::rows(policy, slots)?;
        let log = image.append(&logged);
        let served_slots = served::slots(respond, slots);
        let of_class = |counted: &[u32]| -> Vec<u32> {
            counted.iter().map(|number| served_slots.get(*number as usize).copied().unwrap_or(0)).collect()
        };
        let served = [&v4.counted, &v6.counted].map(|counted| image.append(&of_class(counted)));
        let (source4, source6) = error_sources(interface);
        let depends = |on: fn(&Entry) -> bool, bit: u8| if shared.entries.iter().any(on) { bit } else { 0 };
        let facts = depends(|entry| entry.source_set != Entry::ANY, DYNAMIC_SOURCES)
            | depends(|entry| entry.destination_set != Entry::ANY, DYNAMIC_DESTINATIONS)
            | depends(|entry| entry.quotes != 0, QUOTES);
        let config = Config {
            interface_mac: Mac::new(interface.mac).parts(),
            abi_version: ABI_VERSION,
            ttl: respond.ttl,
            enabled: respond.enabled.into(),
            verify_checksum: respond.verify_checksum.into(),
            next_hop: respond.next_hop as u8,
            source6,
            source4,
            facts,
            ban_set: slots.set(BANNED).unwrap_or_default() as u8,
            tables_last: image.finish(),
            entries,
            rates,
            error_rate,
            bucket_mask: bucket_lines(policy.limits.buckets) - 1,
            longest_span: shared.rates.longest_span(),
            ban_lengths: shared.rates.ban_lengths(),
            evicted_slot: slots.rule(EVICTED_TEXT).unwrap_or_default(),
            tables6,
            acl,
            timestamp: respond.timestamp.into(),
            tai_offset: interface.tai_offset,
            traceroute: respond.traceroute.into(),
            probe: probes.into(),
            interface_index: interface.index,
            interface_name: interface_name(&interface.name),
            interface_state: interface_state(interface),
            ranks: [v4.ranks, v6.ranks],
            logs: (!logged.is_empty()).into(),
            log,
            counts_served: respond.count.into(),
            served,
            ..Config::UNSET
        };
        Ok(Self {
            config,
            hosts: Box::new(served::hosts(respond, interface, &v4.destinations, &v6.destinations)),
            kinds: both_kinds(&v4.kinds, &v6.kinds),
            roots4: [sources4.root, destinations4.root],
            image,
            sizes,
        })
    }
}

/// Whether tables of these sizes, by what they are for, may be made.
fn within_budget(sizes: &[(&'static str, usize)]) -> Result<(), TooLarge> {
    let needed = sizes.iter().map(|(_, size)| size).sum();
    match sizes.iter().max_by_key(|(_, size)| *size) {
        Some((what, _)) if needed > MEMORY_BUDGET => Err(TooLarge::Memory { needed, what }),
        _ => Ok(()),
    }
}

/// The addresses from which errors are sent about packets to others: the interface's first of each family, a link-local one only
/// if there is no other. Zeros where there is none.
fn error_sources(interface: &Interface) -> (u32, [u64; 2]) {
    let addresses = || interface.addresses.iter().map(|(address, _)| *address);
    let v4 =
        addresses().find_map(|address| if let IpAddr::V4(address) = address { Some(address) } else { None });
    let v6: Vec<_> = addresses()
        .filter_map(|address| if let IpAddr::V6(address) = address { Some(address) } else { None })
        .collect();
    let v6 = v6.iter().find(|address| !address.is_unicast_link_local()).or(v6.first());
    let octets = v6.map_or([0; 16], |address| address.octets());
    let (halves, _) = octets.as_chunks();
    (v4.map_or(0, |address| u32::from_ne_bytes(address.octets())), words([halves[0], halves[1]]))
}

/// An interface's name, with zeros behind it; the kernel has no longer ones.
fn interface_name(name: &str) -> [u64; 2] {
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
    let (halves, _) = bytes.as_chunks();
    words([halves[0], halves[1]])
}

/// What extended echo replies say of an interface: it is active, or the program would not run.
fn interface_state(interface: &Interface) -> u8 {
    let mut state = ACTIVE;
    for (address, _) in &interface.addresses {
        state |= if address.is_ipv4() { RUNS_IPV4 } else { RUNS_IPV6 };
    }
    state
}

/// The kinds of both families, on the heap from the beginning.
fn both_kinds(v4: &[u16], v6: &[u16]) -> Box<Kinds> {
    let mut kinds: Box<Kinds> = vec![[0_u16; 1 << 16]; 2].try_into().unwrap_or_else(|_| unreachable!());
    kinds[0].copy_from_slice(v4);
    kinds[1].copy_from_slice(v6);
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Respond, file};
    use icmp_common::tables::{CACHE_LINE, LINES, Line6, Range6};

    fn tables(prefixes: Vec<Prefix>) -> Result<Tables, TooLarge> {
        // Where they are not counted, prefixes that cover each other are one.
        let respond = Respond { prefixes, count: false, ..Respond::default() };
        let policy = Policy { respond, ..Policy::default() };
        let interface = Interface { mac: [2; 6], ..Interface::default() };
        Tables::compile(&policy, &interface, &Slots::default())
    }

    #[test]
    fn short_prefixes_take_no_room() {
        let prefixes = ["192.0.0.0/16", "192.0.2.0/24", "192.0.2.1", "2001:db8::/32", "2001:db8:1::/64"];
        let tables = tables(prefixes.map(|text| text.parse().unwrap()).into()).unwrap();
        assert!(tables.roots4[1].iter().all(|cell| cell & LINES == 0));
        // Fallback: ::, behind it, 2001:db8::/32, behind it, multicast. And a run for what begins like ::1.
        let (_, size) = tables.sizes[3];
        assert_eq!(tables.config.tables6[1].fallback_count, 5);
        assert_eq!(size, size_of::<Line6>() + 7 * size_of::<Range6>());
    }

    #[test]
    fn a_host_takes_a_line() {
        let with = |prefixes: &[&str]| {
            tables(prefixes.iter().map(|text| text.parse().unwrap()).collect()).unwrap().sizes[1].1
        };
        assert_eq!(with(&["192.0.2.1"]) - with(&["192.0.0.0/16"]), CACHE_LINE);
    }

    #[test]
    fn refuses_what_takes_too_much_memory() {
        let hosts = (0..1_100_000_u128)
            .map(|number| Prefix::host(IpAddr::V6((0x2000_0000 << 96 | number << 1).into())));
        let error = tables(hosts.collect()).map(|tables| tables.sizes).unwrap_err();
        assert_eq!(error, TooLarge::Run6("destinations"));
    }

    #[test]
    fn more_than_the_budget_is_told_with_what_takes_most() {
        let sizes = |rules| [("IPv4 sources", MEMORY_BUDGET - (1 << 20)), ("rules", rules)];
        assert_eq!(within_budget(&sizes(1 << 20)), Ok(()));
        assert_eq!(
            within_budget(&sizes(2 << 20)).unwrap_err().to_string(),
            "the tables of this policy would take 257 MiB, more than the 256 MiB that a policy may take; most of it is for \
             IPv4 sources: join neighbouring addresses to shorter prefixes"
        );
    }

    /// Why the tables of these rules can't be made.
    fn refusal(rules: impl Iterator<Item = String>) -> String {
        let rules: Vec<String> = rules.collect();
        let policy = file::parse(&format!("acl.rules = '''\n{}'''", rules.join("\n"))).unwrap();
        let interface = Interface { mac: [2; 6], ..Interface::default() };
        let slots = Slots::assign(&policy, &Slots::default()).unwrap();
        Tables::compile(&policy, &interface, &slots).map(|tables| tables.sizes).unwrap_err().to_string()
    }

    #[test]
    fn too_many_combinations_are_told_with_the_rules_that_make_them() {
        // Each rule is about another bit of the address and another type, so that all combinations differ.
        let rules = (0..15).map(|bit| {
            let mask = Ipv4Addr::from_bits(0x7fff & !(1 << bit));
            format!("deny icmp4 any 10.0.0.0 {mask} {}", 44 + bit)
        });
        assert_eq!(
            refusal(rules),
            "the 15 rules that tell apart most sources and destinations (rule 10, rule 20, rule 30, rule 40, rule 50, ...) make \
             more combinations than a policy may have; put addresses that are treated alike into a set, and name the set in one rule"
        );
    }

    #[test]
    fn too_many_scattered_bits_are_told_before_they_take_memory() {
        let rules = (1..18).map(|number| format!("deny icmp4 {number}.0.0.7 0.255.255.0 any"));
        assert_eq!(
            refusal(rules),
            "the wildcard masks of the policy (rule 10, rule 20, rule 30, rule 40, rule 50, ...) stand for more than a million \
             prefixes; let fewer bits before a zero be ones, or put the prefixes that are meant into a set"
        );
    }

    #[test]
    fn too_many_kinds_of_messages_are_told() {
        let with = |bit: u8| {
            let numbers = (0..=u8::MAX).filter(|number| number & 1 << bit != 0);
            format!("{{{}}}", numbers.map(|number| number.to_string()).collect::<Vec<_>>().join(","))
        };
        let rules = (0..8).flat_map(|bit| {
            let with = with(bit);
            [format!("permit icmp4 any any {with}"), format!("permit icmp4 any any 0-255 {with}")]
        });
        let text = refusal(rules);
        assert!(text.starts_with("the rules tell apart ") && text.contains(" kinds of messages"), "{text}");
        assert!(text.ends_with("by type and code, more than a policy may; use ranges"), "{text}");
    }
}
