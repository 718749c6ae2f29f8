//! The program that is attached, by a second instance of it in which nothing is counted that counts.

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
    rules: Counts,
    /// One more than the highest slot of its rules.
    slots: u32,
}

impl Loaded {
    /// Begins. `lines` are the rules of its policy.
    #[must_use]
    pub fn new(trial: Trial, lines: &[Line]) -> Self {
        let slots = lines.iter().map(|line| line.slot + 1).max().unwrap_or(0);
        Self { trial, counters: Counters::ZERO, rules: Counts::zero(), slots }
    }

    /// Takes a frame through it, as the first one that comes after the moment at which it was made.
    pub fn run(&mut self, frame: &[u8]) -> Result<Outcome, Error> {
        let frame = self.trial.run(frame)?;
        let load = |error: aya::maps::MapError| Error::Load(error.to_string());
        let after = counters::read(self.trial.counters()?).map_err(load)?;
        let rules = Counts::read(self.trial.rules()?, self.slots).map_err(load)?;
        let counted = counted(&self.counters, &after);
        let rule = (0..self.slots).find(|slot| rules.slot(*slot) != self.rules.slot(*slot));
        (self.counters, self.rules) = (after, rules);
        // The next packet comes as if this one had not.
        if counted.is_some_and(|(_, reason)| reason.step() == Step::Reject) {
            self.trial.restore()?;
        }
        let verdict = counted.map_or(Verdict::Pass, |(_, reason)| reason.verdict());
        Ok(Outcome { verdict, counted, rule, frame })
    }
}
