//! `icmpctl set`: entries of the dynamic sets of the policy in place come and go, without a new program.

use std::time::Duration;

use anyhow::{anyhow, bail};
use clap::Subcommand;
use icmp_userspace::{
    duration,
    kernel::{
        Error,
        attach::{Places, Site},
        bans::Ban,
        change::{Change, Running},
        interface::Netlink,
        listing, privileges,
        sets::{Entries, Now},
    },
    policy::{
        acl::BANNED,
        prefix::{Prefix, PrefixError},
    },
};
use serde::Serialize;

use super::output;

/// What can be typed behind `set`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    /// The interface; may be left out if icmpctl is attached to one alone
    #[arg(long, global = true, value_name = "IFACE")]
    iface: Option<String>,
}

#[derive(Subcommand)]
enum Verb {
    /// Add addresses or prefixes to a set, or change when they go
    Add {
        /// The set, which the policy declares with `dynamic = true`
        name: String,
        /// Addresses and prefixes
        #[arg(required = true, value_name = "PREFIX", value_parser = prefix)]
        prefixes: Vec<Prefix>,
        /// They go by themselves after this time: 30s, 10m, 12h, 7d
        #[arg(long, value_name = "TIME", value_parser = duration::parse)]
        timeout: Option<Duration>,
    },
    /// Remove addresses or prefixes from a set
    Del {
        /// The set
        name: String,
        /// As they were added
        #[arg(required = true, value_name = "PREFIX", value_parser = prefix)]
        prefixes: Vec<Prefix>,
    },
    /// List what is in a set, or in all of them
    List {
        /// The set
        name: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove all that was added to a set
    Flush {
        /// The set
        name: String,
    },
}

fn prefix(text: &str) -> Result<Prefix, String> {
    text.parse().map_err(|error| match error {
        PrefixError::HostBits(_, prefix) => format!("{error}; the prefix is {prefix}"),
        error => error.to_string(),
    })
}

/// An entry as it is listed.
#[derive(Serialize)]
struct Row {
    set: String,
    prefix: String,
    /// Seconds since 1970 when it goes; none if it stays.
    until: Option<u64>,
    /// Seconds that are left.
    left: Option<u64>,
    /// Why it is there, if nobody added it.
    ban: Option<Reason>,
}

/// Why a source is banned.
#[derive(Serialize)]
struct Reason {
    /// Seconds since 1970 since when it had been over the limit.
    since: u64,
    /// The number of the rule that limits it; none if the rule has left the policy.
    rule: Option<u32>,
    /// Where the rule comes from: `file` or the name of a preset.
    origin: Option<String>,
    /// The rule's text.
    text: Option<String>,
}

impl Arguments {
    pub(super) async fn run(&self, places: &Places) -> anyhow::Result<()> {
        output::log_to_stderr(false);
        let netlink = Netlink::open()?;
        let interface = listing::only(&netlink, places, self.iface.as_deref()).await?;
        let mut site = Site::open(&netlink, &interface, places).await?;
        privileges::drop_others(false)?;
        let mut change = site.change("set").await?;
        let running = change.must_run()?;
        if let Some(problem) = &running.problem {
            bail!("{problem}");
        }
        let known = |name: &str| require(&running, name);
        match &self.verb {
            Verb::Add { name, prefixes, timeout } => {
                known(name)?;
                let add = |entries: &mut Entries, now: Now| {
                    let until = timeout.map(|timeout| now.wall + timeout.as_millis() as u64);
                    let is_new = |prefix: &&Prefix| entries.add(name, **prefix, until);
                    Ok(prefixes.iter().filter(is_new).count())
                };
                let added = change.change_sets(add)?;
                log::info!("{name}: {}", sum(added, prefixes.len() - added, "added", "changed"));
            }
            Verb::Del { name, prefixes } => {
                known(name)?;
                let remove = |entries: &mut Entries, _: Now| {
                    Ok(prefixes.iter().filter(|prefix| !entries.remove(name, **prefix)).copied().collect())
                };
                let mut missing: Vec<Prefix> = change.change_sets(remove)?;
                let lifted = lift(&change, name, |prefix| prefixes.contains(&prefix))?;
                missing.retain(|prefix| !lifted.contains(prefix));
                if let Some(first) = missing.first() {
                    bail!(
                        "{first} is not in {name} as it stands there; `icmpctl set list {name}` shows what is"
                    );
                }
                log::info!("{name}: {} removed", prefixes.len());
            }
            Verb::Flush { name } => {
                known(name)?;
                let flushed = change.change_sets(|entries, _| Ok(entries.flush(name)))?;
                let flushed = flushed + lift(&change, name, |_| true)?.len();
                log::info!("{name}: {flushed} removed");
            }
            Verb::List { name, json } => {
                if let Some(name) = name {
                    known(name)?;
                }
                let entries = Entries::read(change.site().state())?;
                let bans = change.bans()?;
                drop(change);
                list(&entries, &bans, &running, name.as_deref(), *json)?;
            }
        }
        Ok(())
    }
}

/// Lifts bans, if they are of this set; which ones.
fn lift(change: &Change<'_>, set: &str, which: impl Fn(Prefix) -> bool) -> Result<Vec<Prefix>, Error> {
    if set != BANNED {
        return Ok(Vec::new());
    }
    let lifted: Vec<_> =
        change.bans()?.into_iter().map(|ban| ban.prefix).filter(|prefix| which(*prefix)).collect();
    change.lift_bans(|prefix| lifted.contains(&prefix))?;
    Ok(lifted)
}

/// Refuses a set that can't be changed, and says which ones can.
fn require(running: &Running, name: &str) -> anyhow::Result<()> {
    let generation = &running.generation;
    if generation.slots.set(name).is_some() {
        return Ok(());
    }
    if generation.listing.sets.iter().any(|set| set == name) {
        return Err(anyhow!(
            "the set {name} can't be changed while the policy runs: declare it with `dynamic = true`, or change the policy"
        ));
    }
    let names: Vec<_> = generation.slots.sets().map(|(name, _)| name).collect();
    let nearest = names.iter().min_by_key(|known| strsim::damerau_levenshtein(known, name));
    let near = nearest.filter(|known| strsim::damerau_levenshtein(known, name) <= known.len().div_ceil(3));
    Err(match near {
        Some(near) => anyhow!("the policy has no set {name}; did you mean {near}?"),
        None if names.is_empty() => anyhow!(
            "the policy has no set {name}, and none that can be changed; those are declared with `dynamic = true`"
        ),
        None => anyhow!("the policy has no set {name}; those that can be changed: {}", names.join(", ")),
    })
}

fn sum(one: usize, two: usize, first: &str, second: &str) -> String {
    match (one, two) {
        (one, 0) => format!("{one} {first}"),
        (0, two) => format!("{two} {second}"),
        (one, two) => format!("{one} {first}, {two} {second}"),
    }
}

/// Lists the entries of the policy's sets, or of one.
fn list(
    entries: &Entries,
    bans: &[Ban],
    running: &Running,
    only: Option<&str>,
    json: bool,
) -> anyhow::Result<()> {
    let now = Now::read();
    let added = entries.iter().map(|(set, prefix, until)| (set, prefix, until, None));
    let banned = bans.iter().map(|ban| (BANNED, ban.prefix, Some(ban.until), Some(reason(ban, running))));
    let mut rows: Vec<_> = added
        .chain(banned)
        .filter(|(set, _, until, _)| {
            running.generation.slots.set(set).is_some()
                && only.is_none_or(|only| only == *set)
                && until.is_none_or(|until| until > now.wall)
        })
        .collect();
    rows.sort_by_key(|(set, prefix, _, _)| (*set, *prefix));
    let rows: Vec<_> = rows
        .into_iter()
        .map(|(set, prefix, until, ban)| Row {
            set: set.to_owned(),
            prefix: prefix.to_string(),
            until: until.map(|until| until / 1000),
            left: until.map(|until| (until - now.wall).div_ceil(1000)),
            ban,
        })
        .collect();
    if json {
        return Ok(output::json(&rows)?);
    }
    if rows.is_empty() {
        return Ok(output::line("nothing was added")?);
    }
    let mut lines = vec![["SET", "PREFIX", "LEFT", "WHY"].map(str::to_owned)];
    lines.extend(rows.into_iter().map(|row| {
        let left = row.left.map_or_else(|| "-".to_owned(), |left| duration::show(Duration::from_secs(left)));
        let why = row.ban.map_or_else(|| "added".to_owned(), |reason| reason.shown(now));
        [row.set, row.prefix, left, why]
    }));
    Ok(output::columns(&lines, &[])?)
}

/// Why a source is banned, in the words of the policy in place.
fn reason(ban: &Ban, running: &Running) -> Reason {
    let listing = &running.generation.listing;
    let limit = listing.limits.iter().find(|limit| Some(limit.over_slot) == ban.over_slot);
    let rule = listing.rules.iter().find(|rule| Some(rule.slot) == limit.and_then(|limit| limit.rule_slot));
    Reason {
        since: ban.since / 1000,
        rule: limit.and_then(|limit| limit.number),
        origin: limit.map(|limit| limit.origin.clone()),
        text: rule.map(|rule| rule.text.clone()),
    }
}

impl Reason {
    fn shown(&self, now: Now) -> String {
        let ago = duration::show(Duration::from_secs((now.wall / 1000).saturating_sub(self.since)));
        match (self.rule, &self.text) {
            (Some(number), Some(text)) => format!("over rule {number} since {ago} ago: {text}"),
            _ => format!("over a rule that is gone since {ago} ago"),
        }
    }
}
