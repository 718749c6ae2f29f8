//! Ethernet II and its VLAN tags (IEEE 802.3, 802.1Q, 802.1ad).

use super::wire;

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// EtherType of a customer VLAN tag (802.1Q).
pub const VLAN: u16 = 0x8100;
/// EtherType of a service VLAN tag (802.1ad).
pub const SERVICE_VLAN: u16 = 0x88a8;

/// Whether an EtherType announces a VLAN tag.
#[inline(always)]
#[must_use]
pub const fn is_tag(ether_type: u16) -> bool {
    matches!(ether_type, VLAN | SERVICE_VLAN)
}

/// A MAC address. Two parts, so that the compiler loads and compares it as two words and not as six bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Mac {
    head: [u8; 4],
    tail: [u8; 2],
}

impl Mac {
    /// The address with these bytes, in the order in which they are sent.
    #[must_use]
    pub const fn new(bytes: [u8; 6]) -> Self {
        let [a, b, c, d, e, f] = bytes;
        Self { head: [a, b, c, d], tail: [e, f] }
    }

    /// Its two parts, to be compared and copied.
    #[inline(always)]
    #[must_use]
    pub const fn parts(&self) -> MacParts {
        MacParts { head: u32::from_ne_bytes(self.head), tail: u16::from_ne_bytes(self.tail), reserved: 0 }
    }

    /// The address with these parts.
    #[inline(always)]
    #[must_use]
    pub const fn from_parts(parts: MacParts) -> Self {
        Self { head: parts.head.to_ne_bytes(), tail: parts.tail.to_ne_bytes() }
    }
}

/// A MAC address as two integers in memory order; see [`super`] for why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct MacParts {
    /// Its first four bytes.
    pub head: u32,
    /// Its last two bytes.
    pub tail: u16,
    /// Zero.
    pub reserved: u16,
}

impl MacParts {
    /// The address of no interface.
    pub const NONE: Self = Self { head: 0, tail: 0, reserved: 0 };

    /// Whether it is a group's (multicast, or broadcast): the lowest bit of its first byte.
    #[inline(always)]
    #[must_use]
    pub const fn is_group(self) -> bool {
        // By a mask, because the compiler would load a byte of its own.
        self.head & u32::from_ne_bytes([1, 0, 0, 0]) != 0
    }
}

/// An Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Ethernet {
    /// MAC address it is sent to.
    pub destination: Mac,
    /// MAC address it comes from.
    pub source: Mac,
    ether_type: [u8; 2],
}

impl Ethernet {
    /// Exchanges source and destination.
    #[inline(always)]
    pub const fn reverse(&mut self) {
        let (source, destination) = (self.source.parts(), self.destination.parts());
        self.source = Mac::from_parts(destination);
        self.destination = Mac::from_parts(source);
    }

    /// What follows: an EtherType, in host order.
    #[inline(always)]
    #[must_use]
    pub const fn ether_type(&self) -> u16 {
        u16::from_be_bytes(self.ether_type)
    }
}

/// A VLAN tag, as it stands behind the EtherType that announces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct VlanTag {
    /// Priority (3 bits), drop eligibility (1), VLAN number (12).
    pub control: [u8; 2],
    ether_type: [u8; 2],
}

impl VlanTag {
    /// Number of the VLAN: 0 (a priority tag) to 4095.
    #[inline(always)]
    #[must_use]
    pub const fn number(&self) -> u16 {
        u16::from_be_bytes(self.control) & 0x0fff
    }

    /// What follows: an EtherType, in host order.
    #[inline(always)]
    #[must_use]
    pub const fn ether_type(&self) -> u16 {
        u16::from_be_bytes(self.ether_type)
    }
}

wire!(Ethernet: 14 bytes, VlanTag: 4 bytes);
