//! Extended echo requests (RFC 8335, PROBE): those about the interface are answered where they are switched on, as Linux
//! answers them.

use std::time::Duration;

use icmp_common::Family::{self, Ipv4, Ipv6};
use icmp_ebpf::Reason;
use icmp_tests::{
    both::Both,
    frames::{CLIENT4, CLIENT6, ICMP4, ICMP6, IP, Ping4, Ping6, SERVER4, SERVER6, tagged},
    host::{Outcome, handle, interface, tables},
    netns::{CLIENT_END, Lab, SERVER_END},
    oracle,
    port::Port,
};
use icmp_userspace::policy::{
    compile::{Interface, Tables},
    file,
    slots::Slots,
};

/// The client may ask.
const ON: &str = "respond.probe = [\"192.0.2.0/24\", \"2001:db8::/64\"]";

/// An interface identification object: class 3, and by what it identifies.
fn object(by: u8, identifying: &[u8]) -> Vec<u8> {
    let length = (4 + identifying.len()) as u16;
    [&length.to_be_bytes()[..], &[3, by], identifying].concat()
}

fn by_name(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(name.len().next_multiple_of(4), 0);
    object(1, &bytes)
}

fn by_index(index: u32) -> Vec<u8> {
    object(2, &index.to_be_bytes())
}

fn by_address4(address: [u8; 4]) -> Vec<u8> {
    object(3, &[&[0, 1, 4, 0], &address[..]].concat())
}

fn by_address6(address: [u8; 16]) -> Vec<u8> {
    object(3, &[&[0, 2, 16, 0], &address[..]].concat())
}

/// The structure of extensions around an object: version 2, and a checksum (RFC 4884 7).
fn extensions(object: &[u8]) -> Vec<u8> {
    let mut bytes = [&[0x20, 0, 0, 0], object].concat();
    let sum = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let sum: u32 = sum.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
    bytes[2..4].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// A request in a family, about the host's own interface: the last bit of the header is set.
fn request(family: Family, object: &[u8]) -> Vec<u8> {
    changed(family, object, |_, _| {})
}

/// A request, with changes to its type, code and sequence number (lower byte: the local bit), and to what is behind its header.
fn changed(family: Family, object: &[u8], change: impl FnOnce(&mut [u8; 3], &mut Vec<u8>)) -> Vec<u8> {
    let mut head = [if family == Ipv4 { 42 } else { 160 }, 0, 1];
    let mut payload = extensions(object);
    change(&mut head, &mut payload);
    let [icmp_type, code, local] = head;
    let sequence = 7 << 8 | u16::from(local);
    let mut frame = match family {
        Ipv4 => Ping4 { icmp_type, code, sequence, payload, ..Ping4::default() }.frame(),
        Ipv6 => Ping6 { icmp_type, code, sequence, payload, ..Ping6::default() }.frame(),
    };
    frame.resize(frame.len().max(60), 0);
    frame
}

/// The tests' interface, with an index and a name, and another one's address.
fn on_interface(policy: &str) -> Tables {
    let policy = file::parse(policy).unwrap();
    let slots = Slots::assign(&policy, &Slots::default()).unwrap();
    let interface = Interface { index: 7, name: "eth0".to_owned(), ..interface() };
    Tables::compile(&policy, &interface, &slots).unwrap()
}

/// The reply: type 43 or 161, what the last byte of the header says of the interface, all else as in the request, in an echo
/// reply's envelope.
fn reply(request: &[u8], family: Family, state: u8) -> Vec<u8> {
    let message = if family == Ipv4 { ICMP4 } else { ICMP6 };
    let end = match family {
        Ipv4 => IP + usize::from(u16::from_be_bytes([request[IP + 2], request[IP + 3]])),
        Ipv6 => ICMP6 + usize::from(u16::from_be_bytes([request[IP + 4], request[IP + 5]])),
    };
    let payload = request[message + 8..end].to_vec();
    let sequence = 7 << 8 | u16::from(state);
    let mut frame = match family {
        Ipv4 => {
            let ping = Ping4::default();
            let ip = etherparse::Ipv4Header {
                source: SERVER4,
                destination: CLIENT4,
                time_to_live: oracle::TTL,
                ..ping.ip.clone()
            };
            let (from, to) = (ping.to, ping.from);
            Ping4 { icmp_type: 43, sequence, payload, ip, from, to, ..ping }.frame()
        }
        Ipv6 => {
            let ping = Ping6::default();
            let ip = etherparse::Ipv6Header {
                source: SERVER6,
                destination: CLIENT6,
                hop_limit: oracle::TTL,
                ..ping.ip.clone()
            };
            let (from, to) = (ping.to, ping.from);
            Ping6 { icmp_type: 161, sequence, payload, ip, from, to, ..ping }.frame()
        }
    };
    frame.resize(frame.len().max(60), 0);
    frame
}

/// Bits of the answer: active, IPv4 runs, IPv6 runs.
const UP: u8 = 0b111;

/// Questions about the interface that is there.
fn about_it() -> Vec<Vec<u8>> {
    vec![by_name("eth0"), by_index(7), by_address4(SERVER4), by_address6(SERVER6)]
}

/// C75, C76: by name, index and address; in both families, each about the addresses of both.
#[test]
fn c75_c76_questions_about_the_interface_are_answered() {
    let tables = on_interface(ON);
    for family in Family::ALL {
        for object in about_it() {
            let request = request(family, &object);
            let reason = Reason::Probe;
            let frame = reply(&request, family, UP);
            let expected = Outcome { verdict: reason.verdict(), counted: Some((family, reason)), frame };
            assert_eq!(handle(&tables, &request), expected, "{family:?} {object:02x?}");
        }
    }
}

/// An interface with addresses of one family says that the other does not run.
#[test]
fn the_answer_says_what_runs() {
    let policy = file::parse("respond = { to = [\"192.0.2.1\"], probe = [\"192.0.2.0/24\"] }").unwrap();
    let slots = Slots::assign(&policy, &Slots::default()).unwrap();
    for (addresses, state) in
        [(vec![], 0b100), (vec![(SERVER4.into(), 24)], 0b110), (vec![(SERVER6.into(), 64)], 0b101)]
    {
        let interface = Interface { index: 7, addresses, ..interface() };
        let tables = Tables::compile(&policy, &interface, &slots).unwrap();
        let request = request(Ipv4, &by_index(7));
        assert_eq!(handle(&tables, &request).frame, reply(&request, Ipv4, state));
    }
}

/// Frames that are not answered, and why; of each family.
fn not_answered() -> Vec<(Family, Vec<u8>, Reason)> {
    let mut all = Vec::new();
    for family in Family::ALL {
        let index = by_index(7);
        for object in [
            by_name("eth1"),
            by_name("eth"),
            by_name("eth0.100"),
            by_name("a-name-of-15-by"),
            by_index(8),
            by_index(7 << 24),
            by_address4([192, 0, 2, 9]),
            by_address4(CLIENT4),
            by_address6(CLIENT6),
            // A MAC address, which RFC 8335 allows, and families and lengths that do not fit.
            object(3, &[0x40, 0x05, 6, 0, 2, 0, 0, 0, 0, 1, 0, 0]),
            object(3, &[&[0, 1, 16, 0], &SERVER4[..]].concat()),
            object(3, &[&[0, 2, 4, 0], &SERVER4[..]].concat()),
            object(4, &7_u32.to_be_bytes()),
            object(1, b"eth"),
            object(1, &[0; 20]),
            object(1, b""),
            object(2, &[0, 7]),
        ] {
            all.push((family, request(family, &object), Reason::OtherProbe));
        }
        // About a neighbour; other versions and classes; longer than the message; nothing at all.
        all.push((family, changed(family, &index, |head, _| head[2] = 0), Reason::OtherProbe));
        all.push((family, changed(family, &index, |_, payload| payload[0] = 0x10), Reason::OtherProbe));
        all.push((family, changed(family, &index, |_, payload| payload[6] = 2), Reason::OtherProbe));
        all.push((family, changed(family, &index, |_, payload| payload.truncate(10)), Reason::OtherProbe));
        all.push((family, changed(family, &index, |_, payload| payload[5] = 3), Reason::OtherProbe));
        all.push((family, changed(family, &index, |_, payload| payload.clear()), Reason::OtherProbe));
        all.push((family, changed(family, &index, |head, _| head[1] = 1), Reason::OtherCode));
        // A reply is nobody's to answer.
        all.push((family, changed(family, &index, |head, _| head[0] += 1), Reason::OtherType));
        let mut wrong = request(family, &index);
        let message = if family == Ipv4 { ICMP4 } else { ICMP6 };
        wrong[message + 5] ^= 1;
        all.push((family, wrong, Reason::BadChecksum));
    }
    all
}

fn unchanged(family: Family, frame: &[u8], reason: Reason) -> Outcome {
    Outcome { verdict: reason.verdict(), counted: Some((family, reason)), frame: frame.to_vec() }
}

/// C75: what can't be answered here is the stack's, not one byte changed.
#[test]
fn c75_other_questions_are_left_to_the_stack() {
    let tables = on_interface(ON);
    for (family, frame, reason) in not_answered() {
        assert_eq!(handle(&tables, &frame), unchanged(family, &frame, reason));
    }
}

/// C75: off unless somebody may ask.
#[test]
fn c75_off_by_default() {
    for family in Family::ALL {
        let frame = request(family, &by_index(7));
        for policy in ["", "respond.probe = []"] {
            let expected = unchanged(family, &frame, Reason::OtherType);
            assert_eq!(handle(&on_interface(policy), &frame), expected);
        }
    }
}

/// C76: a source that is not listed, and one that is no single host's, get no answer, whatever rules say.
#[test]
fn c76_only_who_is_listed_may_ask() {
    for rules in
        ["", "acl.rules = 'permit icmp any any'", "acl.rules = 'permit icmp 203.0.113.0/24 any echo'"]
    {
        for family in Family::ALL {
            let frame = request(family, &by_index(7));
            for listed in ["198.51.100.0/24\", \"2001:db8:1::/48", "192.0.2.3\", \"2001:db8::3"] {
                let tables = on_interface(&format!("respond.probe = [\"{listed}\"]\n{rules}"));
                assert_eq!(handle(&tables, &frame), unchanged(family, &frame, Reason::ProbeNotAllowed));
            }
            let tables = on_interface(&format!("respond.probe = [\"192.0.2.2\", \"2001:db8::2\"]\n{rules}"));
            assert_eq!(handle(&tables, &frame).counted, Some((family, Reason::Probe)), "{rules}");
        }
    }
    // The whole of IPv4 may ask, but not so what is no host.
    let ping = Ping4::default();
    let ip = etherparse::Ipv4Header { source: [224, 0, 0, 1], ..ping.ip.clone() };
    let payload = extensions(&by_index(7));
    let frame = Ping4 { icmp_type: 42, sequence: 1, payload, ip, ..ping }.frame();
    let tables = on_interface("respond.probe = [\"0.0.0.0/0\"]");
    assert_eq!(handle(&tables, &frame), unchanged(Ipv4, &frame, Reason::BadSource));
}

/// Rules come first, here as for everything.
#[test]
fn rules_come_first() {
    let rules = "acl.rules = 'deny icmp any any extended-echo-request'";
    for family in Family::ALL {
        let frame = request(family, &by_index(7));
        let tables = on_interface(&format!("{ON}\n{rules}"));
        assert_eq!(handle(&tables, &frame), unchanged(family, &frame, Reason::Denied));
    }
}

/// C75, C76: the kernel's build agrees about all of this, behind VLAN tags, too.
#[test]
#[ignore = "needs root and BPF"]
fn c75_c76_both_builds_agree() {
    let mut both = Both::of(on_interface(ON));
    for (_, frame, reason) in not_answered() {
        assert_eq!(both.agree(&frame), Some(reason), "{frame:02x?}");
    }
    for family in Family::ALL {
        for object in about_it() {
            let frame = request(family, &object);
            assert_eq!(both.agree(&frame), Some(Reason::Probe));
            assert_eq!(both.agree(&tagged(frame.clone(), &[(0x8100, 0xe00c)])), Some(Reason::Probe));
            assert_eq!(both.agree(&tagged(frame, &[(0x88a8, 7), (0x8100, 9)])), Some(Reason::Probe));
        }
        let long = changed(family, &by_index(7), |_, payload| payload.resize(600, 0));
        assert_eq!(both.agree(&long), Some(Reason::TooLong));
    }
    let mut both = Both::of(on_interface("respond.probe = [\"198.51.100.0/24\", \"2001:db8:1::/48\"]"));
    for family in Family::ALL {
        assert_eq!(both.agree(&request(family, &by_index(7))), Some(Reason::ProbeNotAllowed));
    }
}

/// C75, C76 and the kernel: asked the same by the same client, the stack, where it answers such requests, and the program say
/// the same, byte for byte but for IPv4's identification and IPv6's flow label.
#[test]
#[ignore = "needs root and BPF"]
fn c75_c76_the_kernel_says_the_same() {
    let stack = Lab::new();
    stack.server.sysctl("ipv4/icmp_echo_enable_probe", "1");
    let ours = Lab::attached("native", ON);
    // What the program leaves to the stack is not answered there, so that every answer is the program's.
    ours.server.sysctl("ipv4/icmp_echo_enable_probe", "0");
    let index = |lab: &Lab| lab.server.index(SERVER_END);
    let mut answers = 0;
    for family in Family::ALL {
        let objects =
            |lab| [by_name(SERVER_END), by_index(index(lab)), by_address4(SERVER4), by_address6(SERVER6)];
        for place in 0..4 {
            let [one, other] = [&stack, &ours].map(|lab| {
                let request = request(family, &objects(lab)[place]);
                let mut reply = exchange(lab, family, &request).expect("no reply");
                reply.resize(reply.len().max(60), 0);
                match family {
                    Ipv4 => {
                        reply[IP + 4..IP + 8].fill(0);
                        reply[IP + 10..IP + 12].fill(0);
                    }
                    Ipv6 => {
                        reply[IP + 1] &= 0xf0;
                        reply[IP + 2..IP + 4].fill(0);
                    }
                }
                reply
            });
            let about_index = place == 1;
            // Two namespaces, two indices.
            if !about_index || index(&stack) == index(&ours) {
                assert_eq!(one, other, "{family:?} {place}");
            }
            answers += 1;
        }
    }
    assert_eq!(ours.counted("ipv4", "probe") + ours.counted("ipv6", "probe"), answers);
}

/// What the server answers to a frame of the client's.
fn exchange(lab: &Lab, family: Family, frame: &[u8]) -> Option<Vec<u8>> {
    let (message, icmp_type) = if family == Ipv4 { (ICMP4, 43) } else { (ICMP6, 161) };
    let mut port = Port::open(&lab.client, CLIENT_END);
    let is_reply =
        |reply: &[u8]| reply.len() > message && reply[12..14] == frame[12..14] && reply[message] == icmp_type;
    port.exchange(frame, Duration::from_secs(5), is_reply)
}

/// What the policy text means is what the tables hold; a wrong list is said.
#[test]
fn the_list_is_checked() {
    let error = file::parse("respond.probe = [\"own\"]").unwrap_err();
    assert_eq!(error.len(), 1);
    assert!(tables("respond.probe = [\"0.0.0.0/0\"]").config.probe == 1);
    assert!(tables("").config.probe == 0);
}
