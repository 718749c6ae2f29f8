//! Builds `icmpctl`, which embeds the kernel half.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{
    Setup,
    cargo::{KERNEL_OBJECT, Warnings, build as cargo_build, cargo, workspace},
    ebpf::{self, Half, Objects},
    toolchain,
};

/// What `cargo xtask build` understands.
#[derive(Args, Clone, Copy)]
pub(crate) struct Build {
    /// Optimise icmpctl; the kernel half always is
    #[arg(long)]
    pub(crate) release: bool,
    /// Build a kernel half that logs each step of a packet, and an icmpctl in target/debug-log whose `run --trace` prints it
    #[arg(long, conflicts_with = "release")]
    pub(crate) debug_log: bool,
    #[command(flatten)]
    pub(crate) setup: Setup,
}

/// What a build has made.
pub(crate) struct Built {
    /// The binary `icmpctl`.
    pub(crate) icmpctl: PathBuf,
    /// The kernel half.
    pub(crate) objects: Objects,
}

/// Sets up and builds the kernel half, then `icmpctl` around it.
pub(crate) fn both_halves(build: &Build) -> Result<Built> {
    let toolchain = toolchain::ensure(build.setup)?;
    let half = if build.debug_log { Half::DebugLog } else { Half::Plain };
    let objects = ebpf::build(&toolchain, half, Warnings::Show)?;
    let icmpctl = icmpctl(build)?;
    Ok(Built { icmpctl, objects })
}

fn icmpctl(build: &Build) -> Result<PathBuf> {
    let mut cargo = cargo();
    cargo.args(["build", "--package", "icmp-userspace", "--bin", "icmpctl", "--features", KERNEL_OBJECT]);
    if build.release {
        cargo.arg("--release");
    }
    if build.debug_log {
        // Elsewhere, so that the one that is used lies where it lies.
        cargo.args(["--features", "icmp-userspace/debug-log", "--target-dir"]);
        cargo.arg(workspace().join("target/debug-log"));
    }
    let binaries = cargo_build(&mut cargo, "building icmpctl", Warnings::Show, &[])?;
    let icmpctl = binaries.into_iter().find(|(name, _)| name == "icmpctl");
    icmpctl.map(|(_, path)| path).context("building icmpctl: cargo reports no binary of that name")
}
