//! `--check`: whether something has become slower than tests/bench-baseline.json says, by ratios alone; `--bless` writes that file.
//!
//! A ratio of two programs that were timed within milliseconds holds on a machine of the same kind: that of a case to the bare MAC
//! swap, that of icmpctl to somebody else who faced the same flood. On another processor a cache miss or a branch may cost twice as
//! many instructions as here, and nobody has done anything wrong. What carries over is how our own cases stand to one another, as long
//! as they differ in what should cost nothing or little: ten thousand rules instead of ten, a million prefixes instead of a thousand, a
//! second VLAN tag. These relations, with room for what processors differ in, are all that is compared on another machine, and all that
//! the short form compares anywhere.

use std::{collections::BTreeMap, fmt, fs, path::PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{
    end_to_end::{self, Kind},
    packets::Packets,
    report::{Machine, Report},
    samples::tolerance,
};
use crate::cargo::workspace;

/// Cases of which one should not cost much more than another.
const RELATIONS: [(&str, &str); 12] = [
    ("echo behind 1,000 rules", "echo behind 10 rules"),
    ("echo behind 10,000 rules", "echo behind 10 rules"),
    ("deny by 1,000,000 prefixes, scattered, one source", "deny by 1,000 prefixes, scattered, one source"),
    ("deny by 1,000,000 prefixes, clustered, one source", "deny by 1,000 prefixes, clustered, one source"),
    ("deny by 1,000,000 prefixes, IPv6, one source", "deny by 1,000 prefixes, IPv6, one source"),
    ("echo IPv4, 1472 bytes, not verified", "echo IPv4, 56 bytes, not verified"),
    ("echo IPv6, 56 bytes, not verified", "echo IPv4, 56 bytes, not verified"),
    ("echo IPv4, two VLAN tags", "echo IPv4, 56 bytes, not verified"),
    ("echo IPv4, 56 bytes, verified", "echo IPv4, 56 bytes, not verified"),
    ("echo IPv4, 56 bytes, not verified", "minimal echo, one source"),
    ("TCP IPv4, the whole policy", "empty program"),
    ("whole policy, 1 MB of buckets, one source", "echo behind 10 rules"),
];
/// How much larger a relation may be: by as much as processors differ, and by what a busy machine adds.
const TOLERANCE_RELATION: f64 = 0.35;

/// Ratios by name. The smaller one is, the better.
type Ratios = BTreeMap<String, Ratio>;

/// A ratio.
#[derive(Clone, Debug, PartialEq)]
struct Ratio {
    value: f64,
    /// By what part it may be larger.
    tolerance: f64,
    /// The cases that it is made of.
    of: Vec<String>,
    /// Whether it means something on another machine.
    carries_over: bool,
}

/// What the file says.
pub(super) struct Baseline {
    /// The machine that it is from, as JSON.
    machine: Value,
    ratios: BTreeMap<String, f64>,
}

/// What is worse than it was, and by how much.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Worse {
    /// The ratio.
    pub(super) name: String,
    was: f64,
    is: f64,
    tolerance: f64,
    /// The cases that have to be measured again to be sure.
    pub(super) of: Vec<String>,
}

/// Which ratios are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// All.
    All,
    /// Those that mean something on another machine.
    CarriesOver,
}

/// Cases without which nothing that carries over can be compared.
pub(super) fn related() -> Vec<String> {
    RELATIONS.iter().flat_map(|(case, other)| [case, other]).map(|name| (*name).to_owned()).collect()
}

fn path() -> PathBuf {
    workspace().join("tests/bench-baseline.json")
}

/// All ratios of what was measured.
fn ratios(report: &Report) -> Ratios {
    let mut ratios = Ratios::new();
    if let Some(packets) = &report.packets {
        ratios.extend(of_packets(packets));
    }
    for line in &report.end_to_end {
        ratios.extend(of_flood(line));
    }
    ratios
}

fn of_packets(packets: &Packets) -> impl Iterator<Item = (String, Ratio)> {
    let single = packets.lines.iter().map(|line| {
        let value = line.summary.ratio.median;
        let of = vec![line.name.clone()];
        let ratio = Ratio { value, tolerance: tolerance(line.many), of, carries_over: false };
        (line.name.clone(), ratio)
    });
    let value = |name: &str| {
        packets.lines.iter().find(|line| line.name == name).map(|line| line.summary.ratio.median)
    };
    let related = RELATIONS.iter().filter_map(move |(case, other)| {
        let of = vec![(*case).to_owned(), (*other).to_owned()];
        let value = value(case)? / value(other)?;
        let ratio = Ratio { value, tolerance: TOLERANCE_RELATION, of, carries_over: true };
        Some((format!("{case}, to: {other}"), ratio))
    });
    single.chain(related)
}

fn of_flood(line: &end_to_end::Line) -> impl Iterator<Item = (String, Ratio)> {
    let others = line.entrants.iter().filter(|entrant| matches!(entrant.kind, Kind::Floor | Kind::Peer));
    others.filter_map(|entrant| {
        let outcome = entrant.outcome.as_ref().ok()?;
        let tolerance = if line.many { tolerance(true) } else { end_to_end::TOLERANCE };
        let of = vec![line.name.clone()];
        let ratio = Ratio { value: 1.0 / outcome.ratio.median, tolerance, of, carries_over: false };
        Some((format!("{}, end to end, to: {}", line.name, entrant.name), ratio))
    })
}

/// Writes the file.
pub(super) fn write(report: &Report) -> Result<()> {
    let path = path();
    // Four digits tell more than there is to be known.
    let ratios: BTreeMap<_, _> = ratios(report)
        .into_iter()
        .map(|(name, ratio)| (name, (ratio.value * 1000.0).round() / 1000.0))
        .collect();
    let text = format!("{:#}\n", json!({ "machine": report.machine.json(), "ratios": ratios }));
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}

impl Baseline {
    /// Reads the file.
    pub(super) fn read() -> Result<Self> {
        let path = path();
        let what = || format!("reading {}, which `cargo xtask bench --bless` writes", path.display());
        let text = fs::read_to_string(&path).with_context(what)?;
        let value: Value = serde_json::from_str(&text).with_context(what)?;
        let ratios = serde_json::from_value(value["ratios"].clone()).with_context(what)?;
        Ok(Self { machine: value["machine"].clone(), ratios })
    }

    /// What can be compared on a machine.
    pub(super) fn scope_on(&self, machine: &Machine) -> Scope {
        if self.machine == machine.json() { Scope::All } else { Scope::CarriesOver }
    }

    /// What is worse than it was, and how much was compared.
    pub(super) fn compare(&self, report: &Report, scope: Scope) -> (Vec<Worse>, usize) {
        self.compare_ratios(&ratios(report), scope)
    }

    fn compare_ratios(&self, ratios: &Ratios, scope: Scope) -> (Vec<Worse>, usize) {
        let in_scope = ratios.iter().filter(|(_, ratio)| scope == Scope::All || ratio.carries_over);
        let known: Vec<_> =
            in_scope.filter_map(|(name, ratio)| Some((name, ratio, *self.ratios.get(name)?))).collect();
        let worse = known.iter().filter(|(_, ratio, was)| ratio.value > was * (1.0 + ratio.tolerance));
        let worse = worse.map(|(name, Ratio { value, tolerance, of, .. }, was)| Worse {
            name: (*name).clone(),
            was: *was,
            is: *value,
            tolerance: *tolerance,
            of: of.clone(),
        });
        (worse.collect(), known.len())
    }
}

impl fmt::Display for Worse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, was, is, tolerance, .. } = self;
        let more = (is / was - 1.0) * 100.0;
        write!(
            f,
            "{name}: {is:.3} instead of {was:.3}, {more:.0} % more where {:.0} % are allowed",
            tolerance * 100.0
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{super::packets, *};

    fn baseline(was: f64) -> Baseline {
        Baseline {
            machine: json!({}),
            ratios: BTreeMap::from([("a".to_owned(), was), ("b".to_owned(), 1.0)]),
        }
    }

    fn measured(value: f64, carries_over: bool) -> Ratios {
        Ratios::from([(
            "a".to_owned(),
            Ratio { value, tolerance: 0.08, of: vec!["case".to_owned()], carries_over },
        )])
    }

    #[test]
    fn what_is_worse_by_more_than_the_tolerance_is_named() {
        let (worse, compared) = baseline(2.0).compare_ratios(&measured(2.2, false), Scope::All);
        assert_eq!(compared, 1);
        assert_eq!(worse[0].to_string(), "a: 2.200 instead of 2.000, 10 % more where 8 % are allowed");
        assert_eq!(worse[0].of, ["case"]);
        for better in [2.15, 2.0, 1.0] {
            assert_eq!(baseline(2.0).compare_ratios(&measured(better, false), Scope::All).0, []);
        }
    }

    #[test]
    fn on_another_machine_only_that_is_compared_which_carries_over() {
        let compared =
            |carries_over| baseline(2.0).compare_ratios(&measured(9.0, carries_over), Scope::CarriesOver).1;
        assert_eq!((compared(false), compared(true)), (0, 1));
        let here = Machine::here();
        assert_eq!(baseline(1.0).scope_on(&here), Scope::CarriesOver);
        let same = Baseline { machine: here.json(), ..baseline(1.0) };
        assert_eq!(same.scope_on(&here), Scope::All);
    }

    #[test]
    fn related_cases_are_there() {
        let names = packets::names().unwrap();
        for name in related() {
            assert!(names.contains(&name), "{name}");
        }
    }

    /// The file has every case, and nothing that is none.
    #[test]
    fn the_file_is_about_the_cases_that_there_are() {
        let Baseline { ratios, .. } = Baseline::read().unwrap();
        let mut names = packets::names().unwrap();
        for name in &names {
            assert!(ratios.contains_key(name), "{name:?} is missing: `cargo xtask bench --bless`");
        }
        names.extend(RELATIONS.iter().map(|(case, other)| format!("{case}, to: {other}")));
        let floods = end_to_end::names_on(2);
        for name in ratios.keys() {
            let is_flood = floods.iter().any(|flood| name.starts_with(&format!("{flood}, end to end, to: ")));
            assert!(is_flood || names.contains(name), "{name:?} is no case: `cargo xtask bench --bless`");
        }
    }
}
