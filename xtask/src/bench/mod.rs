//! `cargo xtask bench`: what a packet costs in each program, by test runs in the kernel.
//!
//! The speed of a shared machine drifts by a third, ratios taken side by side hold to a few percent. So nothing
//! is reported that was not compared within a few milliseconds: with an empty program, and with the least
//! that a program which answers has to do.

mod bed;
mod cases;
mod packet;
mod report;
mod samples;

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use aya::programs::ProgramFd;
use clap::Args;
use icmp_userspace::kernel::load::Program;

use crate::{
    Setup,
    cargo::{Warnings, workspace},
    ebpf::{self, Objects},
    say::Progress,
    toolchain, world,
};
use bed::{Bed, Sources};
use cases::{Case, Expected, Subject};
use report::{Line, Report, is_steady};
use samples::{Figures, Round};

/// XDP's verdicts, as test runs report them.
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;

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
    /// Rounds of each load.
    rounds: usize,
    /// Time of one program in one round.
    chunk: Duration,
}

/// Builds the kernel half and times it.
pub(crate) fn run(bench: &Bench) -> Result<()> {
    world::can_run_privileged()
        .context("timing programs in the kernel takes root; run this as root, for example with sudo")?;
    let objects = ebpf::build(&toolchain::ensure(bench.setup)?, Warnings::Show)?;
    bed::seclude()?;
    let bytes =
        |path: &std::path::Path| fs::read(path).with_context(|| format!("reading {}", path.display()));
    let Objects { icmpctl, instruments } = objects;
    let programs = Programs { icmpctl: bytes(&icmpctl)?, instruments: bytes(&instruments)? };
    let report = measure(&programs, bench)?;
    if bench.json {
        println!("{:#}", report.json());
    } else {
        print!("{report}");
    }
    Ok(())
}

/// A number of sources that `enter` can walk over.
fn sources(text: &str) -> Result<u32, String> {
    let most = 1 << 24;
    match text.parse() {
        Ok(count) if u32::is_power_of_two(count) && count <= most => Ok(count),
        _ => Err(format!("a power of two up to {most} is expected")),
    }
}

fn measure(programs: &Programs, bench: &Bench) -> Result<Report> {
    let (loads, rounds) = if bench.quick { (5, 5) } else { (9, 15) };
    // With many sources a round has to be long enough to come by most of them.
    let chunk = Duration::from_millis(if bench.sources > 1 { 8 } else { 2 });
    let effort = Effort { loads, rounds, chunk };
    let cases = Case::all()?;
    let mut progress = Progress::new("measuring");
    let mut lines = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        progress.show(&format!("{} of {}: {}", number + 1, cases.len(), case.name));
        let measure = || {
            case_result(programs, case, effort, bench.sources)
                .with_context(|| format!("measuring {}", case.name))
        };
        let mut result = measure()?;
        if !is_steady(&result, bench.sources) {
            let again = measure()?;
            if again.deviation() < result.deviation() {
                result = again;
            }
        }
        lines.push(Line { name: case.name.clone(), result, goal: case.goal });
    }
    progress.leave();
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    Ok(Report { lines, loads, rounds, sources: bench.sources, kernel })
}

/// The object files.
struct Programs {
    icmpctl: Vec<u8>,
    instruments: Vec<u8>,
}

fn case_result(programs: &Programs, case: &Case, effort: Effort, sources: u32) -> Result<samples::Result> {
    let loads = (0..effort.loads).map(|_| load_figures(programs, case, effort, sources));
    Ok(samples::Result::of_loads(&loads.collect::<Result<Vec<_>>>()?))
}

/// Loads everything anew and measures.
fn load_figures(programs: &Programs, case: &Case, effort: Effort, sources: u32) -> Result<Figures> {
    let sources = Sources { count: sources, fields: case.packet.source_fields() };
    let mut bed = Bed::new(&programs.instruments, case.packet.encode()?, sources)?;
    // What holds the program under test while it is measured.
    let (instrument, icmpctl);
    let program = match case.subject {
        Subject::Empty | Subject::MacSwap => {
            let name = if case.subject == Subject::Empty { "pass" } else { "mac_swap" };
            instrument = bed::instrument(&programs.instruments, name)?;
            &instrument.1
        }
        Subject::Icmpctl { verify } => {
            let log = workspace().join("target/ebpf/verifier.log");
            let mut loaded = Program::load(&programs.icmpctl, &cases::tables(verify)?, None, &log)?;
            icmpctl = (loaded.xdp()?.fd()?.try_clone()?, loaded);
            &icmpctl.0
        }
    };
    check(&mut bed, program, case, sources.count)?;
    let [empty, swap] = [bed.empty.try_clone()?, bed.swap.try_clone()?];
    let repeats = [&empty, &swap, program].map(|program| bed.packets_in(effort.chunk, program));
    let [empties, swaps, packets] = repeats;
    let (empties, swaps, packets) = (empties?, swaps?, packets?);
    let mut rounds = Vec::new();
    for _ in 0..effort.rounds {
        let before = [bed.time(&empty, empties)?, bed.time(&swap, swaps)?];
        let program = bed.time(program, packets)?;
        let after = [bed.time(&swap, swaps)?, bed.time(&empty, empties)?];
        rounds.push(Round { empty: [before[0], after[1]], swap: [before[1], after[0]], program });
    }
    Ok(Figures::of_rounds(&rounds))
}

/// Makes sure that what is timed is what the case says: a packet that takes another way would give figures, too.
fn check(bed: &mut Bed, program: &ProgramFd, case: &Case, sources: u32) -> Result<()> {
    let (action, frame) = bed.try_once(program)?;
    let (expected_action, expected) = match case.expected()? {
        Expected::Pass => (XDP_PASS, case.packet.encode()?),
        Expected::Send(frame) => (XDP_TX, frame),
    };
    ensure!(
        action == expected_action,
        "the program's verdict is {action} where {expected_action} is expected: is the data path broken? \
         `cargo xtask test` tells more"
    );
    // With many sources the reply goes to another one each time.
    ensure!(
        sources > 1 || frame == expected,
        "the program made another frame of it than expected: is the data path broken? `cargo xtask test` tells more"
    );
    Ok(())
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
