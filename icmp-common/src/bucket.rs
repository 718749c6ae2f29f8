//! Token buckets by the million in fixed memory: the generic cell rate algorithm (ITU-T I.371), whose whole state is one time.
//!
//! A bucket is a cell: a tag of 18 bits that tells it from others, and the theoretical arrival time, 46 bits of ticks: the
//! time at which the bucket will be full again. An empty cell is a full bucket. Eight cells are a line, one cache line; a
//! bucket's hash picks its line. Where no cell of a line has the tag, the one with the earliest time gives way: the bucket
//! that is fullest, and so knows least. So memory never runs out, and a flood of new buckets takes nothing from those that are
//! being limited.
//!
//! A tick is short enough for ten million tokens a second, and 2^46 of them, which is where times wrap, are three days.

/// A cache line of cells, which several CPUs may use at once.
pub trait Line {
    /// What is in a cell.
    fn load(&self, cell: usize) -> u64;
    /// Puts a value into a cell if `old` is in it still, and says whether it was.
    fn exchange(&self, cell: usize, old: u64, new: u64) -> bool;
}

/// Cells in a line.
pub const CELLS: usize = 8;

/// Nanoseconds of a tick. Times are no finer than the clock, the kernel's jiffies of 1 to 10 milliseconds; but what a token costs is.
pub const TICK: u64 = 4;

/// Bits of a time.
const TIME_BITS: u32 = 46;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;
/// Most ticks that a bucket may take from empty to full, so that what lies ahead can be told from what is past: nearly ten hours. A
/// bucket that was used last as long before that as times take to wrap seems to be as empty as then.
pub const MAX_SPAN: u64 = 1 << (TIME_BITS - 3);

/// Ticks, a second, that whoever takes may be late: CPUs see the clock advance one after the other, and may be held up once they
/// have read it. To him a bucket that others have emptied since seems to take longer than its span to fill.
const LATE: u64 = 1_000_000_000 / TICK;

/// Where a bucket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// A hash of 24 bits, of which the lower ones are the number of its line: as many as there are lines.
    pub line: u32,
    /// Its tag there: 18 bits, not 0.
    pub tag: u32,
}

impl Place {
    /// The place of the bucket that a key stands for: two words, and a seed that belongs to what limits. Nobody who does not know the
    /// secret can choose keys that share a line.
    #[inline(always)]
    #[must_use]
    pub const fn new(key: [u64; 2], seed: u64, secret: [u64; 2]) -> Self {
        // Multiply-shift (Dietzfelbinger et al., J. Algorithms 25, 1997), thrice. Neighbouring addresses differ in what are their last
        // bytes in memory: swapped, so that these are the low bits, on which all others of a product depend.
        let first = (key[0].swap_bytes() ^ seed).wrapping_mul(secret[1] | 1);
        let second = key[1].swap_bytes().wrapping_mul(secret[0] | 1);
        let hash = (first ^ first >> 32).wrapping_add(second ^ second >> 29).wrapping_mul(secret[1] | 1);
        let hash = (hash ^ hash >> 32).wrapping_mul(secret[0] | 1);
        Self {
            line: (hash >> 40) as u32,
            tag: (hash >> 20) as u32 & ((1 << (u64::BITS - TIME_BITS)) - 1) | 1,
        }
    }
}

/// How fast a bucket fills, and how much is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Ticks that bring the tokens that are asked for.
    pub cost: u64,
    /// Ticks that bring those that have to be there: no less.
    pub needed: u64,
    /// Ticks from empty to full, at most [`MAX_SPAN`].
    pub span: u64,
}

/// What came of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The tokens are taken.
    Yes,
    /// The same, and a bucket that was not full has given way.
    Evicting,
    /// There are not enough.
    No,
}

/// How long something has gone on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lasting {
    /// Ticks.
    pub ticks: u64,
    /// It begins now.
    pub begins: bool,
    /// A bucket that was not full has given way to the cell that remembers it.
    pub evicting: bool,
}

/// Ticks of a pace, by which cells that remember when something began count time: 34 milliseconds.
const PACE: u64 = 1 << PACE_BITS;
const PACE_BITS: u32 = 23;
const PACE_MASK: u64 = TIME_MASK >> PACE_BITS;

const _: () = assert!(PACE_MASK < PACE, "the bits that a time in paces leaves free hold another one");

/// The span of a cell that remembers since when something goes on, until there is a pause of so many ticks.
#[must_use]
pub const fn lasting_span(pause: u64) -> u64 {
    pause + 2 * PACE
}

/// Remembers that something goes on, in the cell with this tag, and says how long it has: since it began, or since the last pause of
/// so many ticks (and two paces at most). `longest` is as in [`take`], and at least [`lasting_span`].
///
/// The cell is one among buckets: its time is when the pause will be over, in paces, and what that leaves free of the bits
/// tells, in paces too, when it began. So it is one word, which no two CPUs can leave half of.
#[inline(always)]
#[must_use]
pub fn lasts<L: Line>(line: &L, tag: u32, pause: u64, longest: u64, now: u64) -> Lasting {
    let tag = (tag as u64) << TIME_BITS;
    let Found { place, cell, is_same } = find(line, tag, longest, now);
    let before = ahead(cell, now, longest);
    let pace = now >> PACE_BITS & PACE_MASK;
    // What seems to have gone on for half of all times or longer is long past and has come round, or began while we were late.
    let has_begun = pace.wrapping_sub(cell) & PACE_MASK <= PACE_MASK / 2;
    let goes_on = is_same && before != 0 && has_begun;
    let since = if goes_on { cell & PACE_MASK } else { pace };
    let end = now.wrapping_add(pause + PACE) & TIME_MASK & !(PACE - 1);
    // Whoever loses a race leaves it to others to remember.
    let is_ours = line.exchange(place, cell, tag | end | since);
    Lasting {
        ticks: (pace.wrapping_sub(since) & PACE_MASK) << PACE_BITS,
        begins: is_ours && !goes_on,
        evicting: is_ours && !is_same && before != 0,
    }
}

/// Takes tokens out of the bucket with this tag (18 bits, not 0), if it has them. `longest` is the longest span of all buckets in the
/// table: what is further ahead than that is long past. `now` is in ticks.
///
/// Several CPUs may do so at once: whoever loses a race has to look again, and gives up after a few rounds, which is to say that
/// the tokens were not there.
#[inline(always)]
#[must_use]
pub fn take<L: Line>(line: &L, tag: u32, ask: Ask, longest: u64, now: u64) -> Taken {
    const ROUNDS: usize = 4;
    let tag = (tag as u64) << TIME_BITS;
    for _ in 0..ROUNDS {
        let Found { place, cell, is_same } = find(line, tag, longest, now);
        let before = ahead(cell, now, longest);
        // Further ahead than this bucket can be: what is left of one with another rate.
        let own = if is_same && before <= ask.span + LATE { before } else { 0 };
        if own + ask.needed > ask.span {
            return Taken::No;
        }
        if line.exchange(place, cell, tag | now.wrapping_add(own + ask.cost) & TIME_MASK) {
            return if is_same || before == 0 { Taken::Yes } else { Taken::Evicting };
        }
    }
    Taken::No
}

/// Puts tokens back that `credit` ticks bring, if the bucket still knows of them.
#[inline(always)]
pub fn give_back<L: Line>(line: &L, tag: u32, credit: u64, longest: u64, now: u64) {
    let Found { place, cell, is_same } = find(line, (tag as u64) << TIME_BITS, longest, now);
    let ahead = ahead(cell, now, longest);
    if is_same && ahead != 0 {
        // Whoever loses a race has lost them.
        let _ = line.exchange(place, cell, cell - if credit < ahead { credit } else { ahead });
    }
}

/// Whether a cell is a bucket that is not full.
#[must_use]
pub const fn is_in_use(cell: u64, longest: u64, now: u64) -> bool {
    ahead(cell, now, longest) != 0
}

/// A cell.
struct Found {
    place: usize,
    cell: u64,
    /// Whether it is the one that was looked for, and not one that gives way to it.
    is_same: bool,
}

/// The cell with a tag, or else the one that gives way to it.
#[inline(always)]
fn find<L: Line>(line: &L, tag: u64, longest: u64, now: u64) -> Found {
    for place in 0..CELLS {
        let cell = line.load(place);
        if cell & !TIME_MASK == tag {
            return Found { place, cell, is_same: true };
        }
    }
    // By arithmetic instead of branches, of which the kernel's verifier would follow all combinations.
    let mut least = u64::MAX >> 1;
    for place in 0..CELLS {
        let candidate = ahead(line.load(place), now, longest) << 3 | place as u64;
        least = select(less(candidate, least), candidate, least);
    }
    let place = least as usize & (CELLS - 1);
    Found { place, cell: line.load(place), is_same: false }
}

/// 1 if `one` is less than `other`, else 0. Both are less than 2^63.
#[inline(always)]
const fn less(one: u64, other: u64) -> u64 {
    one.wrapping_sub(other) >> 63
}

/// `one` if `which` is 1, `other` if it is 0.
#[inline(always)]
const fn select(which: u64, one: u64, other: u64) -> u64 {
    other ^ (one ^ other) & which.wrapping_neg()
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

/// How far ahead of `now` a cell's time is, in ticks: 0 if its bucket is full, or if it is further ahead than any bucket can be:
/// then it is so long past that it has come round.
#[inline(always)]
const fn ahead(cell: u64, now: u64, longest: u64) -> u64 {
    let ahead = cell.wrapping_sub(now) & TIME_MASK;
    ahead & less(ahead, longest + LATE + 1).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU64;

    type Line = [AtomicU64; CELLS];

    const ASK: Ask = Ask { cost: 100, needed: 100, span: 500 };
    const LONGEST: u64 = 1000;

    fn takes(line: &Line, tag: u32, now: u64) -> bool {
        take(line, tag, ASK, LONGEST, now) != Taken::No
    }

    fn taken(line: &Line, tag: u32, times: impl Iterator<Item = u64>) -> usize {
        times.filter(|now| takes(line, tag, *now)).count()
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
            passed += usize::from(takes(&line, 1, now));
            // Each of these comes once.
            assert!(takes(&line, 2 + now as u32, now));
        }
        assert!((100..=110).contains(&passed), "{passed}");
    }

    #[test]
    fn tells_when_a_bucket_that_is_not_full_gives_way() {
        let line = Line::default();
        for tag in 1..=8 {
            assert_eq!(take(&line, tag, ASK, LONGEST, 50), Taken::Yes);
        }
        assert_eq!(take(&line, 9, ASK, LONGEST, 50), Taken::Evicting);
        // A hundred ticks later all are full again.
        assert_eq!(take(&line, 10, ASK, LONGEST, 150), Taken::Yes);
    }

    #[test]
    fn what_is_left_of_a_longer_span_locks_nobody_out() {
        let line = Line::default();
        let span = ASK.span + LATE + 2;
        assert_eq!(take(&line, 1, Ask { cost: span, needed: span, span }, span, 0), Taken::Yes);
        assert_eq!(taken(&line, 1, (0..50).map(|_| 1)), 5);
    }

    #[test]
    fn an_old_time_gains_nothing() {
        let line = Line::default();
        for now in (LATE..2 * LATE).step_by(100_000) {
            takes(&line, 1, now);
            assert!(taken(&line, 1, (0..10).map(|_| now)) <= 10);
            for late in [1, 100, 600, 1000, LATE] {
                assert!(!takes(&line, 1, now - late), "{late} ticks late");
            }
        }
    }

    #[test]
    fn what_is_needed_has_to_be_there_and_is_left() {
        let line = Line::default();
        let half = Ask { cost: 50, needed: 150, span: 500 };
        let takes = |_: &u32| take(&line, 1, half, LONGEST, 7) != Taken::No;
        // Down to 100, which are not enough.
        assert_eq!((0..50).filter(takes).count(), 8);
        assert_eq!(taken(&line, 1, (0..50).map(|_| 7)), 1);
        assert_eq!((0..50).filter(takes).count(), 0);
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let line = Line::default();
        assert_eq!(taken(&line, 1, (0..50).map(|_| 9)), 5);
        give_back(&line, 1, 200, LONGEST, 9);
        assert_eq!(taken(&line, 1, (0..50).map(|_| 9)), 2);
        // No more than was taken.
        give_back(&line, 1, 5000, LONGEST, 9);
        assert_eq!(taken(&line, 1, (0..50).map(|_| 9)), 5);
        // And nothing to one that has been forgotten.
        give_back(&line, 2, 100, LONGEST, 9);
        assert_eq!(taken(&line, 1, (0..50).map(|_| 9)), 0);
    }

    #[test]
    fn what_goes_on_is_known_since_when() {
        const PAUSE: u64 = 1000 * PACE;
        let longest = lasting_span(PAUSE);
        let close =
            |ticks: u64, expected: u64| assert!(ticks.abs_diff(expected) <= PACE, "{ticks} {expected}");
        // Whatever the time, also where it comes round.
        for begin in [0, 5, PACE - 1, TIME_MASK - 500 * PACE, TIME_MASK, 3 << TIME_BITS] {
            let line = Line::default();
            let at = |time: u64| lasts(&line, 7, PAUSE, longest, begin + time);
            assert_eq!(at(0).ticks, 0);
            for time in (0..20).map(|number| number * PAUSE) {
                close(at(time).ticks, time);
            }
            // Without a word for longer than the pause it begins again.
            let again = 19 * PAUSE + longest + 1;
            assert_eq!(at(again).ticks, 0);
            close(at(again + PAUSE / 2).ticks, PAUSE / 2);
        }
    }

    #[test]
    fn what_has_come_round_or_is_yet_to_begin_does_not_go_on() {
        const PAUSE: u64 = 100 * PACE;
        // Other buckets of the table take long to fill, and so what is past seems to lie ahead.
        for ahead in [lasting_span(PAUSE), MAX_SPAN / 2, MAX_SPAN] {
            let line = Line::default();
            assert_eq!(lasts(&line, 7, PAUSE, MAX_SPAN, 0).ticks, 0);
            let end = PAUSE + PACE;
            assert_eq!(lasts(&line, 7, PAUSE, MAX_SPAN, end + (1 << TIME_BITS) - ahead).ticks, 0, "{ahead}");
        }
        let line = Line::default();
        for now in [50 * PACE, 50 * PACE - 1, 49 * PACE] {
            assert!(lasts(&line, 7, PAUSE, MAX_SPAN, now).ticks <= PACE, "{now}");
        }
    }

    #[test]
    fn what_goes_on_takes_the_place_of_the_fullest_bucket() {
        let line = Line::default();
        let longest = lasting_span(PACE);
        for tag in 1..=8 {
            assert_eq!(
                take(
                    &line,
                    tag,
                    Ask { cost: u64::from(tag), needed: u64::from(tag), span: 500 },
                    longest,
                    50
                ),
                Taken::Yes
            );
        }
        assert!(lasts(&line, 9, PACE, longest, 50).evicting);
        assert_eq!(
            line.iter()
                .filter(|cell| cell.load(core::sync::atomic::Ordering::Relaxed) >> TIME_BITS == 1)
                .count(),
            0
        );
        assert!(!lasts(&line, 9, PACE, longest, 50).evicting);
    }

    #[test]
    fn what_has_come_round_gives_way() {
        let line = Line::default();
        // Used long ago: all these seem to lie ahead, further than any bucket can be.
        for tag in 1..=8 {
            assert!(takes(&line, tag, 0));
        }
        let now = (1 << TIME_BITS) - 2 * LATE;
        assert_eq!(take(&line, 9, ASK, LONGEST, now), Taken::Yes);
        assert_eq!(taken(&line, 9, (0..50).map(|_| now)), 4);
        assert_eq!(taken(&line, 1, (0..50).map(|_| now)), 5);
    }

    #[test]
    fn places_are_spread() {
        let secret = [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03];
        const LINES: usize = 1 << 10;
        for shift in [0, 8, 24, 32, 48] {
            let mut lines = [0_u32; LINES];
            for source in 0..64 * LINES as u64 {
                let place = Place::new([source << shift, 0], 5, secret);
                assert!((1..1 << 18).contains(&place.tag));
                lines[place.line as usize % LINES] += 1;
            }
            assert!(lines.iter().all(|count| (20..140).contains(count)), "{shift}");
        }
    }

    #[test]
    fn no_two_of_many_neighbours_share_a_place() {
        let mut state = 7_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state ^ state >> 29
        };
        let mut shared = 0;
        for _ in 0..100 {
            let secret = [random(), random()];
            let mut places = [0_u64; 32 * 32];
            // Networks and hosts as they are numbered, each in the last byte of its half of an IPv6 address.
            for (number, place) in (0..).zip(&mut places) {
                let Place { line, tag } = Place::new([(number % 32) << 56, (number / 32) << 56], 5, secret);
                *place = u64::from(line) << 32 | u64::from(tag);
            }
            places.sort_unstable();
            shared += places.windows(2).filter(|pair| pair[0] == pair[1]).count();
        }
        assert_eq!(shared, 0);
    }
}
