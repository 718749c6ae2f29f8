//! `doctor`: what has been found out about a kernel and its interfaces, and what that means. Judges facts, and asks nobody.

mod interface;
mod kernel;

pub use interface::{about_interface, in_short};
pub use kernel::about_kernel;
use serde::Serialize;

/// How well it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// Keeps icmpctl from working.
    Problem,
}

impl Level {
    /// The word that listings use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Problem => "problem",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How well it is.
    pub level: Level,
    /// What was looked at.
    pub about: &'static str,
    /// What was found.
    pub found: String,
    /// What that means, if there is more to say.
    pub meaning: Option<String>,
    /// What to do, if there is something to be done.
    pub advice: Option<String>,
}

impl Finding {
    fn new(level: Level, about: &'static str, found: impl Into<String>) -> Self {
        Self { level, about, found: found.into(), meaning: None, advice: None }
    }

    fn ok(about: &'static str, found: impl Into<String>) -> Self {
        Self::new(Level::Ok, about, found)
    }

    fn note(about: &'static str, found: impl Into<String>) -> Self {
        Self::new(Level::Note, about, found)
    }

    fn problem(about: &'static str, found: impl Into<String>) -> Self {
        Self::new(Level::Problem, about, found)
    }

    fn means(mut self, meaning: impl Into<String>) -> Self {
        self.meaning = Some(meaning.into());
        self
    }

    fn advises(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

/// The worst level of some findings.
#[must_use]
pub fn worst(findings: &[Finding]) -> Level {
    findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
}
