//! `cargo xtask run`: the lab shows what it promises, and leaves nothing behind, however it ends.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
    sync::{Mutex, PoisonError},
    thread::sleep,
    time::{Duration, Instant},
};

use icmp_tests::icmpctl::xtask;
use rustix::process::{Pid, Signal, kill_process};

/// The lab's names are fixed, so that there can be but one at a time.
static ONE_LAB: Mutex<()> = Mutex::new(());

/// What a lab that is up can be told by.
const TRACES: [&str; 3] = ["/run/netns/icmpctl-server", "/run/netns/icmpctl-client", "/run/icmpctl/lab"];

fn lab(arguments: &[&str]) -> Command {
    let mut command = Command::new(xtask());
    command.args(["run", "--no-install"]).args(arguments).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn assert_nothing_is_left() {
    for trace in TRACES {
        assert!(!Path::new(trace).exists(), "{trace} is left");
    }
    let records = std::fs::read_dir("/run/icmpctl").into_iter().flatten().flatten();
    let records: Vec<_> = records.filter_map(|entry| std::fs::read_to_string(entry.path()).ok()).collect();
    assert!(
        !records.iter().any(|record| record.contains("server0\"") && record.contains("icmpctl/lab")),
        "{records:?}"
    );
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Real clients of both families are answered by the program, or as an access list says; a flood of each is answered by the
/// program and by the stack, and accounted for while policies are swapped.
#[test]
#[ignore = "needs root and BPF"]
fn the_lab_shows_who_answers() {
    let _one = ONE_LAB.lock().unwrap_or_else(PoisonError::into_inner);
    let output = lab(&[]).output().unwrap();
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    for wanted in [
        "ping 192.0.2.1",
        "ping 2001:db8::1",
        "ping -f",
        "Packet filtered",
        "Administratively prohibited",
        "SWAPPED UNDER A FLOOD",
        "program, IPv6",
        "kernel stack, IPv4",
        "times as many",
    ] {
        assert!(text.contains(wanted), "{wanted:?} is missing in:\n{text}");
    }
    assert!(!text.contains("FAILED"), "{text}");
    assert_nothing_is_left();
}

/// Ctrl-C, wherever it comes: the exit status says so, and nothing is left.
#[test]
#[ignore = "needs root and BPF"]
fn an_interrupted_lab_leaves_nothing() {
    let _one = ONE_LAB.lock().unwrap_or_else(PoisonError::into_inner);
    for delay in [0, 300, 3000] {
        let child = lab(&[]).spawn().unwrap();
        let begin = Instant::now();
        while !Path::new(TRACES[0]).exists() {
            assert!(begin.elapsed() < Duration::from_secs(60), "the lab does not come up");
            sleep(Duration::from_millis(5));
        }
        sleep(Duration::from_millis(delay));
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = text(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("interrupted"), "{text}");
        assert_nothing_is_left();
    }
}

/// A lab that was kept says how to remove it; the next one does not touch it; and the commands do remove it.
#[test]
#[ignore = "needs root and BPF"]
fn a_kept_lab_can_be_removed_as_it_says() {
    let _one = ONE_LAB.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = lab(&["--keep"]).output().unwrap();
    let said = text(&kept);
    let second = lab(&[]).output().unwrap();
    let (_, commands) = said.split_once("To remove it:").expect("no commands to remove it");
    let commands = commands.lines().filter(|line| line.starts_with("  ")).collect::<Vec<_>>().join("\n");
    let removed = Command::new("sh").args(["-ec", &commands]).output().unwrap();
    assert!(removed.status.success(), "{commands}\n{}", text(&removed));
    assert_nothing_is_left();
    assert!(kept.status.success(), "{said}");
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second).contains("a lab is still there"), "{}", text(&second));
}
