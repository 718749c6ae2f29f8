//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! Sums are 64 bits wide and in the machine's own byte order: the ones' complement sum is indifferent to it
//! (RFC 1071, 2B), so bytes are turned around once at the end, or, where a sum is only compared, never.

/// Adds up `bytes` as the 32-bit words they hold in memory order; a short last word is filled with zeros.
///
/// 64 bits can't overflow below 16 GiB of input. Feed the result, or the sum of several results that began at
/// even offsets, to [`fold`].
#[inline(always)]
#[must_use]
pub fn sum(bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(4);
    let mut sum = 0_u64;
    for word in &mut words {
        sum += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
    }
    let mut last = [0; 4];
    for (to, from) in last.iter_mut().zip(words.remainder()) {
        *to = *from;
    }
    sum + u64::from(u32::from_ne_bytes(last))
}

/// Folds a sum to 16 bits with end-around carry; not complemented, in the byte order of the sum.
#[inline(always)]
#[must_use]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    ((sum >> 16) + (sum & 0xffff)) as u16
}

/// Whether data whose checksum field is part of `sum` is intact: all of it adds up to ones' complement zero, which is to
/// say that the sum is a multiple of 65,535. One multiplication tells what [`fold`] takes a dozen instructions for.
///
/// Linux refuses a sum of plain zero, which only data has that is zero throughout, its checksum included. Neither an
/// IPv4 header nor an echo request is, so that here it need not be asked for.
#[inline(always)]
#[must_use]
pub const fn verifies(sum: u64) -> bool {
    /// The multiplicative inverse of 65,535 modulo 2^64: it takes multiples, and them alone, to their quotients
    /// (Warren, Hacker's Delight, 10-17).
    const INVERSE: u64 = 0xfffe_fffe_fffe_ffff;
    const _: () = assert!(INVERSE.wrapping_mul(0xffff) == 1);
    sum.wrapping_mul(INVERSE) <= u64::MAX / 0xffff
}

/// The checksum after one 16-bit word under it changed from `old` to `new`; all three in the same byte order,
/// whichever it is.
///
/// RFC 1624, equation 3, with the end-around carry: `HC' = ~(~HC + ~m + m')`. One case remains in which this
/// differs from a full computation: where every other word is zero too, the right result is `0xffff`, and this
/// function, which can't see the other words, says `0`.
#[inline(always)]
#[must_use]
pub const fn update(checksum: u16, old: u16, new: u16) -> u16 {
    // First the change, which is mostly a constant; the sum of two words and the carry of it is one word.
    !add(!checksum, add(!old, new))
}

/// The ones' complement sum of two words.
#[inline(always)]
const fn add(one: u16, other: u16) -> u16 {
    let sum = one as u32 + other as u32;
    ((sum >> 16) + sum) as u16
}
