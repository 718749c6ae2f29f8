//! What is not ours reaches the stack byte for byte: options, extension headers, fragments, tunnels, too many tags. Each frame has
//! an echo request to a served address somewhere in it. Scapy makes the frames.

use std::time::Instant;

use icmp_common::Family::{self, Ipv4, Ipv6};
use icmp_ebpf::{Reason, Verdict};
use icmp_tests::{
    host::{self, Outcome},
    icmpctl::PATIENCE,
    loaded::Loaded,
    netns::{CLIENT_END, Lab, SERVER_END},
    port::Port,
    scapy,
};

/// All that can be answered is answered.
const EVERYTHING: &str = "respond = { to = [\"0.0.0.0/0\", \"::/0\"], timestamp = true, traceroute = true }";

/// ICMP that is the stack's, and under which reason it is counted.
const COUNTED: [(&str, Family, Reason); 18] = [
    ("eth/IP(**ip4, options=[IPOption_RR(routers=['0.0.0.0']*3)])/echo4", Ipv4, Reason::IpOptions),
    ("eth/IP(**ip4, options=[IPOption_LSRR(routers=['192.0.2.7'])])/echo4", Ipv4, Reason::IpOptions),
    ("eth/IP(**ip4, options=[IPOption_Router_Alert()])/echo4", Ipv4, Reason::IpOptions),
    ("eth/IP(**ip4, options=[IPOption_NOP()]*40)/echo4", Ipv4, Reason::IpOptions),
    ("eth/Dot1Q(vlan=5)/IP(**ip4, options=[IPOption_NOP()])/echo4", Ipv4, Reason::IpOptions),
    ("fragment(eth/IP(**ip4, id=9)/ICMP()/bytes(3000), 1480)[0]", Ipv4, Reason::Fragment),
    ("fragment(eth/IP(**ip4, id=9)/ICMP()/bytes(3000), 1480)[1]", Ipv4, Reason::Fragment),
    ("fragment(eth/IP(**ip4, id=9)/ICMP()/bytes(3000), 1480)[2]", Ipv4, Reason::Fragment),
    ("eth/IPv6(**ip6)/IPv6ExtHdrHopByHop(options=[RouterAlert()])/echo6", Ipv6, Reason::ExtensionHeader),
    ("eth/IPv6(**ip6)/IPv6ExtHdrDestOpt(options=[HAO()])/echo6", Ipv6, Reason::ExtensionHeader),
    (
        "eth/IPv6(**ip6)/IPv6ExtHdrRouting(type=0, segleft=0, addresses=['2001:db8::7'])/echo6",
        Ipv6,
        Reason::ExtensionHeader,
    ),
    (
        "eth/IPv6(**ip6)/IPv6ExtHdrSegmentRouting(addresses=['2001:db8::1'])/echo6",
        Ipv6,
        Reason::ExtensionHeader,
    ),
    (
        "eth/IPv6(**ip6)/IPv6ExtHdrHopByHop()/IPv6ExtHdrDestOpt()/IPv6ExtHdrRouting()/IPv6ExtHdrDestOpt()/echo6",
        Ipv6,
        Reason::ExtensionHeader,
    ),
    ("eth/Dot1Q(vlan=5)/IPv6(**ip6)/IPv6ExtHdrDestOpt()/echo6", Ipv6, Reason::ExtensionHeader),
    ("eth/IPv6(**ip6)/IPv6ExtHdrFragment(id=9)/echo6", Ipv6, Reason::ExtensionHeader),
    (
        "eth/fragment6(IPv6(**ip6)/IPv6ExtHdrFragment(id=9)/ICMPv6EchoRequest(data=bytes(3000)), 1280)[0]",
        Ipv6,
        Reason::ExtensionHeader,
    ),
    (
        "eth/fragment6(IPv6(**ip6)/IPv6ExtHdrFragment(id=9)/ICMPv6EchoRequest(data=bytes(3000)), 1280)[1]",
        Ipv6,
        Reason::ExtensionHeader,
    ),
    (
        "eth/fragment6(IPv6(**ip6)/IPv6ExtHdrFragment(id=9)/ICMPv6EchoRequest(data=bytes(3000)), 1280)[2]",
        Ipv6,
        Reason::ExtensionHeader,
    ),
];

/// What is no ICMP to us, and is not counted.
const UNCOUNTED: [&str; 29] = [
    // Encrypted, authenticated, or behind more headers than hosts send.
    "eth/IPv6(**ip6)/AH(spi=7, seq=1, icv=bytes(12))/echo6",
    "eth/IPv6(**ip6, nh=50)/ESP(spi=7, seq=1, data=bytes(echo6))",
    "eth/IP(**ip4)/AH(spi=7, seq=1, icv=bytes(12))/echo4",
    "eth/IP(**ip4)/ESP(spi=7, seq=1, data=bytes(echo4))",
    "eth/IPv6(**ip6)/IPv6ExtHdrHopByHop()/IPv6ExtHdrDestOpt()/IPv6ExtHdrRouting()/IPv6ExtHdrDestOpt()/IPv6ExtHdrDestOpt()/echo6",
    "eth/IPv6(**ip6, nh=59)/bytes(echo6)",
    // Tunnels.
    "eth/IP(**ip4)/ping4",
    "eth/IP(**ip4)/ping6",
    "eth/IPv6(**ip6)/ping4",
    "eth/IPv6(**ip6)/ping6",
    "eth/IPv6(**ip6)/IPv6ExtHdrDestOpt()/ping6",
    "eth/IP(**ip4)/GRE()/ping4",
    "eth/IP(**ip4)/GRE(key_present=1, key=7)/ping6",
    "eth/IP(**ip4)/GRE(proto=0x6558)/eth/ping4",
    "eth/IPv6(**ip6)/GRE()/ping6",
    "eth/IP(**ip4)/UDP(sport=50000, dport=4789)/VXLAN(vni=7)/eth/ping4",
    "eth/IPv6(**ip6)/UDP(sport=50000, dport=4789)/VXLAN(vni=7)/eth/ping6",
    "eth/IP(**ip4)/UDP(sport=50000, dport=6081)/GENEVE(vni=7)/eth/ping4",
    "eth/IP(**ip4)/UDP(sport=50000, dport=4500)/ESP(spi=7, seq=1, data=bytes(ping4))",
    "eth/MPLS(label=16, s=1)/ping4",
    "eth/PPPoE(sessionid=7)/PPP()/ping4",
    // A third tag, and tags of EtherTypes that are no standard's.
    "eth/Dot1Q(vlan=5)/Dot1Q(vlan=6)/Dot1Q(vlan=7)/ping4",
    "eth/Dot1AD(vlan=5)/Dot1Q(vlan=6)/Dot1Q(vlan=7)/ping6",
    "Ether(dst=eth.dst, src=eth.src, type=0x9100)/bytes(Dot1Q(vlan=5)/ping4)",
    // UDP to ports of traceroute, but not whole, or behind options.
    "fragment(eth/IP(**far4, id=9)/UDP(sport=50000, dport=33434)/bytes(3000), 1480)[0]",
    "eth/IP(**far4, options=[IPOption_NOP()])/UDP(sport=50000, dport=33434)/data",
    "eth/IPv6(**far6)/IPv6ExtHdrDestOpt()/UDP(sport=50000, dport=33434)/data",
    "eth/IPv6(**far6)/IPv6ExtHdrFragment(id=9)/UDP(sport=50000, dport=33434)/data",
    "eth/IP(**ip4)/SCTP(sport=7, dport=7)/SCTPChunkInit()",
];

/// Frames with an echo request, or a probe of traceroute, of which nothing hides the meaning: those would be answered.
const ANSWERED: [(&str, Family, Reason); 4] = [
    ("eth/Dot1AD(vlan=5, prio=3)/Dot1Q(vlan=6, prio=5)/ping4", Ipv4, Reason::Echo),
    ("eth/Dot1AD(vlan=5, prio=3)/Dot1Q(vlan=6, prio=5)/ping6", Ipv6, Reason::Echo),
    ("eth/IP(**far4)/UDP(sport=50000, dport=33434)/data", Ipv4, Reason::Traceroute),
    ("eth/IPv6(**far6)/UDP(sport=50000, dport=33434)/data", Ipv6, Reason::Traceroute),
];

/// A frame that is passed.
struct Passed {
    /// By what scapy makes it.
    text: &'static str,
    frame: Vec<u8>,
    /// Where it is counted, if anywhere.
    counted: Option<(Family, Reason)>,
}

fn passed() -> Vec<Passed> {
    let counted = COUNTED.iter().map(|(text, family, reason)| (*text, Some((*family, *reason))));
    let all: Vec<_> = counted.chain(UNCOUNTED.iter().map(|text| (*text, None))).collect();
    let frames = scapy::frames(all.iter().map(|(text, _)| *text));
    assert_eq!(frames.len(), all.len());
    all.into_iter().zip(frames).map(|((text, counted), frame)| Passed { text, frame, counted }).collect()
}

/// C13, C14, C21, C59, C93: by both builds.
#[test]
#[ignore = "needs root and BPF"]
fn c13_c14_c21_c59_c93_frames_are_passed_by_both_builds() {
    let tables = host::tables(EVERYTHING);
    let mut loaded = Loaded::new(&tables);
    for Passed { text, frame, counted } in passed() {
        let expected = Outcome { verdict: Verdict::Pass, counted, frame: frame.clone() };
        assert_eq!(host::handle(&tables, &frame), expected, "{text}");
        assert_eq!(loaded.run(&frame), expected, "{text}");
    }
    for ((text, family, reason), frame) in
        ANSWERED.iter().zip(scapy::frames(ANSWERED.iter().map(|one| one.0)))
    {
        let outcome = loaded.run(&frame);
        assert_eq!((outcome.verdict, outcome.counted), (Verdict::Answer, Some((*family, *reason))), "{text}");
    }
}

/// C13, C14, C21, C59, C93: through veth, what the server's stack receives is what the client has sent.
fn frames_reach_the_stack(mode: &str) {
    let lab = Lab::attached(mode, EVERYTHING);
    let (mut client, mut server) = (Port::open(&lab.client, CLIENT_END), Port::open(&lab.server, SERVER_END));
    let mut buffer = vec![0; 1 << 16];
    for Passed { text, frame, .. } in passed() {
        client.send(&frame);
        // The kernel takes the outer tag off received frames before a socket sees them.
        let is_tagged = matches!(frame[12..14], [0x81, 0x00] | [0x88, 0xa8]);
        let expected = if is_tagged { [&frame[..12], &frame[16..]].concat() } else { frame };
        let begin = Instant::now();
        while server.receive(&mut buffer).is_none_or(|received| received != expected) {
            assert!(begin.elapsed() < PATIENCE, "{mode}: {text} did not arrive");
        }
    }
    for (family, reason, least) in
        [("ipv4", "ip-options", 5), ("ipv4", "fragment", 3), ("ipv6", "extension-header", 10)]
    {
        let packets = lab.counted(family, reason);
        // Members of multicast groups report them behind an extension header.
        assert!(packets == least || family == "ipv6" && packets > least, "{mode}: {packets} {reason}");
    }
    for family in ["ipv4", "ipv6"] {
        assert_eq!((lab.counted(family, "echo"), lab.counted(family, "traceroute")), (0, 0), "{mode}");
    }
}

#[test]
#[ignore = "needs root and BPF"]
fn c13_c14_c21_c59_c93_frames_reach_the_stack_in_native_mode() {
    frames_reach_the_stack("native");
}

#[test]
#[ignore = "needs root and BPF"]
fn c13_c14_c21_c59_c93_frames_reach_the_stack_in_generic_mode() {
    frames_reach_the_stack("generic");
}
