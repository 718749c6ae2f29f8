//! What is timed: each case's program, its packet, and the goal that the project has set itself for it.

use std::net::IpAddr;

use anyhow::{Context as _, Result};

use super::{
    packet::{Message, Packet},
    policies::{DENIED4, Subject},
};

/// The interface's MAC address, and that of whoever sends.
pub(super) const OWN_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
const CLIENT_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];
/// Addresses of the interface: the longest prefixes, and so the longest way through the tables.
pub(super) const OWN4: &str = "198.51.100.1";
pub(super) const OWN6: &str = "2001:db8:2::1";
/// An address in each prefix that the policy serves besides.
const SERVED4: &str = "192.0.2.99";
const SERVED6: &str = "2001:db8:1::99";
/// Who asks; with many sources, the first of them.
pub(super) const CLIENT4: &str = "10.0.0.0";
const CLIENT6: &str = "2001:db8:3::";

/// What is under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// A program that passes everything: what is measured here is the method's own error.
    Empty,
    /// A program that exchanges the MAC addresses.
    MacSwap,
    /// Our data path, with a policy.
    Icmpctl(Subject),
}

/// The most that a case may cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Goal {
    /// Nanoseconds more than the empty program.
    pub(super) net: f64,
    /// Times the bare MAC swap.
    pub(super) ratio: Option<f64>,
    /// Times what another case costs, both without the empty program: that case's name, and how many times.
    pub(super) than: Option<(&'static str, f64)>,
}

/// What the program must do with the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// Leave it as it is to the stack.
    Pass,
    /// Drop it.
    Drop,
    /// Send this out where it came in.
    Send(Vec<u8>),
}

/// One line of the report.
#[derive(Clone, Debug)]
pub(super) struct Case {
    /// Its name in the report.
    pub(super) name: String,
    /// The program.
    pub(super) program: Program,
    /// The packet.
    pub(super) packet: Packet,
    /// Whether the policy denies it.
    pub(super) denied: bool,
    /// Bits of the source address that change from packet to packet, without a pattern; `None`: as many of the last ones as the
    /// whole bench is told.
    pub(super) sources: Option<u32>,
    /// The goal, if there is one.
    pub(super) goal: Option<Goal>,
}

impl Case {
    /// All cases.
    pub(super) fn all() -> Result<Vec<Self>> {
        let mut all = Self::references()?;
        all.extend(Self::echoes()?);
        all.extend(Self::filters()?);
        all.extend(Self::limits()?);
        for (family, client, own) in [("IPv4", CLIENT4, OWN4), ("IPv6", CLIENT6, OWN6)] {
            all.push(Self {
                packet: packet(client, own, Message::Tcp, 64)?,
                goal: Some(TCP),
                ..Self::echo(format!("TCP {family}, passing through"), Subject::responder(true))?
            });
        }
        Ok(all)
    }

    /// An echo request of 56 bytes to the interface's own address.
    fn echo(name: String, subject: Subject) -> Result<Self> {
        let packet = packet(CLIENT4, OWN4, Message::Request, 56)?;
        Ok(Self {
            name,
            program: Program::Icmpctl(subject),
            packet,
            denied: false,
            sources: None,
            goal: None,
        })
    }

    /// What everything is compared with.
    fn references() -> Result<Vec<Self>> {
        let with = |program, name: &str| -> Result<Self> {
            Ok(Self { program, ..Self::echo(name.to_owned(), Subject::responder(true))? })
        };
        Ok(vec![with(Program::Empty, "empty program")?, with(Program::MacSwap, "bare MAC swap")?])
    }

    /// Answers without any rules.
    fn echoes() -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for (verify, how) in [(false, "not verified"), (true, "verified")] {
            let goal = if verify { VERIFIED } else { NOT_VERIFIED };
            for (family, client, own, served, largest) in
                [("IPv4", CLIENT4, OWN4, SERVED4, 1472), ("IPv6", CLIENT6, OWN6, SERVED6, 1452)]
            {
                let echo = |to, data, whom: &str, goal| -> Result<Self> {
                    let name = format!("echo {family}, {whom}{data} bytes, {how}");
                    let packet = packet(client, to, Message::Request, data)?;
                    Ok(Self { packet, goal, ..Self::echo(name, Subject::responder(verify))? })
                };
                all.push(echo(own, 56, "", Some(goal))?);
                // What a checksum costs grows with the packet, and no goal is set for large ones.
                all.push(echo(own, largest, "", (!verify).then_some(goal))?);
                if !verify {
                    all.push(echo(served, 56, "prefix, ", Some(goal))?);
                }
            }
        }
        Ok(all)
    }

    /// Answers and denials behind rules.
    fn filters() -> Result<Vec<Self>> {
        let mut all = Vec::new();
        let rules = |rules| Subject { verify: false, rules, blocklist: 0, buckets: 0 };
        all.push(Self::echo(TEN_RULES.to_owned(), rules(10))?);
        let goal = Goal { net: f64::INFINITY, ratio: None, than: Some((TEN_RULES, 1.2)) };
        all.push(Self {
            goal: Some(goal),
            ..Self::echo("echo behind 10,000 rules, hit in the middle".to_owned(), rules(10_000))?
        });
        let denying = Subject { verify: true, rules: 0, blocklist: 100_000, buckets: 0 };
        let denied = packet(DENIED4, OWN4, Message::Request, 56)?;
        for (sources, how, net) in [(0, "one source", 15.0), (ANY_SOURCE, "random sources", 70.0)] {
            let name = format!("deny by 100,000 prefixes, {how}");
            let case = Self::echo(name, denying)?;
            all.push(Self {
                packet: denied.clone(),
                denied: true,
                sources: Some(sources),
                goal: at_most(net),
                ..case
            });
        }
        for (verify, checked) in [(false, "not verified"), (true, "verified")] {
            let subject = Subject { verify, rules: 1000, blocklist: 100_000, buckets: 0 };
            for (sources, how, net) in
                [(0, "one source", 20.0), (MILLION_SOURCES, "a million sources", 110.0)]
            {
                let name = format!("echo behind 1,000 rules and 100,000 prefixes, {how}, {checked}");
                all.push(Self { sources: Some(sources), goal: at_most(net), ..Self::echo(name, subject)? });
            }
        }
        Ok(all)
    }

    /// Answers behind a limit to each source, with a table of 8 MB and one of 1 MB.
    fn limits() -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for (buckets, size) in [(1 << 20, "8 MB"), (1 << 17, "1 MB")] {
            let subject = Subject { verify: false, rules: 1000, blocklist: 100_000, buckets };
            let most = if buckets == 1 << 20 { 200.0 } else { 95.0 };
            for (sources, how, net) in [
                (0, "one source", 20.0),
                (SOURCES_8192, "8,192 sources", 28.0),
                (MILLION_SOURCES, "a million sources", most),
            ] {
                let name = format!("echo behind 1,000 rules, 100,000 prefixes and a limit, {how}, {size}");
                all.push(Self { sources: Some(sources), goal: at_most(net), ..Self::echo(name, subject)? });
            }
        }
        Ok(all)
    }

    /// What must become of the packet.
    pub(super) fn expected(&self) -> Result<Expected> {
        Ok(match (self.program, self.packet.message) {
            (Program::Empty, _) | (_, Message::Tcp | Message::Reply) => Expected::Pass,
            (Program::MacSwap, Message::Request) => {
                let [source, destination] = self.packet.macs;
                let swapped = Packet { macs: [destination, source], ..self.packet.clone() };
                Expected::Send(swapped.encode()?)
            }
            (Program::Icmpctl(_), Message::Request) if self.denied => Expected::Drop,
            (Program::Icmpctl(_), Message::Request) => Expected::Send(self.packet.reply().encode()?),
        })
    }
}

const NOT_VERIFIED: Goal = Goal { net: 6.0, ratio: Some(1.2), than: None };
const VERIFIED: Goal = Goal { net: 12.0, ratio: None, than: None };
const TCP: Goal = Goal { net: 1.5, ratio: None, than: None };
/// The case with which that of many rules is compared.
const TEN_RULES: &str = "echo behind 10 rules, hit in the middle";
/// Bits of the source that change: 8,192 addresses side by side.
const SOURCES_8192: u32 = 0x1fff;
/// Bits of the source that change: a billion addresses, of which no two in a row are near each other.
const ANY_SOURCE: u32 = 0x3fff_ffff;
/// The same for a million addresses, all over the space.
const MILLION_SOURCES: u32 = 0x3f3f_3f03;

const fn at_most(net: f64) -> Option<Goal> {
    Some(Goal { net, ratio: None, than: None })
}

impl Goal {
    /// Whether a result meets it; `other` is what the case costs that it is compared with.
    pub(super) fn is_met(&self, net: f64, ratio: f64, other: Option<f64>) -> bool {
        let than = self.than.is_none_or(|(_, times)| other.is_some_and(|other| net <= other * times));
        net <= self.net && self.ratio.is_none_or(|most| ratio <= most) && than
    }
}

fn packet(from: &str, to: &str, message: Message, data: usize) -> Result<Packet> {
    let addresses = [address(from)?, address(to)?];
    Ok(Packet { macs: [CLIENT_MAC, OWN_MAC], addresses, ttl: 57, message, data })
}

pub(super) fn address(text: &str) -> Result<IpAddr> {
    text.parse().with_context(|| format!("the address {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_packet_has_room_for_the_template() {
        for case in Case::all().unwrap() {
            assert!(case.packet.encode().unwrap().len() >= super::super::bed::TEMPLATE, "{}", case.name);
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
    fn a_goal_is_met_in_all_its_parts() {
        assert!(NOT_VERIFIED.is_met(6.0, 1.2, None));
        assert!(!NOT_VERIFIED.is_met(6.1, 1.1, None));
        assert!(!NOT_VERIFIED.is_met(5.0, 1.21, None));
        assert!(TCP.is_met(1.5, 9.0, None));
        let compared = Goal { net: f64::INFINITY, ratio: None, than: Some((TEN_RULES, 1.2)) };
        assert!(compared.is_met(12.0, 9.0, Some(10.0)));
        assert!(!compared.is_met(12.1, 1.0, Some(10.0)));
        assert!(!compared.is_met(12.0, 1.0, None));
    }
}
