//! The signals that end what stays: Ctrl-C, a service manager, a terminal that is closed.

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Those signals, from now on.
pub(super) struct Signals([Signal; 3]);

impl Signals {
    /// Begins to listen.
    pub(super) fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("listening to signals");
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hangup] = kinds.map(listen);
        Ok(Self([interrupt?, terminate?, hangup?]))
    }

    /// Waits for one.
    pub(super) async fn any(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
