//! What the stack itself has counted: the ICMP counters of `/proc/net/snmp` and `/proc/net/snmp6`.

use std::{collections::BTreeMap, fs, io};

use super::error::{Doing as _, Error};

/// Counters by name, as `nstat` names them: `IcmpInMsgs`, `Icmp6InMsgs`, ...
pub type Counted = BTreeMap<String, u64>;

/// Reads those of the current network namespace.
pub fn counted() -> Result<Counted, Error> {
    let mut counted = Counted::new();
    // A namespace is a thread's own.
    let v4 = "/proc/thread-self/net/snmp";
    let text = fs::read_to_string(v4).doing(|| format!("reading {v4}"))?;
    counted.extend(parse(&text));
    let v6 = "/proc/thread-self/net/snmp6";
    match fs::read_to_string(v6) {
        Ok(text) => counted.extend(parse6(&text)),
        // A kernel without IPv6.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).doing(|| format!("reading {v6}")),
    }
    Ok(counted)
}

/// A line of names and one of values for each protocol.
fn parse(text: &str) -> Counted {
    let mut rows = text.lines().filter_map(|line| line.split_once(": ")).filter(|(name, _)| *name == "Icmp");
    let (Some((prefix, names)), Some((_, values))) = (rows.next(), rows.next()) else {
        return Counted::new();
    };
    let pairs = names.split_whitespace().zip(values.split_whitespace());
    pairs.filter_map(|(name, value)| Some((format!("{prefix}{name}"), value.parse().ok()?))).collect()
}

/// A line for each counter.
fn parse6(text: &str) -> Counted {
    let rows = text.lines().filter(|line| line.starts_with("Icmp6"));
    rows.filter_map(|line| line.split_once(char::is_whitespace))
        .filter_map(|(name, value)| Some((name.to_owned(), value.trim().parse().ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_by_name() {
        let text = "Ip: Forwarding DefaultTTL\nIp: 2 64\nIcmp: InMsgs InErrors InEchos\nIcmp: 12 3 9\n\
                    IcmpMsg: InType3 InType8\nIcmpMsg: 3 9\n";
        let expected = [("IcmpInMsgs", 12), ("IcmpInErrors", 3), ("IcmpInEchos", 9)];
        assert_eq!(parse(text), expected.map(|(name, value)| (name.to_owned(), value)).into());
        let text =
            "Ip6InReceives                   \t7\nIcmp6InMsgs                     \t2\nUdp6InErrors 4\n";
        assert_eq!(parse6(text), [("Icmp6InMsgs".to_owned(), 2)].into());
        assert!(parse("Icmp: InMsgs\n").is_empty());
    }
}
