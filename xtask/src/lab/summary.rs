//! What the lab has shown: aligned tables, and a list of what was not as it should be.

use std::fmt;

use super::{
    access::{self, Fate},
    clients::{Outcome, Ping},
    counts::Counts,
    crowd::{self, CrowdRow},
    flood::{self, Flood},
    swaps::{Account, SWAPS},
};

/// Everything that was measured.
#[derive(Default)]
pub(crate) struct Summary {
    /// Real clients.
    pub(crate) pings: Vec<PingRow>,
    /// Real clients under an access list.
    pub(crate) accesses: Vec<AccessRow>,
    /// Floods during which the policy was swapped.
    pub(crate) swaps: Vec<SwapRow>,
    /// Floods; first those that the program answered.
    pub(crate) floods: Vec<FloodRow>,
    /// A client beside the flood of a crowd.
    pub(crate) crowds: Vec<CrowdRow>,
}

/// One call of ping.
pub(crate) struct PingRow {
    what: String,
    size: u32,
    outcome: Outcome,
    counts: Counts,
}

impl PingRow {
    pub(crate) fn new(ping: &Ping, outcome: Outcome, counts: Counts) -> Self {
        Self { what: ping.what(), size: ping.size, outcome, counts }
    }

    fn holds(&self) -> bool {
        let Outcome { sent, received, .. } = self.outcome;
        sent > 0 && received == sent && self.counts == Counts { program: sent, ..Counts::default() }
    }
}

/// One call of ping under the access list.
pub(crate) struct AccessRow {
    what: String,
    fate: Fate,
    outcome: Outcome,
    counts: Counts,
}

impl AccessRow {
    pub(crate) fn new(ping: &Ping, fate: Fate, outcome: Outcome, counts: Counts) -> Self {
        Self { what: ping.what(), fate, outcome, counts }
    }

    fn holds(&self) -> bool {
        let Outcome { sent, received, error, .. } = &self.outcome;
        let (answered, denied, rejected, words) = match self.fate {
            Fate::Answered => (*sent, 0, 0, None),
            Fate::Denied => (0, *sent, 0, None),
            Fate::Rejected(words) => (0, *sent, *sent, Some(words)),
        };
        let counts = Counts { program: answered, denied, rejected, ..Counts::default() };
        *sent > 0 && *received == answered && self.counts == counts && error.as_deref() == words
    }
}

/// One flood during which the policy was swapped.
pub(crate) struct SwapRow {
    flood: Flood,
    account: Account,
}

impl SwapRow {
    pub(crate) const fn new(flood: Flood, account: Account) -> Self {
        Self { flood, account }
    }

    /// Every packet is accounted for, and both policies had their share.
    const fn holds(&self) -> bool {
        let counts = self.account.counts;
        self.account.adds_up() && counts.program > 0 && counts.denied > 0
    }
}

/// One flood.
pub(crate) struct FloodRow {
    flood: Flood,
    requests: u64,
    outcome: flood::Outcome,
    counts: Counts,
}

impl FloodRow {
    pub(crate) fn new(flood: Flood, requests: u32, outcome: flood::Outcome, counts: Counts) -> Self {
        Self { flood, requests: requests.into(), outcome, counts }
    }

    fn by_program(&self) -> bool {
        self.counts.program > self.counts.stack
    }

    /// Whoever answered, it was one alone, and each of its answers arrived. A few requests may be missing: on a busy
    /// machine veth's ring runs full, and what it drops reaches nobody.
    fn holds(&self) -> bool {
        let Counts { program, stack, .. } = self.counts;
        let replies = self.outcome.replies;
        let one_alone = (program, stack) == (replies, 0) || (program, stack) == (0, replies);
        one_alone && replies <= self.requests && replies * 10 >= self.requests * 9
    }
}

impl Summary {
    /// How much more of a flood the program answers in the same time.
    fn ratio(&self, flood: Flood) -> Option<f64> {
        let of = |by_program| {
            let mut rows = self.floods.iter().filter(|row| row.flood == flood);
            rows.find(|row| row.by_program() == by_program).map(|row| row.outcome.nanoseconds)
        };
        Some(of(false)? / of(true)?)
    }

    /// What was not as it should be.
    pub(crate) fn failures(&self) -> Vec<String> {
        let pings = self.pings.iter().filter(|row| !row.holds()).map(|row| {
            let (Outcome { sent, received, .. }, counts) = (&row.outcome, row.counts);
            format!(
                "{}, {} bytes: {sent} sent, {received} answered; {} by the program, {} by the stack",
                row.what, row.size, counts.program, counts.stack
            )
        });
        let accesses = self.accesses.iter().filter(|row| !row.holds()).map(|row| {
            let (Outcome { sent, received, error, .. }, counts) = (&row.outcome, row.counts);
            format!(
                "{}, under the access list: {sent} sent, {received} answered, ping says {:?}; the program answered {}, \
                 denied {} and rejected {} of them, the stack answered {}; expected: {:?}",
                row.what,
                error.as_deref().unwrap_or_default(),
                counts.program,
                counts.denied,
                counts.rejected,
                counts.stack,
                row.fate
            )
        });
        let swaps = self.swaps.iter().filter(|row| !row.holds()).map(|row| {
            let Account { requests, replies, counts, drops } = row.account;
            format!(
                "swaps under a flood, {}: {requests} requests, of which veth dropped {}, the program answered {} and denied \
                 {}; {replies} replies, and veth dropped {}; {} answers by the stack",
                row.flood.name(),
                drops.requests,
                counts.program,
                counts.denied,
                drops.replies,
                counts.stack
            )
        });
        let floods = self.floods.iter().filter(|row| !row.holds()).map(|row| {
            format!(
                "flood, {}: {} requests, {} replies; {} by the program, {} by the stack",
                row.flood.name(),
                row.requests,
                row.outcome.replies,
                row.counts.program,
                row.counts.stack
            )
        });
        let slow = [Flood::Ipv4, Flood::Ipv6]
            .into_iter()
            .filter(|flood| !self.ratio(*flood).is_some_and(|ratio| ratio > 1.0));
        let slow =
            slow.map(|flood| format!("flood, {}: the program is not faster than the stack", flood.name()));
        let crowds = self.crowds.iter().filter_map(CrowdRow::failure);
        pings.chain(accesses).chain(swaps).chain(floods).chain(slow).chain(crowds).collect()
    }
}

pub(crate) const fn mark(holds: bool) -> &'static str {
    if holds { "ok" } else { "FAILED" }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["CLIENT", "BYTES", "SENT", "ANSWERED", "BY PROGRAM", "BY STACK", "AVERAGE"];
        writeln!(
            f,
            "{:<24} {:>5} {:>6} {:>9} {:>11} {:>9} {:>9}",
            head[0], head[1], head[2], head[3], head[4], head[5], head[6]
        )?;
        for row in &self.pings {
            let Outcome { sent, received, average, .. } = &row.outcome;
            let average =
                average.map_or_else(|| "-".to_owned(), |average| format!("{:.0} us", average * 1000.0));
            let Counts { program, stack, .. } = row.counts;
            let (what, size) = (&row.what, row.size);
            writeln!(
                f,
                "{what:<24} {size:>5} {sent:>6} {received:>9} {program:>11} {stack:>9} {average:>9}  {}",
                mark(row.holds())
            )?;
        }
        writeln!(f, "\nUnder this access list:\n")?;
        for rule in access::RULES.lines() {
            writeln!(f, "  {rule}")?;
        }
        writeln!(
            f,
            "\n{:<31} {:>4} {:>9} {:>7} {:>9}  PING SAYS",
            "CLIENT", "SENT", "ANSWERED", "DENIED", "REJECTED"
        )?;
        for row in &self.accesses {
            let Outcome { sent, error, .. } = &row.outcome;
            let Counts { program, denied, rejected, .. } = row.counts;
            let (what, error) = (&row.what, error.as_deref().unwrap_or("-"));
            writeln!(
                f,
                "{what:<31} {sent:>4} {program:>9} {denied:>7} {rejected:>9}  {error:<27}  {}",
                mark(row.holds())
            )?;
        }
        writeln!(
            f,
            "\n{:<24} {:>10} {:>10} {:>10} {:>10} {:>12}",
            "SWAPPED UNDER A FLOOD", "REQUESTS", "ANSWERED", "DENIED", "REPLIES", "RING FULL"
        )?;
        for row in &self.swaps {
            let what = format!("{SWAPS} times, {}", row.flood.name());
            let Account { requests, replies, counts, drops } = row.account;
            writeln!(
                f,
                "{what:<24} {requests:>10} {:>10} {:>10} {replies:>10} {:>12}  {}",
                counts.program,
                counts.denied,
                drops.requests + drops.replies,
                mark(row.holds())
            )?;
        }
        writeln!(
            f,
            "\n{:<24} {:>10} {:>10} {:>12} {:>10}",
            "FLOOD ANSWERED BY", "REQUESTS", "REPLIES", "PER SECOND", "NS EACH"
        )?;
        for row in &self.floods {
            let who = format!(
                "{}, {}",
                if row.by_program() { "program" } else { "kernel stack" },
                row.flood.name()
            );
            let (each, requests, replies) = (row.outcome.nanoseconds, row.requests, row.outcome.replies);
            writeln!(
                f,
                "{who:<24} {requests:>10} {replies:>10} {:>12.0} {each:>10.0}  {}",
                1e9 / each,
                mark(row.holds())
            )?;
        }
        for flood in [Flood::Ipv4, Flood::Ipv6] {
            if let Some(ratio) = self.ratio(flood) {
                writeln!(f, "{}: the program answers {ratio:.1} times as many", flood.name())?;
            }
        }
        write!(f, "\n{}", crowd::Listing(&self.crowds))
    }
}
