//! Charts as SVG, to stand in a page whose style sheet has the colours: horizontal bars with their spread, and curves over logarithmic
//! axes.

use std::fmt::Write as _;

use super::super::samples::Spread;

/// Width of every chart, in units of its own: it is as wide as there is room for.
const WIDTH: f64 = 860.0;
/// Height of a bar's row, and of the bar.
const ROW: f64 = 24.0;
const BAR: f64 = 12.0;
/// Where bars begin and end; their values stand behind them.
const LEFT: f64 = 330.0;
const RIGHT: f64 = 640.0;

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
}

/// Bars one below the other.
pub(super) fn bars(bars: &[Bar]) -> String {
    let ends = bars.iter().flat_map(|bar| [bar.value.most, bar.goal.unwrap_or_default()]);
    let scale = (RIGHT - LEFT) / ends.fold(f64::MIN_POSITIVE, f64::max);
    let x = |value: f64| LEFT + value.max(0.0) * scale;
    let height = bars.len() as f64 * ROW;
    let mut svg = begin(WIDTH, height);
    for (number, Bar { label, value, class, text, goal }) in bars.iter().enumerate() {
        let top = number as f64 * ROW;
        let middle = top + ROW / 2.0;
        let (begin, end) = (x(0.0), x(value.median));
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" class=\"label\">{}</text>\
             <rect x=\"{begin:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{BAR}\" rx=\"2\" class=\"{class}\"/>\
             <path d=\"M{:.1} {middle:.1}H{:.1}\" class=\"spread\"/>",
            LEFT - 10.0,
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
        let behind = end.max(x(value.most)).max(goal.map_or(0.0, x)) + 8.0;
        let _ = write!(
            svg,
            "<text x=\"{behind:.1}\" y=\"{:.1}\" class=\"value\">{}</text>",
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
const HEIGHT: f64 = 340.0;
const AXIS_LEFT: f64 = 56.0;
const AXIS_BELOW: f64 = 44.0;
const ABOVE: f64 = 12.0;
const BESIDE: f64 = 24.0;

/// Curves over two logarithmic axes, with what each is below them.
pub(super) fn curves(across: &str, up: &str, curves: &[Curve]) -> String {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let xs = span(points().map(|(x, _)| *x));
    // A nanosecond is the least that can be told.
    let ys = span(points().flat_map(|(_, y)| [y.least, y.median, y.most]).map(|y| y.max(1.0)));
    let x = |value: f64| {
        AXIS_LEFT
            + 16.0
            + (value / xs.0).log10() / (xs.1 / xs.0).log10() * (WIDTH - AXIS_LEFT - 16.0 - BESIDE)
    };
    let floor = HEIGHT - AXIS_BELOW;
    let y = |value: f64| floor - (value.max(1.0) / ys.0).log10() / (ys.1 / ys.0).log10() * (floor - ABOVE);
    let mut svg = begin(WIDTH, HEIGHT);
    for (value, is_power) in ticks(ys) {
        let at = y(value);
        let _ = write!(svg, "<path d=\"M{AXIS_LEFT} {at:.1}H{:.1}\" class=\"grid\"/>", WIDTH - BESIDE);
        if is_power || ys.1 / ys.0 <= 100.0 {
            let _ = write!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" class=\"label\">{value}</text>",
                AXIS_LEFT - 8.0,
                at + 4.0
            );
        }
    }
    for value in places(points().map(|(x, _)| *x)) {
        let at = x(value);
        let _ = write!(
            svg,
            "<path d=\"M{at:.1} {floor:.1}v5\" class=\"axis\"/><text x=\"{at:.1}\" y=\"{:.1}\" class=\"tick\">{}</text>",
            floor + 19.0,
            thousands(value)
        );
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

/// The least and the largest value, a little apart.
fn span(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (least, most) =
        values.fold((f64::INFINITY, 0.0_f64), |(least, most), value| (least.min(value), most.max(value)));
    (least / 1.15, most * 1.15)
}

/// Where lines across a chart are: at 1, 2 and 5 and their multiples by ten; and whether one is at a power of ten.
fn ticks((least, most): (f64, f64)) -> Vec<(f64, bool)> {
    let powers = (0..10).map(|power| 10_f64.powi(power));
    let all = powers.flat_map(|power| [(power, true), (2.0 * power, false), (5.0 * power, false)]);
    all.filter(|(value, _)| (least..=most).contains(value)).collect()
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
        };
        let svg = bars(&[bar(100.0), bar(50.0), bar(-1.0)]);
        assert!(svg.contains("width=\"310.0\""), "{svg}");
        assert!(svg.contains("width=\"155.0\""), "{svg}");
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
    fn long_numbers_have_commas() {
        assert_eq!(thousands(1.0), "1");
        assert_eq!(thousands(8192.0), "8,192");
        assert_eq!(thousands(1_048_576.0), "1,048,576");
    }
}
