//! Policies: text (`file`) -> meaning ([`Policy`]) -> tables (`compile`).
//!
//! `file` reads the TOML and calls `sets` for named prefixes (with `lists` for files of them) and `rules` for the access list
//! (with `words`, `kinds` and `names` for its parts); `lint` judges the whole. `router` makes policies of router
//! configurations; `packet` reads the same words where they describe one packet.

pub mod acl;
pub mod compile;
pub mod diagnostic;
#[cfg(test)]
mod examples;
pub mod file;
pub mod guard;
pub mod input;
mod kinds;
pub mod lint;
mod lists;
pub mod names;
pub mod packet;
pub mod prefix;
pub mod presets;
pub mod router;
pub(crate) mod rules;
mod sets;
pub mod slots;
mod values;
mod words;

use std::path::PathBuf;

use icmp_common::{config::NextHop, counters::MAX_SERVED};

use acl::Acl;
use prefix::Prefix;

/// What a policy file means.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Policy {
    /// Table `[respond]`.
    pub respond: Respond,
    /// Table `[sets]`.
    pub sets: Vec<Set>,
    /// Table `[acl]`.
    pub acl: Acl,
    /// Table `[limits]`.
    pub limits: Limits,
}

/// What all limits share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Buckets of which is known how full they are: a power of two.
    pub buckets: u32,
}

impl Default for Limits {
    /// One MiB of memory.
    fn default() -> Self {
        Self { buckets: 1 << 17 }
    }
}

/// A named set of prefixes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Its name.
    pub name: String,
    /// What is in it, of both families; in any order, and prefixes may overlap.
    pub prefixes: Vec<Prefix>,
    /// Whether `icmpctl set` may change it while the policy runs; then it begins empty.
    pub dynamic: bool,
    /// The file that its prefixes stand in, if they do.
    pub file: Option<PathBuf>,
}

/// What is answered, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Respond {
    /// The one switch for all answers (RFC 1812 4.3.3.6).
    pub enabled: bool,
    /// Whether the interface's own addresses are served.
    pub own: bool,
    /// Further served prefixes.
    pub prefixes: Vec<Prefix>,
    /// TTL or hop limit of replies: 1 to 255.
    pub ttl: u8,
    /// Whether a request's ICMP checksum is verified.
    pub verify_checksum: bool,
    /// Where replies are sent.
    pub next_hop: NextHop,
    /// Whether timestamp requests are answered.
    pub timestamp: bool,
    /// Whether UDP probes of traceroute end at served addresses that are not the host's.
    pub traceroute: bool,
    /// Whether answered echo requests are counted by the prefix that they were served by.
    pub count: bool,
    /// Who may ask about the interface by extended echo; empty: such requests are left to the stack.
    pub probe: Vec<Prefix>,
}

impl Respond {
    /// What answers are counted for, each on its own, the shortest prefixes first; last, if they are served, the interface's own
    /// addresses together: none. What else is served is counted together.
    #[must_use]
    pub fn counted(&self) -> Vec<Option<Prefix>> {
        if !self.count {
            return Vec::new();
        }
        let mut prefixes: Vec<_> = self.prefixes.iter().copied().take(MAX_SERVED - 2).collect();
        prefixes.sort_by_key(|prefix| (prefix.length(), *prefix));
        prefixes.dedup();
        prefixes.into_iter().map(Some).chain(self.own.then_some(None)).collect()
    }
}

impl Default for Respond {
    /// What holds without a policy: the interface's own addresses, and nothing that Linux would do otherwise.
    fn default() -> Self {
        Self {
            enabled: true,
            own: true,
            prefixes: Vec::new(),
            ttl: 64,
            verify_checksum: true,
            next_hop: NextHop::Swap,
            timestamp: false,
            traceroute: false,
            count: true,
            probe: Vec::new(),
        }
    }
}
