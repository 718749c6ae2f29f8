//! Policy files: TOML text -> [`Policy`], with everything that is wrong reported at once.

use std::{fs, io, io::Read as _, path::Path};

use icmp_common::config::NextHop;
use thiserror::Error;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Policy, Respond,
    compile::RESERVED,
    diagnostic::{Diagnostic, Invalid, nearest},
    prefix::{Prefix, PrefixError},
};

/// Longest policy file that is read, in bytes. A million prefixes fit.
const MAX_BYTES: u64 = 64 << 20;

/// Why a policy file gave no policy.
#[derive(Debug, Error)]
pub enum FileError {
    /// It can't be read.
    #[error("reading the policy {path}: {error}")]
    Read {
        /// The file's name.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// It is longer than anyone would write.
    #[error("reading the policy {path}: it is longer than {} MiB; is it the right file?", MAX_BYTES >> 20)]
    TooLong {
        /// The file's name.
        path: String,
    },
    /// It can be read but means nothing.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// Reads a policy file.
pub fn read(path: &Path) -> Result<Policy, FileError> {
    let name = || path.display().to_string();
    let failed = |error| FileError::Read { path: name(), error };
    let mut text = String::new();
    let file = fs::File::open(path).map_err(failed)?;
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(FileError::TooLong { path: name() });
    }
    parse(&text).map_err(|diagnostics| Invalid { path: path.to_owned(), text, diagnostics }.into())
}

/// Understands a policy's text, or says everything that is wrong with it.
pub fn parse(text: &str) -> Result<Policy, Vec<Diagnostic>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut diagnostics: Vec<_> = errors
        .iter()
        .map(|error| {
            let message = error.message().lines().collect::<Vec<_>>().join(", ");
            Diagnostic::new(error.span().unwrap_or(0..0), format!("not TOML: {message}"))
        })
        .collect();
    let mut policy = Policy::default();
    if diagnostics.is_empty() {
        for (key, value) in document.get_ref() {
            match key.get_ref().as_ref() {
                "respond" => respond(value, &mut policy.respond, &mut diagnostics),
                name => diagnostics.push(unknown("table", name, key.span(), &["respond"])),
            }
        }
    }
    diagnostics.sort_by_key(|diagnostic| diagnostic.span.start);
    if diagnostics.is_empty() { Ok(policy) } else { Err(diagnostics) }
}

type Value<'a> = Spanned<DeValue<'a>>;

const RESPOND_KEYS: [&str; 5] = ["enabled", "to", "ttl", "verify-checksum", "next-hop"];

fn respond(value: &Value<'_>, respond: &mut Respond, diagnostics: &mut Vec<Diagnostic>) {
    let Some(table) = value.get_ref().as_table() else {
        diagnostics.push(expected(value, "a table: [respond]"));
        return;
    };
    for (key, value) in table {
        let outcome = match key.get_ref().as_ref() {
            "enabled" => boolean(value).map(|enabled| respond.enabled = enabled),
            "verify-checksum" => boolean(value).map(|verify| respond.verify_checksum = verify),
            "ttl" => ttl(value).map(|ttl| respond.ttl = ttl),
            "next-hop" => next_hop(value).map(|next_hop| respond.next_hop = next_hop),
            "to" => {
                served(value, respond, diagnostics);
                Ok(())
            }
            name => Err(unknown("key in [respond]", name, key.span(), &RESPOND_KEYS)),
        };
        diagnostics.extend(outcome.err());
    }
}

fn boolean(value: &Value<'_>) -> Result<bool, Diagnostic> {
    value.get_ref().as_bool().ok_or_else(|| expected(value, "true or false"))
}

fn ttl(value: &Value<'_>) -> Result<u8, Diagnostic> {
    let integer = value.get_ref().as_integer();
    let ttl = integer.and_then(|integer| u8::from_str_radix(integer.as_str(), integer.radix()).ok());
    ttl.filter(|ttl| *ttl != 0).ok_or_else(|| expected(value, "a number from 1 to 255"))
}

fn next_hop(value: &Value<'_>) -> Result<NextHop, Diagnostic> {
    match value.get_ref().as_str() {
        Some("swap") => Ok(NextHop::Swap),
        Some("fib") => Ok(NextHop::Fib),
        _ => Err(expected(value, "\"swap\" or \"fib\"")),
    }
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
            Some(text) => match prefix(text, entry) {
                Ok(prefix) => respond.prefixes.push(prefix),
                Err(diagnostic) => diagnostics.push(diagnostic),
            },
            None => diagnostics.push(expected(entry, "\"own\", an address or a prefix, in quotes")),
        }
    }
}

fn prefix(text: &str, entry: &Value<'_>) -> Result<Prefix, Diagnostic> {
    let prefix = text.parse::<Prefix>().map_err(|error| {
        let diagnostic = Diagnostic::new(entry.span(), error.to_string());
        match error {
            PrefixError::HostBits(_, prefix) => {
                diagnostic.with_help(format!("the prefix is {prefix}; the address alone is {}", host(text)))
            }
            PrefixError::Address(_) => diagnostic
                .with_help("expected \"own\", an address, or a prefix like 192.0.2.0/24 or 2001:db8::/32"),
            PrefixError::Length(..) => diagnostic,
        }
    })?;
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

fn expected(value: &Value<'_>, what: &str) -> Diagnostic {
    Diagnostic::new(value.span(), format!("expected {what}, found {}", describe(value.get_ref())))
}

fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(integer) => integer.to_string(),
        DeValue::Float(float) => float.to_string(),
        DeValue::Boolean(boolean) => boolean.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

fn unknown(what: &str, name: &str, span: std::ops::Range<usize>, known: &[&str]) -> Diagnostic {
    let diagnostic = Diagnostic::new(span, format!("unknown {what}: {name}"));
    match nearest(name, known) {
        Some(nearest) => diagnostic.with_help(format!("did you mean {nearest}?")),
        None => diagnostic.with_help(format!("known: {}", known.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> String {
        let diagnostics = parse(text).unwrap_err();
        Invalid { path: "p.toml".into(), text: text.to_owned(), diagnostics }.to_string()
    }

    #[test]
    fn understands_every_key() {
        let policy = parse(
            "[respond]\nenabled = false\nto = [\"own\", \"192.0.2.0/24\", \"2001:db8::1\"]\nttl = 0xff\n\
             verify-checksum = false\nnext-hop = \"fib\"\n",
        );
        let respond = Respond {
            enabled: false,
            own: true,
            prefixes: vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::1".parse().unwrap()],
            ttl: 255,
            verify_checksum: false,
            next_hop: NextHop::Fib,
        };
        assert_eq!(policy, Ok(Policy { respond, ..Policy::default() }));
    }

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(parse(""), Ok(Policy::default()));
    }

    #[test]
    fn a_list_of_prefixes_replaces_own() {
        let policy = parse("respond.to = [\"192.0.2.0/24\"]").unwrap();
        assert!(!policy.respond.own);
    }

    #[test]
    fn reports_place_line_caret_and_suggestion() {
        assert_eq!(
            errors("[respond]\ntll = 64\n"),
            "p.toml:2:1: unknown key in [respond]: tll\n  |\n2 | tll = 64\n  | ^^^\n  = did you mean ttl?"
        );
    }

    #[test]
    fn reports_everything_at_once() {
        let text = errors("[respond]\nttl = 0\nto = [\"10.0.0.1/8\", 7]\nverify_checksum = 1\n[repond]\n");
        for message in [
            "p.toml:2:7: expected a number from 1 to 255, found 0",
            "p.toml:3:7: 10.0.0.1/8 has host bits set",
            "the prefix is 10.0.0.0/8; the address alone is 10.0.0.1",
            "p.toml:3:21: expected \"own\", an address or a prefix, in quotes, found 7",
            "p.toml:4:1: unknown key in [respond]: verify_checksum",
            "did you mean verify-checksum?",
            "p.toml:5:2: unknown table: repond",
            "did you mean respond?",
        ] {
            assert!(text.contains(message), "{message:?} is missing in:\n{text}");
        }
    }

    #[test]
    fn reports_what_is_not_toml() {
        let text = errors("[respond]\nttl = = 1\n");
        assert!(text.starts_with("p.toml:2:7: not TOML: "), "{text}");
    }

    #[test]
    fn refuses_addresses_that_no_host_has() {
        let text = errors("respond.to = [\"224.0.0.0/8\", \"ff02::1\", \"127.0.0.1\"]");
        assert!(text.contains("224.0.0.0/8 can't be served: 224.0.0.0/4 is multicast"), "{text}");
        assert!(text.contains("ff02::1 can't be served: ff00::/8 is multicast"), "{text}");
        assert!(text.contains("127.0.0.1 can't be served: 127.0.0.0/8 is loopback"), "{text}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read(Path::new("/nonexistent/policy.toml")).unwrap_err().to_string();
        assert_eq!(
            error,
            "reading the policy /nonexistent/policy.toml: No such file or directory (os error 2)"
        );
    }
}
