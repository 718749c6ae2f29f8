//! What all kernels came to, side by side.

use std::fmt;

use super::{
    Run, SUITES, names,
    report::{Report, Suite},
};

/// Two tables: suites, and what the verifier said.
pub(super) struct Table<'a>(pub(super) &'a [Run<'a>]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<28} {:>6}", "KERNEL", "BOOT")?;
        for suite in names() {
            write!(f, "  {:<18}", suite.to_uppercase())?;
        }
        writeln!(f)?;
        for Run { release, report } in self.0 {
            write!(f, "{release:<28} {:>4.1} s", report.boot.as_secs_f64())?;
            for number in 0..SUITES.len() {
                write!(f, "  {:<18}", outcome(report.suites.get(number)))?;
            }
            writeln!(f, "{}", mark(report))?;
        }
        writeln!(f, "\n{:<28} {:<18} VERIFIED, AND LOADED IN", "KERNEL", "POLICY")?;
        for Run { release, report } in self.0 {
            for figure in &report.figures {
                writeln!(f, "{release:<28} {:<18} {}", figure.policy, figure.text)?;
            }
        }
        Ok(())
    }
}

/// What a suite came to; one that was not begun was not run.
fn outcome(suite: Option<&Suite>) -> String {
    let Some(Suite { passed, failed, well, time }) = suite else { return "not run".to_owned() };
    match (failed, well) {
        (0, true) if *passed == 0 => "no test".to_owned(),
        (0, true) => format!("{passed} ok, {:.0} s", time.as_secs_f64()),
        (0, false) => format!("{passed} ok, broke off"),
        _ => format!("{failed} of {} failed", passed + failed),
    }
}

/// How a kernel's line ends.
fn mark(report: &Report) -> String {
    match &report.error {
        Some(error) => format!("FAILED: {error}"),
        None if report.is_well(SUITES.len()) => "ok".to_owned(),
        None => "FAILED".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_was_not_run_is_not_said_to_have_passed() {
        let suite = Suite { passed: 3, failed: 0, well: true, time: Duration::from_secs(12) };
        assert_eq!(outcome(Some(&suite)), "3 ok, 12 s");
        assert_eq!(outcome(None), "not run");
        assert_eq!(outcome(Some(&Suite { well: false, ..suite })), "3 ok, broke off");
        assert_eq!(outcome(Some(&Suite { well: true, ..Suite::default() })), "no test");
        assert_eq!(outcome(Some(&Suite { passed: 3, failed: 1, ..Suite::default() })), "1 of 4 failed");
    }
}
