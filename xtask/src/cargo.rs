//! Running cargo and other commands, and reading what cargo reports.

use std::{
    env,
    io::{BufRead, BufReader, IsTerminal as _, stderr},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::say::Progress;

/// The feature that makes `icmpctl` embed the kernel half. Every command names it, so that all share one build.
pub(crate) const KERNEL_OBJECT: &str = "icmp-userspace/kernel-object";

/// The workspace's directory.
pub(crate) fn workspace() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// Where packages are unpacked that are not installed.
pub(crate) fn unpacked() -> PathBuf {
    workspace().join("target/tools/debian")
}

/// The search path, and where root's programs are, since a plain user's often lacks those, and where unpacked ones are.
pub(crate) fn search_path() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let others = ["/usr/sbin".into(), "/sbin".into(), unpacked().join("usr/bin")];
    env::split_paths(&path).chain(others).collect()
}

/// Where `program` stands in the search path.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    find_all(program).next()
}

/// Every place where `program` stands in the search path, in order.
pub(crate) fn find_all(program: &str) -> impl Iterator<Item = PathBuf> {
    search_path().into_iter().map(move |dir| dir.join(program)).filter(|file| file.is_file())
}

/// The cargo that runs this program, in the workspace's directory.
pub(crate) fn cargo() -> Command {
    command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// A command that runs in the workspace's directory.
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(workspace());
    command
}

/// Runs a command to its end; `what` completes the sentence "... failed".
pub(crate) fn run(command: &mut Command, what: &str) -> Result<()> {
    let status = command.status().with_context(|| format!("{what}: cannot start {command:?}"))?;
    ensure!(status.success(), "{what} failed ({status})");
    Ok(())
}

/// The standard output of a command that only asks; `None` if it can't be started or fails.
pub(crate) fn ask(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// What becomes of the compiler's warnings.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Warnings {
    /// They are shown.
    Show,
    /// They are shown, and there may be none.
    Deny,
}

/// Runs `cargo build` and returns the executables that it made, or found up to date, by name.
///
/// Prints nothing if nothing had to be built. `expected` are beginnings of warnings that tell nobody anything.
pub(crate) fn build(
    cargo: &mut Command,
    what: &'static str,
    warnings: Warnings,
    expected: &[&str],
) -> Result<Vec<(String, PathBuf)>> {
    let format = if stderr().is_terminal() { "json-diagnostic-rendered-ansi" } else { "json" };
    cargo.args(["--quiet", "--message-format", format]).stdout(Stdio::piped());
    let mut child = cargo.spawn().with_context(|| format!("{what}: cannot start {cargo:?}"))?;
    let mut progress = Progress::new(what);
    let mut executables = Vec::new();
    let mut warned = 0_usize;
    let lines = child.stdout.take().map(BufReader::new).into_iter().flat_map(BufRead::lines);
    for line in lines {
        let line = line.with_context(|| format!("{what}: reading cargo's report"))?;
        match Report::parse(&line) {
            Report::Artifact { name, executable, fresh } => {
                if !fresh {
                    progress.show(&name);
                }
                executables.extend(executable.map(|path| (name, path)));
            }
            Report::Diagnostic { message, rendered, warning } => {
                if !expected.iter().any(|known| message.starts_with(known)) {
                    progress.leave();
                    eprint!("{rendered}");
                    warned += usize::from(warning);
                }
            }
            Report::Other => {}
        }
    }
    progress.leave();
    let status = child.wait().with_context(|| format!("{what}: waiting for cargo"))?;
    ensure!(status.success(), "{what} failed ({status})");
    if warnings == Warnings::Deny && warned > 0 {
        bail!("{what}: {warned} warning(s), and warnings are denied here");
    }
    Ok(executables)
}

/// One line of cargo's report, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
enum Report {
    /// Something was compiled, or found up to date.
    Artifact { name: String, executable: Option<PathBuf>, fresh: bool },
    /// The compiler has something to say.
    Diagnostic { message: String, rendered: String, warning: bool },
    /// Anything else.
    Other,
}

impl Report {
    fn parse(line: &str) -> Self {
        let Ok(report) = serde_json::from_str::<Value>(line) else { return Self::Other };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        match report["reason"].as_str() {
            Some("compiler-artifact") => Self::Artifact {
                name: text(&report["target"]["name"]),
                executable: report["executable"].as_str().map(PathBuf::from),
                fresh: report["fresh"] == true,
            },
            Some("compiler-message") => Self::Diagnostic {
                message: text(&report["message"]["message"]),
                rendered: text(&report["message"]["rendered"]),
                warning: report["message"]["level"] == "warning",
            },
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_executable_is_reported_with_its_path() {
        let line = r#"{"reason":"compiler-artifact","target":{"name":"icmpctl"},"executable":"/t/icmpctl","fresh":true}"#;
        let expected =
            Report::Artifact { name: "icmpctl".into(), executable: Some("/t/icmpctl".into()), fresh: true };
        assert_eq!(Report::parse(line), expected);
    }

    #[test]
    fn a_library_has_no_executable() {
        let line =
            r#"{"reason":"compiler-artifact","target":{"name":"clap"},"executable":null,"fresh":false}"#;
        let expected = Report::Artifact { name: "clap".into(), executable: None, fresh: false };
        assert_eq!(Report::parse(line), expected);
    }

    #[test]
    fn a_warning_is_told_from_an_error() {
        let line = |level: &str| {
            format!(
                r#"{{"reason":"compiler-message","message":{{"message":"m","rendered":"r","level":"{level}"}}}}"#
            )
        };
        let expected = |warning| Report::Diagnostic { message: "m".into(), rendered: "r".into(), warning };
        assert_eq!(Report::parse(&line("warning")), expected(true));
        assert_eq!(Report::parse(&line("error")), expected(false));
    }

    #[test]
    fn what_is_no_report_is_passed_over() {
        assert_eq!(Report::parse("cargo says hello"), Report::Other);
        assert_eq!(Report::parse(r#"{"reason":"build-finished","success":true}"#), Report::Other);
    }
}
