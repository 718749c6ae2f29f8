//! What rules with `log` tell: the same in both builds, of the right packets, as many as may be and all others counted; and what
//! `icmpctl events` and `icmpctl run` make of it, whoever reads, ends, is killed, or comes later.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use aya::{
    Pod,
    maps::{Map, MapData, PerCpuArray, PerCpuValues},
};
use etherparse::{Ipv4Header, Ipv6Header};
use icmp_common::{
    Family,
    events::{Event, MOST_OF_RULE, Telling, Told},
    reason::Reason,
};
use icmp_tests::{
    frames::{Ping4, Ping6, payload},
    host::{self, handle_in, interface},
    icmpctl::{Finished, PATIENCE, wait_until},
    loaded::{self, Loaded},
    netns::{CLIENT_END, CLIENT4, CLIENT6, Lab, SERVER_END, SERVER4, SERVER6, run},
    packets::packet,
    port::Port,
    seed,
    sketch::sketch,
};
use icmp_userspace::{
    explain::host::HostState,
    kernel::ring::{Next, Ring},
    observe::told,
    policy::{
        compile::Tables,
        file,
        slots::{Slots, over_text},
    },
};
use proptest::{prelude::Strategy as _, prop_oneof, strategy::ValueTree as _};
use rustix::{
    process::{Pid, Signal, kill_process},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};
use serde_json::{Value, json};

const SECOND: u64 = 1_000_000_000;
/// By which keys are hashed in the host build.
const SECRET: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03];

/// A compiled policy of these rules, and its slots.
fn compile(rules: &str) -> (Tables, Slots) {
    // So many buckets that hardly ever two keys share a line and a tag, which each build hashes in its own way.
    let text = format!("limits.buckets = 16777216\nacl.rules = '''\n{rules}\n'''");
    let policy = file::parse(&text).unwrap_or_else(|errors| panic!("{errors:?} in\n{text}"));
    let slots = Slots::assign(&policy, &Slots::default()).unwrap();
    let tables = Tables::compile(&policy, &interface(), &slots).unwrap();
    (tables, slots)
}

/// What each CPU counts for itself counts as one if all happens on one.
fn stay_on_this_cpu() {
    let allowed = sched_getaffinity(None).unwrap();
    let first = (0..CpuSet::MAX_CPU).find(|cpu| allowed.is_set(*cpu)).unwrap();
    let mut one = CpuSet::new();
    one.set(first);
    sched_setaffinity(None, &one).unwrap();
}

/// An event without what differs from build to build.
fn timeless(event: &Event) -> Event {
    Event { time: 0, ..*event }
}

/// An address of an event, from words in memory order.
fn address(event: &Event, words: [u64; 2]) -> IpAddr {
    let [high, low] = words.map(u64::to_ne_bytes);
    match event.family() {
        Some(Family::Ipv4) => Ipv4Addr::from_octets(high[..4].try_into().unwrap()).into(),
        _ => Ipv6Addr::from_octets([high, low].concat().try_into().unwrap()).into(),
    }
}

/// Of all sorts of frames, by all sorts of rules that log, both builds tell the same.
#[test]
#[ignore = "needs root and BPF"]
fn both_builds_tell_the_same_events() {
    stay_on_this_cpu();
    let mut seen = BTreeSet::new();
    for rules in [
        "deny icmp any any echo log 1/7\nreject icmp6 any any log 1/6\npermit icmp any any fragments log\npermit icmp any any log 1/5",
        "permit icmp any any monitor log 1/11",
        "limit 1/h burst 3 per source icmp any any echo log 1/20\nlimit 1/h burst 9 icmp any any log 1/9",
        "limit 1/h burst 2 per source, 2/h burst 8 per destination icmp any any log 1/1000",
    ] {
        let (mut tables, _) = compile(rules);
        let mut loaded = Loaded::new(&tables);
        tables.config.bucket_secret = SECRET;
        let mut state = HostState::new(&tables);
        let strategy = prop_oneof![
            1 => packet().prop_map(|packet| packet.frame),
            2 => sketch().prop_map(|sketch| sketch.frame())
        ];
        let mut runner = seed::runner(0);
        let frames: Vec<_> = (0..400)
            .map(|_| {
                let mut frame = strategy.new_tree(&mut runner).unwrap().current();
                frame.resize(frame.len().max(loaded::SHORTEST), 0);
                frame
            })
            .collect();
        for frame in &frames {
            let _ = handle_in(&mut state, frame);
        }
        // At once: whoever is over a rate for the second time shall not have been within it for long.
        for frame in &frames {
            let _ = loaded.run(frame);
        }
        let host: Vec<_> = state.events.iter().map(timeless).collect();
        let of_one_rule =
            host.iter().map(|event| host.iter().filter(|other| other.slot == event.slot).count());
        assert!(of_one_rule.max().is_some_and(|most| most < MOST_OF_RULE as usize), "{rules}");
        let events = loaded.events();
        assert_eq!(events.iter().map(timeless).collect::<Vec<_>>(), host, "{rules}");
        assert!(events.iter().all(|event| event.time > 0) && events.is_sorted_by_key(|event| event.time));
        let told = loaded.told();
        assert_eq!((told.told, told.suppressed, told.lost), (host.len() as u64, 0, 0), "{rules}");
        seen.extend(host.iter().map(|event| (event.family, event.flags, event.vlan != Event::NO_VLAN)));
    }
    // Both families, packets and rates, fragments, with and without tags.
    for wanted in [
        (0, 0, false),
        (1, 0, true),
        (0, Event::OVER, false),
        (1, Event::OVER, false),
        (0, Event::NO_TYPE, false),
    ] {
        assert!(seen.contains(&wanted), "{wanted:?} is missing in {seen:?}");
    }
}

/// An event says of a packet what its encoder put into it, and of three packets the third is told.
#[test]
#[ignore = "needs root and BPF"]
fn events_say_what_is_in_every_nth_packet() {
    stay_on_this_cpu();
    let (tables, _) = compile("deny icmp any any log 1/3 force");
    let mut loaded = Loaded::new(&tables);
    let mut runner = seed::runner(0);
    let mut denied = Vec::new();
    for _ in 0..240 {
        let packet = packet().new_tree(&mut runner).unwrap().current();
        if loaded.run(&packet.frame).counted == Some((packet.family, Reason::Denied)) {
            denied.push(packet);
        }
    }
    let expected: Vec<_> = denied.iter().skip(2).step_by(3).collect();
    assert!(expected.len() > 50, "{}", expected.len());
    let events = loaded.events();
    assert_eq!(events.len(), expected.len());
    for (event, packet) in events.iter().zip(expected) {
        assert_eq!(event.family(), Some(packet.family), "{packet:?}");
        assert_eq!(event.reason(), Some(Reason::Denied), "{packet:?}");
        let addresses = [event.source, event.destination].map(|words| address(event, words));
        assert_eq!(addresses, [packet.source, packet.destination]);
        let message = (event.flags & Event::NO_TYPE == 0).then_some([event.icmp_type, event.code]);
        let vlan = (event.vlan != Event::NO_VLAN).then_some(event.vlan);
        assert_eq!((message, vlan, event.length), (packet.message, packet.vlan, packet.length), "{packet:?}");
    }
}

fn ping4(source: [u8; 4], length: usize) -> Vec<u8> {
    let ping = Ping4::default();
    Ping4 { ip: Ipv4Header { source, ..ping.ip }, payload: payload(length), ..ping }.frame()
}

/// From this network: sources count by /64.
fn ping6(network: u8) -> Vec<u8> {
    let ping = Ping6::default();
    let mut source = ping.ip.source;
    source[7] = network;
    Ping6 { ip: Ipv6Header { source, ..ping.ip }, ..ping }.frame()
}

/// Beginning to be over a rate is told once for each source, whatever is told of packets besides; and again after five seconds in
/// which nobody was over it.
#[test]
fn beginning_to_be_over_a_rate_is_told_once() {
    let rule = "limit 1/h burst 3 per source icmp any any echo log 1/3";
    let (mut tables, slots) = compile(&format!("10 {rule}"));
    tables.config.bucket_secret = SECRET;
    let mut state = HostState::new(&tables);
    state.now = 100 * SECOND;
    // Each packet is one byte longer than the one before, which tells which one it was.
    for length in 1..=9 {
        let _ = handle_in(&mut state, &ping4([192, 0, 2, 7], length));
    }
    let (of_rule, over) = (slots.rule(rule).unwrap(), slots.rule(&over_text(rule, 0)).unwrap());
    let told: Vec<_> =
        state.events.iter().map(|event| (event.length - 28, event.slot, event.flags)).collect();
    assert_eq!(told, [(3, of_rule, 0), (4, over, Event::OVER), (6, of_rule, 0), (9, of_rule, 0)]);

    let (mut tables, _) = compile("limit 1/h burst 1 per source icmp any any echo log 1/1000000");
    tables.config.bucket_secret = SECRET;
    let mut state = HostState::new(&tables);
    state.now = 100 * SECOND;
    let told = |state: &mut HostState<'_>, frame: &[u8]| {
        let before = state.events.len();
        for _ in 0..4 {
            let _ = handle_in(state, frame);
        }
        let events = &state.events[before..];
        assert!(events.iter().all(|event| event.flags == Event::OVER && event.time == state.now));
        assert!(events.iter().all(|event| event.reason() == Some(Reason::OverLimit)));
        events.len()
    };
    let tagged = Ping6 { tags: vec![(0x8100, 12)], ..Ping6::default() }.frame();
    for frame in [ping4([192, 0, 2, 7], 56), ping4([192, 0, 2, 8], 56), ping6(7), ping6(8), tagged] {
        state.now += SECOND;
        assert_eq!(told(&mut state, &frame), 1);
        // Not for 4 seconds, and not for 4 more, but after 6.
        for (seconds, events) in [(4, 0), (4, 0), (6, 1), (0, 0)] {
            state.now += seconds * SECOND;
            assert_eq!(told(&mut state, &frame), events, "{seconds}");
        }
    }
    assert_eq!(state.events.last().unwrap().vlan, 12);
}

/// In a window of about a second 100 events of a rule are told, and 1,000 in all; each rule's next event says how many were not.
#[test]
fn so_many_events_are_told_and_no_more() {
    let rules: Vec<_> =
        (0..12).map(|rule| format!("deny icmp any any echo length {0}-{0} log", 100 + rule)).collect();
    let (tables, slots) = compile(&rules.join("\n"));
    let mut state = HostState::new(&tables);
    let send = |state: &mut HostState<'_>, packets: usize| {
        for rule in 0..12 {
            for _ in 0..packets {
                let _ = handle_in(state, &ping4([192, 0, 2, 7], 72 + rule));
            }
        }
    };
    send(&mut state, 150);
    let mut of_rules = BTreeMap::<_, u32>::new();
    state.events.iter().for_each(|event| *of_rules.entry(event.slot).or_default() += 1);
    let first_ten = rules[..10].iter().map(|rule| (slots.rule(rule).unwrap(), MOST_OF_RULE));
    assert_eq!(of_rules, first_ten.collect());
    state.events.clear();
    state.now += 1_100_000_000;
    send(&mut state, 2);
    let suppressed: Vec<_> = state.events.iter().map(|event| event.suppressed).collect();
    let expected: Vec<_> = (0..12).flat_map(|rule| [if rule < 10 { 50 } else { 150 }, 0]).collect();
    assert_eq!(suppressed, expected);
}

/// Under a flood on several CPUs each packet of a rule that logs is told, suppressed or lost.
#[test]
#[ignore = "needs root and BPF"]
fn every_event_of_a_flood_is_accounted_for() {
    let rule = "deny icmp any any echo log";
    let (tables, slots) = compile(rule);
    let mut loaded = Loaded::new(&tables);
    let begin = Instant::now();
    loaded.run_on_threads(2, Duration::from_millis(400), &Ping4::default().frame());
    let packets = loaded.rules().slot(slots.rule(rule).unwrap());
    let (told, events) = (loaded.told(), loaded.events());
    assert!(packets > 10_000, "{packets}");
    assert_eq!(told.told + told.suppressed + told.lost, packets);
    assert_eq!((events.len() as u64, told.lost), (told.told, 0));
    // On the CPUs that the threads came to, in the windows that there were.
    let cpus = sched_getaffinity(None).unwrap().count();
    let windows = begin.elapsed().as_millis() as u32 / 1_073 + 2;
    let most = MOST_OF_RULE * cpus * windows;
    assert!((MOST_OF_RULE.into()..=most.into()).contains(&told.told), "{told:?}");
    assert!(events.iter().map(|event| u64::from(event.suppressed)).sum::<u64>() <= told.suppressed);
}

/// What CPUs remember, as it lies in the map.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Remembered(Telling);

// SAFETY: integers and structures of integers, without padding: any bytes are a value.
unsafe impl Pod for Remembered {}

impl Remembered {
    /// As if another window had begun. Nothing may be told meanwhile.
    fn begin_window(lab: &Lab) {
        let map = Map::PerCpuArray(MapData::from_pin(lab.pins().join("telling")).unwrap());
        let mut map = PerCpuArray::<_, Self>::try_from(map).unwrap();
        let mut values: Vec<_> = map.get(&0, 0).unwrap().iter().copied().collect();
        for Self(telling) in &mut values {
            telling.used = 0;
            telling.rules.iter_mut().for_each(|rule| rule.used = 0);
        }
        map.set(0, PerCpuValues::try_from(values).unwrap(), 0).unwrap();
    }
}

fn told(lab: &Lab) -> Told {
    told::Counts::open(&lab.pins().join("telling")).and_then(|counts| counts.events()).unwrap()
}

/// Sends frames of which each is an event, and waits until they have been told, or suppressed, or lost.
fn send(lab: &Lab, port: &mut Port, frames: &[Vec<u8>]) {
    let all = || {
        let told = told(lab);
        told.told + told.suppressed + told.lost
    };
    let before = all();
    frames.iter().for_each(|frame| port.send(frame));
    let begin = Instant::now();
    while all() < before + frames.len() as u64 {
        assert!(begin.elapsed() < PATIENCE, "{} of {}", all() - before, frames.len());
        thread::yield_now();
    }
}

fn frames(number: usize) -> Vec<Vec<u8>> {
    vec![Ping4::default().frame(); number]
}

const DENY: &str = "10 deny icmp4 any any echo log";

fn policy(rules: &str) -> String {
    format!("acl.rules = '''\n{rules}\n'''\n")
}

fn apply(lab: &Lab, rules: &str) {
    let _ = lab.icmpctl(&["apply", SERVER_END, lab.policy(&policy(rules)).to_str().unwrap()]).ok();
}

/// Lines of JSON.
fn parsed(text: &str) -> Vec<Value> {
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    text.lines().map(parse).collect()
}

/// Those of one sort.
fn of<'a>(lines: &'a [Value], event: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["event"] == event).collect()
}

/// An `icmpctl events --follow` that writes to files; it is killed when dropped.
struct Follower {
    child: Child,
    out: PathBuf,
    complaints: PathBuf,
}

impl Follower {
    /// Starts one, and waits until it reads.
    fn start(lab: &Lab, name: &str) -> Self {
        let [out, complaints] = ["out", "err"].map(|end| lab.files.path().join(format!("{name}.{end}")));
        let mut command = lab.command(&["events", "--follow", "--json"]);
        command.stdout(File::create(&out).unwrap()).stderr(File::create(&complaints).unwrap());
        let child = command.spawn().unwrap();
        // The ring buffer is mapped.
        let maps = format!("/proc/{}/maps", child.id());
        wait_until(|| fs::read_to_string(&maps).is_ok_and(|maps| maps.contains("bpf-map")));
        Self { child, out, complaints }
    }

    /// Lines that it has written.
    fn lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.out).unwrap();
        parsed(text.rfind('\n').map_or("", |end| &text[..end]))
    }

    /// Waits until it has shown so many packets, and no more.
    fn wait_for(&self, packets: usize) {
        wait_until(|| of(&self.lines(), "packet").len() >= packets);
        assert_eq!(of(&self.lines(), "packet").len(), packets);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), signal).unwrap();
    }

    /// Waits for its end; its last line says what there was.
    fn wait(mut self) -> (Finished, Value) {
        wait_until(|| self.child.try_wait().unwrap().is_some());
        let stderr = fs::read_to_string(&self.complaints).unwrap();
        let status = self.child.wait().unwrap().code();
        let last = self.lines().pop().unwrap_or_default();
        (Finished { status, stdout: String::new(), stderr }, last)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether all events have been consumed.
fn are_consumed(lab: &Lab) -> bool {
    let mut ring = Ring::open(&lab.pins().join("events"), false).unwrap();
    ring.next(&mut Vec::new()) == Next::Nothing
}

/// What people see, and what programs do; all that is left is shown each time, and filtered by the number of the rule.
#[test]
#[ignore = "needs root and BPF"]
fn events_are_listed() {
    let rules =
        "10 deny icmp4 any any echo log\n20 limit 1/h burst 1 per source icmp6 any any echo log 1/1000000";
    let lab = Lab::attached("native", &policy(rules));
    let mut port = Port::open(&lab.client, CLIENT_END);
    assert_eq!(lab.icmpctl(&["events"]).ok(), "");
    send(&lab, &mut port, &[ping4([198, 51, 100, 7], 56)]);
    let tagged = Ping6 { tags: vec![(0x8100, 12)], ..Ping6::default() }.frame();
    port.send(&tagged);
    send(&lab, &mut port, &[tagged]);

    let minute_ago = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() - 60;
    let minute_ago = run(Command::new("date").args(["-u", "-d", &format!("@{minute_ago}"), "+%FT%T.000Z"]));
    let end = lab.icmpctl(&["events", SERVER_END]);
    assert!(end.stderr.contains("server0: 2 events shown; none missing"), "{end}");
    let lines: Vec<_> = end.stdout.lines().map(|line| line.split_once(' ').unwrap()).collect();
    assert!(lines.iter().all(|(time, _)| *time > minute_ago.trim() && time.len() == 24), "{end}");
    let texts: Vec<_> = lines.iter().map(|(_, text)| *text).collect();
    let length = Ping6::default().frame().len() - 14;
    assert_eq!(
        texts,
        [
            "server0 denied, reason denied: 198.51.100.7 > 192.0.2.1: echo (type 8, code 0), 84 bytes; rule 10: deny icmp4 any any \
             echo log",
            &format!(
                "server0 limited, reason over-limit: 2001:db8::2 > 2001:db8::1: echo (type 128, code 0), {length} bytes, VLAN 12; \
                 over limit 1/h burst 1 per source of rule 20: limit 1/h burst 1 per source icmp6 any any echo log 1/1000000"
            ),
        ]
    );
    let lines = parsed(&lab.icmpctl(&["events", "--json", "--rule", "20"]).ok());
    let [mut over, mut end] = <[Value; 2]>::try_from(lines).unwrap();
    for line in [&mut over, &mut end] {
        let time = line.as_object_mut().unwrap().remove("time").unwrap();
        assert!(time.as_str().unwrap() > minute_ago.trim(), "{time}");
    }
    let rule = json!({"number": 20, "origin": "file", "text": "limit 1/h burst 1 per source icmp6 any any echo log 1/1000000"});
    assert_eq!(
        over,
        json!({
            "interface": SERVER_END, "event": "over limit", "family": "ipv6", "verdict": "limited", "reason": "over-limit",
            "rule": rule, "rate": "1/h burst 1 per source", "from": CLIENT6, "to": SERVER6,
            "message": {"name": "echo", "type": 128, "code": 0}, "length": length, "vlan": 12, "suppressed": 0
        })
    );
    assert_eq!(
        end,
        json!({"event": "end", "interface": SERVER_END, "shown": 1, "suppressed": 0, "lost": 0, "missed": 0})
    );
}

/// Where nobody reads the buffer gets full: what is lost is counted and said, and who reads makes room.
#[test]
#[ignore = "needs root and BPF"]
fn what_a_full_buffer_loses_is_reported() {
    let lab = Lab::attached("generic", &policy(DENY));
    let mut port = Port::open(&lab.client, CLIENT_END);
    let mut onlooker = Ring::open(&lab.pins().join("events"), false).unwrap();
    // As many as fit: a record takes 8 bytes more than an event.
    let room = ((1 << 20) - 1) / (8 + size_of::<Event>());
    let batch = frames(MOST_OF_RULE as usize);
    let batches = room / batch.len() + 2;
    for _ in 0..batches {
        send(&lab, &mut port, &batch);
        Remembered::begin_window(&lab);
    }
    let lost = batches * batch.len() - room;
    let lines = parsed(&lab.icmpctl(&["events", "--json"]).ok());
    assert_eq!(of(&lines, "packet").len(), room);
    let gaps = of(&lines, "gap");
    assert_eq!((gaps.len(), &gaps[0]["lost"], &gaps[0]["suppressed"]), (1, &lost.into(), &0.into()));
    // Now there is room, and the oldest give way to the newest.
    send(&lab, &mut port, &batch);
    let end = lab.icmpctl(&["events"]);
    assert_eq!(end.stdout.lines().filter(|line| line.contains(" denied, ")).count(), room, "{}", end.stderr);
    let summary = format!("{room} events shown; {lost} lost (the buffer was full");
    assert!(end.stderr.contains(&summary), "{}", end.stderr);
    let told = told(&lab);
    assert_eq!((told.told, told.lost), ((room + batch.len()) as u64, lost as u64));
    // Who has looked on since the beginning and read nothing is told what he has missed, and goes on from there.
    let mut record = Vec::new();
    let Next::Missed(missed) = onlooker.next(&mut record) else { panic!() };
    let mut left = 0;
    while onlooker.next(&mut record) == Next::Record {
        left += 1;
    }
    assert_eq!(missed / 72 + left, told.told);
}

/// One reads and consumes, others look on; who is killed is followed by who looked on, and by who comes later, and nothing is lost.
#[test]
#[ignore = "needs root and BPF"]
fn readers_take_turns() {
    let lab = Lab::attached("generic", &policy(DENY));
    let mut port = Port::open(&lab.client, CLIENT_END);
    send(&lab, &mut port, &frames(2));
    let first = Follower::start(&lab, "first");
    first.wait_for(2);
    wait_until(|| are_consumed(&lab));
    let second = Follower::start(&lab, "second");
    send(&lab, &mut port, &frames(5));
    first.wait_for(7);
    second.wait_for(5);
    wait_until(|| are_consumed(&lab));
    first.signal(Signal::KILL);
    assert_eq!(first.wait().0.status, None);
    send(&lab, &mut port, &frames(5));
    second.wait_for(10);
    // It has taken over.
    wait_until(|| are_consumed(&lab));
    second.signal(Signal::KILL);
    assert_eq!(second.wait().0.status, None);
    send(&lab, &mut port, &frames(5));
    let third = Follower::start(&lab, "third");
    third.wait_for(5);
    // Another one may have all that is left at any time.
    let lines = parsed(&lab.icmpctl(&["events", "--json"]).ok());
    assert_eq!(lines.last().unwrap()["shown"], 17);
    // Too many within a second: said as it happens, and summed up at the end.
    send(&lab, &mut port, &frames(20 * MOST_OF_RULE as usize));
    let told = told(&lab);
    assert!(told.suppressed > 0, "{told:?}");
    wait_until(|| {
        let lines = third.lines();
        let suppressed = of(&lines, "gap").into_iter().map(|gap| gap["suppressed"].as_u64().unwrap());
        suppressed.sum::<u64>() == told.suppressed
    });
    third.signal(Signal::INT);
    let (finished, end) = third.wait();
    assert_eq!((finished.status, &*finished.stderr), (Some(0), ""));
    assert_eq!(
        (&end["suppressed"], &end["lost"], &end["missed"]),
        (&told.suppressed.into(), &0.into(), &0.into())
    );
    assert_eq!(end["shown"].as_u64().unwrap() + 12, told.told);
    let _ = lab.icmpctl(&["detach", SERVER_END]).ok();
    lab.assert_nothing_left();
}

/// Events have the text of the rule that was in place when they were told; where its slot is another one's now, who comes later
/// does not know it any more.
#[test]
#[ignore = "needs root and BPF"]
fn events_name_the_rule_of_their_time() {
    let lab = Lab::attached("generic", &policy(DENY));
    let mut port = Port::open(&lab.client, CLIENT_END);
    let follower = Follower::start(&lab, "follower");
    let texts = [
        "deny icmp4 any any echo log",
        "permit icmp4 any any echo log",
        "deny icmp4 any any echo length 0-1000 log",
    ];
    send(&lab, &mut port, &frames(1));
    for (number, text) in [(11, texts[1]), (12, texts[2])] {
        apply(&lab, &format!("{number} {text}"));
        send(&lab, &mut port, &frames(1));
    }
    let rules = |lines: &[Value]| -> Vec<Value> {
        of(lines, "packet").iter().map(|line| line["rule"].clone()).collect()
    };
    let rule = |number: u64, text: usize| json!({"number": number, "origin": "file", "text": texts[text]});
    follower.wait_for(3);
    assert_eq!(rules(&follower.lines()), [rule(10, 0), rule(11, 1), rule(12, 2)]);
    // The third rule has got the slot of the first one, and the second one's is nobody's.
    let later = parsed(&lab.icmpctl(&["events", "--json"]).ok());
    assert_eq!(rules(&later), [Value::Null, Value::Null, rule(12, 2)]);
    let text = lab.icmpctl(&["events"]).ok();
    assert!(text.lines().next().unwrap().contains("; a rule that is not known any more (slot "), "{text}");
}

/// `run` logs events, also the last ones before it ends; others look on.
#[test]
#[ignore = "needs root and BPF"]
fn run_logs_events() {
    let lab = Lab::new();
    let path = lab.policy(&policy(DENY));
    let mut running =
        lab.start(&["run", SERVER_END, "--mode", "generic", "--policy", path.to_str().unwrap()]);
    let mut port = Port::open(&lab.client, CLIENT_END);
    let line = format!("Z server0 denied, reason denied: {CLIENT4} > {SERVER4}: echo (type 8, code 0), ");
    let logged = |said: &str| {
        let lines = said.lines().filter(|said| said.contains(&line));
        lines.filter(|said| said.contains("; rule 10: deny icmp4 any any echo log")).count()
    };
    send(&lab, &mut port, &frames(1));
    running.wait_for(&line);
    let follower = Follower::start(&lab, "follower");
    send(&lab, &mut port, &frames(2));
    follower.wait_for(2);
    wait_until(|| logged(&running.said()) == 3);
    // Another policy, which it follows.
    let _ = lab.policy(&policy(&format!("{DENY}\n20 deny icmp any any redirect log")));
    running.wait_for("; counters go on");
    send(&lab, &mut port, &frames(20 * MOST_OF_RULE as usize));
    let told = told(&lab);
    running.signal(Signal::INT);
    let end = running.wait();
    assert_eq!(end.status, Some(0), "{}", end.stderr);
    assert_eq!(logged(&end.stderr) as u64, told.told, "{told:?}");
    let warning = "icmpctl: warning: server0 events: ";
    let warnings =
        end.stderr.lines().filter_map(|line| line.split_once(warning)?.1.split_once(" suppressed"));
    let suppressed: u64 = warnings.map(|(count, _)| count.parse::<u64>().unwrap()).sum();
    assert!(suppressed > 0 && suppressed == told.suppressed, "{suppressed} {told:?}");
    drop(follower);
    lab.assert_nothing_left();
}

/// How following ends: with whoever reads its output, with the attachment, with the interface.
#[test]
#[ignore = "needs root and BPF"]
fn following_ends_with_what_it_follows() {
    let lab = Lab::attached("generic", &policy(DENY));
    let silent = Lab::attached("generic", "");
    let end = silent.icmpctl(&["events"]);
    assert!(
        end.stderr.ends_with("server0: 0 events shown; no rule of its policy has the option `log`\n"),
        "{end}"
    );
    lab.icmpctl(&["events", "nowhere"]).fails(1, &["there is no interface nowhere"]);
    // Nobody reads any more, and nothing happens.
    let mut command = lab.command(&["events", "--follow"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    wait_until(|| child.try_wait().unwrap().is_some());
    let end: Finished = child.wait_with_output().unwrap().into();
    assert_eq!((end.status, &*end.stderr), (Some(0), ""), "{end}");

    let follower = Follower::start(&lab, "detached");
    let _ = lab.icmpctl(&["detach", SERVER_END]).ok();
    let (finished, end) = follower.wait();
    finished.fails(1, &["icmpctl: icmpctl has been detached from server0"]);
    assert_eq!(end["event"], "end");
    lab.icmpctl(&["events"]).fails(1, &["icmpctl is attached to no interface"]);
    lab.icmpctl(&["events", SERVER_END]).fails(1, &["icmpctl is not attached to server0"]);
    lab.assert_nothing_left();

    let _ = lab.icmpctl(&["attach", SERVER_END]).ok();
    let follower = Follower::start(&lab, "gone");
    lab.server.ip(&format!("link delete {SERVER_END}"));
    let (finished, end) = follower.wait();
    finished.fails(1, &["icmpctl: server0 is gone"]);
    assert_eq!(end["event"], "end");
}

/// Where nobody wants to be told of packets, the program has no instructions for that: none that puts anything into a ring buffer.
#[test]
#[ignore = "needs root and BPF"]
fn telling_takes_no_instructions_where_nobody_wants_it() {
    let length = |policy: &str| {
        let listing = Loaded::new(&host::tables(policy)).listing();
        let instructions = listing.lines().filter(|line| line.contains(": (")).count();
        (instructions, listing.contains("ringbuf_output"))
    };
    let (quiet, tells) = length("acl.rules = 'deny icmp any any echo'");
    let (logging, logs) = length("acl.rules = 'deny icmp any any echo log'");
    println!("listing: {quiet} instructions, {logging} of a program that logs");
    assert!(!tells && logs);
    assert!(quiet + 200 < logging, "{quiet}, {logging}");
}
