//! Rules -> classes and decisions, for one family; [`icmp_common::tables`] and [`AclConfig`] have the layout.
//!
//! For each class of sources the rules that name no destination decide, for each class of destinations those that name it alone,
//! and for the few pairs of classes that rules name together, these. The first of the three is the first of all, so that thousands
//! of rules about sources and thousands about destinations make thousands of rows of decisions, not their product. Classes for
//! which everything is decided alike are one.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use icmp_common::{
    Family,
    config::{AclConfig, Ranks},
    tables::{BLOCK, Decision, DestinationCell, Entry, MAX_ENTRIES, MISMATCH, MTU, Outcome, Ruling},
};

use super::{
    TooLarge,
    addresses::{Selectors, Side},
    classes::{Bits, Classified, Ranges, classify, map},
    kinds::KindClasses,
    limits::Rates,
    served::{self, COUNTED, FIRST_DESTINATION, FIRST_SOURCE, Ranking, Served},
};
use crate::policy::{
    Policy,
    acl::{Action, DefaultAction, Kinds, Prohibition, Rule},
    slots::{GUARD_TEXT, Slots, default_text},
};

/// Most values of a source address: tables have 16 bits for them.
const MAX_SOURCES: usize = 1 << 16;
/// Most kinds of messages that rules may tell apart.
const MAX_KINDS: usize = 1 << 15;
/// The place of what holds where no rule does: behind all rules.
const LAST: u32 = u32::MAX - 1;

/// What both families share, while it grows.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) rows: Vec<u32>,
    pub(super) pairs: Vec<u32>,
    pub(super) decisions: Vec<Decision>,
    pub(super) entries: Vec<Entry>,
    pub(super) rates: Rates,
    /// Where entries are that have occurred before.
    numbers: HashMap<Entry, u32>,
}

impl Shared {
    /// What it takes in the kernel, in bytes.
    pub(super) fn memory(&self) -> usize {
        let cells = size_of_val(&*self.rows) + size_of_val(&*self.pairs);
        cells + size_of_val(&*self.decisions) + size_of_val(&*self.entries)
    }
}

/// What one family's rules become, besides what is shared.
pub(super) struct FamilyRules<A> {
    pub(super) config: AclConfig,
    /// The value of each source address.
    pub(super) sources: Ranges<A, u32>,
    /// The value of each destination address: a [`DestinationCell`].
    pub(super) destinations: Ranges<A, u32>,
    pub(super) kinds: Vec<u16>,
    pub(super) ranks: Ranks,
    /// What answers for destinations of each class are counted for, as [`Ranking::counted`] says.
    pub(super) counted: Vec<u32>,
}

/// Compiles the rules that concern one family. `served` says what destination addresses are to the responder.
pub(super) fn compile<A: Bits>(
    policy: &Policy,
    slots: &Slots,
    family: Family,
    served: Served<A>,
    shared: &mut Shared,
) -> Result<FamilyRules<A>, TooLarge> {
    let concerned: Vec<_> =
        policy.acl.rules.iter().enumerate().filter(|(_, rule)| concerns(rule, family)).collect();
    let kinds = KindClasses::new(&concerned.iter().map(|(_, rule)| *rule).collect::<Vec<_>>(), family);
    if kinds.count() > MAX_KINDS {
        return Err(TooLarge::Kinds(kinds.count()));
    }
    let mut sources = Selectors::new(policy, slots, FIRST_SOURCE);
    let mut destinations = Selectors::new(policy, slots, FIRST_DESTINATION);
    let mut candidates = Vec::new();
    for (place, rule) in concerned {
        let sides = (sources.side(&rule.source), destinations.side(&rule.destination));
        if let (Some(source), Some(destination)) = sides {
            let bits = kinds.of_rule(&rule.kinds[family as usize]);
            let outcome = outcome(rule, slots, &mut shared.rates)?;
            candidates.push(Candidate {
                rule,
                place: place as u32,
                source,
                destination,
                kinds: bits,
                outcome,
            });
        }
    }
    let selectors = (sources.count() as usize, destinations.count() as usize);
    sources.prefixes.extend(served::probing(&policy.respond));
    destinations.prefixes.extend(served);
    let ranking = Ranking::new(&policy.respond);
    let sources = classify(sources.prefixes);
    let destinations = classify(destinations.prefixes);
    if candidates.is_empty() && policy.acl.default == DefaultAction::Permit {
        let rank = |members: &Vec<u32>| ranking.of_destination(members);
        let ranks: BTreeSet<u32> = destinations.classes.iter().map(rank).collect();
        let ranks: Vec<u32> = ranks.into_iter().collect();
        let cell = |class: u32| {
            let members = &destinations.classes[class as usize];
            let place = ranks.partition_point(|other| *other < rank(members));
            DestinationCell::new(place as u32, served::destination(members))
        };
        return Ok(FamilyRules {
            config: AclConfig::NONE,
            sources: map(&sources.ranges, |class| ranking.of_source(&sources.classes[class as usize])),
            destinations: map(&destinations.ranges, |class| cell(class).0),
            kinds: kinds.of,
            ranks: ranking.ranks(&[0, 1], &ranks),
            counted: ranks.iter().map(|rank| Ranking::counted(*rank)).collect(),
        });
    }
    let defaults = Defaults::new(policy, slots);
    let family = Deciding { candidates: &candidates, kinds: &kinds, defaults, ranking, shared };
    family.compile(&sources, &destinations, selectors)
}

/// Whether a rule is about messages of a family.
fn concerns(rule: &Rule, family: Family) -> bool {
    rule.protocol.covers(family) && rule.kinds[family as usize] != Kinds::None
}

fn slot(slots: &Slots, text: &str) -> u32 {
    // Slots are assigned to the same policy: every text has one.
    slots.rule(text).unwrap_or_default()
}

/// What a rule makes of packets, and where they are counted. `monitor` permits everything, and a limit counts what is over it all
/// the same.
fn outcome(rule: &Rule, slots: &Slots, rates: &mut Rates) -> Result<Outcome, TooLarge> {
    let slot = slot(slots, &rule.to_string());
    let logging = |outcome: Outcome| if rule.options.log.is_some() { outcome.logging() } else { outcome };
    let ruling = match &rule.action {
        Action::Limit(limit) => {
            return Ok(logging(Outcome::limit(rates.of_rule(rule, limit, slots)?, slot)));
        }
        _ if rule.options.monitor => Ruling::Permit,
        Action::Permit => Ruling::Permit,
        Action::Deny => Ruling::Deny,
        Action::Reject(Prohibition::Net) => Ruling::RejectNet,
        Action::Reject(Prohibition::Host) => Ruling::RejectHost,
        Action::Reject(Prohibition::Communication) => Ruling::RejectCommunication,
    };
    Ok(logging(Outcome::new(ruling, slot)))
}

/// A rule as it concerns one family.
struct Candidate<'a> {
    rule: &'a Rule,
    /// Its place in the policy.
    place: u32,
    source: Side,
    destination: Side,
    /// The kinds that it matches, as a set of bits.
    kinds: Vec<u64>,
    outcome: Outcome,
}

/// What holds where no rule does.
struct Defaults {
    action: DefaultAction,
    outcome: Outcome,
    guard: Outcome,
}

impl Defaults {
    fn new(policy: &Policy, slots: &Slots) -> Self {
        let action = policy.acl.default;
        let ruling = match action {
            DefaultAction::Permit => Ruling::Permit,
            DefaultAction::Deny => Ruling::Deny,
        };
        Self {
            action,
            outcome: Outcome::new(ruling, slot(slots, default_text(action))),
            guard: Outcome::new(Ruling::Permit, slot(slots, GUARD_TEXT)),
        }
    }
}

/// Decisions for all kinds of messages.
type Row = Vec<Decision>;

/// Candidates by what they name, as their places among the candidates, rising.
struct Sorted {
    neither: Vec<u32>,
    source: Vec<Vec<u32>>,
    destination: Vec<Vec<u32>>,
    both: Vec<Vec<u32>>,
}

/// The pairs of one source class that rules name: destination class and pair, by rising class.
type Pairs = Vec<(u32, u32)>;

/// One family's rules, while they become tables.
struct Deciding<'a> {
    candidates: &'a [Candidate<'a>],
    kinds: &'a KindClasses,
    defaults: Defaults,
    ranking: Ranking,
    shared: &'a mut Shared,
}

impl Deciding<'_> {
    fn compile<A: Bits>(
        mut self,
        sources: &Classified<A>,
        destinations: &Classified<A>,
        (source_selectors, destination_selectors): (usize, usize),
    ) -> Result<FamilyRules<A>, TooLarge> {
        let sorted = self.sort(source_selectors, destination_selectors);

        // Destination classes as the rules see them: what is served makes no difference.
        let mut columns = Numbered::<(u32, Vec<u32>)>::default();
        let column_of: Vec<u32> = destinations
            .classes
            .iter()
            .map(|members| {
                let of_rules = members
                    .iter()
                    .copied()
                    .filter(|selector| (FIRST_DESTINATION..COUNTED).contains(selector));
                columns.number((self.ranking.of_destination(members), of_rules.collect()))
            })
            .collect();
        let columns = columns.values;
        let mut columns_of: Vec<Vec<u32>> = vec![Vec::new(); destination_selectors];
        for (column, (_, members)) in columns.iter().enumerate() {
            for selector in members {
                columns_of[*selector as usize].push(column as u32);
            }
        }

        // What decides by the source, by the destination, by both.
        let mut by_source = Numbered::<Row>::default();
        let mut by_pair = Numbered::<Row>::default();
        by_pair.number(vec![Decision::NONE; self.kinds.count()]);
        let mut different = Numbered::<(u32, (u32, Pairs))>::default();
        let mut source_of = Vec::with_capacity(sources.classes.len());
        for members in &sources.classes {
            let rules = union(members, &sorted.source);
            let row = by_source.number(self.row(Merged::new(&[&sorted.neither, &rules]), true)?);
            let mut pairs = Vec::new();
            for (column, rules) in self.touched(&union(members, &sorted.both), &columns_of) {
                pairs.push((column, by_pair.number(self.row(rules.into_iter(), false)?)));
            }
            source_of.push(different.number((self.ranking.of_source(members), (row, pairs))));
        }
        let (source_ranks, sources_decided) = by_rank(different.values, &mut source_of);
        let mut by_destination = Numbered::<Row>::default();
        let mut alone = Vec::with_capacity(columns.len());
        for (_, members) in &columns {
            alone.push(
                by_destination.number(self.row(union(members, &sorted.destination).into_iter(), false)?),
            );
        }
        let by_source = by_source.values;
        let ranks: Vec<u32> = columns.iter().map(|(rank, _)| *rank).collect();
        let (mut merged_of, merged) = merge_columns(&alone, &ranks, &sources_decided);
        let merged = merged.into_iter().map(|column| (ranks[column as usize], column)).collect();
        let (destination_ranks, merged) = by_rank(merged, &mut merged_of);
        if merged.len() > DestinationCell::CLASSES as usize || sources_decided.len() > MAX_SOURCES {
            return Err(self.too_many_combinations());
        }

        let mut config = AclConfig { rules: 1, ..AclConfig::NONE };
        let kind_bits = usize::BITS - (self.kinds.count() - 1).leading_zeros();
        config.kind_bits = kind_bits as u8;
        config.sources = (sources_decided.len() > 1).into();
        config.by_source =
            self.append(kind_bits, sources_decided.iter().map(|(row, _)| &by_source[*row as usize]));
        if by_destination.values.iter().flatten().any(|decision| *decision != Decision::NONE) {
            config.destinations = 1;
            let rows = merged.iter().map(|column| &by_destination.values[alone[*column as usize] as usize]);
            config.by_destination = self.append(kind_bits, rows);
        }
        if by_pair.values.len() > 1 {
            config.by_pair = self.append(kind_bits, by_pair.values.iter());
            self.lay_out_pairs(&mut config, &sources_decided, &merged_of, merged.len());
        }
        let destination = |class: u32| {
            let members = &destinations.classes[class as usize];
            let merged = merged_of[column_of[class as usize] as usize];
            DestinationCell::new(merged, served::destination(members)).0
        };
        Ok(FamilyRules {
            sources: map(&sources.ranges, |class| source_of[class as usize]),
            destinations: map(&destinations.ranges, destination),
            kinds: self.kinds.of.clone(),
            config,
            ranks: self.ranking.ranks(&source_ranks, &destination_ranks),
            counted: destination_ranks.iter().map(|rank| Ranking::counted(*rank)).collect(),
        })
    }

    /// Sorts the candidates by what they name. Of those that name neither, only those are kept that any packet reaches.
    fn sort(&self, source_selectors: usize, destination_selectors: usize) -> Sorted {
        let mut sorted = Sorted {
            neither: Vec::new(),
            source: vec![Vec::new(); source_selectors],
            destination: vec![Vec::new(); destination_selectors],
            both: vec![Vec::new(); source_selectors],
        };
        let mut open = self.all_kinds();
        for (number, candidate) in self.candidates.iter().enumerate() {
            let number = number as u32;
            match (candidate.source, candidate.destination) {
                (Side::Selector(source), Side::Selector(_)) => sorted.both[source as usize].push(number),
                (Side::Selector(source), _) => sorted.source[source as usize].push(number),
                (_, Side::Selector(destination)) => sorted.destination[destination as usize].push(number),
                _ => {
                    let mut reached = false;
                    for kind in bits(&common(&candidate.kinds, &open)) {
                        reached = true;
                        if self.entry(candidate, kind).is_some_and(|entry| entry.is_unconditional()) {
                            open[kind / 64] &= !(1 << (kind % 64));
                        }
                    }
                    if reached {
                        sorted.neither.push(number);
                    }
                }
            }
        }
        sorted
    }

    /// Of rules that name both source and destination: those that name each destination class, by class.
    fn touched(&self, both: &[u32], columns_of: &[Vec<u32>]) -> BTreeMap<u32, Vec<u32>> {
        let mut touched: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for number in both {
            if let Side::Selector(destination) = self.candidates[*number as usize].destination {
                for column in &columns_of[destination as usize] {
                    touched.entry(*column).or_default().push(*number);
                }
            }
        }
        touched
    }

    /// What these rules, which are in their order, decide for each kind; with the default, where none of them does.
    fn row(&mut self, rules: impl Iterator<Item = u32>, with_default: bool) -> Result<Row, TooLarge> {
        let mut open = self.all_kinds();
        // The rules that decide for each kind, each of them on its own conditions but for the last.
        let mut lists: Vec<Vec<(u32, Entry)>> = vec![Vec::new(); self.kinds.count()];
        for number in rules {
            if open.iter().all(|word| *word == 0) {
                break;
            }
            let candidate = &self.candidates[number as usize];
            for kind in bits(&common(&candidate.kinds, &open)) {
                let Some(entry) = self.entry(candidate, kind) else { continue };
                if entry.is_unconditional() {
                    open[kind / 64] &= !(1 << (kind % 64));
                }
                lists[kind].push((candidate.place, entry));
            }
        }
        let mut row = Vec::with_capacity(lists.len());
        for (kind, mut list) in lists.into_iter().enumerate() {
            let is_open = open[kind / 64] & 1 << (kind % 64) != 0;
            if is_open && with_default {
                list.extend(self.default_entries(kind).into_iter().map(|entry| (LAST, entry)));
            }
            if list.len() > MAX_ENTRIES as usize {
                let number = |place: u32| self.candidates.iter().find(|candidate| candidate.place == place);
                let rules = list
                    .iter()
                    .filter_map(|(place, _)| number(*place))
                    .map(|candidate| candidate.rule.number);
                return Err(TooLarge::List { rules: rules.collect() });
            }
            row.push(self.decision(&list));
        }
        Ok(row)
    }

    /// The decision of a list of rules, of which those before the last have conditions.
    fn decision(&mut self, list: &[(u32, Entry)]) -> Decision {
        list.iter().rev().fold(Decision::NONE, |next, (place, entry)| {
            if entry.is_unconditional() {
                return Decision::new(*place, entry.outcome);
            }
            let entry = Entry { next, ..*entry };
            let shared = &mut *self.shared;
            let number = *shared.numbers.entry(entry).or_insert_with(|| {
                shared.entries.push(entry);
                shared.entries.len() as u32 - 1
            });
            Decision::conditional(*place, number)
        })
    }

    /// How a rule applies to a kind of message, if it does.
    fn entry(&self, candidate: &Candidate<'_>, kind: usize) -> Option<Entry> {
        let options = &candidate.rule.options;
        let mut ttl = options.ttl.unwrap_or([0, u8::MAX]);
        if let Some(guard) = self.kinds.guard[kind].filter(|_| !options.force) {
            let kept = match candidate.rule.action {
                Action::Permit => false,
                Action::Deny | Action::Reject(_) => true,
                Action::Limit(_) => guard.from_limits,
            };
            if kept {
                ttl = outside(ttl, guard.ttl)?;
            }
        }
        let set = |side| if let Side::Dynamic(number) = side { number } else { Entry::ANY };
        Some(Entry {
            length: options.length.unwrap_or([0, u16::MAX]),
            vlan: options.vlan.unwrap_or(Entry::ANY_VLAN),
            ttl,
            dscp: options.dscp.unwrap_or(Entry::ANY),
            source_set: set(candidate.source),
            destination_set: set(candidate.destination),
            quotes: if options.quoted_mismatch { MISMATCH } else { 0 }
                | if options.quoted_mtu.is_some() { MTU } else { 0 },
            quoted_mtu: options.quoted_mtu.unwrap_or([0, u16::MAX]),
            ..Entry::new(candidate.outcome)
        })
    }

    /// What holds for a kind of message that no rule decides about: the default, and before it the guard.
    fn default_entries(&self, kind: usize) -> Vec<Entry> {
        let default = Entry::new(self.defaults.outcome);
        match self.kinds.guard[kind].filter(|_| self.defaults.action == DefaultAction::Deny) {
            None => vec![default],
            Some(guard) => {
                let denied = outside([0, u8::MAX], guard.ttl).map(|ttl| Entry { ttl, ..default });
                denied.into_iter().chain([Entry::new(self.defaults.guard)]).collect()
            }
        }
    }

    fn all_kinds(&self) -> Vec<u64> {
        let count = self.kinds.count();
        (0..count.div_ceil(64)).map(|word| u64::MAX >> (64 - (count - word * 64).min(64))).collect()
    }

    /// Appends rows to the decisions and says where they begin.
    fn append<'a>(&mut self, kind_bits: u32, rows: impl Iterator<Item = &'a Row>) -> u32 {
        let decisions = &mut self.shared.decisions;
        let begin = decisions.len() as u32;
        for row in rows {
            decisions.extend(row);
            decisions.extend(std::iter::repeat_n(Decision::NONE, (1 << kind_bits) - row.len()));
        }
        begin
    }

    /// Puts the pairs into blocks, and these, if a source has several, into rows.
    fn lay_out_pairs(
        &mut self,
        config: &mut AclConfig,
        sources: &[(u32, Pairs)],
        merged_of: &[u32],
        merged: usize,
    ) {
        let mut blocks = Numbered::<Vec<u32>>::default();
        let none = vec![0; BLOCK as usize];
        blocks.number(none.clone());
        config.blocks = (merged as u32).div_ceil(BLOCK);
        config.rows = self.shared.rows.len() as u32;
        config.pairs = self.shared.pairs.len() as u32;
        for (_, pairs) in sources {
            let mut pairs: Vec<(u32, u32)> =
                pairs.iter().map(|(column, pair)| (merged_of[*column as usize], *pair)).collect();
            pairs.sort_unstable();
            pairs.dedup();
            let mut numbers = vec![0; config.blocks as usize];
            let mut only = none.clone();
            for pairs in pairs.chunk_by(|one, other| one.0 / BLOCK == other.0 / BLOCK) {
                let mut cells = none.clone();
                for (column, pair) in pairs {
                    cells[(column % BLOCK) as usize] = *pair;
                }
                if config.blocks == 1 {
                    only = cells;
                } else {
                    numbers[(pairs[0].0 / BLOCK) as usize] = blocks.number(cells);
                }
            }
            if config.blocks == 1 {
                // The source's value is its block's number.
                self.shared.pairs.extend(only);
            } else {
                self.shared.rows.extend(numbers);
            }
        }
        if config.blocks > 1 {
            self.shared.pairs.extend(blocks.values.iter().flatten());
        }
    }

    /// The error that names rules with a source or destination of their own.
    fn too_many_combinations(&self) -> TooLarge {
        let selects = |side| matches!(side, Side::Selector(_));
        let telling = self
            .candidates
            .iter()
            .filter(|candidate| selects(candidate.source) || selects(candidate.destination));
        TooLarge::Combinations { rules: telling.map(|candidate| candidate.rule.number).collect() }
    }
}

/// What is left of a range of TTLs without the genuine one of a guarded message; nothing if it is guarded with any.
fn outside([least, most]: [u8; 2], genuine: Option<u8>) -> Option<[u8; 2]> {
    let range = match genuine? {
        u8::MAX => [least, most.min(u8::MAX - 1)],
        // A TTL that is lower still has no more been on another link than the genuine one.
        genuine => [least.max(genuine + 1), most],
    };
    (range[0] <= range[1]).then_some(range)
}

/// Destination classes for which everything is decided alike: the number of each column's class, and one column of each class.
/// `alone` is the row that decides by each column alone. Columns of different ranks stay apart.
fn merge_columns(alone: &[u32], ranks: &[u32], sources: &[(u32, Pairs)]) -> (Vec<u32>, Vec<u32>) {
    let key = |(row, rank): (&u32, &u32)| vec![u64::from(*rank) << 32 | u64::from(*row)];
    let mut keys: Vec<Vec<u64>> = alone.iter().zip(ranks).map(key).collect();
    for (number, (_, pairs)) in sources.iter().enumerate() {
        for (column, pair) in pairs {
            keys[*column as usize].push((number as u64) << 32 | u64::from(*pair));
        }
    }
    let mut classes = Numbered::default();
    let mut firsts = Vec::new();
    let mut class_of = Vec::with_capacity(keys.len());
    for (column, key) in keys.into_iter().enumerate() {
        let class = classes.number(key);
        if class as usize == firsts.len() {
            firsts.push(column as u32);
        }
        class_of.push(class);
    }
    (class_of, firsts)
}

/// Puts values in the order of their ranks, and gives their numbers, as `numbers` has them, to their new places.
fn by_rank<T>(values: Vec<(u32, T)>, numbers: &mut [u32]) -> (Vec<u32>, Vec<T>) {
    let mut order: Vec<(usize, (u32, T))> = values.into_iter().enumerate().collect();
    order.sort_by_key(|(_, (rank, _))| *rank);
    let mut place_of = vec![0; order.len()];
    for (place, (number, _)) in order.iter().enumerate() {
        place_of[*number] = place as u32;
    }
    numbers.iter_mut().for_each(|number| *number = place_of[*number as usize]);
    order.into_iter().map(|(_, ranked)| ranked).unzip()
}

/// Values that occur, numbered in the order in which they first do.
struct Numbered<T> {
    values: Vec<T>,
    numbers: HashMap<T, u32>,
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self { values: Vec::new(), numbers: HashMap::new() }
    }
}

impl<T: Clone + Eq + std::hash::Hash> Numbered<T> {
    fn number(&mut self, value: T) -> u32 {
        if let Some(number) = self.numbers.get(&value) {
            return *number;
        }
        let number = self.values.len() as u32;
        self.values.push(value.clone());
        self.numbers.insert(value, number);
        number
    }
}

/// The candidates of all these selectors, rising.
fn union(selectors: &[u32], candidates: &[Vec<u32>]) -> Vec<u32> {
    let mut all: Vec<u32> =
        selectors.iter().flat_map(|selector| &candidates[*selector as usize]).copied().collect();
    all.sort_unstable();
    all
}

/// Rising lists, merged into one.
struct Merged<'a>(Vec<&'a [u32]>);

impl<'a> Merged<'a> {
    fn new(lists: &[&'a Vec<u32>]) -> Self {
        Self(lists.iter().map(|list| &***list).filter(|list| !list.is_empty()).collect())
    }
}

impl Iterator for Merged<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let least = self.0.iter_mut().filter(|list| !list.is_empty()).min_by_key(|list| list[0])?;
        let (first, rest) = least.split_first()?;
        *least = rest;
        Some(*first)
    }
}

fn common(one: &[u64], other: &[u64]) -> Vec<u64> {
    one.iter().zip(other).map(|(one, other)| one & other).collect()
}

/// The numbers of the bits that are set.
fn bits(words: &[u64]) -> impl Iterator<Item = usize> {
    words.iter().enumerate().flat_map(|(number, word)| {
        let mut rest = *word;
        std::iter::from_fn(move || {
            let bit = rest.trailing_zeros() as usize;
            (rest != 0).then(|| {
                rest &= rest - 1;
                number * 64 + bit
            })
        })
    })
}
