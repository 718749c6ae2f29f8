//! In which ways a host with the program may differ from the same host without it, as seen from outside. Whatever else differs is a
//! fault (C95).

use etherparse::Ipv4Header;

/// A frame that went to both hosts, and what each sent back. The outer VLAN tag of what comes back is not seen.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The frame.
    pub request: Vec<u8>,
    /// What the stack alone sent back.
    pub stack: Vec<Vec<u8>>,
    /// What it sent back to the same without VLAN tags.
    pub stack_untagged: Vec<Vec<u8>>,
    /// What came back from behind the program.
    pub program: Vec<Vec<u8>>,
}

/// A way in which they may differ.
pub struct Difference {
    /// A word for it.
    pub name: &'static str,
    /// What differs.
    pub what: &'static str,
    /// Why it is meant to.
    pub why: &'static str,
    /// Makes this difference vanish, and no other.
    settle: fn(&mut Exchange),
}

/// All of them.
pub const DIFFERENCES: &[Difference] = &[
    Difference {
        name: "vlan",
        what: "An echo request behind VLAN tags is answered behind the same tags; the stack takes no tagged frame without a VLAN interface.",
        why: "XDP sees frames before VLAN interfaces do, and served addresses are served on every VLAN.",
        settle: settle_tags,
    },
    Difference {
        name: "identification",
        what: "A reply over IPv4 has the identification and the Don't Fragment bit of its request; the stack's has its own.",
        why: "RFC 6864: what is unique for a pair of addresses is so for the reversed pair, and nothing has to be counted.",
        settle: |exchange| {
            for reply in exchange.replies() {
                forget_identification(reply);
            }
        },
    },
    Difference {
        name: "flow-label",
        what: "A reply over IPv6 has its request's flow label; the stack's has one of its own, or with net.ipv6.flowlabel_reflect the request's.",
        why: "RFC 6437 leaves it to the host; a request and its reply stay one flow for whoever spreads load by it.",
        settle: |exchange| {
            for reply in exchange.replies().filter(|reply| is_echo_reply6(reply)) {
                reply[15] &= 0xf0;
                reply[16..18].fill(0);
            }
        },
    },
    Difference {
        name: "next-hop",
        what: "A reply goes to the MAC address that its request came from; the stack's goes where the routing table says.",
        why: "`next-hop = \"swap\"`, the default, asks no table; `next-hop = \"fib\"` is there for those who need the stack's way.",
        settle: |exchange| {
            let from = exchange.request[6..12].to_vec();
            let swapped =
                exchange.program.iter_mut().filter(|reply| is_echo_reply(reply) && reply[..6] == from);
            swapped.for_each(|reply| reply[..6].fill(0));
            exchange
                .stack
                .iter_mut()
                .filter(|reply| is_echo_reply(reply))
                .for_each(|reply| reply[..6].fill(0));
        },
    },
];

/// The differences of an exchange; `None` if there are others.
#[must_use]
pub fn differences(mut exchange: Exchange) -> Option<Vec<&'static Difference>> {
    let mut found = Vec::new();
    for difference in DIFFERENCES {
        if exchange.stack == exchange.program {
            break;
        }
        let before = exchange.clone();
        (difference.settle)(&mut exchange);
        if exchange.stack != before.stack || exchange.program != before.program {
            found.push(difference);
        }
    }
    (exchange.stack == exchange.program).then_some(found)
}

impl Exchange {
    fn replies(&mut self) -> impl Iterator<Item = &mut Vec<u8>> {
        self.stack.iter_mut().chain(&mut self.program)
    }
}

fn settle_tags(exchange: &mut Exchange) {
    let tags: Vec<u8> =
        exchange.request[12..].chunks(4).take_while(|tag| is_tag(tag)).flatten().copied().collect();
    let Some(inner) = tags.get(4..) else { return };
    let [reply] = &mut *exchange.program else { return };
    if reply[12..].starts_with(inner) && is_echo_reply(&[&reply[..12], &reply[12 + inner.len()..]].concat()) {
        reply.drain(12..12 + inner.len());
        exchange.stack.clone_from(&exchange.stack_untagged);
    }
}

fn is_tag(bytes: &[u8]) -> bool {
    matches!(bytes, [0x81, 0x00, _, _] | [0x88, 0xa8, _, _])
}

/// Whether a frame without tags is an echo reply.
#[must_use]
pub fn is_echo_reply(frame: &[u8]) -> bool {
    is_echo_reply6(frame) || frame[12..].starts_with(&[0x08, 0x00, 0x45]) && frame[23] == 1 && frame[34] == 0
}

fn is_echo_reply6(frame: &[u8]) -> bool {
    frame[12..].starts_with(&[0x86, 0xdd]) && frame[20] == 58 && frame[54] == 129
}

/// Takes identification, Don't Fragment and what follows from them out of an IPv4 header whose checksum is right.
fn forget_identification(frame: &mut [u8]) {
    if !frame[12..].starts_with(&[0x08, 0x00]) {
        return;
    }
    let Ok((mut header, _)) = Ipv4Header::from_slice(&frame[14..]) else { return };
    if header.header_checksum != header.calc_header_checksum() {
        return;
    }
    header.identification = 0;
    header.dont_fragment = false;
    header.header_checksum = 0;
    let bytes = header.to_bytes();
    frame[14..14 + bytes.len()].copy_from_slice(&bytes);
}
