//! A kernel that is booted under QEMU, and what it says on its serial lines.
//!
//! Instructions are interpreted (TCG): that works on every machine, also on one that is itself virtual, and times say little.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

use super::{guest, packages::Kernel};

/// Seconds after which a kernel that has not powered off is given up: several times what all suites take on a busy machine.
const PATIENCE: &str = "600";
/// What `timeout` exits with if it had to end a command by SIGKILL.
const KILLED: i32 = 128 + 9;

/// Boots a kernel with its first files and hands on what the tests say, line by line, until it powers off. What the kernel itself says
/// goes to a file. The error says how it ended if it did not end well.
pub(super) fn boot(
    kernel: &Kernel,
    initramfs: &Path,
    console: &Path,
    mut line: impl FnMut(&str),
) -> Result<Result<(), String>> {
    // `timeout`, so that it also ends if nobody is left who waits for it; in the foreground, so that Ctrl-C reaches both.
    let mut command = Command::new("timeout");
    command.args(["--foreground", "--signal=KILL", PATIENCE, "qemu-system-x86_64"]);
    // All processors in one thread: with one each, the emulator may run an instruction that another processor is just changing,
    // as kernels do when an XDP program is attached, and the guest dies in `bpf_dispatcher_xdp_func`.
    command.args(["-accel", "tcg,thread=single", "-cpu", "max", "-smp", guest::CPUS, "-m", "2048"]);
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    command.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(initramfs);
    command.args(["-append", &format!("console=ttyS0 quiet panic=-1 -- {}", guest::ERRAND)]);
    command.arg("-serial").arg(format!("file:{}", console.display())).args(["-serial", "stdio"]);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start qemu-system-x86_64 by way of timeout")?;
    let lines = child.stdout.take().map(BufReader::new).into_iter().flat_map(|lines| lines.split(b'\n'));
    for text in lines {
        let text = text.context("reading a kernel's serial line")?;
        line(String::from_utf8_lossy(&text).trim_end_matches('\r'));
    }
    let status = child.wait().context("waiting for qemu-system-x86_64")?;
    Ok(match status.code() {
        Some(0) => Ok(()),
        Some(KILLED) => Err(format!("it has not come to an end within {PATIENCE} seconds")),
        _ => Err(format!("qemu-system-x86_64 failed ({status})")),
    })
}
