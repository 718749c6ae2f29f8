//! `icmpctl apply`: another policy in the place of the one that runs, between two packets.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use icmp_userspace::{
    duration,
    kernel::{
        Error,
        attach::{Places, Site},
        interface::Netlink,
        listing, privileges,
        sets::Entries,
        state::{Generation, Snapshot},
    },
    policy::Policy,
};

use super::{
    guardian,
    install::{self, Compiled},
    output,
    progress::Progress,
    source::Source,
};

/// What can be typed behind `apply`.
#[derive(clap::Args)]
#[command(allow_missing_positional = true)]
pub(super) struct Arguments {
    /// The interface; may be left out if icmpctl is attached to one alone
    #[arg(value_name = "IFACE")]
    interface: Option<String>,
    /// The policy file
    file: PathBuf,
    /// Bring the former policy back after this time, unless `icmpctl confirm` comes before: 30s, 10m, 1h
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    confirm: Option<Duration>,
}

impl Arguments {
    pub(super) async fn run(&self, places: &Places) -> anyhow::Result<()> {
        output::log_to_stderr(false);
        let progress = Progress::begin();
        progress.stage("reading the policy and its sets");
        let source = Source::read(Some(&self.file))?;
        source.warn();
        let netlink = Netlink::open()?;
        let name = listing::only(&netlink, places, self.interface.as_deref()).await?;
        let mut site = Site::open(&netlink, &name, places).await?;
        let mut change = site.change("apply").await?;
        change.refuse_pending()?;
        let former = change.must_run()?;
        let entries = Entries::read(change.site().state()).unwrap_or_default();
        progress.stage("compiling");
        let compiled = Compiled::following(&netlink, &change, &source).await?;
        progress.stage("loading");
        let save = |directory: &Path| source.save(directory);
        // Read before it is replaced: then it goes.
        let directory = change.site().state().generation(former.program);
        let former_source = Source::of_snapshot(&directory, &former.generation.source).ok();
        if let Some(time) = self.confirm {
            let pending = change.expect_confirmation(time)?;
            if let Err(error) = guardian::start(places, change.site().interface.index, &pending) {
                change.withdraw()?;
                return Err(error);
            }
        }
        // The guardian has to have what this process has.
        privileges::drop_others(false)?;
        let program = match change.swap(&compiled.to_install(Snapshot::Save(&save))) {
            Ok(program) => program,
            Err(error @ Error::Untidy { .. }) => return Err(error.into()),
            Err(error) => {
                // The guardian goes by itself when it sees that; otherwise it finds the former policy in place.
                let _ = change.withdraw();
                return Err(error.into());
            }
        };
        change.complain(None)?;
        drop((change, progress));
        log::info!("{name}: program {program} replaces {}; its counters go on", former.program);
        install::warn(&name, source.policy(), &compiled.interface, false);
        tell_difference(
            &former.generation,
            &compiled.generation,
            former_source.as_ref().map(Source::policy),
            source.policy(),
        )?;
        tell_lost_entries(&entries, &former.generation, &compiled.generation, self.confirm.is_some())?;
        if let Some(time) = self.confirm {
            log::info!(
                "{name}: the former policy comes back in {} unless this one is confirmed: `icmpctl confirm {name}`",
                duration::show(time)
            );
        }
        Ok(())
    }
}

/// How many lines of one kind are shown.
const MOST: usize = 20;

/// Says in what a policy differs from the one before.
fn tell_difference(
    former: &Generation,
    now: &Generation,
    former_policy: Option<&Policy>,
    policy: &Policy,
) -> anyhow::Result<()> {
    let rules = |generation: &Generation| -> BTreeSet<String> {
        generation.listing.rules.iter().map(|rule| rule.text.clone()).collect()
    };
    let (before, after) = (rules(former), rules(now));
    let kept = after.intersection(&before).count();
    output::line(&format!(
        "rules: {} added, {} removed, {kept} kept",
        after.len() - kept,
        before.len() - kept
    ))?;
    tell(after.difference(&before), "+")?;
    tell(before.difference(&after), "-")?;
    let Some(former) = former_policy else { return Ok(()) };
    let served = |policy: &Policy| -> BTreeSet<String> {
        let own = policy.respond.own.then(|| "own".to_owned());
        own.into_iter().chain(policy.respond.prefixes.iter().map(ToString::to_string)).collect()
    };
    let (before, after) = (served(former), served(policy));
    let kept = after.intersection(&before).count();
    output::line(&format!(
        "served: {} added, {} removed, {kept} kept",
        after.len() - kept,
        before.len() - kept
    ))?;
    tell(after.difference(&before), "+")?;
    tell(before.difference(&after), "-")
}

/// Says which dynamic sets go, and their entries with them.
fn tell_lost_entries(
    entries: &Entries,
    former: &Generation,
    now: &Generation,
    may_return: bool,
) -> anyhow::Result<()> {
    let (goes, back) = if may_return { ("would go", " once this is confirmed") } else { ("goes", "") };
    for (set, _) in former.slots.sets().filter(|(set, _)| now.slots.set(set).is_none()) {
        let count = entries.iter().filter(|(name, ..)| *name == set).count();
        let entries = if count == 1 { "entry" } else { "entries" };
        output::line(&format!("dynamic set {set} {goes}, with {count} {entries}{back}"))?;
    }
    Ok(())
}

fn tell<'a>(texts: impl Iterator<Item = &'a String>, sign: &str) -> anyhow::Result<()> {
    let mut more = 0;
    for (number, text) in texts.enumerate() {
        if number < MOST {
            output::line(&format!("  {sign} {text}"))?;
        } else {
            more += 1;
        }
    }
    if more > 0 {
        output::line(&format!("  {sign} and {more} more"))?;
    }
    Ok(())
}
