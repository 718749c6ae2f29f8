//! `icmpctl run`: attach, stay, follow the interface's addresses and the policy's files, log events, detach at the end.

use std::{
    future::pending,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::bail;
use icmp_userspace::{
    kernel::{
        attach::{Places, Site},
        change::Change,
        events::Begin,
        interface::{Netlink, Watch},
        sets::Entries,
        state::Snapshot,
    },
    observe::counters,
    policy::compile,
};
use tokio::time::sleep;

use super::{
    confirm::{Why, roll_back},
    events::Reader,
    install::{self, Compiled},
    metrics,
    settings::{self, Settings},
    signals::Signals,
    source::Source,
};

/// What can be typed behind `run`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: Settings,
    /// Leave the program attached at the end
    #[arg(long)]
    keep: bool,
    /// Do not follow the policy's files
    #[arg(long)]
    no_watch: bool,
    /// Serve metrics at this address and port, as 127.0.0.1:9815
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics: Option<SocketAddr>,
    /// Print each step of each packet, as the kernel half logs it
    #[cfg(feature = "debug-log")]
    #[arg(long)]
    trace: bool,
}

impl Arguments {
    pub(super) async fn run(&self, places: &Places) -> anyhow::Result<()> {
        super::output::log_to_stderr(true);
        let source = self.settings.source()?;
        let options = self.settings.options(true);
        let mut signals = Signals::listen()?;
        // What can go wrong here shall do so before anything is attached.
        let server = match self.metrics {
            Some(address) => Some(metrics::Server::bind(address).await?),
            None => None,
        };
        let netlink = Netlink::open()?;
        // Listening begins before the first look, so that no change is missed between them.
        let mut watch = Watch::open()?;
        let mut site = Site::lock(&netlink, &self.settings.interface, places, "run").await?;
        let (outcome, known) = settings::attach(&netlink, &mut site, &source, &options, "run").await?;
        settings::announce(&site, &outcome);
        if let Some(server) = server {
            let index = site.interface.index;
            tokio::spawn(server.serve(metrics::Source::of(netlink.clone(), places.clone(), index)));
        }
        #[cfg(feature = "debug-log")]
        if self.trace {
            tokio::spawn(super::trace::print(netlink.clone(), site.interface.index));
        }
        // What runs goes on running: events that can't be read are no reason to answer nobody.
        let events = Reader::open(&site, Begin::Unread);
        let mut events = events.inspect_err(|error| log::error!("events are not logged: {error:#}")).ok();
        let mut follower = Follower {
            netlink,
            site,
            source,
            program: outcome.program,
            known,
            watches: !self.no_watch,
            complaint: None,
            failed: None,
            pruned: Instant::now(),
        };
        let stayed = follower.stay(&mut signals, &mut watch, events.as_mut()).await;
        if let Some(events) = &mut events {
            events.log_last();
        }
        let site = &mut follower.site;
        let name = site.interface.name.clone();
        say_totals(site);
        let mut change = site.change("run").await?;
        if self.keep && stayed.is_ok() {
            change.leave()?;
            log::info!("left attached to {name}; `icmpctl detach {name}` takes it off");
            return Ok(());
        }
        // Whatever went wrong, nothing stays attached that nobody follows.
        let detached = change.detach();
        stayed?;
        detached?;
        log::info!("detached from {name}");
        Ok(())
    }
}

/// How often files are looked at, and what failed is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// How long files have to stay as they are before they are read: editors write them in several steps.
const QUIET: Duration = Duration::from_millis(100);
/// How often files are read that could not be understood: what mends them may be a file that was never read.
const RETRY: Duration = Duration::from_secs(5);
/// How often entries of dynamic sets that have ended are removed.
const PRUNE: Duration = Duration::from_secs(10);

/// Keeps what is in place as the interface is, and as the policy's files are.
struct Follower {
    netlink: Netlink,
    site: Site,
    /// The policy in place.
    source: Source,
    /// Its program.
    program: u32,
    /// The interface as the tables know it.
    known: compile::Interface,
    /// Whether the policy's files are followed.
    watches: bool,
    /// What went wrong last, so that it is said once.
    complaint: Option<String>,
    /// When the policy's files were last read in vain.
    failed: Option<Instant>,
    /// When ended entries of dynamic sets were last removed.
    pruned: Instant,
}

impl Follower {
    /// Follows the interface until a signal comes; an error if it or the attachment is gone.
    async fn stay(
        &mut self,
        signals: &mut Signals,
        watch: &mut Watch,
        mut events: Option<&mut Reader>,
    ) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                () = signals.any() => return Ok(()),
                () = log_events(events.as_deref_mut()) => {}
                () = watch.changed() => {}
                () = sleep(PAUSE) => {}
            }
            let name = self.site.interface.name.clone();
            if let Ok(None) = self.netlink.by_index(self.site.interface.index).await {
                bail!("{name} is gone: its pins have been removed");
            }
            if self.site.attached().ok().flatten().is_none() {
                bail!("somebody has detached the program from {name}: its pins have been removed");
            }
            // What runs goes on running: an address that can't be served is no reason to serve none.
            if let Err(error) = self.follow().await {
                let complaint = format!("following {name}: {error:#}");
                if self.complaint.as_ref() != Some(&complaint) {
                    log::error!("{complaint}");
                }
                self.complaint = Some(complaint);
            } else {
                self.complaint = None;
            }
        }
    }

    /// Does all that has become necessary.
    async fn follow(&mut self) -> anyhow::Result<()> {
        self.see_to_deadline().await?;
        if self.site.attached()? != Some(self.program) {
            let change = self.site.change("run").await?;
            adopt(&change, &mut self.source, &mut self.program)?;
        }
        self.follow_addresses().await?;
        if self.watches {
            self.follow_files().await?;
        }
        if self.pruned.elapsed() > PRUNE && Entries::exist(self.site.state()) {
            self.site.change("run").await?.change_sets(|_, _| Ok(()))?;
            self.pruned = Instant::now();
        }
        Ok(())
    }

    /// Brings the former policy back if this one was not confirmed, and nobody else has seen to it.
    async fn see_to_deadline(&mut self) -> anyhow::Result<()> {
        let pending = self.site.record().and_then(|record| record.pending);
        if pending.is_some_and(|pending| pending.is_overdue())
            && roll_back(&self.netlink, &mut self.site, Why::Deadline).await?
        {
            log::warn!("{}: not confirmed in time: the former policy is back", self.site.interface.name);
        }
        Ok(())
    }

    /// Puts tables in place that fit the interface as it is now, if it is not as it was.
    async fn follow_addresses(&mut self) -> anyhow::Result<()> {
        let Some(interface) = self.netlink.by_index(self.site.interface.index).await? else { return Ok(()) };
        if self.netlink.describe(&interface, &self.source.policy().respond).await? == self.known {
            return Ok(());
        }
        let mut change = self.site.change("run").await?;
        adopt(&change, &mut self.source, &mut self.program)?;
        let running = change.must_run()?;
        let save = |directory: &Path| self.source.save(directory);
        let (compiled, snapshot) = if running.problem.is_none() {
            let compiled = Compiled::with(&self.netlink, &change, &self.source, running.generation).await?;
            (compiled, Snapshot::Of(running.program))
        } else {
            let compiled = Compiled::following(&self.netlink, &change, &self.source).await?;
            (compiled, Snapshot::Save(&save))
        };
        self.program = change.swap(&compiled.to_install(snapshot))?;
        log::info!("{} changed: {}", interface.name, describe(&self.known, &compiled.interface));
        self.known = compiled.interface;
        Ok(())
    }

    /// Puts the policy in place that its files hold now, if they are not as they were.
    async fn follow_files(&mut self) -> anyhow::Result<()> {
        let Some(path) = self.source.path().map(Path::to_owned) else { return Ok(()) };
        // What waits for confirmation is not changed under the hands of whoever tries it.
        let again = self.failed.is_some_and(|failed| failed.elapsed() > RETRY);
        let waits = self.site.record().is_some_and(|record| record.pending.is_some());
        if waits || !(again || self.source.has_changed()) {
            return Ok(());
        }
        loop {
            self.source.accept_changes();
            sleep(QUIET).await;
            if !self.source.has_changed() {
                break;
            }
        }
        let name = self.site.interface.name.clone();
        let read = Source::read(Some(&path));
        let mut change = self.site.change("run").await?;
        if adopt(&change, &mut self.source, &mut self.program)? {
            // Somebody has put another policy in place meanwhile; that one's files are looked at next.
            self.failed = None;
            return Ok(());
        }
        let installed = match read {
            Ok(source) if source.means_the_same(&self.source) => Ok((source, None)),
            Ok(source) => install(&self.netlink, &mut change, &source).await.map(|new| (source, Some(new))),
            Err(error) => Err(error),
        };
        let complained = change.site().record().and_then(|record| record.complaint);
        self.failed = installed.is_err().then(Instant::now);
        match installed {
            Ok((source, new)) => {
                let warn = new.is_some();
                if warn {
                    source.warn();
                }
                self.source = source;
                if let Some((program, interface)) = new {
                    (self.program, self.known) = (program, interface);
                    log::info!("{name}: program {program} follows {}; counters go on", path.display());
                }
                if complained.is_some() {
                    change.complain(None)?;
                    log::info!("{name}: {} is in order again", path.display());
                }
                if warn {
                    install::warn(&name, self.source.policy(), &self.known, true);
                }
            }
            Err(error) => {
                let complaint = format!("the policy's files have changed, but what runs stays: {error:#}");
                if complained.as_ref() != Some(&complaint) {
                    log::error!("{name}: {complaint}");
                    change.complain(Some(complaint))?;
                }
            }
        }
        Ok(())
    }
}

/// Writes events to the log; never ends.
async fn log_events(events: Option<&mut Reader>) {
    match events {
        Some(events) => events.keep_logging().await,
        None => pending().await,
    }
}

/// Takes over a policy that somebody else has put in place; true if somebody has.
fn adopt(change: &Change<'_>, source: &mut Source, program: &mut u32) -> anyhow::Result<bool> {
    let running = change.must_run()?;
    if running.program == *program {
        return Ok(false);
    }
    let generation = change.generation_of(running.program)?;
    *source = Source::of_snapshot(&change.site().state().generation(running.program), &generation.source)?;
    *program = running.program;
    let policy =
        source.path().map_or_else(|| "the default policy".to_owned(), |path| path.display().to_string());
    log::info!("{}: program {program} was put in place; following {policy}", change.site().interface.name);
    Ok(true)
}

async fn install(
    netlink: &Netlink,
    change: &mut Change<'_>,
    source: &Source,
) -> anyhow::Result<(u32, compile::Interface)> {
    let compiled = Compiled::following(netlink, change, source).await?;
    let save = |directory: &Path| source.save(directory);
    let program = change.swap(&compiled.to_install(Snapshot::Save(&save)))?;
    Ok((program, compiled.interface))
}

fn describe(before: &compile::Interface, now: &compile::Interface) -> String {
    let list = |addresses: &[(std::net::IpAddr, u8)], others: &[(std::net::IpAddr, u8)], sign: char| {
        let new = addresses.iter().filter(|address| !others.contains(address));
        new.map(|(address, _)| format!("{sign}{address}")).collect::<Vec<_>>()
    };
    let mut changes = list(&now.addresses, &before.addresses, '+');
    changes.extend(list(&before.addresses, &now.addresses, '-'));
    if now.mac != before.mac {
        changes.push("another MAC address".to_owned());
    }
    if now.name != before.name {
        changes.push(format!("renamed, formerly {}", before.name));
    }
    if now.tai_offset != before.tai_offset {
        changes.push(format!("{} s from UTC to TAI", now.tai_offset));
    }
    if now.elsewhere != before.elsewhere {
        changes.push("what the host owns elsewhere".to_owned());
    }
    if changes.is_empty() { "broadcast addresses".to_owned() } else { changes.join(" ") }
}

fn say_totals(site: &Site) {
    let Some(pin) = site.map_pin("COUNTERS") else { return };
    let Ok(counters) = counters::read_pinned(&pin) else { return };
    for total in counters::totals(&counters) {
        let counters::Total { family, received, answered, denied, rejected, limited, passed, malformed } =
            total;
        log::info!(
            "{family}: {received} received, {answered} answered, {passed} passed, {denied} denied ({rejected} of them told so), {limited} limited, \
             {malformed} malformed"
        );
    }
}
