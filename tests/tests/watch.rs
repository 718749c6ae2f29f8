//! `icmpctl stats --watch`: rates beside totals, over changes of the policy; how it ends; what it makes of a terminal.

use std::{
    io::{BufRead as _, BufReader, Lines, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use icmp_tests::{
    icmpctl::Finished,
    netns::{Lab, SERVER_END, SERVER4},
    ping::ping,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A process that watches; it is killed when dropped.
struct Watch {
    child: Child,
    lines: Option<Lines<BufReader<ChildStdout>>>,
}

impl Watch {
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines: Some(lines) }
    }

    fn line(&mut self) -> String {
        self.lines.as_mut().unwrap().next().expect("it has ended").unwrap()
    }

    /// The next reading, as JSON.
    fn reading(&mut self) -> Value {
        let line = self.line();
        let mut reading: Value = serde_json::from_str(&line).unwrap();
        assert!(reading["time"].as_f64().unwrap() > 1.6e9, "{line}");
        let interfaces = reading["interfaces"].as_array_mut().unwrap();
        assert_eq!(interfaces.len(), 1, "{line}");
        interfaces.remove(0)
    }

    fn interrupt(&self) {
        kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), Signal::INT).unwrap();
    }

    /// Reads it to its end.
    fn wait(mut self) -> Finished {
        let rest = self.lines.take().into_iter().flatten().map_while(Result::ok);
        let stdout = rest.map(|line| line + "\n").collect();
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        Finished { status: self.child.wait().unwrap().code(), stdout, stderr }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const ALLOW: &str = "10 permit icmp4 any any echo";

fn policy(lab: &Lab, name: &str, rules: &str) -> PathBuf {
    let path = lab.files.path().join(name);
    std::fs::write(&path, format!("acl.rules = '''\n{rules}\n'''\n")).unwrap();
    path
}

fn apply(lab: &Lab, path: &Path) {
    let _ = lab.icmpctl(&["apply", SERVER_END, path.to_str().unwrap()]).ok();
}

fn pings(lab: &Lab, count: u64) {
    assert_eq!(ping(&lab.client, &format!("-q -f -c {count} {SERVER4}")).0, count);
}

/// What a rule shows: packets, and packets since the reading before.
fn rule(reading: &Value, text: &str) -> Option<(u64, f64)> {
    let row = reading["rules"].as_array().unwrap().iter().find(|row| row["rule"] == text)?;
    Some((row["packets"].as_u64().unwrap(), recent(reading, &row["per_second"])))
}

/// Packets since the reading before.
fn recent(reading: &Value, per_second: &Value) -> f64 {
    match (reading["seconds"].as_f64(), per_second.as_f64()) {
        (Some(seconds), Some(rate)) => seconds * rate,
        (None, None) => 0.0,
        _ => panic!("{reading}"),
    }
}

/// C94: while policies are swapped, totals only rise, and what all rates stand for adds up to them; also for a rule that leaves
/// and comes back, whose count begins anew.
#[test]
#[ignore = "needs root and BPF"]
fn c94_watched_rates_add_up_to_totals_over_swaps() {
    let lab = Lab::attached("generic", &format!("acl.rules = '{ALLOW}'"));
    pings(&lab, 7);
    let mut watch = Watch::start(lab.command(&[
        "stats",
        SERVER_END,
        "--by",
        "reason,rule,type,served",
        "--watch",
        "1s",
        "--json",
    ]));
    let text = "permit icmp4 any any echo";
    let first = watch.reading();
    assert_eq!(first["totals"][0]["answered"], 7);
    assert_eq!((rule(&first, text), first.get("per_second")), (Some((7, 0.0)), None));
    assert!(first["reasons"].as_array().unwrap().iter().all(|row| row.get("per_second").is_none()));

    let (with, without) =
        (policy(&lab, "with", ALLOW), policy(&lab, "without", "10 deny icmp4 any any echo"));
    // Of the total, of the verdict, of the reason, of the type, of the prefix, of the rule: packets that rates stood for.
    let mut sums = [0.0; 6];
    let mut before = 7;
    let mut next = |watch: &mut Watch, wanted: u64| {
        loop {
            let reading = watch.reading();
            let total = &reading["totals"][0];
            let received = total["received"].as_u64().unwrap();
            assert!(received >= before, "{before} {reading}");
            before = received;
            let rates = &reading["per_second"][0];
            let reasons = reading["reasons"].as_array().unwrap();
            let reason =
                reasons.iter().find(|row| row["family"] == "ipv4" && row["reason"] == "echo").unwrap();
            let of = |rows: &str, field: &str, value: &str| {
                let rows = reading[rows].as_array().unwrap();
                rows.iter().find(|row| row[field] == value).unwrap()["per_second"].clone()
            };
            let (of_type, of_prefix) = (of("types", "name", "echo"), of("served", "prefix", "own"));
            let parts = [&rates["received"], &rates["answered"], &reason["per_second"], &of_type, &of_prefix];
            for (sum, part) in sums.iter_mut().zip(parts) {
                *sum += recent(&reading, part);
            }
            sums[5] += rule(&reading, text).map_or(0.0, |(_, recent)| recent);
            if received == wanted {
                return (reading, sums);
            }
        }
    };
    pings(&lab, 300);
    let (reading, _) = next(&mut watch, 307);
    assert_eq!(rule(&reading, text).unwrap().0, 307);
    apply(&lab, &without);
    pings(&lab, 40);
    let (reading, _) = next(&mut watch, 347);
    assert_eq!(rule(&reading, text), None);
    assert_eq!(rule(&reading, "deny icmp4 any any echo").unwrap().0, 40);
    apply(&lab, &with);
    pings(&lab, 200);
    let (reading, sums) = next(&mut watch, 547);
    assert_eq!(rule(&reading, text).unwrap().0, 200);
    // Rates are rounded to a tenth, and there were a few dozen readings at most.
    for (sum, packets) in sums.into_iter().zip([540.0, 500.0, 500.0, 540.0, 500.0, 500.0]) {
        assert!((sum - packets).abs() < 8.0, "{sums:?}");
    }
    watch.interrupt();
    let end = watch.wait();
    assert_eq!((end.status, &*end.stderr), (Some(0), ""), "{end}");
}

/// Somewhere else than on a terminal readings come one behind the other.
#[test]
#[ignore = "needs root and BPF"]
fn a_watch_ends_with_who_reads_it_and_with_what_it_watches() {
    let lab = Lab::attached("generic", "");
    let mut watch = Watch::start(lab.command(&["stats", "--watch", "1s"]));
    assert_eq!(watch.line(), format!("{SERVER_END}, every 1s, for 0s"));
    let mut rates = Vec::new();
    while rates.len() < 2 {
        let line = watch.line();
        assert!(!line.contains('\x1b'), "{line:?}");
        if line.starts_with("  a second ") {
            rates.push(line);
        }
    }
    // Nobody reads any more.
    drop(watch.lines.take());
    let end = watch.wait();
    assert_eq!((end.status, &*end.stderr), (Some(0), ""), "{end}");

    let mut one = Watch::start(lab.command(&["stats", SERVER_END, "--watch", "1s", "--json"]));
    let mut all = Watch::start(lab.command(&["stats", "--watch", "1s", "--json"]));
    let _ = (one.reading(), all.reading());
    let _ = lab.icmpctl(&["detach", SERVER_END]).ok();
    one.wait().fails(1, &["icmpctl is not attached to server0"]);
    all.wait().fails(1, &["icmpctl is attached to no interface"]);
    lab.icmpctl(&["stats", "--watch", "1s"]).fails(1, &["icmpctl is attached to no interface"]);

    let _ = lab.icmpctl(&["attach", SERVER_END]).ok();
    let mut one = Watch::start(lab.command(&["stats", SERVER_END, "--watch", "1s", "--json"]));
    let mut all = Watch::start(lab.command(&["stats", "--watch", "1s", "--json"]));
    let _ = (one.reading(), all.reading());
    lab.server.ip(&format!("link delete {SERVER_END}"));
    one.wait().fails(1, &["server0 is gone"]);
    all.wait().fails(1, &["server0 is gone"]);
}

/// On a terminal a reading takes the place of the one before, and no more room than there is; Ctrl-C ends it.
#[test]
#[ignore = "needs root and BPF"]
fn a_watching_terminal_shows_the_last_reading_alone() {
    let lab = Lab::attached("generic", "");
    pings(&lab, 3);
    let command = lab.command(&["stats", SERVER_END, "--watch", "1s"]);
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_str().unwrap()).collect();
    let mut script = Command::new("script");
    let line = format!("stty rows 5 cols 40; exec {}", words.join(" "));
    script.args(["--quiet", "--flush", "--return", "--command", &line, "/dev/null"]);
    let mut watch = Watch::start(script);
    let mut screens = String::new();
    let mut lines = watch.lines.take().unwrap();
    while screens.matches("\x1b[H").count() < 4 {
        screens += &lines.next().unwrap().unwrap();
        screens += "\n";
    }
    watch.child.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    watch.lines = Some(lines);
    let end = watch.wait();
    assert_eq!(end.status, Some(0), "{end}");
    let screens: Vec<_> = screens.split("\x1b[H").collect();
    assert_eq!(screens[0], "");
    for screen in &screens[1..3] {
        let (screen, rest) = screen.split_once("\x1b[J").unwrap();
        assert_eq!(rest, "");
        let lines: Vec<_> = screen.lines().map(|line| line.strip_suffix("\x1b[K").unwrap()).collect();
        assert_eq!(lines.len(), 5, "{screen}");
        assert!(lines.iter().all(|line| line.chars().count() <= 40), "{screen}");
        assert!(lines[0].starts_with("server0, every 1s") && lines[2].starts_with("ipv4"), "{screen}");
    }
}
