//! C95: a host with the program answers as the same host without it: the same random frames go to both, and what comes back is equal
//! but for what `parity::DIFFERENCES` lists.
//!
//! Everything happens on one CPU, whose queue of received frames keeps their order. So behind each frame goes an ARP request with a
//! number in it, and what comes back before that is answered came back to the frame.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    thread,
    time::{Duration, Instant},
};

use icmp_tests::{
    frames::{ELSEWHERE4, ELSEWHERE6, Ping4, Ping6, SERVER_MAC, SERVER4_TOO, SERVER6_TOO},
    icmpctl::PATIENCE,
    netns::{CLIENT_END, Lab, SERVER_END},
    oracle,
    parity::{DIFFERENCES, Exchange, differences, untagged},
    port::Port,
    seed,
    sketch::{NEIGHBOURS4, NEIGHBOURS6, Sketch, sketch},
};
use proptest::strategy::{Strategy as _, ValueTree};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Frames that are sent at once, each with a number behind it; the queue has room for 1000 (`net.core.netdev_max_backlog`).
const BATCH: usize = 125;
/// Frames that hosts get before others take their place.
const ROUND: usize = 100_000;

/// Settings below `/proc/sys/net` of both servers: what a stack does later, or not each time, can't be compared.
const SETTINGS: [(&str, &str); 14] = [
    ("ipv4/icmp_ratemask", "0"),
    ("ipv6/icmp/ratelimit", "0"),
    ("ipv6/icmp/ratemask", "\n"),
    // Errors about packets that are never whole; and room for those.
    ("ipv4/ipfrag_time", "3600"),
    ("ipv6/ip6frag_time", "3600"),
    ("ipv4/ipfrag_high_thresh", "100000000"),
    ("ipv6/ip6frag_high_thresh", "100000000"),
    ("ipv4/conf/all/accept_redirects", "0"),
    ("ipv4/conf/server0/accept_redirects", "0"),
    ("ipv6/conf/server0/accept_redirects", "0"),
    ("ipv6/conf/server0/accept_ra", "0"),
    ("ipv4/conf/all/rp_filter", "1"),
    ("ipv4/conf/all/secure_redirects", "0"),
    ("ipv4/conf/server0/secure_redirects", "0"),
];

/// A server, and where frames go in and out.
struct Host {
    _lab: Lab,
    port: Port,
    numbers: u32,
}

impl Host {
    fn new(policy: Option<&str>) -> Self {
        let lab = Lab::new();
        let server = &lab.server;
        for (namespace, end) in [(&lab.server, SERVER_END), (&lab.client, CLIENT_END)] {
            namespace.ip(&format!("link set {end} mtu 4000"));
        }
        // Nobody lives at the other end.
        lab.client.ip(&format!("address flush dev {CLIENT_END}"));
        lab.client.sysctl(&format!("ipv6/conf/{CLIENT_END}/disable_ipv6"), "1");
        for (setting, value) in SETTINGS {
            server.sysctl(setting, value);
        }
        server.ip(&format!("address add {SERVER4_TOO}/24 dev {SERVER_END}"));
        server.ip(&format!("address add {SERVER6_TOO}/64 dev {SERVER_END} nodad"));
        server.ip(&format!("address add {ELSEWHERE4}/32 dev lo"));
        server.ip(&format!("address add {ELSEWHERE6}/128 dev lo nodad"));
        let neighbours4 = NEIGHBOURS4.iter().map(ToString::to_string);
        for neighbour in neighbours4.chain(NEIGHBOURS6.iter().map(ToString::to_string)) {
            server.ip(&format!("neighbour replace {neighbour} lladdr 02:00:00:00:00:02 dev {SERVER_END}"));
        }
        server.ip(&format!("route add default via {}", NEIGHBOURS4[0]));
        server.ip(&format!("-6 route add default via {} dev {SERVER_END}", NEIGHBOURS6[0]));
        if let Some(policy) = policy {
            let path = lab.policy(policy);
            let attach = ["attach", SERVER_END, "--mode", "generic", "--policy", path.to_str().unwrap()];
            let _ = lab.icmpctl(&attach).ok();
        }
        let port = Port::open(&lab.client, CLIENT_END);
        Self { _lab: lab, port, numbers: 0 }
    }

    /// Sends frames, and says what came back to each.
    fn exchange(&mut self, frames: &[Vec<u8>]) -> Vec<Vec<Vec<u8>>> {
        let first = self.numbers;
        for frame in frames {
            // The kernel sends nothing that is shorter.
            if frame.len() > 14 {
                self.port.send(frame);
            }
            self.port.send(&numbered(self.numbers));
            self.numbers += 1;
        }
        let mut replies = vec![Vec::new(); frames.len()];
        let mut at = 0;
        let begin = Instant::now();
        let mut buffer = vec![0; 1 << 16];
        while at < frames.len() {
            assert!(begin.elapsed() < PATIENCE, "no answer to number {at} of a batch");
            let Some(frame) = self.port.receive(&mut buffer) else { continue };
            match number(frame) {
                Some(number) => {
                    assert_eq!(number, first + at as u32, "frames have overtaken each other");
                    at += 1;
                }
                None if is_chatter(frame) => {}
                None => replies[at].push(frame.to_vec()),
            }
        }
        replies
    }
}

/// MAC addresses that ARP requests with a number come from; the number is the rest.
const NUMBERED: [u8; 2] = [0x06, 0x4e];

/// An ARP request that is answered to a MAC address with this number in it.
fn numbered(number: u32) -> Vec<u8> {
    let from = [&NUMBERED[..], &number.to_be_bytes()].concat();
    let client = NEIGHBOURS4[0].octets();
    [&SERVER_MAC[..], &from, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &from, &client, &[0; 6], &[192, 0, 2, 1]]
        .concat()
}

/// The number that is answered.
fn number(frame: &[u8]) -> Option<u32> {
    let numbered = frame.starts_with(&NUMBERED) && frame[12..14] == [8, 6];
    numbered.then(|| u32::from_be_bytes(frame[2..6].try_into().unwrap()))
}

/// Whether a frame is what a stack says when it likes to: ARP requests and Neighbour Solicitations, reports of multicast membership.
fn is_chatter(frame: &[u8]) -> bool {
    match frame[12..14] {
        [0x08, 0x06] => frame[20..22] == [0, 1],
        [0x08, 0x00] => frame[23] == 2,
        // Reports stand behind hop-by-hop options.
        [0x86, 0xdd] => {
            frame[20] == 0 && frame[54] == 58 || frame[20] == 58 && matches!(frame[54], 133 | 135)
        }
        _ => false,
    }
}

/// The host with the program and the one without, and another one without, which gets frames without their VLAN tags.
struct Pair {
    stack: Host,
    untagged: Host,
    program: Host,
}

impl Pair {
    fn new() -> Self {
        Self {
            stack: Host::new(None),
            untagged: Host::new(None),
            program: Host::new(Some("respond.timestamp = true")),
        }
    }

    fn exchange(&mut self, sketches: &[Sketch]) -> Vec<Exchange> {
        let requests: Vec<_> = sketches.iter().map(Sketch::frame).collect();
        let stack = self.stack.exchange(&requests);
        let program = self.program.exchange(&requests);
        let untagged: Vec<_> = requests.iter().map(|request| untagged(request)).collect();
        let tagged: Vec<_> = (0..requests.len()).filter(|at| untagged[*at] != requests[*at]).collect();
        let only: Vec<_> = tagged.iter().map(|at| untagged[*at].clone()).collect();
        let mut stack_untagged = vec![Vec::new(); requests.len()];
        for (at, replies) in tagged.into_iter().zip(self.untagged.exchange(&only)) {
            stack_untagged[at] = replies;
        }
        let replies = stack.into_iter().zip(stack_untagged).zip(program);
        let exchanges = requests.into_iter().zip(replies);
        exchanges
            .map(|(request, ((stack, stack_untagged), program))| Exchange {
                request,
                stack,
                stack_untagged,
                program,
            })
            .collect()
    }

    /// Sends one frame alone, and says what came back if that differs.
    fn differs(&mut self, sketch: &Sketch) -> Option<Exchange> {
        let exchange = self.exchange(std::slice::from_ref(sketch)).remove(0);
        differences(exchange.clone()).is_none().then_some(exchange)
    }
}

/// Makes what differs as simple as can be while it differs.
fn shrink(pair: &mut Pair, mut tree: impl ValueTree<Value = Sketch>) -> (Sketch, Option<Exchange>) {
    let mut last = (tree.current(), pair.differs(&tree.current()));
    if last.1.is_none() || !tree.simplify() {
        return last;
    }
    loop {
        let sketch = tree.current();
        let differing = pair.differs(&sketch);
        let next = if differing.is_some() { tree.simplify() } else { tree.complicate() };
        if differing.is_some() {
            last = (sketch, differing);
        }
        if !next {
            return last;
        }
    }
}

/// Fails, and shows what makes the difference.
fn explain(pair: &mut Pair, tree: impl ValueTree<Value = Sketch>, first: &Exchange) {
    let sketch = tree.current();
    // Whatever else is on its way arrives.
    thread::sleep(Duration::from_millis(100));
    match shrink(pair, tree) {
        (simplest, Some(exchange)) => {
            panic!("{simplest:?} makes a difference, which was found with {sketch:?}\n{}", show(&exchange))
        }
        (_, None) => panic!("{sketch:?} made a difference, but not when tried alone\n{}", show(first)),
    }
}

fn hex(frames: &[Vec<u8>]) -> String {
    let mut text = String::new();
    for frame in frames {
        frame.iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
        text.push('\n');
    }
    if frames.is_empty() { "nothing\n".to_owned() } else { text }
}

fn show(exchange: &Exchange) -> String {
    format!(
        "the frame:\n{}the stack answers:\n{}with the program:\n{}",
        hex(std::slice::from_ref(&exchange.request)),
        hex(&exchange.stack),
        hex(&exchange.program)
    )
}

#[test]
#[ignore = "needs root and BPF"]
fn c95_the_program_answers_as_the_stack_does() {
    let mut cpu = CpuSet::new();
    let allowed = sched_getaffinity(None).unwrap();
    cpu.set((0..CpuSet::MAX_CPU).find(|cpu| allowed.is_set(*cpu)).unwrap());
    sched_setaffinity(None, &cpu).unwrap();
    let mut runner = seed::runner(1);
    let (strategy, mut sent, mut answered) = (sketch(), 0, 0);
    let mut found = BTreeMap::new();
    let begin = Instant::now();
    // Each time with new hosts: a stack keeps fragments.
    for _ in 0..if seed::is_long() { 10 } else { 1 } {
        let mut pair = Pair::new();
        for _ in 0..ROUND / BATCH {
            let trees: Vec<_> = (0..BATCH).map(|_| strategy.new_tree(&mut runner).unwrap()).collect();
            let sketches: Vec<_> = trees.iter().map(ValueTree::current).collect();
            for (tree, exchange) in trees.into_iter().zip(pair.exchange(&sketches)) {
                answered += u32::from(!exchange.program.is_empty());
                match differences(exchange.clone()) {
                    Some(some) => some.iter().for_each(|one| *found.entry(one.name).or_insert(0_u64) += 1),
                    None => explain(&mut pair, tree, &exchange),
                }
            }
            sent += BATCH as u32;
        }
    }
    println!("{sent} frames, {answered} of them answered, in {:?}: {found:?}", begin.elapsed());
    assert!(answered > sent / 5, "{answered} of {sent} were answered");
    // The table has nothing idle; some of it is rare.
    for difference in DIFFERENCES.iter().filter(|_| seed::is_long()) {
        assert!(found.contains_key(difference.name), "{} is not needed", difference.name);
    }
}

/// What may differ is narrow: a reply with any one byte changed is no reply that the stack could have given, but for the flow label,
/// and what is lost or too much is none, either.
#[test]
fn c95_no_other_byte_may_differ() {
    for (request, label) in [(Ping4::default().frame(), 0..0), (Ping6::default().frame(), 15..18)] {
        let reply = oracle::reply(&request, oracle::TTL);
        let accepts = |program: Vec<Vec<u8>>| {
            let stack = vec![reply.clone()];
            let exchange = Exchange { request: request.clone(), stack, stack_untagged: Vec::new(), program };
            differences(exchange).is_some()
        };
        assert!(accepts(vec![reply.clone()]));
        assert!(!accepts(Vec::new()) && !accepts(vec![reply.clone(), reply.clone()]));
        for at in (0..reply.len()).filter(|at| !label.contains(at)) {
            let mut other = reply.clone();
            other[at] ^= 0x10;
            assert!(!accepts(vec![other]), "byte {at} of {reply:02x?}");
        }
    }
}
