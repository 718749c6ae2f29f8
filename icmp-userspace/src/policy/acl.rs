//! What an access list means: rules in the order in which they are tried, and what holds where none of them does.
//!
//! The text is understood by `rules`, the tables are made by [`super::compile`]. The first rule that matches a
//! packet decides. Three kinds of packets are out of the reach of rules that do not say `force`; see [`super::guard`].

use std::{fmt, net::Ipv4Addr, ops::Range, time::Duration};

use icmp_common::Family;

use super::prefix::Prefix;
use crate::duration;

/// Table `[acl]`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Acl {
    /// What becomes of packets that no rule matches.
    pub default: DefaultAction,
    /// All rules in the order in which they are tried: the policy's own, then those of its presets.
    pub rules: Vec<Rule>,
    /// How many errors `reject` may send.
    pub errors: ErrorLimits,
}

/// What becomes of packets that no rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DefaultAction {
    /// They are permitted.
    #[default]
    Permit,
    /// They are dropped.
    Deny,
}

/// How many ICMP errors `reject` may send (RFC 1812 4.3.2.8, RFC 4443 2.4 (f)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorLimits {
    /// To one source: an IPv4 address, or an IPv6 /64.
    pub per_source: ErrorRate,
    /// In all.
    pub total: ErrorRate,
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorRate {
    /// Errors a second, in the long run; at least 1.
    pub per_second: u32,
    /// Errors at once after a pause; at least 1.
    pub burst: u32,
}

impl Default for ErrorLimits {
    /// RFC 4443's example for one source; in all, what Linux allows itself (`net.ipv4.icmp_msgs_per_sec`, its burst).
    fn default() -> Self {
        Self {
            per_source: ErrorRate { per_second: 10, burst: 10 },
            total: ErrorRate { per_second: 1000, burst: 50 },
        }
    }
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its number; numbers rise from rule to rule of one origin.
    pub number: u32,
    /// Where it comes from.
    pub origin: Origin,
    /// What becomes of packets that it matches.
    pub action: Action,
    /// The word that stands for the protocol.
    pub protocol: Protocol,
    /// Where packets come from.
    pub source: Address,
    /// Where packets go.
    pub destination: Address,
    /// Which messages it matches, by the number of their [`Family`].
    pub kinds: [Kinds; 2],
    /// Types and codes as they are printed, `echo` or `{3-5, 11} 0`; empty for [`Kinds::Any`].
    pub kind_text: String,
    /// Further conditions, and how it is applied.
    pub options: Options,
    /// The bytes of the policy file that it was read from; empty for a rule of a preset.
    pub span: Range<usize>,
}

/// Where a rule comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// The policy file.
    File,
    /// A preset of this name.
    Preset(&'static str),
}

impl Origin {
    /// The word that listings use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Preset(name) => name,
        }
    }
}

/// What becomes of packets that a rule matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// They go on: to the responder, or to the stack.
    Permit,
    /// They are dropped.
    Deny,
    /// They are dropped, and an ICMP error says so.
    Reject(Prohibition),
    /// They are permitted as long as they are within all rates.
    Limit(Limit),
}

/// The code of the IPv4 error that `reject` sends (RFC 1812 5.2.7.1). The IPv6 one is 1 always (RFC 4443 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Prohibition {
    /// Network administratively prohibited.
    Net = 9,
    /// Host administratively prohibited.
    Host = 10,
    /// Communication administratively prohibited.
    #[default]
    Communication = 13,
}

/// The rates of a `limit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// At least one; a packet has to be within all of them.
    pub rates: Vec<Rate>,
    /// What becomes of packets that are not.
    pub exceed: Exceed,
    /// What becomes of who is over the first rate, which then is one per source.
    pub ban: Option<Ban>,
}

/// Who is over a rate goes to the set [`BANNED`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ban {
    /// For how long: whole seconds.
    pub duration: Duration,
    /// After having been over the rate for so long: whole seconds.
    pub after: Duration,
}

/// The dynamic set of those who are banned.
pub const BANNED: &str = "banned";

/// What becomes of packets over a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Exceed {
    /// They are dropped.
    #[default]
    Drop,
    /// They are counted and permitted all the same.
    Pass,
}

/// One rate, and what it is counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How much, at least 1: packets or bits, each `period`.
    pub amount: u64,
    /// What is counted.
    pub unit: Unit,
    /// The time in which so much is allowed.
    pub period: Period,
    /// How much at once after a pause, in the same unit; `None` where the rule does not say.
    pub burst: Option<u64>,
    /// Which packets share it.
    pub per: Per,
}

/// What a rule, or the filter of a capture, asks of packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matching {
    /// The word that stands for the protocol.
    pub protocol: Protocol,
    /// Where packets come from.
    pub source: Address,
    /// Where packets go.
    pub destination: Address,
    /// Which messages, by the number of their [`Family`].
    pub kinds: [Kinds; 2],
    /// Types and codes as they are printed, `echo` or `{3-5, 11} 0`; empty for [`Kinds::Any`].
    pub kind_text: String,
    /// Further conditions, and how a rule is applied.
    pub options: Options,
}

/// What a rate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Packets.
    Packets,
    /// Bits of IP packets, header included.
    Bits,
}

/// The time that a rate speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
}

/// Which packets share a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Per {
    /// Those from one source prefix of these lengths.
    Source {
        /// IPv4: 1 to 32.
        length4: u8,
        /// IPv6: 1 to 128.
        length6: u8,
    },
    /// Those to one destination address.
    Destination,
    /// All that match the rule.
    Rule,
}

/// The word that stands for the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// ICMP and ICMPv6.
    Icmp,
    /// ICMP alone.
    Icmp4,
    /// ICMPv6 alone.
    Icmp6,
}

impl Protocol {
    /// Whether it covers a family.
    #[must_use]
    pub const fn covers(self, family: Family) -> bool {
        match self {
            Self::Icmp => true,
            Self::Icmp4 => matches!(family, Family::Ipv4),
            Self::Icmp6 => matches!(family, Family::Ipv6),
        }
    }
}

/// Where packets come from or go.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// Anywhere.
    Any,
    /// A prefix, or one host.
    Prefix(Prefix),
    /// IPv4 addresses that are equal to this one where the wildcard mask has zeros. Never one that is a prefix.
    Wildcard {
        /// The address; zero where the mask has ones.
        address: Ipv4Addr,
        /// The mask.
        mask: Ipv4Addr,
    },
    /// The set of this name, which the policy has.
    Set(String),
}

/// Which messages of a family a rule matches.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Kinds {
    /// None: the rule is about the other family.
    #[default]
    None,
    /// All messages, and fragments of them.
    Any,
    /// Fragments other than the first alone, of which type and code are not known.
    Fragments,
    /// Messages of these types and codes; at least one range.
    These(Vec<KindRange>),
}

/// Types and codes, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KindRange {
    /// First and last type.
    pub types: [u8; 2],
    /// First and last code.
    pub codes: [u8; 2],
}

/// Further conditions of a rule, and how it is applied.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Options {
    /// Least and most length of the IP packet in bytes, header included.
    pub length: Option<[u16; 2]>,
    /// Least and most TTL or hop limit.
    pub ttl: Option<[u8; 2]>,
    /// DSCP: 0 to 63.
    pub dscp: Option<u8>,
    /// Number of the outer VLAN tag: 1 to 4094.
    pub vlan: Option<u16>,
    /// The message quotes a packet that its receiver has not sent (RFC 5927 4).
    pub quoted_mismatch: bool,
    /// Least and most MTU that the message tells.
    pub quoted_mtu: Option<[u16; 2]>,
    /// Tell of every n-th packet.
    pub log: Option<u32>,
    /// Count matching packets, and permit them whatever the action is.
    pub monitor: bool,
    /// Act on what the guard keeps from other rules, too.
    pub force: bool,
}

impl Options {
    /// Whether a packet has to meet no conditions beyond addresses, types and codes.
    #[must_use]
    pub const fn is_unconditional(&self) -> bool {
        let Self { length, ttl, dscp, vlan, quoted_mismatch, quoted_mtu, log: _, monitor: _, force: _ } =
            self;
        matches!(
            (length, ttl, dscp, vlan, quoted_mismatch, quoted_mtu),
            (None, None, None, None, false, None)
        )
    }
}

/// The rule's canonical text, without its number: rules that mean the same print the same.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { action, protocol, source, destination, kind_text, options, .. } = self;
        write!(f, "{action} {protocol} {source} {destination}")?;
        if !kind_text.is_empty() {
            write!(f, " {kind_text}")?;
        }
        if self.kinds.contains(&Kinds::Fragments) {
            write!(f, " fragments")?;
        }
        write!(f, "{options}")
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Permit => write!(f, "permit"),
            Self::Deny => write!(f, "deny"),
            Self::Reject(Prohibition::Communication) => write!(f, "reject"),
            Self::Reject(Prohibition::Net) => write!(f, "reject with net-prohibited"),
            Self::Reject(Prohibition::Host) => write!(f, "reject with host-prohibited"),
            Self::Limit(limit) => write!(f, "limit {limit}"),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, rate) in self.rates.iter().enumerate() {
            let comma = if number > 0 { ", " } else { "" };
            write!(f, "{comma}{rate}")?;
        }
        match self.exceed {
            Exceed::Drop => {}
            Exceed::Pass => write!(f, " exceed pass")?,
        }
        match self.ban {
            Some(Ban { duration, after }) => {
                write!(f, " ban {} after {}", duration::exact(duration), duration::exact(after))
            }
            None => Ok(()),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            Unit::Packets => "",
            Unit::Bits => "bit",
        };
        let period = match self.period {
            Period::Second => "s",
            Period::Minute => "min",
            Period::Hour => "h",
        };
        write!(f, "{}{unit}/{period}", self.amount)?;
        if let Some(burst) = self.burst {
            write!(f, " burst {burst}{unit}")?;
        }
        match self.per {
            Per::Rule => Ok(()),
            Per::Destination => write!(f, " per destination"),
            Per::Source { length4: 32, length6: 64 } => write!(f, " per source"),
            Per::Source { length4, length6: 64 } => write!(f, " per source/{length4}"),
            Per::Source { length6, .. } => write!(f, " per source/{length6}"),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Icmp => "icmp",
            Self::Icmp4 => "icmp4",
            Self::Icmp6 => "icmp6",
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => write!(f, "any"),
            Self::Prefix(prefix) if prefix.is_host() => write!(f, "host {prefix}"),
            Self::Prefix(prefix) => write!(f, "{prefix}"),
            Self::Wildcard { address, mask } => write!(f, "{address} {mask}"),
            Self::Set(name) => write!(f, "set:{name}"),
        }
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { length, ttl, dscp, vlan, quoted_mismatch, quoted_mtu, log, monitor, force } = self;
        if let Some([least, most]) = length {
            write!(f, " length {least}-{most}")?;
        }
        if let Some([least, most]) = ttl {
            write!(f, " ttl {least}-{most}")?;
        }
        if let Some(dscp) = dscp {
            write!(f, " dscp {dscp}")?;
        }
        if let Some(vlan) = vlan {
            write!(f, " vlan {vlan}")?;
        }
        if *quoted_mismatch {
            write!(f, " quoted-source mismatch")?;
        }
        if let Some([least, most]) = quoted_mtu {
            write!(f, " quoted-mtu {least}-{most}")?;
        }
        match log {
            Some(1) => write!(f, " log")?,
            Some(each) => write!(f, " log 1/{each}")?,
            None => {}
        }
        if *monitor {
            write!(f, " monitor")?;
        }
        if *force {
            write!(f, " force")?;
        }
        Ok(())
    }
}
