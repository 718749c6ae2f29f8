//! Access lists: whatever policy and packet chance gives, the compiled tables decide as a plain walk of the rules does, in the host
//! build and in the loaded program (C83-C87).

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use icmp_common::{
    Family,
    dynamic::{Membership, Until},
    wire::ipv6::words,
};
use icmp_ebpf::{Reason, State as _, Verdict};
use icmp_tests::{
    host::{Outcome, handle, handle_in, interface, tables},
    loaded::Loaded,
    packets::{Packet, address, packet},
    rules::{DYNAMIC, Decision, Fate, RESPOND, decide, policy},
};
use icmp_userspace::{
    explain::host::HostState,
    policy::{
        Policy,
        acl::{Action, Address, DefaultAction, Kinds, Prohibition, Rule},
        compile::{Interface, Tables},
        file,
        prefix::Prefix,
        slots::{Slots, served_text},
    },
};
use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    test_runner::{TestError, TestRunner},
};

/// The moment at which packets come, in units of [`Until`].
const NOW: u32 = 1600;

/// How often what decided about packets was of each sort.
#[derive(Default)]
struct Hits(BTreeMap<&'static str, u32>);

/// All sorts.
const SORTS: [&str; 26] = [
    "default permit",
    "default deny",
    "guard",
    "permit",
    "deny",
    "reject",
    "reject with net-prohibited",
    "reject with host-prohibited",
    "limit",
    "both families",
    "IPv4",
    "IPv6",
    "prefix",
    "wildcard mask",
    "set",
    "dynamic set",
    "type",
    "several types",
    "code",
    "fragments",
    "length",
    "ttl",
    "dscp",
    "vlan",
    "monitor",
    "force",
];

impl Hits {
    fn add(&mut self, decision: &Decision<'_>) {
        let rule = match decision {
            Decision::Rule(rule) => *rule,
            Decision::Default(DefaultAction::Permit) => return self.count("default permit", true),
            Decision::Default(DefaultAction::Deny) => return self.count("default deny", true),
            Decision::Guard => return self.count("guard", true),
        };
        let Rule { action, source, destination, kinds, options, .. } = rule;
        let address = |is: fn(&Address) -> bool| is(source) || is(destination);
        let ranges: Vec<_> = kinds
            .iter()
            .filter_map(|kinds| match kinds {
                Kinds::These(ranges) => Some(ranges),
                _ => None,
            })
            .collect();
        self.count("permit", matches!(action, Action::Permit));
        self.count("deny", matches!(action, Action::Deny));
        self.count("reject", *action == Action::Reject(Prohibition::Communication));
        self.count("reject with net-prohibited", *action == Action::Reject(Prohibition::Net));
        self.count("reject with host-prohibited", *action == Action::Reject(Prohibition::Host));
        self.count("limit", matches!(action, Action::Limit(_)));
        let covers = Family::ALL.map(|family| rule.protocol.covers(family));
        self.count("both families", covers == [true; 2]);
        self.count("IPv4", covers == [true, false]);
        self.count("IPv6", covers == [false, true]);
        self.count("prefix", address(|address| matches!(address, Address::Prefix(_))));
        self.count("wildcard mask", address(|address| matches!(address, Address::Wildcard { .. })));
        self.count("set", address(|address| matches!(address, Address::Set(name) if name != DYNAMIC)));
        self.count(
            "dynamic set",
            address(|address| matches!(address, Address::Set(name) if name == DYNAMIC)),
        );
        self.count("type", !ranges.is_empty());
        self.count("several types", ranges.iter().any(|ranges| ranges.len() > 1));
        self.count("code", ranges.iter().any(|ranges| ranges.iter().any(|range| range.codes != [0, 255])));
        self.count("fragments", kinds.contains(&Kinds::Fragments));
        self.count("length", options.length.is_some());
        self.count("ttl", options.ttl.is_some());
        self.count("dscp", options.dscp.is_some());
        self.count("vlan", options.vlan.is_some());
        self.count("monitor", options.monitor);
        self.count("force", options.force);
    }

    fn count(&mut self, sort: &'static str, is_it: bool) {
        *self.0.entry(sort).or_default() += u32::from(is_it);
    }

    /// Demands that there were so many of each sort, or else nothing has been shown about it.
    fn assert_at_least(&self, least: u32) {
        for sort in SORTS {
            let hits = self.0.get(sort).copied().unwrap_or(0);
            assert!(hits >= least, "{sort} decided {hits} times only: {:?}", self.0);
        }
    }
}

/// What the host owns besides the interface's addresses.
const ELSEWHERE: [&str; 4] = ["192.0.2.3/32", "192.0.3.0/30", "2001:db8::5/128", "2001:db8:1::/48"];

/// A policy with its slots and tables.
struct Compiled {
    policy: Policy,
    slots: Slots,
    tables: Tables,
}

impl Compiled {
    fn new(text: &str) -> Self {
        let policy = file::parse(text).unwrap_or_else(|errors| panic!("{errors:#?} in {text}"));
        let slots = Slots::assign(&policy, &Slots::default()).unwrap();
        let elsewhere = ELSEWHERE.map(|prefix| prefix.parse().unwrap()).to_vec();
        let tables = Tables::compile(&policy, &Interface { elsewhere, ..interface() }, &slots).unwrap();
        Self { policy, slots, tables }
    }

    /// Demands that the numbers of classes tell whose an address is and who may ask, whatever the rules tell apart.
    fn check_ranks(&self, address: IpAddr) {
        let state = HostState::new(&self.tables);
        let (family, numbers) = match address {
            IpAddr::V4(address) => (Family::Ipv4, [u32::from_ne_bytes(address.octets()).into(), 0]),
            IpAddr::V6(address) => {
                let octets = address.octets();
                let (halves, _) = octets.as_chunks();
                (Family::Ipv6, words([halves[0], halves[1]]))
            }
        };
        let ranks = self.tables.config.ranks[family as usize];
        let class = state.destination(family, numbers).class();
        let is_in =
            |prefixes: &[Prefix]| prefixes.iter().any(|prefix| prefix.contains(Prefix::host(address)));
        let own = interface().addresses.iter().any(|(own, _)| *own == address);
        let host = own || is_in(&ELSEWHERE.map(|prefix| prefix.parse().unwrap()));
        assert_eq!((class >= ranks.own, class >= ranks.host), (own, host), "{address}");
        let probes = is_in(&self.policy.respond.probe);
        assert_eq!(state.source(family, numbers) >= ranks.probing, probes, "{address}");
    }

    /// The slots that count a packet: one, or none where the policy says nothing about the packet's family.
    fn counted(&self, decision: &Decision<'_>, family: Family) -> Vec<u32> {
        let concerned = self.policy.acl.rules.iter().any(|rule| rule.kinds[family as usize] != Kinds::None);
        if !concerned && *decision == Decision::Default(DefaultAction::Permit) {
            return Vec::new();
        }
        vec![self.slots.rule(&decision.to_string()).unwrap()]
    }
}

/// What is wrong with an outcome, given the fate of the packet and what would become of it without any rules. What exactly an error
/// says is for `reject.rs`.
fn fault(fate: Fate, packet: &Packet, outcome: &Outcome, without_rules: &Outcome) -> Option<String> {
    let reason = outcome.counted.map(|(_, reason)| reason);
    let unchanged = outcome.frame == packet.frame;
    let right = match fate {
        Fate::Permitted => outcome == without_rules,
        Fate::Denied => reason == Some(Reason::Denied) && outcome.verdict == Verdict::Deny && unchanged,
        Fate::Rejected(prohibition) => match reason {
            Some(Reason::RejectedSilently) => outcome.verdict == Verdict::Deny && unchanged,
            Some(Reason::Rejected) => {
                let header = match packet.family {
                    Family::Ipv4 => 20,
                    Family::Ipv6 => 40,
                };
                let ip = packet.frame.len() - usize::from(packet.length);
                let expected = match packet.family {
                    Family::Ipv4 => [3, prohibition as u8],
                    Family::Ipv6 => [1, 1],
                };
                outcome.frame[ip + header..ip + header + 2] == expected
            }
            _ => false,
        },
    };
    (!right).then(|| format!("{fate:?}, but {outcome:02x?}"))
}

/// What is in the dynamic set, until when.
fn members() -> impl Strategy<Value = HashMap<IpAddr, Until>> {
    let until = select(vec![Until(NOW - 1), Until(NOW), Until(NOW + 1), Until::FOREVER]);
    vec((address(), until), 0..24).prop_map(|members| members.into_iter().collect())
}

fn octets(address: &IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}

/// Fails with what was wrong, and of all the random input the policy alone.
fn tell<T: std::fmt::Debug>(error: TestError<T>, policy: impl FnOnce(T) -> String) -> ! {
    match error {
        TestError::Fail(reason, input) => panic!("{reason}\nby the policy\n{}", policy(input)),
        TestError::Abort(reason) => panic!("{reason}"),
    }
}

#[test]
fn c83_c87_compiled_tables_decide_as_a_walk_of_the_rules_does() {
    let base = tables(RESPOND);
    let mut hits = Hits::default();
    let config = ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() };
    let strategy = (policy(), vec(packet(), 60), members());
    let hits_of = std::cell::RefCell::new(&mut hits);
    let outcome = TestRunner::new(config).run(&strategy, |(text, packets, members)| {
        let compiled = Compiled::new(&text);
        let number = compiled.slots.set(DYNAMIC).unwrap() as usize;
        for packet in &packets {
            compiled.check_ranks(packet.source);
            compiled.check_ranks(packet.destination);
            let is_in = |set: &str, address| {
                set == DYNAMIC && members.get(&address).is_some_and(|until| *until > Until(NOW))
            };
            let decision = decide(&compiled.policy, packet, is_in);
            let mut state = HostState::new(&compiled.tables);
            state.now = u64::from(NOW) * 62_500_000;
            state.members = members
                .iter()
                .map(|(address, until)| {
                    let mut membership = Membership::NONE;
                    membership.until[number] = until.0;
                    (octets(address), membership)
                })
                .collect();
            let outcome = handle_in(&mut state, &packet.frame);
            let fault = fault(decision.fate(), packet, &outcome, &handle(&base, &packet.frame));
            prop_assert!(
                fault.is_none(),
                "{decision} decides about {packet:?}: {}",
                fault.unwrap_or_default()
            );
            let mut expected = compiled.counted(&decision, packet.family);
            expected.extend(served(&compiled, packet, &outcome));
            let decided: Vec<u32> = state.rules.iter().map(|(slot, _)| *slot).collect();
            prop_assert_eq!(decided, expected, "{} decides about {:?}", decision, packet);
            hits_of.borrow_mut().add(&decision);
        }
        Ok(())
    });
    if let Err(error) = outcome {
        tell(error, |(text, ..)| text);
    }
    hits.assert_at_least(10);
}

/// Where an answer is counted for the prefix that it was given for: the longest one around its destination.
fn served(compiled: &Compiled, packet: &Packet, outcome: &Outcome) -> Option<u32> {
    outcome.counted.filter(|(_, reason)| *reason == Reason::Echo)?;
    let is_own = interface().addresses.iter().any(|(own, _)| *own == packet.destination);
    let around = compiled
        .policy
        .respond
        .prefixes
        .iter()
        .filter(|prefix| prefix.contains(Prefix::host(packet.destination)));
    let prefix = if is_own { None } else { Some(*around.max_by_key(|prefix| prefix.length()).unwrap()) };
    Some(compiled.slots.rule(&served_text(prefix)).unwrap())
}

/// The same with the loaded program, whose dynamic sets are empty, and fewer policies.
#[test]
#[ignore = "needs root and BPF"]
fn c83_c87_the_loaded_program_decides_as_a_walk_of_the_rules_does() {
    let base = tables(RESPOND);
    let mut hits = Hits::default();
    let config = ProptestConfig {
        cases: 40,
        failure_persistence: None,
        max_shrink_iters: 100,
        ..ProptestConfig::default()
    };
    let hits_of = std::cell::RefCell::new(&mut hits);
    let outcome = TestRunner::new(config).run(&(policy(), vec(packet(), 100)), |(text, packets)| {
        let compiled = Compiled::new(&text);
        let mut loaded = Loaded::new(&compiled.tables);
        let mut counts: BTreeMap<u32, u64> = compiled.slots.rules().map(|(_, slot)| (slot, 0)).collect();
        for packet in &packets {
            let decision = decide(&compiled.policy, packet, |_, _| false);
            let outcome = loaded.run(&packet.frame);
            let fault = fault(decision.fate(), packet, &outcome, &handle(&base, &packet.frame));
            prop_assert!(
                fault.is_none(),
                "{decision} decides about {packet:?}: {}",
                fault.unwrap_or_default()
            );
            if let Some(slot) = served(&compiled, packet, &outcome) {
                *counts.entry(slot).or_default() += 1;
            }
            // Errors, too, are the same to the last byte.
            prop_assert_eq!(outcome, handle(&compiled.tables, &packet.frame));
            for slot in compiled.counted(&decision, packet.family) {
                *counts.entry(slot).or_default() += 1;
            }
            hits_of.borrow_mut().add(&decision);
        }
        let found = loaded.rules();
        for (text, slot) in compiled.slots.rules() {
            prop_assert_eq!(found.slot(slot), counts[&slot], "{}", text);
        }
        Ok(())
    });
    if let Err(error) = outcome {
        tell(error, |(text, _)| text);
    }
    for sort in ["default permit", "default deny", "guard", "permit", "deny", "limit", "type", "set"] {
        assert!(hits.0[sort] > 0, "{sort} decided never: {:?}", hits.0);
    }
}
