//! Access lists before real clients and a real stack: what `ping` says when it is rejected, that what must come through does, that
//! dynamic sets act at once and end in time, and that every rule's counter is exact.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use etherparse::{IpHeaders, IpNumber, Ipv6Extensions, Ipv6Header, Ipv6RawExtHeader, PacketBuilder};
use icmp_tests::{
    frames::{self, CLIENT_MAC, SERVER_MAC},
    icmpctl::wait_until,
    netns::{CLIENT_END, CLIENT4, CLIENT6, Lab, SERVER_END, SERVER4, SERVER6},
    ping::{ping, ping_says, stack_counted6, stack_received},
    port::Port,
};
use serde_json::Value;

/// How many packets `stats --by rule --json` counts for the rule with this text.
fn rule(lab: &Lab, text: &str) -> u64 {
    let json = lab.icmpctl(&["stats", "--by", "rule", "--json"]).ok();
    let all: Vec<Value> = serde_json::from_str(&json).unwrap();
    let rows = all[0]["rules"].as_array().unwrap();
    let row = rows.iter().find(|row| row["rule"] == text);
    row.unwrap_or_else(|| panic!("no {text} in {json}"))["packets"].as_u64().unwrap()
}

/// C35, C62: `ping` understands the errors.
fn rejected_pings_are_told_why(mode: &str) {
    let lab = Lab::attached(mode, "acl.rules = \"reject icmp any any echo\"");
    for (family, address, said) in
        [("ipv4", SERVER4, "Packet filtered"), ("ipv6", SERVER6, "Administratively prohibited")]
    {
        let text = ping_says(&lab.client, &format!("-c 3 {address}"));
        assert_eq!(text.matches(&format!("From {address} icmp_seq=")).count(), 3, "{text}");
        assert_eq!(text.matches(said).count(), 3, "{text}");
        assert!(text.contains("3 packets transmitted, 0 received, +3 errors, 100% packet loss"), "{text}");
        assert_eq!((lab.counted(family, "rejected"), lab.counted(family, "echo")), (3, 0));
    }
    for (code, said) in [("net", "Destination Net Prohibited"), ("host", "Destination Host Prohibited")] {
        let path = lab.policy(&format!("acl.rules = \"reject with {code}-prohibited icmp4 any any echo\""));
        let _ = lab.icmpctl(&["apply", path.to_str().unwrap()]).ok();
        let text = ping_says(&lab.client, &format!("-c 1 {SERVER4}"));
        assert!(text.contains(said), "{text}");
    }
    assert_eq!(stack_received(&lab.server), 0);
}

#[test]
#[ignore = "needs root and BPF"]
fn c35_c62_rejected_pings_are_told_why_in_native_mode() {
    rejected_pings_are_told_why("native");
}

#[test]
#[ignore = "needs root and BPF"]
fn c35_c62_rejected_pings_are_told_why_in_generic_mode() {
    rejected_pings_are_told_why("generic");
}

/// C46: beyond the limit of errors `ping` hears nothing; every packet is counted, and the client got each error that was.
#[test]
#[ignore = "needs root and BPF"]
fn c46_errors_beyond_the_limit_are_not_sent() {
    let lab = Lab::attached("native", "acl.rules = \"reject icmp any any echo\"");
    for (family, address) in [("ipv4", SERVER4), ("ipv6", SERVER6)] {
        let begin = Instant::now();
        let text = ping_says(&lab.client, &format!("-c 40 {address}"));
        let most = 10 + begin.elapsed().as_secs() * 10 + 10;
        let errors = text.matches(&format!("From {address}")).count() as u64;
        assert!((10..=most.min(39)).contains(&errors), "{errors} errors: {text}");
        assert_eq!(lab.counted(family, "rejected"), errors);
        assert_eq!(lab.counted(family, "reject-over-limit"), 40 - errors);
    }
}

/// C35: `deny` says nothing, to nobody; C86: TCP of the same addresses is untouched.
fn denied_pings_vanish(mode: &str) {
    let lab = Lab::attached(mode, "acl.rules = \"deny icmp any any\"");
    for (family, address) in [("ipv4", SERVER4), ("ipv6", SERVER6)] {
        let text = ping_says(&lab.client, &format!("-c 5 {address}"));
        assert!(text.contains("5 packets transmitted, 0 received, 100% packet loss"), "{text}");
        assert!(!text.contains("From"), "{text}");
        assert_eq!((lab.counted(family, "denied"), lab.counted(family, "echo")), (5, 0), "{family}");
        let total = &lab.statistics()["totals"][usize::from(family == "ipv6")];
        assert_eq!((&total["family"], &total["denied"]), (&family.into(), &5.into()));
        assert!(connects(&lab, address));
    }
    assert_eq!((rule(&lab, "deny icmp any any"), stack_received(&lab.server)), (10, 0));
}

#[test]
#[ignore = "needs root and BPF"]
fn c35_c86_denied_pings_vanish_in_native_mode() {
    denied_pings_vanish("native");
}

#[test]
#[ignore = "needs root and BPF"]
fn c35_c86_denied_pings_vanish_in_generic_mode() {
    denied_pings_vanish("generic");
}

/// Whether the client reaches the server by TCP, with nothing known of each other's MAC addresses before.
fn connects(lab: &Lab, address: &str) -> bool {
    for (namespace, end) in [(&lab.server, SERVER_END), (&lab.client, CLIENT_END)] {
        namespace.ip(&format!("neighbour flush dev {end}"));
    }
    let address = SocketAddr::new(address.parse().unwrap(), 7);
    let listener = lab.server.enter(|| TcpListener::bind(address).unwrap());
    let connected = lab.client.enter(|| TcpStream::connect_timeout(&address, Duration::from_secs(5)));
    drop(listener);
    connected.is_ok()
}

/// C67: where everything is denied, neighbours still find each other, both ways; where Neighbour Discovery itself is denied by
/// force, they do not.
#[test]
#[ignore = "needs root and BPF"]
fn c67_neighbour_discovery_comes_through() {
    for policy in ["acl.rules = \"deny icmp any any\"", "acl.default = \"deny\""] {
        let lab = Lab::attached("native", policy);
        lab.client.ip(&format!("neighbour flush dev {CLIENT_END}"));
        assert_eq!(ping(&lab.client, &format!("-c 2 {SERVER6}")), (2, 0));
        let neighbour = lab.client.ip(&format!("-6 neighbour show {SERVER6} dev {CLIENT_END}"));
        assert!(neighbour.contains("lladdr 02:00:00:00:00:01"), "{neighbour}");
        // The server asks, and gets the client's advertisement through the filter; the replies to its pings it does not get.
        lab.server.ip(&format!("neighbour flush dev {SERVER_END}"));
        assert_eq!(ping(&lab.server, &format!("-c 2 {CLIENT6}")), (2, 0));
        let neighbour = lab.server.ip(&format!("-6 neighbour show {CLIENT6} dev {SERVER_END}"));
        assert!(neighbour.contains("lladdr 02:00:00:00:00:02"), "{neighbour}");
        assert!(connects(&lab, SERVER6));
        assert_eq!(lab.counted("ipv6", "denied"), 4);

        // The same message with another hop limit comes from another link, and is no better than others.
        let mut port = Port::open(&lab.client, CLIENT_END);
        port.send(&solicitation(254));
        wait_until(|| lab.counted("ipv6", "denied") == 5);
    }
    let lab = Lab::attached("native", "acl.rules = \"deny icmp6 any any {nd-ns, nd-na} force\"");
    assert!(!connects(&lab, SERVER6));
}

/// The client's solicitation for the server's MAC address.
fn solicitation(hop_limit: u8) -> Vec<u8> {
    let mut frame = Vec::new();
    let target = [&frames::SERVER6[..], &[1, 1], &CLIENT_MAC].concat();
    PacketBuilder::ethernet2(CLIENT_MAC, SERVER_MAC)
        .ipv6(frames::CLIENT6, frames::SERVER6, hop_limit)
        .icmpv6_raw(135, 0, [0; 4])
        .write(&mut frame, &target)
        .unwrap();
    frame
}

/// C69: queries for multicast listeners come through with hop limit 1, behind the header that real ones have.
#[test]
#[ignore = "needs root and BPF"]
fn c69_multicast_listener_discovery_comes_through() {
    let lab = Lab::attached("native", "acl.rules = \"deny icmp any any\"");
    let mut port = Port::open(&lab.client, CLIENT_END);
    let received = || stack_counted6(&lab.server, "Icmp6InType130");
    let before = received();
    port.send(&listener_query(1));
    wait_until(|| received() == before + 1);
    let denied = lab.counted("ipv6", "denied");
    port.send(&listener_query(2));
    wait_until(|| lab.counted("ipv6", "denied") == denied + 1);
    assert_eq!(received(), before + 1);
}

/// A general query (RFC 2710), with the option Router Alert.
fn listener_query(hop_limit: u8) -> Vec<u8> {
    let mut source = [0; 16];
    (source[0], source[1], source[15]) = (0xfe, 0x80, 2);
    let mut all_nodes = [0; 16];
    (all_nodes[0], all_nodes[1], all_nodes[15]) = (0xff, 2, 1);
    let header = Ipv6Header { hop_limit, source, destination: all_nodes, ..Ipv6Header::default() };
    let alert = Ipv6RawExtHeader::new_raw(IpNumber::IPV6_ICMP, &[5, 2, 0, 0, 1, 0]).unwrap();
    let extensions = Ipv6Extensions { hop_by_hop_options: Some(alert), ..Ipv6Extensions::default() };
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(CLIENT_MAC, [0x33, 0x33, 0, 0, 0, 1])
        .ip(IpHeaders::Ipv6(header, extensions))
        .icmpv6_raw(130, 0, [0x27, 0x10, 0, 0])
        .write(&mut frame, &[0; 16])
        .unwrap();
    frame
}

/// C74: where everything is denied, the server still learns the Path MTU; where that is denied by force, it does not.
#[test]
#[ignore = "needs root and BPF"]
fn c74_path_mtu_discovery_comes_through() {
    for (policy, comes_through) in [
        ("acl.rules = \"deny icmp any any\"", true),
        ("acl.default = \"deny\"", true),
        ("acl.rules = \"deny icmp any any packet-too-big force\"", false),
    ] {
        let lab = Lab::attached("native", policy);
        let mut port = Port::open(&lab.client, CLIENT_END);
        let learned = |address: &str| lab.server.ip(&format!("route get {address}")).contains("mtu 1300");
        for (family, address, frame) in
            [("ipv4", CLIENT4, fragmentation_needed()), ("ipv6", CLIENT6, packet_too_big())]
        {
            assert!(!learned(address));
            port.send(&frame);
            if comes_through {
                wait_until(|| learned(address));
            } else {
                wait_until(|| lab.counted(family, "denied") == 1);
                assert!(!learned(address));
            }
        }
    }
}

/// What a router before the client would say of an echo reply that is longer than 1300 bytes.
fn fragmentation_needed() -> Vec<u8> {
    let mut about = Vec::new();
    PacketBuilder::ipv4(frames::SERVER4, frames::CLIENT4, 64)
        .icmpv4_echo_reply(1, 1)
        .write(&mut about, &frames::payload(1400))
        .unwrap();
    let mut frame = Vec::new();
    let [high, low] = 1300_u16.to_be_bytes();
    PacketBuilder::ethernet2(CLIENT_MAC, SERVER_MAC)
        .ipv4(frames::CLIENT4, frames::SERVER4, 64)
        .icmpv4_raw(3, 4, [0, 0, high, low])
        .write(&mut frame, &about[..548])
        .unwrap();
    frame
}

fn packet_too_big() -> Vec<u8> {
    let mut about = Vec::new();
    PacketBuilder::ipv6(frames::SERVER6, frames::CLIENT6, 64)
        .icmpv6_echo_reply(1, 1)
        .write(&mut about, &frames::payload(1400))
        .unwrap();
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(CLIENT_MAC, SERVER_MAC)
        .ipv6(frames::CLIENT6, frames::SERVER6, 64)
        .icmpv6_raw(2, 0, 1300_u32.to_be_bytes())
        .write(&mut frame, &about[..1232])
        .unwrap();
    frame
}

/// An entry of a dynamic set denies pings from the moment on at which the command returns, and ends in time without anybody's
/// doing; one that is removed ends at once.
#[test]
#[ignore = "needs root and BPF"]
fn entries_of_dynamic_sets_deny_pings_at_once_and_for_their_time() {
    let policy = "sets.banned = { dynamic = true }\nacl.rules = \"deny icmp set:banned any\"";
    let lab = Lab::attached("native", policy);
    let program = lab.server.xdp_program(SERVER_END);
    for (family, server, client) in [("ipv4", SERVER4, CLIENT4), ("ipv6", SERVER6, CLIENT6)] {
        let pings = || ping(&lab.client, &format!("-c 3 {server}"));
        let set = |arguments: &[&str]| lab.icmpctl(&[&["set"], arguments].concat()).ok();
        assert_eq!(pings(), (3, 3));
        let begin = Instant::now();
        let _ = set(&["add", "banned", client, "--timeout", "6s"]);
        assert_eq!(pings(), (3, 0), "{client} is banned");
        // Another's entry is not ours.
        let _ = set(&["add", "banned", "192.0.2.200", "2001:db8::200"]);
        thread::sleep(Duration::from_secs(5).saturating_sub(begin.elapsed()));
        assert_eq!(ping(&lab.client, &format!("-c 1 -W 0.2 {server}")), (1, 0), "it is not over yet");
        thread::sleep(Duration::from_millis(6200).saturating_sub(begin.elapsed()));
        assert_eq!(pings(), (3, 3), "its time is over");

        // A prefix around the client, without an end.
        let prefix = if family == "ipv4" { "192.0.2.0/29" } else { "2001:db8::/126" };
        let _ = set(&["add", "banned", prefix]);
        assert_eq!(pings(), (3, 0));
        let _ = set(&["del", "banned", prefix]);
        assert_eq!(pings(), (3, 3));
        assert_eq!((lab.counted(family, "denied"), lab.counted(family, "echo")), (7, 9), "{family}");
    }
    assert_eq!(rule(&lab, "deny icmp set:banned any"), 14);
    assert_eq!(lab.server.xdp_program(SERVER_END), program);
}

/// C83, C87, C94: every rule has decided about exactly the pings that were meant for it, by its type, its options, its addresses;
/// under a flood of both families at once, too.
fn rules_count_exactly(mode: &str) {
    let lab = Lab::attached(
        mode,
        r#"
sets.client = ["192.0.2.2", "2001:db8::2"]
[acl]
rules = """
deny icmp any any fragments
deny icmp any any echo length 1000-1100
deny icmp any any echo ttl 0-5
deny icmp any any echo dscp ef
deny icmp any any echo vlan 7
deny icmp any any echo length 300-328 monitor
permit icmp set:client host 192.0.2.1 echo
permit icmp6 set:client any echo
deny icmp any any echo
"""
"#,
    );
    let expected = |address: &str| {
        let rest = if address == SERVER4 {
            "permit icmp4 set:client host 192.0.2.1 echo"
        } else {
            "permit icmp6 set:client any echo"
        };
        [
            // What is sent, what comes back, the rule.
            ("-c 3 -s 1000", (3, 0), "deny icmp any any echo length 1000-1100"),
            ("-c 4 -t 5", (4, 0), "deny icmp any any echo ttl 0-5"),
            ("-c 5 -Q 0xb8", (5, 0), "deny icmp any any echo dscp 46"),
            ("-c 6 -s 280", (6, 6), "deny icmp any any echo length 300-328 monitor"),
            ("-c 7 -s 56", (7, 7), rest),
            ("-c 8 -t 6 -Q 0xb4", (8, 8), rest),
        ]
    };
    for address in [SERVER4, SERVER6] {
        for (arguments, answered, text) in expected(address) {
            let before = rule(&lab, text);
            assert_eq!(ping(&lab.client, &format!("{arguments} {address}")), answered, "{address} {text}");
            assert_eq!(rule(&lab, text), before + answered.0, "{address} {text}");
        }
        // 3008 bytes are three fragments, the later two of which are denied. The first one waits in vain.
        let before = rule(&lab, "deny icmp any any fragments");
        assert_eq!(ping(&lab.client, &format!("-c 2 -s 3000 {address}")), (2, 0));
        assert_eq!(rule(&lab, "deny icmp any any fragments"), before + 4);
    }
    for text in ["deny icmp any any echo", "deny icmp any any echo vlan 7"] {
        assert_eq!(rule(&lab, text), 0);
    }
    let texts = ["permit icmp4 set:client host 192.0.2.1 echo", "permit icmp6 set:client any echo"];
    let before = texts.map(|text| rule(&lab, text));
    thread::scope(|scope| {
        for address in [SERVER4, SERVER6] {
            let client = &lab.client;
            scope.spawn(move || assert_eq!(ping(client, &format!("-q -f -c 5000 {address}")), (5000, 5000)));
        }
    });
    assert_eq!(texts.map(|text| rule(&lab, text)), before.map(|before| before + 5000));
    assert_eq!(stack_received(&lab.server), 0);
}

#[test]
#[ignore = "needs root and BPF"]
fn c83_c87_c94_rules_count_exactly_in_native_mode() {
    rules_count_exactly("native");
}

#[test]
#[ignore = "needs root and BPF"]
fn c83_c87_c94_rules_count_exactly_in_generic_mode() {
    rules_count_exactly("generic");
}
