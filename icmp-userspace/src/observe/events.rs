//! Events: what was told of a packet, in words, beside the rule that it was told for; and what was not told.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use icmp_common::{
    Family,
    events::{Event, MOST_OF_ALL, MOST_OF_RULE, Told},
};
use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::policy::{
    names,
    slots::{LimitLine, Line, Slots},
};

/// A moment, in nanoseconds of UTC since 1970; shown as RFC 3339 wants it, with milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(pub u64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Until the year 2554 nanoseconds are in its range.
        let time = Timestamp::from_nanosecond(self.0.into()).unwrap_or(Timestamp::MAX);
        write!(f, "{time:.3}")
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A rule, or one of its rates, that events are told for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Its number.
    pub number: Option<u32>,
    /// Where it comes from: `file` or the name of a preset.
    pub origin: String,
    /// Its canonical text.
    pub text: String,
    /// The rate.
    #[serde(skip)]
    pub rate: Option<String>,
}

/// What slots stand for, and stood for before.
#[derive(Debug, Default)]
pub struct Rules(HashMap<u32, Vec<(u64, Rule)>>);

/// How many rules are remembered of one slot.
const REMEMBERED: usize = 4;

impl Rules {
    /// Learns what the slots of a policy stand for; those of earlier ones go on doing so for what was told at their time.
    pub fn learn(&mut self, lines: &[Line], limits: &[LimitLine], slots: &Slots) {
        let rules = lines.iter().map(|Line { slot, number, origin, text }| {
            let (origin, text) = (origin.clone(), text.clone());
            (*slot, Rule { number: *number, origin, text, rate: None })
        });
        let texts: HashMap<_, _> = lines.iter().map(|line| (line.slot, &line.text)).collect();
        let rates = limits.iter().filter_map(|limit| {
            let text = (*texts.get(&limit.rule_slot?)?).clone();
            let (origin, rate) = (limit.origin.clone(), Some(limit.rate.clone()));
            Some((limit.over_slot, Rule { number: limit.number, origin, text, rate }))
        });
        let mut learned = HashMap::new();
        for (slot, rule) in rules.chain(rates) {
            // Of rules with the same text the first one decides always.
            learned.entry(slot).or_insert(rule);
        }
        for (slot, rule) in learned {
            let known = self.0.entry(slot).or_default();
            let since = slots.since(slot).unwrap_or(0);
            // It may have got another number.
            known.retain(|(begin, _)| *begin != since);
            known.push((since, rule));
            if known.len() > REMEMBERED {
                known.remove(0);
            }
        }
    }

    /// What a slot stood for at a time of the monotonic clock.
    fn at(&self, slot: u32, time: u64) -> Option<&Rule> {
        self.0.get(&slot)?.iter().rev().find(|(since, _)| *since <= time).map(|(_, rule)| rule)
    }
}

/// An event, to be shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row<'a> {
    /// When.
    pub time: Time,
    /// The interface.
    pub interface: &'a str,
    /// `packet`, or `over limit`: somebody is over a rate of the rule as of this packet.
    pub event: &'static str,
    /// `ipv4` or `ipv6`.
    pub family: &'static str,
    /// What became of the packet.
    pub verdict: &'static str,
    /// Why.
    pub reason: &'static str,
    /// The rule; `None` if it is not known any more.
    pub rule: Option<&'a Rule>,
    /// The rate that somebody is over.
    pub rate: Option<&'a str>,
    /// Where the packet came from.
    pub from: IpAddr,
    /// Where it was going.
    pub to: IpAddr,
    /// Its message; `None` in a fragment other than the first.
    pub message: Option<Message>,
    /// Length of the IP packet in bytes, header included.
    pub length: u16,
    /// The number of the outer VLAN tag, if it had one.
    pub vlan: Option<u16>,
    /// Events of the rule that were suppressed before this one, on the same CPU.
    pub suppressed: u32,
    #[serde(skip)]
    slot: u32,
}

/// Type and code of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Its name, if it has one.
    pub name: Option<&'static str>,
    /// Type.
    #[serde(rename = "type")]
    pub kind: u8,
    /// Code.
    pub code: u8,
}

impl<'a> Row<'a> {
    /// An event that was told at a time of UTC; `None` if it makes no sense.
    #[must_use]
    pub fn new(event: &Event, time: Time, interface: &'a str, rules: &'a Rules) -> Option<Self> {
        let (family, reason) = (event.family()?, event.reason()?);
        let is_over = event.flags & Event::OVER != 0;
        let rule = rules.at(event.slot, event.time).filter(|rule| rule.rate.is_some() == is_over);
        let message = (event.flags & Event::NO_TYPE == 0).then(|| {
            let (kind, code) = (event.icmp_type, event.code);
            let name = names::of(family, kind, Some(code)).or_else(|| names::of(family, kind, None));
            Message { name, kind, code }
        });
        Some(Self {
            time,
            interface,
            event: if is_over { "over limit" } else { "packet" },
            family: family.name(),
            verdict: reason.verdict().name(),
            reason: reason.name(),
            rule,
            rate: rule.and_then(|rule| rule.rate.as_deref()),
            from: address(family, event.source),
            to: address(family, event.destination),
            message,
            length: event.length,
            vlan: (event.vlan != Event::NO_VLAN).then_some(event.vlan),
            suppressed: event.suppressed,
            slot: event.slot,
        })
    }
}

/// An address from words in memory order.
fn address(family: Family, words: [u64; 2]) -> IpAddr {
    let [high, low] = words.map(u64::to_ne_bytes);
    match family {
        // In the lower half of the first word.
        Family::Ipv4 => Ipv4Addr::from((words[0] as u32).to_ne_bytes()).into(),
        Family::Ipv6 => {
            let mut octets = [0; 16];
            octets[..8].copy_from_slice(&high);
            octets[8..].copy_from_slice(&low);
            Ipv6Addr::from(octets).into()
        }
    }
}

/// All but the time.
impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { interface, verdict, reason, from, to, length, .. } = self;
        write!(f, "{interface} {verdict}, reason {reason}: {from} > {to}: ")?;
        match self.message {
            Some(Message { name: Some(name), kind, code }) => write!(f, "{name} (type {kind}, code {code})")?,
            Some(Message { name: None, kind, code }) => write!(f, "ICMP type {kind}, code {code}")?,
            None => f.write_str("ICMP, a later fragment")?,
        }
        write!(f, ", {length} bytes")?;
        if let Some(vlan) = self.vlan {
            write!(f, ", VLAN {vlan}")?;
        }
        f.write_str("; ")?;
        if self.event != "packet" {
            f.write_str("over limit")?;
            self.rate.map_or(Ok(()), |rate| write!(f, " {rate}"))?;
            f.write_str(" of ")?;
        }
        match self.rule {
            Some(Rule { number, origin, text, .. }) => {
                number.map_or(Ok(()), |number| write!(f, "rule {number}"))?;
                if origin != "file" {
                    write!(f, " of the preset {origin}")?;
                }
                write!(f, ": {text}")?;
            }
            None => write!(f, "a rule that is not known any more (slot {})", self.slot)?,
        }
        if self.suppressed > 0 {
            write!(f, "; {} before it suppressed", self.suppressed)?;
        }
        Ok(())
    }
}

/// What has not been shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// Suppressed by the packet path, because there were too many.
    pub suppressed: u64,
    /// Lost, because nobody read and the ring buffer was full.
    pub lost: u64,
    /// Overwritten before they were read, because somebody else reads faster.
    pub missed: u64,
}

impl Gap {
    /// Nothing is missing.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    fn add(&mut self, other: &Self) {
        self.suppressed += other.suppressed;
        self.lost += other.lost;
        self.missed += other.missed;
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = [
            (
                self.suppressed,
                format!("suppressed (a CPU tells {MOST_OF_RULE} a second of a rule, {MOST_OF_ALL} in all)"),
            ),
            (self.lost, "lost (the buffer was full, nobody read)".to_owned()),
            (self.missed, "missed (overwritten before they were read)".to_owned()),
        ];
        let parts: Vec<_> =
            why.iter().filter(|(count, _)| *count > 0).map(|(count, why)| format!("{count} {why}")).collect();
        if parts.is_empty() { f.write_str("none missing") } else { f.write_str(&parts.join(", ")) }
    }
}

/// How many events have been shown, and how many have not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Shown.
    pub shown: u64,
    /// Not shown, as far as that has been reported.
    pub gap: Gap,
    /// Missed, not reported yet.
    missed: u64,
    /// What was told when it was looked at last.
    told: Told,
}

impl Account {
    /// What was told when it was looked at last.
    #[must_use]
    pub const fn told(&self) -> Told {
        self.told
    }

    /// So many were missed.
    pub const fn miss(&mut self, events: u64) {
        self.missed += events;
    }

    /// What is missing since the last time; the first time, since the program was attached. `told` is what has become of all events.
    pub fn look(&mut self, told: Told) -> Gap {
        // What is less than before is another map's, made since.
        let since = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
        let gap = Gap {
            suppressed: since(told.suppressed, self.told.suppressed),
            lost: since(told.lost, self.told.lost),
            missed: std::mem::take(&mut self.missed),
        };
        self.told = told;
        self.gap.add(&gap);
        gap
    }
}

#[cfg(test)]
mod tests {
    use icmp_common::reason::Reason;

    use super::*;

    const RULE: &str = "deny icmp any any log";
    const LIMIT: &str = "limit 1/s burst 1 per source icmp any any echo log";

    fn slots(since: &str) -> Slots {
        let text = format!(
            r#"{{"rules": {{"{RULE}": 7, "{LIMIT}": 8, "over rate 0 of {LIMIT}": 9}}, "dynamic": {{}}, "since": {{{since}}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn line(number: u32, slot: u32, origin: &str, text: &str) -> Line {
        Line { slot, number: Some(number), origin: origin.to_owned(), text: text.to_owned() }
    }

    fn limit() -> LimitLine {
        LimitLine {
            number: Some(20),
            origin: "file".to_owned(),
            rule_slot: Some(8),
            rate: "1/s burst 1 per source".to_owned(),
            over_slot: 9,
            span: 0,
            bans: None,
        }
    }

    fn rules() -> Rules {
        let mut rules = Rules::default();
        rules.learn(&[line(10, 7, "file", RULE), line(20, 8, "file", LIMIT)], &[limit()], &slots(""));
        rules
    }

    fn event() -> Event {
        Event {
            time: 5,
            source: [u32::from_ne_bytes([198, 51, 100, 7]).into(), 0],
            destination: [u32::from_ne_bytes([192, 0, 2, 9]).into(), 0],
            slot: 7,
            length: 84,
            vlan: Event::NO_VLAN,
            reason: Reason::Denied as u8,
            icmp_type: 8,
            ..Event::default()
        }
    }

    fn shown(event: &Event, rules: &Rules) -> String {
        Row::new(event, Time(0), "eth0", rules).unwrap().to_string()
    }

    #[test]
    fn times_are_of_utc_and_have_milliseconds() {
        assert_eq!(Time(0).to_string(), "1970-01-01T00:00:00.000Z");
        // `date -u -d @1795248000 +%FT%TZ`
        assert_eq!(Time(1_795_248_000_999_999_999).to_string(), "2026-11-21T08:00:00.999Z");
        assert!(!Time(u64::MAX).to_string().is_empty());
    }

    #[test]
    fn events_are_one_line_each() {
        let rules = rules();
        assert_eq!(
            shown(&event(), &rules),
            format!(
                "eth0 denied, reason denied: 198.51.100.7 > 192.0.2.9: echo (type 8, code 0), 84 bytes; rule 10: {RULE}"
            )
        );
        let source = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0].map(|byte: u8| byte);
        let over = Event {
            slot: 9,
            flags: Event::OVER,
            family: 1,
            source: [u64::from_ne_bytes(source), u64::from_ne_bytes([0, 0, 0, 0, 0, 0, 0, 7])],
            icmp_type: 128,
            vlan: 12,
            suppressed: 3,
            reason: Reason::OverLimit as u8,
            ..event()
        };
        let text = shown(&over, &rules);
        assert!(text.starts_with("eth0 limited, reason over-limit: 2001:db8::7 > "), "{text}");
        let end = format!(
            ": echo (type 128, code 0), 84 bytes, VLAN 12; over limit 1/s burst 1 per source of rule 20: {LIMIT}; 3 before it \
             suppressed"
        );
        assert!(text.ends_with(&end), "{text}");
        let fragment = Event { flags: Event::NO_TYPE, slot: 700, ..event() };
        let text = shown(&fragment, &rules);
        let end = "ICMP, a later fragment, 84 bytes; a rule that is not known any more (slot 700)";
        assert!(text.ends_with(end), "{text}");
        let nameless = Event { icmp_type: 200, code: 9, ..event() };
        assert!(shown(&nameless, &rules).contains(": ICMP type 200, code 9, 84 bytes"));
        assert_eq!(Row::new(&Event { reason: 255, ..event() }, Time(0), "eth0", &rules), None);
    }

    #[test]
    fn json_has_the_same_words_each_time() {
        let rules = rules();
        let row = Row::new(&event(), Time(0), "eth0", &rules).unwrap();
        assert_eq!(
            serde_json::to_string(&row).unwrap(),
            format!(
                r#"{{"time":"1970-01-01T00:00:00.000Z","interface":"eth0","event":"packet","family":"ipv4","verdict":"denied","reason":"denied","rule":{{"number":10,"origin":"file","text":"{RULE}"}},"rate":null,"from":"198.51.100.7","to":"192.0.2.9","message":{{"name":"echo","type":8,"code":0}},"length":84,"vlan":null,"suppressed":0}}"#
            )
        );
    }

    /// A slot that was given to another rule stands for that one from then on, and for the former one before.
    #[test]
    fn slots_are_looked_up_at_the_events_time() {
        let mut rules = rules();
        rules.learn(&[line(30, 7, "deprecated", "deny icmp4 any any 4 log")], &[], &slots(r#""7": 6"#));
        assert!(shown(&event(), &rules).ends_with(&format!("; rule 10: {RULE}")));
        let later = Event { time: 6, ..event() };
        let text = shown(&later, &rules);
        assert!(text.ends_with("; rule 30 of the preset deprecated: deny icmp4 any any 4 log"), "{text}");
        // Who comes later knows nothing of the former one.
        let mut late = Rules::default();
        late.learn(&[line(30, 7, "file", RULE)], &[], &slots(r#""7": 6"#));
        assert!(shown(&event(), &late).ends_with("not known any more (slot 7)"));
        assert!(shown(&later, &late).ends_with(&format!("; rule 30: {RULE}")));
    }

    #[test]
    fn what_is_missing_is_reported_once() {
        let mut account = Account::default();
        let told = |suppressed, lost| Told { told: 100, suppressed, lost };
        assert_eq!(account.look(told(5, 0)), Gap { suppressed: 5, ..Gap::default() });
        assert!(account.look(told(5, 0)).is_none());
        account.miss(2);
        assert_eq!(account.look(told(8, 1)), Gap { suppressed: 3, lost: 1, missed: 2 });
        assert_eq!(account.gap, Gap { suppressed: 8, lost: 1, missed: 2 });
        // Maps that were made anew.
        assert_eq!(account.look(told(4, 0)), Gap { suppressed: 4, ..Gap::default() });
        assert_eq!(
            account.gap.to_string(),
            "12 suppressed (a CPU tells 100 a second of a rule, 1000 in all), 1 lost (the buffer was full, nobody read), \
             2 missed (overwritten before they were read)"
        );
    }
}
