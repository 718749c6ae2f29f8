//! Counters: read in one pass, added up over all CPUs; the mirror of `icmp-ebpf/src/count.rs`.

use std::path::Path;

use aya::{
    Pod,
    maps::{Map, MapData, MapError, PerCpuArray},
};
use icmp_common::{
    Family,
    counters::Counters,
    reason::{Reason, Verdict},
};
use serde::Serialize;

use super::rates::Before;

/// Counters as they lie in the map.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Value(Counters);

// SAFETY: arrays of integers, without padding: any bytes are a value.
unsafe impl Pod for Value {}

/// Reads the counters that are pinned at `path`.
pub fn read_pinned(path: &Path) -> Result<Counters, MapError> {
    read(MapData::from_pin(path)?)
}

/// Reads counters from their map: all CPUs' in one system call, and added up.
pub fn read(map: MapData) -> Result<Counters, MapError> {
    let values = PerCpuArray::<_, Value>::try_from(Map::PerCpuArray(map))?.get(&0, 0)?;
    let mut sum = Counters::ZERO;
    for Value(counters) in values.iter() {
        sum.add(counters);
    }
    Ok(sum)
}

/// One line of a listing: how many packets had one verdict for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Row {
    /// `ipv4` or `ipv6`.
    pub family: &'static str,
    /// What became of the packets.
    pub verdict: &'static str,
    /// Why.
    pub reason: &'static str,
    /// How many there were.
    pub packets: u64,
    /// How many a second since the reading before, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_second: Option<f64>,
    /// What the reason means, in a sentence.
    pub explanation: &'static str,
}

/// Totals of one family, in packets or in packets a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Total<N = u64> {
    /// `ipv4` or `ipv6`.
    pub family: &'static str,
    /// ICMP packets received: the sum of what follows.
    pub received: N,
    /// Answered by the program.
    pub answered: N,
    /// Left to the stack.
    pub passed: N,
    /// Dropped because the rules say so, those about which an error was sent included.
    pub denied: N,
    /// Of the denied ones, those about which an error was sent.
    pub rejected: N,
    /// Dropped because they were over a limit.
    pub limited: N,
    /// Dropped because they were broken.
    pub malformed: N,
}

impl<N> Total<N> {
    /// The same with other numbers.
    fn map<M>(self, of: impl Fn(N) -> M) -> Total<M> {
        Total {
            family: self.family,
            received: of(self.received),
            answered: of(self.answered),
            passed: of(self.passed),
            denied: of(self.denied),
            rejected: of(self.rejected),
            limited: of(self.limited),
            malformed: of(self.malformed),
        }
    }
}

/// The totals of both families.
#[must_use]
pub fn totals(counters: &Counters) -> [Total; 2] {
    Family::ALL.map(|family| {
        let of = |verdict| {
            let reasons = Reason::ALL.iter().filter(|reason| reason.verdict() == verdict);
            reasons.map(|reason| counters.get(family, *reason)).sum::<u64>()
        };
        let (answered, passed, malformed) = (of(Verdict::Answer), of(Verdict::Pass), of(Verdict::Malformed));
        let (rejected, limited) = (of(Verdict::Reject), of(Verdict::Limit));
        let denied = of(Verdict::Deny) + rejected;
        let received = answered + passed + denied + limited + malformed;
        Total { family: family.name(), received, answered, passed, denied, rejected, limited, malformed }
    })
}

/// The totals of both families since the reading before, a second.
#[must_use]
pub fn rates(counters: &Counters, before: Before<'_, Counters>) -> [Total<f64>; 2] {
    totals(&since(counters, before.reading)).map(|total| total.map(|packets| before.per_second(packets)))
}

/// What has been counted since the reading before. A counter that holds less than it did then is another one, made since.
pub(super) fn since(counters: &Counters, before: &Counters) -> Counters {
    let mut since = *counters;
    for (now, before) in since.packets.iter_mut().flatten().zip(before.packets.iter().flatten()) {
        *now = now.checked_sub(*before).unwrap_or(*now);
    }
    since
}

/// Every reason of every family, also those that never applied; with rates if there was a reading before.
#[must_use]
pub fn rows(counters: &Counters, before: Option<Before<'_, Counters>>) -> Vec<Row> {
    let recent = before.map(|before| (since(counters, before.reading), before));
    let families = Family::ALL.into_iter();
    families
        .flat_map(|family| Reason::ALL.iter().map(move |reason| (family, *reason)))
        .map(|(family, reason)| Row {
            family: family.name(),
            verdict: reason.verdict().name(),
            reason: reason.name(),
            packets: counters.get(family, reason),
            per_second: recent.map(|(recent, before)| before.per_second(recent.get(family, reason))),
            explanation: reason.explanation(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use icmp_common::counters::Slot;

    #[test]
    fn totals_are_the_sums_of_their_rows() {
        let mut counters = Counters::ZERO;
        for (number, reason) in Reason::ALL.iter().enumerate() {
            for _ in 0..=number {
                counters.count(Slot::new(Family::Ipv6, *reason));
            }
        }
        let [v4, v6] = totals(&counters);
        assert_eq!(v4.received, 0);
        let answered = Reason::ALL.iter().zip(1..).filter(|(reason, _)| reason.verdict() == Verdict::Answer);
        assert_eq!(v6.answered, answered.map(|(_, packets)| packets).sum::<u64>());
        assert_eq!(v6.received, (1..=Reason::ALL.len() as u64).sum::<u64>());
        assert_eq!(v6.received, rows(&counters, None).iter().map(|row| row.packets).sum::<u64>());
    }

    #[test]
    fn rates_are_what_came_since_the_reading_before() {
        let mut reading = Counters::ZERO;
        for _ in 0..7 {
            reading.count(Slot::new(Family::Ipv4, Reason::Echo));
        }
        let mut now = reading;
        for _ in 0..10 {
            now.count(Slot::new(Family::Ipv4, Reason::Echo));
            now.count(Slot::new(Family::Ipv4, Reason::Rejected));
        }
        let before = Before { reading: &reading, seconds: 2.0 };
        let [v4, v6] = rates(&now, before);
        assert_eq!((v4.received, v4.answered, v4.denied, v4.rejected), (10.0, 5.0, 5.0, 5.0));
        assert_eq!(v6.received, 0.0);
        let rate = |now, reading| {
            let rows = rows(now, Some(Before { reading, seconds: 2.0 }));
            rows.iter().find(|row| row.reason == "echo").map(|row| (row.packets, row.per_second))
        };
        assert_eq!(rate(&now, &reading), Some((17, Some(5.0))));
        // Counters that were made anew.
        assert_eq!(rate(&reading, &now), Some((7, Some(3.5))));
    }
}
