//! The built-in guard: messages without which Path MTU discovery, Neighbour Discovery or multicast membership break, and the
//! errors that RFC 4890 4.4.1 wants let through.
//!
//! No rule denies them unless it says `force`: neither one that names no type, like `deny icmp any any`, which then simply
//! does not reach them, nor the default. A rule that names them without `force` is refused (C70, C74), because it would not do
//! what it says; a rule that names redirects is only warned of, because many deny those by custom. `limit` does not reach those
//! either whose loss under a flood would break the host's own connectivity.

use std::ops::RangeInclusive;

use icmp_common::Family;

/// Messages that the guard keeps from rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guarded {
    /// Their family.
    pub family: Family,
    /// Their types.
    pub types: RangeInclusive<u8>,
    /// Their codes.
    pub codes: RangeInclusive<u8>,
    /// The only TTL or hop limit with which they are genuine, and guarded, if there is one.
    pub ttl: Option<u8>,
    /// Whether they are kept from `limit`, too.
    pub from_limits: bool,
    /// Whether a rule that denies them is refused, and not only warned of.
    pub refused: bool,
    /// What breaks without them, for messages.
    pub why: &'static str,
}

const fn v6(types: RangeInclusive<u8>, codes: RangeInclusive<u8>, why: &'static str) -> Guarded {
    Guarded { family: Family::Ipv6, types, codes, ttl: None, from_limits: false, refused: true, why }
}

const ANY: RangeInclusive<u8> = 0..=255;
const ERRORS: &str =
    "errors that RFC 4890 4.4.1 wants let through: without them connections hang instead of failing";
const PATH_MTU: &str = "Path MTU discovery needs it: without it large packets vanish";
const MLD: &str = "multicast membership (MLD, RFC 2710, RFC 3810), and with it Neighbour Discovery behind snooping switches";
const NEIGHBOURS: &str = "Neighbour Discovery (RFC 4861): without it IPv6 stops working on the link";
const REDIRECTS: &str =
    "part of Neighbour Discovery (RFC 4861); hosts can do without, which RFC 4890 4.4.4 leaves to policy";

/// What is guarded; no message by two entries.
pub static GUARDED: [Guarded; 9] = [
    Guarded { family: Family::Ipv4, from_limits: true, ..v6(3..=3, 4..=4, PATH_MTU) },
    v6(1..=1, ANY, ERRORS),
    Guarded { from_limits: true, ..v6(2..=2, ANY, PATH_MTU) },
    v6(3..=3, 0..=0, ERRORS),
    v6(4..=4, 1..=2, ERRORS),
    Guarded { from_limits: true, ttl: Some(1), ..v6(130..=132, ANY, MLD) },
    Guarded { from_limits: true, ttl: Some(255), ..v6(133..=136, ANY, NEIGHBOURS) },
    Guarded { from_limits: true, refused: false, ttl: Some(255), ..v6(137..=137, ANY, REDIRECTS) },
    Guarded { from_limits: true, ttl: Some(1), ..v6(143..=143, ANY, MLD) },
];
