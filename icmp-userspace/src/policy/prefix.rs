//! Address prefixes: what `192.0.2.0/24`, `2001:db8::/32` and a plain address mean.

use std::{fmt, net::IpAddr, str::FromStr};

use thiserror::Error;

/// A prefix of either family; its host bits are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

/// Why a text is no prefix.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PrefixError {
    /// The address is none.
    #[error("{0:?} is not an IP address")]
    Address(String),
    /// The length is none, or longer than the address.
    #[error("{0:?} is not a prefix length: a number from 0 to {1} is expected")]
    Length(String, u8),
    /// Bits beyond the length are set.
    #[error("{0} has host bits set")]
    HostBits(String, Prefix),
}

impl Prefix {
    /// The prefix of `length` bits that `address` lies in.
    #[must_use]
    pub fn containing(address: IpAddr, length: u8) -> Self {
        let address = match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
                IpAddr::V4((v4.to_bits() & mask).into())
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0);
                IpAddr::V6((v6.to_bits() & mask).into())
            }
        };
        Self { address, length: length.min(max_length(address)) }
    }

    /// The prefix that is this one address.
    #[must_use]
    pub const fn host(address: IpAddr) -> Self {
        Self { address, length: max_length(address) }
    }

    /// Its first address.
    #[must_use]
    pub const fn address(self) -> IpAddr {
        self.address
    }

    /// Its length in bits.
    #[must_use]
    pub const fn length(self) -> u8 {
        self.length
    }

    /// Whether it is one address.
    #[must_use]
    pub const fn is_host(self) -> bool {
        self.length == max_length(self.address)
    }

    /// Whether all of `other` lies in it.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.address.is_ipv4() == other.address.is_ipv4()
            && self.length <= other.length
            && Self::containing(other.address, self.length) == self
    }
}

const fn max_length(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, length) =
            text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let address: IpAddr = address.parse().map_err(|_| PrefixError::Address(address.to_owned()))?;
        let Some(length) = length else { return Ok(Self::host(address)) };
        let max = max_length(address);
        // Digits alone: `parse` would also take a sign.
        let digits = length.bytes().all(|byte| byte.is_ascii_digit());
        let parsed = length.parse().ok().filter(|parsed| digits && *parsed <= max);
        let parsed = parsed.ok_or_else(|| PrefixError::Length(length.to_owned(), max))?;
        let prefix = Self::containing(address, parsed);
        if prefix.address == address {
            Ok(prefix)
        } else {
            Err(PrefixError::HostBits(text.to_owned(), prefix))
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        if self.length == max_length(self.address) { Ok(()) } else { write!(f, "/{}", self.length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_it_parses() {
        for text in ["192.0.2.0/24", "0.0.0.0/0", "192.0.2.1", "2001:db8::/32", "::/0", "2001:db8::1"] {
            assert_eq!(text.parse::<Prefix>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn refuses_what_is_none() {
        for (text, message) in [
            ("192.0.2", "\"192.0.2\" is not an IP address"),
            ("192.0.2.0/33", "\"33\" is not a prefix length: a number from 0 to 32 is expected"),
            ("192.0.2.0/+8", "\"+8\" is not a prefix length: a number from 0 to 32 is expected"),
            ("192.0.2.0/", "\"\" is not a prefix length: a number from 0 to 32 is expected"),
            ("2001:db8::/129", "\"129\" is not a prefix length: a number from 0 to 128 is expected"),
            ("192.0.2.1/24", "192.0.2.1/24 has host bits set"),
            ("2001:db8::1/64", "2001:db8::1/64 has host bits set"),
        ] {
            assert_eq!(text.parse::<Prefix>().unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn contains_itself_and_what_is_longer() {
        let prefix = |text: &str| text.parse::<Prefix>().unwrap();
        assert!(prefix("192.0.2.0/24").contains(prefix("192.0.2.0/24")));
        assert!(prefix("192.0.2.0/24").contains(prefix("192.0.2.128/25")));
        assert!(!prefix("192.0.2.0/24").contains(prefix("192.0.0.0/16")));
        assert!(!prefix("0.0.0.0/0").contains(prefix("::/0")));
    }
}
