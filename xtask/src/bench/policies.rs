//! The policies that are timed: from none to ten thousand rules and a hundred thousand prefixes, the same in every run.

use std::{fmt::Write as _, net::Ipv4Addr};

use anyhow::{Context as _, Result};
use icmp_userspace::policy::{
    Policy, Set,
    compile::{Interface, Tables},
    file,
    prefix::Prefix,
    slots::Slots,
};

use super::cases::{CLIENT4, OWN_MAC, OWN4, OWN6, address};

/// A policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Subject {
    /// `verify-checksum`.
    pub(super) verify: bool,
    /// How many rules there are; that in the middle is hit by echo requests from [`CLIENT4`] to [`OWN4`].
    pub(super) rules: u32,
    /// How many prefixes are in a set that the first rule denies. [`DENIED4`] is in one of them.
    pub(super) blocklist: u32,
    /// Buckets for the limit of the rule that is hit, which no packet is over; 0: it does not limit.
    pub(super) buckets: u32,
}

/// A source in the blocklist.
pub(super) const DENIED4: &str = "10.99.0.7";
const DENIED4_PREFIX: &str = "10.99.0.0/24";

/// A limit that no packet of a test is over.
const LIMIT: &str = "limit 10000000/s burst 100000000000 per source";

/// A policy such as an anycast server has: its own addresses and one served prefix of each family.
const RESPOND: &str = "[respond]\nto = [\"own\", \"192.0.2.0/24\", \"2001:db8:1::/64\"]\n";

impl Subject {
    /// Without rules.
    pub(super) const fn responder(verify: bool) -> Self {
        Self { verify, rules: 0, blocklist: 0, buckets: 0 }
    }

    /// Its tables.
    pub(super) fn tables(self) -> Result<Tables> {
        let policy = self.policy()?;
        let interface = Interface {
            mac: OWN_MAC,
            addresses: vec![(address(OWN4)?, 24), (address(OWN6)?, 64), (address("fe80::1")?, 64)],
            ..Interface::default()
        };
        let slots = Slots::assign(&policy, &Slots::default()).context("counting the rules of the bench")?;
        Tables::compile(&policy, &interface, &slots).context("compiling the policy of the bench")
    }

    fn policy(self) -> Result<Policy> {
        let limits =
            if self.buckets > 0 { format!("[limits]\nbuckets = {}\n", self.buckets) } else { String::new() };
        let text = format!(
            "{RESPOND}verify-checksum = {}\n[sets]\nblocklist = []\n[acl]\nrules = \"\"\"\n{}\"\"\"\n{limits}",
            self.verify,
            self.rules()
        );
        let mut policy =
            file::parse(&text).map_err(|errors| anyhow::anyhow!("a policy of the bench: {errors:?}"))?;
        policy.sets =
            vec![Set { name: "blocklist".into(), prefixes: self.blocklist()?, dynamic: false, file: None }];
        Ok(policy)
    }

    /// The rules: about single sources, single destinations, both, and with types and codes, in turn.
    pub(super) fn rules(self) -> String {
        let mut text = String::new();
        if self.blocklist > 0 {
            text += "deny icmp set:blocklist any\n";
        }
        let mut random = Random(2);
        for number in 0..self.rules {
            let (source, destination) = (random.host(), random.host());
            let _ = match number % 4 {
                _ if number == self.rules / 2 => {
                    if self.buckets > 0 {
                        writeln!(text, "{LIMIT} icmp any host {OWN4} echo")
                    } else {
                        writeln!(text, "permit icmp host {CLIENT4} host {OWN4} echo")
                    }
                }
                0 => writeln!(text, "permit icmp host {source} any echo"),
                1 => writeln!(text, "deny icmp host {source} host {destination}"),
                2 => writeln!(text, "permit icmp any host {destination} {{echo, timestamp-request}}"),
                _ => writeln!(text, "deny icmp {source} 0.0.0.255 host {destination} port-unreachable"),
            };
        }
        text
    }

    /// The blocklist as a file.
    pub(super) fn blocklist_file(self) -> Result<String> {
        Ok(self.blocklist()?.iter().fold(String::new(), |text, prefix| text + &prefix.to_string() + "\n"))
    }

    /// Prefixes as blocklists have them: single hosts and /24s most of all, all over the space.
    fn blocklist(self) -> Result<Vec<Prefix>> {
        let mut random = Random(1);
        let mut prefixes = Vec::with_capacity(self.blocklist as usize);
        if self.blocklist > 0 {
            prefixes.push(DENIED4_PREFIX.parse().context("a prefix of the bench")?);
        }
        while prefixes.len() < self.blocklist as usize {
            let length = match random.below(20) {
                0..12 => 32,
                12..17 => 24,
                _ => 16 + random.below(16) as u8,
            };
            let prefix = Prefix::containing(random.host().into(), length);
            // Not those that are to be answered.
            if !prefix.contains(Prefix::host(address(CLIENT4)?)) {
                prefixes.push(prefix);
            }
        }
        Ok(prefixes)
    }
}

/// Numbers without a pattern, the same in every run (xorshift64*, Vigna, ACM TOMS 42(4), 2016).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    fn below(&mut self, end: u32) -> u32 {
        ((u64::from(self.next()) * u64::from(end)) >> 32) as u32
    }

    /// An address between 1.0.0.0 and 223.255.255.255, but none in 10.0.0.0/8 or 127.0.0.0/8.
    fn host(&mut self) -> Ipv4Addr {
        loop {
            let address = Ipv4Addr::from_bits(self.next());
            if !matches!(address.octets()[0], 0 | 10 | 127 | 224..) {
                return address;
            }
        }
    }
}
