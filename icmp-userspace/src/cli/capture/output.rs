//! Where captured packets go: to stdout, a line each, or into a capture file.

use std::{
    fs::{self, File},
    io::{self, IsTerminal as _, Write as _},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use icmp_userspace::observe::{
    captured::Captured,
    line::Line,
    pcapng::{Statistics, Writer},
};

use crate::cli::Usage;

/// Takes captured packets.
pub(super) enum Output {
    /// Lines that have not been printed yet.
    Lines(String),
    /// A capture file on stdout.
    Stdout(Writer<File>),
    /// A capture file.
    File {
        /// What writes it.
        writer: Writer<File>,
        /// The file once more.
        file: File,
        /// Its name.
        path: PathBuf,
    },
}

impl Output {
    /// Finds out whether there can be output, as far as nothing is lost by it.
    pub(super) fn check(path: Option<&Path>) -> anyhow::Result<()> {
        match path {
            Some(path) if path == "-" && io::stdout().is_terminal() => {
                let message = "a capture file is nothing for a terminal: leave out -w, or send it elsewhere";
                Err(Usage(message.to_owned()).into())
            }
            // Who reads a pipe would see it end.
            Some(path) if path != "-" && (path.is_file() || !path.exists()) => {
                let doing = || format!("writing {}", path.display());
                let was_there = path.exists();
                File::options().write(true).create(true).truncate(false).open(path).with_context(doing)?;
                if !was_there {
                    fs::remove_file(path).with_context(doing)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Begins: a capture file about an interface, or lines if none is named.
    pub(super) fn open(path: Option<&Path>, interface: &str, snaplen: u32) -> anyhow::Result<Self> {
        let Some(path) = path else { return Ok(Self::Lines(String::new())) };
        if path == "-" {
            let stdout = io::stdout().as_fd().try_clone_to_owned()?;
            return Ok(Self::Stdout(Writer::begin(stdout.into(), interface, snaplen)?));
        }
        let doing = || format!("writing {}", path.display());
        let file = File::create(path).with_context(doing)?;
        let writer = file.try_clone().and_then(|file| Writer::begin(file, interface, snaplen));
        Ok(Self::File { writer: writer.with_context(doing)?, file, path: path.to_owned() })
    }

    /// Takes a packet.
    pub(super) fn packet(&mut self, captured: &Captured<'_>) -> anyhow::Result<()> {
        self.write(
            |lines| {
                *lines += &Line(captured).to_string();
                lines.push('\n');
                Ok(())
            },
            |writer| writer.packet(captured),
        )
    }

    /// Lets whoever reads see what was taken.
    pub(super) fn flush(&mut self) -> anyhow::Result<()> {
        self.write(
            |lines| {
                io::stdout().write_all(lines.as_bytes())?;
                lines.clear();
                io::stdout().flush()
            },
            Writer::flush,
        )
    }

    /// Ends.
    pub(super) fn end(&mut self, statistics: &Statistics) -> anyhow::Result<()> {
        self.flush()?;
        self.write(|_| Ok(()), |writer| writer.end(statistics))
    }

    fn write(
        &mut self,
        print: impl FnOnce(&mut String) -> io::Result<()>,
        write: impl FnOnce(&mut Writer<File>) -> io::Result<()>,
    ) -> anyhow::Result<()> {
        match self {
            Self::Lines(lines) => Ok(print(lines)?),
            Self::Stdout(writer) => Ok(write(writer)?),
            Self::File { writer, file, path } => write(writer).with_context(|| {
                // What is half there would only be in the way of whoever reads it.
                if file.metadata().is_ok_and(|file| file.is_file()) {
                    let _ = file.set_len(writer.whole());
                }
                format!("writing {}, which ends before this packet", path.display())
            }),
        }
    }
}
