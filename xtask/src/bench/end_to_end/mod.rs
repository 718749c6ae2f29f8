//! What a packet costs from end to end: through the lab's veth pair, behind icmpctl and behind what else there is, in turn.
//!
//! Generator, server and the counting of what comes back share one core, and all their time counts.

mod contestants;
mod races;

use std::{fmt, fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use rustix::mount::{MountFlags, mount};
use serde_json::{Value, json};

use super::{
    only::Only,
    samples::{Spread, tolerance},
};
use crate::{
    ebpf::Objects,
    lab::{
        counts::Drops,
        flood::{Crowd, Flood, Instruments, Round, Source},
        network::Network,
    },
    say::Progress,
};
use races::{Race, Task, Who};

/// Where programs look for the BPF file system.
const BPFFS: &str = "/sys/fs/bpf";
/// Requests by which one's time is guessed.
const GUESS: u32 = 1 << 15;
/// How long one faces a flood in a round, and most requests of it.
const LONG: Duration = Duration::from_millis(200);
const MOST: u32 = 1 << 20;
/// How often a round is tried if veth drops more than a hundredth of the requests before anybody has seen them.
const TRIES: usize = 4;
/// Most that the ratio of one round may be away from the median of all, as a part of it, where one source sends.
pub(super) const TOLERANCE: f64 = 0.1;
/// Cores that send at most.
pub(super) const CORES: usize = 2;

/// What it came to for one of them in one round.
#[derive(Clone, Copy)]
struct Cost {
    /// Nanoseconds of a core for each request.
    each: f64,
    /// Part of the requests that something came back for.
    answered: f64,
}

/// What somebody who faces a flood is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// icmpctl in the driver.
    Native,
    /// icmpctl behind the driver.
    Generic,
    /// The least that an XDP program has to do.
    Floor,
    /// What a user would pick instead.
    Peer,
}

/// What it came to for one of them.
pub(super) struct Entrant {
    /// Who.
    pub(super) name: &'static str,
    /// What that is.
    pub(super) kind: Kind,
    /// What it came to, or why he was not there.
    pub(super) outcome: Result<Outcome, String>,
}

/// What it came to in all rounds.
pub(super) struct Outcome {
    /// Nanoseconds of a core for each request.
    pub(super) each: Spread,
    /// Times what it costs the first one, in the same round.
    pub(super) ratio: Spread,
    /// Part of the requests that something came back for, in the worst round.
    pub(super) answered: f64,
    /// Times as much as it has to cost.
    pub(super) goal: Option<f64>,
    /// How far the ratio of a round may be away from the median, as a part of it.
    tolerance: f64,
}

/// What a flood came to.
pub(super) struct Line {
    /// The flood.
    pub(super) name: String,
    /// How many cores sent it.
    cores: usize,
    /// Whether it came from so many sources that caches miss.
    pub(super) many: bool,
    /// All who faced it.
    pub(super) entrants: Vec<Entrant>,
}

/// The names of all floods on a machine with so many cores.
pub(super) fn names_on(cores: usize) -> Vec<String> {
    races::all(cores).into_iter().map(|race| race.name).collect()
}

/// Cores that can send at once.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(CORES)
}

/// Floods all of them, in turn.
pub(super) fn measure(
    network: &Network,
    objects: &Objects,
    rounds: usize,
    only: &Only,
    progress: &mut Progress,
) -> Result<Vec<Line>> {
    // What others pin there goes with this process, too.
    fs::create_dir_all(BPFFS).with_context(|| format!("making {BPFFS}"))?;
    mount("bpf", BPFFS, "bpf", MountFlags::empty(), None)
        .with_context(|| format!("mounting a BPF file system on {BPFFS}"))?;
    let mut lines = Vec::new();
    for race in races::all(cores()).into_iter().filter(|race| only.wants(&race.name)) {
        let crowd = Crowd { sources: race.sources, heavy: 0, gap: Duration::ZERO };
        let mut instruments = Instruments::load(objects, Some(crowd))?;
        instruments.pass_on_client(network)?;
        let mut all: Vec<_> =
            race.all.iter().map(|who| (*who, who.is_there().map(|()| Vec::new()))).collect();
        for number in 1..=rounds {
            for (who, costs) in &mut all {
                let Ok(so_far) = costs else { continue };
                let name = who.name(race.task);
                progress.show(&format!("{}, round {number} of {rounds}: {name}", race.name));
                let cost = face(*who, &race, network, &mut instruments);
                match cost.with_context(|| format!("{}: {name}", race.name))? {
                    Ok(cost) => so_far.push(cost),
                    Err(reason) => *costs = Err(reason),
                }
            }
        }
        lines.push(Line::new(&race, &all));
    }
    Ok(lines)
}

/// Puts somebody in place, floods him, and takes him away. The inner error says why a peer can't be there.
fn face(
    who: Who,
    race: &Race,
    network: &Network,
    instruments: &mut Instruments,
) -> Result<Result<Cost, String>> {
    let in_place = match who.put(race, network, instruments) {
        Ok(in_place) => in_place,
        // This kernel may lack what he needs.
        Err(error) if who.kind() == Kind::Peer => {
            who.remove_rest(network);
            return Ok(Err(format!("{error:#}").lines().next().unwrap_or_default().to_owned()));
        }
        Err(error) => return Err(error),
    };
    let source = instruments.prepare(network, Flood::Ipv4)?;
    let flood = |requests| round(instruments, network, &source, requests, race.cores);
    // Each source is known from then on, and has had what it may have at once.
    let first = flood(GUESS.max(race.sources * race.cores as u32))?;
    let requests = (LONG.as_nanos() as f64 / first.each) as u32 * race.cores as u32;
    let cost = flood(requests.clamp(GUESS, MOST).max(race.sources.min(MOST)))?;
    instruments.pass_on_client(network)?;
    in_place.remove(network)?;
    let as_it_should = match race.task {
        Task::Echo | Task::Within | Task::Reject => cost.answered >= 0.99,
        Task::Drop | Task::DropBySet(_) => cost.answered <= 0.01,
        // Of a million buckets, some give way to others.
        Task::Over => cost.answered <= 0.1,
    };
    ensure!(
        as_it_should || !matches!(who.kind(), Kind::Native | Kind::Generic),
        "of the requests {:.1} % were answered; `cargo xtask test` may tell what is wrong with it",
        cost.answered * 100.0
    );
    Ok(Ok(cost))
}

/// One round without many drops by veth.
fn round(
    instruments: &Instruments,
    network: &Network,
    source: &Source,
    requests: u32,
    cores: usize,
) -> Result<Cost> {
    let mut dropped = 0;
    for _ in 0..TRIES {
        let before = Drops::read(network)?;
        let Round { requests, replies, errors, time } =
            instruments.round(network, source, requests, cores)?;
        dropped = Drops::read(network)?.since(&before).requests;
        let part = |count: u64| count as f64 / requests as f64;
        if part(dropped) <= 0.01 {
            let each = time.as_secs_f64() * 1e9 / requests as f64;
            return Ok(Cost { each, answered: part(replies + errors) });
        }
    }
    anyhow::bail!(
        "veth dropped {dropped} of {requests} requests before anybody saw them, and nearly as many in {TRIES} tries: something \
         else keeps this machine busy; measure again when it is quiet"
    )
}

impl Line {
    /// `all` are those who faced it, the first of whom is ours, with their costs round by round.
    fn new(race: &Race, all: &[(Who, Result<Vec<Cost>, String>)]) -> Self {
        let ours = all.first().and_then(|(_, costs)| costs.as_ref().ok()).map_or(&[][..], Vec::as_slice);
        let outcome = |who: Who, costs: &Vec<Cost>| Outcome {
            each: Spread::of(costs.iter().map(|cost| cost.each)),
            ratio: Spread::of(costs.iter().zip(ours).map(|(cost, ours)| cost.each / ours.each)),
            answered: costs.iter().map(|cost| cost.answered).fold(0.0, f64::max),
            goal: race.goal.filter(|(whom, _)| *whom == who).map(|(_, times)| times),
            tolerance: if race.sources > 1 { tolerance(true) } else { TOLERANCE },
        };
        let entrants = all.iter().map(|(who, costs)| Entrant {
            name: who.name(race.task),
            kind: who.kind(),
            outcome: costs.as_ref().map(|costs| outcome(*who, costs)).map_err(Clone::clone),
        });
        let entrants = entrants.collect();
        Self { name: race.name.clone(), cores: race.cores, many: race.sources > 1, entrants }
    }

    /// As JSON.
    pub(super) fn json(&self) -> Value {
        let entrants = self.entrants.iter().map(|Entrant { name, outcome, .. }| match outcome {
            Ok(outcome) => json!({
                "name": name,
                "ns": outcome.each.json(),
                "ratio": outcome.ratio.json(),
                "answered": outcome.answered,
                "steady": outcome.is_steady(),
                "goal": outcome.goal.map(|times| json!({ "ratio": times, "met": outcome.is_met() })),
            }),
            Err(reason) => json!({ "name": name, "not_measured": reason }),
        });
        json!({ "flood": self.name, "cores": self.cores, "entrants": entrants.collect::<Vec<_>>() })
    }
}

impl Outcome {
    /// Whether the goal is met, if there is one.
    pub(super) fn is_met(&self) -> Option<bool> {
        self.goal.map(|times| self.ratio.median >= times)
    }

    /// Whether its ratio can be believed.
    pub(super) fn is_steady(&self) -> bool {
        self.ratio.deviation() <= self.tolerance
    }
}

/// The lines as a table.
pub(super) struct Listing<'a>(pub(super) &'a [Line]);

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|line| line.name.len()).fold(24, usize::max);
        writeln!(
            f,
            "{:<width$} {:>7} {:>13} {:>7} {:>12} {:>8}  GOAL",
            "END TO END", "NS", "SPREAD", "RATIO", "SPREAD", "ANSWERED"
        )?;
        for line in self.0 {
            writeln!(f, "{}", line.name)?;
            for Entrant { name, outcome, .. } in &line.entrants {
                let outcome = match outcome {
                    Ok(outcome) => outcome,
                    Err(reason) => {
                        writeln!(f, "  {name:<width$} not measured: {reason}", width = width - 2)?;
                        continue;
                    }
                };
                let Outcome { each, ratio, answered, goal, .. } = outcome;
                let goal = goal.map(|times| {
                    let met = if outcome.is_met() == Some(true) { "met" } else { "MISSED" };
                    format!("at least {times} times: {met}")
                });
                let unsteady = if outcome.is_steady() { "" } else { " (unsteady)" };
                let row = format!(
                    "  {name:<width$} {:>7.0} {:>13} {:>6.2}x {:>12} {:>6.1} %  {}{unsteady}",
                    each.median,
                    format!("{:.0}..{:.0}", each.least, each.most),
                    ratio.median,
                    format!("{:.2}..{:.2}", ratio.least, ratio.most),
                    answered * 100.0,
                    goal.unwrap_or_default(),
                    width = width - 2
                );
                writeln!(f, "{}", row.trim_end())?;
            }
        }
        writeln!(
            f,
            "\nNS: nanoseconds of a core for each request, with making it, taking it in, and counting what comes back.\n\
             RATIO: times what it costs the first of those who faced the same flood, in the same round."
        )?;
        let outcomes =
            self.0.iter().flat_map(|line| &line.entrants).filter_map(|entrant| entrant.outcome.as_ref().ok());
        if outcomes.into_iter().any(|outcome| !outcome.is_steady()) {
            writeln!(
                f,
                "(unsteady): the ratio of one round was more than {:.0} % away from the median (with many sources {:.0} %): something \
                 else keeps this machine busy.",
                TOLERANCE * 100.0,
                tolerance(true) * 100.0
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(nftables: f64) -> Line {
        let goal = Some((Who::Nftables, 4.0));
        let race =
            Race { name: "flood".to_owned(), task: Task::Over, sources: 1, cores: 1, all: Vec::new(), goal };
        let cost = |each, answered| Cost { each, answered };
        let ours = vec![cost(100.0, 0.5), cost(100.0, 0.25), cost(100.0, 0.25)];
        let theirs = vec![cost(nftables, 0.0), cost(nftables, 0.0), cost(100.0, 0.0)];
        let missing = (Who::Hashlimit, Err("there is no iptables".to_owned()));
        Line::new(&race, &[(Who::Native, Ok(ours)), (Who::Nftables, Ok(theirs)), missing])
    }

    #[test]
    fn the_goal_is_about_the_ratio_of_each_round() {
        let met = |line: &Line| line.entrants[1].outcome.as_ref().unwrap().is_met();
        assert_eq!(met(&line(400.0)), Some(true));
        assert_eq!(met(&line(399.0)), Some(false));
        let text = Listing(&[line(400.0), line(399.0)]).to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[2], "  icmpctl, native            100      100..100   1.00x   1.00..1.00   50.0 %");
        assert_eq!(
            lines[3],
            "  nftables                   400      100..400   4.00x   1.00..4.00    0.0 %  at least 4 times: met (unsteady)"
        );
        assert!(text.contains("MISSED"), "{text}");
    }

    #[test]
    fn who_is_missing_is_said_to_be() {
        let text = Listing(&[line(400.0)]).to_string();
        let row = text.lines().find(|row| row.contains("hashlimit")).unwrap();
        assert!(row.ends_with(" not measured: there is no iptables"), "{row}");
    }
}
