//! Counters of rules: read in one pass, added up over all CPUs, and put beside the rules.

use std::{collections::BTreeSet, path::Path};

use aya::{
    Pod,
    maps::{Map, MapData, MapError, PerCpuArray},
};
use icmp_common::counters::{Amount, RULE_CHUNK, RULE_SLOTS, RuleCounters};
use serde::Serialize;

use super::rates::Before;
use crate::policy::slots::{LimitLine, Line, Slots};

/// Counters as they lie in the map.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Value(RuleCounters);

// SAFETY: an array of integers, without padding: any bytes are a value.
unsafe impl Pod for Value {}

/// What all slots hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts(Vec<Amount>);

impl Counts {
    /// Nothing counted.
    #[must_use]
    pub fn zero() -> Self {
        Self(vec![Amount::default(); RULE_SLOTS])
    }

    /// Counters that hold so much, by their slots.
    #[cfg(test)]
    pub(super) fn of(slots: &[(usize, u64)]) -> Self {
        let mut counts = Self::zero();
        slots.iter().for_each(|(slot, count)| counts.0[*slot].packets = *count);
        counts
    }

    /// Reads the counters that are pinned at `path`.
    pub fn read_pinned(path: &Path) -> Result<Self, MapError> {
        Self::read(MapData::from_pin(path)?, RULE_SLOTS as u32)
    }

    /// Reads counters from their map: those of this many slots at least.
    pub fn read(map: MapData, slots: u32) -> Result<Self, MapError> {
        let map = PerCpuArray::<_, Value>::try_from(Map::PerCpuArray(map))?;
        let mut counts = Self::zero();
        let chunks = counts.0.chunks_mut(RULE_CHUNK).take((slots as usize).div_ceil(RULE_CHUNK));
        for (number, sums) in chunks.enumerate() {
            for Value(part) in map.get(&(number as u32), 0)?.iter() {
                for (sum, part) in sums.iter_mut().zip(part.amounts) {
                    sum.packets = sum.packets.wrapping_add(part.packets);
                    sum.bytes = sum.bytes.wrapping_add(part.bytes);
                }
            }
        }
        Ok(counts)
    }

    /// How many packets one slot holds.
    #[must_use]
    pub fn slot(&self, slot: u32) -> u64 {
        self.amount(slot).packets
    }

    /// What one slot holds.
    #[must_use]
    pub fn amount(&self, slot: u32) -> Amount {
        self.0.get(slot as usize).copied().unwrap_or_default()
    }
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The rule's number; none for what no rule matches and what the guard keeps.
    pub number: Option<u32>,
    /// Where it comes from.
    pub origin: String,
    /// Its canonical text.
    pub rule: String,
    /// How many packets it decided about.
    pub packets: u64,
    /// How many bytes these IP packets had, headers included.
    pub bytes: u64,
    /// How many of the packets were over a rate; none if it limits nothing.
    pub over: Option<u64>,
    /// How many a second since the reading before, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_second: Option<f64>,
}

/// How many packets each rule decided about; with rates if there was a reading before, under whatever policy.
#[must_use]
pub fn rows(
    lines: &[Line],
    limits: &[LimitLine],
    slots: &Slots,
    counts: &Counts,
    before: Option<Before<'_, Counts>>,
) -> Vec<Row> {
    let mut seen = BTreeSet::new();
    lines
        .iter()
        .map(|line| {
            // Of rules with the same text the first one decides always.
            let amount = if seen.insert(line.slot) { counts.amount(line.slot) } else { Amount::default() };
            let Amount { packets, bytes } = slots.since_start(line.slot, amount);
            let per_second = before.map(|before| rate(line.slot, amount.packets, packets, before));
            Row {
                number: line.number,
                origin: line.origin.clone(),
                rule: line.text.clone(),
                packets,
                bytes,
                over: over(line, limits, slots, counts),
                per_second,
            }
        })
        .collect()
}

/// How many packets of a rule were over one of its rates, if it has any.
fn over(line: &Line, limits: &[LimitLine], slots: &Slots, counts: &Counts) -> Option<u64> {
    // Of rules with the same text the first one decides always.
    let rates =
        limits.iter().filter(|limit| limit.rule_slot == Some(line.slot) && limit.number == line.number);
    let over = rates.map(|limit| slots.since_start(limit.over_slot, counts.amount(limit.over_slot)).packets);
    over.fold(None, |sum, over| Some(sum.unwrap_or(0) + over))
}

/// Packets a second in a slot whose counter holds `count`, of which `own` were not counted before the slot was given away.
pub(super) fn rate(slot: u32, count: u64, own: u64, before: Before<'_, Counts>) -> f64 {
    // What another rule counted in the slot meanwhile is not this one's.
    let recent = count.checked_sub(before.reading.slot(slot));
    before.per_second(recent.map_or(own, |recent| recent.min(own)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_show_what_was_counted_since_they_came() {
        let text = r#"{"rules": {"deny icmp any any": 7, "guard": 1}, "dynamic": {}, "starts": {"7": 40}}"#;
        let slots: Slots = serde_json::from_str(text).unwrap();
        let line = |number, slot, text: &str| Line {
            number,
            slot,
            text: text.to_owned(),
            origin: "file".to_owned(),
        };
        let lines = [
            line(Some(10), 7, "deny icmp any any"),
            line(Some(20), 7, "deny icmp any any"),
            line(None, 1, "guard"),
        ];
        let counts = Counts::of(&[(7, 42), (1, 3)]);
        let packets: Vec<_> =
            rows(&lines, &[], &slots, &counts, None).iter().map(|row| row.packets).collect();
        assert_eq!(packets, [2, 0, 3]);
    }

    #[test]
    fn rates_of_rules_leave_out_what_others_counted() {
        // Slot 7 was another rule's until it held 40, slot 8 has been this one's for long.
        let text = r#"{"rules": {"new": 7, "old": 8}, "dynamic": {}, "starts": {"7": 40, "8": 1}}"#;
        let slots: Slots = serde_json::from_str(text).unwrap();
        let line =
            |slot, text: &str| Line { number: None, slot, text: text.to_owned(), origin: "file".to_owned() };
        let lines = [line(7, "new"), line(8, "old"), line(8, "old")];
        let counts = Counts::of(&[(7, 42), (8, 100)]);
        let rates = |reading: &Counts| -> Vec<_> {
            let rows = rows(&lines, &[], &slots, &counts, Some(Before { reading, seconds: 0.5 }));
            rows.iter().map(|row| row.per_second).collect()
        };
        assert_eq!(rates(&Counts::of(&[(7, 30), (8, 90)])), [Some(4.0), Some(20.0), Some(0.0)]);
        assert_eq!(rates(&Counts::of(&[(7, 41), (8, 100)])), [Some(2.0), Some(0.0), Some(0.0)]);
        // Counters that were made anew.
        assert_eq!(rates(&Counts::of(&[(7, 43), (8, 101)])), [Some(4.0), Some(198.0), Some(0.0)]);
    }
}
