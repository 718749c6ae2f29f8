//! `icmpctl stats --snmp`: with what it adds, the stack's counters are as they would be without icmpctl.

use std::collections::BTreeMap;

use icmp_tests::{
    frames::{Ping4, Ping6, payload},
    icmpctl::wait_until,
    netns::{ANYCAST4, ANYCAST6, CLIENT_END, CLIENT4, Lab, Namespace, SERVER_END, SERVER4, SERVER6},
    ping::ping,
    port::Port,
};
use serde_json::Value;

/// What the stack of a namespace has counted, as `nstat` tells it.
fn stack(namespace: &Namespace) -> BTreeMap<String, u64> {
    let text = namespace.says("nstat --ignore --noupdate --zeros --json");
    let all: Value = serde_json::from_str(&text).unwrap();
    let all = all["kernel"].as_object().unwrap();
    all.iter().map(|(name, count)| (name.clone(), count.as_u64().unwrap_or(0))).collect()
}

/// What `stats --snmp` says: the program's part, the kernel's, and the sum.
fn said(lab: &Lab) -> BTreeMap<String, [u64; 3]> {
    let rows: Vec<Value> =
        serde_json::from_str(&lab.icmpctl(&["stats", SERVER_END, "--snmp", "--json"]).ok()).unwrap();
    let numbers = |row: &Value| ["icmpctl", "kernel", "sum"].map(|name| row[name].as_u64().unwrap());
    rows.iter().map(|row| (row["name"].as_str().unwrap().to_owned(), numbers(row))).collect()
}

/// Neighbour Discovery and multicast groups make messages of their own, as they see fit.
fn noise(stack: &BTreeMap<String, u64>, way: &str) -> u64 {
    (130..=143).filter_map(|kind| stack.get(&format!("Icmp6{way}Type{kind}"))).sum()
}

/// Requests of all sorts, whole and broken, and the host's own.
fn traffic(lab: &Lab) {
    for address in [SERVER4, SERVER6] {
        assert_eq!(ping(&lab.client, &format!("-c 20 {address}")), (20, 20));
    }
    assert_eq!(ping(&lab.server, &format!("-c 4 {CLIENT4}")), (4, 4));
    let mut port = Port::open(&lab.client, CLIENT_END);
    let timestamp = |length| Ping4 { icmp_type: 13, payload: payload(length), ..Ping4::default() }.frame();
    port.send(&timestamp(12));
    port.send(&timestamp(0));
    for mut frame in [Ping4::default().frame(), Ping6::default().frame()] {
        for _ in 0..3 {
            port.send(&frame);
        }
        *frame.last_mut().unwrap() ^= 1;
        for _ in 0..5 {
            port.send(&frame);
        }
        // An impossible header: neither counts it as ICMP.
        frame[14] ^= 0x30;
        port.send(&frame);
    }
}

/// C94: the same traffic, to the same host without the program and with it.
#[test]
#[ignore = "needs root and BPF"]
fn c94_snmp_counts_what_the_kernel_would_have() {
    let (without, with) = (Lab::new(), Lab::attached("generic", "respond.timestamp = true"));
    let before = [&without, &with].map(|lab| stack(&lab.server));
    for lab in [&without, &with] {
        traffic(lab);
    }
    let since = |now: &BTreeMap<String, u64>, number: usize, name: &str| {
        now[name] - before[number].get(name).copied().unwrap_or(0)
    };
    // Frames are still on their way.
    for (number, lab) in [&without, &with].into_iter().enumerate() {
        wait_until(|| {
            let now = stack(&lab.server);
            let (mut errors4, mut errors6) =
                (since(&now, number, "IcmpInErrors"), since(&now, number, "Icmp6InErrors"));
            if number == 1 {
                let said = said(lab);
                errors4 += said["IcmpInErrors"][0];
                errors6 += said["Icmp6InErrors"][0];
            }
            (errors4, errors6) == (6, 5)
        });
    }
    let expected = stack(&without.server);
    let (said, found) = (said(&with), stack(&with.server));
    let mut replies = [0, 0];
    for (name, [icmpctl, kernel, sum]) in &said {
        assert_eq!((*kernel, *sum), (found[name], kernel + icmpctl), "{name}");
        let mut counts = [since(&expected, 0, name), icmpctl + since(&found, 1, name)];
        if let Some(way) = ["In", "Out"].into_iter().find(|way| *name == format!("Icmp6{way}Msgs")) {
            for (number, (count, now)) in counts.iter_mut().zip([&expected, &found]).enumerate() {
                *count -= noise(now, way) - noise(&before[number], way);
            }
        }
        if let "IcmpOutEchoReps" | "IcmpOutTimestampReps" = name.as_str() {
            // Recent kernels take their timestamp replies for echo replies (`__ip_make_skb` in net/ipv4/ip_output.c).
            replies = [replies[0] + counts[0], replies[1] + counts[1]];
        } else {
            assert_eq!(counts[0], counts[1], "{name}: {said:?}");
        }
    }
    assert_eq!(replies, [24, 24]);
    let number = |name: &str| said[name][0];
    assert_eq!((number("IcmpInEchos"), number("Icmp6OutEchoReplies")), (23, 23));
    assert_eq!((number("IcmpInTimestamps"), number("IcmpOutTimestampReps")), (2, 1));
    assert_eq!((number("IcmpInCsumErrors"), number("Icmp6InCsumErrors")), (5, 5));
}

/// C94: messages of all types, to the same host without the program and behind one that drops whatever it may.
#[test]
#[ignore = "needs root and BPF"]
fn c94_snmp_counts_dropped_messages_by_their_types() {
    let labs = [Lab::new(), Lab::attached("generic", "acl.rules = 'deny icmp any any'")];
    let types4 = [0, 3, 4, 5, 8, 11, 12, 13, 14, 17, 18];
    let types6 = [1, 2, 3, 4, 128, 129];
    for lab in &labs {
        let mut port = Port::open(&lab.client, CLIENT_END);
        for (count, icmp_type) in (1..).zip(types4) {
            (0..count).for_each(|_| port.send(&Ping4 { icmp_type, ..Ping4::default() }.frame()));
        }
        for (count, icmp_type) in (1..).zip(types6) {
            (0..count).for_each(|_| port.send(&Ping6 { icmp_type, ..Ping6::default() }.frame()));
        }
    }
    let received = |number: usize| -> BTreeMap<String, u64> {
        let now = stack(&labs[number].server);
        let mut said = if number == 1 { said(&labs[1]) } else { BTreeMap::new() };
        let names = ["Icmp6InEchos", "Icmp6InEchoReplies", "Icmp6InDestUnreachs", "Icmp6InPktTooBigs"];
        let names = names.into_iter().chain(["Icmp6InTimeExcds", "Icmp6InParmProblems"]);
        let names = names.chain(
            now.keys()
                .map(String::as_str)
                .filter(|name| name.starts_with("IcmpIn") && !name.ends_with("Errors")),
        );
        names
            .map(|name| (name.to_owned(), now[name] + said.remove(name).map_or(0, |[icmpctl, ..]| icmpctl)))
            .collect()
    };
    let sent = types6.len() * (types6.len() + 1) / 2;
    for number in [0, 1] {
        wait_until(|| {
            received(number)
                .iter()
                .filter(|(name, _)| name.starts_with("Icmp6"))
                .map(|(_, count)| count)
                .sum::<u64>()
                == sent as u64
        });
    }
    assert_eq!(received(0), received(1));
    let said = said(&labs[1]);
    let numbers = ["IcmpInRedirects", "IcmpInAddrMaskReps", "Icmp6InEchoReplies", "Icmp6InPktTooBigs"]
        .map(|name| said[name][0]);
    // The last ones are kept from rules.
    assert_eq!(numbers, [4, 11, 6, 0]);
}

/// Errors that the program sends are those that the client receives; what it drops was received.
#[test]
#[ignore = "needs root and BPF"]
fn snmp_counts_errors_and_drops() {
    let rules = "10 reject icmp any any echo\n20 deny icmp any any";
    let policy = format!(
        "respond.to = ['own', '{ANYCAST4}', '{ANYCAST6}']\nrespond.traceroute = true\nacl.rules = '''\n{rules}\n'''"
    );
    let lab = Lab::attached("generic", &policy);
    for address in [SERVER4, SERVER6] {
        assert_eq!(ping(&lab.client, &format!("-c 4 {address}")), (4, 0));
    }
    let mut port = Port::open(&lab.client, CLIENT_END);
    for _ in 0..3 {
        port.send(&Ping4 { icmp_type: 17, ..Ping4::default() }.frame());
    }
    for address in [ANYCAST4, ANYCAST6] {
        let _ = lab.client.says(&format!("traceroute -n -q 1 -m 1 -w 1 {address}"));
    }
    wait_until(|| lab.counted("ipv4", "denied") == 3);
    let (said, client) = (said(&lab), stack(&lab.client));
    let number = |name: &str| said[name][0];
    for (family, sent) in [("Icmp", 5), ("Icmp6", 5)] {
        assert_eq!(number(&format!("{family}OutDestUnreachs")), sent);
        assert_eq!(number(&format!("{family}OutMsgs")), sent);
        assert_eq!(client[&format!("{family}InDestUnreachs")], sent, "{family}");
        assert_eq!(number(&format!("{family}InEchos")), 4);
    }
    assert_eq!((number("IcmpInMsgs"), number("Icmp6InMsgs")), (7, 4));
    assert_eq!((number("IcmpInAddrMasks"), number("IcmpInTimestamps")), (3, 0));
    let text = lab.icmpctl(&["stats", "--snmp"]).ok();
    let cells = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let line = text.lines().map(cells).find(|cells| cells[0] == "IcmpOutDestUnreachs").unwrap();
    assert_eq!(line, ["IcmpOutDestUnreachs", "5", "0", "5"], "{text}");

    lab.icmpctl(&["stats", "--snmp", "--by", "rule"]).fails(2, &["cannot be used with"]);
    let _ = lab.icmpctl(&["detach", SERVER_END]).ok();
    lab.icmpctl(&["stats", "--snmp"]).fails(1, &["icmpctl is attached to no interface"]);
}
