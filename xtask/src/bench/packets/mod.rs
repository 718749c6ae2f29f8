//! What a packet costs in each program, by test runs in the kernel.

mod bed;
pub(super) mod cases;
mod frames;
mod load;

use std::{collections::BTreeMap, fmt, fs, path::Path};

use anyhow::{Context as _, Result};
use icmp_userspace::policy::compile::Tables;
use rustix::thread::sched_setaffinity;
use serde_json::{Value, json};

use super::{
    Effort,
    only::Only,
    policies::Subject,
    samples::{Figures, Summary, fastest_empty, is_steady, tolerance},
};
use crate::{ebpf::Objects, say::Progress};
pub(super) use bed::seclude;
pub(in crate::bench) use cases::Than;
use cases::{Case, Goal, Group, Point, Program};
use load::{Load, Programs};

/// What a case costs.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// The case.
    pub(super) name: String,
    /// Where it stands.
    pub(super) group: Group,
    /// Whether its packets come from many sources.
    pub(super) many: bool,
    /// Its figures.
    pub(super) summary: Summary,
    /// Its goal.
    pub(super) goal: Option<Goal>,
    /// Its places in charts.
    pub(super) points: Vec<Point>,
}

/// What all cases cost.
pub(super) struct Packets {
    /// Case by case.
    pub(super) lines: Vec<Line>,
    /// Nanoseconds of the empty program, which are part of both sides of each ratio.
    pub(super) empty: f64,
}

/// The names of all cases.
pub(super) fn names() -> Result<Vec<String>> {
    Ok(Case::all()?.into_iter().map(|case| case.name).collect())
}

/// Measures on one CPU those cases that are wanted, of which there is one at least; what was disturbed, twice.
pub(super) fn measure(objects: &Objects, effort: Effort, only: &Only) -> Result<Packets> {
    let all = bed::settle()?;
    let packets = measure_here(objects, effort, only)?;
    sched_setaffinity(None, &all).context("moving back to all CPUs")?;
    Ok(packets)
}

fn measure_here(objects: &Objects, effort: Effort, only: &Only) -> Result<Packets> {
    let bytes = |path: &Path| fs::read(path).with_context(|| format!("reading {}", path.display()));
    let programs = Programs { icmpctl: bytes(&objects.icmpctl)?, instruments: bytes(&objects.instruments)? };
    let mut progress = Progress::new("measuring packet by packet");
    let cases: Vec<_> = Case::all()?.into_iter().filter(|case| only.wants(&case.name)).collect();
    let mut tables = BTreeMap::new();
    for case in &cases {
        if let Program::Icmpctl(subject) = case.program
            && !tables.contains_key(&subject)
        {
            let Subject { rules, blocklist, .. } = subject;
            progress
                .show(&format!("compiling a policy of {rules} rules and {} prefixes", blocklist.prefixes));
            tables.insert(subject, subject.tables()?);
        }
    }
    let all: Vec<_> = cases.iter().collect();
    let mut loads = measure_loads(&programs, &tables, &all, effort, &mut progress)?;
    // What was disturbed gets one more chance; of how fast the machine is, both tell.
    let ratio = |loads: &[Figures]| Summary::of(loads, 1.0).ratio;
    let is_disturbed = |case: &usize| !is_steady(&ratio(&loads[*case]), cases[*case].many());
    let disturbed: Vec<_> = (0..cases.len()).filter(is_disturbed).collect();
    let mut empty = fastest_empty(&loads);
    if !disturbed.is_empty() {
        let again: Vec<_> = disturbed.iter().map(|case| &cases[*case]).collect();
        let again = measure_loads(&programs, &tables, &again, effort, &mut progress)?;
        empty = empty.min(fastest_empty(&again));
        for (case, again) in disturbed.into_iter().zip(again) {
            if ratio(&again).deviation() < ratio(&loads[case]).deviation() {
                loads[case] = again;
            }
        }
    }
    progress.leave();
    let lines = cases.into_iter().zip(&loads).map(|(case, loads)| Line {
        many: case.many(),
        name: case.name,
        group: case.group,
        summary: Summary::of(loads, empty),
        goal: case.goal,
        points: case.points,
    });
    Ok(Packets { lines: lines.collect(), empty })
}

/// Measures every case in every load. A load goes through all cases, so that what disturbs the machine for a
/// while hits one load of each and not all loads of one.
fn measure_loads(
    programs: &Programs,
    tables: &BTreeMap<Subject, Tables>,
    cases: &[&Case],
    effort: Effort,
    progress: &mut Progress,
) -> Result<Vec<Vec<Figures>>> {
    let mut loads = vec![Vec::new(); cases.len()];
    let all = cases.len();
    for number in 1..=effort.loads {
        let mut load = Load::new(programs, tables)?;
        for (at, (case, loads)) in cases.iter().zip(&mut loads).enumerate() {
            progress.show(&format!(
                "load {number} of {}, {:3.0} %: {}",
                effort.loads,
                at as f64 / all as f64 * 100.0,
                case.name
            ));
            let figures = load.measure(case, effort.rounds, effort.chunk);
            loads.push(figures.with_context(|| format!("measuring {}", case.name))?);
        }
    }
    Ok(loads)
}

impl Line {
    /// Whether the goal is met; `all` has the case that it may be compared with.
    pub(super) fn is_met(&self, all: &[Self]) -> Option<bool> {
        let Summary { net, ratio } = self.summary;
        let net_of =
            |name: &str| all.iter().find(|line| line.name == name).map(|line| line.summary.net.median);
        self.goal.map(|goal| {
            let other = goal.than.and_then(|(name, _)| net_of(name));
            goal.is_met(net.median, ratio.median, other)
        })
    }

    /// Whether its figures can be believed.
    pub(super) fn is_steady(&self) -> bool {
        is_steady(&self.summary.ratio, self.many)
    }

    /// Goal, whether it is met, and whether that can be believed.
    fn remark(&self, all: &[Self]) -> String {
        let mut remark = String::new();
        if let Some(goal) = self.goal {
            remark += &goal.to_string();
            remark += if self.is_met(all) == Some(true) { ": met" } else { ": MISSED" };
        }
        if !self.is_steady() {
            remark += " (unsteady)";
        }
        remark
    }

    fn json(&self, all: &[Self]) -> Value {
        let Summary { net, ratio } = &self.summary;
        json!({
            "case": self.name,
            "group": self.group.name(),
            "net_ns": net.json(),
            "ratio_to_mac_swap": ratio.json(),
            "steady": self.is_steady(),
            "goal": self.goal.map(|goal| json!({
                "net_ns": goal.net.is_finite().then_some(goal.net),
                "ratio_to_mac_swap": goal.ratio,
                "than": goal.than.map(|(name, than)| match than {
                    Than::Times(times) => json!({ "case": name, "times": times }),
                    Than::Plus(ns) => json!({ "case": name, "more_ns": ns }),
                }),
                "met": self.is_met(all),
            })),
        })
    }
}

impl Packets {
    /// As JSON.
    pub(super) fn json(&self) -> Value {
        let cases: Vec<_> = self.lines.iter().map(|line| line.json(&self.lines)).collect();
        json!({ "empty_ns": self.empty, "cases": cases })
    }
}

impl fmt::Display for Packets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.lines.iter().map(|line| line.name.len()).max().unwrap_or_default() + 2;
        writeln!(
            f,
            "{:<width$} {:>7} {:>14} {:>7} {:>12}  GOAL",
            "PACKET BY PACKET", "NET NS", "SPREAD", "RATIO", "SPREAD"
        )?;
        let mut group = None;
        for line in &self.lines {
            if group.replace(line.group) != Some(line.group) {
                writeln!(f, "{}", line.group.name())?;
            }
            let Summary { net, ratio } = &line.summary;
            let row = format!(
                "  {:<width$} {:>7.1} {:>14} {:>6.2}x {:>12}  {}",
                line.name,
                net.median,
                format!("{:.1}..{:.1}", net.least, net.most),
                ratio.median,
                format!("{:.2}..{:.2}", ratio.least, ratio.most),
                line.remark(&self.lines),
                width = width - 2
            );
            writeln!(f, "{}", row.trim_end())?;
        }
        writeln!(
            f,
            "\nNET NS: nanoseconds a packet more than an empty program, which takes {:.1} with the entry that all have.\n\
             RATIO: to a program that only exchanges the MAC addresses, both with that entry.",
            self.empty
        )?;
        if self.lines.iter().any(|line| !line.is_steady()) {
            writeln!(
                f,
                "(unsteady): the ratio of one load was more than {:.0} % away from the median (with many sources {:.0} %), and again when \
                 repeated:\nsomething else keeps this machine busy. Don't trust these lines; measure again when \
                 it is quiet.",
                tolerance(false) * 100.0,
                tolerance(true) * 100.0
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::samples::Spread, *};

    fn line(name: &str, net: f64, ratio: [f64; 3], goal: Option<Goal>) -> Line {
        let net = Spread { median: net, least: net - 0.25, most: net + 0.25 };
        let ratio = Spread { median: ratio[1], least: ratio[0], most: ratio[2] };
        let group = if goal.is_some() { Group::Echo } else { Group::Floors };
        let summary = Summary { net, ratio };
        Line { name: name.to_owned(), group, many: false, summary, goal, points: Vec::new() }
    }

    fn packets() -> Packets {
        let goal = Some(Goal { net: 6.0, ratio: Some(1.2), than: None });
        let lines = vec![
            line("bare MAC swap", 1.25, [0.99, 1.0, 1.01], None),
            line("echo", 5.5, [1.1, 1.15, 1.19], goal),
            line("slow echo", 9.0, [1.2, 1.3, 1.5], goal),
        ];
        Packets { lines, empty: 8.0 }
    }

    #[test]
    fn columns_are_aligned_and_goals_are_marked() {
        let text = packets().to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "PACKET BY PACKET  NET NS         SPREAD   RATIO       SPREAD  GOAL");
        assert_eq!(lines[1], "Floors");
        assert_eq!(lines[2], "  bare MAC swap     1.2       1.0..1.5   1.00x   0.99..1.01");
        assert_eq!(lines[3], "Answers, no rules");
        assert_eq!(
            lines[4],
            "  echo              5.5       5.2..5.8   1.15x   1.10..1.19  at most 6 ns and 1.2x: met"
        );
        assert!(lines[5].ends_with("at most 6 ns and 1.2x: MISSED (unsteady)"), "{}", lines[5]);
        assert!(text.contains("more than 8 % away"), "{text}");
    }

    #[test]
    fn many_sources_may_spread_more() {
        let line = packets().lines.remove(2);
        assert!(!line.is_steady());
        assert!(Line { many: true, ..line }.is_steady());
    }

    #[test]
    fn json_says_the_same() {
        let json = packets().json();
        assert_eq!(json["cases"][1]["goal"]["met"], true);
        assert_eq!(json["cases"][2]["steady"], false);
        assert_eq!(json["cases"][0]["goal"], Value::Null);
        assert_eq!(json["cases"][1]["ratio_to_mac_swap"]["median"], 1.15);
    }
}
