//! The frame as the driver hands it over. All pointer arithmetic of the data path stands in this file.

use core::{hint::assert_unchecked, mem::MaybeUninit, ptr};

use aya_ebpf::{
    bindings::xdp_md,
    helpers::{
        bpf_xdp_adjust_head, bpf_xdp_adjust_tail,
        generated::{bpf_xdp_get_buff_len, bpf_xdp_load_bytes},
    },
};
use icmp_common::wire::Wire;

use crate::{Frame, MAX_SUM, cold, hidden, unlikely};

/// Bytes that one round of [`PacketFrame::sum`] adds up.
const BLOCK: usize = 64;

/// A packet, between the two pointers that the kernel's verifier knows. One that is larger than a page lies in several buffers,
/// of which the pointers know the first; headers stand in that one.
pub struct PacketFrame {
    context: *mut xdp_md,
    data: usize,
    data_end: usize,
}

impl PacketFrame {
    /// The packet of an XDP program that was called with `context`.
    #[inline(always)]
    #[must_use]
    pub fn new(context: *mut xdp_md) -> Self {
        let mut frame = Self { context, data: 0, data_end: 0 };
        frame.renew();
        frame
    }

    /// Whether the first buffer has `length` bytes from `at` on.
    ///
    /// Lengths in headers are 16 bits wide; with an IPv6 header's own length, one bit more. The compiler knows that they are after a
    /// change of byte order, too; the verifiers of Linux 6.1 and 6.12 take the outcome of one for any number, so the upper bits are
    /// cleared where the compiler does not see that they are.
    #[inline(always)]
    fn first_holds(&self, at: usize, length: usize) -> bool {
        hidden(self.data + at + (hidden(length) & 0x1_ffff)) <= self.data_end
    }

    /// The length of all buffers together.
    #[inline(always)]
    fn length(&self) -> usize {
        cold();
        // SAFETY: the kernel calls an XDP program with a valid context.
        unsafe { bpf_xdp_get_buff_len(self.context) as usize }
    }

    /// Reads the pointers from the context, volatile, so that what the compiler and the verifier knew of the
    /// old ones is forgotten.
    #[inline(always)]
    fn renew(&mut self) {
        // SAFETY: the kernel calls an XDP program with a valid context, which outlives the program's run.
        self.data = unsafe { ptr::read_volatile(&raw const (*self.context).data) } as usize;
        // SAFETY: as above.
        self.data_end = unsafe { ptr::read_volatile(&raw const (*self.context).data_end) } as usize;
    }

    /// A pointer to the `T` at `at`, if all of it lies before the packet's end.
    #[inline(always)]
    fn pointer<T>(&self, at: usize) -> Option<*mut T> {
        let start = self.data + at;
        // SAFETY: no packet lies at address 0. Said here, because `Option<&T>` would otherwise ask again.
        unsafe { assert_unchecked(start != 0) };
        if start + size_of::<T>() > self.data_end {
            cold();
            return None;
        }
        Some(start as *mut T)
    }
}

impl Frame for PacketFrame {
    #[inline(always)]
    fn holds(&self, at: usize, length: usize) -> bool {
        self.first_holds(at, length) || unlikely(at + length <= self.length())
    }

    #[inline(always)]
    fn read<T: Wire>(&self, at: usize) -> Option<&T> {
        // SAFETY: `pointer` has checked the bounds, any bytes are a `T`, and the packet lives as long as the
        // program runs; writers need `&mut self`.
        self.pointer(at).map(|pointer| unsafe { &*pointer })
    }

    #[inline(always)]
    fn write<T: Wire>(&mut self, at: usize) -> Option<&mut T> {
        // SAFETY: as above, and `&mut self` makes it the only reference.
        self.pointer(at).map(|pointer| unsafe { &mut *pointer })
    }

    /// Whole blocks first, then a tail by halves, each of which begins where the larger ones have left off.
    ///
    /// Between them pointers and length are read anew, and places in the tail are computed from the length and not
    /// by counting up. What the verifier knows of them is then the same however many blocks there were and
    /// whichever halves there are, so it walks what follows once and not once for each combination.
    #[inline(always)]
    fn sum<const MOST: usize>(&mut self, at: usize, length: impl Fn(&Self) -> Option<usize>) -> Option<u64> {
        const { assert!(MOST <= MAX_SUM) };
        let mut sum = 0;
        let mut block = at;
        let all = bounded::<MOST>(length(self)?)?;
        if !self.first_holds(at, all) {
            cold();
            return sum_of_buffers(self.context, at, all);
        }
        let blocks_end = at + whole(all, BLOCK);
        while block < blocks_end {
            // Never so: the verifier of Linux 6.1 learns nothing from a comparison of a number that it knows with one that it does
            // not, and would go on to the end of the largest packet.
            if block >= at + MOST {
                return None;
            }
            sum += self.words::<{ BLOCK / 4 }>(block)?;
            // Hidden, so that the compiler does not count from a number below zero up to it: the verifier of Linux 7.2
            // refuses what is read through a pointer to before the packet, even at an offset that leads back into it.
            block = hidden(block + BLOCK);
        }
        self.renew();
        let length = bounded::<MOST>(length(self)?)?;
        // The most usual message, ping's 64 bytes, has no tail.
        if length & (BLOCK - 1) != 0 {
            sum += self.tail_sum(at, length)?;
        }
        Some(sum)
    }

    #[inline(always)]
    fn grow(&mut self, bytes: usize) -> bool {
        // SAFETY: the kernel calls an XDP program with a valid context.
        let outcome = unsafe { bpf_xdp_adjust_head(self.context, -(bytes as i32)) };
        // All that was known of the packet is void, whatever came of it.
        self.renew();
        outcome == 0
    }

    #[inline(always)]
    fn cut(&mut self, length: usize) -> bool {
        let less = length as i32 - self.length() as i32;
        // Where there are several buffers, drivers may refuse to make the last one longer, even by nothing.
        if less == 0 {
            return true;
        }
        // SAFETY: as above.
        let outcome = unsafe { bpf_xdp_adjust_tail(self.context, less) };
        self.renew();
        outcome == 0
    }
}

/// Bytes that are copied at once from a packet in several buffers.
const PIECE: usize = 64;

/// The sum of a message that lies in several buffers; `None` if these end before it does.
#[inline(always)]
fn sum_of_buffers(context: *mut xdp_md, at: usize, length: usize) -> Option<u64> {
    let sum = icmpctl_sum(context, at as u32, length as u32);
    (sum != NO_SUM).then_some(sum)
}

/// Larger than any sum of a packet.
const NO_SUM: u64 = u64::MAX;

/// [`sum_of_buffers`]. With a global name and called, so that the kernel's verifier follows it on its own, once, and not in each
/// place where a message is summed up; it is rare.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn icmpctl_sum(context: *mut xdp_md, at: u32, length: u32) -> u64 {
    let mut sum = 0;
    let mut done = 0;
    let mut room = MaybeUninit::uninit();
    for _ in 0..MAX_SUM / PIECE {
        if done + PIECE as u32 > length {
            break;
        }
        let piece = sum_of_piece(context, at + done, PIECE as u32, &mut room);
        if piece == NO_SUM {
            return NO_SUM;
        }
        sum += piece;
        done += PIECE as u32;
    }
    if done == length {
        return sum;
    }
    // What is left is less than a piece. So computed, the verifier of Linux 6.1 knows that it is something; it learns nothing from a
    // comparison with a single number.
    let left = (hidden((length - done) as usize - 1) as u32 & (PIECE as u32 - 1)) + 1;
    for word in 0..PIECE / 8 {
        // Volatile: the compiler would call a loop that goes byte by byte.
        // SAFETY: a word of the room.
        unsafe { ptr::write_volatile(room.as_mut_ptr().cast::<u64>().add(word), 0) };
    }
    let piece = sum_of_piece(context, at + done, left, &mut room);
    if piece == NO_SUM { NO_SUM } else { sum + piece }
}

/// The sum of at most [`PIECE`] bytes, and at least one; if they are fewer, the room is zero.
#[inline(always)]
fn sum_of_piece(context: *mut xdp_md, at: u32, length: u32, room: &mut MaybeUninit<[u64; PIECE / 8]>) -> u64 {
    // SAFETY: a valid context, and room for as many bytes as are copied.
    let outcome = unsafe { bpf_xdp_load_bytes(context, at, room.as_mut_ptr().cast(), length) };
    if outcome < 0 {
        return NO_SUM;
    }
    let mut sum = 0;
    // SAFETY: as many bytes have been copied there, or what is missing is zero.
    for word in unsafe { room.assume_init_ref() } {
        sum += (word >> 32) + (word & 0xffff_ffff);
    }
    sum
}

/// A length that is not too long for a sum.
#[inline(always)]
fn bounded<const MOST: usize>(length: usize) -> Option<usize> {
    (length <= MOST).then_some(length)
}

/// How many bytes of a message make whole pieces of `size`, a power of two. Hidden, because the compiler would
/// otherwise use `|` where an offset is added, of which the verifier knows less than of `+`.
#[inline(always)]
fn whole(length: usize, size: usize) -> usize {
    hidden(length & !(size - 1))
}

impl PacketFrame {
    /// The sum of what is left of a message behind its whole blocks.
    #[inline(always)]
    fn tail_sum(&self, at: usize, length: usize) -> Option<u64> {
        let mut sum = 0;
        if length & 32 != 0 {
            sum += self.words::<8>(at + whole(length, 64))?;
        }
        if length & 16 != 0 {
            sum += self.words::<4>(at + whole(length, 32))?;
        }
        if length & 8 != 0 {
            sum += self.words::<2>(at + whole(length, 16))?;
        }
        if length & 4 != 0 {
            sum += self.words::<1>(at + whole(length, 8))?;
        }
        if length & 2 != 0 {
            let [low, high] = self.bytes(at + whole(length, 4))?;
            sum += u64::from(u16::from_ne_bytes([low, high]));
        }
        if length & 1 != 0 {
            let [last] = self.bytes(at + whole(length, 2))?;
            sum += u64::from(u16::from_ne_bytes([last, 0]));
        }
        Some(sum)
    }

    #[inline(always)]
    fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        // SAFETY: `pointer` has checked the bounds, and bytes have alignment 1.
        self.pointer(at).map(|pointer| unsafe { *pointer })
    }

    /// The sum of `N` 32-bit words.
    #[inline(always)]
    fn words<const N: usize>(&self, at: usize) -> Option<u64> {
        let pointer = self.pointer::<[[u8; 4]; N]>(at)?;
        // SAFETY: `pointer` has checked the bounds, and bytes have alignment 1.
        let words = unsafe { &*pointer };
        let mut sum = 0;
        for word in words {
            sum += u64::from(u32::from_ne_bytes(*word));
        }
        Some(sum)
    }
}
