//! `icmpctl doctor` on real interfaces: what it finds is what the kernel's own tools find, and what it says becomes of an attempt.

use std::process::Command;

use icmp_tests::{
    icmpctl::{Finished, binary, without_bpf},
    netns::{CLIENT_END, Lab, SERVER_END, run},
};
use serde_json::Value;

/// What the doctor finds about an interface and this kernel, and whether it sees a problem.
fn examine(lab: &Lab, interface: &str) -> (Value, bool) {
    report(lab.icmpctl(&["doctor", interface, "--json"]))
}

fn report(finished: Finished) -> (Value, bool) {
    let report = serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished}"));
    assert!(finished.status == Some(0) || finished.status == Some(1), "{finished}");
    (report, finished.status == Some(1))
}

/// One finding about an interface.
#[track_caller]
fn of(report: &Value, interface: &str, about: &str) -> Value {
    one(&report["interfaces"][interface], about)
}

/// One finding of several.
#[track_caller]
fn one(findings: &Value, about: &str) -> Value {
    let found = findings.as_array().unwrap().iter().find(|finding| finding["about"] == about);
    found.unwrap_or_else(|| panic!("nothing about {about} in {findings:#}")).clone()
}

#[track_caller]
fn says(finding: &Value, level: &str, part: &str) {
    assert_eq!(finding["level"], level, "{finding:#}");
    assert!(finding.to_string().contains(part), "{part:?} is missing in {finding:#}");
}

/// Where our own tests can run there is nothing that keeps icmpctl from working; and nothing stays of trying that.
#[test]
#[ignore = "needs root and BPF"]
fn a_kernel_that_runs_the_tests_has_no_problem() {
    let lab = Lab::new();
    let (found, problem) = examine(&lab, SERVER_END);
    assert!(!problem, "{found:#}");
    for about in ["XDP programs", "large tables", "compare-and-swap", "clock TAI", "link update"] {
        says(&one(&found["kernel"], about), "ok", "there");
    }
    let hz = one(&found["kernel"], "clock of rates");
    // All that kernel/Kconfig.hz offers.
    let hz = hz["found"].as_str().unwrap().to_owned();
    assert!([100, 250, 300, 1000].iter().any(|of| hz == format!("{of} ticks a second")), "{hz}");
    says(&of(&found, SERVER_END, "XDP program"), "ok", "none is attached");
    lab.assert_nothing_left();

    let text = lab.icmpctl(&["doctor"]).ok();
    let line = text.lines().find(|line| line.contains(SERVER_END)).unwrap_or_else(|| panic!("{text}"));
    assert!(line.trim_start().starts_with("note") && line.contains("veth, MTU 1500, up"), "{text}");
    // Not to a terminal.
    assert!(!text.contains('\x1b'), "{text:?}");
    lab.icmpctl(&["doctor", "nosuch0"]).fails(1, &["there is no interface nosuch0", "`ip link` lists"]);
}

/// Offloads and queues are those that ethtool shows.
#[test]
#[ignore = "needs root and BPF"]
fn offloads_and_queues_are_ethtools() {
    let lab = Lab::new();
    let ethtool = |arguments: &str| run(lab.server.command("ethtool").args(arguments.split(' ')));
    // Tags of 802.1Q, and those of 802.1ad.
    for (state, outer, level) in [("on", "on", "note"), ("off", "on", "note"), ("off", "off", "ok")] {
        ethtool(&format!("-K {SERVER_END} rxvlan {state} rx-vlan-stag-hw-parse {outer}"));
        let shown = ethtool(&format!("-k {SERVER_END}"));
        for (name, state) in [("rx-vlan-offload", state), ("rx-vlan-stag-hw-parse", outer)] {
            assert!(shown.contains(&format!("{name}: {state}\n")), "{shown}");
        }
        assert_eq!(of(&examine(&lab, SERVER_END).0, SERVER_END, "VLAN tags")["level"], level);
    }
    let shown = ethtool(&format!("-l {SERVER_END}"));
    let now = shown.split("Current hardware settings:").nth(1).unwrap();
    let count = |name: &str| {
        let line = now.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().parse::<u32>().unwrap_or(0)
    };
    let both = count("Combined:");
    let expected = format!("{} to receive, {} to send", both + count("RX:"), both + count("TX:"));
    assert!(both + count("RX:") > 0, "{shown}");
    let queues = of(&examine(&lab, SERVER_END).0, SERVER_END, "queues");
    assert!(queues["found"].as_str().unwrap().starts_with(&expected), "{queues:#} {shown}");
}

/// What is said of an MTU is what comes of attaching natively there.
#[test]
#[ignore = "needs root and BPF"]
fn native_mode_takes_what_is_said_that_it_takes() {
    for mtu in [1500, 9000] {
        let lab = Lab::new();
        lab.server.ip(&format!("link set {SERVER_END} mtu {mtu}"));
        lab.client.ip(&format!("link set {CLIENT_END} mtu {mtu}"));
        let (found, _) = examine(&lab, SERVER_END);
        let said = of(&found, SERVER_END, "MTU");
        assert!(said["found"].as_str().unwrap().starts_with(&format!("{mtu} bytes")), "{said:#}");
        says(&of(&found, SERVER_END, "native mode"), "note", "the driver has it");
        let attached = lab.icmpctl(&["attach", SERVER_END, "--mode", "native"]);
        assert_eq!(attached.status == Some(0), said["level"] == "ok", "{said:#} {attached}");
        if attached.status == Some(0) {
            let (found, problem) = examine(&lab, SERVER_END);
            says(&of(&found, SERVER_END, "XDP program"), "ok", "icmpctl's");
            assert!(!problem, "{found:#}");
        }
    }
    // A driver of which the kernel says that it has no native mode has none.
    let lab = Lab::new();
    says(&of(&examine(&lab, "lo").0, "lo", "native mode"), "note", "the driver has none");
    lab.icmpctl(&["attach", "lo", "--mode", "native"])
        .fails(1, &["refuses native mode", "`icmpctl doctor lo`"]);
}

/// Somebody else's program is a problem to whoever asks about its interface, and a note to whoever asks about all.
#[test]
#[ignore = "needs root and BPF"]
fn foreign_programs_are_named() {
    let lab = Lab::new();
    let foreign = lab.server.attach_pass(SERVER_END);
    let id = lab.server.xdp_program(SERVER_END).unwrap();
    let (found, problem) = examine(&lab, SERVER_END);
    assert!(problem);
    let finding = of(&found, SERVER_END, "XDP program");
    says(&finding, "problem", &format!("somebody else's, program {id} in native mode, named \\\"pass\\\""));
    says(&finding, "problem", "--force");
    assert_eq!(lab.server.xdp_program(SERVER_END), Some(id));
    let text = lab.icmpctl(&["doctor"]).ok();
    assert!(text.contains("worth knowing: XDP program"), "{text}");
    drop(foreign);
}

/// Ports and what lies upon other interfaces are told where to attach instead.
#[test]
#[ignore = "needs root and BPF"]
fn ports_and_parents_are_named() {
    let lab = Lab::new();
    lab.server.ip("link add bridge0 type bridge");
    lab.server.ip(&format!("link set {SERVER_END} master bridge0"));
    lab.server.ip("link add up0 type veth peer name up1");
    lab.server.ip("link add link up0 name above0 type macvlan");
    lab.server.ip("tuntap add dev tunnel0 mode tun");
    let (found, _) = examine(&lab, SERVER_END);
    says(&of(&found, SERVER_END, "port"), "note", "of the bridge bridge0");
    says(&of(&examine(&lab, "bridge0").0, "bridge0", "bridge"), "note", "attach to a port");
    says(&of(&examine(&lab, "above0").0, "above0", "parent"), "note", "macvlan upon up0");
    says(&of(&examine(&lab, "up0").0, "up0", "interface"), "note", "ip link set up0 up");
    // The other end of a veth is no parent.
    let of_veth = examine(&lab, "up0").0["interfaces"]["up0"].to_string();
    assert!(!of_veth.contains("up1"), "{of_veth}");
    let (found, problem) = examine(&lab, "tunnel0");
    says(&of(&found, "tunnel0", "interface"), "problem", "not Ethernet");
    assert!(problem);
}

/// Settings of the stack that XDP does not ask for, and one that it does.
#[test]
#[ignore = "needs root and BPF"]
fn c96_c97_settings_of_the_stack_are_told() {
    let lab = Lab::new();
    let (found, _) = examine(&lab, SERVER_END);
    assert!(!found.to_string().contains("echo_ignore_all"), "{found:#}");
    lab.server.sysctl("ipv4/icmp_echo_ignore_all", "1");
    lab.server.sysctl(&format!("ipv4/conf/{SERVER_END}/rp_filter"), "1");
    lab.server.sysctl(&format!("ipv4/conf/{SERVER_END}/forwarding"), "1");
    let (found, problem) = examine(&lab, SERVER_END);
    says(&one(&found["kernel"], "stack's pings"), "note", "set: net.ipv4.icmp_echo_ignore_all\"");
    says(&of(&found, SERVER_END, "rp_filter"), "note", "XDP runs before it");
    says(&of(&found, SERVER_END, "forwarding"), "ok", "on for IPv4, off for IPv6");
    assert!(!problem);
}

/// Whoever lacks privileges reads which, and still what can be seen without them.
#[test]
#[ignore = "needs root and BPF"]
fn missing_privileges_are_a_problem() {
    let lab = Lab::new();
    let foreign = lab.server.attach_pass(SERVER_END);
    let mut command = lab.server.command("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(lab.binary_for_everybody());
    command.arg("--bpffs").arg(lab.bpffs.path()).args(["doctor", SERVER_END, "--json"]);
    let (found, problem) = report(command.output().unwrap().into());
    assert!(problem);
    says(&one(&found["kernel"], "privileges"), "problem", "lacks CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON");
    says(&of(&found, SERVER_END, "native mode"), "note", "the driver has it");
    says(&of(&found, SERVER_END, "XDP program"), "note", "more privileges");
    drop(foreign);
}

/// What is wrong with the kernel or its set-up is a problem, whichever interface is meant.
#[test]
#[ignore = "needs root and BPF"]
fn problems_of_the_kernel_are_problems_everywhere() {
    let lab = Lab::new();
    for (error, part) in [(libc::ENOSYS, "CONFIG_BPF_SYSCALL"), (libc::EPERM, "lockdown")] {
        let mut command = lab.command(&["doctor", "--json"]);
        let (found, problem) = report(without_bpf(&mut command, error).output().unwrap().into());
        says(&one(&found["kernel"], "XDP programs"), "problem", part);
        assert!(problem);
    }
    let mut old = lab.server.command("setarch");
    old.arg("--uname-2.6").arg(binary()).arg("--bpffs").arg(lab.bpffs.path()).args(["doctor", "--json"]);
    let (found, problem) = report(old.output().unwrap().into());
    says(&one(&found["kernel"], "kernel"), "problem", "boot Linux 6.1 or later");
    assert!(problem);
    let mut elsewhere = Command::new(binary());
    elsewhere.args(["--netns", lab.server.name(), "--bpffs"]).arg(lab.files.path()).arg("doctor");
    let finished = Finished::from(elsewhere.output().unwrap());
    assert!(finished.stdout.contains("none is mounted at"), "{finished}");
    finished.fails(1, &["problems that keep icmpctl from working"]);
}
