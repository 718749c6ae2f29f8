//! `cargo xtask bench`: what a packet costs in each program, by test runs in the kernel; what one costs from end to end,
//! beside nftables; and what a change of policy costs.
//!
//! The speed of a shared machine drifts by a third, ratios taken side by side hold to a few percent. So every
//! figure is a comparison within a few milliseconds: with an empty program, and with the least that a program
//! which answers has to do.

mod control;
mod end_to_end;
mod only;
mod packets;
mod policies;
mod report;
mod samples;

use std::{
    io::{Write as _, stdout},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::{
    Setup,
    cargo::Warnings,
    ebpf,
    lab::{interrupt::Interrupted, network::Network},
    say::{Progress, step},
    toolchain, tools,
    userspace::{self, Build},
    world,
};
use only::Only;
use report::Report;

/// What `cargo xtask bench` understands.
#[derive(Args)]
pub(crate) struct Bench {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Take fewer samples
    #[arg(long)]
    quick: bool,
    /// Measure only what has this text in its name
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
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
    let report = measure(bench)?;
    let page = report.write_page()?;
    let text = if bench.json { format!("{:#}\n", report.json()) } else { report.to_string() };
    stdout().write_all(text.as_bytes()).context("printing the report")?;
    step(&format!("for a browser: {}", page.display()));
    Ok(())
}

impl Bench {
    fn effort(&self) -> Effort {
        let (loads, rounds, changes, floods) = if self.quick { (5, 5, 2, 2) } else { (9, 21, 7, 7) };
        Effort { loads, rounds, changes, floods, chunk: Duration::from_millis(2) }
    }
}

/// Measures what is wanted. Everything happens in a world that goes with this process, however that ends.
fn measure(bench: &Bench) -> Result<Report> {
    let (effort, only) = (bench.effort(), Only(bench.only.clone()));
    let wants = |names: &[String]| names.iter().any(|name| only.wants(name));
    let packets = wants(&packets::names()?);
    let floods = wants(&end_to_end::names());
    let control = wants(&control::names());
    ensure!(
        packets || floods || control,
        "no case has {:?} in its name",
        bench.only.as_deref().unwrap_or_default()
    );
    tools::ensure(bench.setup)?;
    if bench.with_peers {
        tools::ensure_peers(bench.setup)?;
    }
    let objects = ebpf::build(&toolchain::ensure(bench.setup)?, Warnings::Show)?;
    let built =
        (floods || control).then(|| userspace::both_halves(&Build { release: true, setup: bench.setup }));
    world::enter()?;
    packets::seclude()?;
    let mut report = Report::new(effort);
    let mut progress = Progress::new("measuring");
    if let Some(built) = built.transpose()? {
        // Nobody has to listen for the end: what the network consists of goes with the world.
        let network = Network::make(&built.icmpctl, &Interrupted::default(), end_to_end::cores())?;
        report.control = control::measure(&network, &built.objects, effort.changes, &only, &mut progress)?;
        report.end_to_end =
            end_to_end::measure(&network, &built.objects, effort.floods, &only, &mut progress)?;
        network.remove()?;
    }
    progress.leave();
    if packets {
        packets::settle()?;
        report.packets = Some(packets::measure(&objects, effort, &only)?);
    }
    Ok(report)
}
