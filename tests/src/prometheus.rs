//! A real Prometheus in a namespace of the lab's, its API, and promtool.

use std::{fmt::Write as _, fs, path::Path, process::Command};

use serde_json::Value;

use crate::{
    http::exchange,
    icmpctl::{Finished, Running, wait_until},
    netns::Namespace,
};

const ADDRESS: &str = "127.0.0.1:9090";

/// A Prometheus that runs until it is dropped.
pub struct Prometheus<'a> {
    namespace: &'a Namespace,
    _running: Running,
}

impl<'a> Prometheus<'a> {
    /// Starts one with a configuration, and waits until it can be asked. Its files go into a directory.
    #[must_use]
    pub fn start(namespace: &'a Namespace, configuration: &str, files: &Path) -> Self {
        let path = files.join("prometheus.yml");
        fs::write(&path, configuration).unwrap();
        let mut command = namespace.command("prometheus");
        command.arg(format!("--web.listen-address={ADDRESS}"));
        command.arg(format!("--config.file={}", path.display()));
        command.arg(format!("--storage.tsdb.path={}", files.join("prometheus").display()));
        let mut running = Running::start(command);
        running.wait_for("Server is ready to receive web requests");
        Self { namespace, _running: running }
    }

    /// What its API says.
    ///
    /// # Panics
    ///
    /// Panics if it says that this is wrong.
    #[must_use]
    pub fn api(&self, what: &str) -> Value {
        let request = format!("GET /api/v1/{what} HTTP/1.0\r\n\r\n");
        let (_, body) = exchange(self.namespace, ADDRESS, request.as_bytes());
        let answer: Value =
            serde_json::from_str(&body).unwrap_or_else(|error| panic!("{what}: {error}: {body}"));
        assert_eq!(answer["status"], "success", "{what}: {body}");
        answer["data"].clone()
    }

    /// What an expression is now: labels and values.
    ///
    /// # Panics
    ///
    /// Panics if it is none; so does the next.
    #[must_use]
    pub fn query(&self, expression: &str) -> Vec<(Value, f64)> {
        let mut what = "query?query=".to_owned();
        for byte in expression.bytes() {
            let _ = write!(what, "%{byte:02x}");
        }
        let rows = self.api(&what)["result"].as_array().unwrap().clone();
        let row = |row: &Value| (row["metric"].clone(), row["value"][1].as_str().unwrap().parse().unwrap());
        rows.iter().map(row).collect()
    }

    /// Waits until an expression is something.
    ///
    /// # Panics
    ///
    /// Panics if that takes too long.
    #[must_use]
    pub fn wait_for(&self, expression: &str) -> Vec<(Value, f64)> {
        let mut rows = Vec::new();
        eprintln!("waiting for {expression}");
        wait_until(|| {
            rows = self.query(expression);
            !rows.is_empty()
        });
        rows
    }
}

/// Runs promtool to its end.
#[must_use]
pub fn promtool(arguments: &[&str]) -> Finished {
    Command::new("promtool").args(arguments).output().unwrap().into()
}
