//! Statistics: samples become figures that hold although the machine's speed drifts.

use serde_json::{Value, json};

/// One round: nanoseconds a packet of the empty program, the MAC swap and the program under test, taken in the
/// order empty, swap, program, swap, empty. What drifts evenly hits a program and the mean of its two references
/// alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Round {
    /// The empty program, before and after.
    pub(super) empty: [f64; 2],
    /// The MAC swap, before and after.
    pub(super) swap: [f64; 2],
    /// The program.
    pub(super) program: f64,
}

/// What one load of a program says: no time, but how many times another program's it takes. A machine that has
/// become slower changes that little.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Figures {
    /// Times the empty program.
    pub(super) over_empty: f64,
    /// Times the MAC swap.
    pub(super) over_swap: f64,
    /// Nanoseconds of the empty program.
    pub(super) empty: f64,
}

/// A figure of several loads: the median, and how far they are apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    /// The median.
    pub(super) median: f64,
    /// The smallest.
    pub(super) least: f64,
    /// The largest.
    pub(super) most: f64,
}

/// What several loads of a program say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Summary {
    /// Nanoseconds more than the empty program.
    pub(super) net: Spread,
    /// Times the MAC swap, absolute over absolute.
    pub(super) ratio: Spread,
}

impl Round {
    fn over_empty(&self) -> f64 {
        self.program / mean(self.empty)
    }

    fn over_swap(&self) -> f64 {
        self.program / mean(self.swap)
    }
}

impl Figures {
    /// The medians of what each round says.
    pub(super) fn of(rounds: &[Round]) -> Self {
        Self {
            over_empty: median(rounds.iter().map(Round::over_empty)),
            over_swap: median(rounds.iter().map(Round::over_swap)),
            empty: median(rounds.iter().map(|round| mean(round.empty))),
        }
    }
}

impl Spread {
    /// The spread of some values.
    pub(super) fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        Self {
            median: median(values.clone()),
            least: values.clone().fold(f64::INFINITY, f64::min),
            most: values.fold(f64::NEG_INFINITY, f64::max),
        }
    }

    /// As JSON.
    pub(super) fn json(&self) -> Value {
        let Self { median, least, most } = self;
        json!({ "median": median, "min": least, "max": most })
    }

    /// How far a value is from the median at most, as a part of the median.
    pub(super) fn deviation(&self) -> f64 {
        (self.median - self.least).max(self.most - self.median) / self.median
    }
}

impl Summary {
    /// The medians of what each load says, on a machine on which the empty program takes `empty` nanoseconds.
    pub(super) fn of(loads: &[Figures], empty: f64) -> Self {
        Self {
            net: Spread::of(loads.iter().map(|load| (load.over_empty - 1.0) * empty)),
            ratio: Spread::of(loads.iter().map(|load| load.over_swap)),
        }
    }
}

/// Nanoseconds that the empty program took when the machine was at its fastest. All net times are given for
/// that speed: for minutes on end, a busy neighbour can make everything take twice as long.
pub(super) fn fastest_empty(loads: &[Vec<Figures>]) -> f64 {
    loads.iter().flatten().map(|load| load.empty).fold(f64::INFINITY, f64::min)
}

/// Most that the ratio of one load may be away from the median of all, as a part of it.
const TOLERANCE: f64 = 0.08;
/// The same with many sources, where caches miss.
const TOLERANCE_MANY: f64 = 0.25;

/// How far a ratio may be away from another that should be the same, as a part of it.
pub(super) const fn tolerance(many: bool) -> f64 {
    if many { TOLERANCE_MANY } else { TOLERANCE }
}

/// Whether a ratio is steady enough to be believed.
pub(super) fn is_steady(ratio: &Spread, many: bool) -> bool {
    ratio.deviation() <= tolerance(many)
}

fn mean([first, second]: [f64; 2]) -> f64 {
    f64::midpoint(first, second)
}

/// The middle value, or the mean of the two in the middle; not a number if there are none.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.as_slice() {
        [] => f64::NAN,
        sorted if sorted.len() % 2 == 1 => sorted[middle],
        sorted => mean([sorted[middle - 1], sorted[middle]]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_ignores_what_stands_out() {
        assert_eq!(median([1.0, 1000.0, 3.0].into_iter()), 3.0);
        assert_eq!(median([4.0, 1.0, 1000.0, 2.0].into_iter()), 3.0);
        assert_eq!(median([7.0].into_iter()), 7.0);
        assert!(median(std::iter::empty()).is_nan());
    }

    #[test]
    fn an_even_drift_cancels_out() {
        // Each chunk takes one nanosecond more than the one before; at the time of the third, the program takes
        // twice as long as the empty one.
        let round = Round { empty: [20.0, 24.0], swap: [22.0, 24.0], program: 44.0 };
        assert_eq!(round.over_empty(), 2.0);
        assert_eq!(round.over_swap(), 44.0 / 23.0);
    }

    #[test]
    fn figures_are_medians_of_rounds() {
        let round = |program| Round { empty: [20.0; 2], swap: [25.0; 2], program };
        let figures = Figures::of(&[round(30.0), round(500.0), round(25.0)]);
        assert_eq!(figures, Figures { over_empty: 1.5, over_swap: 1.2, empty: 20.0 });
    }

    #[test]
    fn loads_are_compared_with_their_median() {
        let load = |over_empty, over_swap| Figures { over_empty, over_swap, empty: 20.0 };
        let Summary { net, ratio } = Summary::of(&[load(1.25, 1.0), load(1.5, 0.9), load(2.0, 1.3)], 20.0);
        assert_eq!(net, Spread { median: 10.0, least: 5.0, most: 20.0 });
        assert_eq!(ratio, Spread { median: 1.0, least: 0.9, most: 1.3 });
        assert!((ratio.deviation() - 0.3).abs() < 1e-9);
    }

    #[test]
    fn a_slow_machine_changes_no_net_time() {
        let load = |empty| Figures { over_empty: 1.5, over_swap: 1.2, empty };
        let (fast, slow) = (load(20.0), load(40.0));
        let empty = fastest_empty(&[vec![slow], vec![slow, fast]]);
        assert_eq!(empty, 20.0);
        assert_eq!(Summary::of(&[slow], empty), Summary::of(&[fast], empty));
    }
}
