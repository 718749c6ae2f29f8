//! What a responder and filter of ICMP has to do, by number, and how icmpctl does it. `docs/conformance.md` is made of this list
//! and of the names of tests: the name of a test begins with the numbers that it covers (`c03_c53_...`).

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use proc_macro2::{TokenStream, TokenTree};

use crate::parity::{DIFFERENCES, Difference};

/// Something that has to be done.
pub struct Requirement {
    /// Its number, which is never used again.
    pub number: u8,
    /// Who demands it.
    pub source: &'static str,
    /// How it is met.
    pub how: &'static str,
}

const fn met(number: u8, source: &'static str, how: &'static str) -> Requirement {
    Requirement { number, source, how }
}

/// All of them, by subject.
pub const SUBJECTS: [(&str, &[Requirement]); 7] = [
    (
        "Echo over IPv4",
        &[
            met(
                1,
                "RFC 792, RFC 1122 3.2.2.6",
                "An echo request to a served address becomes its reply in place: addresses change places, and identifier, sequence number and data stay where they are.",
            ),
            met(
                2,
                "RFC 1122 3.2.2.6",
                "Data of any length comes back whole. A request of more than 9,600 bytes is left to the stack while checksums are verified.",
            ),
            met(
                3,
                "RFC 1624",
                "The reply's checksum is the request's, updated by a constant with end-around carry; that is right for all 65,536 values.",
            ),
            met(
                4,
                "RFC 1122 3.2.1.2",
                "A request whose IPv4 header checksum is wrong is not answered and counts as `bad-header-checksum`.",
            ),
            met(
                5,
                "RFC 1122 3.2.2",
                "A request whose ICMP checksum is wrong is dropped and counts as `bad-checksum`, unless `verify-checksum` is off. docs/policy.md says what verifying costs.",
            ),
            met(
                6,
                "RFC 1122 3.2.2.6",
                "The reply comes from the address that was asked, whether the host has it or the policy serves it.",
            ),
            met(
                7,
                "RFC 1122 3.2.2.6",
                "Nothing is answered for 255.255.255.255, the broadcast addresses of the interface's subnets, 224/4 and 240/4, not even where a served prefix covers them.",
            ),
            met(
                8,
                "RFC 1122 3.2.2",
                "A frame for a group's MAC address, or for another one than the interface's, is not answered.",
            ),
            met(
                9,
                "RFC 1122 3.2.1.3",
                "A source in 0/8, 127/8, 224/4 or 240/4, or that is the destination, gets no answer; it counts as `bad-source`.",
            ),
            met(10, "RFC 1812 4.3.2.5", "DSCP and ECN of the reply are the request's, as Linux has it."),
            met(11, "RFC 1122 3.2.1.7", "The reply's TTL is what `ttl` in `[respond]` says, 64 by default."),
            met(
                12,
                "RFC 6864",
                "A reply is no fragment. Identification and Don't Fragment are the request's: the top of `icmp-ebpf/src/answer.rs` says why.",
            ),
            met(
                13,
                "RFC 1122 3.2.2.6",
                "A request with IP options is the stack's, which fills in Record Route and Timestamp.",
            ),
            met(14, "RFC 791", "A fragment is the stack's, the first one as well as the others."),
            met(
                15,
                "RFC 1122 3.2.1, RFC 1812 5.2.2",
                "A header that can't be (IHL below 5, another version, lengths that contradict each other or the frame) is dropped and counts as `bad-header`.",
            ),
            met(
                16,
                "RFC 894",
                "What stands behind the packet's end in a frame is neither summed up nor counted as data; the reply is as long as the request.",
            ),
            met(
                17,
                "RFC 1812 4.3.3.6",
                "`enabled = false` in `[respond]` is the one switch for all answers; it is on by default.",
            ),
            met(18, "RFC 792", "An echo request with a code other than 0 is the stack's."),
            met(
                19,
                "RFC 1122 3.2.2.6",
                "Echo replies are the stack's, so that the host's own ping goes on working.",
            ),
            met(
                20,
                "RFC 1122 3.2.2.6",
                "What goes to an address that is not served is the stack's. The interface's own addresses are followed as they change.",
            ),
            met(
                21,
                "IEEE 802.1Q",
                "Up to two VLAN tags, of 802.1Q or 802.1ad, stay in the frame with their priority.",
            ),
            met(
                22,
                "RFC 1122 3.3.1",
                "A reply goes to the MAC address that its request came from, or where the routing table says if the policy wants that. Its own source is never a group's.",
            ),
            met(
                23,
                "RFC 1122 3.2.2.6",
                "A request that the interface itself has sent counts as `own-frame` and is not answered.",
            ),
        ],
    ),
    (
        "Timestamps and the other requests of IPv4",
        &[
            met(
                24,
                "RFC 1122 3.2.2.8",
                "With `timestamp = true` in `[respond]` a timestamp request is answered: originate is copied, receive and transmit are milliseconds since midnight UT.",
            ),
            met(
                25,
                "RFC 1122 3.2.2.8",
                "That clock is the kernel's clock of TAI, less its offset from UTC as it was when the policy was put in place; `icmpctl run` follows that.",
            ),
            met(
                26,
                "RFC 1122 3.2.2.8",
                "A timestamp request to a group, or one that is too short, gets no answer.",
            ),
            met(
                27,
                "CVE-1999-0524",
                "Timestamp requests are left to the stack unless the policy says `timestamp = true`.",
            ),
            met(28, "RFC 6918 2", "Information requests get no answer, neither here nor from Linux."),
            met(
                29,
                "RFC 1122 3.2.2.9",
                "Address mask requests get no answer, and no address mask reply is ever made.",
            ),
            met(
                30,
                "RFC 6633",
                "Nothing makes a source quench; the preset `deprecated` denies those that come.",
            ),
            met(
                31,
                "RFC 6918",
                "The preset `deprecated` denies types 4, 6, 15 to 18 and 30 to 39, and those alone.",
            ),
            met(
                32,
                "RFC 1122 3.2.2",
                "A type that nobody knows gets no answer; rules decide whether it reaches the stack.",
            ),
            met(
                33,
                "RFC 1812 5.2.7.2",
                "Nothing makes a redirect; the preset `no-redirects` denies those that come.",
            ),
            met(
                34,
                "RFC 1256",
                "Router advertisements and solicitations get no answer; rules decide whether they reach the stack.",
            ),
        ],
    ),
    (
        "The error that `reject` sends",
        &[
            met(
                35,
                "RFC 1812 5.2.7.1",
                "`reject` sends type 3 with code 13, or 9 or 10 if the rule says so; `deny` sends nothing.",
            ),
            met(
                36,
                "RFC 1122 3.2.2",
                "The error quotes the packet unchanged from its IP header on, options included.",
            ),
            met(37, "RFC 1812 4.3.2.3", "It quotes as much as there is room for in 576 bytes."),
            met(
                38,
                "RFC 1122 3.2.2",
                "There is none about an ICMP error or a type that is not known to be a query or its reply.",
            ),
            met(39, "RFC 1122 3.2.2", "There is none about a packet to a broadcast or multicast address."),
            met(
                40,
                "RFC 1122 3.2.2",
                "There is none about a frame to a group's MAC address, or to another one than the interface's.",
            ),
            met(41, "RFC 1122 3.2.2", "There is none about a fragment but the first."),
            met(42, "RFC 1122 3.2.2", "There is none to a source that is not one other host."),
            met(
                43,
                "RFC 1812 4.3.2.7",
                "There is none about a packet whose header is broken; such a packet is dropped before rules are asked.",
            ),
            met(44, "RFC 1812 4.3.2.5", "Its precedence is 6, and its TTL that of replies."),
            met(
                45,
                "RFC 1812 4.3.2.4",
                "It comes from the packet's destination if that is ours or served, else from an address of the interface; without one there is none.",
            ),
            met(
                46,
                "RFC 1812 4.3.2.8",
                "Errors are limited by source, IPv6 by /64, and in all; beyond that a rejected packet is dropped silently.",
            ),
            met(
                48,
                "Linux (`icmp_global_allow`)",
                "What an error takes from the total is drawn at random around one token, so that nobody can read from it how many others got errors.",
            ),
            met(
                50,
                "IEEE 802.1Q",
                "It leaves with the packet's VLAN tags; its checksums are right for packets of odd lengths, too.",
            ),
            met(51, "our own", "`rejected`, `rejected-silently` and `reject-over-limit` are counted apart."),
        ],
    ),
    (
        "ICMPv6",
        &[
            met(
                52,
                "RFC 4443 4.1, 4.2",
                "An echo request to a served address becomes its reply in place; identifier, sequence number and data stay where they are.",
            ),
            met(
                53,
                "RFC 4443 2.3",
                "The reply's checksum is the request's, updated by a constant, because the pseudo-header's sum does not change; that is right for all 65,536 values.",
            ),
            met(54, "RFC 4443 2.2", "The reply comes from the address that was asked."),
            met(55, "RFC 4443 4.2", "An echo request to a multicast address is the stack's."),
            met(
                57,
                "RFC 8200 7, RFC 6437",
                "Traffic class and flow label are the request's (see the top of `icmp-ebpf/src/answer.rs`), the hop limit is the configured one.",
            ),
            met(
                58,
                "RFC 4443 2.4, RFC 4291 2.5.2",
                "A source that is unspecified, multicast, loopback, mapped, or the destination gets no answer.",
            ),
            met(
                59,
                "RFC 8200, RFC 7112",
                "A packet with extension headers is the stack's; nothing is read beyond the frame's end, and what can't be is malformed.",
            ),
            met(
                61,
                "RFC 4443 2.4",
                "Errors of unknown types reach the stack; informational messages of unknown types get no answer.",
            ),
            met(62, "RFC 4443 3.1", "`reject` sends type 1 with code 1."),
            met(63, "RFC 4443 2.4 (c)", "It quotes as much as there is room for in 1280 bytes."),
            met(
                64,
                "RFC 4443 2.4 (e)",
                "There is none about errors and redirects, about what was sent to a group by IP or MAC address, and to a source that is not one node.",
            ),
            met(
                65,
                "RFC 4443 2.4 (f)",
                "Errors go through token buckets, 10 a second and 10 at once for each /64 unless the policy says otherwise.",
            ),
            met(
                67,
                "RFC 4861",
                "Neighbour Discovery with hop limit 255 passes all rules but those with `force`; with another hop limit it is a message as others are.",
            ),
            met(
                69,
                "RFC 2710, RFC 3810",
                "Multicast Listener Discovery with hop limit 1 passes all rules but those with `force`, behind the options that it has, too.",
            ),
            met(
                70,
                "RFC 4890 4.4.1",
                "A rule that would deny what IPv6 can't do without is refused with its number and the reason, unless it says `force`.",
            ),
            met(
                73,
                "RFC 4620",
                "Node information queries get no answer; the preset `rfc4890-host` denies them.",
            ),
            met(
                74,
                "RFC 1191, RFC 8201",
                "A rule that would deny Path MTU discovery, in either family, is refused unless it says `force`; one about all of ICMP does not reach it.",
            ),
        ],
    ),
    (
        "PROBE and errors that come in",
        &[
            met(
                75,
                "RFC 8335",
                "Extended echo requests are left to the stack unless the policy lists who may ask, in `probe` of `[respond]`; so is, then, what is not about the interface itself.",
            ),
            met(76, "RFC 8335 8", "Who is not in that list, or is not one host, gets no answer."),
            met(
                80,
                "RFC 5927 4",
                "`quoted-source mismatch` in a rule asks whether what an error quotes was sent by the address that the error goes to; the preset `sane-errors` denies what was not.",
            ),
            met(
                81,
                "RFC 5927 7, RFC 8201 4",
                "`quoted-mtu A-B` in a rule asks for the MTU that an error tells; the preset `sane-errors` denies those below 68 and 1280 bytes.",
            ),
        ],
    ),
    (
        "The filter",
        &[
            met(
                83,
                "Cisco IOS",
                "The first rule that matches decides; the default action stands in the policy; what is permitted is answered only where it is served.",
            ),
            met(84, "IANA registries", "Type 0 and code 0 are a type and a code like others, and so is 255."),
            met(
                85,
                "IANA registries",
                "A rule about `icmp` acts on both families, by the names of its types; what has no counterpart in the other family is refused.",
            ),
            met(86, "RFC 792", "TCP and UDP of the addresses that a rule names are untouched."),
            met(
                87,
                "RFC 1858, Cisco IOS",
                "Rules about types and codes match no fragment but the first; the others are matched by `fragments` and by rules about all of ICMP.",
            ),
            met(
                88,
                "Cisco IOS",
                "What is over a limit is dropped silently, or passes if the rule says `exceed pass`.",
            ),
            met(
                89,
                "ITU-T I.371",
                "A rate is kept within 2 % in any second, with exactly its burst after idling and nothing to be gained at the edge of any window, on one CPU and on several.",
            ),
            met(
                90,
                "RFC 4732",
                "The buckets' memory is fixed; a flood from forged sources takes nothing from buckets that are in use. ARCHITECTURE.md says how, `cargo xtask run` shows it.",
            ),
            met(
                92,
                "RFC 4890",
                "The preset `flood-guard` gives echo, errors and everything else limits of their own, and none to what keeps the network up.",
            ),
            met(93, "RFC 1122 3.2.2", "What is not ICMP leaves as it came, and is not counted."),
            met(
                94,
                "our own",
                "Each ICMP packet is counted once: received is answered, passed, denied, limited and malformed together, in each family, and under load, too.",
            ),
        ],
    ),
    (
        "Beside the stack",
        &[
            met(
                95,
                "Linux",
                "What comes back from a host with the program is what comes back from it without, but for the differences below.",
            ),
            met(
                96,
                "Linux (`icmp_echo_ignore_all`)",
                "XDP runs before the stack: where `net.ipv4.icmp_echo_ignore_all` is set, what is served is answered all the same. `icmpctl doctor` says so.",
            ),
            met(
                97,
                "Linux (`rp_filter`)",
                "XDP runs before the stack: a request whose source `rp_filter` would refuse is answered where its frame came from. `icmpctl doctor` says so; with `next-hop = \"fib\"` the reply goes only where the routing table leads.",
            ),
        ],
    ),
];

/// The tests of the workspace that cover numbers, by number; each is a file's path, from the workspace's root, and a name.
pub type Covered = BTreeMap<u8, Vec<(String, String)>>;

/// Looks through the sources of a workspace.
///
/// # Panics
///
/// Panics if they can't be read.
#[must_use]
pub fn covered(workspace: &Path) -> Covered {
    let mut covered = Covered::new();
    for member in ["icmp-common", "icmp-ebpf", "icmp-userspace", "tests", "xtask"] {
        for path in sources(&workspace.join(member)) {
            let text = fs::read_to_string(&path).unwrap();
            let file = path.strip_prefix(workspace).unwrap().to_str().unwrap();
            for name in tests(&text) {
                for number in numbers(&name) {
                    covered.entry(number).or_default().push((file.to_owned(), name.clone()));
                }
            }
        }
    }
    covered
}

/// The Rust sources in a directory, in order.
fn sources(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut entries: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    let mut found = Vec::new();
    for path in entries {
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// Why a test may be marked as ignored.
const PRIVILEGED: &str = "ignore = \"needs root and BPF\"";

/// The names of the tests in a source: functions behind `#[test]`, also in macros, and what is listed for the macro
/// `in_both_builds`. Strings and comments are none, and neither is a test that is always ignored.
///
/// # Panics
///
/// Panics if it is no Rust.
#[must_use]
pub fn tests(source: &str) -> Vec<String> {
    let mut names = Vec::new();
    find_tests(source.parse().unwrap(), &mut names);
    names
}

fn find_tests(tokens: TokenStream, names: &mut Vec<String>) {
    let (mut is_test, mut is_ignored, mut is_list) = (false, false, false);
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == '#' => {
                let attribute = tokens.next_if(|token| matches!(token, TokenTree::Group(_)));
                if let Some(TokenTree::Group(attribute)) = attribute {
                    let text = attribute.stream().to_string();
                    is_test |= text == "test";
                    is_ignored |= text.starts_with("ignore") && text != PRIVILEGED;
                }
            }
            TokenTree::Ident(word) if word == "fn" => {
                if let (true, false, Some(TokenTree::Ident(name))) = (is_test, is_ignored, tokens.peek()) {
                    names.push(name.to_string());
                }
                (is_test, is_ignored) = (false, false);
            }
            TokenTree::Ident(word) if word == "in_both_builds" => is_list = true,
            TokenTree::Group(group) if is_list => {
                let listed = group.stream().into_iter().filter_map(|token| match token {
                    TokenTree::Ident(name) => Some(name.to_string()),
                    _ => None,
                });
                names.extend(listed);
                is_list = false;
            }
            TokenTree::Group(group) => find_tests(group.stream(), names),
            _ => {}
        }
    }
}

/// The numbers that a test's name begins with.
pub fn numbers(name: &str) -> impl Iterator<Item = u8> {
    name.split('_').map_while(|word| {
        let digits = word.strip_prefix('c').filter(|digits| digits.len() == 2)?;
        digits.parse().ok()
    })
}

/// The document: every requirement with its tests, then what differs from Linux.
#[must_use]
pub fn document(covered: &Covered) -> String {
    let mut text = HEAD.to_owned();
    for (subject, requirements) in SUBJECTS {
        let _ = write!(text, "\n## {subject}\n");
        for Requirement { number, source, how } in requirements {
            let _ = write!(text, "\n**C{number}** ({source}). {how}\n\n");
            let mut files = BTreeMap::<&str, Vec<String>>::new();
            for (file, name) in covered.get(number).into_iter().flatten() {
                files.entry(file).or_default().push(format!("`{name}`"));
            }
            for (file, names) in &files {
                let _ = writeln!(text, "- [{file}](../{file}): {}", names.join(", "));
            }
        }
    }
    text.push_str(DIFFERENCES_HEAD);
    for Difference { name, what, why, .. } in DIFFERENCES {
        let _ = write!(text, "\n**{name}.** {what}\nWhy: {why}\n");
    }
    text
}

const HEAD: &str = "\
# Conformance

What standards and Linux demand of whoever answers and filters ICMP, how icmpctl meets it, and the tests that show it. Numbers
stay what they are; those that are missing mean nothing. \"The stack's\" is what leaves with `XDP_PASS` and not one byte changed.

This file is made by `ICMPCTL_BLESS=1 cargo test -p icmp-tests --test conformance_listed`, from the list in
`tests/src/conformance.rs` and from the names of tests, which begin with the numbers that they cover. Tests of the loaded
program and of real interfaces need root and BPF: `cargo xtask test` runs all of them.
";

const DIFFERENCES_HEAD: &str = "
## Intended differences from Linux

Where a host answers otherwise with icmpctl attached than without it. The test of C95 sends random frames to both and lets nothing
else differ; this is its list, in `tests/src/parity.rs`.
";
