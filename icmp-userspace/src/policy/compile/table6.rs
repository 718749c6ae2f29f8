//! IPv6 ranges -> the table in which the packet path looks them up; [`icmp_common::tables`] has the layout.

use icmp_common::{
    config::Table6Config,
    tables::{Cell6, Line6, MAX_RUN6, Range6, line6},
};

use super::classes::{Ranges, begin};

/// Of a table that has no place yet.
const UNPLACED: Table6Config = Table6Config { index: 0, ranges: 0, index_mask: 0, fallback_count: 0 };

/// An IPv6 table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table6 {
    /// The index: a power of two of lines, or none.
    pub(super) index: Vec<Line6>,
    /// The ranges.
    pub(super) ranges: Vec<Range6>,
    /// The numbers that belong to it, but for the places of both.
    pub(super) config: Table6Config,
}

impl Table6 {
    /// Nothing, for a table that is not looked at.
    pub(super) fn unused() -> Self {
        Self { index: Vec::new(), ranges: Vec::new(), config: UNPLACED }
    }

    /// The table of `ranges`; `None` if a run gets too long.
    pub(super) fn new(ranges: &Ranges<u128, u32>) -> Option<Self> {
        let groups = || ranges.chunk_by(|one, other| key(one.0) == key(other.0));
        // A key gets a run of its own if anything begins or ends within it, and if its line has room.
        let is_split = |group: &&[(u128, u32)]| group.last().is_some_and(|(start, _)| start << 32 != 0);
        let mut index = hashed(&groups().filter(is_split).map(|group| key(group[0].0)).collect::<Vec<_>>());
        let mask = index.len() as u32 - 1;
        // What is left to the fallback run changes between keys, or within those for which there was no room.
        let mut fallback = Vec::new();
        let mut runs = Vec::new();
        let mut before = 0;
        for group in groups() {
            let key = key(group[0].0);
            let line = &mut index[line6(key, mask) as usize];
            let Some(cell) = line.cells.iter_mut().find(|cell| cell.count != 0 && cell.key == key) else {
                for (start, value) in group {
                    begin(&mut fallback, *start, *value);
                    before = *value;
                }
                continue;
            };
            let first = u128::from(key) << 96;
            if group[0].0 == first {
                begin(&mut fallback, first, group[0].1);
            }
            let mut inside = vec![(first, before)];
            for (start, value) in group {
                begin(&mut inside, *start, *value);
                before = *value;
            }
            if let Some(next) = first.checked_add(1 << 96) {
                begin(&mut fallback, next, before);
            }
            (cell.first, cell.count) = append(&mut runs, &inside)?;
        }
        let mut table = Vec::with_capacity(fallback.len() + runs.len());
        let (_, fallback_count) = append(&mut table, &fallback)?;
        table.append(&mut runs);
        for cell in index.iter_mut().flat_map(|line| &mut line.cells).filter(|cell| cell.count != 0) {
            cell.first += fallback_count;
        }
        let config = Table6Config { index_mask: mask, fallback_count, ..UNPLACED };
        Some(Self { index, ranges: table, config })
    }

    /// What it takes in the kernel, in bytes.
    pub(super) fn memory(&self) -> usize {
        size_of_val(&*self.index) + size_of_val(&*self.ranges)
    }
}

/// The first 32 bits of an address.
const fn key(address: u128) -> u32 {
    (address >> 96) as u32
}

/// Appends a run and returns its place and length.
fn append(table: &mut Vec<Range6>, run: &[(u128, u32)]) -> Option<(u32, u32)> {
    let place = table.len() as u32;
    table.extend(run.iter().map(|(start, value)| Range6 {
        start_high: (start >> 64) as u64,
        start_low: *start as u64,
        value: *value,
        reserved: 0,
    }));
    let count = u32::try_from(run.len()).ok()?;
    (count <= MAX_RUN6).then_some((place, count))
}

/// Hashes keys to lines: as many lines as it takes for none to overflow, but no more than few for each key. Of what overflows then
/// there is so little that it makes the fallback run hardly longer. All cells have the length 1 until they get their runs.
fn hashed(keys: &[u32]) -> Vec<Line6> {
    let mut count = (keys.len() / 2).next_power_of_two();
    loop {
        let mut lines = vec![Line6::default(); count];
        let mut overflows = false;
        for key in keys {
            let line = &mut lines[line6(*key, count as u32 - 1) as usize];
            match line.cells.iter_mut().find(|cell| cell.count == 0) {
                Some(free) => *free = Cell6 { key: *key, count: 1, ..Cell6::default() },
                None => overflows = true,
            }
        }
        if !overflows || count >= 2 * keys.len() {
            return lines;
        }
        count *= 2;
    }
}
