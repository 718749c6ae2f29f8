//! Installing or unpacking Debian's packages, where that is possible.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{cargo::find, say::step};

/// Whether packages can be installed: there is apt-get, and we are root.
pub(crate) fn usable() -> bool {
    find("apt-get").is_some() && rustix::process::geteuid().is_root()
}

/// The commands that install `packages`, for a user to type.
pub(crate) fn recipe(packages: &[&str]) -> String {
    format!("apt-get update && apt-get install -y {}", packages.join(" "))
}

/// Installs `packages`, after saying why.
pub(crate) fn install(packages: &[&str], why: &str) -> Result<()> {
    step(&format!("installing by apt-get: {} ({why})", packages.join(" ")));
    // A list of some third party's packages that can't be fetched is no reason to give up: whether the packages
    // themselves can be had is what counts.
    let updated = apt_get(&["update"]);
    let mut arguments = vec!["install", "-y", "--no-install-recommends"];
    arguments.extend(packages);
    apt_get(&arguments)
        .map_err(|error| updated.err().unwrap_or(error))
        .with_context(|| format!("installing {why} (by hand: {})", recipe(packages)))
}

/// Unpacks `packages` into a directory in the place of what is there, after saying why: nothing of them is installed or started, and
/// nothing that they depend on comes along.
pub(crate) fn unpack(packages: &[&str], directory: &Path, why: &str) -> Result<()> {
    step(&format!("downloading by apt-get: {} ({why})", packages.join(" ")));
    // What is only half there when this is interrupted is not found.
    let scratch = directory.with_extension("new");
    let archives = scratch.join("archives");
    let _ = fs::remove_dir_all(&scratch);
    fs::create_dir_all(&archives).with_context(|| format!("making the directory {}", archives.display()))?;
    // As above.
    let updated = apt_get(&["update"]);
    // apt's own user may not be able to reach this directory.
    let mut arguments = vec!["-o", "APT::Sandbox::User=root", "download"];
    arguments.extend(packages);
    apt_get_in(&archives, &arguments).map_err(|error| updated.err().unwrap_or(error))?;
    for archive in fs::read_dir(&archives).with_context(|| format!("reading {}", archives.display()))? {
        let archive = archive.with_context(|| format!("reading {}", archives.display()))?.path();
        let what = || format!("unpacking {}", archive.display());
        let status = Command::new("dpkg-deb").arg("-x").args([&archive, &scratch]).status();
        let status = status.context("cannot start dpkg-deb").with_context(what)?;
        ensure!(status.success(), "{}: dpkg-deb failed ({status})", what());
    }
    fs::remove_dir_all(&archives).with_context(|| format!("removing {}", archives.display()))?;
    let _ = fs::remove_dir_all(directory);
    fs::rename(&scratch, directory).with_context(|| format!("moving to {}", directory.display()))
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    apt_get_in(Path::new("."), arguments)
}

/// Runs apt-get in a directory without questions; what it prints is shown if it fails.
fn apt_get_in(directory: &Path, arguments: &[&str]) -> Result<()> {
    let output = Command::new("apt-get")
        .current_dir(directory)
        .args(["-qq", "-o", "DPkg::Lock::Timeout=300"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .output()
        .context("cannot start apt-get")?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!("apt-get {} failed: {}", arguments.join(" "), String::from_utf8_lossy(&said).trim());
    }
    Ok(())
}
