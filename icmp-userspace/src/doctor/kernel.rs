//! What a kernel can do, and what this process may do there.

use std::io;

use super::Finding;
use crate::kernel::{
    probe::{Ability, Kernel},
    release::{self, OLDEST},
};

/// What is to be said of an ability: its name, the first kernel that has it, what it is for, and whether nothing goes without it.
const fn described(ability: Ability) -> (&'static str, (u32, u32), &'static str, bool) {
    match ability {
        Ability::Programs => ("XDP programs", (4, 8), "packets are answered by an XDP program", true),
        Ability::Tables => ("large tables", (6, 0), "a policy's tables may take more than 4 MiB", true),
        Ability::CompareAndSwap => {
            ("compare-and-swap", (5, 12), "CPUs share buckets of rates without losing a packet", true)
        }
        Ability::Tai => ("clock TAI", (6, 1), "timestamp replies tell the time of day by it", true),
        Ability::LinkUpdate => {
            ("link update", (5, 9), "policies take each other's place between two packets", true)
        }
        Ability::RingBuffer => ("ring buffer", (5, 8), "events can reach user space through it", false),
        Ability::Frags => {
            ("multi-buffer XDP", (5, 18), "natively, jumbo frames arrive in several buffers", false)
        }
    }
}

/// All there is to say of a kernel.
#[must_use]
pub fn about_kernel(kernel: &Kernel) -> Vec<Finding> {
    let mut findings = vec![version(kernel), privileges(kernel)];
    findings.extend(abilities(kernel));
    findings.extend(jit(kernel));
    findings.push(btf(kernel));
    findings.push(bpffs(kernel));
    findings.push(jiffies(kernel));
    findings.push(tai(kernel));
    findings.extend(pings(kernel));
    findings
}

fn version(kernel: &Kernel) -> Finding {
    let found = format!("Linux {} on {}", kernel.release, kernel.machine);
    let Some(version) = release::version(&kernel.release) else {
        return Finding::note("kernel", found)
            .means("which version that is can't be told; what it can do is tried");
    };
    if version >= OLDEST {
        return Finding::ok("kernel", found);
    }
    let lacking =
        Ability::ALL.map(described).into_iter().filter(|(_, since, _, needed)| *needed && version < *since);
    let lacking: Vec<_> = lacking
        .map(|(name, (major, minor), why, _)| format!("{name} came with {major}.{minor}: {why}"))
        .collect();
    let (major, minor) = OLDEST;
    Finding::problem("kernel", found)
        .means(format!("it is too old; {}", lacking.join("; ")))
        .advises(format!("boot Linux {major}.{minor} or later"))
}

fn privileges(kernel: &Kernel) -> Finding {
    if kernel.lacked.is_empty() {
        return Finding::ok("privileges", "CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON are there");
    }
    Finding::problem("privileges", format!("this process lacks {}", kernel.lacked.join(", ")))
        .means("nothing can be loaded or attached; what the kernel can do was not tried")
        .advises("run icmpctl as root, for example with sudo")
}

fn abilities(kernel: &Kernel) -> Vec<Finding> {
    match kernel.abilities.first() {
        // None of the others would say anything else.
        Some((Ability::Programs, Err(error))) => vec![without_programs(error)],
        _ => kernel
            .abilities
            .iter()
            .map(|(ability, outcome)| tried(*ability, outcome.as_ref().err()))
            .collect(),
    }
}

fn without_programs(error: &io::Error) -> Finding {
    let (name, ..) = described(Ability::Programs);
    let (meaning, advice) = match error.raw_os_error() {
        Some(libc::ENOSYS) => (
            "this kernel has no bpf(2), or a filter of system calls hides it",
            "boot a kernel with CONFIG_BPF_SYSCALL; in a container, allow the system call bpf",
        ),
        Some(libc::EPERM | libc::EACCES) => (
            "the capabilities are there, but something else forbids it: a filter of system calls, lockdown, or a security module",
            "in a container, allow the system call bpf; else look into /sys/kernel/security/lockdown and the kernel's log",
        ),
        _ => ("nothing can be loaded", "boot a kernel with CONFIG_BPF_SYSCALL and CONFIG_NET"),
    };
    Finding::problem(name, format!("the kernel refuses one of two instructions: {error}"))
        .means(meaning)
        .advises(advice)
}

fn tried(ability: Ability, error: Option<&io::Error>) -> Finding {
    let (name, (major, minor), why, needed) = described(ability);
    let Some(error) = error else { return Finding::ok(name, "there").means(why) };
    let found = format!("the kernel refuses it: {error}");
    let finding = if needed { Finding::problem(name, found) } else { Finding::note(name, found) };
    finding
        .means(format!("not to be had: {why}"))
        .advises(format!("Linux {major}.{minor} was the first to have it"))
}

fn jit(kernel: &Kernel) -> Option<Finding> {
    let finding = match (kernel.is_jitted?, kernel.jit_harden) {
        (false, _) => Finding::note("BPF JIT", "off: programs are interpreted")
            .means("each packet costs many times as much")
            .advises("sysctl net.core.bpf_jit_enable=1"),
        (true, Some(2..)) => Finding::note("BPF JIT", "on, hardened (net.core.bpf_jit_harden is 2)")
            .means("root's programs are hardened, too: each packet costs more, and loading takes longer")
            .advises("sysctl net.core.bpf_jit_harden=1 hardens only what users without privileges load"),
        (true, _) => Finding::ok("BPF JIT", "on: programs become machine code"),
    };
    Some(finding)
}

fn btf(kernel: &Kernel) -> Finding {
    if kernel.has_btf {
        return Finding::ok("BTF", "the kernel describes its own types");
    }
    Finding::note("BTF", "the kernel does not describe its own types (CONFIG_DEBUG_INFO_BTF)")
        .means("icmpctl needs no such thing; other tools that look at it may")
}

fn bpffs(kernel: &Kernel) -> Finding {
    let path = kernel.bpffs.display();
    if kernel.has_bpffs {
        return Finding::ok("BPF file system", format!("mounted at {path}"));
    }
    Finding::problem("BPF file system", format!("none is mounted at {path}"))
        .means("what keeps a program attached when icmpctl ends has no place")
        .advises(format!("mount -t bpf bpf {path}, or name another one with --bpffs"))
}

fn jiffies(kernel: &Kernel) -> Finding {
    let hz = kernel.hz.max(1);
    Finding::ok("clock of rates", format!("{hz} ticks a second"))
        .means(format!("what comes within {} ms comes at once for a rate", 1000_u32.div_ceil(hz)))
}

fn tai(kernel: &Kernel) -> Finding {
    match kernel.tai_offset {
        0 => Finding::note("offset of TAI", "not set")
            .means(
                "timestamp replies, where the policy has any, are TAI less this offset: once a time daemon sets it they are wrong \
                 by leap seconds until the next policy is in place; `icmpctl run` sees to that itself",
            )
            .advises("let the time daemon set it (chrony: leapsectz right/UTC, or leapseclist) before `icmpctl attach`"),
        offset => Finding::ok("offset of TAI", format!("{offset} s")).means("timestamp replies are TAI less this"),
    }
}

fn pings(kernel: &Kernel) -> Option<Finding> {
    let [v4, v6] = kernel.ignores_echo;
    let names: Vec<_> = [(v4, "net.ipv4.icmp_echo_ignore_all"), (v6, "net.ipv6.icmp.echo_ignore_all")]
        .into_iter()
        .filter_map(|(is_set, name)| is_set.then_some(name))
        .collect();
    if names.is_empty() {
        return None;
    }
    let finding = Finding::note("stack's pings", format!("set: {}", names.join(", ")))
        .means("the stack answers no pings; XDP runs before it, and answers what is served all the same")
        .advises("to be silent, set enabled = false in [respond]");
    Some(finding)
}

#[cfg(test)]
pub(super) mod tests {
    use super::{super::Level, *};

    /// A kernel as it should be.
    pub(in super::super) fn good() -> Kernel {
        Kernel {
            release: "6.12.3-amd64".to_owned(),
            machine: "x86_64".to_owned(),
            lacked: Vec::new(),
            abilities: Ability::ALL.map(|ability| (ability, Ok(()))).into(),
            is_jitted: Some(true),
            jit_harden: Some(0),
            has_btf: true,
            bpffs: "/sys/fs/bpf".into(),
            has_bpffs: true,
            cpus: 4,
            hz: 250,
            tai_offset: 37,
            ignores_echo: [false; 2],
            program_takes_frags: true,
        }
    }

    /// What is said about one thing.
    fn said(kernel: &Kernel, about: &str) -> Finding {
        let findings = about_kernel(kernel);
        let found = findings.iter().find(|finding| finding.about == about);
        found.unwrap_or_else(|| panic!("nothing about {about} in {findings:#?}")).clone()
    }

    fn refused(ability: Ability, code: i32) -> Kernel {
        let mut kernel = good();
        for (tried, outcome) in &mut kernel.abilities {
            if *tried == ability {
                *outcome = Err(io::Error::from_raw_os_error(code));
            }
        }
        kernel
    }

    #[test]
    fn a_good_kernel_has_nothing_to_be_noted() {
        let findings = about_kernel(&good());
        assert!(findings.iter().all(|finding| finding.level == Level::Ok), "{findings:#?}");
        assert_eq!(
            said(&good(), "clock of rates").meaning.unwrap(),
            "what comes within 4 ms comes at once for a rate"
        );
    }

    #[test]
    fn old_kernels_are_told_which_is_needed_and_why() {
        for (release, parts, others) in [
            ("5.10.0-32-amd64", &["compare-and-swap", "large tables", "clock TAI"][..], &["link update"][..]),
            ("6.0.19", &["clock TAI came with 6.1"], &["compare-and-swap", "large tables"]),
        ] {
            let finding = said(&Kernel { release: release.to_owned(), ..good() }, "kernel");
            assert_eq!(finding.level, Level::Problem);
            assert_eq!(finding.advice.as_deref(), Some("boot Linux 6.1 or later"));
            let meaning = finding.meaning.unwrap();
            assert!(parts.iter().all(|part| meaning.contains(part)), "{meaning}");
            assert!(!others.iter().any(|other| meaning.contains(other)), "{meaning}");
        }
        assert_eq!(said(&Kernel { release: "6.1.0".to_owned(), ..good() }, "kernel").level, Level::Ok);
        assert_eq!(said(&Kernel { release: "unknown".to_owned(), ..good() }, "kernel").level, Level::Note);
    }

    #[test]
    fn what_is_refused_is_a_problem_where_it_is_needed() {
        for (ability, about, level) in [
            (Ability::Tables, "large tables", Level::Problem),
            (Ability::CompareAndSwap, "compare-and-swap", Level::Problem),
            (Ability::Tai, "clock TAI", Level::Problem),
            (Ability::LinkUpdate, "link update", Level::Problem),
            (Ability::RingBuffer, "ring buffer", Level::Note),
            (Ability::Frags, "multi-buffer XDP", Level::Note),
        ] {
            let finding = said(&refused(ability, libc::EINVAL), about);
            assert_eq!(finding.level, level, "{about}");
            assert!(finding.found.contains("Invalid argument"), "{finding:?}");
        }
    }

    #[test]
    fn without_programs_nothing_else_is_said_of_bpf() {
        for (code, part) in [(libc::ENOSYS, "CONFIG_BPF_SYSCALL"), (libc::EPERM, "lockdown")] {
            let mut kernel = refused(Ability::Programs, code);
            kernel.is_jitted = None;
            assert!(said(&kernel, "XDP programs").advice.unwrap().contains(part));
            assert!(about_kernel(&kernel).iter().all(|finding| finding.about != "large tables"));
        }
    }

    #[test]
    fn missing_privileges_and_file_systems_are_problems() {
        let kernel = Kernel { lacked: vec!["CAP_BPF"], abilities: Vec::new(), is_jitted: None, ..good() };
        let finding = said(&kernel, "privileges");
        assert_eq!((finding.level, &*finding.found), (Level::Problem, "this process lacks CAP_BPF"));
        let finding = said(&Kernel { has_bpffs: false, ..good() }, "BPF file system");
        assert_eq!(finding.level, Level::Problem);
        assert!(finding.advice.unwrap().starts_with("mount -t bpf bpf /sys/fs/bpf"));
    }

    #[test]
    fn what_costs_or_surprises_is_noted() {
        for (kernel, about, part) in [
            (Kernel { is_jitted: Some(false), ..good() }, "BPF JIT", "bpf_jit_enable=1"),
            (Kernel { jit_harden: Some(2), ..good() }, "BPF JIT", "bpf_jit_harden=1"),
            (Kernel { tai_offset: 0, ..good() }, "offset of TAI", "time daemon"),
            (Kernel { ignores_echo: [true, false], ..good() }, "stack's pings", "enabled = false"),
        ] {
            let finding = said(&kernel, about);
            assert_eq!(finding.level, Level::Note);
            assert!(finding.advice.as_ref().unwrap().contains(part), "{finding:?}");
        }
        let both = said(&Kernel { ignores_echo: [true; 2], ..good() }, "stack's pings");
        assert_eq!(both.found, "set: net.ipv4.icmp_echo_ignore_all, net.ipv6.icmp.echo_ignore_all");
    }
}
