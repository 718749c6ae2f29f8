//! The UDP header (RFC 768).

use super::wire;

/// Protocol and next-header number of UDP.
pub const UDP: u8 = 17;

/// A UDP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Udp {
    source: [u8; 2],
    destination: [u8; 2],
    length: [u8; 2],
    checksum: [u8; 2],
}

wire!(Udp: 8 bytes);

impl Udp {
    /// Destination port.
    #[inline(always)]
    #[must_use]
    pub const fn destination(&self) -> u16 {
        u16::from_be_bytes(self.destination)
    }
}

/// Whether probes of traceroute come to a port: traceroute begins with 33434, mtr with 33000, and both take the next one for
/// each further probe.
#[inline(always)]
#[must_use]
pub const fn is_traceroute(port: u16) -> bool {
    matches!(port, 33000..=33534)
}
