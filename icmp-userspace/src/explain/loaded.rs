//! The program that is attached, by a second instance of it in which nothing is counted that counts.

use std::collections::BTreeMap;

use icmp_common::{
    counters::Counters,
    reason::{Step, Verdict},
};

use super::outcome::{Outcome, counted};
use crate::{
    kernel::{Error, trial::Trial},
    observe::{counters, rules::Counts},
    policy::slots::Line,
};

/// A second instance, and what it has counted so far.
pub struct Loaded {
    trial: Trial,
    counters: Counters,
    counts: Counts,
    /// One more than the highest slot of its rules.
    slots: u32,
    /// The slots of its rules, and whether these limit.
    rules: BTreeMap<u32, bool>,
}

impl Loaded {
    /// Begins. `lines` are the rules of its policy.
    #[must_use]
    pub fn new(trial: Trial, lines: &[Line]) -> Self {
        let slots = lines.iter().map(|line| line.slot + 1).max().unwrap_or(0);
        let rules = lines.iter().map(|line| (line.slot, line.limits())).collect();
        Self { trial, counters: Counters::ZERO, counts: Counts::zero(), slots, rules }
    }

    /// Takes a frame through it, as the first one that comes after the moment at which it was made.
    pub fn run(&mut self, frame: &[u8]) -> Result<Outcome, Error> {
        let frame = self.trial.run(frame)?;
        let load = |error: aya::maps::MapError| Error::Load(error.to_string());
        let after = counters::read(self.trial.counters()?).map_err(load)?;
        let counts = Counts::read(self.trial.rules()?, self.slots).map_err(load)?;
        let counted = counted(&self.counters, &after);
        let has_counted = |slot: u32| counts.slot(slot) != self.counts.slot(slot);
        let rule = self.rules.iter().find(|(slot, _)| has_counted(**slot));
        let took_tokens = rule.is_some_and(|(_, limits)| *limits)
            || counted.is_some_and(|(_, reason)| reason.step() == Step::Reject);
        let rule = rule.map(|(slot, _)| *slot);
        (self.counters, self.counts) = (after, counts);
        // The next packet comes as if this one had not.
        if took_tokens {
            self.trial.restore()?;
        }
        let verdict = counted.map_or(Verdict::Pass, |(_, reason)| reason.verdict());
        Ok(Outcome { verdict, counted, rule, frame })
    }
}
