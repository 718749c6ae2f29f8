//! What it costs to change what runs, and to look at it: the real icmpctl, on all CPUs, in the lab's network; and the memory that it
//! takes. Through the network nobody sends but where it says so.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{
    only::Only,
    policies::{self, Blocklist, Subject},
    samples::Spread,
};
use crate::{
    ebpf::Objects,
    lab::{
        flood::{Flood, Instruments},
        network::{DIRECTORY, Network, SERVER_END},
        swaps::{self, Account},
    },
    say::Progress,
};

/// The large policy.
const LARGE: Subject = Subject {
    rules: 10_000,
    blocklist: Blocklist { prefixes: 1_000_000, spread: policies::Spread::Scattered },
    ..Subject::NO_RULES
};
/// The small one.
const SMALL: &str = "\
[sets]
blocked = { dynamic = true }
trusted = [\"10.0.0.0/8\"]
[acl]
rules = \"\"\"
permit icmp set:trusted any
deny   icmp set:blocked any
deny   icmp4 any any timestamp-request
reject icmp any host 198.51.100.9 echo
limit 1000/s per source icmp any any echo
\"\"\"
";
/// Prefixes that are added at once.
const ADDED: u32 = 1000;
/// How often the large policy is put in place, and taken away again, while packets flow.
const SWAPS: usize = 3;
/// Between two looks at how much memory a process has taken.
const LOOK: Duration = Duration::from_millis(1);

/// A command that is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chore {
    Attach,
    Add,
    AddMany,
    Read,
    Apply,
    Compile,
    Put,
    OneRule,
    ReadRules,
}

/// In an order in which each finds what it needs: nothing attached, then the small policy, then the large one.
const CHORES: [Chore; 9] = [
    Chore::Attach,
    Chore::Add,
    Chore::AddMany,
    Chore::Read,
    Chore::Apply,
    Chore::Compile,
    Chore::Put,
    Chore::OneRule,
    Chore::ReadRules,
];

/// What is done while packets flow.
pub(super) const SWAPPED: &str = "swap 10,000 rules and 1,000,000 prefixes while packets flow";

/// The most that a command may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Most {
    /// Seconds.
    pub(super) seconds: f64,
    /// MiB of the process.
    pub(super) mib: Option<f64>,
}

/// A command, run several times.
pub(super) struct Line {
    /// What it does.
    pub(super) name: &'static str,
    /// How long it takes.
    pub(super) seconds: Spread,
    /// The most memory that its process has at once.
    pub(super) mib: Spread,
    /// The goal, if there is one.
    pub(super) goal: Option<Most>,
}

/// What a policy takes in the kernel.
pub(super) struct Memory {
    /// The policy.
    pub(super) name: &'static str,
    /// MiB of its maps.
    pub(super) maps: f64,
    /// KiB of its program, and of the machine code that this became.
    pub(super) program: [f64; 2],
}

/// Everything about changes.
#[derive(Default)]
pub(super) struct Control {
    /// Commands.
    pub(super) lines: Vec<Line>,
    /// Memory in the kernel.
    pub(super) memory: Vec<Memory>,
    /// What came of swaps while packets flowed.
    pub(super) swapped: Option<Account>,
}

/// Files of the policies.
struct Policies {
    small: PathBuf,
    large: PathBuf,
    /// The large one with another rule.
    changed: PathBuf,
}

impl Chore {
    /// As it stands in the report.
    const fn name(self) -> &'static str {
        match self {
            Self::Attach => "attach with a small policy, until it filters",
            Self::Add => "set add: a prefix",
            Self::AddMany => "set add: 1,000 prefixes",
            Self::Read => "stats",
            Self::Apply => "apply a small policy",
            Self::Compile => "compile 10,000 rules and 1,000,000 prefixes",
            Self::Put => "put 10,000 rules and 1,000,000 prefixes in place",
            Self::OneRule => "change one rule of them",
            Self::ReadRules => "stats --by rule of 10,000 rules",
        }
    }

    const fn goal(self) -> Option<Most> {
        match self {
            Self::Attach => Some(Most { seconds: 0.15, mib: None }),
            Self::Put | Self::OneRule => Some(Most { seconds: 2.0, mib: Some(512.0) }),
            _ => None,
        }
    }

    /// Does it; seconds, and MiB of the process. When the command has ended, it is done.
    fn time(self, network: &Network, policies: &Policies) -> Result<(f64, f64)> {
        let Policies { small, large, changed } = policies;
        let [small, large, changed] = [small, large, changed].map(|path| path.to_string_lossy());
        let prefixes: Vec<_> =
            (0..ADDED).map(|number| format!("203.{}.{}.0/24", number >> 8, number & 0xff)).collect();
        let words: Vec<&str> = match self {
            Self::Attach => vec!["attach", SERVER_END, "--mode", "native", "--policy", &small],
            Self::Add => vec!["set", "add", "blocked", "198.51.100.0/24"],
            Self::AddMany => {
                ["set", "add", "blocked"].into_iter().chain(prefixes.iter().map(String::as_str)).collect()
            }
            Self::Read => vec!["stats", "--json"],
            Self::Apply => vec!["apply", SERVER_END, &small],
            Self::Compile => vec!["policy", "compile", &large],
            Self::Put => vec!["apply", SERVER_END, &large],
            Self::OneRule => vec!["apply", SERVER_END, &changed],
            Self::ReadRules => vec!["stats", "--by", "rule", "--json"],
        };
        timed(network, &words).with_context(|| format!("running icmpctl {}", words[0]))
    }
}

/// The names of everything that is measured here.
pub(super) fn names() -> Vec<String> {
    CHORES.into_iter().map(Chore::name).chain([SWAPPED]).map(str::to_owned).collect()
}

/// Does every chore as often as `times` says. Call it on all CPUs.
pub(super) fn measure(
    network: &Network,
    objects: &Objects,
    times: usize,
    only: &Only,
    progress: &mut Progress,
) -> Result<Control> {
    let mut control = Control::default();
    if !names().iter().any(|name| only.wants(name)) {
        return Ok(control);
    }
    progress.show("writing a policy of 10,000 rules and a set of 1,000,000 prefixes");
    let policies = Policies::write(network)?;
    let mut samples = vec![Vec::new(); CHORES.len()];
    // Each needs those before it.
    let times = if CHORES.into_iter().any(|chore| only.wants(chore.name())) { times } else { 0 };
    for number in 1..=times {
        for (chore, samples) in CHORES.into_iter().zip(&mut samples) {
            progress.show(&format!("control plane, {number} of {times}: {}", chore.name()));
            samples.push(chore.time(network, &policies)?);
            let name = match chore {
                Chore::Apply => "a small policy",
                Chore::Put => "10,000 rules and 1,000,000 prefixes",
                _ => continue,
            };
            if number == 1 {
                control.memory.push(Memory::read(network, name)?);
            }
        }
        network.detach()?;
    }
    let lines = CHORES.into_iter().zip(&samples).filter(|(chore, _)| only.wants(chore.name()));
    control.lines = lines.map(|(chore, samples)| Line::new(chore, samples)).collect();
    if only.wants(SWAPPED) {
        progress.show(SWAPPED);
        control.swapped = Some(swap(network, objects, &policies)?);
    }
    Ok(control)
}

/// Puts the large policy in place and takes it away while packets flow.
fn swap(network: &Network, objects: &Objects, policies: &Policies) -> Result<Account> {
    let mut instruments = Instruments::load(objects, None)?;
    instruments.pass_on_client(network)?;
    network.attach()?;
    let account = swaps::account(&mut instruments, network, Flood::Ipv4, || {
        for _ in 0..SWAPS {
            network.apply(&policies.large)?;
            network.apply(&network.policy())?;
        }
        Ok(())
    })?;
    network.detach()?;
    Ok(account)
}

impl Policies {
    fn write(network: &Network) -> Result<Self> {
        let rules = LARGE.rules();
        let blocklist = Path::new(DIRECTORY).join("blocklist.txt");
        fs::write(blocklist, LARGE.blocklist_file()?).context("writing a set of the bench")?;
        let with = |name: &str, more: &str| {
            let set = "[sets]\nblocklist = { file = \"blocklist.txt\" }\n";
            network.with(name, &format!("{set}[acl]\nrules = \"\"\"\n{rules}{more}\"\"\"\n"))
        };
        Ok(Self {
            small: network.with("small.toml", SMALL)?,
            large: with("large.toml", "")?,
            changed: with("changed.toml", "deny icmp any host 203.0.113.77 echo\n")?,
        })
    }
}

/// Time in seconds and memory in MiB of a command.
fn timed(network: &Network, words: &[&str]) -> Result<(f64, f64)> {
    let mut command = network.command(words);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let begin = Instant::now();
    let mut child = command.spawn().context("starting icmpctl")?;
    let mut kib = 0;
    while child.try_wait().context("waiting for icmpctl")?.is_none() {
        // Once it has ended it has no memory any more: then what was seen last stands.
        kib = most_memory(&child).unwrap_or(kib);
        sleep(LOOK);
    }
    let seconds = begin.elapsed().as_secs_f64();
    let output = child.wait_with_output().context("waiting for icmpctl")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok((seconds, kib as f64 / 1024.0))
}

/// The most memory that a process has had at once so far, in KiB (`VmHWM` in proc(5)).
fn most_memory(child: &Child) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

impl Memory {
    /// What the program that is attached takes.
    fn read(network: &Network, name: &'static str) -> Result<Self> {
        let parse = |text: String| serde_json::from_str::<Value>(&text).context("reading JSON");
        let status = parse(network.icmpctl(&["status", "--json"])?)?;
        let id = status[0]["program"].as_u64().context("`icmpctl status` names no program")?;
        let bpftool = |what: &str, id: u64| {
            parse(network.run("bpftool", &["--json", what, "show", "id", &id.to_string()])?)
        };
        let program = bpftool("prog", id)?;
        let bytes = |value: &Value, key: &str| {
            value[key].as_f64().with_context(|| format!("bpftool does not tell {key}"))
        };
        let mut maps = 0.0;
        for map in program["map_ids"].as_array().context("bpftool does not tell map_ids")? {
            let id = map.as_u64().context("a map's id")?;
            maps += bytes(&bpftool("map", id)?, "bytes_memlock")?;
        }
        let kib = |key| Ok::<_, anyhow::Error>(bytes(&program, key)? / 1024.0);
        let program = [kib("bytes_xlated")?, kib("bytes_jited")?];
        Ok(Self { name, maps: maps / f64::from(1 << 20), program })
    }

    fn json(&self) -> Value {
        let Self { name, maps, program: [instructions, machine] } = self;
        json!({ "policy": name, "maps_mib": maps, "instructions_kib": instructions, "machine_code_kib": machine })
    }
}

impl Line {
    fn new(chore: Chore, samples: &[(f64, f64)]) -> Self {
        let of = |pick: fn(&(f64, f64)) -> f64| Spread::of(samples.iter().map(pick));
        let (seconds, mib) = (of(|sample| sample.0), of(|sample| sample.1));
        Self { name: chore.name(), seconds, mib, goal: chore.goal() }
    }

    /// Whether the goal is met, if there is one.
    pub(super) fn is_met(&self) -> Option<bool> {
        let Most { seconds, mib } = self.goal?;
        Some(self.seconds.median <= seconds && mib.is_none_or(|mib| self.mib.most <= mib))
    }

    fn json(&self) -> Value {
        json!({
            "command": self.name,
            "seconds": self.seconds.json(),
            "mib": self.mib.json(),
            "goal": self.goal.map(|Most { seconds, mib }| json!({
                "seconds": seconds, "mib": mib, "met": self.is_met(),
            })),
        })
    }
}

impl Control {
    /// Whether nothing was measured.
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.swapped.is_none()
    }

    /// As JSON.
    pub(super) fn json(&self) -> Value {
        json!({
            "commands": self.lines.iter().map(Line::json).collect::<Vec<_>>(),
            "memory": self.memory.iter().map(Memory::json).collect::<Vec<_>>(),
            "swapped_while_packets_flow": self.swapped.map(|account| json!({
                "swaps": 2 * SWAPS, "requests": account.requests, "lost": !account.adds_up(),
            })),
        })
    }
}

impl fmt::Display for Most {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seconds, mib } = self;
        write!(f, "at most {:.0} ms", seconds * 1000.0)?;
        mib.map_or(Ok(()), |mib| write!(f, " and {mib} MiB"))
    }
}

impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.lines.iter().map(|line| line.name.len()).fold(20, usize::max);
        if !self.lines.is_empty() {
            writeln!(f, "{:<width$} {:>7} {:>15} {:>5}  GOAL", "CONTROL PLANE", "MS", "SPREAD", "MIB")?;
        }
        for line in &self.lines {
            let Line { name, seconds, mib, goal } = line;
            let [median, least, most] =
                [seconds.median, seconds.least, seconds.most].map(|time| time * 1000.0);
            let goal = goal.map(|goal| {
                format!("{goal}: {}", if line.is_met() == Some(true) { "met" } else { "MISSED" })
            });
            let row = format!(
                "{name:<width$} {median:>7.1} {:>15} {:>5.0}  {}",
                format!("{least:.1}..{most:.1}"),
                mib.most,
                goal.unwrap_or_default()
            );
            writeln!(f, "{}", row.trim_end())?;
        }
        if let Some(account) = &self.swapped {
            writeln!(f, "{SWAPPED}, {} times, {} requests: {}", 2 * SWAPS, account.requests, lost(account))?;
        }
        if !self.memory.is_empty() {
            writeln!(f, "\n{:<36} {:>8} {:>8} {:>8}", "MEMORY OF THE KERNEL", "MAPS", "PROGRAM", "MACHINE")?;
        }
        for Memory { name, maps, program: [instructions, machine] } in &self.memory {
            writeln!(f, "{name:<36} {maps:>4.1} MiB {instructions:>4.0} KiB {machine:>4.0} KiB")?;
        }
        Ok(())
    }
}

/// Whether packets were lost.
pub(super) fn lost(account: &Account) -> String {
    let Account { requests, replies, counts, drops } = account;
    if account.adds_up() {
        return "none lost".to_owned();
    }
    format!(
        "LOST some: {requests} requests, of which veth dropped {}, {} were answered and {} denied; {replies} replies came back",
        drops.requests, counts.program, counts.denied
    )
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn goals_are_about_time_and_memory() {
        let line =
            |seconds: f64, mib: f64| Line::new(Chore::Put, &[(seconds, mib), (seconds, mib), (9.0, mib)]);
        assert_eq!(line(1.9, 500.0).is_met(), Some(true));
        assert_eq!(line(2.1, 500.0).is_met(), Some(false));
        assert_eq!(line(1.9, 513.0).is_met(), Some(false));
        assert_eq!(Line::new(Chore::Read, &[(9.0, 9.0)]).is_met(), None);
        let lines = vec![line(1.9, 500.0), line(2.1, 500.0)];
        let text = Control { lines, ..Control::default() }.to_string();
        let lines: Vec<_> = text.lines().collect();
        let row = "put 10,000 rules and 1,000,000 prefixes in place  1900.0  1900.0..9000.0   500  at most 2000 ms and 512 MiB: met";
        assert_eq!(lines[1], row);
        assert!(lines[2].ends_with("MISSED"), "{text}");
    }

    #[test]
    fn memory_is_seen() {
        let mut child = Command::new("sleep").arg("10").spawn().unwrap();
        // At first it is nobody yet.
        let seen = (0..5000).any(|_| {
            sleep(LOOK);
            most_memory(&child).is_some_and(|kib| kib > 100)
        });
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(seen);
        assert_eq!(most_memory(&child), None);
    }
}
