//! What is timed: each case's program, its packet, and the goal that the project has set itself for it.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use icmp_userspace::policy::{
    Policy, Respond,
    compile::{Interface, Tables},
    slots::Slots,
};

use super::packet::{Message, Packet};

/// The interface's MAC address, and that of whoever sends.
const OWN_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
const CLIENT_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];
/// Addresses of the interface: the longest prefixes, and so the longest way through the tables.
const OWN4: &str = "198.51.100.1";
const OWN6: &str = "2001:db8:2::1";
/// An address in each prefix that the policy serves besides.
const SERVED4: &str = "192.0.2.99";
const SERVED6: &str = "2001:db8:1::99";
/// Who asks; with many sources, the first of them.
const CLIENT4: &str = "10.0.0.0";
const CLIENT6: &str = "2001:db8:3::";

/// What is under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// A program that passes everything: what is measured here is the method's own error.
    Empty,
    /// A program that exchanges the MAC addresses.
    MacSwap,
    /// Our data path, with or without verification of checksums.
    Icmpctl {
        /// `verify-checksum`.
        verify: bool,
    },
}

/// The most that a case may cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Goal {
    /// Nanoseconds more than the empty program.
    pub(super) net: f64,
    /// Times the bare MAC swap.
    pub(super) ratio: Option<f64>,
}

/// What the program must do with the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// Leave it as it is to the stack.
    Pass,
    /// Send this out where it came in.
    Send(Vec<u8>),
}

/// One line of the report.
#[derive(Clone, Debug)]
pub(super) struct Case {
    /// Its name in the report.
    pub(super) name: String,
    /// The program.
    pub(super) subject: Subject,
    /// The packet.
    pub(super) packet: Packet,
    /// The goal, if there is one.
    pub(super) goal: Option<Goal>,
}

impl Case {
    /// All cases.
    pub(super) fn all() -> Result<Vec<Self>> {
        let request = packet(CLIENT4, OWN4, Message::Request, 56)?;
        let without = |subject, name: &str| Self {
            name: name.to_owned(),
            subject,
            packet: request.clone(),
            goal: None,
        };
        let mut all =
            vec![without(Subject::Empty, "empty program"), without(Subject::MacSwap, "bare MAC swap")];
        for (verify, how) in [(false, "not verified"), (true, "verified")] {
            let goal = if verify { VERIFIED } else { NOT_VERIFIED };
            for (family, client, own, served, largest) in
                [("IPv4", CLIENT4, OWN4, SERVED4, 1472), ("IPv6", CLIENT6, OWN6, SERVED6, 1452)]
            {
                let echo = |to, data, whom: &str, goal| -> Result<Self> {
                    Ok(Self {
                        name: format!("echo {family}, {whom}{data} bytes, {how}"),
                        subject: Subject::Icmpctl { verify },
                        packet: packet(client, to, Message::Request, data)?,
                        goal,
                    })
                };
                all.push(echo(own, 56, "", Some(goal))?);
                // What a checksum costs grows with the packet, and no goal is set for large ones.
                all.push(echo(own, largest, "", (!verify).then_some(goal))?);
                if !verify {
                    all.push(echo(served, 56, "prefix, ", Some(goal))?);
                }
            }
        }
        for (family, client, own) in [("IPv4", CLIENT4, OWN4), ("IPv6", CLIENT6, OWN6)] {
            all.push(Self {
                name: format!("TCP {family}, passing through"),
                subject: Subject::Icmpctl { verify: true },
                packet: packet(client, own, Message::Tcp, 64)?,
                goal: Some(TCP),
            });
        }
        Ok(all)
    }

    /// What must become of the packet.
    pub(super) fn expected(&self) -> Result<Expected> {
        Ok(match (self.subject, self.packet.message) {
            (Subject::Empty, _) | (_, Message::Tcp | Message::Reply) => Expected::Pass,
            (Subject::MacSwap, Message::Request) => {
                let [source, destination] = self.packet.macs;
                let swapped = Packet { macs: [destination, source], ..self.packet.clone() };
                Expected::Send(swapped.encode()?)
            }
            (Subject::Icmpctl { .. }, Message::Request) => Expected::Send(self.packet.reply().encode()?),
        })
    }
}

const NOT_VERIFIED: Goal = Goal { net: 6.0, ratio: Some(1.2) };
const VERIFIED: Goal = Goal { net: 12.0, ratio: None };
const TCP: Goal = Goal { net: 1.5, ratio: None };

impl Goal {
    /// Whether a result meets it.
    pub(super) fn is_met(&self, net: f64, ratio: f64) -> bool {
        net <= self.net && self.ratio.is_none_or(|most| ratio <= most)
    }
}

/// A policy such as an anycast server has: its own addresses and one served prefix of each family.
pub(super) fn tables(verify: bool) -> Result<Tables> {
    let prefixes = ["192.0.2.0/24", "2001:db8:1::/64"]
        .into_iter()
        .map(|text| text.parse().with_context(|| format!("the prefix {text}")))
        .collect::<Result<_>>()?;
    let policy = Policy {
        respond: Respond { prefixes, verify_checksum: verify, ..Respond::default() },
        ..Policy::default()
    };
    let interface = Interface {
        mac: OWN_MAC,
        addresses: vec![(address(OWN4)?, 24), (address(OWN6)?, 64), (address("fe80::1")?, 64)],
        broadcasts: Vec::new(),
    };
    let slots = Slots::assign(&policy, &Slots::default()).context("counting the rules of the bench")?;
    Tables::compile(&policy, &interface, &slots).context("compiling the policy of the bench")
}

fn packet(from: &str, to: &str, message: Message, data: usize) -> Result<Packet> {
    let addresses = [address(from)?, address(to)?];
    Ok(Packet { macs: [CLIENT_MAC, OWN_MAC], addresses, ttl: 57, message, data })
}

fn address(text: &str) -> Result<IpAddr> {
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
        assert!(NOT_VERIFIED.is_met(6.0, 1.2));
        assert!(!NOT_VERIFIED.is_met(6.1, 1.1));
        assert!(!NOT_VERIFIED.is_met(5.0, 1.21));
        assert!(TCP.is_met(1.5, 9.0));
    }
}
