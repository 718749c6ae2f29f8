//! Steps "count" and "tell": the one exit of every ICMP packet.

use icmp_common::{
    Family,
    counters::Slot,
    messages::{TYPES, fragments},
};

use crate::{Reason, State, Step, Verdict, parse::Message, tell::tell};

/// Counts the packet under its reason, and by its type and code if the reason does not say what these are; tells of it to who wants to
/// know; and says what becomes of it.
#[inline(always)]
pub(crate) fn count<S: State>(
    state: &mut S,
    family: Family,
    reason: Reason,
    message: Option<Message>,
) -> Verdict {
    exit(state, family, Slot::new(family, reason), message);
    reason.verdict()
}

/// The same, for a family and reason of which the slot is known.
#[inline(always)]
pub(crate) fn exit<S: State>(state: &mut S, family: Family, slot: Slot, message: Option<Message>) {
    state.log(Step::Count, slot.number());
    state.count(slot, message.map(|message| message_slot(family, message)));
    tell(state, slot);
}

/// The slot of a message's type and code.
#[inline(always)]
fn message_slot(family: Family, message: Message) -> u32 {
    let Some(message) = message.known() else { return fragments(family) };
    let [icmp_type, code] = message.to_le_bytes();
    TYPES[family as usize][usize::from(icmp_type)].slot(code)
}
