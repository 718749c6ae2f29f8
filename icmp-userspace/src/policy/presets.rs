//! Presets: rule lists that policies name instead of repeating them. They follow the policy's own rules.

use super::{
    acl::{Origin, Rule},
    rules::{self, KnownSets},
};

/// A rule list with a name.
#[derive(Debug)]
pub struct Preset {
    /// Its name.
    pub name: &'static str,
    /// What it is for, in a few words.
    pub about: &'static str,
    /// Its rules, in the language of policies.
    pub text: &'static str,
}

impl Preset {
    /// Its rules.
    #[must_use]
    pub fn rules(&self) -> Vec<Rule> {
        let (mut rules, _) = rules::parse(self.text, Origin::Preset(self.name), &KnownSets::new());
        // Places in this file are none in the policy's.
        rules.iter_mut().for_each(|rule| rule.span = 0..0);
        rules
    }
}

/// All presets.
pub static PRESETS: [Preset; 6] = [
    Preset {
        name: "deprecated",
        about: "denies ICMP messages that RFC 6633 and RFC 6918 have retired",
        text: "
            deny icmp4 any any source-quench
            deny icmp4 any any alternate-address
            remark information and address mask requests
            deny icmp4 any any 15-18
            remark traceroute, conversion error, mobility, domain names, SKIP
            deny icmp4 any any 30-39
        ",
    },
    Preset {
        name: "rfc4890-host",
        about: "sorts ICMPv6 for a host as RFC 4890 4.4 recommends",
        text: "
            remark 4.4.1: must not be dropped
            permit icmp6 any any unreachable
            permit icmp6 any any packet-too-big
            permit icmp6 any any time-exceeded
            permit icmp6 any any parameter-problem {header, next-header, parameter-option}
            permit icmp6 any any {echo, echo-reply}
            permit icmp6 any any {mld-query, mld-report, mld-reduction, mld2-listener-report}
            permit icmp6 any any {nd-router-solicit, nd-router-advert, nd-ns, nd-na}
            permit icmp6 any any {ind-neighbor-solicit, ind-neighbor-advert}
            permit icmp6 any any {certification-path-solicitation, certification-path-advertisement}
            permit icmp6 any any 151-153
            remark experiments, and what has been reserved for extensions
            deny icmp6 any any {100, 101, 127, 200, 201, 255}
            remark what only routers, home agents and mobile nodes have a use for
            deny icmp6 any any router-renumbering
            deny icmp6 any any 144-147
            deny icmp6 any any experimental-mobility
            remark node information
            deny icmp6 any any {node-information-query, node-information-response}
            remark informational messages that nobody has been assigned
            deny icmp6 any any {162-199, 202-254}
        ",
    },
    Preset {
        name: "rfc4890-router",
        about: "sorts ICMPv6 for a router, and for what it forwards, as RFC 4890 4.3 recommends",
        text: "
            remark 4.3.1: must not be dropped
            permit icmp6 any any unreachable
            permit icmp6 any any packet-too-big
            permit icmp6 any any time-exceeded
            permit icmp6 any any parameter-problem {header, next-header, parameter-option}
            permit icmp6 any any {echo, echo-reply}
            remark 4.3.2: mobile nodes
            permit icmp6 any any 144-147
            remark 4.3.3: never forwarded, but the router's own
            permit icmp6 any any {mld-query, mld-report, mld-reduction, mld2-listener-report}
            permit icmp6 any any {nd-router-solicit, nd-router-advert, nd-ns, nd-na}
            permit icmp6 any any {ind-neighbor-solicit, ind-neighbor-advert}
            permit icmp6 any any {certification-path-solicitation, certification-path-advertisement}
            permit icmp6 any any 151-153
            remark 4.3.4: what nobody has been assigned; errors are the receiver's to judge
            deny icmp6 any any experimental-mobility
            deny icmp6 any any {162-199, 202-254}
            remark 4.3.5: node information, router renumbering, experiments, reserved numbers
            deny icmp6 any any {node-information-query, node-information-response}
            deny icmp6 any any router-renumbering
            deny icmp6 any any {100, 101, 127, 200, 201, 255}
        ",
    },
    Preset {
        name: "sane-errors",
        about: "denies errors about packets that their receiver has not sent (RFC 5927 4), and MTUs that no link may have",
        text: "
            remark the header that an error quotes has to have the error's receiver as its source
            deny icmp any any {unreachable, packet-too-big, time-exceeded, parameter-problem} quoted-source mismatch force
            deny icmp4 any any {source-quench, redirect} quoted-source mismatch
            remark less than every link takes: RFC 791, RFC 8200 5; 0 is a router's that knows no MTU (RFC 1191 5)
            deny icmp4 any any packet-too-big quoted-mtu 1-67 force
            deny icmp6 any any packet-too-big quoted-mtu 0-1279 force
        ",
    },
    Preset {
        name: "no-redirects",
        about: "denies redirects of both families, also those that the guard would let through",
        text: "
            deny icmp any any redirect force
        ",
    },
    Preset {
        name: "flood-guard",
        about: "limits echo requests, errors and everything else apart, so that no flood of one starves another",
        text: "
            remark echo requests
            limit 100/s burst 200 per source, 20000/s per destination, 100000/s per rule icmp any any echo
            remark errors; those of Path MTU discovery are never limited, nor are Neighbour Discovery and multicast membership
            limit 20/s burst 50 per source, 1000/s per destination, 10000/s per rule icmp any any {unreachable, time-exceeded, parameter-problem}
            remark everything else: replies to the host's own pings, and what nobody needs
            limit 100/s burst 200 per source, 5000/s per destination, 20000/s per rule icmp any any
        ",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_rules() {
        for preset in &PRESETS {
            let (rules, errors) = rules::parse(preset.text, Origin::Preset(preset.name), &KnownSets::new());
            assert_eq!(errors, [], "{}", preset.name);
            assert_eq!(rules.len(), preset.rules().len());
            assert!(!rules.is_empty());
        }
    }

    #[test]
    fn c30_c31_denies_what_is_deprecated() {
        let texts: Vec<String> = PRESETS[0].rules().iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "deny icmp4 any any source-quench",
                "deny icmp4 any any alternate-address",
                "deny icmp4 any any 15-18",
                "deny icmp4 any any 30-39",
            ]
        );
    }

    #[test]
    fn c33_denies_redirects() {
        assert_eq!(PRESETS[4].rules()[0].to_string(), "deny icmp any any redirect force");
    }
}
