//! Names of message types and codes: the words of routers (Cisco IOS), those of nftables, and one for every other type that
//! the IANA registries list.
//!
//! One row is one name. A name that means the same thing in both families has a kind in each; where only one family
//! has such a message, or the word is one family's own (`nd-redirect`), the other stays empty. Where several rows have the
//! same kinds, the first is the name that is printed.

use std::{collections::HashMap, sync::LazyLock};

use icmp_common::Family;

/// A type, and one code of it or all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind {
    /// The type.
    pub kind: u8,
    /// The code; `None` where the name stands for the type with all its codes.
    pub code: Option<u8>,
}

/// A name, and what it stands for in each family, by the number of the [`Family`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// The name.
    pub text: &'static str,
    /// Its kinds; at least one.
    pub kinds: [Option<Kind>; 2],
}

impl Name {
    /// What it stands for in a family.
    #[must_use]
    pub const fn in_family(&self, family: Family) -> Option<Kind> {
        self.kinds[family as usize]
    }
}

/// A type that both families have.
const fn both(text: &'static str, v4: u8, v6: u8) -> Name {
    Name { text, kinds: [Some(Kind { kind: v4, code: None }), Some(Kind { kind: v6, code: None })] }
}

/// A type of ICMP.
const fn v4(text: &'static str, kind: u8) -> Name {
    Name { text, kinds: [Some(Kind { kind, code: None }), None] }
}

/// A type of ICMPv6.
const fn v6(text: &'static str, kind: u8) -> Name {
    Name { text, kinds: [None, Some(Kind { kind, code: None })] }
}

/// A code that both families have, of the types before the slashes.
const fn both_codes(text: &'static str, v4: (u8, u8), v6: (u8, u8)) -> Name {
    Name {
        text,
        kinds: [Some(Kind { kind: v4.0, code: Some(v4.1) }), Some(Kind { kind: v6.0, code: Some(v6.1) })],
    }
}

/// A code of an ICMP type.
const fn v4_code(text: &'static str, kind: u8, code: u8) -> Name {
    Name { text, kinds: [Some(Kind { kind, code: Some(code) }), None] }
}

/// A code of an ICMPv6 type.
const fn v6_code(text: &'static str, kind: u8, code: u8) -> Name {
    Name { text, kinds: [None, Some(Kind { kind, code: Some(code) })] }
}

/// All names.
pub static NAMES: &[Name] = &[
    // What both families have.
    both("echo", 8, 128),
    both("echo-reply", 0, 129),
    both("unreachable", 3, 1),
    both("time-exceeded", 11, 3),
    both("parameter-problem", 12, 4),
    both("redirect", 5, 137),
    both("router-solicitation", 10, 133),
    both("router-advertisement", 9, 134),
    both("extended-echo-request", 42, 160),
    both("extended-echo-reply", 43, 161),
    both("experimental-mobility", 41, 150),
    both("reserved-255", 255, 255),
    both("echo-request", 8, 128),
    both("destination-unreachable", 3, 1),
    // One message in IPv6, one code of a message in IPv4.
    Name {
        text: "packet-too-big",
        kinds: [Some(Kind { kind: 3, code: Some(4) }), Some(Kind { kind: 2, code: None })],
    },
    both_codes("port-unreachable", (3, 3), (1, 4)),
    both_codes("administratively-prohibited", (3, 13), (1, 1)),
    both_codes("admin-prohibited", (3, 13), (1, 1)),
    both_codes("ttl-exceeded", (11, 0), (3, 0)),
    both_codes("reassembly-timeout", (11, 1), (3, 1)),
    // Codes of IPv4's unreachable.
    v4_code("net-unreachable", 3, 0),
    v4_code("host-unreachable", 3, 1),
    v4_code("protocol-unreachable", 3, 2),
    v4_code("prot-unreachable", 3, 2),
    v4_code("fragmentation-needed", 3, 4),
    v4_code("frag-needed", 3, 4),
    v4_code("source-route-failed", 3, 5),
    v4_code("network-unknown", 3, 6),
    v4_code("host-unknown", 3, 7),
    v4_code("host-isolated", 3, 8),
    v4_code("dod-net-prohibited", 3, 9),
    v4_code("net-prohibited", 3, 9),
    v4_code("dod-host-prohibited", 3, 10),
    v4_code("host-prohibited", 3, 10),
    v4_code("net-tos-unreachable", 3, 11),
    v4_code("host-tos-unreachable", 3, 12),
    v4_code("host-precedence-unreachable", 3, 14),
    v4_code("precedence-unreachable", 3, 15),
    // Codes of IPv4's other types.
    v4_code("net-redirect", 5, 0),
    v4_code("host-redirect", 5, 1),
    v4_code("net-tos-redirect", 5, 2),
    v4_code("host-tos-redirect", 5, 3),
    v4_code("no-common-traffic", 9, 16),
    v4_code("general-parameter-problem", 12, 0),
    v4_code("option-missing", 12, 1),
    v4_code("no-room-for-option", 12, 2),
    // IPv4 alone; most of these have been deprecated.
    v4("unassigned-1", 1),
    v4("unassigned-2", 2),
    v4("source-quench", 4),
    v4("alternate-address", 6),
    v4("unassigned-7", 7),
    v4("timestamp-request", 13),
    v4("timestamp-reply", 14),
    v4("information-request", 15),
    v4("info-request", 15),
    v4("information-reply", 16),
    v4("info-reply", 16),
    v4("mask-request", 17),
    v4("address-mask-request", 17),
    v4("mask-reply", 18),
    v4("address-mask-reply", 18),
    v4("reserved-19", 19),
    v4("reserved-20", 20),
    v4("reserved-21", 21),
    v4("reserved-22", 22),
    v4("reserved-23", 23),
    v4("reserved-24", 24),
    v4("reserved-25", 25),
    v4("reserved-26", 26),
    v4("reserved-27", 27),
    v4("reserved-28", 28),
    v4("reserved-29", 29),
    v4("traceroute", 30),
    v4("conversion-error", 31),
    v4("mobile-redirect", 32),
    v4("where-are-you", 33),
    v4("i-am-here", 34),
    v4("mobile-registration-request", 35),
    v4("mobile-registration-reply", 36),
    v4("domain-name-request", 37),
    v4("domain-name-reply", 38),
    v4("skip", 39),
    v4("photuris", 40),
    v4("experiment-253", 253),
    v4("experiment-254", 254),
    // Codes of IPv6's errors.
    v6_code("no-route", 1, 0),
    v6_code("no-admin", 1, 1),
    v6_code("beyond-scope", 1, 2),
    v6_code("address-unreachable", 1, 3),
    v6_code("addr-unreachable", 1, 3),
    v6_code("policy-fail", 1, 5),
    v6_code("reject-route", 1, 6),
    v6_code("source-routing-error", 1, 7),
    v6_code("headers-too-long", 1, 8),
    v6_code("hop-limit", 3, 0),
    v6_code("header", 4, 0),
    v6_code("next-header", 4, 1),
    v6_code("parameter-option", 4, 2),
    v6_code("incomplete-header-chain", 4, 3),
    v6_code("upper-layer-header", 4, 4),
    v6_code("next-header-on-the-way", 4, 5),
    v6_code("extension-header-too-big", 4, 6),
    v6_code("header-chain-too-long", 4, 7),
    v6_code("too-many-headers", 4, 8),
    v6_code("too-many-options", 4, 9),
    v6_code("option-too-big", 4, 10),
    // IPv6 alone.
    v6("experiment-100", 100),
    v6("experiment-101", 101),
    v6("reserved-127", 127),
    v6("mld-query", 130),
    v6("mld-listener-query", 130),
    v6("mld-report", 131),
    v6("mld-listener-report", 131),
    v6("mld-reduction", 132),
    v6("mld-listener-reduction", 132),
    v6("mld-listener-done", 132),
    v6("nd-router-solicit", 133),
    v6("nd-router-advert", 134),
    v6("nd-ns", 135),
    v6("nd-neighbor-solicit", 135),
    v6("neighbor-solicitation", 135),
    v6("nd-na", 136),
    v6("nd-neighbor-advert", 136),
    v6("neighbor-advertisement", 136),
    v6("nd-redirect", 137),
    v6("router-renumbering", 138),
    v6_code("renum-command", 138, 0),
    v6_code("renum-result", 138, 1),
    v6_code("renum-seq-number", 138, 255),
    v6("node-information-query", 139),
    v6("node-information-response", 140),
    v6("ind-neighbor-solicit", 141),
    v6("ind-neighbor-advert", 142),
    v6("mld2-listener-report", 143),
    v6("mldv2-report", 143),
    v6("dhaad-request", 144),
    v6("dhaad-reply", 145),
    v6("mpd-solicitation", 146),
    v6("mpd-advertisement", 147),
    v6("certification-path-solicitation", 148),
    v6("certification-path-advertisement", 149),
    v6("multicast-router-advertisement", 151),
    v6("multicast-router-solicitation", 152),
    v6("multicast-router-termination", 153),
    v6("fmipv6", 154),
    v6("rpl-control", 155),
    v6("ilnpv6-locator-update", 156),
    v6("duplicate-address-request", 157),
    v6("duplicate-address-confirmation", 158),
    v6("mpl-control", 159),
    v6("experiment-200", 200),
    v6("experiment-201", 201),
];

static BY_TEXT: LazyLock<HashMap<&str, &Name>> =
    LazyLock::new(|| NAMES.iter().map(|name| (name.text, name)).collect());

/// The first name of each kind that one family has.
static BY_KIND: LazyLock<[HashMap<Kind, &str>; 2]> = LazyLock::new(|| {
    Family::ALL.map(|family| {
        let mut first = HashMap::new();
        for name in NAMES {
            if let Some(kind) = name.in_family(family) {
                first.entry(kind).or_insert(name.text);
            }
        }
        first
    })
});

/// The first name of each pair of kinds.
static BY_PAIR: LazyLock<HashMap<[Kind; 2], &str>> = LazyLock::new(|| {
    let mut first = HashMap::new();
    for name in NAMES {
        if let [Some(v4), Some(v6)] = name.kinds {
            first.entry([v4, v6]).or_insert(name.text);
        }
    }
    first
});

/// What a name stands for.
#[must_use]
pub fn find(text: &str) -> Option<&'static Name> {
    BY_TEXT.get(text).copied()
}

/// The name that is printed for a kind of one family.
#[must_use]
pub fn of(family: Family, kind: u8, code: Option<u8>) -> Option<&'static str> {
    BY_KIND[family as usize].get(&Kind { kind, code }).copied()
}

/// The name that is printed for what is one kind in IPv4 and another in IPv6.
#[must_use]
pub fn of_pair(pair: [Kind; 2]) -> Option<&'static str> {
    BY_PAIR.get(&pair).copied()
}

/// Whether any code of a type has a name.
#[must_use]
pub fn has_codes(family: Family, kind: u8) -> bool {
    (0..=u8::MAX).any(|code| of(family, kind, Some(code)).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_stands_twice() {
        assert_eq!(BY_TEXT.len(), NAMES.len());
    }

    /// A name that is a number or a range, or that has other characters than the language allows, could not be written.
    #[test]
    fn names_can_be_written() {
        for name in NAMES {
            assert!(name.text.starts_with(|first: char| first.is_ascii_lowercase()), "{}", name.text);
            let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(name.text.chars().all(allowed), "{}", name.text);
        }
    }

    #[test]
    fn every_registered_type_has_a_name() {
        for kind in (0..=43).chain(253..=255) {
            assert!(of(Family::Ipv4, kind, None).is_some(), "ICMP type {kind}");
        }
        let v6 = (1..=4).chain([100, 101, 127]).chain(128..=161).chain([200, 201, 255]);
        for kind in v6.filter(|kind| *kind != 2) {
            assert!(of(Family::Ipv6, kind, None).is_some(), "ICMPv6 type {kind}");
        }
        assert_eq!(of(Family::Ipv6, 2, None), Some("packet-too-big"));
    }

    /// The keywords of Cisco IOS for ICMP, with the numbers that the registry gives their messages.
    #[test]
    fn knows_the_words_of_ios() {
        let all = |code| Kind { kind: code, code: None };
        let coded = |kind, code| Kind { kind, code: Some(code) };
        for (text, kind) in [
            ("administratively-prohibited", coded(3, 13)),
            ("alternate-address", all(6)),
            ("conversion-error", all(31)),
            ("dod-host-prohibited", coded(3, 10)),
            ("dod-net-prohibited", coded(3, 9)),
            ("echo", all(8)),
            ("echo-reply", all(0)),
            ("general-parameter-problem", coded(12, 0)),
            ("host-isolated", coded(3, 8)),
            ("host-precedence-unreachable", coded(3, 14)),
            ("host-redirect", coded(5, 1)),
            ("host-tos-redirect", coded(5, 3)),
            ("host-tos-unreachable", coded(3, 12)),
            ("host-unknown", coded(3, 7)),
            ("host-unreachable", coded(3, 1)),
            ("information-reply", all(16)),
            ("information-request", all(15)),
            ("mask-reply", all(18)),
            ("mask-request", all(17)),
            ("mobile-redirect", all(32)),
            ("net-redirect", coded(5, 0)),
            ("net-tos-redirect", coded(5, 2)),
            ("net-tos-unreachable", coded(3, 11)),
            ("net-unreachable", coded(3, 0)),
            ("network-unknown", coded(3, 6)),
            ("no-room-for-option", coded(12, 2)),
            ("option-missing", coded(12, 1)),
            ("packet-too-big", coded(3, 4)),
            ("parameter-problem", all(12)),
            ("port-unreachable", coded(3, 3)),
            ("precedence-unreachable", coded(3, 15)),
            ("protocol-unreachable", coded(3, 2)),
            ("reassembly-timeout", coded(11, 1)),
            ("redirect", all(5)),
            ("router-advertisement", all(9)),
            ("router-solicitation", all(10)),
            ("source-quench", all(4)),
            ("source-route-failed", coded(3, 5)),
            ("time-exceeded", all(11)),
            ("timestamp-reply", all(14)),
            ("timestamp-request", all(13)),
            ("traceroute", all(30)),
            ("ttl-exceeded", coded(11, 0)),
            ("unreachable", all(3)),
        ] {
            assert_eq!(find(text).unwrap().in_family(Family::Ipv4), Some(kind), "{text}");
        }
        for (text, kind) in [
            ("beyond-scope", coded(1, 2)),
            ("dhaad-reply", all(145)),
            ("dhaad-request", all(144)),
            ("echo-reply", all(129)),
            ("echo-request", all(128)),
            ("header", coded(4, 0)),
            ("hop-limit", coded(3, 0)),
            ("mld-query", all(130)),
            ("mld-reduction", all(132)),
            ("mld-report", all(131)),
            ("mpd-advertisement", all(147)),
            ("mpd-solicitation", all(146)),
            ("nd-na", all(136)),
            ("nd-ns", all(135)),
            ("next-header", coded(4, 1)),
            ("no-admin", coded(1, 1)),
            ("no-route", coded(1, 0)),
            ("packet-too-big", all(2)),
            ("parameter-option", coded(4, 2)),
            ("parameter-problem", all(4)),
            ("port-unreachable", coded(1, 4)),
            ("reassembly-timeout", coded(3, 1)),
            ("renum-command", coded(138, 0)),
            ("renum-result", coded(138, 1)),
            ("renum-seq-number", coded(138, 255)),
            ("router-advertisement", all(134)),
            ("router-renumbering", all(138)),
            ("router-solicitation", all(133)),
            ("time-exceeded", all(3)),
            ("unreachable", all(1)),
        ] {
            assert_eq!(find(text).unwrap().in_family(Family::Ipv6), Some(kind), "{text}");
        }
    }

    /// nftables' names of types and codes.
    #[test]
    fn knows_the_words_of_nftables() {
        for (text, kind) in [
            ("echo-reply", 0),
            ("destination-unreachable", 3),
            ("source-quench", 4),
            ("redirect", 5),
            ("echo-request", 8),
            ("router-advertisement", 9),
            ("router-solicitation", 10),
            ("time-exceeded", 11),
            ("parameter-problem", 12),
            ("timestamp-request", 13),
            ("timestamp-reply", 14),
            ("info-request", 15),
            ("info-reply", 16),
            ("address-mask-request", 17),
            ("address-mask-reply", 18),
        ] {
            assert_eq!(
                find(text).unwrap().in_family(Family::Ipv4),
                Some(Kind { kind, code: None }),
                "{text}"
            );
        }
        for (text, kind) in [
            ("destination-unreachable", 1),
            ("packet-too-big", 2),
            ("time-exceeded", 3),
            ("parameter-problem", 4),
            ("echo-request", 128),
            ("echo-reply", 129),
            ("mld-listener-query", 130),
            ("mld-listener-report", 131),
            ("mld-listener-done", 132),
            ("mld-listener-reduction", 132),
            ("nd-router-solicit", 133),
            ("nd-router-advert", 134),
            ("nd-neighbor-solicit", 135),
            ("nd-neighbor-advert", 136),
            ("nd-redirect", 137),
            ("router-renumbering", 138),
            ("ind-neighbor-solicit", 141),
            ("ind-neighbor-advert", 142),
            ("mld2-listener-report", 143),
        ] {
            assert_eq!(
                find(text).unwrap().in_family(Family::Ipv6),
                Some(Kind { kind, code: None }),
                "{text}"
            );
        }
        for (text, code) in
            [("prot-unreachable", 2), ("frag-needed", 4), ("net-prohibited", 9), ("host-prohibited", 10)]
        {
            let kind = find(text).unwrap().in_family(Family::Ipv4);
            assert_eq!(kind, Some(Kind { kind: 3, code: Some(code) }), "{text}");
        }
        for (text, code) in
            [("admin-prohibited", 1), ("addr-unreachable", 3), ("policy-fail", 5), ("reject-route", 6)]
        {
            let kind = find(text).unwrap().in_family(Family::Ipv6);
            assert_eq!(kind, Some(Kind { kind: 1, code: Some(code) }), "{text}");
        }
    }

    #[test]
    fn words_of_one_family_are_not_the_others() {
        for text in ["timestamp-request", "source-quench", "host-unreachable", "traceroute"] {
            assert_eq!(find(text).unwrap().in_family(Family::Ipv6), None, "{text}");
        }
        for text in ["nd-ns", "nd-redirect", "no-route", "mld-query"] {
            assert_eq!(find(text).unwrap().in_family(Family::Ipv4), None, "{text}");
        }
        assert_eq!(find("ping"), None);
    }

    #[test]
    fn prints_the_words_of_routers() {
        assert_eq!(of(Family::Ipv4, 8, None), Some("echo"));
        assert_eq!(of(Family::Ipv4, 3, Some(4)), Some("packet-too-big"));
        assert_eq!(of(Family::Ipv6, 137, None), Some("redirect"));
        assert_eq!(of(Family::Ipv4, 3, Some(77)), None);
    }
}
