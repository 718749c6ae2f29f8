//! What policy files mean, what is said of those that mean nothing, and of those that probably mean something else.

use super::*;
use crate::policy::acl::ErrorRate;

fn errors(text: &str) -> String {
    let diagnostics = parse(text).unwrap_err();
    Invalid { path: "p.toml".into(), text: text.to_owned(), diagnostics }.to_string()
}

#[test]
fn understands_every_key() {
    let policy = parse(
        "[respond]\nenabled = false\nto = [\"own\", \"192.0.2.0/24\", \"2001:db8::1\"]\nttl = 0xff\n\
         verify-checksum = false\nnext-hop = \"fib\"\ntimestamp = true\ntraceroute = true\ncount = false\n\
         probe = [\"198.51.100.0/24\"]\n",
    );
    let respond = Respond {
        enabled: false,
        own: true,
        prefixes: vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        ttl: 255,
        verify_checksum: false,
        next_hop: NextHop::Fib,
        timestamp: true,
        traceroute: true,
        count: false,
        probe: vec!["198.51.100.0/24".parse().unwrap()],
    };
    assert_eq!(policy, Ok(Policy { respond, ..Policy::default() }));
}

#[test]
fn an_empty_file_is_the_default() {
    assert_eq!(parse(""), Ok(Policy::default()));
}

#[test]
fn a_list_of_prefixes_replaces_own() {
    let policy = parse("respond.to = [\"192.0.2.0/24\"]").unwrap();
    assert!(!policy.respond.own);
}

#[test]
fn reports_place_line_caret_and_suggestion() {
    assert_eq!(
        errors("[respond]\ntll = 64\n"),
        "p.toml:2:1: unknown key in [respond]: tll\n  |\n2 | tll = 64\n  | ^^^\n  = did you mean ttl?"
    );
}

#[test]
fn reports_everything_at_once() {
    let text = errors("[respond]\nttl = 0\nto = [\"10.0.0.1/8\", 7]\nverify_checksum = 1\n[repond]\n");
    for message in [
        "p.toml:2:7: expected a number from 1 to 255, found 0",
        "p.toml:3:7: 10.0.0.1/8 has host bits set",
        "the prefix is 10.0.0.0/8; the address alone is 10.0.0.1",
        "p.toml:3:21: expected \"own\", an address or a prefix, in quotes, found 7",
        "p.toml:4:1: unknown key in [respond]: verify_checksum",
        "did you mean verify-checksum?",
        "p.toml:5:2: unknown table: repond",
        "did you mean respond?",
    ] {
        assert!(text.contains(message), "{message:?} is missing in:\n{text}");
    }
}

#[test]
fn reports_what_is_not_toml() {
    let text = errors("[respond]\nttl = = 1\n");
    assert!(text.starts_with("p.toml:2:7: not TOML: "), "{text}");
}

#[test]
fn refuses_addresses_that_no_host_has() {
    let text = errors("respond.to = [\"224.0.0.0/8\", \"ff02::1\", \"127.0.0.1\"]");
    assert!(text.contains("224.0.0.0/8 can't be served: 224.0.0.0/4 is multicast"), "{text}");
    assert!(text.contains("ff02::1 can't be served: ff00::/8 is multicast"), "{text}");
    assert!(text.contains("127.0.0.1 can't be served: 127.0.0.0/8 is loopback"), "{text}");
}

#[test]
fn a_missing_file_is_named() {
    let error = read(Path::new("/nonexistent/policy.toml")).unwrap_err().to_string();
    assert_eq!(error, "reading the policy /nonexistent/policy.toml: No such file or directory (os error 2)");
}

/// A directory with a policy and files beside it.
fn directory(policy: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("policy.toml"), policy).unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

/// What is said of a policy with files beside it; the directory's name is left out.
fn load_errors(policy: &str, files: &[(&str, &str)]) -> String {
    let directory = directory(policy, files);
    let error = load(&directory.path().join("policy.toml")).unwrap_err().to_string();
    error.replace(&format!("{}/", directory.path().display()), "")
}

fn warnings(text: &str) -> Vec<String> {
    let directory = directory(text, &[]);
    let loaded = load(&directory.path().join("policy.toml")).unwrap();
    loaded.warnings.iter().map(|warning| warning.message.clone()).collect()
}

#[test]
fn understands_the_whole_of_a_policy() {
    let directory = directory(
        r#"
[sets]
trusted = ["10.0.0.0/8", "2001:db8::/32", "set:office"]
office = ["192.0.2.0/24", "10.0.0.0/8"]
blocklist = { file = "blocklist.txt" }
lately = { dynamic = true }

[acl]
default = "deny"
preset = ["deprecated", "no-redirects"]
rules = """
permit icmp set:trusted any
deny   icmp set:blocklist any
deny   icmp set:lately any
reject icmp any host 192.0.2.9 echo
remark everything else may ping, within reason
limit 100/s burst 200 per source icmp any any echo
"""

[acl.errors]
per-source = "20/s burst 5"
total = "6000/min"
"#,
        &[("blocklist.txt", "198.51.100.0/24 ; SBL1\n")],
    );
    let loaded = load(&directory.path().join("policy.toml")).unwrap();
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.files, ["policy.toml", "blocklist.txt"].map(|name| directory.path().join(name)));
    let Policy { sets, acl, .. } = &loaded.policy;
    let sets: Vec<(&str, usize, bool)> =
        sets.iter().map(|set| (&*set.name, set.prefixes.len(), set.dynamic)).collect();
    assert_eq!(
        sets,
        [("blocklist", 1, false), ("lately", 0, true), ("office", 2, false), ("trusted", 3, false)]
    );
    assert_eq!(acl.default, DefaultAction::Deny);
    assert_eq!(acl.errors.per_source, ErrorRate { per_second: 20, burst: 5 });
    assert_eq!(acl.errors.total, ErrorRate { per_second: 100, burst: 100 });
    let rules: Vec<String> = acl.rules.iter().map(|rule| format!("{} {rule}", rule.number)).collect();
    assert_eq!(
        rules,
        [
            "10 permit icmp set:trusted any",
            "20 deny icmp set:blocklist any",
            "30 deny icmp set:lately any",
            "40 reject icmp4 any host 192.0.2.9 echo",
            "50 limit 100/s burst 200 per source icmp any any echo",
            "10 deny icmp4 any any source-quench",
            "20 deny icmp4 any any alternate-address",
            "30 deny icmp4 any any 15-18",
            "40 deny icmp4 any any 30-39",
            "10 deny icmp any any redirect force",
        ]
    );
    assert_eq!(&loaded.text[acl.rules[1].span.clone()], "deny   icmp set:blocklist any");
    assert_eq!(acl.rules[9].origin, Origin::Preset("no-redirects"));
}

#[test]
fn a_snapshot_means_the_same_without_the_files() {
    let text = "[sets]\nblocklist = { file = \"list\" }\nown = [\"set:blocklist\", \"10.0.0.0/8\"]\n\
                [acl]\nrules = \"deny icmp set:own any\"\n";
    let original = directory(text, &[("list", "192.0.2.1-192.0.2.2\n2001:db8::/32 # x\n")]);
    let loaded = load(&original.path().join("policy.toml")).unwrap();
    let saved = tempfile::tempdir().unwrap();
    loaded.save(saved.path()).unwrap();
    drop(original);
    let again = load_snapshot(saved.path()).unwrap();
    assert_eq!(again.policy, loaded.policy);
    assert_eq!(again.text, loaded.text);
    assert_eq!(again.files, ["policy.toml", "sets/blocklist"].map(|name| saved.path().join(name)));
}

#[test]
fn shows_the_place_of_a_rule() {
    for text in [
        "[acl]\nrules = \"\"\"\npermit icmp any any\ndeny icmp4 any any ecko\n\"\"\"\n",
        "[acl]\r\nrules = '''\r\npermit icmp any any\r\ndeny icmp4 any any ecko\r\n'''\r\n",
    ] {
        assert_eq!(
            errors(text),
            "p.toml:4:20: unknown message type: ecko\n  |\n4 | deny icmp4 any any ecko\n  |                    ^^^^\n  \
             = did you mean echo?"
        );
    }
    assert_eq!(
        errors("acl.rules = \"deny icmp any any ecko\"\n").lines().next(),
        Some("p.toml:1:32: unknown message type: ecko")
    );
    // With escapes a place in the text is none in the file.
    assert_eq!(
        errors("acl.rules = \"permit icmp any any\\ndeny icmp any any ecko\"\n").lines().next(),
        Some("p.toml:1:13: unknown message type: ecko")
    );
}

#[test]
fn reports_errors_in_acl() {
    for (text, message) in [
        ("acl = 1", "p.toml:1:7: expected a table: [acl], found 1"),
        ("acl.default = \"dney\"", "p.toml:1:15: expected \"permit\" or \"deny\", found \"dney\""),
        ("acl.default = \"dney\"", "= did you mean \"deny\"?"),
        ("acl.rule = \"\"", "p.toml:1:5: unknown key in [acl]: rule"),
        ("acl.rules = []", "expected the rules, one a line, between \"\"\" and \"\"\", found a list"),
        ("acl.preset = \"deprecated\"", "expected a list: [\"deprecated\"], found \"deprecated\""),
        (
            "acl.preset = [\"depricated\"]",
            "expected \"deprecated\" or \"rfc4890-host\" or \"rfc4890-router\" or \"sane-errors\" or \"no-redirects\" or \
             \"flood-guard\", found \"depricated\"",
        ),
        ("acl.preset = [\"deprecated\", \"deprecated\"]", "p.toml:1:29: the preset deprecated stands twice"),
        ("acl.errors = 1", "expected a table: [acl.errors], found 1"),
        ("acl.errors.totl = \"1/s\"", "unknown key in [acl.errors]: totl"),
        ("acl.errors.total = 1", "expected a rate like \"10/s burst 20\", found 1"),
        (
            "acl.errors.total = \"1\"",
            "p.toml:1:20: expected a rate like 100/s, 6000/min, 1/h or 10mbit/s, found 1",
        ),
    ] {
        let text = errors(text);
        assert!(text.contains(message), "{message:?} is missing in:\n{text}");
    }
}

#[test]
fn reports_errors_in_limits() {
    for (text, message) in [
        ("limits = 1", "p.toml:1:10: expected a table: [limits], found 1"),
        ("limits.bucket = 1024", "unknown key in [limits]: bucket"),
        ("limits.buckets = 1000", "p.toml:1:18: expected a power of two from 1024 to 16777216, found 1000"),
        ("limits.buckets = 512", "expected a power of two from 1024"),
        ("limits.buckets = 33554432", "expected a power of two from 1024 to 16777216"),
        ("limits.buckets = -1024", "a bucket takes 8 bytes; 131072 are usual"),
        (
            "acl.rules = 'limit 100000/s burst 999 icmp any any'",
            "p.toml:1:14: rule 10 (limit 100000/s burst 999 icmp any any): burst 999 of the rate 100000/s burst 999 is less than \
             comes in 10 ms, for which the kernel's clock may stand still",
        ),
        ("acl.rules = 'limit 100000/s burst 999 icmp any any'", "= write burst 1000 or more"),
        ("acl.rules = 'limit 1mbit/s burst 9kbit icmp any any'", "= write burst 10000bit or more"),
        (
            "acl.rules = 'limit 1kbit/s burst 223bit icmp any any'",
            "burst 223bit of the rate 1000bit/s burst 223bit is less than the shortest packet has",
        ),
        (
            "acl.rules = 'limit 1kbit/s burst 223bit icmp any any'",
            "= write burst 224bit or more; longer packets",
        ),
        ("acl.rules = 'limit 1/h burst 10 icmp any any'", "takes longer to come again than can be counted"),
        ("acl.rules = 'limit 1/h burst 10 icmp any any'", "= write burst 9 or less"),
        ("acl.rules = 'limit 20000000/s icmp any any'", "the rate 20000000/s is more than can be counted"),
        ("acl.rules = 'limit 20gbit/s icmp any any'", "= 10000000000bit/s is the most"),
        (
            "acl.rules = 'limit 1/s, 2/s burst 9, 3/s per source, 4/s per destination, 5/s icmp any any'",
            "p.toml:1:75: a limit has 4 rates at most",
        ),
        (
            "acl.errors.per-source = '1/s burst 40000'",
            "p.toml:1:25: per-source: burst 40000 of the rate 1/s burst 40000 per source takes longer to come again than can be counted",
        ),
        ("acl.errors.per-source = '1/s burst 40000'", "= write burst 35184 or less"),
        (
            "acl.errors.total = '100000/s burst 5'",
            "total: burst 5 of the rate 100000/s burst 5 is less than comes in 10 ms",
        ),
        ("acl.errors.total = '20000000/s'", "= 10000000/s is the most"),
    ] {
        let text = errors(text);
        assert!(text.contains(message), "{message:?} is missing in:\n{text}");
    }
    for rule in [
        "limit 1/h burst 9",
        "limit 10000000/s",
        "limit 10gbit/s",
        "limit 100000/s burst 1000",
        "limit 1kbit/s burst 224bit",
    ] {
        parse(&format!("acl.rules = '{rule} icmp any any'")).unwrap();
    }
}

/// A policy with a rule, served prefixes and sets, whose second line are the rules.
fn banning(sets: &str, rules: &str) -> String {
    let rules = rules.replace('|', "\\n");
    format!(
        "sets = {{ {sets} }}\nacl.rules = \"{rules}\"\nrespond.to = [\"own\", \"198.51.100.0/25\", \"2001:db8:53::1\"]\n"
    )
}

const BANNED: &str = "banned = { dynamic = true }, few = ['203.0.113.64/26']";

#[test]
fn reports_bans_that_cannot_be() {
    let limit = |length: &str, source: &str| {
        format!("limit 1/s per source{length} ban 1m after 1s icmp {source} any")
    };
    let any = |length: &str| limit(length, "any");
    let denied = "deny icmp set:banned any|";
    for (sets, rules, message) in [
        (
            "",
            any(""),
            "p.toml:2:14: rule 10 (limit 1/s per source ban 1m after 1s icmp any any) bans into the set banned, which does not exist",
        ),
        ("", any(""), "= write banned = { dynamic = true } in [sets]"),
        ("banned = ['192.0.2.1']", any(""), "bans into the set banned, which is not dynamic"),
        (BANNED, any("/24"), "would ban 198.51.100.0/24, and in it 198.51.100.0/25, which is served"),
        (BANNED, any("/24"), "= write per source/25"),
        (BANNED, any("/48"), "would ban 2001:db8:53::/48, and in it 2001:db8:53::1, which is served"),
        (BANNED, any("/48"), "= write per source/64"),
        (BANNED, limit("/24", "198.51.0.0/16"), "198.51.100.0/25, which is served"),
        (
            BANNED,
            format!("{denied}permit icmp set:few any|{}", limit("/25", "any")),
            "rule 30 (limit 1/s per source/25 ban 1m after 1s icmp any any) would ban 203.0.113.0/25, and in it 203.0.113.64/26, \
             which rule 20 (permit icmp set:few any) exempts",
        ),
        (
            BANNED,
            format!("{denied}permit icmp set:few any|{}", limit("/25", "any")),
            "= write per source/26, or put that rule before rule 10 (deny icmp set:banned any)",
        ),
        // The /64 of the default, too: nobody leaves those out of a ban who are permitted behind what denies it.
        (
            BANNED,
            format!("{denied}permit icmp host 2001:db8:7::4 any|{}", any("")),
            "would ban 2001:db8:7::/64, and in it 2001:db8:7::4, which rule 20 (permit icmp6 host 2001:db8:7::4 any) exempts",
        ),
        (
            BANNED,
            format!("{denied}permit icmp host 2001:db8:7::4 any|{}", any("")),
            "= write per source/128, or put that rule before rule 10",
        ),
    ] {
        let text = errors(&banning(sets, &rules));
        assert!(text.contains(message), "{message:?} is missing in:\n{text}");
    }
    for rules in [
        format!("{denied}{}", any("")),
        format!("{denied}{}", any("/25")),
        format!("{denied}{}", limit("/24", "203.0.113.0/24")),
        format!("permit icmp set:few any|{denied}{}", limit("/25", "any")),
        format!("{denied}permit icmp set:few any|{}", any("")),
        format!("permit icmp host 2001:db8:7::4 any|{denied}{}", any("")),
    ] {
        let policy = banning(BANNED, &rules);
        assert_eq!(parse(&policy).map(|_| ()), Ok(()), "{rules}");
        assert!(warnings(&policy).iter().all(|warning| !warning.contains("ban")), "{rules}");
    }
}

#[test]
fn warns_of_bans_without_effect() {
    let limit = "limit 1/s per source ban 1m after 1s icmp any any";
    let first = |rules: &str| {
        let warnings = warnings(&banning("banned = { dynamic = true }", rules));
        warnings.into_iter().find(|warning| warning.contains(" bans ")).unwrap()
    };
    let nobody_asks = "bans sources, but no rule before it denies what comes from set:banned";
    let called = format!("rule 10 ({limit}) ");
    for rules in [limit.to_owned(), format!("{limit}|deny icmp set:banned any")] {
        assert_eq!(first(&rules), format!("{called}{nobody_asks}"));
    }
    for useless in
        ["permit icmp set:banned any", "deny icmp any set:banned", "deny icmp set:banned any monitor"]
    {
        assert!(first(&format!("{useless}|{limit}")).contains(nobody_asks), "{useless}");
    }
    assert_eq!(
        first(&format!("deny icmp set:banned any|{limit} monitor")),
        format!("rule 20 ({limit} monitor) bans nobody: monitor only counts")
    );
    let served = limit.replace("icmp any", "icmp4 198.51.100.0/26");
    assert_eq!(
        first(&format!("deny icmp set:banned any|{served}")),
        format!("rule 20 ({served}) bans nobody: served addresses never are")
    );
}

/// More lengths than the packet path looks for are refused.
#[test]
fn bans_are_of_so_many_lengths() {
    use crate::policy::{
        compile::{Interface, Tables, TooLarge},
        slots::Slots,
    };
    let compiled = |lengths: std::ops::Range<u8>| {
        let rules = lengths.map(|length| {
            format!("limit 1/s per source/{length} ban 1m after 1s icmp4 any host 203.0.113.{length}|")
        });
        let policy =
            parse(&banning(BANNED, &rules.collect::<String>()).replace("198.51.100.0/25", "198.51.0.0/16"))
                .unwrap();
        let interface = Interface { mac: [2; 6], ..Interface::default() };
        let slots = Slots::assign(&policy, &Slots::default()).unwrap();
        Tables::compile(&policy, &interface, &slots)
            .map(|tables| tables.config.ban_lengths.map(|lengths| lengths.length4))
    };
    assert_eq!(compiled(20..24), Ok([20, 21, 22, 23]));
    assert_eq!(compiled(20..21), Ok([20, 0, 0, 0]));
    assert_eq!(compiled(20..25), Err(TooLarge::BanLengths));
}

#[test]
fn reports_errors_in_sets() {
    for (text, message) in [
        ("sets = 1", "p.toml:1:8: expected a table: [sets], found 1"),
        ("sets.\"a b\" = []", "p.toml:1:6: \"a b\" can't be the name of a set"),
        ("sets.\"../x\" = []", "can't be the name of a set"),
        ("sets.a = 1", "expected a list of prefixes, { file = \"NAME\" } or { dynamic = true }, found 1"),
        (
            "sets.a = {}",
            "expected a list of prefixes, { file = \"NAME\" } or { dynamic = true }, found a table",
        ),
        ("sets.a = { dynamic = false }", "{ dynamic = true }, found a table"),
        ("sets.a = { file = \"\" }", "expected the name of a file, in quotes, found \"\""),
        ("sets.a = { fil = \"x\" }", "unknown key of a set: fil"),
        ("sets.a = { dynamic = 1 }", "expected true or false, found 1"),
        ("sets.a = { file = \"x\", dynamic = true }", "set a is read from a file and dynamic at once"),
        ("sets.a = [1]", "expected an address, a prefix or \"set:NAME\", in quotes, found 1"),
        ("sets.a = [\"10.0.0.1/8\"]", "the prefix is 10.0.0.0/8; the address alone is 10.0.0.1"),
        ("sets.a = [\"x\"]", "\"x\" is not an IP address"),
        ("sets.a = [\"10.0.0.0/40\"]", "\"40\" is not a prefix length: a number from 0 to 32 is expected"),
        ("sets.abc = []\nsets.d = [\"set:abd\"]", "p.toml:2:11: there is no set abd in [sets]"),
        ("sets.abc = []\nsets.d = [\"set:abd\"]", "did you mean set:abc?"),
        ("sets.a = [\"set:a\"]", "p.toml:1:11: sets that are members of themselves: a -> a"),
        (
            "[sets]\na = [\"set:b\"]\nb = [\"10.0.0.1\", \"set:c\"]\nc = [\"set:a\"]\n",
            "p.toml:4:6: sets that are members of themselves: a -> b -> c -> a",
        ),
        (
            "[sets]\na = [\"set:b\"]\nb = { dynamic = true }\n",
            "dynamic set b can't be a member: it is filled while the policy runs",
        ),
    ] {
        let text = errors(text);
        assert!(text.contains(message), "{message:?} is missing in:\n{text}");
    }
}

#[test]
fn one_wrong_set_gives_one_error() {
    let text = errors(
        "[sets]\na = [\"x\"]\nb = 1\nc = [\"set:a\", \"set:b\"]\n[acl]\nrules = 'permit icmp set:a set:b'\n",
    );
    assert_eq!(text.matches("p.toml").count(), 2, "{text}");
}

#[test]
fn sets_that_would_double_at_each_step_do_not() {
    let mut text = "[sets]\nx0 = [\"10.0.0.1\"]\n".to_owned();
    for number in 1..200 {
        text += &format!("x{number} = [\"set:x{0}\", \"set:x{0}\"]\n", number - 1);
    }
    text += "[acl]\nrules = \"deny icmp set:x199 any\"\n";
    let policy = parse(&text).unwrap();
    assert!(policy.sets.iter().all(|set| set.prefixes.len() == 1));
}

#[test]
fn shows_errors_of_a_set_in_its_file() {
    let policy = "[sets]\na = { file = \"list\" }\n[acl]\nrules = \"deny icmp set:a any\"\n";
    assert_eq!(
        load_errors(policy, &[("list", "10.0.0.1\n  10.0.0. ; x\n")]),
        "list:2:3: \"10.0.0.\" is not an IP address\n  |\n2 |   10.0.0. ; x\n  |   ^^^^^^^"
    );
    let text = load_errors(policy, &[("list", &"x\n".repeat(23))]);
    assert_eq!(text.matches("list:").count(), 20, "{text}");
    assert!(text.contains("policy.toml:2:5: and 3 more lines of list that are wrong"), "{text}");
    assert!(
        load_errors(policy, &[])
            .starts_with("policy.toml:2:5: reading list for set a: No such file or directory (os error 2)")
    );
    let text = load_errors(&policy.replace("list", "."), &[]);
    assert!(text.contains("for set a: it is not a regular file"), "{text}");
}

#[test]
fn warns_of_what_a_set_file_probably_does_not_mean() {
    let policy = "[sets]\na = { file = \"list\" }\n[acl]\nrules = \"deny icmp set:a any\"\n";
    let directory = directory(policy, &[("list", "# x\n10.0.0.1/8\n10.0.0.1/16")]);
    let loaded = load(&directory.path().join("policy.toml")).unwrap();
    let text = loaded.report().to_string();
    assert!(
        text.ends_with(
            "list:2:1: warning: 2 prefixes have bits set behind their lengths: the whole prefixes are meant\n  |\n\
             2 | 10.0.0.1/8\n  | ^^^^^^^^^^\n  = the prefix is 10.0.0.0/8"
        ),
        "{text}"
    );
}

#[test]
fn a_file_that_is_not_text_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p");
    fs::write(&path, b"\xff").unwrap();
    let error = read(&path).unwrap_err().to_string();
    assert!(error.ends_with("/p: invalid utf-8 sequence of 1 bytes from index 0"), "{error}");
}

#[test]
fn there_are_limits() {
    let rules: String =
        (0..=MAX_RULES).map(|n| format!("deny icmp4 any any {} {}\n", n / 256, n % 256)).collect();
    let text = errors(&format!("[acl]\nrules = '''\n{rules}'''"));
    assert!(text.contains("rules, presets included; 15344 are the most"), "{}", &text[..200]);
    let sets: String = (0..17).map(|n| format!("s{n} = {{ dynamic = true }}\n")).collect();
    assert!(errors(&format!("[sets]\n{sets}")).contains("the policy has 17 dynamic sets; 16 are the most"));
}

#[test]
fn c70_c74_refuses_what_breaks_the_network() {
    for (rule, named) in [
        ("deny icmp any any packet-too-big", "ICMP type 3 code 4: Path MTU discovery"),
        ("reject icmp4 any any unreachable", "ICMP type 3 code 4: Path MTU discovery"),
        ("deny icmp6 any any 2", "ICMPv6 type 2: Path MTU discovery"),
        ("deny icmp6 any any no-route", "ICMPv6 type 1 code 0: errors that RFC 4890"),
        ("deny icmp6 any any hop-limit", "ICMPv6 type 3 code 0: errors"),
        ("deny icmp6 any any next-header", "ICMPv6 type 4 code 1: errors"),
        ("deny icmp6 any any nd-ns", "ICMPv6 type 135 with hop limit 255: Neighbour Discovery"),
        ("deny icmp6 any any mld-query ttl 0-1", "ICMPv6 type 130 with hop limit 1: multicast"),
        ("deny icmp6 any any 140-150", "ICMPv6 type 143 with hop limit 1: multicast"),
    ] {
        let text = errors(&format!("acl.rules = '{rule}'"));
        let message = format!(") would deny {named}");
        assert!(text.contains(&message) && text.starts_with("p.toml:1:14: rule 10 ("), "{message}\n{text}");
        assert!(text.ends_with("= add force if that is meant; else name other messages"), "{text}");
        parse(&format!("acl.rules = '{rule} force'")).unwrap();
        parse(&format!("acl.rules = '{rule} monitor'")).unwrap();
    }
    for rule in [
        "deny icmp any any",
        "deny icmp4 any any port-unreachable",
        "deny icmp6 any any nd-ns ttl 0-254",
        "deny icmp6 any any reassembly-timeout",
        "permit icmp any any packet-too-big",
        "limit 1/s icmp6 any any unreachable",
    ] {
        parse(&format!("acl.rules = '{rule}'")).unwrap();
    }
}

#[test]
fn c67_warns_of_redirects_that_a_rule_does_not_reach() {
    // Redirect is one of the messages that always reach the stack, unless a rule says `force`.
    assert_eq!(
        warnings("acl.rules = 'deny icmp any any redirect'"),
        [
            "rule 10 (deny icmp any any redirect) does not reach ICMPv6 type 137 with hop limit 255, which the guard lets \
          through: part of Neighbour Discovery (RFC 4861); hosts can do without, which RFC 4890 4.4.4 leaves to policy"
        ]
    );
    for rule in [
        "deny icmp any any redirect force",
        "deny icmp4 any any redirect",
        "deny icmp6 any any redirect ttl 0-254",
    ] {
        assert!(warnings(&format!("acl.rules = '{rule}'")).is_empty(), "{rule}");
    }
}

#[test]
fn warns_of_messages_that_a_monitor_does_not_count() {
    let all = warnings("acl.rules = 'deny icmp4 any any packet-too-big monitor'");
    assert_eq!(all.len(), 1, "{all:?}");
    assert!(
        all[0].starts_with(
            "rule 10 (deny icmp4 any any packet-too-big monitor) does not reach ICMP type 3 code 4, which the guard lets through"
        ),
        "{all:?}"
    );
    for rule in ["deny icmp4 any any packet-too-big monitor force", "deny icmp any any monitor"] {
        assert!(warnings(&format!("acl.rules = '{rule}'")).is_empty(), "{rule}");
    }
}

#[test]
fn warns_of_rules_that_never_match() {
    let rules =
        |rules: &str| warnings(&format!("[sets]\na = [\"10.0.0.0/8\"]\n[acl]\nrules = '''\n{rules}\n'''"));
    let none: [&str; 0] = [];
    assert_eq!(
        rules("deny icmp set:a any echo\ndeny icmp set:a any echo"),
        ["rule 20 repeats rule 10: deny icmp set:a any echo"]
    );
    assert_eq!(
        rules("deny icmp set:a any echo\ndeny icmp set:a any echo-request\npermit icmp4 set:a any 8 log"),
        [
            "rule 20 repeats rule 10: deny icmp set:a any echo",
            "rule 30 (permit icmp4 set:a any echo log) never matches: rule 10 (deny icmp set:a any echo) comes first",
        ]
    );
    assert_eq!(
        rules("permit icmp 10.0.0.0/8 any\ndeny icmp 10.1.0.0/16 set:a echo"),
        [
            "rule 20 (deny icmp4 10.1.0.0/16 set:a echo) never matches: rule 10 (permit icmp4 10.0.0.0/8 any) comes first"
        ]
    );
    assert_eq!(rules("permit icmp any any ttl 1-255\npermit icmp set:a any"), none);
    assert_eq!(rules("permit icmp any any fragments\npermit icmp set:a any"), none);
    assert_eq!(rules("permit icmp set:a any\npermit icmp set:a any fragments").len(), 1);
    assert_eq!(rules("permit icmp4 any any\npermit icmp set:a any"), none);
    assert_eq!(rules("permit icmp any any\ndeny icmp set:a any redirect force"), none);
    assert_eq!(rules("permit icmp set:a any\npermit icmp any set:a"), none);
    assert_eq!(rules("permit icmp4 any any {echo, echo-reply}\npermit icmp4 set:a any echo 0").len(), 1);
}

#[test]
fn warns_of_presets_that_say_nothing() {
    let text = "acl.preset = [\"deprecated\"]\nacl.rules = 'permit icmp any any'\n";
    assert_eq!(
        warnings(text),
        [
            "no rule of preset deprecated ever matches: presets follow the policy's own rules, and rule 10 (permit icmp any \
         any) comes before rule 10 of preset deprecated (deny icmp4 any any source-quench)"
        ]
    );
    assert!(warnings("acl.preset = [\"deprecated\"]\nacl.rules = 'permit icmp any any echo'\n").is_empty());
}

#[test]
fn warns_of_limits_and_words_without_effect() {
    let first =
        |rule: &str| warnings(&format!("acl.rules = '{rule}'")).into_iter().next().unwrap_or_default();
    assert!(first("limit 1/s icmp any any packet-too-big").starts_with(
        "rule 10 (limit 1/s icmp any any packet-too-big) never bites: no limit reaches these messages. Path MTU"
    ));
    assert!(first("limit 1/s icmp6 any any {nd-ns, nd-na}").contains("never bites"));
    assert_eq!(first("limit 1/s icmp any any packet-too-big force"), "");
    assert_eq!(first("limit 1/s icmp6 any any {nd-ns, echo}"), "");
    assert_eq!(first("limit 1/s icmp6 any any nd-ns ttl 0-254"), "");
    assert_eq!(
        first("limit 10/s, 1200/min icmp any any"),
        "rule 10 (limit 10/s, 1200/min icmp any any): the rate 1200/min never bites, because 10/s does first"
    );
    assert_eq!(
        first("limit 10/s, 10/s icmp any any"),
        "rule 10 (limit 10/s, 10/s icmp any any): the rate 10/s never bites, because 10/s does first"
    );
    assert_eq!(first("limit 10/s burst 100, 20/s burst 20 icmp any any"), "");
    assert_eq!(first("limit 10/s, 1000/s per source icmp any any"), "");
    assert_eq!(
        first("permit icmp any any echo force"),
        "rule 10 (permit icmp any any echo force): force changes nothing, none of these messages is guarded"
    );
    assert_eq!(first("limit 1/s icmp any any force"), "");
}

#[test]
fn warns_of_sets_that_do_nothing() {
    assert_eq!(
        warnings("[sets]\na = []\nb = [\"10.0.0.1\"]\nc = [\"set:b\"]\nd = { dynamic = true }\n"),
        [
            "set a is empty: rules that name it never match",
            "no rule uses set a",
            "no rule uses set c",
            "no rule uses set d",
        ]
    );
}

#[test]
fn warns_of_served_addresses_that_are_silent() {
    let silent = |text: &str| {
        let warnings = warnings(text);
        warnings.into_iter().filter(|warning| warning.contains("silent")).collect::<Vec<_>>()
    };
    let none: [&str; 0] = [];
    assert_eq!(
        silent("acl.rules = 'deny icmp any any echo'"),
        [
            "rule 10 (deny icmp any any echo) makes served addresses silent: nobody's pings to own are answered"
        ]
    );
    assert_eq!(
        silent("respond.to = [\"192.0.2.0/24\", \"::1:0:0/96\"]\nacl.rules = 'reject icmp any 192.0.0.0/16'"),
        [
            "rule 10 (reject icmp4 any 192.0.0.0/16) makes served addresses silent: nobody's pings to 192.0.2.0/24 are answered"
        ]
    );
    assert_eq!(
        silent("acl.default = 'deny'"),
        ["the default makes served addresses silent: nobody's pings to own are answered"]
    );
    assert_eq!(silent("acl.default = 'deny'\nacl.rules = 'limit 1/s icmp any any echo'"), none);
    assert_eq!(silent("acl.rules = '''\npermit icmp 10.0.0.0/8 any\ndeny icmp4 any any\n'''"), none);
    assert_eq!(silent("acl.rules = 'deny icmp any any echo monitor'"), none);
    assert_eq!(silent("acl.rules = 'deny icmp 10.0.0.0/8 any echo'"), none);
    assert_eq!(silent("acl.rules = 'deny icmp any any echo length 1000-2000'"), none);
    assert_eq!(silent("respond.enabled = false\nacl.rules = 'deny icmp any any echo'"), none);
}

#[test]
fn checks_ten_thousand_rules_quickly() {
    use std::fmt::Write as _;
    let mut rules = String::new();
    for number in 0..10_000_u32 {
        let from = std::net::Ipv4Addr::from_bits((10 << 24) + (number << 8));
        writeln!(rules, "deny icmp {from}/24 10.{}.0.0/{} echo", number % 256, 16 + number % 9).unwrap();
    }
    let text = format!("[acl]\nrules = '''\n{rules}'''");
    let started = std::time::Instant::now();
    let policy = parse(&text).unwrap();
    assert_eq!(policy.acl.rules.len(), 10_000);
    // A hundred times what it takes without optimisation would still be far below a walk of all pairs.
    assert!(started.elapsed() < std::time::Duration::from_secs(30), "{:?}", started.elapsed());
}

proptest::proptest! {
    #[test]
    fn never_panics(text in "\\PC{0,200}") {
        let _ = parse(&text).map_err(|diagnostics| {
            Invalid { path: "p".into(), text: text.clone(), diagnostics }.to_string()
        });
    }

    #[test]
    fn never_panics_over_what_is_nearly_a_policy(words in proptest::collection::vec(proptest::sample::select(&[
        "[sets]\n", "[acl]\n", "[respond]\n", "[acl.errors]\n", "a", "rules", "preset", "default", "total", " = ", "\"", "'",
        "\"\"\"", "'''", "\n", "\r\n", "{ dynamic = true }", "[", "]", ", ", "\"set:a\"", "\"10.0.0.0/8\"", "\\n", "\\",
        "deny icmp set:a any", "echo", "limit 1/s icmp any any", "\"deny\"", "\"1/s burst 2\"", "\u{e4}", "\t",
    ][..]), 0..40)) {
        let text = words.concat();
        let _ = parse(&text).map_err(|diagnostics| {
            Invalid { path: "p".into(), text: text.clone(), diagnostics }.to_string()
        });
    }
}

#[test]
fn warns_of_switches_that_change_nothing() {
    let own = "it is about served addresses that are not the host's, and no prefix is served";
    assert_eq!(warnings("respond.traceroute = true"), [format!("traceroute changes nothing: {own}")]);
    let served = "to = [\"own\", \"198.51.100.0/24\"]";
    assert!(warnings(&format!("respond = {{ traceroute = true, {served} }}")).is_empty());
    let all = "timestamp = true, traceroute = true, probe = [\"192.0.2.1\"]";
    assert!(warnings(&format!("respond = {{ {all}, {served} }}")).is_empty());
    let off = "changes nothing: all answers are switched off (enabled = false)";
    assert_eq!(
        warnings(&format!("respond = {{ {all}, {served}, enabled = false }}")),
        ["timestamp", "traceroute", "probe"].map(|name| format!("{name} {off}"))
    );
}
