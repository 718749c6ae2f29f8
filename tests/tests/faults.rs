//! Bad input and faults: what the real binary says, its exit status, and that nothing is lost or left behind.

use std::{fs, io, iter::repeat_with, path::Path, process::Command, thread};

use aya::{
    EbpfLoader,
    programs::{Xdp, XdpMode},
};
use icmp_tests::{
    icmpctl::{self, Finished, Running, holds, wait_until},
    netns::{CLIENT_END, Lab, SERVER_END, SERVER4, run},
};
use icmp_userspace::kernel::bpf::XdpLink;
use rustix::process::Signal;

const ATTACH: [&str; 2] = ["attach", SERVER_END];

/// Sends a ping that must be answered, by whomever.
fn ping(lab: &Lab) {
    run(lab.client.command("ping").args(["-n", "-c", "1", "-W", "2", SERVER4]));
}

fn finish(command: &mut Command) -> Finished {
    command.output().unwrap().into()
}

/// Attaches by a policy that must be refused.
fn attach_with(lab: &Lab, policy: &Path) -> Finished {
    let finished = lab.icmpctl(&["attach", SERVER_END, "--policy", policy.to_str().unwrap()]);
    lab.assert_nothing_left();
    finished
}

#[test]
#[ignore = "needs root and BPF"]
fn usage_errors_exit_with_2() {
    let lab = Lab::new();
    for (arguments, parts) in [
        (&["attach"][..], &["<INTERFACE>", "Usage"][..]),
        (&["attach", SERVER_END, "--mode", "fast"], &["fast", "native"]),
        (&["atach", SERVER_END], &["atach", "attach"]),
        (&[], &["Usage"]),
    ] {
        lab.icmpctl(arguments).fails(2, parts);
    }
    lab.assert_nothing_left();
}

#[test]
#[ignore = "needs root and BPF"]
fn missing_interfaces_are_named() {
    let lab = Lab::new();
    for verb in ["attach", "run", "detach", "status", "stats"] {
        lab.icmpctl(&[verb, "nosuch0"]).fails(1, &["there is no interface nosuch0", "`ip link` lists"]);
    }
    // Longer than any interface's name can be.
    lab.icmpctl(&["attach", "an-interface-with-a-long-name"])
        .fails(1, &["there is no interface an-interface-with-a-long-name"]);
    lab.assert_nothing_left();
}

#[test]
#[ignore = "needs root and BPF"]
fn missing_network_namespaces_are_named() {
    let finished = finish(Command::new(icmpctl::binary()).args(["--netns", "nosuch", "status"]));
    finished.fails(1, &["entering the network namespace nosuch", "`ip netns list` lists"]);
}

/// Whoever is not root reads which capabilities are missing, whatever the verb.
#[test]
#[ignore = "needs root and BPF"]
fn missing_capabilities_are_named() {
    let lab = Lab::new();
    let binary = lab.binary_for_everybody();
    let without = |drop: &[&str], verb: &[&str]| {
        let mut command = lab.server.command("setpriv");
        command.args(drop).arg(&binary).arg("--bpffs").arg(lab.bpffs.path());
        command.arg("--state").arg(lab.state()).args(verb);
        finish(&mut command)
    };
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    for verb in [&ATTACH[..], &["run", SERVER_END], &["detach", SERVER_END], &["status"], &["stats"]] {
        without(&nobody, verb).fails(
            1,
            &[
                "needs the capabilities CAP_BPF, CAP_NET_ADMIN",
                "lacks CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON",
                "root",
            ],
        );
    }
    let mut inside = Command::new("setpriv");
    inside.args(nobody).arg(&binary).args(["--netns", lab.server.name(), "status"]);
    finish(&mut inside).fails(1, &["lacks CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON"]);
    let said =
        without(&["--bounding-set=-net_admin"], &ATTACH).fails(1, &["this process lacks CAP_NET_ADMIN:"]);
    assert!(!said.contains("lacks CAP_BPF"), "{said}");
    lab.assert_nothing_left();
}

/// All that the binary needs of root's capabilities is what it says that it needs.
#[test]
#[ignore = "needs root and BPF"]
fn named_capabilities_are_enough() {
    let lab = Lab::new();
    let mut command = lab.server.command("setpriv");
    command.args(["--bounding-set=-all,+bpf,+net_admin,+perfmon", "--inh-caps=-all"]);
    command.arg(icmpctl::binary()).arg("--bpffs").arg(lab.bpffs.path());
    command.arg("--state").arg(lab.state()).args(ATTACH);
    let _ = finish(&mut command).ok();
    assert_eq!(lab.status()[0]["state"], "attached");
}

#[test]
#[ignore = "needs root and BPF"]
fn missing_bpf_file_system_is_named() {
    let lab = Lab::new();
    for (place, verb) in [
        (lab.files.path(), &ATTACH[..]),
        (Path::new("/nonexistent"), &ATTACH),
        (lab.files.path(), &["status"]),
    ] {
        let mut command = Command::new(icmpctl::binary());
        command.args(["--netns", lab.server.name(), "--bpffs"]).arg(place).args(verb);
        let place = place.display();
        finish(&mut command).fails(
            1,
            &[
                &format!("no BPF file system is mounted at {place}"),
                &format!("mount -t bpf bpf {place}"),
                "--bpffs",
            ],
        );
    }
    lab.assert_nothing_left();
}

/// Where the driver has no native mode, demanding it is an error that says so; nothing is left.
#[test]
#[ignore = "needs root and BPF"]
fn refused_native_mode_is_an_error_where_it_is_demanded() {
    let lab = Lab::new();
    for verb in ["attach", "run"] {
        lab.icmpctl(&[verb, "lo", "--mode", "native"])
            .fails(1, &["lo refuses native mode", "its driver has no XDP", "--mode generic", "--mode auto"]);
        lab.assert_nothing_left();
    }
}

/// A driver without native mode (the loopback interface's): `--mode auto` falls back, says so, and `status` tells why.
#[test]
#[ignore = "needs root and BPF"]
fn refused_native_mode_falls_back_and_says_why() {
    let lab = Lab::new();
    lab.icmpctl(&["attach", "lo", "--mode", "native"])
        .fails(1, &["lo refuses native mode", "its driver has no XDP"]);
    let attached = lab.icmpctl(&["attach", "lo"]);
    assert!(attached.stderr.contains("warning: lo runs in generic mode"), "{attached}");
    assert!(attached.stderr.contains("its driver has no XDP"), "{attached}");
    let _ = attached.ok();
    let status = lab.status();
    assert_eq!((&status[0]["interface"], &status[0]["mode"]), (&"lo".into(), &"generic".into()));
    assert!(status[0]["why_generic"].as_str().unwrap().contains("its driver has no XDP"), "{status:?}");
    let text = lab.icmpctl(&["status"]).ok();
    assert!(text.contains("lo: generic mode, not native:"), "{text}");
    let _ = lab.icmpctl(&["detach", "lo"]).ok();
    lab.assert_nothing_left();
}

/// A program that somebody attached by a link is never replaced but with `--force`.
#[test]
#[ignore = "needs root and BPF"]
fn foreign_programs_stay_without_force() {
    let lab = Lab::new();
    let foreign = lab.server.attach_pass(SERVER_END);
    let id = lab.server.xdp_program(SERVER_END).unwrap();
    for verb in ["attach", "run"] {
        lab.icmpctl(&[verb, SERVER_END]).fails(
            1,
            &[
                &format!("another XDP program (id {id}, named \"pass\")"),
                SERVER_END,
                "bpftool prog show",
                "--force",
            ],
        );
        assert_eq!(lab.server.xdp_program(SERVER_END), Some(id));
    }
    lab.icmpctl(&["detach", SERVER_END]).fails(1, &["not attached"]);
    assert_eq!(lab.server.xdp_program(SERVER_END), Some(id));

    let _ = lab.icmpctl(&["attach", SERVER_END, "--force"]).ok();
    assert_eq!(lab.server.xdp_program(SERVER_END), lab.status()[0]["program"].as_u64());
    ping(&lab);
    assert_eq!(lab.counted("ipv4", "echo"), 1);
    let _ = lab.icmpctl(&["detach", SERVER_END]).ok();
    drop(foreign);
    lab.assert_nothing_left();
}

/// Links have ids before they can be opened: whoever looks through all of them while somebody else attaches meets such a one.
#[test]
#[ignore = "needs root and BPF"]
fn links_that_are_being_made_are_waited_for() {
    let lab = Lab::new();
    let index = lab.server.index(SERVER_END);
    thread::scope(|scope| {
        let others = scope.spawn(|| {
            let mut object = EbpfLoader::new().load_file(icmpctl::instruments()).unwrap();
            let pass: &mut Xdp = object.program_mut("pass").unwrap().try_into().unwrap();
            pass.load().unwrap();
            lab.client.enter(|| {
                // Whoever looks at a link holds it for a moment, so that the interface may not be free again at once.
                let attach = || {
                    let link = pass.attach(CLIENT_END, XdpMode::Driver);
                    link.and_then(|link| pass.detach(link)).is_ok()
                };
                repeat_with(attach).take(10_000).filter(|attached| *attached).take(50).count()
            })
        });
        lab.server.enter(|| {
            while !others.is_finished() {
                assert!(XdpLink::find(index, 0).unwrap().is_none());
            }
        });
        assert_eq!(others.join().unwrap(), 50);
    });
}

/// The same for a program that was attached through netlink, as iproute2 and older loaders do.
#[test]
#[ignore = "needs root and BPF"]
fn foreign_programs_without_a_link_stay_without_force() {
    for mode in ["xdpdrv", "xdpgeneric"] {
        let lab = Lab::new();
        let pin = lab.bpffs.path().join("foreign");
        run(Command::new("bpftool").args(["prog", "loadall"]).arg(icmpctl::instruments()).arg(&pin));
        let pass = pin.join("pass");
        lab.server.ip(&format!("link set dev {SERVER_END} {mode} pinned {}", pass.display()));
        fs::remove_dir_all(&pin).unwrap();
        let id = lab.server.xdp_program(SERVER_END).unwrap();
        lab.icmpctl(&ATTACH).fails(1, &[&format!("another XDP program (id {id}"), "--force"]);
        assert_eq!(lab.server.xdp_program(SERVER_END), Some(id));
        let _ = lab.icmpctl(&["attach", SERVER_END, "--force"]).ok();
        ping(&lab);
        assert_eq!(lab.counted("ipv4", "echo"), 1);
        let _ = lab.icmpctl(&["detach", SERVER_END]).ok();
        lab.assert_nothing_left();
    }
}

/// While `icmpctl run` is up nobody else changes its interface; the message names it.
#[test]
#[ignore = "needs root and BPF"]
fn the_lock_keeps_others_out() {
    let lab = Lab::new();
    let running = lab.start(&["run", SERVER_END]);
    let program = lab.server.xdp_program(SERVER_END);
    for verb in ["attach", "run", "detach"] {
        lab.icmpctl(&[verb, SERVER_END]).fails(
            1,
            &[&format!("another icmpctl (pid {}, icmpctl run) is working on {SERVER_END}", running.pid())],
        );
        assert_eq!(lab.server.xdp_program(SERVER_END), program);
    }
    assert_eq!(lab.status()[0]["follower"], running.pid());
    running.signal(Signal::TERM);
    let _ = running.wait().ok();
    lab.assert_nothing_left();
}

#[test]
#[ignore = "needs root and BPF"]
fn policies_that_cannot_be_read_are_named() {
    let lab = Lab::new();
    let missing = lab.files.path().join("missing.toml");
    attach_with(&lab, &missing)
        .fails(1, &[&format!("reading the policy {}", missing.display()), "No such file"]);
    let directory = lab.files.path();
    attach_with(&lab, directory)
        .fails(1, &[&format!("reading the policy {}", directory.display()), "Is a directory"]);
    let binary = lab.files.path().join("binary.toml");
    fs::write(&binary, [0xff, 0xfe, 0x00]).unwrap();
    attach_with(&lab, &binary)
        .fails(1, &[&format!("reading the policy {}", binary.display()), "invalid utf-8"]);
}

/// Mistakes in a policy are shown with file, line, column, the line itself and what would be right; exit status 3.
#[test]
#[ignore = "needs root and BPF"]
fn mistakes_in_policies_are_shown() {
    let lab = Lab::new();
    for (text, parts) in [
        ("[respond\nttl = 1\n", &["policy.toml:1:", "not TOML", "1 | [respond"][..]),
        (
            "[respond]\ntll = 64\n",
            &["policy.toml:2:1:", "unknown key in [respond]: tll", "^^^", "did you mean ttl?"],
        ),
        ("[respnd]\n", &["policy.toml:1:2:", "unknown table: respnd", "did you mean respond?"]),
        (
            "[respond]\nto = [\"192.0.2.1/24\"]\n",
            &["policy.toml:2:7:", "192.0.2.1/24 has host bits set", "the prefix is 192.0.2.0/24"],
        ),
        ("respond.ttl = 256\n", &["policy.toml:1:15:", "expected a number from 1 to 255, found 256"]),
        ("respond.to = [\"ff02::1\"]\n", &["policy.toml:1:15:", "ff00::/8 is multicast"]),
    ] {
        let policy = lab.policy(text);
        attach_with(&lab, &policy).fails(3, parts);
    }
}

/// Rules that tables have no room for are refused, and named; exit status 3.
#[test]
#[ignore = "needs root and BPF"]
fn too_large_policies_are_refused() {
    let lab = Lab::new();
    let rules = (1..=65).map(|ttl| format!("permit icmp any any echo ttl {ttl}-{ttl}\n"));
    let policy = lab.policy(&format!("acl.rules = \"\"\"\n{}\"\"\"", rules.collect::<String>()));
    attach_with(&lab, &policy)
        .fails(3, &["rule 10, rule 20", "may all apply to one packet", "sets of their own"]);
}

/// A policy with mistakes changes nothing where one is in force.
#[test]
#[ignore = "needs root and BPF"]
fn a_broken_policy_changes_nothing() {
    let lab = Lab::new();
    let _ = lab.icmpctl(&ATTACH).ok();
    ping(&lab);
    let before = (lab.status(), lab.counted("ipv4", "echo"));
    let policy = lab.policy("respond.tll = 1");
    for verb in ["attach", "run"] {
        lab.icmpctl(&[verb, SERVER_END, "--policy", policy.to_str().unwrap()]).fails(3, &["tll"]);
        assert_eq!((lab.status(), lab.counted("ipv4", "echo")), before);
    }
    ping(&lab);
    assert_eq!(lab.counted("ipv4", "echo"), 2);
}

/// The interface goes away while `icmpctl run` is up: it ends with an error, and its pins are gone.
#[test]
#[ignore = "needs root and BPF"]
fn a_vanishing_interface_ends_run() {
    let lab = Lab::new();
    let running = lab.start(&["run", SERVER_END]);
    assert!(holds(&lab.pins(), "link"));
    lab.server.ip(&format!("link delete {SERVER_END}"));
    running.wait().fails(1, &[&format!("{SERVER_END} is gone: its pins have been removed")]);
    lab.assert_no_pins();
    assert!(lab.status().is_empty());
}

/// The interface goes away while nobody looks: the pins that stay are shown as stale, and `detach` removes them.
#[test]
#[ignore = "needs root and BPF"]
fn stale_pins_are_shown_and_removed() {
    let lab = Lab::new();
    let _ = lab.icmpctl(&ATTACH).ok();
    lab.server.ip(&format!("link delete {SERVER_END}"));
    let status = lab.status();
    assert_eq!((&status[0]["interface"], &status[0]["state"]), (&SERVER_END.into(), &"stale".into()));
    let text = lab.icmpctl(&["status"]).ok();
    assert!(text.contains(&format!("`icmpctl detach {SERVER_END}` removes them")), "{text}");
    let _ = lab.icmpctl(&["detach", SERVER_END]).ok();
    lab.assert_no_pins();
    assert!(lab.status().is_empty());
    lab.icmpctl(&["detach", SERVER_END]).fails(1, &["there is no interface"]);
}

#[test]
#[ignore = "needs root and BPF"]
fn a_kernel_without_bpf_is_named() {
    let lab = Lab::new();
    for verb in ["attach", "run"] {
        finish(icmpctl::without_bpf(&mut lab.command(&[verb, SERVER_END]), libc::ENOSYS))
            .fails(1, &["this kernel can't", "Linux 6.1 or later", "CONFIG_BPF_SYSCALL"]);
        lab.assert_nothing_left();
    }
}

/// A kernel that is too old is told so, whatever it says about what it does not know: here by another name for it.
#[test]
#[ignore = "needs root and BPF"]
fn a_kernel_that_is_too_old_is_told_which_is_needed() {
    let lab = Lab::new();
    for error in [libc::EINVAL, libc::E2BIG] {
        let mut old = lab.server.command("setarch");
        old.arg("--uname-2.6").arg(icmpctl::binary()).arg("--bpffs").arg(lab.bpffs.path());
        old.arg("--state").arg(lab.state()).args(ATTACH);
        finish(icmpctl::without_bpf(&mut old, error)).fails(
            1,
            &[
                "this kernel can't",
                "it is Linux 2.6.",
                "Linux 6.1 or later",
                "compare-and-swap",
                "`icmpctl doctor`",
            ],
        );
        lab.assert_nothing_left();
    }
}

/// Makes a map that is not ours and pins it.
fn pin_foreign_map(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let what = ["type", "array", "key", "4", "value", "8", "entries", "1", "name", "foreign"];
    run(Command::new("bpftool").args(["map", "create"]).arg(path).args(what));
}

/// What somebody else has pinned where our pins go is not opened as ours, not replaced, and not removed.
#[test]
#[ignore = "needs root and BPF"]
fn foreign_pins_are_left_alone() {
    for name in ["link", "counters"] {
        let lab = Lab::new();
        let pin = lab.pins().join(name);
        pin_foreign_map(&pin);
        for verb in ["attach", "run", "detach"] {
            let finished = lab.icmpctl(&[verb, SERVER_END]);
            assert!(pin.exists(), "`icmpctl {verb}` removed what somebody else pinned as {name}: {finished}");
            finished.fails(1, &[&format!("{} is not icmpctl's", pin.display()), "move it away"]);
            assert_eq!(lab.server.xdp_program(SERVER_END), None);
        }
    }
}

/// SIGINT, SIGTERM and a closed terminal end `icmpctl run` with exit status 0, and nothing is left of it.
#[test]
#[ignore = "needs root and BPF"]
fn signals_detach() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let lab = Lab::new();
        let running = lab.start(&["run", SERVER_END]);
        ping(&lab);
        assert_eq!(lab.counted("ipv4", "echo"), 1);
        running.signal(signal);
        let finished = running.wait();
        assert!(
            finished.stderr.contains(
                "ipv4: 1 received, 1 answered, 0 passed, 0 denied (0 of them told so), 0 limited, 0 malformed"
            ),
            "{finished}"
        );
        assert!(finished.stderr.contains(&format!("detached from {SERVER_END}")), "{finished}");
        let _ = finished.ok();
        lab.assert_nothing_left();
    }
}

/// With `--keep` the program goes on when `icmpctl run` ends, and nobody takes it for an accident.
#[test]
#[ignore = "needs root and BPF"]
fn keep_leaves_the_program_attached() {
    let lab = Lab::new();
    let running = lab.start(&["run", SERVER_END, "--keep"]);
    running.signal(Signal::INT);
    let _ = running.wait().ok();
    let status = lab.status();
    assert_eq!((&status[0]["state"], status[0]["follower"].is_null()), (&"attached".into(), true));
    ping(&lab);
    assert_eq!(lab.counted("ipv4", "echo"), 1);
    let _ = lab.icmpctl(&["detach", SERVER_END]).ok();
    lab.assert_nothing_left();
}

/// Kills an `icmpctl run` so that it can't do anything about it.
fn kill(running: Running) {
    running.signal(Signal::KILL);
    assert_eq!(running.wait().status, None);
}

/// `kill -9` of `icmpctl run` leaves the program attached; `status` calls it orphaned, and whoever comes next takes it
/// over with its counters.
#[test]
#[ignore = "needs root and BPF"]
fn a_killed_run_is_taken_over() {
    let lab = Lab::new();
    kill(lab.start(&["run", SERVER_END]));
    assert_eq!(lab.status()[0]["state"], "orphaned");
    let text = lab.icmpctl(&["status"]).ok();
    assert!(text.contains("addresses are not followed"), "{text}");
    ping(&lab);

    let attached = lab.icmpctl(&ATTACH);
    assert!(attached.stderr.contains("replaces"), "{attached}");
    let _ = attached.ok();
    assert_eq!(lab.status()[0]["state"], "attached");
    ping(&lab);
    assert_eq!(lab.counted("ipv4", "echo"), 2);

    kill(lab.start(&["run", SERVER_END]));
    let running = lab.start(&["run", SERVER_END]);
    assert!(running.said().contains("its counters go on"), "{}", running.said());
    assert_eq!(lab.status()[0]["state"], "attached");
    ping(&lab);
    assert_eq!(lab.counted("ipv4", "echo"), 3);
    running.signal(Signal::INT);
    let _ = running.wait().ok();
    lab.assert_nothing_left();
}

#[test]
#[ignore = "needs root and BPF"]
fn a_killed_run_is_detached() {
    let lab = Lab::new();
    kill(lab.start(&["run", SERVER_END]));
    let _ = lab.icmpctl(&["detach", SERVER_END]).ok();
    lab.assert_nothing_left();
    lab.icmpctl(&["detach", SERVER_END]).fails(1, &["icmpctl is not attached to", "icmpctl status"]);
}

/// Wherever a kill hits, what it leaves is something that `detach` removes, or nothing.
#[test]
#[ignore = "needs root and BPF"]
fn a_run_killed_at_any_time_leaves_nothing_that_stays() {
    let lab = Lab::new();
    let key = lab.server.key(lab.server.index(SERVER_END));
    let (mut before, mut after) = (0, 0);
    for step in 0..24 {
        let running = Running::start(lab.command(&["run", SERVER_END]));
        // From the lock on, which is taken first, to well behind the end of attaching.
        wait_until(|| holds(Path::new("/run/icmpctl"), &format!("{key}.lock")));
        std::thread::sleep(std::time::Duration::from_millis(step * 20));
        kill(running);
        let expected = if lab.server.xdp_program(SERVER_END).is_some() { "orphaned" } else { "stale" };
        let status = lab.status();
        assert!(status.is_empty() && expected == "stale" || status[0]["state"] == expected, "{status:?}");
        *(if expected == "orphaned" { &mut after } else { &mut before }) += 1;
        let detached = lab.icmpctl(&["detach", SERVER_END]);
        assert_eq!(detached.status, Some(i32::from(status.is_empty())), "{detached}");
        lab.assert_nothing_left();
    }
    assert!(before > 0 && after > 0, "killed {before} times before attaching and {after} times after it");
}

/// A mode can't be changed in place; asking for it leaves what is attached alone.
#[test]
#[ignore = "needs root and BPF"]
fn a_refused_change_of_mode_changes_nothing() {
    let lab = Lab::new();
    let _ = lab.icmpctl(&["attach", SERVER_END, "--mode", "generic"]).ok();
    ping(&lab);
    let program = lab.server.xdp_program(SERVER_END);
    lab.icmpctl(&["attach", SERVER_END, "--mode", "native"])
        .fails(1, &["in another mode", &format!("icmpctl detach {SERVER_END}")]);
    assert_eq!(lab.server.xdp_program(SERVER_END), program);
    assert_eq!((lab.counted("ipv4", "echo"), &lab.status()[0]["state"]), (1, &"attached".into()));
    let _ = lab.icmpctl(&["detach", SERVER_END]).ok();
    lab.assert_nothing_left();
}

/// What an interface left when it went away is removed by its name, although another one has that name now.
#[test]
#[ignore = "needs root and BPF"]
fn pins_of_an_interface_that_was_made_anew_can_be_removed() {
    let lab = Lab::new();
    let _ = lab.icmpctl(&ATTACH).ok();
    lab.server.ip(&format!("link delete {SERVER_END}"));
    lab.server.ip(&format!("link add {SERVER_END} type veth peer name other0"));
    assert_eq!(lab.status()[0]["state"], "stale");
    let detached = lab.icmpctl(&["detach", SERVER_END]);
    assert!(detached.stderr.contains("had left when it went away"), "{detached}");
    let _ = detached.ok();
    assert!(lab.status().is_empty());
    lab.assert_no_pins();
}

/// An interface that is moved to another network namespace under `run` is let go of.
#[test]
#[ignore = "needs root and BPF"]
fn a_moved_interface_is_let_go_of() {
    let lab = Lab::new();
    // Other numbers there, so that the interface gets another one.
    lab.client.ip("link add filler0 type veth peer name filler1");
    let running = lab.start(&["run", SERVER_END]);
    lab.server.ip(&format!("link set {SERVER_END} netns {}", lab.client.name()));
    running.wait().fails(1, &[&format!("{SERVER_END} is gone")]);
    assert_eq!(lab.client.xdp_program(SERVER_END), None);
    lab.assert_no_pins();
}

/// A `detach` that finds nothing in one BPF file system leaves what belongs to the other one alone.
#[test]
#[ignore = "needs root and BPF"]
fn detaching_elsewhere_changes_nothing() {
    let (lab, elsewhere) = (Lab::new(), Lab::new());
    let _ = lab.icmpctl(&ATTACH).ok();
    let before = lab.status();
    let mut detach = Command::new(icmpctl::binary());
    detach
        .args(["--netns", lab.server.name(), "--bpffs"])
        .arg(elsewhere.bpffs.path())
        .args(["detach", SERVER_END]);
    finish(&mut detach).fails(1, &["not attached"]);
    assert_eq!(lab.status(), before);
    let _ = lab.icmpctl(&["detach", SERVER_END]).ok();
    lab.assert_nothing_left();
}

/// A reader that has gone, or a full disk, is no reason to panic.
#[test]
#[ignore = "needs root and BPF"]
fn listings_survive_a_closed_or_full_output() {
    let lab = Lab::new();
    let _ = lab.icmpctl(&ATTACH).ok();
    for verb in ["status", "stats"] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let finished = finish(lab.command(&[verb]).stdout(full));
        finished.fails(1, &["No space left on device"]);
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let finished = finish(lab.command(&[verb]).stdout(writer));
        assert_eq!((finished.status, finished.stderr.as_str()), (Some(0), ""));
    }
    let _ = lab.icmpctl(&["detach", SERVER_END]).ok();
    lab.assert_nothing_left();
}

/// Attaching once more replaces the program in place: the link and the counters stay.
#[test]
#[ignore = "needs root and BPF"]
fn attaching_twice_keeps_the_counters() {
    let lab = Lab::new();
    let _ = lab.icmpctl(&ATTACH).ok();
    ping(&lab);
    let first = lab.server.xdp_program(SERVER_END);
    let policy = lab.policy("respond.ttl = 200");
    let _ = lab.icmpctl(&["attach", SERVER_END, "--policy", policy.to_str().unwrap()]).ok();
    assert_ne!(lab.server.xdp_program(SERVER_END), first);
    let text = run(lab.client.command("ping").args(["-n", "-c", "1", "-W", "2", SERVER4]));
    assert!(text.contains("ttl=200"), "{text}");
    assert_eq!(lab.counted("ipv4", "echo"), 2);
    assert_eq!(lab.status()[0]["policy"].as_str(), policy.to_str());
    // The default policy takes no other one's place because somebody has left a word out.
    let second = lab.server.xdp_program(SERVER_END);
    for verb in ["attach", "run"] {
        lab.icmpctl(&[verb, SERVER_END]).fails(1, &["runs the policy", "--policy", "icmpctl detach"]);
    }
    assert_eq!(lab.server.xdp_program(SERVER_END), second);
    let _ = lab.icmpctl(&["detach", SERVER_END]).ok();
    lab.assert_nothing_left();
}

/// Listings for people and for programs, with nothing attached and with something.
#[test]
#[ignore = "needs root and BPF"]
fn listings_say_what_is_there() {
    let lab = Lab::new();
    assert!(lab.status().is_empty());
    assert_eq!(lab.icmpctl(&["stats", "--json"]).ok().trim(), "[]");
    for verb in ["status", "stats"] {
        assert!(lab.icmpctl(&[verb]).ok().contains("attached to no interface"));
        lab.icmpctl(&[verb, SERVER_END]).fails(1, &["icmpctl is not attached to", "icmpctl status"]);
    }
    let running = lab.start(&["run", SERVER_END]);
    ping(&lab);
    wait_until(|| lab.counted("ipv4", "echo") == 1);
    let status = lab.status();
    assert_eq!(status.len(), 1);
    assert_eq!(status[0]["program"].as_u64(), lab.server.xdp_program(SERVER_END));
    assert!(status[0]["policy"].is_null() && status[0]["since"].as_u64().is_some(), "{status:?}");
    let text = lab.icmpctl(&["status"]).ok();
    let pid = format!("pid {}", running.pid());
    assert!(text.contains(SERVER_END) && text.contains("generic") && text.contains(&pid), "{text}");
    let text = lab.icmpctl(&["stats"]).ok();
    let line = text.lines().find(|line| line.contains("answered")).unwrap_or_default();
    let cells: Vec<_> = line.split_whitespace().collect();
    assert_eq!((&cells[..4], cells[4]), (&["ipv4", "answered", "echo", "1"][..], "Echo"), "{text}");
}
