//! A terminal with a screen that can be read: tmux, of a server of its own.

use std::{
    fs::File,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
};

use rustix::{
    process::{Pid, Signal, kill_process},
    termios::{Termios, tcgetattr},
};
use tempfile::TempDir;

use crate::{icmpctl::wait_until, netns::run};

/// What stands on the screen before anything runs there.
const BEFORE: &str = "what was here before";

/// A terminal of some size. Whatever runs in it is its test's child.
pub struct Terminal {
    directory: TempDir,
    tty: File,
    /// Its settings before anything ran in it.
    settings: Termios,
}

impl Terminal {
    /// Makes one.
    #[must_use]
    pub fn new(width: u16, height: u16) -> Self {
        let directory = TempDir::with_prefix("icmpctl-terminal-").unwrap();
        let size = ["-x", &width.to_string(), "-y", &height.to_string()].map(str::to_owned);
        let hold = format!("echo {BEFORE}; exec sleep 1000");
        let mut command = tmux(&directory);
        run(command.args(["-f", "/dev/null", "new-session", "-d"]).args(size).arg(hold));
        let tty = run(tmux(&directory).args(["display-message", "-p", "#{pane_tty}"]));
        let tty = File::options().read(true).write(true).open(tty.trim()).unwrap();
        let mut terminal = Self { settings: tcgetattr(&tty).unwrap(), directory, tty };
        terminal.wait_for(BEFORE);
        // tmux itself has made its own settings by now.
        terminal.settings = tcgetattr(&terminal.tty).unwrap();
        terminal
    }

    /// Starts a command in it.
    #[must_use]
    pub fn start(&self, command: &mut Command) -> InTerminal {
        let end = || Stdio::from(self.tty.try_clone().unwrap());
        // What a panic says shall fit on the screen.
        command.env("TERM", "screen-256color").env("RUST_BACKTRACE", "0").env_remove("NO_COLOR");
        InTerminal(command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap())
    }

    /// Its lines, without spaces at their ends.
    #[must_use]
    pub fn screen(&self) -> Vec<String> {
        self.capture(&[])
    }

    /// The same with the escape sequences of what they look like.
    #[must_use]
    pub fn coloured_screen(&self) -> Vec<String> {
        self.capture(&["-e"])
    }

    fn capture(&self, options: &[&str]) -> Vec<String> {
        let text = run(tmux(&self.directory).args(["capture-pane", "-p"]).args(options));
        text.lines().map(|line| line.trim_end().to_owned()).collect()
    }

    /// Presses keys, by the names that tmux has for them; other words are typed.
    pub fn press(&self, keys: &[&str]) {
        run(tmux(&self.directory).arg("send-keys").args(keys));
    }

    /// Makes it larger or smaller.
    pub fn resize(&self, width: u16, height: u16) {
        let size = ["-x", &width.to_string(), "-y", &height.to_string()].map(str::to_owned);
        run(tmux(&self.directory).arg("resize-window").args(size));
    }

    /// Waits until its screen is as wanted, and returns it.
    ///
    /// # Panics
    ///
    /// Panics with the screen if that takes too long.
    pub fn wait_until(&self, wanted: impl Fn(&[String]) -> bool) -> Vec<String> {
        let mut shown = ShownOnPanic(self.screen());
        wait_until(|| {
            shown.0 = self.screen();
            wanted(&shown.0)
        });
        std::mem::take(&mut shown.0)
    }

    /// Waits until its screen contains this, and returns it.
    ///
    /// # Panics
    ///
    /// Panics with the screen if that takes too long.
    pub fn wait_for(&self, part: &str) -> Vec<String> {
        self.wait_until(|lines| lines.iter().any(|line| line.contains(part)))
    }

    /// Demands that all is as it was before anything ran here: the screen, the cursor, the settings.
    ///
    /// # Panics
    ///
    /// Panics if it is not.
    pub fn assert_restored(&self) {
        let lines = self.wait_for(BEFORE);
        let question = "#{alternate_on} #{cursor_flag} #{mouse_any_flag}";
        let flags = run(tmux(&self.directory).args(["display-message", "-p", question]));
        assert_eq!(flags.trim(), "0 1 0", "{lines:#?}");
        let now = tcgetattr(&self.tty).unwrap();
        let modes = |settings: &Termios| {
            (settings.input_modes, settings.output_modes, settings.local_modes, settings.control_modes)
        };
        assert_eq!(modes(&now), modes(&self.settings));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = tmux(&self.directory).arg("kill-server").output();
    }
}

fn tmux(directory: &TempDir) -> Command {
    let socket: PathBuf = directory.path().join("socket");
    let mut command = Command::new("tmux");
    command.env("LC_ALL", "C.UTF-8").env_remove("TMUX").arg("-u").arg("-S").arg(socket);
    command
}

/// Says what was on the screen when nothing came of it.
struct ShownOnPanic(Vec<String>);

impl Drop for ShownOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the screen:\n{}", self.0.join("\n"));
        }
    }
}

/// A command that runs in a terminal; it is killed when dropped.
pub struct InTerminal(Child);

impl InTerminal {
    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.0.id() as i32).unwrap(), signal).unwrap();
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// Panics if that takes too long.
    pub fn wait(&mut self) -> ExitStatus {
        wait_until(|| self.0.try_wait().unwrap().is_some());
        self.0.wait().unwrap()
    }
}

impl Drop for InTerminal {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
