//! Another policy in the place of the one that runs: nothing is lost by it, errors change nothing, and what is not confirmed
//! goes again.
//!
//! Which policy is in place is told by the TTL of its answers.

use std::{
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use icmp_tests::{
    host::tables,
    icmpctl::{self, Running, holds, wait_until},
    netns::{Lab, SERVER_END, SERVER4, run},
};
use icmp_userspace::kernel::{
    attach::{Places, Site},
    change::New,
    error::Error,
    interface::Netlink,
    state::Snapshot,
};
use object::{Object as _, ObjectSection as _, SectionKind};
use rustix::process::Signal;
use serde_json::Value;

/// Writes a policy whose answers have this TTL.
fn policy(lab: &Lab, name: &str, ttl: u8) -> PathBuf {
    let path = lab.files.path().join(name);
    fs::write(&path, format!("respond.ttl = {ttl}\n")).unwrap();
    path
}

/// A lab with a policy attached whose answers have the TTL 100.
fn attached() -> (Lab, PathBuf) {
    let lab = Lab::new();
    let path = policy(&lab, "policy.toml", 100);
    let _ = lab.icmpctl(&["attach", SERVER_END, "--policy", path.to_str().unwrap()]).ok();
    assert_eq!(ttl(&lab), 100);
    (lab, path)
}

/// Pings once and says which TTL the answer has.
fn ttl(lab: &Lab) -> u8 {
    let text = run(lab.client.command("ping").args(["-n", "-c", "1", "-W", "2", SERVER4]));
    let (_, rest) = text.split_once("ttl=").unwrap();
    rest.split(' ').next().unwrap().parse().unwrap()
}

fn text(path: &std::path::Path) -> &str {
    path.to_str().unwrap()
}

/// What `status` says of the one attachment.
fn status(lab: &Lab) -> Value {
    let mut all = lab.status();
    assert_eq!(all.len(), 1);
    all.remove(0)
}

/// The directory of the server end's state.
fn state(lab: &Lab) -> PathBuf {
    let entries: Vec<_> = fs::read_dir(lab.state()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(entries.len(), 1, "{entries:?}");
    entries[0].clone()
}

/// The policy that `last-good` points to.
fn last_good(lab: &Lab) -> String {
    fs::read_to_string(state(lab).join("last-good/policy.toml")).unwrap()
}

/// Programs that have a generation in the state directory.
fn generations(lab: &Lab) -> Vec<u64> {
    let names = fs::read_dir(state(lab)).unwrap().map(|entry| entry.unwrap().file_name());
    let mut programs: Vec<_> = names.filter_map(|name| name.to_str()?.parse().ok()).collect();
    programs.sort_unstable();
    programs
}

fn detach(lab: &Lab) {
    let _ = lab.icmpctl(&["detach", SERVER_END]).ok();
    lab.assert_nothing_left();
}

#[test]
#[ignore = "needs root and BPF"]
fn a_swap_keeps_the_counters_and_says_what_changed() {
    let (lab, _) = attached();
    let before = lab.server.xdp_program(SERVER_END).unwrap();
    let new = lab.files.path().join("new.toml");
    fs::write(&new, "respond.ttl = 101\nrespond.to = [\"own\", \"198.51.100.0/24\"]\n").unwrap();
    // There is one attachment alone, so it need not be named.
    let applied = lab.icmpctl(&["apply", text(&new)]);
    let after = lab.server.xdp_program(SERVER_END).unwrap();
    assert!(applied.stderr.contains(&format!("program {after} replaces {before}")), "{applied}");
    let said = applied.ok();
    for line in
        ["rules: 0 added, 0 removed, 2 kept", "served: 1 added, 0 removed, 1 kept", "  + 198.51.100.0/24"]
    {
        assert!(said.lines().any(|said| said == line), "{line:?} is missing in:\n{said}");
    }
    assert_eq!(ttl(&lab), 101);
    assert_eq!(lab.counted("ipv4", "echo"), 2);
    assert_eq!((&status(&lab)["policy"], &status(&lab)["rules"]), (&text(&new).into(), &0.into()));
    assert!(last_good(&lab).contains("ttl = 101"));
    assert_eq!(generations(&lab), [after]);
    assert!(!lab.icmpctl(&["stats"]).ok().contains("--by"));
    detach(&lab);
    // What was good last is still there for whoever wants it back.
    assert!(last_good(&lab).contains("ttl = 101"));
}

#[test]
#[ignore = "needs root and BPF"]
fn errors_change_nothing() {
    let (lab, _) = attached();
    let program = lab.server.xdp_program(SERVER_END);
    let broken = lab.files.path().join("broken.toml");
    fs::write(&broken, "respond.tll = 7\n").unwrap();
    lab.icmpctl(&["apply", SERVER_END, text(&broken)]).fails(3, &["broken.toml:1:", "did you mean ttl?"]);
    lab.icmpctl(&["apply", SERVER_END, text(&broken), "--confirm", "1h"]).fails(3, &["broken.toml:1:"]);
    let missing = lab.files.path().join("missing.toml");
    lab.icmpctl(&["apply", SERVER_END, text(&missing)]).fails(1, &["missing.toml", "No such file"]);
    lab.icmpctl(&["apply", SERVER_END, text(&broken), "--confirm", "soon"]).fails(2, &["30s, 10m"]);
    lab.icmpctl(&["apply"]).fails(2, &["[IFACE] <FILE>"]);
    assert_eq!(lab.server.xdp_program(SERVER_END), program);
    assert!(status(&lab)["pending"].is_null());
    assert_eq!(ttl(&lab), 100);
    detach(&lab);
    lab.icmpctl(&["apply", SERVER_END, text(&broken)]).fails(3, &["broken.toml"]);
    let good = policy(&lab, "good.toml", 9);
    lab.icmpctl(&["apply", SERVER_END, text(&good)]).fails(1, &["not attached to", "icmpctl status"]);
    lab.icmpctl(&["apply", text(&good)]).fails(1, &["attached to no interface"]);
    lab.icmpctl(&["confirm"]).fails(1, &["attached to no interface"]);
}

/// Where the sections with instructions stand in an object file, and how many bytes they take.
fn code(object: &[u8]) -> Vec<(usize, usize)> {
    let file = object::File::parse(object).unwrap();
    let sections = file.sections().filter(|section| section.kind() == SectionKind::Text);
    sections
        .filter_map(|section| section.file_range())
        .map(|(begin, size)| (begin as usize, size as usize))
        .collect()
}

/// A program that the kernel refuses: the verifier's log is in a file that is named, and what runs stays.
#[test]
#[ignore = "needs root and BPF"]
fn what_the_verifier_refuses_stays_out() {
    const EXIT: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];
    const RETURN_PASS: [u8; 8] = [0xb7, 0, 0, 0, 2, 0, 0, 0];
    let (lab, _) = attached();
    let program = lab.server.xdp_program(SERVER_END);
    // Without its exits the program runs past its end.
    let mut object = fs::read(icmpctl::object()).unwrap();
    for (begin, size) in code(&object) {
        let code = object[begin..begin + size].as_chunks_mut().0;
        code.iter_mut().filter(|word| **word == EXIT).for_each(|word| *word = RETURN_PASS);
    }
    let tables = tables("respond.ttl = 101");
    let refused = lab.server.enter(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let places = Places { bpffs: lab.bpffs.path().to_owned(), state: lab.state() };
            let mut site = Site::open(&Netlink::open().unwrap(), SERVER_END, &places).await.unwrap();
            let mut change = site.change("test").await.unwrap();
            let running = change.must_run().unwrap();
            let (generation, snapshot) = (&running.generation, Snapshot::Of(running.program));
            change.swap(&New { object: &object, tables: &tables, generation, snapshot })
        })
    });
    let refused = refused.unwrap_err();
    let Error::Verifier { log, .. } = &refused else { panic!("{refused}") };
    assert!(refused.to_string().contains(&format!("its log is in {}", log.display())), "{refused}");
    assert!(fs::read_to_string(log).unwrap().contains("last insn is not an exit or jmp"));
    assert_eq!((lab.server.xdp_program(SERVER_END), ttl(&lab)), (program, 100));
    assert_eq!(generations(&lab), [program.unwrap()]);
    detach(&lab);
    assert!(!log.exists());
}

/// With several attachments the one that is meant has to be named.
#[test]
#[ignore = "needs root and BPF"]
fn the_interface_is_named_where_there_are_several() {
    let (lab, path) = attached();
    let _ = lab.icmpctl(&["attach", "lo"]).ok();
    let said = lab.icmpctl(&["apply", text(&path)]).fails(1, &["several interfaces", "lo", SERVER_END]);
    assert!(said.contains("name the one"), "{said}");
    let _ = lab.icmpctl(&["apply", "lo", text(&path)]).ok();
    let _ = lab.icmpctl(&["detach", "lo"]).ok();
    detach(&lab);
}

#[test]
#[ignore = "needs root and BPF"]
fn what_is_not_confirmed_goes_again() {
    let (lab, path) = attached();
    let new = policy(&lab, "new.toml", 101);
    let applied = lab.icmpctl(&["apply", SERVER_END, text(&new), "--confirm", "2s"]);
    assert!(applied.stderr.contains(&format!("icmpctl confirm {SERVER_END}")), "{applied}");
    let _ = applied.ok();
    assert_eq!(ttl(&lab), 101);
    assert!((1..=2).contains(&status(&lab)["pending"].as_u64().unwrap()), "{}", status(&lab));
    assert!(lab.icmpctl(&["status"]).ok().contains("unless it is confirmed"));
    assert!(last_good(&lab).contains("ttl = 100"));
    assert_eq!(generations(&lab).len(), 2);
    // Nothing else may come between.
    for second in [&["apply", SERVER_END, text(&path)][..], &["attach", SERVER_END, "--policy", text(&path)]]
    {
        lab.icmpctl(second).fails(1, &["unless it is confirmed", "--rollback"]);
    }
    wait_until(|| status(&lab)["pending"].is_null());
    assert_eq!(ttl(&lab), 100);
    assert_eq!(status(&lab)["policy"], text(&path));
    let complaint = status(&lab)["complaint"].as_str().unwrap().to_owned();
    assert!(complaint.contains("new.toml was not confirmed in time"), "{complaint}");
    wait_until(|| generations(&lab) == [lab.server.xdp_program(SERVER_END).unwrap()]);
    assert!(last_good(&lab).contains("ttl = 100"));
    assert_eq!(lab.counted("ipv4", "echo"), 3);
    // The next policy that is put in place ends the complaint.
    let _ = lab.icmpctl(&["apply", text(&new)]).ok();
    assert!(status(&lab)["complaint"].is_null());
    detach(&lab);
}

#[test]
#[ignore = "needs root and BPF"]
fn what_is_confirmed_stays() {
    let (lab, _) = attached();
    let new = policy(&lab, "new.toml", 101);
    lab.icmpctl(&["confirm", SERVER_END]).fails(1, &["no policy on", "waits for confirmation"]);
    let _ = lab.icmpctl(&["apply", SERVER_END, text(&new), "--confirm", "2s"]).ok();
    let _ = lab.icmpctl(&["confirm"]).ok();
    assert!(status(&lab)["pending"].is_null());
    thread::sleep(Duration::from_secs(4));
    assert_eq!(ttl(&lab), 101);
    assert!(last_good(&lab).contains("ttl = 101"));
    assert_eq!(generations(&lab).len(), 1);
    detach(&lab);
}

#[test]
#[ignore = "needs root and BPF"]
fn a_rollback_can_be_had_at_once() {
    let (lab, path) = attached();
    let new = policy(&lab, "new.toml", 101);
    let _ = lab.icmpctl(&["apply", SERVER_END, text(&new), "--confirm", "1h"]).ok();
    let _ = lab.icmpctl(&["confirm", SERVER_END, "--rollback"]).ok();
    assert_eq!(ttl(&lab), 100);
    assert_eq!((&status(&lab)["policy"], status(&lab)["complaint"].is_null()), (&text(&path).into(), true));
    lab.icmpctl(&["confirm", "--rollback"]).fails(1, &["waits for confirmation"]);
    detach(&lab);
}

/// `run` notices what others put in place, also what is rolled back, and leaves it alone.
#[test]
#[ignore = "needs root and BPF"]
fn run_goes_on_with_what_others_put_in_place() {
    let lab = Lab::new();
    let path = policy(&lab, "policy.toml", 100);
    let mut running = lab.start(&["run", SERVER_END, "--policy", text(&path)]);
    let new = policy(&lab, "new.toml", 101);
    let _ = lab.icmpctl(&["apply", SERVER_END, text(&new)]).ok();
    running.wait_for("following");
    assert_eq!(status(&lab)["follower"], running.pid());
    // The file that it had before is nothing to it any more, the new one is.
    policy(&lab, "policy.toml", 50);
    policy(&lab, "new.toml", 102);
    wait_until(|| ttl(&lab) == 102);

    // The same file, changed and tried: after the rollback it still holds what was rolled back, and stays out.
    policy(&lab, "new.toml", 103);
    let _ = lab.icmpctl(&["apply", SERVER_END, text(&new), "--confirm", "3s"]).ok();
    // Changes of the file wait until that is decided.
    policy(&lab, "new.toml", 104);
    wait_until(|| status(&lab)["pending"].is_null());
    thread::sleep(Duration::from_secs(3));
    assert_eq!(ttl(&lab), 102);
    // An address that comes is served by the policy that is back.
    lab.server.ip(&format!("address add 192.0.2.77/24 dev {SERVER_END}"));
    running.wait_for("+192.0.2.77");
    assert_eq!(ttl(&lab), 102);
    policy(&lab, "new.toml", 105);
    wait_until(|| ttl(&lab) == 105);
    wait_until(|| status(&lab)["complaint"].is_null());
    running.signal(Signal::INT);
    let _ = running.wait().ok();
    lab.assert_nothing_left();
}

/// If the guardian is killed `run` does its work.
#[test]
#[ignore = "needs root and BPF"]
fn run_stands_in_for_a_guardian_that_is_gone() {
    let lab = Lab::new();
    let path = policy(&lab, "policy.toml", 100);
    let running = lab.start(&["run", SERVER_END, "--policy", text(&path)]);
    let new = policy(&lab, "new.toml", 101);
    let _ = lab.icmpctl(&["apply", SERVER_END, text(&new), "--confirm", "2s"]).ok();
    kill_guardian(&lab);
    assert_eq!(ttl(&lab), 101);
    wait_until(|| status(&lab)["pending"].is_null());
    assert_eq!(ttl(&lab), 100);
    running.signal(Signal::INT);
    let _ = running.wait().ok();
    lab.assert_nothing_left();
}

/// Kills the guardian of this lab: nobody else has its state directory among the arguments.
fn kill_guardian(lab: &Lab) {
    let state = lab.state();
    let guardians: Vec<i32> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let has = |wanted: &[u8]| arguments.split(|byte| *byte == 0).any(|argument| argument == wanted);
            has(b"guardian") && has(text(&state).as_bytes())
        })
        .collect();
    assert_eq!(guardians.len(), 1, "{guardians:?}");
    let pid = rustix::process::Pid::from_raw(guardians[0]).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
}

/// Without a guardian and without `run` the next one who puts a policy in place may do so.
#[test]
#[ignore = "needs root and BPF"]
fn an_overdue_confirmation_is_shown_and_blocks_nobody() {
    let (lab, path) = attached();
    let new = policy(&lab, "new.toml", 101);
    let _ = lab.icmpctl(&["apply", SERVER_END, text(&new), "--confirm", "1s"]).ok();
    kill_guardian(&lab);
    thread::sleep(Duration::from_secs(5));
    assert_eq!(ttl(&lab), 101);
    assert!(lab.icmpctl(&["status"]).ok().contains("was not confirmed in time"));
    let _ = lab.icmpctl(&["apply", text(&path)]).ok();
    assert_eq!((ttl(&lab), status(&lab)["pending"].is_null()), (100, true));
    detach(&lab);
}

#[test]
#[ignore = "needs root and BPF"]
fn run_follows_its_policy_file() {
    let lab = Lab::new();
    let path = policy(&lab, "policy.toml", 100);
    let mut running = lab.start(&["run", SERVER_END, "--policy", text(&path)]);
    assert_eq!(ttl(&lab), 100);
    policy(&lab, "policy.toml", 101);
    running.wait_for("follows");
    assert_eq!((ttl(&lab), lab.counted("ipv4", "echo")), (101, 2));

    // Broken, said once, shown in status; what runs stays.
    fs::write(&path, "respond.tll = 1\n").unwrap();
    running.wait_for("what runs stays");
    assert!(running.said().contains("did you mean ttl?"), "{}", running.said());
    let complaint = status(&lab)["complaint"].as_str().unwrap().to_owned();
    assert!(complaint.contains("policy.toml:1:"), "{complaint}");
    assert!(lab.icmpctl(&["status"]).ok().contains("policy.toml:1:"));
    fs::write(&path, "respond.tll = 1\n").unwrap();
    thread::sleep(Duration::from_secs(3));
    assert_eq!(running.said().matches("what runs stays").count(), 1);
    assert_eq!(ttl(&lab), 101);

    // Mended to what runs already: no new program.
    let program = lab.server.xdp_program(SERVER_END);
    fs::write(&path, "respond.ttl = 101 # as it was\n").unwrap();
    running.wait_for("in order again");
    assert!(status(&lab)["complaint"].is_null());
    assert_eq!(lab.server.xdp_program(SERVER_END), program);

    // Gone and back again, by another name, as editors write.
    fs::remove_file(&path).unwrap();
    wait_until(|| status(&lab)["complaint"].as_str().is_some_and(|text| text.contains("No such file")));
    let other = policy(&lab, "other", 102);
    fs::rename(other, &path).unwrap();
    wait_until(|| ttl(&lab) == 102);
    wait_until(|| status(&lab)["complaint"].is_null());
    running.signal(Signal::INT);
    let _ = running.wait().ok();
    lab.assert_nothing_left();
}

#[test]
#[ignore = "needs root and BPF"]
fn run_does_not_follow_its_policy_file_if_told_so() {
    let lab = Lab::new();
    let path = policy(&lab, "policy.toml", 100);
    let running = lab.start(&["run", SERVER_END, "--no-watch", "--policy", text(&path)]);
    policy(&lab, "policy.toml", 101);
    thread::sleep(Duration::from_secs(3));
    assert_eq!(ttl(&lab), 100);
    running.signal(Signal::INT);
    let _ = running.wait().ok();
}

/// A process that was killed between writing and swapping: its generation is there, the old policy runs.
#[test]
#[ignore = "needs root and BPF"]
fn what_was_written_but_not_swapped_does_no_harm() {
    let (lab, path) = attached();
    let program = lab.server.xdp_program(SERVER_END).unwrap();
    let state = state(&lab);
    for name in ["4000000000", ".new-1234"] {
        let generation = state.join(name);
        fs::create_dir(&generation).unwrap();
        fs::write(generation.join("policy.toml"), "respond.ttl = 7\n").unwrap();
        fs::write(generation.join("slots.json"), "{\"rules\": {").unwrap();
    }
    assert_eq!((ttl(&lab), &status(&lab)["policy"]), (100, &text(&path).into()));
    assert_eq!(lab.server.xdp_program(SERVER_END), Some(program));
    let new = policy(&lab, "new.toml", 101);
    let _ = lab.icmpctl(&["apply", text(&new)]).ok();
    assert_eq!(ttl(&lab), 101);
    assert_eq!(generations(&lab), [lab.server.xdp_program(SERVER_END).unwrap()]);
    assert!(!holds(&state, ".new-1234"));
    detach(&lab);
}

/// Killed at any time, `apply` leaves one of the two policies, and the next one works.
#[test]
#[ignore = "needs root and BPF"]
fn an_apply_killed_at_any_time_leaves_a_policy_in_place() {
    let (lab, _) = attached();
    let mut counted = lab.counted("ipv4", "echo");
    let mut seen = [0, 0];
    // How long one takes here and now that nobody kills.
    let whole = {
        let old = policy(&lab, "policy.toml", 100);
        let begin = Instant::now();
        let _ = lab.icmpctl(&["apply", SERVER_END, text(&old)]).ok();
        begin.elapsed()
    };
    for step in 0..24 {
        let new = policy(&lab, "new.toml", 101);
        let applying = Running::start(lab.command(&["apply", SERVER_END, text(&new)]));
        // To twice as long, because other processes may get in its way.
        thread::sleep(whole * step / 12);
        applying.signal(Signal::KILL);
        drop(applying);
        let found = ttl(&lab);
        assert!([100, 101].contains(&found), "{found}");
        seen[usize::from(found - 100)] += 1;
        let old = policy(&lab, "policy.toml", 100);
        let _ = lab.icmpctl(&["apply", SERVER_END, text(&old)]).ok();
        assert_eq!((ttl(&lab), &status(&lab)["policy"]), (100, &text(&old).into()));
        counted += 2;
        assert_eq!(lab.counted("ipv4", "echo"), counted);
        assert_eq!(generations(&lab).len(), 1);
    }
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
    detach(&lab);
}

/// A state directory that holds anything at all is refused or ignored, with a word about it.
#[test]
#[ignore = "needs root and BPF"]
fn garbage_in_the_state_directory_stops_nothing() {
    for garbage in ["", "{", "[]", "{\"rules\": {\"guard\": 4000000}, \"dynamic\": {}}", "\u{0}\u{1}\u{2}"] {
        let (lab, path) = attached();
        let program = lab.server.xdp_program(SERVER_END).unwrap();
        let generation = state(&lab).join(program.to_string());
        for name in ["slots.json", "rules.json", "source.json"] {
            fs::write(generation.join(name), garbage).unwrap();
        }
        fs::write(state(&lab).join("dynamic.json"), garbage).unwrap();
        let said = status(&lab)["complaint"].as_str().unwrap().to_owned();
        assert!(said.contains("slots.json makes no sense"), "{said}");
        lab.icmpctl(&["stats", "--by", "rule"]).fails(1, &["slots.json makes no sense"]);
        assert_eq!(lab.counted("ipv4", "echo"), 1);
        lab.icmpctl(&["set", "list"]).fails(1, &["slots.json makes no sense"]);
        // There would be no way back.
        lab.icmpctl(&["apply", text(&path), "--confirm", "1h"]).fails(1, &["slots.json makes no sense"]);
        let new = policy(&lab, "new.toml", 101);
        let applied = lab.icmpctl(&["apply", text(&new)]);
        assert!(applied.stderr.contains("counters of rules begin anew"), "{applied}");
        let _ = applied.ok();
        assert_eq!((ttl(&lab), lab.counted("ipv4", "echo")), (101, 2));
        assert!(status(&lab)["complaint"].is_null());
        detach(&lab);
    }
}

/// The state directory may be gone altogether, and it may be out of reach.
#[test]
#[ignore = "needs root and BPF"]
fn a_missing_state_directory_is_made_or_named() {
    let (lab, path) = attached();
    fs::remove_dir_all(lab.state()).unwrap();
    assert_eq!((ttl(&lab), status(&lab)["rules"].is_null()), (100, true));
    let _ = lab.icmpctl(&["apply", text(&path)]).ok();
    assert!(last_good(&lab).contains("ttl = 100"));
    fs::remove_dir_all(lab.state()).unwrap();
    fs::write(lab.state(), "a file").unwrap();
    let program = lab.server.xdp_program(SERVER_END);
    lab.icmpctl(&["apply", text(&path)]).fails(1, &["state", "--state"]);
    assert_eq!(lab.server.xdp_program(SERVER_END), program);
    fs::remove_file(lab.state()).unwrap();
    detach(&lab);
    fs::write(lab.state(), "a file").unwrap();
    lab.icmpctl(&["attach", SERVER_END]).fails(1, &["making the state directory", "--state"]);
    lab.assert_nothing_left();
}

/// A set's file is followed like the policy's own; a broken one is named, and changes nothing.
#[test]
#[ignore = "needs root and BPF"]
fn run_follows_the_files_of_sets() {
    let lab = Lab::new();
    let file = lab.files.path().join("trusted.txt");
    fs::write(&file, "192.0.2.0/24\n").unwrap();
    let path = lab.policy(
        "[sets]\ntrusted = { file = \"trusted.txt\" }\n[acl]\nrules = \"\"\"\npermit icmp4 set:trusted any\n\"\"\"\n",
    );
    let mut running = lab.start(&["run", SERVER_END, "--policy", text(&path)]);
    let program = lab.server.xdp_program(SERVER_END).unwrap();
    assert_eq!(status(&lab)["rules"], 1);
    fs::write(&file, "192.0.2.0/24\n198.51.100.0/24\n").unwrap();
    wait_until(|| lab.server.xdp_program(SERVER_END) != Some(program));
    let program = lab.server.xdp_program(SERVER_END).unwrap();
    let saved = || {
        let program = lab.server.xdp_program(SERVER_END).unwrap();
        fs::read_to_string(state(&lab).join(format!("{program}/sets/trusted"))).unwrap()
    };
    wait_until(|| holds(&state(&lab), "last-good") && saved().contains("198.51.100.0/24"));

    fs::write(&file, "192.0.2.0/24\nnonsense\n").unwrap();
    running.wait_for("what runs stays");
    assert!(status(&lab)["complaint"].as_str().unwrap().contains("trusted.txt:2:"), "{}", status(&lab));
    fs::remove_file(&file).unwrap();
    wait_until(|| status(&lab)["complaint"].as_str().unwrap().contains("No such file"));
    assert_eq!(lab.server.xdp_program(SERVER_END), Some(program));
    // An address that comes is served by the policy as it runs, with the set as it was.
    lab.server.ip(&format!("address add 192.0.2.77/24 dev {SERVER_END}"));
    running.wait_for("+192.0.2.77");
    assert!(saved().contains("198.51.100.0/24"));
    fs::write(&file, "192.0.2.0/25\n").unwrap();
    running.wait_for("in order again");
    assert_eq!(saved().trim(), "192.0.2.0/25");
    running.signal(Signal::INT);
    let _ = running.wait().ok();
    lab.assert_nothing_left();
}

/// Rules are told apart by their text: numbers may change, slots stay; what is shown is the policy in place.
#[test]
#[ignore = "needs root and BPF"]
fn rules_are_listed_and_compared_by_their_text() {
    let lab = Lab::new();
    let write = |name: &str, rules: &str| {
        let path = lab.files.path().join(name);
        fs::write(&path, format!("[acl]\ndefault = \"permit\"\nrules = \"\"\"\n{rules}\n\"\"\"\n")).unwrap();
        path
    };
    let old = write("old.toml", "10 deny icmp host 203.0.113.1 any redirect\n20 permit icmp4 any any echo");
    let _ = lab.icmpctl(&["attach", SERVER_END, "--policy", text(&old)]).ok();
    let rules = || {
        let statistics: Vec<Value> =
            serde_json::from_str(&lab.icmpctl(&["stats", "--by", "rule", "--json"]).ok()).unwrap();
        statistics[0]["rules"].as_array().unwrap().clone()
    };
    let shown: Vec<_> =
        rules().iter().map(|rule| (rule["number"].as_u64(), rule["origin"].clone())).collect();
    let expected = [(Some(10), "file"), (Some(20), "file"), (None, "built-in"), (None, "built-in")];
    assert_eq!(shown, expected.map(|(number, origin)| (number, origin.into())));
    let table = lab.icmpctl(&["stats", "--by", "rule"]).ok();
    assert!(table.contains("RULE  ORIGIN") && table.contains("deny icmp"), "{table}");
    let hint = "2 rules: `icmpctl stats server0 --by rule` counts by rule";
    let short = lab.icmpctl(&["stats"]).ok();
    assert!(!table.contains(hint) && short.ends_with(&format!("\n\n{hint}\n")), "{short}");
    assert!(!short.contains("ORIGIN"), "{short}");
    let has = |by: &str| -> [bool; 2] {
        let json = lab.icmpctl(&["stats", "--json", "--by", by]).ok();
        ["reasons", "rules"].map(|what| json.contains(&format!("\"{what}\": [")))
    };
    assert_eq!(["reason", "rule", "rule,reason"].map(has), [[true, false], [false, true], [true, true]]);
    lab.icmpctl(&["stats", "--by", "colour"]).fails(2, &["[possible values: reason, rule"]);

    let new = write("new.toml", "5 permit icmp4 any any echo\n7 deny icmp host 203.0.113.2 any redirect");
    let applied = lab.icmpctl(&["apply", text(&new)]).ok();
    assert!(applied.contains("rules: 1 added, 1 removed, 3 kept"), "{applied}");
    assert!(applied.contains("  + deny icmp4 host 203.0.113.2 any"), "{applied}");
    assert!(applied.contains("  - deny icmp4 host 203.0.113.1 any"), "{applied}");
    assert_eq!((rules()[0]["number"].as_u64(), &status(&lab)["rules"]), (Some(5), &2.into()));
    detach(&lab);
}

/// Counters whose pins are gone begin anew, and that is said; what is attached goes on.
#[test]
#[ignore = "needs root and BPF"]
fn missing_pins_are_made_anew() {
    let (lab, path) = attached();
    assert_eq!(lab.counted("ipv4", "echo"), 1);
    fs::remove_file(lab.pins().join("counters")).unwrap();
    let applied = lab.icmpctl(&["apply", text(&path)]);
    assert!(applied.stderr.contains("all counters begin anew"), "{applied}");
    let _ = applied.ok();
    assert_eq!((ttl(&lab), lab.counted("ipv4", "echo")), (100, 1));
    detach(&lab);
}

/// What is recorded can be lost; a confirmation is waited for all the same.
#[test]
#[ignore = "needs root and BPF"]
fn a_lost_record_is_begun_anew() {
    let lab = Lab::new();
    let path = policy(&lab, "policy.toml", 100);
    let running = lab.start(&["run", SERVER_END, "--policy", text(&path)]);
    let record = format!("/run/icmpctl/{}.json", lab.server.key(lab.server.index(SERVER_END)));
    for garbage in ["", "{}", "[1]", "\u{0}"] {
        fs::write(&record, garbage).unwrap();
        assert_eq!(status(&lab)["state"], "attached");
        let new = policy(&lab, "new.toml", 101);
        let _ = lab.icmpctl(&["apply", text(&new), "--confirm", "1s"]).ok();
        assert_eq!(ttl(&lab), 101);
        wait_until(|| status(&lab)["pending"].is_null());
        assert_eq!(ttl(&lab), 100);
    }
    running.signal(Signal::INT);
    let _ = running.wait().ok();
    lab.assert_nothing_left();
}
