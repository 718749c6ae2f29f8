//! The settings of a loaded program: frozen read-only data, on which the kernel's verifier prunes branches.

use crate::{
    ABI_VERSION, Plain,
    bans::{BanLengths, MAX_BAN_LENGTHS},
    events::{CHANNELS, Channel},
    wire::ethernet::MacParts,
};

/// Settings, written once before the program is loaded and never changed: new settings are a new program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Config {
    /// The interface's MAC address.
    pub interface_mac: MacParts,
    /// [`ABI_VERSION`] of whoever wrote this.
    pub abi_version: u32,
    /// TTL or hop limit of replies.
    pub ttl: u8,
    /// 1: answer; 0: all answers are switched off (RFC 1812 4.3.3.6).
    pub enabled: u8,
    /// 1: verify a request's ICMP checksum before answering it.
    pub verify_checksum: u8,
    /// A [`NextHop`] as its number.
    pub next_hop: u8,
    /// The address from which the interface sends errors about packets to others, in memory order; zeros: it has none.
    pub source6: [u64; 2],
    /// The same for IPv4.
    pub source4: u32,
    /// [`DYNAMIC_SOURCES`], [`DYNAMIC_DESTINATIONS`] and [`QUOTES`], as far as rules depend on them.
    pub facts: u8,
    /// The number of the dynamic set of those who are banned.
    pub ban_set: u8,
    /// 1: answer timestamp requests (RFC 792).
    pub timestamp: u8,
    /// 1: end traceroutes by UDP at served addresses that are not the host's.
    pub traceroute: u8,
    /// The last byte of all tables at which a value may begin: 64 before their end, because none is longer.
    pub tables_last: u32,
    /// The byte at which the entries begin.
    pub entries: u32,
    /// IPv6 tables: of sources, then of destinations.
    pub tables6: [Table6Config; 2],
    /// The byte at which the rates begin.
    pub rates: u32,
    /// Number of the first [`crate::limits::Rate`] that limits the errors which `reject` sends.
    pub error_rate: u32,
    /// Lines of buckets, minus one; a power of two.
    pub bucket_mask: u32,
    /// Ticks of [`crate::bucket::TICK`] nanoseconds that a jiffy of this kernel takes.
    pub jiffy: u32,
    /// The longest span of any bucket.
    pub longest_span: u64,
    /// By which keys of buckets are hashed.
    pub bucket_secret: [u64; 2],
    /// The slot, among those of rules, that counts buckets which have given way before they were full.
    pub evicted_slot: u32,
    /// Seconds by which the kernel's clock of TAI is ahead of that of UTC: 37 where somebody has told it, else 0.
    pub tai_offset: u32,
    /// The interface's number.
    pub interface_index: u32,
    /// 1: answer extended echo requests about the interface (RFC 8335).
    pub probe: u8,
    /// What answers to these say of the interface: [`crate::wire::icmp::ACTIVE`] and the like.
    pub interface_state: u8,
    /// 1: rules log.
    pub logs: u8,
    /// 1: answers are counted by served prefix.
    pub counts_served: u8,
    /// The bytes at which the slots of served prefixes begin, by the number of the [`crate::Family`] and then by destination class: 4
    /// bytes each.
    pub served: [u32; 2],
    /// The byte at which the rows of [`crate::events::Log`] begin, by slot.
    pub log: u32,
    /// Zero.
    pub reserved: u32,
    /// The interface's name, and zeros behind it, in memory order.
    pub interface_name: [u64; 2],
    /// Which classes stand for what besides, by the number of the [`crate::Family`].
    pub ranks: [Ranks; 2],
    /// Prefixes of which lengths can be banned; those that are used stand first.
    pub ban_lengths: [BanLengths; MAX_BAN_LENGTHS],
    /// What the access list needs, by the number of the [`crate::Family`].
    pub acl: [AclConfig; 2],
    /// What is captured.
    pub channels: [Channel; CHANNELS],
}

/// Classes of one family that stand for more than what rules tell apart. They have the highest numbers; where nothing asks
/// for them, there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Ranks {
    /// Classes of destinations from this one on are of the host's own addresses, on whatever interface.
    pub host: u32,
    /// Those from this one on are of the interface's own.
    pub own: u32,
    /// Values of sources from this one on are of those that may ask about the interface.
    pub probing: u32,
}

impl Ranks {
    /// No such classes.
    pub const NONE: Self = Self { host: u32::MAX, own: u32::MAX, probing: u32::MAX };
}

/// Numbers that belong to an IPv6 table; see [`crate::tables`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Table6Config {
    /// The byte at which the index begins.
    pub index: u32,
    /// The byte at which the ranges begin.
    pub ranges: u32,
    /// Number of lines in the index, minus one; the number is a power of two.
    pub index_mask: u32,
    /// Number of ranges that hold where the index knows nothing; they stand first.
    pub fallback_count: u32,
}

/// What the access list of one family needs: how far a packet has to be looked at, and where in the tables the family begins.
///
/// `source` is the source's value, or 0 without `sources`; `class` is the destination's class. Decisions (8 bytes), blocks and pairs
/// (4 bytes) are counted from the beginning of all tables. The decisions are
/// - of rules that name no destination: `by_source + (source << kind_bits) + kind`;
/// - of rules that name a destination alone, with `destinations`: `by_destination + (class << kind_bits) + kind`;
/// - of rules that name both, with `blocks`: `by_pair + (pair << kind_bits) + kind`. If there is one block to a source, the pair is
///   cell `pairs + source * 64 + class` of the pairs; else the block is cell `rows + source * blocks + class / 64` of the rows,
///   and the pair cell `pairs + block * 64 + class % 64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct AclConfig {
    /// 1: there are rules, or a default other than to permit.
    pub rules: u8,
    /// 1: they depend on the source.
    pub sources: u8,
    /// 1: some name a destination alone.
    pub destinations: u8,
    /// Bits that the number of a kind takes.
    pub kind_bits: u8,
    /// Where the decisions by source and kind begin.
    pub by_source: u32,
    /// Where those by destination and kind begin.
    pub by_destination: u32,
    /// Where those by pair and kind begin.
    pub by_pair: u32,
    /// Blocks of destination classes; 0: no rule names both source and destination.
    pub blocks: u32,
    /// Where the family's rows begin.
    pub rows: u32,
    /// Where its pairs begin.
    pub pairs: u32,
}

// SAFETY: integers and arrays of integers alone; the assertion below leaves no room for padding.
unsafe impl Plain for Config {}

const _: () = assert!(size_of::<Config>() == 776);

impl AclConfig {
    /// No rules.
    pub const NONE: Self = Self {
        rules: 0,
        sources: 0,
        destinations: 0,
        kind_bits: 0,
        by_source: 0,
        by_destination: 0,
        by_pair: 0,
        blocks: 0,
        rows: 0,
        pairs: 0,
    };
}

/// Rules depend on dynamic sets that sources may be in.
pub const DYNAMIC_SOURCES: u8 = 1 << 0;
/// Rules depend on dynamic sets that destinations may be in.
pub const DYNAMIC_DESTINATIONS: u8 = 1 << 1;
/// Rules depend on what errors quote.
pub const QUOTES: u8 = 1 << 2;

/// Where a reply's frame is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum NextHop {
    /// To the MAC address that the request came from.
    Swap = 0,
    /// To the neighbour that the kernel's routing table names.
    Fib = 1,
}

impl Config {
    /// What an object file holds before a loader has filled it in: it answers nothing and permits everything.
    pub const UNSET: Self = Self {
        interface_mac: MacParts::NONE,
        abi_version: ABI_VERSION,
        ttl: 64,
        enabled: 0,
        verify_checksum: 1,
        next_hop: NextHop::Swap as u8,
        source6: [0; 2],
        source4: 0,
        facts: 0,
        ban_set: 0,
        timestamp: 0,
        traceroute: 0,
        tables_last: 0,
        entries: 0,
        tables6: [Table6Config { index: 0, ranges: 0, index_mask: 0, fallback_count: 0 }; 2],
        rates: 0,
        error_rate: 0,
        bucket_mask: 0,
        jiffy: 1,
        longest_span: 0,
        // No secret, but as good a hash: the loader has better ones.
        bucket_secret: [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03],
        evicted_slot: 0,
        tai_offset: 0,
        interface_index: 0,
        probe: 0,
        interface_state: 0,
        logs: 0,
        counts_served: 0,
        served: [0; 2],
        log: 0,
        reserved: 0,
        interface_name: [0; 2],
        ranks: [Ranks::NONE; 2],
        ban_lengths: [BanLengths::NONE; MAX_BAN_LENGTHS],
        acl: [AclConfig::NONE; 2],
        channels: [Channel::OFF; CHANNELS],
    };
}
