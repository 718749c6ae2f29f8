//! What runs in a booted kernel as its first process: `cargo xtask` itself, which makes there what tests expect of a machine, runs
//! them, and powers off.
//!
//! What it and the tests say goes to the second serial line, where nothing else is said; [`super::report`] reads it.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};
use rustix::{
    mount::{MountFlags, mount},
    system::{RebootCommand, finit_module, reboot},
};

use super::{SUITES, Suite, report::Line};

/// The errand of `cargo xtask` that this is.
pub(super) const ERRAND: &str = "guest";
/// How many CPUs there are.
pub(super) const CPUS: &str = "2";

/// Where things lie in the first files. The part of test names that was asked for is in [`NAME`].
pub(super) const INIT: &str = "init";
pub(super) const PROGRAMS: &str = "bin";
pub(super) const TESTS: &str = "tests";
pub(super) const MODULES: &str = "modules";
pub(super) const NAME: &str = "name";
pub(super) const ICMPCTL: &str = "icmpctl";
pub(super) const OBJECT: &str = "icmpctl.o";
pub(super) const INSTRUMENTS: &str = "instruments.o";

/// The second serial line.
const REPORT: &str = "/dev/ttyS1";

/// What is mounted, and where.
const MOUNTS: [(&str, &str); 5] =
    [("proc", "/proc"), ("sysfs", "/sys"), ("tmpfs", "/tmp"), ("tmpfs", "/run"), ("bpf", "/sys/fs/bpf")];

/// Runs all suites and powers off.
pub(crate) fn run() -> Result<()> {
    fs::create_dir_all("/dev")?;
    mount("devtmpfs", "/dev", "devtmpfs", MountFlags::empty(), None).context("mounting /dev")?;
    let mut report =
        OpenOptions::new().write(true).open(REPORT).with_context(|| format!("opening {REPORT}"))?;
    if let Err(error) = suites(&mut report) {
        writeln!(report, "{}", Line::Error(format!("{error:#}")))?;
    }
    reboot(RebootCommand::PowerOff).context("powering off")
}

fn suites(report: &mut File) -> Result<()> {
    for (kind, place) in MOUNTS {
        fs::create_dir_all(place).with_context(|| format!("making the directory {place}"))?;
        mount(kind, place, kind, MountFlags::empty(), None).with_context(|| format!("mounting {place}"))?;
    }
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let module = format!("/{MODULES}/{release}.ko");
    let file = File::open(&module).with_context(|| format!("opening {module}"))?;
    finit_module(&file, c"", 0).with_context(|| format!("loading {module}"))?;
    let name = fs::read_to_string(format!("/{NAME}")).context("reading which tests are wanted")?;
    for Suite { name: suite, usual } in SUITES {
        writeln!(report, "{}", Line::Suite(suite.to_owned()))?;
        let mut command = Command::new(format!("/{TESTS}/{suite}"));
        command.args(["--include-ignored", "--show-output", "--test-threads", CPUS]);
        if name.is_empty() {
            command.args(usual);
        } else {
            command.arg(&name);
        }
        let status = command
            .env("PATH", format!("/{PROGRAMS}"))
            .env("ICMPCTL_BIN", format!("/{ICMPCTL}"))
            .env("ICMPCTL_OBJECT", format!("/{OBJECT}"))
            .env("ICMPCTL_INSTRUMENTS", format!("/{INSTRUMENTS}"))
            .stdin(Stdio::null())
            .stdout(report.try_clone()?)
            .stderr(report.try_clone()?)
            .status()
            .with_context(|| format!("starting the tests {suite}"))?;
        writeln!(report, "{}", Line::End(status.success()))?;
    }
    Ok(())
}
