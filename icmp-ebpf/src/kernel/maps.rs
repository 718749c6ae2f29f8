//! The maps of the program, under the names by which the loader finds them.
//!
//! An array that is mappable begins on a page, so that none of its values straddles a cache line.

use core::cell::UnsafeCell;

use aya_ebpf::{
    Global,
    bindings::BPF_F_MMAPABLE,
    btf_maps::{Array, LpmTrie, PerCpuArray, RingBuf},
    macros::btf_map,
};
use icmp_common::{
    bans::{BAN_LINES, Banned},
    bucket::CELLS,
    config::Config,
    counters::{Counters, RULE_CHUNK, RULE_SLOTS, RuleCounters},
    dynamic::{DYNAMIC_ENTRIES, Membership},
    events::{CHANNELS, EVENTS_BYTES, Scratch, Telling},
    limits::Purses,
    tables::{CACHE_LINE, Hosts, Kinds, Line, Root4},
};

/// Settings; frozen before the program is loaded.
#[unsafe(no_mangle)]
pub static CONFIG: Global<Config> = Global::new(Config::UNSET);
/// Served hosts; frozen like the settings.
#[unsafe(no_mangle)]
pub static HOSTS: Global<Hosts> = Global::new(Hosts::NONE);
/// Kinds of messages; frozen like the settings.
#[unsafe(no_mangle)]
pub static KINDS: Global<Kinds> = Global::new([[0; 1 << 16]; 2]);
/// IPv4 sources: the root; frozen like the settings, because a cell of it is then one load away.
#[unsafe(no_mangle)]
pub static SRC4_ROOT: Global<Root4> = Global::new([0; 1 << 16]);
/// IPv4 destinations: the root.
#[unsafe(no_mangle)]
pub static DST4_ROOT: Global<Root4> = Global::new([0; 1 << 16]);

/// All other tables. The loader gives the section the size of the policy's tables before it loads the object. As a section it is a
/// map whose address stands in the instructions: nothing has to be looked up.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss")]
pub static TABLES: Global<[Line; 2]> = Global::new([[0; CACHE_LINE / 8]; 2]);

/// Packets by family and reason. Pinned, so that it outlives the program; so are those that follow.
#[btf_map]
pub static COUNTERS: PerCpuArray<Counters, 1> = PerCpuArray::new();
/// Packets by rule.
#[btf_map]
pub static RULES: PerCpuArray<RuleCounters, { RULE_SLOTS / RULE_CHUNK }> = PerCpuArray::new();
/// Dynamic sets of IPv4 addresses.
#[btf_map]
pub static DYNAMIC4: LpmTrie<[u8; 4], Membership, { DYNAMIC_ENTRIES as usize }> = LpmTrie::new();
/// Dynamic sets of IPv6 addresses.
#[btf_map]
pub static DYNAMIC6: LpmTrie<[u8; 16], Membership, { DYNAMIC_ENTRIES as usize }> = LpmTrie::new();
/// Token buckets; the loader sets their number. [`icmp_common::limits`] has the layout.
#[btf_map]
pub static BUCKETS: Array<Buckets, 2, { BPF_F_MMAPABLE as usize }> = Array::new();
/// Who is banned; [`icmp_common::bans`] has the layout.
#[btf_map]
pub static BANS: Array<Bans, { BAN_LINES as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();
/// What has been told, and what else that takes.
#[btf_map]
pub static TELLING: PerCpuArray<Telling, 1> = PerCpuArray::new();
/// Events.
#[btf_map]
pub static EVENTS: RingBuf<(), { EVENTS_BYTES as usize }> = RingBuf::new();
/// Packets that are captured. The loader sets its size; where nobody captures, it is as small as can be. Not pinned but for as long.
#[btf_map]
pub static CAPTURED: RingBuf<(), 4096> = RingBuf::new();
/// Packets of which samples are taken, as above.
#[btf_map]
pub static SAMPLED: RingBuf<(), 4096> = RingBuf::new();
/// Where packets are kept that are under way and may be captured. Not pinned, nor is what follows.
#[btf_map]
pub static SCRATCH: PerCpuArray<Scratch, CHANNELS> = PerCpuArray::new();
/// Tokens that this CPU has taken already. Not pinned: a new program begins without.
#[btf_map]
pub static PURSES: PerCpuArray<Purses, 1> = PerCpuArray::new();

/// A line of token buckets. All CPUs change it at once.
#[repr(C)]
pub struct Buckets(pub [UnsafeCell<u64>; CELLS]);

/// A line of bans. All CPUs change it at once.
#[repr(C)]
pub struct Bans {
    /// The cells.
    pub cells: Buckets,
    /// Who is banned in each.
    pub banned: [UnsafeCell<Banned>; CELLS],
}
