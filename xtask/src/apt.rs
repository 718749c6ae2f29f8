//! Installing Debian's packages, where that is possible.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

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

/// Runs apt-get without questions; what it prints is shown if it fails.
fn apt_get(arguments: &[&str]) -> Result<()> {
    let output = Command::new("apt-get")
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
