//! `cargo xtask run`: the lab, or icmpctl on an interface.

use std::{
    ffi::{OsStr, OsString},
    os::unix::process::CommandExt as _,
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{
    Setup,
    cargo::find,
    lab,
    userspace::{self, Build},
};

/// What `cargo xtask run` understands.
#[derive(Args)]
pub(crate) struct Run {
    /// Run on this interface, instead of in a lab
    #[arg(long, value_name = "NAME")]
    iface: Option<OsString>,
    /// Build an optimised icmpctl
    #[arg(long, requires = "iface")]
    release: bool,
    /// Leave the lab up, and say how to play with it and how to remove it
    #[arg(long, conflicts_with = "iface")]
    keep: bool,
    #[command(flatten)]
    setup: Setup,
    /// Options for `icmpctl run`
    #[arg(last = true, requires = "iface")]
    options: Vec<OsString>,
}

/// Shows icmpctl at work in the lab, or runs it on the interface that was named.
pub(crate) fn run(run: &Run) -> Result<()> {
    match &run.iface {
        Some(interface) => on_interface(run, interface),
        None => lab::run(run.setup, run.keep),
    }
}

/// Runs `icmpctl run IFACE OPTIONS`, through sudo if we are not root. Returns only if that can't be started.
fn on_interface(run: &Run, interface: &OsStr) -> Result<()> {
    let built = userspace::both_halves(&Build { release: run.release, debug_log: false, setup: run.setup })?;
    let mut command = if rustix::process::geteuid().is_root() {
        Command::new(&built.icmpctl)
    } else if let Some(sudo) = find("sudo") {
        let mut command = Command::new(sudo);
        command.arg(&built.icmpctl);
        command
    } else {
        bail!(
            "attaching to {} takes root, and there is no sudo; as root, run: {} run {}",
            interface.display(),
            built.icmpctl.display(),
            interface.display()
        );
    };
    command.arg("run").arg(interface).args(&run.options);
    Err(command.exec()).with_context(|| format!("cannot start {command:?}"))
}
