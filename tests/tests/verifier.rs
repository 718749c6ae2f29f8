//! What the program costs the kernel's verifier, by policy: each is taken, with room to spare, and the figures are printed
//! (`--show-output` shows them); also if signals come meanwhile.

use std::{
    thread,
    time::{Duration, Instant},
};

use icmp_tests::{host::tables, loaded::Loaded};
use rustix::thread::gettid;

/// Somewhat less than what the verifier walks before it gives up (`BPF_COMPLEXITY_LIMIT_INSNS` in `include/linux/bpf.h`): the
/// oldest kernel's takes twice as many steps as the newest's.
const MOST: u32 = 800_000;

/// Loads the program with a policy.
#[track_caller]
fn is_taken(name: &str, policy: &str) {
    let tables = tables(policy);
    let begin = Instant::now();
    let mut loaded = Loaded::new(&tables);
    let time = begin.elapsed();
    let instructions = loaded.verified_instructions();
    println!("verifier: {name}: {instructions} instructions, {} ms", time.as_millis());
    assert!(instructions < MOST, "{name}: {instructions} instructions");
}

/// As it is without a policy.
#[test]
#[ignore = "needs root and BPF"]
fn the_program_without_rules_is_taken() {
    is_taken("plain", "");
}

/// With all that rules can make it do.
#[test]
#[ignore = "needs root and BPF"]
fn the_program_with_rules_and_limits_is_taken() {
    let policy = "respond = { next-hop = \"fib\", timestamp = true, traceroute = true, probe = [\"0.0.0.0/0\", \"::/0\"] }\n\
                  sets.few = [\"198.51.100.0/24\", \"2001:db8:1::/48\"]\n\
                  sets.banned = { dynamic = true }\n\
                  acl.default = \"deny\"\n\
                  acl.rules = \"\"\"\n\
                  deny icmp set:banned any log\n\
                  reject icmp4 10.0.0.0 0.255.1.255 any length 100-200\n\
                  deny icmp set:few any {echo, echo-reply} ttl 0-5\n\
                  limit 10/s burst 20 per source, 1000/s per rule ban 10m after 30s icmp any any echo log\n\
                  limit 10/s per source/24 ban 10m after 30s icmp any any echo length 100-200\n\
                  limit 10/s per source/16 ban 10m after 30s icmp4 any any echo-reply\n\
                  limit 10/s per source/48 ban 10m after 30s icmp6 any any echo-reply\n\
                  deny icmp any any unreachable quoted-source mismatch force\n\
                  deny icmp6 any set:banned packet-too-big quoted-mtu 0-1279 force\n\
                  limit 10/s per destination exceed pass icmp any any log 1/100\n\
                  ";
    // More pairs of sources and destinations than one block holds.
    let pairs = (0..100).map(|host| {
        format!(
            "permit icmp 10.0.{host}.0/24 host 192.0.2.{host} ttl 3\npermit icmp 2001:db8:{host}::/48 host 2001:db8::{host}"
        )
    });
    let policy = format!("{policy}{}\n\"\"\"\n", pairs.collect::<Vec<_>>().join("\n"));
    is_taken("rules and limits", &policy.replace(" log", "").replace(" 1/100", ""));
    is_taken("rules, limits and logs", &policy);
}

/// A signal has the verifier give up (EAGAIN): it is asked again.
#[test]
#[ignore = "needs root and BPF"]
fn signals_do_not_keep_the_program_out() {
    extern "C" fn nothing(_signal: i32) {}
    let handler: extern "C" fn(i32) = nothing;
    // SAFETY: the handler does nothing, and nobody else in this process wants the signal.
    unsafe { libc::signal(libc::SIGUSR1, handler as libc::sighandler_t) };
    let tables = tables("respond.traceroute = true\nacl.rules = 'limit 1/s per source icmp any any log'");
    let loading = gettid().as_raw_nonzero().get();
    let signals = thread::spawn(move || {
        // Fewer than there are attempts, and the first ones while the object file is still being read.
        for _ in 0..8 {
            thread::sleep(Duration::from_millis(25));
            // SAFETY: the call has no pointers.
            let outcome =
                unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), loading, libc::SIGUSR1) };
            assert_eq!(outcome, 0);
        }
    });
    let loaded = Loaded::new(&tables);
    signals.join().unwrap();
    drop(loaded);
}
