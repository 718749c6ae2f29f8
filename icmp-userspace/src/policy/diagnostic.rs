//! What is wrong with a policy file, and where: messages with the line itself and a caret under the place.

use std::{fmt, ops::Range, path::PathBuf};

use thiserror::Error;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The bytes of the file that it is about.
    pub span: Range<usize>,
    /// What is wrong, without a full stop.
    pub message: String,
    /// What would be right, if that can be said.
    pub help: Option<String>,
}

impl Diagnostic {
    pub(crate) fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), help: None }
    }

    pub(crate) fn with_help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

/// A policy file that does not mean anything: everything that is wrong with it, in the file's order.
#[derive(Clone, Debug, Error)]
pub struct Invalid {
    /// The file's name, for the messages.
    pub path: PathBuf,
    /// The file's text.
    pub text: String,
    /// What is wrong; at least one.
    pub diagnostics: Vec<Diagnostic>,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, diagnostic) in self.diagnostics.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            self.write_one(f, diagnostic)?;
        }
        Ok(())
    }
}

impl Invalid {
    fn write_one(&self, f: &mut fmt::Formatter<'_>, diagnostic: &Diagnostic) -> fmt::Result {
        let place = Place::of(&self.text, &diagnostic.span);
        let path = self.path.display();
        writeln!(f, "{path}:{}:{}: {}", place.line, place.column, diagnostic.message)?;
        let margin = place.line.to_string().len();
        writeln!(f, "{:margin$} |", "")?;
        writeln!(f, "{} | {}", place.line, place.text)?;
        let (before, under) = (place.column - 1, place.width);
        write!(f, "{:margin$} | {:before$}{:^<under$}", "", "", "")?;
        if let Some(help) = &diagnostic.help {
            write!(f, "\n{:margin$} = {help}", "")?;
        }
        Ok(())
    }
}

/// Where a span begins, for people.
struct Place {
    /// From 1.
    line: usize,
    /// From 1, in characters.
    column: usize,
    /// The whole line; tabs have become spaces so that the caret stands where it should.
    text: String,
    /// Characters of the span on this line; at least 1.
    width: usize,
}

impl Place {
    fn of(text: &str, span: &Range<usize>) -> Self {
        let start = text.floor_char_boundary(span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let end = text.floor_char_boundary(span.end).clamp(start, line_end);
        Self {
            line: text[..line_start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            text: text[line_start..line_end].trim_end_matches('\r').replace('\t', " "),
            width: text[start..end].chars().count().max(1),
        }
    }
}

/// The candidate that a misspelt `name` most probably means, if any is near enough.
pub(crate) fn nearest<'a>(name: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let name = name.to_ascii_lowercase().replace('_', "-");
    let distance = |candidate: &&&str| strsim::damerau_levenshtein(&name, candidate);
    let best = candidates.iter().min_by_key(distance)?;
    (distance(&best) <= best.len().div_ceil(3)).then_some(*best)
}
