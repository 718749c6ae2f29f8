//! What can be typed, and the way from there to the verbs.

mod apply;
mod attach;
mod capture;
mod confirm;
mod detach;
mod doctor;
mod events;
mod explain;
mod guardian;
mod install;
mod metrics;
mod outlive;
mod output;
mod policy;
mod progress;
mod run;
mod set;
mod settings;
mod signals;
mod source;
mod stats;
mod status;
mod tap;
mod top;
#[cfg(feature = "debug-log")]
mod trace;

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use icmp_userspace::{
    kernel::{self, attach::Places},
    policy::{compile::TooLarge, file::FileError, slots::TooMany},
};

/// The kernel half, as it was built.
#[cfg(not(feature = "debug-log"))]
static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/ebpf/icmpctl.o"));
/// The same, which logs each step.
#[cfg(feature = "debug-log")]
static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/ebpf/debug-log/icmpctl.o"));

/// Answers pings and filters ICMP inside the network driver, and shows what it does.
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
    /// The directory for what pins can't hold; what is attached already stays with its own
    #[arg(long, global = true, value_name = "DIR", default_value = kernel::state::STATE)]
    state: PathBuf,
}

#[derive(Subcommand)]
enum Verb {
    /// Attach to an interface, stay, follow its addresses; detach on Ctrl-C
    Run(run::Arguments),
    /// Attach to an interface and end; the program goes on
    Attach(attach::Arguments),
    /// Detach from an interface
    Detach(detach::Arguments),
    /// Put another policy in place; no packet is lost, and counters go on
    Apply(apply::Arguments),
    /// Keep a policy that was put in place with --confirm
    Confirm(confirm::Arguments),
    /// Change the dynamic sets of the policy in place
    Set(set::Arguments),
    /// Show where the program is attached, and how
    Status(status::Arguments),
    /// Show what became of the packets, and why
    Stats(stats::Arguments),
    /// Watch what becomes of packets on a full screen: by verdict, rule, type, source and destination
    Top(top::Arguments),
    /// Show packets as they come and as their answers leave, and what was decided about them
    Capture(capture::Arguments),
    /// Show what rules with `log` tell of packets
    Events(events::Arguments),
    /// Say what becomes of a packet, and why; nothing is counted and nothing sent
    Explain(explain::Arguments),
    /// Say what this kernel and its interfaces can do, and what that means
    Doctor(doctor::Arguments),
    /// Check policy files, show what they mean, make one from a router's configuration
    Policy(policy::Arguments),
    #[command(hide = true)]
    Guardian(guardian::Arguments),
    #[command(hide = true)]
    TapGuardian(tap::Arguments),
}

/// Something was typed that means nothing, which only showed when all of it was known.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// Exit status where something was typed that means nothing.
const USAGE_ERROR: u8 = 2;
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
    if error.downcast_ref::<Usage>().is_some() {
        return ExitCode::from(USAGE_ERROR);
    }
    let invalid = matches!(error.downcast_ref(), Some(FileError::Invalid(_)));
    let too_large = error.downcast_ref::<TooLarge>().is_some() || error.downcast_ref::<TooMany>().is_some();
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
        let places = Places { bpffs: arguments.place.bpffs, state: arguments.place.state };
        let places = &places;
        match &arguments.verb {
            Verb::Run(arguments) => arguments.run(places).await,
            Verb::Attach(arguments) => arguments.run(places).await,
            Verb::Detach(arguments) => arguments.run(places).await,
            Verb::Apply(arguments) => arguments.run(places).await,
            Verb::Confirm(arguments) => arguments.run(places).await,
            Verb::Set(arguments) => arguments.run(places).await,
            Verb::Status(arguments) => arguments.run(places).await,
            Verb::Stats(arguments) => arguments.run(places).await,
            Verb::Top(arguments) => arguments.run(places).await,
            Verb::Capture(arguments) => arguments.run(places).await,
            Verb::Events(arguments) => arguments.run(places).await,
            Verb::Explain(arguments) => arguments.run(places).await,
            Verb::Doctor(arguments) => arguments.run(places).await,
            Verb::Policy(arguments) => arguments.run(),
            Verb::Guardian(arguments) => arguments.run(places).await,
            Verb::TapGuardian(arguments) => arguments.run(places).await,
        }
    })
}
