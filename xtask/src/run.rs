//! `cargo xtask run`: builds icmpctl and becomes it.

use std::{ffi::OsString, os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{
    Setup,
    cargo::find,
    userspace::{self, Build},
};

/// What `cargo xtask run` understands.
#[derive(Args)]
pub(crate) struct Run {
    /// The interface to answer on
    #[arg(long, value_name = "NAME")]
    iface: OsString,
    /// Build an optimised icmpctl
    #[arg(long)]
    release: bool,
    #[command(flatten)]
    setup: Setup,
    /// Options for `icmpctl run`
    #[arg(last = true)]
    options: Vec<OsString>,
}

/// Runs `icmpctl run IFACE OPTIONS`, through sudo if we are not root. Returns only if that can't be started.
pub(crate) fn on_interface(run: &Run) -> Result<()> {
    let built = userspace::both_halves(&Build { release: run.release, setup: run.setup })?;
    let mut command = if rustix::process::geteuid().is_root() {
        Command::new(&built.icmpctl)
    } else if let Some(sudo) = find("sudo") {
        let mut command = Command::new(sudo);
        command.arg(&built.icmpctl);
        command
    } else {
        bail!(
            "attaching to {} takes root, and there is no sudo; as root, run: {} run {}",
            run.iface.display(),
            built.icmpctl.display(),
            run.iface.display()
        );
    };
    command.arg("run").arg(&run.iface).args(&run.options);
    Err(command.exec()).with_context(|| format!("cannot start {command:?}"))
}
