//! What the stack's counters miss: how far `IcmpInMsgs` and its kin (RFC 4293, RFC 4001) would be higher, had the stack done what
//! the program did.
//!
//! The rule: what was dropped had been received before, as it would have been without the program. What was sent counts as sent.
//! What the program passed the stack counts itself.

use std::collections::BTreeMap;

use icmp_common::{Family, counters::Counters, reason::Reason};
use serde::Serialize;

use super::types;

/// One of the stack's counters; both families have most of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counter {
    InMsgs,
    InErrors,
    InCsumErrors,
    OutMsgs,
    OutDestUnreachs,
    OutEchoReps,
    OutTimestampReps,
}

use Counter::{InCsumErrors, InErrors, InMsgs, OutDestUnreachs, OutEchoReps, OutMsgs, OutTimestampReps};

/// In the kernel's order: what comes in, but for its types, and what goes out.
const IN: [Counter; 3] = [InMsgs, InErrors, InCsumErrors];
const OUT: [Counter; 4] = [OutMsgs, OutDestUnreachs, OutEchoReps, OutTimestampReps];

/// The counters of messages that came in by their types, in the kernel's order.
const TYPES4: [(u8, &str); 11] = [
    (3, "IcmpInDestUnreachs"),
    (11, "IcmpInTimeExcds"),
    (12, "IcmpInParmProbs"),
    (4, "IcmpInSrcQuenchs"),
    (5, "IcmpInRedirects"),
    (8, "IcmpInEchos"),
    (0, "IcmpInEchoReps"),
    (13, "IcmpInTimestamps"),
    (14, "IcmpInTimestampReps"),
    (17, "IcmpInAddrMasks"),
    (18, "IcmpInAddrMaskReps"),
];
const TYPES6: [(u8, &str); 15] = [
    (1, "Icmp6InDestUnreachs"),
    (2, "Icmp6InPktTooBigs"),
    (3, "Icmp6InTimeExcds"),
    (4, "Icmp6InParmProblems"),
    (128, "Icmp6InEchos"),
    (129, "Icmp6InEchoReplies"),
    (130, "Icmp6InGroupMembQueries"),
    (131, "Icmp6InGroupMembResponses"),
    (132, "Icmp6InGroupMembReductions"),
    (133, "Icmp6InRouterSolicits"),
    (134, "Icmp6InRouterAdvertisements"),
    (135, "Icmp6InNeighborSolicits"),
    (136, "Icmp6InNeighborAdvertisements"),
    (137, "Icmp6InRedirects"),
    (143, "Icmp6InMLDv2Reports"),
];

impl Counter {
    /// Its name, if the family has it.
    const fn name(self, family: Family) -> Option<&'static str> {
        Some(match (self, family) {
            (InMsgs, Family::Ipv4) => "IcmpInMsgs",
            (InMsgs, Family::Ipv6) => "Icmp6InMsgs",
            (InErrors, Family::Ipv4) => "IcmpInErrors",
            (InErrors, Family::Ipv6) => "Icmp6InErrors",
            (InCsumErrors, Family::Ipv4) => "IcmpInCsumErrors",
            (InCsumErrors, Family::Ipv6) => "Icmp6InCsumErrors",
            (OutMsgs, Family::Ipv4) => "IcmpOutMsgs",
            (OutMsgs, Family::Ipv6) => "Icmp6OutMsgs",
            (OutDestUnreachs, Family::Ipv4) => "IcmpOutDestUnreachs",
            (OutDestUnreachs, Family::Ipv6) => "Icmp6OutDestUnreachs",
            (OutEchoReps, Family::Ipv4) => "IcmpOutEchoReps",
            (OutEchoReps, Family::Ipv6) => "Icmp6OutEchoReplies",
            (OutTimestampReps, Family::Ipv4) => "IcmpOutTimestampReps",
            (OutTimestampReps, Family::Ipv6) => return None,
        })
    }
}

/// The table: which counters the stack would have raised for a packet that the program counted under a reason, besides that of its type.
const fn raised(reason: Reason) -> &'static [Counter] {
    match reason {
        Reason::Echo => &[InMsgs, OutMsgs, OutEchoReps],
        Reason::Timestamp => &[InMsgs, OutMsgs, OutTimestampReps],
        // Extended echo has no counters of its own.
        Reason::Probe => &[InMsgs, OutMsgs],
        // What comes is UDP.
        Reason::Traceroute => &[OutMsgs, OutDestUnreachs],
        Reason::TracerouteOverLimit => &[],
        Reason::BadChecksum => &[InMsgs, InErrors, InCsumErrors],
        Reason::TooShort => &[InMsgs, InErrors],
        Reason::Denied
        | Reason::RejectedSilently
        | Reason::RejectOverLimit
        | Reason::OverLimit
        | Reason::ProbeNotAllowed => &[InMsgs],
        Reason::Rejected => &[InMsgs, OutMsgs, OutDestUnreachs],
        // Errors of IP, not of ICMP (IpInHdrErrors); messages that are too short are among them, and few.
        Reason::BadHeader | Reason::BadHeaderChecksum => &[],
        // Passed.
        Reason::OtherType
        | Reason::OtherCode
        | Reason::AnswersOff
        | Reason::OtherHost
        | Reason::LinkMulticast
        | Reason::OwnFrame
        | Reason::NotServed
        | Reason::NotUnicast
        | Reason::BadSource
        | Reason::Fragment
        | Reason::IpOptions
        | Reason::ExtensionHeader
        | Reason::NoNextHop
        | Reason::TooLong
        | Reason::OtherProbe => &[],
    }
}

/// One of the stack's counters, and what it misses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Its name, as `nstat` has it.
    pub name: &'static str,
    /// What the program did in the stack's place.
    pub icmpctl: u64,
    /// What the stack counted itself.
    pub kernel: u64,
    /// Both.
    pub sum: u64,
}

/// What the program's counters add to each of the stack's, which are found by name.
#[must_use]
pub fn rows(counters: &Counters, kernel: &BTreeMap<String, u64>) -> Vec<Row> {
    let family_rows = |family: Family| {
        let of_counter = |counter: &Counter| {
            let reasons = Reason::ALL.iter().filter(|reason| raised(**reason).contains(counter));
            let icmpctl: u64 = reasons.map(|reason| counters.get(family, *reason)).sum();
            counter.name(family).map(|name| (name, icmpctl))
        };
        let types: &[_] = match family {
            Family::Ipv4 => &TYPES4,
            Family::Ipv6 => &TYPES6,
        };
        let of_type =
            |(icmp_type, name): &(u8, &'static str)| (*name, received(counters, family, *icmp_type));
        let named = IN.iter().filter_map(of_counter).chain(types.iter().map(of_type));
        named.chain(OUT.iter().filter_map(of_counter)).collect::<Vec<_>>()
    };
    let named = Family::ALL.into_iter().flat_map(family_rows);
    named
        .map(|(name, icmpctl)| {
            let kernel = kernel.get(name).copied().unwrap_or(0);
            Row { name, icmpctl, kernel, sum: icmpctl + kernel }
        })
        .collect()
}

/// How many messages of a type the stack would have received from the program's.
fn received(counters: &Counters, family: Family, icmp_type: u8) -> u64 {
    let kept = types::kept(counters, family, icmp_type);
    if icmp_type != types::echo(family).request {
        return kept;
    }
    // It looks at the type after the checksum, but before the length. Requests with wrong checksums are nearly all of them for an echo.
    let broken = [Reason::BadHeaderChecksum, Reason::BadChecksum];
    let broken: u64 = broken.into_iter().map(|reason| counters.get(family, reason)).sum();
    kept.saturating_sub(broken)
}

#[cfg(test)]
mod tests {
    use icmp_common::{counters::Slot, messages::TYPES, reason::Verdict};

    use super::*;

    #[test]
    fn what_is_sent_and_dropped_is_counted_and_what_is_passed_is_not() {
        for reason in Reason::ALL {
            let raised = raised(*reason);
            let sends = matches!(reason.verdict(), Verdict::Answer | Verdict::Reject);
            assert_eq!(raised.contains(&OutMsgs), sends, "{reason:?}");
            let passes = reason.verdict() == Verdict::Pass;
            assert!(!passes || raised.is_empty(), "{reason:?}");
            // Whatever is in another counter is in that of all messages, too.
            let ways = raised.iter().map(|counter| format!("{counter:?}").starts_with("In"));
            for is_in in ways {
                assert!(raised.contains(if is_in { &InMsgs } else { &OutMsgs }), "{reason:?}");
            }
        }
    }

    #[test]
    fn both_add_up() {
        let mut counters = Counters::ZERO;
        for (reason, icmp_type) in [
            (Reason::Echo, None),
            (Reason::Rejected, Some(1)),
            (Reason::Denied, Some(128)),
            (Reason::BadChecksum, Some(128)),
            (Reason::OtherType, Some(1)),
        ] {
            let slot = Slot::new(Family::Ipv6, reason);
            counters.count(slot);
            if let Some(icmp_type) = icmp_type {
                counters.count_message(TYPES[1][icmp_type].slot(0), slot);
            }
        }
        let rows = rows(&counters, &[("Icmp6InMsgs".to_owned(), 5)].into());
        let row = |name| rows.iter().find(|row| row.name == name).copied().unwrap();
        assert_eq!(row("Icmp6InMsgs"), Row { name: "Icmp6InMsgs", icmpctl: 4, kernel: 5, sum: 9 });
        assert_eq!((row("Icmp6OutEchoReplies").sum, row("Icmp6OutDestUnreachs").sum), (1, 1));
        assert_eq!((row("Icmp6InEchos").sum, row("Icmp6InDestUnreachs").sum), (2, 1));
        assert_eq!((row("IcmpInMsgs").sum, rows.len()), (0, 3 + 11 + 4 + 3 + 15 + 3));
    }
}
