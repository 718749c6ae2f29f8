//! Rules that log -> what is told of their packets; [`icmp_common::events`] has the layout.

use std::collections::BTreeMap;

use icmp_common::events::{Log, MAX_LOGGED};

use super::TooLarge;
use crate::policy::{
    Policy,
    acl::Action,
    slots::{Slots, over_text},
};

/// The rows of a policy's rules and their rates, by slot; none if no rule logs.
pub(super) fn rows(policy: &Policy, slots: &Slots) -> Result<Vec<Log>, TooLarge> {
    let mut rows = BTreeMap::new();
    let mut count = 0;
    for rule in &policy.acl.rules {
        let Some(each) = rule.options.log else { continue };
        let text = rule.to_string();
        let Some(slot) = slots.rule(&text) else { continue };
        // Rules with the same text are one.
        if rows.contains_key(&slot) {
            continue;
        }
        rows.insert(slot, Log { each, number: count });
        count += 1;
        let rates = if let Action::Limit(limit) = &rule.action { limit.rates.len() } else { 0 };
        let over = (0..rates).filter_map(|rate| slots.rule(&over_text(&text, rate)));
        // Who begins to be over a rate is not lost among packets: rates have a number of their own.
        rows.extend(over.map(|slot| (slot, Log { each: 1, number: count })));
        count += u32::from(rates > 0);
    }
    if count as usize > MAX_LOGGED {
        return Err(TooLarge::Logged(count as usize));
    }
    let mut all = vec![Log::default(); rows.last_key_value().map_or(0, |(last, _)| *last as usize + 1)];
    for (slot, row) in rows {
        all[slot as usize] = row;
    }
    Ok(all)
}
