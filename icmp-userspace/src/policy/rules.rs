//! Access lists: text -> rules, with everything that is wrong reported at once.
//!
//! One rule a line: `[number] ACTION PROTO SOURCE DESTINATION [TYPE [CODE]] [OPTION...]`, as `docs/policy.md` describes. Lines
//! of a pasted router configuration are understood as they are; in these, `icmp` means the family of the list.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    ops::Range,
    time::Duration,
};

use icmp_common::{
    Family,
    limits::{MAX_RATES, Penalty},
    wire::icmp::{TOO_BIG6, quotes4, quotes6},
};

use super::{
    acl::{
        Action, Address, Ban, ErrorRate, Exceed, KindRange, Kinds, Limit, Matching, Options, Origin, Per,
        Period, Prohibition, Protocol, Rate, Rule, Unit,
    },
    diagnostic::{Diagnostic, nearest},
    kinds::{self, Meaning, Scope, proper},
    names,
    prefix::{Prefix, PrefixError},
    words::{Word, Words, split},
};
use crate::duration;

/// The sets that rules may name, and whether each can have addresses of a family, by the number of the [`Family`].
pub(super) type KnownSets<'a> = HashMap<&'a str, [bool; 2]>;

/// Words that begin an option.
pub(super) const OPTIONS: [&str; 10] =
    ["fragments", "length", "ttl", "dscp", "vlan", "quoted-source", "quoted-mtu", "log", "monitor", "force"];
/// Those of a filter.
const FILTER_OPTIONS: [&str; 5] = ["fragments", "length", "ttl", "dscp", "vlan"];

const ACTIONS: [&str; 4] = ["permit", "deny", "reject", "limit"];
const PROTOCOLS: [&str; 5] = ["icmp", "icmp4", "icmp6", "ip", "ipv6"];

/// Protocols of other rules in router configurations.
const OTHER_PROTOCOLS: [&str; 15] = [
    "tcp",
    "udp",
    "gre",
    "esp",
    "ahp",
    "ospf",
    "eigrp",
    "igmp",
    "igrp",
    "ipinip",
    "nos",
    "pcp",
    "pim",
    "sctp",
    "object-group",
];

/// Understands an access list. Spans are places in `text`.
pub(super) fn parse(text: &str, origin: Origin, sets: &KnownSets<'_>) -> (Vec<Rule>, Vec<Diagnostic>) {
    let mut parser = Parser::new(origin, sets, &OPTIONS);
    let mut rules = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        match parser.line(Words::new(line, start)) {
            Ok(rule) => rules.extend(rule),
            Err(diagnostic) => parser.diagnostics.push(diagnostic),
        }
        start += line.len();
    }
    (rules, parser.diagnostics)
}

/// Words of rules that are no conditions of the packet's headers: a filter has none of them.
const RULES_ONLY: [&str; 6] = ["quoted-source", "quoted-mtu", "log", "log-input", "monitor", "force"];

/// Understands what a capture's filter asks of packets: what stands in a rule behind its action.
pub(crate) fn filter(text: &str) -> Result<Matching, Vec<Diagnostic>> {
    let mut words = Words::new(text, 0);
    for (number, word) in split(text, 0).into_iter().enumerate() {
        let (message, help) = match word.text {
            action if number == 0 && ACTIONS.contains(&action) => {
                ("a filter has no action".to_owned(), "leave it out")
            }
            option if RULES_ONLY.contains(&option) => {
                (format!("a filter knows no {option}"), "length, ttl, dscp, vlan and fragments it knows")
            }
            set if set.starts_with("set:") => (
                "a filter names no sets".to_owned(),
                "write a prefix, or capture what a rule with the set decides about: --rule N",
            ),
            _ => continue,
        };
        return Err(vec![Diagnostic::new(word.span, message).with_help(help)]);
    }
    let sets = KnownSets::new();
    let mut parser = Parser::new(Origin::File, &sets, &FILTER_OPTIONS);
    match parser.matching(&mut words, None) {
        Ok(matching) if parser.diagnostics.is_empty() => return Ok(matching),
        Ok(_) => {}
        Err(diagnostic) => parser.diagnostics.push(diagnostic),
    }
    Err(parser.diagnostics)
}

/// Understands a rate of errors that `reject` may send, like `10/s burst 20`.
pub(super) fn error_rate(text: &str) -> Result<ErrorRate, String> {
    let mut words = Words::new(text, 0);
    let message = |diagnostic: Diagnostic| match diagnostic.help {
        Some(help) => format!("{}; {help}", diagnostic.message),
        None => diagnostic.message,
    };
    let rate = rate(&mut words).map_err(message)?;
    if let Some(word) = words.peek() {
        return Err(message(word.expected("`burst N` or the end")));
    }
    let seconds = match rate.period {
        Period::Second => 1,
        Period::Minute => 60,
        Period::Hour => 3600,
    };
    if rate.unit == Unit::Bits || rate.per.is_some() {
        return Err("expected a number of errors, like 10/s burst 20".to_owned());
    }
    let whole = (rate.amount % seconds == 0).then_some(rate.amount / seconds);
    let number = |number: u64| u32::try_from(number).ok().filter(|number| *number > 0);
    let per_second = whole.and_then(number);
    let burst = rate.burst.map_or(per_second, number);
    match (per_second, burst) {
        (Some(per_second), Some(burst)) => Ok(ErrorRate { per_second, burst }),
        _ => Err(format!("{text:?} is no rate of errors: whole numbers a second, at most {}", u32::MAX)),
    }
}

struct Parser<'a> {
    origin: Origin,
    sets: &'a KnownSets<'a>,
    /// Words that begin an option.
    option_words: &'static [&'static str],
    /// The family of the router's access list whose lines these are.
    list: Option<Family>,
    /// What is added to the numbers of this list: each list of a router begins anew.
    base: u32,
    /// The number of the last rule.
    number: u32,
    diagnostics: Vec<Diagnostic>,
}

impl<'a> Parser<'a> {
    const fn new(origin: Origin, sets: &'a KnownSets<'a>, option_words: &'static [&'static str]) -> Self {
        Self { origin, sets, option_words, list: None, base: 0, number: 0, diagnostics: Vec::new() }
    }

    fn line(&mut self, mut words: Words<'_>) -> Result<Option<Rule>, Diagnostic> {
        let (Some(first), second) = (words.peek(), words.second()) else { return Ok(None) };
        let mut list = self.list;
        match (first.text, second.map(|word| word.text)) {
            ("ip", Some("access-list")) => {
                (self.list, self.base) = (Some(Family::Ipv4), self.number);
                return heading(words, true);
            }
            ("ipv6", Some("access-list")) => {
                (self.list, self.base) = (Some(Family::Ipv6), self.number);
                return heading(words, false);
            }
            ("exit" | "end", None) => {
                (self.list, self.base) = (None, 0);
                return Ok(None);
            }
            ("access-list", _) => {
                words.take();
                list = Some(Family::Ipv4);
                numbered_list(&mut words)?;
            }
            _ => {}
        }
        if words.peek().is_some_and(|word| word.text == "remark") {
            return Ok(None);
        }
        let number = self.number(&mut words)?;
        if words.peek().is_some_and(|word| word.text == "remark") {
            return Ok(None);
        }
        self.number = number;
        self.rule(words, number, list)
    }

    fn number(&self, words: &mut Words<'_>) -> Result<u32, Diagnostic> {
        let said = words.take_if("sequence").is_some();
        let digits = |word: &&Word<'_>| word.text.starts_with(|c: char| c.is_ascii_digit());
        let Some(word) = words.peek().filter(|word| said || digits(word)).cloned() else {
            return self.number.checked_add(10).ok_or_else(|| {
                Diagnostic::new(words.span(), format!("there is no number behind {}", self.number))
            });
        };
        words.take();
        let number = unsigned(word.text).and_then(|number| u32::try_from(number).ok());
        let number = number.filter(|number| *number > 0).and_then(|number| number.checked_add(self.base));
        let number =
            number.ok_or_else(|| word.expected(&format!("a number from 1 to {}", u32::MAX - self.base)))?;
        if number > self.number {
            return Ok(number);
        }
        let message = format!(
            "rule number {} does not rise: the rule before has {}",
            number - self.base,
            self.number - self.base
        );
        Err(Diagnostic::new(word.span, message)
            .with_help("rules are tried in the order in which they stand; numbers may be left out"))
    }

    fn rule(
        &mut self,
        mut words: Words<'_>,
        number: u32,
        list: Option<Family>,
    ) -> Result<Option<Rule>, Diagnostic> {
        let errors = self.diagnostics.len();
        let action = words.expect("an action")?;
        let (action, lengths) = match action.text {
            "permit" => (Action::Permit, Vec::new()),
            "deny" => (Action::Deny, Vec::new()),
            "reject" => (Action::Reject(prohibition(&mut words)?), Vec::new()),
            "limit" => {
                let (limit, lengths) = limit(&mut words)?;
                (Action::Limit(limit), lengths)
            }
            _ => return Err(action.expected_one("an action: permit, deny, reject or limit", &ACTIONS)),
        };
        let Matching { protocol, source, destination, kinds, kind_text, options } =
            self.matching(&mut words, list)?;
        let action = match action {
            Action::Limit(limit) => {
                let covered = Family::ALL.map(|family| protocol.covers(family));
                Action::Limit(with_lengths(limit, &lengths, covered)?)
            }
            action => action,
        };
        let span = words.span();
        let origin = self.origin;
        let rule =
            Rule { number, origin, action, protocol, source, destination, kinds, kind_text, options, span };
        Ok((self.diagnostics.len() == errors).then_some(rule))
    }

    /// What stands behind the action.
    fn matching(&mut self, words: &mut Words<'_>, list: Option<Family>) -> Result<Matching, Diagnostic> {
        let protocol_word = words.expect("a protocol")?;
        let protocol = protocol(&protocol_word, list)?;
        let source = self.address(words, "a source")?;
        let destination = self.address(words, "a destination")?;
        let covered = covered(&protocol_word, protocol, &source, &destination)?;
        self.check_sets(protocol, &source, &destination);

        let is_option = |word: &Word<'_>| self.is_option(word) || word.text == "log-input";
        let mut types = Vec::new();
        let mut codes = None;
        if words.peek().is_some_and(|word| !is_option(word)) {
            types = words.list("a type")?;
            if words.peek().is_some_and(|word| !is_option(word)) {
                codes = Some(words.list("a code")?);
            }
        }
        let named = self.kinds(&types, codes.as_deref(), covered, list);
        let named = named.unwrap_or_else(|diagnostic| {
            self.diagnostics.push(diagnostic);
            self.skip_to_option(words);
            None
        });
        let (options, OptionWords { fragments, quoted }) = self.options(words);
        let meaning = match (named, fragments) {
            (Some(meaning), None) => meaning,
            (Some(_), Some(word)) => {
                let message = "a type and `fragments`: fragments other than the first carry no type";
                return Err(Diagnostic::new(word.span, message)
                    .with_help("leave out one of them, or write two rules"));
            }
            (None, fragments) => {
                let kinds = if fragments.is_some() { Kinds::Fragments } else { Kinds::Any };
                let kinds = covered.map(|covered| if covered { kinds.clone() } else { Kinds::None });
                Meaning { kinds, text: String::new() }
            }
        };
        self.diagnostics.extend(quoted.iter().filter_map(|word| check_quoted(word, &meaning.kinds)));
        let Meaning { kinds, text: kind_text } = meaning;
        // What is said by an address or a word alike gets one text.
        let protocol = match covered {
            [true, true] => Protocol::Icmp,
            [true, false] => Protocol::Icmp4,
            [false, _] => Protocol::Icmp6,
        };
        let [source, destination] = [source, destination].map(|placed| match placed.address {
            Address::Prefix(prefix) if prefix.length() == 0 => Address::Any,
            address => address,
        });
        Ok(Matching { protocol, source, destination, kinds, kind_text, options })
    }

    /// What the words for types and codes mean, if there are any.
    fn kinds(
        &self,
        types: &[Word<'_>],
        codes: Option<&[Word<'_>]>,
        covered: [bool; 2],
        list: Option<Family>,
    ) -> Result<Option<Meaning>, Diagnostic> {
        if types.is_empty() {
            return Ok(None);
        }
        let scope = match (covered, list) {
            ([true, true], _) => Scope::Both,
            ([_, true], Some(Family::Ipv6)) => Scope::Ipv6AccessList,
            ([_, true], _) => Scope::One(Family::Ipv6),
            _ => Scope::One(Family::Ipv4),
        };
        kinds::parse(types, codes, scope, self.option_words).map(Some)
    }

    fn address(&self, words: &mut Words<'_>, what: &str) -> Result<Placed, Diagnostic> {
        let word = words.expect(what)?;
        let placed = |address, span| Placed { address, span, text: word.text.to_owned() };
        if word.text == "any" {
            return Ok(placed(Address::Any, word.span.clone()));
        }
        if word.text == "host" {
            let host = words.expect("the address of the host")?;
            let address: IpAddr = host.text.parse().map_err(|_| host.expected("an address behind `host`"))?;
            let span = word.span.start..host.span.end;
            return Ok(Placed {
                address: Address::Prefix(Prefix::host(address)),
                span,
                text: host.text.to_owned(),
            });
        }
        if let Some(name) = word.text.strip_prefix("set:") {
            if self.sets.contains_key(name) {
                return Ok(placed(Address::Set(name.to_owned()), word.span.clone()));
            }
            return Err(unknown_set(name, word.span.clone(), self.sets.keys().copied()));
        }
        if word.text.contains('/') {
            let prefix = word.text.parse().map_err(|error| bad_prefix(&word, &error))?;
            return Ok(placed(Address::Prefix(prefix), word.span.clone()));
        }
        let Ok(address) = word.text.parse::<IpAddr>() else {
            if word.text == "object-group" || word.text == "addrgroup" {
                let help = "write set:NAME; `icmpctl policy import` turns object groups into sets";
                return Err(Diagnostic::new(word.span, format!("{} is not understood here", word.text))
                    .with_help(help));
            }
            let forms = "any, host A, A/LEN, A WILDCARD-MASK or set:NAME";
            return Err(word.expected_one(&format!("{what}: {forms}"), &["any", "host"]));
        };
        let mask = words.peek().and_then(|word| word.text.parse::<Ipv4Addr>().ok());
        match (address, mask) {
            (IpAddr::V4(address), Some(mask)) => {
                let span = word.span.start..words.take().map_or(word.span.end, |mask| mask.span.end);
                let address = masked(address, mask).map_err(|(message, help)| {
                    let diagnostic = Diagnostic::new(span.clone(), message);
                    match help {
                        Some(help) => diagnostic.with_help(help),
                        None => diagnostic,
                    }
                })?;
                Ok(placed(address, span))
            }
            _ => {
                let message = format!("{address} says neither that it is one host nor a prefix length");
                Err(Diagnostic::new(word.span.clone(), message).with_help(format!("write host {address}")))
            }
        }
    }

    /// A set whose addresses are all of another family than the rule would never match.
    fn check_sets(&mut self, protocol: Protocol, source: &Placed, destination: &Placed) {
        for (placed, other) in [(source, destination), (destination, source)] {
            let Address::Set(name) = &placed.address else { continue };
            let Some(has) = self.sets.get(&**name) else { continue };
            let about = |family| protocol.covers(family) && other.families()[family as usize];
            let (Some(family), false) = (
                Family::ALL.into_iter().find(|family| has[*family as usize]),
                Family::ALL.into_iter().any(|family| has[family as usize] && about(family)),
            ) else {
                continue;
            };
            let rule = if family == Family::Ipv4 { Family::Ipv6 } else { Family::Ipv4 };
            let message = format!(
                "set:{name} has addresses of {} alone; the rule is about {}",
                proper(family),
                proper(rule)
            );
            self.diagnostics.push(Diagnostic::new(placed.span.clone(), message));
        }
    }

    /// Reads all options; what is wrong with one does not keep the others from being read.
    fn options<'b>(&mut self, words: &mut Words<'b>) -> (Options, OptionWords<'b>) {
        let mut options = Options::default();
        let mut fragments = None;
        let mut quoted = Vec::new();
        let mut seen: Vec<&str> = Vec::new();
        while let Some(word) = words.take() {
            let name = if word.text == "log-input" { "log" } else { word.text };
            if seen.contains(&name) {
                let message = format!("{name} stands twice in this rule");
                self.diagnostics.push(Diagnostic::new(word.span.clone(), message));
            }
            seen.push(name);
            let outcome = match name {
                "fragments" => {
                    fragments = Some(word);
                    Ok(())
                }
                "length" => span_of(words, "a length", u16::MAX).map(|range| options.length = Some(range)),
                "ttl" => span_of(words, "a TTL", u8::MAX).map(|range| options.ttl = Some(range)),
                "dscp" => dscp(words).map(|dscp| options.dscp = Some(dscp)),
                "vlan" => vlan(words).map(|vlan| options.vlan = Some(vlan)),
                "quoted-source" => {
                    quoted.push(word);
                    mismatch(words).map(|()| options.quoted_mismatch = true)
                }
                "quoted-mtu" => {
                    quoted.push(word);
                    span_of(words, "an MTU", u16::MAX).map(|range| options.quoted_mtu = Some(range))
                }
                "log" => log(words).map(|each| options.log = Some(each)),
                "monitor" => {
                    options.monitor = true;
                    Ok(())
                }
                "force" => {
                    options.force = true;
                    Ok(())
                }
                _ => Err(self.unknown_option(&word)),
            };
            if let Err(diagnostic) = outcome {
                self.diagnostics.push(diagnostic);
                self.skip_to_option(words);
            }
        }
        (options, OptionWords { fragments, quoted })
    }

    fn is_option(&self, word: &Word<'_>) -> bool {
        self.option_words.contains(&word.text)
    }

    /// Leaves out words up to the next option: they belong to what was wrong.
    fn skip_to_option(&self, words: &mut Words<'_>) {
        while words.peek().is_some_and(|word| !self.is_option(word)) {
            words.take();
        }
    }

    fn unknown_option(&self, word: &Word<'_>) -> Diagnostic {
        let diagnostic = Diagnostic::new(word.span.clone(), format!("unknown option: {}", word.shown()));
        match nearest(word.text, self.option_words) {
            Some(nearest) => diagnostic.with_help(format!("did you mean {nearest}?")),
            None if names::find(word.text).is_some() => {
                diagnostic.with_help("several types are a list: {echo, unreachable}")
            }
            None => diagnostic.with_help(format!("options: {}", self.option_words.join(", "))),
        }
    }
}

/// Words of options that have to fit the types of their rule.
struct OptionWords<'a> {
    /// `fragments`.
    fragments: Option<Word<'a>>,
    /// `quoted-source` and `quoted-mtu`.
    quoted: Vec<Word<'a>>,
}

/// `ip access-list extended NAME`, `ipv6 access-list NAME`: whose lines follow.
fn heading(mut words: Words<'_>, ipv4: bool) -> Result<Option<Rule>, Diagnostic> {
    words.take();
    words.take();
    if ipv4 {
        let word = words.expect("`extended` and the list's name")?;
        if word.text != "extended" {
            return Err(not_extended(&word));
        }
    }
    words.expect("the list's name")?;
    match words.peek() {
        Some(word) => Err(word.expected("the end of the line")),
        None => Ok(None),
    }
}

fn not_extended(word: &Word<'_>) -> Diagnostic {
    word.expected("an extended access list")
        .with_help("rules of standard lists name no destination and no protocol: write permit ip SOURCE any")
}

/// The number of a list behind `access-list`.
fn numbered_list(words: &mut Words<'_>) -> Result<(), Diagnostic> {
    let word = words.expect("the number of an access list")?;
    match unsigned(word.text) {
        Some(100..=199 | 2000..=2699) => Ok(()),
        Some(1..=99 | 1300..=1999) => Err(not_extended(&word)),
        _ => Err(word.expected("the number of an extended access list: 100 to 199 or 2000 to 2699")),
    }
}

/// An address and where it stands.
struct Placed {
    address: Address,
    span: Range<usize>,
    /// As it is written.
    text: String,
}

impl Placed {
    /// The families that it can be of; those of a set are not known to the language, only checked.
    const fn families(&self) -> [bool; 2] {
        match &self.address {
            Address::Any | Address::Set(_) => [true, true],
            Address::Wildcard { .. } => [true, false],
            Address::Prefix(prefix) => [prefix.address().is_ipv4(), prefix.address().is_ipv6()],
        }
    }
}

/// The families that a rule is about.
fn covered(
    word: &Word<'_>,
    protocol: Protocol,
    source: &Placed,
    destination: &Placed,
) -> Result<[bool; 2], Diagnostic> {
    let by_protocol = Family::ALL.map(|family| protocol.covers(family));
    let and = |one: [bool; 2], other: [bool; 2]| [one[0] && other[0], one[1] && other[1]];
    let name = |families: [bool; 2]| if families[0] { "IPv4" } else { "IPv6" };
    for placed in [source, destination] {
        if and(by_protocol, placed.families()) == [false, false] {
            let (text, family) = (&placed.text, name(placed.families()));
            let message = format!("{text} is of {family}; {} is {}", word.text, name(by_protocol));
            let help = format!("write {}", if placed.families()[0] { "icmp4" } else { "icmp6" });
            return Err(Diagnostic::new(placed.span.clone(), message).with_help(help));
        }
    }
    let covered = and(and(by_protocol, source.families()), destination.families());
    if covered == [false, false] {
        let message = format!(
            "{} is of {}, but the source {} of {}",
            destination.text,
            name(destination.families()),
            source.text,
            name(source.families())
        );
        return Err(Diagnostic::new(destination.span.clone(), message)
            .with_help("a packet has both addresses of one family: write two rules"));
    }
    Ok(covered)
}

fn protocol(word: &Word<'_>, list: Option<Family>) -> Result<Protocol, Diagnostic> {
    let of_list = match list {
        Some(Family::Ipv4) => Some(Protocol::Icmp4),
        Some(Family::Ipv6) => Some(Protocol::Icmp6),
        None => None,
    };
    match word.text {
        // Of all of IP only ICMP is ever looked at.
        "icmp" | "ip" => Ok(of_list.unwrap_or(Protocol::Icmp)),
        "icmp4" => Ok(Protocol::Icmp4),
        "icmp6" | "ipv6" => Ok(Protocol::Icmp6),
        text if OTHER_PROTOCOLS.contains(&text) || unsigned(text).is_some() => {
            let message = format!("rules are about ICMP alone, this one is about {}", word.shown());
            let help =
                "leave the line out; `icmpctl policy import` does so for a router's whole configuration";
            Err(Diagnostic::new(word.span.clone(), message).with_help(help))
        }
        _ => Err(word.expected_one("a protocol: icmp, icmp4, icmp6 or ip", &PROTOCOLS)),
    }
}

fn bad_prefix(word: &Word<'_>, error: &PrefixError) -> Diagnostic {
    let diagnostic = Diagnostic::new(word.span.clone(), error.to_string());
    match error {
        PrefixError::HostBits(text, prefix) => {
            let address = text.split('/').next().unwrap_or(text);
            diagnostic.with_help(format!("the prefix is {prefix}; the address alone is host {address}"))
        }
        PrefixError::Address(_) | PrefixError::Length(..) => {
            diagnostic.with_help("expected a prefix like 192.0.2.0/24 or 2001:db8::/32")
        }
    }
}

/// What is said of a set that does not exist.
pub(super) fn unknown_set<'a>(
    name: &str,
    span: Range<usize>,
    known: impl Iterator<Item = &'a str>,
) -> Diagnostic {
    let mut known: Vec<&str> = known.collect();
    known.sort_unstable();
    let shown: String = name.chars().take(64).collect();
    let diagnostic = Diagnostic::new(span, format!("there is no set {shown} in [sets]"));
    match (nearest(name, &known), &known[..]) {
        (Some(nearest), _) => diagnostic.with_help(format!("did you mean set:{nearest}?")),
        (None, []) => {
            diagnostic.with_help(format!("add it: [sets] and below it {shown} = [\"192.0.2.0/24\"]"))
        }
        (None, [..]) if known.len() <= 20 => diagnostic.with_help(format!("sets: {}", known.join(", "))),
        (None, [..]) => diagnostic,
    }
}

/// Most ones of a wildcard mask that stand before a zero: each doubles the number of prefixes.
const MAX_SCATTERED: u32 = 16;

fn masked(address: Ipv4Addr, mask: Ipv4Addr) -> Result<Address, (String, Option<String>)> {
    let bits = mask.to_bits();
    let host_bits = bits.trailing_ones();
    let length = 32 - host_bits as u8;
    let first = Ipv4Addr::from_bits(address.to_bits() & !bits);
    if bits.count_ones() == host_bits {
        return Ok(Address::Prefix(Prefix::containing(IpAddr::V4(address), length)));
    }
    // Ones first, zeros behind: what other tools call a mask.
    if bits.leading_ones() + bits.trailing_zeros() == 32 {
        let prefix = Prefix::containing(IpAddr::V4(address), bits.leading_ones() as u8);
        let message = format!("{mask} is a netmask; a wildcard mask has ones where addresses may differ");
        return Err((message, Some(format!("write {prefix}, or {} {}", prefix.address(), !mask))));
    }
    let scattered = bits.count_ones() - host_bits;
    if scattered > MAX_SCATTERED {
        let message = format!(
            "the wildcard mask {mask} has {scattered} ones before a zero; {MAX_SCATTERED} are the most, each doubles the table"
        );
        return Err((message, None));
    }
    Ok(Address::Wildcard { address: first, mask })
}

/// `with CODE`, if it is there.
fn prohibition(words: &mut Words<'_>) -> Result<Prohibition, Diagnostic> {
    if words.take_if("with").is_none() {
        return Ok(Prohibition::default());
    }
    let known = ["net-prohibited", "host-prohibited", "administratively-prohibited"];
    let what = "net-prohibited (9), host-prohibited (10) or administratively-prohibited (13)";
    let word = words.expect(what)?;
    match word.text {
        "9" | "net-prohibited" | "dod-net-prohibited" => Ok(Prohibition::Net),
        "10" | "host-prohibited" | "dod-host-prohibited" => Ok(Prohibition::Host),
        "13" | "administratively-prohibited" | "admin-prohibited" => Ok(Prohibition::Communication),
        _ => Err(word.expected_one(what, &known)),
    }
}

/// A number without sign.
fn unsigned(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

// Limits.

/// A rate before it is known which families the rule is about.
struct RawRate<'a> {
    amount: u64,
    unit: Unit,
    period: Period,
    burst: Option<u64>,
    per: Option<RawPer<'a>>,
}

enum RawPer<'a> {
    Source(Option<(u64, Word<'a>)>),
    Destination,
    Rule,
}

/// The length behind `per source/` of each rate.
type Lengths<'a> = Vec<Option<(u64, Word<'a>)>>;

fn limit<'a>(words: &mut Words<'a>) -> Result<(Limit, Lengths<'a>), Diagnostic> {
    let mut rates = Vec::new();
    let mut lengths = Vec::new();
    loop {
        let begin = words.peek().map_or(0..0, |word| word.span.clone());
        let RawRate { amount, unit, period, burst, per } = rate(words)?;
        let (per, length) = match per {
            Some(RawPer::Source(length)) => (Per::Source { length4: 32, length6: 64 }, length),
            Some(RawPer::Destination) => (Per::Destination, None),
            Some(RawPer::Rule) | None => (Per::Rule, None),
        };
        if rates.len() == MAX_RATES as usize {
            let message = format!("a limit has {MAX_RATES} rates at most");
            return Err(Diagnostic::new(begin, message).with_help("put the others into rules of their own"));
        }
        rates.push(Rate { amount, unit, period, burst, per });
        lengths.push(length);
        if words.take_if(",").is_none() {
            break;
        }
    }
    let exceed = match words.take_if("exceed") {
        None => Exceed::default(),
        Some(_) => {
            let word = words.expect("drop or pass")?;
            match word.text {
                "drop" => Exceed::Drop,
                "pass" => Exceed::Pass,
                _ => return Err(word.expected_one("drop or pass", &["drop", "pass"])),
            }
        }
    };
    let ban = match words.take_if("ban") {
        None => None,
        Some(word) if !matches!(rates[0].per, Per::Source { .. }) => {
            let message = "a ban is for a source: the first rate has to be one per source";
            return Err(Diagnostic::new(word.span, message)
                .with_help("write per source behind it, or put such a rate in front of the others"));
        }
        Some(_) => Some(ban(words)?),
    };
    if let Some(word) = words.peek().filter(|word| [",", "exceed"].contains(&word.text)) {
        return Err(word.expected("a protocol; `exceed` stands behind all rates, `ban` behind that"));
    }
    Ok((Limit { rates, exceed, ban }, lengths))
}

/// `TIME after TIME`.
fn ban(words: &mut Words<'_>) -> Result<Ban, Diagnostic> {
    let duration = time(words, "for how long, like ban 10m after 30s", Penalty::MOST)?;
    let what = "after TIME: how long a source has to be over the rate";
    let word = words.expect(what)?;
    if word.text != "after" {
        return Err(word.expected_one(what, &["after"]));
    }
    let after = time(words, "how long a source has to be over the rate, like 30s", Penalty::MOST_AFTER)?;
    Ok(Ban { duration, after })
}

/// A time of so many seconds at most.
fn time(words: &mut Words<'_>, what: &str, most: u32) -> Result<Duration, Diagnostic> {
    let word = words.expect(what)?;
    let time = duration::parse(word.text).map_err(|help| word.expected(what).with_help(help))?;
    let most = Duration::from_secs(most.into());
    if time > most {
        let message = format!("{} is too long here", word.shown());
        return Err(
            Diagnostic::new(word.span, message).with_help(format!("{} is the most", duration::exact(most)))
        );
    }
    Ok(time)
}

/// `RATE [burst N] [per ...]`.
fn rate<'a>(words: &mut Words<'a>) -> Result<RawRate<'a>, Diagnostic> {
    let word = words.expect("a rate like 100/s or 10mbit/s")?;
    let form = || word.expected("a rate like 100/s, 6000/min, 1/h or 10mbit/s");
    let (amount, period) = word.text.split_once('/').ok_or_else(form)?;
    let period = match period {
        "s" | "sec" | "second" => Period::Second,
        "min" | "minute" => Period::Minute,
        "h" | "hour" => Period::Hour,
        _ => return Err(form().with_help("the time is s, min or h")),
    };
    let (amount, unit) = amount_of(amount).ok_or_else(form)?;
    if amount == 0 {
        let message = format!("a rate of 0 would let nothing through: {}", word.shown());
        return Err(Diagnostic::new(word.span, message).with_help("write deny"));
    }
    let mut rate = RawRate { amount, unit, period, burst: None, per: None };
    loop {
        if let Some(keyword) = words.take_if("burst") {
            if rate.burst.is_some() {
                return Err(Diagnostic::new(keyword.span, "burst stands twice behind this rate"));
            }
            rate.burst = Some(burst(words, unit)?);
        } else if let Some(keyword) = words.take_if("per") {
            if rate.per.is_some() {
                return Err(Diagnostic::new(keyword.span, "per stands twice behind this rate")
                    .with_help("a second rate stands behind a comma"));
            }
            rate.per = Some(per(words)?);
        } else {
            return Ok(rate);
        }
    }
}

/// An amount of packets, or of bits.
fn amount_of(text: &str) -> Option<(u64, Unit)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let (factor, unit) = match unit {
        "" => (1, Unit::Packets),
        "bit" => (1, Unit::Bits),
        "kbit" => (1_000, Unit::Bits),
        "mbit" => (1_000_000, Unit::Bits),
        "gbit" => (1_000_000_000, Unit::Bits),
        _ => return None,
    };
    Some((number.checked_mul(factor)?, unit))
}

fn burst(words: &mut Words<'_>, unit: Unit) -> Result<u64, Diagnostic> {
    let what = match unit {
        Unit::Packets => "a burst in packets, like burst 20",
        Unit::Bits => "a burst in bits, as the rate: like burst 1mbit",
    };
    let word = words.expect(what)?;
    match amount_of(word.text) {
        Some((0, _)) => Err(Diagnostic::new(word.span, "a burst of 0 would let nothing through")
            .with_help("write at least burst 1, or deny")),
        Some((burst, of)) if of == unit => Ok(burst),
        _ => Err(word.expected(what)),
    }
}

fn per<'a>(words: &mut Words<'a>) -> Result<RawPer<'a>, Diagnostic> {
    let what = "source, source/LEN, destination or rule";
    let word = words.expect(what)?;
    match word.text {
        "source" => Ok(RawPer::Source(None)),
        "destination" => Ok(RawPer::Destination),
        "rule" => Ok(RawPer::Rule),
        text => {
            let Some(length) = text.strip_prefix("source/") else {
                return Err(word.expected_one(what, &["source", "destination", "rule"]));
            };
            let length = unsigned(length).filter(|length| (1..=128).contains(length));
            let expected = || word.expected("source/LEN with a length from 1 to 128");
            let length =
                length.ok_or_else(|| expected().with_help("for all sources together, write per rule"))?;
            Ok(RawPer::Source(Some((length, word))))
        }
    }
}

/// Fills in the lengths of source prefixes: up to 32, for a rule about IPv4, it is IPv4's, else IPv6's.
fn with_lengths(
    mut limit: Limit,
    lengths: &[Option<(u64, Word<'_>)>],
    covered: [bool; 2],
) -> Result<Limit, Diagnostic> {
    for (rate, length) in limit.rates.iter_mut().zip(lengths) {
        let Some((length, word)) = length else { continue };
        rate.per = match (covered, *length as u8) {
            ([true, _], length4 @ ..=32) => Per::Source { length4, length6: 64 },
            ([_, true], length6) => Per::Source { length4: 32, length6 },
            _ => {
                let message =
                    format!("per source/{length} is longer than an IPv4 address; the rule is about IPv4");
                return Err(Diagnostic::new(word.span.clone(), message).with_help("32 is the most"));
            }
        };
    }
    Ok(limit)
}

// Options.

/// `A-B`, or one number.
fn span_of<T>(words: &mut Words<'_>, what: &str, most: T) -> Result<[T; 2], Diagnostic>
where
    T: Copy + Into<u64> + TryFrom<u64> + std::fmt::Display + PartialOrd,
{
    let what = format!("{what} from 0 to {most}, or a range of them like 3-5");
    let word = words.expect(&what)?;
    let (first, last) = word.text.split_once('-').unwrap_or((word.text, word.text));
    let number = |text| unsigned(text).and_then(|number| T::try_from(number).ok());
    let (Some(first), Some(last)) = (number(first), number(last)) else { return Err(word.expected(&what)) };
    if first > last { Err(word.reversed(first, last)) } else { Ok([first, last]) }
}

/// A DSCP by number or name.
pub(super) fn dscp(words: &mut Words<'_>) -> Result<u8, Diagnostic> {
    let what = "a DSCP from 0 to 63, or ef, cs0 to cs7, af11 to af43";
    let word = words.expect(what)?;
    let digit = |text: &str, at: usize| text.as_bytes().get(at).map(|byte| byte.wrapping_sub(b'0'));
    let class = match (&word.text.get(..2), word.text.len()) {
        (Some("ef"), 2) => Some(46),
        (Some("cs"), 3) => digit(word.text, 2).filter(|class| *class < 8).map(|class| class * 8),
        (Some("af"), 4) => match (digit(word.text, 2), digit(word.text, 3)) {
            (Some(class @ 1..=4), Some(drop @ 1..=3)) => Some(class * 8 + drop * 2),
            _ => None,
        },
        _ => unsigned(word.text).filter(|dscp| *dscp < 64).map(|dscp| dscp as u8),
    };
    class.ok_or_else(|| word.expected(what))
}

fn vlan(words: &mut Words<'_>) -> Result<u16, Diagnostic> {
    let word = words.expect("a VLAN from 1 to 4094")?;
    let vlan = unsigned(word.text).filter(|vlan| (1..=4094).contains(vlan));
    vlan.map(|vlan| vlan as u16).ok_or_else(|| word.expected("a VLAN from 1 to 4094"))
}

/// What stands behind `quoted-source`: `mismatch`.
fn mismatch(words: &mut Words<'_>) -> Result<(), Diagnostic> {
    let what = "mismatch: the message quotes a packet that its receiver has not sent";
    let word = words.expect(what)?;
    if word.text == "mismatch" { Ok(()) } else { Err(word.expected_one(what, &["mismatch"])) }
}

/// Says that a rule about what messages quote has others among its types.
fn check_quoted(word: &Word<'_>, kinds: &[Kinds; 2]) -> Option<Diagnostic> {
    let is_mtu = word.text == "quoted-mtu";
    let quotes = |family: Family, range: &KindRange| {
        let types = range.types[0]..=range.types[1];
        match (family, is_mtu) {
            (Family::Ipv4, true) => range.types == [3; 2] && range.codes == [4; 2],
            (Family::Ipv6, true) => range.types == [TOO_BIG6; 2],
            (Family::Ipv4, false) => types.into_iter().all(quotes4),
            (Family::Ipv6, false) => types.into_iter().all(quotes6),
        }
    };
    let fits = |family: Family| match &kinds[family as usize] {
        Kinds::None => true,
        Kinds::These(ranges) => ranges.iter().all(|range| quotes(family, range)),
        Kinds::Any | Kinds::Fragments => false,
    };
    if Family::ALL.into_iter().all(fits) {
        return None;
    }
    let (what, names) = if is_mtu {
        ("the messages that tell an MTU", "packet-too-big")
    } else {
        ("errors, which quote a packet", "{unreachable, time-exceeded, parameter-problem}, in IPv4 redirect")
    };
    let message = format!("{} is about {what}, and this rule is not about them alone", word.text);
    Some(Diagnostic::new(word.span.clone(), message).with_help(format!("name these types, like {names}")))
}

/// What stands behind `log`: `1/N`, or nothing.
fn log(words: &mut Words<'_>) -> Result<u32, Diagnostic> {
    let is_share = |word: &&Word<'_>| word.text.starts_with(|c: char| c.is_ascii_digit());
    if words.peek().filter(is_share).is_none() {
        return Ok(1);
    }
    let what = "a share like 1/100: every hundredth packet";
    let word = words.expect(what)?;
    let each = word.text.strip_prefix("1/").and_then(unsigned).and_then(|each| u32::try_from(each).ok());
    each.filter(|each| *each > 0).ok_or_else(|| word.expected(what))
}

#[cfg(test)]
mod tests;
