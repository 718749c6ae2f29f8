//! The oldest kernel that will do, and what for.

use rustix::system::uname;

/// The oldest kernel that has all that is needed.
pub const OLDEST: (u32, u32) = (6, 1);

/// What older kernels lack, in a sentence's words.
pub(super) const WHY: &str =
    "for tables of more than 4 MiB, the clock TAI and compare-and-swap in BPF programs";

/// What the running kernel calls itself.
#[must_use]
pub fn running() -> String {
    uname().release().to_string_lossy().into_owned()
}

/// The version in a release, such as `6.1` in `6.1.0-40-amd64`; `None` if it has none.
#[must_use]
pub fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
    numbers.next().zip(numbers.next())
}

/// Whether a kernel's release is one before [`OLDEST`].
#[must_use]
pub fn is_too_old(release: &str) -> bool {
    version(release).is_some_and(|version| version < OLDEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_are_told_by_their_release() {
        for old in ["5.11.0", "5.10.0-32-amd64", "6.0.19", "4.19"] {
            assert!(is_too_old(old), "{old}");
        }
        for new in ["6.1.0-40-amd64", "6.18.44", "7.0.0-rc1", "10.2", "unknown", ""] {
            assert!(!is_too_old(new), "{new}");
        }
    }
}
