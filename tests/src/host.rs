//! The data path's host build: a frame in a slice, and a state of compiled tables.
//!
//! This is the reference that the loaded program is compared with, so it is as plain as it can be.

use std::net::IpAddr;

use icmp_common::{
    Family, checksum,
    config::{self, Config},
    counters::{Counters, Slot},
    reason::{Reason, Verdict},
    tables::{Chunk4, Line6, Range6},
    wire::{
        Wire,
        ethernet::{Mac, MacParts},
    },
};
use icmp_ebpf::{Frame, MAX_SUM, NextHop, Route, State};
use icmp_userspace::policy::{
    compile::{Interface, Tables},
    file,
};

use crate::frames::{SERVER_MAC, SERVER4, SERVER6};

/// What became of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The verdict.
    pub verdict: Verdict,
    /// Where it was counted; `None` if nowhere.
    pub counted: Option<(Family, Reason)>,
    /// The frame's bytes afterwards.
    pub frame: Vec<u8>,
}

impl Outcome {
    /// The outcome of a frame, where it was counted being the difference between two readings of the counters.
    ///
    /// # Panics
    ///
    /// Panics if it was counted more than once.
    #[must_use]
    pub fn new(verdict: Verdict, before: &Counters, after: &Counters, frame: Vec<u8>) -> Self {
        let all = Family::ALL
            .into_iter()
            .flat_map(|family| Reason::ALL.iter().map(move |reason| (family, *reason)));
        let counts: Vec<_> = all
            .map(|(family, reason)| (family, reason, after.get(family, reason) - before.get(family, reason)))
            .filter(|(_, _, packets)| *packets != 0)
            .collect();
        let counted = match *counts {
            [] => None,
            [(family, reason, 1)] => Some((family, reason)),
            _ => panic!("counted {counts:?}: {frame:02x?}"),
        };
        Self { verdict, counted, frame }
    }
}

/// A frame in a slice.
pub struct SliceFrame<'a>(pub &'a mut [u8]);

impl Frame for SliceFrame<'_> {
    fn holds(&self, at: usize, length: usize) -> bool {
        at + length <= self.0.len()
    }

    fn read<T: Wire>(&self, at: usize) -> Option<&T> {
        let bytes = self.0.get(at..)?.get(..size_of::<T>())?;
        // SAFETY: the slice is as long as a `T`, which has alignment 1 and for which any bytes are valid.
        Some(unsafe { &*bytes.as_ptr().cast() })
    }

    fn write<T: Wire>(&mut self, at: usize) -> Option<&mut T> {
        let bytes = self.0.get_mut(at..)?.get_mut(..size_of::<T>())?;
        // SAFETY: as above, and the slice is borrowed mutably for as long.
        Some(unsafe { &mut *bytes.as_mut_ptr().cast() })
    }

    fn sum(&mut self, at: usize, length: impl Fn(&Self) -> Option<usize>) -> Option<u64> {
        let length = length(self).filter(|length| *length <= MAX_SUM)?;
        Some(checksum::sum(self.0.get(at..)?.get(..length)?))
    }
}

/// Settings and tables of a policy, counters from zero, and one entry of a routing table.
pub struct HostState<'a> {
    tables: &'a Tables,
    next_hop: Option<NextHop>,
    asked: Option<Route>,
    counters: Counters,
}

impl State for HostState<'_> {
    fn enabled(&self) -> bool {
        self.config().enabled != 0
    }

    fn ttl(&self) -> u8 {
        self.config().ttl
    }

    fn verify_checksum(&self) -> bool {
        self.config().verify_checksum != 0
    }

    fn next_hop_from_fib(&self) -> bool {
        self.config().next_hop == config::NextHop::Fib as u8
    }

    fn interface_mac(&self) -> MacParts {
        self.config().interface_mac
    }

    fn host4(&self, slot: usize) -> u32 {
        self.tables.hosts.v4[slot]
    }

    fn host6(&self, slot: usize) -> [u64; 2] {
        self.tables.hosts.v6[slot]
    }

    fn chunk4(&self, number: u32) -> Option<&Chunk4> {
        self.tables.chunks4.get(number as usize)
    }

    fn index6_mask(&self) -> u32 {
        self.config().index6_mask
    }

    fn index6(&self, line: u32) -> Option<&Line6> {
        self.tables.index6.get(line as usize)
    }

    fn fallback6_count(&self) -> u32 {
        self.config().fallback6_count
    }

    fn range6(&self, place: u32) -> Option<&Range6> {
        self.tables.ranges6.get(place as usize)
    }

    fn next_hop(&mut self, route: &Route) -> Option<NextHop> {
        self.asked = Some(*route);
        self.next_hop
    }

    fn count(&mut self, slot: Slot) {
        self.counters.count(slot);
    }
}

impl HostState<'_> {
    const fn config(&self) -> &Config {
        &self.tables.config
    }
}

/// Takes a frame through the host build; no route is known.
#[must_use]
pub fn handle(tables: &Tables, frame: &[u8]) -> Outcome {
    handle_routed(tables, None, frame).0
}

/// As [`handle`], with a routing table that gives one answer: the MAC addresses that a reply comes from and goes
/// to. Also says what it was asked.
#[must_use]
pub fn handle_routed(
    tables: &Tables,
    next_hop: Option<([u8; 6], [u8; 6])>,
    frame: &[u8],
) -> (Outcome, Option<Route>) {
    let parts = |mac| Mac::new(mac).parts();
    let next_hop = next_hop.map(|(from, to)| NextHop { source: parts(from), destination: parts(to) });
    let mut bytes = frame.to_vec();
    let mut state = HostState { tables, next_hop, asked: None, counters: Counters::ZERO };
    let verdict = icmp_ebpf::handle(&mut SliceFrame(&mut bytes), &mut state);
    (Outcome::new(verdict, &Counters::ZERO, &state.counters, bytes), state.asked)
}

/// The interface that policies are compiled for: one address and subnet of each family.
#[must_use]
pub fn interface() -> Interface {
    let addresses = vec![(IpAddr::from(SERVER4), 24), (IpAddr::from(SERVER6), 64)];
    Interface { mac: SERVER_MAC, addresses, broadcasts: Vec::new() }
}

/// Compiles the text of a policy for [`interface`].
#[must_use]
pub fn tables(policy: &str) -> Tables {
    Tables::compile(&file::parse(policy).unwrap(), &interface()).unwrap()
}
