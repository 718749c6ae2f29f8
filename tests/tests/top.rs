//! `icmpctl top` in a real terminal: what it shows, what keys do, how it ends, and that nothing is left of it.

use std::{
    collections::HashMap,
    fs,
    path::Path,
    process::{Child, Stdio},
    thread::sleep,
    time::Duration,
};

use icmp_tests::{
    icmpctl::{holds, wait_until, without},
    netns::{CLIENT4, CLIENT6, Lab, SERVER_END, SERVER4, SERVER6},
    ping::ping,
    terminal::{InTerminal, Terminal},
};
use rustix::process::Signal;

/// Another address of the client, which is denied.
const DENIED4: &str = "192.0.2.3";
const POLICY: &str = "[acl]\nrules = '''\n10 deny icmp host 192.0.2.3 any echo\n\
                      20 limit 20/s burst 5 per source icmp6 any any echo\n\
                      30 permit icmp 192.0.2.0/24 any echo\n'''\n";

/// Pings without end; ended when dropped.
struct Pings(Vec<Child>);

impl Pings {
    /// 100 a second that are answered, 50 that are denied, 100 over IPv6, of which 20 are within the rate.
    fn start(lab: &Lab) -> Self {
        let pings = [(CLIENT4, SERVER4, "0.01"), (DENIED4, SERVER4, "0.02"), (CLIENT6, SERVER6, "0.01")];
        let ping = |(from, to, interval)| {
            let mut command = lab.client.command("ping");
            // As long as any test may take.
            command.args(["-q", "-n", "-w", "120", "-i", interval, "-I", from, to]);
            command.stdout(Stdio::null()).spawn().unwrap()
        };
        Self(pings.map(ping).into())
    }
}

impl Drop for Pings {
    fn drop(&mut self) {
        for ping in &mut self.0 {
            let _ = ping.kill();
            let _ = ping.wait();
        }
    }
}

fn lab() -> Lab {
    let lab = Lab::attached("generic", POLICY);
    lab.client.ip(&format!("address add {DENIED4}/24 dev client0"));
    lab
}

fn top(lab: &Lab, terminal: &Terminal) -> InTerminal {
    let top = terminal.start(&mut lab.command(&["top"]));
    terminal.wait_for("icmpctl top server0: program ");
    top
}

fn is_open(lab: &Lab) -> bool {
    holds(&lab.pins(), "sampled")
}

/// What a table on the screen says of something: the words of the line that has it as one of its words.
fn row<'a>(table: &[&'a str], word: &str) -> Option<Vec<&'a str>> {
    let mut rows = table.iter().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.find(|words| words.contains(&word))
}

fn number(word: &str) -> f64 {
    word.trim_start_matches('~').parse().unwrap_or(0.0)
}

/// Whether two rates are the same, as far as readings at slightly different moments and estimates can be.
fn about(one: f64, two: f64) -> bool {
    (one - two).abs() <= 10.0 + 0.4 * one.max(two)
}

/// C94: what is counted and what is estimated fit together, and to what was sent; what is shown in the end is what `stats` says.
#[test]
#[ignore = "needs root and BPF"]
fn c94_a_wide_screen_shows_rates_of_everything() {
    let (lab, terminal) = (lab(), Terminal::new(120, 40));
    let mut top = top(&lab, &terminal);
    let pings = Pings::start(&lab);
    let screen = terminal.wait_until(|lines| {
        let part = |from: usize, to: usize, lines: &[String]| -> Vec<String> {
            lines.iter().map(|line| line.chars().skip(from).take(to - from).collect()).collect()
        };
        let (left, right) = (part(0, 52, lines), part(54, 120, lines));
        let [left, right]: [Vec<&str>; 2] =
            [&left, &right].map(|part| part.iter().map(|line| &**line).collect());
        let title = |name: &str| {
            let both = left.iter().chain(&right);
            both.clone().find(|line| line.contains(name)).is_some()
        };
        for name in ["1 Rules (5): packets/s", "2 Types (", "3 Sources (", "4 Destinations ("] {
            assert!(title(name), "{name:?} is missing in {lines:#?}");
        }
        let below = |name: &str, lines: &[&str]| lines.iter().position(|line| line.contains(name)).unwrap();
        let (rules, types) = left.split_at(below("2 Types", &left));
        let (sources, destinations) = right.split_at(below("4 Destinations", &right));
        let found = (|| {
            Some([
                row(rules, "10")?,
                row(rules, "20")?,
                row(rules, "30")?,
                row(types, "8")?,
                row(sources, CLIENT4)?,
                row(sources, DENIED4)?,
                row(sources, CLIENT6)?,
                row(destinations, SERVER4)?,
                row(&left, "denied")?,
            ])
        })();
        let Some([denied, limited, permitted, echo, one, other, six, to, verdict]) = found else {
            return false;
        };
        let [denies, limits, permits] = [&denied, &limited, &permitted].map(|words| number(words[1]));
        let over = number(limited[2]);
        // What was sent, by a machine that may have better to do.
        (5.0..=55.0).contains(&denies)
            && (10.0..=110.0).contains(&permits)
            && (25.0..=110.0).contains(&limits)
            && about(over, limits - 20.0)
            && about(number(echo[3]), denies + permits)
            && about(number(verdict[1]), denies)
            && about(number(one[0]), permits)
            && about(number(other[0]), denies)
            && (about(number(six[0]), limits) && about(number(six[1]), over))
            && about(number(to[0]), denies + permits)
            && (one[2], other[2], six[2]) == ("30", "10", "20")
    });
    assert!(screen[0].contains("generic mode, policy.toml"), "{screen:#?}");
    // In eighths of a line's height.
    let received = screen.iter().find(|line| line.starts_with("received")).unwrap();
    assert!(received.ends_with(|last| ('▁'..='█').contains(&last)), "{received}");
    drop(pings);
    terminal.wait_until(|lines| {
        let statistics = lab.statistics();
        let count = |name: &str| -> u64 {
            statistics["totals"].as_array().unwrap().iter().map(|total| total[name].as_u64().unwrap()).sum()
        };
        let shown: HashMap<_, _> = lines
            .iter()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .filter(|words| words.len() > 3)
            .map(|words| (words[0], words[1..4].to_vec()))
            .collect();
        ["received", "answered", "denied", "limited"].iter().all(|name| {
            let words = &shown[name];
            words[0] == "0.0" && words[2] == count(name).to_string()
        })
    });
    terminal.press(&["q"]);
    assert!(top.wait().success());
    terminal.assert_restored();
    assert!(!is_open(&lab));
}

/// What keys do, on the smallest screen that everybody has.
#[test]
#[ignore = "needs root and BPF"]
fn keys_sort_pause_filter_and_lead_to_the_rule() {
    let (lab, terminal) = (lab(), Terminal::new(80, 24));
    let _pings = Pings::start(&lab);
    let mut top = top(&lab, &terminal);
    // By rule: the denying one is the last of the three by rate, the first one of the policy, and has no rate to be over.
    let numbers = |lines: &[String]| -> Vec<String> {
        let lines = lines.iter().skip_while(|line| !line.contains("1 Rules (5)")).skip(2);
        let words = lines.filter_map(|line| line.split_whitespace().next().map(str::to_owned));
        words.filter(|word| word.parse::<u32>().is_ok()).collect()
    };
    terminal.wait_until(|lines| numbers(lines).last().is_some_and(|last| last == "10"));
    terminal.press(&["s"]);
    let by_over = terminal.wait_for("▼OVER/s");
    assert_eq!(numbers(&by_over)[0], "20");
    terminal.press(&["s", "s"]);
    let by_place = terminal.wait_for("▼RULE");
    assert_eq!(numbers(&by_place), ["10", "20", "30"]);

    // By source: the limited one is the first by packets over its limit.
    terminal.press(&["3"]);
    terminal
        .wait_until(|lines| [CLIENT4, DENIED4, CLIENT6].iter().all(|source| row_in(lines, source).is_some()));
    terminal.press(&["s"]);
    terminal.wait_until(|lines| {
        let mut lines = lines.iter().skip_while(|line| !line.contains("▼~OVER/s")).skip(1);
        lines.next().is_some_and(|line| line.ends_with(&format!(" {CLIENT6}")))
    });
    terminal.press(&["/"]);
    terminal.press(&["2.3"]);
    terminal.wait_for("Filter: 2.3");
    terminal.press(&["Enter"]);
    let filtered = terminal.wait_for("3 Sources (1): ~packets/s from each (");
    assert!(row_in(&filtered, DENIED4).is_some() && row_in(&filtered, CLIENT4).is_none(), "{filtered:#?}");

    terminal.press(&["Enter"]);
    terminal.wait_for(&format!("{DENIED4}: the last sample was denied by rule 10"));
    // In reverse: 7 of SGR, which may follow on a reset.
    let is_chosen = |line: &String| line.contains("\x1b[7m") || line.contains("\x1b[0;7m");
    let chosen: Vec<_> = terminal.coloured_screen().into_iter().filter(is_chosen).collect();
    assert!(chosen.iter().any(|line| line.contains("deny icmp4 host 192.0.2.3")), "{chosen:#?}");

    terminal.press(&["p"]);
    // The lowest line is drawn last.
    let is_drawn = |lines: &[String]| lines[0].contains("PAUSED") && lines[23].starts_with("1-4 Tab");
    let paused = terminal.wait_until(is_drawn);
    sleep(Duration::from_millis(2_500));
    assert_eq!(terminal.screen(), paused);
    terminal.press(&["p"]);
    let goes_on = terminal.wait_until(|lines| lines[3] != paused[3]);
    assert!(!goes_on[0].contains("PAUSED"));
    terminal.press(&["?"]);
    terminal.wait_for("go from an address to the rule that decided");
    terminal.press(&["Escape"]);
    terminal.wait_until(|lines| !lines.iter().any(|line| line.contains("Keys")));

    terminal.resize(40, 10);
    terminal.wait_for("top needs 60x18 characters");
    terminal.resize(80, 24);
    terminal.wait_for("1 Rules (5)");
    terminal.press(&["C-c"]);
    assert!(top.wait().success());
    terminal.assert_restored();
}

fn row_in(lines: &[String], word: &str) -> Option<String> {
    lines.iter().find(|line| line.split_whitespace().any(|found| found == word)).cloned()
}

/// However it ends, the terminal is as it was, and the channel is closed; what is attached goes on.
#[test]
#[ignore = "needs root and BPF"]
fn whatever_ends_it_the_terminal_and_the_program_are_as_before() {
    let (lab, terminal) = (lab(), Terminal::new(80, 24));
    let answered = || ping(&lab.client, &format!("-q -c 3 -I {CLIENT4} {SERVER4}")).1;
    let mut terminated = top(&lab, &terminal);
    wait_until(|| is_open(&lab));
    terminated.signal(Signal::TERM);
    assert!(terminated.wait().success());
    terminal.assert_restored();
    assert!(!is_open(&lab));

    // Somebody else closes it for one who can't.
    let mut killed = top(&lab, &terminal);
    terminal.press(&["3"]);
    terminal.wait_for("3 Sources (0): ~packets/s from each");
    assert!(is_open(&lab));
    killed.signal(Signal::KILL);
    assert!(!killed.wait().success());
    wait_until(|| !is_open(&lab) && has_no_channels(&lab));
    assert_eq!(answered(), 3);

    // Where no thread can be started, waiting for keys panics; seen on the screen that was there before.
    let terminal = Terminal::new(80, 24);
    let mut command = lab.command(&["top"]);
    let mut panicked =
        terminal.start(without(&mut command, [libc::SYS_clone, libc::SYS_clone3], libc::EAGAIN));
    assert_eq!(panicked.wait().code(), Some(101));
    terminal.wait_for("panicked at");
    terminal.assert_restored();
    assert_eq!((answered(), is_open(&lab)), (3, false));

    let mut detached = top(&lab, &terminal);
    wait_until(|| is_open(&lab));
    let _ = lab.icmpctl(&["detach", SERVER_END]).ok();
    assert_eq!(detached.wait().code(), Some(1));
    terminal.wait_for("icmpctl: icmpctl is not attached to server0");
    terminal.assert_restored();
    lab.assert_nothing_left();

    let _ = lab.icmpctl(&["attach", SERVER_END]).ok();
    let mut gone = top(&lab, &terminal);
    wait_until(|| is_open(&lab));
    lab.server.ip(&format!("link delete {SERVER_END}"));
    assert_eq!(gone.wait().code(), Some(1));
    terminal.wait_for("icmpctl: server0 is gone");
    terminal.assert_restored();
}

/// A second one looks on, and takes over when the first one ends. While a policy waits for confirmation there are no samples; the
/// rest is shown.
#[test]
#[ignore = "needs root and BPF"]
fn where_samples_can_not_be_had_that_is_said() {
    let lab = lab();
    let _pings = Pings::start(&lab);
    let terminals = [(); 2].map(|()| Terminal::new(80, 24));
    let mut first = top(&lab, &terminals[0]);
    wait_until(|| is_open(&lab));
    let mut second = top(&lab, &terminals[1]);
    terminals.iter().for_each(|terminal| terminal.press(&["3"]));
    let lines = terminals[1].wait_until(|lines| row_in(lines, CLIENT4).is_some());
    assert!(lines.iter().any(|line| line.contains("samples/s of another top)")), "{lines:#?}");
    terminals[0].wait_until(|lines| row_in(lines, CLIENT4).is_some());
    terminals[0].press(&["q"]);
    assert!(first.wait().success());
    terminals[1].wait_for("samples/s) ");
    assert!(is_open(&lab));
    terminals[1].press(&["q"]);
    assert!(second.wait().success());

    let path = lab.policy(&POLICY.replace("20/s", "10/s"));
    let _ = lab.icmpctl(&["apply", SERVER_END, path.to_str().unwrap(), "--confirm", "10m"]).ok();
    let terminal = &terminals[0];
    let mut waits = top(&lab, terminal);
    terminal.press(&["3"]);
    terminal.wait_for("No samples: the policy on server0 goes in");
    terminal.press(&["1"]);
    terminal.wait_until(|lines| row_in(lines, "30").is_some_and(|line| !line.contains(" 0.0 ")));
    assert!(!is_open(&lab));
    let _ = lab.icmpctl(&["confirm", SERVER_END]).ok();
    terminal.press(&["3"]);
    terminal.wait_until(|lines| row_in(lines, CLIENT4).is_some());
    // A policy that is put in place meanwhile does not close the channel.
    let path = lab.policy(POLICY);
    let _ = lab.icmpctl(&["apply", SERVER_END, path.to_str().unwrap()]).ok();
    assert!(is_open(&lab));
    terminal.press(&["q"]);
    assert!(waits.wait().success());
    assert!(!is_open(&lab));
    assert!(has_no_channels(&lab));
}

/// Whether nothing is recorded of channels.
fn has_no_channels(lab: &Lab) -> bool {
    let key = lab.server.key(lab.server.index(SERVER_END));
    let record = fs::read_to_string(Path::new("/run/icmpctl").join(format!("{key}.json"))).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    record["channels"].as_array().unwrap().iter().all(serde_json::Value::is_null)
}

#[test]
#[ignore = "needs root and BPF"]
fn without_a_terminal_there_is_nothing_to_show() {
    let lab = Lab::attached("generic", "");
    lab.icmpctl(&["top"]).fails(2, &["top needs a terminal", "icmpctl stats --watch 1s"]);
    let terminal = Terminal::new(80, 24);
    let _ = lab.icmpctl(&["detach", SERVER_END]).ok();
    for (arguments, why) in [
        (&["top"][..], "icmpctl is attached to no interface"),
        (&["top", SERVER_END], "icmpctl is not attached to server0"),
        (&["top", "eth9"], "there is no interface eth9"),
    ] {
        let mut failed = terminal.start(&mut lab.command(arguments));
        assert_eq!(failed.wait().code(), Some(1));
        terminal.wait_for(why);
        terminal.assert_restored();
    }
}
