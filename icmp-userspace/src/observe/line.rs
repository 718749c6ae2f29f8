//! A captured packet on one line, much as tcpdump prints it: when, which way, addresses, the message, and what was decided.
//!
//! Of what stands in a packet only numbers and addresses are printed, so that no packet writes to a terminal what it likes.

use std::{fmt, mem::MaybeUninit};

use icmp_common::{Family, wire::udp::UDP};

use super::{
    captured::{Captured, Direction},
    decode::{Decoded, Detail, Message, TCP},
};
use crate::policy::names;

/// A captured packet, to be printed.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a>(pub &'a Captured<'a>);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Captured { time, direction, frame, length, judgement } = self.0;
        let [hour, minute, second] = time_of_day(time / SECOND);
        let microsecond = time % SECOND / 1_000;
        write!(f, "{hour:02}:{minute:02}:{second:02}.{microsecond:06} ")?;
        f.write_str(match direction {
            Direction::In => "In  ",
            Direction::Out => "Out ",
        })?;
        match Decoded::of_frame(frame) {
            Some(decoded) => packet(f, &decoded)?,
            None => write!(f, "no IP header, frame length {length}")?,
        }
        write!(f, ": {judgement}")
    }
}

/// Nanoseconds.
const SECOND: u64 = 1_000_000_000;

/// Hour, minute and second of a time, in seconds since 1970, by the clock of this place.
fn time_of_day(time: u64) -> [i32; 3] {
    let mut parts = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both places are valid for the call.
    unsafe { libc::localtime_r(&time.cast_signed(), parts.as_mut_ptr()) };
    // SAFETY: integers, and a pointer that may be null; what the call has not filled in is zero.
    let parts = unsafe { parts.assume_init() };
    [parts.tm_hour, parts.tm_min, parts.tm_sec]
}

fn packet(f: &mut fmt::Formatter<'_>, decoded: &Decoded) -> fmt::Result {
    decoded.vlans.iter().try_for_each(|vlan| write!(f, "vlan {vlan}, "))?;
    f.write_str(if decoded.from.is_ipv4() { "IP " } else { "IP6 " })?;
    way(f, decoded)?;
    if decoded.family_of_icmp().is_some() {
        f.write_str(if decoded.from.is_ipv4() { "ICMP " } else { "ICMP6 " })?;
    }
    content(f, decoded)?;
    write!(f, ", length {}", decoded.length.saturating_sub(decoded.headers))?;
    let Some(quoted) = &decoded.quoted else { return Ok(()) };
    f.write_str(", quoting ")?;
    way(f, quoted)?;
    content(f, quoted)
}

/// Where it comes from and where it goes, with ports as tcpdump has them.
fn way(f: &mut fmt::Formatter<'_>, decoded: &Decoded) -> fmt::Result {
    let Decoded { from, to, ports, .. } = decoded;
    match ports {
        Some([source, destination]) => write!(f, "{from}.{source} > {to}.{destination}: "),
        None => write!(f, "{from} > {to}: "),
    }
}

/// What is behind IP.
fn content(f: &mut fmt::Formatter<'_>, decoded: &Decoded) -> fmt::Result {
    match (decoded.family_of_icmp(), decoded.message) {
        (Some(family), Some(said)) => return message(f, family, said),
        (Some(_), None) => return f.write_str(if decoded.fragment { "fragment" } else { "cut off" }),
        (None, _) => {}
    }
    match decoded.protocol {
        TCP => f.write_str("TCP")?,
        UDP => f.write_str("UDP")?,
        protocol => write!(f, "protocol {protocol}")?,
    }
    if decoded.fragment { f.write_str(" fragment") } else { Ok(()) }
}

fn message(f: &mut fmt::Formatter<'_>, family: Family, message: Message) -> fmt::Result {
    let Message { name, kind, code, detail } = message;
    match name {
        Some(name) => f.write_str(name)?,
        None => write!(f, "type {kind}")?,
    }
    // A name of the code says that, too.
    if names::of(family, kind, Some(code)).is_none() && (code != 0 || name.is_none()) {
        write!(f, ", code {code}")?;
    }
    match detail {
        Some(Detail::Exchange { id, sequence }) => write!(f, ", id {id}, seq {sequence}"),
        Some(Detail::Mtu(mtu)) => write!(f, ", mtu {mtu}"),
        Some(Detail::Gateway(gateway)) => write!(f, ", gateway {gateway}"),
        Some(Detail::Target(target)) => write!(f, ", target {target}"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use icmp_common::reason::Reason;
    use proptest::prelude::*;

    use super::*;
    use crate::observe::captured::Judgement;

    /// Bytes of a packet in hexadecimal digits, in an Ethernet frame.
    fn frame(ether_type: &str, packet: &str) -> Vec<u8> {
        let hex = ["020000000001", "020000000002", ether_type, packet].concat();
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    const TIME: u64 = 1_700_000_000_123_456_789;

    fn shown(frame: &[u8]) -> String {
        let judgement = Judgement { reason: Reason::OtherType, rule: None };
        let length = frame.len() as u32;
        Line(&Captured { time: TIME, direction: Direction::In, frame, length, judgement }).to_string()
    }

    /// The line of a packet without time, direction and judgement.
    fn packet_of(ether_type: &str, packet: &str) -> String {
        let line = shown(&frame(ether_type, packet));
        let line = line.split_once(" In  ").unwrap().1;
        line.strip_suffix(": passed, reason other-type").unwrap().to_owned()
    }

    #[test]
    fn the_time_is_that_of_this_place() {
        let date = Command::new("date").args(["-d", "@1700000000", "+%H:%M:%S"]).output().unwrap();
        let time = String::from_utf8(date.stdout).unwrap();
        assert!(
            shown(&[]).starts_with(&format!("{}.123456 In  no IP header, frame length 0: ", time.trim()))
        );
    }

    #[test]
    fn messages_are_named_with_what_matters_in_them() {
        let from_to4 = "c0000202c0000201";
        let v4 = |length: u8, rest: &str| {
            packet_of("0800", &format!("450000{length:02x}0000000040010000{from_to4}{rest}"))
        };
        assert_eq!(
            v4(28, "080000001234 0007".replace(' ', "").as_str()),
            "IP 192.0.2.2 > 192.0.2.1: ICMP echo, id 4660, seq 7, length 8"
        );
        assert_eq!(
            v4(28, "0507000012340007"),
            "IP 192.0.2.2 > 192.0.2.1: ICMP redirect, code 7, gateway 18.52.0.7, length 8"
        );
        assert_eq!(v4(28, "c809000000000000"), "IP 192.0.2.2 > 192.0.2.1: ICMP type 200, code 9, length 8");
        assert_eq!(
            v4(28, "0a00000000000000"),
            "IP 192.0.2.2 > 192.0.2.1: ICMP router-solicitation, length 8"
        );
        assert_eq!(
            v4(28, "2a00000012340700"),
            "IP 192.0.2.2 > 192.0.2.1: ICMP extended-echo-request, id 4660, seq 7, length 8"
        );
        // RFC 1191: what was too big is quoted.
        let quoted = format!("450005dc000000004011 0000{from_to4}9c40829a05c80000").replace(' ', "");
        assert_eq!(
            v4(56, &format!("0304000000000578{quoted}")),
            "IP 192.0.2.2 > 192.0.2.1: ICMP packet-too-big, mtu 1400, length 36, \
             quoting 192.0.2.2.40000 > 192.0.2.1.33434: UDP"
        );
        assert_eq!(v4(22, "0800"), "IP 192.0.2.2 > 192.0.2.1: ICMP echo, length 2");
        assert_eq!(v4(20, ""), "IP 192.0.2.2 > 192.0.2.1: ICMP cut off, length 0");
        assert_eq!(
            packet_of("81000007", &format!("08004500001c000000b940010000{from_to4}0000000000000000")),
            "vlan 7, IP 192.0.2.2 > 192.0.2.1: ICMP fragment, length 8"
        );
        assert_eq!(
            packet_of("0800", &format!("450000280000000040110000{from_to4}9c40829a0014000000000000")),
            "IP 192.0.2.2.40000 > 192.0.2.1.33434: UDP, length 20"
        );
    }

    #[test]
    fn messages_of_ipv6_are_named_likewise() {
        let addresses = "20010db800000000000000000000000220010db8000000000000000000000001";
        let v6 = |length: u8, rest: &str| {
            packet_of("86dd", &format!("6000000000{length:02x}3aff{addresses}{rest}"))
        };
        let way = "IP6 2001:db8::2 > 2001:db8::1: ICMP6";
        assert_eq!(v6(8, "8000000012340007"), format!("{way} echo, id 4660, seq 7, length 8"));
        assert_eq!(
            v6(24, "8700000000000000fe800000000000000000000000000009"),
            format!("{way} nd-ns, target fe80::9, length 24")
        );
        assert_eq!(v6(8, "0200000000000500"), format!("{way} packet-too-big, mtu 1280, length 8"));
        // Behind a header of options for the destination.
        let behind = format!("6000000000103c40{addresses}3a000104000000008000000012340007");
        assert_eq!(packet_of("86dd", &behind), format!("{way} echo, id 4660, seq 7, length 8"));
    }

    proptest! {
        /// Whatever the bytes are, and wherever they end: nothing that a terminal obeys.
        #[test]
        fn no_packet_speaks_to_the_terminal(
            ether_type in prop::sample::select(vec!["0800", "86dd", "81000007", "88a8006481000007"]),
            icmp in prop::bool::ANY,
            mut bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            if icmp && bytes.len() > 40 {
                bytes[0] = if ether_type == "86dd" { 0x60 } else { 0x45 };
                bytes[if ether_type == "86dd" { 6 } else { 9 }] = if ether_type == "86dd" { 58 } else { 1 };
            }
            let frame = [frame(ether_type, ""), bytes].concat();
            let line = shown(&frame);
            prop_assert!(line.is_ascii() && !line.contains(|c: char| c.is_control()), "{line:?}");
        }
    }
}
