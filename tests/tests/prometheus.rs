//! What a real Prometheus makes of `icmpctl run --metrics`, of the dashboard and of the alerts; and promtool.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use icmp_tests::{
    http::exchange,
    icmpctl::Finished,
    netns::{Lab, SERVER_END, SERVER4, SERVER6},
    ping::ping,
    prometheus::{Prometheus, promtool},
    scapy::script,
};
use icmp_userspace::observe::metrics::METRICS;
use rustix::process::Signal;
use serde_json::Value;

const ADDRESS: &str = "127.0.0.1:9815";
const POLICY: &str = "
acl.rules = '''
10 limit 1/h burst 3 per source icmp4 any any echo
20 permit icmp6 any any echo log
'''
";

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs")
}

fn dashboard() -> Value {
    serde_json::from_str(&fs::read_to_string(docs().join("grafana/icmpctl.json")).unwrap()).unwrap()
}

fn panels(dashboard: &Value) -> &Vec<Value> {
    dashboard["panels"].as_array().unwrap()
}

/// A panel's query.
fn expression(panel: &Value) -> &str {
    assert_eq!(panel["targets"].as_array().unwrap().len(), 1, "{panel}");
    panel["targets"][0]["expr"].as_str().unwrap()
}

/// The queries behind the dashboard's variables: series, and the label whose values are the choice.
fn variables(dashboard: &Value) -> Vec<(&str, &str)> {
    let queries = dashboard["templating"]["list"].as_array().unwrap().iter();
    let queries = queries.filter_map(|variable| variable["query"]["query"].as_str());
    let parts = queries.map(|query| query.strip_prefix("label_values(").unwrap().strip_suffix(')').unwrap());
    parts.map(|parts| parts.rsplit_once(", ").unwrap()).collect()
}

/// An expression as Grafana asks it where everything is chosen.
fn chosen(expression: &str) -> String {
    let said = expression.replace("$__rate_interval", "1m");
    let said = said.replace("$instance", ".*").replace("$interface", ".*");
    assert!(!said.contains('$'), "{said}");
    said
}

/// The configuration in docs/observability.md, with the alerts where they are, and scraping every second.
fn configuration() -> String {
    let page = fs::read_to_string(docs().join("observability.md")).unwrap();
    let (_, rest) = page.split_once("```yaml\n").unwrap();
    let (shown, _) = rest.split_once("```").unwrap();
    let rules = docs().join("prometheus/alerts.yml");
    let shown = shown.replace("- alerts.yml", &format!("- {}", rules.display()));
    assert!(shown.contains(&*rules.to_string_lossy()), "{shown}");
    format!("global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n{shown}")
}

/// Names of metrics in a text.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("icmpctl_")).collect()
}

/// Lets promtool look at metrics.
fn check_metrics(text: &str) -> Finished {
    let mut command = Command::new("promtool");
    let command = command.args(["check", "metrics"]).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    child.wait_with_output().unwrap().into()
}

fn start(lab: &Lab) -> icmp_tests::icmpctl::Running {
    let policy = lab.policy(POLICY);
    let policy = policy.to_str().unwrap();
    let mut running =
        lab.start(&["run", SERVER_END, "--mode", "generic", "--policy", policy, "--metrics", ADDRESS]);
    running.wait_for("metrics are at http://127.0.0.1:9815/metrics");
    running
}

/// C94: a real Prometheus, configured as docs/observability.md says, negotiates OpenMetrics and has the values of `stats`; its alerts
/// work, and promtool has nothing to say about the metrics.
#[test]
#[ignore = "needs root and BPF"]
fn c94_a_real_prometheus_has_what_stats_counts() {
    let lab = Lab::new();
    let running = start(&lab);
    assert_eq!(ping(&lab.client, &format!("-c 5 {SERVER4}")), (5, 3));
    assert_eq!(ping(&lab.client, &format!("-c 7 {SERVER6}")), (7, 7));
    let prometheus = Prometheus::start(&lab.server, &configuration(), lab.files.path());
    let _ = prometheus.wait_for("up{job=\"icmpctl\"} == 1");

    let statistics: Vec<Value> = serde_json::from_str(
        &lab.icmpctl(&["stats", "--json", "--by", "reason,rule,type,served", "--limits"]).ok(),
    )
    .unwrap();
    let statistics = &statistics[0];
    let values = |metric: &str, labels: &[&str]| -> BTreeMap<Vec<String>, f64> {
        let rows = prometheus.query(metric);
        let key = |row: &Value| labels.iter().map(|label| text(&row[label])).collect();
        rows.iter().map(|(row, value)| (key(row), *value)).collect()
    };
    let told = |rows: &Value, names: &[&str], packets: &str| -> BTreeMap<Vec<String>, f64> {
        let key = |row: &Value| names.iter().map(|name| text(&row[name])).collect();
        let rows = rows.as_array().unwrap().iter();
        rows.map(|row| (key(row), row[packets].as_f64().unwrap())).collect()
    };
    let labels = ["family", "verdict", "reason"];
    let mut counted = values("icmpctl_packets_total", &labels);
    let mut expected = told(&statistics["reasons"], &labels, "packets");
    // The stack's own messages come when they like.
    for map in [&mut counted, &mut expected] {
        map.retain(|key, _| key[2] != "other-type" && key[2] != "extension-header");
    }
    assert_eq!(counted, expected);
    assert_eq!(counted[&["ipv4", "limited", "over-limit"].map(str::to_owned)[..]], 2.0);
    let mut rules = values("icmpctl_rule_packets_total", &["rule", "text"]);
    let mut expected = told(&statistics["rules"], &["number", "rule"], "packets");
    // Those without a number: the stack's own messages again.
    for map in [&mut rules, &mut expected] {
        map.retain(|key, _| !key[0].is_empty());
    }
    assert_eq!((&rules, rules.len()), (&expected, 2));
    let (packets, bytes) = (expected, values("icmpctl_rule_bytes_total", &["rule", "text"]));
    // Pings of 56 bytes.
    for (key, packets) in &packets {
        assert_eq!(bytes[key], packets * if key[1].contains("icmp4") { 84.0 } else { 104.0 }, "{key:?}");
    }
    let served = values("icmpctl_served_packets_total", &["prefix"]);
    assert_eq!(served, told(&statistics["served"], &["prefix"], "packets"));
    assert_eq!(served, [(vec!["own".to_owned()], 10.0)].into());
    let types = values("icmpctl_type_packets_total{passed=\"false\"}", &["family", "type", "code", "name"]);
    let mut expected = told(&statistics["types"], &["family", "type", "code", "name"], "packets");
    // Whatever else has come was left to the stack.
    expected.iter_mut().filter(|(key, _)| key[3] != "echo").for_each(|(_, packets)| *packets = 0.0);
    assert_eq!(types, expected);
    let over = values("icmpctl_limit_over_packets_total", &["rule", "rate"]);
    assert_eq!(over, told(&statistics["limits"]["rates"], &["number", "rate"], "over"));
    let in_use = &statistics["limits"]["table"]["in_use"];
    assert_eq!(values("icmpctl_buckets_in_use", &[])[&Vec::new()], in_use.as_f64().unwrap());

    // A rule that logs decided about seven.
    let events = values("icmpctl_events_total", &["outcome"]);
    let expected = [("told", 7.0), ("suppressed", 0.0), ("lost", 0.0)];
    assert_eq!(events, expected.map(|(outcome, count)| (vec![outcome.to_owned()], count)).into());

    // Only OpenMetrics has this kind of metric, and names it without `_info`.
    let described = prometheus.api("metadata?metric=icmpctl");
    assert_eq!(described["icmpctl"][0]["type"], "info", "{described}");
    for metric in METRICS {
        let family = metric.name().replace("_total", "").replace("_info", "");
        let described = prometheus.api(&format!("metadata?metric={family}"));
        let told = &described[&family][0];
        assert_eq!(
            (&told["type"], &told["help"]),
            (&metric.kind.name().into(), &metric.help.into()),
            "{family}"
        );
    }

    let groups = prometheus.api("rules");
    let rules = groups["groups"][0]["rules"].as_array().unwrap();
    let unwell: Vec<_> = rules.iter().filter(|rule| rule["health"] == "err").collect();
    assert!(rules.len() > 5 && unwell.is_empty(), "{unwell:#?}");
    let _ = prometheus.wait_for("ALERTS{alertname=\"IcmpctlGenericMode\",interface=\"server0\"}");
    // A scrape may come too late once, where the machine is busy.
    assert_eq!(prometheus.query("ALERTS{alertname!~\"IcmpctlGenericMode|IcmpctlDown\"}"), []);

    let (_, metrics) = exchange(&lab.server, ADDRESS, b"GET /metrics HTTP/1.1\r\n\r\n");
    let checked = check_metrics(&metrics);
    assert_eq!((&*checked.ok(), named(&metrics).len()), ("", METRICS.len()));
    // It does have something to say about others.
    assert_ne!(
        check_metrics(&metrics.replace("# HELP icmpctl_packets_total", "# HELP other")).status,
        Some(0)
    );

    running.signal(Signal::INT);
    let _ = running.wait().ok();
    let _ = prometheus.wait_for("ALERTS{alertname=\"IcmpctlDown\",instance=\"127.0.0.1:9815\"}");
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Every query of the dashboard has an answer, with the labels that its legend shows.
#[test]
#[ignore = "needs root and BPF"]
fn every_panel_of_the_dashboard_shows_something() {
    let lab = Lab::new();
    let running = start(&lab);
    let prometheus = Prometheus::start(&lab.server, &configuration(), lab.files.path());
    let _ = prometheus.wait_for("count(icmpctl_rule_packets_total)");
    // What has come before the first scrape has no rate.
    assert_eq!(ping(&lab.client, &format!("-c 5 {SERVER4}")), (5, 3));
    assert_eq!(ping(&lab.client, &format!("-c 3 {SERVER6}")), (3, 3));
    let broken = "sendp(eth / IP(src='192.0.2.3', dst='192.0.2.1') / ICMP(chksum=1), iface='client0')";
    let _ = script(&lab.client, broken);

    let dashboard = dashboard();
    for (series, label) in variables(&dashboard) {
        for (row, _) in prometheus.wait_for(&chosen(series)) {
            assert!(row[label].is_string(), "{series} has no {label}: {row}");
        }
    }
    for panel in panels(&dashboard) {
        let rows = prometheus.wait_for(&chosen(expression(panel)));
        let legend = panel["targets"][0]["legendFormat"].as_str().unwrap_or_default();
        let mut shown: Vec<_> =
            legend.split("{{").skip(1).map(|part| part.split("}}").next().unwrap()).collect();
        let columns = panel["transformations"][0]["options"]["indexByName"].as_object();
        shown.extend(columns.into_iter().flat_map(|columns| columns.keys().map(String::as_str)));
        for label in shown {
            let has = |(row, _): &(Value, f64)| row[label].is_string();
            assert!(rows.iter().any(has), "{}: no {label} in {rows:?}", panel["title"]);
        }
    }
    running.signal(Signal::INT);
    let _ = running.wait().ok();
}

/// promtool understands the alerts, and their tests hold.
#[test]
#[ignore = "needs promtool"]
fn alerts_are_heard_when_they_should_be() {
    let path = |name: &str| docs().join("prometheus").join(name).to_str().unwrap().to_owned();
    let checked = promtool(&["check", "rules", &path("alerts.yml")]).ok();
    let alerts = fs::read_to_string(path("alerts.yml")).unwrap().matches("- alert: ").count();
    assert!(checked.contains(&format!("SUCCESS: {alerts} rules found")), "{checked}");
    let tested = promtool(&["test", "rules", &path("alerts_test.yml")]).ok();
    assert!(tested.contains("SUCCESS"), "{tested}");
    // Each alert is heard in one of them.
    let tests = fs::read_to_string(path("alerts_test.yml")).unwrap();
    let heard = tests.lines().filter(|line| line.contains("- { labels: '{alertname=")).count();
    assert_eq!(heard, alerts);
}

/// Dashboard and alerts ask for metrics that there are, and the dashboard for all of them.
#[test]
fn dashboard_and_alerts_name_the_metrics_of_the_code() {
    let metrics = METRICS.map(|metric| metric.name());
    let metrics: BTreeSet<_> = metrics.iter().map(String::as_str).collect();
    let dashboard = dashboard();
    let asked: BTreeSet<_> = panels(&dashboard).iter().flat_map(|panel| named(expression(panel))).collect();
    assert_eq!(asked, metrics);
    for (series, _) in variables(&dashboard) {
        assert!(named(series).is_subset(&metrics), "{series}");
    }
    for file in ["alerts.yml", "alerts_test.yml"] {
        let text = fs::read_to_string(docs().join("prometheus").join(file)).unwrap();
        let unknown: Vec<_> = named(&text).difference(&metrics).copied().collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
    }
}

/// Panels have numbers of their own, and none covers another.
#[test]
fn panels_of_the_dashboard_stand_side_by_side() {
    let dashboard = dashboard();
    let mut numbers = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in panels(&dashboard) {
        assert!(numbers.insert(panel["id"].as_u64().unwrap()), "{}", panel["id"]);
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        assert!(x + w <= 24, "{}", panel["title"]);
        for place in (y..y + h).flat_map(|y| (x..x + w).map(move |x| (x, y))) {
            assert!(taken.insert(place), "{} covers another at {place:?}", panel["title"]);
        }
    }
}
