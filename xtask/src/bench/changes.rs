//! How long it takes to put a large policy in place, and how much memory: the real `icmpctl apply`, on all CPUs, in the lab's
//! network, through which nobody sends.

use std::{
    fmt, fs,
    path::Path,
    process::{Child, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{
    policies::{self, Blocklist, Subject},
    samples::Spread,
};
use crate::{
    lab::network::{DIRECTORY, Network, SERVER_END},
    say::Progress,
};

/// What is put in place.
const LARGE: Subject = Subject {
    rules: 10_000,
    blocklist: Blocklist { prefixes: 1_000_000, spread: policies::Spread::Scattered },
    ..Subject::NO_RULES
};
/// The most that this may take.
const SECONDS: f64 = 2.0;
const MIB: f64 = 512.0;
/// Between two looks at how much memory a process has taken.
const LOOK: Duration = Duration::from_millis(1);

/// One change of policy, made several times.
pub(super) struct Line {
    what: &'static str,
    seconds: Spread,
    mib: Spread,
}

/// Makes each change as often as `times` says. Call it on all CPUs.
pub(super) fn measure(network: &Network, times: usize, progress: &mut Progress) -> Result<Vec<Line>> {
    progress.show("writing a policy of 10,000 rules and a set of 1,000,000 prefixes");
    let rules = LARGE.rules();
    let blocklist = Path::new(DIRECTORY).join("blocklist.txt");
    fs::write(blocklist, LARGE.blocklist_file()?).context("writing a set of the bench")?;
    let with = |name: &str, rules: &str| {
        network.with(
            name,
            &format!(
                "[sets]\nblocklist = {{ file = \"blocklist.txt\" }}\n[acl]\nrules = \"\"\"\n{rules}\"\"\"\n"
            ),
        )
    };
    let large = with("large.toml", &rules)?;
    let changed = with("changed.toml", &format!("{rules}deny icmp any host 203.0.113.77 echo\n"))?;
    network.attach()?;
    let (mut whole, mut one_rule) = (Vec::new(), Vec::new());
    for number in 1..=times {
        progress.show(&format!("change {number} of {times}: a large policy, and one rule of it"));
        whole.push(apply(network, &large)?);
        one_rule.push(apply(network, &changed)?);
        network.apply(&network.policy())?;
    }
    network.detach()?;
    Ok(vec![
        Line::new("put 10,000 rules and 1,000,000 prefixes in place", &whole),
        Line::new("change one rule of them", &one_rule),
    ])
}

/// Time in seconds and memory in MiB of applying a policy.
fn apply(network: &Network, policy: &Path) -> Result<(f64, f64)> {
    let mut command = network.command(&["apply", SERVER_END, &policy.to_string_lossy()]);
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
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "applying {}: {}", policy.display(), said.trim());
    Ok((seconds, kib as f64 / 1024.0))
}

/// The most memory that a process has had at once so far, in KiB (`VmHWM` in proc(5)).
fn most_memory(child: &Child) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

impl Line {
    fn new(what: &'static str, changes: &[(f64, f64)]) -> Self {
        let of = |pick: fn(&(f64, f64)) -> f64| Spread::of(changes.iter().map(pick));
        Self { what, seconds: of(|change| change.0), mib: of(|change| change.1) }
    }

    fn is_met(&self) -> bool {
        self.seconds.median <= SECONDS && self.mib.most <= MIB
    }

    /// As JSON.
    pub(super) fn json(&self) -> Value {
        json!({
            "change": self.what,
            "seconds": self.seconds.json(),
            "mib": self.mib.json(),
            "goal": { "seconds": SECONDS, "mib": MIB, "met": self.is_met() },
        })
    }
}

/// The lines as a table.
pub(super) struct Listing<'a>(pub(super) &'a [Line]);

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|line| line.what.len()).max().unwrap_or_default();
        writeln!(f, "{:<width$} {:>7} {:>12} {:>5}  GOAL", "CHANGE", "SECONDS", "SPREAD", "MIB")?;
        for line in self.0 {
            let Line { what, seconds, mib } = line;
            let spread = format!("{:.2}..{:.2}", seconds.least, seconds.most);
            let met = if line.is_met() { "met" } else { "MISSED" };
            writeln!(
                f,
                "{what:<width$} {:>7.2} {spread:>12} {:>5.0}  at most {SECONDS} s and {MIB} MiB: {met}",
                seconds.median, mib.most
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn goals_are_about_time_and_memory() {
        let line =
            |seconds: f64, mib: f64| Line::new("change", &[(seconds, mib), (seconds, mib), (9.0, mib)]);
        assert!(line(1.9, 500.0).is_met());
        assert!(!line(2.1, 500.0).is_met());
        assert!(!line(1.9, 513.0).is_met());
        let text = Listing(&[line(1.9, 500.0), line(2.1, 500.0)]).to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[1], "change    1.90   1.90..9.00   500  at most 2 s and 512 MiB: met");
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
