//! Wire formats: headers as they stand in a frame, named once.
//!
//! Fields are arrays of bytes in network order, so a header has alignment 1 and any bytes are a valid one;
//! accessors speak host order.
//!
//! What the data path copies goes through integers (`from_ne_bytes`, `to_ne_bytes`): assigned as arrays, fields
//! would be copied byte by byte, because the BPF backend goes by their alignment.

pub mod ethernet;
pub mod icmp;
pub mod ipv4;
pub mod ipv6;
pub mod udp;

/// A header that may be laid over any bytes of a frame.
///
/// # Safety
///
/// Implementors have alignment 1, no padding, and any bytes of the right number are a valid value.
pub unsafe trait Wire: Copy + 'static {}

/// Implements [`Wire`] for headers that consist of bytes alone; the alignment is asserted, and with it that
/// there is no padding.
macro_rules! wire {
    ($($header:ty: $size:literal bytes),+ $(,)?) => {
        $(
            const _: () = assert!(align_of::<$header>() == 1 && size_of::<$header>() == $size);
            // SAFETY: the assertion above, and all fields are bytes, arrays of bytes, or headers that are Wire.
            unsafe impl $crate::wire::Wire for $header {}
        )+
    };
}
pub(crate) use wire;

wire!([u8; 4]: 4 bytes, [[u8; 8]; 2]: 16 bytes);

/// An IP header without options, and the header of the ICMP message behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Packet<Ip> {
    /// The IP header.
    pub ip: Ip,
    /// The ICMP header.
    pub icmp: icmp::Icmp,
}

const _: () = assert!(align_of::<Packet<ipv6::Ipv6>>() == 1 && size_of::<Packet<ipv4::Ipv4>>() == 28);
// SAFETY: two headers that are Wire, one after the other; with alignment 1 there is no padding between them.
unsafe impl<Ip: Wire> Wire for Packet<Ip> {}
