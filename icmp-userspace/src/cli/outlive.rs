//! Processes of our own, which nobody types, that do what is left to do when we are gone.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, ensure};
use icmp_userspace::kernel::attach::Places;

/// What such a process says when it is on its own.
const READY: &[u8] = b"ready\n";

/// Starts one in the network namespace of this thread, by what would be typed, and waits until it does not depend on us any more.
/// `what` is what could not be done if that fails.
pub(super) fn start(places: &Places, arguments: &[String], what: &'static str) -> anyhow::Result<Child> {
    let absolute = |path: &Path| std::path::absolute(path).context(what);
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("icmpctl")
        .args(arguments)
        .arg("--bpffs")
        .arg(absolute(&places.bpffs)?)
        .arg("--state")
        .arg(absolute(&places.state)?)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().context(what)?;
    let mut said = Vec::new();
    if let Some(stdout) = &mut child.stdout {
        stdout.take(READY.len() as u64).read_to_end(&mut said).context(what)?;
    }
    ensure!(said == READY, "{what} failed: it ended at once");
    Ok(child)
}

/// Says, as such a process, that it is on its own.
pub(super) fn be_ready() -> anyhow::Result<()> {
    rustix::process::setsid().context("beginning a session")?;
    std::io::stdout().write_all(READY)?;
    let nowhere = File::options().write(true).open("/dev/null").context("opening /dev/null")?;
    rustix::stdio::dup2_stdout(&nowhere).context("closing the output")
}
