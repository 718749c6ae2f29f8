//! Types and codes of a rule: words -> [`Kinds`] of both families, and the one text that all words with this meaning share.
//!
//! A rule about one family may name types by number; one about both has to name them by words that mean the same in both.

use std::collections::BTreeMap;

use icmp_common::Family;

use super::{
    acl::{KindRange, Kinds},
    diagnostic::{Diagnostic, nearest},
    names::{self, Kind, Name},
    words::{Word, spanning},
};

/// What a rule's words for types and codes mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    /// By the number of the [`Family`]; [`Kinds::None`] for a family that the rule is not about.
    pub(super) kinds: [Kinds; 2],
    /// The canonical text.
    pub(super) text: String,
}

/// Which messages a rule can be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Those of one family.
    One(Family),
    /// Those of one family; words are read as IOS reads them in an IPv6 access list.
    Ipv6AccessList,
    /// Those of both.
    Both,
}

impl Scope {
    const fn family(self) -> Option<Family> {
        match self {
            Self::One(family) => Some(family),
            Self::Ipv6AccessList => Some(Family::Ipv6),
            Self::Both => None,
        }
    }

    /// What a name stands for. IOS calls a code "destination-unreachable", in IPv6 lists, that all others have for the type.
    fn find(self, text: &str) -> Option<&'static Name> {
        match (self, text) {
            (Self::Ipv6AccessList, "destination-unreachable") => names::find("address-unreachable"),
            _ => names::find(text),
        }
    }
}

/// Understands types, and codes if there are any. `options` are the words that might have been meant instead.
pub(super) fn parse(
    types: &[Word<'_>],
    codes: Option<&[Word<'_>]>,
    scope: Scope,
    options: &[&'static str],
) -> Result<Meaning, Diagnostic> {
    match scope.family() {
        Some(family) => one(types, codes, scope, family, options),
        None => both(types, codes, options),
    }
}

/// Numbers from 0 to 255.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct Numbers([u64; 4]);

impl Numbers {
    const ALL: Self = Self([u64::MAX; 4]);

    fn insert(&mut self, numbers: [u8; 2]) {
        for number in numbers[0]..=numbers[1] {
            self.0[usize::from(number / 64)] |= 1 << (number % 64);
        }
    }

    const fn contains(self, number: u8) -> bool {
        self.0[(number / 64) as usize] >> (number % 64) & 1 == 1
    }

    fn iter(self) -> impl Iterator<Item = u8> {
        (0..=u8::MAX).filter(move |number| self.contains(*number))
    }

    /// Runs of numbers without gaps.
    fn runs(self) -> Vec<[u8; 2]> {
        let mut runs: Vec<[u8; 2]> = Vec::new();
        for number in self.iter() {
            match runs.last_mut() {
                Some(run) if run[1].checked_add(1) == Some(number) => run[1] = number,
                _ => runs.push([number; 2]),
            }
        }
        runs
    }

    fn union(&mut self, other: Self) {
        for (word, other) in self.0.iter_mut().zip(other.0) {
            *word |= other;
        }
    }
}

/// Codes of types.
type Codes = BTreeMap<u8, Numbers>;

fn add(codes: &mut Codes, kind: Kind) {
    let mut numbers = Numbers::default();
    match kind.code {
        Some(code) => numbers.insert([code; 2]),
        None => numbers = Numbers::ALL,
    }
    codes.entry(kind.kind).or_default().union(numbers);
}

fn ranges(codes: &Codes) -> Kinds {
    let mut ranges: Vec<KindRange> = Vec::new();
    let mut open: Option<(Numbers, usize)> = None;
    for (kind, numbers) in codes {
        // Neighbouring types with the same codes are one range each.
        if let Some((same, first)) = open
            && same == *numbers
            && ranges[first].types[1].checked_add(1) == Some(*kind)
        {
            ranges[first..].iter_mut().for_each(|range| range.types[1] = *kind);
            continue;
        }
        open = Some((*numbers, ranges.len()));
        ranges.extend(numbers.runs().into_iter().map(|codes| KindRange { types: [*kind; 2], codes }));
    }
    Kinds::These(ranges)
}

/// One item of a list, as it is written.
enum Item<'a> {
    Numbers([u8; 2]),
    Name(&'a str),
}

fn item<'a>(word: &Word<'a>, what: &str) -> Result<Item<'a>, Diagnostic> {
    let text = word.text;
    if !text.starts_with(|first: char| first.is_ascii_digit()) {
        return Ok(Item::Name(text));
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.parse::<u8>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    let (Some(first), Some(last)) = (number(first), number(last)) else {
        return Err(word.expected(&format!("a {what} from 0 to 255, a range like 3-5, or a name")));
    };
    if first > last {
        return Err(word.reversed(first, last));
    }
    Ok(Item::Numbers([first, last]))
}

fn family_of(name: &Name) -> Family {
    if name.in_family(Family::Ipv4).is_some() { Family::Ipv4 } else { Family::Ipv6 }
}

/// The protocol word for a family.
const fn protocol(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "icmp4",
        Family::Ipv6 => "icmp6",
    }
}

fn unknown_type(
    word: &Word<'_>,
    fits: impl Fn(&Name) -> bool,
    options: &[&'static str],
    read: bool,
) -> Diagnostic {
    let names = names::NAMES.iter().filter(|name| fits(name)).map(|name| name.text);
    let known: Vec<&str> = names.chain(options.iter().copied()).collect();
    let diagnostic = Diagnostic::new(word.span.clone(), format!("unknown message type: {}", word.shown()));
    diagnostic.with_help(match nearest(word.text, &known) {
        Some(nearest) => format!("did you mean {nearest}?"),
        None if read => "expected a name like echo or unreachable".to_owned(),
        None => "expected a number, a range like 3-5, a list like {3, echo}, or a name like echo".to_owned(),
    })
}

fn unknown_code(word: &Word<'_>, known: Vec<&'static str>, options: &[&'static str]) -> Diagnostic {
    let all: Vec<&str> = known.iter().chain(options).copied().collect();
    let message = format!("unknown code or option: {}", word.shown());
    Diagnostic::new(word.span.clone(), message).with_help(match nearest(word.text, &all) {
        Some(nearest) => format!("did you mean {nearest}?"),
        None if known.is_empty() => format!("expected a number, or an option: {}", options.join(", ")),
        None => format!("codes of this type: {}; options: {}", known.join(", "), options.join(", ")),
    })
}

fn already_coded(word: &Word<'_>, types: &[Word<'_>]) -> Diagnostic {
    let name = types.iter().find(|word| {
        names::find(word.text).is_some_and(|name| name.kinds.iter().flatten().any(|kind| kind.code.is_some()))
    });
    let name = name.map_or("the name", |word| word.text);
    Diagnostic::new(word.span.clone(), format!("{name} stands for a code already: no other can follow"))
}

// One family.

fn one(
    types: &[Word<'_>],
    codes: Option<&[Word<'_>]>,
    scope: Scope,
    family: Family,
    options: &[&'static str],
) -> Result<Meaning, Diagnostic> {
    let mut set = Codes::new();
    let mut coded = false;
    for word in types {
        match item(word, "type")? {
            Item::Numbers([first, last]) => {
                (first..=last).for_each(|kind| add(&mut set, Kind { kind, code: None }));
            }
            Item::Name(text) => {
                let fits = |name: &Name| name.in_family(family).is_some();
                let name = scope.find(text).ok_or_else(|| unknown_type(word, fits, options, false))?;
                let kind = name.in_family(family).ok_or_else(|| foreign(word, name, family))?;
                coded |= kind.code.is_some();
                add(&mut set, kind);
            }
        }
    }
    if let Some(codes) = codes {
        if coded {
            return Err(already_coded(&spanning(codes), types));
        }
        let mut numbers = Numbers::default();
        for word in codes {
            numbers.insert(code_of_one(word, family, &set, options)?);
        }
        set.values_mut().for_each(|codes| *codes = numbers);
    }
    let mut kinds = [Kinds::None, Kinds::None];
    kinds[family as usize] = ranges(&set);
    Ok(Meaning { kinds, text: text_of_one(family, &set) })
}

fn foreign(word: &Word<'_>, name: &Name, family: Family) -> Diagnostic {
    let other = family_of(name);
    let message =
        format!("{} is a message of {}; the rule is about {}", name.text, proper(other), proper(family));
    Diagnostic::new(word.span.clone(), message).with_help(format!("{} has it", protocol(other)))
}

/// How a family is called in messages.
pub(super) const fn proper(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "IPv4",
        Family::Ipv6 => "IPv6",
    }
}

fn code_of_one(
    word: &Word<'_>,
    family: Family,
    types: &Codes,
    options: &[&'static str],
) -> Result<[u8; 2], Diagnostic> {
    let name = match item(word, "code")? {
        Item::Numbers(numbers) => return Ok(numbers),
        Item::Name(name) => name,
    };
    let of_type = |kind: Kind| kind.code.filter(|_| types.keys().all(|kind_| *kind_ == kind.kind));
    let found = names::find(name).and_then(|name| name.in_family(family));
    match found {
        Some(kind) => match of_type(kind) {
            Some(code) => Ok([code; 2]),
            None => {
                let message = format!("{name} is no code of {}", text_of_one(family, types));
                Err(Diagnostic::new(word.span.clone(), message))
            }
        },
        None => {
            let names = names::NAMES.iter();
            let fits = |name: &&Name| name.in_family(family).and_then(of_type).is_some();
            Err(unknown_code(word, names.filter(fits).map(|name| name.text).collect(), options))
        }
    }
}

/// What stands for numbers; a run of three or more is a range.
fn items(numbers: Numbers, name: impl Fn(u8) -> Option<&'static str>) -> Vec<String> {
    let mut items = Vec::new();
    for [first, last] in numbers.runs() {
        if last - first >= 2 {
            items.push(format!("{first}-{last}"));
        } else {
            items.extend((first..=last).map(|n| name(n).map_or_else(|| n.to_string(), str::to_owned)));
        }
    }
    items
}

fn list(items: &[String]) -> String {
    match items {
        [item] => item.clone(),
        items => format!("{{{}}}", items.join(", ")),
    }
}

fn text_of_one(family: Family, set: &Codes) -> String {
    let type_name = |kind| names::of(family, kind, None);
    let mut types = Numbers::default();
    set.keys().for_each(|kind| types.insert([*kind; 2]));
    let Some((kind, codes)) = set.first_key_value() else { return String::new() };
    if set.values().all(|other| other == codes) {
        let types = list(&items(types, type_name));
        if *codes == Numbers::ALL {
            return types;
        }
        if set.len() > 1 {
            return format!("{types} {}", list(&items(*codes, |_| None)));
        }
        let code_name = |code| names::of(family, *kind, Some(code));
        let mut each = codes.iter();
        return match (each.next().and_then(code_name), each.next()) {
            (Some(name), None) => name.to_owned(),
            _ => format!("{types} {}", list(&items(*codes, code_name))),
        };
    }
    // Types in full and single codes of others, which all come from names.
    let mut full = Numbers::default();
    set.iter().filter(|(_, codes)| **codes == Numbers::ALL).for_each(|(kind, _)| full.insert([*kind; 2]));
    let mut texts = items(full, type_name);
    for (kind, codes) in set.iter().filter(|(_, codes)| **codes != Numbers::ALL) {
        texts.extend(codes.iter().filter_map(|code| names::of(family, *kind, Some(code))).map(str::to_owned));
    }
    list(&texts)
}

// Both families.

fn both(
    types: &[Word<'_>],
    codes: Option<&[Word<'_>]>,
    options: &[&'static str],
) -> Result<Meaning, Diagnostic> {
    let mut pairs = Vec::new();
    for word in types {
        match item(word, "type")? {
            Item::Numbers(numbers) => return Err(ambiguous_type(word, numbers)),
            Item::Name(text) => {
                let fits = |name: &Name| name.kinds.iter().all(Option::is_some);
                let name = names::find(text).ok_or_else(|| unknown_type(word, fits, options, true))?;
                let [Some(v4), Some(v6)] = name.kinds else { return Err(without_counterpart(word, name)) };
                pairs.push([v4, v6]);
            }
        }
    }
    pairs.sort_unstable();
    pairs.dedup();
    let Some(codes) = codes else { return Ok(meaning_of_both(pairs, None)) };
    if pairs.iter().flatten().any(|kind| kind.code.is_some()) {
        return Err(already_coded(&spanning(codes), types));
    }
    let mut with_codes = Vec::new();
    let mut numbers = Numbers::default();
    for word in codes {
        match item(word, "code")? {
            Item::Numbers([first, last]) => {
                for code in (first..=last).filter(|code| !numbers.contains(*code)) {
                    for pair in &pairs {
                        with_codes.push(numbered(word, *pair, code, [first, last] == [0, 255])?);
                    }
                }
                numbers.insert([first, last]);
            }
            Item::Name(text) => with_codes.push(named(word, text, &pairs, options)?),
        }
    }
    if numbers == Numbers::ALL {
        return Ok(meaning_of_both(pairs, None));
    }
    Ok(meaning_of_both(with_codes, Some((&pairs, numbers))))
}

/// A code, by number, of types of both families: allowed where it means the same in both.
fn numbered(word: &Word<'_>, pair: [Kind; 2], code: u8, all: bool) -> Result<[Kind; 2], Diagnostic> {
    let coded = pair.map(|kind| Kind { code: Some(code), ..kind });
    let [v4, v6] = Family::ALL;
    let plain = !names::has_codes(v4, pair[0].kind) && !names::has_codes(v6, pair[1].kind);
    if all || plain || names::of_pair(coded).is_some() {
        return Ok(coded);
    }
    let name = |family| {
        names::of(family, coded[family as usize].kind, Some(code)).map_or("without a name", |name| name)
    };
    let message = format!("code {code} is ambiguous: it is {} in IPv4, {} in IPv6", name(v4), name(v6));
    Err(Diagnostic::new(word.span.clone(), message).with_help("write icmp4 or icmp6 instead of icmp"))
}

/// A code, by name, of types of both families.
fn named(
    word: &Word<'_>,
    text: &str,
    pairs: &[[Kind; 2]],
    options: &[&'static str],
) -> Result<[Kind; 2], Diagnostic> {
    let of_types = |name: &Name| match name.kinds {
        [Some(v4), Some(v6)] if v4.code.is_some() && v6.code.is_some() => {
            pairs.iter().all(|pair| [pair[0].kind, pair[1].kind] == [v4.kind, v6.kind]).then_some([v4, v6])
        }
        _ => None,
    };
    let Some(name) = names::find(text) else {
        let known = names::NAMES.iter().filter(|name| of_types(name).is_some());
        return Err(unknown_code(word, known.map(|name| name.text).collect(), options));
    };
    if name.kinds.contains(&None) {
        return Err(without_counterpart(word, name));
    }
    let types: Vec<String> =
        pairs.iter().filter_map(|pair| names::of_pair(*pair)).map(str::to_owned).collect();
    of_types(name)
        .ok_or_else(|| Diagnostic::new(word.span.clone(), format!("{text} is no code of {}", list(&types))))
}

fn ambiguous_type(word: &Word<'_>, [first, last]: [u8; 2]) -> Diagnostic {
    let advice = "write icmp4 or icmp6 instead of icmp";
    if first != last {
        let message =
            format!("types {first}-{last} are ambiguous: they are other messages in IPv4 than in IPv6");
        return Diagnostic::new(word.span.clone(), message).with_help(advice);
    }
    let [v4, v6] = Family::ALL.map(|family| names::of(family, first, None));
    let unassigned = |name: Option<&'static str>| name.unwrap_or("unassigned");
    let message =
        format!("type {first} is ambiguous: it is {} in IPv4, {} in IPv6", unassigned(v4), unassigned(v6));
    let common: Vec<&str> = [v4, v6]
        .into_iter()
        .flatten()
        .filter(|text| names::find(text).is_some_and(|name| !name.kinds.contains(&None)))
        .collect();
    Diagnostic::new(word.span.clone(), message).with_help(match common[..] {
        [] => advice.to_owned(),
        [name] => format!("{advice}, or {name} for both families"),
        [first, second, ..] if first != second => {
            format!("{advice}, or {first} or {second} for both families")
        }
        [name, ..] => format!("{advice}, or {name} for both families"),
    })
}

fn without_counterpart(word: &Word<'_>, name: &Name) -> Diagnostic {
    let family = family_of(name);
    let other = match family {
        Family::Ipv4 => Family::Ipv6,
        Family::Ipv6 => Family::Ipv4,
    };
    let message = format!("{} has no counterpart in {}", name.text, proper(other));
    let help = format!("write {} if the rule is about {} alone", protocol(family), proper(family));
    Diagnostic::new(word.span.clone(), message).with_help(help)
}

fn includes(kind: Kind, other: Kind) -> bool {
    kind.kind == other.kind && (kind.code.is_none() || kind.code == other.code)
}

/// The meaning of pairs of kinds. `written` are the types and codes that they come from, if they do: where a pair has no
/// name, the text is made of these.
fn meaning_of_both(mut pairs: Vec<[Kind; 2]>, written: Option<(&[[Kind; 2]], Numbers)>) -> Meaning {
    let mut sets = [Codes::new(), Codes::new()];
    for pair in &pairs {
        for (set, kind) in sets.iter_mut().zip(pair) {
            add(set, *kind);
        }
    }
    pairs.sort_unstable();
    pairs.dedup();
    // A code is left out where its type is there in full.
    let wide: Vec<[Kind; 2]> =
        pairs.iter().filter(|pair| pair.iter().any(|kind| kind.code.is_none())).copied().collect();
    let covered = |pair: &[Kind; 2]| {
        wide.iter().any(|other| other != pair && includes(other[0], pair[0]) && includes(other[1], pair[1]))
    };
    let shown = pairs.iter().filter(|pair| !covered(pair));
    let named: Option<Vec<String>> = shown.map(|pair| names::of_pair(*pair).map(str::to_owned)).collect();
    let text = match (named, written) {
        (Some(names), _) => list(&names),
        (None, Some((types, codes))) => {
            let types: Vec<String> =
                types.iter().filter_map(|pair| names::of_pair(*pair)).map(str::to_owned).collect();
            format!("{} {}", list(&types), list(&items(codes, |_| None)))
        }
        (None, None) => String::new(),
    };
    Meaning { kinds: [ranges(&sets[0]), ranges(&sets[1])], text }
}
