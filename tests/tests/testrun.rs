//! The loaded program against the host build: the same frames get the same verdict, the same reason and the same
//! bytes (BPF_PROG_TEST_RUN).
//!
//! A test run takes frames of 14 bytes and more; shorter ones are the host build's (`conformance.rs`).

use std::{cell::RefCell, collections::BTreeSet};

use etherparse::Ipv4Header;
use icmp_common::{
    Family::{Ipv4, Ipv6},
    counters::Amount,
};
use icmp_ebpf::{Reason, Verdict};
use icmp_tests::{
    both::{Both, without_time},
    frames::{
        CLIENT_MAC, ICMP4, ICMP6, IP, Ping4, Ping6, SERVER_MAC, fix_header_checksum, payload, tcp4, udp4,
        udp6,
    },
    host::{handle_in, handle_routed, interface, tables},
    loaded::{self, Loaded, ONE_BUFFER},
    netns::{CLIENT4, CLIENT6, Lab, SERVER_END},
    oracle::{self, outcome},
    packets::packet,
    seed,
    sketch::sketch,
};
use icmp_userspace::{
    explain::host::HostState,
    policy::{compile::Tables, file, slots::Slots},
};
use proptest::{prelude::Strategy as _, prop_assert_eq, prop_oneof};

/// A policy that rejects everything, and as good as never reaches the limits of errors.
const REJECTING: &str = "acl.rules = \"reject icmp any any\"\n\
                         acl.errors = { per-source = \"1000000/s\", total = \"1000000/s\" }";

/// A frame, and what was changed in it.
fn changed(mut frame: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    change(&mut frame);
    frame
}

/// Frames for every reason that needs no setting.
fn samples() -> Vec<Vec<u8>> {
    let (ping4, ping6) = (Ping4::default(), Ping6::default());
    let with4 = |change: &dyn Fn(&mut Ping4)| {
        let mut ping = ping4.clone();
        change(&mut ping);
        ping.frame()
    };
    let with6 = |change: &dyn Fn(&mut Ping6)| {
        let mut ping = ping6.clone();
        change(&mut ping);
        ping.frame()
    };
    vec![
        ping4.frame(),
        ping6.frame(),
        with4(&|ping| ping.tags = vec![(0x8100, 0xe001)]),
        with6(&|ping| ping.tags = vec![(0x88a8, 0x2001), (0x8100, 0xb002)]),
        with4(&|ping| ping.tags = vec![(0x8100, 1); 3]),
        with4(&|ping| ping.icmp_type = 0),
        with6(&|ping| ping.icmp_type = 135),
        with4(&|ping| ping.code = 1),
        with6(&|ping| ping.code = 255),
        with4(&|ping| ping.to[5] = 9),
        with6(&|ping| ping.to = [0xff; 6]),
        with4(&|ping| ping.to = [1, 0, 0x5e, 0, 0, 1]),
        with4(&|ping| ping.from = SERVER_MAC),
        with6(&|ping| ping.from[0] = 3),
        with4(&|ping| ping.ip.destination = [192, 0, 2, 7]),
        with6(&|ping| ping.ip.destination[0] = 0x30),
        with4(&|ping| ping.ip.destination = [192, 0, 2, 255]),
        with4(&|ping| ping.ip.destination = [224, 0, 0, 1]),
        with4(&|ping| ping.ip.destination = [0; 4]),
        with6(&|ping| ping.ip.destination = [0; 16]),
        with6(&|ping| ping.ip.destination[0] = 0xff),
        with4(&|ping| ping.ip.source = [127, 0, 0, 1]),
        with4(&|ping| ping.ip.source = ping.ip.destination),
        with6(&|ping| ping.ip.source = [0; 16]),
        with4(&|ping| ping.ip.more_fragments = true),
        with4(&|ping| ping.ip.options = [7, 7, 4, 0, 0, 0, 0, 0].into()),
        changed(ping6.frame(), |frame| (frame[IP + 6], frame[ICMP6]) = (60, 58)),
        changed(ping6.frame(), |frame| (frame[IP + 6], frame[ICMP6]) = (60, 6)),
        changed(ping4.frame(), |frame| frame[IP] = 0x44),
        changed(ping4.frame(), |frame| frame.truncate(60)),
        changed(ping6.frame(), |frame| frame[IP + 4] = 1),
        // More than 16 bits together with the header.
        changed(ping6.frame(), |frame| frame[IP + 4..IP + 6].fill(0xff)),
        changed(ping4.frame(), |frame| frame[IP + 10] ^= 1),
        changed(ping4.frame(), |frame| frame[ICMP4 + 20] ^= 1),
        changed(ping6.frame(), |frame| frame[ICMP6 + 20] ^= 1),
        tcp4(),
        udp4(),
        udp6(),
    ]
}

/// Hand-made frames reach every reason, and both builds agree on each.
#[test]
#[ignore = "needs root and BPF"]
fn every_reason_is_reached_and_agreed_on() {
    let mut reached = BTreeSet::new();
    for policy in [
        "",
        "respond.to = [\"0.0.0.0/0\", \"::/0\"]",
        "respond.verify-checksum = false\nrespond.ttl = 1",
        "respond.enabled = false",
        "respond.next-hop = \"fib\"",
        "acl.default = \"deny\"",
        REJECTING,
    ] {
        let mut both = Both::new(policy);
        for frame in samples() {
            reached.extend(both.agree(&frame));
        }
    }
    // One error a second, and no second passes between these two.
    let mut both = Both::new("acl.rules = \"reject icmp any any\"\nacl.errors.per-source = \"1/s burst 1\"");
    let ping = Ping4::default().frame();
    let reasons = both.agree_on_all(&[&ping, &ping]);
    assert_eq!(reasons, [Some(Reason::Rejected), Some(Reason::RejectOverLimit)]);
    reached.extend(reasons.into_iter().flatten());
    let mut both = Both::new("acl.rules = \"limit 1/h burst 1 per source icmp any any\"");
    let reasons = both.agree_on_all(&[&ping, &ping]);
    assert_eq!(reasons, [Some(Reason::Echo), Some(Reason::OverLimit)]);
    reached.extend(reasons.into_iter().flatten());
    let mut both = Both::new(
        "acl.errors.per-source = \"1/s burst 1\"\n[respond]\nto = [\"own\", \"198.51.100.0/24\"]\n\
         timestamp = true\ntraceroute = true\nprobe = [\"192.0.2.0/24\"]",
    );
    // About the interface by its index, which is 0 here.
    let question = vec![0x20, 0, 0, 0, 0, 8, 3, 2, 0, 0, 0, 0];
    let asking = Ping4 { icmp_type: 42, sequence: 1, payload: question, ..Ping4::default() };
    let stranger = Ipv4Header { source: [203, 0, 113, 1], ..asking.ip.clone() };
    let probe = changed(udp4(), |frame| {
        frame[IP + 16..IP + 20].copy_from_slice(&[198, 51, 100, 53]);
        fix_header_checksum(frame, IP);
    });
    let frames = [
        Ping4 { icmp_type: 13, payload: payload(12), ..Ping4::default() }.frame(),
        Ping4 { icmp_type: 13, payload: payload(11), ..Ping4::default() }.frame(),
        asking.frame(),
        Ping4 { payload: payload(12), ..asking.clone() }.frame(),
        Ping4 { ip: stranger, ..asking }.frame(),
        Ping4 { payload: payload(9_593), ..Ping4::default() }.frame(),
        Ping4 { icmp_type: 13, payload: payload(600), ..Ping4::default() }.frame(),
        probe.clone(),
        probe,
    ];
    reached.extend(both.agree_on_all(&frames.each_ref().map(|frame| &frame[..])).into_iter().flatten());
    assert_eq!(reached, Reason::ALL.iter().copied().collect());
}

/// A policy that answers all that can be answered.
const EVERYTHING_ON: &str = "acl.errors = { per-source = \"1000000/s\", total = \"1000000/s\" }\n[respond]\n\
                             to = [\"own\", \"198.51.100.0/24\", \"2001:db8:9::/48\"]\ntimestamp = true\ntraceroute = true\n\
                             probe = [\"0.0.0.0/0\", \"2001:db8::2\"]";

/// Policies that random frames are taken through, one after the other as long as their buckets and counters are concerned. No token
/// comes back while a test runs, and errors are as good as not limited.
const POLICIES: &[&str] = &[
    "",
    "respond.to = [\"0.0.0.0/0\", \"::/0\"]\nrespond.verify-checksum = false",
    "respond.to = [\"192.0.2.11\", \"2001:db8::/120\"]\nrespond.ttl = 255",
    "respond.enabled = false",
    "respond.next-hop = \"fib\"",
    "acl.default = \"deny\"",
    REJECTING,
    "acl.preset = [\"deprecated\"]\nacl.default = \"permit\"",
    // All conditions.
    "sets.few = [\"192.0.2.2\", \"2001:db8::2\"]\nacl.errors = { per-source = \"1000000/s\", total = \"1000000/s\" }\n\
     acl.rules = \"\"\"\n\
     deny icmp any any fragments\nreject with host-prohibited icmp4 any any vlan 1\nreject icmp any any vlan 10\n\
     deny icmp set:few any echo length 100-200\ndeny icmp any any ttl 0-1\nreject with net-prohibited icmp4 any any dscp 46\n\
     deny icmp4 192.0.2.0 0.0.1.255 any echo 1-255 monitor\ndeny icmp any any redirect log 1/2\n\
     reject icmp set:few host 192.0.2.11\npermit icmp any any echo\ndeny icmp6 any any 100-255 force\n\"\"\"",
    EVERYTHING_ON,
    // Limits, by all that there is to count by.
    "acl.rules = \"limit 1/h burst 3 per source icmp any any\"",
    "acl.rules = \"\"\"\nlimit 1/h burst 5 per source/24 icmp4 any any\nlimit 1/h burst 4 per source/48 icmp6 any any\n\"\"\"",
    "acl.rules = \"\"\"\nlimit 1/h burst 7 per destination icmp any any echo\nlimit 1/h burst 6 icmp any any\n\"\"\"",
    "acl.rules = \"limit 1/h burst 2 per source, 2/h burst 8 per destination, 4/h burst 30 per rule icmp any any\"\n\
     respond.to = [\"0.0.0.0/0\", \"::/0\"]",
    "acl.rules = \"\"\"\nlimit 1/h burst 2 per source exceed pass icmp any any {echo, unreachable}\n\
     limit 1/h burst 2 per source/16, 1/h burst 9 icmp4 any any monitor\n\
     limit 1/h burst 2 per source/64, 1/h burst 9 icmp6 any any\n\"\"\"",
    "acl.rules = \"\"\"\nlimit 1/h burst 1 icmp any any fragments\nlimit 1/h burst 4 per source icmp any any length 60-300\n\"\"\"",
];

/// C88, C94: random frames of all sorts through all sorts of policies: both builds agree on each frame's verdict, reason and bytes,
/// and keep the same account by rule and by rate; and ICMP, and nothing else, is counted.
#[test]
#[ignore = "needs root and BPF"]
fn c88_c94_random_frames_are_agreed_on() {
    let cases = if seed::is_long() { 20_000 } else { 2_000 };
    let mut reached = BTreeSet::new();
    for text in POLICIES {
        // So many buckets that hardly ever two keys share a line and a tag, which each build hashes in its own way.
        let policy = file::parse(&format!("limits.buckets = 16777216\n{text}"));
        let policy = policy.unwrap_or_else(|errors| panic!("{errors:?} in\n{text}"));
        let slots = Slots::assign(&policy, &Slots::default()).unwrap();
        let mut tables = Tables::compile(&policy, &interface(), &slots).unwrap();
        let loaded = Loaded::new(&tables);
        tables.config.bucket_secret = [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03];
        let both = RefCell::new((HostState::new(&tables), loaded, &mut reached));
        let strategy = prop_oneof![1 => packet().prop_map(|packet| packet.frame), 2 => sketch().prop_map(|sketch| sketch.frame())];
        let outcome = seed::runner(cases).run(&strategy, |mut frame| {
            frame.resize(frame.len().max(loaded::SHORTEST), 0);
            let (state, loaded, reached) = &mut *both.borrow_mut();
            let host = without_time(handle_in(state, &frame));
            prop_assert_eq!(without_time(loaded.run(&frame)), host.clone());
            if let Some(family) = oracle::counted(&frame) {
                // Probes of traceroutes are not ICMP.
                let probes = [Reason::Traceroute, Reason::TracerouteOverLimit];
                let counted = host.counted.filter(|(_, reason)| !probes.contains(reason));
                prop_assert_eq!(counted.map(|(family, _)| family), family);
            }
            reached.extend(host.counted.map(|(_, reason)| reason));
            Ok(())
        });
        outcome.unwrap_or_else(|error| panic!("{error}\nby the policy\n{text}"));
        let (state, loaded, _) = both.into_inner();
        // By reason, and by type and code.
        assert!(state.counters == *loaded.counters(), "{text}");
        let counts = loaded.rules();
        for (rule, slot) in slots.rules() {
            let of_rule = state.rules.iter().filter(|(counted, _)| *counted == slot);
            let host = of_rule.fold(Amount::default(), |amount, (_, length)| Amount {
                packets: amount.packets + 1,
                bytes: amount.bytes + u64::from(*length),
            });
            assert_eq!(counts.amount(slot), host, "{rule}");
            assert!(host.packets > 0 || !rule.starts_with("over rate 0"), "nothing is ever {rule}");
        }
    }
    // What takes a frame that is just right, very long, or one too many.
    let never = [
        Reason::RejectOverLimit,
        Reason::TracerouteOverLimit,
        Reason::TooLong,
        Reason::Traceroute,
        Reason::Probe,
        Reason::ProbeNotAllowed,
        Reason::OtherProbe,
        Reason::TooShort,
        Reason::Timestamp,
    ];
    let all: BTreeSet<_> = Reason::ALL.iter().copied().filter(|reason| !never.contains(reason)).collect();
    assert!(reached.is_superset(&all), "{reached:?}");
}

/// Messages of every length: each way through the sum of a message, whole blocks and every tail, odd and even.
/// Right ones are answered, and one wrong bit anywhere is found.
#[test]
#[ignore = "needs root and BPF"]
fn messages_of_every_length_are_summed_up() {
    let mut both = Both::new("");
    let around = |length: usize| length - 3..length + 3;
    // One buffer that is full; several of them, and the most that is summed up.
    let full = ONE_BUFFER - ICMP6 - 8;
    let lengths = (0..=200).chain([1471, 1472]).chain(around(full)).chain(around(full + 20));
    for length in lengths.chain(around(ONE_BUFFER + 4096)).chain([8000, 8971, 8972, 9_591, 9_592]) {
        let data = payload(length);
        for (frame, message) in [
            (Ping4 { payload: data.clone(), ..Ping4::default() }.frame(), ICMP4),
            (Ping6 { payload: data.clone(), ..Ping6::default() }.frame(), ICMP6),
        ] {
            assert_eq!(both.agree(&frame), Some(Reason::Echo), "{length} bytes");
            for at in [message + 4, frame.len() - 1] {
                let wrong = changed(frame.clone(), |frame| frame[at] ^= 0x40);
                assert_eq!(both.agree(&wrong), Some(Reason::BadChecksum), "{length} bytes");
            }
            // Padding is not part of the message.
            let padded = changed(frame, |frame| frame.resize(frame.len() + 3, 0xff));
            assert_eq!(both.agree(&padded), Some(Reason::Echo), "{length} bytes");
        }
    }
}

/// C2: headers in the first buffer, and all else in others: what is longer than is summed up is the stack's, unless nothing has to
/// be.
#[test]
#[ignore = "needs root and BPF"]
fn c02_what_is_longer_than_all_frames() {
    let (mut verifying, mut trusting) = (Both::new(""), Both::new("respond.verify-checksum = false"));
    for length in [9_593, 20_000, 65_507] {
        let frame = Ping4 { payload: payload(length), ..Ping4::default() }.frame();
        assert_eq!(verifying.agree(&frame), Some(Reason::TooLong), "{length}");
        assert_eq!(trusting.agree(&frame), Some(Reason::Echo), "{length}");
        assert_eq!(trusting.loaded.run(&frame), outcome(&frame, Ipv4, Reason::Echo), "{length}");
        // Cut short.
        let short = changed(frame, |frame| frame.truncate(frame.len() - 1));
        assert_eq!(trusting.agree(&short), Some(Reason::BadHeader), "{length}");
    }
}

/// C3, in the kernel: the request whose reply is zero throughout, and the values around the carries.
#[test]
#[ignore = "needs root and BPF"]
fn c03_checksums_around_the_carry_are_right() {
    for policy in ["", "respond.verify-checksum = false"] {
        let mut both = Both::new(policy);
        let zero = Ping4 { identifier: 0, sequence: 0, payload: vec![0; 8], ..Ping4::default() }.frame();
        assert_eq!(both.agree(&zero), Some(Reason::Echo));
        assert_eq!(both.loaded.run(&zero).frame[ICMP4 + 2..ICMP4 + 4], [0xff, 0xff]);
        for sequence in (0..0x20).chain(0xf7e0..0xf820).chain(0xffe0..=0xffff) {
            let frame = Ping4 { identifier: 0, sequence, ..Ping4::default() }.frame();
            assert_eq!(both.agree(&frame), Some(Reason::Echo));
            assert_eq!(both.loaded.run(&frame), outcome(&frame, Ipv4, Reason::Echo));
            let frame = Ping6 { identifier: 0, sequence, ..Ping6::default() }.frame();
            assert_eq!(both.agree(&frame), Some(Reason::Echo));
            assert_eq!(both.loaded.run(&frame), outcome(&frame, Ipv6, Reason::Echo));
        }
    }
}

/// A captured echo request and the reply that its host gave: with TTL 255 the program gives that reply byte for
/// byte. The captures' addresses were altered, so their IPv4 header checksums are computed anew.
#[test]
#[ignore = "needs root and BPF"]
fn captured_request_gives_the_captured_reply() {
    let request = "4500003c19ff00007e011ce8c0a80164c0a801c80800d9c303007889303132333435363738396162636465666768696a\
                   6b6c6d6e6f70717273747576";
    let reply = "4500003c19ff0000ff019be7c0a801c8c0a801640000e1c303007889303132333435363738396162636465666768696a6b\
                 6c6d6e6f70717273747576";
    let mut both = Both::new("respond.to = [\"192.168.1.0/24\"]\nrespond.ttl = 255");
    let request = captured(SERVER_MAC, CLIENT_MAC, request);
    assert_eq!(both.agree(&request), Some(Reason::Echo));
    assert_eq!(both.loaded.run(&request).frame, captured(CLIENT_MAC, SERVER_MAC, reply));
}

/// Captured errors, which quote other packets, are the stack's.
#[test]
#[ignore = "needs root and BPF"]
fn captured_errors_are_passed() {
    let port_unreachable = "45000038fc094000320197fcc0a80164c0a801c8030301c900000000450000f2d3854000f01101b6c0a80164\
                            c0a801c80035fa2000de0000";
    let admin_prohibited = "45000038e25f0000ff0181e6c0a80164c0a801c8030dfcf2000000004500001c30f200003a016848c0a80164\
                            c0a801c808006f16a8c3e025";
    let mut both = Both::new("respond.to = [\"0.0.0.0/0\"]");
    for packet in [port_unreachable, admin_prohibited] {
        let frame = captured(SERVER_MAC, CLIENT_MAC, packet);
        assert_eq!(both.agree(&frame), Some(Reason::OtherType));
        assert_eq!(both.loaded.run(&frame).verdict, Verdict::Pass);
    }
}

/// A captured IPv4 packet in a frame, its header checksum computed anew.
fn captured(to: [u8; 6], from: [u8; 6], hex: &str) -> Vec<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16).unwrap() as u8;
    let packet = hex.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1]));
    let mut frame = [&to[..], &from, &[0x08, 0x00]].concat();
    frame.extend(packet);
    assert!(Ipv4Header::from_slice(&frame[IP..]).is_ok());
    fix_header_checksum(&mut frame, IP);
    frame
}

/// C22, in the kernel: with `next-hop = "fib"` the reply goes to the neighbour that the routing table names, whoever
/// sent the request; where forwarding is off the table says nothing, and the request is passed.
#[test]
#[ignore = "needs root and BPF"]
fn c22_next_hop_is_the_routing_tables() {
    let lab = Lab::native();
    // A test run takes an interface for its frame's only if that has a queue for XDP, that is, a program.
    let _ = lab.icmpctl(&["attach", SERVER_END, "--mode", "native"]).ok();
    let index = lab.server.index(SERVER_END);
    let neighbour = [2, 0, 0, 0, 0, 0x77];
    for address in [CLIENT4, CLIENT6] {
        lab.server.ip(&format!("neighbour replace {address} lladdr 02:00:00:00:00:77 dev {SERVER_END}"));
    }
    let tables = tables("respond.next-hop = \"fib\"");
    let mut loaded = lab.server.enter(|| Loaded::new(&tables));
    for forwarding in ["0", "1"] {
        for family in ["ipv4", "ipv6"] {
            lab.server.sysctl(&format!("{family}/conf/{SERVER_END}/forwarding"), forwarding);
        }
        let next_hop = (forwarding == "1").then_some((SERVER_MAC, neighbour));
        for frame in [Ping4::default().frame(), Ping6::default().frame()] {
            let (expected, _) = handle_routed(&tables, next_hop, &frame);
            let found = lab.server.enter(|| loaded.run_from(index, &frame));
            assert_eq!(found, expected, "forwarding {forwarding}");
            if next_hop.is_some() {
                let mut reply = oracle::reply(&frame, oracle::TTL);
                reply[..6].copy_from_slice(&neighbour);
                assert_eq!(found.frame, reply);
            }
        }
    }
}
