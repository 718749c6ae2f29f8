//! `cargo xtask dashboard`: the picture of the dashboard in the documentation.
//!
//! Debian has no Grafana, so the picture is drawn here (`picture`): the panels of docs/grafana/icmpctl.json, where they stand there, with
//! what a real Prometheus answers to their own queries, which has scraped icmpctl in the lab for two minutes.

mod picture;
pub(crate) mod traffic;

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    Setup,
    cargo::{find, workspace},
    lab::{
        interrupt,
        network::{DIRECTORY, Network, SERVER, SERVER_END},
    },
    say, tools,
    userspace::{self, Build},
};

/// Where Prometheus listens in the server's namespace, and what it does there.
const PROMETHEUS: &str = "127.0.0.1:9090";
const METRICS: &str = "127.0.0.1:9815";
const CONFIGURATION: &str = "\
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs: [{job_name: icmpctl, static_configs: [{targets: [\"127.0.0.1:9815\"]}]}]
";
/// The shortest that Grafana takes for a rate: four scrapes.
const RATE_INTERVAL: &str = "4s";
/// Seconds between two values of a query.
const STEP: u64 = 2;

/// What a query has found for one set of labels.
struct Series {
    labels: Value,
    /// Times and values.
    points: Vec<(f64, f64)>,
}

impl Series {
    fn last(&self) -> f64 {
        self.points.last().map_or(0.0, |(_, value)| *value)
    }
}

/// A process that ends when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(command: &mut Command) -> Result<Running> {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null());
    command.spawn().map(Running).with_context(|| format!("cannot start {command:?}"))
}

/// Draws the picture anew.
pub(crate) fn draw(setup: Setup) -> Result<()> {
    let interrupted = interrupt::listen()?;
    let built = userspace::both_halves(&Build { release: false, debug_log: false, setup })?;
    tools::ensure_for_tests(setup)?;
    let path = workspace().join("docs/grafana/icmpctl.json");
    let dashboard: Value =
        serde_json::from_str(&fs::read_to_string(&path)?).context("reading the dashboard")?;
    let panels = dashboard["panels"].as_array().context("the dashboard has no panels")?;

    let network = Network::make(&built.icmpctl, &interrupted, 1)?;
    network.ip(&format!("-n {SERVER} link set lo up"))?;
    let policy = network.with("dashboard.toml", traffic::POLICY)?;
    let run = ["run", SERVER_END, "--mode", "native", "--metrics", METRICS, "--policy"];
    let _icmpctl = start(network.command(&run).arg(policy))?;
    let configuration = Path::new(DIRECTORY).join("prometheus.yml");
    fs::write(&configuration, CONFIGURATION)?;
    let _prometheus = start(
        Command::new("ip")
            .args(["netns", "exec", SERVER])
            .arg(find("prometheus").context("there is no Prometheus")?)
            .arg(format!("--config.file={}", configuration.display()))
            .arg(format!("--storage.tsdb.path={DIRECTORY}/prometheus"))
            .arg("--log.level=error")
            .arg(format!("--web.listen-address={PROMETHEUS}")),
    )?;
    // What comes before the first scrape has no rate.
    let patience = now()? + 20;
    while query(patience - 30, now()?, "icmpctl_info").map_or(true, |found| found.is_empty()) {
        network.check()?;
        ensure!(now()? < patience, "Prometheus has not scraped icmpctl within 20 seconds");
        sleep(Duration::from_secs(1));
    }
    let from = now()?;
    traffic::send(&network, &built.objects)?;
    let to = now()?;

    say::step("drawing docs/dashboard.svg");
    let found = panels.iter().map(|panel| ask(panel, from, to)).collect::<Result<Vec<_>>>()?;
    let picture = picture::draw(panels, &found, (from as f64, to as f64));
    fs::write(workspace().join("docs/dashboard.svg"), picture).context("writing docs/dashboard.svg")?;
    drop((_icmpctl, _prometheus));
    network.remove()
}

fn now() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

/// What Prometheus answers to a panel's query: how it went if the panel shows that, else how it ended.
fn ask(panel: &Value, from: u64, to: u64) -> Result<Vec<Series>> {
    let target = &panel["targets"][0];
    let from = if target["instant"] == true { to - STEP } else { from };
    let expression = target["expr"].as_str().context("a panel has no query")?;
    let expression = expression.replace("$__rate_interval", RATE_INTERVAL);
    let expression = expression.replace("$instance", ".*").replace("$interface", ".*");
    query(from, to, &expression).with_context(|| format!("the panel {}", panel["title"]))
}

fn query(from: u64, to: u64, expression: &str) -> Result<Vec<Series>> {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", SERVER]).arg(find("promtool").context("there is no promtool")?);
    command.args(["query", "range", "--format=json", &format!("--step={STEP}s")]);
    command.args([
        &format!("--start={from}"),
        &format!("--end={to}"),
        &format!("http://{PROMETHEUS}"),
        expression,
    ]);
    let output = command.output().context("cannot start promtool")?;
    ensure!(output.status.success(), "promtool says: {}", String::from_utf8_lossy(&output.stderr).trim());
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).context("reading what promtool prints")?;
    let series = rows.into_iter().map(|mut row| {
        let point = |point: &Value| Some((point[0].as_f64()?, point[1].as_str()?.parse().ok()?));
        let points = row["values"].as_array().into_iter().flatten().filter_map(point).collect();
        Series { labels: row["metric"].take(), points }
    });
    Ok(series.collect())
}
