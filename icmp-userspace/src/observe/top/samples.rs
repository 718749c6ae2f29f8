//! Who sends, and to whom: estimated from samples of packets, in memory that no number of addresses uses up.
//!
//! A sample stands for as many packets as have been counted under its family and verdict for each sample of these. Of a table's
//! entries the one of which least has been seen gives way to an address that is new (space-saving, Metwally et al. 2005); what
//! it was estimated to send goes with it, so that no entry shows what others sent.

use std::{collections::HashMap, net::IpAddr};

use icmp_common::{
    Family, Plain as _,
    counters::Counters,
    events::Captured,
    reason::{Reason, Verdict},
};

use crate::observe::decode::Decoded;

/// Addresses in one table.
const ENTRIES: usize = 1_000;
/// How long, in seconds, it takes an estimate to forget two thirds of what it was.
const MEMORY: f64 = 3.0;
/// An entry of which less is left than so much of a sample goes.
const LEAST: f64 = 0.02;

/// What a sample says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The family that it was counted under.
    pub family: Family,
    /// Where it came from.
    pub source: IpAddr,
    /// Where it went.
    pub destination: IpAddr,
    /// What became of it, and why.
    pub reason: Reason,
    /// The slot of the rule that decided about it, if one was asked.
    pub slot: Option<u32>,
}

impl Sample {
    /// What stands in a record of the ring buffer; none in that of an answer.
    #[must_use]
    pub fn of_record(record: &[u8]) -> Option<Self> {
        let (head, frame) = record.split_at_checked(size_of::<Captured>())?;
        let captured = Captured::from_bytes(head)?;
        let reason = captured.reason()?;
        let family = Family::ALL.get(usize::from(captured.family)).copied()?;
        if captured.leaves != 0 {
            return None;
        }
        let Decoded { from, to, .. } = Decoded::of_frame(frame)?;
        let slot = (captured.slot != Captured::NO_RULE).then_some(captured.slot);
        Some(Self { family, source: from, destination: to, reason, slot })
    }
}

/// An address, and what is estimated of its packets.
#[derive(Clone, Debug, PartialEq)]
pub struct Talker {
    /// It.
    pub address: IpAddr,
    /// Packets a second.
    pub packets: f64,
    /// Packets over a limit a second.
    pub over: f64,
    /// What became of its last sample, and why.
    pub reason: Reason,
    /// The slot of the rule that decided about that one, if one was asked.
    pub slot: Option<u32>,
}

/// Packets by verdict.
type ByVerdict<T> = [T; Verdict::ALL.len()];

/// How many packets of a family and a verdict each sample of these stands for.
type Weights = [ByVerdict<f64>; 2];

/// Samples of the two ends of packets.
#[derive(Debug)]
pub struct Samples {
    sources: Table,
    destinations: Table,
    /// How long, in seconds, there have been any.
    age: f64,
    /// Since the last reading.
    seen: [ByVerdict<u64>; 2],
}

impl Samples {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self { sources: Table::default(), destinations: Table::default(), age: 0.0, seen: Default::default() }
    }

    /// Takes a sample in.
    pub fn add(&mut self, sample: &Sample) {
        self.seen[sample.family as usize][sample.reason.verdict() as usize] += 1;
        self.sources.add(sample.source, sample);
        self.destinations.add(sample.destination, sample);
    }

    /// Ends an interval of so many seconds in which so much was counted. Returns how many samples there were.
    pub fn settle(&mut self, counted: &Counters, seconds: f64) -> u64 {
        let packets = by_verdict(counted);
        let mut weights = Weights::default();
        for (family, (packets, seen)) in packets.iter().zip(&self.seen).enumerate() {
            for (verdict, (packets, seen)) in packets.iter().zip(seen).enumerate() {
                // Samples and counters are not read at the same moment: what was sampled was at least counted.
                weights[family][verdict] = (*packets).max(*seen) as f64 / (*seen).max(1) as f64;
            }
        }
        self.age += seconds;
        let samples = self.seen.as_flattened().iter().sum();
        self.seen = Default::default();
        self.sources.settle(&weights, seconds);
        self.destinations.settle(&weights, seconds);
        samples
    }

    /// Who sends.
    pub fn sources(&self) -> impl Iterator<Item = Talker> {
        self.sources.talkers(self.age)
    }

    /// To whom.
    pub fn destinations(&self) -> impl Iterator<Item = Talker> {
        self.destinations.talkers(self.age)
    }
}

impl Default for Samples {
    fn default() -> Self {
        Self::new()
    }
}

fn by_verdict(counters: &Counters) -> [ByVerdict<u64>; 2] {
    let mut packets: [ByVerdict<u64>; 2] = Default::default();
    for family in Family::ALL {
        for reason in Reason::ALL {
            packets[family as usize][reason.verdict() as usize] += counters.get(family, *reason);
        }
    }
    packets
}

/// The addresses at one end.
#[derive(Debug, Default)]
struct Table {
    entries: Vec<Entry>,
    places: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Entry {
    talker: Talker,
    family: Family,
    /// Samples, of which older ones count for less; those of the address that was here before, too.
    seen: f64,
    /// Samples since the last reading.
    fresh: ByVerdict<u32>,
}

impl Table {
    fn add(&mut self, address: IpAddr, sample: &Sample) {
        let place = match self.places.get(&address) {
            Some(place) => *place,
            None => self.admit(address, sample),
        };
        let entry = &mut self.entries[place];
        entry.talker.reason = sample.reason;
        entry.talker.slot = sample.slot;
        entry.seen += 1.0;
        entry.fresh[sample.reason.verdict() as usize] += 1;
    }

    /// Makes room for an address.
    fn admit(&mut self, address: IpAddr, sample: &Sample) -> usize {
        let talker = Talker { address, packets: 0.0, over: 0.0, reason: sample.reason, slot: sample.slot };
        let new = Entry { talker, family: sample.family, seen: 0.0, fresh: Default::default() };
        let place = if self.entries.len() < ENTRIES {
            self.entries.push(new);
            self.entries.len() - 1
        } else {
            let seen = self.entries.iter().enumerate().map(|(place, entry)| (place, entry.seen));
            let least = seen.min_by(|(_, one), (_, two)| one.total_cmp(two));
            let (place, seen) = least.unwrap_or_default();
            self.places.remove(&self.entries[place].talker.address);
            self.entries[place] = Entry { seen, ..new };
            place
        };
        self.places.insert(address, place);
        place
    }

    fn settle(&mut self, weights: &Weights, seconds: f64) {
        let kept = (-seconds / MEMORY).exp();
        for entry in &mut self.entries {
            let weights = &weights[entry.family as usize];
            let fresh = std::mem::take(&mut entry.fresh);
            let packets = |verdict: usize| f64::from(fresh[verdict]) * weights[verdict] / seconds.max(0.001);
            let all: f64 = (0..fresh.len()).map(packets).sum();
            let learn = |estimate: &mut f64, now: f64| *estimate = *estimate * kept + now * (1.0 - kept);
            learn(&mut entry.talker.packets, all);
            learn(&mut entry.talker.over, packets(Verdict::Limit as usize));
            entry.seen *= kept;
        }
        self.entries.retain(|entry| entry.seen >= LEAST);
        self.places =
            self.entries.iter().enumerate().map(|(place, entry)| (entry.talker.address, place)).collect();
    }

    /// The addresses with what is estimated in `age` seconds, at the beginning of which nothing was known.
    fn talkers(&self, age: f64) -> impl Iterator<Item = Talker> {
        let learnt = 1.0 - (-age / MEMORY).exp();
        self.entries.iter().filter(move |_| learnt > 0.0).map(move |Entry { talker, .. }| Talker {
            packets: talker.packets / learnt,
            over: talker.over / learnt,
            ..talker.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use icmp_common::counters::Slot;

    use super::*;

    const TO: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn from(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(0x0a00_0000 + number).into()
    }

    fn sample(source: IpAddr, reason: Reason) -> Sample {
        Sample { family: Family::Ipv4, source, destination: TO, reason, slot: Some(7) }
    }

    fn counted(amounts: &[(Reason, u64)]) -> Counters {
        let mut counters = Counters::ZERO;
        for (reason, packets) in amounts {
            (0..*packets).for_each(|_| counters.count(Slot::new(Family::Ipv4, *reason)));
        }
        counters
    }

    fn find(mut talkers: impl Iterator<Item = Talker>, address: IpAddr) -> Option<Talker> {
        talkers.find(|talker| talker.address == address)
    }

    /// 16 samples of 3,000 answered, 4 of 40 limited packets a second; from the beginning on.
    #[test]
    fn samples_stand_for_what_was_counted_under_their_verdict() {
        let mut samples = Samples::new();
        let counters = counted(&[(Reason::Echo, 3_000), (Reason::OverLimit, 40), (Reason::OtherType, 500)]);
        let near = |talker: Option<Talker>, packets: f64, over: f64| {
            let talker = talker.unwrap();
            assert!((talker.packets - packets).abs() < 1.0 && (talker.over - over).abs() < 1.0, "{talker:?}");
            talker
        };
        for _ in 0..5 {
            (0..12).for_each(|_| samples.add(&sample(from(1), Reason::Echo)));
            (0..4).for_each(|_| samples.add(&sample(from(2), Reason::Echo)));
            (0..4).for_each(|_| samples.add(&sample(from(2), Reason::OverLimit)));
            assert_eq!(samples.settle(&counters, 1.0), 20);
            near(find(samples.sources(), from(1)), 2_250.0, 0.0);
            let two = near(find(samples.sources(), from(2)), 790.0, 40.0);
            assert_eq!((two.reason, two.slot), (Reason::OverLimit, Some(7)));
            near(find(samples.destinations(), TO), 3_040.0, 40.0);
        }
    }

    #[test]
    fn who_is_silent_is_forgotten() {
        let mut samples = Samples::new();
        samples.add(&sample(from(1), Reason::Echo));
        let nothing = Counters::ZERO;
        samples.settle(&counted(&[(Reason::Echo, 100)]), 1.0);
        let first = find(samples.sources(), from(1)).unwrap().packets;
        samples.settle(&nothing, 1.0);
        assert!(find(samples.sources(), from(1)).unwrap().packets < first * 0.8);
        (0..20).for_each(|_| _ = samples.settle(&nothing, 1.0));
        assert_eq!((samples.sources().count(), samples.destinations().count()), (0, 0));
    }

    /// Three who send much are found in a flood of tens of thousands who send once each, also if they begin when the table is full
    /// of those; and no other one is said to send more than once.
    #[test]
    fn those_who_send_much_are_found_among_many_in_bounded_memory() {
        let mut samples = Samples::new();
        let mut other = 100;
        for second in 0..14 {
            for number in 0..4_000 {
                let source = if number % 8 == 0 && second > 1 {
                    from(number / 8 % 3)
                } else {
                    other += 1;
                    from(other)
                };
                samples.add(&sample(source, Reason::Echo));
            }
            samples.settle(&counted(&[(Reason::Echo, 80_000)]), 1.0);
            assert!(samples.sources.entries.len() <= ENTRIES && samples.sources.places.len() <= ENTRIES);
        }
        let mut sources: Vec<_> = samples.sources().collect();
        sources.sort_by(|one, two| two.packets.total_cmp(&one.packets));
        for talker in &sources[..3] {
            assert!((2_500.0..=3_500.0).contains(&talker.packets), "{talker:?}");
        }
        // One sample stands for 20 packets, of which the last second knows a part.
        assert!(sources[3].packets < 7.0, "{:?}", sources[3]);
    }

    /// When all entries have been seen once, who comes again and again is not the first to give way.
    #[test]
    fn who_begins_when_the_table_is_full_is_found() {
        let mut samples = Samples::new();
        for number in 0..2_800 {
            let source = if number > 2_000 && number % 8 == 0 { 1 } else { 100 + number };
            samples.add(&sample(from(source), Reason::Echo));
        }
        samples.settle(&counted(&[(Reason::Echo, 2_800)]), 1.0);
        let found = find(samples.sources(), from(1)).unwrap();
        assert!((80.0..=100.0).contains(&found.packets), "{found:?}");
    }

    #[test]
    fn records_of_packets_that_came_are_samples() {
        let captured = |leaves, reason| Captured {
            slot: Captured::NO_RULE,
            reason,
            leaves,
            captured: 42,
            ..Captured::default()
        };
        let builder = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([10, 0, 0, 1], [192, 0, 2, 1], 64)
            .icmpv4_echo_request(1, 1);
        let mut frame = Vec::new();
        builder.write(&mut frame, &[]).unwrap();
        let record = |captured: Captured| [Captured::bytes(&[captured]), &frame[..]].concat();
        let sample = Sample::of_record(&record(captured(0, Reason::Denied as u8))).unwrap();
        let expected = Sample { slot: None, ..self::sample(from(1), Reason::Denied) };
        assert_eq!(sample, expected);
        assert_eq!(Sample::of_record(&record(captured(1, Reason::Echo as u8))), None);
        // A reason of a later version, a frame that was cut off, no record at all.
        assert_eq!(Sample::of_record(&record(captured(0, 200))), None);
        let whole = record(captured(0, 0));
        (0..whole.len()).for_each(|end| _ = Sample::of_record(&whole[..end]));
        assert_eq!(Sample::of_record(&whole[..40]), None);
    }
}
