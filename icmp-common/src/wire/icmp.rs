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
/// Type of "destination unreachable" in ICMPv6: RFC 4443 3.1.
pub const UNREACHABLE6: u8 = 1;
/// Its code "administratively prohibited".
pub const PROHIBITED6: u8 = 1;
/// Codes of "port unreachable": RFC 792, RFC 4443 3.1.
pub const PORT4: u8 = 3;
/// The same in ICMPv6.
pub const PORT6: u8 = 4;

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

/// The two types of a request and its reply, in one family.
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
/// Extended echo in ICMP: RFC 8335.
pub const PROBE4: Echo = Echo { request: 42, reply: 43 };
/// Extended echo in ICMPv6: RFC 8335.
pub const PROBE6: Echo = Echo { request: 160, reply: 161 };
/// Timestamp: RFC 792.
pub const TIMESTAMP: Echo = Echo { request: 13, reply: 14 };

/// A timestamp message (RFC 792). Times are milliseconds since midnight UT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Timestamp {
    /// The header, with identifier and sequence number.
    pub icmp: Icmp,
    originate: [u8; 4],
    receive: [u8; 4],
    transmit: [u8; 4],
}

wire!(Timestamp: 20 bytes);

impl Timestamp {
    /// Makes the request its reply, at a time.
    #[inline(always)]
    pub const fn answer(&mut self, time: u32) {
        let time = time.to_be_bytes();
        self.receive = time;
        self.transmit = time;
        self.icmp.type_and_code = [TIMESTAMP.reply, 0];
        self.icmp.checksum = [0; 2];
        let sum = u16::from_ne_bytes(self.icmp.type_and_code) as u64
            + u32::from_ne_bytes(self.icmp.rest) as u64
            + u32::from_ne_bytes(self.originate) as u64
            + 2 * u32::from_ne_bytes(time) as u64;
        self.icmp.checksum = (!checksum::fold(sum)).to_ne_bytes();
    }
}

/// An extended echo request (RFC 8335 2) up to where its interface identification object (2.1) says which interface is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Probe {
    /// The header: identifier, sequence number, and a byte of which only the last bit is used.
    pub icmp: Icmp,
    /// The version, 2, in the upper half.
    version: u8,
    reserved: u8,
    /// Of the structure of extensions (RFC 4884 7).
    checksum: [u8; 2],
    length: [u8; 2],
    class: u8,
    /// By what the object identifies the interface: [`BY_NAME`], [`BY_INDEX`], [`BY_ADDRESS`].
    pub by: u8,
}

wire!(Probe: 16 bytes);

/// An interface is identified by its name, filled with zeros to whole words.
pub const BY_NAME: u8 = 1;
/// By its index, of four bytes.
pub const BY_INDEX: u8 = 2;
/// By an address: its family and length, see [`IDENTIFIED4`] and [`IDENTIFIED6`], and then the address.
pub const BY_ADDRESS: u8 = 3;
/// Family 1 (IANA's address family numbers), 4 bytes, a byte that is reserved.
pub const IDENTIFIED4: [u8; 4] = [0, 1, 4, 0];
/// Family 2, 16 bytes.
pub const IDENTIFIED6: [u8; 4] = [0, 2, 16, 0];

/// Bits of an extended echo reply (RFC 8335 3): the interface is active.
pub const ACTIVE: u8 = 1 << 2;
/// IPv4 runs on it.
pub const RUNS_IPV4: u8 = 1 << 1;
/// IPv6 runs on it.
pub const RUNS_IPV6: u8 = 1 << 0;

impl Probe {
    /// How many bytes say which interface is meant, if this is a question about one of the host itself that can be understood.
    #[inline(always)]
    #[must_use]
    pub const fn identifying(&self) -> Option<usize> {
        /// Class of the interface identification object.
        const IDENTIFICATION: u8 = 3;
        let is_local = self.icmp.rest[3] & 1 != 0;
        let understood = self.version >> 4 == 2 && self.class == IDENTIFICATION;
        let length = u16::from_be_bytes(self.length) as usize;
        if is_local && understood && length > 4 { Some(length - 4) } else { None }
    }

    /// Makes the request the reply that tells this state; the checksum stays right, and so does what stands behind the header.
    #[inline(always)]
    pub const fn answer(&mut self, probe: Echo, state: u8) {
        let old = u16::from_ne_bytes([self.icmp.rest[2], self.icmp.rest[3]]);
        let new = u16::from_ne_bytes([self.icmp.rest[2], state]);
        // Never ambiguous, because the version is not zero.
        let checksum = checksum::update(self.icmp.reply_checksum(probe), old, new);
        self.icmp.rest[3] = state;
        self.icmp.set_type(probe.reply, checksum);
    }
}

/// Type and code, as [`Icmp::message`] gives them, of "fragmentation needed": RFC 792, RFC 1191.
pub const TOO_BIG4: u16 = u16::from_le_bytes([3, 4]);
/// Type of "packet too big" in ICMPv6: RFC 4443 3.2.
pub const TOO_BIG6: u8 = 2;

/// Types of ICMP that quote a packet: RFC 792, and the retired ones as well.
#[inline(always)]
#[must_use]
pub const fn quotes4(icmp_type: u8) -> bool {
    matches!(icmp_type, 3 | 4 | 5 | 11 | 12)
}

/// Types of ICMPv6 that quote a packet: errors (RFC 4443 2.1).
#[inline(always)]
#[must_use]
pub const fn quotes6(icmp_type: u8) -> bool {
    icmp_type < 128
}

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

    /// The MTU that "fragmentation needed" tells (RFC 1191 4), 0 from a router that knows none.
    #[inline(always)]
    #[must_use]
    pub const fn mtu4(&self) -> u16 {
        u16::from_be_bytes([self.rest[2], self.rest[3]])
    }

    /// The MTU that "packet too big" tells (RFC 4443 3.2).
    #[inline(always)]
    #[must_use]
    pub const fn mtu6(&self) -> u32 {
        u32::from_be_bytes(self.rest)
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
