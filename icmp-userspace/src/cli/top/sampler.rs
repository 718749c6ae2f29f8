//! Samples of packets: through a channel of our own, or beside whoever holds it. Where neither can be, `top` does without.

use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use icmp_common::events::{Channel, ChannelFamily};
use icmp_userspace::{
    kernel::{
        attach::{Places, Site},
        channels::Which,
        interface::Netlink,
        ring::{Next, Ring},
    },
    observe::top::{
        samples::Sample,
        state::{Sampling, State},
    },
};

use crate::cli::tap::Tapped;

/// What is asked for: of each CPU a few packets of all, with enough of each to see what it is.
const WANTED: Channel = Channel {
    on: 1,
    snaplen: 128,
    per_jiffy: 16,
    reasons: u64::MAX,
    families: [ChannelFamily::ALL; 2],
    ..Channel::OFF
};
/// How long to wait before trying once more.
const RETRY: Duration = Duration::from_secs(5);
/// Most records that are read at once, so that keys are not kept waiting.
const MOST: usize = 20_000;

/// Where samples come from.
pub(super) struct Sampler {
    site: Site,
    channel: Source,
    /// When that was last thought about.
    tried: Option<Instant>,
    record: Vec<u8>,
}

enum Source {
    /// None yet, or not now.
    Nowhere,
    /// None, and there is no use in trying again.
    Never,
    Own(Tapped, Ring),
    /// Somebody else's, and whether anything has come since it was last thought about.
    Others(Ring, bool),
}

impl Sampler {
    /// None yet.
    pub(super) const fn of(site: Site) -> Self {
        Self { site, channel: Source::Nowhere, tried: None, record: Vec::new() }
    }

    /// Sees to it that samples come, if they can.
    pub(super) async fn tend(&mut self, netlink: &Netlink, places: &Places, state: &mut State) {
        match &self.channel {
            Source::Never => return,
            Source::Own(..) if self.is_recorded() => return,
            // What was opened is gone: somebody has detached and attached anew.
            Source::Own(..) => self.channel = Source::Nowhere,
            Source::Nowhere | Source::Others(..) => {
                if self.tried.is_some_and(|tried| tried.elapsed() < RETRY) {
                    return;
                }
            }
        }
        self.tried = Some(Instant::now());
        state.sampling = self
            .open(netlink, places)
            .await
            .unwrap_or_else(|error| Sampling::Impossible(format!("{error:#}")));
    }

    fn is_recorded(&self) -> bool {
        self.site.record().is_some_and(|record| record.channels[Which::Samples.number()].is_some())
    }

    async fn open(&mut self, netlink: &Netlink, places: &Places) -> anyhow::Result<Sampling> {
        self.site = Site::open(netlink, &self.site.interface.name, places).await?;
        let mut change = self.site.change("top").await?;
        if change.is_open(Which::Samples) {
            // One that nothing comes through may be that of somebody who has gone.
            match &mut self.channel {
                Source::Others(_, alive) if *alive => *alive = false,
                channel => *channel = Source::Others(change.look_on(Which::Samples)?, false),
            }
            return Ok(Sampling::Others);
        }
        self.channel = Source::Nowhere;
        change.refuse_pending()?;
        match Tapped::open(netlink, &mut change, places, Which::Samples, WANTED).await {
            Ok((tapped, ring)) => self.channel = Source::Own(tapped, ring),
            Err(error) => {
                self.channel = Source::Never;
                return Err(error);
            }
        }
        Ok(Sampling::Own)
    }

    /// Takes in the samples that have come.
    pub(super) fn drain(&mut self, state: &mut State) {
        let ring = match &mut self.channel {
            Source::Nowhere | Source::Never => return,
            Source::Own(_, ring) | Source::Others(ring, _) => ring,
        };
        let record = &mut self.record;
        let mut some = false;
        let _ = (0..MOST).try_for_each(|_| match ring.next(record) {
            Next::Record => {
                some = true;
                if let Some(sample) = Sample::of_record(record) {
                    state.add(&sample);
                }
                ControlFlow::Continue(())
            }
            // They are samples, after all.
            Next::Missed(_) => ControlFlow::Continue(()),
            Next::Nothing => ControlFlow::Break(()),
        });
        if let Source::Others(_, alive) = &mut self.channel {
            *alive |= some;
        }
    }

    /// Closes the channel, if it is ours.
    pub(super) async fn close(self, netlink: &Netlink, places: &Places) -> anyhow::Result<()> {
        match self.channel {
            Source::Own(tapped, _) => tapped.close(netlink, places).await,
            Source::Nowhere | Source::Never | Source::Others(..) => Ok(()),
        }
    }
}
