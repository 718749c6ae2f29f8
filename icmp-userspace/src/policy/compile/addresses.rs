//! Addresses of rules -> selectors: numbers for whatever rules name, and the prefixes that belong to each.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
};

use super::{
    TooLarge,
    classes::{Bits, Covered},
};
use crate::policy::{Policy, Set, acl::Address, slots::Slots};

/// What a rule's source or destination comes to in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Any address.
    Any,
    /// Any address, on condition that it is in the dynamic set of this number.
    Dynamic(u8),
    /// Those of the selector of this number.
    Selector(u32),
}

/// The selectors of one side in one family, while rules are read.
pub(super) struct Selectors<'a, A> {
    sets: HashMap<&'a str, &'a Set>,
    slots: &'a Slots,
    numbers: HashMap<&'a Address, Option<u32>>,
    count: u32,
    /// Their prefixes.
    pub(super) prefixes: Vec<Covered<A>>,
}

/// Most prefixes that the wildcard masks of a policy may stand for.
const MAX_SCATTERED: u64 = 1 << 20;

/// Refuses wildcard masks that stand for more prefixes than a policy may have, before anybody makes them.
pub(super) fn check_wildcards(policy: &Policy) -> Result<(), TooLarge> {
    let mut known = HashSet::new();
    let mut scattered: Vec<(u64, u32)> = Vec::new();
    for rule in &policy.acl.rules {
        for address in [&rule.source, &rule.destination] {
            if let Address::Wildcard { mask, .. } = address
                && known.insert(address)
            {
                let mask = mask.to_bits();
                scattered.push((1 << (mask.count_ones() - mask.trailing_ones()), rule.number));
            }
        }
    }
    if scattered.iter().map(|(prefixes, _)| prefixes).sum::<u64>() <= MAX_SCATTERED {
        return Ok(());
    }
    scattered.sort_unstable_by_key(|(prefixes, number)| (Reverse(*prefixes), *number));
    Err(TooLarge::Wildcards { rules: scattered.into_iter().map(|(_, number)| number).collect() })
}

impl<'a, A: Bits> Selectors<'a, A> {
    /// None yet; their numbers begin at `first`.
    pub(super) fn new(policy: &'a Policy, slots: &'a Slots, first: u32) -> Self {
        let sets = policy.sets.iter().map(|set| (&*set.name, set)).collect();
        Self { sets, slots, numbers: HashMap::new(), count: first, prefixes: Vec::new() }
    }

    /// How many there are, those before the first one included.
    pub(super) const fn count(&self) -> u32 {
        self.count
    }

    /// What an address comes to; `None` if the family has no such address.
    pub(super) fn side(&mut self, address: &'a Address) -> Option<Side> {
        if *address == Address::Any {
            return Some(Side::Any);
        }
        if let Address::Set(name) = address
            && self.sets.get(&**name).is_some_and(|set| set.dynamic)
        {
            return self.slots.set(name).map(|number| Side::Dynamic(number as u8));
        }
        if let Some(known) = self.numbers.get(address) {
            return known.map(Side::Selector);
        }
        let before = self.prefixes.len();
        self.append(address);
        let number = (self.prefixes.len() > before).then_some(self.count);
        self.numbers.insert(address, number);
        self.count += u32::from(number.is_some());
        number.map(Side::Selector)
    }

    /// Appends the prefixes of an address, as those of the next selector.
    fn append(&mut self, address: &Address) {
        let selector = self.count;
        match address {
            Address::Any => {}
            Address::Prefix(prefix) => {
                self.prefixes.extend(A::of(*prefix).map(|(first, length)| (first, length, selector)));
            }
            Address::Wildcard { address, mask } => {
                let scattered = A::matching(address.to_bits(), mask.to_bits());
                self.prefixes.extend(scattered.into_iter().map(|(first, length)| (first, length, selector)));
            }
            Address::Set(name) => {
                let members = self.sets.get(&**name).map_or(&[][..], |set| &set.prefixes);
                let own = members.iter().filter_map(|prefix| A::of(*prefix));
                self.prefixes.extend(own.map(|(first, length)| (first, length, selector)));
            }
        }
    }
}
