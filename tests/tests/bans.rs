//! Bans: who is over a limit for too long is in the set `banned`, for a time, and nobody else is (C89, C92).
//!
//! The host build has its clock from the test; the loaded program and real clients take their time.

use std::{
    collections::BTreeSet,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use icmp_ebpf::Reason;
use icmp_tests::{
    frames::{Ping4, Ping6},
    host::{handle_in, tables},
    icmpctl::wait_until,
    loaded::Loaded,
    netns::{CLIENT_END, CLIENT4, Lab, SERVER_END, SERVER4},
    ping::ping,
};
use icmp_userspace::{explain::host::HostState, policy::compile::Tables};
use serde_json::Value;

/// A policy that bans. What is served besides the server's own address does not answer for it: echo from it is limited, too.
fn policy(limit: &str) -> String {
    format!(
        "[respond]\nto = [\"own\", \"198.51.100.0/24\"]\n[sets]\nbanned = {{ dynamic = true }}\n[acl]\nrules = \"\"\"\n\
         permit icmp host 203.0.113.66 any\npermit icmp host 192.0.2.4 any\ndeny icmp set:banned any\nlimit {limit} icmp any any echo\n\"\"\""
    )
}

/// The tables of such a policy, with a secret as a program has it.
fn banning(limit: &str) -> Tables {
    with_secret(&policy(limit))
}

fn with_secret(policy: &str) -> Tables {
    let mut tables = tables(policy);
    tables.config.bucket_secret = [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03];
    tables
}

/// An echo request to the server from an IPv4 address.
fn from4(source: [u8; 4]) -> Vec<u8> {
    let mut ping = Ping4::default();
    ping.ip.source = source;
    ping.frame()
}

/// One from the IPv6 address of this network and host.
fn from6(network: u8, host: u8) -> Vec<u8> {
    let mut ping = Ping6::default();
    (ping.ip.source[7], ping.ip.source[15]) = (network, host);
    ping.frame()
}

/// The host build, and a clock in milliseconds.
struct Host<'a>(HostState<'a>);

impl<'a> Host<'a> {
    fn new(tables: &'a Tables) -> Self {
        let mut state = HostState::new(tables);
        state.now = 1_000_000_000_000;
        Self(state)
    }

    fn reason(&mut self, frame: &[u8]) -> Reason {
        handle_in(&mut self.0, frame).counted.unwrap().1
    }

    fn wait(&mut self, milliseconds: u64) {
        self.0.now += milliseconds * 1_000_000;
    }

    /// Sends a frame every ten milliseconds for a time, and tells after how many milliseconds it was denied first.
    fn flood(&mut self, frame: &[u8], milliseconds: u64) -> Option<u64> {
        let mut denied = None;
        for time in (0..milliseconds).step_by(10) {
            if self.reason(frame) == Reason::Denied {
                denied = denied.or(Some(time));
            }
            self.wait(10);
        }
        denied
    }
}

#[track_caller]
fn assert_within(time: Option<u64>, first: u64, last: u64) {
    assert!(time.is_some_and(|time| (first..=last).contains(&time)), "{time:?} is not in {first}..={last}");
}

const TEN_MINUTES: &str = "10/s burst 20 per source ban 10m after 30s";

/// C89: over the limit for half a minute, and then out for ten minutes; again and again.
#[test]
fn c89_who_is_over_a_limit_for_long_is_banned_and_comes_out_again() {
    let tables = banning(TEN_MINUTES);
    for flooder in [from4([203, 0, 113, 7]), from6(7, 9)] {
        let mut host = Host::new(&tables);
        for _ in 0..3 {
            // The burst lasts for a fifth of a second; to that comes what times are rounded by.
            assert_within(host.flood(&flooder, 31_000), 30_000, 30_400);
            host.wait(600_000 - 2_000);
            assert_eq!(host.reason(&flooder), Reason::Denied);
            host.wait(2_000);
            assert_eq!(host.reason(&flooder), Reason::Echo);
        }
    }
}

/// A pause ends the time, at a rate that is just above the limit's as well as at one far above it.
#[test]
fn a_pause_begins_the_time_anew() {
    let tables = banning(TEN_MINUTES);
    let mut host = Host::new(&tables);
    let flooder = from4([203, 0, 113, 7]);
    for _ in 0..5 {
        assert_eq!(host.flood(&flooder, 25_000), None);
        host.wait(6_000);
    }
    assert_eq!(host.flood(&flooder, 25_000), None);
    // Shorter ones do not.
    host.wait(4_000);
    assert_within(host.flood(&flooder, 10_000), 0, 1_500);
    // Twelve a second: each sixth is over, once the burst is used up.
    let slow = from4([203, 0, 113, 8]);
    let mut denied = None;
    for number in 0..12 * 60_u64 {
        if denied.is_none() && host.reason(&slow) == Reason::Denied {
            denied = Some(number * 1000 / 12);
        }
        host.wait(83);
    }
    assert_within(denied, 38_000, 43_000);
}

/// C92: others are not banned: who keeps to the limit, who is permitted before, what is served or our own.
#[test]
fn c92_nobody_else_is_banned() {
    let tables = banning("10/s burst 20 per source ban 10m after 3s");
    let mut host = Host::new(&tables);
    let flooders = [from4([203, 0, 113, 7]), from6(7, 9)];
    let innocent = [from4([203, 0, 113, 8]), from6(8, 9)];
    let exempt = from4([203, 0, 113, 66]);
    let ours = from4([198, 51, 100, 7]);
    let mut over = 0;
    for round in 0..600 {
        for frame in &flooders {
            let reason = host.reason(frame);
            assert!(round < 350 || reason == Reason::Denied, "{round}: {reason:?}");
        }
        assert_eq!(host.reason(&exempt), Reason::Echo);
        over += usize::from(match host.reason(&ours) {
            Reason::OverLimit => true,
            Reason::Denied => panic!("{round}"),
            _ => false,
        });
        if round % 10 == 0 {
            assert!(innocent.iter().all(|frame| host.reason(frame) == Reason::Echo));
        }
        host.wait(10);
    }
    assert!(over > 500, "{over}");
}

/// The prefix is banned that the rate counts by, but for what in it is our own.
#[test]
fn prefixes_are_banned() {
    let text =
        policy("10/s burst 20 per source/24 ban 10m after 3s").replace("host 203.0.113.66", "203.0.113.0/24");
    let text = text.replace("host 192.0.2.4", "host 2001:db8::4");
    let tables = with_secret(&text);
    let mut host = Host::new(&tables);
    let _ = host.flood(&from4([192, 0, 2, 7]), 4_000);
    assert_eq!(host.reason(&from4([192, 0, 2, 200])), Reason::Denied);
    assert_ne!(host.reason(&from4([192, 0, 3, 7])), Reason::Denied);
    // The server's own address lies in it.
    let mut own = Ping4::default();
    (own.ip.source, own.ip.destination) = ([192, 0, 2, 1], [198, 51, 100, 9]);
    assert_eq!(host.reason(&own.frame()), Reason::Echo);
    // IPv6: a /64 by default.
    let _ = host.flood(&from6(7, 9), 4_000);
    assert_eq!(host.reason(&from6(7, 10)), Reason::Denied);
    assert_eq!(host.reason(&from6(8, 9)), Reason::Echo);
}

/// Several limits that ban prefixes of different lengths, and for different times.
#[test]
fn each_rule_bans_by_its_own_length() {
    let limits =
        "10/s per source/28 ban 1m after 1s icmp4 any any echo-reply\nlimit 10/s per source ban 1h after 2s";
    let tables = banning(limits);
    let mut host = Host::new(&tables);
    let mut reply = Ping4 { icmp_type: 0, ..Ping4::default() };
    reply.ip.source = [203, 0, 113, 17];
    assert_within(host.flood(&reply.frame(), 4_000), 1_000, 1_600);
    assert_within(host.flood(&from4([203, 0, 113, 40]), 4_000), 2_000, 2_600);
    let denied = |host: &mut Host<'_>, last| host.reason(&from4([203, 0, 113, last])) == Reason::Denied;
    assert!(
        denied(&mut host, 30) && denied(&mut host, 40) && !denied(&mut host, 41) && !denied(&mut host, 32)
    );
    host.wait(60_000);
    assert!(!denied(&mut host, 30) && denied(&mut host, 40));
    host.wait(3_600_000);
    assert!(!denied(&mut host, 40));
}

#[test]
fn there_are_only_so_many_bans() {
    let tables = banning("1/s burst 1 per source ban 10m after 1s");
    let mut host = Host::new(&tables);
    let frames: Vec<_> =
        (0..16_384_u16).map(|number| from4([10, 1, (number >> 8) as u8, number as u8])).collect();
    let mut denied = BTreeSet::new();
    for _ in 0..5 {
        for (number, frame) in frames.iter().enumerate() {
            let _ = host.reason(frame);
            if host.reason(frame) == Reason::Denied {
                denied.insert(number);
            }
        }
        host.wait(500);
    }
    // Half of them, where chance spreads twice as many over lines of eight: all lines are full but for a few.
    assert!((7_500..=8_192).contains(&denied.len()), "{}", denied.len());
    assert_eq!(host.reason(&from4([203, 0, 113, 8])), Reason::Echo);
    // When these have ended there is room for others.
    host.wait(601_000);
    assert!(frames.iter().all(|frame| host.reason(frame) == Reason::Echo));
    let late = from4([203, 0, 113, 9]);
    assert_within(host.flood(&late, 3_000), 1_000, 1_100);
}

/// What only counts bans nobody.
#[test]
fn monitor_bans_nobody() {
    let text = policy(TEN_MINUTES).replace("any echo", "any echo monitor");
    let tables = with_secret(&text);
    assert_eq!(Host::new(&tables).flood(&from4([203, 0, 113, 7]), 60_000), None);
}

/// The loaded program: the same at its own clock.
#[test]
#[ignore = "needs root and BPF"]
fn the_loaded_program_bans_too() {
    let mut loaded = Loaded::new(&tables(&policy("10/s burst 10 per source ban 2s after 1s")));
    let (innocent, exempt) = (from4([203, 0, 113, 8]), from4([203, 0, 113, 66]));
    let ours = from4([198, 51, 100, 7]);
    let flooders = [from4([203, 0, 113, 7]), from6(7, 9)];
    let mut over = [None; 2];
    let mut denied = [None; 2];
    let mut out = [None; 2];
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(5) {
        for (number, frame) in flooders.iter().enumerate() {
            let reason = loaded.run(frame).counted.unwrap().1;
            let now = Some(begin.elapsed());
            match reason {
                Reason::OverLimit => over[number] = over[number].or(now),
                Reason::Denied => denied[number] = denied[number].or(now),
                _ if denied[number].is_some() => out[number] = out[number].or(now),
                _ => {}
            }
        }
        assert_ne!(loaded.run(&ours).counted.unwrap().1, Reason::Denied);
        assert_eq!(loaded.run(&exempt).counted.unwrap().1, Reason::Echo);
        if begin.elapsed().as_millis() % 200 < 20 {
            assert_eq!(loaded.run(&innocent).counted.unwrap().1, Reason::Echo);
        }
        thread::sleep(Duration::from_millis(20));
    }
    for number in 0..2 {
        let (over, denied, out) = (over[number].unwrap(), denied[number].unwrap(), out[number].unwrap());
        let (until_denied, until_out) = (denied - over, out - denied);
        assert!((950..1_400).contains(&until_denied.as_millis()), "{until_denied:?}");
        assert!((1_950..2_400).contains(&until_out.as_millis()), "{until_out:?}");
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What `set list banned` says.
fn banned(lab: &Lab) -> Vec<Value> {
    serde_json::from_str(&lab.icmpctl(&["set", "list", "banned", "--json"]).ok()).unwrap()
}

fn prefixes(lab: &Lab) -> Vec<String> {
    banned(lab).iter().map(|row| row["prefix"].as_str().unwrap().to_owned()).collect()
}

/// Pings at a hundred a second for two seconds from the client, which bans it.
fn flood(lab: &Lab) {
    let (sent, answered) = ping(&lab.client, &format!("-q -c 200 -I {CLIENT4} {SERVER4}"));
    assert!(sent == 200 && answered < 60, "{answered} of {sent}");
    assert_eq!(prefixes(lab), [CLIENT4]);
}

fn is_answered(lab: &Lab, source: &str) -> bool {
    ping(&lab.client, &format!("-c 2 -I {source} {SERVER4}")) == (2, 2)
}

/// A lab in which a policy is attached that limits to ten a second, and bans who is over that for a second for some time.
fn attached(time: &str) -> (Lab, String) {
    let lab = Lab::new();
    let limit = format!("10/s burst 10 per source ban {time} after 1s");
    let path = lab.policy(&policy(&limit));
    let _ = lab.icmpctl(&["attach", SERVER_END, "--policy", text(&path)]).ok();
    assert!(banned(&lab).is_empty());
    (lab, limit)
}

fn apply(lab: &Lab, policy: &str) {
    let path = lab.policy(policy);
    let _ = lab.icmpctl(&["apply", text(&path)]).ok();
}

/// Real pings: who floods is banned and comes out by itself, and nobody else is.
#[test]
#[ignore = "needs root and BPF"]
fn real_floods_are_banned() {
    const INNOCENT: &str = "192.0.2.3";
    const EXEMPT: &str = "192.0.2.4";
    const SERVED: &str = "198.51.100.7";
    let (lab, limit) = attached("8s");
    for address in [INNOCENT, EXEMPT, SERVED] {
        lab.client.ip(&format!("address add {address}/24 dev {CLIENT_END}"));
    }
    let begin = Instant::now();
    thread::scope(|scope| {
        // It is over, too, but is not banned: `flood` looks who is.
        scope.spawn(|| assert!(ping(&lab.client, &format!("-q -c 200 -I {SERVED} {SERVER4}")).1 < 60));
        scope.spawn(|| flood(&lab));
        scope
            .spawn(|| assert_eq!(ping(&lab.client, &format!("-q -c 200 -I {EXEMPT} {SERVER4}")), (200, 200)));
        for _ in 0..4 {
            assert!(is_answered(&lab, INNOCENT));
            thread::sleep(Duration::from_millis(300));
        }
    });
    let row = banned(&lab).remove(0);
    assert_eq!((&row["set"], &row["prefix"]), (&"banned".into(), &CLIENT4.into()));
    assert!((1..=8).contains(&row["left"].as_u64().unwrap()), "{row}");
    let reason = &row["ban"];
    let rule = format!("limit {limit} icmp any any echo");
    assert_eq!(
        (&reason["rule"], &reason["origin"], &reason["text"]),
        (&40.into(), &"file".into(), &rule.into())
    );
    let (since, until) = (reason["since"].as_u64().unwrap(), row["until"].as_u64().unwrap());
    // One second over the limit, eight in the set.
    assert!((8..=10).contains(&(until - since)), "{row}");
    assert!(!is_answered(&lab, CLIENT4) && is_answered(&lab, INNOCENT) && is_answered(&lab, EXEMPT));
    wait_until(|| is_answered(&lab, CLIENT4));
    assert!(begin.elapsed() > Duration::from_secs(9), "{:?}", begin.elapsed());
    assert!(banned(&lab).is_empty());
    let _ = lab.icmpctl(&["detach", SERVER_END]).ok();
    lab.assert_nothing_left();
}

/// A ban outlives changes of sets and policies, `icmpctl set` lifts it, and it goes with its set.
#[test]
#[ignore = "needs root and BPF"]
fn bans_stay_until_they_are_lifted() {
    let (lab, limit) = attached("1h");
    flood(&lab);
    let table = lab.icmpctl(&["set", "list"]).ok();
    assert!(table.contains(CLIENT4) && table.contains(&format!("s ago: limit {limit} icmp")), "{table}");
    let _ = lab.icmpctl(&["set", "add", "banned", "203.0.113.9"]).ok();
    let _ = lab.icmpctl(&["set", "del", "banned", "203.0.113.9"]).ok();
    apply(&lab, &policy(&limit));
    assert_eq!(prefixes(&lab), [CLIENT4]);
    assert!(!is_answered(&lab, CLIENT4));
    // Another number of buckets means new buckets.
    apply(&lab, &format!("limits.buckets = 1024\n{}", policy(&limit)));
    assert!(!is_answered(&lab, CLIENT4));
    let told = lab.icmpctl(&["explain", "--from", CLIENT4, "--to", SERVER4, "echo"]).ok();
    assert!(told.contains("deny icmp set:banned any"), "{told}");

    let _ = lab.icmpctl(&["set", "del", "banned", CLIENT4]).ok();
    assert!(banned(&lab).is_empty() && is_answered(&lab, CLIENT4));
    lab.icmpctl(&["set", "del", "banned", CLIENT4]).fails(1, &["192.0.2.2 is not in banned"]);
    flood(&lab);
    let flushed = lab.icmpctl(&["set", "flush", "banned"]);
    assert!(flushed.stderr.contains("banned: 1 removed"), "{flushed}");
    assert!(is_answered(&lab, CLIENT4));

    // The rule goes: the reason goes with it. The set goes, and comes back empty.
    flood(&lab);
    let other = policy(&limit.replace("10/s", "11/s"));
    apply(&lab, &other);
    assert_eq!((prefixes(&lab), &banned(&lab)[0]["ban"]["rule"]), (vec![CLIENT4.to_owned()], &Value::Null));
    apply(&lab, "");
    apply(&lab, &other);
    assert!(banned(&lab).is_empty() && is_answered(&lab, CLIENT4));
    let _ = lab.icmpctl(&["detach", SERVER_END]).ok();
    lab.assert_nothing_left();
}
