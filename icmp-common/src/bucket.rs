//! Token buckets by the million in fixed memory: the generic cell rate algorithm (ITU-T I.371), whose whole state is one time.
//!
//! A bucket is a cell: a tag of 24 bits that tells it from others, and the theoretical arrival time, 40 bits of ticks: the
//! time at which the bucket will be full again. An empty cell is a full bucket. Eight cells are a line, one cache line; a
//! bucket's hash picks its line. Where no cell of a line has the tag, the one with the earliest time gives way: the bucket
//! that is fullest, and so knows least. So memory never runs out, and a flood of new buckets takes nothing from those that are
//! being limited.

/// A cache line of cells, which several CPUs may use at once.
pub trait Line {
    /// What is in a cell.
    fn load(&self, cell: usize) -> u64;
    /// Puts a value into a cell if `old` is in it still, and says whether it was.
    fn exchange(&self, cell: usize, old: u64, new: u64) -> bool;
}

/// Cells in a line.
pub const CELLS: usize = 8;

/// Bits of a time.
const TIME_BITS: u32 = 40;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;

/// How fast a bucket fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Fill {
    /// Ticks until one more token is in it; at least 1.
    pub interval: u32,
    /// Tokens that it holds when it is full; at least 1.
    pub burst: u32,
}

impl Fill {
    /// Ticks from empty to full.
    #[inline(always)]
    const fn span(self) -> u64 {
        self.interval as u64 * self.burst as u64
    }
}

/// Takes a token out of the bucket with this tag (24 bits), if it has one; `now` is in ticks.
///
/// Several CPUs may do so at once: whoever loses a race has to look again, and gives up after a few rounds, which is to say that
/// a token was not there.
#[inline(always)]
#[must_use]
pub fn take<L: Line>(line: &L, tag: u32, fill: Fill, now: u64) -> bool {
    const ROUNDS: usize = 3;
    let tag = u64::from(tag) << TIME_BITS;
    for _ in 0..ROUNDS {
        let mut place = 0;
        let mut found = 0;
        let mut least = u64::MAX;
        for number in 0..CELLS {
            let cell = line.load(number);
            // An own cell comes before all others; among these the one that is least ahead.
            let ahead = if cell & !TIME_MASK == tag && cell != 0 { 0 } else { 1 + ahead(cell, now, fill) };
            if ahead < least {
                (place, found, least) = (number, cell, ahead);
            }
        }
        let behind = if least == 0 { ahead(found, now, fill) } else { 0 };
        let then = behind + u64::from(fill.interval);
        if then > fill.span() {
            return false;
        }
        // Time 0 with tag 0 would be an empty cell; one tick more makes no difference.
        let cell = tag | (now.wrapping_add(then) & TIME_MASK).max(1);
        if line.exchange(place & (CELLS - 1), found, cell) {
            return true;
        }
    }
    false
}

#[cfg(target_has_atomic = "64")]
impl Line for [core::sync::atomic::AtomicU64; CELLS] {
    fn load(&self, cell: usize) -> u64 {
        self[cell].load(core::sync::atomic::Ordering::Relaxed)
    }

    fn exchange(&self, cell: usize, old: u64, new: u64) -> bool {
        use core::sync::atomic::Ordering::Relaxed;
        self[cell].compare_exchange(old, new, Relaxed, Relaxed).is_ok()
    }
}

/// How far ahead of `now` a cell's time is, in ticks: 0 if its bucket is full, or if it is further ahead than any bucket can be,
/// which makes it stale.
#[inline(always)]
const fn ahead(cell: u64, now: u64, fill: Fill) -> u64 {
    let ahead = cell.wrapping_sub(now) & TIME_MASK;
    if cell == 0 || ahead > fill.span() { 0 } else { ahead }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU64;

    type Line = [AtomicU64; CELLS];

    const FILL: Fill = Fill { interval: 100, burst: 5 };

    fn taken(line: &Line, tag: u32, times: impl Iterator<Item = u64>) -> usize {
        times.filter(|now| take(line, tag, FILL, *now)).count()
    }

    #[test]
    fn gives_the_burst_and_then_the_rate() {
        for begin in [0, 1, 12_345, TIME_MASK - 500, TIME_MASK, 3 << TIME_BITS] {
            let line = Line::default();
            assert_eq!(taken(&line, 7, (0..50).map(|_| begin)), 5);
            assert_eq!(taken(&line, 7, (1..=10_000).map(|tick| begin + tick)), 100);
            // A pause fills it, and no more than fills it.
            assert_eq!(taken(&line, 7, (0..50).map(|_| begin + 20_000)), 5);
        }
    }

    #[test]
    fn new_buckets_do_not_make_a_limited_one_forget() {
        let line = Line::default();
        let mut passed = 0;
        for now in 0..10_000 {
            passed += usize::from(take(&line, 1, FILL, now));
            // Each of these comes once.
            assert!(take(&line, 2 + now as u32, FILL, now));
        }
        assert!((100..=110).contains(&passed), "{passed}");
    }
}
