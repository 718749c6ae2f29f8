//! What can be typed, and the way from there to the verbs.

mod attach;
mod detach;
mod output;
mod policy;
mod run;
mod settings;
mod stats;
mod status;

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use icmp_userspace::{
    kernel,
    policy::{compile::TooLarge, file::FileError},
};

/// The kernel half, as it was built.
static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/ebpf/icmpctl.o"));

/// Answers pings inside the network driver, and shows what it does.
#[derive(Parser)]
#[command(name = "icmpctl", version, max_term_width = 100)]
struct Arguments {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    verb: Verb,
}

/// Where to work.
#[derive(clap::Args)]
struct Place {
    /// Work in this network namespace (as `ip netns` names it)
    #[arg(long, global = true, value_name = "NAME")]
    netns: Option<String>,
    /// The BPF file system for pins
    #[arg(long, global = true, value_name = "PATH", default_value = kernel::pins::BPFFS)]
    bpffs: PathBuf,
}

#[derive(Subcommand)]
enum Verb {
    /// Attach to an interface, stay, follow its addresses; detach on Ctrl-C
    Run(run::Arguments),
    /// Attach to an interface and end; the program goes on
    Attach(attach::Arguments),
    /// Detach from an interface
    Detach(detach::Arguments),
    /// Show where the program is attached, and how
    Status(status::Arguments),
    /// Show what became of the packets, and why
    Stats(stats::Arguments),
    /// Check policy files, show what they mean, make one from a router's configuration
    Policy(policy::Arguments),
}

/// Exit status where a policy has errors.
const POLICY_ERROR: u8 = 3;

/// Runs the command line; the exit status is 0 done, 1 failed, 2 usage, 3 the policy has errors.
pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

fn report(error: &anyhow::Error) -> ExitCode {
    // A reader that went away (`icmpctl stats | head`) wants no more words.
    if error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    {
        return ExitCode::SUCCESS;
    }
    let _ = writeln!(std::io::stderr(), "icmpctl: {error:#}");
    let invalid = matches!(error.downcast_ref(), Some(FileError::Invalid(_)));
    let too_large = error.downcast_ref::<TooLarge>().is_some();
    if invalid || too_large { ExitCode::from(POLICY_ERROR) } else { ExitCode::FAILURE }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    // Before any thread is started: a network namespace is a thread's own.
    if let Some(name) = &arguments.place.netns {
        kernel::namespace::enter(name)?;
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(async {
        let bpffs = &arguments.place.bpffs;
        match &arguments.verb {
            Verb::Run(arguments) => arguments.run(bpffs).await,
            Verb::Attach(arguments) => arguments.run(bpffs).await,
            Verb::Detach(arguments) => arguments.run(bpffs).await,
            Verb::Status(arguments) => arguments.run(bpffs).await,
            Verb::Stats(arguments) => arguments.run(bpffs).await,
            Verb::Policy(arguments) => arguments.run(),
        }
    })
}
