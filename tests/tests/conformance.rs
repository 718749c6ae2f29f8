//! The conformance checklist, one number a test, against the data path's host build.
//!
//! A test that says "answered" means the reply that etherparse encodes, byte for byte, counted as `echo`; one
//! that says "passed" means that not one byte changed.

use std::sync::LazyLock;

use etherparse::{IpDscp, IpEcn, IpFragOffset, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header};
use icmp_common::Family::{self, Ipv4, Ipv6};
use icmp_ebpf::{Reason, Route, Verdict};
use icmp_tests::{
    frames::{
        CLIENT_MAC, CLIENT4, CLIENT6, ICMP4, ICMP6, IP, Ping4, Ping6, SERVER_MAC, SERVER4, SERVER6,
        fix_header_checksum, payload, tagged, tcp4, udp4, udp6,
    },
    host::{handle, handle_routed, interface, tables},
    oracle::{self, outcome, receive, untouched},
};
use icmp_userspace::policy::{compile::Tables, file, slots::Slots};
use proptest::prelude::*;

/// Tables of the default policy.
fn own() -> &'static Tables {
    static OWN: LazyLock<Tables> = LazyLock::new(|| tables(""));
    &OWN
}

/// Everything is served, as far as a policy can say so.
fn everything() -> Tables {
    tables("respond.to = [\"0.0.0.0/0\", \"::/0\"]")
}

#[track_caller]
fn goes(tables: &Tables, frame: &[u8], family: Family, reason: Reason) {
    assert_eq!(handle(tables, frame), outcome(frame, family, reason));
}

/// Both families' pings, changed by two functions, under one reason.
#[track_caller]
fn both_go(
    tables: &Tables,
    change4: impl FnOnce(&mut Ping4),
    change6: impl FnOnce(&mut Ping6),
    reason: Reason,
) {
    let (mut ping4, mut ping6) = (Ping4::default(), Ping6::default());
    change4(&mut ping4);
    change6(&mut ping6);
    goes(tables, &ping4.frame(), Ipv4, reason);
    goes(tables, &ping6.frame(), Ipv6, reason);
}

/// RFC 792, 1122 3.2.2.6: an echo request to a served address yields its reply: addresses reversed; identifier,
/// sequence and data equal. To another address, or in another protocol, it does not.
#[test]
fn c01_echo_request_yields_its_reply() {
    let ping = Ping4::default();
    let outcome = handle(own(), &ping.frame());
    assert_eq!(outcome.counted, Some((Ipv4, Reason::Echo)));
    let reply = receive(&outcome.frame).unwrap();
    assert_eq!((reply.identifier, reply.sequence), (ping.identifier, ping.sequence));
    assert_eq!(reply.payload, ping.payload);
    goes(own(), &ping.frame(), Ipv4, Reason::Echo);

    let mut miss = ping.clone();
    miss.ip.destination = [192, 0, 2, 9];
    goes(own(), &miss.frame(), Ipv4, Reason::NotServed);
    assert_eq!(handle(own(), &udp4()), untouched(&udp4()));
}

/// Payloads of every length come back whole; what can't be answered whole is passed.
#[test]
fn c02_payloads_come_back_whole() {
    for length in (0..=200).chain([1471, 1472, 8972]) {
        both_go(
            own(),
            |ping| ping.payload = payload(length),
            |ping| ping.payload = payload(length),
            Reason::Echo,
        );
    }
    // The longest packets there are: longer than is summed up, and so answered only where nothing is summed up.
    let trusting = tables("respond.verify-checksum = false");
    for (tables, reason) in [(own(), Reason::TooLong), (&trusting, Reason::Echo)] {
        both_go(tables, |ping| ping.payload = payload(65507), |ping| ping.payload = payload(65527), reason);
    }
}

/// The request that carries `checksum` and is right with it, if `rest` is what else is summed up.
fn sequence_for(checksum: u16, rest: u32) -> u16 {
    let mut sum = u32::from(checksum) + rest;
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

/// RFC 1624: the reply's checksum is right for every one of the 65,536 request checksums, whether it is verified
/// or not. Among them is the one whose reply is zero throughout: its checksum is 0xffff.
#[test]
fn c03_every_request_checksum_gives_the_right_reply_checksum() {
    let empty = Ping4 { identifier: 0, payload: Vec::new(), ..Ping4::default() };
    let filled = Ping4 { identifier: 0xfffe, payload: vec![0xff; 5], ..Ping4::default() };
    let trusting = tables("respond.verify-checksum = false");
    for (ping, rest) in [(empty, 0x0800), (filled, 0x0800 + 0xfffe + 2 * 0xffff + 0xff00)] {
        let mut frame = ping.frame();
        for checksum in 0..=u16::MAX {
            frame[ICMP4 + 2..ICMP4 + 4].copy_from_slice(&checksum.to_be_bytes());
            frame[ICMP4 + 6..ICMP4 + 8].copy_from_slice(&sequence_for(checksum, rest).to_be_bytes());
            let expected = outcome(&frame, Ipv4, Reason::Echo);
            assert_eq!(handle(own(), &frame), expected, "checksum {checksum:04x}");
            assert_eq!(handle(&trusting, &frame), expected, "checksum {checksum:04x}, not verified");
        }
    }
    let mut zero = Ping4 { identifier: 0, sequence: 0, payload: vec![0; 40], ..Ping4::default() }.frame();
    assert_eq!(zero[ICMP4 + 2..ICMP4 + 4], [0xf7, 0xff]);
    goes(own(), &zero, Ipv4, Reason::Echo);
    assert_eq!(handle(own(), &zero).frame[ICMP4 + 2..ICMP4 + 4], [0xff, 0xff]);
    // One's neighbour: its type and checksum add up to the same, but it is not zero elsewhere.
    zero[ICMP4 + 8..ICMP4 + 12].copy_from_slice(&[0xff, 0xff, 0, 0]);
    goes(own(), &zero, Ipv4, Reason::Echo);
}

/// A bad IPv4 header checksum: no reply, counted. Every single bit of the header matters.
#[test]
fn c04_bad_header_checksum_is_not_answered() {
    let right = Ping4::default().frame();
    for bit in 0..16 {
        let mut frame = right.clone();
        frame[IP + 10 + bit / 8] ^= 1 << (bit % 8);
        goes(own(), &frame, Ipv4, Reason::BadHeaderChecksum);
    }
    // Bytes that no other check looks at: DSCP and ECN, identification, Don't Fragment, TTL, source address.
    for at in [1, 4, 5, 8, 14, 15] {
        let mut frame = right.clone();
        frame[IP + at] ^= 0x10;
        goes(own(), &frame, Ipv4, Reason::BadHeaderChecksum);
    }
    goes(own(), &right, Ipv4, Reason::Echo);
}

/// A bad ICMP checksum: no reply, counted; with `verify-checksum = false` the error is the requester's to find.
#[test]
fn c05_bad_icmp_checksum_is_not_answered() {
    for at in [2, 3, 4, 7, 8, 30, 63] {
        let mut frame4 = Ping4::default().frame();
        frame4[ICMP4 + at] ^= 0x01;
        goes(own(), &frame4, Ipv4, Reason::BadChecksum);
        let mut frame6 = Ping6::default().frame();
        frame6[ICMP6 + at] ^= 0x80;
        goes(own(), &frame6, Ipv6, Reason::BadChecksum);

        let trusting = tables("respond.verify-checksum = false");
        for frame in [frame4, frame6] {
            let outcome = handle(&trusting, &frame);
            assert_eq!(outcome.counted.map(|(_, reason)| reason), Some(Reason::Echo));
            // The reply's checksum is as wrong as the request's was.
            receive(&outcome.frame).unwrap_err();
        }
    }
}

/// The reply's source is the request's destination, also when that is not an address of this host.
#[test]
fn c06_reply_source_is_the_requests_destination() {
    let tables = tables("respond.to = [\"198.51.100.0/24\", \"2001:db8:53::/48\"]");
    let (anycast4, mut anycast6) = ([198, 51, 100, 53], SERVER6);
    anycast6[5] = 0x53;
    let mut ping4 = Ping4::default();
    ping4.ip.destination = anycast4;
    let mut ping6 = Ping6::default();
    ping6.ip.destination = anycast6;
    goes(&tables, &ping4.frame(), Ipv4, Reason::Echo);
    goes(&tables, &ping6.frame(), Ipv6, Reason::Echo);
    assert_eq!(handle(&tables, &ping4.frame()).frame[IP + 12..IP + 16], anycast4);
    assert_eq!(handle(&tables, &ping6.frame()).frame[IP + 8..IP + 24], anycast6);
    // Its own address is not served by this policy.
    both_go(&tables, |_| (), |_| (), Reason::NotServed);
}

/// Requests to 255.255.255.255, a subnet's broadcast address or 224/4 are not answered, even if served prefixes
/// cover them.
#[test]
fn c07_broadcast_and_multicast_addresses_are_not_answered() {
    let policy = file::parse("respond.to = [\"0.0.0.0/0\"]").unwrap();
    let mut interface = interface();
    interface.broadcasts.push([203, 0, 113, 127].into());
    let tables = Tables::compile(&policy, &interface, &Slots::default()).unwrap();
    let to = |destination| {
        let mut ping = Ping4::default();
        ping.ip.destination = destination;
        ping.frame()
    };
    for destination in [
        [255, 255, 255, 255],
        [192, 0, 2, 255],
        [203, 0, 113, 127],
        [224, 0, 0, 1],
        [239, 255, 255, 255],
        [240, 0, 0, 1],
        [127, 0, 0, 1],
        [0, 0, 0, 0],
    ] {
        goes(&tables, &to(destination), Ipv4, Reason::NotUnicast);
    }
    for destination in [[192, 0, 2, 254], [203, 0, 113, 126], [223, 255, 255, 255], [1, 0, 0, 0]] {
        goes(&tables, &to(destination), Ipv4, Reason::Echo);
    }
}

/// A frame sent to a broadcast or multicast MAC address is not answered, nor one for somebody else.
#[test]
fn c08_group_mac_addresses_are_not_answered() {
    for mac in [[0xff; 6], [0x01, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1], [3, 0, 0, 0, 0, 1]] {
        both_go(own(), |ping| ping.to = mac, |ping| ping.to = mac, Reason::LinkMulticast);
    }
    for byte in 0..6 {
        let mut mac = SERVER_MAC;
        mac[byte] ^= 0x10;
        both_go(own(), |ping| ping.to = mac, |ping| ping.to = mac, Reason::OtherHost);
    }
}

/// RFC 1122 3.2.1.3: a source in 0/8, 127/8, 224/4, 240/4, or equal to the destination, is not answered.
#[test]
fn c09_sources_that_are_no_host_are_not_answered() {
    let from = |source| {
        let mut ping = Ping4::default();
        ping.ip.source = source;
        ping.frame()
    };
    for source in [
        [0, 0, 0, 0],
        [0, 255, 255, 255],
        [127, 0, 0, 1],
        [127, 255, 255, 255],
        [224, 0, 0, 0],
        [239, 1, 2, 3],
        [240, 0, 0, 0],
        [255, 255, 255, 255],
        SERVER4,
    ] {
        goes(own(), &from(source), Ipv4, Reason::BadSource);
    }
    for source in [[1, 0, 0, 0], [126, 255, 255, 255], [128, 0, 0, 0], [223, 255, 255, 255]] {
        goes(own(), &from(source), Ipv4, Reason::Echo);
    }
}

/// RFC 1812 4.3.2.5: the reply's DSCP is the request's, and so are its ECN bits, as Linux does.
#[test]
fn c10_dscp_and_ecn_are_copied() {
    for tos in 0..=u8::MAX {
        let mut ping = Ping4::default();
        ping.ip.dscp = IpDscp::try_new(tos >> 2).unwrap();
        ping.ip.ecn = IpEcn::try_new(tos & 3).unwrap();
        goes(own(), &ping.frame(), Ipv4, Reason::Echo);
        assert_eq!(handle(own(), &ping.frame()).frame[IP + 1], tos);
    }
}

/// The reply's TTL is the configured one, 64 by default, and not the received one.
#[test]
fn c11_ttl_is_the_configured_one() {
    for (policy, ttl) in [("", 64), ("respond.ttl = 1", 1), ("respond.ttl = 255", 255)] {
        let tables = tables(policy);
        for received in 0..=u8::MAX {
            let (mut ping4, mut ping6) = (Ping4::default(), Ping6::default());
            ping4.ip.time_to_live = received;
            ping6.ip.hop_limit = received;
            for frame in [ping4.frame(), ping6.frame()] {
                assert_eq!(handle(&tables, &frame).frame, oracle::reply(&frame, ttl));
            }
        }
    }
}

/// RFC 6864: no More Fragments and no offset in a reply. Identification and Don't Fragment are the request's, as
/// `answer.rs` lays down.
#[test]
fn c12_identification_and_dont_fragment_are_copied() {
    for identification in [0, 1, 0xbeef, u16::MAX] {
        for dont_fragment in [false, true] {
            let mut ping = Ping4::default();
            (ping.ip.identification, ping.ip.dont_fragment) = (identification, dont_fragment);
            goes(own(), &ping.frame(), Ipv4, Reason::Echo);
            let reply = handle(own(), &ping.frame()).frame;
            assert_eq!(reply[IP + 4..IP + 6], identification.to_be_bytes());
            assert_eq!(reply[IP + 6..IP + 8], [u8::from(dont_fragment) << 6, 0]);
        }
    }
}

/// IP options are passed to the stack, which updates Record Route and Timestamp.
#[test]
fn c13_options_are_passed() {
    // Record Route, Timestamp, No Operation.
    for options in [[7, 7, 4, 0, 0, 0, 0, 0], [68, 8, 5, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1]] {
        let mut ping = Ping4::default();
        ping.ip.options = options.into();
        goes(own(), &ping.frame(), Ipv4, Reason::IpOptions);
    }
    let mut longest = Ping4::default();
    longest.ip.options = [1; 40].into();
    goes(own(), &longest.frame(), Ipv4, Reason::IpOptions);
}

/// Any fragment is passed: the first, with More Fragments; one in the middle; the last, with an offset alone.
#[test]
fn c14_fragments_are_passed() {
    for (more, offset) in [(true, 0), (true, 185), (false, 185), (false, 1), (false, 0x1fff)] {
        let mut ping = Ping4::default();
        ping.ip.more_fragments = more;
        ping.ip.fragment_offset = IpFragOffset::try_new(offset).unwrap();
        goes(own(), &ping.frame(), Ipv4, Reason::Fragment);
    }
}

/// IHL below 5, a version other than 4, a total length below the headers' or beyond the frame's: no reply, counted
/// as malformed.
#[test]
fn c15_impossible_headers_are_malformed() {
    let right = Ping4::default().frame();
    let changed = |change: &dyn Fn(&mut [u8])| {
        let mut frame = right.clone();
        change(&mut frame[IP..]);
        frame
    };
    let set_length = |length: usize| {
        let mut frame = changed(&|ip| ip[2..4].copy_from_slice(&(length as u16).to_be_bytes()));
        fix_header_checksum(&mut frame, IP);
        frame
    };
    for version_ihl in [0x40, 0x44, 0x35, 0x55, 0x65, 0x05, 0xf5] {
        goes(own(), &changed(&|ip| ip[0] = version_ihl), Ipv4, Reason::BadHeader);
    }
    for length in [0, 19, 20, 27, 85, 1500, 0xffff] {
        goes(own(), &set_length(length), Ipv4, Reason::BadHeader);
    }
    // With options, the same against the longer header.
    for length in [23, 31] {
        let mut frame = changed(&|ip| (ip[0], ip[2], ip[3]) = (0x46, 0, length));
        fix_header_checksum(&mut frame, IP);
        goes(own(), &frame, Ipv4, Reason::BadHeader);
    }
    for end in IP + 20..right.len() {
        goes(own(), &right[..end], Ipv4, Reason::BadHeader);
    }
    // Less than a header is nothing that could be said to be ICMP.
    for end in 0..IP + 20 {
        assert_eq!(handle(own(), &right[..end]), untouched(&right[..end]));
    }
    // What was not sent to us is not ours to drop.
    let mut elsewhere = right.clone();
    (elsewhere[5], elsewhere[IP]) = (9, 0x44);
    goes(own(), &elsewhere, Ipv4, Reason::OtherHost);
}

/// Ethernet padding behind the total length is not summed up, and stays; the reply's total length is the request's.
#[test]
fn c16_padding_is_not_part_of_the_message() {
    for length in 0..18 {
        for padding in [0x00, 0xa5] {
            let mut frame = Ping4 { payload: payload(length), ..Ping4::default() }.frame();
            frame.resize(60.max(frame.len()), padding);
            goes(own(), &frame, Ipv4, Reason::Echo);
            let mut frame = Ping6 { payload: payload(length), ..Ping6::default() }.frame();
            frame.resize(frame.len() + 9, padding);
            goes(own(), &frame, Ipv6, Reason::Echo);
        }
    }
}

/// RFC 1812 4.3.3.6: one switch turns all answers off; the default answers.
#[test]
fn c17_one_switch_turns_answers_off() {
    both_go(own(), |_| (), |_| (), Reason::Echo);
    both_go(&tables("respond.enabled = false"), |_| (), |_| (), Reason::AnswersOff);
}

/// An echo request with a code other than 0 is passed.
#[test]
fn c18_other_codes_are_passed() {
    for code in 1..=u8::MAX {
        both_go(own(), |ping| ping.code = code, |ping| ping.code = code, Reason::OtherCode);
    }
}

/// What becomes of a message of each type, with hop limit 255, as Neighbour Discovery's genuine ones have.
#[track_caller]
fn denies_types(policy: &str, denied4: impl Fn(u8) -> bool, denied6: impl Fn(u8) -> bool) {
    let tables = tables(policy);
    for icmp_type in 0..=u8::MAX {
        let reason = |denied, echo| match (denied, icmp_type == echo) {
            (true, _) => Reason::Denied,
            (_, true) => Reason::Echo,
            _ => Reason::OtherType,
        };
        let mut v4 = Ping4 { icmp_type, ..Ping4::default() };
        v4.ip.time_to_live = 255;
        goes(&tables, &v4.frame(), Ipv4, reason(denied4(icmp_type), 8));
        let mut v6 = Ping6 { icmp_type, ..Ping6::default() };
        v6.ip.hop_limit = 255;
        goes(&tables, &v6.frame(), Ipv6, reason(denied6(icmp_type), 128));
    }
}

/// C30, C31 (RFC 6633, RFC 6918), C33: what the presets deny, and nothing else.
#[test]
fn c30_c31_c33_presets_deny_what_is_retired_and_redirects() {
    let retired = |icmp_type| matches!(icmp_type, 4 | 6 | 15..=18 | 30..=39);
    denies_types("acl.preset = [\"deprecated\"]", retired, |_| false);
    denies_types("acl.preset = [\"no-redirects\"]", |icmp_type| icmp_type == 5, |icmp_type| icmp_type == 137);
}

/// C61, C73: for a host after RFC 4890 4.4, errors that nobody knows reach the stack, informational messages that nobody knows, and
/// questions for a node's names, do not.
#[test]
fn c61_c73_preset_for_hosts_denies_unknown_questions() {
    let denied6 = |icmp_type| match icmp_type {
        // Experiments, and what is reserved.
        100 | 101 | 127 | 200 | 201 | 255 => true,
        // Router renumbering, node information, mobility.
        138..=140 | 144..=147 | 150 => true,
        162..=254 => true,
        _ => false,
    };
    denies_types("acl.preset = [\"rfc4890-host\"]", |_| false, denied6);
}

/// C61, C73: for a router after RFC 4890 4.3, mobility and errors that nobody knows are forwarded; renumbering, node information and
/// questions that nobody knows are not.
#[test]
fn c61_c73_preset_for_routers_lets_mobility_through() {
    let denied6 = |icmp_type| matches!(icmp_type, 100 | 101 | 127 | 138..=140 | 150 | 162..=255);
    denies_types("acl.preset = [\"rfc4890-router\"]", |_| false, denied6);
}

/// C80, C81: the preset `sane-errors`: an error that quotes what its receiver has not sent is denied, and so is an MTU that no link
/// may have; errors about the receiver's own packets come through.
#[test]
fn c80_c81_errors_have_to_make_sense() {
    let tables = tables("acl.preset = [\"sane-errors\"]");
    // What the server sent: to the client, and of which the error comes back.
    let quote4 = |source| {
        let sent = Ping4 {
            ip: Ipv4Header { source, destination: CLIENT4, ..Ping4::default().ip },
            ..Ping4::default()
        };
        sent.frame()[IP..].to_vec()
    };
    let quote6 = |source| {
        let sent = Ping6 {
            ip: Ipv6Header { source, destination: CLIENT6, ..Ping6::default().ip },
            ..Ping6::default()
        };
        sent.frame()[IP..].to_vec()
    };
    let strange4 = CLIENT4;
    let strange6 = CLIENT6;
    let error4 = |icmp_type, code, mtu: u16, payload: Vec<u8>| {
        Ping4 { icmp_type, code, identifier: 0, sequence: mtu, payload, ..Ping4::default() }.frame()
    };
    let error6 = |icmp_type, mtu: u32, payload: Vec<u8>| {
        let (identifier, sequence) = ((mtu >> 16) as u16, mtu as u16);
        Ping6 { icmp_type, identifier, sequence, payload, ..Ping6::default() }.frame()
    };
    let verdict = |denied| if denied { Reason::Denied } else { Reason::OtherType };
    for (icmp_type, code) in [(3, 1), (3, 3), (3, 4), (4, 0), (5, 1), (11, 0), (12, 0)] {
        for (payload, denied) in [
            (quote4(SERVER4), false),
            (quote4(SERVER4)[..28].to_vec(), false),
            (quote4(strange4), true),
            (quote4(SERVER4)[..19].to_vec(), true),
            (Vec::new(), true),
        ] {
            let frame = error4(icmp_type, code, 1500, payload);
            goes(&tables, &frame, Ipv4, verdict(denied));
            // Ethernet's padding is no quote.
            let padded = [&frame[..], &quote4(SERVER4)].concat();
            goes(&tables, &padded, Ipv4, verdict(denied));
        }
    }
    for icmp_type in [1, 2, 3, 4] {
        for (payload, denied) in [
            (quote6(SERVER6), false),
            (quote6(SERVER6)[..48].to_vec(), false),
            (quote6(strange6), true),
            (quote6(SERVER6)[..39].to_vec(), true),
            (Vec::new(), true),
        ] {
            goes(&tables, &error6(icmp_type, 1500, payload), Ipv6, verdict(denied));
        }
    }
    for (mtu, denied) in [(0, false), (1, true), (67, true), (68, false), (576, false), (65_535, false)] {
        goes(&tables, &error4(3, 4, mtu, quote4(SERVER4)), Ipv4, verdict(denied));
        // Other codes tell no MTU.
        goes(&tables, &error4(3, 3, mtu, quote4(SERVER4)), Ipv4, Reason::OtherType);
    }
    for (mtu, denied) in [(0, true), (1279, true), (1280, false), (65_536, false), (u32::MAX, false)] {
        goes(&tables, &error6(2, mtu, quote6(SERVER6)), Ipv6, verdict(denied));
        goes(&tables, &error6(1, mtu, quote6(SERVER6)), Ipv6, Reason::OtherType);
    }
    // Nothing but errors is concerned.
    goes(&tables, &Ping4::default().frame(), Ipv4, Reason::Echo);
    goes(&tables, &Ping6::default().frame(), Ipv6, Reason::Echo);
}

/// C32, C34: types that nobody knows, and router discovery, get no answer; policy decides between the stack and nobody.
#[test]
fn c32_c34_policy_decides_about_other_types() {
    denies_types(
        "acl.rules = \"deny icmp4 any any {1-2, 9-10, 44-252}\"",
        |icmp_type| matches!(icmp_type, 1 | 2 | 9 | 10 | 44..=252),
        |_| false,
    );
    denies_types(
        "acl.rules = \"deny icmp6 any any {5-99, 133-134, 162-199} force\"",
        |_| false,
        |icmp_type| matches!(icmp_type, 5..=99 | 133 | 134 | 162..=199),
    );
    // What a rule permits is not answered for that.
    denies_types("acl.rules = \"permit icmp any any\"\nacl.default = \"deny\"", |_| false, |_| false);
}

/// Whatever comes in, what goes out is an echo reply, or the error that a rule wants: no source quench, redirect, router
/// advertisement, information reply or address mask reply is ever made.
#[test]
fn c28_c29_c30_c33_c34_nothing_else_is_sent() {
    for policy in ["respond.to = [\"own\"]", "acl.rules = \"reject icmp any any force\""] {
        let tables = tables(policy);
        let mut sent = 0;
        for icmp_type in 0..=u8::MAX {
            for code in [0, 1, 4, 13, 255] {
                let v4 = handle(&tables, &Ping4 { icmp_type, code, ..Ping4::default() }.frame());
                let v6 = handle(&tables, &Ping6 { icmp_type, code, ..Ping6::default() }.frame());
                for (outcome, at, may) in [(v4, ICMP4, [0, 3]), (v6, ICMP6, [129, 1])] {
                    if matches!(outcome.verdict, Verdict::Answer | Verdict::Reject) {
                        assert!(may.contains(&outcome.frame[at]), "{policy}: {:02x?}", outcome.frame);
                        sent += 1;
                    }
                }
            }
        }
        assert!(sent > 0, "{policy}");
    }
}

/// Type 0, code 0 and 255 are types and codes as others are, in either family.
#[test]
fn c84_zero_and_255_match_themselves_alone() {
    let is_denied = |policy: &str, family, icmp_type, code| {
        let mut v4 = Ping4 { icmp_type, code, ..Ping4::default() };
        v4.ip.time_to_live = 255;
        let v6 = Ping6 { icmp_type, code, ..Ping6::default() };
        let frame = if family == Ipv4 { v4.frame() } else { v6.frame() };
        let outcome = handle(&tables(policy), &frame);
        matches!(outcome.counted, Some((_, Reason::Denied)))
    };
    for (family, name) in [(Ipv4, "icmp4"), (Ipv6, "icmp6")] {
        for (rule, icmp_types, codes) in [
            ("0", 0..=0, 0..=255),
            ("255", 255..=255, 0..=255),
            ("200 0", 200..=200, 0..=0),
            ("200 255", 200..=200, 255..=255),
            ("0 255", 0..=0, 255..=255),
        ] {
            let policy = format!("acl.rules = \"deny {name} any any {rule} force\"");
            for icmp_type in [0, 1, 8, 127, 199, 200, 254, 255] {
                for code in [0, 1, 254, 255] {
                    let expected = icmp_types.contains(&icmp_type) && codes.contains(&code);
                    assert_eq!(
                        is_denied(&policy, family, icmp_type, code),
                        expected,
                        "{rule}: {icmp_type} {code}"
                    );
                }
            }
        }
    }
}

/// A policy that denies all there is denies ICMP.
#[test]
fn c86_rules_are_about_icmp_alone() {
    for policy in
        ["acl.rules = \"deny icmp any any\"\nacl.default = \"deny\"", "acl.rules = \"reject ip any any\""]
    {
        let tables = tables(policy);
        let denied = handle(&tables, &Ping4::default().frame()).verdict;
        assert!(matches!(denied, Verdict::Deny | Verdict::Reject));
        for frame in [tcp4(), udp4(), udp6()] {
            assert_eq!(handle(&tables, &frame), untouched(&frame), "{policy}");
        }
    }
}

/// Echo replies, and every other type, are the stack's: the host's own ping still works.
#[test]
fn c19_c61_echo_replies_and_other_types_are_passed() {
    for icmp_type in (0..=u8::MAX).filter(|icmp_type| *icmp_type != 8) {
        let ping = Ping4 { icmp_type, ..Ping4::default() };
        goes(&everything(), &ping.frame(), Ipv4, Reason::OtherType);
    }
    for icmp_type in (0..=u8::MAX).filter(|icmp_type| *icmp_type != 128) {
        let ping = Ping6 { icmp_type, ..Ping6::default() };
        goes(&everything(), &ping.frame(), Ipv6, Reason::OtherType);
    }
}

/// An echo request to an address that is not served is passed: neighbours of served ones, and everything where
/// nothing is served.
#[test]
fn c20_what_is_not_served_is_passed() {
    let tables4 = tables("respond.to = [\"198.51.100.64/26\", \"203.0.113.7\"]");
    for (destination, reason) in [
        ([198, 51, 100, 63], Reason::NotServed),
        ([198, 51, 100, 64], Reason::Echo),
        ([198, 51, 100, 127], Reason::Echo),
        ([198, 51, 100, 128], Reason::NotServed),
        ([203, 0, 113, 6], Reason::NotServed),
        ([203, 0, 113, 7], Reason::Echo),
        ([203, 0, 113, 8], Reason::NotServed),
        (SERVER4, Reason::NotServed),
    ] {
        let mut ping = Ping4::default();
        ping.ip.destination = destination;
        goes(&tables4, &ping.frame(), Ipv4, reason);
    }
    let nothing = tables("respond.to = []");
    both_go(&nothing, |_| (), |_| (), Reason::NotServed);
}

/// 802.1Q and 802.1ad: the reply carries the same tags and priority bits. A third tag is not ours.
#[test]
fn c21_vlan_tags_are_kept() {
    for tags in [
        vec![],
        vec![(0x8100, 0x0001)],
        vec![(0x8100, 0xefff)],
        vec![(0x88a8, 0x2064)],
        vec![(0x88a8, 0xa064), (0x8100, 0x700a)],
        vec![(0x8100, 0x0000), (0x8100, 0x1fff)],
    ] {
        both_go(own(), |ping| ping.tags.clone_from(&tags), |ping| ping.tags.clone_from(&tags), Reason::Echo);
        let ping = Ping4 { tags: tags.clone(), ..Ping4::default() };
        let end = 12 + 4 * tags.len();
        assert_eq!(handle(own(), &ping.frame()).frame[12..end], ping.frame()[12..end]);
    }
    let tags = vec![(0x88a8, 1), (0x8100, 2), (0x8100, 3)];
    let frame = Ping4 { tags, ..Ping4::default() }.frame();
    assert_eq!(handle(own(), &frame), untouched(&frame));
}

/// An IPv6 address in the halves in which [`Route`] has it.
fn halves(address: [u8; 16]) -> [[u8; 8]; 2] {
    address.as_chunks().0.try_into().unwrap()
}

/// The reply goes to the MAC address that the request came from, or, with `next-hop = "fib"`, where the routing table
/// says; where it says nothing the request is passed. Its source is never a multicast address.
#[test]
fn c22_next_hop_is_the_swapped_mac_or_the_routing_tables() {
    let (ping4, ping6) = (Ping4::default(), Ping6::default());
    let swapped = handle(own(), &ping4.frame()).frame;
    assert_eq!((&swapped[..6], &swapped[6..12]), (&CLIENT_MAC[..], &SERVER_MAC[..]));

    let fib = tables("respond.next-hop = \"fib\"");
    let (from, to) = ([2, 0, 0, 0, 0, 0x11], [2, 0, 0, 0, 0, 0x22]);
    for (frame, family, route) in [
        (
            ping4.frame(),
            Ipv4,
            Route::Ipv4 { tos: 0, total_length: 84, source: SERVER4, destination: CLIENT4 },
        ),
        (
            ping6.frame(),
            Ipv6,
            Route::Ipv6 { total_length: 104, source: halves(SERVER6), destination: halves(CLIENT6) },
        ),
    ] {
        let (routed, asked) = handle_routed(&fib, Some((from, to)), &frame);
        assert_eq!(asked, Some(route));
        let mut expected = outcome(&frame, family, Reason::Echo);
        expected.frame[..6].copy_from_slice(&to);
        expected.frame[6..12].copy_from_slice(&from);
        assert_eq!(routed, expected);
        goes(&fib, &frame, family, Reason::NoNextHop);
        // Behind a tag another interface's routes count.
        let tagged = tagged(frame, &[(0x8100, 10)]);
        let (routed, asked) = handle_routed(&fib, Some((from, to)), &tagged);
        assert_eq!((routed, asked), (outcome(&tagged, family, Reason::NoNextHop), None));
    }
    // Where the swap would make a group the destination: the source of the request is none.
    let group = [0x03, 0, 0, 0, 0, 2];
    both_go(own(), |ping| ping.from = group, |ping| ping.from = group, Reason::OwnFrame);
}

/// The interface's own requests that come back, by a loop or a mirror, are not answered.
#[test]
fn c23_own_frames_are_not_answered() {
    both_go(own(), |ping| ping.from = SERVER_MAC, |ping| ping.from = SERVER_MAC, Reason::OwnFrame);
}

/// RFC 4443 4.1, 4.2: type 128 yields 129 with code 0; identifier, sequence and data unchanged. To another address,
/// or in another protocol, it does not.
#[test]
fn c52_echo_request_yields_its_reply() {
    let ping = Ping6::default();
    let outcome = handle(own(), &ping.frame());
    assert_eq!(outcome.counted, Some((Ipv6, Reason::Echo)));
    let reply = receive(&outcome.frame).unwrap();
    assert_eq!((reply.identifier, reply.sequence), (ping.identifier, ping.sequence));
    assert_eq!(reply.payload, ping.payload);
    goes(own(), &ping.frame(), Ipv6, Reason::Echo);

    let mut miss = ping.clone();
    miss.ip.destination[15] = 9;
    goes(own(), &miss.frame(), Ipv6, Reason::NotServed);
    assert_eq!(handle(own(), &udp6()), untouched(&udp6()));
}

/// RFC 4443 2.3: the checksum over the pseudo-header is right for all 65,536 values, verified or not.
#[test]
fn c53_every_request_checksum_gives_the_right_reply_checksum() {
    let trusting = tables("respond.verify-checksum = false");
    let words =
        |bytes: &[u8]| bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum::<u32>();
    let pseudo_header = words(&CLIENT6) + words(&SERVER6) + 58;
    for data in [vec![], vec![0xff; 6]] {
        let mut frame = Ping6 { identifier: 0, payload: data.clone(), ..Ping6::default() }.frame();
        let rest = pseudo_header + 8 + data.len() as u32 + 0x8000 + words(&data);
        for checksum in 0..=u16::MAX {
            frame[ICMP6 + 2..ICMP6 + 4].copy_from_slice(&checksum.to_be_bytes());
            frame[ICMP6 + 6..ICMP6 + 8].copy_from_slice(&sequence_for(checksum, rest).to_be_bytes());
            let expected = outcome(&frame, Ipv6, Reason::Echo);
            assert_eq!(handle(own(), &frame), expected, "checksum {checksum:04x}");
            assert_eq!(handle(&trusting, &frame), expected, "checksum {checksum:04x}, not verified");
        }
    }
}

/// The reply's source is the request's unicast destination; see also [`c06_reply_source_is_the_requests_destination`].
#[test]
fn c54_reply_source_is_the_requests_destination() {
    let reply = handle(own(), &Ping6::default().frame()).frame;
    assert_eq!((&reply[IP + 8..IP + 24], &reply[IP + 24..IP + 40]), (&SERVER6[..], &CLIENT6[..]));
}

/// Echo to a multicast address is passed to the stack, even if a served prefix covers it; so are the unspecified and
/// the loopback address.
#[test]
fn c55_multicast_is_passed() {
    let mut solicited_node = [0; 16];
    (solicited_node[0], solicited_node[1], solicited_node[15]) = (0xff, 0x02, 1);
    for destination in [solicited_node, [0xff; 16], [0; 16], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]]
    {
        let mut ping = Ping6::default();
        ping.ip.destination = destination;
        goes(&everything(), &ping.frame(), Ipv6, Reason::NotUnicast);
    }
    let mut last_unicast = Ping6::default();
    last_unicast.ip.destination = [0xff; 16];
    last_unicast.ip.destination[0] = 0xfe;
    goes(&everything(), &last_unicast.frame(), Ipv6, Reason::Echo);
}

/// Traffic class and flow label are the request's; the hop limit is the configured one.
#[test]
fn c57_traffic_class_and_flow_label_are_copied() {
    for class in 0..=u8::MAX {
        let mut ping = Ping6::default();
        ping.ip.traffic_class = class;
        ping.ip.flow_label = Ipv6FlowLabel::try_new(u32::from(class) << 12 | 0x5a5).unwrap();
        goes(own(), &ping.frame(), Ipv6, Reason::Echo);
        let reply = handle(own(), &ping.frame()).frame;
        assert_eq!((reply[IP] << 4 | reply[IP + 1] >> 4, reply[IP + 7]), (class, 64));
    }
}

/// A source that is unspecified, multicast, or equal to the destination gets no answer; nor loopback and mapped
/// ones, which never stand on a wire.
#[test]
fn c58_sources_that_are_no_node_are_not_answered() {
    let loopback = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 2];
    for source in [[0; 16], [0xff; 16], SERVER6, loopback, mapped] {
        let mut ping = Ping6::default();
        ping.ip.source = source;
        goes(own(), &ping.frame(), Ipv6, Reason::BadSource);
    }
}

/// RFC 8200, 7112: packets with extension headers are passed, and nothing is read past the frame's end.
#[test]
fn c59_extension_headers_are_passed() {
    let with_extension = |kind: u8, next: u8| {
        let mut frame = Ping6::default().frame();
        frame[IP + 6] = kind;
        frame.splice(ICMP6..ICMP6, [next, 0, 1, 4, 0, 0, 0, 0]);
        let payload_length = (frame.len() - ICMP6) as u16;
        frame[IP + 4..IP + 6].copy_from_slice(&payload_length.to_be_bytes());
        frame
    };
    for kind in [0, 43, 44, 60] {
        let frame = with_extension(kind, 58);
        goes(own(), &frame, Ipv6, Reason::ExtensionHeader);
        // Behind a second one nothing is looked for.
        let frame = with_extension(kind, 60);
        assert_eq!(handle(own(), &frame), untouched(&frame));
        let cut = &frame[..ICMP6];
        assert_eq!(handle(own(), cut), untouched(cut));
    }
    // Other headers hide what is behind them; "no next header" has nothing.
    for kind in [50, 51, 59, 6, 17, IpNumber::ICMP.0] {
        let frame = with_extension(kind, 58);
        assert_eq!(handle(own(), &frame), untouched(&frame));
    }
}

/// As C15, for IPv6: a payload length below the ICMPv6 header's or beyond the frame, or another version, is malformed.
#[test]
fn c15_c59_impossible_headers_are_malformed() {
    let right = Ping6::default().frame();
    for length in [0, 7, 65, 0xffff_u16] {
        let mut frame = right.clone();
        frame[IP + 4..IP + 6].copy_from_slice(&length.to_be_bytes());
        goes(own(), &frame, Ipv6, Reason::BadHeader);
    }
    for version in [0x00, 0x40, 0x70, 0xf0] {
        let mut frame = right.clone();
        frame[IP] = version;
        goes(own(), &frame, Ipv6, Reason::BadHeader);
    }
    for end in ICMP6..right.len() {
        goes(own(), &right[..end], Ipv6, Reason::BadHeader);
    }
    for end in 0..ICMP6 {
        assert_eq!(handle(own(), &right[..end]), untouched(&right[..end]));
    }
}

/// Everything that is not ICMP leaves as it came, whatever stands in it, and is not counted.
#[test]
fn c93_what_is_not_icmp_is_untouched() {
    let mut arp = Ping4::default().frame();
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    // ICMPv6 in IPv4 and ICMP in IPv6 are other protocols, too.
    let mut icmpv6_in_ipv4 = Ping4::default().frame();
    icmpv6_in_ipv4[IP + 9] = 58;
    let mut icmp_in_ipv6 = Ping6::default().frame();
    icmp_in_ipv6[IP + 6] = 1;
    let short = vec![0xff; 14];
    for frame in [tcp4(), udp4(), udp6(), arp, icmpv6_in_ipv4, icmp_in_ipv6, short] {
        for tags in [&[][..], &[(0x8100, 5)], &[(0x88a8, 5), (0x8100, 5)]] {
            let frame = tagged(frame.clone(), tags);
            assert_eq!(handle(&everything(), &frame), untouched(&frame));
        }
    }
    for protocol in (0..=u8::MAX).filter(|protocol| *protocol != 1) {
        let mut frame = Ping4::default().frame();
        frame[IP + 9] = protocol;
        assert_eq!(handle(&everything(), &frame), untouched(&frame));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any valid ping comes back as what etherparse makes of it.
    #[test]
    fn c94_any_ping_is_answered_and_counted(
        identifier: u16,
        sequence: u16,
        data in prop::collection::vec(any::<u8>(), 0..1500),
        source in prop::array::uniform4(1_u8..120),
        ttl: u8,
        padding in 0_usize..20,
    ) {
        let mut ping = Ping4 { identifier, sequence, payload: data.clone(), ..Ping4::default() };
        (ping.ip.source, ping.ip.time_to_live) = (source, ttl);
        let mut frame = ping.frame();
        frame.extend(std::iter::repeat_n(0xee, padding));
        prop_assert_eq!(handle(own(), &frame), outcome(&frame, Ipv4, Reason::Echo));
        let mut ping = Ping6 { identifier, sequence, payload: data, ..Ping6::default() };
        ping.ip.source[12..].copy_from_slice(&source);
        let mut frame = ping.frame();
        frame.extend(std::iter::repeat_n(0xee, padding));
        prop_assert_eq!(handle(own(), &frame), outcome(&frame, Ipv6, Reason::Echo));
    }
}
