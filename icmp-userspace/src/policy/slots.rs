//! Which counter belongs to which rule, and which number to which dynamic set.
//!
//! A rule keeps its slot in the map of rule counters as long as its canonical text stays in the policy, so that its count
//! survives every change of the policy exactly; a dynamic set keeps its number as long as its name stays. What a rule or a set
//! has left is not given away while the program that used it may still run: not by the change that removes it, only by a
//! later one.

use std::collections::{BTreeMap, BTreeSet};

use icmp_common::{
    counters::{MAX_RULES, RULE_SLOTS},
    dynamic::DYNAMIC_SETS,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Policy, acl::DefaultAction};

/// Slots of rules by their canonical texts, numbers of dynamic sets by their names.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Slots {
    rules: BTreeMap<String, u32>,
    dynamic: BTreeMap<String, u32>,
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

impl Slots {
    /// Gives each rule of a policy a slot and each dynamic set a number: what it has in `running`, else what nothing in
    /// `running` uses.
    pub fn assign(policy: &Policy, running: &Self) -> Result<Self, TooMany> {
        let rules = policy.acl.rules.len();
        if rules > MAX_RULES {
            return Err(TooMany::Rules(rules));
        }
        let others = [default_text(policy.acl.default), GUARD_TEXT].map(str::to_owned);
        let texts = others.into_iter().chain(policy.acl.rules.iter().map(ToString::to_string));
        let names = policy.sets.iter().filter(|set| set.dynamic).map(|set| set.name.clone());
        let sets = names.clone().count();
        Ok(Self {
            rules: keep(texts, &running.rules, RULE_SLOTS).ok_or(TooMany::Rules(rules))?,
            dynamic: keep(names, &running.dynamic, DYNAMIC_SETS).ok_or(TooMany::Sets(sets))?,
        })
    }

    /// Whether all numbers are in range: what comes from a file may be anything.
    #[must_use]
    pub fn are_valid(&self) -> bool {
        self.rules.values().all(|slot| (*slot as usize) < RULE_SLOTS)
            && self.dynamic.values().all(|number| (*number as usize) < DYNAMIC_SETS)
    }

    /// The slot of a rule, by its canonical text.
    #[must_use]
    pub fn rule(&self, text: &str) -> Option<u32> {
        self.rules.get(text).copied()
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

    /// Slots that `running` did not use: they have to be emptied before a program counts in them.
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
        if !kept.contains_key(&name) {
            let number = running.get(&name).copied().or_else(|| free.next())?;
            kept.insert(name, number);
        }
    }
    Some(kept)
}
