//! `cargo xtask test`: builds both halves and runs every test that can run here.

use std::{
    env,
    ffi::OsString,
    io::{BufRead, BufReader, IsTerminal as _, stdout},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use crate::{
    Setup,
    cargo::{KERNEL_OBJECT, cargo, run, search_path},
    kernels::{self, Kernels, Wanted},
    sanitizer,
    say::step,
    tools,
    userspace::{self, Build, Built},
    world,
};

/// What `cargo xtask test` understands.
#[derive(Args)]
pub(crate) struct Test {
    /// Run only tests whose names contain this, and only here unless `--kernel` says otherwise
    name: Option<String>,
    /// Run the core of the tests of the loaded program and of a veth pair, instead of all tests here, under these kernels of Debian's: versions
    /// such as 6.1, or `newest`; without this option 6.1, 6.12 and the newest come after the tests here
    #[arg(long, value_name = "VERSION,...", value_delimiter = ',', conflicts_with_all = ["long", "arguments"])]
    kernel: Vec<Wanted>,
    /// Try random cases many times as often, and flood and probe for minutes
    #[arg(long)]
    long: bool,
    #[command(flatten)]
    setup: Setup,
    /// Arguments for the test binaries
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

/// Sets up, builds, and runs the tests: those that were asked for by name or by kernel, or all, here and then under other kernels.
pub(crate) fn all(test: &Test) -> Result<()> {
    let built = userspace::both_halves(&Build { release: false, debug_log: false, setup: test.setup })?;
    let name = test.name.as_deref().unwrap_or_default();
    if !test.kernel.is_empty() {
        return Kernels::ready(&test.kernel, test.setup)?.test(&built.objects, name);
    }
    here(test, &built)?;
    if !name.is_empty() || !test.arguments.is_empty() {
        return Ok(());
    }
    match Kernels::ready(&kernels::usual(), test.setup) {
        Ok(kernels) => kernels.test(&built.objects, name),
        Err(reason) => skip(&format!("the tests under other kernels are skipped: {reason:#}")),
    }
}

/// Runs tests under the kernel that runs here.
///
/// Those that need root and BPF are marked `#[ignore = "needs root and BPF"]`. They run where they can, in a
/// world of their own; elsewhere they are counted, and with `CI=true` that is a failure.
fn here(test: &Test, built: &Built) -> Result<()> {
    let privileged = privileged(test.setup)?;

    let mut cargo = cargo();
    cargo
        .args(["test", "--workspace", "--features", KERNEL_OBJECT])
        .args(&test.name)
        .arg("--")
        .env("PATH", env::join_paths(search_path()).context("making a search path")?)
        .env("ICMPCTL_XTASK", env::current_exe().context("asking where this program is")?)
        .env("ICMPCTL_BIN", &built.icmpctl)
        .env("ICMPCTL_OBJECT", &built.objects.icmpctl)
        .env("ICMPCTL_INSTRUMENTS", &built.objects.instruments);
    if test.long {
        cargo.env("ICMPCTL_LONG", "1");
    }
    step("running the tests");
    match privileged {
        Ok(()) => run(cargo.arg("--include-ignored").args(&test.arguments), "running the tests (see above)")?,
        Err(reason) => {
            if stdout().is_terminal() {
                cargo.arg("--color=always");
            }
            let skipped = run_counting(cargo.args(&test.arguments))?;
            if skipped != 0 {
                skip(&format!("{skipped} tests skipped, which need root and BPF: {reason:#}"))?;
            }
        }
    }
    if test.name.is_some() {
        return Ok(());
    }
    match sanitizer::is_there() {
        Ok(()) => sanitizer::fuzz(&test.arguments),
        Err(reason) => skip(&format!("1 test skipped, which needs AddressSanitizer: {reason:#}")),
    }
}

/// Says what is skipped.
fn skip(report: &str) -> Result<()> {
    ensure!(!strict(env::var("CI").ok().as_deref()), "{report}; with CI=true that is a failure");
    step(report);
    Ok(())
}

/// Enters the private world; the inner error says why privileged tests can't run here.
fn privileged(setup: Setup) -> Result<Result<()>> {
    if let Err(reason) = world::can_run_privileged() {
        return Ok(Err(reason));
    }
    tools::ensure_for_tests(setup)?;
    Ok(world::has_bpf().and_then(|()| world::enter()))
}

/// Whether a skipped test is a failure.
fn strict(ci: Option<&str>) -> bool {
    ci == Some("true")
}

/// Runs the tests, shows what they print, and counts those that were ignored.
fn run_counting(cargo: &mut Command) -> Result<usize> {
    let mut child = cargo.stdout(Stdio::piped()).spawn().context("cannot start cargo test")?;
    let mut skipped = 0;
    for line in child.stdout.take().map(BufReader::new).into_iter().flat_map(BufRead::lines) {
        let line = line.context("reading what the tests print")?;
        println!("{line}");
        skipped += ignored(&line).unwrap_or(0);
    }
    let status = child.wait().context("waiting for cargo test")?;
    if !status.success() {
        bail!("running the tests failed ({status}; see above)");
    }
    Ok(skipped)
}

/// The number of ignored tests in libtest's summary line.
fn ignored(line: &str) -> Option<usize> {
    let (_, counts) = line.split_once("test result: ")?;
    let count = counts.split(';').find_map(|count| count.trim().strip_suffix(" ignored"))?;
    count.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_tests_are_counted() {
        let line =
            "test result: ok. 12 passed; 0 failed; 7 ignored; 0 measured; 1 filtered out; finished in 0.01s";
        assert_eq!(ignored(line), Some(7));
        let coloured = "test result: \u{1b}[32mok\u{1b}(B\u{1b}[m. 0 passed; 0 failed; 3 ignored; 0 measured";
        assert_eq!(ignored(coloured), Some(3));
    }

    #[test]
    fn other_lines_count_nothing() {
        assert_eq!(ignored("test veth::ping ... ignored, needs root and BPF"), None);
        assert_eq!(ignored("running 7 tests"), None);
    }

    #[test]
    fn only_ci_is_strict() {
        assert!(strict(Some("true")));
        assert!(!strict(Some("false")));
        assert!(!strict(None));
    }
}
