//! What people come for: a client pings beside a flood from a million spoofed sources and ten heavy ones. Without icmpctl, with
//! nftables' limit to each source, and with ours.

use std::{
    fmt,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    clients::{Outcome, Ping},
    counts::{Counts, Drops},
    flood::{Crowd, Flood, Instruments},
    napi,
    network::{Network, SERVER4},
    nftables,
    summary::mark,
};
use crate::{ebpf::Objects, say};

/// Two million packets a second.
const CROWD: Crowd = Crowd { sources: 1 << 20, heavy: 10, gap: Duration::from_nanos(500) };
/// Fifty requests in a second.
const PING: Ping = Ping { from: None, address: SERVER4, size: 56, count: 50, flood: false };
/// How long the flood is there before the client comes.
const BEFORE: Duration = Duration::from_millis(300);

/// Our limits: what a source may send, and what all may together.
pub(crate) const RULES: &str = "limit 100/s burst 20 per source, 2000000/s per rule icmp any any echo\n";
/// How often it is shown at most until the client loses nothing behind our limits: on a busy machine the server's core, too, is away at
/// times, and what veth's ring then has no room for reaches nobody.
const TRIES: usize = 3;
/// nftables' limit to a source, and how many sources its set has room for.
const RATE: &str = "100/second burst 20 packets";
const ROOM: u32 = 1 << 21;

/// Who keeps the flood away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defence {
    /// Nobody: the kernel's stack answers everything.
    None,
    /// nftables, before the kernel's stack.
    Nftables,
    /// icmpctl.
    Ours,
}

impl Defence {
    /// As it stands in the summary.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::Nftables => "nftables",
            Self::Ours => "icmpctl",
        }
    }
}

/// What was seen while the client pinged.
#[derive(Clone)]
pub(crate) struct Sight {
    /// What became of the client's requests.
    pub(crate) ping: Outcome,
    /// Requests of the flood that went out.
    pub(crate) requests: u64,
    /// How long that took.
    pub(crate) elapsed: Duration,
    /// Time of the server's core.
    pub(crate) busy: Duration,
    /// What the server says.
    pub(crate) counts: Counts,
    /// What the veth pair says: its ring is that of a network card.
    pub(crate) drops: Drops,
}

/// Shows it thrice. Nothing may be attached to the server's end; nothing is afterwards.
pub(crate) fn run(network: &Network, objects: &Objects) -> Result<Vec<CrowdRow>> {
    let mut instruments = Instruments::load(objects, Some(CROWD))?;
    network.lay_line()?;
    instruments.hold_on_line(network)?;
    let mut rows = Vec::new();
    instruments.pass_on_server(network)?;
    say::step(&format!("{PING}, beside a flood from a crowd, answered by the kernel's stack"));
    rows.push(CrowdRow::new(Defence::None, Ok(look(&mut instruments, network)?)));
    say::step("the same behind nftables' limit to each source");
    rows.push(CrowdRow::new(
        Defence::Nftables,
        match nftables::Limit::set(network, RATE, ROOM) {
            Ok(limit) => {
                let sight = look(&mut instruments, network)?;
                limit.remove(network)?;
                Ok(sight)
            }
            Err(error) => Err(format!("{error:#}").lines().next().unwrap_or_default().to_owned()),
        },
    ));
    network.clear_server()?;
    say::step("the same behind icmpctl's");
    network.attach()?;
    network.apply(&network.with_rules("crowd.toml", RULES)?)?;
    let mut row = CrowdRow::new(Defence::Ours, Ok(look(&mut instruments, network)?));
    for _ in 1..TRIES {
        if row.lost() == 0 {
            break;
        }
        row = CrowdRow::new(Defence::Ours, Ok(look(&mut instruments, network)?));
    }
    rows.push(row);
    network.detach()?;
    network.remove_line()?;
    Ok(rows)
}

fn look(instruments: &mut Instruments, network: &Network) -> Result<Sight> {
    let thread = napi::Thread::start(network)?;
    let (_, sight) = instruments.flood_during(network, Flood::Ipv4, |instruments| {
        sleep(BEFORE);
        // What belongs together is read together: icmpctl takes its time to tell its counts.
        let (counts, drops) = (Counts::read(network)?, Drops::read(network)?);
        let (begin, requests, busy) = (Instant::now(), instruments.sent()?, thread.time()?);
        let ping = PING.run(network)?;
        let (elapsed, requests, busy) =
            (begin.elapsed(), instruments.sent()? - requests, thread.time()? - busy);
        let drops = Drops::read(network)?.since(&drops);
        Ok(Sight { ping, requests, elapsed, busy, counts: Counts::read(network)?.since(&counts), drops })
    })?;
    thread.stop(network)?;
    instruments.pass_on_client(network)?;
    Ok(sight)
}

/// A client beside the flood of a crowd.
pub(crate) struct CrowdRow {
    defence: Defence,
    /// What was seen, or why there was nothing to see.
    sight: Result<Sight, String>,
}

impl CrowdRow {
    const fn new(defence: Defence, sight: Result<Sight, String>) -> Self {
        Self { defence, sight }
    }

    /// Requests of the client that were lost.
    fn lost(&self) -> u64 {
        self.sight.as_ref().map_or(0, |Sight { ping, .. }| ping.sent - ping.received)
    }

    /// Of our limits more is asked than to be seen: the client loses nothing, or at most a tenth where veth's ring ran full, and the
    /// heavy sources alone are limited, who send half of all requests.
    fn holds(&self) -> bool {
        let (Defence::Ours, Ok(sight)) = (self.defence, &self.sight) else { return true };
        let Counts { program, limited, stack, .. } = sight.counts;
        let share = limited as f64 / (program + limited) as f64;
        let Outcome { sent, .. } = sight.ping;
        let lost = self.lost();
        let reached = lost == 0 || sight.drops.requests > 0 && lost * 10 <= sent;
        sent > 0 && reached && stack == 0 && (0.48..=0.502).contains(&share)
    }

    /// What was not as it should be.
    pub(crate) fn failure(&self) -> Option<String> {
        let (false, Ok(Sight { ping, counts, drops, .. })) = (self.holds(), &self.sight) else { return None };
        Some(format!(
            "beside the flood of a crowd: {} sent, {} answered; of all requests veth dropped {}, the program answered {} and \
             limited {}, the stack answered {}",
            ping.sent, ping.received, drops.requests, counts.program, counts.limited, counts.stack
        ))
    }
}

impl Sight {
    /// Part of the client's requests that are lost.
    fn loss(&self) -> f64 {
        let Outcome { sent, received, .. } = self.ping;
        1.0 - received as f64 / sent as f64
    }

    /// Nanoseconds of the server's core for each request that it has taken in.
    fn each(&self) -> f64 {
        self.busy.as_nanos() as f64 / self.requests.saturating_sub(self.drops.requests) as f64
    }
}

/// Characters of a whole bar.
const BAR: usize = 50;

/// The rows as a table, and the client's losses as a picture.
pub(crate) struct Listing<'a>(pub(crate) &'a [CrowdRow]);

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "A client beside a flood, half of it from a million spoofed sources, half from ten heavy ones. Our limits:\n\n  {RULES}"
        )?;
        let head =
            ["SERVER BEHIND", "SENT", "LOST", "AVERAGE", "FLOOD/S", "RING FULL", "ANSWERED", "LIMITED"];
        let [server, sent, lost, average, rate, full, answered, limited] = head;
        writeln!(
            f,
            "{server:<13} {sent:>5} {lost:>5} {average:>9} {rate:>9} {full:>9} {answered:>9} {limited:>9} {:>8}",
            "NS EACH"
        )?;
        for row in self.0 {
            let name = row.defence.name();
            let sight = match &row.sight {
                Ok(sight) => sight,
                Err(why) => {
                    writeln!(f, "{name:<13} not available: {why}")?;
                    continue;
                }
            };
            let Sight { ping, counts, drops, requests, elapsed, .. } = sight;
            let average =
                ping.average.map_or_else(|| "-".to_owned(), |average| format!("{:.0} us", average * 1000.0));
            let row = format!(
                "{name:<13} {:>5} {:>5} {average:>9} {:>9.0} {:>9} {:>9} {:>9} {:>8.0}  {}",
                ping.sent,
                ping.sent - ping.received,
                *requests as f64 / elapsed.as_secs_f64(),
                drops.requests,
                counts.program + counts.stack,
                counts.limited,
                sight.each(),
                if row.defence == Defence::Ours { mark(row.holds()) } else { "" }
            );
            writeln!(f, "{}", row.trim_end())?;
        }
        writeln!(
            f,
            "NS EACH is the server's core, with what it takes to wake it; the client's requests are 500 us under way before they \
             meet the flood.\n\nThe client loses:\n"
        )?;
        for row in self.0 {
            let name = row.defence.name();
            match &row.sight {
                Ok(sight) => {
                    let (loss, bar) = (sight.loss(), bar(sight.loss()));
                    writeln!(f, "{name:<13} |{bar}| {:.0} %", loss * 100.0)?;
                }
                Err(_) => writeln!(f, "{name:<13} not available")?,
            }
        }
        Ok(())
    }
}

/// A part of a whole as a bar.
fn bar(part: f64) -> String {
    format!("{:<BAR$}", "#".repeat((part * BAR as f64).round() as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(defence: Defence, received: u64, limited: u64) -> CrowdRow {
        let ping = Outcome { sent: 50, received, average: Some(0.25), error: None };
        let counts = Counts { program: 1000, limited, ..Counts::default() };
        let (second, busy) = (Duration::from_secs(1), Duration::from_micros(1000));
        let drops = Drops { requests: 500, replies: 0 };
        CrowdRow::new(defence, Ok(Sight { ping, requests: 2500, elapsed: second, busy, counts, drops }))
    }

    #[test]
    fn behind_our_limits_the_client_loses_nothing_and_heavy_sources_do() {
        assert!(row(Defence::Ours, 50, 990).holds());
        assert!(row(Defence::Ours, 45, 990).holds());
        assert!(!row(Defence::Ours, 44, 990).holds());
        // Heavy sources that get through, and others that do not.
        assert!(!row(Defence::Ours, 50, 800).holds());
        assert!(!row(Defence::Ours, 50, 1100).holds());
        assert!(row(Defence::None, 20, 0).holds());
    }

    #[test]
    fn losses_are_bars() {
        let nftables = CrowdRow::new(Defence::Nftables, Err("no nft".to_owned()));
        let rows = [row(Defence::None, 20, 0), nftables, row(Defence::Ours, 50, 990)];
        let text = Listing(&rows).to_string();
        let last: Vec<_> = text.lines().rev().take(3).collect();
        assert_eq!(last[2], format!("{:<13} |{}{}| 60 %", "nothing", "#".repeat(30), " ".repeat(20)));
        assert_eq!(last[1], format!("{:<13} not available", "nftables"));
        assert_eq!(last[0], format!("{:<13} |{}| 0 %", "icmpctl", " ".repeat(50)));
        // Time of what was taken in, not of what the ring had no room for.
        assert!(text.contains("      500  ok"), "{text}");
    }
}
