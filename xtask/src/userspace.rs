//! Builds `icmpctl`, which embeds the kernel half.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{
    Setup,
    cargo::{KERNEL_OBJECT, Warnings, build as cargo_build, cargo},
    ebpf::{self, Objects},
    toolchain,
};

/// What `cargo xtask build` understands.
#[derive(Args, Clone, Copy)]
pub(crate) struct Build {
    /// Optimise icmpctl; the kernel half always is
    #[arg(long)]
    pub(crate) release: bool,
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
    let objects = ebpf::build(&toolchain, Warnings::Show)?;
    let icmpctl = icmpctl(build.release)?;
    Ok(Built { icmpctl, objects })
}

fn icmpctl(release: bool) -> Result<PathBuf> {
    let mut cargo = cargo();
    cargo.args(["build", "--package", "icmp-userspace", "--bin", "icmpctl", "--features", KERNEL_OBJECT]);
    if release {
        cargo.arg("--release");
    }
    let binaries = cargo_build(&mut cargo, "building icmpctl", Warnings::Show, &[])?;
    let icmpctl = binaries.into_iter().find(|(name, _)| name == "icmpctl");
    icmpctl.map(|(_, path)| path).context("building icmpctl: cargo reports no binary of that name")
}
