//! `traceroute = true`: UDP probes of traceroute end at served addresses that are not the host's, by a port unreachable that
//! obeys the rules of all errors. In both builds.

use etherparse::{IpFragOffset, IpHeaders, IpNumber, Ipv4Header, Ipv6Header, PacketBuilder};
use icmp_common::{
    Family::{self, Ipv4, Ipv6},
    wire::Wire,
};
use icmp_ebpf::{Frame, Reason, Verdict};
use icmp_tests::{
    both::Both,
    frames::{
        CLIENT_MAC, CLIENT4, CLIENT6, IP, SERVER_MAC, SERVER4, SERVER6, fix_header_checksum, payload, tagged,
        tcp4,
    },
    host::{Outcome, handle, handle_in, interface},
    loaded::ONE_BUFFER,
    oracle::{TTL, error4, error6, untouched},
};
use icmp_userspace::{
    explain::host::{HostState, VecFrame},
    policy::{
        compile::{Interface, Tables},
        file,
        prefix::Prefix,
        slots::Slots,
    },
};

/// A served address that nobody owns, and one that the host has on another interface.
const ANYCAST4: [u8; 4] = [198, 51, 100, 53];
const ELSEWHERE4: [u8; 4] = [198, 51, 100, 1];

const fn anycast6(last: u8) -> [u8; 16] {
    [0x20, 0x01, 0x0d, 0xb8, 0, 0x53, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]
}

const ANYCAST6: [u8; 16] = anycast6(0x53);
const ELSEWHERE6: [u8; 16] = anycast6(1);

/// Errors as often as anybody may want them.
const OFTEN: &str = "acl.errors = { per-source = \"1000000/s\", total = \"1000000/s\" }";

/// A policy that serves anycast prefixes, with more in `[respond]` and elsewhere.
fn policy(respond: &str, more: &str) -> Tables {
    let text =
        format!("{more}\n[respond]\nto = [\"own\", \"198.51.100.0/24\", \"2001:db8:53::/64\"]\n{respond}\n");
    let policy = file::parse(&text).unwrap();
    let slots = Slots::assign(&policy, &Slots::default()).unwrap();
    let elsewhere = [ELSEWHERE4.into(), ELSEWHERE6.into()].map(Prefix::host).to_vec();
    Tables::compile(&policy, &Interface { elsewhere, ..interface() }, &slots).unwrap()
}

fn on() -> Tables {
    policy("traceroute = true", OFTEN)
}

/// A probe as traceroute sends it: 32 bytes of data, and with the TTL that gets it here and no further.
fn probe(family: Family, port: u16) -> Vec<u8> {
    match family {
        Ipv4 => probe4(port, payload(32), |_| ()),
        Ipv6 => probe6(port, payload(32), |_| ()),
    }
}

fn probe4(port: u16, data: Vec<u8>, change: impl FnOnce(&mut Ipv4Header)) -> Vec<u8> {
    let mut header = Ipv4Header::new(0, 1, IpNumber::UDP, CLIENT4, ANYCAST4).unwrap();
    change(&mut header);
    let mut frame = Vec::new();
    let step =
        PacketBuilder::ethernet2(CLIENT_MAC, SERVER_MAC).ip(IpHeaders::Ipv4(header, Default::default()));
    step.udp(40_000, port).write(&mut frame, &data).unwrap();
    frame
}

fn probe6(port: u16, data: Vec<u8>, change: impl FnOnce(&mut Ipv6Header)) -> Vec<u8> {
    let mut header = Ipv6Header {
        hop_limit: 1,
        source: CLIENT6,
        destination: ANYCAST6,
        next_header: IpNumber::UDP,
        ..Ipv6Header::default()
    };
    change(&mut header);
    let mut frame = Vec::new();
    let step =
        PacketBuilder::ethernet2(CLIENT_MAC, SERVER_MAC).ip(IpHeaders::Ipv6(header, Default::default()));
    step.udp(40_000, port).write(&mut frame, &data).unwrap();
    frame
}

/// What a probe comes to that ends here: type 3 code 3, type 1 code 4, from the address that it was sent to.
fn ended(family: Family, frame: &[u8]) -> Outcome {
    let error = match family {
        Ipv4 => error4(frame, 3, ANYCAST4, TTL),
        Ipv6 => error6(frame, 4, ANYCAST6, TTL),
    };
    Outcome { verdict: Verdict::Answer, counted: Some((family, Reason::Traceroute)), frame: error }
}

/// C36, C44, C45: each port that traceroute and mtr send to, and no other, with or without VLAN tags.
#[test]
fn c36_c44_c45_probes_end_at_served_addresses() {
    let tables = on();
    for family in Family::ALL {
        for port in [33_000, 33_001, 33_434, 33_500, 33_534] {
            let frame = probe(family, port);
            assert_eq!(handle(&tables, &frame), ended(family, &frame), "{port}");
            for tags in [&[(0x8100, 0xe00c)][..], &[(0x88a8, 0x2001), (0x8100, 0xb002)]] {
                let frame = tagged(frame.clone(), tags);
                assert_eq!(handle(&tables, &frame), ended(family, &frame), "{port}");
            }
        }
        for port in [0, 53, 443, 32_999, 33_535, 44_444, 65_535] {
            let frame = probe(family, port);
            assert_eq!(handle(&tables, &frame), untouched(&frame), "{port}");
        }
    }
}

/// C37, C63: long probes, as tracepath sends them, are quoted as far as an error may be long; short ones whole.
#[test]
fn c37_c63_as_much_is_quoted_as_fits() {
    let tables = on();
    for length in [0, 1, 500, 520, 521, 1180, 1200, 1472] {
        let frame = probe4(33_434, payload(length), |_| ());
        assert_eq!(handle(&tables, &frame), ended(Ipv4, &frame), "{length}");
        let frame = probe6(33_434, payload(length.min(1452)), |_| ());
        assert_eq!(handle(&tables, &frame), ended(Ipv6, &frame), "{length}");
    }
}

/// Probes that do not end here, and so are nobody's but the stack's.
fn passed() -> Vec<Vec<u8>> {
    let v4 = |change: fn(&mut Ipv4Header)| probe4(33_434, payload(32), change);
    let v6 = |change: fn(&mut Ipv6Header)| probe6(33_434, payload(32), change);
    let mut all = vec![
        // The host's own addresses, wherever it has them: its stack says so, or somebody listens.
        v4(|header| header.destination = SERVER4),
        v4(|header| header.destination = ELSEWHERE4),
        v6(|header| header.destination = SERVER6),
        v6(|header| header.destination = ELSEWHERE6),
        // Not served.
        v4(|header| header.destination = [203, 0, 113, 1]),
        v6(|header| header.destination[0] = 0x30),
        // C39: broadcast, multicast.
        v4(|header| header.destination = [192, 0, 2, 255]),
        v4(|header| header.destination = [224, 0, 0, 1]),
        v6(|header| header.destination[0] = 0xff),
        // C41: fragments, the first one too, because it may not be whole.
        v4(|header| header.more_fragments = true),
        v4(|header| header.fragment_offset = IpFragOffset::try_new(10).unwrap()),
        // C42: from nobody in particular, or from itself.
        v4(|header| header.source = [0; 4]),
        v4(|header| header.source = [127, 0, 0, 1]),
        v4(|header| header.source = [224, 0, 0, 1]),
        v4(|header| header.source = [192, 0, 2, 255]),
        v4(|header| header.source = ANYCAST4),
        v6(|header| header.source = [0; 16]),
        v6(|header| header.source[0] = 0xff),
        v6(|header| header.source = ANYCAST6),
    ];
    for family in Family::ALL {
        let with = |change: fn(&mut Vec<u8>)| {
            let mut frame = probe(family, 33_434);
            change(&mut frame);
            frame
        };
        // C40: broadcast, multicast and other hosts' frames.
        all.push(with(|frame| frame[..6].fill(0xff)));
        all.push(with(|frame| frame[..6].copy_from_slice(&[1, 0, 0x5e, 0, 0, 1])));
        all.push(with(|frame| frame[5] = 9));
        // C43: cut short, and lengths that are impossible.
        all.push(with(|frame| frame.truncate(frame.len() - 1)));
        all.push(with(|frame| frame.truncate(IP + 24)));
    }
    // C43: another length, and a wrong header checksum.
    let mut wrong = probe(Ipv4, 33_434);
    wrong[IP + 3] = 27;
    fix_header_checksum(&mut wrong, IP);
    all.push(wrong);
    let mut wrong = probe(Ipv4, 33_434);
    wrong[IP + 10] ^= 1;
    all.push(wrong);
    // C93.
    all.push(tcp4());
    all
}

/// C39-C43, C93: left to the stack as they came, and not counted, because they are not ICMP.
#[test]
fn c39_c40_c41_c42_c43_c93_other_probes_are_passed() {
    let tables = on();
    for frame in passed() {
        assert_eq!(handle(&tables, &frame), untouched(&frame), "{frame:02x?}");
    }
}

/// Off unless switched on; off with all answers, too (C17). Rules about ICMP change nothing (C86).
#[test]
fn c17_c86_off_by_default() {
    for family in Family::ALL {
        let frame = probe(family, 33_434);
        for tables in [policy("", OFTEN), policy("traceroute = true\nenabled = false", OFTEN)] {
            assert_eq!(handle(&tables, &frame), untouched(&frame));
        }
        let denying = policy("traceroute = true", &format!("acl.rules = 'deny icmp any any'\n{OFTEN}"));
        assert_eq!(handle(&denying, &frame), ended(family, &frame));
    }
}

/// C46: they count among the errors that a source is sent; those over the limit are dropped.
#[test]
fn c46_they_are_limited_as_errors_are() {
    for family in Family::ALL {
        let tables = policy("traceroute = true", "acl.errors = { per-source = \"1/s burst 3\" }");
        let mut state = HostState::new(&tables);
        for number in 0..5 {
            let frame = probe(family, 33_434 + number);
            let outcome = handle_in(&mut state, &frame);
            let over = Outcome {
                verdict: Verdict::Limit,
                counted: Some((family, Reason::TracerouteOverLimit)),
                frame: frame.clone(),
            };
            assert_eq!(outcome, if number < 3 { ended(family, &frame) } else { over }, "{number}");
        }
    }
}

/// A frame that can't be changed in its length, wherever it lies.
struct Stiff {
    frame: VecFrame,
    grows: bool,
}

impl Frame for Stiff {
    fn holds(&self, at: usize, length: usize) -> bool {
        self.frame.holds(at, length)
    }

    fn read<T: Wire>(&self, at: usize) -> Option<&T> {
        self.frame.read(at)
    }

    fn write<T: Wire>(&mut self, at: usize) -> Option<&mut T> {
        self.frame.write(at)
    }

    fn sum<const MOST: usize>(&mut self, at: usize, length: impl Fn(&Self) -> Option<usize>) -> Option<u64> {
        let length = length(self);
        self.frame.sum::<MOST>(at, |_| length)
    }

    fn grow(&mut self, bytes: usize) -> bool {
        self.grows && self.frame.grow(bytes)
    }

    fn cut(&mut self, _: usize) -> bool {
        false
    }
}

/// Where there is no room for an error the probe passes as it came; one that has been changed never passes.
#[test]
fn what_has_been_changed_is_not_passed() {
    let tables = on();
    for family in Family::ALL {
        for length in [32, 1400] {
            let bytes = match family {
                Ipv4 => probe4(33_434, payload(length), |_| ()),
                Ipv6 => probe6(33_434, payload(length), |_| ()),
            };
            for grows in [false, true] {
                let mut frame = Stiff { frame: VecFrame(bytes.clone()), grows };
                let verdict = icmp_ebpf::handle(&mut frame, &mut HostState::new(&tables));
                assert_eq!(verdict, if grows { Verdict::Limit } else { Verdict::Pass });
                assert!(grows || frame.frame.0 == bytes);
            }
        }
    }
}

/// The kernel's build agrees about all of this.
#[test]
#[ignore = "needs root and BPF"]
fn both_builds_agree() {
    let mut both = Both::of(on());
    for frame in passed() {
        assert_eq!(both.agree(&frame), None);
    }
    for family in Family::ALL {
        for port in [32_999, 33_000, 33_434, 33_534, 33_535] {
            let ends = (33_000..=33_534).contains(&port);
            for tags in [&[][..], &[(0x8100, 0xe00c)], &[(0x88a8, 0x2001), (0x8100, 0xb002)]] {
                let frame = tagged(probe(family, port), tags);
                assert_eq!(both.agree(&frame), ends.then_some(Reason::Traceroute));
                assert!(!ends || both.loaded.run(&frame) == ended(family, &frame));
            }
        }
    }
    let most = ONE_BUFFER - IP;
    for length in [0, 1, 500, 520, 521, 1180, 1200, 1452, most - 48, most - 28, most, 8000] {
        assert_eq!(both.agree(&probe4(33_434, payload(length), |_| ())), Some(Reason::Traceroute));
        assert_eq!(both.agree(&probe6(33_434, payload(length), |_| ())), Some(Reason::Traceroute));
    }
    let mut both = Both::of(policy("traceroute = true", "acl.errors.per-source = \"1/s burst 1\""));
    let frame = probe(Ipv4, 33_434);
    let reasons = both.agree_on_all(&[&frame, &frame]);
    assert_eq!(reasons, [Some(Reason::Traceroute), Some(Reason::TracerouteOverLimit)]);
}
