//! `icmpctl stats`: what became of the packets, and why.

use std::path::Path;

use anyhow::Context as _;
use icmp_userspace::{
    kernel::{attach, interface::Netlink},
    observe::counters::{self, Row, Total},
};
use serde::Serialize;

use super::output;

/// What can be typed behind `stats`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The interface; without one, all that icmpctl is attached to
    interface: Option<String>,
    /// As JSON; every reason is listed, also those that never applied
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Statistics {
    interface: String,
    totals: [Total; 2],
    reasons: Vec<Row>,
}

impl Arguments {
    pub(super) async fn run(&self, bpffs: &Path) -> anyhow::Result<()> {
        let netlink = Netlink::open()?;
        let pinned = attach::counters(&netlink, bpffs, self.interface.as_deref()).await?;
        let read = |(interface, path): (String, std::path::PathBuf)| {
            let counters =
                counters::read_pinned(&path).with_context(|| format!("reading {}", path.display()))?;
            Ok(Statistics {
                interface,
                totals: counters::totals(&counters),
                reasons: counters::rows(&counters),
            })
        };
        let statistics = pinned.into_iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
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
}

/// Totals first, then the reasons that applied.
fn print(statistics: &Statistics) -> anyhow::Result<()> {
    output::line(&statistics.interface)?;
    let mut rows =
        vec![["", "RECEIVED", "ANSWERED", "PASSED", "DENIED", "REJECTED", "MALFORMED"].map(str::to_owned)];
    rows.extend(statistics.totals.iter().map(|total| {
        let Total { family, received, answered, passed, denied, rejected, malformed } = *total;
        [
            family.to_owned(),
            received.to_string(),
            answered.to_string(),
            passed.to_string(),
            denied.to_string(),
            rejected.to_string(),
            malformed.to_string(),
        ]
    }));
    output::columns(&rows, &[1, 2, 3, 4, 5, 6])?;
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
    Ok(())
}
