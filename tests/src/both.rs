//! A policy in both builds of the data path: the host's and the kernel's, which have to agree about every frame.

use icmp_ebpf::Reason;
use icmp_userspace::{explain::host::HostState, policy::compile::Tables};

use crate::{
    frames::{ICMP4, IP},
    host::{Outcome, handle_in, tables},
    loaded::Loaded,
    oracle,
};

/// A policy in both builds.
pub struct Both {
    /// Its tables.
    pub tables: Tables,
    /// The kernel's build.
    pub loaded: Loaded,
}

impl Both {
    /// Compiles the text of a policy, and loads it.
    #[must_use]
    pub fn new(policy: &str) -> Self {
        Self::of(tables(policy))
    }

    /// Loads a policy's tables.
    #[must_use]
    pub fn of(tables: Tables) -> Self {
        let loaded = Loaded::new(&tables);
        Self { tables, loaded }
    }

    /// Demands that both builds agree, and returns the reason.
    ///
    /// # Panics
    ///
    /// Panics if they do not.
    #[track_caller]
    pub fn agree(&mut self, frame: &[u8]) -> Option<Reason> {
        self.agree_on_all(&[frame])[0]
    }

    /// Demands that both builds agree on each of these frames, the host build with full buckets before the first one.
    ///
    /// # Panics
    ///
    /// Panics if they do not.
    #[track_caller]
    pub fn agree_on_all(&mut self, frames: &[&[u8]]) -> Vec<Option<Reason>> {
        let Self { tables, loaded } = self;
        let mut state = HostState::new(tables);
        let mut reasons = Vec::new();
        for frame in frames {
            let host = without_time(handle_in(&mut state, frame));
            assert_eq!(without_time(loaded.run(frame)), host, "of {frame:02x?}");
            reasons.push(host.counted.map(|(_, reason)| reason));
        }
        reasons
    }
}

/// The two builds do not look at the clock at the same time: what depends on it in a timestamp reply is zero.
#[must_use]
pub fn without_time(mut outcome: Outcome) -> Outcome {
    if outcome.counted.is_some_and(|(_, reason)| reason == Reason::Timestamp) {
        let message = oracle::ip_header(&outcome.frame) + ICMP4 - IP;
        outcome.frame[message + 2..message + 4].fill(0);
        outcome.frame[message + 12..message + 20].fill(0);
    }
    outcome
}
