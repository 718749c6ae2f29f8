//! Words of an access list's line, and what is said where another word was expected.

use std::ops::Range;

use super::diagnostic::{Diagnostic, nearest};

/// A word, or one of `{`, `}` and `,`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word<'a> {
    /// The word.
    pub(super) text: &'a str,
    /// Where it stands.
    pub(super) span: Range<usize>,
}

/// Longest part of a word that messages repeat, in characters.
const MAX_SHOWN: usize = 60;

impl Word<'_> {
    /// The word as messages repeat it.
    pub(super) fn shown(&self) -> String {
        let mut shown: String =
            self.text.chars().take(MAX_SHOWN).map(|c| if c.is_control() { '?' } else { c }).collect();
        if self.text.chars().nth(MAX_SHOWN).is_some() {
            shown.push_str("...");
        }
        shown
    }

    /// Something else was expected.
    pub(super) fn expected(&self, what: &str) -> Diagnostic {
        Diagnostic::new(self.span.clone(), format!("expected {what}, found {}", self.shown()))
    }

    /// One of these words was expected.
    pub(super) fn expected_one(&self, what: &str, known: &[&str]) -> Diagnostic {
        let diagnostic = self.expected(what);
        match nearest(self.text, known) {
            Some(nearest) => diagnostic.with_help(format!("did you mean {nearest}?")),
            None => diagnostic,
        }
    }

    /// A range whose ends should change places.
    pub(super) fn reversed(&self, first: impl std::fmt::Display, last: impl std::fmt::Display) -> Diagnostic {
        let message = format!("the range {} ends before it begins", self.shown());
        Diagnostic::new(self.span.clone(), message).with_help(format!("write {last}-{first}"))
    }
}

/// Neighbouring words as one, for messages about all of them.
pub(super) fn spanning<'a>(words: &[Word<'a>]) -> Word<'a> {
    match words {
        [first, .., last] => Word { text: first.text, span: first.span.start..last.span.end },
        [word] => word.clone(),
        [] => Word { text: "", span: 0..0 },
    }
}

/// Splits a line, which begins at `start` of its text, into words. A word that begins with `!` or `#` begins a comment.
pub(super) fn split(line: &str, start: usize) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_start();
        let Some(first) = rest.chars().next() else { return words };
        let length = match first {
            '!' | '#' => return words,
            '{' | '}' | ',' => 1,
            _ => {
                let ends = |c: char| c.is_whitespace() || matches!(c, '{' | '}' | ',');
                rest.find(ends).unwrap_or(rest.len())
            }
        };
        let at = start + line.len() - rest.len();
        let (text, behind) = rest.split_at(length);
        words.push(Word { text, span: at..at + length });
        rest = behind;
    }
}

/// The words of a line while they are read.
#[derive(Clone, Debug)]
pub(super) struct Words<'a> {
    words: Vec<Word<'a>>,
    next: usize,
    /// Where the last word ends: the place of what is missing.
    end: usize,
}

impl<'a> Words<'a> {
    /// The words of a line that begins at `start` of its text.
    pub(super) fn new(line: &'a str, start: usize) -> Self {
        let words = split(line, start);
        let end = words.last().map_or(start, |word| word.span.end);
        Self { words, next: 0, end }
    }

    /// The next word, if there is one.
    pub(super) fn peek(&self) -> Option<&Word<'a>> {
        self.words.get(self.next)
    }

    /// The word behind the next one.
    pub(super) fn second(&self) -> Option<&Word<'a>> {
        self.words.get(self.next + 1)
    }

    /// Takes the next word, if there is one.
    pub(super) fn take(&mut self) -> Option<Word<'a>> {
        let word = self.peek().cloned();
        self.next += usize::from(word.is_some());
        word
    }

    /// Takes the next word, which has to be there.
    pub(super) fn expect(&mut self, what: &str) -> Result<Word<'a>, Diagnostic> {
        self.take().ok_or_else(|| {
            Diagnostic::new(self.end..self.end, format!("expected {what}, found the end of the line"))
        })
    }

    /// Takes the next word if it is this one.
    pub(super) fn take_if(&mut self, text: &str) -> Option<Word<'a>> {
        self.peek().filter(|word| word.text == text)?;
        self.take()
    }

    /// The span from the first word to the last.
    pub(super) fn span(&self) -> Range<usize> {
        self.words.first().map_or(self.end, |word| word.span.start)..self.end
    }

    /// Takes a word, or the words of a list in braces.
    pub(super) fn list(&mut self, what: &str) -> Result<Vec<Word<'a>>, Diagnostic> {
        let first = self.expect(what)?;
        if first.text != "{" {
            return match first.text {
                "}" | "," => Err(first.expected(what)),
                _ => Ok(vec![first]),
            };
        }
        let mut items = Vec::new();
        loop {
            let item = self.expect("an item of the list")?;
            if matches!(item.text, "{" | "}" | ",") {
                return Err(item.expected("an item of the list"));
            }
            items.push(item);
            let separator = self.expect("`,` or `}`")?;
            match separator.text {
                "," => {}
                "}" => return Ok(items),
                _ => return Err(separator.expected("`,` or `}`")),
            }
        }
    }
}
