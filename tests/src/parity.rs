//! In which ways a host with the program may differ from the same host without it, as seen from outside. Whatever else differs is a
//! fault (C95).

use etherparse::checksum::Sum16BitWords;

use crate::frames::{ELSEWHERE4, ELSEWHERE6, SERVER_LINK_LOCAL, SERVER4, SERVER4_TOO, SERVER6, SERVER6_TOO};

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
        what: "An echo request behind VLAN tags is answered behind the same tags; the stack takes no tagged frame without a VLAN \
               interface.",
        why: "XDP sees frames before VLAN interfaces do, and served addresses are served on every VLAN.",
        settle: settle_tags,
    },
    Difference {
        name: "source",
        what: "An echo request from another address of the host's own, or from its network's broadcast address, is answered; the stack \
               drops it by its source (with net.ipv4.conf.*.rp_filter), or sends the reply to itself.",
        why: "It would take a look-up of every source. The reply goes back to the MAC address that it is owed to, to nobody else; and \
              whom the host does not want to answer, an access list can name.",
        settle: settle_source,
    },
    Difference {
        name: "padding",
        what: "Bytes that stand behind the packet in a frame come back behind the reply, and so does what a timestamp reply is too short \
               for, as far as Ethernet's shortest frame goes; the stack sends the reply alone.",
        why: "Nothing is gained by taking them off, and Ethernet's shortest frames need them.",
        settle: settle_padding,
    },
    Difference {
        name: "identification",
        what: "A reply over IPv4 has the identification, the Don't Fragment bit and the reserved bit of its request; the stack's has \
               its own.",
        why: "RFC 6864: what is unique for a pair of addresses is so for the reversed pair, and nothing has to be counted.",
        settle: |exchange| {
            for reply in exchange.replies() {
                forget_identification(reply);
            }
        },
    },
    Difference {
        name: "flow-label",
        what: "A reply over IPv6 has its request's flow label; the stack's has one of its own, or with net.ipv6.flowlabel_reflect the \
               request's.",
        why: "RFC 6437 leaves it to the host; a request and its reply stay one flow for whoever spreads load by it.",
        settle: |exchange| {
            for reply in exchange.replies().filter(|reply| is_echo_reply6(reply)) {
                reply[15] &= 0xf0;
                reply[16..18].fill(0);
            }
        },
    },
    Difference {
        name: "zeros",
        what: "The reply to a request without a bit set in identifier, sequence number and data has the checksum 0xffff; the stack's \
               has 0, which receivers take for wrong.",
        why: "RFC 1071: the sum of nothing but zeros is 0, and the checksum is its complement.",
        settle: settle_zeros,
    },
    Difference {
        name: "short",
        what: "An ICMP message of less than 8 bytes behind wrong IPv4 options is dropped; the stack reports the options.",
        why: "Broken is broken: what can't be an ICMP message is dropped before anybody looks at options.",
        settle: settle_short,
    },
    Difference {
        name: "short-timestamp",
        what: "A timestamp request of less than 20 bytes is dropped where such requests are answered; the stack answers those of 12 bytes \
               and more.",
        why: "RFC 792: all three timestamps are part of the message.",
        settle: |exchange| {
            let request = untagged(&exchange.request);
            let is_timestamp = request[12..].starts_with(&[0x08, 0x00, 0x45]) && request.get(34) == Some(&13);
            let length = request.get(16..18).map_or(0, |length| u16::from_be_bytes([length[0], length[1]]));
            if is_timestamp && length < 40 && exchange.program.is_empty() {
                exchange.stack.retain(|reply| !is_answer(reply));
            }
        },
    },
    Difference {
        name: "next-hop",
        what: "A reply goes to the MAC address that its request came from; the stack's goes where the routing table says.",
        why: "`next-hop = \"swap\"`, the default, asks no table; `next-hop = \"fib\"` is there for those who need the stack's way.",
        settle: |exchange| {
            let from = exchange.request[6..12].to_vec();
            let swapped = exchange.program.iter_mut().filter(|reply| is_answer(reply) && reply[..6] == from);
            swapped.for_each(|reply| reply[..6].fill(0));
            exchange.stack.iter_mut().filter(|reply| is_answer(reply)).for_each(|reply| reply[..6].fill(0));
        },
    },
];

/// The differences of an exchange; `None` if there are others.
#[must_use]
pub fn differences(mut exchange: Exchange) -> Option<Vec<&'static Difference>> {
    let mut found = Vec::new();
    exchange.replies().for_each(|reply| forget_time(reply));
    exchange.stack_untagged.iter_mut().for_each(|reply| forget_time(reply));
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
    let tags = exchange.request.len() - untagged(&exchange.request).len();
    let tags = exchange.request[12..12 + tags].to_vec();
    let Some(inner) = tags.get(4..) else { return };
    let [reply] = &mut *exchange.program else { return };
    if reply[12..].starts_with(inner) && is_answer(&[&reply[..12], &reply[12 + inner.len()..]].concat()) {
        reply.drain(12..12 + inner.len());
        forget_time(reply);
        exchange.stack.clone_from(&exchange.stack_untagged);
    }
}

fn settle_source(exchange: &mut Exchange) {
    let request = untagged(&exchange.request);
    let own = match request[12..14] {
        [0x08, 0x00] => {
            let own = [SERVER4, SERVER4_TOO.octets(), ELSEWHERE4.octets(), [192, 0, 2, 255]];
            request.get(26..30).is_some_and(|source| own.iter().any(|own| own == source))
        }
        _ => {
            let own = [SERVER6, SERVER6_TOO.octets(), ELSEWHERE6.octets(), SERVER_LINK_LOCAL.octets()];
            request.get(22..38).is_some_and(|source| own.iter().any(|own| own == source))
        }
    };
    if own && exchange.stack.is_empty() && exchange.program.iter().all(|reply| is_answer(reply)) {
        exchange.program.clear();
    }
}

fn settle_zeros(exchange: &mut Exchange) {
    for reply in exchange.stack.iter_mut().filter(|reply| is_answer(reply) && !is_echo_reply6(reply)) {
        if reply[34..].iter().all(|byte| *byte == 0) {
            reply[36..38].fill(0xff);
        }
    }
}

fn settle_short(exchange: &mut Exchange) {
    let request = untagged(&exchange.request);
    let [0x08, 0x00, first, _, upper, lower] = request[12..18] else { return };
    let (header, total) = (4 * usize::from(first & 15), usize::from(u16::from_be_bytes([upper, lower])));
    let short = request.get(23) == Some(&1) && header > 20 && total < header + 8;
    if short && exchange.program.is_empty() {
        // Which has the options that are right.
        let reports = |reply: &[u8]| reply[23] == 1 && reply[14 + header_length(reply)] == 12;
        exchange.stack.retain(|reply| !reports(reply));
    }
}

fn settle_padding(exchange: &mut Exchange) {
    for reply in exchange.program.iter_mut().filter(|reply| is_answer(reply)) {
        let field = |at: usize| usize::from(u16::from_be_bytes([reply[at], reply[at + 1]]));
        let length = if is_echo_reply6(reply) { 40 + field(18) } else { field(16) };
        reply.truncate(14 + length);
    }
}

/// A frame without its VLAN tags.
#[must_use]
pub fn untagged(frame: &[u8]) -> Vec<u8> {
    let Some((addresses, rest)) = frame.split_at_checked(12) else { return frame.to_vec() };
    let is_tag = |bytes: &[u8]| matches!(bytes, [0x81, 0x00, _, _] | [0x88, 0xa8, _, _]);
    let tags = rest.chunks(4).take_while(|bytes| is_tag(bytes)).count();
    [addresses, &rest[4 * tags..]].concat()
}

/// Whether a frame without tags is an answer: an echo reply or a timestamp reply.
#[must_use]
pub fn is_answer(frame: &[u8]) -> bool {
    let is_icmp4 = frame[12..].starts_with(&[0x08, 0x00, 0x45]) && frame[23] == 1;
    is_echo_reply6(frame) || is_icmp4 && matches!(frame[34], 0 | 14)
}

fn is_echo_reply6(frame: &[u8]) -> bool {
    frame[12..].starts_with(&[0x86, 0xdd]) && frame[20] == 58 && frame[54] == 129
}

/// The length of a frame's IPv4 header.
fn header_length(frame: &[u8]) -> usize {
    4 * usize::from(frame[14] & 15)
}

/// Takes identification, Don't Fragment, the reserved flag and what follows from them out of an IPv4 header whose checksum is right.
fn forget_identification(frame: &mut [u8]) {
    if frame[12..14] != [0x08, 0x00] {
        return;
    }
    let length = header_length(frame);
    let header = &mut frame[14..14 + length];
    change(header, 10, |header| {
        header[4..6].fill(0);
        header[6] &= 0x3f;
    });
}

/// Takes the time of day out of Timestamp Replies and Timestamp options, also quoted ones, and out of checksums that are right.
fn forget_time(frame: &mut [u8]) {
    if frame[12..14] != [0x08, 0x00] {
        return;
    }
    let length = header_length(frame);
    // Without what stands behind the packet.
    let total = usize::from(u16::from_be_bytes([frame[16], frame[17]])).min(frame.len() - 14);
    let (header, message) = frame[14..14 + total].split_at_mut(length);
    change(header, 10, forget_timestamps);
    if header[9] == 1 {
        change(message, 2, |message| match message[0] {
            14 if message.len() >= 20 => message[12..20].fill(0),
            3 | 11 | 12 if message.len() >= 28 => {
                let most = message.len() - 8;
                let length = most.min(4 * usize::from(message[8] & 15));
                forget_timestamps(&mut message[8..8 + length]);
            }
            _ => {}
        });
    }
}

/// Takes the time of day out of Timestamp options of an IPv4 header.
fn forget_timestamps(header: &mut [u8]) {
    let mut at = 20;
    while at + 1 < header.len() && header[at] != 0 {
        let room = header.len() - at;
        let length = if header[at] == 1 { 1 } else { usize::from(header[at + 1]).clamp(1, room) };
        if header[at] == 68 && length > 4 {
            header[at + 4..at + length].fill(0);
        }
        at += length;
    }
}

/// Changes what a checksum, which stands at `at`, covers; if that is right, it is so afterwards.
fn change(bytes: &mut [u8], at: usize, change: impl FnOnce(&mut [u8])) {
    let sum = |bytes: &[u8]| Sum16BitWords::new().add_slice(bytes).ones_complement();
    if sum(bytes) == 0 {
        change(bytes);
        bytes[at..at + 2].fill(0);
        let checksum = sum(bytes);
        bytes[at..at + 2].copy_from_slice(&checksum.to_ne_bytes());
    }
}
