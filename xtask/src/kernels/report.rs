//! What a booted kernel reports: which suite runs, what its tests say, how it ended.

use std::{
    fmt,
    time::{Duration, Instant},
};

/// What begins the lines that are not the tests'.
const MARK: &str = "=== ";

/// A line that is not the tests'.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A suite begins.
    Suite(String),
    /// It has ended, well or not.
    End(bool),
    /// The rest can't be run.
    Error(String),
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Suite(name) => write!(f, "{MARK}suite {name}"),
            Self::End(well) => write!(f, "{MARK}end {well}"),
            Self::Error(error) => write!(f, "{MARK}error {error}"),
        }
    }
}

impl Line {
    fn parse(line: &str) -> Option<Self> {
        let (kind, rest) = line.strip_prefix(MARK)?.split_once(' ')?;
        match kind {
            "suite" => Some(Self::Suite(rest.to_owned())),
            "end" => Some(Self::End(rest == "true")),
            "error" => Some(Self::Error(rest.to_owned())),
            _ => None,
        }
    }
}

/// What one suite came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Suite {
    /// Tests that passed.
    pub(super) passed: usize,
    /// Tests that failed.
    pub(super) failed: usize,
    /// Whether it has ended, and no test failed.
    pub(super) well: bool,
    /// How long it took.
    pub(super) time: Duration,
}

/// What the verifier said of one policy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Figure {
    /// The policy.
    pub(super) policy: String,
    /// The rest of the line.
    pub(super) text: String,
}

/// What one kernel came to.
pub(super) struct Report {
    begin: Instant,
    suite_began: Instant,
    /// How long it took to begin with the first suite.
    pub(super) boot: Duration,
    /// The suites that were begun, in order.
    pub(super) suites: Vec<Suite>,
    /// What the verifier said.
    pub(super) figures: Vec<Figure>,
    /// What went wrong outside the tests.
    pub(super) error: Option<String>,
    /// All that was said.
    pub(super) text: String,
}

impl Report {
    /// A kernel that is about to be booted.
    pub(super) fn new() -> Self {
        let begin = Instant::now();
        Self {
            begin,
            suite_began: begin,
            boot: Duration::ZERO,
            suites: Vec::new(),
            figures: Vec::new(),
            error: None,
            text: String::new(),
        }
    }

    /// Takes the next line.
    pub(super) fn take(&mut self, line: &str) {
        self.text += line;
        self.text.push('\n');
        match Line::parse(line) {
            Some(Line::Suite(_)) => {
                self.suite_began = Instant::now();
                if self.suites.is_empty() {
                    self.boot = self.begin.elapsed();
                }
                self.suites.push(Suite::default());
            }
            Some(Line::End(well)) => {
                if let Some(suite) = self.suites.last_mut() {
                    (suite.well, suite.time) = (well, self.suite_began.elapsed());
                }
            }
            Some(Line::Error(error)) => self.error = Some(error),
            None => self.take_tests(line),
        }
    }

    fn take_tests(&mut self, line: &str) {
        if let Some((policy, text)) = line.strip_prefix("verifier: ").and_then(|line| line.split_once(": ")) {
            self.figures.push(Figure { policy: policy.to_owned(), text: text.to_owned() });
        }
        let outcome = line.strip_prefix("test ").and_then(|line| line.split_once(" ... "));
        if let Some((_, outcome)) = outcome
            && let Some(suite) = self.suites.last_mut()
        {
            suite.passed += usize::from(outcome == "ok");
            suite.failed += usize::from(outcome == "FAILED");
        }
    }

    /// Whether all of so many suites were run, and all tests passed.
    pub(super) fn is_well(&self, suites: usize) -> bool {
        self.error.is_none() && self.suites.len() == suites && self.suites.iter().all(|suite| suite.well)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(text: &str) -> Report {
        let mut report = Report::new();
        text.lines().for_each(|line| report.take(line));
        report
    }

    const FIRST: &str = "\
=== suite object

running 2 tests
test one ... ok
test two ... ok

successes:

---- one stdout ----
verifier: rules and limits: 12345 instructions, 67 ms

test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 10.03s
=== end true
";

    #[test]
    fn lines_are_read_as_they_were_written() {
        for line in
            [Line::Suite("veth".into()), Line::End(true), Line::End(false), Line::Error("no /dev".into())]
        {
            assert_eq!(Line::parse(&line.to_string()), Some(line));
        }
        assert_eq!(Line::parse("test suite ... ok"), None);
    }

    #[test]
    fn passed_tests_and_figures_are_counted() {
        let report = report(FIRST);
        assert_eq!((report.suites[0].passed, report.suites[0].well), (2, true));
        let figure = Figure { policy: "rules and limits".into(), text: "12345 instructions, 67 ms".into() };
        assert_eq!(report.figures, [figure]);
        assert!(report.is_well(1));
    }

    #[test]
    fn what_fails_or_is_missing_is_not_well() {
        assert!(!report(FIRST).is_well(2));
        assert!(!report(&format!("{FIRST}=== suite veth\ntest one ... ok\n")).is_well(2));
        assert!(!report(&format!("{FIRST}=== suite veth\ntest one ... FAILED\n=== end false\n")).is_well(2));
        assert!(!report(&format!("{FIRST}=== error no /dev\n")).is_well(1));
    }
}
