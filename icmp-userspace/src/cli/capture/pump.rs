//! From the ring buffer to the output, until it is told to stop, or has got enough, or there is nothing more to come.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    thread::sleep,
    time::Duration,
};

use anyhow::{Context as _, bail};
use icmp_common::{
    Plain as _,
    events::{self, CAPTURE},
};
use icmp_userspace::{
    kernel::{
        attach::Site,
        ring::{Next, Ring},
    },
    observe::{
        captured::{Captured, Direction, Judgement},
        filter::{Choice, Filter},
        pcapng::Statistics,
        told::Counts,
    },
    policy::slots::Line,
};

use rustix::time::{ClockId, clock_gettime};

use super::output::Output;

/// How often it looks whether packets have come.
const PAUSE: Duration = Duration::from_millis(10);
/// After so many packets it looks at what else there is to do.
const MOST_AT_ONCE: usize = 4096;

/// Why it ended.
pub(super) enum End {
    /// It was told to, or had got enough.
    Done,
    /// Nothing of ours is attached any more.
    Detached,
    /// Something went wrong.
    Failed(anyhow::Error),
}

/// What became of packets.
#[derive(Clone, Copy, Default)]
pub(super) struct Sums {
    /// Written.
    pub(super) captured: u64,
    /// Lost, because the ring buffer was full.
    pub(super) lost: u64,
}

/// Takes packets from the ring buffer to the output.
pub(super) struct Pump {
    ring: Ring,
    /// The last record from it.
    record: Vec<u8>,
    rules: Rules,
    choice: Option<Choice>,
    output: Output,
    /// Most bytes of a frame.
    snaplen: usize,
    /// How many packets are still wanted.
    left: u64,
    losses: Losses,
    captured: u64,
    /// When it began, in nanoseconds since 1970.
    begin: u64,
}

impl Pump {
    /// Gets ready. `rule` is the one that all packets have to be of, if there is one.
    pub(super) fn new(
        site: Site,
        ring: Ring,
        rule: Option<Line>,
        filter: Option<Filter>,
        output: Output,
        snaplen: u32,
        count: Option<u64>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            ring,
            record: Vec::new(),
            losses: Losses::since_now(&site)?,
            rules: Rules { site, program: 0, lines: HashMap::new(), rule },
            choice: filter.map(Choice::new),
            output,
            snaplen: snaplen as usize,
            left: count.unwrap_or(u64::MAX),
            captured: 0,
            begin: since_1970(),
        })
    }

    /// Goes on to the end.
    pub(super) fn run(mut self, stop: &AtomicBool) -> (End, Sums) {
        let end = self.pump(stop).unwrap_or_else(End::Failed);
        let lost = self.losses.read();
        let sums = Sums { captured: self.captured, lost: *lost.as_ref().unwrap_or(&0) };
        if let End::Failed(_) = end {
            return (end, sums);
        }
        let (begin, received) = (self.begin, self.captured + sums.lost);
        let statistics = Statistics { begin, end: since_1970(), received, dropped: sums.lost };
        match self.output.end(&statistics).and(lost) {
            Ok(_) => (end, sums),
            Err(error) => (End::Failed(error), sums),
        }
    }

    fn pump(&mut self, stop: &AtomicBool) -> anyhow::Result<End> {
        loop {
            // Asked before the last look into the ring buffer: nothing comes afterwards.
            let stopped = stop.load(Ordering::Acquire);
            let attached = self.rules.follow()?;
            let taken = self.take()?;
            self.output.flush()?;
            if self.left == 0 || taken == 0 && stopped {
                return Ok(End::Done);
            }
            if taken == 0 && !attached {
                return Ok(End::Detached);
            }
            if taken < MOST_AT_ONCE && !stopped {
                sleep(PAUSE);
            }
        }
    }

    /// Takes what is in the ring buffer, but no more than so much; tells how much there was.
    fn take(&mut self) -> anyhow::Result<usize> {
        let offset = since_1970().wrapping_sub(nanoseconds(ClockId::Monotonic));
        let mut taken = 0;
        while taken < MOST_AT_ONCE && self.left > 0 {
            // Who consumes misses nothing.
            if self.ring.next(&mut self.record) != Next::Record {
                break;
            }
            taken += 1;
            let (head, frame) = understand(&self.record)?;
            if self.choice.as_mut().is_some_and(|choice| !choice.wants(&head, frame)) {
                continue;
            }
            let reason = head.reason().context("a captured packet has a reason that is none")?;
            let direction = if head.leaves == 0 { Direction::In } else { Direction::Out };
            self.output.packet(&Captured {
                time: head.time.wrapping_add(offset),
                direction,
                frame: &frame[..frame.len().min(self.snaplen)],
                length: head.length,
                judgement: Judgement { reason, rule: self.rules.lines.get(&head.slot) },
            })?;
            self.captured += 1;
            self.left -= 1;
        }
        Ok(taken)
    }
}

/// What stands before a frame in the ring buffer, and the frame.
fn understand(record: &[u8]) -> anyhow::Result<(events::Captured, &[u8])> {
    let (head, frame) =
        record.split_at_checked(size_of::<events::Captured>()).context("a captured packet is cut short")?;
    let head = events::Captured::from_bytes(head).context("a captured packet is cut short")?;
    let frame = frame.get(..head.captured as usize).context("a captured packet is cut short")?;
    Ok((head, frame))
}

/// Nanoseconds since 1970.
fn since_1970() -> u64 {
    nanoseconds(ClockId::Realtime)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The rules by their slots: of the program in place, and of those that were before.
struct Rules {
    site: Site,
    /// The program whose rules were read last.
    program: u32,
    lines: HashMap<u32, Line>,
    /// The one that all packets have to be of, if there is one.
    rule: Option<Line>,
}

impl Rules {
    /// Reads those of another program, if one is in place; false if none of ours is.
    fn follow(&mut self) -> anyhow::Result<bool> {
        let Some(program) = self.site.attached()? else { return Ok(false) };
        if program == self.program {
            return Ok(true);
        }
        // None, if yet another one is in place by now: then the next look will tell.
        let Some(generation) = self.site.state().read(program)? else { return Ok(true) };
        let lines = generation.listing.rules;
        if let Some(rule) = &self.rule
            && !lines.iter().any(|line| line.slot == rule.slot && line.text == rule.text)
        {
            let name = &self.site.interface.name;
            bail!("the policy on {name} has changed, and has no rule any more that says: {}", rule.text);
        }
        self.lines.extend(lines.into_iter().map(|line| (line.slot, line)));
        self.program = program;
        Ok(true)
    }
}

/// How many packets did not find room in the ring buffer.
struct Losses {
    told: Counts,
    /// How many there were when it began.
    before: u64,
}

impl Losses {
    fn since_now(site: &Site) -> anyhow::Result<Self> {
        let pin = site.map_pin("TELLING").context("nothing tells how many packets are lost")?;
        let told = Counts::open(&pin).with_context(|| format!("opening {}", pin.display()))?;
        let before = told.captured()?[CAPTURE].lost;
        Ok(Self { told, before })
    }

    fn read(&self) -> anyhow::Result<u64> {
        Ok(self.told.captured()?[CAPTURE].lost.wrapping_sub(self.before))
    }
}
