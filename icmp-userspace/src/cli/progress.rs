//! What is being done, shown on stderr while it takes long: at once on a terminal, where it goes again, elsewhere after half a
//! second.

use std::{
    io::{IsTerminal as _, Write as _, stderr},
    time::{Duration, Instant},
};

/// What shorter work need not tell.
const SHORT: Duration = Duration::from_millis(500);

/// The stages of a piece of work.
pub(super) struct Progress {
    begin: Instant,
    terminal: bool,
}

impl Progress {
    /// Begins.
    pub(super) fn begin() -> Self {
        Self { begin: Instant::now(), terminal: stderr().is_terminal() }
    }

    /// Tells the next stage.
    pub(super) fn stage(&self, what: &str) {
        // A stage that can't be shown is no reason to stop.
        if self.terminal {
            let _ = write!(stderr(), "\r\x1b[Kicmpctl: {what} ...");
            let _ = stderr().flush();
        } else if self.begin.elapsed() > SHORT {
            let _ = writeln!(stderr(), "icmpctl: {what} ...");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}
