//! Types and codes -> kinds: numbers that stand for all messages that the rules can't tell apart.

use std::collections::HashMap;

use icmp_common::{Family, tables::FRAGMENT};

use crate::policy::{
    acl::{KindRange, Kinds, Rule},
    guard::{GUARDED, Guarded},
};

/// The kinds of one family.
pub(super) struct KindClasses {
    /// The kind of each message, by `code << 8 | type`.
    pub(super) of: Vec<u16>,
    /// The guard's entry for each kind, if it guards it.
    pub(super) guard: Vec<Option<&'static Guarded>>,
    /// The selectors that each kind belongs to: the lists of ranges that rules name, in the order in which they first do.
    members: Vec<Vec<u32>>,
    selectors: HashMap<Vec<KindRange>, u32>,
}

impl KindClasses {
    /// The kinds that the rules of one family tell apart.
    pub(super) fn new(rules: &[&Rule], family: Family) -> Self {
        let guarded: Vec<&'static Guarded> = GUARDED.iter().filter(|entry| entry.family == family).collect();
        let mut classes = Self {
            of: vec![FRAGMENT as u16 + 1; 1 << 16],
            guard: Vec::new(),
            members: vec![Vec::new(); FRAGMENT as usize + 2],
            selectors: HashMap::new(),
        };
        // The guard's entries come first, so that their selectors' numbers are their places.
        let mut count = 0;
        for entry in &guarded {
            let range = KindRange {
                types: [*entry.types.start(), *entry.types.end()],
                codes: [*entry.codes.start(), *entry.codes.end()],
            };
            classes.split(&[range], count);
            count += 1;
        }
        for rule in rules {
            if let Kinds::These(ranges) = &rule.kinds[family as usize]
                && !classes.selectors.contains_key(ranges)
            {
                classes.selectors.insert(ranges.clone(), count);
                classes.split(ranges, count);
                count += 1;
            }
        }
        let guard_of = |members: &Vec<u32>| {
            members.first().and_then(|selector| guarded.get(*selector as usize).copied())
        };
        classes.guard = classes.members.iter().map(guard_of).collect();
        classes
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.members.len()
    }

    /// The kinds that a rule matches, as a set of bits.
    pub(super) fn of_rule(&self, kinds: &Kinds) -> Vec<u64> {
        let mut bits = vec![0_u64; self.count().div_ceil(64)];
        let mut insert = |kind: usize| bits[kind / 64] |= 1 << (kind % 64);
        match kinds {
            Kinds::None => {}
            Kinds::Any => (0..self.count()).for_each(insert),
            Kinds::Fragments => insert(FRAGMENT as usize),
            Kinds::These(ranges) => {
                if let Some(selector) = self.selectors.get(ranges) {
                    let matches = |kind: &usize| self.members[*kind].binary_search(selector).is_ok();
                    (0..self.count()).filter(matches).for_each(insert);
                }
            }
        }
        bits
    }

    /// Takes the messages of a selector out of the kinds that they have in common with others.
    fn split(&mut self, ranges: &[KindRange], selector: u32) {
        let mut parts: HashMap<u16, u16> = HashMap::new();
        for KindRange { types, codes } in ranges {
            for message in (types[0]..=types[1]).flat_map(|icmp_type| {
                (codes[0]..=codes[1]).map(move |code| usize::from(code) << 8 | usize::from(icmp_type))
            }) {
                let old = self.of[message];
                // A message that stands in two of the ranges has its new kind already.
                if self.members[usize::from(old)].last() == Some(&selector) {
                    continue;
                }
                self.of[message] = *parts.entry(old).or_insert_with(|| {
                    let mut members = self.members[usize::from(old)].clone();
                    members.push(selector);
                    self.members.push(members);
                    (self.members.len() - 1) as u16
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guarded_messages_are_kinds_of_their_own() {
        let kinds = KindClasses::new(&[], Family::Ipv6);
        let guard = |icmp_type: usize, code: usize| {
            kinds.guard[usize::from(kinds.of[code << 8 | icmp_type])].map(|entry| entry.ttl)
        };
        assert_eq!(guard(135, 0), Some(Some(255)));
        assert_eq!(guard(143, 0), Some(Some(1)));
        assert_eq!(guard(2, 0), Some(None));
        assert_eq!((guard(3, 0), guard(3, 1)), (Some(None), None));
        assert_eq!(guard(128, 0), None);
        // Fragments, all others, and eight entries.
        assert_eq!(kinds.count(), 2 + 8);
    }
}
