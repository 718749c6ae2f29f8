//! `cargo xtask bench`: a measure that holds, errors that help, and nothing that is left behind.

use std::{
    collections::BTreeSet,
    process::{Command, Output, Stdio},
    sync::{Mutex, PoisonError},
    thread::sleep,
    time::{Duration, Instant},
};

use icmp_tests::icmpctl::xtask;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// One that is interrupted is told by its programs in the kernel.
static ONE_BENCH: Mutex<()> = Mutex::new(());

/// The longest that anything may take here.
const PATIENCE: Duration = Duration::from_secs(120);

fn bench(arguments: &[&str]) -> Command {
    let mut command = Command::new(xtask());
    command.args(["bench", "--no-install", "--quick"]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Numbers of the programs by which those are called that are timed, of every bench there is.
fn entries() -> BTreeSet<u64> {
    let output = Command::new("bpftool").args(["--json", "prog", "list"]).output().unwrap();
    let programs: Value = serde_json::from_slice(&output.stdout).unwrap();
    let entries = programs.as_array().unwrap().iter().filter(|program| program["name"] == "enter");
    entries.map(|program| program["id"].as_u64().unwrap()).collect()
}

fn wait_until(holds: impl Fn() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE);
        sleep(Duration::from_millis(20));
    }
}

/// A bare MAC swap, which is measured like everything else, takes as long as itself.
#[test]
#[ignore = "needs root and BPF"]
fn what_is_equal_takes_as_long() {
    let _one = ONE_BENCH.lock().unwrap_or_else(PoisonError::into_inner);
    let output = bench(&["--json", "--only", "bare MAC swap"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let cases = report["packets"]["cases"].as_array().unwrap();
    assert_eq!((cases.len(), report["end_to_end"].as_array().unwrap().len()), (1, 0));
    let ratio = cases[0]["ratio_to_mac_swap"]["median"].as_f64().unwrap();
    assert!((0.7..1.4).contains(&ratio), "{ratio}");
}

#[test]
#[ignore = "needs root and BPF"]
fn a_text_that_no_case_has_is_an_error() {
    let output = bench(&["--only", "no such case"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no case has \"no such case\" in its name"), "{}", stderr(&output));
}

/// Ctrl-C in the middle of it: no program stays.
#[test]
#[ignore = "needs root and BPF"]
fn an_interrupted_bench_leaves_nothing() {
    let _one = ONE_BENCH.lock().unwrap_or_else(PoisonError::into_inner);
    let before = entries();
    let mut child = bench(&["--only", "TCP"]).spawn().unwrap();
    wait_until(|| entries().difference(&before).next().is_some());
    let entries_then = entries();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert!(!child.wait().unwrap().success());
    wait_until(|| entries().intersection(&entries_then).all(|entry| before.contains(entry)));
}
