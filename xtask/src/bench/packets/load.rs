//! One load of every program, and the measuring of a case in it.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use aya::programs::ProgramFd;
use icmp_userspace::{kernel::load::Program, policy::compile::Tables};

use super::{
    super::{
        policies::Subject,
        samples::{Figures, Round},
    },
    bed::{Bed, Settings},
    cases::{self, Case, Fate},
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

/// How long a case may take to get where it has to be: buckets have to be emptied, and bans take a second.
const PREPARATION: Duration = Duration::from_secs(5);

/// One load of every program.
pub(super) struct Load<'a> {
    objects: &'a Programs,
    tables: &'a BTreeMap<Subject, Tables>,
    beds: BTreeMap<Settings, Bed>,
    /// With one source, to compare frames; and its programs are under test where those of the others are the references.
    plain: Bed,
    loaded: BTreeMap<Subject, Program>,
}

impl<'a> Load<'a> {
    /// Loads everything anew, as far as it is measured.
    pub(super) fn new(objects: &'a Programs, tables: &'a BTreeMap<Subject, Tables>) -> Result<Self> {
        let plain = Bed::new(&objects.instruments, Settings::PLAIN)?;
        Ok(Self { objects, tables, beds: BTreeMap::new(), plain, loaded: BTreeMap::new() })
    }

    /// The program of a case.
    fn program(&mut self, case: &Case) -> Result<ProgramFd> {
        let subject = match case.program {
            cases::Program::Empty => return Ok(self.plain.empty.try_clone()?),
            cases::Program::MacSwap => return Ok(self.plain.swap.try_clone()?),
            cases::Program::MinimalEcho => return Ok(self.plain.minimal_echo.try_clone()?),
            cases::Program::Grow => return Ok(self.plain.grow.try_clone()?),
            cases::Program::Icmpctl(subject) => subject,
        };
        let program = match self.loaded.entry(subject) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let log = workspace().join("target/ebpf/verifier.log");
                let program = Program::load(
                    &self.objects.icmpctl,
                    &self.tables[&subject],
                    &[],
                    None,
                    &subject.taps()?,
                    &log,
                );
                entry.insert(program.context("loading the data path")?)
            }
        };
        Ok(program.xdp()?.fd()?.try_clone()?)
    }

    /// Checks a case, then times it in so many rounds, in which each program runs for as long as `chunk`, or for longer if
    /// packets come from many sources.
    pub(super) fn measure(&mut self, case: &Case, rounds: usize, chunk: Duration) -> Result<Figures> {
        let program = self.program(case)?;
        check(&mut self.plain, &program, case)?;
        let frame = case.packet.encode()?;
        let length = if case.grows() { frame.len() as u32 } else { 0 };
        let settings = Settings { mask: case.mask, fields: case.fields, length };
        let bed = match self.beds.entry(settings) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Bed::new(&self.objects.instruments, settings)?),
        };
        // With many sources it takes longer to come by a good part of them.
        let chunk = if case.many() { chunk * 4 } else { chunk };
        bed.set_frame(frame)?;
        ensure!(bed.try_once(&program)?.0 != 0, "the program aborts a packet from another source");
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
fn check(bed: &mut Bed, program: &ProgramFd, case: &Case) -> Result<()> {
    let (expected_action, expected) = case.expected()?;
    bed.set_frame(case.packet.encode()?)?;
    let begin = Instant::now();
    let (action, frame) = loop {
        let (number, frame) = bed.try_once(program)?;
        let action = ACTIONS.get(number as usize).copied().unwrap_or("an unknown action");
        let may_come = case.fate == Fate::Dropped && begin.elapsed() < PREPARATION;
        if action == expected_action || !may_come {
            break (action, frame);
        }
    };
    let hint = "`cargo xtask test` may tell what is wrong with it";
    ensure!(action == expected_action, "the program returned {action} instead of {expected_action}; {hint}");
    ensure!(
        expected.is_none_or(|expected| frame == expected),
        "the program returned {action} with another frame than expected; {hint}"
    );
    Ok(())
}
