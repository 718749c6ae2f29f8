//! Why a packet went the way it went: the one list of verdicts and reasons.
//!
//! Every ICMP packet is counted under exactly one [`Reason`], and a reason belongs to exactly one [`Verdict`].
//! A reason's number is its place in the counters and never changes its meaning: a reason that goes leaves a gap.

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[must_use = "a verdict that is thrown away is a packet that goes the wrong way"]
pub enum Verdict {
    /// Left to the kernel's stack, not one byte changed.
    Pass,
    /// Turned into its own answer and sent back out of the interface it came from.
    Answer,
    /// Dropped, because a rule or the default of the access list says so.
    Deny,
    /// The same, and an ICMP error about it sent back out of the interface it came from.
    Reject,
    /// Dropped, because it is over a limit.
    Limit,
    /// Broken, and addressed to us: dropped, as the stack would have.
    Malformed,
}

impl Verdict {
    /// All verdicts, in the order in which listings show them.
    pub const ALL: [Self; 6] =
        [Self::Answer, Self::Pass, Self::Deny, Self::Reject, Self::Limit, Self::Malformed];

    /// The past participle that listings and JSON use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "passed",
            Self::Answer => "answered",
            Self::Deny => "denied",
            Self::Reject => "rejected",
            Self::Limit => "limited",
            Self::Malformed => "malformed",
        }
    }
}

/// A step of a packet's way; `icmp-ebpf/src/lib.rs` has them in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// What the frame is.
    Parse,
    /// What the rules say.
    Classify,
    /// Whether a rule's rates allow it.
    Limit,
    /// Whether and how a request is answered.
    Answer,
    /// Whether and how an error is sent about a packet that a rule rejects.
    Reject,
    /// The one exit.
    Count,
}

impl Step {
    /// The word for it, which also names its file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::Classify => "classify",
            Self::Limit => "limit",
            Self::Answer => "answer",
            Self::Reject => "reject",
            Self::Count => "count",
        }
    }
}

/// Writes the enum and its attributes from one table, so that no two lists can disagree.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $number:literal, $verdict:ident, $name:literal, $explanation:literal;)+) => {
        /// Why a packet got its verdict.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant = $number,)+
        }

        impl Reason {
            /// All reasons, by rising number.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The verdict that this reason leads to.
            #[inline(always)]
            pub const fn verdict(self) -> Verdict {
                match self {
                    $(Self::$variant => Verdict::$verdict,)+
                }
            }

            /// The name that listings and JSON use; it never changes.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// One sentence for whoever wonders about a counter.
            #[must_use]
            pub const fn explanation(self) -> &'static str {
                match self {
                    $(Self::$variant => $explanation,)+
                }
            }
        }
    };
}

reasons! {
    /// RFC 792, RFC 4443 4.2.
    Echo = 0, Answer, "echo", "Echo request to a served address: answered here.";
    /// Whatever is not an echo request: the host's own echo replies, errors, Neighbour Discovery, ...
    OtherType = 1, Pass, "other-type", "Not a request that is answered here: the stack's.";
    /// RFC 792 and RFC 4443 define code 0 alone.
    OtherCode = 2, Pass, "other-code", "Request with a code other than 0: left to the stack.";
    /// `respond.enabled = false`.
    AnswersOff = 3, Pass, "answers-off", "Request while answers are switched off (respond.enabled): left to the stack.";
    /// Promiscuous interfaces, bridge ports and mirrors see such frames.
    OtherHost = 4, Pass, "other-host", "Request in a frame for another MAC address than the interface's: none of ours.";
    /// RFC 1122 3.2.2.6: smurf amplification begins here.
    LinkMulticast = 5, Pass, "link-multicast", "Request in a frame to a broadcast or multicast MAC address: left to the stack.";
    /// A loop or a mirror in the network; or a source MAC address that is none.
    OwnFrame = 6, Pass, "own-frame", "Request from the interface's own or from a multicast MAC address: not answered.";
    /// Neither in `respond.to` nor, with "own" in it, an address of the interface.
    NotServed = 7, Pass, "not-served", "Request to an address that is not served: left to the stack.";
    /// RFC 1122 3.2.2.6; multicast, limited and directed broadcast.
    NotUnicast = 8, Pass, "not-unicast", "Request to a broadcast, multicast or reserved address: left to the stack.";
    /// RFC 1122 3.2.1.3, RFC 4443 2.2.
    BadSource = 9, Pass, "bad-source", "Request from an address that no single host can have, or from its own destination: left to the stack.";
    /// Any fragment, the first one too.
    Fragment = 10, Pass, "fragment", "Fragment: left to the stack, which reassembles it.";
    /// RFC 1122 3.2.2.6: Record Route and Timestamp options want an update that the stack knows to make.
    IpOptions = 11, Pass, "ip-options", "IPv4 header with options: left to the stack, which updates them.";
    /// RFC 8200; seen where ICMPv6 follows upon up to four extension headers.
    ExtensionHeader = 12, Pass, "extension-header", "ICMPv6 behind an IPv6 extension header: left to the stack.";
    /// `next-hop = "fib"` and the kernel's table names none for this reply out of this interface.
    NoNextHop = 13, Pass, "no-next-hop", "Request whose reply the routing table can't send out of this interface at once: left to the stack.";
    /// Version, header length or total length are impossible, or leave no room for an ICMP header.
    BadHeader = 14, Malformed, "bad-header", "Impossible version, header length or total length, or too short for an ICMP message: dropped.";
    /// RFC 1122 3.2.1.2.
    BadHeaderChecksum = 15, Malformed, "bad-header-checksum", "Request whose IPv4 header checksum is wrong: dropped.";
    /// RFC 1122 3.2.2, RFC 4443 2.3; not looked at with `verify-checksum = false`.
    BadChecksum = 16, Malformed, "bad-checksum", "Request whose ICMP checksum is wrong: dropped.";
    /// Longer than any Ethernet frame; the program looks at no more than that to verify a checksum.
    TooLong = 17, Pass, "too-long", "Request too long to verify its checksum here (an echo request of more than 9,600 bytes): left to the stack.";
    /// `deny`, or the default.
    Denied = 18, Deny, "denied", "Denied by a rule or the default of the access list: dropped.";
    /// `reject`: RFC 1812 5.2.7.1, RFC 4443 3.1.
    Rejected = 19, Reject, "rejected", "Rejected by a rule: dropped, and an error sent back.";
    /// RFC 1812 4.3.2.7, RFC 4443 2.4 (e), or nobody to send it to or from.
    RejectedSilently = 20, Deny, "rejected-silently", "Rejected by a rule, but no error may be sent about it: dropped.";
    /// RFC 1812 4.3.2.8, RFC 4443 2.4 (f).
    RejectOverLimit = 21, Deny, "reject-over-limit", "Rejected by a rule, but more errors than are allowed have been sent: dropped.";
    /// `limit`, and what is over it is not let through.
    OverLimit = 22, Limit, "over-limit", "Over a limit of the access list: dropped.";
    /// RFC 792, RFC 1122 3.2.2.8; `respond.timestamp = true`.
    Timestamp = 23, Answer, "timestamp", "Timestamp request to a served address: answered here.";
    /// RFC 1122 3.2.2.8: all three timestamps are part of a message.
    TooShort = 24, Malformed, "too-short", "Timestamp request of less than 20 bytes: dropped.";
    /// RFC 8335 4; `respond.probe`.
    Probe = 25, Answer, "probe", "Extended echo request about this interface: answered here.";
    /// What this program can't know: other interfaces, neighbours, identification by MAC address.
    OtherProbe = 26, Pass, "other-probe", "Extended echo request that is not, or not legibly, about this interface: left to the stack.";
    /// RFC 8335 8: only who is listed may ask.
    ProbeNotAllowed = 27, Deny, "probe-not-allowed", "Extended echo request from an address that respond.probe does not list: dropped.";
    /// `respond.traceroute = true`. UDP: only such probes are counted.
    Traceroute = 28, Answer, "traceroute", "UDP probe of a traceroute to a served address that is not the host's: answered by port unreachable.";
    /// The limits of errors hold for these answers, too: RFC 1812 4.3.2.8, RFC 4443 2.4 (f).
    TracerouteOverLimit = 29, Limit, "traceroute-over-limit", "UDP probe of a traceroute, when more errors than are allowed have been sent, or none could be made: dropped.";
}

impl Reason {
    /// The step that comes to this decision.
    #[must_use]
    pub const fn step(self) -> Step {
        match self {
            Self::Fragment | Self::IpOptions | Self::ExtensionHeader | Self::BadHeader => Step::Parse,
            Self::Denied => Step::Classify,
            Self::OverLimit => Step::Limit,
            Self::Rejected | Self::RejectedSilently | Self::RejectOverLimit => Step::Reject,
            Self::Echo
            | Self::OtherType
            | Self::OtherCode
            | Self::AnswersOff
            | Self::OtherHost
            | Self::LinkMulticast
            | Self::OwnFrame
            | Self::NotServed
            | Self::NotUnicast
            | Self::BadSource
            | Self::NoNextHop
            | Self::BadHeaderChecksum
            | Self::BadChecksum
            | Self::TooLong
            | Self::Timestamp
            | Self::TooShort
            | Self::Probe
            | Self::OtherProbe
            | Self::ProbeNotAllowed
            | Self::Traceroute
            | Self::TracerouteOverLimit => Step::Answer,
        }
    }
}
