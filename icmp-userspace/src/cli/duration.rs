//! Durations as they are typed and shown: `30s`, `10m`, `1h`.

use std::time::Duration;

/// Understands a duration.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let expected = || "expected a duration like 30s, 10m, 12h or 7d".to_owned();
    let split = text.find(|character: char| !character.is_ascii_digit()).ok_or_else(expected)?;
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(expected()),
    };
    let number: u64 = number.parse().map_err(|_| expected())?;
    match number.checked_mul(seconds).filter(|seconds| *seconds <= MAX) {
        Some(0) => Err("a duration of at least 1s is expected".to_owned()),
        Some(seconds) => Ok(Duration::from_secs(seconds)),
        None => Err(format!("a duration of at most {}d is expected", MAX / 86_400)),
    }
}

/// The longest one, in seconds: ten years.
const MAX: u64 = 3_650 * 86_400;

/// The two largest units of a duration.
pub(super) fn show(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h{}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{}h", seconds / 86400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units() {
        let texts =
            [59, 60, 3599, 3600, 86399, 86400, 180_000].map(|seconds| show(Duration::from_secs(seconds)));
        assert_eq!(texts, ["59s", "1m0s", "59m59s", "1h0m", "23h59m", "1d0h", "2d2h"]);
    }

    #[test]
    fn what_is_typed_is_understood() {
        for (text, seconds) in [("30s", 30), ("10m", 600), ("2min", 120), ("12h", 43_200), ("7d", 604_800)] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["", "10", "s", "-1s", "1.5h", "10 m", "10w", "99999999999999999999s", "0s", "4000d"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
