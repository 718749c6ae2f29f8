//! `icmpctl capture`: packets as they come and their answers as they leave, with what was decided about them, as pcapng or one line
//! each.

mod output;
mod pump;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use icmp_common::{
    events::{Channel, ChannelFamily, MAX_SNAPLEN},
    reason::{Reason, Verdict},
};
use icmp_userspace::{
    kernel::{
        attach::{Places, Site},
        channels::Which,
        interface::Netlink,
    },
    observe::filter::Filter,
};
use tokio::{sync::oneshot, time::timeout};

use super::{Usage, signals::Signals, tap::Tapped};
use output::Output;
use pump::{End, Pump, Sums};

/// What can be typed behind `capture`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The interface
    #[arg(value_name = "IFACE")]
    interface: String,
    /// Which packets, in the words of a rule without its action: icmp any host 192.0.2.1 echo; their answers come along
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
    /// Write to this file, as pcapng; - stands for stdout
    #[arg(short, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Those that this rule decided about
    #[arg(long, value_name = "N")]
    rule: Option<u32>,
    /// Those with these verdicts
    #[arg(long, value_name = "VERDICT,...", value_delimiter = ',', value_parser = verdict)]
    verdict: Vec<Verdict>,
    /// So many bytes of each frame at most
    #[arg(long, value_name = "N", default_value_t = MAX_SNAPLEN as u32, value_parser = clap::value_parser!(u32).range(1..=MAX_SNAPLEN as i64))]
    snaplen: u32,
    /// End after so many packets
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

/// The words for verdicts: those of rules where there is one.
const VERDICTS: [(&str, Verdict); 6] = [
    ("answer", Verdict::Answer),
    ("pass", Verdict::Pass),
    ("deny", Verdict::Deny),
    ("reject", Verdict::Reject),
    ("limit", Verdict::Limit),
    ("malformed", Verdict::Malformed),
];

fn verdict(text: &str) -> Result<Verdict, String> {
    let found = VERDICTS.iter().find(|(word, _)| *word == text);
    let words = || VERDICTS.map(|(word, _)| word).join(", ");
    found.map(|(_, verdict)| *verdict).ok_or_else(|| format!("expected some of {}", words()))
}

/// With a filter, so much of a frame is looked at, even if less is wanted of it.
const LOOKED_AT: u32 = 256;

/// How long whoever reads the output has to take what is left, once a signal has come.
const PATIENCE: Duration = Duration::from_secs(2);

impl Arguments {
    pub(super) async fn run(&self, places: &Places) -> anyhow::Result<()> {
        super::output::log_to_stderr(false);
        let text = self.filter.join(" ");
        let filter = if self.filter.is_empty() { None } else { Some(Filter::parse(&text)) };
        let filter = filter.transpose().map_err(|invalid| Usage(invalid.to_string()))?;
        let mut signals = Signals::listen()?;
        let netlink = Netlink::open()?;
        let mut site = Site::open(&netlink, &self.interface, places).await?;
        let mut change = site.change("capture").await?;
        let running = change.must_run()?.program;
        let generation = change.generation_of(running)?;
        let rule = match self.rule {
            Some(number) => Some(generation.listing.rule(number).cloned().with_context(|| {
                let name = &self.interface;
                format!("there is no rule {number} in the policy on {name}; `icmpctl stats {name} --by rule` lists those there are")
            })?),
            None => None,
        };
        change.refuse_held(Which::Capture)?;
        Output::check(self.write.as_deref())?;
        let channel = self.channel(filter.as_ref(), rule.as_ref().map(|rule| rule.slot));
        let (tapped, ring) = Tapped::open(&netlink, &mut change, places, Which::Capture, channel).await?;
        drop(change);
        // Only now: what is there already is lost by it.
        let output = match Output::open(self.write.as_deref(), &self.interface, self.snaplen) {
            Ok(output) => output,
            Err(error) => {
                tapped.close(&netlink, places).await?;
                return Err(error);
            }
        };
        log::info!("capturing on {}, {} bytes of each frame; Ctrl-C ends it", self.interface, self.snaplen);

        let stop = Arc::new(AtomicBool::new(false));
        let (index, name) = (site.interface.index, site.interface.name.clone());
        let pump = Pump::new(site, ring, rule, filter, output, self.snaplen, self.count)?;
        let (sender, mut ended) = oneshot::channel();
        let stopping = Arc::clone(&stop);
        // A thread of its own: whoever reads the output may let it wait.
        thread::spawn(move || sender.send(pump.run(&stopping)));
        let signalled = tokio::select! {
            () = signals.any() => None,
            outcome = &mut ended => Some(outcome),
        };
        let closed = tapped.close(&netlink, places).await;
        stop.store(true, Ordering::Release);
        let outcome = match signalled {
            Some(outcome) => outcome,
            None => match timeout(PATIENCE, ended).await {
                Ok(outcome) => outcome,
                Err(_) => bail!("nobody takes what was captured: some of it is lost"),
            },
        };
        let (end, Sums { captured, lost }) = outcome.context("the thread that captures has died")?;
        log::info!("{captured} packets captured, {lost} packets dropped by kernel");
        closed.with_context(|| format!("ending the capture on {name}"))?;
        match end {
            End::Done => Ok(()),
            End::Failed(error) => Err(error),
            End::Detached if netlink.by_index(index).await?.is_none() => Err(anyhow!("{name} is gone")),
            End::Detached => Err(anyhow!("icmpctl has been detached from {name}")),
        }
    }

    /// What is asked of the program.
    fn channel(&self, filter: Option<&Filter>, slot: Option<u32>) -> Channel {
        let is_wanted =
            |reason: &&Reason| self.verdict.is_empty() || self.verdict.contains(&reason.verdict());
        let reasons = Reason::ALL.iter().filter(is_wanted);
        Channel {
            on: 1,
            reasons: reasons.fold(0, |bits, reason| bits | 1 << *reason as u8),
            snaplen: if filter.is_some() { self.snaplen.max(LOOKED_AT) } else { self.snaplen },
            slot: slot.unwrap_or(Channel::ANY_RULE),
            families: filter.map_or([ChannelFamily::ALL; 2], Filter::sieve),
            ..Channel::OFF
        }
    }
}
