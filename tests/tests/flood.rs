//! A full flood through veth: every frame of it is accounted for, to the packet, by what the program counts, by what the veth pair
//! dropped, and by what arrives.

use std::time::{Duration, Instant};

use icmp_common::Family;
use icmp_tests::{
    flood::Flood,
    netns::{Lab, SERVER_END},
    seed,
};
use serde_json::Value;

/// Of 256 sources the first half is denied, and half of the others limited.
const POLICY: &str = "acl.rules = \"\"\"\n\
                      deny icmp4 10.0.0.0/25 any\ndeny icmp6 2001:db8:a::/121 any\n\
                      limit 100/s burst 100 per source icmp4 10.0.0.128/26 any\n\
                      limit 100/s burst 100 per source icmp6 2001:db8:a::80/122 any\n\"\"\"\n";

/// How long what is on its way may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// What `stats --json` says of a family, its totals and its reasons.
fn counted(lab: &Lab, family: Family) -> (Value, Vec<(String, u64)>) {
    let statistics = lab.statistics();
    let of = |list: &str| {
        let rows = statistics[list].as_array().unwrap().iter();
        rows.filter(|row| row["family"] == family.name()).cloned().collect::<Vec<_>>()
    };
    let reasons = of("reasons")
        .into_iter()
        .map(|row| (row["reason"].as_str().unwrap().to_owned(), row["packets"].as_u64().unwrap()));
    (of("totals").remove(0), reasons.filter(|(_, packets)| *packets != 0).collect())
}

fn every_packet_is_accounted_for(family: Family) {
    let time = Duration::from_secs(if seed::is_long() { 60 } else { 3 });
    let lab = Lab::new();
    let mut flood = Flood::new(family, 256);
    flood.count_replies(&lab);
    let path = lab.policy(POLICY);
    let _ = lab.icmpctl(&["attach", SERVER_END, "--mode", "native", "--policy", path.to_str().unwrap()]).ok();
    let sent = flood.send(&lab, 0, time);
    let begin = Instant::now();
    loop {
        let (totals, reasons) = counted(&lab, family);
        let [lost_requests, lost_replies] = lab.dropped();
        let replies = flood.replies();
        let packets =
            |name: &str| reasons.iter().find(|(reason, _)| reason == name).map_or(0, |(_, packets)| *packets);
        let [echo, denied, limited] = ["echo", "denied", "over-limit"].map(packets);
        let accounted = sent == echo + denied + limited + lost_requests && echo == replies + lost_replies;
        if !accounted && begin.elapsed() < PATIENCE {
            continue;
        }
        println!(
            "{sent} sent, {lost_requests} dropped; {echo} answered, {denied} denied, {limited} limited; {replies} arrived, \
             {lost_replies} dropped"
        );
        assert_eq!(sent, echo + denied + limited + lost_requests);
        assert_eq!(echo, replies + lost_replies);
        // Nothing else is counted but what the stacks themselves have to say, of multicast membership behind a hop-by-hop header.
        let known = ["echo", "denied", "over-limit", "other-type", "extension-header"];
        assert!(reasons.iter().all(|(reason, _)| known.contains(&&**reason)), "{reasons:?}");
        let parts = ["answered", "passed", "denied", "limited", "malformed"];
        let parts: u64 = parts.iter().map(|part| totals[part].as_u64().unwrap()).sum();
        assert_eq!(totals["received"], parts);
        assert_eq!(
            (&totals["answered"], &totals["denied"], &totals["limited"]),
            (&echo.into(), &denied.into(), &limited.into())
        );
        assert!(denied > sent / 4 && limited > sent / 16 && echo > sent / 16, "{reasons:?} of {sent}");
        return;
    }
}

#[test]
#[ignore = "needs root and BPF"]
fn c94_every_packet_of_an_ipv4_flood_is_accounted_for() {
    every_packet_is_accounted_for(Family::Ipv4);
}

#[test]
#[ignore = "needs root and BPF"]
fn c94_every_packet_of_an_ipv6_flood_is_accounted_for() {
    every_packet_is_accounted_for(Family::Ipv6);
}
