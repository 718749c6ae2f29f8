//! What became of the goals that the project has set itself, all in one list.

use std::fmt;

use super::{
    super::{control, packets::Than},
    Report,
};

/// A goal, and what became of it.
pub(super) struct Judged {
    /// What it is about.
    pub(super) what: String,
    /// What was measured.
    pub(super) measured: String,
    /// What had to be.
    pub(super) goal: String,
    /// Whether it is met.
    pub(super) met: bool,
    /// Whether that can be believed.
    pub(super) steady: bool,
}

/// All goals of what was measured.
pub(super) fn all(report: &Report) -> Vec<Judged> {
    let mut all = Vec::new();
    let lines = report.packets.as_ref().map_or(&[][..], |packets| &packets.lines);
    for line in lines {
        let (Some(goal), Some(met)) = (line.goal, line.is_met(lines)) else { continue };
        let (net, ratio) = (line.summary.net.median, line.summary.ratio.median);
        let mut measured = format!("{net:.1} ns");
        if goal.ratio.is_some() {
            measured += &format!(", {ratio:.2}x");
        }
        if let Some(other) = goal.than.and_then(|(name, _)| lines.iter().find(|line| line.name == name)) {
            let other = other.summary.net.median;
            measured += &match goal.than {
                Some((_, Than::Plus(_))) => format!(", {:+.1} ns", net - other),
                _ => format!(", {:.2} times", net / other),
            };
        }
        let (what, steady) = (line.name.clone(), line.is_steady());
        all.push(Judged { what, measured, goal: goal.to_string(), met, steady });
    }
    for line in &report.end_to_end {
        for entrant in &line.entrants {
            let Ok(outcome) = &entrant.outcome else { continue };
            let (Some(goal), Some(met)) = (outcome.goal, outcome.is_met()) else { continue };
            all.push(Judged {
                what: format!("{}, end to end, against {}", line.name, entrant.name),
                measured: format!("{:.1} times", outcome.ratio.median),
                goal: format!("at least {goal} times"),
                met,
                steady: outcome.is_steady(),
            });
        }
    }
    for line in &report.control.lines {
        let (Some(goal), Some(met)) = (line.goal, line.is_met()) else { continue };
        let mut measured = format!("{:.0} ms", line.seconds.median * 1000.0);
        if goal.mib.is_some() {
            measured += &format!(", {:.0} MiB", line.mib.most);
        }
        all.push(Judged { what: line.name.to_owned(), measured, goal: goal.to_string(), met, steady: true });
    }
    if let Some(account) = &report.control.swapped {
        all.push(Judged {
            what: control::SWAPPED.to_owned(),
            measured: control::lost(account),
            goal: "none lost".to_owned(),
            met: account.adds_up(),
            steady: true,
        });
    }
    all
}

/// How many of them are met.
pub(super) fn met(all: &[Judged]) -> usize {
    all.iter().filter(|judged| judged.met).count()
}

/// The goals as a table.
pub(super) struct Listing<'a>(pub(super) &'a [Judged]);

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |of: fn(&Judged) -> &str, least| {
            self.0.iter().map(|judged| of(judged).len()).fold(least, usize::max)
        };
        let (what, measured) = (width(|judged| &judged.what, 5), width(|judged| &judged.measured, 8));
        writeln!(f, "{:<what$}  {:<measured$}          GOAL", "GOALS", "MEASURED")?;
        for judged in self.0 {
            let met = if judged.met { "met" } else { "MISSED" };
            let unsteady = if judged.steady { "" } else { " (unsteady)" };
            writeln!(
                f,
                "{:<what$}  {:<measured$}  {met:<6}  {}{unsteady}",
                judged.what, judged.measured, judged.goal
            )?;
        }
        writeln!(f, "{} of {} goals are met.", met(self.0), self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missed_goals_are_counted_as_such() {
        let judged = |what: &str, met| Judged {
            what: what.to_owned(),
            measured: "7 ns".to_owned(),
            goal: "at most 6 ns".to_owned(),
            met,
            steady: met,
        };
        let text = Listing(&[judged("echo", false), judged("long name", true)]).to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "GOALS      MEASURED          GOAL");
        assert_eq!(lines[1], "echo       7 ns      MISSED  at most 6 ns (unsteady)");
        assert_eq!(lines[2], "long name  7 ns      met     at most 6 ns");
        assert_eq!(lines[3], "1 of 2 goals are met.");
    }
}
