//! The real `icmpctl`: where it is, and how tests run it and read what it says.

use std::{
    env, fmt, fs,
    io::{self, BufRead as _, BufReader, Read as _},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::netns::{Lab, SERVER_END};

/// How long anything may take that should happen at once.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The binary.
///
/// # Panics
///
/// Panics if it has not been built; so do the other three.
#[must_use]
pub fn binary() -> PathBuf {
    built("ICMPCTL_BIN", "target/debug/icmpctl")
}

/// The program behind `cargo xtask`.
#[must_use]
pub fn xtask() -> PathBuf {
    built("ICMPCTL_XTASK", "target/debug/xtask")
}

/// The kernel half's object file.
#[must_use]
pub fn object() -> PathBuf {
    built("ICMPCTL_OBJECT", "target/ebpf/icmpctl.o")
}

/// The object file with programs for tests.
#[must_use]
pub fn instruments() -> PathBuf {
    built("ICMPCTL_INSTRUMENTS", "target/ebpf/instruments.o")
}

fn built(variable: &str, default: &str) -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let path = env::var_os(variable).map_or_else(|| workspace.join(default), PathBuf::from);
    assert!(path.exists(), "{} is missing: `cargo xtask test` builds it, or set {variable}", path.display());
    path
}

/// A command that has ended.
#[derive(Debug)]
pub struct Finished {
    /// Exit status; `None` if a signal ended it.
    pub status: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it said.
    pub stderr: String,
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { status: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {:?}\n{}{}", self.status, self.stdout, self.stderr)
    }
}

impl Finished {
    /// What it has said on stderr, but for the stages of work that took long.
    #[must_use]
    pub fn complaints(&self) -> String {
        self.stderr.lines().filter(|line| !line.ends_with(" ...")).collect()
    }

    /// What it printed.
    ///
    /// # Panics
    ///
    /// Panics if it failed.
    #[must_use]
    pub fn ok(self) -> String {
        assert_eq!(self.status, Some(0), "{self}");
        self.stdout
    }

    /// What it said.
    ///
    /// # Panics
    ///
    /// Panics if it did not fail with this status, or did not say all of this.
    pub fn fails(self, status: i32, parts: &[&str]) -> String {
        assert_eq!(self.status, Some(status), "{self}");
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is missing in:\n{}", self.stderr);
        }
        self.stderr
    }
}

/// Makes bpf(2) fail with an error in a command, as ENOSYS in a kernel built without it.
pub fn without_bpf(command: &mut Command, error: i32) -> &mut Command {
    without(command, [libc::SYS_bpf; 2], error)
}

/// Makes two system calls fail with an error in a command.
pub fn without(command: &mut Command, calls: [libc::c_long; 2], error: i32) -> &mut Command {
    let filter = move || {
        let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
        let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        let end = libc::BPF_RET | libc::BPF_K;
        let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
        // The system call's number is the first word of `struct seccomp_data`.
        let mut steps = [
            step(load, 0, 0, 0),
            step(equal, 1, 0, calls[0] as u32),
            step(equal, 0, 1, calls[1] as u32),
            step(end, 0, 0, libc::SECCOMP_RET_ERRNO | error as u32),
            step(end, 0, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
        // SAFETY: the program and its steps outlive the call.
        let outcome =
            unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
        if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: between fork and exec it makes one system call and allocates nothing.
    unsafe { command.pre_exec(filter) }
}

impl Lab {
    /// A copy of the binary where everybody may run it.
    #[must_use]
    pub fn binary_for_everybody(&self) -> PathBuf {
        fs::set_permissions(self.files.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let copy = self.files.path().join("icmpctl");
        fs::copy(binary(), &copy).unwrap();
        copy
    }

    /// A lab with a policy attached in a mode.
    ///
    /// # Panics
    ///
    /// Panics if it is another mode in the end.
    #[must_use]
    pub fn attached(mode: &str, policy: &str) -> Self {
        let lab = if mode == "native" { Self::native() } else { Self::new() };
        let path = lab.policy(policy);
        let _ = lab.icmpctl(&["attach", SERVER_END, "--mode", mode, "--policy", path.to_str().unwrap()]).ok();
        assert_eq!(lab.status()[0]["mode"], mode);
        lab
    }

    /// The command `icmpctl`, in the server's namespace and with the lab's BPF file system and state directory.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(["--netns", self.server.name(), "--bpffs"]).arg(self.bpffs.path());
        command.arg("--state").arg(self.state()).args(arguments);
        command
    }

    /// Runs `icmpctl` to its end.
    #[must_use]
    pub fn icmpctl(&self, arguments: &[&str]) -> Finished {
        self.command(arguments).output().unwrap().into()
    }

    /// Starts `icmpctl` and waits until it has attached its program.
    #[must_use]
    pub fn start(&self, arguments: &[&str]) -> Running {
        let mut running = Running::start(self.command(arguments));
        // "program 7 attached in ..." or "program 7 replaces 6 ...".
        running.wait_for(": program ");
        running
    }

    /// What `icmpctl status --json` lists.
    #[must_use]
    pub fn status(&self) -> Vec<Value> {
        serde_json::from_str(&self.icmpctl(&["status", "--json"]).ok()).unwrap()
    }

    /// How many packets of a family `icmpctl stats --json` counts under a reason.
    #[must_use]
    pub fn counted(&self, family: &str, reason: &str) -> u64 {
        let statistics = self.statistics();
        let rows = statistics["reasons"].as_array().unwrap();
        let row = rows.iter().find(|row| row["family"] == family && row["reason"] == reason);
        row.unwrap_or_else(|| panic!("no {family} {reason} in {statistics}"))["packets"].as_u64().unwrap()
    }

    /// What `icmpctl stats --json` says of the one attachment there is.
    #[must_use]
    pub fn statistics(&self) -> Value {
        let text = self.icmpctl(&["stats", "--json"]).ok();
        let mut all: Vec<Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(all.len(), 1, "{text}");
        all.remove(0)
    }
}

/// An `icmpctl` that has not ended; it is killed when dropped.
pub struct Running {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Running {
    /// Starts a command.
    #[must_use]
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let lines = Arc::new(Mutex::new(Vec::new()));
        let said = Arc::clone(&lines);
        let reader = thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                said.lock().unwrap().push(line);
            }
        });
        Self { child, lines, reader: Some(reader) }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    #[must_use]
    pub fn said(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    /// Waits until it has said this.
    ///
    /// # Panics
    ///
    /// Panics if it ends before, or takes too long.
    pub fn wait_for(&mut self, part: &str) {
        wait_until(|| {
            let ended = self.child.try_wait().unwrap();
            let found = self.said().contains(part);
            assert!(found || ended.is_none(), "{part:?} is missing in:\n{}", self.said());
            found
        });
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// What it prints, for somebody else to read, or nobody.
    ///
    /// # Panics
    ///
    /// Panics if somebody else has it already.
    #[must_use]
    pub fn stdout(&mut self) -> ChildStdout {
        self.child.stdout.take().unwrap()
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// Panics if that takes too long.
    #[must_use]
    pub fn wait(mut self) -> Finished {
        wait_until(|| self.child.try_wait().unwrap().is_some());
        let status = self.child.wait().unwrap().code();
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        let mut stdout = String::new();
        if let Some(mut pipe) = self.child.stdout.take() {
            pipe.read_to_string(&mut stdout).unwrap();
        }
        Finished { status, stdout, stderr: self.said() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until something has come true.
///
/// # Panics
///
/// Panics if that takes longer than [`PATIENCE`].
pub fn wait_until(mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < PATIENCE, "nothing happened within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a directory exists and holds something of this name.
#[must_use]
pub fn holds(directory: &Path, name: &str) -> bool {
    fs::symlink_metadata(directory.join(name)).is_ok()
}
