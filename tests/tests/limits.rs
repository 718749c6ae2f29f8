//! Limits by the clock: rates, bursts and keys, as the host build keeps them, packet for packet and at any time (C88, C89).
//!
//! What may pass is known from the definition of a token bucket: in any time T no more than the burst and what comes in T, and in
//! the long run as much as comes. Nothing here knows how a bucket is kept.

use std::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use etherparse::{Ipv4Header, Ipv6Header};
use icmp_common::{
    bucket::{self, Ask, CELLS, Place, TICK, Taken},
    limits::{PURSES, Rate},
};
use icmp_ebpf::Verdict;
use icmp_tests::{
    frames::{Ping4, Ping6, payload},
    host::interface,
};
use icmp_userspace::{
    explain::host::HostState,
    policy::{
        compile::Tables,
        file,
        slots::{Slots, over_text},
    },
};
use proptest::{prelude::*, sample::select, test_runner::TestRunner};

const SECOND: u64 = 1_000_000_000;
/// Nanoseconds that a jiffy takes where HZ is 1000, 250, and 100.
const JIFFIES: [u64; 3] = [1_000_000, 4_000_000, 10_000_000];
/// Nanoseconds after which the time of a bucket wraps.
const WRAP: u64 = TICK << 46;
/// By which keys are hashed here.
const SECRET: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03];

/// A compiled policy.
struct Compiled {
    tables: Tables,
    slots: Slots,
}

impl Compiled {
    fn new(rules: &str) -> Self {
        Self::after(rules, &Slots::default())
    }

    /// A policy that follows another one.
    fn after(rules: &str, running: &Slots) -> Self {
        Self::of_policy(&format!("acl.rules = \"\"\"\n{rules}\n\"\"\""), running)
    }

    fn of_policy(text: &str, running: &Slots) -> Self {
        let policy = file::parse(text).unwrap_or_else(|error| panic!("{error:?} in {text}"));
        let slots = Slots::assign(&policy, running).unwrap();
        let mut tables = Tables::compile(&policy, &interface(), &slots).unwrap();
        tables.config.bucket_secret = SECRET;
        Self { tables, slots }
    }

    /// A rate of the rules; those of errors stand before them.
    fn rate(&self, number: u32) -> Rate {
        let byte = self.tables.config.rates + (2 + number) * size_of::<Rate>() as u32;
        *self.tables.image.get(byte).unwrap()
    }

    /// How many packets have been over a rate of a rule.
    fn over(&self, state: &HostState<'_>, rule: &str, rate: usize) -> usize {
        let slot = self.slots.rule(&over_text(rule, rate)).unwrap();
        state.rules.iter().filter(|(counted, _)| *counted == slot).count()
    }
}

fn ping4(source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
    let ping = Ping4::default();
    Ping4 { ip: Ipv4Header { source, destination, ..ping.ip }, ..ping }.frame()
}

fn ping6(source: [u16; 8], destination: [u16; 8]) -> Vec<u8> {
    let octets = |address: [u16; 8]| std::net::Ipv6Addr::from(address).octets();
    let ping = Ping6::default();
    let ip = Ipv6Header { source: octets(source), destination: octets(destination), ..ping.ip };
    Ping6 { ip, ..ping }.frame()
}

/// What a packet that costs so much asks of its bucket.
const fn ask(cost: u64, span: u64) -> Ask {
    Ask { cost, needed: cost, span }
}

/// Whether a packet is within its limit.
fn passes(state: &mut HostState<'_>, frame: &[u8]) -> bool {
    state.handle(frame.to_vec()).0 != Verdict::Limit
}

/// How many of so many equal packets are.
fn passed(state: &mut HostState<'_>, frame: &[u8], packets: usize) -> usize {
    (0..packets).filter(|_| passes(state, frame)).count()
}

/// What is known of a token bucket: tokens a nanosecond, and how many it holds.
#[derive(Clone, Copy, Debug)]
struct Known {
    rate: f64,
    burst: f64,
}

/// What comes, and when.
#[derive(Clone, Copy, Debug)]
struct Arrivals {
    /// So many times what the rate allows, evenly.
    factor: f64,
    /// The nanosecond of the clock at which they begin.
    begin: u64,
    /// The clock is seen in steps of so many nanoseconds.
    step: u64,
}

/// Sends packets, the burst and then as many as come in the time of some hundred more, and demands of those that pass what is known of
/// token buckets.
fn demand(known: Known, arrivals: Arrivals, mut passes: impl FnMut(u64) -> bool) -> Result<(), String> {
    let Arrivals { factor, begin, step } = arrivals;
    let interval = 1.0 / (known.rate * factor);
    let time = (known.burst.max(300.0) + 2.0 * known.rate * step as f64) / known.rate;
    let packets = (time / interval) as u64;
    let (mut level, mut last, mut total) = (0.0_f64, 0.0, 0_u64);
    // What comes in a step comes all at once, by the clock that is seen. What a packet costs is rounded to a tick.
    let rounding = known.rate * TICK as f64 / 2.0;
    let most = 1.0 + known.burst * (1.001 + rounding) + 1.02 * known.rate * step as f64;
    for packet in 0..packets {
        let at = packet as f64 * interval;
        let seen = (begin + at as u64) / step * step;
        if !passes(seen) {
            continue;
        }
        total += 1;
        level = (level - 1.02 * known.rate * (at - last)).max(0.0) + 1.0;
        last = at;
        if level > most {
            return Err(format!("{level} of {most} at packet {packet}, {total} passed"));
        }
    }
    let expected = known.burst.min(packets as f64) + known.rate * time;
    // The last step of the clock may not have been seen.
    let least = 0.98 * expected - known.rate * step as f64 - 1.0;
    // With little more than the rate the burst is not used up.
    let least = least.min(0.98 * packets as f64 - 1.0);
    if (total as f64) < least { Err(format!("{total} of {packets} passed, not {least}")) } else { Ok(()) }
}

/// A rate in the policy's words, and what it means for packets of `length` bytes.
fn rate_text(length: usize) -> impl Strategy<Value = (String, Known)> {
    let packets = (0.0..7.0_f64, any::<bool>()).prop_map(|(exponent, by_minute)| {
        let amount = 10_f64.powf(exponent) as u64;
        let (period, seconds) = if by_minute { ("min", 60.0) } else { ("s", 1.0) };
        (amount, "", period, amount as f64 / seconds)
    });
    // No more than ten million packets.
    let most = (1e7 * 8.0 * length as f64).min(1e10).log10();
    let bits = (4.0..most).prop_map(|exponent| {
        let amount = 10_f64.powf(exponent) as u64;
        (amount, "bit", "s", amount as f64)
    });
    let burst = prop_oneof![1 => Just(1.0), 3 => 1.0..3.0_f64];
    (prop_oneof![packets, bits], burst, 2..200_u64).prop_map(
        move |((amount, unit, period, by_second), burst, more)| {
            let size = if unit == "bit" { 8 * length as u64 } else { 1 };
            // What comes in 10 ms has to fit, and two packets, or tokens are lost between one that is refused and the next.
            let least = (by_second / 100.0).ceil();
            let burst = (least * burst) as u64 + more * size;
            let size = size as f64;
            let known = Known { rate: by_second / SECOND as f64 / size, burst: burst as f64 / size };
            (format!("{amount}{unit}/{period} burst {burst}{unit}"), known)
        },
    )
}

fn arrivals() -> impl Strategy<Value = Arrivals> {
    let begin = prop_oneof![
        Just(0),
        (0..20 * SECOND).prop_map(|before| WRAP - before),
        (0..20 * SECOND).prop_map(|before| 5 * WRAP - before),
        any::<u32>().prop_map(|nanosecond| u64::from(nanosecond) << 12),
    ];
    let step = select([&[TICK][..], &JIFFIES].concat());
    (1.3..4.0, begin, step).prop_map(|(factor, begin, step)| Arrivals { factor, begin, step })
}

fn check<S: Strategy>(
    cases: u32,
    strategy: &S,
    test: impl Fn(S::Value) -> Result<(), proptest::test_runner::TestCaseError>,
) {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new(config).run(strategy, test).unwrap();
}

/// C89, of the rates alone: from one a minute to ten million a second, from 10 kbit/s to 10 Gbit/s.
#[test]
fn c89_any_rate_and_burst_are_kept_in_any_window() {
    for length in [84, 1500] {
        check(150, &(rate_text(length), arrivals()), |((text, known), arrivals)| {
            let compiled = Compiled::new(&format!("limit {text} per source icmp any any"));
            let rate = compiled.rate(0);
            let asked = ask(rate.cost_of(length), rate.span);
            let longest = compiled.tables.config.longest_span;
            let line = <[AtomicU64; CELLS]>::default();
            let outcome = demand(known, arrivals, |now| {
                bucket::take(&line, 5, asked, longest, now / TICK) != Taken::No
            });
            prop_assert!(outcome.is_ok(), "{}: {}", text, outcome.unwrap_err());
            Ok(())
        });
    }
}

/// C89, of whole packets: those of a source, to a destination, of a rule.
#[test]
fn c89_limits_of_packets_are_kept_in_any_window() {
    let per = select(vec!["per source", "per destination", "per rule", ""]);
    let rate = rate_text(84).prop_filter("would take long", |(_, known)| known.burst < 3000.0);
    check(120, &(rate, per, arrivals()), |((text, known), per, arrivals)| {
        let compiled = Compiled::new(&format!("limit {text} {per} icmp any any"));
        let mut state = HostState::new(&compiled.tables);
        let frame = Ping4::default().frame();
        let outcome = demand(known, arrivals, |now| {
            state.now = now;
            passes(&mut state, &frame)
        });
        prop_assert!(outcome.is_ok(), "{} {}: {}", text, per, outcome.unwrap_err());
        Ok(())
    });
}

/// The same for what is shared and fast: tokens then pass through purses.
#[test]
fn c89_fast_shared_limits_are_kept_in_any_window() {
    for (per, step) in [("per rule", JIFFIES[2]), ("per destination", JIFFIES[1]), ("per rule", JIFFIES[0])] {
        for (rate, burst) in [(10_000_000, 100_000), (1_000_000, 20_000), (300_000, 30_000)] {
            let compiled = Compiled::new(&format!("limit {rate}/s burst {burst} {per} icmp any any"));
            assert_ne!(compiled.rate(0).quantum, 0);
            let mut state = HostState::new(&compiled.tables);
            let frame = Ping6::default().frame();
            let known = Known { rate: f64::from(rate) / SECOND as f64, burst: f64::from(burst) };
            let arrivals = Arrivals { factor: 1.7, begin: WRAP - 3_000_000, step };
            let outcome = demand(known, arrivals, |now| {
                state.now = now;
                passes(&mut state, &frame)
            });
            assert_eq!(outcome, Ok(()), "{rate}/s burst {burst} {per}");
        }
    }
}

/// C89: the burst after idling is exactly B.
#[test]
fn c89_burst_after_idling_is_exact() {
    for per in ["per source", "per source/24", "per destination", "per rule"] {
        for (rate, burst) in [
            (100, 1),
            (99, 1),
            (51, 2),
            (14, 4),
            (7, 10),
            (999, 100),
            (1000, 100),
            (10_000_000, 100_000),
            (33_331, 1023),
            (1024, 1024),
            (7777, 5000),
        ] {
            let compiled = Compiled::new(&format!("limit {rate}/s burst {burst} {per} icmp4 any any"));
            let mut state = HostState::new(&compiled.tables);
            let frame = Ping4::default().frame();
            for begin in [0, 77 * SECOND, WRAP - 1, WRAP + 200 * SECOND].into_iter().take(200_000 / burst) {
                state.now = begin;
                let passed = passed(&mut state, &frame, 2 * burst);
                let purse = if burst > 1024 && !per.starts_with("per source") { burst / 1000 } else { 0 };
                assert!((burst - purse..=burst).contains(&passed), "{passed} of {burst} {per} at {begin}");
            }
        }
    }
}

/// The same in bits: as many whole packets as fit; one that is as long as the burst does, at any rate.
#[test]
fn c89_burst_of_bits_is_exact() {
    let compiled = Compiled::new("limit 1mbit/s burst 100kbit per source icmp any any");
    for length in [0, 56, 57, 555, 1472] {
        let mut state = HostState::new(&compiled.tables);
        for frame in [
            Ping4 { payload: payload(length), ..Ping4::default() }.frame(),
            Ping6 { payload: payload(length), ..Ping6::default() }.frame(),
        ] {
            let fit = 100_000 / 8 / (frame.len() - 14);
            assert_eq!(passed(&mut state, &frame, 2 * fit + 2), fit);
        }
    }
    let frame = Ping4 { payload: payload(1472), ..Ping4::default() }.frame();
    for rate in (9000..120_000).step_by(1113) {
        let compiled = Compiled::new(&format!("limit {rate}bit/s per source icmp any any"));
        let mut state = HostState::new(&compiled.tables);
        assert_eq!(passed(&mut state, &frame, 3), 1, "{rate} bit/s");
    }
}

/// C89: while the clock stands still there is the burst and no more; after a jump forwards there is the burst again; a jump
/// backwards, which no kernel's clock makes, gives the burst once more at the most, and locks nobody out.
#[test]
fn c89_clock_may_stand_still_and_jump() {
    let jump = prop_oneof![0..100 * SECOND, any::<u32>().prop_map(|jump| u64::from(jump) << 14)];
    check(200, &(1..40_u64, 1..50_u64, jump), |(rate, burst, jump)| {
        let compiled = Compiled::new(&format!("limit {rate}/s burst {burst} per source icmp any any"));
        let mut state = HostState::new(&compiled.tables);
        let frame = Ping4::default().frame();
        let begin = 100 * WRAP;
        state.now = begin;
        prop_assert_eq!(passed(&mut state, &frame, 200), burst as usize);
        prop_assert_eq!(passed(&mut state, &frame, 200), 0);
        // Up to where times wrap.
        let forwards = jump % (WRAP - 200 * SECOND);
        state.now += forwards;
        let back = (u128::from(forwards) * u128::from(rate) / u128::from(SECOND)).min(burst.into()) as usize;
        let found = passed(&mut state, &frame, 200);
        prop_assert!(found.abs_diff(back) <= 1 && found <= burst as usize, "{} of {}", found, back);

        state.now -= jump;
        prop_assert!(passed(&mut state, &frame, 200) <= burst as usize);
        state.now += SECOND.div_ceil(rate) + SECOND;
        prop_assert!(passes(&mut state, &frame), "locked out");
        Ok(())
    });
}

/// Whoever comes back after hours or days finds a full bucket, however long it takes to fill.
#[test]
fn c89_buckets_of_long_spans_fill_while_nobody_asks() {
    let compiled = Compiled::new("limit 1/h burst 9 per source icmp any any");
    let frame = Ping4::default().frame();
    let hour = 3600 * SECOND;
    for hours in [9, 12, 16, 19, 24, 48, 60] {
        let mut state = HostState::new(&compiled.tables);
        assert_eq!(passed(&mut state, &frame, 20), 9);
        state.now += hours * hour;
        assert_eq!(passed(&mut state, &frame, 20), 9, "{hours} hours");
    }
}

/// CPUs see the clock tick one after the other, and whoever was held up after he had read it has an old time: nothing is to be gained
/// from that.
#[test]
fn c89_old_time_gains_nothing() {
    for rate in ["100/s burst 10", "10000/s burst 300", "1/s burst 1"] {
        for late in JIFFIES.map(|jiffy| jiffy / TICK) {
            let compiled = Compiled::new(&format!("limit {rate} per source icmp any any"));
            let Rate { cost, span, .. } = compiled.rate(0);
            let longest = compiled.tables.config.longest_span;
            let line = <[AtomicU64; CELLS]>::default();
            let takes = |now| bucket::take(&line, 3, ask(cost, span), longest, now) != Taken::No;
            let (mut now, mut passed) = (1 << 40, 0);
            let begin = now;
            while now < begin + SECOND / TICK {
                passed += (0..20).filter(|_| takes(now)).count() as u64;
                passed += u64::from(takes(now - late));
                now += 1_000_000 / TICK;
            }
            assert!(
                passed <= span / cost + (now - begin) / cost + 1,
                "{passed} at {rate}, {late} ticks late"
            );
        }
    }
}

/// C46, C48: the total of errors is kept in the long run, although each costs now less and now more; and what has been sent after a
/// pause is never twice as much as the burst.
#[test]
fn c46_c48_randomised_total_of_errors_is_kept() {
    // With little room, what comes between two packets is lost now and then.
    for (rate, burst, least) in [(1000, 50, 98), (100, 10, 98), (20, 1, 80)] {
        let policy = format!(
            "acl.rules = \"reject icmp any any\"\nacl.errors = {{ per-source = \"1000000/s\", total = \"{rate}/s burst {burst}\" }}"
        );
        let compiled = Compiled::of_policy(&policy, &Slots::default());
        let mut state = HostState::new(&compiled.tables);
        let frame = Ping4::default().frame();
        let mut rejected = |now: u64| {
            state.now = now;
            state.handle(frame.clone()).0 == Verdict::Reject
        };
        let (first, errors) = (SECOND, 10_000);
        let at_once = (0..4 * burst).filter(|_| rejected(first)).count() as u64;
        assert!(at_once <= 2 * burst, "{at_once} at once, by {rate}/s burst {burst}");
        let time = errors * SECOND / rate;
        let step = SECOND / rate / 3;
        let sent = (1..=time / step).filter(|number| rejected(first + number * step)).count() as u64;
        assert!(
            (errors * least / 100..=errors * 102 / 100 + burst).contains(&sent),
            "{sent} by {rate}/s burst {burst}"
        );
    }
}

/// Several rates: the first that a packet is over decides, those behind it are not asked, and what those before it gave is spent.
#[test]
fn c88_first_rate_that_is_over_decides() {
    let rule = "limit 1/h burst 3 per source, 1/h burst 5 icmp any any";
    let compiled = Compiled::new(rule);
    let mut state = HostState::new(&compiled.tables);
    let to = [192, 0, 2, 1];
    let [one, two, three] = [1, 2, 3].map(|host| ping4([10, 0, 0, host], to));
    assert_eq!(passed(&mut state, &one, 10), 3);
    let over = |state: &HostState<'_>| [0, 1].map(|rate| compiled.over(state, rule, rate));
    assert_eq!(over(&state), [7, 0]);
    // Two of the rule's are left. The third one of its own is spent all the same, and then it is over that.
    assert_eq!(passed(&mut state, &two, 10), 2);
    assert_eq!(over(&state), [14, 1]);
    assert_eq!(passed(&mut state, &three, 2), 0);
    assert_eq!(over(&state), [14, 3]);
    // The other way round, who is over his own rate uses up what is all's.
    let rule = "limit 1/h burst 5, 1/h burst 3 per source icmp any any";
    let compiled = Compiled::new(rule);
    let mut state = HostState::new(&compiled.tables);
    assert_eq!((passed(&mut state, &one, 10), passed(&mut state, &two, 10)), (3, 0));
    assert_eq!([0, 1].map(|rate| compiled.over(&state, rule, rate)), [15, 2]);
}

/// What is over is counted and passes, as it would without a limit.
#[test]
fn c88_exceed_pass_and_monitor_let_everything_through() {
    for rule in [
        "limit 1/h burst 3 per source exceed pass icmp any any",
        "limit 1/h burst 3 per source icmp any any monitor",
    ] {
        let compiled = Compiled::new(rule);
        let mut state = HostState::new(&compiled.tables);
        for frame in [Ping4::default().frame(), Ping6::default().frame()] {
            for _ in 0..8 {
                assert_eq!(state.handle(frame.clone()).0, Verdict::Answer);
            }
        }
        assert_eq!(compiled.over(&state, rule, 0), 10);
        let slot = compiled.slots.rule(rule).unwrap();
        assert_eq!(state.rules.iter().filter(|(counted, _)| *counted == slot).count(), 16);
    }
}

/// Who shares a bucket: the sources of a prefix, all that goes to a destination, all that a rule matches.
#[test]
fn c89_buckets_are_shared_by_prefix_destination_and_rule() {
    let to4 = [192, 0, 2, 1];
    let to6 = [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1];
    let from6 = |third, fourth, host| [0x2001, 0xdb8, third, fourth, 0, 0, 0, host];
    let alone = ping4([10, 1, 2, 3], to4);
    let alone6 = ping6(from6(1, 2, 3), to6);
    // What is sent first, what comes then, and whether the two share a bucket.
    for (per, first, then, shared) in [
        ("per source", &alone, ping4([10, 1, 2, 4], to4), false),
        ("per source", &alone, ping4([10, 1, 2, 3], [192, 0, 2, 9]), true),
        ("per source/24", &alone, ping4([10, 1, 2, 250], to4), true),
        ("per source/24", &alone, ping4([10, 1, 3, 3], to4), false),
        ("per source/8", &alone, ping4([10, 200, 3, 3], to4), true),
        ("per source/31", &alone, ping4([10, 1, 2, 2], to4), true),
        ("per source/31", &alone, ping4([10, 1, 2, 4], to4), false),
        ("per source", &alone6, ping6(from6(1, 2, 0xffff), to6), true),
        ("per source", &alone6, ping6(from6(1, 3, 3), to6), false),
        ("per source/48", &alone6, ping6(from6(1, 9, 3), to6), true),
        ("per source/48", &alone6, ping6(from6(2, 2, 3), to6), false),
        ("per source/127", &alone6, ping6(from6(1, 2, 2), to6), true),
        ("per source/128", &alone6, ping6(from6(1, 2, 2), to6), false),
        ("per destination", &alone, ping4([10, 9, 9, 9], to4), true),
        ("per destination", &alone, ping4([10, 1, 2, 3], [192, 0, 2, 9]), false),
        ("per destination", &alone6, ping6(from6(9, 9, 9), to6), true),
        ("per destination", &alone6, ping6(from6(1, 2, 3), from6(0, 0, 2)), false),
        ("per rule", &alone, ping4([99, 9, 9, 9], [192, 0, 2, 77]), true),
        ("per rule", &alone6, ping6(from6(9, 9, 9), from6(7, 7, 7)), true),
    ] {
        let family = if first == &alone { "icmp4" } else { "icmp6" };
        let compiled = Compiled::new(&format!("limit 1/h burst 4 {per} {family} any any"));
        let mut state = HostState::new(&compiled.tables);
        assert_eq!(passed(&mut state, first, 9), 4, "{per}");
        assert_eq!(passed(&mut state, &then, 9), if shared { 0 } else { 4 }, "{per}: {then:02x?}");
    }
    // Both families are one rule, and two rules are two.
    let compiled = Compiled::new("limit 1/h burst 4 icmp any any ttl 61\nlimit 1/h burst 4 icmp any any");
    let mut state = HostState::new(&compiled.tables);
    let other = Ping4::default();
    let other = Ping4 { ip: Ipv4Header { time_to_live: 9, ..other.ip }, ..other }.frame();
    assert_eq!([&alone, &alone6, &other].map(|frame| passed(&mut state, frame, 9)), [4, 0, 4]);
}

/// Two destinations that share a purse lose nothing by it, nor does what comes back count twice.
#[test]
fn c89_destinations_that_share_a_purse_lose_nothing() {
    let compiled = Compiled::new("limit 3000/h burst 20000 per destination icmp4 any any");
    let rate = compiled.rate(0);
    assert_ne!(rate.quantum, 0);
    let purse = |host: u32| {
        let key = [u64::from((0x0a00_0000 | host).to_be()), 0];
        Place::new(key, rate.seed, SECRET).line as usize % PURSES
    };
    let other = (2..100_000).find(|host| purse(*host) == purse(1)).unwrap();
    let frames = [1, other].map(|host| ping4([10, 9, 9, 9], (0x0a00_0000 | host).to_be_bytes()));
    let mut state = HostState::new(&compiled.tables);
    let mut counts = [0, 0];
    for _ in 0..25_000 {
        for (frame, count) in frames.iter().zip(&mut counts) {
            *count += u32::from(passes(&mut state, frame));
        }
    }
    assert!(counts.iter().all(|count| (19_980..=20_000).contains(count)), "{counts:?}");
}

/// A rule whose text stays keeps its buckets; one whose rate changes begins with full ones.
#[test]
fn buckets_stay_as_long_as_the_text_of_their_rule_does() {
    let first = Compiled::new("limit 1/h burst 4 per source, 9/h icmp any any echo");
    let second = Compiled::after(
        "limit 7/h icmp any any redirect\nlimit 1/h burst 4 per source, 9/h icmp any any echo",
        &first.slots,
    );
    let seeds = |compiled: &Compiled, rates: Range<u32>| rates.map(|rate| compiled.rate(rate).seed).collect();
    let (before, after): (Vec<_>, Vec<_>) = (seeds(&first, 0..2), seeds(&second, 0..3));
    assert_ne!(before[0], before[1]);
    let kept = |seeds: &[u64]| seeds.iter().filter(|seed| before.contains(seed)).count();
    assert_eq!(kept(&after), 2, "{before:?} {after:?}");
    let changed = Compiled::after("limit 2/h burst 4 per source, 9/h icmp any any echo", &first.slots);
    assert_eq!(kept(&seeds(&changed, 0..2)), 0);
}

/// What a bucket holds of a rate that is no more, like a changed limit of errors, keeps nobody waiting longer than the new rate says,
/// but for the second that is kept for CPUs which are late.
#[test]
fn changed_rates_lock_nobody_out() {
    let rates = (1..3000_u64, 1..100_u64);
    check(300, &(rates.clone(), rates, 0..400_u64), |(before, after, packets)| {
        // Of one slot, as those of errors are.
        let compiled = [before, after].map(|(rate, more)| {
            let burst = rate / 60 / 100 + more;
            Compiled::new(&format!("limit {rate}/min burst {burst} per source icmp any any"))
        });
        let [before, after] = [compiled[0].rate(0), compiled[1].rate(0)];
        prop_assert_eq!(before.seed, after.seed);
        let line = <[AtomicU64; CELLS]>::default();
        let now = 3 << 40;
        let takes = |rate: &Rate, longest, now| {
            bucket::take(&line, 3, ask(rate.cost, rate.span), longest, now) != Taken::No
        };
        for _ in 0..packets {
            takes(&before, compiled[0].tables.config.longest_span, now);
        }
        let longest = compiled[1].tables.config.longest_span;
        prop_assert!(
            takes(&after, longest, now) || takes(&after, longest, now + after.cost + SECOND / TICK),
            "still locked out"
        );
        Ok(())
    });
}

/// C89, on N CPUs: several threads take from one bucket for a second, by the time of a clock that ticks like the kernel's.
fn threads_share(threads: usize, rate: &str, tags: &[u32]) {
    let compiled = Compiled::new(&format!("limit {rate} per source icmp any any"));
    let Rate { cost, span, .. } = compiled.rate(0);
    let longest = compiled.tables.config.longest_span;
    let line = <[AtomicU64; CELLS]>::default();
    let passed: Vec<_> = tags.iter().map(|_| AtomicU64::new(0)).collect();
    let begin = Instant::now();
    let end = Duration::from_secs(2);
    // A machine that is busy with other things may not get to the end.
    let last = AtomicU64::new(0);
    let jiffy = JIFFIES[1];
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while begin.elapsed() < end {
                    for (tag, passed) in tags.iter().zip(&passed) {
                        let now = begin.elapsed().as_nanos() as u64 / jiffy * jiffy / TICK;
                        last.fetch_max(now, Ordering::Relaxed);
                        if bucket::take(&line, *tag, ask(cost, span), longest, now) != Taken::No {
                            passed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    let most = (span + last.into_inner()) / cost;
    for passed in passed.iter().map(|passed| passed.load(Ordering::Relaxed)) {
        assert!(
            (most * 98 / 100..=most + 1).contains(&passed),
            "{passed} of {most} by {threads} threads at {rate}"
        );
    }
}

#[test]
fn c89_threads_on_one_bucket_share_its_rate() {
    for threads in [2, 3, 4] {
        threads_share(threads, "20000/s burst 20000", &[7]);
    }
}

#[test]
fn c89_threads_on_one_line_share_each_buckets_rate() {
    for threads in [2, 4] {
        threads_share(threads, "5000/s burst 5000", &[1, 2, 3, 4, 5, 6, 7, 8]);
    }
}
