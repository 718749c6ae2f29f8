//! Which counter belongs to which rule, and which number to which dynamic set.
//!
//! A rule keeps its slot in the map of rule counters as long as its canonical text stays in the policy, so that its count
//! survives every change of the policy exactly; a dynamic set keeps its number as long as its name stays. What a rule or a set
//! has left is not given away while the program that used it may still run: not by the change that removes it, only by a
//! later one.
//!
//! Counters are never set back, because the slots of one value of the map count on while others of it are given away: what a
//! counter held when its slot was given to a rule is remembered here, and taken off whenever it is read.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use icmp_common::{
    counters::{Amount, MAX_RULES, MAX_SERVED, RULE_SLOTS},
    dynamic::DYNAMIC_SETS,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    Policy,
    acl::{Action, DefaultAction, Per, Rate},
    compile::limits,
    prefix::Prefix,
};

/// Slots of rules by their canonical texts, numbers of dynamic sets by their names.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Slots {
    rules: BTreeMap<String, u32>,
    dynamic: BTreeMap<String, u32>,
    /// How many packets counters held when their slots were given away, by slot; none where nothing is said.
    #[serde(default)]
    starts: BTreeMap<u32, u64>,
    /// The same for bytes.
    #[serde(default)]
    byte_starts: BTreeMap<u32, u64>,
    /// When slots were given to rules that log: nanoseconds of the monotonic clock, by slot; none where nobody had them before.
    #[serde(default)]
    since: BTreeMap<u32, u64>,
}

/// A rule as listings show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The slot of its counter.
    pub slot: u32,
    /// Its number; none for what no rule matches and what the guard keeps.
    pub number: Option<u32>,
    /// Where it comes from: `file`, the name of a preset, or `built-in`.
    pub origin: String,
    /// Its canonical text.
    pub text: String,
}

/// What a rule is called: by its number, with the preset that it is from; what is none, by its text.
#[must_use]
pub fn rule_name(number: Option<u32>, origin: &str, text: &str) -> String {
    match (number, origin) {
        (Some(number), "file") => format!("rule {number}"),
        (Some(number), preset) => format!("rule {number} of the preset {preset}"),
        (None, _) => text.to_owned(),
    }
}

impl Line {
    /// Whether the rule limits.
    #[must_use]
    pub fn limits(&self) -> bool {
        // What a text begins with is its action.
        self.text.starts_with("limit ")
    }

    /// Whether it logs.
    #[must_use]
    pub fn logs(&self) -> bool {
        logs(&self.text)
    }
}

/// Whether a rule, or what stands for one of its rates, logs.
fn logs(text: &str) -> bool {
    text.split(' ').any(|word| word == "log")
}

/// What is served, as listings show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedLine {
    /// The slot that counts answers for it.
    pub slot: u32,
    /// The prefix; `own` for the interface's addresses, `others` for prefixes that are not counted each on its own.
    pub prefix: String,
}

/// A rate of a limit as listings show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitLine {
    /// The rule's number; none for the limits of errors that `reject` sends.
    pub number: Option<u32>,
    /// Where the rule comes from: `file`, the name of a preset, or `errors`.
    pub origin: String,
    /// The slot of the rule's counter.
    pub rule_slot: Option<u32>,
    /// The rate as it is written.
    pub rate: String,
    /// The slot that counts what is over it.
    pub over_slot: u32,
    /// Ticks that its cells in the table of buckets lie ahead of time at most.
    pub span: u64,
    /// Lengths of the prefixes that are banned for being over it, of IPv4 and of IPv6; none if nobody is.
    #[serde(default)]
    pub bans: Option<[u8; 2]>,
}

/// A policy with more rules or dynamic sets than there is room for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TooMany {
    /// Rules.
    #[error(
        "the policy has {0} rules, presets included; {MAX_RULES} are the most. Put addresses that are treated alike into a set"
    )]
    Rules(usize),
    /// Dynamic sets.
    #[error(
        "the policy has {0} dynamic sets; {DYNAMIC_SETS} are the most, and those of the policy that runs count as long as it does"
    )]
    Sets(usize),
}

/// What stands for the packets that no rule matches.
#[must_use]
pub const fn default_text(default: DefaultAction) -> &'static str {
    match default {
        DefaultAction::Permit => "default permit",
        DefaultAction::Deny => "default deny",
    }
}

/// What stands for the packets that the guard keeps from rules; see [`super::guard`].
pub const GUARD_TEXT: &str = "guard";

/// What stands for the errors that are not sent because of one of their two limits: to one source, and in all.
pub const ERROR_TEXTS: [&str; 2] = ["errors to one source", "errors in all"];

/// What stands for the buckets that have given way before they were full.
pub const EVICTED_TEXT: &str = "buckets given way";

/// What stands for the answers for addresses that a prefix covers; for the interface's own without one.
#[must_use]
pub fn served_text(prefix: Option<Prefix>) -> String {
    prefix.map_or_else(|| "served own".to_owned(), |prefix| format!("served {prefix}"))
}

/// What stands for the answers for addresses beyond the first so many prefixes.
pub const SERVED_OTHERS_TEXT: &str = "served others";

/// What stands for the packets that are over one of the rates of a rule; they are counted from 0.
#[must_use]
pub fn over_text(rule: &str, rate: usize) -> String {
    format!("over rate {rate} of {rule}")
}

/// All rates of a policy's rules: the rule's text, the number of the rate, the rate.
pub fn rates(policy: &Policy) -> impl Iterator<Item = (String, usize, &Rate)> {
    policy.acl.rules.iter().flat_map(|rule| {
        let rates: &[Rate] = if let Action::Limit(limit) = &rule.action { &limit.rates } else { &[] };
        rates.iter().enumerate().map(|(number, rate)| (rule.to_string(), number, rate))
    })
}

impl Slots {
    /// Gives each rule of a policy a slot and each dynamic set a number: what it has in `running`, else what nothing in
    /// `running` uses.
    pub fn assign(policy: &Policy, running: &Self) -> Result<Self, TooMany> {
        let rules = policy.acl.rules.len();
        if rules > MAX_RULES {
            return Err(TooMany::Rules(rules));
        }
        let [to_one, in_all] = ERROR_TEXTS;
        let others = [default_text(policy.acl.default), GUARD_TEXT, to_one, in_all, EVICTED_TEXT];
        let texts = policy.acl.rules.iter().map(ToString::to_string);
        let over = rates(policy).map(|(text, number, _)| over_text(&text, number));
        let counted = policy.respond.counted();
        let others_served = (!counted.is_empty()).then(|| SERVED_OTHERS_TEXT.to_owned());
        let served = counted.into_iter().map(served_text).chain(others_served);
        let texts = others.map(str::to_owned).into_iter().chain(served).chain(texts).chain(over);
        let names = policy.sets.iter().filter(|set| set.dynamic).map(|set| set.name.clone());
        let sets = names.clone().count();
        let rules = keep(texts, &running.rules, RULE_SLOTS).ok_or(TooMany::Rules(rules))?;
        let dynamic = keep(names, &running.dynamic, DYNAMIC_SETS).ok_or(TooMany::Sets(sets))?;
        let kept: BTreeSet<u32> = rules
            .iter()
            .filter(|(text, slot)| running.rules.get(*text) == Some(slot))
            .map(|(_, slot)| *slot)
            .collect();
        let of_kept = |starts: &BTreeMap<u32, u64>| -> BTreeMap<u32, u64> {
            let starts = starts.iter().filter(|(slot, _)| kept.contains(slot));
            starts.map(|(slot, count)| (*slot, *count)).collect()
        };
        let (starts, byte_starts) = (of_kept(&running.starts), of_kept(&running.byte_starts));
        Ok(Self { starts, byte_starts, since: of_kept(&running.since), rules, dynamic })
    }

    /// Whether all numbers are in range and none is given twice: what comes from a file may be anything.
    #[must_use]
    pub fn are_valid(&self) -> bool {
        are_distinct(&self.rules, RULE_SLOTS)
            && are_distinct(&self.dynamic, DYNAMIC_SETS)
            && [&self.starts, &self.byte_starts, &self.since]
                .into_iter()
                .flat_map(BTreeMap::keys)
                .all(|slot| (*slot as usize) < RULE_SLOTS)
    }

    /// Remembers what the counter of a slot held before a program began to count in it.
    pub fn start(&mut self, slot: u32, amount: Amount) {
        if amount.packets != 0 {
            self.starts.insert(slot, amount.packets);
            self.byte_starts.insert(slot, amount.bytes);
        }
    }

    /// Remembers when the slots that `running` did not use are given to rules that log, and to their rates: what is told of a slot at an
    /// earlier time is another rule's.
    pub fn begin(&mut self, running: &Self, now: u64) {
        let new = self.new_since(running).into_iter().collect::<BTreeSet<_>>();
        let begin = self.rules.iter().filter(|(text, slot)| new.contains(slot) && logs(text));
        self.since.extend(begin.map(|(_, slot)| (*slot, now)));
    }

    /// Since when a slot has been what it is, if anything is known of that.
    #[must_use]
    pub fn since(&self, slot: u32) -> Option<u64> {
        self.since.get(&slot).copied()
    }

    /// What has been counted in a slot since it was given away, if its counter holds so much. One that holds less than it did
    /// then is another one, made since.
    #[must_use]
    pub fn since_start(&self, slot: u32, amount: Amount) -> Amount {
        let start = |starts: &BTreeMap<u32, u64>| starts.get(&slot).copied().unwrap_or(0);
        let since = (
            amount.packets.checked_sub(start(&self.starts)),
            amount.bytes.checked_sub(start(&self.byte_starts)),
        );
        if let (Some(packets), Some(bytes)) = since { Amount { packets, bytes } } else { amount }
    }

    /// The same slots, if their counters are new ones.
    #[must_use]
    pub fn with_new_counters(self) -> Self {
        Self { starts: BTreeMap::new(), byte_starts: BTreeMap::new(), since: BTreeMap::new(), ..self }
    }

    /// The rules of the policy that these slots were assigned to in their order, what no rule matches, what the guard keeps.
    #[must_use]
    pub fn lines(&self, policy: &Policy) -> Vec<Line> {
        let rules =
            policy.acl.rules.iter().map(|rule| (Some(rule.number), rule.origin.name(), rule.to_string()));
        let others = [default_text(policy.acl.default), GUARD_TEXT];
        rules
            .chain(others.map(|text| (None, "built-in", text.to_owned())))
            .filter_map(|(number, origin, text)| {
                Some(Line { slot: self.rule(&text)?, number, origin: origin.to_owned(), text })
            })
            .collect()
    }

    /// What the policy that these slots were assigned to serves, as it is counted.
    #[must_use]
    pub fn served(&self, policy: &Policy) -> Vec<ServedLine> {
        let counted = policy.respond.counted();
        let others = (policy.respond.prefixes.len() + 2 > MAX_SERVED && !counted.is_empty())
            .then(|| ("others".to_owned(), SERVED_OTHERS_TEXT.to_owned()));
        let named = counted.into_iter().map(|prefix| {
            (prefix.map_or_else(|| "own".to_owned(), |prefix| prefix.to_string()), served_text(prefix))
        });
        named
            .chain(others)
            .filter_map(|(prefix, text)| Some(ServedLine { slot: self.rule(&text)?, prefix }))
            .collect()
    }

    /// The rates of the policy that these slots were assigned to: those of its rules in their order, then those of errors.
    #[must_use]
    pub fn limits(&self, policy: &Policy) -> Vec<LimitLine> {
        let mut lines = Vec::new();
        for rule in &policy.acl.rules {
            let Action::Limit(limit) = &rule.action else { continue };
            let text = rule.to_string();
            for (number, rate) in limit.rates.iter().enumerate() {
                let ban = limit.ban.filter(|_| number == 0);
                lines.extend(self.rule(&over_text(&text, number)).map(|over_slot| LimitLine {
                    number: Some(rule.number),
                    origin: rule.origin.name().to_owned(),
                    rule_slot: self.rule(&text),
                    rate: rate.to_string(),
                    over_slot,
                    span: limits::longest_span(rate, ban, rule.options.log.is_some()),
                    bans: match rate.per {
                        Per::Source { length4, length6 } if ban.is_some() => Some([length4, length6]),
                        _ => None,
                    },
                }));
            }
        }
        let errors = limits::error_rates(&policy.acl.errors);
        for (rate, text) in errors.iter().zip(ERROR_TEXTS) {
            lines.extend(self.rule(text).map(|over_slot| LimitLine {
                number: None,
                origin: "errors".to_owned(),
                rule_slot: None,
                rate: rate.to_string(),
                over_slot,
                span: limits::longest_span(rate, None, false),
                bans: None,
            }));
        }
        lines
    }

    /// The slot of a rule, by its canonical text.
    #[must_use]
    pub fn rule(&self, text: &str) -> Option<u32> {
        self.rules.get(text).copied()
    }

    /// Whether a slot is given to anything.
    #[must_use]
    pub fn uses(&self, slot: u32) -> bool {
        self.rules.values().any(|used| *used == slot)
    }

    /// The number of a dynamic set, by its name.
    #[must_use]
    pub fn set(&self, name: &str) -> Option<u32> {
        self.dynamic.get(name).copied()
    }

    /// All rules, by their texts, and their slots.
    pub fn rules(&self) -> impl Iterator<Item = (&str, u32)> {
        self.rules.iter().map(|(text, slot)| (&**text, *slot))
    }

    /// All dynamic sets and their numbers.
    pub fn sets(&self) -> impl Iterator<Item = (&str, u32)> {
        self.dynamic.iter().map(|(name, number)| (&**name, *number))
    }

    /// Slots that `running` did not use: what their counters hold has to be remembered before a program counts in them; see
    /// [`Self::start`].
    #[must_use]
    pub fn new_since(&self, running: &Self) -> Vec<u32> {
        let taken: BTreeSet<u32> = running.rules.values().copied().collect();
        self.rules.values().copied().filter(|slot| !taken.contains(slot)).collect()
    }
}

/// Gives each name the number that it has in `running`, else one below `end` that nothing there has; `None` if these run out.
fn keep(
    names: impl Iterator<Item = String>,
    running: &BTreeMap<String, u32>,
    end: usize,
) -> Option<BTreeMap<String, u32>> {
    let taken: BTreeSet<u32> = running.values().copied().collect();
    let mut free = (0..end as u32).filter(|number| !taken.contains(number));
    let mut kept = BTreeMap::new();
    for name in names {
        if let Entry::Vacant(entry) = kept.entry(name) {
            let number = running.get(entry.key()).copied().or_else(|| free.next())?;
            entry.insert(number);
        }
    }
    Some(kept)
}

/// Whether all numbers are below `end` and each has one name.
fn are_distinct(numbers: &BTreeMap<String, u32>, end: usize) -> bool {
    let distinct: BTreeSet<u32> = numbers.values().copied().collect();
    distinct.len() == numbers.len() && distinct.last().is_none_or(|last| (*last as usize) < end)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use icmp_common::bucket::TICK;

    use super::*;
    use crate::policy::{
        Set,
        acl::{Acl, Action, Address, Kinds, Options, Origin, Protocol, Rule},
        prefix::Prefix,
    };

    /// A policy that denies these hosts, and has these dynamic sets.
    fn policy(hosts: &[u8], sets: &[&str]) -> Policy {
        let rules = hosts.iter().enumerate().map(|(number, host)| Rule {
            number: number as u32 * 10 + 10,
            origin: Origin::File,
            action: Action::Deny,
            protocol: Protocol::Icmp4,
            source: Address::Prefix(Prefix::host(Ipv4Addr::new(192, 0, 2, *host).into())),
            destination: Address::Any,
            kinds: [Kinds::Any, Kinds::None],
            kind_text: String::new(),
            options: Options::default(),
            span: 0..0,
        });
        let set =
            |name: &&str| Set { name: (*name).to_owned(), prefixes: Vec::new(), dynamic: true, file: None };
        let acl = Acl { rules: rules.collect(), ..Acl::default() };
        Policy { acl, sets: sets.iter().map(set).collect(), ..Policy::default() }
    }

    fn text(host: u8) -> String {
        policy(&[host], &[]).acl.rules[0].to_string()
    }

    #[test]
    fn what_stays_keeps_its_number_and_what_comes_takes_no_ones() {
        let first = Slots::assign(&policy(&[1, 2, 3], &["a", "b"]), &Slots::default()).unwrap();
        let second = Slots::assign(&policy(&[4, 3, 1], &["c", "b"]), &first).unwrap();
        for host in [1, 3] {
            assert_eq!(first.rule(&text(host)), second.rule(&text(host)));
        }
        assert_eq!((first.set("b"), second.set("a")), (second.set("b"), None));
        let four = second.rule(&text(4)).unwrap();
        assert!(first.rules().all(|(_, slot)| slot != four));
        assert!(first.sets().all(|(_, number)| Some(number) != second.set("c")));
        assert_eq!(second.new_since(&first), [four]);
        assert!(first.are_valid() && second.are_valid());
    }

    #[test]
    fn equal_rules_share_a_slot_and_are_listed_in_their_order() {
        let policy = policy(&[7, 1, 7], &[]);
        let slots = Slots::assign(&policy, &Slots::default()).unwrap();
        let lines = slots.lines(&policy);
        let texts: Vec<_> = lines.iter().map(|line| &*line.text).collect();
        assert_eq!(texts, [&*text(7), &text(1), &text(7), "default permit", "guard"]);
        assert_eq!(lines[0].slot, lines[2].slot);
        assert_eq!((lines[1].number, &*lines[1].origin), (Some(20), "file"));
        assert_eq!((lines[4].number, &*lines[4].origin), (None, "built-in"));
    }

    fn amount(packets: u64) -> Amount {
        Amount { packets, bytes: 100 * packets }
    }

    #[test]
    fn counts_begin_anew_with_a_new_rule_alone() {
        let first = Slots::assign(&policy(&[1, 2], &[]), &Slots::default()).unwrap();
        let (one, two) = (first.rule(&text(1)).unwrap(), first.rule(&text(2)).unwrap());
        let mut second = Slots::assign(&policy(&[1], &[]), &first).unwrap();
        second.start(one, amount(5));
        // Another rule gets what the second one left, which holds what that one counted.
        let mut third = Slots::assign(&policy(&[1, 3], &[]), &second).unwrap();
        assert_eq!(third.rule(&text(3)), Some(two));
        assert_eq!(third.new_since(&second), [two]);
        third.start(two, amount(40));
        let since = |slots: &Slots, slot, count| slots.since_start(slot, amount(count));
        assert_eq!((since(&third, one, 9), since(&third, two, 42)), (amount(4), amount(2)));
        assert_eq!(
            (since(&third, two, 3), since(&third.clone().with_new_counters(), two, 42)),
            (amount(3), amount(42))
        );
        // A rule that leaves and comes back begins anew.
        let fourth = Slots::assign(&policy(&[3], &[]), &third).unwrap();
        assert_eq!((since(&fourth, two, 43), since(&fourth, one, 9)), (amount(3), amount(9)));
    }

    #[test]
    fn too_much_is_refused() {
        let hosts = vec![1; MAX_RULES + 1];
        let refused = Slots::assign(&policy(&hosts, &[]), &Slots::default());
        assert_eq!(refused, Err(TooMany::Rules(MAX_RULES + 1)));
        let names: Vec<_> = (0..DYNAMIC_SETS).map(|number| number.to_string()).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let full = Slots::assign(&policy(&[], &names), &Slots::default()).unwrap();
        assert_eq!(Slots::assign(&policy(&[], &["x"]), &full), Err(TooMany::Sets(1)));
    }

    #[test]
    fn rates_that_ban_know_how_long_they_remember() {
        let rules = "limit 10/s burst 1 per source, 20/s burst 40 per rule ban 1m after 30s icmp any any";
        let text = format!(
            "sets.banned = {{ dynamic = true }}\nacl.rules = '{rules}'\nacl.errors.total = '1/s burst 3'"
        );
        let policy = crate::policy::file::parse(&text).unwrap();
        let slots = Slots::assign(&policy, &Slots::default()).unwrap();
        let spans = slots.limits(&policy).into_iter().map(|line| line.span / (1_000_000_000 / TICK));
        // Seconds: a pause of five, two to fill; of errors one, and three.
        assert_eq!(spans.collect::<Vec<_>>(), [5, 2, 1, 3]);
    }

    #[test]
    fn what_a_file_says_is_not_believed() {
        let read = |text: &str| serde_json::from_str::<Slots>(text).unwrap().are_valid();
        assert!(read(r#"{"rules": {"guard": 32767}, "dynamic": {"a": 15}}"#));
        assert!(!read(r#"{"rules": {"guard": 32768}, "dynamic": {}}"#));
        assert!(!read(r#"{"rules": {}, "dynamic": {"a": 16}}"#));
        assert!(!read(r#"{"rules": {"x": 1, "y": 1}, "dynamic": {}}"#));
        assert!(!read(r#"{"rules": {}, "dynamic": {}, "starts": {"32768": 1}}"#));
    }
}
