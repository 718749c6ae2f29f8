//! The layout of the buckets that limit how many ICMP errors are sent: to one source, and in all (RFC 1812 4.3.2.8,
//! RFC 4443 2.4 (f)).
//!
//! They lie in lines of [`crate::bucket`]: first those for sources, then one with the bucket for all, then one with the secret
//! numbers by which sources are hashed, so that nobody can choose sources that share a line.

/// Lines for sources: a power of two.
pub const ERROR_SOURCES: u32 = 1 << 10;
/// The line with the bucket for all.
pub const ERROR_TOTAL: u32 = ERROR_SOURCES;
/// The line with the secret: two numbers.
pub const ERROR_SECRET: u32 = ERROR_SOURCES + 1;
/// Lines in all.
pub const ERROR_LINES: usize = ERROR_SOURCES as usize + 2;

/// Nanoseconds of the monotonic clock as ticks of these buckets: 1,024 nanoseconds each.
#[inline(always)]
#[must_use]
pub const fn error_ticks(nanoseconds: u64) -> u64 {
    nanoseconds >> 10
}

/// The bucket of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its line.
    pub line: u32,
    /// Its tag there: 24 bits.
    pub tag: u32,
}

/// The bucket of a source, which a number stands for.
#[inline(always)]
#[must_use]
pub const fn place(source: u64, secret: [u64; 2]) -> Place {
    // Multiply-shift (Dietzfelbinger et al., J. Algorithms 25, 1997), twice, so that line and tag depend on all bits.
    let hash = (source ^ secret[0]).wrapping_mul(secret[1] | 1);
    let hash = (hash ^ hash >> 32).wrapping_mul(secret[1] | 1);
    Place { line: (hash >> 54) as u32 & (ERROR_SOURCES - 1), tag: (hash >> 30) as u32 & 0x00ff_ffff }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_spread() {
        let secret = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];
        let mut lines = [0_u32; ERROR_SOURCES as usize];
        for source in 0..64 * u64::from(ERROR_SOURCES) {
            let place = place(source, secret);
            assert!(place.tag < 1 << 24);
            lines[place.line as usize] += 1;
        }
        assert!(lines.iter().all(|count| (20..140).contains(count)));
    }
}
