//! What a packet costs from end to end, under a limit to each source: through the lab's veth pair, behind icmpctl and behind nftables.
//!
//! Generator, server and the counting of replies share one core, and all their time counts. Over its limit a packet is dropped by
//! both; within, it is answered: by icmpctl itself, behind nftables by the kernel's stack.

use std::{fmt, time::Duration};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::samples::Spread;
use crate::{
    ebpf::Objects,
    lab::{
        counts::{Counts, Drops},
        flood::{Crowd, Flood, Instruments, Source},
        network::Network,
        nftables,
    },
    say::Progress,
};

/// How many times as much a packet must cost behind nftables.
const TIMES: f64 = 4.0;
/// Requests of a round, after one from each source.
const REQUESTS: u32 = 1 << 20;
/// Most of them that veth may drop before anybody has seen them, and how often a round is tried.
const MOST_DROPPED: u64 = REQUESTS as u64 / 100;
const TRIES: usize = 4;

/// A flood, under one limit in two ways.
struct Case {
    name: &'static str,
    sources: u32,
    rule: &'static str,
    rate: &'static str,
}

const CASES: [Case; 4] = [
    over("over the limit, 8,192 sources", 1 << 13),
    over("over the limit, a million sources", 1 << 20),
    within("within the limit, 8,192 sources", 1 << 13),
    within("within the limit, a million sources", 1 << 20),
];

const fn over(name: &'static str, sources: u32) -> Case {
    Case {
        name,
        sources,
        rule: "limit 1/h burst 1 per source icmp any any echo",
        rate: "1/hour burst 1 packets",
    }
}

const fn within(name: &'static str, sources: u32) -> Case {
    let rule = "limit 1000000/s per source icmp any any echo";
    Case { name, sources, rule, rate: "1000000/second burst 1000000 packets" }
}

/// What a flood came to in one round.
#[derive(Clone, Copy)]
struct Round {
    /// Nanoseconds a request.
    each: f64,
    /// Part of the requests that was answered.
    answered: f64,
}

/// What a flood came to in all rounds.
pub(super) struct Line {
    what: &'static str,
    ours: Spread,
    nftables: Spread,
    /// Times of the two in one round.
    ratio: Spread,
    /// The most of the requests that was answered by icmpctl's side and by nftables' side in a round.
    answered: [f64; 2],
}

/// Floods both, in turn.
pub(super) fn measure(
    network: &Network,
    objects: &Objects,
    rounds: usize,
    progress: &mut Progress,
) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for case in CASES {
        let crowd = Crowd { sources: case.sources, heavy: 0, gap: Duration::ZERO };
        let mut instruments = Instruments::load(objects, Some(crowd))?;
        instruments.pass_on_client(network)?;
        let mut pairs = Vec::new();
        for number in 1..=rounds {
            progress.show(&format!("end to end, round {number} of {rounds}: {}", case.name));
            pairs.push([case.ours(&mut instruments, network)?, case.nftables(&mut instruments, network)?]);
        }
        lines.push(Line::new(case.name, &pairs));
    }
    Ok(lines)
}

impl Case {
    fn ours(&self, instruments: &mut Instruments, network: &Network) -> Result<Round> {
        let Self { sources, rule, .. } = self;
        // Room for twice as many, as in nftables' set: in a smaller table buckets give way to one another, and their sources are let
        // through.
        let buckets = (2 * sources).max(1 << 17);
        let tables = format!("[acl]\nrules = \"{rule}\"\n[limits]\nbuckets = {buckets}\n");
        network.attach()?;
        network.apply(&network.with("limit.toml", &tables)?)?;
        let before = Counts::read(network)?;
        let round = self.flood(instruments, network)?;
        let stack = Counts::read(network)?.since(&before).stack;
        ensure!(stack == 0, "behind icmpctl the kernel's stack answered {stack} requests");
        network.detach()?;
        Ok(round)
    }

    fn nftables(&self, instruments: &mut Instruments, network: &Network) -> Result<Round> {
        instruments.pass_on_server(network)?;
        let limit = nftables::Limit::set(network, self.rate, 2 * self.sources)?;
        let round = self.flood(instruments, network)?;
        limit.remove(network)?;
        network.clear_server()?;
        Ok(round)
    }

    fn flood(&self, instruments: &mut Instruments, network: &Network) -> Result<Round> {
        let source = instruments.prepare(network, Flood::Ipv4)?;
        // Each source is known from then on, and has had what it may have at once.
        instruments.round(network, &source, self.sources)?;
        let (mut round, mut dropped) = self.round(instruments, network, &source)?;
        for _ in 1..TRIES {
            if dropped <= MOST_DROPPED {
                break;
            }
            (round, dropped) = self.round(instruments, network, &source)?;
        }
        ensure!(
            dropped <= MOST_DROPPED,
            "veth dropped {dropped} of {REQUESTS} requests before anybody saw them, and nearly as many in {TRIES} tries: something \
             else keeps this machine busy; measure again when it is quiet"
        );
        instruments.pass_on_client(network)?;
        Ok(round)
    }

    /// One round, and how many of its requests veth has dropped because nobody took them in.
    fn round(
        &self,
        instruments: &mut Instruments,
        network: &Network,
        source: &Source,
    ) -> Result<(Round, u64)> {
        let before = Drops::read(network)?;
        let (replies, time) = instruments.round(network, source, REQUESTS)?;
        let dropped = Drops::read(network)?.since(&before).requests;
        let requests = f64::from(REQUESTS);
        let round = Round { each: time.as_secs_f64() * 1e9 / requests, answered: replies as f64 / requests };
        Ok((round, dropped))
    }
}

impl Line {
    fn new(what: &'static str, rounds: &[[Round; 2]]) -> Self {
        let each = |which: usize| Spread::of(rounds.iter().map(move |round| round[which].each));
        let answered = |which: usize| rounds.iter().map(|round| round[which].answered).fold(0.0, f64::max);
        Self {
            what,
            ours: each(0),
            nftables: each(1),
            ratio: Spread::of(rounds.iter().map(|[ours, nftables]| nftables.each / ours.each)),
            answered: [answered(0), answered(1)],
        }
    }

    fn is_met(&self) -> bool {
        self.ratio.median >= TIMES
    }

    /// As JSON.
    pub(super) fn json(&self) -> Value {
        json!({
            "flood": self.what,
            "icmpctl_ns": self.ours.json(),
            "nftables_ns": self.nftables.json(),
            "answered": { "icmpctl": self.answered[0], "nftables": self.answered[1] },
            "ratio": self.ratio.json(),
            "goal": { "ratio": TIMES, "met": self.is_met() },
        })
    }
}

/// The lines as a table.
pub(super) struct Listing<'a>(pub(super) &'a [Line]);

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = "END TO END, A LIMIT TO EACH SOURCE";
        let width = self.0.iter().map(|line| line.what.len()).fold(head.len(), usize::max);
        writeln!(
            f,
            "{:<width$} {:>7} {:>8} {:>8} {:>8} {:>6} {:>12}  GOAL",
            head, "ICMPCTL", "ANSWERED", "NFTABLES", "ANSWERED", "RATIO", "SPREAD"
        )?;
        for line in self.0 {
            let Line { what, ours, nftables, ratio, answered } = line;
            let [by_us, by_stack] = answered.map(|part| format!("{:.1} %", part * 100.0));
            let spread = format!("{:.2}..{:.2}", ratio.least, ratio.most);
            let met = if line.is_met() { "met" } else { "MISSED" };
            writeln!(
                f,
                "{what:<width$} {:>7.0} {by_us:>8} {:>8.0} {by_stack:>8} {:>5.1}x {spread:>12}  at least {TIMES} times: {met}",
                ours.median, nftables.median, ratio.median
            )?;
        }
        writeln!(
            f,
            "\nICMPCTL, NFTABLES: nanoseconds of one core a request, with making it, taking it in, and counting the reply."
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_goal_is_about_the_ratio_of_each_round() {
        let round = |each, answered| Round { each, answered };
        let line = |nftables: f64| {
            let pair = [round(100.0, 0.5), round(nftables, 0.0)];
            Line::new("flood", &[pair, pair, [round(100.0, 0.25), round(100.0, 0.0)]])
        };
        assert!(line(400.0).is_met());
        assert!(!line(399.0).is_met());
        let text = Listing(&[line(400.0), line(399.0)]).to_string();
        assert!(
            text.contains("50.0 %      400    0.0 %   4.0x   1.00..4.00  at least 4 times: met"),
            "{text}"
        );
        assert!(text.contains("MISSED"), "{text}");
    }
}
