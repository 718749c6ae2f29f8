//! The ICMP error that `reject` sends, byte for byte as etherparse encodes it, and when none may be sent: each test in the host
//! build and in the loaded program. Conformance C35-C46, C50, C51, C62-C65.

use std::{thread, time::Duration};

use etherparse::{IpFragOffset, IpNumber, Ipv4Options, Ipv6FragmentHeader};
use icmp_common::Family::{self, Ipv4, Ipv6};
use icmp_ebpf::{Reason, Route, Verdict};
use icmp_tests::{
    frames::{
        CLIENT4, CLIENT6, ICMP4, ICMP6, IP, Ping4, Ping6, SERVER_MAC, SERVER4, SERVER6, fix_header_checksum,
        payload,
    },
    host::{Outcome, handle_in, handle_routed, interface, tables},
    loaded::{Loaded, ONE_BUFFER},
    oracle::{self, error4, error6},
};
use icmp_userspace::{
    explain::host::HostState,
    policy::{
        compile::{Interface, Tables},
        file,
        slots::Slots,
    },
};

/// The data path in one of its builds, with what it remembers.
trait Bed {
    fn run(&mut self, frame: &[u8]) -> Outcome;
    fn wait(&mut self, time: Duration);

    /// Demands that a frame ends in this error, or is dropped unchanged without one.
    #[track_caller]
    fn ends(&mut self, frame: &[u8], family: Family, reason: Reason, error: Option<Vec<u8>>) {
        assert_eq!(reason.verdict() == Verdict::Reject, error.is_some());
        let frame_then = error.unwrap_or_else(|| frame.to_vec());
        let expected =
            Outcome { verdict: reason.verdict(), counted: Some((family, reason)), frame: frame_then };
        assert_eq!(self.run(frame), expected, "of {frame:02x?}");
    }

    #[track_caller]
    fn silent4(&mut self, frame: &[u8]) {
        self.ends(frame, Ipv4, Reason::RejectedSilently, None);
    }

    #[track_caller]
    fn silent6(&mut self, frame: &[u8]) {
        self.ends(frame, Ipv6, Reason::RejectedSilently, None);
    }

    #[track_caller]
    fn error4(&mut self, frame: &[u8]) {
        self.ends(frame, Ipv4, Reason::Rejected, Some(error4(frame, 13, SERVER4, oracle::TTL)));
    }

    #[track_caller]
    fn error6(&mut self, frame: &[u8]) {
        self.ends(frame, Ipv6, Reason::Rejected, Some(error6(frame, 1, SERVER6, oracle::TTL)));
    }
}

impl Bed for HostState<'_> {
    fn run(&mut self, frame: &[u8]) -> Outcome {
        handle_in(self, frame)
    }

    fn wait(&mut self, time: Duration) {
        self.now += time.as_nanos() as u64;
    }
}

impl Bed for Loaded {
    fn run(&mut self, frame: &[u8]) -> Outcome {
        Self::run(self, frame)
    }

    fn wait(&mut self, time: Duration) {
        thread::sleep(time);
    }
}

#[derive(Clone, Copy)]
enum Build {
    Host,
    Loaded,
}

impl Build {
    /// Runs a test with a policy.
    fn with(self, policy: &str, test: impl FnOnce(&mut dyn Bed)) {
        self.with_tables(&tables(policy), test);
    }

    fn with_tables(self, tables: &Tables, test: impl FnOnce(&mut dyn Bed)) {
        match self {
            Self::Host => test(&mut HostState::new(tables)),
            Self::Loaded => test(&mut Loaded::new(tables)),
        }
    }
}

/// Makes two tests of each function, one for each build.
macro_rules! in_both_builds {
    ($($test:ident,)+) => {
        mod host {
            $(#[test]
            fn $test() {
                super::$test(super::Build::Host);
            })+
        }

        mod loaded {
            $(#[test]
            #[ignore = "needs root and BPF"]
            fn $test() {
                super::$test(super::Build::Loaded);
            })+
        }
    };
}

in_both_builds! {
    c35_c62_code_is_the_rules,
    c36_quote_is_the_header_with_its_options_and_what_follows,
    c37_c63_errors_hold_as_much_as_fits,
    c38_c64_none_about_errors_and_unknown_types,
    c39_c64_none_about_packets_to_many,
    c40_c64_none_about_frames_that_are_not_ours_alone,
    c41_none_about_later_fragments,
    c42_c64_none_to_what_is_not_one_host,
    c43_none_about_broken_packets,
    c44_ttl_and_precedence_are_the_errors_own,
    c45_source_is_the_destination_if_it_is_ours,
    c46_c65_errors_to_one_source_are_limited,
    c46_c48_errors_in_all_are_limited,
    c50_tags_are_kept,
    c51_errors_and_silence_are_counted_apart,
}

/// Everything is rejected, and errors are as good as not limited.
const ALL: &str = "acl.rules = \"reject icmp any any force\"\n\
                   acl.errors = { per-source = \"1000000/s\", total = \"1000000/s\" }";

fn ping4(change: impl FnOnce(&mut Ping4)) -> Vec<u8> {
    let mut ping = Ping4::default();
    change(&mut ping);
    ping.frame()
}

fn ping6(change: impl FnOnce(&mut Ping6)) -> Vec<u8> {
    let mut ping = Ping6::default();
    change(&mut ping);
    ping.frame()
}

/// RFC 1812 5.2.7.1, RFC 4443 3.1: 13 unless the rule says 9 or 10, in IPv6 always 1; `deny` is silent.
fn c35_c62_code_is_the_rules(build: Build) {
    let (v4, v6) = (ping4(|_| ()), ping6(|_| ()));
    for (action, code) in [
        ("reject", 13),
        ("reject with administratively-prohibited", 13),
        ("reject with net-prohibited", 9),
        ("reject with host-prohibited", 10),
    ] {
        build.with(
            &format!("acl.rules = \"\"\"\n{action} icmp4 any any echo\nreject icmp6 any any\"\"\""),
            |bed| {
                bed.ends(&v4, Ipv4, Reason::Rejected, Some(error4(&v4, code, SERVER4, oracle::TTL)));
                bed.error6(&v6);
                // Another type, and so another rule: none.
                bed.ends(&ping4(|ping| ping.icmp_type = 13), Ipv4, Reason::OtherType, None);
            },
        );
    }
    build.with("acl.rules = \"deny icmp any any\"", |bed| {
        bed.ends(&v4, Ipv4, Reason::Denied, None);
        bed.ends(&v6, Ipv6, Reason::Denied, None);
    });
}

/// RFC 1122 3.2.2: options and all.
fn c36_quote_is_the_header_with_its_options_and_what_follows(build: Build) {
    build.with(ALL, |bed| {
        for options in [4, 8, 20, 40] {
            // No operation, and the end of the list.
            let mut bytes = vec![1; options];
            bytes[options - 1] = 0;
            let bytes = Ipv4Options::try_from(&*bytes).unwrap();
            for length in [0, 1, 56, 600] {
                let frame = ping4(|ping| (ping.ip.options, ping.payload) = (bytes.clone(), payload(length)));
                bed.error4(&frame);
                let quote = &bed.run(&frame).frame[ICMP4 + 8..];
                let least = 20 + options + 8;
                assert_eq!(quote[..least], frame[IP..IP + least]);
            }
        }
    });
}

/// RFC 1812 4.3.2.3: 576 octets at most, RFC 4443 2.4 (c): 1280; what is shorter is quoted whole. Padding is no part of it.
fn c37_c63_errors_hold_as_much_as_fits(build: Build) {
    build.with(ALL, |bed| {
        let around = |most: usize| most - 3..=most + 3;
        for length in (0..70).chain(around(548 - 28)).chain(around(1232 - 48)).chain([
            1472,
            ONE_BUFFER - 62,
            ONE_BUFFER,
            8000,
        ]) {
            let v4 = ping4(|ping| ping.payload = payload(length));
            bed.error4(&v4);
            assert_eq!(bed.run(&v4).frame.len(), IP + (28 + 28 + length).min(576));
            let v6 = ping6(|ping| ping.payload = payload(length));
            bed.error6(&v6);
            assert_eq!(bed.run(&v6).frame.len(), IP + (48 + 48 + length).min(1280));
            let padded = |frame: &[u8]| [frame, &[0xff; 5]].concat();
            if length < 100 {
                bed.error4(&padded(&v4));
                bed.error6(&padded(&v6));
            }
        }
    });
}

/// RFC 1122 3.2.2, RFC 4443 2.4 (e): only queries and replies that are known get an error, in IPv6 all informational ones but
/// redirects.
fn c38_c64_none_about_errors_and_unknown_types(build: Build) {
    build.with(ALL, |bed| {
        for icmp_type in 0..=u8::MAX {
            let v4 = ping4(|ping| ping.icmp_type = icmp_type);
            match icmp_type {
                // Echo, router discovery, timestamp, information, address mask, extended echo.
                0 | 8 | 9 | 10 | 13..=18 | 42 | 43 => bed.error4(&v4),
                _ => bed.silent4(&v4),
            }
            let v6 = ping6(|ping| ping.icmp_type = icmp_type);
            match icmp_type {
                0..=127 | 137 => bed.silent6(&v6),
                _ => bed.error6(&v6),
            }
        }
    });
}

/// RFC 1122 3.2.2: none about what was sent to a broadcast or multicast address, whatever the frame's.
fn c39_c64_none_about_packets_to_many(build: Build) {
    build.with(ALL, |bed| {
        for to in [[192, 0, 2, 255], [255; 4], [224, 0, 0, 1], [239, 255, 255, 255], [240, 0, 0, 1]] {
            bed.silent4(&ping4(|ping| ping.ip.destination = to));
        }
        for first in [0xff02, 0xff0e, 0xffff_u16] {
            bed.silent6(&ping6(|ping| ping.ip.destination[..2].copy_from_slice(&first.to_be_bytes())));
        }
        bed.error4(&ping4(|_| ()));
        bed.error6(&ping6(|_| ()));
    });
}

/// None about frames to a broadcast or multicast MAC address, to another host's, or from our own.
fn c40_c64_none_about_frames_that_are_not_ours_alone(build: Build) {
    build.with(ALL, |bed| {
        for to in [[0xff; 6], [1, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1], [2, 0, 0, 0, 0, 9]] {
            bed.silent4(&ping4(|ping| ping.to = to));
            bed.silent6(&ping6(|ping| ping.to = to));
        }
        for from in [SERVER_MAC, [0xff; 6], [1, 0, 0, 0, 0, 2]] {
            bed.silent4(&ping4(|ping| ping.from = from));
            bed.silent6(&ping6(|ping| ping.from = from));
        }
    });
}

/// RFC 1122 3.2.2: about the first fragment of a packet, not about the others. What stands behind IPv6 extension headers, among
/// them that of fragments, gets no error.
fn c41_none_about_later_fragments(build: Build) {
    build.with(ALL, |bed| {
        bed.error4(&ping4(|ping| ping.ip.more_fragments = true));
        for (offset, more) in [(1, true), (185, true), (185, false), (8191, false)] {
            bed.silent4(&ping4(|ping| {
                ping.ip.more_fragments = more;
                ping.ip.fragment_offset = IpFragOffset::try_new(offset).unwrap();
            }));
        }
        for (offset, more) in [(0, true), (0, false), (181, false)] {
            let offset = IpFragOffset::try_new(offset).unwrap();
            let fragment = Ipv6FragmentHeader::new(IpNumber::IPV6_ICMP, offset, more, 7).to_bytes();
            let mut frame = ping6(|_| ());
            frame.splice(ICMP6..ICMP6, fragment);
            frame[IP + 5] += 8;
            frame[IP + 6] = 44;
            bed.silent6(&frame);
        }
    });
}

/// RFC 1122 3.2.2, RFC 4443 2.4 (e.6): none to an address that is not one host's.
fn c42_c64_none_to_what_is_not_one_host(build: Build) {
    build.with(ALL, |bed| {
        for from in [
            [0, 0, 0, 0],
            [0, 1, 2, 3],
            [127, 0, 0, 1],
            [224, 0, 0, 1],
            [239, 1, 2, 3],
            [240, 0, 0, 1],
            [255; 4],
            // The subnet's broadcast address.
            [192, 0, 2, 255],
            SERVER4,
        ] {
            bed.silent4(&ping4(|ping| ping.ip.source = from));
        }
        for from in [[0; 16], [0xff; 16], SERVER6] {
            bed.silent6(&ping6(|ping| ping.ip.source = from));
        }
        bed.silent6(&ping6(|ping| ping.ip.source[..2].copy_from_slice(&[0xff, 2])));
        bed.silent6(&ping6(|ping| ping.ip.source = 1_u128.to_be_bytes()));
        bed.error4(&ping4(|ping| ping.ip.source = [198, 51, 100, 7]));
        bed.error6(&ping6(|ping| ping.ip.source[15] = 0x77));
    });
}

/// What is broken (C15) is dropped before any rule is asked; a wrong header checksum makes the source doubtful.
fn c43_none_about_broken_packets(build: Build) {
    build.with(ALL, |bed| {
        let broken = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut frame = ping4(|_| ());
            change(&mut frame);
            frame
        };
        for frame in [
            broken(&|frame| frame[IP] = 0x44),
            broken(&|frame| frame[IP] = 0x55),
            broken(&|frame| frame[IP + 2] = 1),
            broken(&|frame| frame[IP + 3] = 27),
            broken(&|frame| frame.truncate(50)),
        ] {
            bed.ends(&frame, Ipv4, Reason::BadHeader, None);
        }
        for bit in 0..16 {
            bed.silent4(&broken(&|frame| frame[IP + 10 + bit / 8] ^= 1 << (bit % 8)));
        }
        // Behind options, too.
        let mut frame = ping4(|ping| ping.ip.options = Ipv4Options::from([1; 4]));
        frame[IP + 22] ^= 0x40;
        bed.silent4(&frame);
        for change in [|frame: &mut Vec<u8>| frame[IP + 4] = 1, |frame: &mut Vec<u8>| frame[IP + 5] = 7] {
            let mut frame = ping6(|_| ());
            change(&mut frame);
            bed.ends(&frame, Ipv6, Reason::BadHeader, None);
        }
        // A wrong checksum of the message is no reason: the header is right, and that is what the error is about.
        bed.error4(&broken(&|frame| frame[ICMP4 + 2] ^= 1));
    });
}

/// RFC 1812 4.3.2.5: precedence 6, whatever the packet's; and the TTL that `respond` says.
fn c44_ttl_and_precedence_are_the_errors_own(build: Build) {
    build.with(&format!("respond.ttl = 17\n{ALL}"), |bed| {
        for (tos, ttl) in [(0, 1), (0xb8, 64), (0xff, 255)] {
            let mut v4 = ping4(|ping| ping.ip.time_to_live = ttl);
            v4[IP + 1] = tos;
            fix_header_checksum(&mut v4, IP);
            bed.ends(&v4, Ipv4, Reason::Rejected, Some(error4(&v4, 13, SERVER4, 17)));
            let error = bed.run(&v4).frame;
            assert_eq!((error[IP + 1], error[IP + 8]), (0xc0, 17));
            let v6 = ping6(|ping| (ping.ip.traffic_class, ping.ip.hop_limit) = (tos, ttl));
            bed.ends(&v6, Ipv6, Reason::Rejected, Some(error6(&v6, 1, SERVER6, 17)));
            assert_eq!(bed.run(&v6).frame[IP + 7], 17);
        }
    });
}

/// Tables for an interface with these addresses.
fn tables_for(policy: &str, interface: &Interface) -> Tables {
    let policy = file::parse(policy).unwrap();
    let slots = Slots::assign(&policy, &Slots::default()).unwrap();
    Tables::compile(&policy, interface, &slots).unwrap()
}

/// The destination, served or not, if it is ours; else the interface's address, a global one before a link-local one; without one,
/// none.
fn c45_source_is_the_destination_if_it_is_ours(build: Build) {
    let served = [198, 51, 100, 9];
    let served6 = [0x20, 1, 0xd, 0xb8, 0, 0x53, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    let others = [[198, 51, 100, 10], [203, 0, 113, 1]];
    let to4 = |address| ping4(|ping| ping.ip.destination = address);
    let to6 = |address| ping6(|ping| ping.ip.destination = address);
    let respond = "respond.to = [\"198.51.100.9\", \"2001:db8:53::9\"]";
    let mut several = interface();
    several.addresses.insert(0, ("fe80::1".parse().unwrap(), 64));
    several.addresses.push(("192.0.2.77".parse().unwrap(), 24));
    build.with_tables(&tables_for(&format!("{respond}\n{ALL}"), &several), |bed| {
        let second = [192, 0, 2, 77];
        for (to, from) in [
            (SERVER4, SERVER4),
            (second, second),
            (served, served),
            (others[0], SERVER4),
            (others[1], SERVER4),
        ] {
            let frame = to4(to);
            bed.ends(&frame, Ipv4, Reason::Rejected, Some(error4(&frame, 13, from, oracle::TTL)));
        }
        let link_local = "fe80::1".parse::<std::net::Ipv6Addr>().unwrap().octets();
        let mut other = SERVER6;
        other[15] = 0x99;
        for (to, from) in [(SERVER6, SERVER6), (served6, served6), (link_local, link_local), (other, SERVER6)]
        {
            let frame = to6(to);
            bed.ends(&frame, Ipv6, Reason::Rejected, Some(error6(&frame, 1, from, oracle::TTL)));
        }
    });
    let none = Interface { addresses: Vec::new(), ..interface() };
    build.with_tables(&tables_for(&format!("{respond}\n{ALL}"), &none), |bed| {
        bed.silent4(&to4(SERVER4));
        bed.silent6(&to6(SERVER6));
        let frame = to4(served);
        bed.ends(&frame, Ipv4, Reason::Rejected, Some(error4(&frame, 13, served, oracle::TTL)));
    });
}

/// RFC 1812 4.3.2.8, RFC 4443 2.4 (f): 10 at once and 10 a second unless the policy says otherwise, to one IPv4 address or one
/// IPv6 /64; beyond that silence.
fn c46_c65_errors_to_one_source_are_limited(build: Build) {
    let limits = "acl.errors.per-source = \"1/s burst 3\"\n";
    for (limits, burst) in [("", 10), (limits, 3)] {
        build.with(&format!("{limits}acl.rules = \"reject icmp any any\""), |bed| {
            let (v4, v6) = (ping4(|_| ()), ping6(|_| ()));
            for _ in 0..burst {
                bed.error4(&v4);
                bed.error6(&v6);
            }
            // Another address in the same /64 as well.
            let neighbour = ping6(|ping| ping.ip.source[8..].copy_from_slice(&[9; 8]));
            for _ in 0..2 {
                bed.ends(&v4, Ipv4, Reason::RejectOverLimit, None);
                bed.ends(&v6, Ipv6, Reason::RejectOverLimit, None);
                bed.ends(&neighbour, Ipv6, Reason::RejectOverLimit, None);
            }
            bed.error4(&ping4(|ping| ping.ip.source[3] += 1));
            bed.error6(&ping6(|ping| ping.ip.source[7] = 1));
            if burst == 3 {
                // Time for one, not for two.
                bed.wait(Duration::from_millis(1200));
                bed.error4(&v4);
                bed.ends(&v4, Ipv4, Reason::RejectOverLimit, None);
            }
        });
    }
}

/// C46, C48: errors to all sources together have a limit of their own, which both families share. Each takes half a token or one and a
/// half, and one and a half have to be there.
fn c46_c48_errors_in_all_are_limited(build: Build) {
    let policy = "acl.rules = \"reject icmp any any\"\nacl.errors.total = \"1/s burst 20\"";
    build.with(policy, |bed| {
        let mut sources = 0..;
        let mut sent = |bed: &mut dyn Bed, family, packets| {
            let rejected = |source: &u8| {
                let frame = match family {
                    Ipv4 => ping4(|ping| ping.ip.source = [198, 51, 100, *source]),
                    Ipv6 => ping6(|ping| ping.ip.source[7] = *source),
                };
                let reason = bed.run(&frame).counted.map(|(_, reason)| reason);
                assert!(matches!(reason, Some(Reason::Rejected | Reason::RejectOverLimit)), "{reason:?}");
                reason == Some(Reason::Rejected)
            };
            sources.by_ref().take(packets).filter(rejected).count()
        };
        let first = sent(bed, Ipv4, 50);
        assert!((13..=39).contains(&first), "{first} of 20");
        assert_eq!(sent(bed, Ipv6, 50), 0);
        bed.wait(Duration::from_secs(2));
        let then = sent(bed, Ipv6, 50);
        assert!((1..=5).contains(&then), "{then} of 2");
        assert_eq!(sent(bed, Ipv4, 50), 0);
    });
}

/// One tag or two, of either sort, with their priorities; packets of odd lengths, too.
fn c50_tags_are_kept(build: Build) {
    build.with(ALL, |bed| {
        for tags in [
            vec![(0x8100, 0xe02a)],
            vec![(0x88a8, 0x2064)],
            vec![(0x88a8, 0x3064), (0x8100, 0xb00a)],
            vec![(0x8100, 0xffff), (0x8100, 0)],
        ] {
            for length in [0, 1, 56, 57, 600, 1401] {
                bed.error4(&ping4(|ping| (ping.tags, ping.payload) = (tags.clone(), payload(length))));
                bed.error6(&ping6(|ping| (ping.tags, ping.payload) = (tags.clone(), payload(length))));
            }
        }
    });
}

/// What was rejected with an error, what without one because none may be sent, and what because of the limit.
fn c51_errors_and_silence_are_counted_apart(build: Build) {
    build.with("acl.rules = \"reject icmp any any\"\nacl.errors.per-source = \"1/s burst 1\"", |bed| {
        bed.silent4(&ping4(|ping| ping.icmp_type = 11));
        // Those that got no error have taken no token.
        bed.error4(&ping4(|_| ()));
        bed.ends(&ping4(|_| ()), Ipv4, Reason::RejectOverLimit, None);
        bed.silent6(&ping6(|ping| ping.to = [0xff; 6]));
        bed.error6(&ping6(|_| ()));
        bed.ends(&ping6(|_| ()), Ipv6, Reason::RejectOverLimit, None);
    });
}

/// C22: with `next-hop = "fib"` errors go where the routing table says, which is asked for the error's own way; where it says
/// nothing, and behind VLAN tags, there is none.
#[test]
fn c22_errors_follow_the_routing_table() {
    let tables = tables(&format!("respond.next-hop = \"fib\"\n{ALL}"));
    let (from, to) = ([2, 0, 0, 0, 0, 5], [2, 0, 0, 0, 0, 6]);
    let routed = |mut error: Vec<u8>| {
        error[..6].copy_from_slice(&to);
        error[6..12].copy_from_slice(&from);
        error
    };
    let frame = ping4(|_| ());
    let (outcome, asked) = handle_routed(&tables, Some((from, to)), &frame);
    assert_eq!(outcome.frame, routed(error4(&frame, 13, SERVER4, oracle::TTL)));
    let total_length = (28 + 84) as u16;
    let route = Route::Ipv4 { tos: 0xc0, total_length, source: SERVER4, destination: CLIENT4 };
    assert_eq!(asked, Some(route));

    let frame = ping6(|_| ());
    let (outcome, asked) = handle_routed(&tables, Some((from, to)), &frame);
    assert_eq!(outcome.frame, routed(error6(&frame, 1, SERVER6, oracle::TTL)));
    let halves = |address: [u8; 16]| [address[..8].try_into().unwrap(), address[8..].try_into().unwrap()];
    let total_length = (48 + 104) as u16;
    let route = Route::Ipv6 { total_length, source: halves(SERVER6), destination: halves(CLIENT6) };
    assert_eq!(asked, Some(route));

    HostState::new(&tables).silent4(&ping4(|_| ()));
    let tagged = ping6(|ping| ping.tags = vec![(0x8100, 7)]);
    let (outcome, asked) = handle_routed(&tables, Some((from, to)), &tagged);
    assert_eq!((outcome.counted, asked), (Some((Ipv6, Reason::RejectedSilently)), None));
}
