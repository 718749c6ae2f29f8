//! Dynamic sets: entries come and go while a policy runs, and outlive swaps and restarts.
//!
//! What the program sees is read from the pinned maps by bpftool. Times there are sixteenths of a second of the monotonic clock.

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use icmp_tests::{
    icmpctl::wait_until,
    netns::{Lab, SERVER_END, run},
};
use rustix::{
    process::Signal,
    time::{ClockId, clock_gettime},
};
use serde_json::{Value, json};

const TWO_SETS: &str = "[sets]\nbanned = { dynamic = true }\nguests = { dynamic = true }\n";
const FOREVER: u32 = u32::MAX;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A lab with a policy attached that has two dynamic sets.
fn attached() -> Lab {
    let lab = Lab::new();
    attach(&lab);
    lab
}

fn attach(lab: &Lab) {
    let path = lab.policy(TWO_SETS);
    let _ = lab.icmpctl(&["attach", SERVER_END, "--policy", text(&path)]).ok();
}

fn detach(lab: &Lab) {
    let _ = lab.icmpctl(&["detach", SERVER_END]).ok();
    lab.assert_nothing_left();
}

/// Adds or removes without a complaint.
fn set(lab: &Lab, arguments: &[&str]) {
    let _ = lab.icmpctl(&[&["set"][..], arguments].concat()).ok();
}

/// What `set list --json` lists: prefix and seconds left of each entry, by set.
fn listed(lab: &Lab) -> Vec<(String, String, Option<u64>)> {
    let text = lab.icmpctl(&["set", "list", "--json"]).ok();
    let rows: Vec<Value> = serde_json::from_str(&text).unwrap();
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    rows.iter().map(|row| (word(&row["set"]), word(&row["prefix"]), row["left"].as_u64())).collect()
}

/// Sets and prefixes alone.
fn entries(lab: &Lab) -> Vec<(String, String)> {
    listed(lab).into_iter().map(|(set, prefix, _)| (set, prefix)).collect()
}

/// The number that the running policy gives a set.
fn number(lab: &Lab, set: &str) -> usize {
    let program = lab.server.xdp_program(SERVER_END).unwrap().to_string();
    let slots = fs::read_to_string(state(lab).join(program).join("slots.json")).unwrap();
    serde_json::from_str::<Value>(&slots).unwrap()["dynamic"][set].as_u64().unwrap() as usize
}

fn state(lab: &Lab) -> PathBuf {
    fs::read_dir(lab.state()).unwrap().next().unwrap().unwrap().path()
}

/// What the maps hold: for each prefix the ends of all sets.
fn in_maps(lab: &Lab) -> BTreeMap<String, Vec<u32>> {
    let mut all = BTreeMap::new();
    for name in ["dynamic4", "dynamic6"] {
        let text =
            run(Command::new("bpftool").args(["-j", "map", "dump", "pinned"]).arg(lab.pins().join(name)));
        let bytes = |value: &Value| -> Vec<u8> {
            let digits =
                value.as_array().unwrap().iter().map(|byte| byte.as_str().unwrap().trim_start_matches("0x"));
            digits.map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect()
        };
        for entry in serde_json::from_str::<Vec<Value>>(&text).unwrap() {
            let key = bytes(&entry["key"]);
            let (length, address) = key.split_at(4);
            let length = u32::from_ne_bytes(length.try_into().unwrap());
            let address: IpAddr = match <[u8; 4]>::try_from(address) {
                Ok(octets) => octets.into(),
                Err(_) => <[u8; 16]>::try_from(address).unwrap().into(),
            };
            let words = bytes(&entry["value"]);
            let words = words.chunks(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap())).collect();
            all.insert(format!("{address}/{length}"), words);
        }
    }
    all
}

/// The end of a prefix's membership in a set, as the maps have it.
fn until(lab: &Lab, prefix: &str, set: &str) -> u32 {
    in_maps(lab).get(prefix).map_or(0, |words| words[number(lab, set)])
}

/// The monotonic clock in sixteenths of a second.
fn now() -> u32 {
    let now = clock_gettime(ClockId::Monotonic);
    (now.tv_sec * 16 + now.tv_nsec / 62_500_000) as u32
}

#[test]
#[ignore = "needs root and BPF"]
fn entries_come_and_go_at_once() {
    let lab = attached();
    let program = lab.server.xdp_program(SERVER_END);
    assert!(lab.icmpctl(&["set", "list"]).ok().contains("nothing was added"));
    let added = lab.icmpctl(&["set", "add", "banned", "192.0.2.9", "198.51.100.0/24", "2001:db8::/32"]);
    assert!(added.stderr.contains("banned: 3 added"), "{added}");
    let _ = added.ok();
    let again = lab.icmpctl(&["set", "add", "banned", "192.0.2.9", "192.0.2.10", "--iface", SERVER_END]);
    assert!(again.stderr.contains("banned: 1 added, 1 changed"), "{again}");
    set(&lab, &["add", "guests", "198.51.100.7"]);
    let pair = |set: &str, prefix: &str| (set.to_owned(), prefix.to_owned());
    let expected = [
        pair("banned", "192.0.2.9"),
        pair("banned", "192.0.2.10"),
        pair("banned", "198.51.100.0/24"),
        pair("banned", "2001:db8::/32"),
        pair("guests", "198.51.100.7"),
    ];
    assert_eq!(entries(&lab), expected);
    let maps = in_maps(&lab);
    assert_eq!(maps.len(), 5, "{maps:?}");
    for (prefix, banned, guests) in [
        ("192.0.2.9/32", FOREVER, 0),
        ("198.51.100.0/24", FOREVER, 0),
        // What covers it counts for it, too: the longest match is the only one that is looked at.
        ("198.51.100.7/32", FOREVER, FOREVER),
        ("2001:db8::/32", FOREVER, 0),
    ] {
        let words = &maps[prefix];
        assert_eq!(
            (words[number(&lab, "banned")], words[number(&lab, "guests")]),
            (banned, guests),
            "{prefix}"
        );
    }
    set(&lab, &["del", "banned", "198.51.100.0/24"]);
    assert_eq!(
        (until(&lab, "198.51.100.7/32", "banned"), until(&lab, "198.51.100.7/32", "guests")),
        (0, FOREVER)
    );
    assert_eq!(in_maps(&lab).len(), 4);
    let flushed = lab.icmpctl(&["set", "flush", "banned"]);
    assert!(flushed.stderr.contains("banned: 3 removed"), "{flushed}");
    assert_eq!((entries(&lab), in_maps(&lab).len()), (vec![pair("guests", "198.51.100.7")], 1));
    let table = lab.icmpctl(&["set", "list", "guests"]).ok();
    assert!(table.contains("guests  198.51.100.7  -"), "{table}");
    // All of it without another program.
    assert_eq!(lab.server.xdp_program(SERVER_END), program);
    detach(&lab);
}

#[test]
#[ignore = "needs root and BPF"]
fn mistakes_are_named_and_change_nothing() {
    let lab = Lab::new();
    lab.icmpctl(&["set", "add", "banned", "192.0.2.1"]).fails(1, &["attached to no interface"]);
    let path = lab.policy(&format!("{TWO_SETS}trusted = [\"10.0.0.0/8\"]\n"));
    let _ = lab.icmpctl(&["attach", SERVER_END, "--policy", text(&path)]).ok();
    for (arguments, status, parts) in [
        (&["add", "baned", "192.0.2.1"][..], 1, &["has no set baned", "did you mean banned?"][..]),
        (&["add", "somebody", "192.0.2.1"], 1, &["has no set somebody", "banned, guests"]),
        (&["add", "trusted", "192.0.2.1"], 1, &["trusted can't be changed", "dynamic = true"]),
        (&["list", "trusted"], 1, &["dynamic = true"]),
        (&["flush", "flushed"], 1, &["has no set flushed"]),
        (&["del", "banned", "192.0.2.1"], 1, &["192.0.2.1 is not in banned", "icmpctl set list banned"]),
        (&["add", "banned", "192.0.2.1/24"], 2, &["host bits", "192.0.2.0/24"]),
        (&["add", "banned", "192.0.2.1/33"], 2, &["0 to 32"]),
        (&["add", "banned", "nonsense"], 2, &["not an IP address"]),
        (&["add", "banned"], 2, &["<PREFIX>"]),
        (&["add", "banned", "192.0.2.1", "--timeout", "0s"], 2, &["at least 1s"]),
        (&["add", "banned", "192.0.2.1", "--timeout", "soon"], 2, &["30s, 10m"]),
        (&["add", "banned", "192.0.2.1", "--iface", "nosuch0"], 1, &["there is no interface nosuch0"]),
    ] {
        lab.icmpctl(&[&["set"][..], arguments].concat()).fails(status, parts);
        assert!(entries(&lab).is_empty() && in_maps(&lab).is_empty(), "{arguments:?}");
    }
    let path = lab.policy("");
    let _ = lab.icmpctl(&["apply", text(&path)]).ok();
    lab.icmpctl(&["set", "add", "banned", "192.0.2.1"])
        .fails(1, &["none that can be changed", "dynamic = true"]);
    detach(&lab);
}

#[test]
#[ignore = "needs root and BPF"]
fn timeouts_end_entries_and_run_removes_them() {
    let lab = Lab::new();
    let path = lab.policy(TWO_SETS);
    let running = lab.start(&["run", SERVER_END, "--policy", text(&path)]);
    let before = now();
    set(&lab, &["add", "banned", "192.0.2.9", "--timeout", "2s"]);
    set(&lab, &["add", "banned", "192.0.2.10", "--timeout", "1h"]);
    set(&lab, &["add", "banned", "192.0.2.11"]);
    let after = now();
    for (prefix, seconds) in [("192.0.2.9/32", 2), ("192.0.2.10/32", 3600)] {
        let until = until(&lab, prefix, "banned");
        let expected = before + seconds * 16..=after + seconds * 16 + 2;
        assert!(expected.contains(&until), "{prefix}: {until} is not in {expected:?}");
    }
    assert_eq!(until(&lab, "192.0.2.11/32", "banned"), FOREVER);
    let left: Vec<_> = listed(&lab).into_iter().map(|(_, _, left)| left).collect();
    assert!(left[0].unwrap() <= 2 && (3590..=3600).contains(&left[1].unwrap()), "{left:?}");
    assert_eq!(left[2], None);
    let table = lab.icmpctl(&["set", "list"]).ok();
    assert!(table.contains("1h0m") || table.contains("59m"), "{table}");
    thread::sleep(Duration::from_secs(2));
    // It is over at once, and removed a little later.
    assert_eq!(entries(&lab).len(), 2);
    wait_until(|| in_maps(&lab).len() == 2);
    // A longer life, and one without an end, replace the former one.
    set(&lab, &["add", "banned", "192.0.2.10"]);
    assert_eq!(until(&lab, "192.0.2.10/32", "banned"), FOREVER);
    set(&lab, &["add", "banned", "192.0.2.10", "--timeout", "10m"]);
    assert!(until(&lab, "192.0.2.10/32", "banned") < now() + 601 * 16);
    running.signal(Signal::INT);
    let _ = running.wait().ok();
    lab.assert_nothing_left();
}

#[test]
#[ignore = "needs root and BPF"]
fn entries_survive_swaps_by_the_name_of_their_set() {
    let lab = attached();
    set(&lab, &["add", "banned", "192.0.2.9"]);
    set(&lab, &["add", "guests", "192.0.2.10", "--timeout", "1h"]);
    let end = until(&lab, "192.0.2.10/32", "guests");
    // Another set comes in front, one goes.
    let new = lab.files.path().join("new.toml");
    fs::write(&new, "[sets]\nabout = { dynamic = true }\nguests = { dynamic = true }\n").unwrap();
    let said = lab.icmpctl(&["apply", text(&new)]).ok();
    assert!(said.lines().any(|line| line == "dynamic set banned goes, with 1 entry"), "{said}");
    assert_eq!(entries(&lab), [("guests".to_owned(), "192.0.2.10".to_owned())]);
    assert!(until(&lab, "192.0.2.10/32", "guests").abs_diff(end) <= 2);
    assert_eq!((in_maps(&lab).len(), until(&lab, "192.0.2.10/32", "about")), (1, 0));
    set(&lab, &["add", "about", "192.0.2.0/24"]);
    // The set that went comes back empty.
    let path = lab.policy(TWO_SETS);
    let _ = lab.icmpctl(&["apply", text(&path)]).ok();
    assert_eq!(entries(&lab), [("guests".to_owned(), "192.0.2.10".to_owned())]);
    assert_eq!((in_maps(&lab).len(), until(&lab, "192.0.2.10/32", "banned")), (1, 0));
    detach(&lab);
}

/// What a rollback brings back has its entries again.
#[test]
#[ignore = "needs root and BPF"]
fn a_rollback_brings_entries_back() {
    let lab = attached();
    set(&lab, &["add", "banned", "192.0.2.9"]);
    let slot = number(&lab, "banned");
    let new = lab.files.path().join("new.toml");
    fs::write(&new, "[sets]\nguests = { dynamic = true }\n").unwrap();
    let _ = lab.icmpctl(&["apply", text(&new), "--confirm", "1h"]).ok();
    assert!(entries(&lab).is_empty() && in_maps(&lab).is_empty());
    set(&lab, &["add", "guests", "192.0.2.10"]);
    let _ = lab.icmpctl(&["confirm", "--rollback"]).ok();
    assert_eq!(number(&lab, "banned"), slot);
    assert_eq!(
        (until(&lab, "192.0.2.9/32", "banned"), until(&lab, "192.0.2.10/32", "guests")),
        (FOREVER, FOREVER)
    );
    // Once it is confirmed, what left is gone.
    let _ = lab.icmpctl(&["apply", text(&new), "--confirm", "1h"]).ok();
    let _ = lab.icmpctl(&["confirm"]).ok();
    let path = lab.policy(TWO_SETS);
    let _ = lab.icmpctl(&["apply", text(&path)]).ok();
    assert_eq!(entries(&lab), [("guests".to_owned(), "192.0.2.10".to_owned())]);
    detach(&lab);
}

#[test]
#[ignore = "needs root and BPF"]
fn entries_survive_restarts_with_what_time_remains() {
    let lab = attached();
    set(&lab, &["add", "banned", "192.0.2.9", "--timeout", "3s"]);
    set(&lab, &["add", "banned", "192.0.2.10", "--timeout", "1h"]);
    set(&lab, &["add", "guests", "2001:db8::9"]);
    let end = until(&lab, "192.0.2.10/32", "banned");
    detach(&lab);
    thread::sleep(Duration::from_secs(3));
    attach(&lab);
    assert_eq!(entries(&lab).len(), 2);
    assert!(until(&lab, "192.0.2.10/32", "banned").abs_diff(end) <= 2);
    assert_eq!((until(&lab, "2001:db8::9/128", "guests"), in_maps(&lab).len()), (FOREVER, 2));
    detach(&lab);
}

/// Killed between the file and the maps, a change is finished by the next one.
#[test]
#[ignore = "needs root and BPF"]
fn maps_are_mended_by_the_next_change() {
    let lab = attached();
    set(&lab, &["add", "banned", "192.0.2.9"]);
    let file = state(&lab).join("dynamic.json");
    let mut written: Vec<Value> = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    written[0] = json!({"set": "banned", "prefix": "192.0.2.10", "until": null});
    fs::write(&file, Value::from(written).to_string()).unwrap();
    set(&lab, &["add", "banned", "192.0.2.11"]);
    let maps = in_maps(&lab);
    assert_eq!(maps.keys().collect::<Vec<_>>(), ["192.0.2.10/32", "192.0.2.11/32"]);
    detach(&lab);
}

#[test]
#[ignore = "needs root and BPF"]
fn garbage_for_entries_is_refused() {
    let lab = attached();
    set(&lab, &["add", "banned", "192.0.2.9"]);
    let file = state(&lab).join("dynamic.json");
    for garbage in ["", "{\"a\": 1}", "[{\"set\": \"banned\", \"prefix\": \"x\", \"until\": 1}]", "\u{0}"] {
        fs::write(&file, garbage).unwrap();
        let said = format!("{} makes no sense", file.display());
        for verb in [&["add", "banned", "192.0.2.1"][..], &["flush", "banned"], &["list"]] {
            lab.icmpctl(&[&["set"][..], verb].concat()).fails(1, &[&said, "move it away"]);
        }
        let path = lab.policy(TWO_SETS);
        let program = lab.server.xdp_program(SERVER_END);
        lab.icmpctl(&["apply", text(&path)]).fails(1, &[&said]);
        assert_eq!(lab.server.xdp_program(SERVER_END), program);
        // What it said before goes on.
        assert_eq!(until(&lab, "192.0.2.9/32", "banned"), FOREVER);
    }
    // Where it does not matter it is no obstacle.
    let path = lab.policy("");
    let _ = lab.icmpctl(&["apply", text(&path)]).ok();
    assert!(in_maps(&lab).is_empty());
    detach(&lab);
}

#[test]
#[ignore = "needs root and BPF"]
fn more_entries_than_there_is_room_for_are_refused() {
    let lab = attached();
    set(&lab, &["add", "banned", "203.0.113.1"]);
    let file = state(&lab).join("dynamic.json");
    let later = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64 + 600_000;
    let all: Vec<_> = (0..1_u32 << 16)
        .map(|number| {
            let address = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
            json!({"set": "banned", "prefix": address.to_string(), "until": later})
        })
        .collect();
    fs::write(&file, Value::from(all).to_string()).unwrap();
    // The other family has its own room; what is in one set may be in another one as well.
    set(&lab, &["add", "banned", "2001:db8::1"]);
    set(&lab, &["add", "guests", "10.0.0.1"]);
    assert_eq!(in_maps(&lab).len(), (1 << 16) + 1);
    let said = ["65537 different ipv4 prefixes", "65536 are the most"];
    lab.icmpctl(&["set", "add", "guests", "192.0.2.1"]).fails(1, &said);
    assert_eq!(entries(&lab).len(), (1 << 16) + 2);
    // In a full map one may go and another one come.
    set(&lab, &["del", "banned", "10.0.0.0"]);
    set(&lab, &["add", "guests", "192.0.2.1"]);
    assert_eq!(until(&lab, "192.0.2.1/32", "guests"), FOREVER);
    set(&lab, &["flush", "banned"]);
    assert_eq!(in_maps(&lab).len(), 2);
    detach(&lab);
}
