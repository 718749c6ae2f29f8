//! Output: aligned columns for people, JSON for programs, and the log on stderr.

use std::io::{self, IsTerminal as _, Write as _};

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
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut out = io::stdout().lock();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let cell =
                if right.contains(&column) { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
            line.push_str(&cell);
            line.push_str("  ");
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
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
