//! `icmpctl capture`: what a filter takes, what Wireshark reads in its files, that packets of real traffic are in them byte for byte,
//! and that nothing of it stays on, however it ends.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs,
    net::IpAddr,
    process::{Command, Stdio},
    time::Duration,
};

use icmp_common::{Family, events::ChannelFamily, wire::ipv6::words};
use icmp_ebpf::Reason;
use icmp_tests::{
    frames::{Ping4, Ping6, payload},
    icmpctl::{Finished, Running, holds, wait_until},
    netns::{CLIENT_END, CLIENT4, CLIENT6, Lab, SERVER_END, SERVER4, SERVER6, run},
    oracle,
    packets::{Packet, packet},
    ping::ping,
    port::Port,
    rules::{filter, is_about},
};
use icmp_userspace::{
    observe::{
        captured::{Captured, Direction, Judgement},
        decode::Decoded,
        filter::Filter,
        pcapng::{Statistics, Writer},
    },
    policy::slots::Line,
};
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};
use rustix::{
    mount::{MountFlags, UnmountFlags, mount, unmount},
    process::Signal,
};
use serde_json::Value;
use tempfile::TempDir;

/// Whether a packet passes what the kernel asks of it.
fn passes(sieve: &ChannelFamily, packet: &Packet) -> bool {
    let is = |address: IpAddr, value: [u64; 2], mask: [u64; 2]| {
        let words = match address {
            IpAddr::V4(address) => [u32::from_ne_bytes(address.octets()).into(), 0],
            IpAddr::V6(address) => {
                let octets = address.octets();
                words([0, 8].map(|at| octets[at..at + 8].try_into().unwrap()))
            }
        };
        (0..2).all(|word| words[word] & mask[word] == value[word])
    };
    is(packet.source, sieve.source, sieve.source_mask)
        && is(packet.destination, sieve.destination, sieve.destination_mask)
        && packet.message.is_none_or(|[kind, _]| sieve.types[usize::from(kind / 64)] >> (kind % 64) & 1 == 1)
        && sieve.types != [0; 4]
}

/// A filter takes what a rule with the same words is about, and nothing of that is lost in the kernel's sieve.
#[test]
fn a_filter_takes_what_a_rule_is_about() {
    let taken = RefCell::new(BTreeMap::new());
    let mut runner = TestRunner::default();
    let cases = (filter(), vec(packet(), 64));
    runner
        .run(&cases, |((text, rule), packets)| {
            let filter = Filter::parse(&text).map_err(|error| TestCaseError::fail(error.to_string()))?;
            for packet in packets {
                let wanted = is_about(&rule, &packet);
                let decoded = Decoded::of_frame(&packet.frame).unwrap();
                prop_assert_eq!(filter.takes(&decoded), wanted, "{}: {:?}", text, packet);
                let passes = passes(&filter.sieve()[packet.family as usize], &packet);
                prop_assert!(passes || !wanted, "{}: {:?}", text, packet);
                *taken.borrow_mut().entry((packet.family, wanted, passes)).or_insert(0) += 1;
            }
            Ok(())
        })
        .unwrap();
    let taken = taken.into_inner();
    // Packets of every sort were there, and of those that were not wanted most were lost in the sieve.
    for family in Family::ALL {
        let count = |wanted, passes| taken.get(&(family, wanted, passes)).copied().unwrap_or(0);
        assert!(count(true, true) > 100 && count(false, true) > 100, "{taken:?}");
        assert!(count(false, false) > 2 * count(false, true), "{taken:?}");
    }
}

/// What tshark finds in a capture file: a line for each packet, with these fields.
fn tshark(path: &str, arguments: &[&str], fields: &[&str]) -> Vec<String> {
    let mut command = Command::new("tshark");
    command.args(["-r", path, "-T", "fields"]).args(arguments);
    fields.iter().for_each(|field| _ = command.args(["-e", field]));
    run(&mut command).lines().map(str::to_owned).collect()
}

#[test]
#[ignore = "needs root and BPF"]
fn wireshark_shows_what_was_decided() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let line =
        |number, text: &str| Line { slot: 1, number, origin: "file".to_owned(), text: text.to_owned() };
    let [deny, other] = [line(Some(20), "deny icmp any host 192.0.2.9 echo"), line(None, "default permit")];
    let (ping4, ping6) = (Ping4::default().frame(), Ping6::default().frame());
    let reply = oracle::reply(&ping6, oracle::TTL);
    let mut writer = Writer::begin(&file, "server0", 64).unwrap();
    let begin = 1_700_000_000_000_000_001;
    for (number, (frame, cut, direction, reason, rule)) in [
        (&ping4, 64, Direction::In, Reason::Denied, Some(&deny)),
        (&ping6, ping6.len(), Direction::In, Reason::Echo, Some(&other)),
        (&reply, reply.len(), Direction::Out, Reason::Echo, Some(&other)),
        (&ping4, 33, Direction::In, Reason::BadHeader, None),
    ]
    .into_iter()
    .enumerate()
    {
        let judgement = Judgement { reason, rule };
        let (frame, length) = (&frame[..cut], frame.len() as u32);
        let time = begin + number as u64 * 1_000_000_007;
        writer.packet(&Captured { time, direction, frame, length, judgement }).unwrap();
        // What is flushed can be read, whatever comes.
        writer.flush().unwrap();
        assert_eq!(tshark(path, &[], &["frame.number"]).len(), number + 1);
    }
    let end = begin + 5_000_000_000;
    writer.end(&Statistics { begin, end, received: 4, dropped: 0 }).unwrap();

    let fields = [
        "frame.time_epoch",
        "frame.interface_name",
        "frame.packet_flags_direction",
        "frame.len",
        "frame.cap_len",
        "frame.comment",
    ];
    let (len4, len6) = (ping4.len(), ping6.len());
    assert_eq!(
        tshark(path, &[], &fields),
        [
            format!(
                "1700000000.000000001\tserver0\t0x00000001\t{len4}\t64\tdenied, reason denied, rule 20: deny icmp any host 192.0.2.9 echo"
            ),
            format!(
                "1700000001.000000008\tserver0\t0x00000001\t{len6}\t{len6}\tanswered, reason echo, default permit"
            ),
            format!(
                "1700000002.000000015\tserver0\t0x00000002\t{len6}\t{len6}\tanswered, reason echo, default permit"
            ),
            format!("1700000003.000000022\tserver0\t0x00000001\t{len4}\t33\tmalformed, reason bad-header"),
        ]
    );
    // As docs/observability.md has it.
    assert_eq!(tshark(path, &["-Y", "frame.comment contains \"deny\""], &["frame.number"]), ["1"]);
    let capinfos = run(Command::new("capinfos").arg(path));
    for part in ["icmpctl ", "nanoseconds (9)", "Number of stat entries = 1", "Number of packets:   4"] {
        assert!(capinfos.contains(part), "{capinfos}");
    }
    assert!(fs::metadata(path).unwrap().len().is_multiple_of(4));
}

/// A capture that is under way.
fn start(lab: &Lab, arguments: &str) -> Running {
    let words: Vec<_> = ["capture", SERVER_END].into_iter().chain(arguments.split_whitespace()).collect();
    let mut running = Running::start(lab.command(&words));
    running.wait_for("capturing on server0, ");
    running
}

/// Ends a capture as Ctrl-C does, and returns what it printed and said.
fn end(capture: Running) -> Finished {
    capture.signal(Signal::INT);
    let finished = capture.wait();
    assert_eq!(finished.status, Some(0), "{finished}");
    finished
}

/// Whether a program is in place that tells of packets.
fn is_on(lab: &Lab) -> bool {
    holds(&lab.pins(), "captured")
}

/// All of a packet in a capture file, as tshark shows it.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    /// In hexadecimal digits.
    frame: String,
    outbound: bool,
    comment: String,
}

fn hexadecimal(frame: &[u8]) -> String {
    frame.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn shown(path: &str) -> Vec<Shown> {
    let text = run(Command::new("tshark").args(["-r", path, "-T", "json", "-x", "-J", "frame"]));
    let packets: Vec<Value> = serde_json::from_str(&text).unwrap();
    let fields = tshark(path, &[], &["frame.packet_flags_direction", "frame.comment"]);
    assert_eq!(packets.len(), fields.len());
    let shown = packets.iter().zip(&fields).map(|(packet, fields)| {
        let (direction, comment) = fields.split_once('\t').unwrap();
        Shown {
            frame: packet["_source"]["layers"]["frame_raw"][0].as_str().unwrap().to_owned(),
            outbound: direction == "0x00000002",
            comment: comment.to_owned(),
        }
    });
    shown.collect()
}

const POLICY: &str = r#"
[acl]
rules = """
10 deny icmp any any echo length 110-200
20 reject icmp4 any any timestamp-request
30 limit 1/h burst 2 per rule icmp6 any any echo length 1000-2000
40 permit icmp any any
"""
"#;

/// What came and what left, byte for byte, with what was decided.
fn packets_and_their_answers_are_captured_as_they_are(mode: &str) {
    let lab = Lab::attached(mode, POLICY);
    let file = lab.files.path().join("file.pcapng");
    let path = file.to_str().unwrap();
    let capture = start(&lab, &format!("-w {path} --verdict answer,deny,reject,limit"));
    assert!(is_on(&lab));
    let mut port = Port::open(&lab.client, CLIENT_END);
    let (ping4, ping6) = (Ping4::default(), Ping6::default());
    let tagged = Ping4 { tags: vec![(0x8100, 7)], ..ping4.clone() };
    let long = Ping6 { payload: payload(1400), ..ping6.clone() };
    let answered = "answered, reason echo, rule 40: permit icmp any any";
    let limit = "rule 30: limit 1/h burst 2 icmp6 any any echo length 1000-2000";
    let mut expected = Vec::new();
    for (frame, comment, replies) in [
        (ping4.frame(), answered, true),
        (ping6.frame(), answered, true),
        (tagged.frame(), answered, true),
        (
            Ping4 { payload: payload(100), ..ping4.clone() }.frame(),
            "denied, reason denied, rule 10: deny icmp any any echo length 110-200",
            false,
        ),
        (
            Ping4 { icmp_type: 13, payload: payload(12), ..ping4.clone() }.frame(),
            "rejected, reason rejected, rule 20: reject icmp4 any any timestamp-request",
            true,
        ),
        (long.frame(), &*format!("answered, reason echo, {limit}"), true),
        (long.frame(), &*format!("answered, reason echo, {limit}"), true),
        (long.frame(), &*format!("limited, reason over-limit, {limit}"), false),
    ] {
        let comment = comment.to_owned();
        expected.push(Shown { frame: hexadecimal(&frame), outbound: false, comment: comment.clone() });
        if replies {
            let is_reply = |reply: &[u8]| reply[..6] == frame[6..12] && !is_neighbour(reply);
            let reply = port.exchange(&frame, Duration::from_secs(5), is_reply);
            let reply = reply.unwrap_or_else(|| panic!("no reply: {comment}"));
            // The socket takes tags for its own business.
            let frame = if frame == tagged.frame() { oracle::reply(&frame, oracle::TTL) } else { reply };
            expected.push(Shown { frame: hexadecimal(&frame), outbound: true, comment });
        } else {
            port.send(&frame);
        }
    }
    wait_until(|| tshark(path, &[], &["frame.number"]).len() == expected.len());
    let finished = end(capture);
    let shown = shown(path);
    shown.iter().zip(&expected).for_each(|(shown, expected)| assert_eq!(shown, expected));
    assert_eq!(shown.len(), expected.len());
    let count = expected.len();
    assert!(finished.stderr.contains(&format!("{count} packets captured, 0 packets dropped by kernel")));
    assert!(!is_on(&lab));
    let _ = lab.icmpctl(&["detach", SERVER_END]).ok();
    lab.assert_nothing_left();
}

/// Whether a frame is a message of Neighbour Discovery, or none of IP.
fn is_neighbour(frame: &[u8]) -> bool {
    match frame[12..14] {
        [0x86, 0xdd] => matches!(frame[54], 133..=137 | 143),
        [8, 0] => false,
        _ => true,
    }
}

#[test]
#[ignore = "needs root and BPF"]
fn packets_are_captured_in_native_mode() {
    packets_and_their_answers_are_captured_as_they_are("native");
}

#[test]
#[ignore = "needs root and BPF"]
fn packets_are_captured_in_generic_mode() {
    packets_and_their_answers_are_captured_as_they_are("generic");
}

/// What `icmpctl capture` prints without a file: a line for each packet.
fn lines(finished: &Finished) -> Vec<&str> {
    finished.stdout.lines().collect()
}

/// The parts of a line from the direction on.
fn without_time(line: &str) -> &str {
    let (time, rest) = line.split_once(' ').unwrap();
    assert_eq!((time.len(), time.matches(':').count()), ("12:34:56.123456".len(), 2), "{line}");
    rest
}

#[test]
#[ignore = "needs root and BPF"]
fn packets_are_printed_a_line_each() {
    let lab = Lab::attached("generic", POLICY);
    let capture = start(&lab, "--count 6 --verdict answer,deny,reject");
    let _ = ping(&lab.client, &format!("-c 1 -s 56 -e 77 {SERVER4}"));
    let _ = ping(&lab.client, &format!("-c 1 -s 150 -e 77 {SERVER4}"));
    let mut port = Port::open(&lab.client, CLIENT_END);
    port.send(&Ping4 { icmp_type: 13, payload: payload(12), ..Ping4::default() }.frame());
    port.send(&Ping6 { tags: vec![(0x8100, 9)], icmp_type: 129, ..Ping6::default() }.frame());
    port.send(&Ping6 { tags: vec![(0x8100, 9)], ..Ping6::default() }.frame());
    let finished = capture.wait();
    assert_eq!(finished.status, Some(0), "{finished}");
    assert!(finished.stderr.contains("6 packets captured, 0 packets dropped by kernel"), "{finished}");
    let there = format!("IP {CLIENT4} > {SERVER4}: ICMP");
    let back = format!("IP {SERVER4} > {CLIENT4}: ICMP");
    let answered = "answered, reason echo, rule 40: permit icmp any any";
    let denied = "denied, reason denied, rule 10: deny icmp any any echo length 110-200";
    let rejected = "rejected, reason rejected, rule 20: reject icmp4 any any timestamp-request";
    let timestamp = "timestamp-request, id 4660, seq 7";
    let quoted = format!("{CLIENT4} > {SERVER4}: {timestamp}");
    let shown: Vec<_> = lines(&finished).into_iter().map(without_time).collect();
    assert_eq!(
        shown,
        [
            format!("In  {there} echo, id 77, seq 1, length 64: {answered}"),
            format!("Out {back} echo-reply, id 77, seq 1, length 64: {answered}"),
            format!("In  {there} echo, id 77, seq 1, length 158: {denied}"),
            format!("In  {there} {timestamp}, length 20: {rejected}"),
            format!("Out {back} administratively-prohibited, length 48, quoting {quoted}: {rejected}"),
            format!(
                "In  vlan 9, IP6 {CLIENT6} > {SERVER6}: ICMP6 echo, id 4660, seq 7, length 64: {answered}"
            ),
        ]
    );
    assert!(!is_on(&lab));
}

/// Packets that the verdict, the rule, the length and the number of the packets leave.
#[test]
#[ignore = "needs root and BPF"]
fn what_is_not_wanted_is_left_out() {
    let lab = Lab::attached("generic", POLICY);
    let capture = |arguments: &str| {
        let capture = start(&lab, arguments);
        let mut port = Port::open(&lab.client, CLIENT_END);
        let long = payload(100);
        port.send(&Ping4 { payload: long.clone(), ..Ping4::default() }.frame());
        port.send(&Ping4 { payload: long.clone(), ..Ping4::default() }.frame());
        port.send(&Ping6 { payload: long, ..Ping6::default() }.frame());
        // What comes last is answered: then all has come.
        assert_eq!(ping(&lab.client, &format!("-c 2 {SERVER4}")), (2, 2));
        let finished = end(capture);
        assert!(!is_on(&lab));
        let of = |part: &str| lines(&finished).iter().filter(|line| line.contains(part)).count();
        (of(": denied, "), of(": answered, "))
    };
    assert_eq!(capture(""), (3, 4));
    assert_eq!(capture("--verdict deny icmp4 any any"), (2, 0));
    assert_eq!(capture("--rule 10 icmp host 2001:db8::2 any"), (1, 0));
    assert_eq!(capture("icmp any any echo length 80-90"), (0, 4));

    let file = lab.files.path().join("cut.pcapng");
    let path = file.to_str().unwrap();
    let cut = start(&lab, &format!("-w {path} --snaplen 40 --count 3 icmp4 any any echo"));
    let _ = ping(&lab.client, &format!("-c 3 {SERVER4}"));
    let _ = cut.wait().ok();
    let fields = ["frame.cap_len", "frame.len"];
    assert_eq!(tshark(path, &[], &fields), ["40\t98"; 3]);
}

#[test]
#[ignore = "needs root and BPF"]
fn what_means_nothing_is_told_before_anything_is_touched() {
    let lab = Lab::attached("generic", POLICY);
    let program = lab.server.xdp_program(SERVER_END);
    let capture = |arguments: &str| {
        let words: Vec<_> = ["capture"].into_iter().chain(arguments.split_whitespace()).collect();
        lab.icmpctl(&words)
    };
    let said = capture("server0 icmp any any ecoh").fails(2, &["filter:1:14: unknown message type: ecoh"]);
    let place = "1 | icmp any any ecoh\n  |              ^^^^\n  = did you mean echo?";
    assert!(said.contains(place), "{said}");
    capture("server0 icmp set:trusted any").fails(2, &["a filter names no sets", "--rule N"]);
    capture("server0 --verdict denied").fails(2, &["answer, pass, deny, reject, limit, malformed"]);
    capture("server0 --snaplen 16337").fails(2, &["16336"]);
    let missing = "there is no rule 11 in the policy on server0; `icmpctl stats server0 --by rule`";
    capture("server0 --rule 11").fails(1, &[missing]);
    capture("server0 -w /nowhere/file").fails(1, &["writing /nowhere/file: No such file"]);
    capture("nowhere0").fails(1, &["there is no interface nowhere0"]);
    capture("lo").fails(1, &["icmpctl is not attached to lo"]);
    assert_eq!(lab.server.xdp_program(SERVER_END), program);
    assert!(!is_on(&lab));
}

/// Instructions of the program in place, in bytes.
fn length(lab: &Lab) -> u64 {
    let id = lab.server.xdp_program(SERVER_END).unwrap().to_string();
    let text = run(Command::new("bpftool").args(["-j", "prog", "show", "id", &id]));
    serde_json::from_str::<Value>(&text).unwrap()["bytes_xlated"].as_u64().unwrap()
}

/// However it ends, the program is what it was, and tells of nothing.
#[test]
#[ignore = "needs root and BPF"]
fn nothing_stays_on_however_a_capture_ends() {
    let lab = Lab::attached("generic", POLICY);
    let before = length(&lab);
    for signal in [Signal::INT, Signal::TERM] {
        let capture = start(&lab, "");
        assert!(is_on(&lab) && length(&lab) > before);
        capture.signal(signal);
        let finished = capture.wait();
        assert_eq!(finished.status, Some(0), "{finished}");
        assert!(!is_on(&lab));
        assert_eq!(length(&lab), before);
    }
    let capture = start(&lab, "");
    // Only its guardian can do anything now.
    capture.signal(Signal::KILL);
    let _ = capture.wait();
    wait_until(|| !is_on(&lab));
    assert_eq!(length(&lab), before);
    let lock = format!("{}.captured", lab.server.key(lab.server.index(SERVER_END)));
    wait_until(|| !holds("/run/icmpctl".as_ref(), &lock));
    // Nobody reads any more: the first packet that can't be printed ends it.
    let mut capture = start(&lab, "");
    drop(capture.stdout());
    let pings = ping(&lab.client, &format!("-c 1 {SERVER4}")).1;
    let finished = capture.wait();
    assert_eq!((finished.status, pings), (Some(0), 1), "{finished}");
    assert!(!is_on(&lab));
    assert_eq!(length(&lab), before);
    // Somebody could read, but does not.
    let mut capture = start(&lab, "-w - icmp4 any any");
    let unread = capture.stdout();
    assert_eq!(ping(&lab.client, &format!("-c 100 -s 1000 {SERVER4}")), (100, 100));
    capture.signal(Signal::INT);
    capture.wait().fails(1, &["nobody takes what was captured: some of it is lost"]);
    assert!(!is_on(&lab));
    assert_eq!(length(&lab), before);
    drop(unread);
    let _ = lab.icmpctl(&["detach", SERVER_END]).ok();
    lab.assert_nothing_left();
}

#[test]
#[ignore = "needs root and BPF"]
fn there_is_one_capture_at_a_time() {
    let lab = Lab::attached("generic", POLICY);
    let file = lab.files.path().join("file.pcapng");
    let path = file.to_str().unwrap();
    let first = start(&lab, &format!("-w {path} icmp4 any any"));
    let _ = ping(&lab.client, &format!("-c 1 {SERVER4}"));
    wait_until(|| tshark(path, &[], &["frame.number"]).len() == 2);
    let held = format!("another icmpctl (pid {}, icmpctl capture) is working on server0", first.pid());
    lab.icmpctl(&["capture", SERVER_END, "-w", path]).fails(1, &[&held]);
    assert!(is_on(&lab));
    // What is only tried out is not captured, and what runs is what is tried out.
    let tried = lab.icmpctl(&["explain", "--from", CLIENT4, "--to", SERVER4, "echo"]);
    assert_eq!((tried.complaints().as_str(), tried.status), ("", Some(0)), "{tried}");
    let _ = end(first);
    assert_eq!(tshark(path, &[], &["frame.number"]).len(), 2);
    let second = start(&lab, "");
    let _ = end(second);
}

/// The policy changes under a capture: it goes on, and tells of the rules that are in place.
#[test]
#[ignore = "needs root and BPF"]
fn a_capture_goes_on_under_another_policy() {
    let lab = Lab::attached("generic", POLICY);
    let others = lab.files.path().join("others.toml");
    fs::write(&others, "acl.rules = '5 deny icmp any any echo'").unwrap();
    let (others, policy) = (others.to_str().unwrap(), lab.policy(POLICY));
    let all = start(&lab, "icmp4 any any echo");
    let _ = ping(&lab.client, &format!("-c 1 {SERVER4}"));
    // In place of what is attached, with a record of its own.
    let _ = lab.icmpctl(&["attach", SERVER_END, "--policy", policy.to_str().unwrap()]).ok();
    let _ = lab.icmpctl(&["apply", others, "--confirm", "1h"]).ok();
    assert!(is_on(&lab));
    let _ = ping(&lab.client, &format!("-c 1 {SERVER4}"));
    let finished = end(all);
    let rules: Vec<_> =
        lines(&finished).into_iter().map(|line| line.split_once(", rule ").unwrap().1).collect();
    assert_eq!(rules, ["40: permit icmp any any", "40: permit icmp any any", "5: deny icmp any any echo"]);
    assert!(!is_on(&lab));

    // What waits for confirmation can be looked at, and goes on waiting.
    let deny = start(&lab, "--verdict deny --count 1");
    let _ = ping(&lab.client, &format!("-c 1 {SERVER4}"));
    assert_eq!(lines(&deny.wait()).len(), 1);
    let _ = lab.icmpctl(&["confirm", "--rollback"]).ok();
    assert_eq!(ping(&lab.client, &format!("-c 1 {SERVER4}")), (1, 1));

    let _ = lab.icmpctl(&["apply", others]).ok();
    let one = start(&lab, "--rule 5");
    let _ = lab.icmpctl(&["apply", policy.to_str().unwrap()]).ok();
    let gone =
        "the policy on server0 has changed, and has no rule any more that says: deny icmp any any echo";
    one.wait().fails(1, &[gone]);
    assert!(!is_on(&lab));
    // The policy that was put in place meanwhile is there, and not the one before.
    assert_eq!(ping(&lab.client, &format!("-c 1 {SERVER4}")), (1, 1));
}

#[test]
#[ignore = "needs root and BPF"]
fn a_capture_ends_with_what_it_captures_from() {
    let lab = Lab::attached("generic", POLICY);
    let capture = start(&lab, "icmp4 any any");
    let _ = ping(&lab.client, &format!("-c 1 {SERVER4}"));
    let _ = lab.icmpctl(&["detach", SERVER_END]).ok();
    let finished = capture.wait();
    assert_eq!(lines(&finished).len(), 2, "{finished}");
    finished.fails(1, &["2 packets captured", "icmpctl has been detached from server0"]);
    lab.assert_nothing_left();

    let _ = lab.icmpctl(&["attach", SERVER_END]).ok();
    let capture = start(&lab, "icmp4 any any");
    let _ = ping(&lab.client, &format!("-c 1 {SERVER4}"));
    lab.server.ip(&format!("link delete {SERVER_END}"));
    let finished = capture.wait();
    assert_eq!(lines(&finished).len(), 2, "{finished}");
    finished.fails(1, &["2 packets captured", "server0 is gone"]);
}

/// What does not fit is not there, what did is whole, and the way of packets is as it was.
#[test]
#[ignore = "needs root and BPF"]
fn a_full_disk_ends_a_capture_behind_a_whole_packet() {
    let lab = Lab::attached("generic", POLICY);
    let disk = TempDir::new().unwrap();
    mount("tmpfs", disk.path(), "tmpfs", MountFlags::empty(), Some(c"size=16k")).unwrap();
    let file = disk.path().join("file.pcapng");
    let path = file.to_str().unwrap();
    let capture = start(&lab, &format!("-w {path} icmp4 any any echo"));
    // More than there is room for.
    let pings = ping(&lab.client, &format!("-c 20 -s 1400 {SERVER4}"));
    let finished = capture.wait();
    let shown = tshark(path, &[], &["frame.number"]);
    let said = format!("writing {path}, which ends before this packet: No space left on device");
    finished.fails(1, &[&said]);
    assert_eq!(pings, (20, 20));
    assert!((5..12).contains(&shown.len()), "{shown:?}");
    assert!(!is_on(&lab));
    unmount(disk.path(), UnmountFlags::DETACH).unwrap();

    let full = lab.icmpctl(&["capture", SERVER_END, "-w", "/dev/full"]);
    full.fails(1, &["writing /dev/full: No space left on device"]);
    assert!(!is_on(&lab));
}

/// What comes faster than it is read is lost, counted, and harms nobody.
#[test]
#[ignore = "needs root and BPF"]
fn what_is_lost_is_counted() {
    let lab = Lab::attached("generic", "");
    let file = lab.files.path().join("file.pcapng");
    let path = file.to_str().unwrap();
    let capture = start(&lab, &format!("-w {path} icmp4 any any echo"));
    capture.signal(Signal::STOP);
    // Some 12 MB of packets and answers.
    let _ = ping(&lab.client, &format!("-q -f -c 4000 -s 1400 {SERVER4}"));
    let answered = lab.counted("ipv4", "echo");
    capture.signal(Signal::CONT);
    let finished = end(capture);
    let (_, sums) = finished.stderr.rsplit_once("icmpctl: ").unwrap();
    let numbers: Vec<u64> = sums.split(' ').filter_map(|word| word.parse().ok()).collect();
    let [captured, lost] = numbers[..] else { panic!("{finished}") };
    assert!(lost > 0 && captured > 4000, "{finished}");
    assert_eq!(captured + lost, 2 * answered, "{finished}");
    assert_eq!(tshark(path, &[], &["frame.number"]).len() as u64, captured);
}

/// Wireshark at the other end of a pipe sees packets at once.
#[test]
#[ignore = "needs root and BPF"]
fn packets_are_seen_at_once_through_a_pipe() {
    let lab = Lab::attached("generic", POLICY);
    let mut capture = start(&lab, "-w - icmp4 any any");
    let seen = lab.files.path().join("seen");
    let mut tshark = Command::new("tshark")
        .args(["-i", "-", "-l", "-T", "fields", "-e", "frame.comment"])
        .stdin(capture.stdout())
        .stdout(fs::File::create(&seen).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut port = Port::open(&lab.client, CLIENT_END);
    let comment = "denied, reason denied, rule 10: deny icmp any any echo length 110-200\n";
    for number in 1..=2 {
        port.send(&Ping4 { payload: payload(100), ..Ping4::default() }.frame());
        wait_until(|| fs::read_to_string(&seen).unwrap() == comment.repeat(number));
    }
    // When the capture ends, so does what reads it.
    let finished = end(capture);
    assert!(finished.stderr.contains("2 packets captured"), "{finished}");
    wait_until(|| tshark.try_wait().unwrap().is_some());
    assert!(!is_on(&lab));
}
