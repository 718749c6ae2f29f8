//! `icmpctl policy`: what a policy file says, before it is put to use.

use std::{
    io::{Read as _, Write as _},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use icmp_common::{Family, config::NextHop};
use icmp_userspace::policy::{
    Policy,
    acl::{self, Address, DefaultAction, Origin, Rule},
    compile::{Interface, MEMORY_BUDGET, Tables},
    file::{self, Loaded},
    guard::{GUARDED, Guarded},
    presets::PRESETS,
    router,
    slots::Slots,
};
use serde::Serialize;

use super::output;

/// What can be typed behind `policy`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Show everything that is wrong with a policy file, and what is probably not meant
    Check {
        /// The policy file
        file: PathBuf,
    },
    /// Show what a policy file means, with the built-in guard and the rules of presets
    Show {
        /// The policy file
        #[arg(required_unless_present = "preset")]
        file: Option<PathBuf>,
        /// Show the rules of a preset instead
        #[arg(long, value_name = "NAME", value_parser = PRESETS.each_ref().map(|preset| preset.name), conflicts_with_all = ["file", "json"])]
        preset: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what a policy will take
    Compile {
        /// The policy file
        file: PathBuf,
    },
    /// Turn a router's configuration into a policy file; what is left out is told on stderr
    Import {
        /// The configuration; `-` is stdin
        #[arg(default_value = "-")]
        file: PathBuf,
        /// Take this access list of its family, not the first
        #[arg(long, value_name = "NAME")]
        list: Vec<String>,
    },
}

impl Arguments {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        match &self.verb {
            Verb::Check { file } => check(file),
            Verb::Show { file: Some(file), json, .. } => show(&load(file)?, *json),
            Verb::Show { preset, .. } => show_preset(preset.as_deref().unwrap_or_default()),
            Verb::Compile { file } => compile(&load(file)?),
            Verb::Import { file, list } => import(file, list),
        }
    }
}

/// Reads a policy and tells its warnings.
fn load(path: &Path) -> anyhow::Result<Loaded> {
    let loaded = file::load(path)?;
    if !loaded.warnings.is_empty() {
        writeln!(std::io::stderr(), "{}", loaded.report())?;
    }
    Ok(loaded)
}

fn check(path: &Path) -> anyhow::Result<()> {
    let Loaded { policy, warnings, .. } = load(path)?;
    let (warnings, rules) = (count(warnings.len(), "warning"), count(policy.acl.rules.len(), "rule"));
    let sets = count(policy.sets.len(), "set");
    output::line(&format!("{}: no errors, {warnings}, {rules}, {sets}", path.display()))?;
    Ok(())
}

/// A number of things, in words.
fn count(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

// Show.

/// A policy's meaning, as JSON.
#[derive(Serialize)]
struct Meaning {
    respond: Respond,
    sets: Vec<Set>,
    guard: Vec<GuardRow>,
    rules: Vec<RuleRow>,
    default: &'static str,
    errors: Errors,
}

#[derive(Serialize)]
struct Respond {
    enabled: bool,
    to: Vec<String>,
    ttl: u8,
    verify_checksum: bool,
    next_hop: &'static str,
    timestamp: bool,
    traceroute: bool,
    probe: Vec<String>,
}

#[derive(Serialize)]
struct Set {
    name: String,
    ipv4: usize,
    ipv6: usize,
    dynamic: bool,
    file: Option<PathBuf>,
}

#[derive(Serialize)]
struct GuardRow {
    rule: String,
    from_limits: bool,
    why: &'static str,
}

#[derive(Serialize)]
struct RuleRow {
    number: u32,
    preset: Option<&'static str>,
    rule: String,
}

#[derive(Serialize)]
struct Errors {
    per_source: ErrorRate,
    total: ErrorRate,
}

#[derive(Serialize)]
struct ErrorRate {
    per_second: u32,
    burst: u32,
}

impl From<acl::ErrorRate> for ErrorRate {
    fn from(rate: acl::ErrorRate) -> Self {
        Self { per_second: rate.per_second, burst: rate.burst }
    }
}

impl Meaning {
    fn of(policy: &Policy) -> Self {
        let Policy { respond, sets, acl, .. } = policy;
        let own = respond.own.then(|| "own".to_owned());
        let set = |set: &icmp_userspace::policy::Set| {
            let ipv4 = set.prefixes.iter().filter(|prefix| prefix.address().is_ipv4()).count();
            let (name, file) = (set.name.clone(), set.file.clone());
            Set { name, ipv4, ipv6: set.prefixes.len() - ipv4, dynamic: set.dynamic, file }
        };
        let guard = |guarded: &Guarded| GuardRow {
            rule: guard_rule(guarded),
            from_limits: guarded.from_limits,
            why: guarded.why,
        };
        let rule = |rule: &Rule| RuleRow {
            number: rule.number,
            preset: match rule.origin {
                Origin::File => None,
                Origin::Preset(preset) => Some(preset),
            },
            rule: rule.to_string(),
        };
        Self {
            respond: Respond {
                enabled: respond.enabled,
                to: own.into_iter().chain(respond.prefixes.iter().map(ToString::to_string)).collect(),
                ttl: respond.ttl,
                verify_checksum: respond.verify_checksum,
                next_hop: match respond.next_hop {
                    NextHop::Swap => "swap",
                    NextHop::Fib => "fib",
                },
                timestamp: respond.timestamp,
                traceroute: respond.traceroute,
                probe: respond.probe.iter().map(ToString::to_string).collect(),
            },
            sets: sets.iter().map(set).collect(),
            guard: GUARDED.iter().map(guard).collect(),
            rules: acl.rules.iter().map(rule).collect(),
            default: match acl.default {
                DefaultAction::Permit => "permit",
                DefaultAction::Deny => "deny",
            },
            errors: Errors { per_source: acl.errors.per_source.into(), total: acl.errors.total.into() },
        }
    }
}

fn show(loaded: &Loaded, json: bool) -> anyhow::Result<()> {
    let meaning = Meaning::of(&loaded.policy);
    if json {
        output::json(&meaning)?;
        return Ok(());
    }
    let Meaning { respond, sets, guard, rules, default, errors } = meaning;
    show_respond(&respond)?;
    if !sets.is_empty() {
        let mut rows = vec![["SET", "IPV4", "IPV6", "FROM"].map(str::to_owned)];
        rows.extend(sets.into_iter().map(|set| {
            let from = match (set.file, set.dynamic) {
                (Some(file), _) => file.display().to_string(),
                (None, true) => "icmpctl set".to_owned(),
                (None, false) => "the policy".to_owned(),
            };
            [set.name, set.ipv4.to_string(), set.ipv6.to_string(), from]
        }));
        output::columns(&rows, &[1, 2])?;
        output::line("")?;
    }
    let mut rows = vec![["NUMBER", "FROM", "RULE"].map(str::to_owned)];
    rows.extend(guard.into_iter().map(|row| {
        let limits = if row.from_limits { "" } else { " (but limits apply)" };
        ["-".to_owned(), "guard".to_owned(), format!("{}{limits}", row.rule)]
    }));
    let used: Vec<&str> = rules.iter().filter_map(|row| row.preset).collect();
    rows.extend(rules.into_iter().map(|row| {
        let from = row.preset.map_or_else(|| "file".to_owned(), |preset| format!("preset {preset}"));
        [row.number.to_string(), from, row.rule]
    }));
    rows.push(["-".to_owned(), "default".to_owned(), format!("{default} icmp any any")]);
    output::columns(&rows, &[0])?;
    output::line("")?;
    for preset in PRESETS.iter().filter(|preset| used.contains(&preset.name)) {
        output::line(&format!("preset {} {}", preset.name, preset.about))?;
    }
    let Errors { per_source, total } = errors;
    output::line(&format!(
        "reject sends at most {}/s burst {} to one source, {}/s burst {} in all",
        per_source.per_second, per_source.burst, total.per_second, total.burst
    ))?;
    Ok(())
}

/// Shows a preset as it is written: rules and remarks.
fn show_preset(name: &str) -> anyhow::Result<()> {
    let preset = PRESETS.iter().find(|preset| preset.name == name);
    let preset = preset.with_context(|| format!("there is no preset {name}"))?;
    output::line(&format!("preset {name} {}\n", preset.about))?;
    for line in preset.text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        output::line(line)?;
    }
    Ok(())
}

fn show_respond(respond: &Respond) -> anyhow::Result<()> {
    /// Served prefixes that are printed; JSON has all.
    const MOST: usize = 8;
    if !respond.enabled {
        output::line("Nothing is answered: [respond] is not enabled\n")?;
        return Ok(());
    }
    let mut to = respond.to.iter().take(MOST).cloned().collect::<Vec<_>>().join(", ");
    if respond.to.len() > MOST {
        to += &format!(" and {} more", respond.to.len() - MOST);
    }
    let to = if to.is_empty() { "nobody".to_owned() } else { to };
    let checksum = if respond.verify_checksum { "verified" } else { "not verified" };
    let mut what = vec!["echo"];
    if respond.timestamp {
        what.push("timestamp");
    }
    if respond.traceroute {
        what.push("traceroute");
    }
    output::line(&format!(
        "Answers {} to {to}; TTL {}, checksums {checksum}, next hop \"{}\"",
        what.join(", "),
        respond.ttl,
        respond.next_hop
    ))?;
    if !respond.probe.is_empty() {
        output::line(&format!(
            "Answers extended echo about the interface from {}",
            respond.probe.join(", ")
        ))?;
    }
    output::line("")?;
    Ok(())
}

/// What the guard does, in the words of rules.
fn guard_rule(guarded: &Guarded) -> String {
    let span = |range: &RangeInclusive<u8>| match (range.start(), range.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    };
    let protocol = match guarded.family {
        Family::Ipv4 => "icmp4",
        Family::Ipv6 => "icmp6",
    };
    let all = guarded.codes == (0..=u8::MAX);
    let codes = if all { String::new() } else { format!(" {}", span(&guarded.codes)) };
    let ttl = guarded.ttl.map_or_else(String::new, |ttl| {
        // One that is lower than 1 has been on no other link either.
        let least = if ttl == 1 { 0 } else { ttl };
        format!(" ttl {least}-{ttl}")
    });
    format!("permit {protocol} any any {}{codes}{ttl}", span(&guarded.types))
}

// Compile.

/// Tells what a policy will take in the kernel: its tables, compiled for an interface without addresses.
fn compile(loaded: &Loaded) -> anyhow::Result<()> {
    let policy = &loaded.policy;
    let start = Instant::now();
    let slots = Slots::assign(policy, &Slots::default())?;
    let interface = Interface::default();
    let tables = Tables::compile(policy, &interface, &slots)?;
    let took = start.elapsed();
    let Policy { respond, sets, acl, .. } = policy;
    let prefixes = sets.iter().map(|set| set.prefixes.len()).sum::<usize>();
    let addresses = |pick: fn(&Rule) -> &Address| {
        acl.rules.iter().map(pick).collect::<std::collections::HashSet<_>>().len()
    };
    let rows = [
        ("rules", acl.rules.len()),
        ("different sources", addresses(|rule| &rule.source)),
        ("different destinations", addresses(|rule| &rule.destination)),
        ("sets", sets.len()),
        ("prefixes in sets", prefixes),
        ("served prefixes", respond.prefixes.len()),
    ];
    output::columns(&rows.map(|(what, count)| [what.to_owned(), count.to_string()]), &[1])?;
    output::line("")?;
    let sizes = tables.sizes;
    let total = sizes.iter().map(|(_, size)| size).sum();
    let kib = |size: usize| size.div_ceil(1 << 10).to_string();
    let mut rows = vec![["TABLE".to_owned(), "KIB".to_owned()]];
    rows.extend(sizes.map(|(what, size)| [what.to_owned(), kib(size)]));
    rows.push(["all".to_owned(), kib(total)]);
    output::columns(&rows, &[1])?;
    output::line(&format!(
        "\nA policy may take {} KiB. Compiled in {} ms.",
        kib(MEMORY_BUDGET),
        took.as_millis()
    ))?;
    Ok(())
}

// Import.

fn import(path: &Path, lists: &[String]) -> anyhow::Result<()> {
    let doing = || format!("reading the configuration {}", path.display());
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().read_to_end(&mut bytes).context("reading the configuration from stdin")?;
    } else {
        bytes = std::fs::read(path).with_context(doing)?;
    }
    let import = router::import(&String::from_utf8_lossy(&bytes), lists);
    if let Some(name) = lists.iter().find(|name| !import.lists.contains(name)) {
        bail!("{} has no access list {name}; it has: {}", path.display(), import.lists.join(", "));
    }
    if import.lists.is_empty() {
        bail!("{} has no access list of IPv4 or IPv6", path.display());
    }
    let mut err = std::io::stderr().lock();
    for left_out in &import.left_out {
        writeln!(err, "line {}: left out: {}\n  {}", left_out.number, left_out.line, left_out.why)?;
    }
    writeln!(err, "{}, {} left out", count(import.rules, "rule"), count(import.left_out.len(), "line"))?;
    write!(std::io::stdout(), "{}", import.policy)?;
    Ok(())
}
