//! What the data path's host build makes of a frame: the reference that the loaded program is compared with.

use std::net::IpAddr;

use icmp_common::{
    Family,
    counters::Counters,
    reason::{Reason, Verdict},
    wire::ethernet::Mac,
};
use icmp_ebpf::{NextHop, Route};
use icmp_userspace::{
    explain::host::HostState,
    policy::{
        Policy,
        compile::{Interface, Tables},
        file,
        slots::Slots,
    },
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

/// Takes a frame through the host build; no route is known.
#[must_use]
pub fn handle(tables: &Tables, frame: &[u8]) -> Outcome {
    handle_routed(tables, None, frame).0
}

/// As [`handle`], in a state that other frames may have gone through before.
#[must_use]
pub fn handle_in(state: &mut HostState<'_>, frame: &[u8]) -> Outcome {
    let before = state.counters;
    let (verdict, bytes) = state.handle(frame.to_vec());
    Outcome::new(verdict, &before, &state.counters, bytes)
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
    let mut state = HostState::new(tables);
    state.next_hop = next_hop;
    (handle_in(&mut state, frame), state.asked)
}

/// The interface that policies are compiled for: one address and subnet of each family.
#[must_use]
pub fn interface() -> Interface {
    let addresses = vec![(IpAddr::from(SERVER4), 24), (IpAddr::from(SERVER6), 64)];
    Interface { mac: SERVER_MAC, addresses, ..Interface::default() }
}

/// Compiles the text of a policy for [`interface`].
#[must_use]
pub fn tables(policy: &str) -> Tables {
    compile(&file::parse(policy).unwrap())
}

/// Compiles a policy for [`interface`].
#[must_use]
pub fn compile(policy: &Policy) -> Tables {
    let slots = Slots::assign(policy, &Slots::default()).unwrap();
    Tables::compile(policy, &interface(), &slots).unwrap()
}
