//! `cargo xtask screenshot`: the picture of `icmpctl top` in the documentation: what stands on a real terminal's screen, with the
//! lab's traffic, as SVG.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{
    Setup,
    cargo::workspace,
    dashboard::traffic,
    lab::{
        interrupt,
        network::{DIRECTORY, Network, SERVER_END},
    },
    say, tools,
    userspace::{self, Build},
};

/// Columns and lines of the terminal.
const SIZE: [usize; 2] = [120, 36];
/// Pixels of a character.
const CELL: [f64; 2] = [8.4, 18.0];
const MARGIN: f64 = 10.0;
/// When most of the traffic is under way.
const MOMENT: Duration = Duration::from_secs(105);
/// The terminal's colours: behind the text, of the text, and of SGR 30 to 37.
const BEHIND: &str = "#16181d";
const TEXT: &str = "#d5d8df";
const COLOURS: [&str; 8] =
    ["#3b4048", "#f2727c", "#8fd07a", "#e6c35c", "#6ea8fe", "#d58cf0", "#5cc8d6", "#ffffff"];

/// Draws the picture anew.
pub(crate) fn draw(setup: Setup) -> Result<()> {
    let interrupted = interrupt::listen()?;
    let built = userspace::both_halves(&Build { release: false, debug_log: false, setup })?;
    tools::ensure_clients(setup, "pictures")?;
    let network = Network::make(&built.icmpctl, &interrupted, 1)?;
    let policy = network.with("screenshot.toml", traffic::POLICY)?;
    let policy = policy.to_str().context("a path is no text")?;
    network.icmpctl(&["attach", SERVER_END, "--mode", "native", "--policy", policy])?;
    let terminal = Terminal::begin(&network)?;
    let screen = thread::scope(|scope| {
        let screen = scope.spawn(|| {
            thread::sleep(MOMENT);
            terminal.screen()
        });
        traffic::send(&network, &built.objects)?;
        screen.join().map_err(|_| anyhow::anyhow!("reading the screen failed"))?
    })?;
    drop(terminal);
    say::step("drawing docs/top.svg");
    fs::write(workspace().join("docs/top.svg"), picture(&screen)).context("writing docs/top.svg")?;
    network.detach()?;
    network.remove()
}

/// A terminal in which `icmpctl top` runs; ended when dropped.
struct Terminal {
    socket: PathBuf,
}

impl Terminal {
    fn begin(network: &Network) -> Result<Self> {
        let terminal = Self { socket: Path::new(DIRECTORY).join("terminal") };
        let top = network.command(&["top", SERVER_END]);
        let mut command = terminal.tmux();
        let [width, height] = SIZE.map(|side| side.to_string());
        command.args(["-f", "/dev/null", "new-session", "-d", "-x", &width, "-y", &height, "--"]);
        command.arg(top.get_program()).args(top.get_args()).env_remove("NO_COLOR");
        run(&mut command)?;
        Ok(terminal)
    }

    /// What stands on it, with escape sequences.
    fn screen(&self) -> Result<String> {
        run(self.tmux().args(["capture-pane", "-p", "-e"]))
    }

    fn tmux(&self) -> Command {
        let mut command = Command::new("tmux");
        command.env("LC_ALL", "C.UTF-8").env_remove("TMUX").arg("-u").arg("-S").arg(&self.socket);
        command
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // `top` closes what it has opened when its terminal is closed.
        let _ = run(self.tmux().args(["send-keys", "q"]));
        thread::sleep(Duration::from_secs(3));
        let _ = run(self.tmux().arg("kill-server"));
    }
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{command:?}: {}", said.trim());
    String::from_utf8(output.stdout).context("a screen is no text")
}

/// What characters look like, as escape sequences say (ECMA-48, SGR).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Style {
    /// One of [`COLOURS`].
    colour: Option<usize>,
    bold: bool,
    dim: bool,
    reverse: bool,
}

impl Style {
    fn change(&mut self, parameters: &str) {
        let mut numbers = parameters.split(';').map(|number| number.parse().unwrap_or(0));
        while let Some(number) = numbers.next() {
            match number {
                0 => *self = Self::default(),
                1 => self.bold = true,
                2 => self.dim = true,
                7 => self.reverse = true,
                22 => (self.bold, self.dim) = (false, false),
                27 => self.reverse = false,
                30..=37 => self.colour = Some(number - 30),
                // Out of 256, of which the first eight are these.
                38 => self.colour = numbers.nth(1).filter(|number| *number < COLOURS.len()),
                39 => self.colour = None,
                _ => {}
            }
        }
    }
}

/// The characters of a screen, with what they look like.
fn cells(screen: &str) -> Vec<Vec<(char, Style)>> {
    let mut style = Style::default();
    let mut line = |text: &str| {
        let mut cells = Vec::new();
        let mut rest = text;
        while let Some(character) = rest.chars().next() {
            if let Some((parameters, behind)) =
                rest.strip_prefix("\x1b[").and_then(|rest| rest.split_once('m'))
            {
                style.change(parameters);
                rest = behind;
            } else {
                cells.push((character, style));
                rest = &rest[character.len_utf8()..];
            }
        }
        cells
    };
    screen.lines().map(&mut line).collect()
}

/// A screen as SVG. Every run of characters is as wide as its cells, whatever the font; bars are drawn as such.
fn picture(screen: &str) -> String {
    let lines = cells(screen);
    let [width, height] = [SIZE[0] as f64 * CELL[0], lines.len() as f64 * CELL[1]];
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {:.0} {:.0}\" font-family=\"ui-monospace, 'DejaVu Sans Mono', \
         Menlo, Consolas, monospace\" font-size=\"14\" fill=\"{TEXT}\">\n<title>icmpctl top</title>\
         <rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"{BEHIND}\"/>\n",
        width + 2.0 * MARGIN,
        height + 2.0 * MARGIN
    );
    for (number, line) in lines.iter().enumerate() {
        let top = MARGIN + number as f64 * CELL[1];
        let mut column = 0;
        // Word by word: browsers make one of several spaces.
        for run in line.chunk_by(|one, two| one.1 == two.1 && sort(one.0) == sort(two.0)) {
            let left = MARGIN + column as f64 * CELL[0];
            svg.push_str(&drawn(run, left, top));
            column += run.len();
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// Bars, spaces, and what is written.
fn sort(character: char) -> [bool; 2] {
    [is_bar(character), character == ' ']
}

fn is_bar(character: char) -> bool {
    ('▁'..='█').contains(&character)
}

/// A run of characters that look the same.
fn drawn(run: &[(char, Style)], left: f64, top: f64) -> String {
    let Some((first, style)) = run.first().copied() else { return String::new() };
    let colour = style.colour.map_or(TEXT, |colour| COLOURS[colour]);
    let mut svg = String::new();
    let width = run.len() as f64 * CELL[0];
    // Writing to a string can't fail.
    if is_bar(first) {
        for (number, (bar, _)) in run.iter().enumerate() {
            let height = f64::from(u32::from(*bar) - u32::from('▁') + 1) / 8.0 * (CELL[1] - 1.0);
            let (x, y) = (left + number as f64 * CELL[0], top + CELL[1] - height);
            let _ = writeln!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>",
                CELL[0] - 0.6
            );
        }
        return svg;
    }
    let text: String = run.iter().map(|(character, _)| character).collect();
    if style.reverse {
        let height = CELL[1];
        let _ = writeln!(
            svg,
            "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height}\" fill=\"{colour}\" \
             shape-rendering=\"crispEdges\"/>"
        );
    }
    if text.trim().is_empty() {
        return svg;
    }
    let colour = if style.reverse { BEHIND } else { colour };
    let bold = if style.bold { " font-weight=\"bold\"" } else { "" };
    let dim = if style.dim { " opacity=\"0.6\"" } else { "" };
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;");
    let baseline = top + 0.75 * CELL[1];
    let _ = writeln!(
        svg,
        "<text x=\"{left:.1}\" y=\"{baseline:.1}\" textLength=\"{width:.1}\" lengthAdjust=\"spacingAndGlyphs\" \
         fill=\"{colour}\"{bold}{dim}>{escaped}</text>"
    );
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_become_styles() {
        let lines = cells("\x1b[1;32mab\x1b[0m <\n\x1b[38;5;3m▄\x1b[39m\x1b[7m-\x1b[27m");
        let plain = Style::default();
        let green = Style { colour: Some(2), bold: true, ..plain };
        assert_eq!(lines[0], [('a', green), ('b', green), (' ', plain), ('<', plain)]);
        let yellow = Style { colour: Some(3), ..plain };
        assert_eq!(lines[1], [('▄', yellow), ('-', Style { reverse: true, ..plain })]);
        let svg = picture("\x1b[33m▄\x1b[0m a<b");
        assert!(svg.contains("height=\"8.5\" fill=\"#e6c35c\"/>"), "{svg}");
        assert!(svg.contains(">a&lt;b</text>"), "{svg}");
    }
}
