//! What is served: answered echo requests by the prefix that they were answered for.

use icmp_common::counters::Amount;
use serde::Serialize;

use super::{
    rates::Before,
    rules::{Counts, rate},
};
use crate::policy::slots::{ServedLine, Slots};

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The prefix; `own` for the interface's addresses, `others` for prefixes that are not counted each on its own.
    pub prefix: String,
    /// How many requests were answered for it.
    pub packets: u64,
    /// How many bytes these IP packets had, headers included.
    pub bytes: u64,
    /// How many packets a second since the reading before, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_second: Option<f64>,
}

/// What was answered for each prefix; with rates if there was a reading before.
#[must_use]
pub fn rows(
    lines: &[ServedLine],
    slots: &Slots,
    counts: &Counts,
    before: Option<Before<'_, Counts>>,
) -> Vec<Row> {
    let row = |line: &ServedLine| {
        let amount = counts.amount(line.slot);
        let Amount { packets, bytes } = slots.since_start(line.slot, amount);
        Row {
            prefix: line.prefix.clone(),
            packets,
            bytes,
            per_second: before.map(|before| rate(line.slot, amount.packets, packets, before)),
        }
    };
    lines.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_show_what_was_answered_since_they_came() {
        let text = r#"{"rules": {}, "dynamic": {}, "starts": {"7": 40}}"#;
        let slots: Slots = serde_json::from_str(text).unwrap();
        let line = |slot, prefix: &str| ServedLine { slot, prefix: prefix.to_owned() };
        let lines = [line(7, "192.0.2.0/24"), line(8, "own")];
        let (reading, counts) = (Counts::of(&[(7, 41), (8, 5)]), Counts::of(&[(7, 47), (8, 5)]));
        let rows = rows(&lines, &slots, &counts, Some(Before { reading: &reading, seconds: 2.0 }));
        let told: Vec<_> = rows.iter().map(|row| (&*row.prefix, row.packets, row.per_second)).collect();
        assert_eq!(told, [("192.0.2.0/24", 7, Some(3.0)), ("own", 5, Some(0.0))]);
    }
}
