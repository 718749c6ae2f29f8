//! `icmpctl policy check`, `show` and `import`: exit statuses, and what they print where. None of it needs privileges.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use icmp_tests::icmpctl::{Finished, binary};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Files, and `icmpctl` run among them, so that messages name them as they are named here.
struct Files(TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let directory = TempDir::new().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        Self(directory)
    }

    fn policy(&self, arguments: &[&str]) -> Finished {
        self.policy_with(arguments, "")
    }

    fn policy_with(&self, arguments: &[&str], stdin: &str) -> Finished {
        let mut command = Command::new(binary());
        command.current_dir(self.0.path()).arg("policy").args(arguments);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Who does not read it may have ended before.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        child.wait_with_output().unwrap().into()
    }

    /// What `show --json` prints.
    fn meaning(&self, name: &str) -> Value {
        serde_json::from_str(&self.policy(&["show", "--json", name]).ok()).unwrap()
    }
}

#[track_caller]
fn says(finished: &Finished, status: i32, stdout: &str, stderr: &str) {
    assert_eq!((finished.status, &*finished.stdout, &*finished.stderr), (Some(status), stdout, stderr));
}

const GOOD: &str = r#"
[respond]
to = ["own", "198.51.100.7"]
ttl = 255

[sets]
trusted = ["192.0.2.0/24", "2001:db8::/32"]
lately = { dynamic = true }
blocklist = { file = "blocklist.txt" }

[acl]
default = "deny"
preset = ["no-redirects"]
rules = """
permit icmp set:trusted any echo-request
15 deny icmp set:lately any
reject with 9 icmp4 192.0.2.0 0.0.0.255 any 13
deny icmp set:blocklist any
limit 10/s per source icmp any any echo log
"""

[acl.errors]
per-source = "5/s burst 20"
"#;

const BLOCKLIST: &str = "# bad\n203.0.113.0-203.0.113.5\n2001:db8:bad::/48\n";

fn good() -> Files {
    Files::new(&[("good.toml", GOOD), ("blocklist.txt", BLOCKLIST)])
}

#[test]
fn check_says_that_a_policy_is_right() {
    let files = good();
    says(
        &files.policy(&["check", "good.toml"]),
        0,
        "good.toml: no errors, 0 warnings, 6 rules, 3 sets\n",
        "",
    );
    let one = Files::new(&[("one.toml", "sets.a = [\"::1\"]\nacl.rules = \"deny icmp set:a any\"")]);
    says(&one.policy(&["check", "one.toml"]), 0, "one.toml: no errors, 0 warnings, 1 rule, 1 set\n", "");
    let empty = Files::new(&[("empty.toml", "")]);
    says(
        &empty.policy(&["check", "empty.toml"]),
        0,
        "empty.toml: no errors, 0 warnings, 0 rules, 0 sets\n",
        "",
    );
}

#[test]
fn check_shows_warnings_which_are_no_errors() {
    let policy = r#"sets.office = ["192.0.2.0/24"]
[acl]
rules = """
permit icmp any any echo
deny icmp host 192.0.2.1 any echo
deny icmp any any echo-reply force
"""
"#;
    let files = Files::new(&[("p.toml", policy)]);
    let warnings = "\
p.toml:1:6: warning: no rule uses set office
  |
1 | sets.office = [\"192.0.2.0/24\"]
  |      ^^^^^^
  = write set:office in a rule
p.toml:5:1: warning: rule 20 (deny icmp4 host 192.0.2.1 any echo) never matches: rule 10 (permit icmp any any echo) comes first
  |
5 | deny icmp host 192.0.2.1 any echo
  | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  = leave it out or move it up
p.toml:6:1: warning: rule 30 (deny icmp any any echo-reply force): force changes nothing, none of these messages is guarded
  |
6 | deny icmp any any echo-reply force
  | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  = leave it out
";
    let checked = files.policy(&["check", "p.toml"]);
    says(&checked, 0, "p.toml: no errors, 3 warnings, 3 rules, 1 set\n", warnings);
    // Whoever reads the policy hears them.
    let shown = files.policy(&["show", "p.toml", "--json"]);
    assert_eq!((shown.status, &*shown.stderr), (Some(0), warnings));
}

#[test]
fn check_reports_every_error_at_once() {
    let policy = r#"
[respond]
too = ["own"]
ttl = 0

[sets]
blocklist = { file = "blocklist.txt" }
gone = { file = "gone.txt" }

[acl]
rules = """
permit icmp any any ecko
deny icmp any any
deny icmp6 any any nd-ns
deny icmp any any timestamp-request
permit icmp set:blokclist any
"""
"#;
    let files = Files::new(&[("bad.toml", policy), ("blocklist.txt", "192.0.2.1\nnonsense\n")]);
    let errors = "\
icmpctl: bad.toml:3:1: unknown key in [respond]: too
  |
3 | too = [\"own\"]
  | ^^^
  = did you mean to?
bad.toml:4:7: expected a number from 1 to 255, found 0
  |
4 | ttl = 0
  |       ^
blocklist.txt:2:1: \"nonsense\" is not an IP address
  |
2 | nonsense
  | ^^^^^^^^
bad.toml:8:8: reading gone.txt for set gone: No such file or directory (os error 2)
  |
8 | gone = { file = \"gone.txt\" }
  |        ^^^^^^^^^^^^^^^^^^^^^
bad.toml:12:21: unknown message type: ecko
   |
12 | permit icmp any any ecko
   |                     ^^^^
   = did you mean echo?
bad.toml:14:1: rule 30 (deny icmp6 any any nd-ns) would deny ICMPv6 type 135 with hop limit 255: Neighbour Discovery \
(RFC 4861): without it IPv6 stops working on the link
   |
14 | deny icmp6 any any nd-ns
   | ^^^^^^^^^^^^^^^^^^^^^^^^
   = add force if that is meant; else name other messages
bad.toml:15:19: timestamp-request has no counterpart in IPv6
   |
15 | deny icmp any any timestamp-request
   |                   ^^^^^^^^^^^^^^^^^
   = write icmp4 if the rule is about IPv4 alone
bad.toml:16:13: there is no set blokclist in [sets]
   |
16 | permit icmp set:blokclist any
   |             ^^^^^^^^^^^^^
   = did you mean set:blocklist?
";
    for verb in ["check", "show"] {
        says(&files.policy(&[verb, "bad.toml"]), 3, "", errors);
    }
}

/// C70, C74: what breaks Path MTU discovery, Neighbour Discovery or multicast membership is refused with the rule and the reason,
/// unless it says `force`.
#[test]
fn c70_c74_check_refuses_what_breaks_the_network() {
    let refused = [
        ("icmp4 any any 3 4", "Path MTU"),
        ("icmp4 any any unreachable", "Path MTU"),
        ("icmp any any packet-too-big", "Path MTU"),
        ("icmp6 any any 2", "Path MTU"),
        ("icmp6 any any unreachable", "RFC 4890"),
        ("icmp6 any any 1 3", "RFC 4890"),
        ("icmp6 any any ttl-exceeded", "RFC 4890"),
        ("icmp6 any any 4 1", "RFC 4890"),
        ("icmp6 any any 4 0-2", "RFC 4890"),
        ("icmp6 any any 130-132", "MLD"),
        ("icmp6 any any 143", "MLD"),
        ("icmp6 any any {133, 134}", "Neighbour Discovery"),
        ("icmp6 host 2001:db8::1 any nd-na", "Neighbour Discovery"),
        ("icmp6 any any 100-200", "MLD"),
    ];
    for action in ["deny", "reject"] {
        for (rest, why) in refused {
            let rule = format!("{action} {rest}");
            let text = |rule: &str| format!("acl.rules = \"\"\"\npermit icmp any any echo\n{rule}\n\"\"\"");
            let forced = text(&format!("{rule} force"));
            let monitored = text(&format!("{rule} monitor"));
            let files = Files::new(&[("p.toml", &text(&rule)), ("f.toml", &forced), ("m.toml", &monitored)]);
            let said = files
                .policy(&["check", "p.toml"])
                .fails(3, &["p.toml:3:1: rule 20 (", " would deny ICMP", why]);
            assert!(said.contains("add force"), "{said}");
            let allowed = files.policy(&["check", "f.toml"]);
            assert_eq!((allowed.status, &*allowed.stderr), (Some(0), ""), "{rule}");
            // What would only be counted breaks nothing, but is not even counted.
            let warned = files.policy(&["check", "m.toml"]);
            assert_eq!(warned.status, Some(0), "{rule}");
            assert!(warned.stderr.contains("add force to count these, too"), "{rule}: {warned}");
        }
    }
    for rule in [
        "deny icmp4 any any 3 0-3",
        "deny icmp6 any any time-exceeded 1",
        "deny icmp6 any any 4 0",
        "deny icmp6 any any nd-ns ttl 0-254",
        "deny icmp6 any any 130-132 ttl 2-255",
        "deny icmp6 any any 138-142",
        "deny icmp any any",
        "permit icmp6 any any nd-ns",
    ] {
        let files = Files::new(&[("p.toml", &format!("acl.rules = \"{rule}\""))]);
        let checked = files.policy(&["check", "p.toml"]);
        assert_eq!(checked.status, Some(0), "{rule}: {checked}");
    }
}

#[test]
fn show_prints_the_guard_the_rules_and_what_follows_them() {
    let shown = "\
Answers echo to own, 198.51.100.7; TTL 255, checksums verified, next hop \"swap\"

SET        IPV4  IPV6  FROM
blocklist     2     1  blocklist.txt
lately        0     0  icmpctl set
trusted       1     1  the policy

NUMBER  FROM                 RULE
    10  file                 permit icmp set:trusted any echo
    15  file                 deny icmp set:lately any
    25  file                 reject with net-prohibited icmp4 192.0.2.0/24 any timestamp-request
    35  file                 deny icmp set:blocklist any
    45  file                 limit 10/s per source icmp any any echo log
    10  preset no-redirects  deny icmp any any redirect force
     -  default              deny icmp any any

preset no-redirects denies redirects of both families, also those that the guard would let through
reject sends at most 5/s burst 20 to one source, 1000/s burst 50 in all
";
    let said = good().policy(&["show", "good.toml"]).ok();
    let is_guard = |line: &&str| line.starts_with("     -  guard  ");
    let others: Vec<_> = said.lines().filter(|line| !is_guard(line)).collect();
    assert_eq!(others.join("\n") + "\n", shown);
    let guard: Vec<_> =
        said.lines().skip_while(|line| !line.starts_with("NUMBER")).skip(1).take_while(is_guard).collect();
    for rule in [
        "permit icmp4 any any 3 4",
        "permit icmp6 any any 1 (but limits apply)",
        "permit icmp6 any any 2",
        "permit icmp6 any any 4 1-2 (but limits apply)",
        "permit icmp6 any any 130-132 ttl 0-1",
    ] {
        assert!(
            guard.iter().any(|line| line.ends_with(&format!("  {rule}"))),
            "{rule} is missing in {guard:#?}"
        );
    }
    let off = Files::new(&[("off.toml", "respond.enabled = false")]);
    let shown = off.policy(&["show", "off.toml"]).ok();
    assert!(shown.starts_with("Nothing is answered: [respond] is not enabled\n"), "{shown}");
}

#[test]
fn show_prints_json() {
    let meaning = good().meaning("good.toml");
    let respond = json!({
        "enabled": true, "to": ["own", "198.51.100.7"], "ttl": 255, "verify_checksum": true, "next_hop": "swap",
        "timestamp": false, "traceroute": false, "probe": []
    });
    assert_eq!(meaning["respond"], respond);
    let sets = json!([
        {"name": "blocklist", "ipv4": 2, "ipv6": 1, "dynamic": false, "file": "blocklist.txt"},
        {"name": "lately", "ipv4": 0, "ipv6": 0, "dynamic": true, "file": null},
        {"name": "trusted", "ipv4": 1, "ipv6": 1, "dynamic": false, "file": null},
    ]);
    assert_eq!(meaning["sets"], sets);
    assert_eq!(
        meaning["rules"][0],
        json!({"number": 10, "preset": null, "rule": "permit icmp set:trusted any echo"})
    );
    let preset = json!({"number": 10, "preset": "no-redirects", "rule": "deny icmp any any redirect force"});
    assert_eq!(meaning["rules"][5], preset);
    assert_eq!(meaning["rules"].as_array().unwrap().len(), 6);
    assert_eq!(meaning["default"], "deny");
    let errors =
        json!({"per_source": {"per_second": 5, "burst": 20}, "total": {"per_second": 1000, "burst": 50}});
    assert_eq!(meaning["errors"], errors);
    let guard = meaning["guard"].as_array().unwrap();
    assert_eq!(guard[0]["rule"], "permit icmp4 any any 3 4");
    assert_eq!((&guard[0]["from_limits"], &guard[1]["from_limits"]), (&json!(true), &json!(false)));
}

/// What `show` prints means what it shows.
#[test]
fn shown_rules_can_be_typed() {
    let rules = |meaning: &Value| -> Vec<String> {
        let rows = meaning["rules"].as_array().unwrap().iter();
        rows.map(|row| format!("{} {}", row["number"], row["rule"].as_str().unwrap())).collect()
    };
    let shown = rules(&good().meaning("good.toml"));
    let (own, preset) = shown.split_at(5);
    let sets = GOOD.split("[acl]").next().unwrap();
    let again = format!("{sets}\n[acl]\nrules = \"\"\"\n{}\n\"\"\"", own.join("\n"));
    let files = Files::new(&[("again.toml", &again), ("blocklist.txt", BLOCKLIST)]);
    assert_eq!(rules(&files.meaning("again.toml")), own);
    let alone = Files::new(&[("p.toml", &format!("acl.rules = \"{}\"", preset[0]))]);
    assert_eq!(rules(&alone.meaning("p.toml")), preset);
}

const ROUTER: &str = "\
hostname r1
object-group network OFFICE
 host 192.0.2.1
 10.0.0.0 255.0.0.0
ip access-list extended EDGE
 remark who may ping
 10 permit icmp object-group OFFICE any
 20 permit tcp any any eq 443
 30 deny icmp any any redirect
ipv6 access-list EDGE6
 permit icmp any any echo-request
ip access-list extended OTHER
 deny icmp any any echo
";

#[test]
fn import_makes_a_policy_and_says_what_it_left_out() {
    let files = Files::new(&[("router.txt", ROUTER)]);
    let policy = "\
# What a router's configuration says of ICMP, in the words of icmpctl.

[sets]
\"OFFICE\" = [\"10.0.0.0/8\", \"192.0.2.1\"]

[acl]
default = \"permit\"
rules = '''
remark access list EDGE
remark who may ping
permit icmp4 set:OFFICE any
deny icmp4 any any redirect
remark what the list says without words
deny icmp4 any any
remark access list EDGE6
permit icmp6 any any echo
remark what the list says without words
deny icmp6 any any
'''
";
    let left_out = "\
line 1: left out: hostname r1
  neither a rule of an access list nor a group of networks
line 8: left out: 20 permit tcp any any eq 443
  not about ICMP but about tcp
line 13: left out: deny icmp any any echo
  of access list OTHER: one list a family is taken; --list OTHER takes this one
5 rules, 3 lines left out
";
    says(&files.policy(&["import", "router.txt"]), 0, policy, left_out);
    for arguments in [&["import"][..], &["import", "-"]] {
        says(&files.policy_with(arguments, ROUTER), 0, policy, left_out);
    }
    // What it prints is a policy.
    fs::write(files.0.path().join("imported.toml"), policy).unwrap();
    let counts = "imported.toml: no errors, 0 warnings, 5 rules, 1 set\n";
    says(&files.policy(&["check", "imported.toml"]), 0, counts, "");
}

#[test]
fn import_takes_the_lists_that_are_named() {
    let files = Files::new(&[("router.txt", ROUTER)]);
    let other = files.policy(&["import", "router.txt", "--list", "OTHER"]);
    assert!(
        other.stderr.contains("of access list EDGE: one list a family is taken; --list EDGE takes"),
        "{other}"
    );
    let other = other.ok();
    assert!(other.contains("remark access list OTHER\ndeny icmp4 any any echo\n"), "{other}");
    assert!(other.contains("remark access list EDGE6\n") && !other.contains("EDGE\n"), "{other}");
    let said = files.policy(&["import", "router.txt", "--list", "EDGE", "--list", "NONE"]);
    says(&said, 1, "", "icmpctl: router.txt has no access list NONE; it has: EDGE, EDGE6, OTHER\n");
}

#[test]
fn what_can_not_be_read_and_what_is_no_command_fail_otherwise() {
    let files = Files::new(&[]);
    fs::write(files.0.path().join("latin1.toml"), b"# caf\xe9\n").unwrap();
    for verb in ["check", "show"] {
        for (name, why) in [
            ("missing.toml", "No such file or directory (os error 2)"),
            (".", "Is a directory (os error 21)"),
            ("latin1.toml", "invalid utf-8 sequence of 1 bytes from index 5"),
        ] {
            let said = format!("icmpctl: reading the policy {name}: {why}\n");
            says(&files.policy(&[verb, name]), 1, "", &said);
        }
    }
    fs::write(files.0.path().join("none.txt"), "hostname r1\ninterface e0\n").unwrap();
    let said = "icmpctl: none.txt has no access list of IPv4 or IPv6\n";
    says(&files.policy(&["import", "none.txt"]), 1, "", said);
    let missing = files.policy(&["import", "missing.txt"]);
    let said = "icmpctl: reading the configuration missing.txt: No such file or directory (os error 2)\n";
    says(&missing, 1, "", said);
    for arguments in
        [&["check"][..], &["show"], &["check", "a", "b"], &["show", "--jsn", "a"], &["chekc", "a"], &[]]
    {
        let usage = files.policy(arguments);
        assert_eq!((usage.status, &*usage.stdout), (Some(2), ""), "{arguments:?}");
        assert!(usage.stderr.contains("Usage: icmpctl policy"), "{usage}");
    }
}
