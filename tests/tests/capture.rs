//! `icmpctl capture`: what a filter takes, and what files of it Wireshark reads.

use std::{cell::RefCell, collections::BTreeMap, fs, net::IpAddr, process::Command};

use icmp_common::{Family, wire::ipv6::words};
use icmp_ebpf::Reason;
use icmp_tests::{
    frames::{Ping4, Ping6},
    netns::run,
    oracle,
    packets::{Packet, packet},
    rules::{filter, is_about},
};
use icmp_userspace::{
    observe::{
        captured::{Captured, Direction, Judgement},
        decode::Decoded,
        filter::{Filter, Masked, Sieve},
        pcapng::{Statistics, Writer},
    },
    policy::slots::Line,
};
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};

/// Whether a packet passes what the kernel asks of it.
fn passes(sieve: &Sieve, packet: &Packet) -> bool {
    let is = |masked: &Masked, address: IpAddr| {
        let words = match address {
            IpAddr::V4(address) => [u32::from_ne_bytes(address.octets()).into(), 0],
            IpAddr::V6(address) => {
                let octets = address.octets();
                words([0, 8].map(|at| octets[at..at + 8].try_into().unwrap()))
            }
        };
        (0..2).all(|word| words[word] & masked.mask[word] == masked.value[word])
    };
    sieve.families[packet.family as usize]
        && is(&sieve.source, packet.source)
        && is(&sieve.destination, packet.destination)
        && packet
            .message
            .map_or(sieve.untyped, |[kind, _]| sieve.types[usize::from(kind / 64)] >> (kind % 64) & 1 == 1)
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
                let passes = passes(&filter.sieve(), &packet);
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
