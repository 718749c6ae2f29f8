//! The data path's kernel build: loaded for real, fed with frames by BPF_PROG_TEST_RUN, attached to nothing.

use std::{
    fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use aya::programs::{TestRun as _, TestRunOptions};
use icmp_common::{
    Plain as _,
    counters::Counters,
    events::{Event, Told},
};
use icmp_ebpf::Verdict;
use icmp_userspace::{
    kernel::{
        load::{Program, Taps},
        ring::{Next, Ring},
    },
    observe::{counters, rules::Counts, told},
    policy::compile::Tables,
};

use crate::{
    host::Outcome,
    icmpctl,
    netns::{Bpffs, run},
};

/// Shortest frame that a test run takes: an Ethernet header (`bpf_test_init` in `net/bpf/test_run.c`).
pub const SHORTEST: usize = 14;
/// Longest frame that a test run puts into one buffer, as drivers do: what is left of a page behind headroom (256 bytes) and
/// tailroom (320). What is longer lies in several.
pub const ONE_BUFFER: usize = 4096 - 256 - 320;

/// A program in the kernel.
pub struct Loaded {
    program: Program,
    counters: Counters,
}

impl Loaded {
    /// Loads the program with a policy's tables.
    #[must_use]
    pub fn new(tables: &Tables) -> Self {
        let object = fs::read(icmpctl::object()).unwrap();
        let log = tempfile::NamedTempFile::new().unwrap();
        let program = match Program::load(&object, tables, &[], None, &Taps::NONE, log.path()) {
            Ok(program) => program,
            Err(error) => {
                // The verifier says last what it refuses.
                let text = fs::read_to_string(log.path()).unwrap_or_default();
                let lines: Vec<_> = text.lines().collect();
                panic!("{error}\n{}", lines[lines.len().saturating_sub(20)..].join("\n"));
            }
        };
        Self { program, counters: Counters::ZERO }
    }

    /// The instructions that the verifier has left, as bpftool lists them.
    pub fn listing(&mut self) -> String {
        let id = self.program.id().unwrap().to_string();
        run(Command::new("bpftool").args(["prog", "dump", "xlated", "id", &id]))
    }

    /// How many instructions the verifier has walked before it took the program.
    pub fn verified_instructions(&mut self) -> u32 {
        let info = self.program.xdp().unwrap().info().unwrap();
        info.verified_instruction_count().expect("Linux 5.16 and later say so")
    }

    /// Takes a frame through it, as if it came from the loopback interface of the current network namespace.
    pub fn run(&mut self, frame: &[u8]) -> Outcome {
        self.run_with(frame, None)
    }

    /// Takes a frame through it, as if it came from an interface; that must have an XDP program in native mode.
    pub fn run_from(&mut self, interface: u32, frame: &[u8]) -> Outcome {
        // `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let context = [0, frame.len() as u32, 0, interface, 0, 0].map(u32::to_ne_bytes);
        self.run_with(frame, Some(context.as_flattened()))
    }

    /// What has been counted.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How many packets each rule has decided about.
    #[must_use]
    pub fn rules(&self) -> Counts {
        let bpffs = Bpffs::new();
        let pin = bpffs.path().join("rules");
        self.program.pin("RULES", &pin).unwrap();
        Counts::read_pinned(&pin).unwrap()
    }

    /// The events that it has told since this was asked last.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        let bpffs = Bpffs::new();
        let pin = bpffs.path().join("events");
        self.program.pin("EVENTS", &pin).unwrap();
        let mut ring = Ring::open(&pin, true).unwrap();
        let (mut events, mut record) = (Vec::new(), Vec::new());
        loop {
            match ring.next(&mut record) {
                Next::Record => {
                    let words: Vec<_> =
                        record.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
                    events.push(*Event::at(&words, 0).unwrap());
                }
                Next::Nothing => return events,
                Next::Missed(bytes) => panic!("{bytes} bytes missed"),
            }
        }
    }

    /// What has become of all events.
    #[must_use]
    pub fn told(&self) -> Told {
        let bpffs = Bpffs::new();
        let pin = bpffs.path().join("telling");
        self.program.pin("TELLING", &pin).unwrap();
        told::Counts::open(&pin).and_then(|counts| counts.events()).unwrap()
    }

    /// Takes a frame, which it passes or drops, through it over and over, on several threads for some time.
    pub fn run_on_threads(&mut self, threads: usize, time: Duration, frame: &[u8]) {
        let program = &*self.program.xdp().unwrap();
        let begin = Instant::now();
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(move || {
                    while begin.elapsed() < time {
                        let options =
                            TestRunOptions { data_in: Some(frame), repeat: 1 << 18, ..TestRunOptions::new() };
                        let _ = program.test_run(options).unwrap();
                    }
                });
            }
        });
    }

    fn run_with(&mut self, frame: &[u8], context: Option<&[u8]>) -> Outcome {
        // An error about a frame may be longer than the frame.
        let mut bytes = vec![0; frame.len() + 64];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut bytes),
            ctx_in: context,
            ..TestRunOptions::new()
        };
        let result = self.program.xdp().unwrap().test_run(options).unwrap();
        bytes.truncate(result.data_size_out as usize);
        // `enum xdp_action`.
        let verdicts = match result.return_value {
            1 => [Verdict::Deny, Verdict::Limit, Verdict::Malformed],
            2 => [Verdict::Pass; 3],
            3 => [Verdict::Answer, Verdict::Reject, Verdict::Reject],
            other => panic!("XDP action {other}: {frame:02x?}"),
        };
        let after = counters::read(self.program.counters().unwrap()).unwrap();
        let mut outcome = Outcome::new(verdicts[0], &self.counters, &after, bytes);
        // Two verdicts look the same from outside; which it was, the reason says.
        let counted = outcome.counted.map(|(_, reason)| reason.verdict());
        outcome.verdict =
            verdicts.into_iter().find(|verdict| counted == Some(*verdict)).unwrap_or(verdicts[0]);
        self.counters = after;
        outcome
    }
}
