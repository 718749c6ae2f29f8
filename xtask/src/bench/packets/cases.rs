//! What is timed per packet: each case's program, its packet, and the goal that the project has set itself for it.

use std::fmt;

use anyhow::Result;

use super::{
    super::policies::{
        Blocklist, CLIENT4, CLUSTERED4, Captured, DENIED4, DENIED6, Hit, OWN_MAC, OWN4, OWN6, Spread,
        Subject, address,
    },
    frames::{Message, Packet, SourceFields},
};

/// The MAC address of whoever sends, and his IPv6 address.
const CLIENT_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];
const CLIENT6: &str = "2001:db8:3::";
/// An address in each prefix that the policy serves besides.
const SERVED4: &str = "192.0.2.99";
const SERVED6: &str = "2001:db8:1::99";

/// What is under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// A program that passes everything: what is measured here is the method's own error.
    Empty,
    /// A program that exchanges the MAC addresses.
    MacSwap,
    /// A program that answers, and does nothing else.
    MinimalEcho,
    /// A program that makes room for an error before the packet.
    Grow,
    /// Our data path, with a policy.
    Icmpctl(Subject),
}

/// The most that a case may cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::bench) struct Goal {
    /// Nanoseconds more than the empty program.
    pub(in crate::bench) net: f64,
    /// Times the bare MAC swap.
    pub(in crate::bench) ratio: Option<f64>,
    /// Compared with what another case costs, both without the empty program: that case's name, and how much.
    pub(in crate::bench) than: Option<(&'static str, Than)>,
}

/// How much a case may cost beside another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::bench) enum Than {
    /// So many times as much.
    Times(f64),
    /// So many nanoseconds more.
    Plus(f64),
}

impl Than {
    /// The most, if the other case costs so much.
    pub(in crate::bench) fn most(self, other: f64) -> f64 {
        match self {
            Self::Times(times) => other * times,
            Self::Plus(ns) => other + ns,
        }
    }
}

/// What must become of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is left as it is to the stack.
    Passed,
    /// It is dropped.
    Dropped,
    /// It goes back as it came, MAC addresses exchanged.
    Swapped,
    /// It goes back as its reply, with the TTL that it came with.
    Returned,
    /// It goes back as its reply.
    Answered,
    /// It goes back as an error about it.
    Rejected,
    /// It goes back with something before it.
    Grown,
}

/// What kind of case one is; the order is the report's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::bench) enum Group {
    /// What everything is compared with.
    Floors,
    /// Packets that are not ICMP.
    PassingThrough,
    /// Answers without any rules.
    Echo,
    /// By the number of rules.
    Rules,
    /// By the number of prefixes.
    Prefixes,
    /// Limits and bans.
    Limits,
    /// Errors.
    Errors,
    /// What it costs to see what happens.
    Seeing,
    /// Everything at once.
    Whole,
}

/// A place in one of the report's charts of what costs grow with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bench) struct Point {
    /// The chart.
    pub(in crate::bench) chart: Chart,
    /// The line.
    pub(in crate::bench) series: &'static str,
    /// Where on it.
    pub(in crate::bench) x: u32,
}

/// What costs may grow with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bench) enum Chart {
    /// The number of rules.
    Rules,
    /// The number of prefixes in a set.
    Prefixes,
    /// The number of sources.
    Sources,
    /// Bytes of data.
    Length,
}

/// One line of the report.
#[derive(Clone, Debug)]
pub(super) struct Case {
    /// Its name in the report.
    pub(super) name: String,
    /// Where it stands there.
    pub(super) group: Group,
    /// The program.
    pub(super) program: Program,
    /// The packet.
    pub(super) packet: Packet,
    /// What becomes of it.
    pub(super) fate: Fate,
    /// Bits of the source address that change from packet to packet, without a pattern.
    pub(super) mask: u32,
    /// Where these stand in the frame.
    pub(super) fields: SourceFields,
    /// The goal, if there is one.
    pub(super) goal: Option<Goal>,
    /// Places in charts.
    pub(super) points: Vec<Point>,
}

/// Sources of a case: how many, in words, and the bits of the address that change. A million are all over the space.
type Sources = (u32, &'static str, u32);
const ONE: Sources = (1, "one source", 0);
const THOUSANDS: Sources = (1 << 13, "8,192 sources", 0x1fff);
const MILLION: Sources = (1 << 20, "a million sources", 0x3f3f_3f03);

/// The case with which that of many rules is compared.
const TEN_RULES: &str = "echo behind 10 rules";
/// With which those are that count more, or tell of what they drop.
const REASONS: &str = "echo, counted by reason alone";
const DENY: &str = "drop by a rule";

const NOT_VERIFIED: Goal = Goal { net: 6.0, ratio: Some(1.2), than: None };
const VERIFIED: Goal = Goal { net: 12.0, ratio: Some(1.4), than: None };
const TCP: Goal = at_most(1.5);

const fn at_most(net: f64) -> Goal {
    Goal { net, ratio: None, than: None }
}

impl Goal {
    /// Whether a result meets it; `other` is what the case costs that it is compared with.
    pub(in crate::bench) fn is_met(&self, net: f64, ratio: f64, other: Option<f64>) -> bool {
        let than = self.than.is_none_or(|(_, than)| other.is_some_and(|other| net <= than.most(other)));
        net <= self.net && self.ratio.is_none_or(|most| ratio <= most) && than
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { net, ratio, than } = self;
        let net = net.is_finite().then(|| format!("{net} ns"));
        let ratio = ratio.map(|ratio| format!("{ratio}x"));
        let than = than.map(|(name, than)| match than {
            Than::Times(times) => format!("{times} times \"{name}\""),
            Than::Plus(ns) => format!("{ns} ns more than \"{name}\""),
        });
        let parts: Vec<_> = [net, ratio, than].into_iter().flatten().collect();
        write!(f, "at most {}", parts.join(" and "))
    }
}

/// All groups.
#[cfg(test)]
pub(in crate::bench) const GROUPS: [Group; 9] = [
    Group::Floors,
    Group::PassingThrough,
    Group::Echo,
    Group::Rules,
    Group::Prefixes,
    Group::Limits,
    Group::Errors,
    Group::Seeing,
    Group::Whole,
];

impl Group {
    /// Its heading.
    pub(in crate::bench) const fn name(self) -> &'static str {
        match self {
            Self::Floors => "Floors",
            Self::PassingThrough => "Passing through",
            Self::Echo => "Answers, no rules",
            Self::Rules => "Rules",
            Self::Prefixes => "Sets of prefixes",
            Self::Limits => "Limits and bans",
            Self::Errors => "Errors",
            Self::Seeing => "Counters, log and capture",
            Self::Whole => "1,000 rules, sets of 100,000 sources and 100,000 destinations",
        }
    }
}

/// An answer to an echo request of 56 bytes to the interface's own address, from one source.
fn echo(group: Group, name: impl Into<String>, subject: Subject) -> Result<Case> {
    Ok(Case {
        name: name.into(),
        group,
        program: Program::Icmpctl(subject),
        packet: packet(CLIENT4, OWN4, Message::Request, 56)?,
        fate: Fate::Answered,
        mask: 0,
        fields: SourceFields::IPV4,
        goal: None,
        points: Vec::new(),
    })
}

fn packet(from: &str, to: &str, message: Message, data: usize) -> Result<Packet> {
    let addresses = [address(from)?, address(to)?];
    Ok(Packet { macs: [CLIENT_MAC, OWN_MAC], tags: 0, addresses, ttl: 57, message, data })
}

impl Case {
    /// All cases.
    pub(super) fn all() -> Result<Vec<Self>> {
        let groups = [floors, passing_through, echoes, rules, prefixes, limits, errors, seeing, whole];
        let all: Vec<_> = groups.into_iter().map(|cases| cases()).collect::<Result<_>>()?;
        Ok(all.into_iter().flatten().collect())
    }

    fn becomes(self, fate: Fate) -> Self {
        Self { fate, ..self }
    }

    fn of(self, packet: Packet) -> Self {
        Self { packet, ..self }
    }

    fn from(self, (_, _, mask): Sources) -> Self {
        Self { mask, ..self }
    }

    fn goal(self, goal: Goal) -> Self {
        Self { goal: Some(goal), ..self }
    }

    fn point(mut self, chart: Chart, series: &'static str, x: u32) -> Self {
        self.points.push(Point { chart, series, x });
        self
    }

    /// Whether caches miss, because packets come from many sources.
    pub(super) const fn many(&self) -> bool {
        self.mask != 0
    }

    /// The action that the program must return, and the frame that it must leave, if that is known.
    pub(super) fn expected(&self) -> Result<(&'static str, Option<Vec<u8>>)> {
        let [source, destination] = self.packet.macs;
        let swapped = Packet { macs: [destination, source], ..self.packet.clone() };
        let (action, frame) = match self.fate {
            Fate::Passed => ("XDP_PASS", self.packet.encode()?),
            Fate::Dropped => ("XDP_DROP", self.packet.encode()?),
            Fate::Swapped => ("XDP_TX", swapped.encode()?),
            Fate::Returned => ("XDP_TX", Packet { ttl: self.packet.ttl, ..self.packet.reply() }.encode()?),
            Fate::Answered => ("XDP_TX", self.packet.reply().encode()?),
            Fate::Rejected => ("XDP_TX", self.packet.error()?),
            Fate::Grown => return Ok(("XDP_TX", None)),
        };
        Ok((action, Some(frame)))
    }

    /// Whether programs put something before the frame, which has to be taken off again.
    pub(super) const fn grows(&self) -> bool {
        matches!(self.fate, Fate::Rejected | Fate::Grown)
    }
}

/// What everything is compared with.
fn floors() -> Result<Vec<Case>> {
    let with = |program, name: &str, fate| -> Result<Case> {
        Ok(Case { program, fate, ..echo(Group::Floors, name, Subject::NO_RULES)? })
    };
    let mut all = vec![
        with(Program::Empty, "empty program", Fate::Passed)?,
        with(Program::MacSwap, "bare MAC swap", Fate::Swapped)?,
    ];
    for sources in [ONE, THOUSANDS, MILLION] {
        let case = with(Program::MinimalEcho, &format!("minimal echo, {}", sources.1), Fate::Returned)?;
        all.push(case.from(sources).point(Chart::Sources, "minimal echo", sources.0));
    }
    Ok(all)
}

/// What a NIC's other traffic pays.
fn passing_through() -> Result<Vec<Case>> {
    let mut all = Vec::new();
    for (family, client, own) in [("IPv4", CLIENT4, OWN4), ("IPv6", CLIENT6, OWN6)] {
        for (subject, how) in [(Subject::NO_RULES, ""), (WHOLE, ", the whole policy")] {
            let case = echo(Group::PassingThrough, format!("TCP {family}{how}"), subject)?;
            all.push(case.of(packet(client, own, Message::Tcp, 64)?).becomes(Fate::Passed).goal(TCP));
        }
    }
    Ok(all)
}

/// Answers without any rules.
fn echoes() -> Result<Vec<Case>> {
    let mut all = Vec::new();
    for (verify, how) in [(false, "not verified"), (true, "verified")] {
        let subject = Subject { verify, ..Subject::NO_RULES };
        let goal = if verify { VERIFIED } else { NOT_VERIFIED };
        for (family, client, own, served, largest, series) in [
            ("IPv4", CLIENT4, OWN4, SERVED4, 1472, ["IPv4, not verified", "IPv4, verified"]),
            ("IPv6", CLIENT6, OWN6, SERVED6, 1452, ["IPv6, not verified", "IPv6, verified"]),
        ] {
            let case = |to, data, whom: &str| -> Result<Case> {
                let case = echo(Group::Echo, format!("echo {family}, {whom}{data} bytes, {how}"), subject)?;
                Ok(case.of(packet(client, to, Message::Request, data)?))
            };
            let series = series[usize::from(verify)];
            all.push(case(own, 56, "")?.goal(goal).point(Chart::Length, series, 56));
            // What a checksum costs grows with the packet, and no goal is set for large ones.
            let large = case(own, largest, "")?.point(Chart::Length, series, largest as u32);
            all.push(if verify { large } else { large.goal(goal) });
            if !verify {
                all.push(case(served, 56, "prefix, ")?.goal(goal));
            }
        }
        if !verify {
            for (tags, name) in [(1, "echo IPv4, a VLAN tag"), (2, "echo IPv4, two VLAN tags")] {
                let case = echo(Group::Echo, name, subject)?;
                all.push(case.of(Packet { tags, ..packet(CLIENT4, OWN4, Message::Request, 56)? }));
            }
        }
    }
    for sources in [ONE, THOUSANDS, MILLION] {
        let name = format!("echo IPv4, from {}", sources.1);
        let case = echo(Group::Echo, name, Subject::NO_RULES)?;
        all.push(case.from(sources).point(Chart::Sources, "echo, no rules", sources.0));
    }
    Ok(all)
}

/// Answers behind rules, of which that in the middle is hit.
fn rules() -> Result<Vec<Case>> {
    let with = |rules, name: &str| -> Result<Case> {
        let case = echo(Group::Rules, name, Subject { rules, ..Subject::NO_RULES })?;
        Ok(case.point(Chart::Rules, "echo", rules))
    };
    let goal = Goal { net: f64::INFINITY, ratio: None, than: Some((TEN_RULES, Than::Times(1.2))) };
    Ok(vec![
        with(10, TEN_RULES)?,
        with(1000, "echo behind 1,000 rules")?,
        with(10_000, "echo behind 10,000 rules")?.goal(goal),
    ])
}

/// Denials by sets.
fn prefixes() -> Result<Vec<Case>> {
    let mut all = Vec::new();
    for (count, number) in [(1000, "1,000"), (100_000, "100,000"), (1_000_000, "1,000,000")] {
        for (spread, how, denied, one, random) in [
            (Spread::Scattered, "scattered", DENIED4, "scattered, one source", "scattered, random sources"),
            (
                Spread::Clustered,
                "clustered",
                CLUSTERED4,
                "clustered, one source",
                "clustered, random sources",
            ),
            (Spread::Ipv6, "IPv6", DENIED6, "IPv6, one source", "IPv6, random sources"),
        ] {
            let blocklist = Blocklist { prefixes: count, spread };
            let case = |series: &'static str, mask, random| -> Result<Case> {
                let who = if random { "random sources" } else { "one source" };
                let name = format!("deny by {number} prefixes, {how}, {who}");
                let case =
                    echo(Group::Prefixes, name, Subject { verify: true, blocklist, ..Subject::NO_RULES })?;
                let (own, fields) = match spread {
                    Spread::Ipv6 => (OWN6, SourceFields::IPV6_BEGIN),
                    _ => (OWN4, SourceFields::IPV4),
                };
                let case = case.of(packet(denied, own, Message::Request, 56)?).becomes(Fate::Dropped);
                Ok(Case { mask, fields, ..case.point(Chart::Prefixes, series, count) })
            };
            let is_goal = count == 100_000 && spread == Spread::Scattered;
            let with = |case: Case, net| if is_goal { case.goal(at_most(net)) } else { case };
            all.push(with(case(one, 0, false)?, 15.0));
            all.push(with(case(random, blocklist.mask(), true)?, 70.0));
        }
    }
    Ok(all)
}

/// Limits and bans as the only rule.
fn limits() -> Result<Vec<Case>> {
    let with = |name: &str, hit| echo(Group::Limits, name, Subject { rules: 1, hit, ..Subject::NO_RULES });
    let mut all = vec![
        with("echo within a limit to all sources together", Hit::Shared)?,
        with("drop over a limit to each source", Hit::Over)?.becomes(Fate::Dropped),
        with("echo within a limit that bans", Hit::MayBan)?,
        with("drop of a banned source", Hit::Bans)?.becomes(Fate::Dropped),
    ];
    for sources in [ONE, THOUSANDS, MILLION] {
        let case = with(&format!("echo within a limit to each source, {}", sources.1), Hit::Within)?;
        all.push(case.from(sources));
    }
    Ok(all)
}

/// Errors about packets that a rule rejects, with what it takes to take them off the frame again.
fn errors() -> Result<Vec<Case>> {
    let with =
        |name: &str| echo(Group::Errors, name, Subject { rules: 1, hit: Hit::Reject, ..Subject::NO_RULES });
    let floor = Case { program: Program::Grow, ..with("room for an error, and back")?.becomes(Fate::Grown) };
    Ok(vec![floor, with("reject IPv4, 56 bytes")?.becomes(Fate::Rejected)])
}

/// What counters, events and captures cost.
fn seeing() -> Result<Vec<Case>> {
    let with = |name: &str, subject| echo(Group::Seeing, name, subject);
    let deny = |name: &str, hit| -> Result<Case> {
        Ok(with(name, Subject { rules: 1, hit, ..Subject::NO_RULES })?.becomes(Fate::Dropped))
    };
    let more = |name, ns| Goal { net: f64::INFINITY, ratio: None, than: Some((name, Than::Plus(ns))) };
    Ok(vec![
        with(REASONS, Subject::NO_RULES)?,
        with("echo, counted by prefix, too", Subject { count: true, ..Subject::NO_RULES })?
            .goal(more(REASONS, 4.0)),
        deny(DENY, Hit::Deny)?,
        // At 5 million packets a second a packet has 200 ns, of which a tenth may be for telling of it.
        deny("drop by a rule that logs", Hit::DenyAndLog)?.goal(more(DENY, 20.0)),
        with("echo while others are captured", Subject { captured: Captured::Others, ..Subject::NO_RULES })?,
        with("echo while top takes samples", Subject { captured: Captured::Samples, ..Subject::NO_RULES })?,
    ])
}

/// A policy with everything that the project has a goal for at once.
const WHOLE: Subject = Subject {
    verify: false,
    rules: 1000,
    hit: Hit::Within,
    buckets: 1 << 20,
    blocklist: Blocklist { prefixes: 100_000, spread: Spread::Scattered },
    closed: 100_000,
    count: true,
    captured: Captured::Not,
};

/// Answers behind all of it.
fn whole() -> Result<Vec<Case>> {
    let mut all = Vec::new();
    for (buckets, size, series, many) in [
        (1 << 20, "8 MB of buckets", "whole policy, 8 MB of buckets", 200.0),
        (1 << 17, "1 MB of buckets", "whole policy, 1 MB of buckets", 95.0),
    ] {
        for (sources, most) in [(ONE, 20.0), (THOUSANDS, 28.0), (MILLION, many)] {
            let name = format!("whole policy, {size}, {}", sources.1);
            let case = echo(Group::Whole, name, Subject { buckets, ..WHOLE })?.from(sources);
            all.push(case.goal(at_most(most)).point(Chart::Sources, series, sources.0));
        }
    }
    let parts = [
        ("verified", Subject { verify: true, ..WHOLE }),
        ("no limit", Subject { hit: Hit::Permit, ..WHOLE }),
        ("no limit, one set of 100,000", Subject { hit: Hit::Permit, closed: 0, ..WHOLE }),
    ];
    for (how, subject) in parts {
        for sources in [ONE, MILLION] {
            all.push(
                echo(Group::Whole, format!("whole policy, {how}, {}", sources.1), subject)?.from(sources),
            );
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::{super::bed::TEMPLATE, *};

    #[test]
    fn every_packet_has_room_for_the_template() {
        for case in Case::all().unwrap() {
            assert!(case.packet.encode().unwrap().len() >= TEMPLATE, "{}", case.name);
        }
    }

    #[test]
    fn large_packets_fill_a_frame() {
        let all = Case::all().unwrap();
        let longest = all.iter().map(|case| case.packet.encode().unwrap().len()).max();
        assert_eq!(longest, Some(1514));
        assert_eq!(all.iter().filter(|case| case.packet.encode().unwrap().len() == 1514).count(), 4);
    }

    #[test]
    fn names_differ() {
        let mut names: Vec<_> = Case::all().unwrap().into_iter().map(|case| case.name).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn groups_are_not_torn() {
        let groups: Vec<_> = Case::all().unwrap().into_iter().map(|case| case.group).collect();
        assert!(groups.is_sorted(), "{groups:?}");
    }

    #[test]
    fn the_case_that_another_is_compared_with_is_there() {
        let all = Case::all().unwrap();
        let others: Vec<_> = all.iter().filter_map(|case| case.goal?.than).collect();
        assert_eq!(others.len(), 3);
        assert!(others.iter().all(|(other, _)| all.iter().any(|case| case.name == *other)));
    }

    #[test]
    fn a_goal_is_met_in_all_its_parts() {
        assert!(NOT_VERIFIED.is_met(6.0, 1.2, None));
        assert!(!NOT_VERIFIED.is_met(6.1, 1.1, None));
        assert!(!NOT_VERIFIED.is_met(5.0, 1.21, None));
        assert!(TCP.is_met(1.5, 9.0, None));
        let compared = Goal { net: f64::INFINITY, ratio: None, than: Some((TEN_RULES, Than::Times(1.2))) };
        assert!(compared.is_met(12.0, 9.0, Some(10.0)));
        assert!(!compared.is_met(12.1, 1.0, Some(10.0)));
        assert!(!compared.is_met(12.0, 1.0, None));
        let more = Goal { than: Some((TEN_RULES, Than::Plus(4.0))), ..compared };
        assert!(more.is_met(14.0, 1.0, Some(10.0)) && !more.is_met(14.1, 1.0, Some(10.0)));
    }
}
