//! `icmpctl events`: what rules with `log` tell of packets, in lines for people or for programs; and the reader that `run` shares.

use std::{io, time::Duration};

use anyhow::{Context as _, bail};
use icmp_userspace::{
    kernel::{
        attach::{Places, Site},
        clock,
        events::{Begin, Events, Next, Source},
        interface::Netlink,
        listing, privileges,
    },
    observe::{
        events::{Account, Gap, Row, Rules, Time},
        told,
    },
    policy::slots::Line,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::{output, signals::Signals};

/// What can be typed behind `events`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The interface; may be left out if icmpctl is attached to one alone
    interface: Option<String>,
    /// Show what comes, too, until Ctrl-C, beginning with what nobody has read yet
    #[arg(long)]
    follow: bool,
    /// Show those of the rule with this number alone
    #[arg(long, value_name = "N")]
    rule: Option<u32>,
    /// As JSON, an object on a line each
    #[arg(long)]
    json: bool,
}

/// How often there is a look for events.
const PAUSE: Duration = Duration::from_millis(100);
/// How often there is a look for those that are missing.
const LOOK: Duration = Duration::from_secs(1);

/// What there is to show.
pub(super) enum Shown<'a> {
    /// An event.
    Event(Row<'a>),
    /// Events are missing.
    Gap(Gap),
}

/// Events that are missing, as JSON.
#[derive(Serialize)]
struct Missing<'a> {
    time: Time,
    interface: &'a str,
    event: &'static str,
    /// How many were shown, at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    shown: Option<u64>,
    #[serde(flatten)]
    gap: Gap,
}

impl Arguments {
    pub(super) async fn run(&self, places: &Places) -> anyhow::Result<()> {
        output::log_to_stderr(false);
        let mut signals = Signals::listen()?;
        let netlink = Netlink::open()?;
        let name = listing::only(&netlink, places, self.interface.as_deref()).await?;
        let mut reader = {
            let site = Site::open(&netlink, &name, places).await?;
            Reader::open(&site, if self.follow { Begin::Unread } else { Begin::Oldest })?
        };
        privileges::drop_others(false)?;
        loop {
            let attached = self.read(&mut reader)?;
            if !self.follow {
                break;
            }
            if !attached {
                self.finish(&mut reader)?;
                if netlink.by_index(reader.events.index()).await?.is_none() {
                    bail!("{} is gone", reader.interface);
                }
                bail!("icmpctl has been detached from {}", reader.interface);
            }
            tokio::select! {
                () = signals.any() => break,
                () = sleep(PAUSE) => {}
            }
            if has_no_reader(io::stdout()) {
                return Ok(());
            }
        }
        self.finish(&mut reader)
    }

    /// Shows what has come; says whether the program is attached.
    fn read(&self, reader: &mut Reader) -> anyhow::Result<bool> {
        let name = reader.interface.clone();
        let wanted = self.rule;
        let json = self.json;
        reader.read(&mut |shown| {
            match shown {
                Shown::Event(row) => {
                    let number = row.rule.and_then(|rule| rule.number);
                    if wanted.is_some() && number != wanted {
                        return Ok(false);
                    }
                    if json {
                        output::json_line(&row)?
                    } else {
                        output::line(&format!("{} {row}", row.time))?
                    }
                }
                Shown::Gap(gap) => {
                    let time = now();
                    if json {
                        output::json_line(&Missing {
                            time,
                            interface: &name,
                            event: "gap",
                            shown: None,
                            gap,
                        })?;
                    } else {
                        output::line(&format!("{time} {name} events: {gap}"))?;
                    }
                }
            }
            Ok(true)
        })
    }

    /// Says how many events there were, and how many are missing.
    fn finish(&self, reader: &mut Reader) -> anyhow::Result<()> {
        reader.looked = None;
        self.read(reader)?;
        let Account { shown, gap, .. } = reader.account;
        let interface = &reader.interface;
        if self.json {
            let (time, shown) = (now(), Some(shown));
            output::json_line(&Missing { time, interface, event: "end", shown, gap })?;
        } else if reader.has_rules || !gap.is_none() {
            log::info!("{interface}: {shown} events shown; {gap}");
        } else {
            log::info!("{interface}: {shown} events shown; no rule of its policy has the option `log`");
        }
        Ok(())
    }
}

/// The time.
fn now() -> Time {
    Time(clock::utc_at(clock::monotonic()))
}

/// Whether nobody reads any more what is written there.
fn has_no_reader(out: io::Stdout) -> bool {
    let mut polled = [PollFd::new(&out, PollFlags::empty())];
    poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok()
        && polled[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}

/// Reads the events of an interface, and keeps account of them.
pub(super) struct Reader {
    events: Events,
    interface: String,
    rules: Rules,
    /// The program whose rules have been learned.
    program: Option<u32>,
    /// The one of whose rules nothing is known, if that is so.
    unknown: Option<u32>,
    /// Whether any of these logs.
    has_rules: bool,
    account: Account,
    /// When there was a look for missing ones.
    looked: Option<Instant>,
    /// What went wrong last in the log, so that it is said once.
    complaint: Option<String>,
}

impl Reader {
    /// Opens the events of an interface that our program is attached to.
    pub(super) fn open(site: &Site, begin: Begin) -> anyhow::Result<Self> {
        let events = Events::open(site, begin)?;
        // The kernel takes nearly everything for a name.
        let interface = site.interface.name.replace(char::is_control, "?");
        Ok(Self {
            events,
            interface,
            rules: Rules::default(),
            program: None,
            unknown: None,
            has_rules: false,
            account: Account::default(),
            looked: None,
            complaint: None,
        })
    }

    /// Shows what has come; `show` says whether it did. Returns whether the program is attached.
    fn read(&mut self, show: &mut dyn FnMut(Shown<'_>) -> anyhow::Result<bool>) -> anyhow::Result<bool> {
        // Before the last look for events: what was told before it was detached is shown.
        let mut attached = self.learn()?;
        loop {
            match self.events.read()? {
                Next::Nothing => break,
                Next::Missed(events) => self.account.miss(events),
                Next::Event(event) => {
                    // After it was told: the program that told it has been put in place by now.
                    attached = self.learn()?;
                    let time = Time(clock::utc_at(event.time));
                    if let Some(row) = Row::new(&event, time, &self.interface, &self.rules)
                        && show(Shown::Event(row))?
                    {
                        self.account.shown += 1;
                    }
                }
            }
        }
        if self.looked.is_none_or(|looked| looked.elapsed() >= LOOK) {
            self.looked = Some(Instant::now());
            let gap = self.account.look(self.told()?);
            if !gap.is_none() {
                show(Shown::Gap(gap))?;
            }
        }
        Ok(attached)
    }

    /// What has become of all events; nothing new if that is not pinned any more.
    fn told(&self) -> anyhow::Result<icmp_common::events::Told> {
        match self.events.telling().filter(|pin| pin.exists()) {
            Some(pin) => told::Counts::open(&pin)
                .and_then(|counts| counts.events())
                .with_context(|| format!("reading {}", pin.display())),
            None => Ok(self.account.told()),
        }
    }

    /// Learns the rules of the program that is attached, if it is another one than before; says whether one is.
    fn learn(&mut self) -> anyhow::Result<bool> {
        let attached = self.events.attached()?;
        if attached.is_none() || attached == self.program {
            return Ok(attached.is_some());
        }
        let Source { program, generation } = self.events.source()?;
        match generation {
            Ok(Some(generation)) => {
                self.program = program;
                let listing = &generation.listing;
                self.has_rules = listing.rules.iter().any(Line::logs);
                self.rules.learn(&listing.rules, &listing.limits, &generation.slots);
            }
            // It is tried again; said once.
            _ if self.unknown == program => {}
            Ok(None) => log::warn!("nothing is known of the rules on {}", self.interface),
            Err(error) => log::warn!("the rules on {}: {error}", self.interface),
        }
        self.unknown = if self.program == program { None } else { program };
        Ok(program.is_some())
    }

    /// Writes to the log what has come last, and what is missing.
    pub(super) fn log_last(&mut self) {
        self.looked = None;
        self.log();
    }

    /// Writes what has come to the log.
    fn log(&mut self) {
        let name = self.interface.clone();
        let logged = self.read(&mut |shown| {
            match shown {
                Shown::Event(row) => log::info!("{} {row}", row.time),
                Shown::Gap(gap) => log::warn!("{name} events: {gap}"),
            }
            Ok(true)
        });
        let complaint = logged.err().map(|error| format!("events of {name} are not logged: {error:#}"));
        if let Some(complaint) = complaint.as_ref().filter(|now| self.complaint.as_ref() != Some(now)) {
            log::error!("{complaint}");
        }
        self.complaint = complaint;
    }

    /// Writes what comes to the log, on and on.
    pub(super) async fn keep_logging(&mut self) {
        loop {
            self.log();
            sleep(PAUSE).await;
        }
    }
}
