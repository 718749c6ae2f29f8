//! `icmpctl stats`: what became of the packets, and why.

use anyhow::Context as _;
use icmp_userspace::{
    kernel::{
        attach::Places,
        interface::Netlink,
        listing::{self, Readable},
    },
    observe::{
        counters::{self, Row, Total},
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
    /// How many rules there are that are not listed; 0 if nothing is known of them.
    #[serde(skip)]
    unlisted: usize,
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
        let Readable { interface, counters, rules, generation } = readable;
        let counters =
            counters::read_pinned(&counters).with_context(|| format!("reading {}", counters.display()))?;
        let mut unlisted = 0;
        let rules = if self.rules {
            let generation =
                generation?.with_context(|| format!("nothing is known of the rules on {interface}"))?;
            let counts = match rules {
                Some(pin) => {
                    Counts::read_pinned(&pin).with_context(|| format!("reading {}", pin.display()))?
                }
                None => Counts::zero(),
            };
            Some(rules::rows(&generation.listing.rules, &generation.slots, &counts))
        } else {
            unlisted = generation.ok().flatten().map_or(0, |generation| generation.count_rules());
            None
        };
        Ok(Statistics {
            interface,
            totals: counters::totals(&counters),
            reasons: counters::rows(&counters),
            rules,
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
    if statistics.unlisted > 0 {
        let (count, interface) = (statistics.unlisted, &statistics.interface);
        let rules = if count == 1 { "rule" } else { "rules" };
        output::line(&format!("\n{count} {rules}: `icmpctl stats {interface} --rules` counts by rule"))?;
    }
    Ok(())
}
