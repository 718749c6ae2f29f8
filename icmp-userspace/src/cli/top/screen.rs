//! The terminal: another screen, without echo, and what was there before when that ends, however it does.

use std::io;

use anyhow::Context as _;
use ratatui::{DefaultTerminal, Frame};

/// A screen of our own; the one before comes back when it is dropped, and before a panic says its word.
pub(super) struct Screen(DefaultTerminal);

impl Screen {
    /// Begins it.
    pub(super) fn open() -> anyhow::Result<Self> {
        ratatui::try_init()
            .inspect_err(|_| _ = ratatui::try_restore())
            .map(Self)
            .context("preparing the terminal")
    }

    /// Draws all of it anew; only what has changed is sent.
    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.0.draw(draw).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _ = ratatui::try_restore();
    }
}
