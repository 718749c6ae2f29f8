//! Limits before real floods: what the loaded program lets through of them, what becomes of a client beside them, and what it costs
//! in memory; and that buckets survive a change of the policy.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use icmp_common::Family::Ipv4;
use icmp_tests::{
    flood::Flood,
    frames::Ping4,
    host::interface,
    loaded::Loaded,
    netns::{CLIENT_END, Lab, SERVER4, SERVER6, run},
    ping::ping,
};
use icmp_userspace::{
    kernel::load::KEPT,
    policy::{
        compile::Tables,
        file,
        slots::{Slots, over_text},
    },
};
use serde_json::Value;

fn rules(rules: &str) -> String {
    format!("acl.rules = \"\"\"\n{rules}\n\"\"\"\n")
}

/// What `stats --limits --json` says of each rate of the rules: packets within, and over.
fn limits(lab: &Lab) -> Vec<[u64; 2]> {
    let text = lab.icmpctl(&["stats", "--limits", "--json"]).ok();
    let all: Value = serde_json::from_str(&text).unwrap();
    let rates = all[0]["limits"]["rates"].as_array().unwrap_or_else(|| panic!("{text}"));
    let of_rules = rates.iter().filter(|rate| !rate["number"].is_null());
    of_rules.map(|rate| ["within", "over"].map(|key| rate[key].as_u64().unwrap())).collect()
}

/// Bytes of memory that the kept maps take.
fn memory(lab: &Lab) -> Vec<u64> {
    let bytes = |pin: &str| {
        let path = lab.pins().join(pin);
        let text = run(Command::new("bpftool").args(["-j", "map", "show", "pinned"]).arg(path));
        let map: Value = serde_json::from_str(&text).unwrap();
        map["bytes_memlock"].as_u64().unwrap()
    };
    KEPT.iter().map(|map| bytes(map.pin)).collect()
}

/// How long a kernel may go on with other things before it comes back from a test run.
const PAUSE: f64 = 0.1;

/// Whether so many packets are what may pass in some time, within 2 % and a token for each of so many buckets.
fn is_exact(passed: u64, buckets: f64, may: impl Fn(f64) -> f64, time: f64) -> bool {
    (0.98 * may(time - PAUSE) - buckets..=1.02 * may(time) + buckets).contains(&(passed as f64))
}

/// C89, C90: a flood from so many sources; each gets its burst, and then its rate. The memory stays what it was.
fn flood_is_limited(sources: u32, rate: u64, burst: u64, least: Duration) {
    let lab = Lab::attached(
        "native",
        &rules(&format!("limit {rate}/s burst {burst} per source icmp any any echo")),
    );
    let before = memory(&lab);
    let mut flood = Flood::new(Ipv4, sources);
    let begin = Instant::now();
    let sent = flood.send(&lab, 0, least);
    let time = begin.elapsed().as_secs_f64();
    let [[within, over]] = limits(&lab)[..] else { panic!("one rate") };
    println!("{sources} sources: {sent} sent in {time} s, {within} within, {over} over");
    assert!(over > within, "this was no flood");
    let may = |time| f64::from(sources) * (burst as f64 + rate as f64 * time);
    assert!(is_exact(within, f64::from(sources), may, time), "{within} of {}", may(time));
    assert_eq!(lab.counted("ipv4", "over-limit"), over);
    assert_eq!(memory(&lab), before);
}

#[test]
#[ignore = "needs root and BPF"]
fn c89_flood_from_one_source_is_limited() {
    flood_is_limited(1, 1000, 1000, Duration::from_secs(3));
}

#[test]
#[ignore = "needs root and BPF"]
fn c89_flood_from_16_sources_is_limited() {
    flood_is_limited(16, 500, 500, Duration::from_secs(3));
}

#[test]
#[ignore = "needs root and BPF"]
fn c89_c90_flood_from_16384_sources_is_limited() {
    flood_is_limited(1 << 14, 8, 40, Duration::from_secs(4));
}

/// C90: a million sources, of which each may send once: each does, and no more, as long as there is a bucket for each.
#[test]
#[ignore = "needs root and BPF"]
fn c90_flood_from_a_million_sources_is_limited() {
    let sources: u32 = 1 << 20;
    let policy = rules("limit 1/h burst 1 per source icmp any any echo") + "limits.buckets = 8388608\n";
    let lab = Lab::attached("native", &policy);
    let before = memory(&lab);
    // What a full ring drops of the first round, comes in the next ones.
    let sent = Flood::new(Ipv4, sources).send(&lab, 4 * u64::from(sources), Duration::ZERO);
    let [[within, over]] = limits(&lab)[..] else { panic!("one rate") };
    println!("{sent} sent, {within} within, {over} over");
    assert!(over > u64::from(sources));
    let part = within as f64 / f64::from(sources);
    assert!((0.98..=1.02).contains(&part), "{within} of {sources}");
    assert_eq!(memory(&lab), before);
}

/// C90: a client that keeps to its limit loses nothing to it while a flood from a million sources goes on beside it.
#[test]
#[ignore = "needs root and BPF"]
fn c90_honest_client_is_not_limited_beside_a_spoofed_flood() {
    let lab = Lab::attached(
        "native",
        &rules(
            "limit 1000/s burst 20 per source icmp 192.0.2.0/24 any echo\nlimit 2/s burst 2 per source icmp any any echo",
        ),
    );
    // So many that the table has not got a bucket for each.
    let mut flood = Flood::new(Ipv4, 1 << 20);
    let (sent, (pinged, answered)) = thread::scope(|scope| {
        let flooding = scope.spawn(|| flood.send(&lab, 0, Duration::from_secs(6)));
        thread::sleep(Duration::from_millis(300));
        let pings = ping(&lab.client, &format!("-q -i 0.002 -c 2500 {SERVER4}"));
        (flooding.join().unwrap(), pings)
    });
    let [[within, over], flood] = limits(&lab)[..] else { panic!("two rates") };
    println!("{pinged} pings, {within} within, {over} over, {answered} answered; flood of {sent}: {flood:?}");
    assert!(within >= 1000 && over * 1000 < within, "{over} of {within} pings were limited");
    // Rings that are full drop what they will, but nothing else is lost.
    assert!(answered <= within && answered + lab.dropped()[1] >= within, "{answered} of {within}");
    assert!(flood.iter().sum::<u64>() > 1_000_000, "this was no flood");
}

/// Buckets stay as they are while the policy changes around their rule, and begin anew where it changes.
#[test]
#[ignore = "needs root and BPF"]
fn limits_survive_a_change_of_the_policy() {
    for per in ["per source", "per destination", "per rule"] {
        let rule = |rate: u32| format!("limit {rate}/h burst 5 {per} icmp any any echo");
        let lab = Lab::attached("native", &rules(&rule(1)));
        let pings = || [SERVER4, SERVER6].map(|server| ping(&lab.client, &format!("-c 7 {server}")).1);
        // What all share is one bucket for both families.
        let fresh = if per == "per rule" { [5, 0] } else { [5, 5] };
        assert_eq!(pings(), fresh, "{per}");
        let apply = |text: &str| {
            let path = lab.policy(text);
            let _ = lab.icmpctl(&["apply", path.to_str().unwrap()]).ok();
        };
        apply(&rules(&format!("deny icmp any any redirect\n{}", rule(1))));
        assert_eq!(pings(), [0, 0], "{per}: who was over its limit still is");
        apply(&rules(&rule(2)));
        assert_eq!(pings(), fresh, "{per}: nobody has used any of the new limit");
        assert!(lab.client.xdp_program(CLIENT_END).is_some());
    }
}

/// C89, on N CPUs: what several threads get out of one bucket, by themselves or through the purses of their CPUs, is what one would.
#[test]
#[ignore = "needs root and BPF"]
fn c89_threads_on_one_key_share_its_limit() {
    let time = Duration::from_secs(1);
    // No more than slow and busy machines are over, too.
    for (rate, burst) in [(1000, 500), (20_000, 10_000), (200_000, 100_000)] {
        for per in ["per source", "per destination", "per rule"] {
            for threads in [2, 4] {
                let rule = format!("limit {rate}/s burst {burst} {per} icmp any any");
                let policy = file::parse(&rules(&rule)).unwrap();
                let rule = policy.acl.rules[0].to_string();
                let slots = Slots::assign(&policy, &Slots::default()).unwrap();
                let mut loaded = Loaded::new(&Tables::compile(&policy, &interface(), &slots).unwrap());
                // No request, so that it stays what it is.
                let frame = Ping4 { icmp_type: 0, ..Ping4::default() }.frame();
                let begin = Instant::now();
                loaded.run_on_threads(threads, time, &frame);
                let time = begin.elapsed().as_secs_f64();
                let counts = loaded.rules();
                let [all, over] =
                    [&rule, &over_text(&rule, 0)].map(|text| counts.slot(slots.rule(text).unwrap()));
                let passed = all - over;
                let may = |time| f64::from(burst) + f64::from(rate) * time;
                println!("{rule}, {threads} threads: {passed} of {}; {all} in all", may(time));
                assert!(
                    over > passed / 10 && is_exact(passed, 1.0, may, time),
                    "{passed}: {rule}, {threads}"
                );
            }
        }
    }
}
