//! Builds the kernel half into `target/ebpf`, from where `icmpctl` embeds it.

use std::{
    env::consts::ARCH,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{
    cargo::{Warnings, build as cargo_build, cargo, command, workspace},
    toolchain::{Core, Toolchain},
};

/// The target: BPF in the byte order of every machine that we support.
const TARGET: &str = "bpfel-unknown-none";
/// Each binary of `icmp-ebpf` and the file that it becomes.
const OBJECTS: [(&str, &str); 2] = [("icmpctl-ebpf", "icmpctl.o"), ("instruments", "instruments.o")];
/// A warning that says what we know: we ask for a feature of the target that rustc does not know by name.
const EXPECTED: [&str; 1] = ["unstable feature specified for `-Ctarget-feature`"];

/// The object files of the kernel half.
pub(crate) struct Objects {
    /// The data path.
    pub(crate) icmpctl: PathBuf,
    /// The programs with which lab, bench and tests drive and watch it.
    pub(crate) instruments: PathBuf,
}

/// How the kernel half is built.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    /// As it is shipped.
    Plain,
    /// Each step of a packet is logged; it lies in a directory of its own.
    DebugLog,
}

/// Builds the kernel half and puts its object files in their places.
pub(crate) fn build(toolchain: &Toolchain, half: Half, warnings: Warnings) -> Result<Objects> {
    // Always here, whatever CARGO_TARGET_DIR says: `icmpctl` embeds the file by its path in the workspace.
    let directory = workspace().join("target/ebpf");
    let mut cargo = match toolchain.core {
        Core::Prebuilt => cargo(),
        // Sources of `core` want the cargo that was released with them.
        Core::FromSource => match toolchain.rustc.with_file_name("cargo") {
            own if own.is_file() => command(own),
            _ => cargo(),
        },
    };
    cargo
        .args(["build", "--profile", "ebpf", "--target", TARGET])
        .args(["--package", "icmp-ebpf", "--features", half.features()])
        .arg("--target-dir")
        .arg(&directory)
        .env("RUSTC", &toolchain.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags(&toolchain.linker, ARCH))
        // Wrappers and toolchains of the user half are not for this compiler.
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTUP_TOOLCHAIN");
    if toolchain.core == Core::FromSource {
        cargo.args(["-Z", "build-std=core"]);
    }
    let directory = match half {
        Half::Plain => directory,
        Half::DebugLog => directory.join("debug-log"),
    };
    fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
    let binaries = cargo_build(&mut cargo, "building the kernel half", warnings, &EXPECTED)
        .with_context(|| format!("with {} and {}", toolchain.rustc.display(), toolchain.linker.display()))?;
    for (binary, object) in OBJECTS {
        let path = binaries.iter().find(|(name, _)| name == binary).map(|(_, path)| path);
        let path =
            path.with_context(|| format!("building the kernel half: cargo reports no binary {binary}"))?;
        copy_if_changed(path, &directory.join(object))?;
    }
    Ok(Objects { icmpctl: directory.join(OBJECTS[0].1), instruments: directory.join(OBJECTS[1].1) })
}

impl Half {
    const fn features(self) -> &'static str {
        match self {
            Self::Plain => "kernel",
            Self::DebugLog => "kernel,debug-log",
        }
    }
}

/// What rustc is told, in cargo's encoding.
fn flags(linker: &Path, host: &str) -> String {
    [
        format!("-Clinker={}", linker.display()),
        // Loaders find the maps by BTF, which is made from debug information.
        "-Clink-arg=--btf".into(),
        "-Cdebuginfo=2".into(),
        // 32-bit arithmetic and comparisons; the oldest kernel that we support has them.
        "-Ctarget-cpu=v3".into(),
        // One load instead of four for a field at an odd offset; the packet's bytes are all that is read so.
        "-Ctarget-feature=+allows-misaligned-mem-access".into(),
        // aya's bindings differ by the machine that the kernel runs on.
        format!("--cfg=bpf_target_arch=\"{host}\""),
    ]
    .join("\u{1f}")
}

/// Copies a file unless the same bytes are there, so that nothing that depends on it is built again.
fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let what = || format!("copying {} to {}", from.display(), to.display());
    let bytes = fs::read(from).with_context(what)?;
    if fs::read(to).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    // Whoever reads the file meanwhile sees the old one or the new one.
    let beside = to.with_extension("new");
    fs::write(&beside, bytes).with_context(what)?;
    fs::rename(&beside, to).with_context(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_encoded_one_by_one() {
        let flags = flags(Path::new("/a directory/bpf-linker"), "aarch64");
        let flags: Vec<_> = flags.split('\u{1f}').collect();
        assert_eq!(flags.first(), Some(&"-Clinker=/a directory/bpf-linker"));
        assert_eq!(flags.last(), Some(&"--cfg=bpf_target_arch=\"aarch64\""));
        assert!(flags.contains(&"-Clink-arg=--btf"));
    }
}
