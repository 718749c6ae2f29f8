//! What the bench reports.

use std::fmt;

use serde_json::{Value, json};

use super::{Effort, control::Control, end_to_end, packets::Packets};

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
    /// The kernel's release.
    kernel: String,
}

impl Report {
    pub(super) fn new(effort: Effort) -> Self {
        let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        Self { packets: None, control: Control::default(), end_to_end: Vec::new(), effort, kernel }
    }

    /// As JSON.
    pub(super) fn json(&self) -> Value {
        json!({
            "kernel": self.kernel,
            "loads": self.effort.loads,
            "rounds": self.effort.rounds,
            "packets": self.packets.as_ref().map(Packets::json),
            "control": self.control.json(),
            "end_to_end": self.end_to_end.iter().map(end_to_end::Line::json).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(packets) = &self.packets {
            let Effort { loads, rounds, .. } = self.effort;
            writeln!(
                f,
                "{packets}Medians and spread of {loads} loads with {rounds} rounds each; Linux {}.\n",
                self.kernel
            )?;
        }
        if !self.end_to_end.is_empty() {
            writeln!(f, "{}", end_to_end::Listing(&self.end_to_end))?;
        }
        write!(f, "{}", self.control)
    }
}
