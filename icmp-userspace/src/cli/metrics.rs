//! `icmpctl run --metrics ADDRESS`: a small HTTP server with one page, `/metrics`.
//!
//! Whatever comes over it costs a bounded amount of memory and time, and nothing here touches the way of packets.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use icmp_userspace::{
    kernel::{
        attach::Places,
        clock,
        interface::Netlink,
        listing::{self, Readable},
    },
    observe::{
        counters, limits,
        metrics::{self, Format, Reading},
        rules::{self, Counts},
        served, told, types,
    },
    policy::file,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Mutex, Semaphore},
    task::spawn_blocking,
    time::{sleep, timeout},
};

/// Most connections at once; more are closed at once.
const CONNECTIONS: usize = 16;
/// Longest request, in bytes.
const REQUEST: usize = 8 << 10;
/// How long a connection may last.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait where no connection can be had, for want of file descriptors perhaps.
const PAUSE: Duration = Duration::from_secs(1);

/// A server whose port is taken.
pub(super) struct Server {
    listener: TcpListener,
}

impl Server {
    /// Takes the port.
    pub(super) async fn bind(address: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!("listening on {address} for --metrics; `ss -ltnp` shows who does, and another port can be named")
        })?;
        let address = listener.local_addr()?;
        if !address.ip().is_loopback() {
            log::warn!(
                "metrics are shown to everybody who can reach {address}: rules with their addresses are among them"
            );
        }
        log::info!("metrics are at http://{address}/metrics");
        Ok(Self { listener })
    }

    /// Serves the metrics of an interface until the runtime ends.
    pub(super) async fn serve(self, source: Source) {
        let source = Arc::new(source);
        let free = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok((stream, _)) = self.listener.accept().await else {
                sleep(PAUSE).await;
                continue;
            };
            let Ok(permit) = Arc::clone(&free).try_acquire_owned() else { continue };
            let source = Arc::clone(&source);
            tokio::spawn(async move {
                // Who is too slow, or has gone, gets no answer.
                let _ = timeout(PATIENCE, converse(stream, &source)).await;
                drop(permit);
            });
        }
    }
}

/// Reads one request and answers it.
async fn converse(mut stream: TcpStream, source: &Source) -> std::io::Result<()> {
    let mut request = Vec::new();
    let response = loop {
        if request.windows(4).any(|four| four == b"\r\n\r\n") {
            break respond(&String::from_utf8_lossy(&request), source).await;
        }
        if request.len() >= REQUEST {
            break Response::error("431 Request Header Fields Too Large", "the request is too long");
        }
        if (&mut stream).take(REQUEST as u64).read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    };
    stream.write_all(response.text().as_bytes()).await?;
    stream.shutdown().await?;
    // What is not read would have the kernel reset the connection, and with it what was sent.
    while stream.read(&mut [0; 1 << 10]).await? > 0 {}
    Ok(())
}

struct Response {
    status: &'static str,
    kind: &'static str,
    body: String,
}

impl Response {
    fn error(status: &'static str, why: &str) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", body: format!("{why}\n") }
    }

    fn text(&self) -> String {
        let Self { status, kind, body } = self;
        let allow = if status.starts_with("405") { "Allow: GET\r\n" } else { "" };
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{allow}Connection: close\r\n\r\n{body}"
        )
    }
}

async fn respond(request: &str, source: &Source) -> Response {
    let mut lines = request.split("\r\n");
    let words: Vec<_> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, version] = words[..] else {
        return Response::error("400 Bad Request", "that is no HTTP request");
    };
    if !version.starts_with("HTTP/1.") {
        return Response::error("505 HTTP Version Not Supported", "this server speaks HTTP/1.1");
    }
    if target.split('?').next() != Some("/metrics") {
        return Response::error("404 Not Found", "the metrics are at /metrics");
    }
    if method != "GET" {
        return Response::error("405 Method Not Allowed", "metrics can be read, and nothing else");
    }
    let headers = lines.filter_map(|line| line.split_once(':'));
    let accepted = headers.filter(|(name, _)| name.eq_ignore_ascii_case("accept")).map(|(_, value)| value);
    let format = negotiate(&accepted.collect::<Vec<_>>().join(","));
    match source.read().await {
        Ok(reading) => Response {
            status: "200 OK",
            kind: format.content_type(),
            body: metrics::render(&reading, format),
        },
        Err(error) => {
            log::warn!("metrics: {error:#}");
            Response::error("503 Service Unavailable", "the counters can't be read; the log says why")
        }
    }
}

/// OpenMetrics for who asks for it, and does not like the other format better.
fn negotiate(accepted: &str) -> Format {
    let wanted = |kind: &str| {
        let media = accepted.split(',').filter_map(|media| {
            let mut parts = media.split(';').map(str::trim);
            let is_it = parts.next()?.eq_ignore_ascii_case(kind);
            let quality =
                parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |q| q.parse().ok());
            quality.filter(|_| is_it)
        });
        media.fold(0.0, f64::max)
    };
    let open = wanted("application/openmetrics-text");
    if open > 0.0 && open >= wanted("text/plain") { Format::OpenMetrics } else { Format::Prometheus }
}

/// Where metrics come from.
pub(super) struct Source {
    netlink: Netlink,
    places: Places,
    /// The interface's number.
    index: u32,
    /// The hash of the policy of the program that was seen last; held while counters are read, so that one reads at a time.
    policy: Mutex<Option<(u32, u64)>>,
}

impl Source {
    /// The counters of an interface.
    pub(super) fn of(netlink: Netlink, places: Places, index: u32) -> Self {
        Self { netlink, places, index, policy: Mutex::new(None) }
    }

    async fn read(&self) -> anyhow::Result<Reading> {
        let mut policy = self.policy.lock().await;
        let readable = listing::readable_at(&self.netlink, &self.places, self.index).await?;
        let readable = readable.context("nothing is attached any more")?;
        let known = *policy;
        // Where buckets are many that takes a while.
        let (reading, seen) = spawn_blocking(move || read(readable, known)).await??;
        *policy = seen;
        Ok(reading)
    }
}

fn read(readable: Readable, known: Option<(u32, u64)>) -> anyhow::Result<(Reading, Option<(u32, u64)>)> {
    let Readable { interface, counters, rules, buckets, telling, program, mode, generation, snapshot } =
        readable;
    let counters =
        counters::read_pinned(&counters).with_context(|| format!("reading {}", counters.display()))?;
    let counts = match rules {
        Some(pin) => Counts::read_pinned(&pin).with_context(|| format!("reading {}", pin.display()))?,
        None => Counts::zero(),
    };
    let generation = generation?.unwrap_or_default();
    let (lines, slots) = (&generation.listing.limits, &generation.slots);
    let table = |pin: std::path::PathBuf| {
        limits::table(&pin, lines, slots, &counts, clock::now())
            .with_context(|| format!("reading {}", pin.display()))
    };
    let told = |pin: std::path::PathBuf| {
        told::Counts::open(&pin)
            .and_then(|counts| counts.events())
            .with_context(|| format!("reading {}", pin.display()))
    };
    // A snapshot that has just given way to another one is no reason to tell nothing.
    let hash = program.zip(snapshot.as_ref()).and_then(|(program, snapshot)| {
        let known = known.filter(|(of, _)| *of == program);
        known.or_else(|| Some((program, file::fingerprint(snapshot).ok()?)))
    });
    let age = snapshot.and_then(|snapshot| {
        let made = file::made(&snapshot).ok()?;
        Some(SystemTime::now().duration_since(made).unwrap_or_default().as_secs_f64())
    });
    let reading = Reading {
        interface,
        mode: mode.map(|mode| mode.name()),
        program,
        policy: hash.map(|(_, hash)| hash).zip(age),
        reasons: counters::rows(&counters, None),
        types: types::rows(&counters, None),
        served: served::rows(&generation.listing.served, slots, &counts, None),
        rules: rules::rows(&generation.listing.rules, &generation.listing.limits, slots, &counts, None),
        limits: limits::rows(lines, slots, &counts),
        buckets: buckets.map(table).transpose()?,
        told: telling.map(told).transpose()?,
    };
    Ok((reading, hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_openmetrics_gets_it() {
        // As Prometheus 2.42 asks.
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for accepted in [
            prometheus,
            "Application/OpenMetrics-Text",
            "text/plain;q=0.3, application/openmetrics-text; q=0.3",
        ] {
            assert_eq!(negotiate(accepted), Format::OpenMetrics, "{accepted}");
        }
        for accepted in [
            "",
            "*/*",
            "text/plain",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=0.1,text/plain",
        ] {
            assert_eq!(negotiate(accepted), Format::Prometheus, "{accepted}");
        }
    }
}
