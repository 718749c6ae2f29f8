//! Step "limit": what a rule allows so much of, and no more.
//!
//! A packet has to be within all rates of its limit, which are asked in the order in which the rule has them. The first that it is
//! over decides, and those behind it are not asked; tokens that earlier ones have given are not given back. So who is over his
//! own rate takes nothing from what he shares with others, if the rule asks for that first.

use icmp_common::{
    bucket::{Ask, Lasting, Place, Taken},
    limits::{MAX_RATES, PAUSE, Purse, Rate, most_of_random},
};

use crate::{
    Frame, Side, State, ban,
    classify::Classifiable,
    tell::{logs, note_over},
};

/// Whether a packet whose IP header begins at `at` is within a limit; `first` is the number of its first rate.
#[inline(always)]
pub(crate) fn is_within<Ip: Classifiable, F: Frame, S: State>(
    frame: &F,
    state: &mut S,
    at: usize,
    first: u32,
) -> bool {
    for number in first..first + MAX_RATES {
        let place = state.setting(|config| &config.rates) + number * size_of::<Rate>() as u32;
        let (Some(rate), Some(ip)) = (state.table::<Rate>(place), frame.read::<Ip>(at)) else { return true };
        let (key, flags, over_slot, bans) = (ip.limit_key(rate), rate.flags, rate.over_slot, rate.ban != 0);
        if !state.takes(place, key, ip.packet_length() as u32) {
            state.count_rule(over_slot, ip.packet_length() as u32);
            if logs(state) && flags & Rate::LOG != 0 && state.begins(place, key) {
                note_over(frame, state, over_slot);
            }
            if ban::are_there(state)
                && bans
                && let Some(ip) = frame.read::<Ip>(at)
            {
                let source = ip.address(Side::Source);
                let ticks = state.is_over(place, Ip::FAMILY, source);
                if ticks != 0 {
                    state.bans(place, Ip::FAMILY, source, ticks);
                }
            }
            return flags & Rate::PASS != 0;
        }
        if flags & Rate::LAST != 0 {
            break;
        }
    }
    true
}

/// Takes what a packet of some length costs out of a bucket, by the rate that begins at a byte of the tables. It is [`State::takes`]
/// that is called.
#[inline(always)]
pub(crate) fn takes<S: State>(state: &mut S, rate: u32, key: [u64; 2], length: u32) -> bool {
    let Some(rate) = state.table::<Rate>(rate).copied() else { return false };
    takes_cost(state, &rate, key, rate.cost_of(length as usize))
}

/// Takes what a packet costs, in ticks, out of the bucket with this key, or out of the purse that holds some of its tokens.
#[inline(always)]
fn takes_cost<S: State>(state: &mut S, rate: &Rate, key: [u64; 2], cost: u64) -> bool {
    let place = Place::new(key, rate.seed, secret(state));
    if rate.quantum == 0 {
        return takes_at_once(state, rate, place, cost);
    }
    let Some(purse) = state.purse(place).copied() else { return false };
    let is_ours = purse.line == place.line && purse.tag == place.tag;
    let held = if is_ours { purse.credit } else { 0 };
    let mut left = held.wrapping_sub(cost);
    if held < cost {
        let more = rate.quantum.max(cost - held);
        if !takes_at_once(state, rate, place, more) {
            return false;
        }
        left = left.wrapping_add(more);
        if !is_ours && purse.credit != 0 {
            state.give_back(Place { line: purse.line, tag: purse.tag }, purse.credit);
        }
    }
    if let Some(purse) = state.purse(place) {
        *purse = Purse { line: place.line, tag: place.tag, credit: left };
    }
    true
}

/// Takes so many ticks out of a bucket.
#[inline(always)]
fn takes_at_once<S: State>(state: &mut S, rate: &Rate, place: Place, cost: u64) -> bool {
    let mut ask = Ask { cost, needed: cost, span: rate.span };
    if rate.is(Rate::RANDOM) {
        let more = u64::from(state.random() & 1) * cost;
        ask = Ask { cost: cost / 2 + more, needed: most_of_random(cost), ..ask };
    }
    match state.take(place, ask) {
        Taken::Yes => true,
        Taken::Evicting => {
            let slot = state.setting(|config| &config.evicted_slot);
            state.count_rule(slot, 0);
            true
        }
        Taken::No => false,
    }
}

/// Whether somebody with this key begins to be over the rate that begins at a byte of the tables: he was not for some seconds. It is
/// [`State::begins`] that is called.
#[inline(always)]
pub(crate) fn begins<S: State>(state: &mut S, rate: u32, key: [u64; 2]) -> bool {
    let Some(seed) = state.table::<Rate>(rate).map(|rate| rate.seed) else { return false };
    // Neither where the bucket is nor where it is remembered for bans.
    let place = Place::new(key, seed.rotate_left(32), secret(state));
    let Lasting { begins, evicting, .. } = state.lasts(place, PAUSE);
    if evicting {
        let slot = state.setting(|config| &config.evicted_slot);
        state.count_rule(slot, 0);
    }
    begins
}

/// By which keys are hashed.
#[inline(always)]
pub(crate) fn secret<S: State>(state: &S) -> [u64; 2] {
    [state.setting(|config| &config.bucket_secret[0]), state.setting(|config| &config.bucket_secret[1])]
}
