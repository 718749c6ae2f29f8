//! Debian's kernels, from the packages of several of its suites, in `target/kernels`.
//!
//! apt fetches and verifies them, with sources, lists and caches of its own there: what the machine itself has is neither asked nor
//! changed, nothing is installed, and root is not needed. Of a package only the kernel and the veth module are kept.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::version::Wanted;
use crate::{cargo::workspace, say::step};

/// Where the kernels come from: the security suites have those of Debian 12 and 13, sid has the newest that was released.
/// (experimental has release candidates, whose faults nobody can do anything about here.)
const SOURCES: &str = "\
Types: deb
URIs: http://deb.debian.org/debian-security
Suites: bookworm-security trixie-security
Components: main
Targets: Packages
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://deb.debian.org/debian
Suites: sid
Components: main
Targets: Packages
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
";

/// How the names of those kernels end that are made for virtual machines: what these lack is in modules and started sooner.
const FLAVOUR: &str = "-cloud-amd64";

/// For so long the lists of packages are not asked for again.
const LISTS_KEEP: Duration = Duration::from_secs(24 * 60 * 60);

/// A kernel that can be booted.
pub(super) struct Kernel {
    /// Its release, as `uname -r` says it.
    pub(super) release: String,
    /// The kernel itself.
    pub(super) image: PathBuf,
    /// Its module for veth pairs, not compressed.
    pub(super) veth: PathBuf,
}

impl Kernel {
    /// Where a kernel of this release is kept, and what it leaves behind when it was booted.
    pub(super) fn directory(&self) -> &Path {
        self.image.parent().unwrap_or(&self.image)
    }

    /// The kernel of this release in the cache.
    fn cached(release: &str) -> Option<Self> {
        let directory = directory().join(release);
        let kernel = Self {
            release: release.to_owned(),
            image: directory.join("vmlinuz"),
            veth: directory.join("veth.ko"),
        };
        kernel.image.is_file().then_some(kernel)
    }
}

/// Where kernels are kept, by release.
pub(super) fn directory() -> PathBuf {
    workspace().join("target/kernels")
}

/// The kernels that are wanted, each once; what is missing is downloaded.
pub(super) fn fetch(wanted: &[Wanted]) -> Result<Vec<Kernel>> {
    let apt = Apt::new()?;
    let releases = match apt.update() {
        Ok(()) => apt.releases()?,
        Err(error) => {
            step(&format!("going on with the kernels that were downloaded before: {error:#}"));
            cached_releases()?
        }
    };
    let mut kernels: Vec<Kernel> = Vec::new();
    for wanted in wanted {
        let release = wanted.choose(&releases);
        let release = release.with_context(|| format!("no kernel {wanted}{FLAVOUR} was found"))?;
        if kernels.iter().any(|kernel| kernel.release == release) {
            continue;
        }
        let kernel = match Kernel::cached(release) {
            Some(kernel) => kernel,
            None => {
                apt.download(release).with_context(|| format!("fetching the kernel {release}"))?;
                Kernel::cached(release).context("the kernel is not where it was put")?
            }
        };
        kernels.push(kernel);
    }
    Ok(kernels)
}

/// The releases in the cache.
fn cached_releases() -> Result<Vec<String>> {
    let entries = fs::read_dir(directory()).context("looking for kernels")?;
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(names.filter(|name| Kernel::cached(name).is_some()).collect())
}

/// apt, kept apart from the machine's.
struct Apt {
    directory: PathBuf,
}

impl Apt {
    /// Makes its directories.
    fn new() -> Result<Self> {
        let directory = directory().join("apt");
        for part in ["state/lists/partial", "cache/archives/partial"] {
            let part = directory.join(part);
            fs::create_dir_all(&part).with_context(|| format!("making the directory {}", part.display()))?;
        }
        for (name, text) in [("debian.sources", SOURCES), ("state/status", "")] {
            let path = directory.join(name);
            if fs::read_to_string(&path).ok().as_deref() != Some(text) {
                fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
                // Other sources, other lists.
                let _ = fs::remove_file(directory.join(UPDATED));
            }
        }
        Ok(Self { directory })
    }

    /// One of apt's programs.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let path = |name: &str| self.directory.join(name).display().to_string();
        for (option, value) in [
            ("Dir::State", path("state")),
            ("Dir::State::status", path("state/status")),
            ("Dir::Cache", path("cache")),
            ("Dir::Etc::sourcelist", path("debian.sources")),
            ("Dir::Etc::sourceparts", "-".to_owned()),
            ("Acquire::Languages", "none".to_owned()),
            ("Acquire::Retries", "3".to_owned()),
            ("APT::Architecture", "amd64".to_owned()),
            ("APT::Architectures", "amd64".to_owned()),
            // apt's own user may not be able to reach this directory.
            ("APT::Sandbox::User", "root".to_owned()),
        ] {
            command.arg("-o").arg(format!("{option}={value}"));
        }
        command.stdin(Stdio::null());
        command
    }

    /// Fetches the lists of packages, unless that was done lately.
    fn update(&self) -> Result<()> {
        let stamp = self.directory.join(UPDATED);
        let written = fs::metadata(&stamp).and_then(|stamp| stamp.modified());
        let age = written.ok().and_then(|written| SystemTime::now().duration_since(written).ok());
        if age.is_some_and(|age| age < LISTS_KEEP) {
            return Ok(());
        }
        step("fetching the lists of Debian's kernels");
        // Without the option a list that can't be fetched would be no more than a warning.
        output(self.command("apt-get").args(["-qq", "-o", "APT::Update::Error-Mode=any", "update"]))?;
        fs::write(&stamp, "").with_context(|| format!("writing {}", stamp.display()))
    }

    /// The releases of all kernels that there are packages of.
    fn releases(&self) -> Result<Vec<String>> {
        let names = self.names()?;
        let mut releases: Vec<_> = names.iter().filter_map(|name| release(name)).collect();
        releases.sort_unstable();
        releases.dedup();
        Ok(releases.into_iter().map(str::to_owned).collect())
    }

    /// The names of the packages of kernels.
    fn names(&self) -> Result<Vec<String>> {
        let names = output(self.command("apt-cache").args(["pkgnames", "linux-"]))?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// Downloads a kernel's packages and keeps what is needed of them.
    fn download(&self, release: &str) -> Result<()> {
        let scratch = self.directory.join("unpacked");
        let _ = fs::remove_dir_all(&scratch);
        fs::create_dir_all(&scratch)
            .with_context(|| format!("making the directory {}", scratch.display()))?;
        let names = self.names()?;
        let packages = packages(release, &names);
        step(&format!("downloading {}", packages.join(" ")));
        output(self.command("apt-get").args(["-qq", "download"]).args(&packages).current_dir(&scratch))?;
        for package in find(&scratch, &|name| name.ends_with(".deb"))? {
            unpack(&package, &scratch)?;
        }
        let one = |what: &str| {
            let found = find(&scratch, &|name| name.starts_with(what))?;
            found.into_iter().next().with_context(|| format!("there is no {what} in {}", packages.join(" ")))
        };
        let (image, veth) = (one("vmlinuz")?, one("veth.ko")?);
        let ready = scratch.join("ready");
        fs::create_dir(&ready).with_context(|| format!("making the directory {}", ready.display()))?;
        fs::rename(&image, ready.join("vmlinuz")).with_context(|| format!("moving {}", image.display()))?;
        fs::write(ready.join("veth.ko"), module(&veth)?).context("writing the module veth.ko")?;
        let place = directory().join(release);
        let _ = fs::remove_dir_all(&place);
        fs::rename(&ready, &place).with_context(|| format!("moving the kernel to {}", place.display()))?;
        fs::remove_dir_all(&scratch).with_context(|| format!("removing {}", scratch.display()))
    }
}

/// The file whose age is that of the lists.
const UPDATED: &str = "updated";

/// The release of the kernel that a package holds.
fn release(package: &str) -> Option<&str> {
    let release = package.strip_prefix("linux-image-").or_else(|| package.strip_prefix("linux-binary-"))?;
    let version =
        release.strip_suffix(FLAVOUR).filter(|version| version.starts_with(|c: char| c.is_ascii_digit()))?;
    // `linux-image-cloud-amd64` and `linux-image-6.12-cloud-amd64` hold nothing but a dependency.
    (version.split('.').count() > 2).then_some(release)
}

/// The packages that a kernel and its modules are in: one, or since Linux 7 two.
fn packages(release: &str, names: &[String]) -> Vec<String> {
    let binary = format!("linux-binary-{release}");
    if names.contains(&binary) {
        vec![binary, format!("linux-modules-{release}")]
    } else {
        vec![format!("linux-image-{release}")]
    }
}

/// Unpacks the kernel and the veth module from a package.
fn unpack(package: &Path, to: &Path) -> Result<()> {
    let what = || format!("unpacking {}", package.display());
    let mut unpacker = Command::new("dpkg-deb");
    let unpacker = unpacker.arg("--fsys-tarfile").arg(package).stdout(Stdio::piped());
    let mut unpacker = unpacker.spawn().context("cannot start dpkg-deb").with_context(what)?;
    let archive = unpacker.stdout.take().context("dpkg-deb has no output").with_context(what)?;
    let mut tar = Command::new("tar");
    tar.args(["-x", "--wildcards", "-C"]).arg(to).stdin(archive);
    // tar fails where a pattern matches nothing, but reads the archive to its end all the same.
    let status = tar.args(["*/vmlinuz*", "*/veth.ko*"]).stderr(Stdio::null()).status();
    status.context("cannot start tar").with_context(what)?;
    let status = unpacker.wait().with_context(what)?;
    ensure!(status.success(), "{}: dpkg-deb failed ({status})", what());
    Ok(())
}

/// The bytes of a module, which may be compressed.
fn module(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_none_or(|extension| extension != "xz") {
        return fs::read(path).with_context(|| format!("reading {}", path.display()));
    }
    let output = Command::new("xz").arg("-dc").arg(path).output().context("cannot start xz")?;
    ensure!(output.status.success(), "xz can't read {} ({})", path.display(), output.status);
    Ok(output.stdout)
}

/// The files below a directory whose names are as wanted.
fn find(directory: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("reading {}", directory.display()))?;
        let kind = entry.file_type().with_context(|| format!("asking about {}", entry.path().display()))?;
        if kind.is_dir() {
            found.extend(find(&entry.path(), wanted)?);
        } else if kind.is_file() && wanted(&entry.file_name().to_string_lossy()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// What a command prints; if it fails, what it says is the error.
fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        bail!("{program} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_told_from_other_packages() {
        assert_eq!(release("linux-image-6.1.0-56-cloud-amd64"), Some("6.1.0-56-cloud-amd64"));
        assert_eq!(release("linux-binary-7.2.13+deb14-cloud-amd64"), Some("7.2.13+deb14-cloud-amd64"));
        for other in [
            "linux-image-cloud-amd64",
            "linux-binary-unsigned-7.2.13+deb14-cloud-amd64",
            "linux-image-6.12-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64-dbg",
            "linux-image-6.1.0-56-cloud-amd64-unsigned",
            "linux-image-6.1.0-56-amd64",
            "linux-modules-7.2.13+deb14-cloud-amd64",
        ] {
            assert_eq!(release(other), None, "{other}");
        }
    }

    #[test]
    fn a_kernel_is_in_one_package_or_in_two() {
        let names =
            ["linux-image-7.2.13-x", "linux-binary-7.2.13-x", "linux-image-6.1.0-x"].map(str::to_owned);
        assert_eq!(packages("6.1.0-x", &names), ["linux-image-6.1.0-x"]);
        assert_eq!(packages("7.2.13-x", &names), ["linux-binary-7.2.13-x", "linux-modules-7.2.13-x"]);
    }
}
