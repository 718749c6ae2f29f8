//! Panels as SVG, laid out as Grafana does it in the dark, as far as this dashboard has them: numbers, lines, bars, a table.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    time::Duration,
};

use icmp_userspace::duration;
use serde_json::Value;

use super::Series;

/// What one of 24 columns, and a row, has for a panel and the gap behind it.
const CELL: [f64; 2] = [50.0, 36.0];
const GAP: f64 = 8.0;
/// About the width of a character.
const CHARACTER: f64 = 6.4;
/// One series after the other.
const PALETTE: [&str; 10] = [
    "#7eb26d", "#eab839", "#6ed0e0", "#ef843c", "#e24d42", "#1f78c1", "#ba43a9", "#705da0", "#508642",
    "#cca300",
];

/// Writing to a string can't fail.
macro_rules! draw {
    ($svg:expr, $($argument:tt)+) => { let _ = writeln!($svg, $($argument)+); };
}

/// The whole picture.
pub(super) fn draw(panels: &[Value], found: &[Vec<Series>], range: (f64, f64)) -> String {
    let place = |panel: &Value| {
        let side = |name: &str, of: usize| panel["gridPos"][name].as_f64().unwrap_or_default() * CELL[of];
        [side("x", 0) + GAP, side("y", 1) + GAP, side("w", 0) - GAP, side("h", 1) - GAP]
    };
    let bottom = panels.iter().map(place).map(|[_, y, _, h]| y + h).fold(0.0, f64::max);
    let mut svg = String::new();
    draw!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"system-ui, sans-serif\" font-size=\"12\" \
         fill=\"#ccccdc\">\n<title>The dashboard of icmpctl</title><rect width=\"100%\" height=\"100%\" fill=\"#111217\"/>",
        24.0 * CELL[0] + GAP,
        bottom + GAP
    );
    for (panel, found) in panels.iter().zip(found) {
        let [x, y, w, h] = place(panel);
        draw!(
            svg,
            "<svg x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\"><rect width=\"100%\" height=\"100%\" rx=\"3\" fill=\"#181b1f\"/>\
             <text x=\"10\" y=\"20\" font-weight=\"600\" font-size=\"13\">{}</text>",
            Escaped(panel["title"].as_str().unwrap_or_default())
        );
        let mut panel = Panel { w, h, panel, found, range, svg: &mut svg };
        match panel.panel["type"].as_str() {
            Some("stat") => panel.stat(),
            Some("timeseries") => panel.lines(),
            Some("bargauge") => panel.bars(),
            _ => panel.table(),
        }
        draw!(svg, "</svg>");
    }
    draw!(svg, "</svg>");
    svg
}

struct Panel<'a> {
    w: f64,
    h: f64,
    panel: &'a Value,
    found: &'a [Series],
    range: (f64, f64),
    svg: &'a mut String,
}

impl Panel<'_> {
    fn text(&mut self, x: f64, y: f64, anchor: &str, text: &str) {
        draw!(self.svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", Escaped(text));
    }

    /// Text that is cut where there is no room for it.
    fn cut(&mut self, x: f64, y: f64, width: f64, text: &str) {
        let room = (width / CHARACTER) as usize;
        let is_long = text.chars().count() > room;
        let cut: String = text.chars().take(room.saturating_sub(usize::from(is_long))).collect();
        self.text(x, y, "start", &if is_long { cut + "\u{2026}" } else { cut });
    }

    fn defaults(&self) -> &Value {
        &self.panel["fieldConfig"]["defaults"]
    }

    fn amount(&self, value: f64) -> String {
        amount(value, self.defaults()["unit"].as_str().unwrap_or_default())
    }

    fn name(&self, series: &Series) -> String {
        let legend = self.panel["targets"][0]["legendFormat"].as_str().unwrap_or_default();
        let parts = legend.split("{{").map(|part| match part.split_once("}}") {
            Some((label, rest)) => format!("{}{rest}", series.labels[label].as_str().unwrap_or_default()),
            None => part.to_owned(),
        });
        parts.collect::<String>().trim().to_owned()
    }

    fn stat(&mut self) {
        let (w, h) = (self.w, self.h);
        let Some(series) = self.found.first() else {
            return self.text(w / 2.0, h / 2.0, "middle", "No data");
        };
        let last = series.last();
        let steps = self.defaults()["thresholds"]["steps"].as_array().into_iter().flatten().rev();
        let mut reached = steps.filter(|step| step["value"].as_f64().is_none_or(|value| last >= value));
        let colour = reached.next().map_or("", |step| step["color"].as_str().unwrap_or_default()).to_owned();
        let mapped = self.defaults()["mappings"][0]["options"][last.to_string()]["text"].as_str();
        let shown = mapped.map_or_else(|| self.amount(last), str::to_owned);
        if self.panel["options"]["graphMode"] == "area" {
            let highest = series.points.iter().map(|(_, value)| *value).fold(f64::MIN_POSITIVE, f64::max);
            let (from, to) = self.range;
            let points = series.points.iter();
            let line = path(
                points.map(|(time, value)| ((time - from) / (to - from) * w, h - value / highest * h * 0.35)),
            );
            draw!(self.svg, "<path d=\"M0 {h}L{line}V{h}z\" fill=\"{colour}\" fill-opacity=\".25\"/>");
        }
        draw!(self.svg, "<g font-size=\"34\" fill=\"{colour}\">");
        self.text(w / 2.0, h / 2.0 + 16.0, "middle", &shown);
        draw!(self.svg, "</g>");
    }

    fn lines(&mut self) {
        let (w, h) = (self.w, self.h);
        let stacked = self.defaults()["custom"]["stacking"]["mode"] == "normal";
        // What lies below a series at each time.
        let mut below: BTreeMap<u64, f64> = BTreeMap::new();
        let spans = self.found.iter().map(|series| {
            let spans = series.points.iter().map(|(time, value)| {
                let base = if stacked { below.entry(*time as u64).or_default() } else { &mut 0.0 };
                let bottom = std::mem::replace(base, *base + value);
                (*time, bottom, *base)
            });
            spans.collect::<Vec<_>>()
        });
        let spans: Vec<_> = spans.collect();
        let highest = spans.iter().flatten().map(|(.., top)| *top).fold(0.0, f64::max);
        let highest = self.defaults()["max"].as_f64().unwrap_or(if highest > 0.0 { highest } else { 1.0 });
        let step = step(highest);
        let steps = (highest / step).ceil();
        let ((from, to), left, right, bottom) = (self.range, 72.0, w * 0.56, h - 26.0);
        let x = |time: f64| left + (time - from) / (to - from) * (right - left);
        let y = |value: f64| bottom - value / (steps * step) * (bottom - 36.0);
        for value in (0..=steps as u32).map(|number| f64::from(number) * step) {
            draw!(self.svg, "<path d=\"M{left} {:.1}H{right:.1}\" stroke=\"#2c3235\"/>", y(value));
            let shown = self.amount(value);
            self.text(left - 8.0, y(value) + 4.0, "end", &shown);
        }
        for seconds in (0..=(to - from) as u32).step_by(30) {
            let shown = format!("{}:{:02}", seconds / 60, seconds % 60);
            self.text(x(from + f64::from(seconds)), h - 8.0, "middle", &shown);
        }
        self.text(w - 10.0, 28.0, "end", "Last *");
        for (number, (series, spans)) in self.found.iter().zip(&spans).enumerate() {
            let name = self.name(series);
            let overrides = self.panel["fieldConfig"]["overrides"].as_array().into_iter().flatten();
            let mut own = overrides.filter(|entry| entry["matcher"]["options"] == *name);
            let own = own.next().and_then(|own| own["properties"][0]["value"]["fixedColor"].as_str());
            let colour = own.unwrap_or(PALETTE[number % PALETTE.len()]).to_owned();
            let line = path(spans.iter().map(|(time, _, top)| (x(*time), y(*top))));
            let base = path(spans.iter().rev().map(|(time, bottom, _)| (x(*time), y(*bottom))));
            let opacity = if stacked { 0.25 } else { 0.1 };
            draw!(self.svg, "<path d=\"M{line}L{base}z\" fill=\"{colour}\" fill-opacity=\"{opacity}\"/>");
            draw!(self.svg, "<path d=\"M{line}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.3\"/>");
            // Those for which there is no room can be scrolled to in Grafana.
            let place = 46.0 + number as f64 * 18.0;
            if place < h {
                let (x, y) = (right + 16.0, place - 5.0);
                draw!(self.svg, "<path d=\"M{x:.1} {y}h12\" stroke=\"{colour}\" stroke-width=\"3\"/>");
                self.cut(right + 34.0, place, w - right - 108.0, &name);
                let shown = self.amount(series.last());
                self.text(w - 10.0, place, "end", &shown);
            }
        }
    }

    fn bars(&mut self) {
        let mut found: Vec<_> = self.found.iter().collect();
        found.sort_by(|a, b| b.last().total_cmp(&a.last()));
        let highest = found.first().map_or(1.0, |series| series.last());
        let height = ((self.h - 40.0) / found.len().max(1) as f64).min(26.0);
        let (begin, end) = (self.w * 0.56, self.w - 84.0);
        for (number, series) in found.into_iter().enumerate() {
            let (y, width) = (34.0 + number as f64 * height, (end - begin) * series.last() / highest);
            let (name, shown) = (self.name(series), self.amount(series.last()));
            self.cut(10.0, y + height / 2.0 + 4.0, begin - 18.0, &name);
            draw!(
                self.svg,
                "<rect x=\"{begin:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"#5794f2\"/>",
                y + 3.0,
                height - 6.0
            );
            self.text(self.w - 10.0, y + height / 2.0 + 4.0, "end", &shown);
        }
    }

    fn table(&mut self) {
        let order = self.panel["transformations"][0]["options"]["indexByName"].as_object();
        let mut columns: Vec<_> = order.into_iter().flatten().collect();
        columns.sort_by_key(|(_, place)| place.as_u64());
        let width = (self.w - 20.0) / columns.len().max(1) as f64;
        for (column, (label, _)) in columns.into_iter().enumerate() {
            let x = 10.0 + column as f64 * width;
            draw!(self.svg, "<g fill=\"#6e9fff\">");
            self.cut(x, 46.0, width, label);
            draw!(self.svg, "</g>");
            for (row, series) in self.found.iter().enumerate() {
                let value = series.labels[label].as_str().unwrap_or_default();
                self.cut(x, 68.0 + row as f64 * 22.0, width, value);
            }
        }
    }
}

/// Points of a path, without the command before the first.
fn path(points: impl Iterator<Item = (f64, f64)>) -> String {
    points.map(|(x, y)| format!("{x:.1} {y:.1}")).collect::<Vec<_>>().join("L")
}

/// The shortest step of 1, 2 or 5 of some power of ten of which no more than five come up to a number.
fn step(highest: f64) -> f64 {
    let power = 10_f64.powf((highest / 5.0).log10().floor());
    let mut steps = [1.0, 2.0, 5.0].map(|step| step * power).into_iter();
    steps.find(|step| highest / step <= 5.0).unwrap_or(power * 10.0)
}

/// A value as Grafana writes it.
fn amount(value: f64, unit: &str) -> String {
    let unit = match unit {
        "pps" => "p/s",
        "ops" => "ops/s",
        "Bps" => "B/s",
        "percentunit" => return format!("{:.0}%", value * 100.0),
        "dtdurations" => return duration::show(Duration::from_secs_f64(value.max(0.0))),
        _ => return value.to_string(),
    };
    let (value, prefix) = match value {
        1e6.. => (value / 1e6, "M"),
        1e3.. => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = match value {
        100.0.. => 0,
        _ if value.fract() == 0.0 => 0,
        10.0.. => 1,
        _ => 2,
    };
    format!("{value:.digits$} {prefix}{unit}")
}

/// Text between tags.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.replace('&', "&amp;").replace('<', "&lt;"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_few_round_numbers() {
        assert_eq!([4.9, 5.0, 5.1, 11.0, 260.0, 3e6].map(step), [1.0, 1.0, 2.0, 5.0, 100.0, 1e6]);
    }

    #[test]
    fn amounts_are_short() {
        let shown = [0.0, 0.25, 7.0, 12.5, 392_680.0, 2.5e6].map(|value| amount(value, "pps"));
        assert_eq!(shown, ["0 p/s", "0.25 p/s", "7 p/s", "12.5 p/s", "393 kp/s", "2.50 Mp/s"]);
        assert_eq!([amount(0.071, "percentunit"), amount(61.0, "dtdurations")], ["7%", "1m1s"]);
    }
}
