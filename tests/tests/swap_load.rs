//! Policies swapped under a flood through veth: every packet is accounted for, answered or denied by one policy alone.
//!
//! Two policies answer, each to an address that the other one denies, and with a TTL that the other one does not use; a third
//! one denies all. So a reply that has something of two policies is none that is expected.

use std::{
    collections::HashMap,
    fmt::Write as _,
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use etherparse::{Ipv4Header, Ipv6Header};
use icmp_tests::{
    frames::{CLIENT4, CLIENT6, Ping4, Ping6, SERVER4, SERVER6},
    host::tables,
    icmpctl,
    netns::{CLIENT_END, Lab, SERVER_END},
    oracle,
    port::Port,
};
use icmp_userspace::kernel::{
    bpf::XdpLink,
    load::{KEPT, Program, Taps},
};

/// The addresses that the first and the second policy answer for, and the TTLs of their replies.
const FIRST: ([u8; 4], [u8; 16], u8) = (SERVER4, SERVER6, 100);
const SECOND: ([u8; 4], [u8; 16], u8) = ([198, 51, 100, 53], FAR6, 101);
const FAR6: [u8; 16] = [0x20, 0x01, 0x0d, 0xb8, 0, 0x53, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x53];
/// Sources that are in the set of blocked ones.
const BLOCKED4: [u8; 4] = [10, 0, 7, 1];
const BLOCKED6: [u8; 16] = [0x20, 0x01, 0x0d, 0xb8, 0x0b, 0xad, 0, 7, 0, 0, 0, 0, 0, 0, 0, 1];

/// How many requests there are of a kind, each with another sequence number.
const SEQUENCES: u16 = 1024;
/// How many requests are sent without a pause: less than a ring of veth holds (`VETH_RING_SIZE` in `drivers/net/veth.c`).
const BURST: usize = 64;

/// The three policies, each with a set of so many blocked prefixes of each family.
fn policies(prefixes: usize) -> [String; 3] {
    let mut set = String::new();
    for number in 0..prefixes {
        let (upper, lower) = (number >> 8, number & 0xff);
        write!(set, "\"10.{upper}.{lower}.0/24\", \"2001:db8:bad:{number:x}::/64\", ").unwrap();
    }
    let policy = |ttl: u8, rules: &str| {
        format!(
            "[respond]\nto = [\"own\", \"198.51.100.0/24\", \"2001:db8:53::/64\"]\nttl = {ttl}\n\
             [sets]\nblocked = [{set}]\n[acl]\nrules = \"\"\"\ndeny icmp set:blocked any\n{rules}\"\"\"\n"
        )
    };
    [
        policy(100, "deny icmp any 198.51.100.0/24 echo\ndeny icmp any 2001:db8:53::/64 echo\n"),
        policy(50, "deny icmp any any echo\n"),
        policy(101, "deny icmp any host 192.0.2.1 echo\ndeny icmp any host 2001:db8::1 echo\n"),
    ]
}

/// All requests, and which policy answers a reply if one does: 0 or 1.
struct Traffic {
    requests: Vec<Vec<u8>>,
    replies: HashMap<Vec<u8>, usize>,
}

impl Traffic {
    fn new() -> Self {
        let mut traffic = Self { requests: Vec::new(), replies: HashMap::new() };
        for sequence in 0..SEQUENCES {
            for (number, (to4, to6, ttl)) in [FIRST, SECOND].into_iter().enumerate() {
                for (from4, from6) in [(CLIENT4, CLIENT6), (BLOCKED4, BLOCKED6)] {
                    for request in [request4(from4, to4, sequence), request6(from6, to6, sequence)] {
                        if from4 == CLIENT4 {
                            traffic.replies.insert(oracle::reply(&request, ttl), number);
                        }
                        traffic.requests.push(request);
                    }
                }
            }
        }
        traffic
    }

    /// Sends until `over`; returns how many requests went out.
    fn send(&self, port: &mut Port, over: &AtomicBool) -> u64 {
        let mut sent = 0;
        for burst in self.requests.chunks(BURST).cycle().take_while(|_| !over.load(Ordering::Relaxed)) {
            sent += burst.iter().filter(|frame| port.offer(frame)).count() as u64;
            thread::sleep(Duration::from_micros(50));
        }
        sent
    }

    /// Counts replies by policy, until `over` and nothing more comes.
    fn receive(&self, port: &mut Port, over: &AtomicBool) -> [u64; 2] {
        let mut received = [0, 0];
        let mut buffer = vec![0; 2048];
        loop {
            match port.receive(&mut buffer) {
                Some(frame) => match self.replies.get(frame) {
                    Some(number) => received[*number] += 1,
                    None => assert!(is_chatter(frame), "nobody should have sent {frame:02x?}"),
                },
                None if over.load(Ordering::Relaxed) => return received,
                None => {}
            }
        }
    }
}

fn request4(source: [u8; 4], destination: [u8; 4], sequence: u16) -> Vec<u8> {
    let ping = Ping4::default();
    Ping4 { ip: Ipv4Header { source, destination, ..ping.ip }, sequence, ..ping }.frame()
}

fn request6(source: [u8; 16], destination: [u8; 16], sequence: u16) -> Vec<u8> {
    let ping = Ping6::default();
    Ping6 { ip: Ipv6Header { source, destination, ..ping.ip }, sequence, ..ping }.frame()
}

/// Whether a frame is what a stack says of itself: ARP, or a message of Neighbour Discovery or multicast membership.
fn is_chatter(frame: &[u8]) -> bool {
    match frame[12..14] {
        [0x08, 0x06] => true,
        [0x86, 0xdd] => match frame[20] {
            // Hop-by-hop options, as multicast membership has them.
            0 => true,
            58 => (133..=137).contains(&frame[54]),
            _ => false,
        },
        _ => false,
    }
}

/// What the program has done with echo requests of both families: how many it answered, how many it denied.
fn counted(lab: &Lab) -> [u64; 2] {
    ["echo", "denied"].map(|reason| ["ipv4", "ipv6"].map(|family| lab.counted(family, reason)).iter().sum())
}

/// Swaps under a flood, and accounts for every packet of it.
fn account(lab: &Lab, swaps: impl FnOnce()) {
    let traffic = Traffic::new();
    let (mut sender, mut receiver) =
        (Port::open(&lab.client, CLIENT_END), Port::open(&lab.client, CLIENT_END));
    let (dropped_before, counted_before) = (lab.dropped(), counted(lab));
    let (swapped, settled) = (AtomicBool::new(false), AtomicBool::new(false));
    let (sent, received) = thread::scope(|scope| {
        let sending = scope.spawn(|| traffic.send(&mut sender, &swapped));
        let receiving = scope.spawn(|| traffic.receive(&mut receiver, &settled));
        // Also a panic ends the flood.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(swaps));
        swapped.store(true, Ordering::Relaxed);
        let sent = sending.join();
        settled.store(true, Ordering::Relaxed);
        let received = receiving.join();
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (sent.unwrap(), received.unwrap())
    });
    let (dropped, counted) = (lab.dropped(), counted(lab));
    let [answered, denied] = [0, 1].map(|at| counted[at] - counted_before[at]);
    let [lost_requests, lost_replies] = [0, 1].map(|at| dropped[at] - dropped_before[at]);
    println!(
        "{sent} sent, {answered} answered, {denied} denied, {lost_requests} dropped; {received:?} received, {lost_replies} dropped"
    );
    assert_eq!(sent, answered + denied + lost_requests);
    assert_eq!(answered, received.iter().sum::<u64>() + lost_replies);
    // Half of the requests come from blocked sources; the three policies had the others to themselves in turn.
    assert!(
        denied > sent / 2 && received.iter().all(|replies| *replies > sent / 100),
        "{received:?} of {sent}"
    );
}

/// A thousand swaps by BPF_LINK_UPDATE, which is what `apply` does once it has loaded a program.
fn a_thousand_swaps(prefixes: usize) {
    let policies = policies(prefixes);
    let lab = Lab::attached("native", &policies[0]);
    let object = fs::read(icmpctl::object()).unwrap();
    let kept: Vec<_> = KEPT.iter().map(|map| (map.name, lab.pins().join(map.pin))).collect();
    let log = lab.files.path().join("verifier.log");
    let secret = kept.iter().find(|(name, _)| *name == "BUCKETS").map(|(_, pin)| pin.as_path());
    let load =
        |policy: &String| Program::load(&object, &tables(policy), &kept, secret, &Taps::NONE, &log).unwrap();
    let mut programs: Vec<_> = policies.iter().map(load).collect();
    let link = XdpLink::open(&lab.pins().join("link")).unwrap();
    account(&lab, || {
        for swap in 0..1000 {
            link.update(programs[swap % 3].fd().unwrap()).unwrap();
            thread::sleep(Duration::from_millis(3));
        }
    });
    let _ = lab.icmpctl(&["detach", SERVER_END]).ok();
    lab.assert_nothing_left();
}

#[test]
#[ignore = "needs root and BPF"]
fn a_thousand_swaps_lose_and_mix_nothing() {
    a_thousand_swaps(8);
}

#[test]
#[ignore = "needs root and BPF"]
fn a_thousand_swaps_with_a_large_set_lose_and_mix_nothing() {
    a_thousand_swaps(5000);
}

/// The same by `icmpctl apply` from beginning to end: programs and maps come and go, state is written.
#[test]
#[ignore = "needs root and BPF"]
fn policies_applied_under_a_flood_lose_and_mix_nothing() {
    let policies = policies(5000);
    let lab = Lab::attached("native", &policies[0]);
    let files = [0, 1, 2].map(|number| {
        let path = lab.files.path().join(format!("{number}.toml"));
        fs::write(&path, &policies[number]).unwrap();
        path
    });
    account(&lab, || {
        for file in files.iter().cycle().skip(1).take(60) {
            let _ = lab.icmpctl(&["apply", SERVER_END, file.to_str().unwrap()]).ok();
        }
    });
    let _ = lab.icmpctl(&["detach", SERVER_END]).ok();
    lab.assert_nothing_left();
}
