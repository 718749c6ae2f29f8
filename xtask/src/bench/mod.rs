//! `cargo xtask bench`: what a packet costs in each program, by test runs in the kernel; what one costs from end to end,
//! beside nftables; and what a change of policy costs.
//!
//! The speed of a shared machine drifts by a third, ratios taken side by side hold to a few percent. So every
//! figure is a comparison within a few milliseconds: with an empty program, and with the least that a program
//! which answers has to do.

mod bed;
mod cases;
mod changes;
mod end_to_end;
mod load;
mod packet;
mod policies;
mod report;
mod samples;

use std::{
    collections::BTreeMap,
    fs,
    io::{Write as _, stdout},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::Args;
use icmp_userspace::policy::compile::Tables;

use crate::{
    Setup,
    ebpf::Objects,
    lab::{interrupt::Interrupted, network::Network},
    say::Progress,
    tools,
    userspace::{self, Build, Built},
    world,
};
use cases::Case;
use load::{Load, Programs};
use policies::Subject;
use report::{Line, Report, is_steady};
use samples::{Figures, Summary, fastest_empty};

/// What `cargo xtask bench` understands.
#[derive(Args)]
pub(crate) struct Bench {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Take fewer samples
    #[arg(long)]
    quick: bool,
    /// Let packets come from this many sources, in an order without pattern: a power of two
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = sources)]
    sources: u32,
    #[command(flatten)]
    setup: Setup,
}

/// How much is measured.
#[derive(Clone, Copy)]
struct Effort {
    /// Loads of each program: each places the machine code elsewhere, which alone makes 1 to 3 percent.
    loads: usize,
    /// Rounds of each case in each load.
    rounds: usize,
    /// How often each change of policy is made, and each flood from end to end.
    changes: usize,
    /// Time that one program takes in one round.
    chunk: Duration,
    /// Sources of the packets.
    sources: u32,
}

/// Builds both halves and times them.
pub(crate) fn run(bench: &Bench) -> Result<()> {
    world::can_run_privileged()
        .context("timing programs in the kernel takes root; run this as root, for example with sudo")?;
    let build = Build { release: true, debug_log: false, setup: bench.setup };
    let built = userspace::both_halves(&build)?;
    let Built { objects: Objects { icmpctl, instruments }, .. } = &built;
    tools::ensure(bench.setup)?;
    let bytes = |path: &Path| fs::read(path).with_context(|| format!("reading {}", path.display()));
    let programs = Programs { icmpctl: bytes(icmpctl)?, instruments: bytes(instruments)? };
    world::enter()?;
    bed::seclude()?;
    let report = measure(&programs, &built, bench.effort())?;
    let text = if bench.json { format!("{:#}\n", report.json()) } else { report.to_string() };
    stdout().write_all(text.as_bytes()).context("printing the report")
}

impl Bench {
    fn effort(&self) -> Effort {
        let (loads, rounds, changes) = if self.quick { (5, 7, 3) } else { (9, 21, 7) };
        Effort { loads, rounds, changes, chunk: Duration::from_millis(2), sources: self.sources }
    }
}

/// A number of sources that `enter` can walk over.
fn sources(text: &str) -> Result<u32, String> {
    let most = 1 << 24;
    match text.parse() {
        Ok(count) if u32::is_power_of_two(count) && count <= most => Ok(count),
        _ => Err(format!("a power of two up to {most} is expected")),
    }
}

fn measure(programs: &Programs, built: &Built, effort: Effort) -> Result<Report> {
    let cases = Case::all()?;
    let mut progress = Progress::new("measuring");
    // Nobody has to listen for the end: what the network consists of goes with the world.
    let network = Network::make(&built.icmpctl, &Interrupted::default())?;
    let changes = changes::measure(&network, effort.changes, &mut progress)?;
    let end_to_end = end_to_end::measure(&network, &built.objects, effort.changes, &mut progress)?;
    network.remove()?;
    bed::settle()?;
    let mut tables = BTreeMap::new();
    for case in &cases {
        if let cases::Program::Icmpctl(subject) = case.program
            && !tables.contains_key(&subject)
        {
            progress.show(&format!("compiling a policy of {} rules", subject.rules));
            tables.insert(subject, subject.tables()?);
        }
    }
    let all: Vec<_> = cases.iter().collect();
    let mut loads = measure_loads(programs, &tables, &all, effort, &mut progress)?;
    // What was disturbed gets one more chance; of how fast the machine is, both tell.
    let ratio = |loads: &[Figures]| Summary::of(loads, 1.0).ratio;
    let many = |case: &Case| case.sources.unwrap_or(effort.sources - 1) != 0;
    let is_disturbed = |case: &usize| !is_steady(&ratio(&loads[*case]), many(&cases[*case]));
    let disturbed: Vec<_> = (0..cases.len()).filter(is_disturbed).collect();
    let mut empty = fastest_empty(&loads);
    if !disturbed.is_empty() {
        let again: Vec<_> = disturbed.iter().map(|case| &cases[*case]).collect();
        let again = measure_loads(programs, &tables, &again, effort, &mut progress)?;
        empty = empty.min(fastest_empty(&again));
        for (case, again) in disturbed.into_iter().zip(again) {
            if ratio(&again).deviation() < ratio(&loads[case]).deviation() {
                loads[case] = again;
            }
        }
    }
    progress.leave();
    let lines = cases.into_iter().zip(&loads).map(|(case, loads)| Line {
        many: many(&case),
        name: case.name,
        summary: Summary::of(loads, empty),
        goal: case.goal,
    });
    Ok(Report {
        lines: lines.collect(),
        changes,
        end_to_end,
        loads: effort.loads,
        rounds: effort.rounds,
        sources: effort.sources,
        empty,
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
    })
}

/// Measures every case in every load. A load goes through all cases, so that what disturbs the machine for a
/// while hits one load of each and not all loads of one.
fn measure_loads(
    programs: &Programs,
    tables: &BTreeMap<Subject, Tables>,
    cases: &[&Case],
    effort: Effort,
    progress: &mut Progress,
) -> Result<Vec<Vec<Figures>>> {
    let mut loads = vec![Vec::new(); cases.len()];
    for number in 1..=effort.loads {
        let mut load = Load::new(programs, tables, effort.sources)?;
        for (case, loads) in cases.iter().zip(&mut loads) {
            progress.show(&format!("load {number} of {}: {}", effort.loads, case.name));
            let figures = load.measure(case, effort.rounds, effort.chunk);
            loads.push(figures.with_context(|| format!("measuring {}", case.name))?);
        }
    }
    Ok(loads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_a_power_of_two() {
        assert_eq!(sources("1"), Ok(1));
        assert_eq!(sources("1048576"), Ok(1 << 20));
        for wrong in ["0", "3", "33554432", "-1", "many"] {
            assert!(sources(wrong).is_err(), "{wrong}");
        }
    }
}
