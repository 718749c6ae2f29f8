//! Statistics as people read them: tables of totals, of whatever packets are listed by, and of limits.

use icmp_userspace::observe::{counters::Total, limits::Table};

use super::{Limits, Statistics};
use crate::cli::output;

/// Totals first, then what packets are listed by, and how to see them by rule. Where there was a reading before, rates stand
/// beside totals.
pub(super) fn lines(statistics: &Statistics) -> Vec<String> {
    let mut rows = vec![
        ["", "RECEIVED", "ANSWERED", "PASSED", "DENIED", "REJECTED", "LIMITED", "MALFORMED"]
            .map(str::to_owned),
    ];
    for (number, total) in statistics.totals.iter().enumerate() {
        rows.push(row(total.family, total, u64::to_string));
        rows.extend(statistics.per_second.map(|rates| row("  a second", &rates[number], rate)));
    }
    let mut lines = output::table(&rows, &[1, 2, 3, 4, 5, 6, 7]);
    let a_second = if statistics.per_second.is_some() { "A SECOND" } else { "" };
    if let Some(reasons) = &statistics.reasons {
        let mut rows = vec![["", "VERDICT", "REASON", "PACKETS", a_second, "MEANING"].map(str::to_owned)];
        rows.extend(reasons.iter().filter(|row| row.packets > 0).map(|row| {
            [
                row.family.to_owned(),
                row.verdict.to_owned(),
                row.reason.to_owned(),
                row.packets.to_string(),
                row.per_second.as_ref().map(rate).unwrap_or_default(),
                row.explanation.to_owned(),
            ]
        }));
        if rows.len() > 1 {
            lines.push(String::new());
            lines.extend(output::table(&rows, &[3, 4]));
        }
    }
    if let Some(rules) = &statistics.rules {
        let mut rows =
            vec![["RULE", "ORIGIN", "PACKETS", a_second, "BYTES", "OVER", "TEXT"].map(str::to_owned)];
        rows.extend(rules.iter().map(|row| {
            [
                or_dash(row.number),
                row.origin.clone(),
                row.packets.to_string(),
                row.per_second.as_ref().map(rate).unwrap_or_default(),
                row.bytes.to_string(),
                or_dash(row.over),
                row.rule.clone(),
            ]
        }));
        lines.push(String::new());
        lines.extend(output::table(&rows, &[0, 2, 3, 4, 5]));
    }
    if let Some(types) = &statistics.types {
        let mut rows = vec![["", "TYPE", "CODE", "PACKETS", a_second, "PASSED", "NAME"].map(str::to_owned)];
        rows.extend(types.iter().map(|row| {
            [
                row.family.to_owned(),
                or_dash(row.icmp_type),
                or_dash(row.code),
                row.packets.to_string(),
                row.per_second.as_ref().map(rate).unwrap_or_default(),
                row.passed.to_string(),
                row.name.unwrap_or_default().to_owned(),
            ]
        }));
        lines.push(String::new());
        lines.extend(output::table(&rows, &[1, 2, 3, 4, 5]));
    }
    if let Some(served) = &statistics.served {
        let mut rows = vec![["SERVED", "ANSWERED", a_second, "BYTES"].map(str::to_owned)];
        rows.extend(served.iter().map(|row| {
            [
                row.prefix.clone(),
                row.packets.to_string(),
                row.per_second.as_ref().map(rate).unwrap_or_default(),
                row.bytes.to_string(),
            ]
        }));
        lines.push(String::new());
        match served.is_empty() {
            false => lines.extend(output::table(&rows, &[1, 2, 3])),
            true => {
                lines.push("the policy does not count answers by prefix: respond.count = false".to_owned())
            }
        }
    }
    if let Some(limits) = &statistics.limits {
        lines.extend(lines_of_limits(limits));
    }
    if statistics.unlisted > 0 {
        let (count, interface) = (statistics.unlisted, &statistics.interface);
        let rules = if count == 1 { "rule" } else { "rules" };
        lines.push(String::new());
        lines.push(format!("{count} {rules}: `icmpctl stats {interface} --by rule` counts by rule"));
    }
    lines
}

fn row<N>(name: &str, total: &Total<N>, text: impl Fn(&N) -> String) -> [String; 8] {
    let Total { family: _, received, answered, passed, denied, rejected, limited, malformed } = total;
    [
        name.to_owned(),
        text(received),
        text(answered),
        text(passed),
        text(denied),
        text(rejected),
        text(limited),
        text(malformed),
    ]
}

fn or_dash(number: Option<impl ToString>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

fn rate(per_second: &f64) -> String {
    format!("{per_second:.1}")
}

fn lines_of_limits(limits: &Limits) -> Vec<String> {
    let mut rows = vec![["RULE", "ORIGIN", "WITHIN", "OVER", "RATE"].map(str::to_owned)];
    rows.extend(limits.rates.iter().map(|row| {
        let (number, within) = (or_dash(row.number), or_dash(row.within));
        [number, row.origin.clone(), within, row.over.to_string(), row.rate.clone()]
    }));
    let mut lines = vec![String::new()];
    lines.extend(output::table(&rows, &[0, 2, 3]));
    let Some(Table { buckets, in_use, given_way }) = limits.table else { return lines };
    let in_use =
        in_use.map_or_else(|| "the clock can't be read".to_owned(), |in_use| format!("{in_use} in use"));
    lines.push(String::new());
    lines.push(format!("{buckets} buckets: {in_use}; {given_way} have given way before they were full"));
    lines
}
