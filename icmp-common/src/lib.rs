//! What both halves of icmpctl agree on: reasons, settings, the layouts of tables and counters, and the wire
//! formats they read and write.
//!
//! Layout rules for everything that crosses from user space into the kernel: `#[repr(C)]`, integers and arrays
//! of integers alone, padding written out, size and offsets held by `const` assertions, and a rise of
//! [`ABI_VERSION`] with every change. Nothing here calls the kernel, allocates, or knows text formats.

#![no_std]

pub mod bans;
pub mod bucket;
pub mod checksum;
pub mod config;
pub mod counters;
pub mod dynamic;
pub mod events;
pub mod limits;
pub mod messages;
pub mod reason;
pub mod tables;
pub mod wire;

/// The version of every layout in this crate. It stands in the path of the pins, so that one version's program
/// never opens another version's maps.
pub const ABI_VERSION: u32 = 5;

/// The two IP families, in the order in which tables and counters hold them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Family {
    /// IPv4 with ICMP.
    Ipv4 = 0,
    /// IPv6 with ICMPv6.
    Ipv6 = 1,
}

impl Family {
    /// Both families, in their order.
    pub const ALL: [Self; 2] = [Self::Ipv4, Self::Ipv6];

    /// The name that listings and JSON use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        }
    }
}

/// A value that crosses from user space into the kernel as the bytes it consists of.
///
/// # Safety
///
/// Implementors are integers, arrays of them, or `#[repr(C)]` structures of them without padding: every byte is
/// initialised, and any bytes are a valid value.
pub unsafe trait Plain: Copy + 'static {
    /// The bytes of a slice of values.
    fn bytes(values: &[Self]) -> &[u8] {
        // SAFETY: by the contract of this trait every byte is initialised, and bytes have alignment 1.
        unsafe { core::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
    }

    /// The value that consists of these bytes; `None` unless there are as many as it has.
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let place = bytes.as_ptr().cast::<Self>();
        // SAFETY: as many bytes as it has; by the contract of this trait any are a value.
        (bytes.len() == size_of::<Self>()).then(|| unsafe { place.read_unaligned() })
    }

    /// The value that begins at a byte of some values; `None` if they end before it does, or if it is not aligned there.
    fn at<T: Plain>(values: &[T], byte: usize) -> Option<&Self> {
        let bytes = T::bytes(values).get(byte..)?.get(..size_of::<Self>())?;
        let place = bytes.as_ptr().cast::<Self>();
        // SAFETY: inside the slice and aligned; by the contract of this trait any bytes are a value.
        place.is_aligned().then(|| unsafe { &*place })
    }
}
