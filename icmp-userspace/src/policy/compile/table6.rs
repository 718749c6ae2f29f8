//! IPv6 ranges -> the table in which the packet path looks them up; [`icmp_common::tables`] has the layout.

use icmp_common::{
    config::Table6Config,
    tables::{Cell6, Line6, MAX_RUN6, Range6, line6},
};

use super::{
    MEMORY_BUDGET,
    classes::{Ranges, begin},
};

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

    /// The table of `ranges`; `None` if it takes too much memory.
    pub(super) fn new(ranges: &Ranges<u128, u32>) -> Option<Self> {
        // A key gets a run of its own if anything begins or ends within it. What is left to the fallback run then
        // changes between keys alone.
        let mut fallback = Vec::new();
        let mut runs = Vec::new();
        let mut before = 0;
        for group in ranges.chunk_by(|one, other| one.0 >> 96 == other.0 >> 96) {
            let key = (group[0].0 >> 96) as u32;
            let first = u128::from(key) << 96;
            let mut inside = vec![(first, before)];
            for (start, value) in group {
                begin(&mut inside, *start, *value);
                before = *value;
            }
            if group[0].0 == first {
                begin(&mut fallback, first, group[0].1);
            }
            if inside.len() > 1 {
                runs.push((key, inside));
                if let Some(next) = first.checked_add(1 << 96) {
                    begin(&mut fallback, next, before);
                }
            }
        }
        let mut table = Vec::new();
        let fallback_count = append(&mut table, &fallback)?;
        let mut cells = Vec::with_capacity(runs.len());
        for (key, run) in &runs {
            let first = table.len() as u32;
            cells.push(Cell6 { key: *key, first, count: append(&mut table, run)?, reserved: 0 });
        }
        let index = hashed(&cells)?;
        let config = Table6Config { index_mask: index.len() as u32 - 1, fallback_count, ..UNPLACED };
        Some(Self { index, ranges: table, config })
    }

    /// What it takes in the kernel, in bytes.
    pub(super) fn memory(&self) -> usize {
        size_of_val(&*self.index) + size_of_val(&*self.ranges)
    }
}

/// Appends a run and returns its length.
fn append(table: &mut Vec<Range6>, run: &[(u128, u32)]) -> Option<u32> {
    table.extend(run.iter().map(|(start, value)| Range6 {
        start_high: (start >> 64) as u64,
        start_low: *start as u64,
        value: *value,
        reserved: 0,
    }));
    let count = u32::try_from(run.len()).ok()?;
    (count <= MAX_RUN6 && size_of_val(&**table) <= MEMORY_BUDGET).then_some(count)
}

/// Hashes cells to lines: as many lines as it takes for no line to overflow.
fn hashed(cells: &[Cell6]) -> Option<Vec<Line6>> {
    let mut count = (cells.len() / 2).next_power_of_two();
    'larger: while count * size_of::<Line6>() <= MEMORY_BUDGET / 2 {
        let mut lines = vec![Line6::default(); count];
        for cell in cells {
            let line = &mut lines[line6(cell.key, count as u32 - 1) as usize];
            let Some(free) = line.cells.iter_mut().find(|cell| cell.count == 0) else {
                count *= 2;
                continue 'larger;
            };
            *free = *cell;
        }
        return Some(lines);
    }
    None
}
