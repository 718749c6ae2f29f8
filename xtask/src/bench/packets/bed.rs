//! The test bed: one load of the instruments, in a network namespace that nobody else sees.
//!
//! A test run that repeats does not restore the packet, so a responder would meet its own reply from the second
//! round on. The program `enter` writes the request anew each time and calls the program under test.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, MapData, ProgramArray},
    programs::{
        ProgramFd, TestRun as _, TestRunOptions, Xdp,
        xdp::{XdpLinkId, XdpMode},
    },
};
use rustix::{
    thread::{CpuSet, UnshareFlags, sched_getaffinity, sched_setaffinity},
    time::{ClockId, clock_gettime},
};

use super::frames::SourceFields;

/// Bytes that `enter` writes; `Template` in `icmp-ebpf/src/instruments.rs`.
pub(super) const TEMPLATE: usize = 70;
/// The loopback interface's index, in every network namespace.
const LOOPBACK: u32 = 1;
/// Packets by which a program's time is guessed before it is measured.
const GUESS: u32 = 4096;

/// `XDP_ABORTED`: what `enter` returns if it could not call the program under test.
const XDP_ABORTED: u32 = 0;

/// Moves this thread into a network namespace of its own, which goes when the process ends, however it ends. Call it while there
/// is only one thread.
pub(in crate::bench) fn seclude() -> Result<()> {
    #[expect(deprecated, reason = "only unsafe for UnshareFlags::FILES, which is not asked for here")]
    rustix::thread::unshare(UnshareFlags::NEWNET).context("making a network namespace")
}

/// Moves this thread to one CPU; returns those on which it may have been.
pub(super) fn settle() -> Result<CpuSet> {
    let allowed = sched_getaffinity(None).context("asking for the CPUs that we may use")?;
    // The last one: the first one has more interrupts to serve.
    let last = (0..CpuSet::MAX_CPU).rev().find(|cpu| allowed.is_set(*cpu));
    let mut one = CpuSet::new();
    one.set(last.context("asking for the CPUs that we may use: there are none")?);
    sched_setaffinity(None, &one).context("moving to one CPU")?;
    Ok(allowed)
}

/// What is set when the instruments are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Settings {
    /// Bits of the last four bytes of the source address that change.
    pub(super) mask: u32,
    /// Where these stand in the frame.
    pub(super) fields: SourceFields,
    /// Length of the frame if programs put something before it, else 0.
    pub(super) length: u32,
}

impl Settings {
    /// One source, and nobody changes a frame's length.
    pub(super) const PLAIN: Self = Self { mask: 0, fields: SourceFields::IPV4, length: 0 };
}

/// Loads the instruments' maps and settings.
fn load(instruments: &[u8], settings: Settings) -> Result<Ebpf> {
    EbpfLoader::new()
        .btf(None)
        .override_global("SOURCES_MASK", &settings.mask, true)
        .override_global("SOURCE_AT", &settings.fields.source, true)
        .override_global("CHECKSUM_AT", &settings.fields.checksum, true)
        .override_global("LENGTH", &settings.length, true)
        .load(instruments)
        .context("loading the instruments")
}

fn load_program(object: &mut Ebpf, name: &str) -> Result<ProgramFd> {
    let program = object.program_mut(name).with_context(|| format!("the instruments have no {name}"))?;
    let program: &mut Xdp = program.try_into()?;
    program.load().with_context(|| format!("loading the instrument {name}"))?;
    Ok(program.fd()?.try_clone()?)
}

/// One load of the instruments, for the packets of one family.
pub(super) struct Bed {
    object: Ebpf,
    called: ProgramArray<MapData>,
    template: Array<MapData, [u8; TEMPLATE]>,
    frame: Vec<u8>,
    /// The empty program.
    pub(super) empty: ProgramFd,
    /// The MAC swap.
    pub(super) swap: ProgramFd,
    /// The minimal echo.
    pub(super) minimal_echo: ProgramFd,
    /// What makes room for an error.
    pub(super) grow: ProgramFd,
}

impl Bed {
    /// Loads the instruments anew.
    pub(super) fn new(instruments: &[u8], settings: Settings) -> Result<Self> {
        let mut object = load(instruments, settings)?;
        let empty = load_program(&mut object, "pass")?;
        let swap = load_program(&mut object, "mac_swap")?;
        let minimal_echo = load_program(&mut object, "minimal_echo")?;
        let grow = load_program(&mut object, "grow")?;
        load_program(&mut object, "enter")?;
        let called = object.take_map("PROGRAMS").context("the instruments have no map PROGRAMS")?;
        let template = object.take_map("TEMPLATE").context("the instruments have no map TEMPLATE")?;
        let (called, template) = (called.try_into()?, template.try_into()?);
        Ok(Self { object, called, template, frame: Vec::new(), empty, swap, minimal_echo, grow })
    }

    /// Attaches `enter`, so that times are those of packets alone: the kernel rewrites its XDP dispatcher at each
    /// repeating test run of a program that is attached nowhere, which takes as long as thousands of packets.
    pub(super) fn attach(&mut self) -> Result<XdpLinkId> {
        let attached = self.enter_mut()?.attach_to_if_index(LOOPBACK, XdpMode::Skb);
        attached.context("attaching to the loopback interface of a network namespace of our own")
    }

    /// Makes room for another bed.
    pub(super) fn detach(&mut self, link: XdpLinkId) -> Result<()> {
        self.enter_mut()?.detach(link).context("detaching from the loopback interface")
    }

    /// From now on, programs get this frame.
    pub(super) fn set_frame(&mut self, frame: Vec<u8>) -> Result<()> {
        let begin: &[u8; TEMPLATE] = frame.first_chunk().context("the frame is shorter than the template")?;
        self.template.set(0, begin, 0).context("writing the template")?;
        self.frame = frame;
        Ok(())
    }

    /// What a program makes of the frame, called through `enter`: its action, and the frame.
    pub(super) fn try_once(&mut self, program: &ProgramFd) -> Result<(u32, Vec<u8>)> {
        self.call(program)?;
        let mut frame = vec![0; self.frame.len() + 256];
        let outcome = self.enter()?.test_run(TestRunOptions {
            data_in: Some(&self.frame),
            data_out: Some(&mut frame),
            ..TestRunOptions::new()
        })?;
        frame.truncate(outcome.data_size_out as usize);
        Ok((outcome.return_value, frame))
    }

    /// How many packets a program takes in `time`.
    pub(super) fn packets_in(&mut self, time: Duration, program: &ProgramFd) -> Result<u32> {
        // Twice, because the first one finds cold caches.
        let mut each = 0.0;
        for _ in 0..2 {
            each = self.time(program, GUESS)?;
        }
        ensure!(each > 0.0, "the clock of this thread stands still");
        Ok(((time.as_nanos() as f64 / each) as u32).max(GUESS))
    }

    /// Nanoseconds a packet that a program takes, with what `enter` and the kernel's loop take.
    pub(super) fn time(&mut self, program: &ProgramFd, packets: u32) -> Result<f64> {
        self.call(program)?;
        let begin = clock_gettime(ClockId::ThreadCPUTime);
        let outcome = self.enter()?.test_run(TestRunOptions {
            data_in: Some(&self.frame),
            repeat: packets,
            ..TestRunOptions::new()
        })?;
        let end = clock_gettime(ClockId::ThreadCPUTime);
        if outcome.return_value == XDP_ABORTED {
            bail!("the program under test was not called");
        }
        let seconds = (end.tv_sec - begin.tv_sec) as f64;
        Ok((seconds * 1e9 + (end.tv_nsec - begin.tv_nsec) as f64) / f64::from(packets))
    }

    /// Makes `enter` call a program.
    fn call(&mut self, program: &ProgramFd) -> Result<()> {
        self.called.set(0, program, 0).context("giving enter the program under test")
    }

    fn enter_mut(&mut self) -> Result<&mut Xdp> {
        Ok(self.object.program_mut("enter").context("the instruments have no enter")?.try_into()?)
    }

    fn enter(&self) -> Result<&Xdp> {
        Ok(self.object.program("enter").context("the instruments have no enter")?.try_into()?)
    }
}
