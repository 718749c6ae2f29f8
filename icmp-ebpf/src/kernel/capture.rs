//! Capturing: the first bytes of a packet, as it came and as its answer leaves, go through a ring buffer to whoever wants them.
//!
//! A packet is copied when it comes, because an answer is written over it, and told when it is known what has become of it. Who
//! wants packets says which ones in the program's settings ([`Channel`]); where nobody does, the verifier removes all this.
//! What is decided here is a first choice: user space looks closer.

use core::{mem::offset_of, ptr, slice};

use aya_ebpf::{
    bindings::{BPF_RB_NO_WAKEUP, xdp_md},
    helpers::generated::{bpf_jiffies64, bpf_ktime_get_ns, bpf_xdp_get_buff_len, bpf_xdp_load_bytes},
};
use icmp_common::{
    Family,
    counters::{Slot, reasons_of},
    events::{CAPTURE, Captured, Channel, ChannelFamily, MAX_SNAPLEN, SAMPLES, Scratch},
    reason::Verdict,
    wire::{ethernet, ipv4, ipv6},
};

use super::{
    maps::{CAPTURED, SAMPLED, SCRATCH},
    state::{Maps, family_of},
};
use crate::{State, hidden};

/// Most of a frame that comes before the IP header: Ethernet's, and two VLAN tags.
const MAC_HEADER: usize = 22;
/// What is looked at behind that: an IPv6 header and a type.
const HEADERS: usize = MAC_HEADER + 48;

/// [`State::arrive`]. With a global name and called, as those in `state.rs`.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn icmpctl_arrive(context: *mut xdp_md, family: u32) -> u32 {
    let mut state = Maps::new(context);
    if let Some(telling) = state.telling() {
        telling.slot = Captured::NO_RULE;
    }
    arrive::<CAPTURE>(&state, context, family_of(family));
    arrive::<SAMPLES>(&state, context, family_of(family));
    0
}

/// [`State::leave`]. With a global name and called, as those in `state.rs`.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn icmpctl_leave(context: *mut xdp_md, slot: u32) -> u32 {
    let mut state = Maps::new(context);
    let slot = Slot::from_number(slot);
    leave::<CAPTURE>(&mut state, context, slot);
    leave::<SAMPLES>(&mut state, context, slot);
    0
}

/// A setting of a channel.
#[inline(always)]
fn setting<const CHANNEL: usize, T: Copy>(state: &Maps, field: fn(&Channel) -> &T) -> T {
    state.setting(|config| field(&config.channels[CHANNEL]))
}

#[inline(always)]
fn scratch<const CHANNEL: usize>() -> Option<&'static mut Scratch> {
    let scratch = SCRATCH.get_ptr_mut(CHANNEL as u32)?;
    // SAFETY: this CPU's own value; XDP programs do not interrupt each other on one CPU, and nobody keeps the reference.
    Some(unsafe { &mut *scratch })
}

/// Keeps a packet, if it may be one that is wanted.
#[inline(always)]
fn arrive<const CHANNEL: usize>(state: &Maps, context: *mut xdp_md, family: Family) {
    if setting::<CHANNEL, _>(state, |channel| &channel.on) == 0 {
        return;
    }
    let Some(scratch) = scratch::<CHANNEL>() else { return };
    scratch.pending = 0;
    let snaplen = setting::<CHANNEL, _>(state, |channel| &channel.snaplen);
    // What addresses and type are is read from the copy, of which there has to be enough for that.
    if !load(context, scratch, snaplen.max(HEADERS as u32)) || !is_wanted::<CHANNEL>(state, scratch, family) {
        return;
    }
    let per_jiffy = setting::<CHANNEL, _>(state, |channel| &channel.per_jiffy);
    if per_jiffy != 0 {
        // SAFETY: the helper takes nothing and changes nothing.
        let jiffy = unsafe { bpf_jiffies64() } as u32;
        if scratch.jiffy != jiffy {
            scratch.jiffy = jiffy;
            scratch.used = 0;
        }
        if scratch.used >= per_jiffy {
            return;
        }
        scratch.used += 1;
    }
    scratch.pending = 1;
}

/// Tells of what is kept of a packet, if it is one that is wanted, and of its answer.
#[inline(always)]
fn leave<const CHANNEL: usize>(state: &mut Maps, context: *mut xdp_md, counted: Slot) {
    if setting::<CHANNEL, _>(state, |channel| &channel.on) == 0 {
        return;
    }
    let Some(scratch) = scratch::<CHANNEL>() else { return };
    if scratch.pending == 0 {
        return;
    }
    scratch.pending = 0;
    let slot = state.telling().map_or(Captured::NO_RULE, |telling| telling.slot);
    let wanted = setting::<CHANNEL, _>(state, |channel| &channel.slot);
    let reasons = setting::<CHANNEL, _>(state, |channel| &channel.reasons);
    if reasons >> counted.reason() & 1 == 0 || wanted != Channel::ANY_RULE && wanted != slot {
        return;
    }
    let snaplen = setting::<CHANNEL, _>(state, |channel| &channel.snaplen);
    // SAFETY: the helper takes nothing and changes nothing.
    scratch.captured.time = unsafe { bpf_ktime_get_ns() };
    scratch.captured.slot = slot;
    scratch.captured.interface = state.setting(|config| &config.interface_index);
    scratch.captured.family = counted.family() as u8;
    scratch.captured.reason = counted.reason() as u8;
    scratch.captured.leaves = 0;
    count::<CHANNEL>(state, output::<CHANNEL>(scratch, snaplen));
    if ANSWERING >> counted.reason() & 1 != 0 && load(context, scratch, snaplen) {
        scratch.captured.leaves = 1;
        count::<CHANNEL>(state, output::<CHANNEL>(scratch, snaplen));
    }
}

/// Bit n: packets counted under reason n have become something else, which is sent back.
const ANSWERING: u64 = reasons_of(Verdict::Answer) | reasons_of(Verdict::Reject);

/// Counts a packet that came into the ring buffer, or did not.
#[inline(always)]
fn count<const CHANNEL: usize>(state: &mut Maps, fits: bool) {
    if let Some(telling) = state.telling() {
        telling.captured[CHANNEL].count(fits);
    }
}

/// Copies the first bytes of the frame; `false` if that can't be.
#[inline(always)]
fn load(context: *mut xdp_md, scratch: &mut Scratch, most: u32) -> bool {
    // SAFETY: a valid context.
    let length = unsafe { bpf_xdp_get_buff_len(context) } as u32;
    let bytes = hidden(length.min(most) as usize) as u32;
    if bytes == 0 || bytes > MAX_SNAPLEN as u32 {
        return false;
    }
    scratch.captured.length = length;
    scratch.captured.captured = bytes;
    // SAFETY: a valid context, and room for as many bytes as are copied.
    let outcome = unsafe { bpf_xdp_load_bytes(context, 0, scratch.bytes.as_mut_ptr().cast(), bytes) };
    outcome == 0
}

/// Puts what is kept into the ring buffer; `false` if there is no room.
#[inline(always)]
fn output<const CHANNEL: usize>(scratch: &mut Scratch, snaplen: u32) -> bool {
    let bytes = hidden(scratch.captured.captured.min(snaplen) as usize);
    if bytes > MAX_SNAPLEN {
        return false;
    }
    scratch.captured.captured = bytes as u32;
    let record = ptr::from_mut(scratch).cast::<u8>().wrapping_add(offset_of!(Scratch, captured));
    // SAFETY: so much lies there: the bytes follow what stands before them.
    let record = unsafe { slice::from_raw_parts(record, size_of::<Captured>() + bytes) };
    let ring = if CHANNEL == CAPTURE { &CAPTURED } else { &SAMPLED };
    ring.output_untyped::<[u8]>(record, BPF_RB_NO_WAKEUP.into()).is_ok()
}

/// Whether addresses and type of what is kept are such as are wanted.
#[inline(always)]
fn is_wanted<const CHANNEL: usize>(state: &Maps, scratch: &Scratch, family: Family) -> bool {
    let ip = match tags(scratch) {
        0 => 14,
        1 => 18,
        _ => MAC_HEADER,
    };
    match family {
        Family::Ipv4 => {
            let address = |at| [u64::from(u32::from_ne_bytes(bytes(scratch, ip + at))), 0];
            let [version_ihl] = bytes(scratch, ip);
            let [icmp_type] = bytes(scratch, ip + 20);
            // Behind options the type stands further back; user space will know.
            let is_there = version_ihl == ipv4::PLAIN && scratch.captured.captured > ip as u32 + 20;
            let icmp_type = is_there.then_some(icmp_type);
            is_in::<CHANNEL>(state, family, address(12), address(16), icmp_type)
        }
        Family::Ipv6 => {
            let address = |at| {
                [u64::from_ne_bytes(bytes(scratch, ip + at)), u64::from_ne_bytes(bytes(scratch, ip + at + 8))]
            };
            let [next_header] = bytes(scratch, ip + 6);
            let [icmp_type] = bytes(scratch, ip + 40);
            let is_there = next_header == ipv6::ICMPV6 && scratch.captured.captured > ip as u32 + 40;
            let icmp_type = is_there.then_some(icmp_type);
            is_in::<CHANNEL>(state, family, address(8), address(24), icmp_type)
        }
    }
}

#[inline(always)]
fn is_in<const CHANNEL: usize>(
    state: &Maps,
    family: Family,
    source: [u64; 2],
    destination: [u64; 2],
    icmp_type: Option<u8>,
) -> bool {
    let wanted = match family {
        Family::Ipv4 => wanted::<CHANNEL, 0>(state, icmp_type),
        Family::Ipv6 => wanted::<CHANNEL, 1>(state, icmp_type),
    };
    let differs = |value: [u64; 2], wanted: [u64; 2], mask: [u64; 2]| {
        (value[0] ^ wanted[0]) & mask[0] | (value[1] ^ wanted[1]) & mask[1]
    };
    let other = differs(source, wanted.source, wanted.source_mask)
        | differs(destination, wanted.destination, wanted.destination_mask);
    other == 0 && wanted.types >> (icmp_type.unwrap_or(0) & 63) & 1 != 0
}

/// What is wanted of one family, and of types the word that a type is in; all of them, if it is not known.
struct Wanted {
    types: u64,
    source: [u64; 2],
    source_mask: [u64; 2],
    destination: [u64; 2],
    destination_mask: [u64; 2],
}

#[inline(always)]
fn wanted<const CHANNEL: usize, const FAMILY: usize>(state: &Maps, icmp_type: Option<u8>) -> Wanted {
    let pair = |field: fn(&ChannelFamily) -> &[u64; 2]| {
        let word = |number: usize| {
            state.setting(|config| &field(&config.channels[CHANNEL].families[FAMILY])[number])
        };
        [word(0), word(1)]
    };
    let types = match icmp_type {
        Some(icmp_type) => state
            .setting(|config| &config.channels[CHANNEL].families[FAMILY].types[usize::from(icmp_type >> 6)]),
        None => u64::MAX,
    };
    Wanted {
        types,
        source: pair(|wanted| &wanted.source),
        source_mask: pair(|wanted| &wanted.source_mask),
        destination: pair(|wanted| &wanted.destination),
        destination_mask: pair(|wanted| &wanted.destination_mask),
    }
}

/// How many VLAN tags the frame has.
#[inline(always)]
fn tags(scratch: &Scratch) -> u32 {
    let is_tag = |at| ethernet::is_tag(u16::from_be_bytes(bytes(scratch, at)));
    if !is_tag(12) {
        return 0;
    }
    if is_tag(16) { 2 } else { 1 }
}

#[inline(always)]
fn bytes<const N: usize>(scratch: &Scratch, at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    let mut number = 0;
    while number < N {
        bytes[number] = scratch.bytes[at + number];
        number += 1;
    }
    bytes
}
