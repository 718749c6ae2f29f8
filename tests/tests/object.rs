//! The object file: what other loaders need, and what both halves must agree on.

use std::{fs, process::Command};

use aya_obj::{Map, Object};
use icmp_common::{
    config::Config,
    counters::Counters,
    tables::{Chunk4, Line6, Range6},
};
use icmp_tests::{
    icmpctl,
    netns::{Bpffs, run},
};

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
    let program: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((program["name"].as_str(), program["type"].as_str()), (Some("icmpctl"), Some("xdp")));
    assert_eq!(program["gpl_compatible"], true);
    assert!(program["btf_id"].as_u64().is_some(), "{program}");
    assert_eq!(program["map_ids"].as_array().map(Vec::len), Some(5), "{program}");
}

/// The values of its maps are as large as the structures that user space fills them with.
#[test]
#[ignore = "needs the kernel half's object file"]
fn maps_have_the_sizes_of_the_shared_structures() {
    let object = parsed();
    let expected = [
        ("DST4", size_of::<Chunk4>()),
        ("DST6_INDEX", size_of::<Line6>()),
        ("DST6_RANGES", size_of::<Range6>()),
        ("COUNTERS", size_of::<Counters>()),
    ];
    for (name, size) in expected {
        let map = object.maps.get(name).unwrap_or_else(|| panic!("no map {name}"));
        assert_eq!((map.key_size(), map.value_size()), (4, size as u32), "{name}");
    }
    let settings: Vec<_> =
        object.maps.values().filter(|map| map.value_size() == size_of::<Config>() as u32).collect();
    assert_eq!(settings.len() + expected.len() - 1, object.maps.len(), "{:?}", object.maps.keys());
}

/// No legacy map section, which libbpf would refuse: every map stands in `.maps`, with BTF, or is a data section.
#[test]
#[ignore = "needs the kernel half's object file"]
fn maps_are_btf_maps() {
    for (name, map) in &parsed().maps {
        assert!(!matches!(map, Map::Legacy(_)) || name.starts_with('.'), "{name}");
    }
}
