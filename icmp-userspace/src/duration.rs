//! Durations as they are typed and shown, on the command line and in rules: `30s`, `10m`, `1h`.

use std::time::Duration;

/// Understands a duration, or says what was expected.
pub fn parse(text: &str) -> Result<Duration, String> {
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
#[must_use]
pub fn show(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h{}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{}h", seconds / 86400, seconds / 3600 % 24),
    }
}

/// A duration of whole seconds as [`parse`] understands it, in the largest unit of which it is a multiple.
#[must_use]
pub fn exact(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "m")];
    let (size, unit) = units.into_iter().find(|(size, _)| seconds.is_multiple_of(*size)).unwrap_or((1, "s"));
    format!("{}{unit}", seconds / size)
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
    fn exact_ones_are_understood_as_what_they_were() {
        for (seconds, text) in
            [(1, "1s"), (90, "90s"), (600, "10m"), (5_400, "90m"), (7_200, "2h"), (172_800, "2d")]
        {
            let duration = Duration::from_secs(seconds);
            assert_eq!((exact(duration), parse(text)), (text.to_owned(), Ok(duration)));
        }
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
