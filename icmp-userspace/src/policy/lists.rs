//! Lists of addresses as they are passed around: one entry a line, in the formats that blocklists come in.
//!
//! An entry is an address, a prefix, a range `A-B`, or a DShield row `FIRST LAST LENGTH ...`. `#` and `;` begin comments.

use std::{net::IpAddr, ops::Range};

use super::prefix::{Prefix, PrefixError};

/// Most errors that are told of one list.
const MAX_ERRORS: usize = 20;

/// What stands in a list.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct List {
    /// Its prefixes.
    pub(super) prefixes: Vec<Prefix>,
    /// What is wrong with it: the first lines, at most [`MAX_ERRORS`].
    pub(super) errors: Vec<LineError>,
    /// How many more lines are wrong.
    pub(super) more_errors: usize,
    /// How many prefixes were written with bits behind their length, and the first of them.
    pub(super) masked: Option<(usize, LineError)>,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LineError {
    /// The line's number, from 1.
    pub(super) number: usize,
    /// The whole line.
    pub(super) line: String,
    /// The bytes of the line that it is about.
    pub(super) span: Range<usize>,
    /// What is wrong.
    pub(super) message: String,
}

/// Understands a list.
pub(super) fn parse(bytes: &[u8]) -> List {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut list = List::default();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let code = line.split(|byte| matches!(byte, b'#' | b';')).next().unwrap_or_default();
        let entry = code.trim_ascii();
        if entry.is_empty() {
            continue;
        }
        let outcome = match str::from_utf8(entry) {
            Ok(entry) => parse_entry(entry, &mut list.prefixes),
            Err(_) => Err("expected text in UTF-8".to_owned()),
        };
        let told = |message: String| {
            let start = code.len() - code.trim_ascii_start().len();
            let line = String::from_utf8_lossy(line).trim_end_matches('\r').to_owned();
            LineError { number: index + 1, line, span: start..start + entry.len(), message }
        };
        match outcome {
            Ok(None) => {}
            Ok(Some(prefix)) => match &mut list.masked {
                Some((count, _)) => *count += 1,
                None => list.masked = Some((1, told(format!("the prefix is {prefix}")))),
            },
            Err(message) if list.errors.len() < MAX_ERRORS => list.errors.push(told(message)),
            Err(_) => list.more_errors += 1,
        }
    }
    list
}

/// Adds an entry's prefixes; tells of the prefix where there were bits behind its length.
fn parse_entry(entry: &str, prefixes: &mut Vec<Prefix>) -> Result<Option<Prefix>, String> {
    let mut words = entry.split_ascii_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some(word), None, None) => match word.split_once('-') {
            Some((first, last)) => range(first, last, prefixes).map(|()| None),
            None => single(word, prefixes),
        },
        (Some(first), Some("-"), Some(last)) if words.next().is_none() => {
            range(first, last, prefixes).map(|()| None)
        }
        // More columns follow: attacks, name, country, address to complain to.
        (Some(first), Some(last), Some(length)) if length.parse::<u8>().is_ok() => {
            range(first, last, prefixes).map(|()| None)
        }
        _ => Err("expected one address, prefix or range, and behind it nothing but a comment".to_owned()),
    }
}

fn single(word: &str, prefixes: &mut Vec<Prefix>) -> Result<Option<Prefix>, String> {
    match word.parse::<Prefix>() {
        Ok(prefix) => {
            prefixes.push(prefix);
            Ok(None)
        }
        Err(PrefixError::HostBits(_, prefix)) => {
            prefixes.push(prefix);
            Ok(Some(prefix))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Adds the prefixes that make up a range of addresses.
fn range(first: &str, last: &str, prefixes: &mut Vec<Prefix>) -> Result<(), String> {
    let address = |text: &str| text.parse::<IpAddr>().map_err(|_| format!("{text:?} is not an IP address"));
    let (low, high) = (address(first)?, address(last)?);
    let (mut low_bits, high_bits, width) = match (low, high) {
        (IpAddr::V4(low), IpAddr::V4(high)) => (low.to_bits().into(), high.to_bits().into(), 32),
        (IpAddr::V6(low), IpAddr::V6(high)) => (low.to_bits(), high.to_bits(), 128),
        _ => return Err(format!("{first} and {last} are of two families")),
    };
    if low_bits > high_bits {
        return Err(format!("the range {first}-{last} ends before it begins"));
    }
    loop {
        // The largest prefix that begins here and does not reach beyond the end.
        let end = |host_bits: u32| low_bits | u128::MAX.checked_shr(128 - host_bits).unwrap_or(0);
        let mut host_bits = low_bits.trailing_zeros().min(width);
        while end(host_bits) > high_bits {
            host_bits -= 1;
        }
        let address = match low {
            IpAddr::V4(_) => IpAddr::V4((low_bits as u32).into()),
            IpAddr::V6(_) => IpAddr::V6(low_bits.into()),
        };
        prefixes.push(Prefix::containing(address, (width - host_bits) as u8));
        let end = end(host_bits);
        if end == high_bits {
            return Ok(());
        }
        low_bits = end + 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefixes(text: &str) -> Vec<String> {
        let list = parse(text.as_bytes());
        assert_eq!((list.errors, list.more_errors), (Vec::new(), 0));
        list.prefixes.iter().map(ToString::to_string).collect()
    }

    fn error(line: &str) -> String {
        let list = parse(line.as_bytes());
        assert_eq!(list.prefixes, []);
        list.errors.first().unwrap().message.clone()
    }

    #[test]
    fn understands_the_usual_formats() {
        assert_eq!(
            prefixes("192.0.2.0/24\n198.51.100.7\n2001:db8::/32\n"),
            ["192.0.2.0/24", "198.51.100.7", "2001:db8::/32"]
        );
        // Spamhaus DROP, FireHOL, byte order mark, CRLF, no line end.
        let text =
            "\u{feff}; Spamhaus DROP List\r\n192.0.2.0/24 ; SBL1\r\n\r\n# FireHOL\r\n  10.0.0.0/8\t# own";
        assert_eq!(prefixes(text), ["192.0.2.0/24", "10.0.0.0/8"]);
        // DShield.
        let text = "192.0.2.0\t192.0.2.255\t24\t1523\tNAME\tUS\tabuse@example.net\n";
        assert_eq!(prefixes(text), ["192.0.2.0/24"]);
        assert_eq!(
            prefixes("192.0.2.1-192.0.2.6\n"),
            ["192.0.2.1", "192.0.2.2/31", "192.0.2.4/31", "192.0.2.6"]
        );
        assert_eq!(prefixes("192.0.2.0 - 192.0.2.7"), ["192.0.2.0/29"]);
        assert_eq!(prefixes("0.0.0.0-255.255.255.255"), ["0.0.0.0/0"]);
        assert_eq!(prefixes("::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), ["::/0"]);
        assert_eq!(prefixes("2001:db8::-2001:db8::2"), ["2001:db8::/127", "2001:db8::2"]);
        assert_eq!(prefixes(""), Vec::<String>::new());
    }

    #[test]
    fn says_what_is_wrong_with_a_line() {
        assert_eq!(error("192.0.2"), "\"192.0.2\" is not an IP address");
        assert_eq!(error("192.0.2.0/33"), "\"33\" is not a prefix length: a number from 0 to 32 is expected");
        assert_eq!(error("192.0.2.9-192.0.2.1"), "the range 192.0.2.9-192.0.2.1 ends before it begins");
        assert_eq!(error("192.0.2.9-::1"), "192.0.2.9 and ::1 are of two families");
        assert_eq!(error("192.0.2.9-x"), "\"x\" is not an IP address");
        assert_eq!(
            error("192.0.2.9 router"),
            "expected one address, prefix or range, and behind it nothing but a comment"
        );
        assert_eq!(parse(b"\xff\xfe").errors[0].message, "expected text in UTF-8");
    }

    #[test]
    fn says_where() {
        let list = parse(b"10.0.0.1\r\n  oops ; text\r\n");
        assert_eq!(
            list.errors,
            [LineError {
                number: 2,
                line: "  oops ; text".to_owned(),
                span: 2..6,
                message: "\"oops\" is not an IP address".to_owned(),
            }]
        );
    }

    #[test]
    fn tells_of_twenty_errors_and_counts_the_others() {
        let list = parse("x\n".repeat(50).as_bytes());
        assert_eq!((list.errors.len(), list.more_errors), (20, 30));
    }

    #[test]
    fn masks_and_counts_what_has_host_bits() {
        let list = parse(b"192.0.2.0/24\n192.0.2.1/24\n10.0.0.1/8\n");
        assert_eq!(list.prefixes.len(), 3);
        let (count, first) = list.masked.unwrap();
        assert_eq!((count, first.number, &*first.message), (2, 2, "the prefix is 192.0.2.0/24"));
    }

    #[test]
    fn reads_a_million_lines() {
        use std::fmt::Write as _;
        let mut text = String::new();
        for number in 0..1_000_000_u32 {
            writeln!(text, "{}/28 ; {number}", std::net::Ipv4Addr::from_bits((1 << 24) + (number << 4)))
                .unwrap();
        }
        let list = parse(text.as_bytes());
        assert_eq!((list.prefixes.len(), list.errors.len(), list.masked), (1_000_000, 0, None));
    }

    proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>) {
            parse(&bytes);
        }

        #[test]
        fn never_panics_over_what_is_nearly_a_list(text in "([0-9a-f:./;# \t-]{0,24}[\r\n]{0,2}){0,20}") {
            parse(text.as_bytes());
        }

        #[test]
        fn a_range_is_its_prefixes(a: u32, b in 0_u32..5000) {
            let (first, last) = (std::net::Ipv4Addr::from_bits(a), a.saturating_add(b).into());
            let last: std::net::Ipv4Addr = last;
            let mut found = Vec::new();
            range(&first.to_string(), &last.to_string(), &mut found).unwrap();
            let mut next = u64::from(first.to_bits());
            for prefix in found {
                let IpAddr::V4(address) = prefix.address() else { panic!("{prefix}") };
                prop_assert_eq!(u64::from(address.to_bits()), next);
                next += 1 << (32 - prefix.length());
            }
            prop_assert_eq!(next, u64::from(last.to_bits()) + 1);
        }
    }
}
