//! `icmpctl stats --snmp`: the stack's counters, and what they miss.

use anyhow::Context as _;
use icmp_common::counters::Counters;
use icmp_userspace::{
    kernel::{attach::Places, error::Error, interface::Netlink, listing, stack},
    observe::{counters, snmp},
};

use super::Arguments;
use crate::cli::output;

impl Arguments {
    /// Prints both, and their sums: of the interface that is named, or of all in this network namespace.
    pub(super) async fn snmp(&self, netlink: &Netlink, places: &Places) -> anyhow::Result<()> {
        let readable = listing::readable(netlink, places, self.interface.as_deref()).await?;
        if readable.is_empty() {
            return Err(Error::Nowhere.into());
        }
        let mut sum = Counters::ZERO;
        for listing::Readable { counters, .. } in readable {
            let read = counters::read_pinned(&counters);
            sum.add(&read.with_context(|| format!("reading {}", counters.display()))?);
        }
        let rows = snmp::rows(&sum, &stack::counted()?);
        if self.json {
            return Ok(output::json(&rows)?);
        }
        let mut lines = vec![["COUNTER", "ICMPCTL", "KERNEL", "SUM"].map(str::to_owned)];
        lines.extend(rows.iter().map(|row| {
            [row.name.to_owned(), row.icmpctl.to_string(), row.kernel.to_string(), row.sum.to_string()]
        }));
        Ok(output::columns(&lines, &[1, 2, 3])?)
    }
}
