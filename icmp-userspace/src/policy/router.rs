//! Router configurations: what they say of ICMP -> a policy file, and a list of what was left out, and why.
//!
//! One access list a family is taken, with the object groups that it names. A router's list ends with a rule that nobody
//! writes: what nothing has permitted is denied. The policy says so in words.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr},
};

use icmp_common::Family;

use super::{
    Policy,
    acl::{Acl, Address, Kinds, Origin, Rule},
    diagnostic::Diagnostic,
    lint, lists,
    prefix::Prefix,
    rules::{self, KnownSets},
};

/// What became of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The text of the policy file.
    pub policy: String,
    /// How many rules are in it.
    pub rules: usize,
    /// The names of all access lists that were found.
    pub lists: Vec<String>,
    /// Lines that are not in it.
    pub left_out: Vec<LeftOut>,
}

/// A line that is not in the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The line's number, from 1.
    pub number: usize,
    /// The line.
    pub line: String,
    /// Why it was left out.
    pub why: String,
}

/// Turns a configuration into a policy. Of each family it takes the list that `chosen` names, else the first.
#[must_use]
pub fn import(text: &str, chosen: &[String]) -> Import {
    let mut reader = Reader { chosen, ..Reader::default() };
    for (index, line) in text.lines().enumerate() {
        reader.line(index + 1, line.trim());
    }
    reader.finish()
}

/// What the lines that follow belong to.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
enum Section {
    #[default]
    None,
    /// An access list.
    List(Family, String),
    /// A group of networks.
    Group(String),
    /// Something else, and what.
    Other(String),
}

/// A rule's line.
struct Line {
    number: usize,
    text: String,
    remarks: Vec<String>,
}

#[derive(Default)]
struct Reader<'a> {
    chosen: &'a [String],
    section: Section,
    /// The lists in the order in which they begin: rules without their numbers.
    lists: Vec<(Family, String, Vec<Line>)>,
    /// Groups, by the names that their sets get: where they begin, and their members.
    groups: BTreeMap<String, Group>,
    left_out: Vec<LeftOut>,
    remarks: Vec<String>,
}

#[derive(Default)]
struct Group {
    number: usize,
    line: String,
    prefixes: Vec<Prefix>,
    members: Vec<String>,
}

/// Protocols that cover ICMP, as routers call them.
const PROTOCOLS: [&str; 6] = ["icmp", "icmp6", "icmpv6", "ip", "ipv6", "object-group"];

impl Reader<'_> {
    fn line(&mut self, number: usize, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match &words[..] {
            [] => {}
            [first, ..] if first.starts_with(['!', '#']) => {}
            ["exit" | "end"] => self.section = Section::None,
            ["ip", "access-list", "extended", name] => self.begin_list(Family::Ipv4, name),
            ["ip", "access-list", "standard", ..] => {
                self.section = Section::Other(
                    "a standard access list: it names neither protocol nor destination".into(),
                );
                self.leave_out(number, line, "a standard access list names neither protocol nor destination");
            }
            ["ip", "access-list", name] => self.begin_list(Family::Ipv4, name),
            ["ipv6", "access-list", name] => self.begin_list(Family::Ipv6, name),
            ["access-list", name, rest @ ..] => {
                let rest = match rest {
                    ["extended", rest @ ..] => rest,
                    rest => rest,
                };
                if matches!(name.parse(), Ok(1..=99 | 1300..=1999)) {
                    let why = "a standard access list names neither protocol nor destination";
                    self.leave_out(number, line, why);
                } else {
                    self.begin_list(Family::Ipv4, name);
                    self.list_line(number, line, rest);
                }
                self.section = Section::None;
            }
            ["object-group", "network" | "v6-network", name, ..]
            | ["object-group", "ip" | "ipv6", "address", name] => {
                let name = set_name(name);
                let group = self.groups.entry(name.clone()).or_default();
                if group.number == 0 {
                    (group.number, group.line) = (number, line.to_owned());
                }
                self.section = Section::Group(name);
            }
            _ => match self.section.clone() {
                Section::List(..) if is_rule(&words) => self.list_line(number, line, &words),
                Section::Group(name) if is_member(&words) => self.member(number, line, &words, &name),
                Section::Other(why) if is_rule(&words) => self.leave_out(number, line, &why),
                _ => {
                    self.section = Section::None;
                    self.leave_out(number, line, "neither a rule of an access list nor a group of networks");
                }
            },
        }
    }

    fn leave_out(&mut self, number: usize, line: &str, why: impl Into<String>) {
        self.left_out.push(LeftOut { number, line: line.to_owned(), why: why.into() });
    }

    fn begin_list(&mut self, family: Family, name: &str) {
        self.section = Section::List(family, name.to_owned());
        if !self.lists.iter().any(|(of, known, _)| (*of, &**known) == (family, name)) {
            self.remarks.clear();
            self.lists.push((family, name.to_owned(), Vec::new()));
        }
    }

    fn list_line(&mut self, number: usize, line: &str, words: &[&str]) {
        let Section::List(family, name) = self.section.clone() else { return };
        let words = without_number(words);
        if let ["remark", text @ ..] = words {
            self.remarks.push(text.join(" "));
            return;
        }
        let remarks = std::mem::take(&mut self.remarks);
        let Some(protocol) = words.get(1) else {
            self.leave_out(number, line, "not a whole rule");
            return;
        };
        if !PROTOCOLS.contains(protocol) {
            self.leave_out(number, line, format!("not about ICMP but about {protocol}"));
            return;
        }
        let mut text = Vec::new();
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            match (*word, text.len()) {
                ("object-group" | "addrgroup", 2..) => {
                    text.push(format!("set:{}", set_name(rest.next().copied().unwrap_or_default())));
                }
                ("icmp6" | "icmpv6", 1) => text.push("icmp6".to_owned()),
                (word, _) => text.push(word.to_owned()),
            }
        }
        let line = Line { number, text: text.join(" "), remarks };
        if let Some((.., lines)) =
            self.lists.iter_mut().find(|(of, known, _)| (*of, known) == (family, &name))
        {
            lines.push(line);
        }
    }

    fn member(&mut self, number: usize, line: &str, words: &[&str], group: &str) {
        let words = match without_number(words) {
            ["network-object", rest @ ..] => rest,
            words => words,
        };
        let outcome = match words {
            ["description", ..] => return,
            ["group-object", name] => Ok((Vec::new(), Some(set_name(name)))),
            words => addresses(words).map(|prefixes| (prefixes, None)),
        };
        match outcome {
            Ok((mut prefixes, member)) => {
                if let Some(group) = self.groups.get_mut(group) {
                    group.prefixes.append(&mut prefixes);
                    group.members.extend(member);
                }
            }
            Err(why) => self.leave_out(number, line, why),
        }
    }

    /// The list of a family that is taken.
    fn taken(&self, family: Family) -> Option<usize> {
        let of_family = |index: &usize| self.lists[*index].0 == family;
        let named = |index: &usize| self.chosen.contains(&self.lists[*index].1);
        let mut all = (0..self.lists.len()).filter(of_family);
        all.clone().find(named).or_else(|| all.next())
    }

    fn finish(mut self) -> Import {
        let known: HashMap<String, [bool; 2]> =
            self.groups.keys().map(|name| (name.clone(), self.families(name))).collect();
        let known: KnownSets<'_> = known.iter().map(|(name, families)| (&**name, *families)).collect();
        let taken = Family::ALL.map(|family| self.taken(family));
        let lists = self.lists.iter().map(|(_, name, _)| name.clone()).collect();
        let mut text = String::new();
        let mut rules = 0;
        let mut used = BTreeSet::new();
        for (index, (family, name, lines)) in std::mem::take(&mut self.lists).into_iter().enumerate() {
            if !taken.contains(&Some(index)) {
                for Line { number, text, .. } in lines {
                    let why = format!(
                        "of access list {name}: one list a family is taken; --list {name} takes this one"
                    );
                    self.left_out.push(LeftOut { number, line: text, why });
                }
                continue;
            }
            let _ = writeln!(text, "remark access list {}", plain(&name));
            let mut ends = false;
            for Line { number, text: line, remarks } in lines {
                match rule(&line, family, &known) {
                    Ok(rule) => {
                        for remark in remarks {
                            let _ = writeln!(text, "remark {}", plain(&remark));
                        }
                        let _ = writeln!(text, "{rule}");
                        rules += 1;
                        ends |= decides_all(&rule, family);
                        used.extend([rule.source, rule.destination].into_iter().filter_map(|address| {
                            match address {
                                Address::Set(name) => Some(name),
                                _ => None,
                            }
                        }));
                    }
                    Err(why) => self.left_out.push(LeftOut { number, line, why }),
                }
            }
            if !ends {
                let protocol = if family == Family::Ipv4 { "icmp4" } else { "icmp6" };
                let _ = writeln!(text, "remark what the list says without words\ndeny {protocol} any any");
                rules += 1;
            }
        }
        let sets = self.sets(&mut used);
        for (name, group) in std::mem::take(&mut self.groups) {
            if !used.contains(&name) {
                self.leave_out(group.number, &group.line, "no rule that was taken names this group");
            }
        }
        self.left_out.sort_by_key(|left_out| left_out.number);
        let policy = format!(
            "# What a router's configuration says of ICMP, in the words of icmpctl.\n{sets}\n[acl]\ndefault = \"permit\"\n\
             rules = '''\n{text}'''\n"
        );
        Import { policy, rules, lists, left_out: self.left_out }
    }

    /// Which families a group has addresses of, members included.
    fn families(&self, name: &str) -> [bool; 2] {
        let mut names = BTreeSet::from([name.to_owned()]);
        self.add_members(&mut names);
        let all = || names.iter().filter_map(|name| self.groups.get(name)).flat_map(|group| &group.prefixes);
        let has = |ipv4| all().any(|prefix: &Prefix| prefix.address().is_ipv4() == ipv4);
        [has(true), has(false)]
    }

    /// Adds the members of groups, and theirs, to their names.
    fn add_members(&self, names: &mut BTreeSet<String>) {
        let mut open: Vec<String> = names.iter().cloned().collect();
        while let Some(name) = open.pop() {
            for member in self.groups.get(&name).into_iter().flat_map(|group| &group.members) {
                if self.groups.contains_key(member) && names.insert(member.clone()) {
                    open.push(member.clone());
                }
            }
        }
    }

    /// Table `[sets]` with these groups and their members, whose names are added. A group's members are put into it, so that
    /// groups which contain one another, which routers allow, are no cycle.
    fn sets(&self, used: &mut BTreeSet<String>) -> String {
        let mut text = String::new();
        for name in used.iter() {
            let mut names = BTreeSet::from([name.clone()]);
            self.add_members(&mut names);
            let groups = names.iter().filter_map(|name| self.groups.get(name));
            let prefixes: BTreeSet<Prefix> =
                groups.flat_map(|group| group.prefixes.iter().copied()).collect();
            let prefixes: Vec<String> = prefixes.iter().map(|prefix| format!("\"{prefix}\"")).collect();
            // A dot in a key would separate tables.
            let _ = writeln!(text, "\"{name}\" = [{}]", prefixes.join(", "));
        }
        self.add_members(used);
        if text.is_empty() { text } else { format!("\n[sets]\n{text}") }
    }
}

/// A rule as the policy's language has it, or why it is none.
fn rule(line: &str, family: Family, known: &KnownSets<'_>) -> Result<Rule, String> {
    let heading = match family {
        Family::Ipv4 => "ip access-list extended list",
        Family::Ipv6 => "ipv6 access-list list",
    };
    let why = |diagnostic: &Diagnostic| match &diagnostic.help {
        Some(help) => format!("{}; {help}", diagnostic.message),
        None => diagnostic.message.clone(),
    };
    let (mut rules, errors) = rules::parse(&format!("{heading}\n{line}"), Origin::File, known);
    if let Some(error) = errors.first() {
        return Err(why(error));
    }
    let rule = rules.pop().ok_or_else(|| "not a rule".to_owned())?;
    let acl = Acl { rules: vec![rule.clone()], ..Acl::default() };
    match lint::errors(&Policy { acl, ..Policy::default() }).first() {
        Some(error) => Err(why(error)),
        None => Ok(rule),
    }
}

/// Whether nothing of a family is left for rules behind this one.
fn decides_all(rule: &Rule, family: Family) -> bool {
    (&rule.source, &rule.destination, &rule.kinds[family as usize])
        == (&Address::Any, &Address::Any, &Kinds::Any)
        && rule.options.is_unconditional()
}

fn is_rule(words: &[&str]) -> bool {
    matches!(without_number(words), ["permit" | "deny" | "remark" | "evaluate" | "reflect" | "dynamic", ..])
}

fn is_member(words: &[&str]) -> bool {
    match without_number(words) {
        ["host" | "range" | "description" | "group-object" | "network-object" | "any", ..] => true,
        [address, ..] => address.split('/').next().is_some_and(|address| address.parse::<IpAddr>().is_ok()),
        [] => false,
    }
}

/// A line without its number.
fn without_number<'a, 'b>(words: &'b [&'a str]) -> &'b [&'a str] {
    match words {
        ["sequence", _, rest @ ..] => rest,
        [first, rest @ ..] if first.bytes().all(|byte| byte.is_ascii_digit()) => rest,
        words => words,
    }
}

/// The addresses of a group's line.
fn addresses(words: &[&str]) -> Result<Vec<Prefix>, String> {
    let none = || "expected host A, A NETMASK, A/LEN or range A B".to_owned();
    let prefix = |text: &str| text.parse::<Prefix>().map_err(|error| error.to_string());
    match words {
        ["any"] => Ok(vec![prefix("0.0.0.0/0")?, prefix("::/0")?]),
        ["host", address] if !address.contains('/') => Ok(vec![prefix(address)?]),
        ["range", first, last] => {
            let list = lists::parse(format!("{first}-{last}").as_bytes());
            match list.errors.first() {
                Some(error) => Err(error.message.clone()),
                None => Ok(list.prefixes),
            }
        }
        [address, length] if length.starts_with('/') => Ok(vec![prefix(&format!("{address}{length}"))?]),
        [address, mask] => {
            let (Ok(address), Ok(mask)) = (address.parse::<Ipv4Addr>(), mask.parse::<Ipv4Addr>()) else {
                return Err(none());
            };
            let mask = mask.to_bits();
            // Some routers write netmasks, some wildcard masks. All ones or all zeros could be either.
            let length = if mask != 0 && mask.leading_ones() + mask.trailing_zeros() == 32 {
                mask.leading_ones()
            } else if mask != 0 && mask.leading_zeros() + mask.trailing_ones() == 32 {
                mask.leading_zeros()
            } else if mask == u32::MAX {
                32
            } else {
                return Err(none());
            };
            Ok(vec![Prefix::containing(address.into(), length as u8)])
        }
        [one] if one.contains('/') => Ok(vec![prefix(one)?]),
        _ => Err(none()),
    }
}

/// A group's name as a set's: letters, digits, `-`, `_` and `.`.
fn set_name(name: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' };
    let name: String = name.chars().take(60).map(allowed).collect();
    if name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') { name } else { format!("_{name}") }
}

/// A text that can stand between three quotes.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || c == '\'' { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::file;

    const CONFIGURATION: &str = "\
hostname edge
!
object-group network OFFICE
 description where we sit
 host 192.0.2.1
 10.0.0.0 255.0.0.0
 range 198.51.100.1 198.51.100.2
 group-object HOME
object-group network HOME
 203.0.113.0 /24
 nonsense
object-group network UNUSED
 host 192.0.2.9
interface GigabitEthernet0/0
 ip address 192.0.2.254 255.255.255.0
ip access-list extended EDGE
 remark it's ours
 10 permit icmp object-group OFFICE any
 remark web
 20 permit tcp any any eq 80
 30 permit icmp any any packet-too-big log-input
 40 deny icmp any any redirect
 50 permit icmp any any echo time-range NIGHT
ip access-list extended OTHER
 permit icmp any any
ipv6 access-list EDGE6
 sequence 10 permit icmp any any echo-request
 deny icmp any any packet-too-big
 permit ipv6 any any
end
";

    #[test]
    fn takes_what_is_about_icmp() {
        let import = import(CONFIGURATION, &[]);
        assert_eq!(
            import.policy,
            "\
# What a router's configuration says of ICMP, in the words of icmpctl.

[sets]
\"OFFICE\" = [\"10.0.0.0/8\", \"192.0.2.1\", \"198.51.100.1\", \"198.51.100.2\", \"203.0.113.0/24\"]

[acl]
default = \"permit\"
rules = '''
remark access list EDGE
remark it s ours
permit icmp4 set:OFFICE any
permit icmp4 any any packet-too-big log
deny icmp4 any any redirect
remark what the list says without words
deny icmp4 any any
remark access list EDGE6
permit icmp6 any any echo
permit icmp6 any any
'''
"
        );
        file::parse(&import.policy).unwrap();
        let left_out: Vec<String> =
            import.left_out.iter().map(|left_out| format!("{} {}", left_out.number, left_out.why)).collect();
        assert_eq!(
            left_out,
            [
                "1 neither a rule of an access list nor a group of networks",
                "11 neither a rule of an access list nor a group of networks",
                "12 no rule that was taken names this group",
                "14 neither a rule of an access list nor a group of networks",
                "15 neither a rule of an access list nor a group of networks",
                "20 not about ICMP but about tcp",
                "23 unknown code or option: time-range; expected a number, or an option: fragments, length, ttl, dscp, vlan, \
             quoted-source, quoted-mtu, log, monitor, force",
                "25 of access list OTHER: one list a family is taken; --list OTHER takes this one",
                "28 rule 10 (deny icmp6 any any packet-too-big) would deny ICMPv6 type 2: Path MTU discovery needs it: without \
             it large packets vanish; add force if that is meant; else name other messages",
            ]
        );
    }

    #[test]
    fn takes_the_list_that_is_named() {
        let import = import(CONFIGURATION, &["OTHER".to_owned()]);
        assert!(
            import
                .policy
                .contains("remark access list OTHER\npermit icmp4 any any\nremark access list EDGE6\n")
        );
        assert!(!import.policy.contains("[sets]"));
    }

    #[test]
    fn takes_numbered_lists() {
        let import = import(
            "access-list 101 remark pings\naccess-list 101 permit icmp 10.0.0.0 0.255.255.255 any echo\n\
             access-list 10 permit any\naccess-list 101 permit udp any any\n",
            &[],
        );
        assert!(
            import.policy.contains("remark pings\npermit icmp4 10.0.0.0/8 any echo\n"),
            "{}",
            import.policy
        );
        assert_eq!(import.left_out.iter().map(|line| line.number).collect::<Vec<_>>(), [3, 4]);
    }

    #[test]
    fn understands_members_of_groups() {
        let prefixes = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            addresses(&words)
                .map(|prefixes| prefixes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        for (line, expected) in [
            ("host 192.0.2.1", "192.0.2.1"),
            ("host 2001:db8::1", "2001:db8::1"),
            ("192.0.2.0 255.255.255.0", "192.0.2.0/24"),
            ("192.0.2.0 0.0.0.255", "192.0.2.0/24"),
            ("192.0.2.1 255.255.255.255", "192.0.2.1"),
            ("192.0.2.0 /24", "192.0.2.0/24"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("range 192.0.2.0 192.0.2.3", "192.0.2.0/30"),
            ("any", "0.0.0.0/0 ::/0"),
        ] {
            assert_eq!(prefixes(line), Ok(expected.to_owned()), "{line}");
        }
        for line in
            ["192.0.2.1 0.0.0.0", "192.0.2.1 255.0.255.0", "192.0.2.1", "range a b", "host x", "192.0.2.1/24"]
        {
            prefixes(line).unwrap_err();
        }
    }

    proptest! {
        /// Whatever is pasted, what comes out is a policy.
        #[test]
        fn gives_a_policy(words in prop::collection::vec(prop::sample::select(&[
            "permit", "deny", "remark", "icmp", "ip", "ipv6", "tcp", "any", "host 10.0.0.1", "10.0.0.0 0.0.0.255", "\n", "\n",
            "\nip access-list extended A\n", "\nipv6 access-list B\n", "\naccess-list 101", "\nobject-group network G\n",
            "\npermit icmp any any", "object-group G", "group-object G", "10.0.0.0 /8", "echo", "packet-too-big", "redirect",
            "'''", "it's", "\\", "10", "sequence 5", "set:G", "!", "\u{1}", "\nexit\n", "log", "{", "}",
        ][..]), 0..60)) {
            let import = import(&words.join(" "), &[]);
            let outcome = file::parse(&import.policy);
            prop_assert!(outcome.is_ok(), "{}\n{outcome:?}", import.policy);
        }
    }
}
