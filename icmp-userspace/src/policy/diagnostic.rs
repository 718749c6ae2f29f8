//! What is wrong with a policy file, and where: messages with the line itself and a caret under the place.

use std::{
    fmt,
    ops::Range,
    path::{Path, PathBuf},
};

use thiserror::Error;

/// One thing that is wrong, or that is probably not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether the policy can be used all the same.
    pub severity: Severity,
    /// The bytes of the policy file that it is about.
    pub span: Range<usize>,
    /// The place in a set's file, if it is that file that is wrong.
    pub elsewhere: Option<Box<Elsewhere>>,
    /// What is wrong, without a full stop.
    pub message: String,
    /// What would be right, if that can be said.
    pub help: Option<String>,
}

/// Whether a policy can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It can't.
    Error,
    /// It can, but probably does not do what was meant.
    Warning,
}

/// A place in another file than the policy's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// The file.
    pub path: PathBuf,
    /// The line's number, from 1.
    pub number: usize,
    /// The whole line.
    pub line: String,
    /// The bytes of the line that it is about.
    pub span: Range<usize>,
}

impl Diagnostic {
    pub(crate) fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { severity: Severity::Error, span, elsewhere: None, message, help: None }
    }

    pub(crate) fn warning(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::new(span, message) }
    }

    pub(crate) fn with_help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    pub(crate) fn at(self, elsewhere: Elsewhere) -> Self {
        Self { elsewhere: Some(Box::new(elsewhere)), ..self }
    }

    /// Whether the policy can't be used.
    #[must_use]
    pub const fn is_error(&self) -> bool {
        matches!(self.severity, Severity::Error)
    }
}

/// A policy file that does not mean anything: everything that is wrong with it, in the file's order.
#[derive(Clone, Debug, Error)]
pub struct Invalid {
    /// The file's name, for the messages.
    pub path: PathBuf,
    /// The file's text.
    pub text: String,
    /// What is wrong, with at least one error among it.
    pub diagnostics: Vec<Diagnostic>,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, text, diagnostics } = self;
        Report { path, text, diagnostics }.fmt(f)
    }
}

/// Diagnostics of a policy file, as they are printed: each with its place, the line itself and a caret.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// The file's name.
    pub path: &'a Path,
    /// The file's text.
    pub text: &'a str,
    /// What there is to say of it.
    pub diagnostics: &'a [Diagnostic],
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let starts: Vec<usize> =
            std::iter::once(0).chain(self.text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        for (number, diagnostic) in self.diagnostics.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            match &diagnostic.elsewhere {
                Some(place) => {
                    let Elsewhere { path, number, line, span } = &**place;
                    Place { path, number: *number, line, span: span.clone() }.write(f, diagnostic)?;
                }
                None => Place::of(self.path, self.text, &starts, &diagnostic.span).write(f, diagnostic)?,
            }
        }
        Ok(())
    }
}

/// Most characters of a line that are shown.
const MAX_SHOWN: usize = 200;

/// Where something is, for people.
struct Place<'a> {
    path: &'a Path,
    /// The line's number, from 1.
    number: usize,
    /// The whole line.
    line: &'a str,
    /// The bytes of the line.
    span: Range<usize>,
}

impl<'a> Place<'a> {
    /// The place of a span; `starts` says where the lines of the text begin.
    fn of(path: &'a Path, text: &'a str, starts: &[usize], span: &Range<usize>) -> Self {
        let at = span.start.min(text.len());
        let number = starts.partition_point(|start| *start <= at);
        let start = starts[number - 1];
        let line = text[start..].lines().next().unwrap_or_default();
        Self { path, number, line, span: at - start..span.end.max(at) - start }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, diagnostic: &Diagnostic) -> fmt::Result {
        let Self { path, number, line, span } = self;
        let start = line.floor_char_boundary(span.start);
        let end = line.floor_char_boundary(span.end).max(start);
        let before = line[..start].chars().count();
        // Of a long line only what is around the place.
        let skipped = before.saturating_sub(MAX_SHOWN / 2);
        let indent = before - skipped;
        let under = line[start..end].chars().count().clamp(1, MAX_SHOWN - indent);
        let warning = if diagnostic.is_error() { "" } else { "warning: " };
        writeln!(f, "{}:{number}:{}: {warning}{}", path.display(), before + 1, diagnostic.message)?;
        let margin = number.to_string().len();
        writeln!(f, "{:margin$} |", "")?;
        // A tab would move the line but not the caret; other control characters have no place on a terminal.
        let visible = line.chars().skip(skipped).take(MAX_SHOWN);
        let shown: String = visible.map(|c| if c.is_control() { ' ' } else { c }).collect();
        writeln!(f, "{number} | {}", shown.trim_end())?;
        write!(f, "{:margin$} | {:indent$}{:^<under$}", "", "", "")?;
        if let Some(help) = &diagnostic.help {
            write!(f, "\n{:margin$} = {help}", "")?;
        }
        Ok(())
    }
}

/// The candidate that a misspelt `name` most probably means, if any is near enough.
pub(crate) fn nearest<'a>(name: &str, candidates: &[&'a str]) -> Option<&'a str> {
    // Nobody misspells a word by so much, and comparing takes time.
    if name.len() > 64 {
        return None;
    }
    let name = name.to_ascii_lowercase().replace('_', "-");
    let distance = |candidate: &&&str| strsim::damerau_levenshtein(&name, candidate);
    let best = candidates.iter().min_by_key(distance)?;
    (distance(&best) <= best.len().div_ceil(3)).then_some(*best)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(text: &str, diagnostic: Diagnostic) -> String {
        Report { path: Path::new("p"), text, diagnostics: &[diagnostic] }.to_string()
    }

    #[test]
    fn shows_line_and_caret() {
        let text = report("a\n\tb cd\r\n", Diagnostic::new(5..7, "no").with_help("yes"));
        assert_eq!(text, "p:2:4: no\n  |\n2 |  b cd\n  |    ^^\n  = yes");
    }

    #[test]
    fn shows_a_place_behind_the_end() {
        assert_eq!(report("a", Diagnostic::warning(7..9, "no")), "p:1:2: warning: no\n  |\n1 | a\n  |  ^");
    }

    #[test]
    fn shows_long_lines_in_part() {
        let line = "x".repeat(100_000);
        let text = report(&line, Diagnostic::new(70_000..99_000, "no"));
        let shown: Vec<_> = text.lines().collect();
        assert_eq!(shown[0], "p:1:70001: no");
        assert_eq!(shown[2].len(), 4 + MAX_SHOWN);
        assert_eq!(shown[3], format!("  | {}{}", " ".repeat(100), "^".repeat(100)));
    }

    #[test]
    fn suggests_what_is_near() {
        assert_eq!(nearest("ecko", &["echo", "deny"]), Some("echo"));
        assert_eq!(nearest("Verify_Checksum", &["verify-checksum"]), Some("verify-checksum"));
        assert_eq!(nearest("xyz", &["echo", "deny"]), None);
    }
}
