//! What a user sees of the work: one line for each step that takes time.

use std::io::{IsTerminal as _, Write as _, stderr};

/// Announces a step.
pub(crate) fn step(what: &str) {
    eprintln!("==> {what}");
}

/// A step that is announced when it turns out that there is something to do, and then shows how far it is.
pub(crate) struct Progress {
    what: &'static str,
    announced: bool,
    terminal: bool,
}

impl Progress {
    /// A step that has not been announced yet.
    pub(crate) fn new(what: &'static str) -> Self {
        Self { what, announced: false, terminal: stderr().is_terminal() }
    }

    /// Announces the step; on a terminal, also says what was finished last, on the same line.
    pub(crate) fn show(&mut self, detail: &str) {
        if self.terminal {
            eprint!("\r\x1b[2K==> {} ({detail})", self.what);
            // A progress line that can't be written is no reason to stop.
            let _ = stderr().flush();
        } else if !self.announced {
            step(self.what);
        }
        self.announced = true;
    }

    /// Leaves the line, so that something else can be printed.
    pub(crate) fn leave(&mut self) {
        if self.terminal && self.announced {
            eprintln!("\r\x1b[2K==> {}", self.what);
            self.announced = false;
        }
    }
}
