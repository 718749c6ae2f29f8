//! The maps of the program, under the names by which the loader finds them.
//!
//! Sizes given here are the smallest; the loader sets those that a policy needs. Arrays that the loader fills
//! are mappable, which also makes their values begin on a page, so that none straddles a cache line.

use core::cell::UnsafeCell;

use aya_ebpf::{
    Global,
    bindings::BPF_F_MMAPABLE,
    btf_maps::{Array, LpmTrie, PerCpuArray},
    macros::btf_map,
};
use icmp_common::{
    bucket::CELLS,
    config::Config,
    counters::{Counters, RULE_CHUNK, RULE_SLOTS, RuleCounters},
    dynamic::{DYNAMIC_ENTRIES, Membership},
    errors::ERROR_LINES,
    tables::{Cells, Decisions, Entry, Hosts, Kinds, Line6, Range6, Ranges4, Root4},
};

const FILLED: usize = BPF_F_MMAPABLE as usize;

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

/// IPv4 sources: the ranges.
#[btf_map]
pub static SRC4_RANGES: Array<Ranges4, 1, FILLED> = Array::new();
/// IPv4 destinations: the ranges.
#[btf_map]
pub static DST4_RANGES: Array<Ranges4, 1, FILLED> = Array::new();
/// IPv6 sources: the index.
#[btf_map]
pub static SRC6_INDEX: Array<Line6, 1, FILLED> = Array::new();
/// IPv6 sources: the ranges.
#[btf_map]
pub static SRC6_RANGES: Array<Range6, 1, FILLED> = Array::new();
/// IPv6 destinations: the index.
#[btf_map]
pub static DST6_INDEX: Array<Line6, 1, FILLED> = Array::new();
/// IPv6 destinations: the ranges.
#[btf_map]
pub static DST6_RANGES: Array<Range6, 1, FILLED> = Array::new();
/// Rules: blocks of pairs by source.
#[btf_map]
pub static ROWS: Array<Cells, 1, FILLED> = Array::new();
/// Rules: pairs by block and destination.
#[btf_map]
pub static PAIRS: Array<Cells, 1, FILLED> = Array::new();
/// Rules: what they say, by source, by destination, or by pair, and by kind.
#[btf_map]
pub static DECISIONS: Array<Decisions, 1, FILLED> = Array::new();
/// Rules with further conditions.
#[btf_map]
pub static ENTRIES: Array<Entry, 1, FILLED> = Array::new();

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
/// Token buckets for errors; [`icmp_common::errors`] has the layout.
#[btf_map]
pub static ERRORS: Array<Buckets, ERROR_LINES, FILLED> = Array::new();

/// A line of token buckets. All CPUs change it at once.
#[repr(C)]
pub struct Buckets(pub [UnsafeCell<u64>; CELLS]);
