//! What came of a packet, and the words for it: what each step of its way decided, the rule, verdict and reason, the reply.

use icmp_common::{
    Family,
    counters::Counters,
    reason::{Reason, Step, Verdict},
};
use serde::Serialize;

use crate::{
    observe::decode::Decoded,
    policy::slots::{self, GUARD_TEXT, Line},
};

/// What came of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The verdict.
    pub verdict: Verdict,
    /// Where it was counted; `None` for what is not ICMP.
    pub counted: Option<(Family, Reason)>,
    /// The slot of the rule that decided; `None` if none was asked.
    pub rule: Option<u32>,
    /// The frame afterwards.
    pub frame: Vec<u8>,
}

/// An outcome in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation<'a> {
    /// What each step decided, in their order.
    pub steps: Vec<Decision>,
    /// The rule that decided; `None` if none was asked.
    pub rule: Option<Rule<'a>>,
    /// The verdict.
    pub verdict: &'static str,
    /// The reason; `None` for what is not ICMP.
    pub reason: Option<&'static str>,
    /// What that means.
    pub explanation: &'static str,
    /// What is sent back.
    pub reply: Option<Decoded>,
}

/// What a step decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// The step.
    pub step: &'static str,
    /// Its decision.
    pub decision: String,
}

/// Where a packet was counted, by what the counters were before and after it.
#[must_use]
pub fn counted(before: &Counters, after: &Counters) -> Option<(Family, Reason)> {
    let reasons = |family| Reason::ALL.iter().map(move |reason| (family, *reason));
    let mut all = Family::ALL.into_iter().flat_map(reasons);
    all.find(|(family, reason)| before.get(*family, *reason) != after.get(*family, *reason))
}

/// A rule, or what stands for the packets that no rule decides about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Rule<'a> {
    /// Its number, if it is one.
    pub number: Option<u32>,
    /// Where it comes from: `file`, the name of a preset, or `built-in`.
    pub origin: &'a str,
    /// Its canonical text.
    pub text: &'a str,
}

impl Rule<'_> {
    /// What it is called: by its number, with the preset that it is from.
    #[must_use]
    pub fn name(&self) -> String {
        slots::rule_name(self.number, self.origin, self.text)
    }

    /// What the rules say, if this one decides.
    fn decision(&self) -> String {
        match (self.number, self.text) {
            (Some(_), text) => format!("{}: {text}", self.name()),
            (None, GUARD_TEXT) => {
                "guard: no rule reaches such messages without `force`, nor does the default".to_owned()
            }
            (None, text) => format!("{text}: no rule matches, or none that reaches such messages"),
        }
    }
}

impl Outcome {
    /// The outcome in words. `packet` is what came, `lines` are the rules of the policy.
    #[must_use]
    pub fn explain<'a>(&self, packet: Option<&Decoded>, lines: &'a [Line]) -> Explanation<'a> {
        let line = self.rule.and_then(|slot| lines.iter().find(|line| line.slot == slot));
        let rule = line.map(|Line { number, origin, text, .. }| Rule { number: *number, origin, text });
        let has_reply = matches!(self.verdict, Verdict::Answer | Verdict::Reject);
        let not_icmp = "Not ICMP, or nothing that could be read: left to the stack, and not counted.";
        Explanation {
            steps: self.steps(
                packet.is_some_and(|packet| packet.fragment),
                rule,
                line.is_some_and(Line::limits),
            ),
            rule,
            verdict: self.verdict.name(),
            reason: self.counted.map(|(_, reason)| reason.name()),
            explanation: self.counted.map_or(not_icmp, |(_, reason)| reason.explanation()),
            reply: has_reply.then(|| Decoded::of_frame(&self.frame)).flatten(),
        }
    }

    fn steps(&self, later_fragment: bool, rule: Option<Rule<'_>>, limits: bool) -> Vec<Decision> {
        let decision =
            |step: Step, decision: &str| Decision { step: step.name(), decision: decision.to_owned() };
        let Some((family, reason)) = self.counted else {
            return vec![decision(Step::Parse, "nothing for icmpctl")];
        };
        let parsed = match (reason.step(), later_fragment) {
            _ if reason == Reason::BadHeader => "broken",
            _ if matches!(reason, Reason::Traceroute | Reason::TracerouteOverLimit) => {
                "UDP to a port that traceroute sends to"
            }
            (Step::Parse, _) => "the stack's, unless a rule drops it",
            (_, true) => "a fragment of an ICMP message, not the first",
            (_, false) => "an ICMP message",
        };
        let mut steps = vec![decision(Step::Parse, parsed)];
        // What is broken leaves before any rule is asked.
        if reason != Reason::BadHeader {
            let classified = rule.map_or_else(|| "no rule is asked".to_owned(), |rule| rule.decision());
            steps.push(decision(Step::Classify, &classified));
        }
        if limits && reason.step() != Step::Limit {
            steps.push(decision(
                Step::Limit,
                "goes on: within all rates of the rule, or over one that only counts",
            ));
        }
        match (reason.step(), reason) {
            (Step::Limit, _) => steps.push(decision(Step::Limit, "over one of the rule's rates")),
            (Step::Answer, Reason::Traceroute) => steps.push(decision(Step::Answer, "the error is made")),
            (Step::Answer, _) if self.verdict == Verdict::Answer => {
                steps.push(decision(Step::Answer, "the reply is made"));
            }
            (Step::Answer, _) => steps.push(decision(Step::Answer, "not answered")),
            (Step::Reject, Reason::Rejected) => steps.push(decision(Step::Reject, "the error is made")),
            (Step::Reject, _) => steps.push(decision(Step::Reject, "no error is sent")),
            (Step::Parse | Step::Classify | Step::Count, _) => {}
        }
        let rule = rule.map_or_else(String::new, |rule| format!(", {}", rule.name()));
        let (verdict, reason) = (self.verdict.name(), reason.name());
        steps.push(decision(Step::Count, &format!("{}, {verdict}, reason {reason}{rule}", family.name())));
        steps
    }
}
