//! `icmpctl explain`: what it says of a packet is what becomes of it, and saying it changes nothing.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use icmp_tests::{
    frames::{CLIENT_MAC, Ping4, Ping6, SERVER_MAC, tcp4, udp4, udp6},
    icmpctl::{Finished, binary},
    netns::{CLIENT4, CLIENT6, Lab, SERVER_END, SERVER4, SERVER6, run},
};
use icmp_userspace::explain::packet::{Addresses, Packet};
use serde_json::Value;
use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{EthernetFrame, Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, Ipv4Packet, Ipv6Packet},
};
use tempfile::TempDir;

const POLICY: &str = r#"
[respond]
to = ["192.0.2.1", "2001:db8::1"]
[sets]
banned = { dynamic = true }
[acl]
default = "deny"
rules = """
deny   icmp set:banned any
deny   icmp any host 192.0.2.8
reject icmp host 192.0.2.66 any
reject icmp host 2001:db8::66 any
deny   icmp any any fragments
deny   icmp any any length 1000-2000
deny   icmp any any ttl 7
deny   icmp any any dscp ef
deny   icmp any any vlan 12
permit icmp any any echo
"""
"#;

/// A directory with a policy file in it.
fn directory(policy: &str) -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("policy.toml");
    fs::write(&path, policy).unwrap();
    (directory, path)
}

/// Runs `icmpctl explain` with a policy that is not loaded.
fn explain(policy: &Path, arguments: &str) -> Finished {
    let mut command = Command::new(binary());
    command.args(["explain", "--policy"]).arg(policy).args(arguments.split_whitespace());
    command.output().unwrap().into()
}

fn json(policy: &Path, arguments: &str) -> Value {
    serde_json::from_str(&explain(policy, &format!("{arguments} --json")).ok()).unwrap()
}

/// Whether these words begin a line, and this is the rest of it.
fn says(text: &str, name: &str, rest: &str) -> bool {
    text.lines().any(|line| line.strip_prefix(name).is_some_and(|found| found.trim_start() == rest))
}

#[test]
fn a_denied_packet_has_its_rule() {
    let (_directory, policy) = directory(POLICY);
    let text = explain(&policy, "--from 198.51.100.7 --to 192.0.2.8 echo").ok();
    for (name, rest) in [
        ("packet", "198.51.100.7 > 192.0.2.8: echo (type 8, code 0), 84 bytes, TTL 64"),
        ("classify", "rule 20: deny icmp4 any host 192.0.2.8"),
        ("count", "ipv4, denied, reason denied, rule 20"),
        ("verdict", "denied"),
        ("reason", "denied: Denied by a rule or the default of the access list: dropped."),
    ] {
        assert!(says(&text, name, rest), "{name} {rest} is missing in:\n{text}");
    }
    assert!(!text.contains("reply") && !text.contains("\nanswer"), "{text}");
    let told = json(&policy, "--from 198.51.100.7 --to 192.0.2.8 echo");
    assert_eq!(told["rule"]["number"], 20);
    assert_eq!(told["rule"]["text"], "deny icmp4 any host 192.0.2.8");
    assert_eq!((&told["verdict"], &told["reason"]), (&"denied".into(), &"denied".into()));
    assert!(told["reply"].is_null());
}

#[test]
fn an_answer_is_decoded() {
    let (_directory, policy) = directory(POLICY);
    let text = explain(&policy, "--from 2001:db8::7 --to 2001:db8::1 echo-request --length 60").ok();
    for (name, rest) in [
        ("classify", "rule 100: permit icmp any any echo"),
        ("answer", "the reply is made"),
        ("verdict", "answered"),
        ("reply", "2001:db8::1 > 2001:db8::7: echo-reply (type 129, code 0), 60 bytes, hop limit 64"),
    ] {
        assert!(says(&text, name, rest), "{name} {rest} is missing in:\n{text}");
    }
    let told = json(&policy, "--from 198.51.100.7 --to 192.0.2.1 echo");
    assert_eq!((&told["reply"]["from"], &told["reply"]["message"]["type"]), (&"192.0.2.1".into(), &0.into()));
    let told = json(&policy, "--from 198.51.100.7 --to 192.0.2.2 echo");
    assert_eq!((&told["verdict"], &told["reason"]), (&"passed".into(), &"not-served".into()));
}

/// C36, C62: type and code of the error, and what it quotes.
#[test]
fn c36_c62_a_rejection_and_what_it_quotes_are_decoded() {
    let (_directory, policy) = directory(POLICY);
    let text = explain(&policy, "--from 192.0.2.66 --to 192.0.2.1 timestamp-request").ok();
    for (name, rest) in [
        ("reject", "the error is made"),
        (
            "reply",
            "192.0.2.1 > 192.0.2.66: administratively-prohibited (type 3, code 13), 112 bytes, TTL 64, DSCP 48",
        ),
        ("quoted", "192.0.2.66 > 192.0.2.1: timestamp-request (type 13, code 0), 84 bytes, TTL 64"),
    ] {
        assert!(says(&text, name, rest), "{name} {rest} is missing in:\n{text}");
    }
    let told = json(&policy, "--from 2001:db8::66 --to 2001:db8::1 echo --vlan 99");
    let reply = &told["reply"];
    assert_eq!((&reply["message"]["type"], &reply["message"]["code"]), (&1.into(), &1.into()));
    assert_eq!((&reply["quoted"]["from"], &reply["vlans"][0]), (&"2001:db8::66".into(), &99.into()));
    // No error about an error.
    let told = json(&policy, "--from 192.0.2.66 --to 192.0.2.1 unreachable");
    assert_eq!((&told["reason"], &told["reply"]), (&"rejected-silently".into(), &Value::Null));
}

/// C67: what the guard keeps, and what is left to the default.
#[test]
fn c67_guard_and_default_are_named() {
    let (_directory, policy) = directory(POLICY);
    let told = json(&policy, "--from fe80::7 --to fe80::1 nd-neighbor-solicit");
    assert_eq!((&told["packet"]["ttl"], &told["rule"]["text"]), (&255.into(), &"guard".into()));
    assert_eq!(told["verdict"], "passed");
    let told = json(&policy, "--from fe80::7 --to fe80::1 nd-neighbor-solicit --ttl 64");
    assert_eq!((&told["rule"]["text"], &told["verdict"]), (&"default deny".into(), &"denied".into()));
    assert!(told["rule"]["number"].is_null());
}

#[test]
fn what_rules_ask_about_can_be_said() {
    let (_directory, policy) = directory(POLICY);
    for (option, number) in [
        ("--fragment", 50),
        ("echo --length 1000", 60),
        ("echo --ttl 7", 70),
        ("echo --dscp 46", 80),
        ("echo --dscp ef", 80),
        ("echo --vlan 12", 90),
        ("echo --length 999 --ttl 8 --dscp 45 --vlan 11", 100),
    ] {
        for addresses in ["--from 198.51.100.7 --to 192.0.2.1", "--from 2001:db8::7 --to 2001:db8::1"] {
            let told = json(&policy, &format!("{addresses} {option}"));
            assert_eq!(told["rule"]["number"], number, "{addresses} {option}: {told}");
        }
    }
}

#[test]
fn dynamic_sets_that_are_not_loaded_are_empty() {
    let (_directory, policy) = directory(POLICY);
    let told = explain(&policy, "--from 198.51.100.7 --to 192.0.2.1 echo");
    assert!(told.stderr.contains("dynamic sets are empty in a policy that is not loaded: banned"), "{told}");
    assert!(says(&told.ok(), "classify", "rule 100: permit icmp any any echo"));
}

#[test]
fn the_interfaces_own_addresses_are_used_if_it_is_named() {
    let (_directory, policy) = directory("");
    let told = explain(&policy, "--from 198.51.100.7 --to 127.0.0.1 echo --json");
    assert!(told.stderr.contains("no interface is named: \"own\" stands for no address"), "{told}");
    assert!(told.ok().contains("not-unicast"));
    explain(&policy, "--from 198.51.100.7 --to 192.0.2.1 echo --iface no-such0")
        .fails(1, &["no interface no-such0"]);
}

#[test]
fn what_means_nothing_is_told() {
    let (directory, policy) = directory(POLICY);
    let from = "--from 198.51.100.7";
    for (arguments, part) in [
        ("--from 198.51.100.7 --to 2001:db8::1 echo".to_owned(), "addresses of different families"),
        (format!("{from} --to 192.0.2.1 ecoh"), "unknown message type: ecoh; did you mean echo?"),
        (
            format!("{from} --to 192.0.2.1 nd-redirect"),
            "nd-redirect is a message type that IPv4 does not have",
        ),
        (
            format!("{from} --to 192.0.2.1 echo --length 27"),
            "27 bytes are too few: such a packet has at least 28",
        ),
        (format!("{from} --to 192.0.2.1 echo --dscp 64"), "a DSCP from 0 to 63"),
        (format!("{from} --to 192.0.2.1 echo --vlan 4095"), "4095"),
        (format!("{from} --to 192.0.2.1"), "<TYPE>"),
        (format!("{from} echo"), "--to <ADDRESS>"),
        ("--to 192.0.2.1 echo".to_owned(), "--from <ADDRESS>"),
        (format!("{from} --to 192.0.2.1 echo --fragment"), "cannot be used with"),
        ("--pcap file echo".to_owned(), "cannot be used with"),
    ] {
        explain(&policy, &arguments).fails(2, &[part]);
    }
    let broken = directory.path().join("broken.toml");
    fs::write(&broken, "respond.tll = 7\n").unwrap();
    explain(&broken, &format!("{from} --to 192.0.2.1 echo")).fails(3, &["did you mean ttl?"]);
    explain(Path::new("missing.toml"), &format!("{from} --to 192.0.2.1 echo")).fails(1, &["missing.toml"]);
    explain(&policy, "--pcap missing.pcap").fails(1, &["missing.pcap", "No such file"]);
    explain(&policy, &format!("--pcap {}", policy.display())).fails(1, &["neither pcap nor pcapng"]);
}

/// What is made is what another implementation reads, checksums included.
#[test]
fn packets_are_as_described() {
    let mut packet = Packet {
        addresses: Addresses::new(CLIENT4.parse().unwrap(), SERVER4.parse().unwrap()).unwrap(),
        message: Some([8, 0]),
        length: None,
        ttl: 9,
        dscp: 46,
        vlan: None,
    };
    let frame = packet.frame(SERVER_MAC).unwrap();
    let ethernet = EthernetFrame::new_checked(&frame).unwrap();
    assert_eq!(ethernet.dst_addr().0, SERVER_MAC);
    let ip = Ipv4Packet::new_checked(ethernet.payload()).unwrap();
    assert!(ip.verify_checksum() && ip.dont_frag());
    assert_eq!((ip.hop_limit(), ip.dscp(), ip.total_len()), (9, 46, 84));
    assert_eq!((ip.src_addr().to_string(), ip.dst_addr().to_string()), (CLIENT4.into(), SERVER4.into()));
    let icmp = Icmpv4Packet::new_checked(ip.payload()).unwrap();
    let read = Icmpv4Repr::parse(&icmp, &ChecksumCapabilities::default()).unwrap();
    assert!(matches!(read, Icmpv4Repr::EchoRequest { .. }));

    packet.message = None;
    let frame = packet.frame(SERVER_MAC).unwrap();
    let ip = Ipv4Packet::new_checked(&frame[14..]).unwrap();
    assert!(ip.verify_checksum() && ip.frag_offset() > 0 && u8::from(ip.next_header()) == 1);

    packet.addresses = Addresses::new(CLIENT6.parse().unwrap(), SERVER6.parse().unwrap()).unwrap();
    packet.message = Some([128, 0]);
    packet.length = Some(61);
    let frame = packet.frame(SERVER_MAC).unwrap();
    let ip = Ipv6Packet::new_checked(&frame[14..]).unwrap();
    assert_eq!((ip.hop_limit(), ip.traffic_class() >> 2, ip.payload_len()), (9, 46, 21));
    let icmp = Icmpv6Packet::new_checked(ip.payload()).unwrap();
    let read = Icmpv6Repr::parse(&ip.src_addr(), &ip.dst_addr(), &icmp, &ChecksumCapabilities::default());
    assert!(matches!(read.unwrap(), Icmpv6Repr::EchoRequest { .. }));

    packet.vlan = Some(12);
    let frame = packet.frame(SERVER_MAC).unwrap();
    assert_eq!(frame[12..18], [0x81, 0x00, 0, 12, 0x86, 0xdd]);
}

/// A classic capture file of frames.
fn pcap(path: &Path, frames: &[Vec<u8>]) {
    // Magic number, version 2.4, time zone, accuracy, longest packet, Ethernet (draft-ietf-opsawg-pcap, 4).
    let mut file = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 0x40000, 1_u32].map(u32::to_le_bytes).concat();
    for frame in frames {
        file.extend([0, 0, frame.len() as u32, frame.len() as u32].map(u32::to_le_bytes).concat());
        file.extend(frame);
    }
    fs::write(path, file).unwrap();
}

/// A ping from the client, one from whoever is rejected, one to somebody else's MAC address, and what is not ICMP.
fn frames() -> Vec<Vec<u8>> {
    let mut rejected = Ping4::default();
    rejected.ip.source = [192, 0, 2, 66];
    let other = Ping6 { to: CLIENT_MAC, from: [2, 0, 0, 0, 0, 9], ..Ping6::default() };
    vec![Ping4::default().frame(), rejected.frame(), other.frame(), tcp4()]
}

#[test]
fn captures_are_told_packet_by_packet() {
    let (directory, policy) = directory(POLICY);
    let path = directory.path().join("file.pcap");
    pcap(&path, &frames());
    let told = explain(&policy, &format!("--pcap {}", path.display()));
    assert!(told.stderr.contains("all frames to one host are taken for frames to this one"), "{told}");
    let text = told.ok();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0][..6], ["1", "answered", "echo", "rule", "100", "192.0.2.2"]);
    assert_eq!(lines[1][..6], ["2", "rejected", "rejected", "rule", "30", "192.0.2.66"]);
    assert_eq!(lines[2][..6], ["3", "answered", "echo", "rule", "100", "2001:db8::2"]);
    assert_eq!(lines[3][..5], ["4", "passed", "-", "-", "192.0.2.2"]);
    assert!(text.ends_with(
        "VERDICT   REASON    PACKETS\nanswered  echo            2\npassed    not ICMP        1\nrejected  rejected        1\n"
    ), "{text}");

    let text = explain(&policy, &format!("--pcap {} --json", path.display())).ok();
    let told: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let words: Vec<_> = told.iter().map(|one| (one["number"].as_u64().unwrap(), &one["verdict"])).collect();
    assert_eq!(
        words,
        [(1, &"answered".into()), (2, &"rejected".into()), (3, &"answered".into()), (4, &"passed".into())]
    );
    assert_eq!(told[1]["reply"]["quoted"]["from"], "192.0.2.66");
}

/// What is answered on request alone: a timestamp, and a probe of traceroute, which a capture holds.
#[test]
fn other_answers_are_explained() {
    let (directory, policy) =
        directory("respond = { to = [\"192.0.2.1\"], timestamp = true, traceroute = true }\n");
    let text = explain(&policy, "--from 192.0.2.2 --to 192.0.2.1 timestamp-request").ok();
    for (name, rest) in [
        ("answer", "the reply is made"),
        ("reason", "timestamp: Timestamp request to a served address: answered here."),
        ("reply", "192.0.2.1 > 192.0.2.2: timestamp-reply (type 14, code 0), 40 bytes, TTL 64"),
    ] {
        assert!(says(&text, name, rest), "{name} {rest} is missing in:\n{text}");
    }
    let path = directory.path().join("file.pcap");
    pcap(&path, &[udp4(), udp6()]);
    let text = explain(&policy, &format!("--pcap {} --json", path.display())).ok();
    let told: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&told[0]["verdict"], &told[0]["reason"]), (&"answered".into(), &"traceroute".into()));
    assert_eq!(told[0]["steps"][0]["decision"], "UDP to a port that traceroute sends to");
    assert_eq!(told[0]["steps"][2]["decision"], "the error is made");
    assert_eq!(
        told[0]["reply"]["message"],
        serde_json::json!({"type": 3, "code": 3, "name": "port-unreachable"})
    );
    assert_eq!((&told[1]["verdict"], &told[1]["reason"]), (&"passed".into(), &Value::Null));
}

/// What can be read of a file is told before what is wrong with it.
#[test]
fn captures_that_end_early_are_told_as_far_as_they_go() {
    let (directory, policy) = directory(POLICY);
    let path = directory.path().join("file.pcap");
    pcap(&path, &frames());
    let file = fs::read(&path).unwrap();
    fs::write(&path, &file[..file.len() - 1]).unwrap();
    let told = explain(&policy, &format!("--pcap {}", path.display()));
    assert_eq!(told.stdout.lines().filter(|line| line.contains("bytes")).count(), 3, "{told}");
    told.fails(1, &["file.pcap: packet 4: the file ends within it"]);
}

/// A lab with the policy attached.
fn attached() -> Lab {
    let lab = Lab::new();
    let path =
        lab.policy(&POLICY.replace("192.0.2.66", "192.0.2.2").replace("2001:db8::66", "2001:db8::2:2"));
    let _ = lab.icmpctl(&["attach", SERVER_END, "--policy", path.to_str().unwrap()]).ok();
    lab
}

/// What `icmpctl explain --json` says in a lab, without any complaint.
fn told(lab: &Lab, arguments: &str) -> Value {
    let arguments: Vec<_> = ["explain", "--json"].into_iter().chain(arguments.split(' ')).collect();
    let finished = lab.icmpctl(&arguments);
    assert_eq!(finished.complaints(), "");
    serde_json::from_str(&finished.ok()).unwrap()
}

/// What `ping` prints, whether it gets an answer or not.
fn ping(lab: &Lab, address: &str) -> String {
    let output = lab.client.command("ping").args(["-n", "-c", "1", "-W", "1", address]).output().unwrap();
    Finished::from(output).stdout
}

#[test]
#[ignore = "needs root and BPF"]
fn what_is_said_of_the_running_program_comes_true() {
    let lab = attached();
    let say = told(&lab, &format!("--from {CLIENT4} --to {SERVER4} echo"));
    assert_eq!((&say["verdict"], &say["rule"]["number"]), (&"rejected".into(), &30.into()));
    assert_eq!(say["reply"]["message"]["name"], "administratively-prohibited");
    assert!(ping(&lab, SERVER4).contains("Packet filtered"));
    let say = told(&lab, &format!("--iface {SERVER_END} --from {CLIENT6} --to {SERVER6} echo"));
    assert_eq!((&say["verdict"], &say["rule"]["number"]), (&"answered".into(), &100.into()));
    assert!(ping(&lab, SERVER6).contains("1 received"));
    let _ = lab.icmpctl(&["set", "add", "banned", CLIENT6]).ok();
    let say = told(&lab, &format!("--from {CLIENT6} --to {SERVER6} echo"));
    assert_eq!((&say["verdict"], &say["rule"]["number"]), (&"denied".into(), &10.into()));
    assert!(ping(&lab, SERVER6).contains("0 received"));
    let _ = lab.icmpctl(&["detach", SERVER_END]).ok();
    lab.icmpctl(&["explain", "--from", CLIENT4, "--to", SERVER4, "echo"])
        .fails(1, &["attached to no interface"]);
    lab.assert_nothing_left();
}

/// Counters, buckets and sets of what runs are as they were, and an error is promised as often as one asks.
#[test]
#[ignore = "needs root and BPF"]
fn saying_it_changes_nothing() {
    let lab = attached();
    let _ = lab.icmpctl(&["set", "add", "banned", "198.51.100.0/24", "2001:db8:bad::/48"]).ok();
    assert!(ping(&lab, SERVER4).contains("Packet filtered"));
    // Neighbours are asked for now and then; nobody has to ask any more.
    lab.client.ip(&format!("link set dev {} down", icmp_tests::netns::CLIENT_END));
    let state = || {
        let mut all = lab.icmpctl(&["stats", "--by", "reason,rule", "--json"]).ok();
        for map in ["buckets", "bans", "dynamic4", "dynamic6"] {
            all +=
                &run(Command::new("bpftool").args(["-j", "map", "dump", "pinned"]).arg(lab.pins().join(map)));
        }
        all
    };
    let before = state();
    assert!(before.contains("\"reason\": \"rejected\""));
    // The limit is ten errors at once.
    for _ in 0..15 {
        let say = told(&lab, &format!("--from {CLIENT4} --to {SERVER4} echo"));
        assert_eq!(say["verdict"], "rejected");
    }
    let path = lab.files.path().join("file.pcap");
    let mut ping = Ping4::default();
    ping.ip.source = [192, 0, 2, 2];
    let mut frames = vec![ping.frame(); 15];
    frames.push(vec![0; 70_000]);
    frames.extend([Ping6::default().frame(), frames[0][..10].to_vec()]);
    pcap(&path, &frames);
    let finished = lab.icmpctl(&["explain", "--pcap", path.to_str().unwrap(), "--json"]);
    assert_eq!(finished.complaints(), "");
    let all: Vec<Value> = finished.ok().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(
        all[..15].iter().all(|one| one["verdict"] == "rejected" && one["rule"]["number"] == 30),
        "{all:?}"
    );
    assert_eq!(all[15]["skipped"], "too long for the kernel to try out");
    assert_eq!((&all[16]["verdict"], &all[16]["rule"]["number"]), (&"answered".into(), &100.into()));
    assert_eq!(all[17]["skipped"], "too short for the kernel to try out");
    assert_eq!(state(), before);
}

/// Who is over a limit is told so, and nobody else.
#[test]
#[ignore = "needs root and BPF"]
fn buckets_are_those_of_the_running_program() {
    let lab = Lab::attached("generic", "acl.rules = \"limit 1/h burst 1 per source icmp any any echo\"");
    let reason = |from: &str| told(&lab, &format!("--from {from} --to {SERVER4} echo"))["reason"].take();
    assert_eq!(reason(CLIENT4), "echo");
    assert!(ping(&lab, SERVER4).contains("1 received"));
    assert_eq!(reason(CLIENT4), "over-limit");
    // Nobody else has sent anything.
    assert_eq!(reason("192.0.2.3"), "echo");
}

/// What was loaded for other addresses may decide otherwise: that is told.
#[test]
#[ignore = "needs root and BPF"]
fn a_program_that_differs_is_told() {
    let lab = attached();
    lab.server.ip(&format!("address add 192.0.2.200/24 dev {SERVER_END}"));
    let finished = lab.icmpctl(&["explain", "--from", CLIENT4, "--to", SERVER4, "echo"]);
    assert!(finished.stderr.contains("was loaded for other addresses"), "{finished}");
    assert!(finished.ok().contains("rule 30"));
}

/// C22: with `next-hop = "fib"` the kernel's own routing table is asked, for the interface that the packet comes to.
#[test]
#[ignore = "needs root and BPF"]
fn c22_the_routing_table_is_asked() {
    for mode in ["native", "generic"] {
        let lab = Lab::native();
        let path = lab.policy("respond.next-hop = \"fib\"");
        for (forwarding, reason) in [("0", "no-next-hop"), ("1", "echo")] {
            lab.server.sysctl(&format!("ipv4/conf/{SERVER_END}/forwarding"), forwarding);
            lab.server.ip(&format!("neighbour replace {CLIENT4} lladdr 02:00:00:00:00:02 dev {SERVER_END}"));
            let path = path.to_str().unwrap();
            let _ = lab.icmpctl(&["attach", SERVER_END, "--policy", path, "--mode", mode]).ok();
            let say = told(&lab, &format!("--from {CLIENT4} --to {SERVER4} echo"));
            assert_eq!(say["reason"], reason, "{mode}");
        }
    }
}
