//! Policies swapped under load: each request of a flood meets one of two policies, and none is lost between them.

use anyhow::Result;

use super::{
    counts::{Counts, Drops},
    flood::{Flood, Instruments, PATIENCE},
    network::{Network, wait_until},
    summary::SwapRow,
};
use crate::say;

/// How often the policy is swapped under one flood; at the end the one without access list is in place.
pub(crate) const SWAPS: u32 = 30;

/// Everything that there is to account for.
#[derive(Clone, Copy)]
pub(crate) struct Account {
    /// Requests that went out.
    pub(crate) requests: u64,
    /// Replies that came back.
    pub(crate) replies: u64,
    /// What the server says of them.
    pub(crate) counts: Counts,
    /// What the veth pair says.
    pub(crate) drops: Drops,
}

impl Account {
    /// Whether there is nothing that is missing, and nothing that is there twice.
    pub(crate) const fn adds_up(&self) -> bool {
        let Self { requests, replies, counts, drops } = self;
        *requests == counts.program + counts.denied + drops.requests
            && counts.program == *replies + drops.replies
            && counts.stack == 0
    }
}

/// Floods the server while a policy that answers and one that denies take turns.
pub(crate) fn run(instruments: &mut Instruments, network: &Network, flood: Flood) -> Result<SwapRow> {
    say::step(&format!(
        "flood: {SWAPS} swaps between a policy that answers and one that denies, {}",
        flood.name()
    ));
    let policies = [network.with_rules("deny.toml", "deny icmp any any echo\n")?, network.policy()];
    let account = account(instruments, network, flood, || {
        policies.iter().cycle().take(SWAPS as usize).try_for_each(|policy| network.apply(policy))
    })?;
    Ok(SwapRow::new(flood, account))
}

/// Floods the server while policies are swapped, and accounts for everything.
pub(crate) fn account(
    instruments: &mut Instruments,
    network: &Network,
    flood: Flood,
    swap: impl FnOnce() -> Result<()>,
) -> Result<Account> {
    let (replies, counts, drops) = (instruments.replies()?, Counts::read(network)?, Drops::read(network)?);
    let (requests, ()) = instruments.flood_during(network, flood, |_| swap())?;
    let account = || -> Result<Account> {
        Ok(Account {
            requests,
            replies: instruments.replies()? - replies,
            counts: Counts::read(network)?.since(&counts),
            drops: Drops::read(network)?.since(&drops),
        })
    };
    // The last ones may still be on their way.
    wait_until(PATIENCE, || Ok(account()?.adds_up()))?;
    let account = account()?;
    instruments.pass_on_client(network)?;
    Ok(account)
}
