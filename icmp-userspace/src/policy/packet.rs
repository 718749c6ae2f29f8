//! The words of rules where they describe one packet and not many: its type and code, its DSCP, its TTL.

use icmp_common::Family;

use super::{
    diagnostic::{Diagnostic, nearest},
    guard::GUARDED,
    kinds::proper,
    names::{self, NAMES, Name},
    rules,
    words::Words,
};

/// What most hosts send (RFC 1700).
const TTL: u8 = 64;

/// Type and code of a message of a family, each by number or by name; code 0 unless one is named.
pub fn message(family: Family, kind: &str, code: Option<&str>) -> Result<[u8; 2], String> {
    let (kind, named) = match number(kind, "type")? {
        Some(number) => (number, None),
        None => {
            let name = find(family, kind, "message type", |_| true)?;
            (name.kind, name.code)
        }
    };
    let Some(code) = code else { return Ok([kind, named.unwrap_or(0)]) };
    if named.is_some() {
        return Err("the name of the type stands for a code already: no other can follow".to_owned());
    }
    if let Some(code) = number(code, "code")? {
        return Ok([kind, code]);
    }
    let is_of_type = |name: &names::Kind| name.kind == kind && name.code.is_some();
    let found = find(family, code, "code", is_of_type)?;
    match found.code.filter(|_| is_of_type(&found)) {
        Some(code) => Ok([kind, code]),
        None => Err(format!("{code} is no code of type {kind}")),
    }
}

/// A DSCP by number or name.
pub fn dscp(text: &str) -> Result<u8, String> {
    rules::dscp(&mut Words::new(text, 0)).map_err(|Diagnostic { message, .. }| message)
}

/// The TTL or hop limit that a message comes with: the one with which it is genuine, if there is one.
#[must_use]
pub fn usual_ttl(family: Family, message: Option<[u8; 2]>) -> u8 {
    let Some([kind, code]) = message else { return TTL };
    let guarded = GUARDED.iter().find(|guarded| {
        guarded.family == family && guarded.types.contains(&kind) && guarded.codes.contains(&code)
    });
    guarded.and_then(|guarded| guarded.ttl).unwrap_or(TTL)
}

/// A number, if a word begins like one.
fn number(text: &str, what: &str) -> Result<Option<u8>, String> {
    if !text.starts_with(|first: char| first.is_ascii_digit()) {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|_| format!("{text} is no {what}: expected a number from 0 to 255, or a name"))
}

/// What a name stands for in a family; what is suggested for one that is unknown fits.
fn find(
    family: Family,
    text: &str,
    what: &str,
    fits: impl Fn(&names::Kind) -> bool,
) -> Result<names::Kind, String> {
    let in_family = |name: &Name| name.in_family(family);
    if let Some(name) = names::find(text) {
        return in_family(name)
            .ok_or_else(|| format!("{text} is a {what} that {} does not have", proper(family)));
    }
    let known = NAMES.iter().filter(|name| in_family(name).as_ref().is_some_and(&fits));
    let known: Vec<_> = known.map(|name| name.text).collect();
    Err(match nearest(text, &known) {
        Some(nearest) => format!("unknown {what}: {text}; did you mean {nearest}?"),
        None => format!("unknown {what}: {text}; expected a number, or a name as in rules"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use Family::{Ipv4, Ipv6};

    /// Numbers from the IANA registries.
    #[test]
    fn both_vocabularies_and_numbers_are_understood() {
        for (family, kind, code, expected) in [
            (Ipv4, "echo", None, [8, 0]),
            (Ipv6, "echo-request", None, [128, 0]),
            (Ipv6, "nd-neighbor-solicit", None, [135, 0]),
            (Ipv4, "unreachable", Some("administratively-prohibited"), [3, 13]),
            (Ipv4, "administratively-prohibited", None, [3, 13]),
            (Ipv4, "13", None, [13, 0]),
            (Ipv4, "echo", Some("7"), [8, 7]),
            (Ipv4, "3", Some("host-unreachable"), [3, 1]),
        ] {
            assert_eq!(message(family, kind, code), Ok(expected), "{kind} {code:?}");
        }
    }

    #[test]
    fn what_is_not_understood_is_told_with_advice() {
        for (family, kind, code, expected) in [
            (Ipv4, "ecoh", None, "unknown message type: ecoh; did you mean echo?"),
            (Ipv4, "256", None, "256 is no type: expected a number from 0 to 255, or a name"),
            (Ipv4, "3-5", None, "3-5 is no type: expected a number from 0 to 255, or a name"),
            (
                Ipv4,
                "nd-neighbor-solicit",
                None,
                "nd-neighbor-solicit is a message type that IPv4 does not have",
            ),
            (
                Ipv4,
                "3",
                Some("host-unreachabel"),
                "unknown code: host-unreachabel; did you mean host-unreachable?",
            ),
            (Ipv4, "echo", Some("host-unreachable"), "host-unreachable is no code of type 8"),
            (Ipv4, "unreachable", Some("echo"), "echo is no code of type 3"),
            (
                Ipv4,
                "host-unreachable",
                Some("1"),
                "the name of the type stands for a code already: no other can follow",
            ),
        ] {
            assert_eq!(message(family, kind, code).unwrap_err(), expected);
        }
        assert_eq!(dscp("ef"), Ok(46));
        assert!(dscp("64").unwrap_err().starts_with("expected a DSCP from 0 to 63"));
    }

    /// RFC 4861 7.1, RFC 2710 3.
    #[test]
    fn messages_of_one_link_come_as_they_must() {
        assert_eq!(usual_ttl(Ipv6, Some([135, 0])), 255);
        assert_eq!(usual_ttl(Ipv6, Some([131, 0])), 1);
        assert_eq!(usual_ttl(Ipv4, Some([8, 0])), 64);
    }
}
