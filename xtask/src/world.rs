//! A private world for privileged tests: what they mount goes when they are gone, however they end.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, bail};
use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    thread::{CapabilitySet, UnshareFlags, capabilities},
};

use crate::cargo::find;

/// Directories in which tests make things: names of network namespaces, locks and state.
const OWN: [&str; 2] = ["/run/netns", "/run/icmpctl"];

/// Whether root's tests can run here; if not, the error says why.
pub(crate) fn can_run_privileged() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("not root");
    }
    let held = capabilities(None).context("asking for our capabilities")?.effective;
    if !held.contains(CapabilitySet::SYS_ADMIN) {
        bail!("root without CAP_SYS_ADMIN");
    }
    Ok(())
}

/// Whether bpf(2) works: the kernel has it and no filter forbids it. Asks bpftool, which only lists programs.
pub(crate) fn has_bpf() -> Result<()> {
    let bpftool = find("bpftool").context("there is no bpftool")?;
    let output = Command::new(bpftool).args(["prog", "list"]).output().context("cannot start bpftool")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("no bpf(2) here ({})", said.trim());
    }
    Ok(())
}

/// Moves this process and its children into a mount namespace of their own, with their own, empty
/// directories for what tests make. Call it while there is only one thread.
pub(crate) fn enter() -> Result<()> {
    #[expect(deprecated, reason = "only unsafe for UnshareFlags::FILES, which is not asked for here")]
    rustix::thread::unshare(UnshareFlags::NEWNS).context("making a mount namespace")?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).context("making mounts private")?;
    for directory in OWN {
        fs::create_dir_all(directory).with_context(|| format!("making the directory {directory}"))?;
        mount("tmpfs", directory, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, None)
            .with_context(|| format!("mounting a tmpfs on {directory}"))?;
    }
    Ok(())
}
