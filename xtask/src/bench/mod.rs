//! `cargo xtask bench`: what a packet costs in each program, by test runs in the kernel; what one costs from end to end,
//! beside nftables; and what a change of policy costs.
//!
//! The speed of a shared machine drifts by a third, ratios taken side by side hold to a few percent. So every
//! figure is a comparison within a few milliseconds: with an empty program, and with the least that a program
//! which answers has to do.

mod baseline;
mod control;
mod end_to_end;
mod only;
mod packets;
mod policies;
mod report;
mod samples;

use std::{
    io::{Write as _, stdout},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use crate::{
    Setup,
    cargo::Warnings,
    ebpf::{self, Objects},
    lab::{interrupt::Interrupted, network::Network},
    say::{Progress, step},
    toolchain, tools,
    userspace::{self, Build, Built},
    world,
};
use baseline::{Baseline, Scope};
use only::Only;
use report::{Machine, Report, document};

/// What `cargo xtask bench` understands.
#[derive(Args)]
pub(crate) struct Bench {
    /// Print JSON
    #[arg(long, conflicts_with = "check")]
    json: bool,
    /// Take fewer samples
    #[arg(long)]
    quick: bool,
    /// Measure only what has this text in its name
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Say what has become slower than tests/bench-baseline.json has it, and fail if anything has: ratios alone, those that are out
    /// measured twice; on another machine than that file's, and with --quick, only what carries over from one to another
    #[arg(long)]
    check: bool,
    /// Write what was measured to tests/bench-baseline.json and docs/performance.md
    #[arg(long, conflicts_with_all = ["check", "only"])]
    bless: bool,
    /// Install from Debian what else there is for such work, and measure it, too: xdp-filter, and iptables for its hashlimit
    #[arg(long)]
    with_peers: bool,
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
    /// How often each change is made.
    changes: usize,
    /// How often everybody faces each flood.
    floods: usize,
    /// Time that one program takes in one round.
    chunk: Duration,
}

/// Builds both halves and times them.
pub(crate) fn run(bench: &Bench) -> Result<()> {
    world::can_run_privileged()
        .context("timing programs in the kernel takes root; run this as root, for example with sudo")?;
    tools::ensure(bench.setup)?;
    if bench.with_peers {
        tools::ensure_peers(bench.setup)?;
    }
    let only = bench.only.clone().map_or(Only::All, Only::With);
    if bench.check {
        return check(bench, &only);
    }
    let stage = Stage::new(bench, &only)?;
    let report = stage.measure(bench.effort(), &only)?;
    let text = if bench.json { format!("{:#}\n", report.json()) } else { report.to_string() };
    stdout().write_all(text.as_bytes()).context("printing the report")?;
    step(&format!("for a browser: {}", report.write_page()?.display()));
    if bench.bless {
        baseline::write(&report)?;
        document::write(&report)?;
    }
    Ok(())
}

/// Compares with the baseline.
fn check(bench: &Bench, only: &Only) -> Result<()> {
    let baseline = Baseline::read()?;
    let scope = if bench.quick { Scope::CarriesOver } else { baseline.scope_on(&Machine::here()) };
    if scope == Scope::CarriesOver && !bench.quick {
        step("this is another machine than the baseline's: what does not carry over is left out");
    }
    let only = match (scope, only) {
        (Scope::CarriesOver, Only::With(_)) => {
            bail!("--only needs the machine of the baseline, and no --quick")
        }
        (Scope::CarriesOver, _) => Only::These(baseline::related()),
        (Scope::All, Only::All) => {
            Only::These([packets::names()?, end_to_end::names_on(end_to_end::cores())].concat())
        }
        (Scope::All, only) => only.clone(),
    };
    let stage = Stage::new(bench, &only)?;
    let (mut worse, compared) = baseline.compare(&stage.measure(bench.effort(), &only)?, scope);
    if !worse.is_empty() {
        step(&format!("measuring again what is worse than in the baseline: {}", worse.len()));
        let again = Only::These(worse.iter().flat_map(|worse| worse.of.clone()).collect());
        let (twice, _) = baseline.compare(&stage.measure(bench.effort(), &again)?, scope);
        worse =
            twice.into_iter().filter(|again| worse.iter().any(|worse| worse.name == again.name)).collect();
    }
    ensure!(compared > 0, "nothing was compared: the baseline has none of these cases");
    if worse.is_empty() {
        let what = if scope == Scope::All { "" } else { " that carry over from one machine to another" };
        println!("None of {compared} ratios{what} is worse than tests/bench-baseline.json allows.");
        return Ok(());
    }
    let worse: Vec<_> = worse.iter().map(ToString::to_string).collect();
    bail!("worse than tests/bench-baseline.json allows, twice:\n  {}", worse.join("\n  "))
}

impl Bench {
    fn effort(&self) -> Effort {
        let (loads, rounds, changes, floods) = if self.quick { (5, 5, 2, 2) } else { (7, 15, 5, 5) };
        Effort { loads, rounds, changes, floods, chunk: Duration::from_millis(2) }
    }
}

/// Where everything happens: a world that goes with this process, however that ends.
struct Stage {
    objects: Objects,
    /// icmpctl, if it is needed.
    icmpctl: Option<PathBuf>,
}

impl Stage {
    /// Builds what is needed for what is wanted, and enters it.
    fn new(bench: &Bench, only: &Only) -> Result<Self> {
        let needs_icmpctl = only.wants_any(&live_names());
        ensure!(
            needs_icmpctl || only.wants_any(&packets::names()?),
            "no case has {:?} in its name",
            bench.only.as_deref().unwrap_or_default()
        );
        let (objects, icmpctl) = if needs_icmpctl {
            let Built { objects, icmpctl } =
                userspace::both_halves(&Build { release: true, debug_log: false, setup: bench.setup })?;
            (objects, Some(icmpctl))
        } else {
            (ebpf::build(&toolchain::ensure(bench.setup)?, ebpf::Half::Plain, Warnings::Show)?, None)
        };
        world::enter()?;
        packets::seclude()?;
        Ok(Self { objects, icmpctl })
    }

    /// Measures what is wanted.
    fn measure(&self, effort: Effort, only: &Only) -> Result<Report> {
        let mut report = Report::new(effort);
        if let Some(icmpctl) = self.icmpctl.as_ref().filter(|_| only.wants_any(&live_names())) {
            let mut progress = Progress::new("measuring end to end, and the control plane");
            // Nobody has to listen for the end: what the network consists of goes with the world.
            let network = Network::make(icmpctl, &Interrupted::default(), end_to_end::cores())?;
            report.control = control::measure(&network, &self.objects, effort.changes, only, &mut progress)?;
            report.end_to_end =
                end_to_end::measure(&network, &self.objects, effort.floods, only, &mut progress)?;
            network.remove()?;
            progress.leave();
        }
        if only.wants_any(&packets::names()?) {
            report.packets = Some(packets::measure(&self.objects, effort, only)?);
        }
        Ok(report)
    }
}

/// The names of everything that takes icmpctl itself and a network.
fn live_names() -> Vec<String> {
    [end_to_end::names_on(end_to_end::cores()), control::names()].concat()
}
