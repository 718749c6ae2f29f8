//! Table `[sets]`: named lists of prefixes, in the policy file, in files of their own, or filled while the policy runs.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::Range,
    path::{Path, PathBuf},
};

use toml::de::{DeString, DeTable};

use super::{
    Set,
    diagnostic::{Diagnostic, Elsewhere},
    input, lists,
    prefix::{Prefix, PrefixError},
    rules::{KnownSets, unknown_set},
    values::{Value, boolean, expected, unknown},
};

/// Where the file of a set is, by the set's name and the file's name as it is written.
pub(super) type Locate<'a> = &'a dyn Fn(&str, &Path) -> PathBuf;

/// What `[sets]` means.
#[derive(Debug, Default)]
pub(super) struct Understood {
    /// The sets, in the order of their names.
    pub(super) sets: Vec<Set>,
    /// Where each stands, by its name, those with errors, too.
    pub(super) spans: HashMap<String, Range<usize>>,
    /// The files that were read, or should have been.
    pub(super) files: Vec<PathBuf>,
    /// Whether each set may have addresses of a family, by its name.
    families: HashMap<String, [bool; 2]>,
    /// Which sets other sets have as members.
    pub(super) members: Vec<String>,
}

impl Understood {
    /// The sets as rules may name them.
    pub(super) fn known(&self) -> KnownSets<'_> {
        self.families.iter().map(|(name, families)| (&**name, *families)).collect()
    }
}

/// A set before its members have been put in.
struct Raw {
    set: Set,
    /// Names of its members, and where they stand.
    members: Vec<(String, Range<usize>)>,
    /// Whether what is in it can change without the policy.
    open: bool,
}

/// Longest name of a set.
const MAX_NAME: usize = 64;

/// Understands the table.
pub(super) fn parse(value: &Value<'_>, locate: Locate<'_>, diagnostics: &mut Vec<Diagnostic>) -> Understood {
    let mut understood = Understood::default();
    let Some(table) = value.get_ref().as_table() else {
        diagnostics.push(expected(value, "a table: [sets]"));
        return understood;
    };
    let mut raw = BTreeMap::new();
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        understood.spans.insert(name.to_owned(), key.span());
        understood.families.insert(name.to_owned(), [true, true]);
        if let Err(diagnostic) = check_name(name, key.span()) {
            diagnostics.push(diagnostic);
        } else if let Some(set) = one(name, value, locate, &mut understood.files, diagnostics) {
            raw.insert(name.to_owned(), set);
        }
    }
    put_in_members(&mut raw, &understood.spans, diagnostics);
    for (name, Raw { set, members, open }) in raw {
        if !open {
            let has = |ipv4| set.prefixes.iter().any(|prefix| prefix.address().is_ipv4() == ipv4);
            understood.families.insert(name, [has(true), has(false)]);
        }
        understood.members.extend(members.into_iter().map(|(name, _)| name));
        understood.sets.push(set);
    }
    understood
}

fn check_name(name: &str, span: Range<usize>) -> Result<(), Diagnostic> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    if begins && name.chars().all(allowed) && name.len() <= MAX_NAME {
        return Ok(());
    }
    let shown: String = name.chars().take(MAX_NAME).collect();
    Err(Diagnostic::new(span, format!("{shown:?} can't be the name of a set")).with_help(format!(
        "a name has letters, digits, `-`, `_` and `.`, does not begin with `-` or `.`, and is no longer than {MAX_NAME}"
    )))
}

fn one(
    name: &str,
    value: &Value<'_>,
    locate: Locate<'_>,
    files: &mut Vec<PathBuf>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Raw> {
    let set = Set { name: name.to_owned(), prefixes: Vec::new(), dynamic: false, file: None };
    let mut raw = Raw { set, members: Vec::new(), open: false };
    if let Some(list) = value.get_ref().as_array() {
        for entry in list {
            match inline(entry) {
                Ok(Entry::Prefix(prefix)) => raw.set.prefixes.push(prefix),
                Ok(Entry::Set(member)) => raw.members.push((member, entry.span())),
                Err(diagnostic) => diagnostics.push(diagnostic),
            }
        }
        return Some(raw);
    }
    let forms = "a list of prefixes, { file = \"NAME\" } or { dynamic = true }";
    let Some(table) = value.get_ref().as_table() else {
        diagnostics.push(expected(value, forms));
        return None;
    };
    raw.open = true;
    let before = diagnostics.len();
    properties(table, &mut raw.set, diagnostics);
    if diagnostics.len() > before {
        return None;
    }
    match (&raw.set.file, raw.set.dynamic) {
        (Some(_), true) => {
            let message = format!("set {name} is read from a file and dynamic at once");
            diagnostics.push(Diagnostic::new(value.span(), message).with_help(
                "a dynamic set begins empty; make two sets, and a third one or two rules for both",
            ));
            None
        }
        (None, true) => Some(raw),
        (None, false) => {
            diagnostics.push(expected(value, forms));
            None
        }
        (Some(file), false) => {
            let path = locate(name, file);
            raw.set.prefixes = from_file(name, &path, value.span(), diagnostics)?;
            files.push(path);
            Some(raw)
        }
    }
}

fn properties(table: &DeTable<'_>, set: &mut Set, diagnostics: &mut Vec<Diagnostic>) {
    for (key, value) in table {
        let key: &toml::Spanned<DeString<'_>> = key;
        let outcome = match key.get_ref().as_ref() {
            "dynamic" => boolean(value).map(|dynamic| set.dynamic = dynamic),
            "file" => match value.get_ref().as_str() {
                Some(file) if !file.is_empty() && !file.contains('\0') => {
                    set.file = Some(file.into());
                    Ok(())
                }
                _ => Err(expected(value, "the name of a file, in quotes")),
            },
            name => Err(unknown("key of a set", name, key.span(), &["file", "dynamic"])),
        };
        diagnostics.extend(outcome.err());
    }
}

enum Entry {
    Prefix(Prefix),
    Set(String),
}

fn inline(entry: &Value<'_>) -> Result<Entry, Diagnostic> {
    let what = "an address, a prefix or \"set:NAME\", in quotes";
    let text = entry.get_ref().as_str().ok_or_else(|| expected(entry, what))?;
    if let Some(name) = text.strip_prefix("set:") {
        return Ok(Entry::Set(name.to_owned()));
    }
    text.parse().map(Entry::Prefix).map_err(|error: PrefixError| {
        let diagnostic = Diagnostic::new(entry.span(), error.to_string());
        match error {
            PrefixError::HostBits(_, prefix) => {
                let address = text.split('/').next().unwrap_or(text);
                diagnostic.with_help(format!("the prefix is {prefix}; the address alone is {address}"))
            }
            PrefixError::Address(_) => diagnostic.with_help(format!("expected {what}")),
            PrefixError::Length(..) => diagnostic,
        }
    })
}

/// Reads a set's file. The policy's span says which set it is; places are those in the file.
fn from_file(
    name: &str,
    path: &Path,
    span: Range<usize>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Vec<Prefix>> {
    let bytes = match input::regular(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            let message = format!("reading {} for set {name}: {error}", path.display());
            diagnostics.push(Diagnostic::new(span, message));
            return None;
        }
    };
    let list = lists::parse(&bytes);
    let elsewhere = |error: lists::LineError| {
        let lists::LineError { number, line, span, message } = error;
        (message, Elsewhere { path: path.to_owned(), number, line, span })
    };
    if let Some((count, first)) = list.masked {
        let (help, place) = elsewhere(first);
        let message = match count {
            1 => "this prefix has bits set behind its length: the whole prefix is meant".to_owned(),
            _ => format!("{count} prefixes have bits set behind their lengths: the whole prefixes are meant"),
        };
        diagnostics.push(Diagnostic::warning(span.clone(), message).at(place).with_help(help));
    }
    let fine = list.errors.is_empty();
    for error in list.errors {
        let (message, place) = elsewhere(error);
        diagnostics.push(Diagnostic::new(span.clone(), message).at(place));
    }
    if list.more_errors > 0 {
        let message = format!("and {} more lines of {} that are wrong", list.more_errors, path.display());
        diagnostics.push(Diagnostic::new(span, message).with_help("is it a list of addresses?"));
    }
    fine.then_some(list.prefixes)
}

/// Replaces members by what is in them.
fn put_in_members(
    raw: &mut BTreeMap<String, Raw>,
    declared: &HashMap<String, Range<usize>>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let mut finished = HashSet::new();
    let names: Vec<String> = raw.keys().cloned().collect();
    for name in names {
        // Depth first, without recursion: a chain of sets may be long. Each step is a set and the number of its next member.
        let mut path = vec![(name, 0)];
        while let Some((name, next)) = path.last().cloned() {
            if finished.contains(&name) {
                path.pop();
                continue;
            }
            let member = raw.get(&name).and_then(|raw| raw.members.get(next)).cloned();
            let Some((member, span)) = member else {
                finish(raw, &name);
                finished.insert(name);
                path.pop();
                continue;
            };
            if let Some((_, next)) = path.last_mut() {
                *next += 1;
            }
            if let Some(at) = path.iter().position(|(on_path, _)| *on_path == member) {
                let mut cycle: Vec<&str> = path[at..].iter().map(|(name, _)| &**name).collect();
                cycle.push(&member);
                let message = format!("sets that are members of themselves: {}", cycle.join(" -> "));
                diagnostics.push(Diagnostic::new(span, message));
            } else if raw.get(&member).is_some_and(|member| member.set.dynamic) {
                let message =
                    format!("dynamic set {member} can't be a member: it is filled while the policy runs");
                diagnostics.push(Diagnostic::new(span, message).with_help("write a rule of its own for it"));
            } else if raw.contains_key(&member) {
                path.push((member, 0));
            } else if !declared.contains_key(&member) {
                diagnostics.push(unknown_set(&member, span, declared.keys().map(|name| &**name)));
            }
        }
    }
}

/// Puts what is in the members, which are finished, into a set.
fn finish(raw: &mut BTreeMap<String, Raw>, name: &str) {
    let members = raw.get(name).map(|raw| raw.members.clone()).unwrap_or_default();
    let mut prefixes = Vec::new();
    let mut open = false;
    for member in members.iter().filter_map(|(member, _)| raw.get(member)) {
        prefixes.extend_from_slice(&member.set.prefixes);
        open |= member.open;
    }
    if let Some(raw) = raw.get_mut(name).filter(|_| !members.is_empty()) {
        // A set can be a member of several members: what is there twice would double at each step.
        raw.set.prefixes.append(&mut prefixes);
        raw.set.prefixes.sort_unstable();
        raw.set.prefixes.dedup();
        raw.open |= open;
    }
}
