//! What the bench prints: an aligned table, or the same as JSON.

use std::fmt;

use serde_json::{Value, json};

use super::{
    cases::Goal,
    changes, end_to_end,
    samples::{Spread, Summary},
};

/// Most that the ratio of one load may be away from the median of all, as a part of it.
const TOLERANCE: f64 = 0.08;
/// The same with many sources, where caches miss.
const TOLERANCE_MANY: f64 = 0.25;

/// A line of the report.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// The case.
    pub(super) name: String,
    /// Whether its packets come from many sources.
    pub(super) many: bool,
    /// Its figures.
    pub(super) summary: Summary,
    /// Its goal.
    pub(super) goal: Option<Goal>,
}

/// Everything that was measured, and how.
pub(super) struct Report {
    /// What each packet costs.
    pub(super) lines: Vec<Line>,
    /// What each change of policy costs.
    pub(super) changes: Vec<changes::Line>,
    /// What a packet costs from end to end.
    pub(super) end_to_end: Vec<end_to_end::Line>,
    /// Loads of each program.
    pub(super) loads: usize,
    /// Rounds of each load.
    pub(super) rounds: usize,
    /// Source addresses.
    pub(super) sources: u32,
    /// Nanoseconds of the empty program, which are part of both sides of each ratio.
    pub(super) empty: f64,
    /// The kernel's release.
    pub(super) kernel: String,
}

/// Whether a ratio is steady enough to be believed.
pub(super) fn is_steady(ratio: &Spread, many: bool) -> bool {
    ratio.deviation() <= tolerance(many)
}

fn tolerance(many: bool) -> f64 {
    if many { TOLERANCE_MANY } else { TOLERANCE }
}

impl Line {
    /// Whether the goal is met; `all` has the case that it may be compared with.
    fn is_met(&self, all: &[Self]) -> Option<bool> {
        let Summary { net, ratio } = self.summary;
        let net_of =
            |name: &str| all.iter().find(|line| line.name == name).map(|line| line.summary.net.median);
        self.goal.map(|goal| {
            let other = goal.than.and_then(|(name, _)| net_of(name));
            goal.is_met(net.median, ratio.median, other)
        })
    }

    /// Goal, whether it is met, and whether that can be believed.
    fn remark(&self, all: &[Self]) -> String {
        let mut remark = String::new();
        if let Some(Goal { net, ratio, than }) = self.goal {
            let net = net.is_finite().then(|| format!("{net} ns"));
            let ratio = ratio.map(|ratio| format!("{ratio}x"));
            let than = than.map(|(name, times)| format!("{times} times \"{name}\""));
            let parts: Vec<_> = [net, ratio, than].into_iter().flatten().collect();
            remark += &format!("at most {}", parts.join(" and "));
            remark += if self.is_met(all) == Some(true) { ": met" } else { ": MISSED" };
        }
        if !is_steady(&self.summary.ratio, self.many) {
            remark += " (unsteady)";
        }
        remark
    }

    fn json(&self, all: &[Self]) -> Value {
        let Summary { net, ratio } = &self.summary;
        json!({
            "case": self.name,
            "net_ns": net.json(),
            "ratio_to_mac_swap": ratio.json(),
            "steady": is_steady(&self.summary.ratio, self.many),
            "goal": self.goal.map(|goal| json!({
                "net_ns": goal.net.is_finite().then_some(goal.net),
                "ratio_to_mac_swap": goal.ratio,
                "times_another_case": goal.than.map(|(name, times)| json!({ "case": name, "times": times })),
                "met": self.is_met(all),
            })),
        })
    }
}

impl Report {
    /// As JSON.
    pub(super) fn json(&self) -> Value {
        json!({
            "kernel": self.kernel,
            "loads": self.loads,
            "rounds": self.rounds,
            "sources": self.sources,
            "empty_ns": self.empty,
            "cases": self.lines.iter().map(|line| line.json(&self.lines)).collect::<Vec<_>>(),
            "changes": self.changes.iter().map(changes::Line::json).collect::<Vec<_>>(),
            "end_to_end": self.end_to_end.iter().map(end_to_end::Line::json).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.lines.iter().map(|line| line.name.len()).max().unwrap_or_default();
        writeln!(
            f,
            "{:<width$} {:>7} {:>14} {:>7} {:>12}  GOAL",
            "CASE", "NET NS", "SPREAD", "RATIO", "SPREAD"
        )?;
        for line in &self.lines {
            let Summary { net, ratio } = &line.summary;
            let row = format!(
                "{:<width$} {:>7.1} {:>14} {:>6.2}x {:>12}  {}",
                line.name,
                net.median,
                format!("{:.1}..{:.1}", net.least, net.most),
                ratio.median,
                format!("{:.2}..{:.2}", ratio.least, ratio.most),
                line.remark(&self.lines)
            );
            writeln!(f, "{}", row.trim_end())?;
        }
        let Self { loads, rounds, sources, empty, kernel, .. } = self;
        let many = if *sources > 1 { format!(", {sources} sources") } else { String::new() };
        writeln!(
            f,
            "\nNET NS: nanoseconds a packet more than an empty program, which takes {empty:.1} with the entry that \
             all have.\nRATIO: to a program that only exchanges the MAC addresses, both with that entry.\n\
             Medians and spread of {loads} loads with {rounds} rounds each{many}; Linux {kernel}."
        )?;
        if self.lines.iter().any(|line| !is_steady(&line.summary.ratio, line.many)) {
            writeln!(
                f,
                "(unsteady): the ratio of one load was more than {:.0} % away from the median (with many sources {:.0} %), and again when \
                 repeated:\nsomething else keeps this machine busy. Don't trust these lines; measure again when \
                 it is quiet.",
                tolerance(false) * 100.0,
                tolerance(true) * 100.0
            )?;
        }
        write!(f, "\n{}\n{}", end_to_end::Listing(&self.end_to_end), changes::Listing(&self.changes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, net: f64, ratio: [f64; 3], goal: Option<Goal>) -> Line {
        let net = Spread { median: net, least: net - 0.25, most: net + 0.25 };
        let ratio = Spread { median: ratio[1], least: ratio[0], most: ratio[2] };
        Line { name: name.to_owned(), many: false, summary: Summary { net, ratio }, goal }
    }

    fn report() -> Report {
        let goal = Some(Goal { net: 6.0, ratio: Some(1.2), than: None });
        Report {
            lines: vec![
                line("bare MAC swap", 1.25, [0.99, 1.0, 1.01], None),
                line("echo", 5.5, [1.1, 1.15, 1.19], goal),
                line("slow echo", 9.0, [1.2, 1.3, 1.5], goal),
            ],
            changes: Vec::new(),
            end_to_end: Vec::new(),
            loads: 5,
            rounds: 7,
            sources: 1,
            empty: 8.0,
            kernel: "6.18.0".to_owned(),
        }
    }

    #[test]
    fn columns_are_aligned_and_goals_are_marked() {
        let text = report().to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "CASE           NET NS         SPREAD   RATIO       SPREAD  GOAL");
        assert_eq!(lines[1], "bare MAC swap     1.2       1.0..1.5   1.00x   0.99..1.01");
        assert_eq!(
            lines[2],
            "echo              5.5       5.2..5.8   1.15x   1.10..1.19  at most 6 ns and 1.2x: met"
        );
        assert!(lines[3].ends_with("at most 6 ns and 1.2x: MISSED (unsteady)"), "{}", lines[3]);
        assert!(text.contains("more than 8 % away"), "{text}");
    }

    #[test]
    fn many_sources_may_spread_more() {
        let Report { lines, .. } = report();
        assert!(!is_steady(&lines[2].summary.ratio, false));
        assert!(is_steady(&lines[2].summary.ratio, true));
    }

    #[test]
    fn json_says_the_same() {
        let json = report().json();
        assert_eq!(json["cases"][1]["goal"]["met"], true);
        assert_eq!(json["cases"][2]["steady"], false);
        assert_eq!(json["cases"][0]["goal"], Value::Null);
        assert_eq!(json["cases"][1]["ratio_to_mac_swap"]["median"], 1.15);
    }
}
