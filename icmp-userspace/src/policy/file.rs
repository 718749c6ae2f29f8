//! Policy files: TOML text -> [`Policy`], with everything that is wrong reported at once.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    ops::Range,
    path::{Path, PathBuf},
    time::SystemTime,
};

use icmp_common::{
    config::NextHop,
    counters::MAX_RULES,
    dynamic::DYNAMIC_SETS,
    limits::{FEWEST_BUCKETS, MOST_BUCKETS},
};
use thiserror::Error;
use toml::de::DeTable;

use super::{
    Limits, Policy, Respond, Set,
    acl::{Acl, DefaultAction, ErrorLimits, Origin, Rule},
    compile::{
        RESERVED,
        limits::{check, error_rates},
    },
    diagnostic::{Diagnostic, Invalid, Report},
    input::{self, ReadError},
    lint::{self, Places},
    prefix::{Prefix, PrefixError},
    presets, rules,
    sets::{self, Locate},
    slots::TooMany,
    values::{Value, boolean, expected, one_of, unknown},
};

/// Why a policy file gave no policy.
#[derive(Debug, Error)]
pub enum FileError {
    /// It can't be read.
    #[error("reading the policy {path}: {error}")]
    Read {
        /// The file's name.
        path: String,
        /// Why.
        error: ReadError,
    },
    /// It can be read but means nothing.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// A policy and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// What the file means.
    pub policy: Policy,
    /// The file's text.
    pub text: String,
    /// The file's name.
    pub path: PathBuf,
    /// What is probably not meant.
    pub warnings: Vec<Diagnostic>,
    /// All files that the policy stands in: its own, then those of its sets.
    pub files: Vec<PathBuf>,
}

/// Reads a policy file, and the files of its sets, whose names are relative to its directory.
pub fn load(path: &Path) -> Result<Loaded, FileError> {
    let directory = path.parent().unwrap_or_else(|| Path::new(""));
    load_with(path, &|_, file| directory.join(file))
}

/// The policy's name in a snapshot.
const SNAPSHOT: &str = "policy.toml";
/// The directory of the sets' files in a snapshot.
const SNAPSHOT_SETS: &str = "sets";

/// Reads what [`Loaded::save`] has written to a directory.
pub fn load_snapshot(directory: &Path) -> Result<Loaded, FileError> {
    load_with(&directory.join(SNAPSHOT), &|name, _| directory.join(SNAPSHOT_SETS).join(name))
}

/// Reads a policy file.
pub fn read(path: &Path) -> Result<Policy, FileError> {
    load(path).map(|loaded| loaded.policy)
}

/// Understands a policy's text, or says everything that is wrong with it. Files of sets are looked for in the working
/// directory.
pub fn parse(text: &str) -> Result<Policy, Vec<Diagnostic>> {
    let Understood { policy, diagnostics, .. } = understand(text, &|_, file| file.to_owned());
    if diagnostics.iter().any(Diagnostic::is_error) { Err(diagnostics) } else { Ok(policy) }
}

fn load_with(path: &Path, locate: Locate<'_>) -> Result<Loaded, FileError> {
    let failed = |error| FileError::Read { path: path.display().to_string(), error };
    let bytes = input::any(path).map_err(failed)?;
    let text = String::from_utf8(bytes)
        .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()).into()))?;
    let Understood { policy, diagnostics, mut files } = understand(&text, locate);
    let path = path.to_owned();
    if diagnostics.iter().any(Diagnostic::is_error) {
        return Err(Invalid { path, text, diagnostics }.into());
    }
    files.insert(0, path.clone());
    Ok(Loaded { policy, text, path, warnings: diagnostics, files })
}

impl Loaded {
    /// Writes the policy's text and what is in the files of its sets to a directory, which has to be there. Everything is on
    /// the disk when this returns.
    pub fn save(&self, directory: &Path) -> io::Result<()> {
        let sets = directory.join(SNAPSHOT_SETS);
        fs::create_dir_all(&sets)?;
        for set in self.policy.sets.iter().filter(|set| set.file.is_some()) {
            let mut file = io::BufWriter::new(File::create(sets.join(&set.name))?);
            for prefix in &set.prefixes {
                writeln!(file, "{prefix}")?;
            }
            file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        }
        let mut file = File::create(directory.join(SNAPSHOT))?;
        file.write_all(self.text.as_bytes())?;
        file.sync_all()?;
        File::open(sets)?.sync_all()?;
        File::open(directory)?.sync_all()
    }

    /// The warnings as they are printed.
    #[must_use]
    pub fn report(&self) -> Report<'_> {
        Report { path: &self.path, text: &self.text, diagnostics: &self.warnings }
    }
}

/// What a snapshot is known by: its FNV-1a hash, the same wherever the same policy was read with the same sets.
pub fn fingerprint(directory: &Path) -> io::Result<u64> {
    let sets = directory.join(SNAPSHOT_SETS);
    let mut files = fs::read_dir(sets)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    files.sort_unstable();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for file in std::iter::once(directory.join(SNAPSHOT)).chain(files) {
        let name = file.file_name().unwrap_or_default().as_encoded_bytes();
        // No byte of a text is 255, so that no name runs into a text.
        for byte in [name, &[0xff], &fs::read(&file)?, &[0xff]].concat() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    Ok(hash)
}

/// When a snapshot was made; the snapshots that follow an interface's addresses are as old as the first of them.
pub fn made(directory: &Path) -> io::Result<SystemTime> {
    fs::metadata(directory.join(SNAPSHOT))?.modified()
}

/// What a text means as far as it means something, and what is wrong with it, in its order.
struct Understood {
    policy: Policy,
    diagnostics: Vec<Diagnostic>,
    /// Files of sets.
    files: Vec<PathBuf>,
}

const TABLES: [&str; 4] = ["respond", "sets", "acl", "limits"];

fn understand(text: &str, locate: Locate<'_>) -> Understood {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut diagnostics: Vec<_> = errors
        .iter()
        .map(|error| {
            let message = error.message().lines().collect::<Vec<_>>().join(", ");
            Diagnostic::new(error.span().unwrap_or(0..0), format!("not TOML: {message}"))
        })
        .collect();
    let mut policy = Policy::default();
    let mut sets = sets::Understood::default();
    if diagnostics.is_empty() {
        let document = document.get_ref();
        for key in document.keys().filter(|key| !TABLES.contains(&key.get_ref().as_ref())) {
            diagnostics.push(unknown("table", key.get_ref(), key.span(), &TABLES));
        }
        let mut places = Places::default();
        if let Some(value) = document.get("respond") {
            respond(value, &mut policy.respond, &mut places, &mut diagnostics);
        }
        if let Some(value) = document.get("sets") {
            sets = sets::parse(value, locate, &mut diagnostics);
            check_number_of_sets(&sets.sets, value.span(), &mut diagnostics);
        }
        if let Some(value) = document.get("acl") {
            acl(text, value, &sets, &mut policy.acl, &mut places, &mut diagnostics);
        }
        if let Some(value) = document.get("limits") {
            limits(value, &mut policy.limits, &mut diagnostics);
        }
        policy.sets = std::mem::take(&mut sets.sets);
        places.sets = std::mem::take(&mut sets.spans);
        places.members = std::mem::take(&mut sets.members);
        // What follows from the whole is said when the whole is known.
        let complete = !diagnostics.iter().any(Diagnostic::is_error);
        diagnostics.extend(lint::errors(&policy));
        if complete {
            diagnostics.extend(lint::warnings(&policy, &places));
        }
    }
    diagnostics.sort_by_key(|diagnostic| diagnostic.span.start);
    Understood { policy, diagnostics, files: sets.files }
}

fn check_number_of_sets(sets: &[Set], span: Range<usize>, diagnostics: &mut Vec<Diagnostic>) {
    let dynamic = sets.iter().filter(|set| set.dynamic).count();
    if dynamic > DYNAMIC_SETS {
        diagnostics.push(Diagnostic::new(span, TooMany::Sets(dynamic).to_string()));
    }
}

// [respond]

const RESPOND_KEYS: [&str; 9] =
    ["enabled", "to", "ttl", "verify-checksum", "next-hop", "timestamp", "traceroute", "count", "probe"];

fn respond(value: &Value<'_>, respond: &mut Respond, places: &mut Places, diagnostics: &mut Vec<Diagnostic>) {
    let Some(table) = value.get_ref().as_table() else {
        diagnostics.push(expected(value, "a table: [respond]"));
        return;
    };
    for (key, value) in table {
        let outcome = match key.get_ref().as_ref() {
            "enabled" => boolean(value).map(|enabled| respond.enabled = enabled),
            "verify-checksum" => boolean(value).map(|verify| respond.verify_checksum = verify),
            "timestamp" => boolean(value).map(|timestamp| respond.timestamp = timestamp),
            "traceroute" => boolean(value).map(|traceroute| respond.traceroute = traceroute),
            "count" => boolean(value).map(|count| respond.count = count),
            "probe" => {
                probing(value, respond, diagnostics);
                Ok(())
            }
            "ttl" => ttl(value).map(|ttl| respond.ttl = ttl),
            "next-hop" => one_of(value, &[("swap", NextHop::Swap), ("fib", NextHop::Fib)])
                .map(|next_hop| respond.next_hop = next_hop),
            "to" => {
                served(value, respond, diagnostics);
                Ok(())
            }
            name => Err(unknown("key in [respond]", name, key.span(), &RESPOND_KEYS)),
        };
        diagnostics.extend(outcome.err());
        let switches = [
            ("timestamp", respond.timestamp),
            ("traceroute", respond.traceroute),
            ("probe", !respond.probe.is_empty()),
        ];
        let on = switches.into_iter().filter(|(name, on)| *on && *name == key.get_ref());
        places.switches.extend(on.map(|(name, _)| (name, key.span())));
    }
}

fn ttl(value: &Value<'_>) -> Result<u8, Diagnostic> {
    let integer = value.get_ref().as_integer();
    let ttl = integer.and_then(|integer| u8::from_str_radix(integer.as_str(), integer.radix()).ok());
    ttl.filter(|ttl| *ttl != 0).ok_or_else(|| expected(value, "a number from 1 to 255"))
}

/// Reads the list of what is served, which replaces the default of "own".
fn served(value: &Value<'_>, respond: &mut Respond, diagnostics: &mut Vec<Diagnostic>) {
    let Some(list) = value.get_ref().as_array() else {
        diagnostics.push(expected(value, "a list: [\"own\", \"192.0.2.0/24\"]"));
        return;
    };
    respond.own = false;
    for entry in list {
        match entry.get_ref().as_str() {
            Some("own") => respond.own = true,
            Some(text) => match served_prefix(text, entry) {
                Ok(prefix) => respond.prefixes.push(prefix),
                Err(diagnostic) => diagnostics.push(diagnostic),
            },
            None => diagnostics.push(expected(entry, "\"own\", an address or a prefix, in quotes")),
        }
    }
}

/// Reads the list of who may ask about the interface.
fn probing(value: &Value<'_>, respond: &mut Respond, diagnostics: &mut Vec<Diagnostic>) {
    let Some(list) = value.get_ref().as_array() else {
        diagnostics.push(expected(value, "a list of who may ask: [\"192.0.2.0/24\"]"));
        return;
    };
    for entry in list {
        let prefix = match entry.get_ref().as_str() {
            Some(text) => prefix(text, entry, "an address"),
            None => Err(expected(entry, "an address or a prefix, in quotes")),
        };
        match prefix {
            Ok(prefix) => respond.probe.push(prefix),
            Err(diagnostic) => diagnostics.push(diagnostic),
        }
    }
}

/// Reads a prefix; `or_else` is what else could stand in its place.
fn prefix(text: &str, entry: &Value<'_>, or_else: &str) -> Result<Prefix, Diagnostic> {
    text.parse::<Prefix>().map_err(|error| {
        let diagnostic = Diagnostic::new(entry.span(), error.to_string());
        match error {
            PrefixError::HostBits(_, prefix) => {
                diagnostic.with_help(format!("the prefix is {prefix}; the address alone is {}", host(text)))
            }
            PrefixError::Address(_) => diagnostic
                .with_help(format!("expected {or_else}, or a prefix like 192.0.2.0/24 or 2001:db8::/32")),
            PrefixError::Length(..) => diagnostic,
        }
    })
}

fn served_prefix(text: &str, entry: &Value<'_>) -> Result<Prefix, Diagnostic> {
    let prefix = prefix(text, entry, "\"own\", an address")?;
    let reserved = RESERVED.iter().find(|(reserved, _)| reserved.contains(prefix));
    match reserved {
        Some((reserved, what)) => {
            let message = format!("{prefix} can't be served: {reserved} is {what}");
            Err(Diagnostic::new(entry.span(), message))
        }
        None => Ok(prefix),
    }
}

fn host(text: &str) -> &str {
    text.split('/').next().unwrap_or(text)
}

// [acl]

const ACL_KEYS: [&str; 4] = ["default", "rules", "preset", "errors"];

fn acl(
    text: &str,
    value: &Value<'_>,
    sets: &sets::Understood,
    acl: &mut Acl,
    places: &mut Places,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let Some(table) = value.get_ref().as_table() else {
        diagnostics.push(expected(value, "a table: [acl]"));
        return;
    };
    let mut of_presets = Vec::new();
    let mut span = value.span();
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "default" => {
                places.default = Some(value.span());
                let choices = [("permit", DefaultAction::Permit), ("deny", DefaultAction::Deny)];
                match one_of(value, &choices) {
                    Ok(default) => acl.default = default,
                    Err(diagnostic) => diagnostics.push(diagnostic),
                }
            }
            "rules" => {
                span = value.span();
                acl.rules = own_rules(text, value, sets, diagnostics);
            }
            "preset" => of_presets = preset_rules(value, places, diagnostics),
            "errors" => error_limits(value, &mut acl.errors, diagnostics),
            name => diagnostics.push(unknown("key in [acl]", name, key.span(), &ACL_KEYS)),
        }
    }
    acl.rules.append(&mut of_presets);
    if acl.rules.len() > MAX_RULES {
        diagnostics.push(Diagnostic::new(span, TooMany::Rules(acl.rules.len()).to_string()));
    }
}

fn own_rules(
    text: &str,
    value: &Value<'_>,
    sets: &sets::Understood,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Rule> {
    let Some(meant) = value.get_ref().as_str() else {
        diagnostics.push(expected(value, "the rules, one a line, between \"\"\" and \"\"\""));
        return Vec::new();
    };
    let written = content(text, value.span());
    let (mut rules, mut errors) =
        rules::parse(written.map_or(meant, |(text, _)| text), Origin::File, &sets.known());
    let moved = |span: &Range<usize>| match written {
        Some((_, start)) => span.start + start..span.end + start,
        None => value.span(),
    };
    rules.iter_mut().for_each(|rule| rule.span = moved(&rule.span));
    errors.iter_mut().for_each(|error| error.span = moved(&error.span));
    diagnostics.append(&mut errors);
    rules
}

/// What stands between the quotes of a string, and where it begins; `None` where it is written with escapes, so that places
/// in it are not places in the file.
fn content(text: &str, span: Range<usize>) -> Option<(&str, usize)> {
    let quoted = text.get(span.clone())?;
    let quotes = ["\"\"\"", "'''", "\"", "'"];
    let quote = quotes.into_iter().find(|quote| quoted.starts_with(quote))?;
    let content = quoted.strip_prefix(quote)?.strip_suffix(quote)?;
    let escapes = quote.starts_with('"') && content.contains('\\');
    (!escapes).then_some((content, span.start + quote.len()))
}

fn preset_rules(value: &Value<'_>, places: &mut Places, diagnostics: &mut Vec<Diagnostic>) -> Vec<Rule> {
    let Some(list) = value.get_ref().as_array() else {
        diagnostics.push(expected(value, "a list: [\"deprecated\"]"));
        return Vec::new();
    };
    let choices: Vec<_> = presets::PRESETS.iter().map(|preset| (preset.name, preset)).collect();
    let mut rules: Vec<Rule> = Vec::new();
    for entry in list {
        match one_of(entry, &choices) {
            Ok(preset) if places.presets.iter().any(|(name, _)| *name == preset.name) => {
                let message = format!("the preset {} stands twice", preset.name);
                diagnostics.push(Diagnostic::new(entry.span(), message));
            }
            Ok(preset) => {
                places.presets.push((preset.name, entry.span()));
                rules.append(&mut preset.rules());
            }
            Err(diagnostic) => diagnostics.push(diagnostic),
        }
    }
    rules
}

fn error_limits(value: &Value<'_>, limits: &mut ErrorLimits, diagnostics: &mut Vec<Diagnostic>) {
    let Some(table) = value.get_ref().as_table() else {
        diagnostics.push(expected(value, "a table: [acl.errors]"));
        return;
    };
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        let (place, number) = match name {
            "per-source" => (&mut limits.per_source, 0),
            "total" => (&mut limits.total, 1),
            _ => {
                let known = ["per-source", "total"];
                diagnostics.push(unknown("key in [acl.errors]", name, key.span(), &known));
                continue;
            }
        };
        let Some(text) = value.get_ref().as_str() else {
            diagnostics.push(expected(value, "a rate like \"10/s burst 20\""));
            continue;
        };
        match rules::error_rate(text) {
            Ok(rate) => {
                *place = rate;
                let rate = &error_rates(limits)[number];
                let unfit = check(rate).err();
                diagnostics.extend(unfit.map(|unfit| lint::diagnostic_of(rate, unfit, name, value.span())));
            }
            Err(message) => diagnostics.push(Diagnostic::new(value.span(), message)),
        }
    }
}

// [limits]

fn limits(value: &Value<'_>, limits: &mut Limits, diagnostics: &mut Vec<Diagnostic>) {
    let Some(table) = value.get_ref().as_table() else {
        diagnostics.push(expected(value, "a table: [limits]"));
        return;
    };
    for (key, value) in table {
        let outcome = match key.get_ref().as_ref() {
            "buckets" => buckets(value).map(|buckets| limits.buckets = buckets),
            name => Err(unknown("key in [limits]", name, key.span(), &["buckets"])),
        };
        diagnostics.extend(outcome.err());
    }
}

fn buckets(value: &Value<'_>) -> Result<u32, Diagnostic> {
    let integer = value.get_ref().as_integer();
    let buckets = integer.and_then(|integer| u32::from_str_radix(integer.as_str(), integer.radix()).ok());
    let fits = |buckets: &u32| buckets.is_power_of_two() && (FEWEST_BUCKETS..=MOST_BUCKETS).contains(buckets);
    buckets.filter(fits).ok_or_else(|| {
        expected(value, &format!("a power of two from {FEWEST_BUCKETS} to {MOST_BUCKETS}")).with_help(
            "a bucket takes 8 bytes; 131072 are usual, more for more sources that are limited at once",
        )
    })
}

#[cfg(test)]
mod tests;
