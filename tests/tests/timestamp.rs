//! Timestamp requests (RFC 792, RFC 1122 3.2.2.8): answered where they are switched on, as Linux answers them.

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use etherparse::{Icmpv4Type, IpHeaders, Ipv4Header, PacketBuilder, icmpv4::TimestampMessage};
use icmp_common::Family::Ipv4;
use icmp_ebpf::{Reason, Verdict};
use icmp_tests::{
    both::Both,
    frames::{CLIENT_MAC, CLIENT4, ICMP4, IP, Ping4, SERVER_MAC, SERVER4, payload, tagged},
    host::{Outcome, handle, handle_in, tables},
    loaded::{Loaded, ONE_BUFFER},
    netns::{CLIENT_END, Lab},
    oracle,
    port::Port,
};
use icmp_userspace::explain::host::HostState;

const ON: &str = "respond.timestamp = true";

/// Milliseconds of a day.
const DAY: u32 = 86_400_000;
/// When the client says that it asks.
const ORIGINATE: u32 = 0x0123_4567;

/// A timestamp request as etherparse encodes it; it has 20 bytes, and Ethernet's padding.
fn request() -> Vec<u8> {
    let message = TimestampMessage {
        id: 0x1234,
        seq: 7,
        originate_timestamp: ORIGINATE,
        receive_timestamp: 0,
        transmit_timestamp: 0,
    };
    padded(encoded(CLIENT_MAC, SERVER_MAC, CLIENT4, SERVER4, 61, Icmpv4Type::TimestampRequest(message)))
}

/// The reply to it that is made at a time.
fn reply(time: u32) -> Vec<u8> {
    let message = TimestampMessage {
        id: 0x1234,
        seq: 7,
        originate_timestamp: ORIGINATE,
        receive_timestamp: time,
        transmit_timestamp: time,
    };
    let kind = Icmpv4Type::TimestampReply(message);
    padded(encoded(SERVER_MAC, CLIENT_MAC, SERVER4, CLIENT4, oracle::TTL, kind))
}

fn encoded(
    from: [u8; 6],
    to: [u8; 6],
    source: [u8; 4],
    destination: [u8; 4],
    ttl: u8,
    kind: Icmpv4Type,
) -> Vec<u8> {
    let header = Ipv4Header { source, destination, time_to_live: ttl, ..Ping4::default().ip };
    let mut frame = Vec::new();
    let step = PacketBuilder::ethernet2(from, to).ip(IpHeaders::Ipv4(header, Default::default()));
    step.icmpv4(kind).write(&mut frame, &[]).unwrap();
    frame
}

fn padded(mut frame: Vec<u8>) -> Vec<u8> {
    frame.resize(frame.len().max(60), 0);
    frame
}

/// A timestamp message with other contents: 12 bytes of times, or fewer, or with something behind them.
fn message(change: impl FnOnce(&mut Ping4)) -> Vec<u8> {
    let mut payload = [ORIGINATE.to_be_bytes(), [0; 4], [0; 4]].concat();
    payload.truncate(12);
    let mut ping = Ping4 { icmp_type: 13, payload, ..Ping4::default() };
    change(&mut ping);
    padded(ping.frame())
}

/// Milliseconds since midnight UT.
fn now() -> u32 {
    (SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() % u128::from(DAY)) as u32
}

/// The times of a reply: receive and transmit.
fn times(frame: &[u8]) -> [u32; 2] {
    [ICMP4 + 12, ICMP4 + 16].map(|at| u32::from_be_bytes(frame[at..at + 4].try_into().unwrap()))
}

/// How far two times are from each other, around midnight, too.
fn apart(one: u32, other: u32) -> u32 {
    let apart = (one + DAY - other) % DAY;
    apart.min(DAY - apart)
}

fn ends(policy: &str, frame: &[u8], reason: Reason) {
    let expected =
        Outcome { verdict: reason.verdict(), counted: Some((Ipv4, reason)), frame: frame.to_vec() };
    assert_eq!(handle(&tables(policy), frame), expected);
}

/// C24: the originate timestamp is copied, receive and transmit are milliseconds since midnight UT.
#[test]
fn c24_the_reply_is_rfc_792s() {
    let tables = tables(ON);
    let mut state = HostState::new(&tables);
    for (utc, time) in [
        (0, 0),
        (1_700_000_000_123_456_789, 80_000_123),
        (86_399_999_999_999, DAY - 1),
        (86_400_000_000_000, 0),
    ] {
        state.utc = utc;
        let outcome = handle_in(&mut state, &request());
        assert_eq!(outcome.counted, Some((Ipv4, Reason::Timestamp)));
        assert_eq!((outcome.verdict, outcome.frame), (Verdict::Answer, reply(time)), "{utc}");
    }
}

/// What stands behind the three times is not sent back, and never more than there is.
#[test]
fn longer_requests_are_answered_by_20_bytes() {
    let tables = tables(ON);
    for length in [13, 14, 18, 24, 100, 500] {
        let mut state = HostState::new(&tables);
        state.utc = 1_000_000;
        let times = [ORIGINATE.to_be_bytes(), [0; 4], [0; 4]].concat();
        let frame = message(|ping| ping.payload = [&times[..], &payload(length - 12)].concat());
        let outcome = handle_in(&mut state, &frame);
        assert_eq!(outcome.counted, Some((Ipv4, Reason::Timestamp)), "{length}");
        // What is left behind the reply is padding.
        assert_eq!(outcome.frame.len(), 60, "{length}");
        assert_eq!(outcome.frame[..ICMP4 + 20], reply(1)[..ICMP4 + 20], "{length}");
    }
}

/// C26: to broadcast and multicast addresses, by broadcast frames, and of less than 20 bytes: not answered.
#[test]
fn c26_not_every_request_is_answered() {
    for destination in [[192, 0, 2, 255], [255; 4], [224, 0, 0, 1]] {
        ends(ON, &message(|ping| ping.ip.destination = destination), Reason::NotUnicast);
    }
    ends(ON, &message(|ping| ping.to = [0xff; 6]), Reason::LinkMulticast);
    for length in 0..12 {
        ends(ON, &message(|ping| ping.payload.truncate(length)), Reason::TooShort);
    }
    ends(ON, &message(|ping| ping.ip.source = [0; 4]), Reason::BadSource);
    ends(ON, &message(|ping| ping.ip.destination = [192, 0, 2, 7]), Reason::NotServed);
    ends(ON, &message(|ping| ping.code = 1), Reason::OtherCode);
    let mut wrong = request();
    wrong[ICMP4 + 9] ^= 1;
    ends(ON, &wrong, Reason::BadChecksum);
    let mut wrong = request();
    wrong[IP + 8] ^= 1;
    ends(ON, &wrong, Reason::BadHeaderChecksum);
    ends("respond = { timestamp = true, enabled = false }", &request(), Reason::AnswersOff);
    // Replies are nobody's to answer.
    ends(ON, &message(|ping| ping.icmp_type = 14), Reason::OtherType);
}

/// C27: off unless switched on; and rules come first.
#[test]
fn c27_off_by_default() {
    ends("", &request(), Reason::OtherType);
    ends(
        "respond.timestamp = true\nacl.rules = 'deny icmp4 any any timestamp-request'",
        &request(),
        Reason::Denied,
    );
}

/// C24, C26 in the kernel's build, which agrees about all of this; behind VLAN tags, too.
#[test]
#[ignore = "needs root and BPF"]
fn c24_c26_both_builds_agree() {
    let mut both = Both::new(ON);
    for (frame, reason) in [
        (request(), Reason::Timestamp),
        (message(|ping| ping.payload.extend(payload(300))), Reason::Timestamp),
        (message(|ping| ping.payload.truncate(11)), Reason::TooShort),
        (message(|ping| ping.payload.extend(payload(600))), Reason::TooLong),
        (message(|ping| ping.code = 3), Reason::OtherCode),
        (message(|ping| ping.ip.destination = [192, 0, 2, 255]), Reason::NotUnicast),
    ] {
        assert_eq!(both.agree(&frame), Some(reason));
    }
    // In several buffers, of which only the first one is looked at where checksums are not.
    let mut trusting = Both::new("respond = { timestamp = true, verify-checksum = false }");
    for length in [ONE_BUFFER - ICMP4 - 20, ONE_BUFFER - ICMP4 - 19, ONE_BUFFER, 8000] {
        let frame = message(|ping| ping.payload.extend(payload(length)));
        assert_eq!(trusting.agree(&frame), Some(Reason::Timestamp), "{length}");
    }
    let tags = [(0x88a8, 0x2001), (0x8100, 0xb002)];
    let outcome = both.loaded.run(&tagged(request(), &tags));
    let time = times(&outcome.frame[8..])[0];
    assert_eq!(outcome.frame, tagged(reply(time), &tags));
}

/// C25: right within a second, and never stands still for more than a 15th of one.
#[test]
#[ignore = "needs root and BPF"]
fn c25_the_clock_is_right_and_runs() {
    let mut tables = tables(ON);
    tables.config.tai_offset = icmp_userspace::kernel::clock::tai_offset();
    let mut loaded = Loaded::new(&tables);
    let mut seen = BTreeSet::new();
    for _ in 0..20 {
        let outcome = loaded.run(&request());
        let [receive, transmit] = times(&outcome.frame);
        assert_eq!(receive, transmit);
        assert!(apart(receive, now()) < 1000, "{receive} at {}", now());
        assert_eq!(outcome.frame, reply(receive));
        seen.insert(receive);
        thread::sleep(Duration::from_secs(1) / 15);
    }
    assert_eq!(seen.len(), 20, "{seen:?}");
}

/// C24 and the kernel: to the same request the stack and the program say the same, but for the time and the identification.
#[test]
#[ignore = "needs root and BPF"]
fn c24_the_kernel_says_the_same() {
    let stack = Lab::new();
    let ours = Lab::attached("native", ON);
    for length in [12, 13, 40] {
        let times_only = [ORIGINATE.to_be_bytes(), [0; 4], [0; 4]].concat();
        let frame = message(|ping| ping.payload = [&times_only[..], &payload(length - 12)].concat());
        let replies = [&stack, &ours].map(|lab| {
            let mut port = Port::open(&lab.client, CLIENT_END);
            let is_reply =
                |frame: &[u8]| frame.len() > ICMP4 && frame[12..14] == [8, 0] && frame[ICMP4] == 14;
            let reply = port.exchange(&frame, Duration::from_secs(5), is_reply).expect("no reply");
            assert!(apart(times(&reply)[0], now()) < 1000);
            reply
        });
        let comparable = replies.map(|mut reply| {
            reply.truncate(ICMP4 + 20);
            reply[IP + 4..IP + 8].fill(0);
            reply[IP + 10..IP + 12].fill(0);
            reply[ICMP4 + 2..ICMP4 + 4].fill(0);
            reply[ICMP4 + 12..].fill(0);
            reply
        });
        assert_eq!(comparable[0], comparable[1], "{length}");
    }
    assert_eq!(ours.counted("ipv4", "timestamp"), 3);
}
