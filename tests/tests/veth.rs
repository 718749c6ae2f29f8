//! Real clients: a server and a client in namespaces of their own, joined by a veth pair, and who answered each ping.
//!
//! That the program answered and not the stack is told by two counters, never assumed: the program's own, and how
//! many echo requests the server's stack has seen.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use etherparse::{IpDscp, IpEcn};
use icmp_tests::{
    frames::{self, IP, Ping4, Ping6},
    icmpctl::wait_until,
    netns::{ANYCAST, ANYCAST4, ANYCAST6, CLIENT_END, CLIENT4, CLIENT6, Lab, SERVER_END, SERVER4, SERVER6},
    oracle,
    ping::{ping, ping_says, stack_received},
    port::Port,
};
use rustix::process::Signal;

/// C1, C2, C52 with ping: every size and family is answered, by the program, to own and to served addresses.
fn pings_are_answered_by_the_program(mode: &str) {
    let lab = Lab::attached(mode, ANYCAST);
    for (family, addresses) in [("ipv4", [SERVER4, ANYCAST4]), ("ipv6", [SERVER6, ANYCAST6])] {
        for address in addresses {
            for size in [0, 1, 56, 1452] {
                let before = lab.counted(family, "echo");
                assert_eq!(
                    ping(&lab.client, &format!("-c 3 -s {size} {address}")),
                    (3, 3),
                    "{address} {size}"
                );
                assert_eq!(lab.counted(family, "echo"), before + 3);
            }
        }
    }
    // 1472 bytes fill a frame over IPv4; over IPv6 they make two fragments, which are the stack's.
    assert_eq!(ping(&lab.client, &format!("-c 3 -s 1472 {SERVER4}")), (3, 3));
    assert_eq!(stack_received(&lab.server), 0);
    assert_eq!(ping(&lab.client, &format!("-c 3 -s 1472 {SERVER6}")), (3, 3));
    assert_eq!(stack_received(&lab.server), 3);
}

#[test]
#[ignore = "needs root and BPF"]
fn c01_c02_c52_pings_are_answered_in_native_mode() {
    pings_are_answered_by_the_program("native");
}

#[test]
#[ignore = "needs root and BPF"]
fn c01_c02_c52_pings_are_answered_in_generic_mode() {
    pings_are_answered_by_the_program("generic");
}

/// C2: an interface with jumbo frames, which lie in several buffers: a ping of 8,000 bytes is answered whole, by the program.
fn jumbo_pings_are_answered(mode: &str) {
    let lab = Lab::attached(mode, "");
    for (namespace, end) in [(&lab.server, SERVER_END), (&lab.client, CLIENT_END)] {
        namespace.ip(&format!("link set {end} mtu 9000"));
    }
    for (family, address, most) in [("ipv4", SERVER4, 8972), ("ipv6", SERVER6, 8952)] {
        for size in [3400, 3500, 4000, 8000, most] {
            let before = lab.counted(family, "echo");
            // ping compares what comes back with what it sent.
            assert_eq!(
                ping(&lab.client, &format!("-c 3 -M do -s {size} {address}")),
                (3, 3),
                "{address} {size}"
            );
            assert_eq!(lab.counted(family, "echo"), before + 3);
        }
    }
    assert_eq!(stack_received(&lab.server), 0);
    // Attaching anew where the MTU is large already.
    let _ = lab.icmpctl(&["detach", SERVER_END]).ok();
    let _ = lab.icmpctl(&["attach", SERVER_END, "--mode", mode]).ok();
    assert_eq!(ping(&lab.client, &format!("-c 3 -M do -s 8000 {SERVER4}")), (3, 3));
    assert_eq!(stack_received(&lab.server), 0);
}

#[test]
#[ignore = "needs root and BPF"]
fn c02_jumbo_pings_are_answered_in_native_mode() {
    jumbo_pings_are_answered("native");
}

#[test]
#[ignore = "needs root and BPF"]
fn c02_jumbo_pings_are_answered_in_generic_mode() {
    jumbo_pings_are_answered("generic");
}

/// C94: under a flood of both families at once, every counter is exact: what was sent was received and answered,
/// and the stack saw none of it.
fn counters_are_exact_under_a_flood(mode: &str) {
    let lab = Lab::attached(mode, "");
    thread::scope(|scope| {
        for address in [SERVER4, SERVER6] {
            let client = &lab.client;
            scope.spawn(move || assert_eq!(ping(client, &format!("-q -f -c 5000 {address}")), (5000, 5000)));
        }
    });
    let statistics = lab.statistics();
    for (number, family) in ["ipv4", "ipv6"].into_iter().enumerate() {
        let total = &statistics["totals"][number];
        assert_eq!((&total["family"], &total["answered"]), (&family.into(), &5000.into()));
        let parts = ["answered", "passed", "malformed"].map(|part| total[part].as_u64().unwrap());
        assert_eq!(total["received"], parts.iter().sum::<u64>());
        let rows = statistics["reasons"].as_array().unwrap().iter();
        let packets = rows.filter(|row| row["family"] == family).map(|row| row["packets"].as_u64().unwrap());
        assert_eq!(total["received"], packets.sum::<u64>());
    }
    assert_eq!(stack_received(&lab.server), 0);
}

#[test]
#[ignore = "needs root and BPF"]
fn c94_counters_are_exact_under_a_flood_in_native_mode() {
    counters_are_exact_under_a_flood("native");
}

#[test]
#[ignore = "needs root and BPF"]
fn c94_counters_are_exact_under_a_flood_in_generic_mode() {
    counters_are_exact_under_a_flood("generic");
}

/// fping's rounds over many addresses of served prefixes, of which the host has none.
#[test]
#[ignore = "needs root and BPF"]
fn c06_fping_finds_every_served_address() {
    let lab = Lab::attached("native", ANYCAST);
    let targets = (1..=40).map(|host| format!("198.51.100.{host}"));
    let targets: Vec<_> = targets.chain((1..=40).map(|host| format!("2001:db8:53::{host:x}"))).collect();
    let output =
        lab.client.command("fping").args(["-a", "-r", "0", "-i", "1"]).args(&targets).output().unwrap();
    let mut alive: Vec<_> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    let mut expected = targets;
    alive.sort_unstable();
    expected.sort_unstable();
    assert_eq!(alive, expected);
    assert_eq!((lab.counted("ipv4", "echo"), lab.counted("ipv6", "echo")), (40, 40));
    assert_eq!(stack_received(&lab.server), 0);
}

/// C21: frames of a VLAN are answered with their tags and priority. The frames are sent raw: a VLAN device, where
/// the kernel has any, hands its tags to a veth beside the frame, where no XDP program sees them.
fn tagged_frames_are_answered(mode: &str) {
    let lab = Lab::attached(mode, "");
    let mut port = Port::open(&lab.client, CLIENT_END);
    for tags in [vec![(0x8100, 0xe02a)], vec![(0x88a8, 0x2064), (0x8100, 0xb00a)]] {
        for frame in [
            Ping4 { tags: tags.clone(), ..Ping4::default() }.frame(),
            Ping6 { tags: tags.clone(), ..Ping6::default() }.frame(),
        ] {
            let expected = oracle::reply(&frame, oracle::TTL);
            // The kernel takes the outer tag off received frames before a socket sees them.
            let received = [&expected[..12], &expected[16..]].concat();
            let wanted = |frame: &[u8]| frame == expected || frame == received;
            assert!(port.exchange(&frame, Duration::from_secs(2), wanted).is_some(), "{tags:04x?}");
        }
    }
    assert_eq!((lab.counted("ipv4", "echo"), lab.counted("ipv6", "echo")), (2, 2));
}

#[test]
#[ignore = "needs root and BPF"]
fn c21_tagged_frames_are_answered_in_native_mode() {
    tagged_frames_are_answered("native");
}

#[test]
#[ignore = "needs root and BPF"]
fn c21_tagged_frames_are_answered_in_generic_mode() {
    tagged_frames_are_answered("generic");
}

/// C19: the server's own ping out still works while the program is attached; its replies are the stack's.
#[test]
#[ignore = "needs root and BPF"]
fn c19_the_servers_own_ping_works() {
    for mode in ["native", "generic"] {
        let lab = Lab::attached(mode, "");
        for (family, address) in [("ipv4", CLIENT4), ("ipv6", CLIENT6)] {
            let before = lab.counted(family, "other-type");
            assert_eq!(ping(&lab.server, &format!("-c 5 {address}")), (5, 5), "{mode}");
            assert!(lab.counted(family, "other-type") >= before + 5);
            assert_eq!(lab.counted(family, "echo"), 0);
        }
    }
}

/// C93: a TCP transfer through the interface, there and back, arrives byte for byte while pings are answered.
#[test]
#[ignore = "needs root and BPF"]
fn c93_tcp_passes_byte_for_byte() {
    const LENGTH: usize = 8 << 20;
    for mode in ["native", "generic"] {
        let lab = Lab::attached(mode, "");
        for address in [SERVER4, SERVER6] {
            let address = SocketAddr::new(address.parse().unwrap(), 7);
            let listener = lab.server.enter(|| TcpListener::bind(address).unwrap());
            let sent = frames::payload(LENGTH);
            let received = thread::scope(|scope| {
                scope.spawn(|| {
                    let (mut stream, _) = listener.accept().unwrap();
                    let mut bytes = vec![0; LENGTH];
                    stream.read_exact(&mut bytes).unwrap();
                    stream.write_all(&bytes).unwrap();
                });
                let mut stream = lab.client.enter(|| TcpStream::connect(address).unwrap());
                stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                stream.write_all(&sent).unwrap();
                let mut bytes = vec![0; LENGTH];
                stream.read_exact(&mut bytes).unwrap();
                bytes
            });
            assert!(received == sent, "{mode} {address}: the bytes differ");
        }
        assert_eq!(ping(&lab.client, &format!("-c 3 {SERVER4}")), (3, 3));
    }
}

/// C7, C8: a ping to the subnet's broadcast address gets no answer from the program.
#[test]
#[ignore = "needs root and BPF"]
fn c07_c08_broadcast_pings_are_not_answered() {
    let lab = Lab::attached("native", "respond.to = [\"own\", \"0.0.0.0/0\"]");
    assert_eq!(ping(&lab.client, "-b -c 3 192.0.2.255"), (3, 0));
    assert_eq!((lab.counted("ipv4", "link-multicast"), lab.counted("ipv4", "echo")), (3, 0));
    // The same address in a frame for the server alone.
    let mut request = Ping4::default();
    request.ip.destination = [192, 0, 2, 255];
    let mut port = Port::open(&lab.client, CLIENT_END);
    let is_reply = |frame: &[u8]| oracle::receive(frame).is_ok();
    assert_eq!(port.exchange(&request.frame(), Duration::from_millis(300), is_reply), None);
    assert_eq!((lab.counted("ipv4", "not-unicast"), lab.counted("ipv4", "echo")), (1, 0));
}

/// C55: a ping to all nodes is passed to the stack, and answered by it. (The client, too, is one of all nodes: that
/// ping has an answer proves nothing.)
#[test]
#[ignore = "needs root and BPF"]
fn c55_multicast_pings_are_the_stacks() {
    let lab = Lab::attached("native", "respond.to = [\"own\", \"::/0\"]");
    let (sent, _) = ping(&lab.client, &format!("-c 3 ff02::1%{CLIENT_END}"));
    assert_eq!(sent, 3);
    assert_eq!((lab.counted("ipv6", "link-multicast"), lab.counted("ipv6", "echo")), (3, 0));
    assert_eq!(stack_received(&lab.server), 3);
    let mut request = Ping6 { to: [0x33, 0x33, 0, 0, 0, 1], ..Ping6::default() };
    request.ip.destination = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let mut port = Port::open(&lab.client, CLIENT_END);
    let is_reply = |frame: &[u8]| oracle::receive(frame).is_ok();
    assert!(port.exchange(&request.frame(), Duration::from_secs(2), is_reply).is_some());
}

/// C2: jumbo frames come back whole where the mode takes them; what is too long to be verified is the stack's, which
/// answers it whole.
#[test]
#[ignore = "needs root and BPF"]
fn c02_jumbo_pings_come_back_whole() {
    let lab = Lab::attached("generic", "");
    for (namespace, end) in [(&lab.server, SERVER_END), (&lab.client, CLIENT_END)] {
        namespace.ip(&format!("link set {end} mtu 65535"));
    }
    assert_eq!(ping(&lab.client, &format!("-M do -c 3 -s 8972 {SERVER4}")), (3, 3));
    assert_eq!(ping(&lab.client, &format!("-M do -c 3 -s 8952 {SERVER6}")), (3, 3));
    assert_eq!((lab.counted("ipv4", "echo"), lab.counted("ipv6", "echo")), (3, 3));
    assert_eq!(stack_received(&lab.server), 0);
    assert_eq!(ping(&lab.client, &format!("-M do -c 3 -s 65000 {SERVER4}")), (3, 3));
    assert_eq!(ping(&lab.client, &format!("-M do -c 3 -s 65000 {SERVER6}")), (3, 3));
    assert_eq!((lab.counted("ipv4", "too-long"), lab.counted("ipv6", "too-long")), (3, 3));
    assert_eq!(stack_received(&lab.server), 6);
}

/// C20: while `icmpctl run` is up an address that the interface gets is answered by the program, and one that it loses
/// is not served any more.
#[test]
#[ignore = "needs root and BPF"]
fn c20_own_addresses_are_followed() {
    let lab = Lab::native();
    let mut running = lab.start(&["run", SERVER_END, "--mode", "native"]);
    for (family, address, subnet) in [("ipv4", "192.0.2.77", "/24"), ("ipv6", "2001:db8::77", "/64 nodad")] {
        // Known for good, so that requests are sent to it also when nobody has the address.
        lab.client.ip(&format!("neighbour replace {address} lladdr 02:00:00:00:00:01 dev {CLIENT_END}"));
        lab.server.ip(&format!("address add {address}{subnet} dev {SERVER_END}"));
        running.wait_for(&format!("+{address}"));
        let before = stack_received(&lab.server);
        assert_eq!(ping(&lab.client, &format!("-c 3 {address}")), (3, 3));
        assert_eq!((lab.counted(family, "echo"), lab.counted(family, "not-served")), (3, 0));

        lab.server.ip(&format!("address delete {} dev {SERVER_END}", address.to_owned() + &subnet[..3]));
        running.wait_for(&format!("-{address}"));
        assert_eq!(ping(&lab.client, &format!("-c 3 {address}")), (3, 0));
        assert_eq!((lab.counted(family, "echo"), lab.counted(family, "not-served")), (3, 3));
        assert_eq!(stack_received(&lab.server), before);
    }
    // The address that it always had went on being served.
    assert_eq!(ping(&lab.client, &format!("-c 3 {SERVER4}")), (3, 3));
    assert_eq!(lab.counted("ipv4", "echo"), 6);
    running.signal(Signal::INT);
    let _ = running.wait().ok();
}

/// C22: another MAC address of the interface is followed, too: frames to the new one are answered.
#[test]
#[ignore = "needs root and BPF"]
fn c08_c22_the_interfaces_mac_address_is_followed() {
    let lab = Lab::native();
    let mut running = lab.start(&["run", SERVER_END, "--mode", "native"]);
    lab.server.ip(&format!("link set {SERVER_END} address 02:00:00:00:00:11"));
    running.wait_for("another MAC address");
    lab.client.ip(&format!("neighbour replace {SERVER4} lladdr 02:00:00:00:00:11 dev {CLIENT_END}"));
    assert_eq!(ping(&lab.client, &format!("-c 3 {SERVER4}")), (3, 3));
    assert_eq!((lab.counted("ipv4", "echo"), lab.counted("ipv4", "other-host")), (3, 0));
}

/// C22: with `next-hop = "fib"` replies go where the server's routes say; without forwarding requests are left to the
/// stack, and `attach` says so.
#[test]
#[ignore = "needs root and BPF"]
fn c22_replies_follow_the_routing_table() {
    let lab = Lab::native();
    let path = lab.policy("respond.next-hop = \"fib\"");
    let attach = ["attach", SERVER_END, "--mode", "native", "--policy", path.to_str().unwrap()];
    let said = lab.icmpctl(&attach);
    assert!(said.stderr.contains(&format!("net.ipv4.conf.{SERVER_END}.forwarding")), "{said}");
    for (family, address) in [("ipv4", CLIENT4), ("ipv6", CLIENT6)] {
        lab.server.ip(&format!("neighbour replace {address} lladdr 02:00:00:00:00:02 dev {SERVER_END}"));
        let server = if family == "ipv4" { SERVER4 } else { SERVER6 };
        assert_eq!(ping(&lab.client, &format!("-c 3 {server}")), (3, 3));
        assert_eq!((lab.counted(family, "no-next-hop"), lab.counted(family, "echo")), (3, 0));
        lab.server.sysctl(&format!("{family}/conf/{SERVER_END}/forwarding"), "1");
        assert_eq!(ping(&lab.client, &format!("-c 3 {server}")), (3, 3));
        assert_eq!((lab.counted(family, "no-next-hop"), lab.counted(family, "echo")), (3, 3));
    }
    assert_eq!(stack_received(&lab.server), 6);
    // A request whose frame comes from elsewhere: its reply goes to the client all the same.
    let mut port = Port::open(&lab.client, CLIENT_END);
    let strange = Ping4 { from: [2, 0, 0, 0, 0, 0x99], ..Ping4::default() }.frame();
    let reply = port.exchange(&strange, Duration::from_secs(2), |frame| oracle::receive(frame).is_ok());
    assert_eq!(reply.unwrap()[..6], frames::CLIENT_MAC);
    // A better route out of another interface: the reply is the stack's, which takes that one.
    lab.server.ip("link add other0 type veth peer name other1");
    lab.server.ip("link set other0 up");
    lab.server.ip(&format!("route add {CLIENT4}/32 dev other0"));
    lab.server.ip(&format!("neighbour replace {CLIENT4} lladdr 02:00:00:00:00:03 dev other0"));
    let before = lab.counted("ipv4", "no-next-hop");
    let reply = port.exchange(&strange, Duration::from_millis(300), |frame| oracle::receive(frame).is_ok());
    assert!(reply.is_none());
    assert_eq!(lab.counted("ipv4", "no-next-hop"), before + 1);
}

/// The same requests go to the stack with no program attached and to the program; the replies are equal but for identification
/// and Don't Fragment, which are the requests' (`answer.rs` says why), and what follows from them.
#[test]
#[ignore = "needs root and BPF"]
fn c10_c12_c57_replies_equal_the_stacks() {
    let lab = Lab::native();
    // The stack's echo replies carry the request's flow label only on request (ip-sysctl: flowlabel_reflect).
    lab.server.sysctl("ipv6/flowlabel_reflect", "7");
    for address in [CLIENT4, CLIENT6] {
        lab.server.ip(&format!("neighbour replace {address} lladdr 02:00:00:00:00:02 dev {SERVER_END}"));
    }
    let requests: Vec<_> = (0..=u8::MAX)
        .flat_map(|number| {
            let mut ping4 = Ping4 { sequence: number.into(), ..Ping4::default() };
            ping4.payload = frames::payload(usize::from(number) * 5);
            ping4.ip.dscp = IpDscp::try_new(number >> 2).unwrap();
            ping4.ip.ecn = IpEcn::try_new(number & 3).unwrap();
            ping4.ip.identification = u16::from(number) << 8 | 0x5a;
            ping4.ip.dont_fragment = number % 2 == 1;
            let mut ping6 =
                Ping6 { sequence: number.into(), payload: ping4.payload.clone(), ..Ping6::default() };
            ping6.ip.traffic_class = number;
            // Not zero: the stack makes a label of its own for a request without one.
            ping6.ip.flow_label = (0x100 + u32::from(number)).try_into().unwrap();
            [ping4.frame(), ping6.frame()]
        })
        .collect();
    let mut port = Port::open(&lab.client, CLIENT_END);
    let mut replies = || -> Vec<_> {
        let is_reply = |frame: &[u8]| oracle::receive(frame).is_ok();
        requests.iter().map(|frame| port.exchange(frame, Duration::from_secs(2), is_reply).unwrap()).collect()
    };
    let stacks = replies();
    assert_eq!(stack_received(&lab.server), 512);
    let _ = lab.icmpctl(&["attach", SERVER_END, "--mode", "native"]).ok();
    let programs = replies();
    assert_eq!(stack_received(&lab.server), 512);
    assert_eq!((lab.counted("ipv4", "echo"), lab.counted("ipv6", "echo")), (256, 256));
    for (request, (stacks, programs)) in requests.iter().zip(stacks.into_iter().zip(programs)) {
        assert_eq!(programs, oracle::reply(request, oracle::TTL));
        if request[IP - 2..IP] == [0x08, 0x00] {
            assert_eq!(programs[IP + 4..IP + 8], request[IP + 4..IP + 8]);
        }
        assert_eq!(comparable(programs), comparable(stacks));
    }
}

/// A reply without the fields in which stack and program may differ.
fn comparable(mut frame: Vec<u8>) -> Vec<u8> {
    if frame[IP - 2..IP] == [0x08, 0x00] {
        // Identification, flags, header checksum.
        frame[IP + 4..IP + 8].fill(0);
        frame[IP + 10..IP + 12].fill(0);
    }
    frame
}

/// `ping -Q` in person: the bits that a user sets come back.
#[test]
#[ignore = "needs root and BPF"]
fn c10_ping_with_a_type_of_service_is_answered() {
    let lab = Lab::attached("native", "");
    // DSCP EF with ECT(0).
    for address in [SERVER4, SERVER6] {
        assert_eq!(ping(&lab.client, &format!("-Q 0xba -c 3 {address}")), (3, 3));
    }
    assert_eq!(stack_received(&lab.server), 0);
}

/// What the stack alone can answer is left to it, and it does: pings with options, and in fragments.
#[test]
#[ignore = "needs root and BPF"]
fn c13_c14_options_and_fragments_are_the_stacks() {
    let lab = Lab::attached("native", "");
    let text = ping_says(&lab.client, &format!("-R -c 3 {SERVER4}"));
    assert!(text.contains("3 packets transmitted, 3 received") && text.contains("RR:"), "{text}");
    assert_eq!((lab.counted("ipv4", "ip-options"), stack_received(&lab.server)), (3, 3));
    assert_eq!(ping(&lab.client, &format!("-c 3 -s 3000 {SERVER4}")), (3, 3));
    assert_eq!((lab.counted("ipv4", "fragment"), stack_received(&lab.server)), (9, 6));
    assert_eq!(lab.counted("ipv4", "echo"), 0);
}

/// Questions other than echo get no answer from the host, with the program as without it: information, address mask, router
/// solicitation, what nobody knows, and names of IPv6 nodes.
#[test]
#[ignore = "needs root and BPF"]
fn c28_c29_c32_c34_c61_c73_other_questions_get_no_answer() {
    let lab = Lab::attached("native", "respond.to = [\"own\", \"0.0.0.0/0\", \"::/0\"]");
    let mut port = Port::open(&lab.client, CLIENT_END);
    for icmp_type in [10, 15, 17, 44, 252] {
        port.send(&Ping4 { icmp_type, ..Ping4::default() }.frame());
    }
    for icmp_type in [139, 160, 200] {
        port.send(&Ping6 { icmp_type, ..Ping6::default() }.frame());
    }
    let counted = || (lab.counted("ipv4", "other-type"), lab.counted("ipv6", "other-type"));
    wait_until(|| counted() >= (5, 3));
    // An echo is answered behind all of them, so there is nothing left to wait for.
    let is_ours = |frame: &[u8]| {
        let icmp = match frame[IP - 2..IP] {
            [0x08, 0x00] => frame[IP + 9] == 1,
            // Neighbour Discovery is none of it.
            [0x86, 0xdd] => frame[IP + 6] == 58 && !(133..=137).contains(&frame[frames::ICMP6]),
            _ => false,
        };
        icmp && frame[..6] == frames::CLIENT_MAC
    };
    let first = port.exchange(&Ping4::default().frame(), Duration::from_secs(2), is_ours);
    assert_eq!(first.unwrap(), oracle::reply(&Ping4::default().frame(), oracle::TTL));
}

/// The stack is told to answer no pings: it does not, and the program does all the same.
#[test]
#[ignore = "needs root and BPF"]
fn c96_pings_that_the_stack_ignores_are_answered() {
    let lab = Lab::native();
    lab.server.sysctl("ipv4/icmp_echo_ignore_all", "1");
    lab.server.sysctl("ipv6/icmp/echo_ignore_all", "1");
    for address in [SERVER4, SERVER6] {
        assert_eq!(ping(&lab.client, &format!("-c 3 {address}")), (3, 0));
    }
    let _ = lab.icmpctl(&["attach", SERVER_END, "--mode", "native"]).ok();
    for (family, address) in [("ipv4", SERVER4), ("ipv6", SERVER6)] {
        assert_eq!(ping(&lab.client, &format!("-c 3 {address}")), (3, 3));
        assert_eq!(lab.counted(family, "echo"), 3);
    }
}

/// A request that the stack drops, because its source is to be reached by another interface, is answered by the program, where
/// its frame came from.
#[test]
#[ignore = "needs root and BPF"]
fn c97_requests_that_rp_filter_refuses_are_answered() {
    let lab = Lab::native();
    lab.server.ip("link add other0 type veth peer name other1");
    lab.server.ip("link set other0 up");
    lab.server.ip("route add 198.51.100.0/24 dev other0");
    let mut request = Ping4::default();
    request.ip.source = [198, 51, 100, 7];
    let request = request.frame();
    let mut port = Port::open(&lab.client, CLIENT_END);
    let set = |value: &str| {
        for of in ["all", SERVER_END] {
            lab.server.sysctl(&format!("ipv4/conf/{of}/rp_filter"), value);
        }
    };
    set("0");
    port.send(&request);
    wait_until(|| stack_received(&lab.server) == 1);
    set("1");
    port.send(&request);
    // What comes behind it is seen, and it is not.
    assert_eq!(ping(&lab.client, &format!("-c 1 {SERVER4}")), (1, 1));
    assert_eq!(stack_received(&lab.server), 2);
    let _ = lab.icmpctl(&["attach", SERVER_END, "--mode", "native"]).ok();
    // Not the stack's reply to the ping before.
    let is_reply = |frame: &[u8]| oracle::receive(frame).is_ok() && frame[IP + 16] == 198;
    let reply = port.exchange(&request, Duration::from_secs(2), is_reply);
    assert_eq!(reply.unwrap(), oracle::reply(&request, oracle::TTL));
    assert_eq!((lab.counted("ipv4", "echo"), stack_received(&lab.server)), (1, 2));
}
