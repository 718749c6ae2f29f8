//! A packet that was captured: when, which way it went, its bytes, and what was decided about it.

use std::fmt;

use icmp_common::reason::Reason;

use crate::policy::slots::{Line, rule_name};

/// Which way a packet went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// It came.
    In,
    /// It is a reply, or an error, that left.
    Out,
}

/// A packet that was captured.
#[derive(Clone, Copy, Debug)]
pub struct Captured<'a> {
    /// When, in nanoseconds since 1970.
    pub time: u64,
    /// Which way it went.
    pub direction: Direction,
    /// Its frame, as far as it was captured.
    pub frame: &'a [u8],
    /// How long the frame was.
    pub length: u32,
    /// What was decided.
    pub judgement: Judgement<'a>,
}

/// What was decided about a packet: `denied, reason denied, rule 20: deny icmp any any echo`.
#[derive(Clone, Copy, Debug)]
pub struct Judgement<'a> {
    /// Why.
    pub reason: Reason,
    /// The rule; `None` if none was asked.
    pub rule: Option<&'a Line>,
}

impl fmt::Display for Judgement<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reason, rule } = self;
        write!(f, "{}, reason {}", reason.verdict().name(), reason.name())?;
        let Some(Line { number, origin, text, .. }) = rule else { return Ok(()) };
        write!(f, ", {}", rule_name(*number, origin, text))?;
        // What is no rule is called by its text.
        number.map_or(Ok(()), |_| write!(f, ": {text}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_judgement_names_its_rule() {
        let line = |number, origin: &str, text: &str| Line {
            slot: 7,
            number,
            origin: origin.to_owned(),
            text: text.to_owned(),
        };
        let shown = |reason, rule: Option<&Line>| Judgement { reason, rule }.to_string();
        assert_eq!(shown(Reason::BadHeader, None), "malformed, reason bad-header");
        assert_eq!(
            shown(Reason::Denied, Some(&line(Some(20), "file", "deny icmp any any echo"))),
            "denied, reason denied, rule 20: deny icmp any any echo"
        );
        assert_eq!(
            shown(Reason::Denied, Some(&line(Some(10), "deprecated", "deny icmp4 any any 4"))),
            "denied, reason denied, rule 10 of the preset deprecated: deny icmp4 any any 4"
        );
        assert_eq!(
            shown(Reason::Echo, Some(&line(None, "built-in", "default permit"))),
            "answered, reason echo, default permit"
        );
    }
}
