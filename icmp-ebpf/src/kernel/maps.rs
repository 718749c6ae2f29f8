//! The maps of the program, under the names by which the loader finds them.
//!
//! Sizes given here are the smallest; the loader sets those that a policy needs. Arrays that the loader fills
//! are mappable, which also makes their values begin on a page, so that none straddles a cache line.

use aya_ebpf::{
    Global,
    bindings::BPF_F_MMAPABLE,
    btf_maps::{Array, PerCpuArray},
    macros::btf_map,
};
use icmp_common::{
    config::Config,
    counters::Counters,
    tables::{Chunk4, Hosts, Line6, ROOT4_CHUNKS, Range6},
};

const FILLED: usize = BPF_F_MMAPABLE as usize;

/// Settings; frozen before the program is loaded.
#[unsafe(no_mangle)]
pub static CONFIG: Global<Config> = Global::new(Config::UNSET);

/// Served hosts; frozen like the settings.
#[unsafe(no_mangle)]
pub static HOSTS: Global<Hosts> = Global::new(Hosts::NONE);

/// IPv4 destinations.
#[btf_map]
pub static DST4: Array<Chunk4, ROOT4_CHUNKS, FILLED> = Array::new();
/// IPv6 destinations: the index.
#[btf_map]
pub static DST6_INDEX: Array<Line6, 1, FILLED> = Array::new();
/// IPv6 destinations: the ranges.
#[btf_map]
pub static DST6_RANGES: Array<Range6, 1, FILLED> = Array::new();
/// Packets by family and reason. Pinned, so that it outlives the program.
#[btf_map]
pub static COUNTERS: PerCpuArray<Counters, 1> = PerCpuArray::new();
