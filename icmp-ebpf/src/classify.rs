//! Step "classify", as far as the responder needs it: what a destination address is to us.
//!
//! Source classes, kinds and rules find their place here. The tables and their layouts are described in
//! [`icmp_common::tables`]; a cell that is missing, which no table of ours has, counts as not served.

use icmp_common::{
    tables::{CHUNK, Destination, MAX_RUN6, RUN6_STEPS, host_slot4, host_slot6, line6},
    wire::ipv6::{Address6, Halves, words},
};

use crate::State;

/// What an IPv4 address is to us.
#[inline(always)]
pub(crate) fn destination4<S: State>(state: &S, address: [u8; 4]) -> Destination {
    let number = u32::from_ne_bytes(address);
    if state.host4(host_slot4(number)) == number {
        return Destination::Served;
    }
    Destination::from_cell(cell4(state, u32::from_be_bytes(address)).unwrap_or_default())
}

#[inline(always)]
fn cell4<S: State>(state: &S, address: u32) -> Option<u32> {
    let [first, second, third, fourth] = address.to_be_bytes();
    let mut cell = state.chunk4(u32::from(first))?[usize::from(second)];
    if cell & CHUNK != 0 {
        cell = state.chunk4(cell & !CHUNK)?[usize::from(third)];
        if cell & CHUNK != 0 {
            cell = state.chunk4(cell & !CHUNK)?[usize::from(fourth)];
        }
    }
    Some(cell)
}

/// What an IPv6 address is to us.
#[inline(always)]
pub(crate) fn destination6<S: State>(state: &S, address: Halves) -> Destination {
    let number = words(address);
    let [high, low] = state.host6(host_slot6(number));
    if high == number[0] && low == number[1] {
        return Destination::Served;
    }
    let address = Address6::from_halves(address);
    Destination::from_cell(range6(state, address).unwrap_or_default())
}

#[inline(always)]
fn range6<S: State>(state: &S, address: Address6) -> Option<u32> {
    let key = (address.high >> 32) as u32;
    let line = state.index6(line6(key, state.index6_mask()))?;
    let mut first = 0;
    let mut count = state.fallback6_count();
    for cell in &line.cells {
        if cell.key == key && cell.count != 0 {
            (first, count) = (cell.first, cell.count);
            break;
        }
    }
    // Binary search for the last range that starts at or before the address. The first one of a run always
    // does.
    count &= MAX_RUN6 * 2 - 1;
    for _ in 0..RUN6_STEPS {
        if count <= 1 {
            break;
        }
        let half = count / 2;
        let middle = state.range6(first + half)?;
        let start = Address6 { high: middle.start_high, low: middle.start_low };
        if start <= address {
            first += half;
        }
        count -= half;
    }
    Some(state.range6(first)?.destination)
}
