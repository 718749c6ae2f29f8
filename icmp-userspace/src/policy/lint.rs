//! What is wrong with a policy as a whole, or probably not meant: rules that would break the network without saying so, that
//! never match, or that do nothing.

use std::{
    collections::{HashMap, HashSet},
    ops::{Range, RangeInclusive},
};

use icmp_common::Family;

use super::{
    Policy,
    acl::{
        Action, Address, BANNED, Ban, DefaultAction, KindRange, Kinds, Limit, Options, Origin, Per, Rate,
        Rule, Unit,
    },
    compile::limits::{self, Unfit},
    diagnostic::Diagnostic,
    guard::{GUARDED, Guarded},
    prefix::Prefix,
};

/// Where in the policy file things stand that warnings are about.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// The names of sets.
    pub sets: HashMap<String, Range<usize>>,
    /// Sets that are members of other sets.
    pub members: Vec<String>,
    /// The presets.
    pub presets: Vec<(&'static str, Range<usize>)>,
    /// The default.
    pub default: Option<Range<usize>>,
    /// Switches of `[respond]` that are on: their names.
    pub switches: Vec<(&'static str, Range<usize>)>,
}

/// Rules that would do what nobody wants, or not do what they say (C70, C74).
#[must_use]
pub fn errors(policy: &Policy) -> Vec<Diagnostic> {
    let rules = policy.acl.rules.iter();
    rules
        .enumerate()
        .flat_map(|(at, rule)| {
            let bans = unfit_ban(policy, at, rule);
            against_guard(rule, true).into_iter().chain(unfit_rates(rule)).chain(bans)
        })
        .collect()
}

/// What is probably not meant.
#[must_use]
pub fn warnings(policy: &Policy, places: &Places) -> Vec<Diagnostic> {
    let mut warnings = Vec::new();
    let hidden = hidden_rules(policy, places, &mut warnings);
    for (at, (rule, hidden)) in policy.acl.rules.iter().zip(hidden).enumerate() {
        if rule.origin == Origin::File && !hidden {
            warnings.extend(against_guard(rule, false));
            warnings.extend(useless_limit(rule));
            warnings.extend(useless_rate(rule));
            warnings.extend(useless_force(rule));
            warnings.extend(useless_ban(policy, at, rule));
        }
    }
    sets(policy, places, &mut warnings);
    silent(policy, places, &mut warnings);
    switches(policy, places, &mut warnings);
    warnings
}

/// Switches of `[respond]` that change nothing.
fn switches(policy: &Policy, places: &Places, warnings: &mut Vec<Diagnostic>) {
    let respond = &policy.respond;
    for (name, span) in &places.switches {
        let why = match *name {
            _ if !respond.enabled => "all answers are switched off (enabled = false)",
            "traceroute" if respond.prefixes.is_empty() => {
                "it is about served addresses that are not the host's, and no prefix is served"
            }
            _ => continue,
        };
        warnings.push(Diagnostic::warning(span.clone(), format!("{name} changes nothing: {why}")));
    }
}

/// A rule in messages: its number and text.
fn called(rule: &Rule) -> String {
    match rule.origin {
        Origin::File => format!("rule {} ({rule})", rule.number),
        Origin::Preset(preset) => format!("rule {} of preset {preset} ({rule})", rule.number),
    }
}

fn warning(rule: &Rule, message: String) -> Diagnostic {
    Diagnostic::warning(rule.span.clone(), message)
}

// The guard.

/// Whether packets with the TTL that is guarded can match.
fn ttl_fits(guarded: &Guarded, options: &Options) -> bool {
    match (guarded.ttl, options.ttl) {
        (Some(ttl), Some([least, most])) => (least..=most).contains(&ttl),
        _ => true,
    }
}

/// Guarded messages that a rule names, and which of them.
fn named(rule: &Rule) -> impl Iterator<Item = (&'static Guarded, KindRange)> {
    GUARDED.iter().filter(|guarded| ttl_fits(guarded, &rule.options)).filter_map(|guarded| {
        let Kinds::These(ranges) = &rule.kinds[guarded.family as usize] else { return None };
        let common = ranges.iter().find_map(|range| common(range, &all_of(guarded)))?;
        Some((guarded, common))
    })
}

fn all_of(guarded: &Guarded) -> KindRange {
    let ends = |range: &RangeInclusive<u8>| [*range.start(), *range.end()];
    KindRange { types: ends(&guarded.types), codes: ends(&guarded.codes) }
}

/// What two ranges have in common.
fn common(one: &KindRange, other: &KindRange) -> Option<KindRange> {
    let overlap = |[first, last]: [u8; 2], other: [u8; 2]| {
        let [first, last] = [first.max(other[0]), last.min(other[1])];
        (first <= last).then_some([first, last])
    };
    Some(KindRange { types: overlap(one.types, other.types)?, codes: overlap(one.codes, other.codes)? })
}

/// A rule that denies what the guard lets through: an error for those messages of which that is refused, a warning for others, and
/// where it would only be counted.
fn against_guard(rule: &Rule, refused: bool) -> Option<Diagnostic> {
    let Options { force, monitor, .. } = rule.options;
    if force || !matches!(rule.action, Action::Deny | Action::Reject(_)) {
        return None;
    }
    let (guarded, KindRange { types, codes }) =
        named(rule).find(|(guarded, _)| (guarded.refused && !monitor) == refused)?;
    let (family, ttl) = match guarded.family {
        Family::Ipv4 => ("ICMP", "TTL"),
        Family::Ipv6 => ("ICMPv6", "hop limit"),
    };
    let span = |[first, last]: [u8; 2]| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    let codes = if codes == [0, 255] { String::new() } else { format!(" code {}", span(codes)) };
    let ttl = guarded.ttl.map_or_else(String::new, |number| format!(" with {ttl} {number}"));
    let what = format!("{family} type {}{codes}{ttl}", span(types));
    let (rule_called, why) = (called(rule), guarded.why);
    if refused {
        let message = format!("{rule_called} would deny {what}: {why}");
        let help = "add force if that is meant; else name other messages";
        return Some(Diagnostic::new(rule.span.clone(), message).with_help(help));
    }
    let message = format!("{rule_called} does not reach {what}, which the guard lets through: {why}");
    let act = if monitor { "count" } else { "deny" };
    Some(warning(rule, message).with_help(format!("add force to {act} these, too")))
}

/// Rates that no bucket can keep.
fn unfit_rates(rule: &Rule) -> Vec<Diagnostic> {
    let Action::Limit(Limit { rates, .. }) = &rule.action else { return Vec::new() };
    let unfit = rates.iter().filter_map(|rate| Some((rate, limits::check(rate).err()?)));
    unfit.map(|(rate, unfit)| diagnostic_of(rate, unfit, &called(rule), rule.span.clone())).collect()
}

/// Why the rate of a rule, or of errors, can't be kept; `called` is what it belongs to.
pub(super) fn diagnostic_of(rate: &Rate, unfit: Unfit, called: &str, span: Range<usize>) -> Diagnostic {
    let burst = limits::burst(rate);
    let bits = if rate.unit == Unit::Bits { "bit" } else { "" };
    let (message, help) = match unfit {
        Unfit::Burst(least) => (
            format!(
                "{called}: burst {burst}{bits} of the rate {rate} is less than comes in {} ms, for which the kernel's clock may \
                 stand still",
                limits::CLOCK.as_millis()
            ),
            format!("write burst {least}{bits} or more"),
        ),
        Unfit::Packet(least) => (
            format!("{called}: burst {burst}{bits} of the rate {rate} is less than the shortest packet has"),
            format!("write burst {least}{bits} or more; longer packets than the burst never pass"),
        ),
        Unfit::Span(most) => (
            format!(
                "{called}: burst {burst}{bits} of the rate {rate} takes longer to come again than can be counted"
            ),
            format!("write burst {most}{bits} or less"),
        ),
        Unfit::Fast(most) => (
            format!("{called}: the rate {rate} is more than can be counted"),
            format!("{most}{bits}/s is the most"),
        ),
    };
    Diagnostic::new(span, message).with_help(help)
}

// Bans.

/// The ban of a rule, and the lengths of prefixes that it is for, by the number of the family; none for a family that the rule is
/// not about.
fn ban_of(rule: &Rule) -> Option<(Ban, [Option<u8>; 2])> {
    let Action::Limit(Limit { rates, ban, .. }) = &rule.action else { return None };
    let Per::Source { length4, length6 } = rates.first()?.per else { return None };
    let about = |family: Family, length| (rule.kinds[family as usize] != Kinds::None).then_some(length);
    Some(((*ban)?, [about(Family::Ipv4, length4), about(Family::Ipv6, length6)]))
}

/// A rule that denies sources for being banned.
fn denies_banned(rule: &Rule) -> bool {
    let denies = matches!(rule.action, Action::Deny | Action::Reject(_)) && !rule.options.monitor;
    denies && matches!(&rule.source, Address::Set(name) if name == BANNED)
}

/// The prefixes of an address, as far as they are known.
fn prefixes_of<'a>(policy: &'a Policy, address: &'a Address) -> &'a [Prefix] {
    match address {
        Address::Prefix(prefix) => std::slice::from_ref(prefix),
        Address::Set(name) => {
            policy.sets.iter().find(|set| set.name == *name).map_or(&[], |set| &set.prefixes)
        }
        Address::Any | Address::Wildcard { .. } => &[],
    }
}

/// A ban into a set that is not there, or of prefixes with addresses in them that nobody means to ban.
fn unfit_ban(policy: &Policy, at: usize, rule: &Rule) -> Option<Diagnostic> {
    let (_, lengths) = ban_of(rule)?;
    let error = |message: String| Some(Diagnostic::new(rule.span.clone(), message));
    match policy.sets.iter().find(|set| set.name == BANNED) {
        Some(set) if set.dynamic => {}
        found => {
            let is = if found.is_some() { "is not dynamic" } else { "does not exist" };
            return Some(
                error(format!("{} bans into the set {BANNED}, which {is}", called(rule)))?
                    .with_help(format!("write {BANNED} = {{ dynamic = true }} in [sets]")),
            );
        }
    }
    let family = |prefix: Prefix| usize::from(prefix.address().is_ipv6());
    // Whether a ban can be of a prefix that this one is a part of.
    let is_hit = |part: &Prefix| {
        let length = lengths[family(*part)].filter(|length| *length < part.length());
        length.is_some_and(|length| {
            let hit = Prefix::containing(part.address(), length);
            match &rule.source {
                Address::Any | Address::Wildcard { .. } => true,
                source => prefixes_of(policy, source)
                    .iter()
                    .any(|source| source.contains(hit) || hit.contains(*source)),
            }
        })
    };
    let refused = |part: Prefix, length: u8, what: &str, help: &str| {
        let hit = Prefix::containing(part.address(), lengths[family(part)].unwrap_or_default());
        let message = format!("{} would ban {hit}, and in it {part}, which {what}", called(rule));
        Some(error(message)?.with_help(format!("write per source/{length}{help}")))
    };
    // The prefixes of one host, or of one subnet: served addresses that lie in such a one are left out of its ban.
    const USUAL: [u8; 2] = [32, 64];
    let is_wide =
        |part: &&Prefix| lengths[family(**part)].is_some_and(|length| length < USUAL[family(**part)]);
    if let Some(served) = policy.respond.prefixes.iter().filter(is_wide).find(|served| is_hit(served)) {
        return refused(*served, served.length().min(USUAL[family(*served)]), "is served", "");
    }
    // What is permitted before those who are banned are denied is not hit.
    let earlier = &policy.acl.rules[..at];
    let denied = earlier.iter().position(denies_banned)?;
    earlier[denied..].iter().filter(|earlier| earlier.action == Action::Permit).find_map(|permit| {
        let part = prefixes_of(policy, &permit.source).iter().find(|part| is_hit(part))?;
        let exempt = format!("{} exempts", called(permit));
        let instead = format!(", or put that rule before {}", called(&earlier[denied]));
        refused(*part, part.length(), &exempt, &instead)
    })
}

/// A ban that changes nothing, or that can be of nobody.
fn useless_ban(policy: &Policy, at: usize, rule: &Rule) -> Option<Diagnostic> {
    ban_of(rule)?;
    if rule.options.monitor {
        let message = format!("{} bans nobody: monitor only counts", called(rule));
        return Some(warning(rule, message).with_help("leave one of them out"));
    }
    let sources = prefixes_of(policy, &rule.source);
    let is_served = |source: &Prefix| policy.respond.prefixes.iter().any(|served| served.contains(*source));
    if !sources.is_empty() && sources.iter().all(is_served) {
        let message = format!("{} bans nobody: served addresses never are", called(rule));
        return Some(warning(rule, message).with_help("leave ban out"));
    }
    let earlier = &policy.acl.rules[..at];
    if earlier.iter().any(denies_banned) {
        return None;
    }
    let message =
        format!("{} bans sources, but no rule before it denies what comes from set:{BANNED}", called(rule));
    Some(warning(rule, message).with_help(format!("put `deny icmp set:{BANNED} any` before it")))
}

/// A limit that reaches only what the guard keeps from limits.
fn useless_limit(rule: &Rule) -> Option<Diagnostic> {
    if rule.options.force || !matches!(rule.action, Action::Limit(_)) {
        return None;
    }
    let kept: Vec<&Guarded> =
        named(rule).map(|(guarded, _)| guarded).filter(|guarded| guarded.from_limits).collect();
    let all = |family: Family| match &rule.kinds[family as usize] {
        Kinds::None => true,
        Kinds::Any | Kinds::Fragments => false,
        Kinds::These(ranges) => {
            let of_family = kept.iter().filter(|guarded| guarded.family == family);
            let guards: Vec<KindRange> = of_family.map(|guarded| all_of(guarded)).collect();
            ranges.iter().all(|range| covers(&guards, range))
        }
    };
    if !Family::ALL.into_iter().all(all) {
        return None;
    }
    let why = kept.first()?.why;
    let message = format!("{} never bites: no limit reaches these messages. {why}", called(rule));
    Some(warning(rule, message).with_help("add force if they are to be limited"))
}

/// A rate that another rate of the same rule always reaches before it.
fn useless_rate(rule: &Rule) -> Option<Diagnostic> {
    let Action::Limit(Limit { rates, .. }) = &rule.action else { return None };
    let seconds = |rate: &Rate| match rate.period {
        super::acl::Period::Second => 1_u128,
        super::acl::Period::Minute => 60,
        super::acl::Period::Hour => 3600,
    };
    for (at, rate) in rates.iter().enumerate() {
        let tighter = rates.iter().enumerate().find(|(other_at, other)| {
            let slower = u128::from(other.amount) * seconds(rate) <= u128::from(rate.amount) * seconds(other);
            let smaller = limits::burst(other) <= limits::burst(rate);
            let first = rates[..at].contains(other) || *other != rate;
            *other_at != at && first && other.unit == rate.unit && other.per == rate.per && slower && smaller
        });
        if let Some((_, tighter)) = tighter {
            let message =
                format!("{}: the rate {rate} never bites, because {tighter} does first", called(rule));
            return Some(warning(rule, message).with_help("leave it out"));
        }
    }
    None
}

/// A `force` that changes nothing.
fn useless_force(rule: &Rule) -> Option<Diagnostic> {
    let reaches_guard = |family: Family| match &rule.kinds[family as usize] {
        Kinds::Any => {
            GUARDED.iter().any(|guarded| guarded.family == family && ttl_fits(guarded, &rule.options))
        }
        Kinds::None | Kinds::Fragments => false,
        Kinds::These(_) => named(rule).any(|(guarded, _)| guarded.family == family),
    };
    if !rule.options.force || Family::ALL.into_iter().any(reaches_guard) {
        return None;
    }
    let message = format!("{}: force changes nothing, none of these messages is guarded", called(rule));
    Some(warning(rule, message).with_help("leave it out"))
}

// Rules that never match.

/// Whether all of `range` lies in `ranges`, which do not overlap.
fn covers(ranges: &[KindRange], range: &KindRange) -> bool {
    let length = |[first, last]: [u8; 2]| u32::from(last - first) + 1;
    let size = |range: &KindRange| length(range.types) * length(range.codes);
    let common = ranges.iter().filter_map(|other| common(other, range));
    common.map(|common| size(&common)).sum::<u32>() == size(range)
}

fn includes(wide: &Kinds, narrow: &Kinds) -> bool {
    match (wide, narrow) {
        (_, Kinds::None) | (Kinds::Any, _) | (Kinds::Fragments, Kinds::Fragments) => true,
        (Kinds::These(wide), Kinds::These(narrow)) => narrow.iter().all(|range| covers(wide, range)),
        _ => false,
    }
}

/// Addresses by numbers, so that a rule finds the earlier rules that can hide it without looking at all of them.
#[derive(Default)]
struct Addresses<'a> {
    numbers: HashMap<&'a Address, u32>,
    prefixes: HashMap<Prefix, u32>,
    /// Lengths of prefixes that are there, per family.
    lengths: [Vec<u8>; 2],
}

impl<'a> Addresses<'a> {
    fn insert(&mut self, address: &'a Address) -> u32 {
        let next = self.numbers.len() as u32;
        let number = *self.numbers.entry(address).or_insert(next);
        if let Address::Prefix(prefix) = address {
            self.prefixes.insert(*prefix, number);
            let lengths = &mut self.lengths[usize::from(prefix.address().is_ipv6())];
            if !lengths.contains(&prefix.length()) {
                lengths.push(prefix.length());
            }
        }
        number
    }

    /// The numbers of all addresses that include this one.
    fn including(&self, address: &Address) -> Vec<u32> {
        let any = self.numbers.get(&Address::Any).copied();
        match address {
            Address::Prefix(prefix) => {
                let lengths = self.lengths[usize::from(prefix.address().is_ipv6())].iter();
                let shorter = lengths.filter(|length| **length <= prefix.length()).filter_map(|length| {
                    self.prefixes.get(&Prefix::containing(prefix.address(), *length)).copied()
                });
                shorter.chain(any).collect()
            }
            Address::Any => any.into_iter().collect(),
            Address::Wildcard { .. } | Address::Set(_) => {
                self.numbers.get(address).copied().into_iter().chain(any).collect()
            }
        }
    }
}

/// Warns of rules that repeat an earlier one or are hidden by one; says which these are.
fn hidden_rules(policy: &Policy, places: &Places, warnings: &mut Vec<Diagnostic>) -> Vec<bool> {
    let rules = &policy.acl.rules;
    let mut texts: HashMap<String, &Rule> = HashMap::new();
    let mut sources = Addresses::default();
    let mut destinations = Addresses::default();
    let mut earlier: HashMap<(u32, u32), Vec<&Rule>> = HashMap::new();
    let mut hidden = Vec::with_capacity(rules.len());
    let mut of_presets: Vec<(&'static str, &Rule, &Rule, usize)> = Vec::new();
    for rule in rules {
        let by_all = |wide: &&&Rule| {
            (wide.options.force || !rule.options.force)
                && wide.kinds.iter().zip(&rule.kinds).all(|(wide, narrow)| includes(wide, narrow))
        };
        let same = texts.get(&rule.to_string()).copied();
        let hiding = same.or_else(|| {
            let to = destinations.including(&rule.destination);
            sources.including(&rule.source).into_iter().find_map(|source| {
                to.iter().find_map(|to| earlier.get(&(source, *to))?.iter().find(by_all).copied())
            })
        });
        hidden.push(hiding.is_some());
        match (hiding, rule.origin) {
            (Some(hiding), Origin::File) if same.is_some() => {
                let message = format!("rule {} repeats rule {}: {rule}", rule.number, hiding.number);
                warnings.push(warning(rule, message).with_help("leave one of them out"));
            }
            (Some(hiding), Origin::File) => {
                let message = format!("{} never matches: {} comes first", called(rule), called(hiding));
                warnings.push(warning(rule, message).with_help("leave it out or move it up"));
            }
            (Some(hiding), Origin::Preset(preset)) => match of_presets.iter_mut().find(|it| it.0 == preset) {
                Some((.., count)) => *count += 1,
                None => of_presets.push((preset, rule, hiding, 1)),
            },
            (None, _) => {
                texts.insert(rule.to_string(), rule);
                if rule.options.is_unconditional() {
                    let pair = (sources.insert(&rule.source), destinations.insert(&rule.destination));
                    earlier.entry(pair).or_default().push(rule);
                }
            }
        }
    }
    for (preset, rule, hiding, count) in of_presets {
        // What a policy says itself is allowed to go before what presets say, but then a preset says nothing.
        let all = rules.iter().filter(|rule| rule.origin == Origin::Preset(preset)).count();
        let span = places.presets.iter().find(|(name, _)| *name == preset).map(|(_, span)| span.clone());
        if let (true, Some(span)) = (count == all, span) {
            let message = format!(
                "no rule of preset {preset} ever matches: presets follow the policy's own rules, and {} comes before {}",
                called(hiding),
                called(rule)
            );
            let all = hiding.source == Address::Any && hiding.destination == Address::Any;
            let help = if all && hiding.kind_text.is_empty() {
                "leave that rule out: `default` stands for packets that no rule matches"
            } else {
                "leave the preset out"
            };
            warnings.push(Diagnostic::warning(span, message).with_help(help));
        }
    }
    hidden
}

// Sets.

fn sets(policy: &Policy, places: &Places, warnings: &mut Vec<Diagnostic>) {
    let named = |rule: &'_ Rule| {
        [&rule.source, &rule.destination]
            .into_iter()
            .filter_map(|address| match address {
                Address::Set(name) => Some(name.clone()),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    let used: HashSet<String> =
        policy.acl.rules.iter().flat_map(named).chain(places.members.iter().cloned()).collect();
    for set in &policy.sets {
        let Some(span) = places.sets.get(&set.name).cloned() else { continue };
        if set.prefixes.is_empty() && !set.dynamic {
            let message = format!("set {} is empty: rules that name it never match", set.name);
            warnings.push(Diagnostic::warning(span.clone(), message));
        }
        if !used.contains(&set.name) {
            let message = format!("no rule uses set {}", set.name);
            warnings.push(
                Diagnostic::warning(span, message).with_help(format!("write set:{} in a rule", set.name)),
            );
        }
    }
}

// Served addresses that do not answer.

/// Type of an echo request, by the number of the family.
const ECHO: [u8; 2] = [8, 128];

fn has_echo(kinds: &Kinds, family: Family) -> bool {
    let echo = KindRange { types: [ECHO[family as usize]; 2], codes: [0, 0] };
    match kinds {
        Kinds::Any => true,
        Kinds::None | Kinds::Fragments => false,
        Kinds::These(ranges) => covers(ranges, &echo),
    }
}

/// What `[respond]` serves: a prefix, or the interface's own addresses of a family.
#[derive(Clone, Copy)]
enum Served {
    Prefix(Prefix),
    Own(Family),
}

impl Served {
    const fn family(self) -> Family {
        match self {
            Self::Own(family) => family,
            Self::Prefix(prefix) => {
                if prefix.address().is_ipv4() {
                    Family::Ipv4
                } else {
                    Family::Ipv6
                }
            }
        }
    }

    /// Whether all of it is among these destinations.
    fn is_within(self, destination: &Address, policy: &Policy) -> bool {
        match (self, destination) {
            (_, Address::Any) => true,
            (Self::Own(_), _) | (_, Address::Wildcard { .. }) => false,
            (Self::Prefix(served), Address::Prefix(prefix)) => prefix.contains(served),
            (Self::Prefix(served), Address::Set(name)) => policy
                .sets
                .iter()
                .filter(|set| set.name == *name)
                .any(|set| set.prefixes.iter().any(|prefix| prefix.contains(served))),
        }
    }

    /// Whether part of it can be among them.
    fn meets(self, destination: &Address) -> bool {
        match (self, destination) {
            (Self::Prefix(served), Address::Prefix(prefix)) => {
                prefix.contains(served) || served.contains(*prefix)
            }
            _ => true,
        }
    }
}

/// Warns where everybody's echo requests to served addresses are denied.
fn silent(policy: &Policy, places: &Places, warnings: &mut Vec<Diagnostic>) {
    /// Lists of served prefixes are long sometimes; the first few show what is wrong.
    const MOST: usize = 20;
    if !policy.respond.enabled {
        return;
    }
    let own = Family::ALL.map(Served::Own).into_iter().filter(|_| policy.respond.own);
    let served = own.chain(policy.respond.prefixes.iter().take(MOST).copied().map(Served::Prefix));
    let mut by_rule: Vec<(Option<&Rule>, Vec<String>)> = Vec::new();
    for served in served {
        let family = served.family();
        // The first rule that decides about all requests, if no earlier one lets some through.
        let mut decides = (policy.acl.default == DefaultAction::Deny).then_some(None);
        for rule in policy.acl.rules.iter().filter(|rule| has_echo(&rule.kinds[family as usize], family)) {
            let denies = matches!(rule.action, Action::Deny | Action::Reject(_)) && !rule.options.monitor;
            if !denies {
                if served.meets(&rule.destination) {
                    decides = None;
                    break;
                }
                continue;
            }
            let unconditional = rule.options.is_unconditional();
            if unconditional && rule.source == Address::Any && served.is_within(&rule.destination, policy) {
                decides = Some(Some(rule));
                break;
            }
        }
        let Some(rule) = decides else { continue };
        let name = match served {
            Served::Prefix(prefix) => prefix.to_string(),
            Served::Own(_) => "own".to_owned(),
        };
        let same = |other: &Option<&Rule>| match (other, rule) {
            (Some(one), Some(other)) => std::ptr::eq(*one, other),
            (None, None) => true,
            _ => false,
        };
        match by_rule.iter_mut().find(|(other, _)| same(other)) {
            Some((_, names)) if names.contains(&name) => {}
            Some((_, names)) => names.push(name),
            None => by_rule.push((rule, vec![name])),
        }
    }
    for (rule, names) in by_rule {
        let (what, span) = match rule {
            Some(rule) => match rule.origin {
                Origin::File => (called(rule), Some(rule.span.clone())),
                Origin::Preset(preset) => {
                    let place = places.presets.iter().find(|(name, _)| *name == preset);
                    (called(rule), place.map(|(_, span)| span.clone()))
                }
            },
            None => ("the default".to_owned(), places.default.clone()),
        };
        let message = format!(
            "{what} makes served addresses silent: nobody's pings to {} are answered",
            names.join(", ")
        );
        let help = "permit echo from somewhere before it, or take them out of [respond] `to`";
        warnings.push(Diagnostic::warning(span.unwrap_or(0..0), message).with_help(help));
    }
}
