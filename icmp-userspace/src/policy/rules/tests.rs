//! What rules mean, how they print, and what is said of lines that are none.

use proptest::prelude::*;

use super::*;
use crate::policy::{acl::KindRange, diagnostic::Report};

fn sets() -> KnownSets<'static> {
    KnownSets::from([
        ("trusted", [true, true]),
        ("v4", [true, false]),
        ("v6", [false, true]),
        ("empty", [false; 2]),
    ])
}

fn rules(text: &str) -> Vec<Rule> {
    let (rules, errors) = parse(text, Origin::File, &sets());
    assert_eq!(errors, [], "{text}");
    rules
}

fn rule(text: &str) -> Rule {
    let mut rules = rules(text);
    assert_eq!(rules.len(), 1, "{text}");
    rules.remove(0)
}

/// What a line prints.
fn printed(text: &str) -> String {
    rule(text).to_string()
}

/// All messages about a text, each with its place, and what is advised.
fn errors(text: &str) -> Vec<String> {
    let (_, errors) = parse(text, Origin::File, &sets());
    errors
        .iter()
        .map(|error| {
            let one = std::slice::from_ref(error);
            let report = Report { path: "r".as_ref(), text, diagnostics: one }.to_string();
            let place: Vec<&str> = report.split(": ").next().unwrap().split(':').skip(1).collect();
            let help = error.help.as_ref().map_or(String::new(), |help| format!(" | {help}"));
            format!("{} {}{help}", place.join(":"), error.message)
        })
        .collect()
}

fn error(text: &str) -> String {
    let mut errors = errors(text);
    assert_eq!(errors.len(), 1, "{text}: {errors:?}");
    errors.remove(0)
}

fn these(ranges: &[([u8; 2], [u8; 2])]) -> Kinds {
    Kinds::These(ranges.iter().map(|(types, codes)| KindRange { types: *types, codes: *codes }).collect())
}

const ALL: [u8; 2] = [0, 255];

#[test]
fn c85_a_name_is_mapped_to_both_families() {
    for (name, v4, v6) in [
        ("echo", these(&[([8, 8], ALL)]), these(&[([128, 128], ALL)])),
        ("packet-too-big", these(&[([3, 3], [4, 4])]), these(&[([2, 2], ALL)])),
        ("administratively-prohibited", these(&[([3, 3], [13, 13])]), these(&[([1, 1], [1, 1])])),
        ("port-unreachable", these(&[([3, 3], [3, 3])]), these(&[([1, 1], [4, 4])])),
        ("ttl-exceeded", these(&[([11, 11], [0, 0])]), these(&[([3, 3], [0, 0])])),
        ("unreachable", these(&[([3, 3], ALL)]), these(&[([1, 1], ALL)])),
        ("{echo, echo-reply}", these(&[([0, 0], ALL), ([8, 8], ALL)]), these(&[([128, 129], ALL)])),
        ("echo 0", these(&[([8, 8], [0, 0])]), these(&[([128, 128], [0, 0])])),
    ] {
        assert_eq!(rule(&format!("deny icmp any any {name}")).kinds, [v4, v6], "{name}");
    }
}

#[test]
fn an_address_decides_the_family() {
    assert_eq!(rule("deny icmp 10.0.0.0/8 any").kinds, [Kinds::Any, Kinds::None]);
    assert_eq!(rule("deny icmp any host 2001:db8::1").kinds, [Kinds::None, Kinds::Any]);
    assert_eq!(printed("deny icmp any host 2001:db8::1 nd-ns"), "deny icmp6 any host 2001:db8::1 nd-ns");
    assert_eq!(rule("deny icmp 10.0.0.0/8 any 13").kinds[0], these(&[([13, 13], ALL)]));
}

#[test]
fn c84_zero_is_not_any_and_255_can_be_matched() {
    assert_eq!(rule("deny icmp4 any any 0").kinds[0], these(&[([0, 0], ALL)]));
    assert_eq!(rule("deny icmp4 any any 3 0").kinds[0], these(&[([3, 3], [0, 0])]));
    assert_eq!(rule("deny icmp6 any any 255 255").kinds[1], these(&[([255, 255], [255, 255])]));
}

#[test]
fn c87_fragments_are_a_kind_of_their_own() {
    assert_eq!(rule("deny icmp4 any any fragments").kinds, [Kinds::Fragments, Kinds::None]);
    assert_eq!(printed("deny icmp any any log fragments"), "deny icmp any any fragments log");
    assert_eq!(rule("deny icmp any any").kinds, [Kinds::Any, Kinds::Any]);
}

#[test]
fn prints_one_text_for_one_meaning() {
    for (text, canonical) in [
        ("permit   icmp any\tany", "permit icmp any any"),
        ("permit ip any any", "permit icmp any any"),
        ("permit icmp any any echo-request", "permit icmp any any echo"),
        ("permit icmp4 any any 8", "permit icmp4 any any echo"),
        ("permit icmp4 any any { 4,3 ,5}", "permit icmp4 any any 3-5"),
        ("permit icmp4 any any {0, 8}", "permit icmp4 any any {echo-reply, echo}"),
        ("permit icmp4 any any {8, 3-4}", "permit icmp4 any any {unreachable, source-quench, echo}"),
        ("permit icmp4 any any 3 4", "permit icmp4 any any packet-too-big"),
        ("permit icmp4 any any fragmentation-needed", "permit icmp4 any any packet-too-big"),
        ("permit icmp4 any any 3 0-255", "permit icmp4 any any unreachable"),
        (
            "permit icmp4 any any 3 {1, net-unreachable}",
            "permit icmp4 any any unreachable {net-unreachable, host-unreachable}",
        ),
        (
            "permit icmp4 any any {host-unreachable, net-unreachable}",
            "permit icmp4 any any unreachable {net-unreachable, host-unreachable}",
        ),
        (
            "permit icmp4 any any {ttl-exceeded, net-unreachable, 8, 8}",
            "permit icmp4 any any {echo, net-unreachable, ttl-exceeded}",
        ),
        ("permit icmp4 any any {44, 46} 7", "permit icmp4 any any {44, 46} 7"),
        ("permit icmp6 any any destination-unreachable", "permit icmp6 any any unreachable"),
        ("permit icmp any any {unreachable, port-unreachable}", "permit icmp any any unreachable"),
        ("permit icmp any any unreachable port-unreachable", "permit icmp any any port-unreachable"),
        ("permit icmp any any time-exceeded 0-1", "permit icmp any any {ttl-exceeded, reassembly-timeout}"),
        ("permit icmp any any {echo-reply, echo} 0", "permit icmp any any {echo-reply, echo} 0"),
        ("permit icmp any any echo 0-255", "permit icmp any any echo"),
        ("permit icmp 192.0.2.0 0.0.0.255 any", "permit icmp4 192.0.2.0/24 any"),
        ("permit icmp 192.0.2.7 0.0.0.255 any", "permit icmp4 192.0.2.0/24 any"),
        ("permit icmp 192.0.2.7 0.0.0.0 any", "permit icmp4 host 192.0.2.7 any"),
        ("permit icmp 192.0.2.7/32 any", "permit icmp4 host 192.0.2.7 any"),
        ("permit icmp 192.0.2.7 0.0.255.0 any", "permit icmp4 192.0.0.7 0.0.255.0 any"),
        ("permit icmp 0.0.0.0 255.255.255.255 any", "permit icmp4 any any"),
        ("permit icmp host 2001:DB8::1 set:v6", "permit icmp6 host 2001:db8::1 set:v6"),
        ("reject with 13 icmp any any", "reject icmp any any"),
        ("reject with 9 icmp any any", "reject with net-prohibited icmp any any"),
        ("reject with dod-host-prohibited icmp any any", "reject with host-prohibited icmp any any"),
        (
            "limit 100/s burst 200 per source icmp any any echo",
            "limit 100/s burst 200 per source icmp any any echo",
        ),
        ("limit 100/s per source/32 burst 200 icmp any any", "limit 100/s burst 200 per source icmp any any"),
        ("limit 6000/minute per rule exceed drop icmp any any", "limit 6000/min icmp any any"),
        (
            "limit 1/h per source/24, 10mbit/s burst 64kbit per destination exceed pass icmp any any",
            "limit 1/h per source/24, 10000000bit/s burst 64000bit per destination exceed pass icmp any any",
        ),
        ("limit 1/s per source/48 icmp any any", "limit 1/s per source/48 icmp any any"),
        (
            "limit 1/s per source, 9/s exceed pass ban 3600s after 90s icmp any any",
            "limit 1/s per source, 9/s exceed pass ban 1h after 90s icmp any any",
        ),
        (
            "limit 1/s per source ban 1d after 60s icmp any any",
            "limit 1/s per source ban 1d after 1m icmp any any",
        ),
        ("limit 1/s per source/32 icmp6 any any", "limit 1/s per source/32 icmp6 any any"),
        ("limit 1/s per source/64 icmp6 any any", "limit 1/s per source icmp6 any any"),
        (
            "deny icmp any any force monitor log 1/100 vlan 7 dscp ef ttl 5 length 0-100",
            "deny icmp any any length 0-100 ttl 5-5 dscp 46 vlan 7 log 1/100 monitor force",
        ),
        ("deny icmp any any dscp cs6", "deny icmp any any dscp 48"),
        (
            "deny icmp any any packet-too-big force quoted-mtu 67 quoted-source mismatch ttl 1",
            "deny icmp any any packet-too-big ttl 1-1 quoted-source mismatch quoted-mtu 67-67 force",
        ),
        ("deny icmp any any dscp af21 log 1/1", "deny icmp any any dscp 18 log"),
        ("access-list 101 permit icmp any any 8 log-input", "permit icmp4 any any echo log"),
    ] {
        assert_eq!(printed(text), canonical, "{text}");
        assert_eq!(printed(canonical), canonical);
    }
}

#[test]
fn per_source_lengths_belong_to_a_family() {
    let per = |text: &str| match rule(text).action {
        Action::Limit(limit) => limit.rates[0].per,
        action => panic!("{action}"),
    };
    assert_eq!(per("limit 1/s per source/24 icmp any any"), Per::Source { length4: 24, length6: 64 });
    assert_eq!(per("limit 1/s per source/33 icmp any any"), Per::Source { length4: 32, length6: 33 });
    assert_eq!(per("limit 1/s per source/24 icmp6 any any"), Per::Source { length4: 32, length6: 24 });
    assert_eq!(per("limit 1/s per source/24 icmp ::/0 any"), Per::Source { length4: 32, length6: 24 });
}

#[test]
fn understands_pasted_lists() {
    let text = "\
ip access-list extended EDGE
 remark who may ping
 10 permit icmp 10.0.0.0 0.255.255.255 any echo
 20 permit icmp any any packet-too-big
 deny ip any any log
!
ipv6 access-list EDGE6
 sequence 10 permit icmp any any nd-ns
 permit icmp any any destination-unreachable
 permit ipv6 any any
exit
limit 10/s icmp any any echo # both families again
";
    let texts: Vec<String> = rules(text).iter().map(|rule| format!("{} {rule}", rule.number)).collect();
    assert_eq!(
        texts,
        [
            "10 permit icmp4 10.0.0.0/8 any echo",
            "20 permit icmp4 any any packet-too-big",
            "30 deny icmp4 any any log",
            "40 permit icmp6 any any nd-ns",
            "50 permit icmp6 any any address-unreachable",
            "60 permit icmp6 any any",
            "70 limit 10/s icmp any any echo",
        ]
    );
}

#[test]
fn spans_are_the_rules_places() {
    let text = "\n  5 permit icmp any any # first\r\n\tdeny icmp any any\n";
    let places: Vec<&str> = rules(text).iter().map(|rule| &text[rule.span.clone()]).collect();
    assert_eq!(places, ["5 permit icmp any any", "deny icmp any any"]);
}

#[test]
fn says_what_is_wrong_with_the_beginning() {
    assert_eq!(
        error("pemit icmp any any"),
        "1:1 expected an action: permit, deny, reject or limit, found pemit | did you mean permit?"
    );
    assert_eq!(error("10"), "1:3 expected an action, found the end of the line");
    assert_eq!(error("permit"), "1:7 expected a protocol, found the end of the line");
    assert_eq!(
        error("permit icmp5 any any"),
        "1:8 expected a protocol: icmp, icmp4, icmp6 or ip, found icmp5 | did you mean icmp?"
    );
    assert_eq!(
        error("permit tcp any any eq 80"),
        "1:8 rules are about ICMP alone, this one is about tcp | leave the line out; `icmpctl policy import` does so \
         for a router's whole configuration"
    );
    assert_eq!(
        error("20 permit icmp any any\n10 deny icmp any any"),
        "2:1 rule number 10 does not rise: the rule before has 20 | rules are tried in the order in which they stand; \
         numbers may be left out"
    );
    assert_eq!(
        error("5 permit icmp any any\nipv6 access-list A\n20 permit icmp any any\n10 deny icmp any any"),
        "4:1 rule number 10 does not rise: the rule before has 20 | rules are tried in the order in which they stand; \
         numbers may be left out"
    );
    assert_eq!(error("0 permit icmp any any"), "1:1 expected a number from 1 to 4294967295, found 0");
    assert_eq!(
        error("4294967295 permit icmp any any\ndeny icmp any any"),
        "2:1 there is no number behind 4294967295"
    );
    assert_eq!(
        error("sequence x permit icmp any any"),
        "1:10 expected a number from 1 to 4294967295, found x"
    );
    let standard = "rules of standard lists name no destination and no protocol: write permit ip SOURCE any";
    assert_eq!(
        error("access-list 10 permit 10.0.0.0 0.255.255.255"),
        format!("1:13 expected an extended access list, found 10 | {standard}")
    );
    assert_eq!(
        error("ip access-list standard A"),
        format!("1:16 expected an extended access list, found standard | {standard}")
    );
    assert_eq!(
        error("access-list x permit icmp any any"),
        "1:13 expected the number of an extended access list: 100 to 199 or 2000 to 2699, found x"
    );
    assert_eq!(error("ipv6 access-list"), "1:17 expected the list's name, found the end of the line");
    assert_eq!(error("ipv6 access-list A B"), "1:20 expected the end of the line, found B");
}

#[test]
fn says_what_is_wrong_with_an_address() {
    assert_eq!(error("permit icmp any"), "1:16 expected a destination, found the end of the line");
    assert_eq!(
        error("permit icmp 192.0.2.1 any"),
        "1:13 192.0.2.1 says neither that it is one host nor a prefix length | write host 192.0.2.1"
    );
    assert_eq!(
        error("permit icmp any 2001:db8::1"),
        "1:17 2001:db8::1 says neither that it is one host nor a prefix length | write host 2001:db8::1"
    );
    assert_eq!(
        error("permit icmp ayn any"),
        "1:13 expected a source: any, host A, A/LEN, A WILDCARD-MASK or set:NAME, found ayn | did you mean any?"
    );
    assert_eq!(error("permit icmp host any any"), "1:18 expected an address behind `host`, found any");
    assert_eq!(
        error("permit icmp 192.0.2.1/24 any"),
        "1:13 192.0.2.1/24 has host bits set | the prefix is 192.0.2.0/24; the address alone is host 192.0.2.1"
    );
    assert_eq!(
        error("permit icmp 192.0.2.0/33 any"),
        "1:13 \"33\" is not a prefix length: a number from 0 to 32 is expected | expected a prefix like 192.0.2.0/24 \
         or 2001:db8::/32"
    );
    assert_eq!(
        error("permit icmp 192.0.2.0 255.255.255.0 any"),
        "1:13 255.255.255.0 is a netmask; a wildcard mask has ones where addresses may differ | write 192.0.2.0/24, or \
         192.0.2.0 0.0.0.255"
    );
    assert_eq!(
        error("permit icmp 192.0.2.1 255.255.254.254 any"),
        "1:13 the wildcard mask 255.255.254.254 has 30 ones before a zero; 16 are the most, each doubles the table"
    );
    assert_eq!(
        error("permit icmp set:trustd any"),
        "1:13 there is no set trustd in [sets] | did you mean set:trusted?"
    );
    assert_eq!(
        error("permit icmp set:customers any"),
        "1:13 there is no set customers in [sets] | sets: empty, trusted, v4, v6"
    );
    assert_eq!(
        error("permit icmp object-group A any"),
        "1:13 object-group is not understood here | write set:NAME; `icmpctl policy import` turns object groups into sets"
    );
}

#[test]
fn says_which_families_do_not_fit() {
    assert_eq!(
        error("permit icmp6 host 192.0.2.1 any"),
        "1:14 192.0.2.1 is of IPv4; icmp6 is IPv6 | write icmp4"
    );
    assert_eq!(
        error("permit icmp4 any 2001:db8::/32"),
        "1:18 2001:db8::/32 is of IPv6; icmp4 is IPv4 | write icmp6"
    );
    assert_eq!(
        error("permit icmp 10.0.0.0/8 ::/0"),
        "1:24 ::/0 is of IPv6, but the source 10.0.0.0/8 of IPv4 | a packet has both addresses of one family: write two \
         rules"
    );
    assert_eq!(
        error("permit icmp4 set:v6 any"),
        "1:14 set:v6 has addresses of IPv6 alone; the rule is about IPv4"
    );
    assert_eq!(
        error("permit icmp set:v4 host ::1"),
        "1:13 set:v4 has addresses of IPv4 alone; the rule is about IPv6"
    );
    assert_eq!(rules("permit icmp4 set:v4 set:trusted\npermit icmp6 set:empty any").len(), 2);
}

#[test]
fn c85_says_what_is_wrong_with_a_type() {
    assert_eq!(
        error("deny icmp any any timestamp-request"),
        "1:19 timestamp-request has no counterpart in IPv6 | write icmp4 if the rule is about IPv4 alone"
    );
    assert_eq!(
        error("deny icmp any any nd-ns"),
        "1:19 nd-ns has no counterpart in IPv4 | write icmp6 if the rule is about IPv6 alone"
    );
    assert_eq!(
        error("deny icmp any any 8"),
        "1:19 type 8 is ambiguous: it is echo in IPv4, unassigned in IPv6 | write icmp4 or icmp6 instead of icmp, or \
         echo for both families"
    );
    assert_eq!(
        error("deny icmp any any 3"),
        "1:19 type 3 is ambiguous: it is unreachable in IPv4, time-exceeded in IPv6 | write icmp4 or icmp6 instead of \
         icmp, or unreachable or time-exceeded for both families"
    );
    assert_eq!(
        error("deny icmp any any 13"),
        "1:19 type 13 is ambiguous: it is timestamp-request in IPv4, unassigned in IPv6 | write icmp4 or icmp6 instead \
         of icmp"
    );
    assert_eq!(
        error("deny icmp any any 3-5"),
        "1:19 types 3-5 are ambiguous: they are other messages in IPv4 than in IPv6 | write icmp4 or icmp6 instead of \
         icmp"
    );
    assert_eq!(
        error("deny icmp6 any any timestamp-request"),
        "1:20 timestamp-request is a message of IPv4; the rule is about IPv6 | icmp4 has it"
    );
    assert_eq!(error("deny icmp any any ecko"), "1:19 unknown message type: ecko | did you mean echo?");
    assert_eq!(
        error("deny icmp any any montior"),
        "1:19 unknown message type: montior | did you mean monitor?"
    );
    assert_eq!(
        error("deny icmp any any xyzzy"),
        "1:19 unknown message type: xyzzy | expected a name like echo or unreachable"
    );
    assert_eq!(
        error("deny icmp4 any any xyzzy"),
        "1:20 unknown message type: xyzzy | expected a number, a range like 3-5, a list like {3, echo}, or a name like \
         echo"
    );
    assert_eq!(
        error("deny icmp4 any any 256"),
        "1:20 expected a type from 0 to 255, a range like 3-5, or a name, found 256"
    );
    assert_eq!(error("deny icmp4 any any 5-3"), "1:20 the range 5-3 ends before it begins | write 3-5");
    assert_eq!(error("deny icmp any any {"), "1:20 expected an item of the list, found the end of the line");
    assert_eq!(error("deny icmp any any {}"), "1:20 expected an item of the list, found }");
    assert_eq!(error("deny icmp any any {echo redirect}"), "1:25 expected `,` or `}`, found redirect");
    assert_eq!(error("deny icmp any any }"), "1:19 expected a type, found }");
}

#[test]
fn says_what_is_wrong_with_a_code() {
    assert_eq!(
        error("deny icmp4 any any 3 256"),
        "1:22 expected a code from 0 to 255, a range like 3-5, or a name, found 256"
    );
    assert_eq!(error("deny icmp4 any any echo port-unreachable"), "1:25 port-unreachable is no code of echo");
    assert_eq!(error("deny icmp any any echo port-unreachable"), "1:24 port-unreachable is no code of echo");
    assert_eq!(
        error("deny icmp4 any any port-unreachable 3"),
        "1:37 port-unreachable stands for a code already: no other can follow"
    );
    assert_eq!(
        error("deny icmp any any packet-too-big 0"),
        "1:34 packet-too-big stands for a code already: no other can follow"
    );
    assert_eq!(
        error("deny icmp any any unreachable 3"),
        "1:31 code 3 is ambiguous: it is port-unreachable in IPv4, address-unreachable in IPv6 | write icmp4 or icmp6 \
         instead of icmp"
    );
    assert_eq!(
        error("deny icmp any any unreachable no-route"),
        "1:31 no-route has no counterpart in IPv4 | write icmp6 if the rule is about IPv6 alone"
    );
    assert_eq!(
        error("deny icmp4 any any 3 port-unreachible"),
        "1:22 unknown code or option: port-unreachible | did you mean port-unreachable?"
    );
    assert_eq!(
        error("deny icmp4 any any 8 xyzzy"),
        "1:22 unknown code or option: xyzzy | expected a number, or an option: fragments, length, ttl, dscp, vlan, quoted-source, \
         quoted-mtu, log, monitor, force"
    );
    assert_eq!(
        error("deny icmp6 any any router-renumbering xyzzy"),
        "1:39 unknown code or option: xyzzy | codes of this type: renum-command, renum-result, renum-seq-number; \
         options: fragments, length, ttl, dscp, vlan, quoted-source, quoted-mtu, log, monitor, force"
    );
}

#[test]
fn says_what_is_wrong_with_an_option() {
    assert_eq!(
        error("deny icmp any any echo fragments"),
        "1:24 a type and `fragments`: fragments other than the first carry no type | leave out one of them, or write \
         two rules"
    );
    // C80, C81: what is quoted can only be asked of messages that quote.
    let quoting = "is about errors, which quote a packet, and this rule is not about them alone | name these types, like \
                   {unreachable, time-exceeded, parameter-problem}, in IPv4 redirect";
    assert_eq!(error("deny icmp any any quoted-source mismatch"), format!("1:19 quoted-source {quoting}"));
    assert_eq!(
        error("deny icmp4 any any 3-8 quoted-source mismatch"),
        format!("1:24 quoted-source {quoting}")
    );
    let telling = "is about the messages that tell an MTU, and this rule is not about them alone | name these types, like \
                   packet-too-big";
    assert_eq!(error("deny icmp4 any any unreachable quoted-mtu 0-67"), format!("1:32 quoted-mtu {telling}"));
    assert_eq!(error("deny icmp any any quoted-mtu 0-67"), format!("1:19 quoted-mtu {telling}"));
    assert_eq!(
        error("deny icmp any any unreachable quoted-source missmatch"),
        "1:45 expected mismatch: the message quotes a packet that its receiver has not sent, found missmatch | did you mean \
         mismatch?"
    );
    let mtu = "expected an MTU from 0 to 65535, or a range of them like 3-5, found";
    assert_eq!(error("deny icmp any any packet-too-big quoted-mtu 65536"), format!("1:45 {mtu} 65536"));
    let vlan = "expected a VLAN from 1 to 4094, found";
    assert_eq!(error("deny icmp any any vlan 0"), format!("1:24 {vlan} 0"));
    assert_eq!(error("deny icmp any any vlan 4095"), format!("1:24 {vlan} 4095"));
    assert_eq!(error("deny icmp any any vlan"), format!("1:23 {vlan} the end of the line"));
    assert_eq!(error("deny icmp any any ttl 9-3"), "1:23 the range 9-3 ends before it begins | write 3-9");
    assert_eq!(
        error("deny icmp any any ttl 256"),
        "1:23 expected a TTL from 0 to 255, or a range of them like 3-5, found 256"
    );
    assert_eq!(
        error("deny icmp any any length 1-70000"),
        "1:26 expected a length from 0 to 65535, or a range of them like 3-5, found 1-70000"
    );
    assert_eq!(
        error("deny icmp any any dscp 64"),
        "1:24 expected a DSCP from 0 to 63, or ef, cs0 to cs7, af11 to af43, found 64"
    );
    assert_eq!(
        error("deny icmp any any log 1/0"),
        "1:23 expected a share like 1/100: every hundredth packet, found 1/0"
    );
    assert_eq!(error("deny icmp any any force log force"), "1:29 force stands twice in this rule");
    assert_eq!(error("deny icmp any any log log-input"), "1:23 log stands twice in this rule");
    assert_eq!(
        error("deny icmp any any log mointor"),
        "1:23 unknown option: mointor | did you mean monitor?"
    );
    assert_eq!(
        error("deny icmp any any echo 0 redirect"),
        "1:26 unknown option: redirect | several types are a list: {echo, unreachable}"
    );
    assert_eq!(
        error("deny icmp any any log time-range"),
        "1:23 unknown option: time-range | options: fragments, length, ttl, dscp, vlan, quoted-source, quoted-mtu, log, monitor, force"
    );
}

#[test]
fn says_what_is_wrong_with_an_action() {
    let codes = "net-prohibited (9), host-prohibited (10) or administratively-prohibited (13)";
    assert_eq!(error("reject with 3 icmp any any"), format!("1:13 expected {codes}, found 3"));
    assert_eq!(
        error("reject with host-prohibitd icmp any any"),
        format!("1:13 expected {codes}, found host-prohibitd | did you mean host-prohibited?")
    );
    let rates = "expected a rate like 100/s, 6000/min, 1/h or 10mbit/s, found";
    assert_eq!(error("limit icmp any any"), format!("1:7 {rates} icmp"));
    assert_eq!(error("limit 10 icmp any any"), format!("1:7 {rates} 10"));
    assert_eq!(error("limit 10/d icmp any any"), format!("1:7 {rates} 10/d | the time is s, min or h"));
    assert_eq!(error("limit 10tbit/s icmp any any"), format!("1:7 {rates} 10tbit/s"));
    assert_eq!(
        error("limit 99999999999999999999/s icmp any any"),
        format!("1:7 {rates} 99999999999999999999/s")
    );
    assert_eq!(
        error("limit 0/s icmp any any"),
        "1:7 a rate of 0 would let nothing through: 0/s | write deny"
    );
    assert_eq!(
        error("limit 1/s burst 0 icmp any any"),
        "1:17 a burst of 0 would let nothing through | write at least burst 1, or deny"
    );
    assert_eq!(
        error("limit 1/s burst 1mbit icmp any any"),
        "1:17 expected a burst in packets, like burst 20, found 1mbit"
    );
    assert_eq!(
        error("limit 1mbit/s burst 20 icmp any any"),
        "1:21 expected a burst in bits, as the rate: like burst 1mbit, found 20"
    );
    assert_eq!(error("limit 1/s burst 2 burst 3 icmp any any"), "1:19 burst stands twice behind this rate");
    assert_eq!(
        error("limit 1/s per rule per source icmp any any"),
        "1:20 per stands twice behind this rate | a second rate stands behind a comma"
    );
    assert_eq!(
        error("limit 1/s per sorce icmp any any"),
        "1:15 expected source, source/LEN, destination or rule, found sorce | did you mean source?"
    );
    for length in ["0", "129", "x"] {
        assert_eq!(
            error(&format!("limit 1/s per source/{length} icmp any any")),
            format!(
                "1:15 expected source/LEN with a length from 1 to 128, found source/{length} | for all sources \
                 together, write per rule"
            )
        );
    }
    assert_eq!(
        error("limit 1/s per source/48 icmp4 any any"),
        "1:15 per source/48 is longer than an IPv4 address; the rule is about IPv4 | 32 is the most"
    );
    assert_eq!(
        error("limit 1/s exceed dorp icmp any any"),
        "1:18 expected drop or pass, found dorp | did you mean drop?"
    );
    assert_eq!(
        error("limit 1/s exceed drop, 2/s icmp any any"),
        "1:22 expected a protocol; `exceed` stands behind all rates, `ban` behind that, found ,"
    );
}

#[test]
fn says_what_is_wrong_with_a_ban() {
    let not_source = "a ban is for a source: the first rate has to be one per source | write per source behind it, or put such a rate \
                      in front of the others";
    assert_eq!(error("limit 1/s ban 1m after 1s icmp any any"), format!("1:11 {not_source}"));
    assert_eq!(
        error("limit 1/s per destination, 1/s per source ban 1m after 1s icmp any any"),
        format!("1:43 {not_source}")
    );
    let how_long = "expected for how long, like ban 10m after 30s, found";
    assert_eq!(
        error("limit 1/s per source ban 1 after 1s icmp any any"),
        format!("1:26 {how_long} 1 | expected a duration like 30s, 10m, 12h or 7d")
    );
    assert_eq!(
        error("limit 1/s per source ban 0s after 1s icmp any any"),
        format!("1:26 {how_long} 0s | a duration of at least 1s is expected")
    );
    assert_eq!(
        error("limit 1/s per source ban 8d after 1s icmp any any"),
        "1:26 8d is too long here | 7d is the most"
    );
    assert_eq!(
        error("limit 1/s per source ban 1m after 61m icmp any any"),
        "1:35 61m is too long here | 1h is the most"
    );
    assert_eq!(
        error("limit 1/s per source ban 1m icmp any any"),
        "1:29 expected after TIME: how long a source has to be over the rate, found icmp"
    );
    assert_eq!(
        error("limit 1/s per source ban 1m afer 1s icmp any any"),
        "1:29 expected after TIME: how long a source has to be over the rate, found afer | did you mean after?"
    );
    for word in [",", "exceed"] {
        assert_eq!(
            error(&format!("limit 1/s per source ban 1m after 1s {word} pass icmp any any")),
            format!(
                "1:38 expected a protocol; `exceed` stands behind all rates, `ban` behind that, found {word}"
            )
        );
    }
}

#[test]
fn reports_all_errors() {
    let text = "pemit icmp any any\ndeny icmp any any echo\ndeny icmp any any vlan 0 ttl 9-3 log 7\n";
    assert_eq!(
        errors(text).iter().map(|error| &error[..4]).collect::<Vec<_>>(),
        ["1:1 ", "3:24", "3:30", "3:38"]
    );
}

#[test]
fn understands_rates_of_errors() {
    assert_eq!(error_rate("10/s burst 20"), Ok(ErrorRate { per_second: 10, burst: 20 }));
    assert_eq!(error_rate("120/min"), Ok(ErrorRate { per_second: 2, burst: 2 }));
    for (text, message) in [
        ("1/min", "\"1/min\" is no rate of errors: whole numbers a second, at most 4294967295"),
        ("5000000000/s", "\"5000000000/s\" is no rate of errors: whole numbers a second, at most 4294967295"),
        ("1mbit/s", "expected a number of errors, like 10/s burst 20"),
        ("1/s per rule", "expected a number of errors, like 10/s burst 20"),
        ("1/s x", "expected `burst N` or the end, found x"),
        ("0/s", "a rate of 0 would let nothing through: 0/s; write deny"),
        ("", "expected a rate like 100/s or 10mbit/s, found the end of the line"),
    ] {
        assert_eq!(error_rate(text), Err(message.to_owned()));
    }
}

/// Rules of all shapes, as text.
fn any_rule() -> impl Strategy<Value = String> {
    let pick = |choices: &'static [&'static str]| prop::sample::select(choices).prop_map(str::to_owned);
    let rate = (
        1_u64..5000,
        pick(&["", "bit", "kbit"]),
        pick(&["s", "min", "h"]),
        prop::option::of(1_u64..100),
        pick(&["", " per source", " per source/24", " per source/20", " per destination", " per rule"]),
    );
    let rate = rate.prop_map(|(amount, unit, period, burst, per)| {
        let burst = burst.map_or(String::new(), |burst| format!(" burst {burst}{unit}"));
        format!("{amount}{unit}/{period}{burst}{per}")
    });
    let ban = (1_u32..600_000, 1_u32..3_600).prop_map(|(time, after)| format!(" ban {time}s after {after}s"));
    let limit = (
        prop::collection::vec(rate, 1..4),
        pick(&["", " exceed drop", " exceed pass"]),
        prop::option::of(ban),
    );
    let limit = limit.prop_map(|(rates, exceed, ban)| {
        let ban = ban.filter(|_| rates[0].contains("per source")).unwrap_or_default();
        format!("limit {}{exceed}{ban}", rates.join(", "))
    });
    let action = prop_oneof![
        pick(&["permit", "deny", "reject", "reject with 9", "reject with host-prohibited"]),
        limit
    ];
    let v4 = prop_oneof![
        pick(&["any", "set:trusted", "host 192.0.2.1"]),
        (any::<u32>(), 0_u8..=32).prop_map(|(address, length)| {
            format!("{}/{length}", Prefix::containing(Ipv4Addr::from_bits(address).into(), length).address())
        }),
        (any::<u32>(), 0_u32..0x1_0000).prop_map(|(address, mask)| {
            format!("{} {}", Ipv4Addr::from_bits(address), Ipv4Addr::from_bits(mask))
        }),
    ];
    let v6 = prop_oneof![
        pick(&["any", "set:trusted", "set:v6", "host 2001:db8::1"]),
        (any::<u128>(), 0_u8..=128).prop_map(|(address, length)| {
            let address = std::net::Ipv6Addr::from_bits(address);
            format!("{}/{length}", Prefix::containing(address.into(), length).address())
        }),
    ];
    let one_family = |family: Family| {
        let item = prop_oneof![
            any::<u8>().prop_map(|kind| kind.to_string()),
            (any::<u8>(), any::<u8>()).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
            prop::sample::select(names::NAMES).prop_filter_map("of the other family", move |name| {
                name.in_family(family).map(|_| name.text.to_owned())
            }),
        ];
        let numbers = prop_oneof![
            any::<u8>().prop_map(|code| code.to_string()),
            (any::<u8>(), any::<u8>(), any::<u8>()).prop_map(|(a, b, c)| format!(
                "{{{}-{}, {c}}}",
                a.min(b),
                a.max(b)
            )),
        ];
        prop_oneof![
            Just(String::new()),
            Just("fragments".to_owned()),
            prop::collection::vec(item, 1..5).prop_map(|items| format!("{{{}}}", items.join(", "))),
            (any::<u8>(), numbers.clone()).prop_map(|(kind, codes)| format!("{kind} {codes}")),
            (any::<u8>(), any::<u8>(), numbers).prop_map(|(a, b, codes)| format!("{{{a}, {b}}} {codes}")),
        ]
    };
    let common = prop::sample::select(names::NAMES)
        .prop_filter_map("of one family", |name| (!name.kinds.contains(&None)).then(|| name.text.to_owned()));
    let both = prop_oneof![
        Just(String::new()),
        prop::collection::vec(common, 1..5).prop_map(|items| format!("{{{}}}", items.join(", "))),
        pick(&["echo 0", "{echo, echo-reply} 1-3", "time-exceeded 0-1", "unreachable port-unreachable"]),
        pick(&["{echo, time-exceeded} 0", "{time-exceeded, router-solicitation} {0, 1}"]),
    ];
    let matching = prop_oneof![
        (pick(&["icmp4", "icmp"]), v4.clone(), one_family(Family::Ipv4))
            .prop_map(|(protocol, source, kinds)| format!("{protocol} {source} 10.0.0.0/8 {kinds}")),
        (v4.clone(), one_family(Family::Ipv4)).prop_map(|(to, kinds)| format!("icmp4 any {to} {kinds}")),
        (v6.clone(), v6, one_family(Family::Ipv6))
            .prop_map(|(from, to, kinds)| format!("icmp6 {from} {to} {kinds}")),
        (pick(&["icmp", "ip"]), both)
            .prop_map(|(protocol, kinds)| format!("{protocol} any set:trusted {kinds}")),
    ];
    let options = prop::sample::subsequence(
        vec!["length 20-100", "ttl 1-5", "dscp ef", "vlan 12", "log", "monitor", "force"],
        0..=7,
    )
    .prop_shuffle();
    (action, matching, options)
        .prop_map(|(action, matching, options)| format!("{action} {matching} {}", options.join(" ")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn printing_and_parsing_are_inverse(text in any_rule()) {
        let (rules, errors) = parse(&text, Origin::File, &sets());
        prop_assert_eq!(&errors, &[], "{}", text);
        let first = Rule { span: 0..0, ..rules[0].clone() };
        let printed = first.to_string();
        let (rules, errors) = parse(&printed, Origin::File, &sets());
        prop_assert_eq!(&errors, &[], "{} -> {}", text, printed);
        let second = Rule { span: 0..0, ..rules[0].clone() };
        prop_assert_eq!(second.to_string(), printed);
        prop_assert_eq!(second, first);
    }

    /// Types and codes get one text, however they are written.
    #[test]
    fn one_meaning_has_one_text(text in any_rule()) {
        let (rules, _) = parse(&text, Origin::File, &sets());
        let family = if rules[0].protocol == Protocol::Icmp4 { Family::Ipv4 } else { Family::Ipv6 };
        if let (Kinds::These(ranges), true) = (&rules[0].kinds[family as usize], rules[0].protocol != Protocol::Icmp) {
            let all = |pick: fn(&KindRange) -> [u8; 2]| {
                let items: Vec<String> =
                    ranges.iter().map(pick).map(|[first, last]| format!("{first}-{last}")).collect();
                format!("{{{}}}", items.join(", "))
            };
            // Only where all types have the same codes can numbers alone say it.
            let codes = |types: [u8; 2]| {
                ranges.iter().filter(|range| range.types == types).map(|range| range.codes).collect::<Vec<_>>()
            };
            prop_assume!(ranges.iter().all(|range| codes(range.types) == codes(ranges[0].types)));
            let numbers =
                format!("deny {} any any {} {}", rules[0].protocol, all(|range| range.types), all(|range| range.codes));
            let (again, errors) = parse(&numbers, Origin::File, &sets());
            prop_assert_eq!(&errors, &[], "{}", numbers);
            prop_assert_eq!(&again[0].kinds, &rules[0].kinds, "{}", numbers);
            prop_assert_eq!(&again[0].kind_text, &rules[0].kind_text, "{}", numbers);
        }
    }

    #[test]
    fn never_panics(text in "\\PC{0,200}") {
        parse(&text, Origin::File, &sets());
    }

    #[test]
    fn never_panics_over_what_is_nearly_a_list(words in prop::collection::vec(prop::sample::select(&[
        "permit", "deny", "reject", "with", "limit", "10/s", "burst", "per", "source/24", "rule", "exceed", "pass", ",",
        "icmp", "icmp4", "icmp6", "ip", "ipv6", "any", "host", "192.0.2.1", "10.0.0.0/8", "0.0.0.255", "255.0.255.0",
        "::/0", "set:v4", "set:", "echo", "unreachable", "port-unreachable", "{", "}", "3-5", "5-3", "0", "255", "256",
        "-", "1/", "ttl", "vlan", "dscp", "log", "1/2", "fragments", "force", "\n", "\r\n", "\n10", "access-list 101",
        "ip access-list extended", "remark", "sequence", "#", "!", "\u{e4}", "\0",
    ][..]), 0..40)) {
        let text = words.join(" ");
        let (rules, errors) = parse(&text, Origin::File, &sets());
        for span in rules.iter().map(|rule| &rule.span).chain(errors.iter().map(|error| &error.span)) {
            prop_assert!(text.get(span.clone()).is_some(), "{span:?} of {text:?}");
        }
        let _ = Report { path: "r".as_ref(), text: &text, diagnostics: &errors }.to_string();
    }
}
