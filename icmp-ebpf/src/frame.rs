//! A frame: bytes with their bounds checked, wherever they lie.

use icmp_common::wire::Wire;

/// The bytes of one frame, from its Ethernet header on.
pub trait Frame {
    /// Whether the frame has `length` bytes from `at` on.
    fn holds(&self, at: usize, length: usize) -> bool;

    /// The header at `at`, if the frame holds all of it.
    fn read<T: Wire>(&self, at: usize) -> Option<&T>;

    /// The header at `at`, to be rewritten, if the frame holds all of it.
    fn write<T: Wire>(&mut self, at: usize) -> Option<&mut T>;

    /// The sum of `length` bytes from `at` on, for [`icmp_common::checksum::fold`], if the frame holds all of
    /// them. It may be large: this is the only step whose cost grows with the packet.
    fn sum(&mut self, at: usize, length: usize) -> Option<u64>;
}
