//! What has become of events: told, suppressed, lost.

use std::path::Path;

use aya::{
    Pod,
    maps::{Map, MapData, MapError, PerCpuArray},
};
use icmp_common::events::{Telling, Told};

/// What one CPU remembers, as it lies in the map.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Value(Telling);

// SAFETY: integers and structures of integers, without padding: any bytes are a value.
unsafe impl Pod for Value {}

/// Reads what has become of events from the map that is pinned at `path`: all CPUs' in one system call, and added up.
pub fn read_pinned(path: &Path) -> Result<Told, MapError> {
    let map = Map::PerCpuArray(MapData::from_pin(path)?);
    let values = PerCpuArray::<_, Value>::try_from(map)?.get(&0, 0)?;
    let mut sum = Told::default();
    values.iter().for_each(|Value(telling)| sum.add(&telling.told));
    Ok(sum)
}
