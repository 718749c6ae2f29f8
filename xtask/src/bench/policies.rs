//! The policies that are timed: from none to ten thousand rules and a million prefixes, the same in every run.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use anyhow::{Context as _, Result, bail};
use icmp_common::events::{CAPTURE, Channel, ChannelFamily, MAX_SNAPLEN, SAMPLES};
use icmp_userspace::kernel::load::Taps;
use icmp_userspace::policy::{
    Policy,
    compile::{Interface, Tables},
    file,
    prefix::Prefix,
    slots::Slots,
};

/// The interface's MAC address and addresses; the policies serve a prefix of each family besides.
pub(super) const OWN_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
pub(super) const OWN4: &str = "198.51.100.1";
pub(super) const OWN6: &str = "2001:db8:2::1";
/// Who asks; with many sources, the first of them.
pub(super) const CLIENT4: &str = "10.0.0.0";

/// A policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Subject {
    /// `verify-checksum`.
    pub(super) verify: bool,
    /// How many rules there are; that in the middle is hit by echo requests from [`CLIENT4`] to [`OWN4`].
    pub(super) rules: u32,
    /// What it does.
    pub(super) hit: Hit,
    /// Buckets for its limit.
    pub(super) buckets: u32,
    /// A set that the first rule denies as sources.
    pub(super) blocklist: Blocklist,
    /// How many prefixes are in a set that the second rule denies as destinations.
    pub(super) closed: u32,
    /// `count`.
    pub(super) count: bool,
    /// Who captures meanwhile.
    pub(super) captured: Captured,
}

/// Who captures packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Captured {
    /// Nobody.
    Not,
    /// `icmpctl capture`, but of packets from [`DENIED4`] alone.
    Others,
    /// `icmpctl top`, which takes samples of all.
    Samples,
}

/// What the rule that is hit does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hit {
    /// It permits one client.
    Permit,
    /// It denies.
    Deny,
    /// It denies, and logs that.
    DenyAndLog,
    /// It limits each source, to more than any sends.
    Within,
    /// It limits each source, to next to nothing.
    Over,
    /// It limits all sources together, to more than they send.
    Shared,
    /// It rejects, and as many errors may be sent as there are packets.
    Reject,
    /// It bans who is over its limit, and nobody is.
    MayBan,
    /// It bans for a second over its limit, and else lets everything through.
    Bans,
}

/// A set of prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Blocklist {
    /// How many there are.
    pub(super) prefixes: u32,
    /// Where they are.
    pub(super) spread: Spread,
}

/// Where the prefixes of a set are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Spread {
    /// All over the space of IPv4; [`DENIED4`] is in one of them.
    Scattered,
    /// 16,384 in each /16, from [`CLUSTERED4`] on, which is in the first of them.
    Clustered,
    /// All over 2001::/16; [`DENIED6`] is in one of them.
    Ipv6,
}

/// Sources in a blocklist.
pub(super) const DENIED4: &str = "10.99.0.7";
const DENIED4_PREFIX: &str = "10.99.0.0/24";
pub(super) const CLUSTERED4: &str = "24.0.0.0";
pub(super) const DENIED6: &str = "2001:db8:99::7";
const DENIED6_PREFIX: &str = "2001:db8:99::/48";
/// Prefixes in each /16 of a clustered set.
const CLUSTER: u32 = 1 << 14;

/// A rate that no packets of a test are over.
const MUCH: &str = "10000000/s burst 100000000000";
/// The same for errors, whose rates are whole numbers of 32 bits.
const MANY: &str = "10000000/s burst 4000000000";

/// A policy such as an anycast server has: its own addresses and one served prefix of each family.
const RESPOND: &str = "[respond]\nto = [\"own\", \"192.0.2.0/24\", \"2001:db8:1::/64\"]\n";

impl Hit {
    /// The rule.
    fn rule(self) -> String {
        match self {
            Self::Permit => format!("permit icmp host {CLIENT4} host {OWN4} echo"),
            Self::Deny => format!("deny icmp any host {OWN4} echo"),
            Self::DenyAndLog => format!("deny icmp any host {OWN4} echo log"),
            Self::Within => format!("limit {MUCH} per source icmp any host {OWN4} echo"),
            Self::Over => format!("limit 1/h burst 1 per source icmp any host {OWN4} echo"),
            Self::Shared => format!("limit {MUCH} per rule icmp any host {OWN4} echo"),
            Self::Reject => format!("reject icmp any host {OWN4} echo"),
            Self::MayBan => format!("limit {MUCH} per source ban 1h after 1s icmp any host {OWN4} echo"),
            Self::Bans => {
                format!("limit 1/s burst 5 per source exceed pass ban 1h after 1s icmp any host {OWN4} echo")
            }
        }
    }
}

impl Blocklist {
    /// No set.
    pub(super) const NONE: Self = Self { prefixes: 0, spread: Spread::Scattered };

    /// Bits of the source that change so that all of the set, and what is between, is met.
    pub(super) const fn mask(self) -> u32 {
        match self.spread {
            // A quarter of the space, of which no two in a row are near each other.
            Spread::Scattered | Spread::Ipv6 => 0x3fff_ffff,
            Spread::Clustered => (self.prefixes.div_ceil(CLUSTER).next_power_of_two() << 16) - 1,
        }
    }

    /// The prefixes: single hosts most of all and, where they are scattered, /24s.
    pub(super) fn all(self) -> Result<Vec<Prefix>> {
        let mut random = Random(1);
        let mut prefixes = Vec::with_capacity(self.prefixes as usize);
        let first = match self.spread {
            Spread::Scattered => DENIED4_PREFIX.to_owned(),
            Spread::Clustered => format!("{CLUSTERED4}/32"),
            Spread::Ipv6 => DENIED6_PREFIX.to_owned(),
        };
        let client = Prefix::host(address(CLIENT4)?);
        let begin = CLUSTERED4.parse::<Ipv4Addr>()?.to_bits();
        if self.prefixes > 0 {
            prefixes.push(first.parse().context("a prefix of the bench")?);
        }
        while prefixes.len() < self.prefixes as usize {
            let prefix = match self.spread {
                Spread::Scattered => {
                    let length = match random.below(20) {
                        0..12 => 32,
                        12..17 => 24,
                        _ => 16 + random.below(16) as u8,
                    };
                    Prefix::containing(random.host().into(), length)
                }
                Spread::Clustered => {
                    let cluster = prefixes.len() as u32 / CLUSTER;
                    let address = begin + (cluster << 16) + random.below(1 << 16);
                    // Short ones would cover all the others.
                    let length = if random.below(5) == 0 { 31 } else { 32 };
                    Prefix::containing(Ipv4Addr::from_bits(address).into(), length)
                }
                Spread::Ipv6 => {
                    let [third, second] = [random.next(), random.next()].map(u128::from);
                    let address = 0x2001 << 112 | second << 80 | third << 48;
                    let length = if random.below(2) == 0 { 48 } else { 40 };
                    Prefix::containing(Ipv6Addr::from_bits(address).into(), length)
                }
            };
            // Not those that are to be answered.
            if !prefix.contains(client) {
                prefixes.push(prefix);
            }
        }
        Ok(prefixes)
    }
}

impl Subject {
    /// Without rules.
    pub(super) const NO_RULES: Self = Self {
        verify: false,
        rules: 0,
        hit: Hit::Permit,
        buckets: 1 << 17,
        blocklist: Blocklist::NONE,
        closed: 0,
        count: false,
        captured: Captured::Not,
    };

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
        let Self { verify, buckets, count, .. } = self;
        let banned = if self.bans() { "banned = { dynamic = true }\n" } else { "" };
        let text = format!(
            "{RESPOND}verify-checksum = {verify}\ncount = {count}\n\
             [sets]\nblocklist = []\nclosed = []\n{banned}\
             [acl]\nrules = \"\"\"\n{}\"\"\"\n[acl.errors]\nper-source = \"{MANY}\"\ntotal = \"{MANY}\"\n\
             [limits]\nbuckets = {buckets}\n",
            self.rules()
        );
        let mut policy =
            file::parse(&text).map_err(|errors| anyhow::anyhow!("a policy of the bench: {errors:?}"))?;
        for set in &mut policy.sets {
            match set.name.as_str() {
                "blocklist" => set.prefixes = self.blocklist.all()?,
                "closed" => set.prefixes = closed(self.closed),
                _ => {}
            }
        }
        Ok(policy)
    }

    /// The rules: about single sources, single destinations, both, and with types and codes, in turn.
    pub(super) fn rules(self) -> String {
        let mut text = String::new();
        if self.blocklist.prefixes > 0 {
            text += "deny icmp set:blocklist any\n";
        }
        if self.closed > 0 {
            text += "deny icmp any set:closed\n";
        }
        if self.bans() {
            text += "deny icmp set:banned any\n";
        }
        let mut random = Random(2);
        for number in 0..self.rules {
            let (source, destination) = (random.host(), random.host());
            let _ = match number % 4 {
                _ if number == self.rules / 2 => writeln!(text, "{}", self.hit.rule()),
                0 => writeln!(text, "permit icmp host {source} any echo"),
                1 => writeln!(text, "deny icmp host {source} host {destination}"),
                2 => writeln!(text, "permit icmp any host {destination} {{echo, timestamp-request}}"),
                _ => writeln!(text, "deny icmp {source} 0.0.0.255 host {destination} port-unreachable"),
            };
        }
        text
    }

    /// The channels that are open.
    pub(super) fn taps(self) -> Result<Taps> {
        let mut taps = Taps::NONE;
        let all = Channel { on: 1, reasons: u64::MAX, families: [ChannelFamily::ALL; 2], ..Channel::OFF };
        match self.captured {
            Captured::Not => {}
            Captured::Others => {
                let IpAddr::V4(source) = address(DENIED4)? else { bail!("{DENIED4} is no IPv4 address") };
                let source = [u32::from_ne_bytes(source.octets()).into(), 0];
                let source_mask = [u32::MAX.into(), 0];
                let families =
                    [ChannelFamily { source, source_mask, ..ChannelFamily::ALL }, ChannelFamily::NONE];
                taps.channels[CAPTURE] = Channel { snaplen: MAX_SNAPLEN as u32, families, ..all };
            }
            Captured::Samples => taps.channels[SAMPLES] = Channel { snaplen: 128, per_jiffy: 16, ..all },
        }
        Ok(taps)
    }

    const fn bans(self) -> bool {
        matches!(self.hit, Hit::MayBan | Hit::Bans)
    }

    /// The blocklist as a file.
    pub(super) fn blocklist_file(self) -> Result<String> {
        Ok(self.blocklist.all()?.iter().fold(String::new(), |text, prefix| text + &prefix.to_string() + "\n"))
    }
}

/// So many prefixes of destinations, in none of which what is served is.
fn closed(prefixes: u32) -> Vec<Prefix> {
    let mut random = Random(3);
    let served = |address: Ipv4Addr| matches!(address.octets(), [192, 0, 2, _] | [198, 51, 100, _]);
    let hosts = std::iter::from_fn(|| Some((random.host(), 24 + random.below(9) as u8)));
    let closed = hosts.filter(|(host, _)| !served(*host));
    closed.map(|(host, length)| Prefix::containing(host.into(), length)).take(prefixes as usize).collect()
}

/// An address as it is written.
pub(super) fn address(text: &str) -> Result<IpAddr> {
    text.parse().with_context(|| format!("the address {text}"))
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
