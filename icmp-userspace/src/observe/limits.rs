//! Limits: what was within each rate and what over it, and how full the table of buckets is.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use aya::maps::{Array, Map, MapData, MapError};
use icmp_common::bucket::{CELLS, is_in_use};
use serde::Serialize;

use super::rules::Counts;
use crate::policy::slots::{EVICTED_TEXT, LimitLine, Slots};

/// One rate of a limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The rule's number; none for the limits of errors that `reject` sends.
    pub number: Option<u32>,
    /// Where it comes from.
    pub origin: String,
    /// The rate.
    pub rate: String,
    /// Packets that were within it; none is known of errors. Those over an earlier rate of the same limit are in neither number.
    pub within: Option<u64>,
    /// Packets that were over it.
    pub over: u64,
}

impl Row {
    /// The row of a rate that nothing has come to.
    fn nothing(line: &LimitLine) -> Self {
        let LimitLine { number, origin, rate, .. } = line.clone();
        Self { number, origin, rate, within: line.rule_slot.map(|_| 0), over: 0 }
    }
}

/// The table of buckets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Table {
    /// How many there are.
    pub buckets: u64,
    /// How many of them are not full, and so in use; none if the kernel's clock can't be read.
    pub in_use: Option<u64>,
    /// How many have given way to others before they were full.
    pub given_way: u64,
}

/// What each rate has let through, and what not.
#[must_use]
pub fn rows(lines: &[LimitLine], slots: &Slots, counts: &Counts) -> Vec<Row> {
    let count = |slot| slots.since_start(slot, counts.amount(slot)).packets;
    // What has come to each rule's next rate.
    let mut left = HashMap::new();
    let mut seen = HashSet::new();
    lines
        .iter()
        .map(|line| {
            // Of rules with the same text the first one decides always.
            if !seen.insert(line.over_slot) {
                return Row::nothing(line);
            }
            let over = count(line.over_slot);
            let within = line.rule_slot.map(|slot| {
                let left = left.entry(slot).or_insert_with(|| count(slot));
                // Counters are read one after the other: the rule's may be a little behind.
                *left = left.saturating_sub(over);
                *left
            });
            Row { within, over, ..Row::nothing(line) }
        })
        .collect()
}

/// Reads the buckets that are pinned at `path`; `now` is the time in ticks.
pub fn table(
    path: &Path,
    lines: &[LimitLine],
    slots: &Slots,
    counts: &Counts,
    now: Option<u64>,
) -> Result<Table, MapError> {
    let map = Array::<_, [u64; CELLS]>::try_from(Map::Array(MapData::from_pin(path)?))?;
    // The last line holds a secret.
    let buckets = map.len().saturating_sub(1);
    let longest = lines.iter().map(|line| line.span).max().unwrap_or_default();
    let mut in_use = now.map(|_| 0);
    if let (Some(in_use), Some(now)) = (&mut in_use, now) {
        for line in 0..buckets {
            let cells = map.get(&line, 0)?;
            *in_use += cells.iter().filter(|cell| is_in_use(**cell, longest, now)).count() as u64;
        }
    }
    let slot = slots.rule(EVICTED_TEXT);
    let given_way = slot.map_or(0, |slot| slots.since_start(slot, counts.amount(slot)).packets);
    Ok(Table { buckets: u64::from(buckets) * CELLS as u64, in_use, given_way })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_one_rate_does_not_come_to_the_next() {
        let line = |number, rule_slot, over_slot| LimitLine {
            number,
            origin: "file".to_owned(),
            rule_slot,
            rate: "1/s".to_owned(),
            over_slot,
            span: 1,
            bans: None,
        };
        let lines = [
            line(Some(10), Some(3), 4),
            line(Some(10), Some(3), 5),
            // The same rule once more.
            line(Some(20), Some(3), 4),
            line(Some(20), Some(3), 5),
            line(None, None, 6),
        ];
        let counts = Counts::of(&[(3, 100), (4, 30), (5, 20), (6, 7)]);
        let rows = rows(&lines, &Slots::default(), &counts);
        let found: Vec<_> = rows.iter().map(|row| (row.within, row.over)).collect();
        assert_eq!(found, [(Some(70), 30), (Some(50), 20), (Some(0), 0), (Some(0), 0), (None, 7)]);
    }
}
