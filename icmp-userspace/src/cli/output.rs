//! Output: aligned columns for people, JSON for programs, and the log on stderr.

use std::io::{self, IsTerminal as _, Write as _};

use rustix::termios::tcgetwinsize;
use serde::Serialize;

/// Prints a value as JSON.
pub(super) fn json(value: &impl Serialize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)
}

/// Prints a line.
pub(super) fn line(text: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{text}")
}

/// What stands out on a terminal.
#[derive(Clone, Copy)]
pub(super) enum Colour {
    Red,
    Green,
    Yellow,
}

/// Text in colour if stdout is a terminal, unless `NO_COLOR` is set (no-color.org).
pub(super) fn coloured(text: &str, colour: Colour) -> String {
    if !io::stdout().is_terminal() || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        return text.to_owned();
    }
    let code = match colour {
        Colour::Red => 31,
        Colour::Green => 32,
        Colour::Yellow => 33,
    };
    format!("\x1b[{code}m{text}\x1b[m")
}

/// Prints rows in columns as wide as they need to be; columns listed in `right` are aligned to the right.
pub(super) fn columns<const N: usize>(rows: &[[String; N]], right: &[usize]) -> io::Result<()> {
    table(rows, right).iter().try_for_each(|row| line(row))
}

/// The lines that [`columns`] prints; a column with nothing in it takes no room.
pub(super) fn table<const N: usize>(rows: &[[String; N]], right: &[usize]) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate().filter(|(_, (_, width))| *width > 0)
        {
            let cell =
                if right.contains(&column) { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
            line.push_str(&cell);
            line.push_str("  ");
        }
        line.trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Prints a value as JSON on a line of its own.
pub(super) fn json_line(value: &impl Serialize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    writeln!(out)
}

/// Shows lines: in the place of what a terminal showed before, and as much as it has room for; elsewhere behind it.
pub(super) fn screen(lines: &[String]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut text = String::new();
    match tcgetwinsize(&out).map(|size| [size.ws_row, size.ws_col].map(usize::from)) {
        Ok([height, width]) if height > 0 && width > 0 => {
            // From the top left corner on; what stands behind each line and below the last one goes.
            text.push_str("\x1b[H");
            for (number, line) in lines.iter().take(height).enumerate() {
                let end = line.char_indices().nth(width).map_or(line.len(), |(end, _)| end);
                text.push_str(if number > 0 { "\r\n" } else { "" });
                text.push_str(&line[..end]);
                text.push_str("\x1b[K");
            }
            text.push_str("\x1b[J");
        }
        _ => lines.iter().for_each(|line| {
            text.push_str(line);
            text.push('\n');
        }),
    }
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Sends the log to stderr, from level "info" on unless `RUST_LOG` says otherwise. With `times`, for a process that
/// stays, each line begins with the time, unless the journal notes it itself.
pub(super) fn log_to_stderr(times: bool) {
    let environment = env_logger::Env::default().default_filter_or("info,netlink_proto=error,aya=error");
    let times = times && std::env::var_os("JOURNAL_STREAM").is_none();
    let clears = io::stderr().is_terminal();
    env_logger::Builder::from_env(environment)
        .format(move |out, record| {
            if clears {
                // What `Progress` shows makes room.
                write!(out, "\r\x1b[K")?;
            }
            if times {
                write!(out, "{} ", out.timestamp_seconds())?;
            }
            let level = match record.level() {
                log::Level::Error => "error: ",
                log::Level::Warn => "warning: ",
                _ => "",
            };
            writeln!(out, "icmpctl: {level}{}", record.args())
        })
        .init();
}
