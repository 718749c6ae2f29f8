//! What people come for: a client pings beside a flood from a million spoofed sources and ten heavy ones. Without icmpctl, with
//! nftables' limit to each source, and with ours.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    clients::{self, Ping},
    counts::{Counts, Drops},
    flood::{Crowd, Flood, Instruments},
    napi,
    network::{Network, SERVER4},
    nftables,
    summary::CrowdRow,
};
use crate::{ebpf::Objects, say};

/// A million packets a second.
const CROWD: Crowd = Crowd { sources: 1 << 20, heavy: 10, gap: Duration::from_micros(1) };
/// A hundred requests in two seconds.
const PING: Ping = Ping { from: None, address: SERVER4, size: 56, count: 100, flood: false };
/// How long the flood is there before the client comes.
const BEFORE: Duration = Duration::from_millis(300);

/// Our limits: what a source may send, and what all may together.
pub(crate) const RULES: &str = "limit 100/s burst 20 per source, 1000000/s per rule icmp any any echo\n";
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
            Self::None => "none",
            Self::Nftables => "nftables",
            Self::Ours => "icmpctl",
        }
    }
}

/// What was seen while the client pinged.
#[derive(Clone)]
pub(crate) struct Sight {
    /// What became of the client's requests.
    pub(crate) ping: clients::Outcome,
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
            Err(error) => Err(format!("{error:#}")),
        },
    ));
    network.clear_server()?;
    say::step("the same behind icmpctl's");
    network.attach()?;
    network.apply(&network.with_rules("crowd.toml", RULES)?)?;
    rows.push(CrowdRow::new(Defence::Ours, Ok(look(&mut instruments, network)?)));
    network.detach()?;
    Ok(rows)
}

fn look(instruments: &mut Instruments, network: &Network) -> Result<Sight> {
    let thread = napi::Thread::start(network)?;
    let (_, sight) = instruments.flood_during(network, Flood::Ipv4, |instruments| {
        sleep(BEFORE);
        let begin = Instant::now();
        let (requests, busy) = (instruments.sent()?, thread.time()?);
        let (counts, drops) = (Counts::read(network)?, Drops::read(network)?);
        let ping = PING.run(network)?;
        Ok(Sight {
            ping,
            requests: instruments.sent()? - requests,
            elapsed: begin.elapsed(),
            busy: thread.time()? - busy,
            counts: Counts::read(network)?.since(&counts),
            drops: Drops::read(network)?.since(&drops),
        })
    })?;
    thread.stop(network)?;
    instruments.pass_on_client(network)?;
    Ok(sight)
}
