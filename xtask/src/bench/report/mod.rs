//! What the bench reports: as tables on a terminal, as JSON, and as a page for a browser.

mod chart;
pub(super) mod document;
mod goals;
mod page;

use std::{fmt, fs, path::PathBuf, thread::available_parallelism};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{Effort, control::Control, end_to_end, packets::Packets};
use crate::cargo::workspace;

/// Everything that was measured, and how.
pub(super) struct Report {
    /// What each packet costs.
    pub(super) packets: Option<Packets>,
    /// What changes cost.
    pub(super) control: Control,
    /// What a packet costs from end to end.
    pub(super) end_to_end: Vec<end_to_end::Line>,
    /// How much was measured.
    effort: Effort,
    /// On what.
    pub(super) machine: Machine,
}

/// What a machine is, as far as figures depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Machine {
    /// The processor's name.
    pub(super) processor: String,
    /// How many of them can be used.
    pub(super) processors: usize,
    /// The kernel's release, as far as figures depend on it: its first two numbers.
    pub(super) kernel: String,
}

impl Machine {
    /// This one.
    pub(super) fn here() -> Self {
        let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = processor(&text).unwrap_or_else(|| "a processor without a name".to_owned());
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let kernel = release.split('.').take(2).collect::<Vec<_>>().join(".");
        Self { processor, processors: available_parallelism().map_or(1, usize::from), kernel }
    }

    /// As JSON.
    pub(super) fn json(&self) -> Value {
        let Self { processor, processors, kernel } = self;
        json!({ "processor": processor, "processors": processors, "kernel": kernel })
    }
}

/// The processor's name in the text of `/proc/cpuinfo`, with the numbers that say which one it is where the name does not.
fn processor(text: &str) -> Option<String> {
    let field = |name: &str| {
        let line = text.lines().find(|line| line.split('\t').next() == Some(name))?;
        Some(line.split_once(':')?.1.trim())
    };
    let numbers: Vec<_> = ["cpu family", "model", "stepping"].into_iter().filter_map(field).collect();
    Some(format!("{} ({})", field("model name")?, numbers.join("-")))
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, processors, kernel } = self;
        write!(f, "{processors} of {processor}, Linux {kernel}")
    }
}

impl Report {
    /// One that is still empty.
    pub(super) fn new(effort: Effort) -> Self {
        let machine = Machine::here();
        Self { packets: None, control: Control::default(), end_to_end: Vec::new(), effort, machine }
    }

    /// As JSON.
    pub(super) fn json(&self) -> Value {
        json!({
            "machine": self.machine.json(),
            "loads": self.effort.loads,
            "rounds": self.effort.rounds,
            "changes": self.effort.changes,
            "floods": self.effort.floods,
            "packets": self.packets.as_ref().map(Packets::json),
            "end_to_end": self.end_to_end.iter().map(end_to_end::Line::json).collect::<Vec<_>>(),
            "control": self.control.json(),
        })
    }

    /// Writes the page; returns where.
    pub(super) fn write_page(&self) -> Result<PathBuf> {
        let directory = workspace().join("target/bench");
        fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
        let path = directory.join("report.html");
        fs::write(&path, page::page(self)).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// How and on what it was measured.
    fn circumstances(&self) -> String {
        let Self { effort: Effort { loads, rounds, changes, floods, .. }, machine, .. } = self;
        format!(
            "Medians and spread: packet by packet of {loads} loads of each program with {rounds} rounds each, from end to end of {floods} \
             rounds, of the control plane of {changes}. On {machine}."
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(packets) = &self.packets {
            writeln!(f, "{packets}")?;
        }
        if !self.end_to_end.is_empty() {
            writeln!(f, "{}", end_to_end::Listing(&self.end_to_end))?;
        }
        if !self.control.is_empty() {
            writeln!(f, "{}", self.control)?;
        }
        let goals = goals::all(self);
        if !goals.is_empty() {
            writeln!(f, "{}", goals::Listing(&goals))?;
        }
        writeln!(f, "{}", self.circumstances())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_have_names() {
        let text = "processor\t: 0\ncpu family\t: 6\nmodel\t\t: 143\nmodel name\t: Fast CPU @ 3 GHz\nstepping\t: 8\n";
        assert_eq!(processor(text).as_deref(), Some("Fast CPU @ 3 GHz (6-143-8)"));
        assert_eq!(processor("processor\t: 0\n"), None);
    }
}
