//! The model of `icmpctl top`: from readings and samples to what is shown. It knows no terminal, no clock and no kernel.

pub mod samples;
pub mod state;

use std::{collections::VecDeque, time::Duration};

use icmp_common::counters::Counters;

use self::samples::{Sample, Samples, Talker};
use super::{
    counters::{self, Total},
    rates::Before,
    rules::{self, Counts},
    types,
};
use crate::kernel::state::Generation;

/// Readings that are remembered: so many show side by side on the widest screens.
const REMEMBERED: usize = 300;

/// What was read at one moment.
#[derive(Clone, Debug)]
pub struct Reading {
    /// When, since any beginning.
    pub at: Duration,
    /// Packets by reason and by type.
    pub counters: Counters,
    /// Packets by rule.
    pub counts: Counts,
    /// What belongs to the program that counts.
    pub generation: Generation,
}

/// A rule with its rates.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// The slot of its counter.
    pub slot: u32,
    /// Its number; none for what no rule matches and what the guard keeps.
    pub number: Option<u32>,
    /// Its canonical text.
    pub text: String,
    /// How many packets it decided about.
    pub packets: u64,
    /// How many a second; none before the second reading.
    pub per_second: Option<f64>,
    /// How many of these were over one of its rates; none if it has no rates.
    pub over: Option<f64>,
}

/// What became of packets.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// A verdict, or all of them.
    pub name: &'static str,
    /// Packets a second of each family; none before the second reading.
    pub per_second: Option<[f64; 2]>,
    /// Packets of both.
    pub packets: u64,
    /// Packets a second of both, reading after reading.
    pub history: Vec<u64>,
}

/// What a screen shows.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// By verdict.
    pub outcomes: Vec<Outcome>,
    /// By rule, in the policy's order.
    pub rules: Vec<Rule>,
    /// By type and code.
    pub types: Vec<types::Row>,
    /// Who sends.
    pub sources: Vec<Talker>,
    /// To whom.
    pub destinations: Vec<Talker>,
    /// Samples a second.
    pub samples: f64,
}

/// The names of [`Shown::outcomes`] and what they count.
type Part<N> = (&'static str, fn(&Total<N>) -> N);

const fn parts<N: Copy>() -> [Part<N>; 7] {
    [
        ("received", |total| total.received),
        ("answered", |total| total.answered),
        ("passed", |total| total.passed),
        ("denied", |total| total.denied),
        ("rejected", |total| total.rejected),
        ("limited", |total| total.limited),
        ("malformed", |total| total.malformed),
    ]
}

/// What has been read so far.
#[derive(Debug, Default)]
pub struct Model {
    last: Option<Reading>,
    samples: Samples,
    /// By verdict.
    history: VecDeque<[u64; 7]>,
}

impl Model {
    /// Takes a sample in.
    pub fn add(&mut self, sample: &Sample) {
        self.samples.add(sample);
    }

    /// Takes a reading in, and returns what there is to show.
    pub fn read(&mut self, reading: Reading) -> Shown {
        let Reading { at, counters, counts, generation } = &reading;
        let last = self.last.as_ref().map(|last| (last, (*at - last.at).as_secs_f64()));
        let seconds = last.map(|(_, seconds)| seconds);
        let before = last.map(|(last, seconds)| Before { reading: &last.counters, seconds });
        let rates = before.map(|before| counters::rates(counters, before));
        let mut samples = 0;
        if let (Some(before), Some(rates)) = (before, &rates) {
            samples = self.samples.settle(&counters::since(counters, before.reading), before.seconds);
            if self.history.len() == REMEMBERED {
                self.history.pop_front();
            }
            let both = |of: fn(&Total<f64>) -> f64| rates.iter().map(of).sum::<f64>().round() as u64;
            self.history.push_back(parts().map(|(_, of)| both(of)));
        }
        let totals = counters::totals(counters);
        let outcomes = parts::<u64>().into_iter().zip(parts::<f64>()).enumerate();
        let outcomes = outcomes.map(|(number, ((name, of), (_, rate)))| Outcome {
            name,
            per_second: rates.as_ref().map(|rates| [rate(&rates[0]), rate(&rates[1])]),
            packets: totals.iter().map(of).sum(),
            history: self.history.iter().map(|rates| rates[number]).collect(),
        });
        let before_of_rules = last.map(|(last, seconds)| Before { reading: &last.counts, seconds });
        let shown = Shown {
            outcomes: outcomes.collect(),
            rules: rules(generation, counts, before_of_rules),
            types: types::rows(counters, before),
            sources: self.samples.sources().collect(),
            destinations: self.samples.destinations().collect(),
            samples: seconds.map_or(0.0, |seconds| samples as f64 / seconds.max(0.001)),
        };
        self.last = Some(reading);
        shown
    }
}

/// The rules with what they decided about, and how much of that was over their rates.
fn rules(generation: &Generation, counts: &Counts, before: Option<Before<'_, Counts>>) -> Vec<Rule> {
    let Generation { listing, slots, .. } = generation;
    let over_rate = |slot: u32| {
        let amount = counts.amount(slot);
        let own = slots.since_start(slot, amount).packets;
        before.map_or(0.0, |before| rules::rate(slot, amount.packets, own, before))
    };
    let rows = rules::rows(&listing.rules, &listing.limits, slots, counts, before);
    let rule = |(line, row): (&crate::policy::slots::Line, rules::Row)| {
        let rates = listing.limits.iter().filter(|limit| limit.rule_slot == Some(line.slot));
        // Of rules with the same text the first one decides always.
        let rates = rates.filter(|limit| limit.number == line.number);
        let over: Vec<f64> = rates.map(|limit| over_rate(limit.over_slot)).collect();
        Rule {
            slot: line.slot,
            number: line.number,
            text: row.rule,
            packets: row.packets,
            per_second: row.per_second,
            over: (!over.is_empty()).then(|| over.iter().sum()),
        }
    };
    listing.rules.iter().zip(rows).map(rule).collect()
}

#[cfg(test)]
mod tests {
    use icmp_common::{Family, counters::Slot, reason::Reason};

    use super::*;
    use crate::policy::slots::{LimitLine, Line};

    /// A reading of a policy with a permitting and a limiting rule, whose slots hold so much.
    pub(super) fn reading(seconds: u64, echos: u64, limited: u64) -> Reading {
        let mut counters = Counters::ZERO;
        (0..echos).for_each(|_| counters.count(Slot::new(Family::Ipv4, Reason::Echo)));
        let message = icmp_common::messages::TYPES[1][128].slot(0);
        for _ in 0..limited {
            let slot = Slot::new(Family::Ipv6, Reason::OverLimit);
            counters.count(slot);
            counters.count_message(message, slot);
        }
        let line = |number, slot, text: &str| Line {
            number,
            slot,
            text: text.to_owned(),
            origin: "file".to_owned(),
        };
        let mut generation = Generation::default();
        generation.listing.rules = vec![
            line(Some(10), 3, "permit icmp4 any any echo"),
            line(Some(20), 4, "limit 1/s per source icmp6 any any echo"),
            line(None, 5, "default permit"),
        ];
        generation.listing.limits = vec![LimitLine {
            number: Some(20),
            origin: "file".to_owned(),
            rule_slot: Some(4),
            rate: "1/s per source".to_owned(),
            over_slot: 6,
            span: 1,
            bans: None,
        }];
        let counts = Counts::of(&[(3, echos), (4, limited + 2 * seconds), (6, limited)]);
        Reading { at: Duration::from_secs(seconds), counters, counts, generation }
    }

    #[test]
    fn rates_and_history_are_those_between_readings() {
        let mut model = Model::default();
        let first = model.read(reading(10, 5, 0));
        assert!(first.rules.iter().all(|rule| rule.per_second.is_none()));
        assert!(first.outcomes.iter().all(|outcome| outcome.per_second.is_none()));
        model.read(reading(12, 205, 0));
        let shown = model.read(reading(13, 505, 40));
        let find = |name| shown.outcomes.iter().find(|outcome| outcome.name == name).unwrap().clone();
        let answered = find("answered");
        assert_eq!((answered.per_second, answered.packets), (Some([300.0, 0.0]), 505));
        assert_eq!(answered.history, [100, 300]);
        let received = find("received");
        assert_eq!((received.per_second, received.packets), (Some([300.0, 40.0]), 545));
        assert_eq!(find("limited").history, [0, 40]);
        let rules: Vec<_> =
            shown.rules.iter().map(|rule| (rule.number, rule.per_second, rule.over)).collect();
        assert_eq!(
            rules,
            [(Some(10), Some(300.0), None), (Some(20), Some(42.0), Some(40.0)), (None, Some(0.0), None)]
        );
        let types: Vec<_> = shown.types.iter().map(|row| (row.family, row.per_second)).collect();
        assert_eq!(types, [("ipv4", Some(300.0)), ("ipv6", Some(40.0))]);
    }

    #[test]
    fn history_ends_somewhere() {
        let mut model = Model::default();
        let mut shown = Shown::default();
        (0..REMEMBERED as u64 + 10).for_each(|second| shown = model.read(reading(second, second, 0)));
        assert_eq!(shown.outcomes[0].history, [1; REMEMBERED]);
    }
}
