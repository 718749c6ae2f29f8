//! `icmpctl stats`: what became of the packets, and why.

mod snmp;
mod table;
mod watch;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use icmp_common::counters::Counters;
use icmp_userspace::{
    duration,
    kernel::{
        attach::Places,
        clock,
        interface::Netlink,
        listing::{self, Readable},
        state::Generation,
    },
    observe::{
        counters::{self, Row, Total},
        limits,
        rates::Before,
        rules::{self, Counts},
        served, types,
    },
};
use serde::Serialize;

use super::output;

/// What can be typed behind `stats`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The interface; without one, all that icmpctl is attached to
    interface: Option<String>,
    /// List packets by these
    #[arg(long, value_name = "WHAT", value_delimiter = ',', default_value = "reason")]
    by: Vec<By>,
    /// List what was within each rate of a limit and what over it, and how full the table of buckets is
    #[arg(long)]
    limits: bool,
    /// List the stack's own ICMP counters instead, and what they miss because icmpctl did it
    #[arg(long, conflicts_with_all = ["by", "limits", "watch"])]
    snmp: bool,
    /// Read anew every so often (1s, 10s, 1m), and say how many packets came a second, until Ctrl-C
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    watch: Option<Duration>,
    /// As JSON; every reason is listed, also those that never applied
    #[arg(long)]
    json: bool,
}

/// What packets can be listed by.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum By {
    /// What became of them, and why
    Reason,
    /// The rule that decided
    Rule,
    /// Type and code of the message
    Type,
    /// The prefix that a request was answered for
    Served,
}

#[derive(Serialize)]
struct Statistics {
    interface: String,
    totals: [Total; 2],
    /// How long before the reading was with which rates compare.
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    per_second: Option<[Total<f64>; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasons: Option<Vec<Row>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rules: Option<Vec<rules::Row>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    types: Option<Vec<types::Row>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    served: Option<Vec<served::Row>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<Limits>,
    /// How many rules there are that are not listed; 0 if nothing is known of them.
    #[serde(skip)]
    unlisted: usize,
}

#[derive(Serialize)]
struct Limits {
    rates: Vec<limits::Row>,
    table: Option<limits::Table>,
}

/// What was read of an interface, to compare the next reading with.
struct Reading {
    /// When.
    at: Instant,
    counters: Counters,
    /// If those of rules and prefixes were read.
    counts: Option<Counts>,
}

impl Limits {
    fn read(generation: &Generation, counts: &Counts, buckets: Option<&Path>) -> anyhow::Result<Self> {
        let (lines, slots) = (&generation.listing.limits, &generation.slots);
        let table = |pin: &Path| {
            limits::table(pin, lines, slots, counts, clock::now())
                .with_context(|| format!("reading {}", pin.display()))
        };
        Ok(Self { rates: limits::rows(lines, slots, counts), table: buckets.map(table).transpose()? })
    }
}

impl Arguments {
    pub(super) async fn run(&self, places: &Places) -> anyhow::Result<()> {
        let netlink = Netlink::open()?;
        if self.snmp {
            return self.snmp(&netlink, places).await;
        }
        if let Some(interval) = self.watch {
            return self.watch(&netlink, places, interval).await;
        }
        let readable = listing::readable(&netlink, places, self.interface.as_deref()).await?;
        let statistics = readable
            .into_iter()
            .map(|readable| self.read(readable, None).map(|(statistics, _)| statistics))
            .collect::<anyhow::Result<Vec<_>>>()?;
        if self.json {
            return Ok(output::json(&statistics)?);
        }
        if statistics.is_empty() {
            output::line("icmpctl is attached to no interface of this network namespace")?;
        }
        for (number, statistics) in statistics.iter().enumerate() {
            if number > 0 {
                output::line("")?;
            }
            output::line(&statistics.interface)?;
            table::lines(statistics).iter().try_for_each(|line| output::line(line))?;
        }
        Ok(())
    }

    /// Reads what was counted on an interface, and compares it with the reading before, if there was one.
    fn read(&self, readable: Readable, before: Option<&Reading>) -> anyhow::Result<(Statistics, Reading)> {
        let Readable { interface, counters, rules, buckets, generation, .. } = readable;
        let counters =
            counters::read_pinned(&counters).with_context(|| format!("reading {}", counters.display()))?;
        let at = Instant::now();
        let seconds = before.map_or(0.0, |before| (at - before.at).as_secs_f64());
        let by = |what| self.by.contains(&what);
        let mut unlisted = 0;
        let (mut listed, mut answered, mut limits) = (None, None, None);
        let mut read = None;
        if by(By::Rule) || by(By::Served) || self.limits {
            let generation =
                generation?.with_context(|| format!("nothing is known of the rules on {interface}"))?;
            let counts = match rules {
                Some(pin) => {
                    Counts::read_pinned(&pin).with_context(|| format!("reading {}", pin.display()))?
                }
                None => Counts::zero(),
            };
            let before = before.and_then(|before| before.counts.as_ref());
            let before = before.map(|reading| Before { reading, seconds });
            let Generation { listing, slots, .. } = &generation;
            if by(By::Rule) {
                listed = Some(rules::rows(&listing.rules, &listing.limits, slots, &counts, before));
            }
            if by(By::Served) {
                answered = Some(served::rows(&listing.served, slots, &counts, before));
            }
            if self.limits {
                limits = Some(Limits::read(&generation, &counts, buckets.as_deref())?);
            }
            read = Some(counts);
        } else {
            unlisted = generation.ok().flatten().map_or(0, |generation| generation.count_rules());
        }
        let before = before.map(|before| Before { reading: &before.counters, seconds });
        let statistics = Statistics {
            interface,
            totals: counters::totals(&counters),
            seconds: before.map(|before| before.seconds),
            per_second: before.map(|before| counters::rates(&counters, before)),
            reasons: by(By::Reason).then(|| counters::rows(&counters, before)),
            rules: listed,
            types: by(By::Type).then(|| types::rows(&counters, before)),
            served: answered,
            limits,
            unlisted,
        };
        Ok((statistics, Reading { at, counters, counts: read }))
    }
}
