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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// `ipv4` or `ipv6`.
    pub family: &'static str,
    /// What became of the packets.
    pub verdict: &'static str,
    /// Why.
    pub reason: &'static str,
    /// How many there were.
    pub packets: u64,
    /// What the reason means, in a sentence.
    pub explanation: &'static str,
}

/// Totals of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Total {
    /// `ipv4` or `ipv6`.
    pub family: &'static str,
    /// ICMP packets received: the sum of what follows.
    pub received: u64,
    /// Answered by the program.
    pub answered: u64,
    /// Left to the stack.
    pub passed: u64,
    /// Dropped because the rules say so, those about which an error was sent included.
    pub denied: u64,
    /// Of the denied ones, those about which an error was sent.
    pub rejected: u64,
    /// Dropped because they were over a limit.
    pub limited: u64,
    /// Dropped because they were broken.
    pub malformed: u64,
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

/// Every reason of every family, also those that never applied.
#[must_use]
pub fn rows(counters: &Counters) -> Vec<Row> {
    let families = Family::ALL.into_iter();
    families
        .flat_map(|family| Reason::ALL.iter().map(move |reason| (family, *reason)))
        .map(|(family, reason)| Row {
            family: family.name(),
            verdict: reason.verdict().name(),
            reason: reason.name(),
            packets: counters.get(family, reason),
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
        assert_eq!(v6.received, rows(&counters).iter().map(|row| row.packets).sum::<u64>());
    }
}
