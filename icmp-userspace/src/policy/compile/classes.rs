//! Prefixes of many selectors -> ranges of addresses that belong to the same selectors.
//!
//! A selector is whatever a rule can name as source or destination: a prefix, a wildcard mask, a set. Addresses that no
//! rule can tell apart belong to the same selectors; they are a class. One sweep over the sorted prefixes, which are either
//! nested or disjoint, gives the ranges and the classes.

use std::{collections::HashMap, net::IpAddr};

use crate::policy::prefix::Prefix;

/// An address as a number.
pub(super) trait Bits: Copy + Ord {
    /// The first address.
    const FIRST: Self;
    /// The last address of the prefix of this length that begins here.
    fn last(self, length: u8) -> Self;
    /// The next address, if there is one.
    fn next(self) -> Option<Self>;
    /// First address and length of a prefix, if it is of this family.
    fn of(prefix: Prefix) -> Option<(Self, u8)>;
    /// The prefixes of all addresses that are equal to an IPv4 address where a wildcard mask has zeros.
    fn matching(address: u32, mask: u32) -> Vec<(Self, u8)>;
}

impl Bits for u32 {
    const FIRST: Self = 0;

    fn last(self, length: u8) -> Self {
        self | Self::MAX.checked_shr(length.into()).unwrap_or(0)
    }

    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }

    fn of(prefix: Prefix) -> Option<(Self, u8)> {
        match prefix.address() {
            IpAddr::V4(address) => Some((address.to_bits(), prefix.length())),
            IpAddr::V6(_) => None,
        }
    }

    fn matching(address: u32, mask: u32) -> Vec<(Self, u8)> {
        // Ones at the end are what a prefix leaves open; each other one doubles the number of prefixes.
        let open = mask.trailing_ones();
        let scattered = mask & !1_u32.checked_shl(open).map_or(u32::MAX, |bit| bit - 1);
        let mut prefixes = Vec::with_capacity(1 << scattered.count_ones());
        let mut part = 0_u32;
        loop {
            prefixes.push((address & !mask | part, (32 - open) as u8));
            // The next larger number that has no other bits than these.
            part = part.wrapping_sub(scattered) & scattered;
            if part == 0 {
                return prefixes;
            }
        }
    }
}

impl Bits for u128 {
    const FIRST: Self = 0;

    fn last(self, length: u8) -> Self {
        self | Self::MAX.checked_shr(length.into()).unwrap_or(0)
    }

    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }

    fn of(prefix: Prefix) -> Option<(Self, u8)> {
        match prefix.address() {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some((address.to_bits(), prefix.length())),
        }
    }

    fn matching(_: u32, _: u32) -> Vec<(Self, u8)> {
        Vec::new()
    }
}

/// A prefix that belongs to a selector: first address, length, number of the selector.
pub(super) type Covered<A> = (A, u8, u32);

/// Ranges of addresses: where each begins, and what holds up to the start of the next one. The first begins at the first
/// address, and no two neighbours are the same.
pub(super) type Ranges<A, V> = Vec<(A, V)>;

/// Ranges by the number of their class, and the selectors of each class, sorted. Class 0 has none.
pub(super) struct Classified<A> {
    pub(super) ranges: Ranges<A, u32>,
    pub(super) classes: Vec<Vec<u32>>,
}

/// Sorts out which addresses belong to which selectors.
pub(super) fn classify<A: Bits>(mut prefixes: Vec<Covered<A>>) -> Classified<A> {
    prefixes.sort_unstable();
    let mut classes = Classes::new();
    let mut ranges = vec![(A::FIRST, 0)];
    // The prefixes around the place where the sweep is, from the outside in: last address, class.
    let mut around: Vec<(A, u32)> = Vec::new();
    let inner = |around: &[(A, u32)]| around.last().map_or(0, |(_, class)| *class);
    for (first, length, selector) in prefixes {
        while let Some((last, _)) = around.pop_if(|(last, _)| *last < first) {
            if let Some(next) = last.next() {
                begin(&mut ranges, next, inner(&around));
            }
        }
        let class = classes.with(inner(&around), selector);
        around.push((first.last(length), class));
        begin(&mut ranges, first, class);
    }
    while let Some((last, _)) = around.pop() {
        if let Some(next) = last.next() {
            begin(&mut ranges, next, inner(&around));
        }
    }
    Classified { ranges, classes: classes.members }
}

/// From `start` on, which is no lower than any start before, something else holds.
pub(super) fn begin<A: Bits, V: PartialEq>(ranges: &mut Ranges<A, V>, start: A, value: V) {
    ranges.pop_if(|(last, _)| *last == start);
    if ranges.last().is_none_or(|(_, last)| *last != value) {
        ranges.push((start, value));
    }
}

/// Ranges with other values; neighbours that become the same are joined.
pub(super) fn map<A: Bits, V: PartialEq>(ranges: &Ranges<A, u32>, value: impl Fn(u32) -> V) -> Ranges<A, V> {
    let mut mapped = Vec::new();
    for (start, class) in ranges {
        begin(&mut mapped, *start, value(*class));
    }
    mapped
}

/// Sets of selectors that occur, numbered.
struct Classes {
    members: Vec<Vec<u32>>,
    numbers: HashMap<Vec<u32>, u32>,
    /// A class and a selector that is added to it -> the class that this makes.
    sums: HashMap<(u32, u32), u32>,
}

impl Classes {
    fn new() -> Self {
        Self { members: vec![Vec::new()], numbers: HashMap::from([(Vec::new(), 0)]), sums: HashMap::new() }
    }

    fn with(&mut self, class: u32, selector: u32) -> u32 {
        *self.sums.entry((class, selector)).or_insert_with(|| {
            let mut members = self.members[class as usize].clone();
            if let Err(place) = members.binary_search(&selector) {
                members.insert(place, selector);
            }
            *self.numbers.entry(members).or_insert_with_key(|members| {
                self.members.push(members.clone());
                self.members.len() as u32 - 1
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_and_adjacent_prefixes_make_ranges() {
        let Classified { ranges, classes } =
            classify::<u32>(vec![(0x0a00_0000, 8, 1), (0x0a01_0000, 16, 2), (0x0b00_0000, 8, 1)]);
        let members: Vec<(u32, &[u32])> =
            ranges.iter().map(|(start, class)| (*start, &*classes[*class as usize])).collect();
        let expected: [(u32, &[u32]); 5] =
            [(0, &[]), (0x0a00_0000, &[1]), (0x0a01_0000, &[1, 2]), (0x0a02_0000, &[1]), (0x0c00_0000, &[])];
        assert_eq!(members, expected);
    }

    #[test]
    fn wildcard_masks_become_prefixes() {
        let prefixes = u32::matching(0x0a00_0100, 0x0002_80ff);
        assert_eq!(prefixes, [(0x0a00_0100, 24), (0x0a00_8100, 24), (0x0a02_0100, 24), (0x0a02_8100, 24)]);
        assert_eq!(u32::matching(0x0a00_0001, 0), [(0x0a00_0001, 32)]);
        assert_eq!(u32::matching(0, u32::MAX), [(0, 0)]);
    }

    #[test]
    fn the_last_address_ends_no_sweep_early() {
        let all = classify::<u32>(vec![(0, 0, 7), (u32::MAX, 32, 8)]);
        assert_eq!(all.ranges.len(), 2);
        assert_eq!(all.classes[all.ranges[1].1 as usize], [7, 8]);
        let all = classify::<u128>(vec![(0, 0, 7), (0, 0, 7)]);
        assert_eq!(all.ranges.len(), 1);
    }
}
