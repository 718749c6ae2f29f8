//! ICMP (RFC 792) and ICMPv6 (RFC 4443) messages.

use super::wire;
use crate::checksum;

/// Length of the header that all messages have, in bytes.
pub const HEADER: usize = 8;

/// The header that all messages of both families begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Icmp {
    type_and_code: [u8; 2],
    checksum: [u8; 2],
    /// What the type makes of it; identifier and sequence number in an echo.
    pub rest: [u8; 4],
}

wire!(Icmp: 8 bytes);

/// Type and code, with which every message begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct TypeAndCode([u8; 2]);

wire!(TypeAndCode: 2 bytes);

impl TypeAndCode {
    /// As [`Icmp::message`].
    #[inline(always)]
    #[must_use]
    pub const fn message(&self) -> u16 {
        u16::from_le_bytes(self.0)
    }

    /// Type.
    #[inline(always)]
    #[must_use]
    pub const fn icmp_type(&self) -> u8 {
        self.0[0]
    }
}

/// Type of "destination unreachable" in ICMP: RFC 792.
pub const UNREACHABLE4: u8 = 3;
/// Type of "destination unreachable" in ICMPv6, and its code "administratively prohibited": RFC 4443 3.1.
pub const PROHIBITED6: [u8; 2] = [1, 1];

/// Whether an ICMP message of this type may be answered by an error (RFC 1122 3.2.2): a known query or reply, and so no error
/// itself.
#[inline(always)]
#[must_use]
pub const fn deserves_error4(icmp_type: u8) -> bool {
    matches!(icmp_type, 0 | 8..=10 | 13..=18 | 42 | 43)
}

/// Whether an ICMPv6 message of this type may be answered by an error (RFC 4443 2.4 (e)): no error, and no redirect.
#[inline(always)]
#[must_use]
pub const fn deserves_error6(icmp_type: u8) -> bool {
    icmp_type >= 128 && icmp_type != 137
}

/// The two types of an echo, in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// Type of the request.
    pub request: u8,
    /// Type of the reply.
    pub reply: u8,
}

/// Echo in ICMP: RFC 792.
pub const ECHO4: Echo = Echo { request: 8, reply: 0 };
/// Echo in ICMPv6: RFC 4443, 4.1 and 4.2.
pub const ECHO6: Echo = Echo { request: 128, reply: 129 };

impl Icmp {
    /// The header of an error, its checksum and its unused part zero.
    #[inline(always)]
    #[must_use]
    pub const fn error(icmp_type: u8, code: u8) -> Self {
        Self { type_and_code: [icmp_type, code], checksum: [0; 2], rest: [0; 4] }
    }

    /// Sets the checksum, which is in memory order.
    #[inline(always)]
    pub const fn set_checksum(&mut self, checksum: u16) {
        self.checksum = checksum.to_ne_bytes();
    }

    /// Type.
    #[inline(always)]
    #[must_use]
    pub const fn icmp_type(&self) -> u8 {
        self.type_and_code[0]
    }

    /// Type and code as they are loaded: the type in the lower byte.
    #[inline(always)]
    #[must_use]
    pub const fn message(&self) -> u16 {
        u16::from_le_bytes(self.type_and_code)
    }

    /// Whether it is of a type, with code 0.
    #[inline(always)]
    #[must_use]
    pub const fn is_plain(&self, icmp_type: u8) -> bool {
        u16::from_ne_bytes(self.type_and_code) == u16::from_ne_bytes([icmp_type, 0])
    }

    /// The checksum of the reply that an echo request with code 0 becomes, in memory order; see
    /// [`checksum::update`] for its one ambiguous result, 0.
    #[inline(always)]
    #[must_use]
    pub const fn reply_checksum(&self, echo: Echo) -> u16 {
        let old = u16::from_ne_bytes([echo.request, 0]);
        let new = u16::from_ne_bytes([echo.reply, 0]);
        checksum::update(u16::from_ne_bytes(self.checksum), old, new)
    }

    /// Sets the type, and the checksum (in memory order) that goes with it.
    #[inline(always)]
    pub const fn set_type(&mut self, icmp_type: u8, checksum: u16) {
        self.type_and_code[0] = icmp_type;
        self.checksum = checksum.to_ne_bytes();
    }
}
