//! `icmpctl stats`: what became of the packets, and why.

use std::path::Path;

use anyhow::Context as _;
use icmp_userspace::{
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
        rules::{self, Counts},
    },
};
use serde::Serialize;

use super::output;

/// What can be typed behind `stats`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The interface; without one, all that icmpctl is attached to
    interface: Option<String>,
    /// List how many packets each rule decided about, too
    #[arg(long)]
    rules: bool,
    /// List what was within each rate of a limit and what over it, and how full the table of buckets is
    #[arg(long)]
    limits: bool,
    /// As JSON; every reason is listed, also those that never applied
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Statistics {
    interface: String,
    totals: [Total; 2],
    reasons: Vec<Row>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rules: Option<Vec<rules::Row>>,
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
        let readable = listing::readable(&netlink, places, self.interface.as_deref()).await?;
        let statistics =
            readable.into_iter().map(|readable| self.read(readable)).collect::<anyhow::Result<Vec<_>>>()?;
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
            print(statistics)?;
        }
        Ok(())
    }

    fn read(&self, readable: Readable) -> anyhow::Result<Statistics> {
        let Readable { interface, counters, rules, buckets, generation } = readable;
        let counters =
            counters::read_pinned(&counters).with_context(|| format!("reading {}", counters.display()))?;
        let mut unlisted = 0;
        let (mut listed, mut limits) = (None, None);
        if self.rules || self.limits {
            let generation =
                generation?.with_context(|| format!("nothing is known of the rules on {interface}"))?;
            let counts = match rules {
                Some(pin) => {
                    Counts::read_pinned(&pin).with_context(|| format!("reading {}", pin.display()))?
                }
                None => Counts::zero(),
            };
            if self.rules {
                listed = Some(rules::rows(&generation.listing.rules, &generation.slots, &counts));
            }
            if self.limits {
                limits = Some(Limits::read(&generation, &counts, buckets.as_deref())?);
            }
        } else {
            unlisted = generation.ok().flatten().map_or(0, |generation| generation.count_rules());
        }
        Ok(Statistics {
            interface,
            totals: counters::totals(&counters),
            reasons: counters::rows(&counters),
            rules: listed,
            limits,
            unlisted,
        })
    }
}

/// Totals first, then the reasons that applied, then the rules, or how to see them.
fn print(statistics: &Statistics) -> anyhow::Result<()> {
    output::line(&statistics.interface)?;
    let mut rows = vec![
        ["", "RECEIVED", "ANSWERED", "PASSED", "DENIED", "REJECTED", "LIMITED", "MALFORMED"]
            .map(str::to_owned),
    ];
    rows.extend(statistics.totals.iter().map(|total| {
        let Total { family, received, answered, passed, denied, rejected, limited, malformed } = *total;
        [
            family.to_owned(),
            received.to_string(),
            answered.to_string(),
            passed.to_string(),
            denied.to_string(),
            rejected.to_string(),
            limited.to_string(),
            malformed.to_string(),
        ]
    }));
    output::columns(&rows, &[1, 2, 3, 4, 5, 6, 7])?;
    let mut rows = vec![["", "VERDICT", "REASON", "PACKETS", "MEANING"].map(str::to_owned)];
    rows.extend(statistics.reasons.iter().filter(|row| row.packets > 0).map(|row| {
        [
            row.family.to_owned(),
            row.verdict.to_owned(),
            row.reason.to_owned(),
            row.packets.to_string(),
            row.explanation.to_owned(),
        ]
    }));
    if rows.len() > 1 {
        output::line("")?;
        output::columns(&rows, &[3])?;
    }
    if let Some(rules) = &statistics.rules {
        let mut rows = vec![["RULE", "ORIGIN", "PACKETS", "TEXT"].map(str::to_owned)];
        rows.extend(rules.iter().map(|row| {
            let number = row.number.map_or_else(|| "-".to_owned(), |number| number.to_string());
            [number, row.origin.clone(), row.packets.to_string(), row.rule.clone()]
        }));
        output::line("")?;
        output::columns(&rows, &[0, 2])?;
    }
    if let Some(limits) = &statistics.limits {
        print_limits(limits)?;
    }
    if statistics.unlisted > 0 {
        let (count, interface) = (statistics.unlisted, &statistics.interface);
        let rules = if count == 1 { "rule" } else { "rules" };
        output::line(&format!("\n{count} {rules}: `icmpctl stats {interface} --rules` counts by rule"))?;
    }
    Ok(())
}

fn print_limits(limits: &Limits) -> anyhow::Result<()> {
    let mut rows = vec![["RULE", "ORIGIN", "WITHIN", "OVER", "RATE"].map(str::to_owned)];
    rows.extend(limits.rates.iter().map(|row| {
        let [number, within] = [row.number.map(u64::from), row.within]
            .map(|number| number.map_or_else(|| "-".to_owned(), |number| number.to_string()));
        [number, row.origin.clone(), within, row.over.to_string(), row.rate.clone()]
    }));
    output::line("")?;
    output::columns(&rows, &[0, 2, 3])?;
    let Some(limits::Table { buckets, in_use, given_way }) = limits.table else { return Ok(()) };
    let in_use =
        in_use.map_or_else(|| "the clock can't be read".to_owned(), |in_use| format!("{in_use} in use"));
    output::line(&format!(
        "\n{buckets} buckets: {in_use}; {given_way} have given way before they were full"
    ))?;
    Ok(())
}
