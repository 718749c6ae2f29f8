//! Limits -> rates; [`icmp_common::limits`] has the layout.

use std::{collections::HashMap, time::Duration};

use icmp_common::{
    bans::{BanLengths, MAX_BAN_LENGTHS},
    bucket::{MAX_SPAN, TICK, lasting_span},
    limits::{PAUSE, Penalty, Rate as Row, most_of_random},
    tables::MOST_RATES,
};

use super::TooLarge;
use crate::policy::{
    acl::{Ban, ErrorLimits, ErrorRate, Exceed, Limit, Per, Period, Rate, Rule, Unit},
    slots::{self, Slots},
};

/// The longest that the kernel's clock of jiffies stands still: so much has to fit into a bucket, or its rate is never reached.
pub const CLOCK: Duration = Duration::from_millis(10);

/// What is taken for a purse at once: no more than this part of what the bucket holds, so that what lies in purses does not count.
const QUANTA: u64 = 1 << 10;

/// What is wrong with a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// The bucket holds less than comes in a tick of the clock: so much would be enough.
    Burst(u64),
    /// No packet fits into the bucket: so much would be enough for the shortest.
    Packet(u64),
    /// The bucket takes too long to fill: so much would be short enough.
    Span(u64),
    /// More than can be counted: so much can.
    Fast(u64),
}

/// The highest rates, a second: that many packets a tick of a bucket can tell apart, and a bit takes a part of one.
const FASTEST: (u64, u64) = (10_000_000, 10_000_000_000);

/// Bits of the shortest ICMP packet: an IPv4 header and an ICMP header.
const SHORTEST: u64 = 8 * (20 + 8);

/// How much a rate allows at once where the rule does not say: what comes in a tenth of a second, and five packets or a full frame
/// at least.
fn default_burst(rate: &Rate) -> u64 {
    let least = match rate.unit {
        Unit::Packets => 5,
        Unit::Bits => 8 * 1500,
    };
    per(rate, Duration::from_millis(100)).max(least)
}

/// How much a rate allows at once.
pub fn burst(rate: &Rate) -> u64 {
    rate.burst.unwrap_or_else(|| default_burst(rate))
}

/// What comes in some time.
fn per(rate: &Rate, time: Duration) -> u64 {
    let amount = u128::from(rate.amount) * time.as_nanos() / period(rate).as_nanos();
    u64::try_from(amount).unwrap_or(u64::MAX)
}

const fn period(rate: &Rate) -> Duration {
    Duration::from_secs(match rate.period {
        Period::Second => 1,
        Period::Minute => 60,
        Period::Hour => 3600,
    })
}

/// Ticks that bring so much.
fn ticks(rate: &Rate, amount: u64) -> u64 {
    let nanoseconds = u128::from(amount) * period(rate).as_nanos() / u128::from(rate.amount.max(1));
    u64::try_from((nanoseconds + u128::from(TICK) / 2) / u128::from(TICK)).unwrap_or(u64::MAX)
}

/// Ticks that bring a packet, or 1,024 bytes.
fn cost(rate: &Rate) -> u64 {
    let of = match rate.unit {
        Unit::Packets => 1,
        Unit::Bits => 8 * 1024,
    };
    ticks(rate, of).max(1)
}

/// Ticks that a bucket takes to fill: what the packets of a burst cost, to the tick, so that as many fit.
#[must_use]
pub fn span(rate: &Rate) -> u64 {
    let costs = u128::from(cost(rate)) * u128::from(burst(rate));
    let span = match rate.unit {
        Unit::Packets => costs,
        Unit::Bits => (costs + 4 * 1024) / (8 * 1024),
    };
    u64::try_from(span).unwrap_or(u64::MAX)
}

/// Ticks that cells of a rate lie ahead of time at most: its buckets, and what remembers since when somebody has been over it, for
/// bans and for what is logged.
#[must_use]
pub fn longest_span(rate: &Rate, ban: Option<Ban>, logs: bool) -> u64 {
    let remembered = ban.map_or(0, |ban| lasting_span(penalty(ban).pause()));
    let told = if logs { lasting_span(PAUSE) } else { 0 };
    span(rate).max(remembered).max(told)
}

/// The rates of errors that `reject` sends: to one source, and in all.
#[must_use]
pub fn error_rates(errors: &ErrorLimits) -> [Rate; 2] {
    let rate = |rate: ErrorRate, per| Rate {
        amount: rate.per_second.into(),
        unit: Unit::Packets,
        period: Period::Second,
        burst: Some(rate.burst.into()),
        per,
    };
    [rate(errors.per_source, Per::Source { length4: 32, length6: 64 }), rate(errors.total, Per::Rule)]
}

/// Whether buckets can do what a rate says.
pub fn check(rate: &Rate) -> Result<(), Unfit> {
    let fastest = match rate.unit {
        Unit::Packets => FASTEST.0,
        Unit::Bits => FASTEST.1,
    };
    if per(rate, Duration::from_secs(1)) > fastest {
        return Err(Unfit::Fast(fastest));
    }
    let least = per(rate, CLOCK);
    if burst(rate) < least {
        return Err(Unfit::Burst(least));
    }
    if rate.unit == Unit::Bits && burst(rate) < SHORTEST {
        return Err(Unfit::Packet(SHORTEST));
    }
    if span(rate) > MAX_SPAN {
        return Err(Unfit::Span(per(rate, Duration::from_nanos(MAX_SPAN * TICK))));
    }
    Ok(())
}

/// The rates of a policy, while they are collected.
#[derive(Default)]
pub(super) struct Rates {
    rows: Vec<Row>,
    /// The first one of each rule, by its text.
    first: HashMap<String, u32>,
    /// Prefixes of which lengths they ban.
    ban_lengths: Vec<BanLengths>,
}

impl Rates {
    /// The number of the first rate of a rule that limits.
    pub(super) fn of_rule(&mut self, rule: &Rule, limit: &Limit, slots: &Slots) -> Result<u32, TooLarge> {
        let text = rule.to_string();
        if let Some(first) = self.first.get(&text) {
            return Ok(*first);
        }
        let pass = limit.exceed == Exceed::Pass || rule.options.monitor;
        let rows = limit.rates.iter().zip(0..).map(|(rate, number)| {
            let flags = if pass { Row::PASS } else { 0 };
            let flags = flags | if rule.options.log.is_some() { Row::LOG } else { 0 };
            row(rate, flags, slots.rule(&slots::over_text(&text, number)).unwrap_or_default())
        });
        let mut rows: Vec<Row> = rows.collect();
        // What only counts bans nobody.
        if let (Some(ban), false) = (limit.ban, rule.options.monitor) {
            rows[0].ban = penalty(ban).number();
            self.bans(&rows[0])?;
        }
        let first = self.append(rows)?;
        self.first.insert(text, first);
        Ok(first)
    }

    /// The number of the first of the two rates that limit errors.
    pub(super) fn of_errors(&mut self, errors: &ErrorLimits, slots: &Slots) -> Result<u32, TooLarge> {
        let [to_one, in_all] = slots::ERROR_TEXTS.map(|text| slots.rule(text).unwrap_or_default());
        let [per_source, total] = error_rates(errors);
        self.append(vec![row(&per_source, 0, to_one), row(&total, Row::RANDOM, in_all)])
    }

    fn bans(&mut self, row: &Row) -> Result<(), TooLarge> {
        let &Row { mask4, mask6, length4, length6, .. } = row;
        let lengths = BanLengths { mask6, mask4, length4, length6, reserved: [0; 2] };
        if !self.ban_lengths.contains(&lengths) {
            self.ban_lengths.push(lengths);
        }
        if self.ban_lengths.len() > MAX_BAN_LENGTHS { Err(TooLarge::BanLengths) } else { Ok(()) }
    }

    fn append(&mut self, mut rows: Vec<Row>) -> Result<u32, TooLarge> {
        let first = self.rows.len();
        if first + rows.len() > MOST_RATES as usize {
            return Err(TooLarge::Rates);
        }
        if let Some(last) = rows.last_mut() {
            last.flags |= Row::LAST;
        }
        self.rows.append(&mut rows);
        Ok(first as u32)
    }

    /// All rates.
    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Prefixes of which lengths are banned.
    pub(super) fn ban_lengths(&self) -> [BanLengths; MAX_BAN_LENGTHS] {
        std::array::from_fn(|number| self.ban_lengths.get(number).copied().unwrap_or(BanLengths::NONE))
    }

    /// The longest that a cell of the table of buckets is ahead of time, in ticks.
    pub(super) fn longest_span(&self) -> u64 {
        let bans = self.rows.iter().filter(|row| row.ban != 0);
        let pauses = bans.map(|row| lasting_span(Penalty::from_number(row.ban).pause()));
        let told = self.rows.iter().filter(|row| row.is(Row::LOG)).map(|_| lasting_span(PAUSE));
        self.rows.iter().map(|row| row.span).chain(pauses).chain(told).max().unwrap_or_default()
    }
}

fn row(rate: &Rate, flags: u16, over_slot: u32) -> Row {
    let unit = match rate.unit {
        Unit::Packets => 0,
        Unit::Bits => Row::BYTES,
    };
    let (length4, length6, by) = match rate.per {
        Per::Source { length4, length6 } => (length4, length6, 0),
        Per::Destination => (32, 128, Row::DESTINATION),
        Per::Rule => (0, 0, 0),
    };
    let (mut span, cost) = (span(rate), cost(rate));
    if flags & Row::RANDOM != 0 {
        span = span.max(most_of_random(cost));
    }
    // Sources have each its own bucket; there is nothing to gain from purses, and there are too many of them.
    let is_shared = !matches!(rate.per, Per::Source { .. });
    let quantum = if is_shared && span / QUANTA > cost { span / QUANTA } else { 0 };
    Row {
        span,
        cost,
        quantum,
        seed: seed(over_slot),
        mask6: mask6(length6),
        mask4: (mask(length4, 32) as u32).to_be(),
        over_slot,
        flags: flags | unit | by,
        length4,
        length6,
        ban: 0,
    }
}

/// As the packet path reads it: the language allows no more than fits.
fn penalty(ban: Ban) -> Penalty {
    let seconds = |time: Duration, most: u32| u32::try_from(time.as_secs()).unwrap_or(most).min(most);
    Penalty { seconds: seconds(ban.duration, Penalty::MOST), after: seconds(ban.after, Penalty::MOST_AFTER) }
}

/// What makes the buckets of a rate others than those of all other rates: all bits of it, because a few of an address's could make up
/// for a difference in a few.
const fn seed(over_slot: u32) -> u64 {
    // As in Fibonacci hashing (Knuth, TAOCP 3, 6.4).
    (over_slot as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The upper `length` of so many bits.
const fn mask(length: u8, bits: u32) -> u64 {
    let all = u64::MAX >> (64 - bits);
    if length == 0 { 0 } else { all & (all << (bits - length as u32)) }
}

/// In memory order.
fn mask6(length: u8) -> [u64; 2] {
    [length.min(64), length.saturating_sub(64)].map(|length| mask(length, 64).to_be())
}
