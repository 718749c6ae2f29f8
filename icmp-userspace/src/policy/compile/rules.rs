//! Rules -> classes, pairs and chains, for one family; [`icmp_common::tables`] and [`AclConfig`] have the layout.
//!
//! Which rules can match a packet depends on its source class and its destination class. For each pair of classes these
//! rules, in their order, make a row: what is decided for each kind of message. Equal rows are one pair; source classes with
//! equal pairs are one, and so are destination classes: rules that do the same cost nothing.
//!
//! Rules that name a source alone, a destination alone, or neither decide about whole lists of pairs at once; the few that
//! name both are patches to these. That is what keeps thousands of rules "from this host to that host" small.

use std::collections::HashMap;

use icmp_common::{
    Family,
    config::AclConfig,
    tables::{BLOCK, DestinationCell, Entry, LIST, MAX_LIST, Outcome, Ruling},
};

use super::{
    TooLarge,
    addresses::{Selectors, Side},
    classes::{Bits, Classified, Ranges, classify, map},
    kinds::KindClasses,
    served::{self, FIRST_SELECTOR, Served},
};
use crate::policy::{
    Policy,
    acl::{Action, DefaultAction, Kinds, Prohibition, Rule},
    slots::{GUARD_TEXT, Slots, default_text},
};

/// Most combinations of source and destination classes that are gone through one by one.
const MAX_COMBINATIONS: usize = 1 << 24;
/// Most values of a source address, and of one destination class: tables have 16 bits for a value.
const MAX_VALUES: usize = 1 << 16;
/// Most kinds of messages that rules may tell apart.
const MAX_KINDS: usize = 1 << 15;

/// What both families share, while it grows.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) rows: Vec<u32>,
    pub(super) pairs: Vec<u32>,
    pub(super) chains: Vec<u32>,
    pub(super) entries: Vec<Entry>,
    /// Where lists of entries are that have occurred before.
    lists: HashMap<Vec<Entry>, u32>,
    /// For each rule of the policy, whether it decides about any packet.
    pub(super) used: Vec<bool>,
}

/// What one family's rules become, besides what is shared.
pub(super) struct FamilyRules<A> {
    pub(super) config: AclConfig,
    /// The value of each source address.
    pub(super) sources: Ranges<A, u32>,
    /// The value of each destination address: a [`DestinationCell`].
    pub(super) destinations: Ranges<A, u32>,
    pub(super) kinds: Vec<u16>,
}

/// Compiles the rules that concern one family. `served` says what destination addresses are to the responder.
pub(super) fn compile<A: Bits>(
    policy: &Policy,
    slots: &Slots,
    family: Family,
    served: Served<A>,
    shared: &mut Shared,
) -> Result<FamilyRules<A>, TooLarge> {
    shared.used.resize(policy.acl.rules.len(), false);
    let concerned: Vec<_> =
        policy.acl.rules.iter().enumerate().filter(|(_, rule)| concerns(rule, family)).collect();
    let kinds = KindClasses::new(&concerned.iter().map(|(_, rule)| *rule).collect::<Vec<_>>(), family);
    if kinds.count() > MAX_KINDS {
        return Err(TooLarge::Kinds(kinds.count()));
    }
    let mut sources = Selectors::new(policy, slots, 0);
    let mut destinations = Selectors::new(policy, slots, FIRST_SELECTOR);
    let mut candidates = Vec::new();
    for (place, rule) in concerned {
        let sides = (sources.side(&rule.source), destinations.side(&rule.destination));
        if let (Some(source), Some(destination)) = sides {
            let bits = kinds.of_rule(&rule.kinds[family as usize]);
            let outcome = Outcome::new(ruling(rule), slot(slots, &rule.to_string()));
            candidates.push(Candidate { rule, place, source, destination, kinds: bits, outcome });
        }
    }
    let selectors = (sources.count() as usize, destinations.count() as usize);
    destinations.prefixes.extend(served);
    let sources = classify(sources.prefixes);
    let destinations = classify(destinations.prefixes);
    if candidates.is_empty() && policy.acl.default == DefaultAction::Permit {
        let cell =
            |class: u32| DestinationCell::new(0, served::destination(&destinations.classes[class as usize]));
        return Ok(FamilyRules {
            config: AclConfig::NONE,
            sources: vec![(A::FIRST, 0)],
            destinations: map(&destinations.ranges, |class| cell(class).0),
            kinds: kinds.of,
        });
    }
    let defaults = Defaults::new(policy, slots);
    let chains = Chains {
        candidates: &candidates,
        kinds: &kinds,
        defaults,
        pairs: HashMap::new(),
        rows: Vec::new(),
        shared,
    };
    chains.compile(&sources, &destinations, selectors)
}

/// Whether a rule is about messages of a family.
fn concerns(rule: &Rule, family: Family) -> bool {
    rule.protocol.covers(family) && rule.kinds[family as usize] != Kinds::None
}

fn slot(slots: &Slots, text: &str) -> u32 {
    // Slots are assigned to the same policy: every text has one.
    slots.rule(text).unwrap_or_default()
}

/// What a rule makes of packets. A limit permits what is within it, and `monitor` everything.
fn ruling(rule: &Rule) -> Ruling {
    match rule.action {
        _ if rule.options.monitor => Ruling::Permit,
        Action::Permit | Action::Limit(_) => Ruling::Permit,
        Action::Deny => Ruling::Deny,
        Action::Reject(Prohibition::Net) => Ruling::RejectNet,
        Action::Reject(Prohibition::Host) => Ruling::RejectHost,
        Action::Reject(Prohibition::Communication) => Ruling::RejectCommunication,
    }
}

/// A rule as it concerns one family.
struct Candidate<'a> {
    rule: &'a Rule,
    /// Its place in the policy.
    place: usize,
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

/// The list of pairs of a source class, one for each destination class: one that other source classes may have, too, and where
/// it differs from that.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Row {
    base: usize,
    /// Destination class and pair, by rising class.
    patches: Vec<(u32, u32)>,
}

/// The tables of one family, while they grow.
struct Chains<'a> {
    candidates: &'a [Candidate<'a>],
    kinds: &'a KindClasses,
    defaults: Defaults,
    /// Rows of cells that have occurred before, and their pairs.
    pairs: HashMap<Vec<u32>, u32>,
    /// The rows of cells, by pair.
    rows: Vec<Vec<u32>>,
    shared: &'a mut Shared,
}

/// Candidates by what they name, as their places among the candidates, rising.
struct Sorted {
    neither: Vec<u32>,
    source: Vec<Vec<u32>>,
    destination: Vec<Vec<u32>>,
    both: Vec<Vec<u32>>,
}

impl Chains<'_> {
    fn compile<A: Bits>(
        mut self,
        sources: &Classified<A>,
        destinations: &Classified<A>,
        (source_selectors, destination_selectors): (usize, usize),
    ) -> Result<FamilyRules<A>, TooLarge> {
        let default_row = self.default_row()?;
        let sorted = self.sort(source_selectors, destination_selectors);

        // Destination classes as the rules see them: what is served makes no difference.
        let mut columns = Numbered::<Vec<u32>>::default();
        let column_of: Vec<u32> = destinations
            .classes
            .iter()
            .map(|members| {
                columns
                    .number(members.iter().copied().filter(|selector| *selector >= FIRST_SELECTOR).collect())
            })
            .collect();
        let columns = columns.values;
        let mut columns_of: Vec<Vec<u32>> = vec![Vec::new(); destination_selectors];
        for (column, members) in columns.iter().enumerate() {
            for selector in members {
                columns_of[*selector as usize].push(column as u32);
            }
        }
        let to: Vec<Vec<u32>> = columns.iter().map(|members| union(members, &sorted.destination)).collect();

        // Source classes with the same rules have the same base.
        let mut bases = Numbered::<Vec<u32>>::default();
        let base_of: Vec<u32> =
            sources.classes.iter().map(|members| bases.number(union(members, &sorted.source))).collect();
        let bases = bases.values;
        if bases.len() * columns.len() > MAX_COMBINATIONS {
            return Err(self.too_many_combinations());
        }
        let mut base_pairs = Vec::with_capacity(bases.len());
        for from in &bases {
            let mut pairs = Vec::with_capacity(columns.len());
            for to in &to {
                pairs.push(self.pair(&[&sorted.neither, from, to], &default_row)?);
            }
            base_pairs.push(pairs);
        }

        let mut distinct = Numbered::default();
        let mut row_of = Vec::with_capacity(sources.classes.len());
        for (members, base) in sources.classes.iter().zip(&base_of) {
            let both = union(members, &sorted.both);
            let row = self.patched(
                *base as usize,
                &both,
                &bases,
                &to,
                &columns_of,
                &sorted,
                &base_pairs,
                &default_row,
            )?;
            row_of.push(distinct.number(row));
        }
        let rows = distinct.values;

        let (merged_of, merged) = merge_columns(&base_pairs, &rows, columns.len());
        if merged.len() > DestinationCell::CLASSES as usize || rows.len().max(self.rows.len()) > MAX_VALUES {
            return Err(self.too_many_combinations());
        }
        let destination = |class: u32| {
            let members = &destinations.classes[class as usize];
            let merged = merged_of[column_of[class as usize] as usize];
            DestinationCell::new(merged, served::destination(members)).0
        };
        let (mut config, value_of_row) = self.lay_out(&base_pairs, &rows, &merged_of, &merged)?;
        let kind_bits = usize::BITS - (self.kinds.count() - 1).leading_zeros();
        config.kind_bits = kind_bits as u8;
        config.chains = self.shared.chains.len() as u32;
        for row in &self.rows {
            self.shared.chains.extend(row);
            self.shared.chains.extend(std::iter::repeat_n(0, (1 << kind_bits) - row.len()));
        }
        let first_value = value_of_row.first().copied().unwrap_or_default();
        if value_of_row.iter().all(|value| *value == first_value) {
            // The source makes no difference; its value is taken to be 0.
            match config.blocks {
                0 => config.chains += first_value << kind_bits,
                1 => config.pairs += first_value * BLOCK,
                blocks => config.rows += first_value * blocks,
            }
        } else {
            config.sources = 1;
        }
        Ok(FamilyRules {
            sources: map(&sources.ranges, |class| value_of_row[row_of[class as usize] as usize]),
            destinations: map(&destinations.ranges, destination),
            kinds: self.kinds.of.clone(),
            config,
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

    /// The row of a source class: its base, and what the rules that name both sides change in it.
    #[expect(clippy::too_many_arguments, reason = "all that makes a pair, each of them a table of its own")]
    fn patched(
        &mut self,
        base: usize,
        both: &[u32],
        bases: &[Vec<u32>],
        to: &[Vec<u32>],
        columns_of: &[Vec<u32>],
        sorted: &Sorted,
        base_pairs: &[Vec<u32>],
        default_row: &[u32],
    ) -> Result<Row, TooLarge> {
        let mut touched: HashMap<u32, Vec<u32>> = HashMap::new();
        for number in both {
            if let Side::Selector(destination) = self.candidates[*number as usize].destination {
                for column in &columns_of[destination as usize] {
                    touched.entry(*column).or_default().push(*number);
                }
            }
        }
        let mut patches = Vec::with_capacity(touched.len());
        for (column, numbers) in touched {
            let lists = [&sorted.neither, &bases[base], &to[column as usize], &numbers];
            let pair = self.pair(&lists, default_row)?;
            if pair != base_pairs[base][column as usize] {
                patches.push((column, pair));
            }
        }
        patches.sort_unstable();
        Ok(Row { base, patches })
    }

    /// The pair in which the rules of these lists decide, each of them rising.
    fn pair(&mut self, lists: &[&Vec<u32>], default_row: &[u32]) -> Result<u32, TooLarge> {
        let mut cells = default_row.to_vec();
        let mut open = self.all_kinds();
        let mut conditional: Vec<(usize, Vec<(u32, Entry)>)> = Vec::new();
        for number in Merged::new(lists) {
            if open.iter().all(|word| *word == 0) {
                break;
            }
            let candidate = &self.candidates[number as usize];
            for kind in bits(&common(&candidate.kinds, &open)) {
                let Some(entry) = self.entry(candidate, kind) else { continue };
                self.shared.used[candidate.place] = true;
                let list = conditional.iter().position(|(of, _)| *of == kind);
                if entry.is_unconditional() {
                    open[kind / 64] &= !(1 << (kind % 64));
                    if list.is_none() {
                        cells[kind] = entry.outcome.0;
                        continue;
                    }
                }
                match list {
                    Some(list) => conditional[list].1.push((number, entry)),
                    None => conditional.push((kind, vec![(number, entry)])),
                }
            }
        }
        for (kind, list) in conditional {
            let mut entries: Vec<Entry> = list.iter().map(|(_, entry)| *entry).collect();
            if entries.last().is_some_and(|last| !last.is_unconditional()) {
                entries.extend(self.default_entries(kind));
            }
            if entries.len() > MAX_LIST as usize {
                let rules =
                    list.iter().map(|(number, _)| self.candidates[*number as usize].rule.number).collect();
                return Err(TooLarge::List { rules });
            }
            cells[kind] = self.list(entries);
        }
        Ok(match self.pairs.get(&cells) {
            Some(pair) => *pair,
            None => {
                let pair = self.rows.len() as u32;
                self.rows.push(cells.clone());
                self.pairs.insert(cells, pair);
                pair
            }
        })
    }

    /// The cell of a list of entries.
    fn list(&mut self, mut entries: Vec<Entry>) -> u32 {
        if let Some(last) = entries.last_mut() {
            last.last = 1;
        }
        let shared = &mut *self.shared;
        let first = *shared.lists.entry(entries).or_insert_with_key(|entries| {
            let first = shared.entries.len() as u32;
            shared.entries.extend(entries);
            first
        });
        LIST | first
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

    /// The row in which no rule decides.
    fn default_row(&mut self) -> Result<Vec<u32>, TooLarge> {
        Ok((0..self.kinds.count())
            .map(|kind| match &*self.default_entries(kind) {
                [only] => only.outcome.0,
                entries => self.list(entries.to_vec()),
            })
            .collect())
    }

    fn all_kinds(&self) -> Vec<u64> {
        let count = self.kinds.count();
        (0..count.div_ceil(64)).map(|word| u64::MAX >> (64 - (count - word * 64).min(64))).collect()
    }

    /// Puts rows and pairs into their tables; the configuration for that, and the source value of each row.
    fn lay_out(
        &mut self,
        base_pairs: &[Vec<u32>],
        rows: &[Row],
        merged_of: &[u32],
        merged: &[u32],
    ) -> Result<(AclConfig, Vec<u32>), TooLarge> {
        let mut config = AclConfig { rules: 1, ..AclConfig::NONE };
        let pair =
            |row: &Row, column: u32| match row.patches.binary_search_by_key(&column, |(column, _)| *column) {
                Ok(place) => row.patches[place].1,
                Err(_) => base_pairs[row.base][column as usize],
            };
        if let [column] = *merged {
            return Ok((config, rows.iter().map(|row| pair(row, column)).collect()));
        }
        let mut blocks = Numbered::default();
        config.blocks = (merged.len() as u32).div_ceil(BLOCK);
        config.rows = self.shared.rows.len() as u32;
        config.pairs = self.shared.pairs.len() as u32;
        // Each base's blocks, and what is different in the rows that it is the base of.
        let block = |pairs: &[u32], number: usize| -> Vec<u32> {
            let columns = merged.iter().skip(number * BLOCK as usize).take(BLOCK as usize);
            let mut block: Vec<u32> = columns.map(|column| pairs[*column as usize]).collect();
            block.resize(BLOCK as usize, 0);
            block
        };
        let base_blocks: Vec<Vec<u32>> = base_pairs
            .iter()
            .map(|pairs| {
                (0..config.blocks as usize).map(|number| blocks.number(block(pairs, number))).collect()
            })
            .collect();
        let mut values = Vec::with_capacity(rows.len());
        for row in rows {
            let mut numbers = base_blocks[row.base].clone();
            let mut patches: Vec<(u32, u32)> =
                row.patches.iter().map(|(column, pair)| (merged_of[*column as usize], *pair)).collect();
            patches.sort_unstable();
            patches.dedup();
            for patches in patches.chunk_by(|one, other| one.0 / BLOCK == other.0 / BLOCK) {
                let number = (patches[0].0 / BLOCK) as usize;
                let mut cells = blocks.values[numbers[number] as usize].clone();
                for (column, pair) in patches {
                    cells[(column % BLOCK) as usize] = *pair;
                }
                numbers[number] = blocks.number(cells);
            }
            if let [only] = *numbers {
                values.push(only);
            } else {
                values.push(values.len() as u32);
                self.shared.rows.extend(numbers);
            }
        }
        if values.iter().any(|value| *value as usize >= MAX_VALUES) {
            return Err(self.too_many_combinations());
        }
        self.shared.pairs.extend(blocks.values.iter().flatten());
        Ok((config, values))
    }

    /// The error that names rules with both a source and a destination of their own.
    fn too_many_combinations(&self) -> TooLarge {
        let both = self.candidates.iter().filter(|candidate| {
            matches!((candidate.source, candidate.destination), (Side::Selector(_), Side::Selector(_)))
        });
        let either = self.candidates.iter().filter(|candidate| {
            matches!(candidate.source, Side::Selector(_))
                || matches!(candidate.destination, Side::Selector(_))
        });
        let mut rules: Vec<u32> = both.map(|candidate| candidate.rule.number).collect();
        if rules.is_empty() {
            rules = either.map(|candidate| candidate.rule.number).collect();
        }
        TooLarge::Combinations { rules }
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

/// Destination classes that are the same in all rows: the number of each column's class, and one column of each class.
fn merge_columns(base_pairs: &[Vec<u32>], rows: &[Row], columns: usize) -> (Vec<u32>, Vec<u32>) {
    let mut class = vec![0; columns];
    let mut refine = |key_of: &dyn Fn(usize) -> Vec<u64>| {
        let mut parts = Numbered::default();
        for (column, class) in class.iter_mut().enumerate() {
            let mut key = key_of(column);
            key.push((*class).into());
            *class = parts.number(key);
        }
    };
    for pairs in base_pairs {
        refine(&|column| vec![pairs[column].into()]);
    }
    let mut patches = vec![Vec::new(); columns];
    for (number, row) in rows.iter().enumerate() {
        for (column, pair) in &row.patches {
            patches[*column as usize].push((number as u64) << 32 | u64::from(*pair));
        }
    }
    refine(&|column| patches[column].clone());
    let mut firsts = Vec::new();
    for (column, class) in class.iter().enumerate() {
        if *class as usize == firsts.len() {
            firsts.push(column as u32);
        }
    }
    (class, firsts)
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
