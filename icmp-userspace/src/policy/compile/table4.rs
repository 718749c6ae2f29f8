//! IPv4 ranges -> the table in which the packet path looks them up; [`icmp_common::tables`] has the layout.

use icmp_common::tables::{LINE_BITS, LINES, RANGES, Ranges4, Root4};

use super::classes::{Ranges, begin};

/// An IPv4 table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table4 {
    /// The root.
    pub(super) root: Box<Root4>,
    /// The lines of ranges.
    pub(super) lines: Vec<Ranges4>,
}

impl Table4 {
    /// Nothing, for a table that is not looked at.
    pub(super) fn unused() -> Self {
        Self { root: zeros(), lines: Vec::new() }
    }

    /// The table of `ranges`, whose values have 16 bits; `first_line` is the number that its first line will have.
    pub(super) fn new(ranges: &Ranges<u32, u32>, first_line: u32) -> Self {
        let mut table = Self::unused();
        let mut rest = ranges.iter().copied().peekable();
        // What holds where the ranges of the next cell begin.
        let mut value = 0;
        for (number, cell) in table.root.iter_mut().enumerate() {
            let first = (number as u32) << 16;
            let mut inside = vec![(0, value)];
            while let Some((start, next)) = rest.next_if(|(start, _)| start >> 16 == first >> 16) {
                begin(&mut inside, start & 0xffff, next);
                value = next;
            }
            *cell = match *inside {
                [(_, value)] => value,
                _ => append(&mut table.lines, first_line, &inside),
            };
        }
        table
    }

    /// What it takes in the kernel, in bytes.
    pub(super) fn memory(&self) -> usize {
        size_of::<Root4>() + size_of_val(&*self.lines)
    }
}

/// An empty root, on the heap from the beginning.
fn zeros() -> Box<Root4> {
    vec![0; size_of::<Root4>() / size_of::<u32>()].try_into().unwrap_or_else(|_| unreachable!())
}

/// Appends the lines of one cell of the root, a power of two, and returns the cell.
fn append(lines: &mut Vec<Ranges4>, first_line: u32, ranges: &[(u32, u32)]) -> u32 {
    let first = first_line + lines.len() as u32;
    let count = ranges.len().div_ceil(RANGES).next_power_of_two();
    let packed = |place: usize| ranges[place.min(ranges.len() - 1)];
    lines.extend((0..count).map(|line| {
        let ranges = std::array::from_fn(|place| {
            let (start, value) = packed(line * RANGES + place);
            start << 16 | value
        });
        Ranges4 { ranges }
    }));
    LINES | count.trailing_zeros() << LINE_BITS | first
}
