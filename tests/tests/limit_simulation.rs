//! C90: what a flood does to the table of buckets, in simulated time: nothing to the innocent, nothing for the attackers. Two
//! simpler tables go through the same, and fail: one cell for each hash, and a victim at random.
//!
//! Everything is an eighth of a table of a million cells, so that each line lives through the same: its cells, its sources, the flood.

use std::sync::atomic::{AtomicU64, Ordering};

use icmp_common::bucket::{self, Ask, CELLS, Place, TICK, Taken};

/// Lines of the table.
const LINES: usize = 131_072 / 8;
const SECRET: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03];

/// 10/s burst 20.
const COST: u64 = 100_000_000 / TICK;
const ASK: Ask = Ask { cost: COST, needed: COST, span: 20 * COST };

/// Sources that send one packet a second.
const INNOCENT: u64 = 10_000 / 8;
/// Where the numbers of other sources begin.
const ATTACKERS: u64 = 1 << 32;
const FLOOD: u64 = 1 << 40;

/// Milliseconds of the simulation.
const TIME: u64 = 2000;
/// The clock is seen in steps of four milliseconds.
const JIFFY: u64 = 4;

/// What keeps buckets.
trait Table {
    fn takes(&mut self, source: u64, now: u64) -> bool;
}

fn place(source: u64) -> Place {
    Place::new([source, 0], 5, SECRET)
}

/// The real one.
struct Real(Vec<[AtomicU64; CELLS]>);

impl Real {
    fn new() -> Self {
        Self(std::iter::repeat_with(Default::default).take(LINES).collect())
    }
}

impl Table for Real {
    fn takes(&mut self, source: u64, now: u64) -> bool {
        let place = place(source);
        let line = &self.0[place.line as usize % LINES];
        bucket::take(line, place.tag, ASK, ASK.span, now) != Taken::No
    }
}

/// A cell belongs to whoever is hashed to it.
struct Direct(Vec<[AtomicU64; CELLS]>);

impl Table for Direct {
    fn takes(&mut self, source: u64, now: u64) -> bool {
        let place = place(source);
        // The lower bit of a tag is always set: of the others some choose the cell, and so the cell's line is its own.
        let cell = (place.tag >> 1) as usize % CELLS * LINES + place.line as usize % LINES;
        bucket::take(&self.0[cell], 1, ASK, ASK.span, now) != Taken::No
    }
}

/// Where no cell is the source's, any cell of the line gives way.
struct RandomVictim(Real, Random);

impl Table for RandomVictim {
    fn takes(&mut self, source: u64, now: u64) -> bool {
        let Place { line, tag } = place(source);
        let line = &self.0.0[line as usize % LINES];
        if line.iter().all(|cell| cell.load(Ordering::Relaxed) >> 46 != u64::from(tag)) {
            line[self.1.below(CELLS as u64) as usize].store(0, Ordering::Relaxed);
        }
        bucket::take(line, tag, ASK, ASK.span, now) != Taken::No
    }
}

/// Steps of a generator of Numerical Recipes, 7.1.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// An attack: so many sources of a thousand packets a second, and so many packets a millisecond from sources of which each sends one.
#[derive(Clone, Copy)]
struct Attack {
    heavy: u64,
    spoofed: u64,
}

const HEAVY: Attack = Attack { heavy: 100_000 / 8, spoofed: 0 };
const SPOOFED: Attack = Attack { heavy: 10_000 / 8, spoofed: 30_000 / 8 };

/// What came of it: the share of innocent packets that were limited, and what heavy sources got of what they may have.
#[derive(Debug)]
struct Came {
    limited: f64,
    attackers: f64,
}

fn simulate(attack: Attack, mut table: impl Table) -> Came {
    let (mut innocent, mut limited, mut passed) = (0_u32, 0_u32, 0_u64);
    let mut next_spoofed = FLOOD;
    for millisecond in 0..TIME {
        // In the middle of its age, so that no time is before the first one.
        let now = (1 << 40) + millisecond / JIFFY * JIFFY * 1_000_000 / TICK;
        // One after the other comes a packet of a heavy source, and then its share of the spoofed ones.
        for heavy in 0..attack.heavy {
            passed += u64::from(table.takes(ATTACKERS + heavy, now));
            let share = attack.spoofed * (heavy + 1) / attack.heavy - attack.spoofed * heavy / attack.heavy;
            for _ in 0..share {
                table.takes(next_spoofed, now);
                next_spoofed += 1;
            }
        }
        for source in (0..INNOCENT).filter(|source| source % 1000 == millisecond % 1000) {
            innocent += 1;
            limited += u32::from(!table.takes(source, now));
        }
    }
    // What buckets of their own would give them all, at the last step of the clock.
    let may = attack.heavy * (20 + (TIME - 1) / JIFFY * JIFFY / 100);
    Came { limited: f64::from(limited) / f64::from(innocent), attackers: passed as f64 / may as f64 }
}

impl Came {
    fn is_within_bounds(&self) -> bool {
        self.limited < 0.001 && (0.98..=1.02).contains(&self.attackers)
    }
}

#[test]
fn c90_heavy_sources_are_limited_and_nobody_else() {
    let came = simulate(HEAVY, Real::new());
    assert!(came.is_within_bounds(), "{came:?}");
}

#[test]
fn c90_spoofed_flood_wears_nothing_out() {
    let came = simulate(SPOOFED, Real::new());
    assert!(came.is_within_bounds(), "{came:?}");
}

#[test]
fn c90_cells_without_tags_limit_the_innocent() {
    let direct = || Direct(std::iter::repeat_with(Default::default).take(LINES * CELLS).collect());
    let came = simulate(HEAVY, direct());
    assert!(!came.is_within_bounds() && came.limited > 0.05, "{came:?}");
    // It takes a while until the flood has emptied every bucket; then it is two thirds.
    let came = simulate(SPOOFED, direct());
    assert!(!came.is_within_bounds() && came.limited > 0.2, "{came:?}");
}

#[test]
fn c90_random_victims_set_attackers_free() {
    let came = simulate(SPOOFED, RandomVictim(Real::new(), Random(1)));
    assert!(!came.is_within_bounds() && came.attackers > 5.0, "{came:?}");
}
