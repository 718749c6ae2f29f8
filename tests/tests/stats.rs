//! `icmpctl stats --by`: packets by type and code, answers by served prefix, bytes by rule, exactly.

use std::collections::BTreeMap;

use icmp_tests::{
    frames::{Ping4, Ping6},
    icmpctl::wait_until,
    netns::{ANYCAST, ANYCAST4, ANYCAST6, CLIENT_END, Lab, SERVER_END, SERVER4, SERVER6},
    ping::ping,
    port::Port,
};
use serde_json::{Value, json};

const RULES: &str = "10 deny icmp4 any any timestamp-request\n20 permit icmp any any echo";

fn stats(lab: &Lab, by: &str) -> Value {
    let text = lab.icmpctl(&["stats", SERVER_END, "--json", "--by", by]).ok();
    serde_json::from_str::<Value>(&text).unwrap()[0].take()
}

/// Rows by the values of some of their fields.
fn rows(rows: &Value, names: &[&str], values: &[&str]) -> BTreeMap<String, Vec<Value>> {
    let of = |row: &Value, names: &[&str]| names.iter().map(|name| row[name].clone()).collect::<Vec<_>>();
    let rows = rows.as_array().unwrap().iter();
    rows.map(|row| (Value::from(of(row, names)).to_string(), of(row, values))).collect()
}

fn counts(mode: &str) {
    let lab = Lab::attached(mode, &format!("{ANYCAST}\nacl.rules = '''\n{RULES}\n'''"));
    for (address, count) in [(SERVER4, 5), (SERVER6, 4), (ANYCAST4, 3), (ANYCAST6, 2)] {
        assert_eq!(ping(&lab.client, &format!("-c {count} -s 56 {address}")), (count, count));
    }
    let mut port = Port::open(&lab.client, CLIENT_END);
    for (icmp_type, code, count) in [(3, 3, 2), (3, 200, 1), (13, 0, 6), (8, 1, 1), (11, 1, 1), (99, 9, 1)] {
        for _ in 0..count {
            port.send(&Ping4 { icmp_type, code, ..Ping4::default() }.frame());
        }
    }
    port.send(&Ping6 { icmp_type: 129, ..Ping6::default() }.frame());
    // Three fragments each; the stack puts them together and answers.
    assert_eq!(ping(&lab.client, &format!("-c 2 -s 3000 {SERVER4}")), (2, 2));
    wait_until(|| stats(&lab, "type")["totals"][1]["passed"].as_u64().unwrap() >= 1);

    let read = stats(&lab, "type,served,rule");
    let mut types = rows(&read["types"], &["family", "type", "code"], &["name", "packets", "passed"]);
    // The stack's own messages come when they like.
    types.retain(|key, _| !key.starts_with("[\"ipv6\",13") && !key.starts_with("[\"ipv6\",14"));
    let row = |family: &str,
               icmp_type: Option<u8>,
               code: Option<u8>,
               name: Option<&str>,
               packets: u64,
               passed: u64| {
        (json!([family, icmp_type, code]).to_string(), vec![json!(name), json!(packets), json!(passed)])
    };
    let expected = [
        row("ipv4", Some(3), Some(3), Some("port-unreachable"), 2, 2),
        row("ipv4", Some(3), None, Some("unreachable"), 1, 1),
        // Of the two in fragments the first ones.
        row("ipv4", Some(8), Some(0), Some("echo"), 10, 2),
        row("ipv4", Some(8), None, Some("echo"), 1, 1),
        row("ipv4", Some(11), Some(1), Some("reassembly-timeout"), 1, 1),
        row("ipv4", Some(13), Some(0), Some("timestamp-request"), 6, 0),
        row("ipv4", Some(99), None, None, 1, 1),
        row("ipv4", None, None, Some("unknown"), 4, 4),
        row("ipv6", Some(128), Some(0), Some("echo"), 6, 0),
        row("ipv6", Some(129), Some(0), Some("echo-reply"), 1, 1),
    ];
    assert_eq!(types, expected.into());
    // Every packet has one type.
    for (number, family) in ["ipv4", "ipv6"].into_iter().enumerate() {
        let of_family = read["types"].as_array().unwrap().iter().filter(|row| row["family"] == family);
        let sum: u64 = of_family.map(|row| row["packets"].as_u64().unwrap()).sum();
        assert_eq!(read["totals"][number]["received"], sum, "{read}");
    }

    let served = rows(&read["served"], &["prefix"], &["packets", "bytes"]);
    let row = |prefix: &str, packets: u64, bytes: u64| {
        (json!([prefix]).to_string(), vec![json!(packets), json!(bytes)])
    };
    // 56 bytes behind 8 of ICMP and 20 or 40 of IP.
    let expected = [
        row("own", 9, 5 * 84 + 4 * 104),
        row("198.51.100.0/24", 3, 3 * 84),
        row("2001:db8:53::/64", 2, 2 * 104),
    ];
    assert_eq!(served, expected.into());
    let rules = rows(&read["rules"], &["number"], &["packets", "bytes"]);
    assert_eq!(rules["[10]"], [json!(6), json!(6 * 84)]);

    let text = lab.icmpctl(&["stats", "--by", "type,served"]).ok();
    let cells: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    for line in [
        &["TYPE", "CODE", "PACKETS", "PASSED", "NAME"][..],
        &["ipv4", "3", "-", "1", "1", "unreachable"],
        &["ipv4", "-", "-", "4", "4", "unknown"],
        &["SERVED", "ANSWERED", "BYTES"],
        &["198.51.100.0/24", "3", "252"],
    ] {
        assert!(cells.iter().any(|cells| cells == line), "{line:?} is missing in:\n{text}");
    }
    assert!(!text.contains("VERDICT") && !text.contains("ORIGIN"), "{text}");
}

/// C94: whatever becomes of a packet, it is counted by its type and code.
#[test]
#[ignore = "needs root and BPF"]
fn c94_types_and_prefixes_count_exactly_in_native_mode() {
    counts("native");
}

#[test]
#[ignore = "needs root and BPF"]
fn c94_types_and_prefixes_count_exactly_in_generic_mode() {
    counts("generic");
}

/// A policy that does not count answers by prefix.
#[test]
#[ignore = "needs root and BPF"]
fn prefixes_are_not_counted_unless_that_is_wanted() {
    let lab = Lab::attached("generic", "respond.count = false");
    assert_eq!(ping(&lab.client, &format!("-c 2 {SERVER4}")), (2, 2));
    assert_eq!(stats(&lab, "served")["served"], json!([]));
    let text = lab.icmpctl(&["stats", "--by", "served"]).ok();
    assert!(text.contains("respond.count = false") && !text.contains("SERVED"), "{text}");
}
