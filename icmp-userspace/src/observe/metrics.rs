//! Metrics: what was counted, in the text formats of Prometheus (0.0.4) and of OpenMetrics (1.0.0).
//!
//! No label has a value for each source or destination: how many series there are depends on the policy alone.

use std::{
    collections::HashSet,
    fmt::{self, Write as _},
};

use icmp_common::events::Told;

use super::{counters, limits, rules, served, types};

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// That of Prometheus.
    Prometheus,
    /// What became of it.
    OpenMetrics,
}

impl Format {
    /// What HTTP calls it.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What a metric's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What only rises, but for new beginnings.
    Counter,
    /// What rises and falls.
    Gauge,
    /// Always 1: its labels are what it says.
    Info,
}

impl Kind {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Info => "info",
        }
    }

    const fn suffix(self) -> &'static str {
        match self {
            Self::Counter => "_total",
            Self::Gauge => "",
            Self::Info => "_info",
        }
    }
}

/// A metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    family: &'static str,
    /// What its values are.
    pub kind: Kind,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// What it means, in a sentence.
    pub help: &'static str,
}

impl Metric {
    /// The name of its series.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}{}", self.family, self.kind.suffix())
    }
}

const INFO: Metric = Metric {
    family: "icmpctl",
    kind: Kind::Info,
    labels: &["interface", "mode", "program", "policy", "abi", "version"],
    help: "What runs: the mode, the program's id, the policy's hash, the ABI of both halves, the version of icmpctl.",
};
const POLICY_AGE: Metric = Metric {
    family: "icmpctl_policy_age_seconds",
    kind: Kind::Gauge,
    labels: &["interface"],
    help: "How long ago the policy in place was read.",
};
const PACKETS: Metric = Metric {
    family: "icmpctl_packets",
    kind: Kind::Counter,
    labels: &["interface", "family", "verdict", "reason"],
    help: "ICMP packets received, each under one verdict and one reason.",
};
const RULE_PACKETS: Metric = Metric {
    family: "icmpctl_rule_packets",
    kind: Kind::Counter,
    labels: &["interface", "rule", "text"],
    help: "Packets that a rule decided about. The text is cut after 100 characters; rules behind the first 1,000 are counted together as others.",
};
const RULE_BYTES: Metric = Metric {
    family: "icmpctl_rule_bytes",
    kind: Kind::Counter,
    labels: &["interface", "rule", "text"],
    help: "Bytes of the IP packets that a rule decided about, headers included.",
};
const TYPE_PACKETS: Metric = Metric {
    family: "icmpctl_type_packets",
    kind: Kind::Counter,
    labels: &["interface", "family", "type", "code", "name", "passed"],
    help: "ICMP packets by type and code, for those that have come; passed: whether they were left to the stack. No code: codes that nothing is known of; no type: fragments but the first, and what has an impossible header.",
};
const SERVED_PACKETS: Metric = Metric {
    family: "icmpctl_served_packets",
    kind: Kind::Counter,
    labels: &["interface", "prefix"],
    help: "Echo requests that were answered for a prefix; own: for the interface's addresses; others: for prefixes behind the first 1,022.",
};
const EVENTS: Metric = Metric {
    family: "icmpctl_events",
    kind: Kind::Counter,
    labels: &["interface", "outcome"],
    help: "Events of rules that log: told, suppressed because there were too many, lost because nobody read them in time.",
};
const LIMIT_OVER: Metric = Metric {
    family: "icmpctl_limit_over_packets",
    kind: Kind::Counter,
    labels: &["interface", "rule", "rate"],
    help: "Packets over a rate, for the first 1,000 rates of rules; without a rule, errors that were not sent because of theirs.",
};
const BUCKETS: Metric = Metric {
    family: "icmpctl_buckets",
    kind: Kind::Gauge,
    labels: &["interface"],
    help: "Buckets for rates by source and destination.",
};
const BUCKETS_IN_USE: Metric = Metric {
    family: "icmpctl_buckets_in_use",
    kind: Kind::Gauge,
    labels: &["interface"],
    help: "Buckets that are not full, and so in use.",
};
const EVICTIONS: Metric = Metric {
    family: "icmpctl_buckets_evicted",
    kind: Kind::Counter,
    labels: &["interface"],
    help: "Buckets that gave way to others before they were full.",
};

/// The one list of metrics.
pub const METRICS: [Metric; 12] = [
    INFO,
    POLICY_AGE,
    PACKETS,
    TYPE_PACKETS,
    SERVED_PACKETS,
    RULE_PACKETS,
    RULE_BYTES,
    LIMIT_OVER,
    BUCKETS,
    BUCKETS_IN_USE,
    EVICTIONS,
    EVENTS,
];

/// Most rules that have a series of their own.
const RULES: usize = 1_000;
/// Most characters of a rule's text.
const TEXT: usize = 100;

/// What is known of an interface.
#[derive(Debug)]
pub struct Reading {
    /// Its name.
    pub interface: String,
    /// Where the program runs.
    pub mode: Option<&'static str>,
    /// The program's id.
    pub program: Option<u32>,
    /// The policy's hash, and its age in seconds, if they are known.
    pub policy: Option<(u64, f64)>,
    /// What became of packets.
    pub reasons: Vec<counters::Row>,
    /// What they were.
    pub types: Vec<types::Row>,
    /// What was answered for each prefix.
    pub served: Vec<served::Row>,
    /// What rules decided.
    pub rules: Vec<rules::Row>,
    /// What was over limits.
    pub limits: Vec<limits::Row>,
    /// The table of buckets, if there is one.
    pub buckets: Option<limits::Table>,
    /// What has become of events, if that is known.
    pub told: Option<Told>,
}

/// A reading as text.
#[must_use]
pub fn render(reading: &Reading, format: Format) -> String {
    let mut page = Page { text: String::new(), format };
    let interface = &*reading.interface;
    let alone = |value: Option<f64>| value.map(|value| (vec![interface.to_owned()], value)).into_iter();
    let text = |what: Option<String>| what.unwrap_or_default();
    let info = vec![
        interface.to_owned(),
        reading.mode.unwrap_or_default().to_owned(),
        text(reading.program.map(|program| program.to_string())),
        text(reading.policy.map(|(hash, _)| format!("{hash:016x}"))),
        icmp_common::ABI_VERSION.to_string(),
        env!("CARGO_PKG_VERSION").to_owned(),
    ];
    page.metric(&INFO, [(info, 1.0)]);
    page.metric(&POLICY_AGE, alone(reading.policy.map(|(_, age)| age)));
    page.metric(
        &PACKETS,
        reading.reasons.iter().map(|row| {
            let labels = [interface, row.family, row.verdict, row.reason];
            (labels.map(str::to_owned).to_vec(), row.packets as f64)
        }),
    );
    page.metric(
        &TYPE_PACKETS,
        reading.types.iter().flat_map(|row| {
            let number = |number: Option<u8>| text(number.map(|number| number.to_string()));
            [(true, row.passed), (false, row.packets - row.passed)].map(|(passed, packets)| {
                let labels = [
                    interface.to_owned(),
                    row.family.to_owned(),
                    number(row.icmp_type),
                    number(row.code),
                    row.name.unwrap_or_default().to_owned(),
                    passed.to_string(),
                ];
                (labels.to_vec(), packets as f64)
            })
        }),
    );
    page.metric(
        &SERVED_PACKETS,
        reading.served.iter().map(|row| (vec![interface.to_owned(), row.prefix.clone()], row.packets as f64)),
    );
    let (listed, others) = reading.rules.split_at(reading.rules.len().min(RULES));
    for (metric, of) in
        [(&RULE_PACKETS, (|row| row.packets) as fn(&rules::Row) -> u64), (&RULE_BYTES, |row| row.bytes)]
    {
        let rules = listed.iter().map(|row| {
            let number = text(row.number.map(|number| number.to_string()));
            (vec![interface.to_owned(), number, row.rule.chars().take(TEXT).collect()], of(row) as f64)
        });
        let others = (!others.is_empty()).then(|| {
            let sum: u64 = others.iter().map(of).sum();
            (vec![interface.to_owned(), "others".to_owned(), String::new()], sum as f64)
        });
        page.metric(metric, rules.chain(others));
    }
    let (of_errors, of_rules): (Vec<_>, Vec<_>) = reading.limits.iter().partition(|row| row.number.is_none());
    let rates = of_rules.into_iter().take(RULES).chain(of_errors);
    page.metric(
        &LIMIT_OVER,
        rates.map(|row| {
            let number = text(row.number.map(|number| number.to_string()));
            (vec![interface.to_owned(), number, row.rate.clone()], row.over as f64)
        }),
    );
    let buckets = reading.buckets.as_ref();
    page.metric(&BUCKETS, alone(buckets.map(|table| table.buckets as f64)));
    page.metric(&BUCKETS_IN_USE, alone(buckets.and_then(|table| table.in_use).map(|in_use| in_use as f64)));
    page.metric(&EVICTIONS, alone(buckets.map(|table| table.given_way as f64)));
    let outcomes = reading.told.iter().flat_map(|told| {
        [("told", told.told), ("suppressed", told.suppressed), ("lost", told.lost)]
            .map(|(outcome, events)| (vec![interface.to_owned(), outcome.to_owned()], events as f64))
    });
    page.metric(&EVENTS, outcomes);
    if format == Format::OpenMetrics {
        page.text.push_str("# EOF\n");
    }
    page.text
}

/// What is written.
struct Page {
    text: String,
    format: Format,
}

impl Page {
    /// A metric with its series: values of its labels, and its value.
    fn metric(&mut self, metric: &Metric, series: impl IntoIterator<Item = (Vec<String>, f64)>) {
        let name = metric.name();
        // Prometheus names the series, OpenMetrics what they belong to.
        let (of, kind) = match (self.format, metric.kind) {
            (Format::OpenMetrics, kind) => (metric.family, kind),
            (Format::Prometheus, Kind::Info) => (&*name, Kind::Gauge),
            (Format::Prometheus, kind) => (&*name, kind),
        };
        // Writing to a string can't fail.
        let _ = writeln!(self.text, "# HELP {of} {}\n# TYPE {of} {}", metric.help, kind.name());
        let mut written = HashSet::new();
        for (values, value) in series {
            let pairs = metric.labels.iter().zip(&values);
            let labels: Vec<_> =
                pairs.map(|(label, value)| format!("{label}=\"{}\"", Escaped(value))).collect();
            let labels = labels.join(",");
            // No series may come twice: of rules that can't be told apart the first one decides.
            if !written.contains(&labels) {
                let _ = writeln!(self.text, "{name}{{{labels}}} {value}");
                written.insert(labels);
            }
        }
    }
}

/// The value of a label as both formats have it.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| match character {
            '\\' => f.write_str("\\\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str("\\n"),
            character => f.write_char(character),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(rules: usize) -> Reading {
        let rule = |number: usize| rules::Row {
            bytes: 0,
            over: None,
            number: Some(number as u32),
            origin: "file".to_owned(),
            rule: format!("deny \"\\{}", "x".repeat(200)),
            packets: 2,
            per_second: None,
        };
        Reading {
            interface: "eth0".to_owned(),
            mode: Some("native"),
            program: Some(7),
            policy: Some((0xab, 1.5)),
            reasons: Vec::new(),
            types: Vec::new(),
            served: Vec::new(),
            rules: (0..rules).map(rule).collect(),
            limits: Vec::new(),
            buckets: Some(limits::Table { buckets: 8, in_use: None, given_way: 3 }),
            told: None,
        }
    }

    #[test]
    fn formats_differ_in_names_and_ends() {
        let prometheus = render(&reading(0), Format::Prometheus);
        let open = render(&reading(0), Format::OpenMetrics);
        for line in ["# TYPE icmpctl_info gauge", "# TYPE icmpctl_packets_total counter"] {
            assert!(prometheus.lines().any(|said| said == line) && !open.contains(line), "{prometheus}");
        }
        for line in ["# TYPE icmpctl info", "# TYPE icmpctl_packets counter"] {
            assert!(open.lines().any(|said| said == line) && !prometheus.contains(line), "{open}");
        }
        assert!(open.ends_with("# EOF\n") && !prometheus.contains("EOF"));
        let series = |text: &str| -> Vec<String> {
            text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
        };
        assert_eq!(series(&prometheus), series(&open));
        assert_eq!(
            series(&open)[1..],
            [
                "icmpctl_policy_age_seconds{interface=\"eth0\"} 1.5",
                "icmpctl_buckets{interface=\"eth0\"} 8",
                "icmpctl_buckets_evicted_total{interface=\"eth0\"} 3",
            ]
        );
    }

    #[test]
    fn series_of_rules_are_few_and_distinct() {
        let text = render(&reading(RULES + 3), Format::Prometheus);
        let rules: Vec<_> =
            text.lines().filter(|line| line.starts_with("icmpctl_rule_packets_total{")).collect();
        assert_eq!(rules.len(), RULES + 1);
        let cut = "x".repeat(TEXT - 7);
        assert_eq!(
            rules[1],
            format!(
                "icmpctl_rule_packets_total{{interface=\"eth0\",rule=\"1\",text=\"deny \\\"\\\\{cut}\"}} 2"
            )
        );
        assert_eq!(
            rules[RULES],
            "icmpctl_rule_packets_total{interface=\"eth0\",rule=\"others\",text=\"\"} 6"
        );
        let mut twice = reading(2);
        twice.rules[1].number = Some(0);
        assert_eq!(render(&twice, Format::Prometheus).matches("icmpctl_rule_packets_total{").count(), 1);
    }

    /// The table in docs/observability.md is that of the code.
    #[test]
    fn every_metric_is_explained() {
        let page = include_str!("../../../docs/observability.md");
        let rows: Vec<_> = page.lines().filter(|line| line.starts_with("| `icmpctl_")).collect();
        let expected = METRICS.map(|metric| {
            let (name, labels) = (metric.name(), metric.labels.join("`, `"));
            format!("| `{name}` | {} | `{labels}` | {} |", metric.kind.name(), metric.help)
        });
        assert_eq!(rows, expected, "\n{}\n", expected.join("\n"));
    }
}
