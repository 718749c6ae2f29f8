//! Policies: text (`file`) -> meaning ([`Policy`]) -> tables (`compile`).

pub mod compile;
pub mod diagnostic;
pub mod file;
pub mod prefix;

use icmp_common::config::NextHop;

use prefix::Prefix;

/// What a policy file means.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Policy {
    /// Table `[respond]`.
    pub respond: Respond,
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
        }
    }
}
