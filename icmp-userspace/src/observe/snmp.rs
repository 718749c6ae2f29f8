//! What the stack's counters miss: how far `IcmpInMsgs` and its kin (RFC 4293, RFC 4001) would be higher, had the stack done what
//! the program did.
//!
//! The rule: what was dropped had been received before, as it would have been without the program. What was sent counts as sent.
//! What the program passed the stack counts itself.

use std::collections::BTreeMap;

use icmp_common::{Family, counters::Counters, reason::Reason};
use serde::Serialize;

/// One of the stack's counters; both families have most of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counter {
    InMsgs,
    InErrors,
    InCsumErrors,
    InEchos,
    InTimestamps,
    OutMsgs,
    OutDestUnreachs,
    OutEchoReps,
    OutTimestampReps,
}

use Counter::{
    InCsumErrors, InEchos, InErrors, InMsgs, InTimestamps, OutDestUnreachs, OutEchoReps, OutMsgs,
    OutTimestampReps,
};

/// In the kernel's order.
const ALL: [Counter; 9] = [
    InMsgs,
    InErrors,
    InCsumErrors,
    InEchos,
    InTimestamps,
    OutMsgs,
    OutDestUnreachs,
    OutEchoReps,
    OutTimestampReps,
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
            (InEchos, Family::Ipv4) => "IcmpInEchos",
            (InEchos, Family::Ipv6) => "Icmp6InEchos",
            (InTimestamps, Family::Ipv4) => "IcmpInTimestamps",
            (OutMsgs, Family::Ipv4) => "IcmpOutMsgs",
            (OutMsgs, Family::Ipv6) => "Icmp6OutMsgs",
            (OutDestUnreachs, Family::Ipv4) => "IcmpOutDestUnreachs",
            (OutDestUnreachs, Family::Ipv6) => "Icmp6OutDestUnreachs",
            (OutEchoReps, Family::Ipv4) => "IcmpOutEchoReps",
            (OutEchoReps, Family::Ipv6) => "Icmp6OutEchoReplies",
            (OutTimestampReps, Family::Ipv4) => "IcmpOutTimestampReps",
            (InTimestamps | OutTimestampReps, Family::Ipv6) => return None,
        })
    }
}

/// The table: which counters the stack would have raised for a packet that the program counted under a reason.
const fn raised(reason: Reason) -> &'static [Counter] {
    match reason {
        Reason::Echo => &[InMsgs, InEchos, OutMsgs, OutEchoReps],
        Reason::Timestamp => &[InMsgs, InTimestamps, OutMsgs, OutTimestampReps],
        // Extended echo has no counters of its own.
        Reason::Probe => &[InMsgs, OutMsgs],
        // What comes is UDP.
        Reason::Traceroute => &[OutMsgs, OutDestUnreachs],
        Reason::TracerouteOverLimit => &[],
        // The type is looked at after the checksum.
        Reason::BadChecksum => &[InMsgs, InErrors, InCsumErrors],
        // The type is looked at before the length.
        Reason::TooShort => &[InMsgs, InTimestamps, InErrors],
        // Of any type, which is not known any more.
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
    let row = |family, counter: Counter| {
        let name = counter.name(family)?;
        let reasons = Reason::ALL.iter().filter(|reason| raised(**reason).contains(&counter));
        let icmpctl = reasons.map(|reason| counters.get(family, *reason)).sum();
        let kernel = kernel.get(name).copied().unwrap_or(0);
        Some(Row { name, icmpctl, kernel, sum: icmpctl + kernel })
    };
    Family::ALL
        .iter()
        .flat_map(|family| ALL.iter().filter_map(move |counter| row(*family, *counter)))
        .collect()
}

#[cfg(test)]
mod tests {
    use icmp_common::{counters::Slot, reason::Verdict};

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
        for (family, reason) in [
            (Family::Ipv6, Reason::Echo),
            (Family::Ipv6, Reason::Rejected),
            (Family::Ipv6, Reason::OtherType),
        ] {
            counters.count(Slot::new(family, reason));
        }
        let rows = rows(&counters, &[("Icmp6InMsgs".to_owned(), 5)].into());
        let row = |name| rows.iter().find(|row| row.name == name).copied().unwrap();
        assert_eq!(row("Icmp6InMsgs"), Row { name: "Icmp6InMsgs", icmpctl: 2, kernel: 5, sum: 7 });
        assert_eq!((row("Icmp6OutEchoReplies").sum, row("Icmp6OutDestUnreachs").sum), (1, 1));
        assert_eq!((row("IcmpInMsgs").sum, rows.len()), (0, 16));
    }
}
