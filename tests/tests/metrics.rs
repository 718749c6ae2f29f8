//! `icmpctl run --metrics`: what a plain TCP client reads there, over changes of the policy; and what the server makes of bad
//! requests and of too many.

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read as _, Write as _},
    net::TcpListener,
    path::Path,
    time::Duration,
};

use icmp_tests::{
    http::{self, connect},
    icmpctl::{PATIENCE, wait_until},
    netns::{CLIENT4, CLIENT6, Lab, Namespace, SERVER_END, SERVER4, SERVER6},
    ping::ping,
};
use rustix::process::Signal;

const ADDRESS: &str = "127.0.0.1:9815";

/// Sends bytes, and reads what comes back: head and body.
fn exchange(namespace: &Namespace, address: &str, request: &[u8]) -> (String, String) {
    let (head, body) = http::exchange(namespace, address, request);
    let length = format!("Content-Length: {}", body.len());
    assert!(head.lines().any(|line| line == length), "{head}\n\n{body}");
    (head, body)
}

fn scrape(lab: &Lab, accept: &str) -> (String, String) {
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {ADDRESS}\r\nAccept: {accept}\r\n\r\n");
    let (head, body) = exchange(&lab.server, ADDRESS, request.as_bytes());
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    (head, body)
}

/// Values by series.
fn series(body: &str) -> BTreeMap<String, f64> {
    let lines = body.lines().filter(|line| !line.starts_with('#'));
    let parsed = lines.map(|line| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        (series.to_owned(), value.parse().unwrap())
    });
    let parsed: Vec<_> = parsed.collect();
    let all: BTreeMap<_, _> = parsed.iter().cloned().collect();
    assert_eq!(all.len(), parsed.len(), "a series comes twice:\n{body}");
    all
}

fn packets(family: &str, verdict: &str, reason: &str) -> String {
    format!(
        "icmpctl_packets_total{{interface=\"server0\",family=\"{family}\",verdict=\"{verdict}\",reason=\"{reason}\"}}"
    )
}

fn rule(number: u32, text: &str) -> String {
    format!("icmpctl_rule_packets_total{{interface=\"server0\",rule=\"{number}\",text=\"{text}\"}}")
}

fn policy(lab: &Lab, name: &str, rules: &str) -> String {
    let path = lab.files.path().join(name);
    std::fs::write(&path, format!("acl.rules = '''\n{rules}\n'''\n")).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The labels of the info metric.
fn info(body: &str) -> BTreeMap<String, String> {
    let line = body.lines().find_map(|line| line.strip_prefix("icmpctl_info{")).unwrap();
    let labels = line.strip_suffix("} 1").unwrap().split(',');
    let pairs = labels.map(|label| label.split_once('=').unwrap());
    pairs.map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned())).collect()
}

/// C94: metrics are what `stats` counts, to the packet, and go on over a change of the policy.
#[test]
#[ignore = "needs root and BPF"]
fn c94_metrics_are_what_stats_counts() {
    let lab = Lab::new();
    let limit = "limit 1/h burst 3 per source icmp4 any any echo";
    let first = policy(&lab, "first", &format!("10 {limit}\n20 permit icmp6 any any echo"));
    let mut running =
        lab.start(&["run", SERVER_END, "--mode", "generic", "--policy", &first, "--metrics", ADDRESS]);
    running.wait_for("metrics are at http://127.0.0.1:9815/metrics");
    assert_eq!(ping(&lab.client, &format!("-c 5 {SERVER4}")), (5, 3));
    assert_eq!(ping(&lab.client, &format!("-c 7 {SERVER6}")), (7, 7));

    let (head, body) = scrape(&lab, "*/*");
    assert!(head.contains("Content-Type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    let before = series(&body);
    for row in lab.statistics()["reasons"].as_array().unwrap() {
        let [family, verdict, reason] =
            ["family", "verdict", "reason"].map(|name| row[name].as_str().unwrap());
        // The stack's own messages come when they like.
        if reason != "other-type" && reason != "extension-header" {
            assert_eq!(before[&packets(family, verdict, reason)], row["packets"].as_f64().unwrap(), "{row}");
        }
    }
    assert_eq!(before[&packets("ipv4", "answered", "echo")], 3.0);
    assert_eq!(before[&packets("ipv4", "limited", "over-limit")], 2.0);
    assert_eq!((before[&rule(10, limit)], before[&rule(20, "permit icmp6 any any echo")]), (5.0, 7.0));
    let over =
        "icmpctl_limit_over_packets_total{interface=\"server0\",rule=\"10\",rate=\"1/h burst 3 per source\"}";
    assert_eq!(before[over], 2.0);
    let alone = |name: &str| before[&format!("{name}{{interface=\"server0\"}}")];
    assert_eq!((alone("icmpctl_buckets"), alone("icmpctl_buckets_evicted_total")), (131_072.0, 0.0));
    assert_eq!(alone("icmpctl_buckets_in_use"), 1.0);
    let age = alone("icmpctl_policy_age_seconds");
    assert!(age > 0.0 && age < 120.0, "{age}");
    for address in [CLIENT4, CLIENT6] {
        assert!(!body.contains(address), "{body}");
    }
    let told = info(&body);
    assert_eq!(told["program"], lab.server.xdp_program(SERVER_END).unwrap().to_string());
    assert_eq!((&*told["mode"], told["policy"].len()), ("generic", 16));

    let second = policy(&lab, "second", "20 permit icmp6 any any echo");
    let _ = lab.icmpctl(&["apply", SERVER_END, &second]).ok();
    assert_eq!(ping(&lab.client, &format!("-c 2 {SERVER4}")), (2, 2));
    assert_eq!(ping(&lab.client, &format!("-c 2 {SERVER6}")), (2, 2));
    let (head, body) = scrape(&lab, "application/openmetrics-text;version=1.0.0,text/plain;q=0.5");
    assert!(head.contains("Content-Type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(body.ends_with("\n# EOF\n") && body.contains("# TYPE icmpctl info\n"), "{body}");
    let after = series(&body);
    assert_eq!(after[&packets("ipv4", "answered", "echo")], 5.0);
    assert_eq!(after[&packets("ipv4", "limited", "over-limit")], 2.0);
    assert_eq!((after.get(&rule(10, limit)), after[&rule(20, "permit icmp6 any any echo")]), (None, 9.0));
    let now = info(&body);
    assert_eq!(now["program"], lab.server.xdp_program(SERVER_END).unwrap().to_string());
    assert_ne!((&now["program"], &now["policy"]), (&told["program"], &told["policy"]));
    // Another program with the same policy: an address came.
    lab.server.ip(&format!("address add 192.0.2.77/24 dev {SERVER_END}"));
    running.wait_for("+192.0.2.77");
    let followed = info(&scrape(&lab, "*/*").1);
    assert_eq!((followed["program"] != now["program"], &followed["policy"]), (true, &now["policy"]));

    running.signal(Signal::INT);
    let _ = running.wait().ok();
    lab.assert_nothing_left();
}

/// Bad requests are answered as such, idle connections run out, and pings are answered all the time.
#[test]
#[ignore = "needs root and BPF"]
fn metrics_are_served_whatever_else_is_asked() {
    let lab = Lab::new();
    let running = lab.start(&["run", SERVER_END, "--mode", "generic", "--metrics", ADDRESS]);
    let long = format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(20 << 10));
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "404"),
        ("POST /metrics HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi", "405"),
        ("GET /metrics HTTP/2.0\r\n\r\n", "505"),
        ("\u{16}\u{3}\u{1}\r\n\r\n", "400"),
        ("GET /metrics?debug HTTP/1.0\r\n\r\n", "200"),
        (&long, "431"),
    ] {
        let (head, _) = exchange(&lab.server, ADDRESS, request.as_bytes());
        assert_eq!(head.split(' ').nth(1), Some(status), "{request:.40}: {head}");
    }
    let idle: Vec<_> = (0..16).map(|_| connect(&lab.server, ADDRESS)).collect();
    // One too many is closed without a word, long before the others have waited too long.
    let mut late = connect(&lab.server, ADDRESS);
    late.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(late.read(&mut [0]).unwrap(), 0);
    assert_eq!(ping(&lab.client, &format!("-c 20 {SERVER4}")), (20, 20));
    drop(idle);
    wait_until(|| {
        let mut stream = connect(&lab.server, ADDRESS);
        let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200")
    });
    assert_eq!(lab.counted("ipv4", "echo"), 20);
    // Who says nothing is not waited for.
    let mut silent = connect(&lab.server, ADDRESS);
    silent.write_all(b"GET").unwrap();
    silent.set_read_timeout(Some(PATIENCE + Duration::from_secs(20))).unwrap();
    let ended = silent.read(&mut [0]).or_else(|error| match error.kind() {
        ErrorKind::ConnectionReset => Ok(0),
        _ => Err(error),
    });
    assert_eq!(ended.unwrap(), 0);

    // Where the counters are gone that is said, and the rest goes on.
    let pins = lab.pins();
    std::fs::rename(pins.join("counters"), pins.join("elsewhere")).unwrap();
    let (head, _) = exchange(&lab.server, ADDRESS, b"GET /metrics HTTP/1.1\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert_eq!(ping(&lab.client, &format!("-c 3 {SERVER4}")), (3, 3));
    std::fs::rename(pins.join("elsewhere"), pins.join("counters")).unwrap();
    running.signal(Signal::INT);
    let _ = running.wait().ok();
}

/// A port that somebody else has, an address that is none: nothing is attached. One that others can reach: a warning.
#[test]
#[ignore = "needs root and BPF"]
fn metrics_need_a_port_of_their_own() {
    let lab = Lab::new();
    let taken = lab.server.enter(|| TcpListener::bind(ADDRESS).unwrap());
    lab.icmpctl(&["run", SERVER_END, "--metrics", ADDRESS])
        .fails(1, &["listening on 127.0.0.1:9815", "Address already in use"]);
    lab.icmpctl(&["run", SERVER_END, "--metrics", "9815"]).fails(2, &["--metrics"]);
    lab.icmpctl(&["run", SERVER_END, "--metrics", "198.51.100.1:9815"])
        .fails(1, &["listening on 198.51.100.1"]);
    lab.assert_nothing_left();
    drop(taken);

    let open = format!("{SERVER4}:9815");
    let running = lab.start(&["run", SERVER_END, "--metrics", &open]);
    let said = running.said();
    assert!(said.contains("warning: metrics are shown to everybody who can reach 192.0.2.1:9815"), "{said}");
    let (head, _) = exchange(&lab.client, &open, b"GET /metrics HTTP/1.1\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    running.signal(Signal::TERM);
    let end = running.wait();
    assert_eq!(end.status, Some(0), "{end}");
    lab.assert_nothing_left();
    assert!(!Path::new(&lab.pins()).exists());
}
