//! A frame: bytes with their bounds checked, wherever they lie.

use icmp_common::wire::Wire;

/// Most bytes that [`Frame::sum`] adds up: more than the largest frames of Ethernet, 9,216 bytes, have. The
/// kernel's verifier walks a loop round by round, so that each further kilobyte makes loading slower.
pub const MAX_SUM: usize = 9_600;

/// The bytes of one frame, from its Ethernet header on.
pub trait Frame {
    /// Whether the frame has `length` bytes from `at` on.
    fn holds(&self, at: usize, length: usize) -> bool;

    /// The header at `at`, if the frame holds all of it.
    fn read<T: Wire>(&self, at: usize) -> Option<&T>;

    /// The header at `at`, to be rewritten, if the frame holds all of it.
    fn write<T: Wire>(&mut self, at: usize) -> Option<&mut T>;

    /// The sum of the bytes from `at` on, for [`icmp_common::checksum::fold`], if the frame holds all of them and
    /// they are no more than `MOST`, which is [`MAX_SUM`] or less. This is the only step whose cost grows with the packet.
    ///
    /// `length` is a question to the frame and not a number, because in the kernel it has to be asked again in
    /// between; see the implementation there.
    fn sum<const MOST: usize>(&mut self, at: usize, length: impl Fn(&Self) -> Option<usize>) -> Option<u64>;

    /// Makes the frame so many bytes longer at its beginning; what they are is undefined. False if there is no room.
    #[must_use]
    fn grow(&mut self, bytes: usize) -> bool;

    /// Cuts the frame to a length that is no more than its own.
    #[must_use]
    fn cut(&mut self, length: usize) -> bool;
}
