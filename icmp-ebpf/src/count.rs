//! Step "count": the one exit of every ICMP packet.

use icmp_common::{Family, counters::Slot};

use crate::{Reason, State, Verdict};

/// Counts the packet under its reason and says what becomes of it.
#[inline(always)]
pub(crate) fn count<S: State>(state: &mut S, family: Family, reason: Reason) -> Verdict {
    state.count(Slot::new(family, reason));
    reason.verdict()
}
