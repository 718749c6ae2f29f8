//! What was measured, as tables in docs/performance.md: between two marks, so that what is said around them stays.

use std::{fmt::Write as _, fs, path::PathBuf};

use anyhow::{Context as _, Result};

use super::{
    super::{
        control::{self, Control},
        end_to_end,
        packets::Packets,
        samples::{Spread, Summary},
    },
    Report,
    goals::{self, Judged},
};
use crate::cargo::workspace;

/// Before and behind the tables.
const BEGIN: &str = "<!-- measured: written by `cargo xtask bench --bless` -->\n";
const END: &str = "<!-- end -->\n";

/// Where the document is.
fn path() -> PathBuf {
    workspace().join("docs/performance.md")
}

/// Writes the tables anew.
pub(in crate::bench) fn write(report: &Report) -> Result<()> {
    let path = path();
    let what = || format!("writing tables into {}", path.display());
    let text = fs::read_to_string(&path).with_context(what)?;
    let (before, rest) =
        text.split_once(BEGIN).with_context(|| format!("{}: there is no {BEGIN:?}", what()))?;
    let (_, behind) = rest.split_once(END).with_context(|| format!("{}: there is no {END:?}", what()))?;
    fs::write(&path, format!("{before}{BEGIN}{}{END}{behind}", tables(report))).with_context(what)
}

/// All tables.
fn tables(report: &Report) -> String {
    let mut text = format!("\n{}\n", report.circumstances());
    text += &judged(&goals::all(report));
    if let Some(packets) = &report.packets {
        text += &costs(packets);
    }
    text += &floods(&report.end_to_end);
    text += &changes(&report.control);
    text + "\n"
}

fn judged(goals: &[Judged]) -> String {
    let mut text = format!(
        "\n### Goals: {} of {} are met\n\n| goal | | measured | |\n|---|---|---|---|\n",
        goals::met(goals),
        goals.len()
    );
    for Judged { what, measured, goal, met, steady } in goals {
        let unsteady = if *steady { "" } else { ", unsteady" };
        let met = if *met { "met" } else { "**missed**" };
        let _ = writeln!(text, "| {what} | {goal} | {measured} | {met}{unsteady} |");
    }
    text
}

fn costs(packets: &Packets) -> String {
    let mut text = format!(
        "\n### Packet by packet\n\nNet: nanoseconds more than an empty program, which takes {:.1} with what all programs are entered by. \
         Ratio: to a bare MAC swap, both with that.\n\n| case | net | spread | ratio | spread |\n|---|--:|--:|--:|--:|\n",
        packets.empty
    );
    for lines in packets.lines.chunk_by(|one, other| one.group == other.group) {
        let _ = writeln!(text, "| **{}** | | | | |", lines[0].group.name());
        for line in lines {
            let Summary { net, ratio } = line.summary;
            let unsteady = if line.is_steady() { "" } else { " (unsteady)" };
            let _ = writeln!(
                text,
                "| {} | {:.1} ns | {:.1} to {:.1} | {:.2}x | {:.2} to {:.2}{unsteady} |",
                line.name, net.median, net.least, net.most, ratio.median, ratio.least, ratio.most
            );
        }
    }
    text
}

fn floods(lines: &[end_to_end::Line]) -> String {
    let mut text = String::from(
        "\n### From end to end\n\nNanoseconds of a core for each request, with making it, taking it in, and counting what comes back. \
         Ratio: to icmpctl in native mode, in the same round.\n\n| flood | ns | spread | ratio | spread | answered |\n\
         |---|--:|--:|--:|--:|--:|\n",
    );
    for line in lines {
        let _ = writeln!(text, "| **{}** | | | | | |", line.name);
        for entrant in &line.entrants {
            let _ = match &entrant.outcome {
                Ok(end_to_end::Outcome { each, ratio, answered, .. }) => writeln!(
                    text,
                    "| {} | {:.0} | {:.0} to {:.0} | {:.2}x | {:.2} to {:.2} | {:.1} % |",
                    entrant.name,
                    each.median,
                    each.least,
                    each.most,
                    ratio.median,
                    ratio.least,
                    ratio.most,
                    answered * 100.0
                ),
                Err(reason) => writeln!(text, "| {} | {reason} | | | | |", entrant.name),
            };
        }
    }
    text
}

fn changes(control: &Control) -> String {
    let mut text =
        String::from("\n### Control plane\n\n| command | ms | spread | MiB |\n|---|--:|--:|--:|\n");
    for line in &control.lines {
        let Spread { median, least, most } = line.seconds;
        let [median, least, most] = [median, least, most].map(|time| time * 1000.0);
        let _ = writeln!(
            text,
            "| {} | {median:.1} | {least:.1} to {most:.1} | {:.0} |",
            line.name, line.mib.most
        );
    }
    if let Some(account) = &control.swapped {
        let (requests, lost) = (account.requests, control::lost(account));
        let _ = writeln!(text, "| {} | {requests} requests, {lost} | | |", control::SWAPPED);
    }
    text += "\n| memory of the kernel | maps | program | machine code |\n|---|--:|--:|--:|\n";
    for control::Memory { name, maps, program: [instructions, machine] } in &control.memory {
        let _ = writeln!(text, "| {name} | {maps:.1} MiB | {instructions:.0} KiB | {machine:.0} KiB |");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{
        super::super::{end_to_end, packets},
        *,
    };

    /// What stands first in each row of its tables; floods are bold there.
    fn first_cells() -> BTreeSet<String> {
        let text = fs::read_to_string(path()).unwrap();
        let (_, rest) = text.split_once(BEGIN).unwrap();
        let (tables, _) = rest.split_once(END).unwrap();
        let rows = tables.lines().filter_map(|line| line.strip_prefix("| "));
        rows.filter_map(|row| row.split(" | ").next()).map(|cell| cell.trim_matches('*').to_owned()).collect()
    }

    #[test]
    fn the_document_has_every_case() {
        let there = first_cells();
        let names = [packets::names().unwrap(), end_to_end::names_on(2), control::names()].concat();
        let missing: Vec<_> = names.iter().filter(|name| !there.contains(*name)).collect();
        assert!(
            missing.is_empty(),
            "docs/performance.md lacks {missing:?}; `cargo xtask bench --bless` writes it"
        );
    }

    #[test]
    fn the_document_has_no_case_that_is_not_there() {
        let groups = packets::cases::GROUPS.map(|group| group.name().to_owned());
        let names = [packets::names().unwrap(), groups.to_vec()].concat();
        let text = fs::read_to_string(path()).unwrap();
        let section = text.split("### Packet by packet").nth(1).unwrap().split("###").next().unwrap();
        let rows = section.lines().filter_map(|line| line.strip_prefix("| ")).skip(1);
        for cell in rows.filter_map(|row| row.split(" | ").next()).map(|cell| cell.trim_matches('*')) {
            assert!(
                names.iter().any(|name| name == cell),
                "docs/performance.md has {cell:?}, which is no case"
            );
        }
    }
}
