//! Frames of all sorts, and bytes that are none, through the host build: nothing panics, and nothing but the frame's own bytes is read.
//! `cargo xtask test` runs this once more under AddressSanitizer, which sees a byte too far, since every frame fills its allocation.

use icmp_ebpf::{Reason, Verdict};
use icmp_tests::{
    host::{handle_in, tables},
    oracle::{self, receive},
    packets::packet,
    seed,
    sketch::sketch,
};
use icmp_userspace::explain::host::HostState;
use proptest::{collection::vec, prelude::*};

const POLICIES: [&str; 6] = [
    "",
    "respond.to = [\"0.0.0.0/0\", \"::/0\"]",
    "respond.to = [\"0.0.0.0/0\", \"::/0\"]\nrespond.verify-checksum = false\nrespond.next-hop = \"fib\"",
    "acl.rules = \"reject icmp any any\"\nacl.errors = { per-source = \"1000000/s\", total = \"1000000/s\" }",
    "acl.rules = \"deny icmp any any fragments\\nlimit 1/h burst 9 per source icmp any any length 60-300\"",
    "acl.default = \"deny\"\nacl.rules = \"permit icmp any any ttl 2-255 vlan 1\\npermit icmp any any dscp 0\"",
];

/// Frames, bytes, and frames that go on as anything.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let sketch = || sketch().prop_map(|sketch| sketch.frame());
    let replaced = (sketch(), 0..80_usize, vec(any::<u8>(), 0..100)).prop_map(|(mut frame, at, bytes)| {
        frame.truncate(at);
        frame.extend(bytes);
        frame
    });
    prop_oneof![
        6 => sketch(),
        2 => packet().prop_map(|packet| packet.frame),
        2 => replaced,
        1 => vec(any::<u8>(), 0..200),
    ]
}

/// C94: whatever the bytes: no panic; a frame that is neither answered nor rejected is unchanged; an answer is an echo reply to its
/// receiver; and ICMP is counted exactly once, under a reason of its verdict.
#[test]
fn c94_any_bytes_are_counted_once_and_answered_or_unchanged() {
    let cases = if seed::is_long() { 1_000_000 } else { 20_000 };
    let tables = POLICIES.map(tables);
    let outcome = seed::runner(cases).run(&bytes(), |frame| {
        for tables in &tables {
            let outcome = handle_in(&mut HostState::new(tables), &frame);
            match outcome.counted {
                Some((_, reason)) => prop_assert_eq!(reason.verdict(), outcome.verdict),
                None => prop_assert_eq!(outcome.verdict, Verdict::Pass),
            }
            if let Some(family) = oracle::counted(&frame) {
                prop_assert_eq!(outcome.counted.map(|(family, _)| family), family);
            }
            match outcome.counted {
                Some((_, Reason::Echo)) => {
                    prop_assert!(receive(&outcome.frame).is_ok(), "{:?}", receive(&outcome.frame));
                }
                Some((_, Reason::Rejected)) => {}
                _ => prop_assert_eq!(outcome.frame, &*frame),
            }
        }
        Ok(())
    });
    outcome.unwrap();
}
