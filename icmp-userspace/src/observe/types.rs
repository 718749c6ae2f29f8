//! Messages by type and code: what was counted, put beside their names.

use icmp_common::{
    Family,
    counters::Counters,
    messages::{TYPES, fragments},
    reason::Reason,
    wire::icmp::{ECHO4, ECHO6, Echo},
};
use serde::Serialize;

use super::rates::Before;
use crate::policy::names;

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// `ipv4` or `ipv6`.
    pub family: &'static str,
    /// The type; none where it is not known: of fragments but the first, and behind impossible headers.
    #[serde(rename = "type")]
    pub icmp_type: Option<u8>,
    /// The code; none where several are counted together, because nothing is known of them.
    pub code: Option<u8>,
    /// What rules call it, or the type.
    pub name: Option<&'static str>,
    /// How many there were.
    pub packets: u64,
    /// How many of them were left to the stack.
    pub passed: u64,
    /// How many there were a second since the reading before, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_second: Option<f64>,
}

/// The types of an echo.
pub(super) const fn echo(family: Family) -> Echo {
    match family {
        Family::Ipv4 => ECHO4,
        Family::Ipv6 => ECHO6,
    }
}

/// What has been counted of the messages in one slot: those left to the stack, and the others, answered echo requests included.
fn counted(counters: &Counters, family: Family, slot: u32) -> [u64; 2] {
    let [passed, mut others] = counters.messages[slot as usize];
    if slot == TYPES[family as usize][usize::from(echo(family).request)].slot(0) {
        others += counters.get(family, Reason::Echo);
    }
    [passed, others]
}

/// How many messages of a type were not left to the stack.
pub(super) fn kept(counters: &Counters, family: Family, icmp_type: u8) -> u64 {
    let slots = TYPES[family as usize][usize::from(icmp_type)];
    let slots = (0..=slots.codes).map(|code| u32::from(slots.first + code));
    slots.map(|slot| counted(counters, family, slot)[1]).sum()
}

/// The slots of a family, with type and code of each.
fn slots(family: Family) -> impl Iterator<Item = (u32, Option<u8>, Option<u8>)> {
    let types = TYPES[family as usize].iter().zip(0..=u8::MAX);
    let typed = types.flat_map(|(slots, icmp_type)| {
        (0..=slots.codes).map(move |number| {
            let code = (number < slots.codes).then_some(number as u8);
            (u32::from(slots.first + number), Some(icmp_type), code)
        })
    });
    typed.chain([(fragments(family), None, None)])
}

/// Every type and code of which there have been messages, in their order; with rates if there was a reading before.
#[must_use]
pub fn rows(counters: &Counters, before: Option<Before<'_, Counters>>) -> Vec<Row> {
    let row = |family: Family, (slot, icmp_type, code): (u32, Option<u8>, Option<u8>)| {
        let [passed, others] = counted(counters, family, slot);
        let packets = passed + others;
        let per_second = before.map(|before| {
            let earlier: u64 = counted(before.reading, family, slot).iter().sum();
            // A counter that holds less than it did then is another one, made since.
            before.per_second(packets.checked_sub(earlier).unwrap_or(packets))
        });
        let name = match icmp_type {
            Some(icmp_type) => code
                .and_then(|code| names::of(family, icmp_type, Some(code)))
                .or_else(|| names::of(family, icmp_type, None)),
            None => Some("unknown"),
        };
        (packets > 0).then(|| Row {
            family: family.name(),
            icmp_type,
            code,
            name,
            packets,
            passed,
            per_second,
        })
    };
    Family::ALL
        .into_iter()
        .flat_map(|family| slots(family).filter_map(move |slot| row(family, slot)))
        .collect()
}

#[cfg(test)]
mod tests {
    use icmp_common::counters::Slot;

    use super::*;

    fn count(counters: &mut Counters, family: Family, reason: Reason, message: Option<u32>) {
        let slot = Slot::new(family, reason);
        counters.count(slot);
        if let Some(message) = message {
            counters.count_message(message, slot);
        }
    }

    #[test]
    fn messages_are_listed_by_type_and_code() {
        let mut counters = Counters::ZERO;
        let slot = |family: usize, icmp_type: usize, code| Some(TYPES[family][icmp_type].slot(code));
        for (family, reason, message) in [
            (Family::Ipv4, Reason::Echo, None),
            (Family::Ipv4, Reason::Denied, slot(0, 8, 0)),
            (Family::Ipv4, Reason::OtherCode, slot(0, 8, 7)),
            (Family::Ipv4, Reason::OtherType, slot(0, 3, 3)),
            (Family::Ipv4, Reason::OtherType, slot(0, 3, 16)),
            (Family::Ipv4, Reason::OtherType, slot(0, 200, 0)),
            (Family::Ipv6, Reason::Echo, None),
            (Family::Ipv6, Reason::Fragment, Some(fragments(Family::Ipv6))),
        ] {
            count(&mut counters, family, reason, message);
        }
        let rows = rows(&counters, None);
        let told: Vec<_> =
            rows.iter().map(|row| (row.icmp_type, row.code, row.name, row.packets, row.passed)).collect();
        let expected = [
            (Some(3), Some(3), Some("port-unreachable"), 1, 1),
            (Some(3), None, Some("unreachable"), 1, 1),
            (Some(8), Some(0), Some("echo"), 2, 0),
            (Some(8), None, Some("echo"), 1, 1),
            (Some(200), None, None, 1, 1),
            (Some(128), Some(0), Some("echo"), 1, 0),
            (None, None, Some("unknown"), 1, 1),
        ];
        assert_eq!(told, expected);
        assert_eq!((kept(&counters, Family::Ipv4, 8), kept(&counters, Family::Ipv4, 3)), (2, 0));
    }

    #[test]
    fn rates_are_what_came_since_the_reading_before() {
        let mut reading = Counters::ZERO;
        count(&mut reading, Family::Ipv4, Reason::Echo, None);
        let mut now = reading;
        (0..3).for_each(|_| count(&mut now, Family::Ipv4, Reason::Echo, None));
        count(&mut now, Family::Ipv4, Reason::OverLimit, Some(TYPES[0][8].slot(0)));
        let rate = |now, reading| rows(now, Some(Before { reading, seconds: 2.0 }))[0].per_second;
        assert_eq!(rate(&now, &reading), Some(2.0));
        // Counters that were made anew.
        assert_eq!(rate(&reading, &now), Some(0.5));
    }
}
