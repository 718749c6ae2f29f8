//! `icmpctl stats --limits`: what was within each rate and what over it; and what becomes of buckets when policies change.

use std::{fs, path::PathBuf};

use icmp_tests::{
    netns::{Lab, SERVER_END, SERVER4},
    ping::ping,
};
use serde_json::Value;

/// Three pings an hour from each source, and what else a policy has.
fn policy(lab: &Lab, name: &str, more: &str) -> PathBuf {
    let path = lab.files.path().join(name);
    let rules = "limit 1/h burst 3 per source, 100/s per rule icmp any any echo";
    fs::write(&path, format!("{more}\n[acl]\nrules = '{rules}'\n")).unwrap();
    path
}

fn apply(lab: &Lab, path: &std::path::Path) {
    let _ = lab.icmpctl(&["apply", SERVER_END, path.to_str().unwrap()]).ok();
}

/// How many of so many pings are answered.
fn answered(lab: &Lab, pings: u32) -> u64 {
    ping(&lab.client, &format!("-c {pings} {SERVER4}")).1
}

/// Within and over, by rate, and the table.
fn listed(lab: &Lab) -> (Vec<(Option<u64>, u64)>, Value) {
    let said: Value = serde_json::from_str(&lab.icmpctl(&["stats", "--limits", "--json"]).ok()).unwrap();
    let limits = &said[0]["limits"];
    let rates = limits["rates"].as_array().unwrap();
    let row = |row: &Value| (row["within"].as_u64(), row["over"].as_u64().unwrap());
    (rates.iter().map(row).collect(), limits["table"].clone())
}

#[test]
#[ignore = "needs root and BPF"]
fn rates_are_listed_and_buckets_stay() {
    let lab = Lab::new();
    let path = policy(&lab, "policy.toml", "");
    let _ = lab.icmpctl(&["attach", SERVER_END, "--policy", path.to_str().unwrap()]).ok();
    assert_eq!(answered(&lab, 5), 3);
    // What is over the first rate does not come to the second; the last two rates are those of errors.
    let (rates, table) = listed(&lab);
    assert_eq!(rates, [(Some(3), 2), (Some(3), 0), (None, 0), (None, 0)]);
    assert_eq!((&table["buckets"], &table["given_way"]), (&131_072.into(), &0.into()));
    assert!((1..=2).contains(&table["in_use"].as_u64().unwrap()), "{table}");
    assert_eq!(lab.counted("ipv4", "over-limit"), 2);
    let text = lab.icmpctl(&["stats", SERVER_END, "--limits"]).ok();
    let cells = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let line = text.lines().map(cells).find(|cells| cells.first().is_some_and(|cell| cell == "10"));
    assert_eq!(line.unwrap()[..4], ["10", "file", "3", "2"], "{text}");

    // Another policy with the same rule: whoever was over is over.
    apply(&lab, &policy(&lab, "other.toml", "respond.ttl = 99"));
    assert_eq!(answered(&lab, 2), 0);
    assert_eq!(listed(&lab).0[0], (Some(3), 4));

    // Another number of buckets: all are full.
    apply(&lab, &policy(&lab, "fewer.toml", "limits.buckets = 1024"));
    assert_eq!(answered(&lab, 5), 3);
    let (rates, table) = listed(&lab);
    assert_eq!((rates[0], &table["buckets"]), ((Some(6), 6), &1024.into()));
    let _ = lab.icmpctl(&["detach", SERVER_END]).ok();
    lab.assert_nothing_left();
}
