//! One load of every program, and the measuring of a case in it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aya::programs::ProgramFd;
use icmp_userspace::kernel::load::Program;

use super::{
    bed::{Bed, Sources},
    cases::{self, Case, Expected, Subject},
    packet::SourceFields,
    samples::{Figures, Round},
};
use crate::cargo::workspace;

/// What XDP programs return, by number (`enum xdp_action` of `linux/bpf.h`).
const ACTIONS: [&str; 5] = ["XDP_ABORTED", "XDP_DROP", "XDP_PASS", "XDP_TX", "XDP_REDIRECT"];

/// The object files.
pub(super) struct Programs {
    /// The data path.
    pub(super) icmpctl: Vec<u8>,
    /// The instruments.
    pub(super) instruments: Vec<u8>,
}

/// One load of every program.
pub(super) struct Load {
    ipv4: Bed,
    ipv6: Bed,
    /// Without many sources, to compare frames; and its programs are under test where those of the others are
    /// the references.
    single: Bed,
    verifying: Program,
    not_verifying: Program,
}

impl Load {
    /// Loads everything anew.
    pub(super) fn new(programs: &Programs, sources: u32) -> Result<Self> {
        let bed = |count, fields| Bed::new(&programs.instruments, Sources { count, fields });
        let icmpctl = |verify| -> Result<Program> {
            let log = workspace().join("target/ebpf/verifier.log");
            let tables = cases::tables(verify)?;
            Program::load(&programs.icmpctl, &tables, &[], &log).context("loading the data path")
        };
        Ok(Self {
            ipv4: bed(sources, SourceFields::IPV4)?,
            ipv6: bed(sources, SourceFields::IPV6)?,
            single: bed(1, SourceFields::IPV4)?,
            verifying: icmpctl(true)?,
            not_verifying: icmpctl(false)?,
        })
    }

    /// Checks a case, then times it in so many rounds, in which each program runs for as long as `chunk`.
    pub(super) fn measure(&mut self, case: &Case, rounds: usize, chunk: Duration) -> Result<Figures> {
        let program = match case.subject {
            Subject::Empty => self.single.empty.try_clone()?,
            Subject::MacSwap => self.single.swap.try_clone()?,
            Subject::Icmpctl { verify: true } => self.verifying.xdp()?.fd()?.try_clone()?,
            Subject::Icmpctl { verify: false } => self.not_verifying.xdp()?.fd()?.try_clone()?,
        };
        let action = check(&mut self.single, &program, case)?;
        let bed = if case.packet.is_v4() { &mut self.ipv4 } else { &mut self.ipv6 };
        bed.set_frame(case.packet.encode()?)?;
        let same = bed.try_once(&program)?.0 == action;
        ensure!(same, "the program does something else with a packet from another source");
        let link = bed.attach()?;
        let (empty, swap) = (bed.empty.try_clone()?, bed.swap.try_clone()?);
        let empties = bed.packets_in(chunk, &empty)?;
        let swaps = bed.packets_in(chunk, &swap)?;
        let packets = bed.packets_in(chunk, &program)?;
        let mut figures = Vec::new();
        for _ in 0..rounds {
            let before = (bed.time(&empty, empties)?, bed.time(&swap, swaps)?);
            let program = bed.time(&program, packets)?;
            let after = (bed.time(&swap, swaps)?, bed.time(&empty, empties)?);
            figures.push(Round { empty: [before.0, after.1], swap: [before.1, after.0], program });
        }
        bed.detach(link)?;
        Ok(Figures::of(&figures))
    }
}

/// Makes sure that what is timed is what the case says: a packet that takes another way would give figures, too.
/// Gives the number of the program's action.
fn check(bed: &mut Bed, program: &ProgramFd, case: &Case) -> Result<u32> {
    bed.set_frame(case.packet.encode()?)?;
    let (number, frame) = bed.try_once(program)?;
    let action = ACTIONS.get(number as usize).copied().unwrap_or("an unknown action");
    let (expected_action, expected) = match case.expected()? {
        Expected::Pass => ("XDP_PASS", case.packet.encode()?),
        Expected::Send(frame) => ("XDP_TX", frame),
    };
    let hint = "`cargo xtask test` may tell what is wrong with it";
    ensure!(action == expected_action, "the program returned {action} instead of {expected_action}; {hint}");
    ensure!(frame == expected, "the program returned {action} with another frame than expected; {hint}");
    Ok(number)
}
