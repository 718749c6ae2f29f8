//! What building the kernel half takes: a compiler with `core` for BPF, and bpf-linker.
//!
//! Stable Rust has neither, so one of several ways is taken, in this order: the compiler that
//! `ICMPCTL_BPF_RUSTC` names; a nightly with `rust-src`, which builds `core` itself; a compiler that
//! brings `core` along, as Debian's `rustc-web` does. If there is none, one is installed. Nobody's `nightly`
//! is ever updated: ours has a date in its name and stands beside it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    Setup, apt,
    cargo::{ask, cargo, find, find_all, run, workspace},
    say::step,
};

/// The variable by which a user chooses the compiler: the path of a `rustc`.
const CHOICE: &str = "ICMPCTL_BPF_RUSTC";
/// The version of bpf-linker that this project is built and measured with.
const LINKER_VERSION: &str = "0.13.0";
/// The LLVM of our bpf-linker. It reads what compilers with this LLVM or an older one write, and nothing newer.
const LLVM: u32 = 22;
/// Where Debian's packages put that LLVM.
const DEBIAN_LLVM: &str = "/usr/lib/llvm-22";
/// The nightly that is installed: the last day's that is known to work and has that LLVM. Plain `nightly` has
/// moved on to LLVM 23, which Debian does not have.
const NIGHTLY: &str = "nightly-2026-05-20";
/// Debian's packages of a compiler with `core` for BPF. It does not disturb rustup's.
const COMPILER_PACKAGES: [&str; 2] = ["rustc-web", "libstd-rust-web-dev-bpf"];
/// Debian's packages that bpf-linker is built with.
const LINKER_PACKAGES: [&str; 5] = ["llvm-22-dev", "libpolly-22-dev", "zlib1g-dev", "libzstd-dev", "g++"];

/// What `ebpf.rs` builds with.
#[derive(Debug)]
pub(crate) struct Toolchain {
    /// The compiler.
    pub(crate) rustc: PathBuf,
    /// Where its `core` comes from.
    pub(crate) core: Core,
    /// bpf-linker.
    pub(crate) linker: PathBuf,
}

/// Where a compiler's `core` for BPF comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Core {
    /// The compiler brings it along.
    Prebuilt,
    /// Cargo builds it from `rust-src`.
    FromSource,
}

/// Finds compiler and linker, or installs what is missing of them.
pub(crate) fn ensure(setup: Setup) -> Result<Toolchain> {
    let (rustc, core) = match find_compiler()? {
        Some(compiler) => compiler,
        None => install_compiler(setup)?,
    };
    let linker = match find_linker() {
        Some(linker) => linker,
        None => install_linker(setup)?,
    };
    Ok(Toolchain { rustc, core, linker })
}

fn find_compiler() -> Result<Option<(PathBuf, Core)>> {
    if let Some(rustc) = env::var_os(CHOICE).map(PathBuf::from) {
        // The user's word is taken for its LLVM: their bpf-linker may well be built with a newer one than ours.
        let core = core_of(&rustc).with_context(|| {
            format!(
                "{CHOICE} is {}, which is no rustc with `core` for BPF; name one with `rust-src`, \
                 or unset it to have one found",
                rustc.display()
            )
        })?;
        return Ok(Some((rustc, core)));
    }
    let nightlies = ["nightly", NIGHTLY].into_iter().filter_map(nightly);
    let others = [PathBuf::from("/usr/bin/rustc")].into_iter().chain(find_all("rustc"));
    let mut tried = Vec::new();
    Ok(nightlies
        .map(|rustc| (rustc, Core::FromSource))
        .chain(others.map(|rustc| (rustc, Core::Prebuilt)))
        .find(|(rustc, wanted)| {
            // The same file often stands in the search path several times.
            let file = fs::canonicalize(rustc).unwrap_or_else(|_| rustc.clone());
            if tried.contains(&file) {
                return false;
            }
            tried.push(file);
            core_of(rustc) == Some(*wanted) && llvm_of(rustc).is_some_and(|llvm| llvm <= LLVM)
        }))
}

/// The compiler of an installed rustup toolchain.
fn nightly(toolchain: &str) -> Option<PathBuf> {
    // Looking must not install anything, whatever rustup's settings say.
    let mut rustup = Command::new(find("rustup")?);
    ask(rustup.args(["which", "--toolchain", toolchain, "rustc"]).env("RUSTUP_AUTO_INSTALL", "0"))
        .map(PathBuf::from)
}

/// Where this compiler's `core` for BPF comes from, if it has any.
fn core_of(rustc: &Path) -> Option<Core> {
    let sysroot = PathBuf::from(ask(Command::new(rustc).args(["--print", "sysroot"]))?);
    let rustlib = sysroot.join("lib/rustlib");
    let libraries = fs::read_dir(rustlib.join("bpfel-unknown-none/lib")).into_iter().flatten().flatten();
    let prebuilt = libraries.filter_map(|entry| entry.file_name().into_string().ok());
    if prebuilt.into_iter().any(|name| name.starts_with("libcore") && name.ends_with(".rlib")) {
        Some(Core::Prebuilt)
    } else if rustlib.join("src/rust/library/core/Cargo.toml").is_file() {
        Some(Core::FromSource)
    } else {
        None
    }
}

fn llvm_of(rustc: &Path) -> Option<u32> {
    parse_llvm(&ask(Command::new(rustc).arg("-vV"))?)
}

/// The major version of LLVM in what `rustc -vV` prints.
fn parse_llvm(version: &str) -> Option<u32> {
    let number = version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    number.split('.').next()?.parse().ok()
}

fn install_compiler(setup: Setup) -> Result<(PathBuf, Core)> {
    let rustup = find("rustup");
    if setup.no_install || (rustup.is_none() && !apt::usable()) {
        bail!("the kernel half needs a compiler with `core` for BPF, and there is none here.\n{}", recipes());
    }
    let by_rustup = rustup.map(|rustup| {
        step(&format!("installing by rustup: {NIGHTLY} with rust-src (a compiler for the kernel half)"));
        // One toolchain beside the others; rustup itself and every toolchain that is there stay as they are.
        run(
            Command::new(rustup)
                .args(["toolchain", "install", NIGHTLY, "--profile", "minimal", "--component", "rust-src"])
                .args(["--no-self-update"])
                .env("RUSTUP_MAX_RETRIES", "0")
                .env("RUST_BACKTRACE", "0")
                .stdin(Stdio::null()),
            "installing a nightly by rustup",
        )
    });
    if !matches!(by_rustup, Some(Ok(()))) {
        if !apt::usable() {
            bail!("rustup could not install a compiler for the kernel half.\n{}", recipes());
        }
        if by_rustup.is_some() {
            step("rustup could not; taking Debian's packages instead");
        }
        apt::install(&COMPILER_PACKAGES, "a compiler for the kernel half")?;
    }
    find_compiler()?.with_context(|| {
        format!("a compiler for the kernel half was installed, but is not to be found.\n{}", recipes())
    })
}

/// Both ways to a compiler, for a user to type.
fn recipes() -> String {
    format!(
        "Either, with rustup:\n  rustup toolchain install {NIGHTLY} --profile minimal --component rust-src\n\
         or, on Debian as root:\n  {}\n\
         or name a rustc that can build for bpfel-unknown-none in {CHOICE}.",
        apt::recipe(&COMPILER_PACKAGES)
    )
}

/// Where our own tools go.
fn tools() -> PathBuf {
    workspace().join("target/tools")
}

/// Our own bpf-linker, whose LLVM is known, before others.
fn find_linker() -> Option<PathBuf> {
    let own = tools().join("bin/bpf-linker");
    [own].into_iter().chain(find_all("bpf-linker")).find(|linker| {
        let version = ask(Command::new(linker).arg("--version"));
        version.as_deref().and_then(parse_linker) == Some(LINKER_VERSION)
    })
}

/// The version in what `bpf-linker --version` prints.
fn parse_linker(version: &str) -> Option<&str> {
    version.trim().strip_prefix("bpf-linker ")
}

fn install_linker(setup: Setup) -> Result<PathBuf> {
    let own = tools();
    let chosen = env::var_os("LLVM_PREFIX").map(PathBuf::from);
    let prefix = chosen.clone().unwrap_or_else(|| DEBIAN_LLVM.into());
    let mut install = cargo();
    install
        .args(["install", "bpf-linker", "--version", LINKER_VERSION, "--locked", "--force", "--quiet"])
        .args(["--no-default-features", "--features"])
        .arg(format!("llvm-{LLVM}"))
        .arg("--root")
        .arg(&own)
        // The linker is for this machine, whatever is being built with it.
        .env_remove("CARGO_BUILD_TARGET")
        .env_remove("CARGO_TARGET_DIR")
        .env("LLVM_PREFIX", &prefix)
        .stdin(Stdio::null());
    let recipe = format!(
        "  LLVM_PREFIX={} cargo install bpf-linker --version {LINKER_VERSION} --locked \
         --no-default-features --features llvm-{LLVM} --root {}",
        prefix.display(),
        own.display()
    );
    // An LLVM that the user names is taken as it is; only Debian's can be installed.
    let llvm_there = chosen.is_some() || has_llvm(&prefix);
    if setup.no_install || !(llvm_there || apt::usable()) {
        let packages =
            if llvm_there { String::new() } else { format!("  {}\n", apt::recipe(&LINKER_PACKAGES)) };
        bail!(
            "the kernel half needs bpf-linker {LINKER_VERSION}, and there is none here.\n\
             Install it, with LLVM {LLVM} from Debian's packages or with LLVM_PREFIX naming another:\n{packages}{recipe}"
        );
    }
    if !llvm_there {
        apt::install(&LINKER_PACKAGES, "LLVM, which bpf-linker is built with")?;
    }
    step(&format!(
        "installing by cargo: bpf-linker {LINKER_VERSION}, in target/tools (links the kernel half)"
    ));
    run(&mut install, "building bpf-linker").with_context(|| format!("by hand:\n{recipe}"))?;
    let linker = find_linker();
    ensure!(linker.is_some(), "bpf-linker was installed in {}, but does not run", own.display());
    linker.context("bpf-linker vanished")
}

/// Whether LLVM stands there, ready to be linked with.
fn has_llvm(prefix: &Path) -> bool {
    prefix.join("lib/libLLVM.so").exists() && prefix.join("lib/libPolly.a").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llvm_is_read_from_rustc() {
        let version =
            "rustc 1.96.0 (ac68faa20 2026-05-25)\nhost: x86_64-unknown-linux-gnu\nLLVM version: 22.1.8\n";
        assert_eq!(parse_llvm(version), Some(22));
        assert_eq!(parse_llvm("rustc 1.96.0\nLLVM version: 23.1.4"), Some(23));
        assert_eq!(parse_llvm("rustc 1.96.0\n"), None);
        assert_eq!(parse_llvm("LLVM version: unknown"), None);
    }

    #[test]
    fn the_linkers_version_is_read() {
        assert_eq!(parse_linker("bpf-linker 0.13.0\n"), Some("0.13.0"));
        assert_eq!(parse_linker("bpf-linker 0.9.15"), Some("0.9.15"));
        assert_eq!(parse_linker("ld 2.40"), None);
    }

    #[test]
    fn recipes_name_every_way() {
        let recipes = recipes();
        for way in ["rustup toolchain install", "apt-get install", CHOICE] {
            assert!(recipes.contains(way), "{way} is missing in: {recipes}");
        }
    }
}
