//! The first files of a booted kernel: there is no disk, all that tests need is in one archive, the same for all kernels.
//!
//! Programs are this machine's own, with the libraries that they are linked to; so the very tests run that run here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::{
    cpio::Archive,
    guest::{ICMPCTL, INIT, INSTRUMENTS, MODULES, NAME, OBJECT, PROGRAMS, TESTS},
    packages::{self, Kernel},
};
use crate::{cargo::find, ebpf::Objects, tools};

/// An archive in the making.
#[derive(Default)]
pub(super) struct Image {
    archive: Archive,
    paths: BTreeSet<String>,
}

impl Image {
    /// All that is the same whatever kernel is booted: this program as the first process, `icmpctl`, the tests, and the programs
    /// that these call.
    pub(super) fn new(icmpctl: &Path, objects: &Objects, tests: &BTreeMap<String, PathBuf>) -> Result<Self> {
        let mut image = Self::default();
        let this = std::env::current_exe().context("asking where this program is")?;
        image.built(INIT, &this)?;
        image.built(ICMPCTL, icmpctl)?;
        for (name, test) in tests {
            image.built(&format!("{TESTS}/{name}"), test)?;
        }
        image.file(OBJECT, &read(&objects.icmpctl)?);
        image.file(INSTRUMENTS, &read(&objects.instruments)?);
        for program in tools::called_in_kernels() {
            let path = find(program).with_context(|| format!("there is no {program}"))?;
            image.program(&format!("{PROGRAMS}/{program}"), &path)?;
        }
        // fping asks for the numbers of its protocols by name.
        image.file("etc/protocols", b"icmp 1\nipv6-icmp 58\n");
        Ok(image)
    }

    /// Adds the veth module of a kernel.
    pub(super) fn module(&mut self, kernel: &Kernel) -> Result<()> {
        self.file(&format!("{MODULES}/{}.ko", kernel.release), &read(&kernel.veth)?);
        Ok(())
    }

    /// Adds the part of names by which tests are chosen, and writes the archive.
    pub(super) fn write(mut self, name: &str, path: &Path) -> Result<()> {
        self.file(NAME, name.as_bytes());
        fs::write(path, self.archive.finish()).with_context(|| format!("writing {}", path.display()))
    }

    /// Adds a program that was built here, without its debug information, which is most of it.
    fn built(&mut self, name: &str, path: &Path) -> Result<()> {
        let directory = packages::directory().join("stripped");
        fs::create_dir_all(&directory)
            .with_context(|| format!("making the directory {}", directory.display()))?;
        let stripped = directory.join(name.replace('/', "-"));
        let status = Command::new("strip").arg("-o").arg(&stripped).arg(path).status();
        let status = status.context("cannot start strip, which comes with the linker (binutils)")?;
        ensure!(status.success(), "strip can't read {} ({status})", path.display());
        self.program(name, &stripped)
    }

    /// Adds a program, and the libraries that it is linked to in the places where they are here.
    fn program(&mut self, name: &str, path: &Path) -> Result<()> {
        self.file(name, &read(path)?);
        let output = Command::new("ldd").arg(path).output().context("cannot start ldd")?;
        for library in libraries(&String::from_utf8_lossy(&output.stdout)) {
            self.file(library.trim_start_matches('/'), &read(Path::new(library))?);
        }
        Ok(())
    }

    /// Adds a file and its directories, unless they are there.
    fn file(&mut self, path: &str, contents: &[u8]) {
        for (slash, _) in path.match_indices('/') {
            if self.paths.insert(path[..slash].to_owned()) {
                self.archive.directory(&path[..slash]);
            }
        }
        if self.paths.insert(path.to_owned()) {
            self.archive.file(path, contents);
        }
    }
}

/// The libraries that `ldd` lists, the program that loads them among them.
fn libraries(listed: &str) -> impl Iterator<Item = &str> {
    listed.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_named_by_their_paths() {
        let listed = "\tlinux-vdso.so.1 (0x00007ffd5b5f2000)\n\
                      \tlibcap.so.2 => /lib/x86_64-linux-gnu/libcap.so.2 (0x00007f6ab6b66000)\n\
                      \t/lib64/ld-linux-x86-64.so.2 (0x00007f6ab6d83000)\n";
        let expected = ["/lib/x86_64-linux-gnu/libcap.so.2", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(libraries(listed).collect::<Vec<_>>(), expected);
        assert_eq!(libraries("\tnot a dynamic executable\n").count(), 0);
    }
}
