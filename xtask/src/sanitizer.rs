//! The host build of the data path once more, under AddressSanitizer: reading a byte too far is an error there, and not only luck.

use std::{ffi::OsString, fs};

use anyhow::{Context as _, Result, bail};

use crate::{
    cargo::{KERNEL_OBJECT, ask, cargo, command, run, workspace},
    say::step,
};

/// Runs the test that takes frames of all sorts through the host build. It has been built before without the sanitizer, so that only
/// the workspace's own crates have to be built again.
pub(crate) fn fuzz(arguments: &[OsString]) -> Result<()> {
    step("running the fuzz test under AddressSanitizer");
    let mut cargo = cargo();
    cargo.args(["test", "--package", "icmp-tests", "--test", "fuzz", "--features", KERNEL_OBJECT, "--"]);
    cargo.args(arguments).env("RUSTC_WORKSPACE_WRAPPER", workspace().join("xtask/asan-rustc"));
    run(&mut cargo, "running the fuzz test under AddressSanitizer (see above)")
}

/// Whether the compiler has what the sanitizer needs; if not, the error says what to do.
pub(crate) fn is_there() -> Result<()> {
    let libraries = ask(command("rustc").args(["--print", "target-libdir"])).context("cannot ask rustc")?;
    let files = fs::read_dir(&libraries).with_context(|| format!("reading {libraries}"))?;
    let names = files.flatten().map(|file| file.file_name().to_string_lossy().into_owned());
    if !names.into_iter().any(|name| name.ends_with("_rt.asan.a")) {
        bail!(
            "this rustc has no runtime for it in {libraries}; rustup's stable has one on x86_64 and aarch64"
        );
    }
    Ok(())
}
