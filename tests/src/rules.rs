//! Access lists without tables: random policies as text, and the plain walk of their rules, one after the other, that says what
//! becomes of a packet. What the compiled tables say is compared with it.

use std::{fmt, net::IpAddr};

use icmp_common::Family;
use icmp_userspace::policy::{
    Policy,
    acl::{Action, Address, DefaultAction, Kinds, Options, Prohibition, Rule},
    file,
    prefix::Prefix,
    slots::{GUARD_TEXT, default_text},
};
use proptest::{prelude::*, sample::select};

use crate::packets::{Packet, address4, address6};

/// What decides about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    /// This rule.
    Rule(&'a Rule),
    /// The default, because no rule matches.
    Default(DefaultAction),
    /// The guard, because no rule reaches the packet and the default would deny it.
    Guard,
}

/// What becomes of a packet by an access list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes on.
    Permitted,
    /// It is dropped.
    Denied,
    /// It is dropped, and an error sent if one may be.
    Rejected(Prohibition),
}

impl Decision<'_> {
    /// What becomes of the packet.
    #[must_use]
    pub fn fate(&self) -> Fate {
        match self {
            Self::Guard | Self::Default(DefaultAction::Permit) => Fate::Permitted,
            Self::Default(DefaultAction::Deny) => Fate::Denied,
            Self::Rule(rule) if rule.options.monitor => Fate::Permitted,
            Self::Rule(rule) => match rule.action {
                // No packet of these tests is over a limit.
                Action::Permit | Action::Limit(_) => Fate::Permitted,
                Action::Deny => Fate::Denied,
                Action::Reject(prohibition) => Fate::Rejected(prohibition),
            },
        }
    }
}

/// The text by which the decision is counted.
impl fmt::Display for Decision<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(rule) => rule.fmt(f),
            Self::Default(action) => f.write_str(default_text(*action)),
            Self::Guard => f.write_str(GUARD_TEXT),
        }
    }
}

/// Walks the rules: the first that matches decides. `is_in` says whether an address is in a dynamic set.
pub fn decide<'a>(policy: &'a Policy, packet: &Packet, is_in: impl Fn(&str, IpAddr) -> bool) -> Decision<'a> {
    let decides = |rule: &&Rule| matches(policy, rule, packet, &is_in) && reaches(rule, packet);
    if let Some(rule) = policy.acl.rules.iter().find(decides) {
        return Decision::Rule(rule);
    }
    match policy.acl.default {
        DefaultAction::Deny if guarded(packet).is_some() => Decision::Guard,
        default => Decision::Default(default),
    }
}

fn matches(policy: &Policy, rule: &Rule, packet: &Packet, is_in: &impl Fn(&str, IpAddr) -> bool) -> bool {
    let Options { length, ttl, dscp, vlan, quoted_mismatch, quoted_mtu, .. } = rule.options;
    let address = |address: &Address, of_packet: IpAddr| match address {
        Address::Any => true,
        Address::Prefix(prefix) => prefix.contains(Prefix::host(of_packet)),
        Address::Wildcard { address, mask } => match of_packet {
            IpAddr::V4(packet) => (packet.to_bits() ^ address.to_bits()) & !mask.to_bits() == 0,
            IpAddr::V6(_) => false,
        },
        Address::Set(name) => {
            let set = policy.sets.iter().find(|set| set.name == *name).unwrap();
            is_in(name, of_packet)
                || set.prefixes.iter().any(|prefix| prefix.contains(Prefix::host(of_packet)))
        }
    };
    let kinds = match (&rule.kinds[packet.family as usize], packet.message) {
        (Kinds::None, _) => false,
        (Kinds::Any, _) => true,
        (Kinds::Fragments, message) => message.is_none(),
        (Kinds::These(_), None) => false,
        (Kinds::These(ranges), Some([icmp_type, code])) => ranges.iter().any(|range| {
            (range.types[0]..=range.types[1]).contains(&icmp_type)
                && (range.codes[0]..=range.codes[1]).contains(&code)
        }),
    };
    rule.protocol.covers(packet.family)
        && kinds
        && address(&rule.source, packet.source)
        && address(&rule.destination, packet.destination)
        && length.is_none_or(|[least, most]| (least..=most).contains(&packet.length))
        && ttl.is_none_or(|[least, most]| (least..=most).contains(&packet.ttl))
        && dscp.is_none_or(|dscp| dscp == packet.dscp)
        && vlan.is_none_or(|vlan| packet.vlan == Some(vlan))
        && (!quoted_mismatch || packet.quotes_others)
        && quoted_mtu
            .is_none_or(|[least, most]| packet.quoted_mtu.is_some_and(|mtu| (least..=most).contains(&mtu)))
}

/// Whether a rule acts on the packet, or the guard keeps the packet from it.
fn reaches(rule: &Rule, packet: &Packet) -> bool {
    let Some(from_limits) = guarded(packet) else { return true };
    rule.options.force
        || match rule.action {
            Action::Permit => true,
            Action::Limit(_) => !from_limits,
            Action::Deny | Action::Reject(_) => false,
        }
}

/// C67-C74: whether the guard keeps a packet from rules; then, whether from limits, too.
fn guarded(packet: &Packet) -> Option<bool> {
    let [icmp_type, code] = packet.message?;
    match (packet.family, icmp_type, code) {
        // Path MTU discovery.
        (Family::Ipv4, 3, 4) | (Family::Ipv6, 2, _) => Some(true),
        // The other errors of RFC 4890 4.4.1.
        (Family::Ipv6, 1, _) | (Family::Ipv6, 3, 0) | (Family::Ipv6, 4, 1 | 2) => Some(false),
        // Neighbour Discovery, if no router has passed it on; so, too, multicast membership.
        (Family::Ipv6, 133..=137, _) if packet.ttl == 255 => Some(true),
        (Family::Ipv6, 130..=132 | 143, _) if packet.ttl <= 1 => Some(true),
        _ => None,
    }
}

/// Names of the sets of random policies; the last one is dynamic.
pub const SETS: [&str; 3] = ["few", "many", DYNAMIC];
/// The dynamic set of random policies.
pub const DYNAMIC: &str = "lately";

/// Which messages a random rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Both,
    One(Family),
}

fn prefix4() -> impl Strategy<Value = Prefix> {
    let length = select(vec![0, 1, 8, 15, 16, 17, 22, 23, 24, 29, 30, 31, 32, 32, 32]);
    (address4(), length).prop_map(|(address, length)| Prefix::containing(address.into(), length))
}

fn prefix6() -> impl Strategy<Value = Prefix> {
    let length = select(vec![0, 3, 16, 20, 31, 32, 33, 47, 48, 63, 64, 65, 112, 125, 126, 127, 128, 128]);
    (address6(), length).prop_map(|(address, length)| Prefix::containing(address.into(), length))
}

/// A source or destination.
fn address(scope: Scope) -> BoxedStrategy<String> {
    let named =
        prop_oneof![3 => Just("any".to_owned()), 2 => select(&SETS[..]).prop_map(|set| format!("set:{set}"))];
    let prefix = |prefix: Prefix| {
        if prefix.is_host() { format!("host {prefix}") } else { prefix.to_string() }
    };
    let mask =
        select(vec!["0.0.1.0", "0.0.1.5", "0.1.0.4", "0.1.7.254", "0.0.6.255", "0.0.254.3", "7.0.0.0"]);
    let wildcard = (address4(), mask).prop_map(|(address, mask)| format!("{address} {mask}"));
    match scope {
        Scope::Both => named.boxed(),
        Scope::One(Family::Ipv4) => {
            prop_oneof![4 => named, 3 => prefix4().prop_map(prefix), 3 => wildcard].boxed()
        }
        Scope::One(Family::Ipv6) => prop_oneof![4 => named, 4 => prefix6().prop_map(prefix)].boxed(),
    }
}

/// Numbers as rules write them: one, a range, or a list of both.
fn numbers(most: u8) -> impl Strategy<Value = String> {
    let one = prop_oneof![
        2 => (0..=most).prop_map(|number| number.to_string()),
        2 => (0..=most, 0..8_u8).prop_map(|(first, more)| format!("{first}-{}", first.saturating_add(more))),
        1 => Just("200-255".to_owned()),
    ];
    prop_oneof![
        2 => one.clone(),
        1 => prop::collection::vec(one, 2..5).prop_map(|list| format!("{{{}}}", list.join(", "))),
    ]
}

/// Types, perhaps with codes, or nothing, or `fragments`.
fn kinds(scope: Scope) -> BoxedStrategy<String> {
    let any = prop_oneof![3 => Just(String::new()), 1 => Just("fragments".to_owned())];
    let names = match scope {
        Scope::Both => vec![
            "echo",
            "echo 0",
            "echo-reply",
            "unreachable",
            "unreachable port-unreachable",
            "packet-too-big",
            "{time-exceeded, packet-too-big}",
            "parameter-problem",
            "redirect",
            "router-solicitation",
            "{echo, echo-reply}",
            "port-unreachable",
        ],
        Scope::One(Family::Ipv4) => vec![
            "echo",
            "timestamp-request",
            "fragmentation-needed",
            "unreachable {0, 3-5}",
            "host-unreachable",
            "{source-quench, redirect}",
            "traceroute",
        ],
        Scope::One(Family::Ipv6) => vec![
            "echo",
            "packet-too-big",
            "nd-ns",
            "{nd-ns, nd-na}",
            "router-advertisement",
            "redirect",
            "unreachable {0, 3-4}",
            "mld-listener-query",
            "mld2-listener-report",
            "parameter-problem 1-2",
        ],
    };
    let names = select(names).prop_map(str::to_owned);
    // Around the types of random packets.
    let (most, above) = match scope {
        Scope::Both => return prop_oneof![2 => any, 3 => names].boxed(),
        Scope::One(Family::Ipv4) => (18, "8-20"),
        Scope::One(Family::Ipv6) => (5, "128-143"),
    };
    let types = prop_oneof![2 => numbers(most), 1 => Just(above.to_owned())];
    let numbers = prop_oneof![
        1 => types.clone(),
        1 => (types, numbers(5)).prop_map(|(types, codes)| format!("{types} {codes}")),
    ];
    prop_oneof![3 => any, 3 => names, 3 => numbers].boxed()
}

fn action() -> impl Strategy<Value = &'static str> {
    select(vec![
        "permit",
        "permit",
        "deny",
        "deny",
        "reject",
        "reject with net-prohibited",
        "reject with host-prohibited",
        "limit 1000000/s burst 1000000",
    ])
}

/// Conditions, more than one only now and then.
fn options() -> impl Strategy<Value = String> {
    let option = prop_oneof![
        2 => (20..100_u16, 0..60_u16).prop_map(|(least, more)| format!("length {least}-{}", least + more)),
        1 => Just("length 200-65535".to_owned()),
        2 => select(vec!["ttl 255", "ttl 0-254", "ttl 1", "ttl 2-255", "ttl 0-1", "ttl 60-200"]).prop_map(str::to_owned),
        2 => select(vec!["dscp ef", "dscp 0", "dscp cs0"]).prop_map(str::to_owned),
        4 => (1..4_u16).prop_map(|vlan| format!("vlan {vlan}")),
        1 => Just("monitor".to_owned()),
        1 => Just("log 1/7".to_owned()),
        1 => Just("force".to_owned()),
    ];
    let more = prop::collection::vec(option, 0..3);
    prop_oneof![2 => Just(String::new()), 3 => more.prop_map(without_repetitions)]
}

/// Each option stands at most once in a rule.
fn without_repetitions(options: Vec<String>) -> String {
    let mut kept: Vec<String> = Vec::new();
    for option in options {
        let word = |option: &str| option.split(' ').next().map(str::to_owned);
        if kept.iter().all(|other| word(other) != word(&option)) {
            kept.push(option);
        }
    }
    kept.join(" ")
}

/// Types and conditions of rules about what messages quote.
const QUOTED: [&str; 6] = [
    "{unreachable, time-exceeded} quoted-source mismatch force",
    "packet-too-big quoted-source mismatch quoted-mtu 0-1279 force",
    "packet-too-big quoted-mtu 0-67 force",
    "packet-too-big quoted-mtu 1280-65534",
    "parameter-problem quoted-source mismatch length 20-100",
    "unreachable quoted-source mismatch monitor",
];

/// One rule of any sort.
fn rule() -> impl Strategy<Value = String> {
    let scope = select(vec![Scope::Both, Scope::One(Family::Ipv4), Scope::One(Family::Ipv6)]);
    scope.prop_flat_map(|scope| {
        let protocol = match scope {
            Scope::Both => "icmp",
            Scope::One(Family::Ipv4) => "icmp4",
            Scope::One(Family::Ipv6) => "icmp6",
        };
        let conditions = prop_oneof![
            9 => (kinds(scope), options()).prop_map(|(kinds, options)| format!("{kinds} {options}")),
            1 => select(QUOTED.to_vec()).prop_map(str::to_owned),
        ];
        (action(), address(scope), address(scope), conditions).prop_map(
            move |(action, source, destination, conditions)| {
                format!("{action} {protocol} {source} {destination} {conditions}")
            },
        )
    })
}

/// What policies have besides rules and sets: all of the server's network answers, errors are as good as not limited.
pub const RESPOND: &str = "respond.to = [\"own\", \"192.0.2.0/29\", \"2001:db8::/125\"]\n\
                           respond.traceroute = true\n\
                           respond.probe = [\"192.0.2.4/30\", \"192.0.3.7\", \"2001:db8::/126\", \"2001:db8:0:1::/64\"]\n\
                           acl.errors = { per-source = \"1000000/s\", total = \"1000000/s\" }\n";

/// Any filter of a capture, as text, and a rule that asks the same of packets.
pub fn filter() -> impl Strategy<Value = (String, Rule)> {
    let scope = select(vec![Scope::Both, Scope::One(Family::Ipv4), Scope::One(Family::Ipv6)]);
    let text = scope.prop_flat_map(|scope| {
        let protocol = match scope {
            Scope::Both => "icmp",
            Scope::One(Family::Ipv4) => "icmp4",
            Scope::One(Family::Ipv6) => "icmp6",
        };
        let address =
            || address(scope).prop_map(|text| if text.starts_with("set:") { "any".to_owned() } else { text });
        let kinds = prop_oneof![1 => Just(String::new()), 1 => kinds(scope)];
        let options = options().prop_filter("of rules alone", |options| {
            !["monitor", "log", "force"].iter().any(|word| options.contains(word))
        });
        (address(), address(), kinds, options).prop_map(move |(source, destination, kinds, options)| {
            format!("{protocol} {source} {destination} {kinds} {options}")
        })
    });
    text.prop_map(|text| {
        let mut policy = file::parse(&format!("acl.rules = \"permit {text}\"")).unwrap();
        (text, policy.acl.rules.remove(0))
    })
}

/// Whether a rule that names no set is about a packet.
#[must_use]
pub fn is_about(rule: &Rule, packet: &Packet) -> bool {
    matches(&Policy::default(), rule, packet, &|_, _| false)
}

/// Any policy, as text.
pub fn policy() -> impl Strategy<Value = String> {
    let few = (prefix4(), prefix6()).prop_map(|(v4, v6)| vec![v4, v6]);
    let many = prop::collection::vec(prop_oneof![prefix4(), prefix6()], 20..80);
    let default = select(vec!["permit", "deny"]);
    let rules = prop::collection::vec(rule(), 0..14);
    (few, (prefix4(), prefix6(), many), default, rules).prop_map(|(few, (v4, v6, many), default, rules)| {
        let list = |prefixes: &[Prefix]| {
            let quoted: Vec<_> = prefixes.iter().map(|prefix| format!("\"{prefix}\"")).collect();
            quoted.join(", ")
        };
        // One of each family at least, so that both families' rules may name it.
        let many = [&[v4, v6], &*many].concat();
        let sets = format!(
            "sets.few = [{}]\nsets.many = [{}]\nsets.{DYNAMIC} = {{ dynamic = true }}\n",
            list(&few),
            list(&many)
        );
        let rules: Vec<_> = rules.into_iter().map(|rule| allowed(&sets, rule)).collect();
        let rules = rules.join("\n");
        format!("{RESPOND}{sets}acl.default = \"{default}\"\nacl.rules = \"\"\"\n{rules}\n\"\"\"\n")
    })
}

/// The rule, with `force` if it names what is guarded and is refused without.
fn allowed(sets: &str, rule: String) -> String {
    let alone = |rule: &str| file::parse(&format!("{sets}acl.rules = \"{rule}\""));
    if alone(&rule).is_ok() { rule } else { format!("{rule} force") }
}
