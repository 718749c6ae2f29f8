//! The floods that are measured from end to end, and who faces each.

use super::{
    super::policies::{Blocklist, Spread},
    Kind,
};

/// What has to be done with echo requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// They are answered.
    Echo,
    /// They are dropped.
    Drop,
    /// They are dropped, because their source is in a set.
    DropBySet(Blocklist),
    /// They are dropped, because their source is over its limit.
    Over,
    /// They are answered, because their source is within its limit.
    Within,
    /// An error is sent about each.
    Reject,
}

/// Who faces a flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// icmpctl in the driver.
    Native,
    /// icmpctl behind the driver.
    Generic,
    /// The least that an XDP program has to do.
    Floor,
    /// The kernel's own stack.
    Stack,
    /// nftables in the interface's ingress hook.
    Nftables,
    /// iptables' hashlimit in the table raw.
    Hashlimit,
    /// The XDP program of xdp-tools.
    XdpFilter,
}

/// One flood, and all who face it.
#[derive(Clone, Debug)]
pub(super) struct Race {
    /// Its name in the report.
    pub(super) name: String,
    /// What has to be done.
    pub(super) task: Task,
    /// How many sources there are; a power of two.
    pub(super) sources: u32,
    /// How many cores send, each of which does all the work for what it sends.
    pub(super) cores: usize,
    /// Who faces it. The first one is compared with the others.
    pub(super) all: Vec<Who>,
    /// Times as much that a packet has to cost somebody else.
    pub(super) goal: Option<(Who, f64)>,
}

impl Who {
    /// What he is.
    pub(super) const fn kind(self) -> Kind {
        match self {
            Self::Native => Kind::Native,
            Self::Generic => Kind::Generic,
            Self::Floor => Kind::Floor,
            Self::Stack | Self::Nftables | Self::Hashlimit | Self::XdpFilter => Kind::Peer,
        }
    }

    /// As it stands in the report.
    pub(super) const fn name(self, task: Task) -> &'static str {
        match self {
            Self::Native => "icmpctl, native",
            Self::Generic => "icmpctl, generic",
            Self::Floor if matches!(task, Task::Echo) => "minimal XDP echo",
            Self::Floor => "bare XDP_DROP",
            Self::Stack => "kernel stack",
            Self::Nftables => "nftables",
            Self::Hashlimit => "iptables hashlimit",
            Self::XdpFilter => "xdp-filter",
        }
    }
}

/// Sources of most floods, and of the largest.
const THOUSANDS: u32 = 1 << 13;
const MILLION: u32 = 1 << 20;

/// A set as the peers' sets are, too.
const fn set(prefixes: u32) -> Task {
    Task::DropBySet(Blocklist { prefixes, spread: Spread::Scattered })
}

/// All of them, on a machine with so many cores.
pub(super) fn all(cores: usize) -> Vec<Race> {
    use Who::{Floor, Generic, Hashlimit, Native, Nftables, Stack, XdpFilter};
    let race = |name: &str, task, sources, all: &[Who]| Race {
        name: name.to_owned(),
        task,
        sources,
        cores: 1,
        all: all.to_vec(),
        goal: None,
    };
    let goal = |race: Race, who, times| Race { goal: Some((who, times)), ..race };
    let limits = [Native, Generic, Nftables, Hashlimit];
    let mut races = vec![
        goal(race("echo", Task::Echo, 1, &[Native, Generic, Floor, Stack]), Stack, 12.0),
        goal(race("drop", Task::Drop, 1, &[Native, Generic, Floor, XdpFilter, Nftables]), Nftables, 3.0),
        race("drop by 10,000 prefixes", set(10_000), THOUSANDS, &[Native, Nftables]),
        race("drop by 100,000 prefixes", set(100_000), THOUSANDS, &[Native, Nftables]),
        goal(race("drop over the limit, 8,192 sources", Task::Over, THOUSANDS, &limits), Nftables, 4.0),
        goal(
            race(
                "drop over the limit, a million sources",
                Task::Over,
                MILLION,
                &[Native, Nftables, Hashlimit],
            ),
            Nftables,
            4.0,
        ),
        goal(race("echo within the limit, 8,192 sources", Task::Within, THOUSANDS, &limits), Nftables, 4.0),
        goal(
            race("echo within the limit, a million sources", Task::Within, MILLION, &[Native, Nftables]),
            Nftables,
            4.0,
        ),
        race("reject", Task::Reject, 1, &[Native, Generic, Nftables]),
    ];
    if cores > 1 {
        let two = |race: Race| Race { cores: 2, ..race };
        races.push(two(race("echo, two cores", Task::Echo, 1, &[Native, Stack])));
        races.push(two(race("drop, two cores", Task::Drop, 1, &[Native, Nftables])));
        races.push(two(race(
            "echo within the limit, 8,192 sources, two cores",
            Task::Within,
            THOUSANDS,
            &[Native, Nftables],
        )));
    }
    races
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_a_goal_is_about_is_there_and_not_ours() {
        for race in all(2) {
            assert_eq!(race.all[0], Who::Native, "{}", race.name);
            if let Some((who, _)) = race.goal {
                assert!(race.all[1..].contains(&who), "{}", race.name);
            }
        }
    }

    #[test]
    fn one_core_does_not_race_two() {
        assert!(all(1).iter().all(|race| race.cores == 1));
        assert!(all(2).iter().any(|race| race.cores == 2));
    }
}
