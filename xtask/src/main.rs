//! `cargo xtask`: one command for each errand. This file only says which file runs which.

mod apt;
mod bench;
mod cargo;
mod dashboard;
mod ebpf;
mod kernels;
mod lab;
mod lint;
mod run;
mod sanitizer;
mod say;
mod screenshot;
mod test;
mod toolchain;
mod tools;
mod userspace;
mod world;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

/// Sets up, builds, runs, lints and tests icmpctl.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    errand: Errand,
}

#[derive(Subcommand)]
enum Errand {
    /// Install what building and testing need and this machine lacks
    Setup(Setup),
    /// Build both halves
    Build(userspace::Build),
    /// Show icmpctl at work in a lab of network namespaces, or run it on an interface
    Run(run::Run),
    /// Time the packet path
    Bench(bench::Bench),
    /// Check format, lints and documentation, with warnings denied
    Lint(Setup),
    /// Build both halves and run every test, here and under other kernels
    Test(test::Test),
    /// Draw docs/dashboard.svg anew: the dashboard, with what the lab makes it show
    Dashboard(Setup),
    /// Draw docs/top.svg anew: `icmpctl top` in a terminal, with the lab's traffic
    Screenshot(Setup),
    /// What runs in a kernel that `test` has booted
    #[command(hide = true)]
    Guest,
}

/// What every errand that may have to install something understands.
#[derive(Args, Clone, Copy)]
pub(crate) struct Setup {
    /// Install nothing; if something is missing, say what, and how to get it
    #[arg(long)]
    no_install: bool,
}

fn main() -> ExitCode {
    match perform(Cli::parse().errand) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The chain of what was being done; a backtrace of xtask would help nobody.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(errand: Errand) -> Result<()> {
    match errand {
        Errand::Setup(setup) => {
            toolchain::ensure(setup)?;
            tools::ensure_for_tests(setup)?;
            kernels::set_up(setup)
        }
        Errand::Build(build) => userspace::both_halves(&build).map(drop),
        Errand::Run(run) => run::run(&run),
        Errand::Bench(bench) => bench::run(&bench),
        Errand::Lint(setup) => lint::all(setup),
        Errand::Test(test) => test::all(&test),
        Errand::Dashboard(setup) => dashboard::draw(setup),
        Errand::Screenshot(setup) => screenshot::draw(setup),
        Errand::Guest => kernels::guest::run(),
    }
}
