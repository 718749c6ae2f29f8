//! `icmpctl top`: a live view on a full screen. What it shows is made in `observe/top/`; here are the terminal, its keys, and the
//! two things that are read: counters, which are exact, and samples of packets, from which addresses are estimated.

mod draw;
mod keys;
mod sampler;
mod screen;

use std::{
    io::{IsTerminal as _, stdin, stdout},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use crossterm::event::EventStream;
use futures_util::StreamExt as _;
use icmp_userspace::{
    kernel::{
        attach::{Places, Site},
        error::Error,
        interface::Netlink,
        listing::{self, Readable},
    },
    observe::{
        counters,
        rules::Counts,
        top::{Reading, state::State},
    },
};
use tokio::time::{MissedTickBehavior, interval};

use self::{
    draw::Look,
    keys::{Wish, wish},
    sampler::Sampler,
    screen::Screen,
};
use super::{Usage, signals::Signals};

/// How often counters are read, and how often samples are taken out of their ring buffer before it is full.
const READINGS: Duration = Duration::from_secs(1);
const SAMPLES: Duration = Duration::from_millis(100);

/// What can be typed behind `top`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The interface; may be left out if icmpctl is attached to one alone
    #[arg(value_name = "IFACE")]
    interface: Option<String>,
}

impl Arguments {
    pub(super) async fn run(&self, places: &Places) -> anyhow::Result<()> {
        if !stdin().is_terminal() || !stdout().is_terminal() {
            let usage = "top needs a terminal; `icmpctl stats --watch 1s` prints readings anywhere";
            return Err(Usage(usage.to_owned()).into());
        }
        let netlink = Netlink::open()?;
        let interface = listing::only(&netlink, places, self.interface.as_deref()).await?;
        let site = Site::open(&netlink, &interface, places).await?;
        let mut view = View {
            netlink: &netlink,
            places,
            interface,
            begin: Instant::now(),
            title: String::new(),
            state: State::default(),
            sampler: Sampler::of(site),
        };
        // What can go wrong here shall do so before there is another screen.
        view.read().await?;
        let mut signals = Signals::listen()?;
        let mut screen = Screen::open()?;
        let ended = view.show(&mut screen, &mut signals).await;
        drop(screen);
        let closed = view.sampler.close(&netlink, places).await;
        ended?;
        closed
    }
}

/// What is watched, and what has become of it so far.
struct View<'a> {
    netlink: &'a Netlink,
    places: &'a Places,
    interface: String,
    begin: Instant,
    /// What runs there.
    title: String,
    state: State,
    sampler: Sampler,
}

impl View<'_> {
    /// Shows readings until somebody wants to leave, or until there is nothing left to read.
    async fn show(&mut self, screen: &mut Screen, signals: &mut Signals) -> anyhow::Result<()> {
        let look = Look::of_environment();
        let mut keys = EventStream::new();
        let [mut readings, mut samples] = [READINGS, SAMPLES].map(interval);
        // Who was stopped for a while does not make up for it.
        readings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        samples.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The reading before the screen was the first one.
        readings.tick().await;
        loop {
            screen.draw(|frame| draw::all(frame, &self.state, &self.title, look))?;
            // With something on the screen already, because it takes its time.
            self.sampler.tend(self.netlink, self.places, &mut self.state).await;
            loop {
                tokio::select! {
                    () = signals.any() => return Ok(()),
                    key = keys.next() => match key.map(|key| key.map(|key| wish(&key, self.state.typing))) {
                        Some(Ok(Wish::Leave)) => return Ok(()),
                        Some(Ok(Wish::Do(command))) => self.state.obey(command),
                        Some(Ok(Wish::Draw)) => {}
                        Some(Ok(Wish::Nothing)) => continue,
                        Some(Err(error)) => return Err(error).context("reading keys"),
                        // The terminal has gone.
                        None => return Ok(()),
                    },
                    _ = samples.tick() => {
                        self.sampler.drain(&mut self.state);
                        continue;
                    }
                    _ = readings.tick() => self.read().await?,
                }
                break;
            }
        }
    }

    /// Takes in what is counted now.
    async fn read(&mut self) -> anyhow::Result<()> {
        let name = &self.interface;
        let found = match listing::readable(self.netlink, self.places, Some(name)).await {
            Err(Error::NoInterface { .. }) => bail!("{name} is gone"),
            found => found?.pop(),
        };
        let Some(found) = found.filter(|found| found.program.is_some()) else {
            bail!("icmpctl has been detached from {name}");
        };
        self.sampler.drain(&mut self.state);
        let Readable { counters, rules, program, mode, generation, .. } = found;
        let counters =
            counters::read_pinned(&counters).with_context(|| format!("reading {}", counters.display()))?;
        let at = self.begin.elapsed();
        let counts = match rules {
            Some(pin) => Counts::read_pinned(&pin).with_context(|| format!("reading {}", pin.display()))?,
            None => Counts::zero(),
        };
        let generation = generation.ok().flatten().unwrap_or_default();
        let policy = generation.source.policy.as_ref().and_then(|path| path.file_name());
        let policy = policy.map_or("the default policy".into(), |name| name.to_string_lossy());
        let program = program.map(|id| format!("program {id}, ")).unwrap_or_default();
        let mode = mode.map(|mode| format!("{} mode, ", mode.name())).unwrap_or_default();
        self.title = format!("{name}: {program}{mode}{policy}");
        self.state.read(Reading { at, counters, counts, generation });
        Ok(())
    }
}
