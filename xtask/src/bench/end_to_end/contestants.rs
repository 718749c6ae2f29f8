//! Putting those who face a flood in place, on the server's end of the lab's network, and taking them away again.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};

use super::{
    super::policies::Blocklist,
    races::{Race, Task, Who},
};
use crate::{
    cargo::find,
    lab::{
        flood::Instruments,
        network::{CROWD4, DIRECTORY, Network, SERVER, SERVER_END},
        nftables,
    },
};

/// A limit that no packet is within, and one that no source is over, as nftables and hashlimit say it.
const NOTHING: &str = "1/hour burst 1 packets";
const MUCH: &str = "1000000/second burst 1000000 packets";
/// In which the crowd of 8,192 sources is that sets have to find.
const CROWD: &str = "10.0.0.0/19";

/// Somebody who is in place.
pub(super) struct InPlace(Who);

impl Who {
    /// Whether he can be there; if not, the error says why.
    pub(super) fn is_there(self) -> Result<(), String> {
        let program = match self {
            Self::Hashlimit => "iptables",
            Self::XdpFilter => "xdp-filter",
            _ => return Ok(()),
        };
        let missing = || format!("there is no {program}, which --with-peers installs");
        find(program).map(drop).ok_or_else(missing)
    }

    /// Puts him in place.
    pub(super) fn put(
        self,
        race: &Race,
        network: &Network,
        instruments: &mut Instruments,
    ) -> Result<InPlace> {
        let Race { task, sources, .. } = *race;
        match self {
            Self::Native => ours(network, "native", task, sources)?,
            Self::Generic => {
                // Without a program, veth takes in frames if it has to aggregate packets.
                aggregate(network, true)?;
                ours(network, "generic", task, sources)?;
            }
            Self::Floor => {
                let program = if matches!(task, Task::Echo) { "minimal_echo" } else { "discard" };
                instruments.put_on_server(network, program)?;
            }
            Self::Stack => aggregate(network, true)?,
            Self::Nftables => {
                aggregate(network, true)?;
                nft(network, task, sources)?;
            }
            Self::Hashlimit => {
                aggregate(network, true)?;
                hashlimit(network, task, sources)?;
            }
            Self::XdpFilter => {
                in_network(
                    network,
                    &["xdp-filter", "load", SERVER_END, "-m", "native", "-f", "ipv4", "-p", "allow"],
                )?;
                in_network(network, &["xdp-filter", "ip", CROWD4, "-m", "src"])?;
            }
        }
        Ok(InPlace(self))
    }
}

impl Who {
    /// Takes away what there is of somebody who could not be put in place; where there is nothing, that is no error.
    pub(super) fn remove_rest(self, network: &Network) {
        let _ = InPlace(self).remove(network);
        let _ = aggregate(network, false);
    }
}

impl InPlace {
    /// Takes him away.
    pub(super) fn remove(self, network: &Network) -> Result<()> {
        match self.0 {
            Who::Native => return network.detach(),
            Who::Generic => network.detach()?,
            Who::Floor => return network.clear_server(),
            Who::Stack => {}
            Who::Nftables => {
                network.run_in(SERVER, &["nft", "delete", "table", "netdev", "lab"])?;
            }
            Who::Hashlimit => {
                network.run_in(SERVER, &["iptables", "-t", "raw", "-F"])?;
            }
            Who::XdpFilter => return in_network(network, &["xdp-filter", "unload", SERVER_END]),
        }
        aggregate(network, false)
    }
}

/// Runs a command in the server's network namespace alone, where it sees the BPF file system.
fn in_network(network: &Network, command: &[&str]) -> Result<()> {
    let namespace = format!("--net=/run/netns/{SERVER}");
    let mut all = vec![namespace.as_str()];
    all.extend(command);
    network.run("nsenter", &all).map(drop)
}

/// Whether the server's end aggregates packets (GRO).
fn aggregate(network: &Network, on: bool) -> Result<()> {
    let on = if on { "on" } else { "off" };
    network.run_in(SERVER, &["ethtool", "-K", SERVER_END, "gro", on]).map(drop)
}

/// Attaches icmpctl with the policy that does it.
fn ours(network: &Network, mode: &str, task: Task, sources: u32) -> Result<()> {
    let acl = |rule: &str| format!("[acl]\nrules = \"{rule}\"\n");
    // Room for twice as many, as in nftables' set: in a smaller table buckets give way to one another, and their sources are let
    // through.
    let limit = |rate: &str| {
        let buckets = (2 * sources).max(1 << 17);
        let rule = format!("limit {rate} per source icmp any any echo");
        format!("{}[limits]\nbuckets = {buckets}\n", acl(&rule))
    };
    let rest = match task {
        Task::Echo => String::new(),
        Task::Drop => acl("deny icmp any any echo"),
        Task::DropBySet(set) => {
            let path = Path::new(DIRECTORY).join("blocklist.txt");
            fs::write(&path, lines(set, "\n")?).with_context(|| format!("writing {}", path.display()))?;
            format!(
                "[sets]\nblocklist = {{ file = \"blocklist.txt\" }}\n{}",
                acl("deny icmp set:blocklist any")
            )
        }
        Task::Over => limit("1/h burst 1"),
        Task::Within => limit("1000000/s"),
        Task::Reject => {
            let much = "10000000/s burst 4000000000";
            let errors = format!("[acl.errors]\nper-source = \"{much}\"\ntotal = \"{much}\"\n");
            acl("reject icmp any any echo") + &errors
        }
    };
    let policy = network.with("race.toml", &rest)?;
    let policy = policy.to_string_lossy();
    network.icmpctl(&["attach", SERVER_END, "--mode", mode, "--policy", &policy]).map(drop)
}

/// Lets nftables do it.
fn nft(network: &Network, task: Task, sources: u32) -> Result<()> {
    let rate = match task {
        Task::Over => NOTHING,
        Task::Within => MUCH,
        _ => return nft_rule(network, task),
    };
    nftables::Limit::set(network, rate, 2 * sources).map(drop)
}

/// What needs no limit, as early as nftables can.
fn nft_rule(network: &Network, task: Task) -> Result<()> {
    let (set, rule) = match task {
        Task::Drop => (String::new(), "icmp type echo-request drop"),
        Task::Reject => (String::new(), "icmp type echo-request reject with icmp type admin-prohibited"),
        Task::DropBySet(set) => {
            let elements = lines(set, ", ")?;
            let set = format!(
                "set blocklist {{ type ipv4_addr; flags interval; auto-merge; elements = {{ {elements} }}\n}}\n"
            );
            (set, "icmp type echo-request ip saddr @blocklist drop")
        }
        Task::Echo | Task::Over | Task::Within => bail!("nftables has no rule of its own for this"),
    };
    let text = format!(
        "table netdev lab {{\n{set}chain ingress {{ type filter hook ingress device {SERVER_END} priority 0; policy accept;\n\
         {rule}\n}}\n}}\n"
    );
    let path = Path::new(DIRECTORY).join("race.nft");
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    network.run_in(SERVER, &["nft", "-f", &path.to_string_lossy()]).map(drop)
}

/// The prefixes of a set in which the crowd is.
fn lines(set: Blocklist, between: &str) -> Result<String> {
    let mut prefixes: Vec<_> = set.all()?.iter().map(ToString::to_string).collect();
    prefixes.push(CROWD.to_owned());
    Ok(prefixes.join(between))
}

/// Lets hashlimit do it, before connections are tracked.
fn hashlimit(network: &Network, task: Task, sources: u32) -> Result<()> {
    let (above, burst) = match task {
        Task::Over => ("1/hour", "1"),
        _ => ("1000000/second", "1000000"),
    };
    let room = (2 * sources).to_string();
    let rule = [
        "iptables -t raw -A PREROUTING -p icmp --icmp-type echo-request -m hashlimit --hashlimit-name lab --hashlimit-mode srcip",
        &format!("--hashlimit-above {above} --hashlimit-burst {burst}"),
        &format!("--hashlimit-htable-size {room} --hashlimit-htable-max {room} -j DROP"),
    ]
    .join(" ");
    let mut command = Vec::new();
    command.extend(rule.split(' '));
    network.run_in(SERVER, &command).map(drop)
}
