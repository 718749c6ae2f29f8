//! One load of every program, and the measuring of a case in it.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use aya::programs::ProgramFd;
use icmp_userspace::{
    kernel::load::{Program, Taps},
    policy::compile::Tables,
};

use super::{
    bed::{Bed, Sources},
    cases::{self, Case, Expected},
    packet::SourceFields,
    policies::Subject,
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
pub(super) struct Load<'a> {
    objects: &'a Programs,
    tables: &'a BTreeMap<Subject, Tables>,
    /// Sources of the cases that do not say otherwise, minus one.
    sources: u32,
    /// By family (whether IPv4) and by the bits of the source that change.
    beds: BTreeMap<(bool, u32), Bed>,
    /// Without many sources, to compare frames; and its programs are under test where those of the others are
    /// the references.
    single: Bed,
    loaded: BTreeMap<Subject, Program>,
}

impl<'a> Load<'a> {
    /// Loads everything anew, as far as it is measured.
    pub(super) fn new(
        objects: &'a Programs,
        tables: &'a BTreeMap<Subject, Tables>,
        sources: u32,
    ) -> Result<Self> {
        let single = Bed::new(&objects.instruments, Sources { mask: 0, fields: SourceFields::IPV4 })?;
        Ok(Self {
            objects,
            tables,
            sources: sources - 1,
            beds: BTreeMap::new(),
            single,
            loaded: BTreeMap::new(),
        })
    }

    /// The program of a case.
    fn program(&mut self, case: &Case) -> Result<ProgramFd> {
        let subject = match case.program {
            cases::Program::Empty => return Ok(self.single.empty.try_clone()?),
            cases::Program::MacSwap => return Ok(self.single.swap.try_clone()?),
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
                    &Taps::NONE,
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
        check(&mut self.single, &program, case)?;
        let mask = case.sources.unwrap_or(self.sources);
        let v4 = case.packet.is_v4();
        let fields = if v4 { SourceFields::IPV4 } else { SourceFields::IPV6 };
        let bed = match self.beds.entry((v4, mask)) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                entry.insert(Bed::new(&self.objects.instruments, Sources { mask, fields })?)
            }
        };
        // With many sources it takes longer to come by a good part of them.
        let chunk = if mask == 0 { chunk } else { chunk * 4 };
        bed.set_frame(case.packet.encode()?)?;
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
    bed.set_frame(case.packet.encode()?)?;
    let (number, frame) = bed.try_once(program)?;
    let action = ACTIONS.get(number as usize).copied().unwrap_or("an unknown action");
    let (expected_action, expected) = match case.expected()? {
        Expected::Pass => ("XDP_PASS", case.packet.encode()?),
        Expected::Drop => ("XDP_DROP", case.packet.encode()?),
        Expected::Send(frame) => ("XDP_TX", frame),
    };
    let hint = "`cargo xtask test` may tell what is wrong with it";
    ensure!(action == expected_action, "the program returned {action} instead of {expected_action}; {hint}");
    ensure!(frame == expected, "the program returned {action} with another frame than expected; {hint}");
    Ok(())
}
