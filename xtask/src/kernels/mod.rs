//! The same tests under other kernels: Debian's are booted one after the other under QEMU.
//!
//! `packages` fetches them, `image` packs what is to run into their first files, `qemu` boots them, `guest` is what runs in them then, and
//! `report` and `table` say what came of it.

mod cpio;
pub(crate) mod guest;
mod image;
mod packages;
mod qemu;
mod report;
mod table;
mod version;

use std::{
    collections::BTreeMap,
    env::consts::ARCH,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

pub(crate) use self::version::Wanted;
use self::{image::Image, packages::Kernel, report::Report, table::Table};
use crate::{
    Setup,
    cargo::{KERNEL_OBJECT, Warnings, build as cargo_build, cargo},
    ebpf::Objects,
    say::step,
    tools,
};

/// A file of tests.
struct Suite {
    name: &'static str,
    /// Parts of the names of those tests that are run unless others are asked for; all if there are none.
    usual: &'static [&'static str],
}

/// What is run: what the object file must be like, what the verifier makes of it, what the loaded program does with single frames, and
/// with real clients at the other end of a veth pair. Of the last two the core: what differs between kernels shows in it, and the
/// rest takes minutes where instructions are interpreted.
const SUITES: [Suite; 4] = [
    Suite { name: "object", usual: &[] },
    Suite { name: "verifier", usual: &[] },
    Suite {
        name: "testrun",
        usual: &["every_reason", "every_length", "longer_than_all", "captured_request", "next_hop"],
    },
    Suite {
        name: "veth",
        usual: &[
            "pings_are_answered",
            "tagged_frames_are_answered_in_native",
            "exact_under_a_flood_in_native",
            "tcp_passes",
            "routing_table",
        ],
    },
];

/// The names of the suites.
fn names() -> impl Iterator<Item = &'static str> {
    SUITES.iter().map(|suite| suite.name)
}

/// The kernels of an ordinary test run: the oldest that is supported, that of Debian 13, and the newest.
pub(crate) fn usual() -> Vec<Wanted> {
    vec![Wanted::Version("6.1".into()), Wanted::Version("6.12".into()), Wanted::Newest]
}

/// The machines on which kernels are booted: with them the tests, which are built for this one, must run.
const BOOTS: &str = "x86_64";

/// What the kernel itself says, beside it in the cache.
const CONSOLE: &str = "console.log";

/// Installs what booting takes.
pub(crate) fn set_up(setup: Setup) -> Result<()> {
    if ARCH == BOOTS { tools::ensure_for_kernels(setup) } else { Ok(()) }
}

/// Kernels that can be booted here.
pub(crate) struct Kernels(Vec<Kernel>);

impl Kernels {
    /// Makes sure of all that it takes to boot these; the error says why that can't be.
    pub(crate) fn ready(wanted: &[Wanted], setup: Setup) -> Result<Self> {
        ensure!(ARCH == BOOTS, "their packages are for {BOOTS}, and this is {ARCH}");
        tools::ensure_for_kernels(setup)?;
        packages::fetch(wanted).map(Self)
    }

    /// Runs the tests whose names contain `name` under each, and shows a table of what came of it.
    pub(crate) fn test(&self, objects: &Objects, name: &str) -> Result<()> {
        let mut image = Image::new(&icmpctl()?, objects, &tests()?)?;
        for kernel in &self.0 {
            image.module(kernel)?;
        }
        let initramfs = packages::directory().join("initramfs");
        image.write(name, &initramfs)?;
        let mut runs = Vec::new();
        for kernel in &self.0 {
            let mut run = Run { release: &kernel.release, report: boot(kernel, &initramfs)? };
            // What breaks off by the emulator's fault does so once; by ours, twice.
            if run.report.error.is_some() {
                println!("Linux {} broke off; once more:\n{}", kernel.release, run.report.text.trim_end());
                run.report = boot(kernel, &initramfs)?;
            }
            if !run.report.is_well(SUITES.len()) {
                let console = kernel.directory().join(CONSOLE);
                println!(
                    "{}\nWhat the kernel said is in {}.\n",
                    run.report.text.trim_end(),
                    console.display()
                );
            }
            runs.push(run);
        }
        print!("\n{}", Table(&runs));
        judge(&runs, name)
    }
}

/// One kernel, and what it came to.
struct Run<'a> {
    release: &'a str,
    report: Report,
}

/// Boots a kernel and listens to it, until it is done.
fn boot(kernel: &Kernel, initramfs: &Path) -> Result<Report> {
    step(&format!("running the tests under Linux {}", kernel.release));
    let mut report = Report::new();
    let end = qemu::boot(kernel, initramfs, &kernel.directory().join(CONSOLE), |line| report.take(line))?;
    if let Err(error) = end {
        report.error.get_or_insert(error);
    }
    Ok(report)
}

/// Makes an error of what is not well, also of tests that there are none of.
fn judge(runs: &[Run<'_>], name: &str) -> Result<()> {
    let failed: Vec<_> =
        runs.iter().filter(|run| !run.report.is_well(SUITES.len())).map(|run| run.release).collect();
    ensure!(failed.is_empty(), "the tests failed under Linux {} (see above)", failed.join(", "));
    for Run { release, report } in runs {
        let empty = report.suites.iter().filter(|suite| suite.passed == 0).count();
        if name.is_empty() {
            ensure!(empty == 0, "a suite has run no test under Linux {release} (see above)");
        } else {
            ensure!(empty < SUITES.len(), "no test of {} has a name with {name}", listed());
        }
    }
    Ok(())
}

fn listed() -> String {
    names().collect::<Vec<_>>().join(", ")
}

/// How `icmpctl` and the tests are built: optimised, because an emulator interprets them.
const BUILD: [&str; 5] = ["--workspace", "--features", KERNEL_OBJECT, "--profile", "emulated"];

/// Builds `icmpctl`.
fn icmpctl() -> Result<PathBuf> {
    let mut cargo = cargo();
    cargo.arg("build").args(BUILD).args(["--bin", "icmpctl"]);
    let built = cargo_build(&mut cargo, "building icmpctl for other kernels", Warnings::Show, &[])?;
    let icmpctl = built.into_iter().find(|(name, _)| name == "icmpctl");
    icmpctl.map(|(_, path)| path).context("building icmpctl: cargo reports no binary of that name")
}

/// Builds the suites.
fn tests() -> Result<BTreeMap<String, PathBuf>> {
    let mut cargo = cargo();
    cargo.args(["test", "--no-run"]).args(BUILD);
    for name in names() {
        cargo.args(["--test", name]);
    }
    let built = cargo_build(&mut cargo, "building the tests for other kernels", Warnings::Show, &[])?;
    let built: BTreeMap<_, _> =
        built.into_iter().filter(|(name, _)| names().any(|suite| suite == name)).collect();
    ensure!(built.len() == SUITES.len(), "cargo does not report a binary for each of {}", listed());
    Ok(built)
}
