//! Which kernel is meant: releases as Debian's packages have them, and what a user types to choose among them.

use std::{fmt, str::FromStr};

/// A choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The newest there is.
    Newest,
    /// The newest of those whose release begins with this version.
    Version(String),
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "newest" => Ok(Self::Newest),
            _ if text.starts_with(|c: char| c.is_ascii_digit()) => Ok(Self::Version(text.to_owned())),
            _ => Err("neither a version, such as 6.1, nor `newest`".to_owned()),
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest => f.write_str("newest"),
            Self::Version(version) => f.write_str(version),
        }
    }
}

impl Wanted {
    /// The release that is meant.
    pub(super) fn choose<'a>(&self, releases: &'a [String]) -> Option<&'a str> {
        let meant = |release: &&String| match self {
            Self::Newest => true,
            // 6.1 is no beginning of 6.12.
            Self::Version(version) => release
                .strip_prefix(version.as_str())
                .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit())),
        };
        releases.iter().filter(meant).max_by_key(|release| numbers(release)).map(String::as_str)
    }
}

/// The numbers in a release, by which releases are ordered.
pub(super) fn numbers(release: &str) -> Vec<u32> {
    release.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(wanted: &str) -> Option<String> {
        let releases = [
            "6.1.0-9-cloud-amd64",
            "6.1.0-56-cloud-amd64",
            "6.12.117+deb12-cloud-amd64",
            "6.12.117+deb13-cloud-amd64",
            "6.12.90+deb13.1-cloud-amd64",
            "7.2.13+deb14-cloud-amd64",
            "7.2.9+deb14-cloud-amd64",
        ]
        .map(str::to_owned);
        wanted.parse::<Wanted>().unwrap().choose(&releases).map(str::to_owned)
    }

    #[test]
    fn versions_choose_the_newest_release_that_they_begin() {
        assert_eq!(chosen("6.1").as_deref(), Some("6.1.0-56-cloud-amd64"));
        assert_eq!(chosen("6.12").as_deref(), Some("6.12.117+deb13-cloud-amd64"));
        assert_eq!(chosen("6.12.90").as_deref(), Some("6.12.90+deb13.1-cloud-amd64"));
        assert_eq!(chosen("6").as_deref(), Some("6.12.117+deb13-cloud-amd64"));
        assert_eq!(chosen("6.13"), None);
        assert_eq!(chosen("newest").as_deref(), Some("7.2.13+deb14-cloud-amd64"));
    }

    #[test]
    fn what_is_no_version_is_refused() {
        assert!("new".parse::<Wanted>().is_err());
        assert!("".parse::<Wanted>().is_err());
    }
}
