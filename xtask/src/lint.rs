//! `cargo xtask lint`: format, lints and documentation, with warnings denied, in both halves.

use anyhow::Result;

use crate::{
    Setup,
    cargo::{KERNEL_OBJECT, Warnings, cargo, run},
    ebpf::{self, Half},
    say::step,
    toolchain,
};

/// Checks everything, the cheapest first.
pub(crate) fn all(setup: Setup) -> Result<()> {
    step("checking the format");
    run(cargo().args(["fmt", "--all", "--check"]), "checking the format (cargo fmt mends it)")?;

    // Before the rest, which embeds it.
    ebpf::build(&toolchain::ensure(setup)?, Half::Plain, Warnings::Deny)?;

    // Not --all-features: `kernel` switches on binaries that exist for BPF alone.
    let workspace = ["--workspace", "--features", KERNEL_OBJECT, "--quiet"];
    step("checking lints");
    run(
        cargo().arg("clippy").args(workspace).args(["--all-targets", "--", "--deny", "warnings"]),
        "checking lints",
    )?;

    step("checking the documentation");
    run(
        cargo()
            .arg("doc")
            .args(workspace)
            .args(["--no-deps", "--document-private-items"])
            .env("RUSTDOCFLAGS", "--deny warnings"),
        "checking the documentation",
    )
}
