//! Step "limit": what a rule allows so much of, and no more.
//!
//! A packet has to be within all rates of its limit, which are asked in the order in which the rule has them. The first that it is
//! over decides, and those behind it are not asked; tokens that earlier ones have given are not given back. So who is over his
//! own rate takes nothing from what he shares with others, if the rule asks for that first.

use icmp_common::{
    Family,
    bucket::{Ask, Lasting, Place, Taken},
    events::Event,
    limits::{MAX_RATES, PAUSE, Purse, Rate, most_of_random},
    wire::{ipv4::Ipv4, ipv6::Ipv6},
};

use crate::{Frame, Side, State, ban, classify::Classifiable, tell::logs};

/// Whether a packet whose IP header begins at `at` is within a limit, or may go on nevertheless; `first` is the number of its first
/// rate.
#[inline(always)]
pub(crate) fn is_within<Ip: Classifiable, F: Frame, S: State>(
    frame: &F,
    state: &mut S,
    at: usize,
    first: u32,
) -> bool {
    let mut over = Over::MORE;
    for number in first..first + MAX_RATES {
        over = state.over(frame, at, Ip::FAMILY, number);
        if over != Over::MORE {
            break;
        }
    }
    if over == Over::NONE || over == Over::MORE {
        return true;
    }
    if logs(state) && over.is(Rate::LOG) && state.begins(frame, at, Ip::FAMILY, over.place()) {
        let slot = state.table::<Rate>(over.place()).map_or(0, |rate| rate.over_slot);
        state.note(frame, slot, Event::OVER);
    }
    if ban::are_there(state)
        && over.is(Over::BANS)
        && let Some(ip) = frame.read::<Ip>(at)
    {
        let source = ip.address(Side::Source);
        let ticks = state.is_over(over.place(), Ip::FAMILY, source);
        if ticks != 0 {
            state.bans(over.place(), Ip::FAMILY, source, ticks);
        }
    }
    over.is(Rate::PASS)
}

/// Whether a packet is over a rate. If it is: the byte of the tables at which the rate begins, and, in the bits that are free because a
/// rate takes 64 bytes, its flags.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Over(pub(crate) u32);

impl Over {
    /// The packet is within it, and it is the last one of its limit.
    pub(crate) const NONE: Self = Self(0);
    /// The packet is within it, and the next one has to be asked.
    pub(crate) const MORE: Self = Self(1);
    /// The rate bans; no rate has this flag, nor does any need it here.
    const BANS: u16 = Rate::LAST;

    #[inline(always)]
    fn new(place: u32, rate: &Rate) -> Self {
        let bans = u16::from(rate.ban != 0) * Self::BANS;
        let flags = u32::from(rate.flags & (Rate::PASS | Rate::LOG) | bans);
        // Tables of addresses come before those of rates: none begins at byte 0.
        Self(place | flags)
    }

    #[inline(always)]
    const fn place(self) -> u32 {
        self.0 & !(size_of::<Rate>() as u32 - 1)
    }

    #[inline(always)]
    const fn is(self, flag: u16) -> bool {
        self.0 & flag as u32 != 0
    }
}

const _: () = assert!((Rate::PASS | Rate::LOG | Over::BANS) < size_of::<Rate>() as u16);

/// Takes what a packet costs out of a bucket, by the rate of some number; if there are not tokens enough, that is counted. It is
/// [`State::over`] that is called.
#[inline(always)]
pub(crate) fn over<F: Frame, S: State>(
    frame: &F,
    state: &mut S,
    at: usize,
    family: Family,
    number: u32,
) -> Over {
    let place = state.setting(|config| &config.rates) + number * size_of::<Rate>() as u32;
    let Some(rate) = state.table::<Rate>(place).copied() else { return Over::NONE };
    let Some((key, length)) = asked(frame, at, family, &rate) else { return Over::NONE };
    if takes(state, &rate, key, rate.cost_of(length)) {
        return if rate.is(Rate::LAST) { Over::NONE } else { Over::MORE };
    }
    state.count_rule(rate.over_slot, length as u32);
    Over::new(place, &rate)
}

/// The key of the bucket that a packet takes from by a rate, and the packet's length.
#[inline(always)]
fn asked<F: Frame>(frame: &F, at: usize, family: Family, rate: &Rate) -> Option<([u64; 2], usize)> {
    Some(match family {
        Family::Ipv4 => {
            let ip = frame.read::<Ipv4>(at)?;
            (ip.limit_key(rate), ip.packet_length())
        }
        Family::Ipv6 => {
            let ip = frame.read::<Ipv6>(at)?;
            (ip.limit_key(rate), ip.packet_length())
        }
    })
}

/// Takes what a packet costs, in ticks, out of the bucket with this key, or out of the purse that holds some of its tokens.
#[inline(always)]
fn takes<S: State>(state: &mut S, rate: &Rate, key: [u64; 2], cost: u64) -> bool {
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

/// Whether whoever a packet counts for begins to be over the rate that begins at a byte of the tables: he was not for some seconds. It
/// is [`State::begins`] that is called.
#[inline(always)]
pub(crate) fn begins<F: Frame, S: State>(
    frame: &F,
    state: &mut S,
    at: usize,
    family: Family,
    rate: u32,
) -> bool {
    let Some(rate) = state.table::<Rate>(rate).copied() else { return false };
    let Some((key, _)) = asked(frame, at, family, &rate) else { return false };
    // Neither where the bucket is nor where it is remembered for bans.
    let place = Place::new(key, rate.seed.rotate_left(32), secret(state));
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
