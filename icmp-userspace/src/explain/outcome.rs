//! What came of a packet, and the words for it: what each step of its way decided, the rule, verdict and reason, the reply.

use icmp_common::{
    Family,
    counters::Counters,
    reason::{Reason, Step, Verdict},
};
use serde::Serialize;

use super::decode::Decoded;
use crate::policy::slots::{GUARD_TEXT, Line};

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
    pub rule: Option<&'a Line>,
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

/// A rule as it is named: by its number, with the preset that it is from, or what stands for it.
#[must_use]
pub fn rule_name(line: &Line) -> String {
    match (line.number, &*line.origin) {
        (Some(number), "file") => format!("rule {number}"),
        (Some(number), preset) => format!("rule {number} of the preset {preset}"),
        (None, _) => line.text.clone(),
    }
}

impl Outcome {
    /// The outcome in words. `lines` are the rules of the policy.
    #[must_use]
    pub fn explain<'a>(&self, lines: &'a [Line]) -> Explanation<'a> {
        let rule = self.rule.and_then(|slot| lines.iter().find(|line| line.slot == slot));
        let has_reply = matches!(self.verdict, Verdict::Answer | Verdict::Reject);
        Explanation {
            steps: self.steps(rule),
            rule,
            verdict: self.verdict.name(),
            reason: self.counted.map(|(_, reason)| reason.name()),
            explanation: self
                .counted
                .map_or("Not ICMP, or nothing that could be read: left to the stack.", |(_, reason)| {
                    reason.explanation()
                }),
            reply: has_reply.then(|| Decoded::of_frame(&self.frame)).flatten(),
        }
    }

    fn steps(&self, rule: Option<&Line>) -> Vec<Decision> {
        let decision = |step: Step, decision: String| Decision { step: step.name(), decision };
        let Some((family, reason)) = self.counted else {
            return vec![decision(Step::Parse, "not ICMP: left to the stack, and not counted".to_owned())];
        };
        let own = |step| (reason.step() == step).then(|| reason.explanation().to_owned());
        let parsed = own(Step::Parse).unwrap_or_else(|| "an ICMP message, whole".to_owned());
        let mut steps = vec![decision(Step::Parse, parsed)];
        // What is broken leaves before any rule is asked.
        if reason != Reason::BadHeader {
            let classified = rule.map_or_else(
                || "no rule was asked: permitted".to_owned(),
                |line| match line.number {
                    Some(_) => format!("{}: {}", rule_name(line), line.text),
                    None if line.text == GUARD_TEXT => {
                        "guard: permitted, because no rule reaches such messages without `force`".to_owned()
                    }
                    None => format!("{}: no rule matches", line.text),
                },
            );
            steps.push(decision(Step::Classify, classified));
        }
        for step in [Step::Answer, Step::Reject] {
            steps.extend(own(step).map(|text| decision(step, text)));
        }
        let by_rule = rule.map_or_else(String::new, |line| format!(", and for {}", rule_name(line)));
        let (verdict, reason) = (self.verdict.name(), reason.name());
        steps.push(decision(Step::Count, format!("{} {verdict}, {reason}{by_rule}", family.name())));
        steps
    }
}
