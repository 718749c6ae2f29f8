//! `icmpctl stats --watch`: reading after reading, until Ctrl-C, or until nobody reads what is printed.

use std::{
    collections::HashMap,
    io::IsTerminal as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::bail;
use icmp_userspace::{
    duration,
    kernel::{attach::Places, error::Error, interface::Netlink, listing},
};
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Arguments, Reading, Statistics, table};
use crate::cli::{output, signals::Signals};

/// One line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    /// Seconds since 1970.
    time: f64,
    interfaces: &'a [Statistics],
}

impl Arguments {
    /// Shows a reading at once and then one every interval. An interface that has gone ends it.
    pub(super) async fn watch(
        &self,
        netlink: &Netlink,
        places: &Places,
        every: Duration,
    ) -> anyhow::Result<()> {
        let begin = Instant::now();
        let mut before: Option<HashMap<String, Reading>> = None;
        let mut ticks = interval(every);
        // Who was stopped for a while does not make up for it.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut signals = Signals::listen()?;
        loop {
            tokio::select! {
                () = signals.any() => {
                    if std::io::stdout().is_terminal() {
                        output::line("")?;
                    }
                    return Ok(());
                }
                _ = ticks.tick() => {}
            }
            let readable = match listing::readable(netlink, places, self.interface.as_deref()).await {
                Err(Error::NoInterface { name }) if before.is_some() => bail!("{name} is gone"),
                readable => readable?,
            };
            if readable.is_empty() {
                return Err(Error::Nowhere.into());
            }
            let mut now = HashMap::new();
            let mut statistics = Vec::new();
            for readable in readable {
                let name = readable.interface.clone();
                let earlier = before.as_ref().and_then(|before| before.get(&name));
                let (read, reading) = self.read(readable, earlier)?;
                statistics.push(read);
                now.insert(name, reading);
            }
            if let Some(name) = before.iter().flat_map(HashMap::keys).find(|name| !now.contains_key(*name)) {
                bail!("{name} is gone, or icmpctl has been detached from it");
            }
            before = Some(now);
            self.show(&statistics, every, begin.elapsed())?;
        }
    }

    /// Prints a reading: in the place of the last one on a terminal, behind it elsewhere.
    fn show(&self, statistics: &[Statistics], every: Duration, since: Duration) -> anyhow::Result<()> {
        if self.json {
            let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
            return Ok(output::json_line(&Line { time, interfaces: statistics })?);
        }
        let mut lines = Vec::new();
        for statistics in statistics {
            let (every, since) = (duration::exact(every), duration::show(since));
            lines.push(format!("{}, every {every}, for {since}", statistics.interface));
            lines.extend(table::lines(statistics));
            lines.push(String::new());
        }
        Ok(output::screen(&lines)?)
    }
}
