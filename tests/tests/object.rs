//! The object file: what other loaders need, and what both halves must agree on.

use std::{collections::BTreeMap, fs, mem::offset_of, process::Command};

use aya_obj::{Map, Object};
use icmp_common::{
    bans::{BanLengths, BanLine},
    config::{AclConfig, Config, Ranks, Table6Config},
    counters::{Amount, Counters, RuleCounters},
    dynamic::Membership,
    events::{Captured, Channel, ChannelFamily, Event, Logged, Scratch, Telling, Told},
    limits::Purses,
    messages::TYPES,
    tables::{Hosts, Kinds, Line, Root4},
};
use icmp_tests::{
    icmpctl,
    netns::{Bpffs, run},
};
use serde_json::Value;

fn parsed() -> Object {
    Object::parse(&fs::read(icmpctl::object()).unwrap()).unwrap()
}

/// libbpf loads it as it is, by way of bpftool, with BTF for its program and its maps.
#[test]
#[ignore = "needs root and BPF"]
fn libbpf_loads_the_object() {
    let bpffs = Bpffs::new();
    let pin = bpffs.path().join("program");
    run(Command::new("bpftool")
        .args(["prog", "load"])
        .arg(icmpctl::object())
        .arg(&pin)
        .args(["type", "xdp"]));
    let text = run(Command::new("bpftool").args(["-j", "prog", "show", "pinned"]).arg(&pin));
    let program: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((program["name"].as_str(), program["type"].as_str()), (Some("icmpctl"), Some("xdp")));
    assert_eq!(program["gpl_compatible"], true);
    assert!(program["btf_id"].as_u64().is_some(), "{program}");
    assert_eq!(program["map_ids"].as_array().map(Vec::len), Some(14), "{program}");
}

/// The values of its maps are as large as the structures that user space fills them with.
#[test]
#[ignore = "needs the kernel half's object file"]
fn maps_have_the_sizes_of_the_shared_structures() {
    let found: BTreeMap<_, _> = parsed()
        .maps
        .into_iter()
        .map(|(name, map)| (name, (map.key_size(), map.value_size() as usize)))
        .collect();
    let expected = BTreeMap::from([
        (".bss", (4, 2 * size_of::<Line>())),
        ("COUNTERS", (4, size_of::<Counters>())),
        ("RULES", (4, size_of::<RuleCounters>())),
        ("TELLING", (4, size_of::<Telling>())),
        ("EVENTS", (0, 0)),
        ("CAPTURED", (0, 0)),
        ("SAMPLED", (0, 0)),
        ("SCRATCH", (4, size_of::<Scratch>())),
        ("DYNAMIC4", (8, size_of::<Membership>())),
        ("DYNAMIC6", (20, size_of::<Membership>())),
        ("BUCKETS", (4, size_of::<Line>())),
        ("BANS", (4, size_of::<BanLine>())),
        ("PURSES", (4, size_of::<Purses>())),
        (
            ".rodata",
            (
                4,
                size_of::<Config>()
                    + size_of::<Hosts>()
                    + size_of::<Kinds>()
                    + 2 * size_of::<Root4>()
                    + size_of_val(&TYPES),
            ),
        ),
    ]);
    assert_eq!(found, expected.into_iter().map(|(name, sizes)| (name.to_owned(), sizes)).collect());
}

/// Sizes and offsets of a structure's fields in BTF, in bytes.
fn layout(btf: &Value, name: &str) -> (u64, BTreeMap<String, u64>) {
    let types = btf["types"].as_array().unwrap().iter();
    let mut structures = types.filter(|kind| kind["kind"] == "STRUCT" && kind["name"] == name);
    let structure = structures.next().unwrap_or_else(|| panic!("no structure {name}"));
    let members = structure["members"].as_array().unwrap().iter();
    let offset = |member: &Value| member["bits_offset"].as_u64().unwrap() / 8;
    let offsets = members.map(|member| (member["name"].as_str().unwrap().to_owned(), offset(member)));
    (structure["size"].as_u64().unwrap(), offsets.collect())
}

/// Demands that a structure in the object's BTF is laid out as on the host.
macro_rules! same_layout {
    ($btf:expr, $structure:ident { $($field:ident),+ }) => {
        let fields = [$((stringify!($field).to_owned(), offset_of!($structure, $field) as u64)),+];
        let here = (size_of::<$structure>() as u64, BTreeMap::from(fields));
        assert_eq!(layout($btf, stringify!($structure)), here);
    };
}

/// Every field of a shared structure stands where user space believes it does.
#[test]
#[ignore = "needs the kernel half's object file"]
fn shared_structures_have_the_same_layout_in_btf() {
    let text = run(Command::new("bpftool").args(["-j", "btf", "dump", "file"]).arg(icmpctl::object()));
    let btf: Value = serde_json::from_str(&text).unwrap();
    same_layout!(
        &btf,
        Config {
            interface_mac,
            abi_version,
            ttl,
            enabled,
            verify_checksum,
            next_hop,
            source6,
            source4,
            facts,
            ban_set,
            timestamp,
            traceroute,
            tables_last,
            entries,
            tables6,
            rates,
            error_rate,
            bucket_mask,
            jiffy,
            longest_span,
            bucket_secret,
            evicted_slot,
            tai_offset,
            interface_index,
            probe,
            interface_state,
            logs,
            counts_served,
            served,
            log,
            reserved,
            interface_name,
            ranks,
            ban_lengths,
            acl,
            channels
        }
    );
    same_layout!(
        &btf,
        AclConfig {
            rules,
            sources,
            destinations,
            kind_bits,
            by_source,
            by_destination,
            by_pair,
            blocks,
            rows,
            pairs
        }
    );
    same_layout!(&btf, Ranks { host, own, probing });
    same_layout!(&btf, Table6Config { index, ranges, index_mask, fallback_count });
    same_layout!(&btf, BanLengths { mask6, mask4, length4, length6, reserved });
    same_layout!(&btf, Hosts { v6, v4, class6, class4 });
    same_layout!(&btf, Membership { until });
    same_layout!(&btf, RuleCounters { amounts });
    same_layout!(&btf, Amount { packets, bytes });
    same_layout!(&btf, Counters { packets, messages });
    same_layout!(&btf, Telling { event, pending, window, used, slot, told, captured, rules });
    same_layout!(
        &btf,
        Event {
            time,
            source,
            destination,
            slot,
            interface,
            suppressed,
            length,
            vlan,
            family,
            reason,
            icmp_type,
            code,
            flags,
            reserved
        }
    );
    same_layout!(&btf, Told { told, suppressed, lost });
    same_layout!(&btf, Logged { seen, window, used, suppressed });
    same_layout!(&btf, Channel { on, reserved, snaplen, per_jiffy, slot, reasons, families });
    same_layout!(&btf, ChannelFamily { types, source, source_mask, destination, destination_mask });
    same_layout!(&btf, Scratch { pending, jiffy, used, reserved, captured, bytes });
    same_layout!(
        &btf,
        Captured { time, slot, interface, length, captured, family, reason, leaves, reserved }
    );
}

/// No legacy map section, which libbpf would refuse: every map stands in `.maps`, with BTF, or is a data section.
#[test]
#[ignore = "needs the kernel half's object file"]
fn maps_are_btf_maps() {
    for (name, map) in &parsed().maps {
        assert!(!matches!(map, Map::Legacy(_)) || name.starts_with('.'), "{name}");
    }
}
