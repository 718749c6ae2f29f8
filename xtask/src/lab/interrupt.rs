//! Ctrl-C: noticed, not obeyed at once, so that the lab is taken down before the process ends.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use anyhow::{Context as _, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Whether somebody wants the process to end.
#[derive(Clone, Default)]
pub(crate) struct Interrupted(Arc<AtomicBool>);

/// Begins to listen to SIGINT, SIGTERM and SIGHUP.
pub(crate) fn listen() -> Result<Interrupted> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&flag)).context("listening to signals")?;
    }
    Ok(Interrupted(flag))
}

impl Interrupted {
    /// An error once somebody wants the process to end.
    pub(crate) fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) {
            bail!("interrupted; the lab has been taken down");
        }
        Ok(())
    }
}
