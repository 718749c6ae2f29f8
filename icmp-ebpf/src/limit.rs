//! Step "limit": what a rule allows so much of, and no more.
//!
//! A packet has to be within all rates of its limit, which are asked in the order in which the rule has them. The first that it is
//! over decides, and those behind it are not asked; tokens that earlier ones have given are not given back. So who is over his
//! own rate takes nothing from what he shares with others, if the rule asks for that first.

use icmp_common::{
    bucket::{Ask, Place, Taken},
    limits::{MAX_RATES, PURSES, Rate},
};

use crate::{Frame, State, classify::Classifiable};

/// Whether a packet whose IP header begins at `at` is within a limit; `first` is the number of its first rate.
#[inline(always)]
pub(crate) fn is_within<Ip: Classifiable, F: Frame, S: State>(
    frame: &F,
    state: &mut S,
    at: usize,
    first: u32,
) -> bool {
    for number in first..first + MAX_RATES {
        let rates = state.setting(|config| &config.rates);
        let rate = state.table::<Rate>(rates + number * size_of::<Rate>() as u32).copied();
        let (Some(rate), Some(ip)) = (rate, frame.read::<Ip>(at)) else { return true };
        let tokens = if rate.is(Rate::BYTES) { ip.packet_length() as u32 } else { 1 };
        if !takes(state, &rate, ip.limit_key(&rate), tokens) {
            state.count_rule(rate.over_slot);
            return rate.is(Rate::PASS);
        }
        if rate.is(Rate::LAST) {
            break;
        }
    }
    true
}

/// Takes tokens out of the bucket with this key, or out of the purse that holds some of its tokens.
#[inline(always)]
fn takes<S: State>(state: &mut S, rate: &Rate, key: [u64; 2], tokens: u32) -> bool {
    let secret =
        [state.setting(|config| &config.bucket_secret[0]), state.setting(|config| &config.bucket_secret[1])];
    let place = Place::new(key, rate.seed, secret);
    if rate.quantum == 1 {
        return takes_at_once(state, rate, place, 1);
    }
    // The bucket's name in the purse: the tag, and bits of the line's hash that it does not share.
    let name = place.tag << 8 | place.line >> 24;
    let number = place.line % PURSES as u32;
    let purse = state.purse(number).map_or(0, |purse| *purse);
    let held = if (purse >> 32) as u32 == name { purse as u32 } else { 0 };
    let mut left = held.wrapping_sub(tokens);
    if held < tokens {
        let quanta = (tokens - held).div_ceil(rate.quantum);
        if !takes_at_once(state, rate, place, quanta) {
            return false;
        }
        left = left.wrapping_add(quanta.wrapping_mul(rate.quantum));
    }
    if let Some(purse) = state.purse(number) {
        *purse = u64::from(name) << 32 | u64::from(left);
    }
    true
}

/// Takes so many quanta out of a bucket.
#[inline(always)]
fn takes_at_once<S: State>(state: &mut S, rate: &Rate, place: Place, quanta: u32) -> bool {
    let mut ask = Ask {
        cost: rate.cost.wrapping_mul(u64::from(quanta)),
        span: rate.span,
        longest: state.setting(|config| &config.longest_span),
    };
    if rate.is(Rate::RANDOM) {
        // Half a token or one and a half, but only if there is as much as the latter.
        let more = u64::from(state.random() & 1) * ask.cost;
        ask.span = ask.span.saturating_sub(ask.cost - more);
        ask.cost = ask.cost / 2 + more;
    }
    match state.take(place, ask) {
        Taken::Yes => true,
        Taken::Evicting => {
            let slot = state.setting(|config| &config.evicted_slot);
            state.count_rule(slot);
            true
        }
        Taken::No => false,
    }
}
