//! Charts as SVG, to stand in a page whose style sheet has the colours: horizontal bars with their spread, and curves over logarithmic
//! axes.

use std::fmt::Write as _;

use super::super::samples::Spread;

/// Height of a bar's row, and of the bar.
const ROW: f64 = 24.0;
const BAR: f64 = 12.0;
/// What a character takes at most in a label or a text, nearly always.
const CHARACTER: f64 = 7.3;

/// How wide a chart of bars is, in the pixels of a wide window.
#[derive(Clone, Copy)]
pub(super) enum Wide {
    /// As the page.
    Page,
    /// As half of it.
    Half,
}

impl Wide {
    const fn width(self) -> f64 {
        match self {
            Self::Page => 1160.0,
            Self::Half => 550.0,
        }
    }
}

/// A bar.
pub(super) struct Bar {
    /// What it is.
    pub(super) label: String,
    /// How long it is, and how far its ends have been apart.
    pub(super) value: Spread,
    /// A class of the style sheet.
    pub(super) class: &'static str,
    /// What stands behind it.
    pub(super) text: String,
    /// Where it should end, if somewhere.
    pub(super) goal: Option<f64>,
    /// Whether its goal is met, if it has one.
    pub(super) met: Option<bool>,
}

impl Bar {
    /// How wide what stands behind it is.
    fn behind(&self) -> f64 {
        (self.text.chars().count() + 2) as f64 * CHARACTER
    }
}

/// Bars one below the other, with room for labels of so many characters.
pub(super) fn bars(bars: &[Bar], wide: Wide, label: usize) -> String {
    let left = label as f64 * CHARACTER + 10.0;
    let longest = bars.iter().map(Bar::behind).fold(0.0, f64::max);
    let right = wide.width() - longest - 10.0;
    let ends = bars.iter().flat_map(|bar| [bar.value.most, bar.goal.unwrap_or_default()]);
    let scale = (right - left) / ends.fold(f64::MIN_POSITIVE, f64::max);
    let x = |value: f64| left + value.max(0.0) * scale;
    let height = bars.len() as f64 * ROW;
    let mut svg = begin(wide.width(), height);
    for (number, bar) in bars.iter().enumerate() {
        let Bar { label, value, class, text, goal, met } = bar;
        let top = number as f64 * ROW;
        let middle = top + ROW / 2.0;
        let (begin, end) = (x(0.0), x(value.median));
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" class=\"label\">{}</text>\
             <rect x=\"{begin:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{BAR}\" rx=\"2\" class=\"{class}\"/>\
             <path d=\"M{:.1} {middle:.1}H{:.1}\" class=\"spread\"/>",
            left - 10.0,
            middle + 4.0,
            escape(label),
            middle - BAR / 2.0,
            (end - begin).max(1.0),
            x(value.least),
            x(value.most)
        );
        if let Some(goal) = goal.map(x) {
            let _ = write!(
                svg,
                "<path d=\"M{goal:.1} {:.1}V{:.1}\" class=\"goal\"/>",
                top + 3.0,
                top + ROW - 3.0
            );
        }
        let mut behind = end.max(x(value.most)) + 8.0;
        if let Some(goal) = goal.map(x)
            && (behind - 8.0..behind + bar.behind()).contains(&goal)
        {
            behind = goal + 8.0;
        }
        let mark = match met {
            Some(true) => "<tspan class=\"met\"> \u{2713}</tspan>",
            Some(false) => "<tspan class=\"missed\"> \u{2717}</tspan>",
            None => "",
        };
        let _ = write!(
            svg,
            "<text x=\"{behind:.1}\" y=\"{:.1}\" class=\"value\">{}{mark}</text>",
            middle + 4.0,
            escape(text)
        );
    }
    svg + "</svg>"
}

/// A curve.
pub(super) struct Curve {
    /// What it is.
    pub(super) name: &'static str,
    /// Its points, from left to right.
    pub(super) points: Vec<(f64, Spread)>,
}

/// Size of a chart of curves, and what is left for its axes.
const WIDTH: f64 = Wide::Half.width();
const HEIGHT: f64 = 320.0;
const AXIS_LEFT: f64 = 56.0;
const AXIS_BELOW: f64 = 44.0;
const ABOVE: f64 = 12.0;
const BESIDE: f64 = 32.0;
/// The least from one label of an axis to the next.
const APART: f64 = 40.0;

/// Curves over two logarithmic axes, with what each is below them.
pub(super) fn curves(across: &str, up: &str, curves: &[Curve]) -> String {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let xs = ends(points().map(|(x, _)| *x));
    // A nanosecond is the least that can be told.
    let ys = span(points().flat_map(|(_, y)| [y.least, y.most]).map(|y| y.max(1.0)));
    let x = |value: f64| {
        AXIS_LEFT
            + 16.0
            + (value / xs.0).log10() / (xs.1 / xs.0).log10() * (WIDTH - AXIS_LEFT - 16.0 - BESIDE)
    };
    let floor = HEIGHT - AXIS_BELOW;
    let y = |value: f64| floor - (value.max(1.0) / ys.0).log10() / (ys.1 / ys.0).log10() * (floor - ABOVE);
    let mut svg = begin(WIDTH, HEIGHT);
    for value in steps().filter(|value| (ys.0..=ys.1).contains(value)) {
        let at = y(value);
        let _ = write!(
            svg,
            "<path d=\"M{AXIS_LEFT} {at:.1}H{:.1}\" class=\"grid\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" class=\"label\">{value}</text>",
            WIDTH - BESIDE,
            AXIS_LEFT - 8.0,
            at + 4.0
        );
    }
    let mut last = f64::NEG_INFINITY;
    for value in places(points().map(|(x, _)| *x)) {
        let at = x(value);
        let _ = write!(svg, "<path d=\"M{at:.1} {floor:.1}v5\" class=\"axis\"/>");
        // Where two are side by side, one label is enough.
        if at - last > APART {
            last = at;
            let (below, text) = (floor + 19.0, thousands(value));
            let _ = write!(svg, "<text x=\"{at:.1}\" y=\"{below:.1}\" class=\"tick\">{text}</text>");
        }
    }
    let _ = write!(
        svg,
        "<path d=\"M{AXIS_LEFT} {floor:.1}H{:.1}\" class=\"axis\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\" class=\"tick\">{}</text>\
         <text transform=\"translate(14 {:.1}) rotate(-90)\" class=\"tick\">{}</text>",
        WIDTH - BESIDE,
        f64::midpoint(AXIS_LEFT, WIDTH),
        HEIGHT - 6.0,
        escape(across),
        f64::midpoint(ABOVE, floor),
        escape(up)
    );
    let mut legend = String::from("<ul class=\"legend\">");
    for (number, Curve { name, points }) in curves.iter().enumerate() {
        let class = format!("s{}", number + 1);
        let path: Vec<_> =
            points.iter().map(|(at, value)| format!("{:.1} {:.1}", x(*at), y(value.median))).collect();
        let _ = write!(svg, "<path d=\"M{}\" class=\"curve {class}\"/>", path.join("L"));
        for (at, value) in points {
            let at = x(*at);
            let _ = write!(
                svg,
                "<path d=\"M{at:.1} {:.1}V{:.1}\" class=\"whisker {class}\"/>\
                 <circle cx=\"{at:.1}\" cy=\"{:.1}\" r=\"4\" class=\"dot {class}\"><title>{}: {:.1} ns</title></circle>",
                y(value.least),
                y(value.most),
                y(value.median),
                escape(name),
                value.median
            );
        }
        let last = points.last().map_or(0.0, |(_, value)| value.median);
        let first = points.first().map_or(0.0, |(_, value)| value.median);
        let _ = write!(
            legend,
            "<li><span class=\"key {class}\"></span>{} <small>{first:.1} \u{2192} {last:.1} ns</small></li>",
            escape(name)
        );
    }
    svg + "</svg>" + &legend + "</ul>"
}

fn begin(width: f64, height: f64) -> String {
    format!("<svg viewBox=\"0 0 {width} {height}\" role=\"img\">")
}

/// The least and the largest value.
fn ends(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, 0.0), |(least, most), value| (least.min(value), most.max(value)))
}

/// 1, 2 and 5 and their multiples by ten.
fn steps() -> impl Iterator<Item = f64> {
    let powers = (0..10).map(|power| 10_f64.powi(power));
    powers.flat_map(|power| [power, 2.0 * power, 5.0 * power])
}

/// What an axis has to span: from step to step, and from one to ten times as much at least, so that little differences look little.
fn span(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (least, most) = ends(values);
    let below = |value| steps().take_while(|step| *step <= value).last().unwrap_or(1.0);
    let above = |value| steps().find(|step| *step >= value).unwrap_or(value);
    let least = below(least);
    if most / least > 10.0 {
        return (least, above(most));
    }
    let least = below(least.min(most / 4.0));
    (least, above(most.max(least * 10.0)))
}

/// All places, each once.
fn places(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut places: Vec<_> = values.collect();
    places.sort_unstable_by(f64::total_cmp);
    places.dedup();
    places
}

/// A whole number with commas.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (number, digit) in digits.chars().enumerate() {
        if number > 0 && (digits.len() - number) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// As it may stand in a page.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn spread(median: f64) -> Spread {
        Spread { median, least: median, most: median }
    }

    #[test]
    fn a_bar_is_as_long_as_its_value() {
        let bar = |value| Bar {
            label: "a < b".to_owned(),
            value: spread(value),
            class: "ours",
            text: String::new(),
            goal: None,
            met: None,
        };
        let svg = bars(&[bar(100.0), bar(50.0), bar(-1.0)], Wide::Half, 5);
        let room = 550.0 - (5.0 + 2.0) * CHARACTER - 20.0;
        assert!(svg.contains(&format!("width=\"{room:.1}\"")), "{svg}");
        assert!(svg.contains(&format!("width=\"{:.1}\"", room / 2.0)), "{svg}");
        // What is below zero is no bar that goes to the left.
        assert!(svg.contains("width=\"1.0\""), "{svg}");
        assert!(svg.contains("a &lt; b"), "{svg}");
    }

    #[test]
    fn equal_factors_are_equal_distances() {
        let points = vec![(10.0, spread(1.0)), (100.0, spread(10.0)), (1000.0, spread(100.0))];
        let svg = curves("rules", "ns", &[Curve { name: "echo", points }]);
        let path = svg.split("<path d=\"M").find(|path| path.contains("curve s1")).unwrap();
        let numbers: Vec<f64> =
            path.split('"').next().unwrap().split([' ', 'L']).map(|number| number.parse().unwrap()).collect();
        assert!((numbers[2] - numbers[0] - (numbers[4] - numbers[2])).abs() < 0.2, "{numbers:?}");
        assert!((numbers[1] - numbers[3] - (numbers[3] - numbers[5])).abs() < 0.2, "{numbers:?}");
    }

    #[test]
    fn little_differences_look_little() {
        assert_eq!(span([19.0, 23.0].into_iter()), (5.0, 50.0));
        assert_eq!(span([1.0, 170.0].into_iter()), (1.0, 200.0));
    }

    #[test]
    fn long_numbers_have_commas() {
        assert_eq!(thousands(1.0), "1");
        assert_eq!(thousands(8192.0), "8,192");
        assert_eq!(thousands(1_048_576.0), "1,048,576");
    }
}
