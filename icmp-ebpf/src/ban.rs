//! Part of step "limit": who is over a rate for too long is banned, which is to say that he is in the dynamic set `banned`.
//!
//! Since when a source has been over a rate a cell among the buckets remembers ([`icmp_common::bucket::lasts`]), and the bans lie in
//! a table of their own ([`icmp_common::bans`]). Both are of fixed size, and are looked at only where a policy bans. Served
//! addresses and the interface's own are never banned, nor do they belong to a prefix that is.

use icmp_common::{
    Family,
    bans::{BanLengths, Banned, MAX_BAN_LENGTHS, Source},
    bucket::{Lasting, Place, TICK},
    dynamic::Until,
    limits::{Penalty, Rate},
    tables::Destination,
};

use crate::{State, limit::secret};

/// Whether the policy bans anybody; if not, the kernel's verifier removes what follows.
#[inline(always)]
pub(crate) fn are_there<S: State>(state: &S) -> bool {
    state.setting(|config| &config.ban_lengths[0].length4) != 0
}

/// Whether an address, as words in memory order, is banned.
#[inline(always)]
pub(crate) fn is_banned<S: State>(state: &S, family: Family, address: [u64; 2]) -> bool {
    let now = Until::from_nanoseconds(state.now());
    for number in 0..MAX_BAN_LENGTHS {
        let lengths = state.setting(|config| &config.ban_lengths[number]);
        if lengths.length4 == 0 {
            break;
        }
        let source = source(family, address, &lengths);
        let place = Place::new(source.address, source.seed(), secret(state));
        if state.holds_ban(place, &source, now) {
            return !is_ours(state, family, address);
        }
    }
    false
}

/// Remembers that an address is over the rate that begins at a byte of the tables, and says for how many ticks it has been, if that
/// is long enough for a ban, and the address may be banned; else 0. It is [`State::is_over`] that is called.
#[inline(always)]
pub(crate) fn is_over<S: State>(state: &mut S, rate: u32, family: Family, address: [u64; 2]) -> u64 {
    let Some(rate) = state.table::<Rate>(rate) else { return 0 };
    let penalty = Penalty::from_number(rate.ban);
    let seed = rate.seed;
    let source = source(family, address, &lengths(rate));
    let place = Place::new(source.address, !seed, secret(state));
    let Lasting { ticks, evicting, .. } = state.lasts(place, penalty.pause());
    if evicting {
        let slot = state.setting(|config| &config.evicted_slot);
        state.count_rule(slot, 0);
    }
    if ticks < penalty.after_ticks() || is_ours(state, family, address) { 0 } else { ticks }
}

/// Bans an address that has been over the rate that begins at a byte of the tables for so many ticks. It is [`State::bans`] that is
/// called.
#[inline(always)]
pub(crate) fn bans<S: State>(state: &mut S, rate: u32, family: Family, address: [u64; 2], ticks: u64) {
    let Some(rate) = state.table::<Rate>(rate) else { return };
    let penalty = Penalty::from_number(rate.ban);
    let source = source(family, address, &lengths(rate));
    let over_slot = rate.over_slot;
    let now = state.now();
    let since = Until::from_nanoseconds(now.saturating_sub(ticks * TICK));
    // Rounded up, so that nobody comes out early.
    let end =
        Until::from_nanoseconds(now + u64::from(penalty.seconds) * 1_000_000_000 + 1_000_000_000 / 16 - 1);
    let banned = Banned { source, since: since.0, over_slot };
    let place = Place::new(source.address, source.seed(), secret(state));
    state.put_ban(place, banned, end, Until::from_nanoseconds(now));
}

/// By prefixes of which lengths a rate bans.
#[inline(always)]
const fn lengths(rate: &Rate) -> BanLengths {
    BanLengths {
        mask6: rate.mask6,
        mask4: rate.mask4,
        length4: rate.length4,
        length6: rate.length6,
        reserved: [0; 2],
    }
}

/// The prefix of one of these lengths that an address lies in.
#[inline(always)]
fn source(family: Family, [high, low]: [u64; 2], lengths: &BanLengths) -> Source {
    match family {
        Family::Ipv4 => Source::new(family, [high & u64::from(lengths.mask4), 0], lengths.length4),
        Family::Ipv6 => {
            Source::new(family, [high & lengths.mask6[0], low & lengths.mask6[1]], lengths.length6)
        }
    }
}

/// Whether an address is served, or the interface's own.
#[inline(always)]
fn is_ours<S: State>(state: &S, family: Family, address: [u64; 2]) -> bool {
    matches!(state.destination(family, address).destination(), Destination::Served | Destination::Own)
}
