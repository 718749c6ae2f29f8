//! Statistics: samples become figures that hold although the machine's speed drifts.

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

/// Figures of one load of a program, or of several.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Figures {
    /// Nanoseconds more than the empty program.
    pub(super) net: f64,
    /// Times the MAC swap, absolute over absolute.
    pub(super) ratio: f64,
    /// Nanoseconds of the empty program: the entry that is part of both sides of the ratio.
    pub(super) empty: f64,
}

/// Figures of several loads.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Result {
    /// The medians.
    pub(super) median: Figures,
    /// Smallest and largest net time of a load.
    pub(super) net: [f64; 2],
    /// Smallest and largest ratio of a load.
    pub(super) ratio: [f64; 2],
}

impl Round {
    fn net(&self) -> f64 {
        self.program - mean(self.empty)
    }

    fn ratio(&self) -> f64 {
        self.program / mean(self.swap)
    }
}

impl Figures {
    /// The medians of what each round says.
    pub(super) fn of_rounds(rounds: &[Round]) -> Self {
        Self {
            net: median(rounds.iter().map(Round::net)),
            ratio: median(rounds.iter().map(Round::ratio)),
            empty: median(rounds.iter().map(|round| mean(round.empty))),
        }
    }
}

impl Result {
    /// The medians of what each load says, and how far loads are apart.
    pub(super) fn of_loads(loads: &[Figures]) -> Self {
        let net = || loads.iter().map(|load| load.net);
        let ratio = || loads.iter().map(|load| load.ratio);
        let median = Figures {
            net: median(net()),
            ratio: median(ratio()),
            empty: median(loads.iter().map(|load| load.empty)),
        };
        Self { median, net: extent(net()), ratio: extent(ratio()) }
    }

    /// How far the ratio of a load was from the median at most, as a part of it.
    pub(super) fn deviation(&self) -> f64 {
        let [least, most] = self.ratio;
        (self.median.ratio - least).max(most - self.median.ratio) / self.median.ratio
    }
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

fn extent(values: impl Iterator<Item = f64>) -> [f64; 2] {
    values
        .fold([f64::INFINITY, f64::NEG_INFINITY], |[least, most], value| [least.min(value), most.max(value)])
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
        // Each chunk takes one nanosecond more than the one before; the program costs 5 over the empty one.
        let round = Round { empty: [20.0, 24.0], swap: [22.0, 24.0], program: 27.0 };
        assert_eq!(round.net(), 5.0);
        assert_eq!(round.ratio(), 27.0 / 23.0);
    }

    #[test]
    fn figures_are_medians_of_rounds() {
        let round = |program| Round { empty: [20.0; 2], swap: [25.0; 2], program };
        let figures = Figures::of_rounds(&[round(30.0), round(500.0), round(25.0)]);
        assert_eq!(figures, Figures { net: 10.0, ratio: 1.2, empty: 20.0 });
    }

    #[test]
    fn loads_are_compared_with_their_median() {
        let load = |net, ratio| Figures { net, ratio, empty: 20.0 };
        let result = Result::of_loads(&[load(5.0, 1.0), load(4.0, 0.9), load(9.0, 1.3)]);
        assert_eq!(result.median, load(5.0, 1.0));
        assert_eq!((result.net, result.ratio), ([4.0, 9.0], [0.9, 1.3]));
        assert!((result.deviation() - 0.3).abs() < 1e-9);
    }
}
