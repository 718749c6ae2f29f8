//! What has become of what was to be told, events and captured packets: added up over all CPUs, read in one system call.

use std::path::Path;

use aya::{
    Pod,
    maps::{Map, MapData, MapError, PerCpuArray},
};
use icmp_common::events::{CHANNELS, Telling, Told};

/// What a CPU remembers, as it lies in the map.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Value(Telling);

// SAFETY: integers and arrays of structures of integers, without padding: any bytes are a value.
unsafe impl Pod for Value {}

/// The map in which that stands.
pub struct Counts(PerCpuArray<MapData, Value>);

impl Counts {
    /// Opens what is pinned at `path`.
    pub fn open(path: &Path) -> Result<Self, MapError> {
        Ok(Self(PerCpuArray::try_from(Map::PerCpuArray(MapData::from_pin(path)?))?))
    }

    /// What has become of events.
    pub fn events(&self) -> Result<Told, MapError> {
        let mut sum = Told::default();
        self.0.get(&0, 0)?.iter().for_each(|Value(telling)| sum.add(&telling.told));
        Ok(sum)
    }

    /// What has become of captured packets, by channel.
    pub fn captured(&self) -> Result<[Told; CHANNELS], MapError> {
        let mut sums = [Told::default(); CHANNELS];
        for Value(telling) in self.0.get(&0, 0)?.iter() {
            sums.iter_mut().zip(&telling.captured).for_each(|(sum, told)| sum.add(told));
        }
        Ok(sums)
    }
}
