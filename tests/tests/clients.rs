//! What people's own tools print about a server with the program: iputils' ping and tracepath, fping, traceroute, mtr, hping3, nping,
//! scapy.

use std::{
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use icmp_tests::{
    icmpctl::wait_until,
    netns::{ANYCAST, ANYCAST4, ANYCAST6, CLIENT_END, Lab, Namespace, SERVER_END, SERVER4, SERVER6},
    ping::{ping, ping_says, stack_received},
    scapy,
    seed::is_long,
};

/// Demands that the text has all of these parts.
#[track_caller]
fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
}

/// C1, C2, C11, C52: ping names who answers, finds its data unchanged, and prints the TTL of replies.
fn ping_finds_its_data_unchanged(mode: &str) {
    let lab = Lab::attached(mode, &format!("{ANYCAST}\nrespond.ttl = 77"));
    for (family, address, full) in [("ipv4", ANYCAST4, 1472), ("ipv6", ANYCAST6, 1452)] {
        let sizes = [0, 1, 56, full];
        for size in sizes {
            let text = ping_says(&lab.client, &format!("-c 3 -p a5c3 -s {size} -I {CLIENT_END} {address}"));
            let lines: Vec<_> = text.lines().filter(|line| line.contains("bytes from")).collect();
            let begins = format!("{} bytes from {address}: icmp_seq=", size + 8);
            assert!(lines.len() == 3 && lines.iter().all(|line| line.starts_with(&begins)), "{text}");
            assert!(lines.iter().all(|line| line.contains(" ttl=77")), "{text}");
            assert_says(&text, &["3 packets transmitted, 3 received, 0% packet loss"]);
            assert!(!text.contains("wrong data") && !text.contains("DUP"), "{text}");
        }
        assert_eq!(lab.counted(family, "echo"), 3 * sizes.len() as u64);
    }
    assert_eq!(stack_received(&lab.server), 0);
}

#[test]
#[ignore = "needs root and BPF"]
fn c01_c02_c11_c52_ping_finds_its_data_unchanged_in_native_mode() {
    ping_finds_its_data_unchanged("native");
}

#[test]
#[ignore = "needs root and BPF"]
fn c01_c02_c11_c52_ping_finds_its_data_unchanged_in_generic_mode() {
    ping_finds_its_data_unchanged("generic");
}

/// C14, C59: a ping that is sent in fragments is answered whole, by the stack.
#[test]
#[ignore = "needs root and BPF"]
fn c14_c59_fragmented_pings_are_answered_by_the_stack() {
    for mode in ["native", "generic"] {
        let lab = Lab::attached(mode, "");
        for (address, family, reason) in
            [(SERVER4, "ipv4", "fragment"), (SERVER6, "ipv6", "extension-header")]
        {
            let before = stack_received(&lab.server);
            assert_eq!(ping(&lab.client, &format!("-c 20 -s 4000 -p a5c3 {address}")), (20, 20), "{mode}");
            assert_eq!(stack_received(&lab.server), before + 20);
            assert!(lab.counted(family, reason) >= 60, "{mode}");
            assert_eq!(lab.counted(family, "echo"), 0, "{mode}");
        }
    }
}

/// For how long probers probe: a minute where there is time.
fn probing() -> Duration {
    Duration::from_secs(if is_long() { 60 } else { 5 })
}

/// A prober's targets lose nothing: what fping gets, called as smokeping does, is complete.
fn probers_lose_nothing(mode: &str) {
    let lab = Lab::attached(mode, ANYCAST);
    let targets = [SERVER4, ANYCAST4, SERVER6, ANYCAST6];
    let count = probing().as_millis() / 50;
    let mut command = lab.client.command("fping");
    // With 50 milliseconds between probes of one target, each may take two seconds.
    command.args(["-q", "-b", "56", "-i", "5", "-p", "50", "-t", "2000", "-C", &count.to_string()]);
    let output = command.args(targets).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    for target in targets {
        let line = text.lines().find(|line| line.split(" :").next().unwrap().trim() == target);
        let (_, times) =
            line.unwrap_or_else(|| panic!("{target} is missing in:\n{text}")).split_once(" : ").unwrap();
        let times: Vec<_> = times.split_whitespace().collect();
        assert_eq!(times.len() as u128, count, "{text}");
        assert!(times.iter().all(|time| time.parse::<f64>().is_ok()), "{text}");
    }
    for family in ["ipv4", "ipv6"] {
        assert_eq!(u128::from(lab.counted(family, "echo")), 2 * count);
    }
    assert_eq!(stack_received(&lab.server), 0);
}

#[test]
#[ignore = "needs root and BPF"]
fn probers_lose_nothing_in_native_mode() {
    probers_lose_nothing("native");
}

#[test]
#[ignore = "needs root and BPF"]
fn probers_lose_nothing_in_generic_mode() {
    probers_lose_nothing("generic");
}

/// A host behind a router, which is the client, and the router's addresses on its side.
const ROUTER4: &str = "203.0.113.1";
const ROUTER6: &str = "2001:db8:fa::1";

fn behind_a_router(lab: &Lab) -> Namespace {
    let (router, far) = (&lab.client, Namespace::new("f"));
    router.ip(&format!("link add near0 type veth peer name far0 netns {}", far.name()));
    for (namespace, end, v4, v6) in
        [(router, "near0", ROUTER4, ROUTER6), (&far, "far0", "203.0.113.2", "2001:db8:fa::2")]
    {
        namespace.ip(&format!("address add {v4}/24 dev {end}"));
        namespace.ip(&format!("address add {v6}/64 dev {end} nodad"));
        namespace.ip(&format!("link set {end} up"));
    }
    far.ip(&format!("route add default via {ROUTER4}"));
    far.ip(&format!("-6 route add default via {ROUTER6}"));
    for (name, value) in
        [("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1"), ("ipv6/icmp/ratelimit", "0")]
    {
        router.sysctl(name, value);
    }
    for address in [ANYCAST4, ANYCAST6] {
        wait_until(|| ping(&far, &format!("-c 1 {address}")) == (1, 1));
    }
    far
}

/// What a tool prints of each hop: lines that begin with its number.
fn hops(text: &str) -> Vec<Vec<&str>> {
    let words = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    words
        .filter(|words| words.first().is_some_and(|word| word.starts_with(|c: char| c.is_ascii_digit())))
        .collect()
}

/// traceroute waits a few milliseconds only for who has answered fast before, unless it is told not to.
const PATIENT: &str = "-w 5,0,0";

const TRACEROUTE: &str = "\nrespond.traceroute = true";

/// Errors as often as anybody may want them.
const GENEROUS: &str = "\nacl.errors = { per-source = \"100000/s\", total = \"100000/s\" }";

/// Traces end at an address that nobody has: by echo requests always, by UDP with `traceroute = true`.
fn traces_end_at_served_addresses(mode: &str) {
    let lab = Lab::attached(mode, &format!("{ANYCAST}{TRACEROUTE}{GENEROUS}"));
    let far = behind_a_router(&lab);
    for (address, router) in [(ANYCAST4, ROUTER4), (ANYCAST6, ROUTER6)] {
        for way in ["", "-I ", "-U -p 33434 "] {
            let text = far.says(&format!("traceroute -n {PATIENT} {way}{address}"));
            let hops = hops(&text);
            assert_eq!(hops.len(), 2, "{text}");
            for (hop, host) in hops.iter().zip([router, address]) {
                // A number, the host, and three times in milliseconds.
                assert_eq!((hop.len(), hop[1]), (8, host), "{text}");
                assert!(hop[3] == "ms" && hop[5] == "ms" && hop[7] == "ms", "{text}");
            }
        }
        let text = far.says(&format!("tracepath -n -p 33434 {address}"));
        let hops = hops(&text);
        assert_eq!(
            (hops[hops.len() - 1][1], *hops[hops.len() - 1].last().unwrap()),
            (address, "reached"),
            "{text}"
        );
        assert_says(&text, &["pmtu 1500 hops 2 back 2"]);
    }
}

#[test]
#[ignore = "needs root and BPF"]
fn traces_end_at_served_addresses_in_native_mode() {
    traces_end_at_served_addresses("native");
}

#[test]
#[ignore = "needs root and BPF"]
fn traces_end_at_served_addresses_in_generic_mode() {
    traces_end_at_served_addresses("generic");
}

/// As above with mtr, in each of its ways at the same time.
#[test]
#[ignore = "needs root and BPF"]
fn mtr_ends_at_served_addresses() {
    let lab = Lab::attached("native", &format!("{ANYCAST}{TRACEROUTE}{GENEROUS}"));
    let far = behind_a_router(&lab);
    thread::scope(|scope| {
        for (address, router) in [(ANYCAST4, ROUTER4), (ANYCAST6, ROUTER6)] {
            for way in ["", "-u ", "-u -P 33434 "] {
                let far = &far;
                scope.spawn(move || {
                    let text = far.says(&format!("mtr -n -r -c 4 -i 1 -G 2 {way}{address}"));
                    let hops = hops(&text);
                    let found: Vec<_> = hops.iter().map(|hop| &hop[1..4]).collect();
                    assert_eq!(found, [[router, "0.0%", "4"], [address, "0.0%", "4"]], "{way}\n{text}");
                });
            }
        }
    });
    for family in ["ipv4", "ipv6"] {
        assert!(lab.counted(family, "traceroute") >= 8);
    }
}

/// Without `traceroute = true` nobody answers for an address that nobody has; with one that the server has, its stack does.
#[test]
#[ignore = "needs root and BPF"]
fn traces_by_udp_are_the_stacks_otherwise() {
    let lab = Lab::attached("native", ANYCAST);
    let text = lab.client.says(&format!("traceroute -n -m 3 -q 1 -w 0.5 {ANYCAST4}"));
    assert!(hops(&text).iter().all(|hop| hop[1] == "*"), "{text}");
    lab.server.sysctl("ipv6/icmp/ratelimit", "0");
    for address in [SERVER4, SERVER6] {
        let text = lab.client.says(&format!("traceroute -n {PATIENT} {address}"));
        assert_eq!((hops(&text).len(), hops(&text)[0][1]), (1, address), "{text}");
        // Its port is none of traceroute's.
        let text = lab.client.says(&format!("tracepath -n {address}"));
        assert_says(&text, &["reached", "pmtu 1500 hops 1 back 1"]);
    }
    for family in ["ipv4", "ipv6"] {
        assert_eq!(lab.counted(family, "traceroute"), 0);
    }
}

/// What the host owns is its stack's, whichever way it came by it: an address on another interface, or a prefix that a route
/// calls local. `run` follows when that changes.
#[test]
#[ignore = "needs root and BPF"]
fn traces_by_udp_are_the_stacks_where_the_host_owns_the_address() {
    let lab = Lab::native();
    let path = lab.policy(&format!("{ANYCAST}{TRACEROUTE}{GENEROUS}"));
    let running = lab.start(&["run", SERVER_END, "--mode", "native", "--policy", path.to_str().unwrap()]);
    lab.server.sysctl("ipv6/icmp/ratelimit", "0");
    lab.server.ip("link set lo up");
    let ended = |address: &str| {
        let before = ["ipv4", "ipv6"].map(|family| lab.counted(family, "traceroute")).iter().sum::<u64>();
        // Somebody answers, though not always from that address.
        let text = lab.client.says(&format!("traceroute -n -q 1 -m 1 {PATIENT} {address}"));
        assert!(hops(&text)[0][1] != "*", "{text}");
        ["ipv4", "ipv6"].map(|family| lab.counted(family, "traceroute")).iter().sum::<u64>() - before
    };
    for (address, owns) in [
        (ANYCAST4, "address add 198.51.100.53/32 dev lo"),
        (ANYCAST6, "-6 route add local 2001:db8:53::/80 dev lo"),
        ("198.51.100.7", "route add local 198.51.100.0/28 dev lo"),
    ] {
        assert!(ended(address) > 0, "{address}");
        let swaps = running.said().matches("elsewhere").count();
        lab.server.ip(owns);
        wait_until(|| running.said().matches("elsewhere").count() > swaps);
        assert_eq!(ended(address), 0, "{address}");
    }
}

/// C5, C24, C25: hping3's requests are answered, with times that are right; those with wrong checksums are not.
#[test]
#[ignore = "needs root and BPF"]
fn c05_c24_c25_hping3_is_answered() {
    let lab = Lab::attached("native", &format!("{ANYCAST}\nrespond.timestamp = true"));
    let text = lab.client.says(&format!("hping3 -n --icmp -c 3 -i u10000 -d 64 {ANYCAST4}"));
    assert_eq!(text.matches(&format!("len=92 ip={ANYCAST4} ttl=64 id=")).count(), 3, "{text}");
    assert_says(&text, &["3 packets transmitted, 3 packets received, 0% packet loss"]);
    assert_eq!(lab.counted("ipv4", "echo"), 3);
    let text = lab.client.says(&format!("hping3 -n --icmp -c 3 -i u10000 -b {ANYCAST4}"));
    assert_says(&text, &["3 packets transmitted, 0 packets received, 100% packet loss"]);
    assert_eq!((lab.counted("ipv4", "echo"), lab.counted("ipv4", "bad-checksum")), (3, 3));

    let midnight = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64 % 86_400_000;
    let before = midnight();
    let text = lab.client.says(&format!("hping3 -n --icmp --icmp-ts -c 1 {ANYCAST4}"));
    assert_says(&text, &["1 packets transmitted, 1 packets received, 0% packet loss"]);
    let line = text.lines().find_map(|line| line.strip_prefix("ICMP timestamp: ")).unwrap();
    let times: Vec<u64> =
        line.split_whitespace().map(|word| word.split_once('=').unwrap().1.parse().unwrap()).collect();
    // Of one clock, which begins anew at midnight.
    let right = |time: &u64| (time + 1000 + 86_400_000 - before) % 86_400_000 < 11_000;
    assert!(times.len() == 3 && times.iter().all(right), "{before}: {text}");
    assert_eq!(lab.counted("ipv4", "timestamp"), 1);
    assert_eq!(stack_received(&lab.server), 0);
}

/// C28, C29: nping's echo requests are answered; nobody answers its questions for address masks and information. Its probes to a
/// port are told that nobody listens.
#[test]
#[ignore = "needs root and BPF"]
fn c28_c29_nping_is_answered() {
    let lab = Lab::attached("generic", &format!("{ANYCAST}{TRACEROUTE}"));
    let nping = |arguments: &str| lab.client.says(&format!("nping --delay 10ms {arguments} {ANYCAST4}"));
    let text = nping("--icmp -c 3 --data-length 64");
    let reply = format!("ICMP [{ANYCAST4} > 192.0.2.2 Echo reply (type=0/code=0)");
    assert_eq!(text.matches(&reply).count(), 3, "{text}");
    assert_says(&text, &["Raw packets sent: 3 (276B) | Rcvd: 3 (276B) | Lost: 0 (0.00%)"]);
    for kind in ["mask", "info"] {
        assert_says(
            &nping(&format!("--icmp --icmp-type {kind} -c 1")),
            &["Rcvd: 0 (0B) | Lost: 1 (100.00%)"],
        );
    }
    let text = nping("--udp -p 33500 -c 1");
    assert_says(&text, &["Port unreachable (type=3/code=3)", "Rcvd: 1 (56B) | Lost: 0 (0.00%)"]);
}

/// Sends requests, and waits for the very frame that each should come back as.
const EXCHANGE: &str = r#"
import select

def reply4(request):
    reply = request.copy()
    reply[IP].src, reply[IP].dst, reply[IP].ttl = request[IP].dst, request[IP].src, 64
    reply[ICMP].type = 0
    return reply

def reply6(request):
    reply = request.copy()
    reply[IPv6].src, reply[IPv6].dst, reply[IPv6].hlim = request[IPv6].dst, request[IPv6].src, 64
    echo = request[ICMPv6EchoRequest]
    reply[IPv6].remove_payload()
    return reply / ICMPv6EchoReply(id=echo.id, seq=echo.seq, data=echo.data)

tags = [Dot1Q(vlan=0, prio=5), Dot1Q(vlan=7), Dot1AD(vlan=5, prio=3) / Dot1Q(vlan=6, prio=7, id=1)]
socket = conf.L2socket(iface="client0")
for tag in [None] + tags:
    for length in [0, 1, 17, 56, 1400]:
        for ip, reply in [
            (IP(**far4, id=9, tos=0xba, ttl=3) / ICMP(id=8, seq=length) / (data * 25)[:length], reply4),
            (IP(**far4, flags="DF") / ICMP(seq=length) / (b"x" * length), reply4),
            (IPv6(**far6, tc=0xba, fl=0x12345, hlim=1) / ICMPv6EchoRequest(id=8, seq=length, data=b"y" * length), reply6),
        ]:
            request = eth / tag / ip if tag else eth / ip
            expected = reply(request)
            expected[Ether].src, expected[Ether].dst = request.dst, request.src
            expected = bytes(expected)
            socket.send(request)
            end = time.time() + 5
            while time.time() < end:
                if select.select([socket], [], [], 0.1)[0] and bytes(socket.recv() or b"") == expected:
                    print("same")
                    break
            else:
                sys.exit(f"missing: {expected.hex()}")
"#;

/// C1, C10, C21, C52, C57: scapy gets, byte for byte, the replies that it expects, with every sort of tag.
#[test]
#[ignore = "needs root and BPF"]
fn c01_c10_c21_c52_c57_scapy_gets_the_replies_that_it_expects() {
    for mode in ["native", "generic"] {
        let lab = Lab::attached(mode, ANYCAST);
        let text = scapy::script(&lab.client, EXCHANGE);
        assert_eq!(text, "same\n".repeat(60), "{mode}");
        assert_eq!((lab.counted("ipv4", "echo"), lab.counted("ipv6", "echo")), (40, 20), "{mode}");
    }
}
