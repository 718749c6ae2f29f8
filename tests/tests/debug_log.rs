//! A kernel half that is built to log says what each step of a packet has come to.

use std::{fs, path::Path, process::Command};

use icmp_tests::{
    icmpctl::{self, Running, wait_until},
    netns::{Lab, SERVER_END, run},
    ping::ping,
};

/// Each step of an answered request and of one that a rule denies is logged, also by a program that has taken the first one's place.
#[test]
#[ignore = "needs root and BPF"]
fn each_step_is_logged() {
    run(Command::new(icmpctl::xtask()).args(["build", "--debug-log", "--no-install"]));
    let logging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/debug-log/debug/icmpctl");
    let lab = Lab::new();
    let policy = lab.policy("respond.to = ['own']");
    let plain = lab.command(&[
        "run",
        SERVER_END,
        "--mode",
        "generic",
        "--trace",
        "--policy",
        policy.to_str().unwrap(),
    ]);
    let mut command = Command::new(logging);
    command.args(plain.get_args());
    let running = Running::start(command);
    wait_until(|| lab.server.xdp_program(SERVER_END).is_some());
    let logs = |wanted: &[&str]| {
        wait_until(|| {
            let _ = ping(&lab.client, "-c 1 192.0.2.1");
            let said = running.said();
            wanted.iter().all(|line| said.contains(line))
        });
    };
    logs(&["parse: ICMP over IPv4", "answer: reason 0", "count: IPv4 under reason 0"]);
    fs::write(&policy, "acl.rules = 'deny icmp4 any any echo'").unwrap();
    logs(&["classify: ruling 1 by the rule in slot "]);
}
