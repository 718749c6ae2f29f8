//! The instruments with which bench, lab and tests drive and watch the packet path: XDP programs that never run
//! where packets matter.

#![no_std]
#![no_main]

use aya_ebpf::{
    Global,
    bindings::{xdp_action, xdp_md},
    btf_maps::{Array, PerCpuArray, ProgramArray},
    helpers::{
        bpf_xdp_adjust_head,
        generated::{bpf_ktime_get_ns, bpf_xdp_get_buff_len},
    },
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use icmp_common::{
    Family, checksum,
    wire::{
        Packet, Wire,
        ethernet::{self, Ethernet},
        icmp::{self, ECHO4, ECHO6, Icmp, UNREACHABLE4},
        ipv4::{self, Ipv4},
        ipv6::{self, Ipv6},
    },
};
use icmp_ebpf::{Frame, kernel::frame::PacketFrame};

/// How many source addresses [`enter`] and [`generate`] walk over, minus one; the number is a power of two.
#[unsafe(no_mangle)]
static SOURCES_MASK: Global<u32> = Global::new(0);
/// Where in the frame the last four bytes of the source address stand. Only read if there are several sources.
#[unsafe(no_mangle)]
static SOURCE_AT: Global<u32> = Global::new(0);
/// Where in the frame the checksum stands that covers the source address: the IPv4 header's or ICMPv6's.
#[unsafe(no_mangle)]
static CHECKSUM_AT: Global<u32> = Global::new(0);
/// Length of the frames of [`enter`] if programs under test put something before them, which has to be taken off again; 0: none does.
#[unsafe(no_mangle)]
static LENGTH: Global<u32> = Global::new(0);
/// How many heavy sources there are besides, side by side above the others, which send half of all frames together.
#[unsafe(no_mangle)]
static HEAVY_SOURCES: Global<u32> = Global::new(0);
/// Nanoseconds from one frame of [`generate`] to the next; 0: as few as there can be.
#[unsafe(no_mangle)]
static GAP: Global<u64> = Global::new(0);

/// How every frame of [`enter`] and [`generate`] begins, with everything that a reply changes in it.
#[btf_map]
static TEMPLATE: Array<Template, 1> = Array::new();
/// The program that [`enter`] calls, at index 0.
#[btf_map]
static PROGRAMS: ProgramArray<1> = ProgramArray::new();
/// Where the walk over the source addresses is.
#[btf_map]
static WALK: PerCpuArray<u32, 1> = PerCpuArray::new();
/// When [`generate`] sends next, by the clock of `bpf_ktime_get_ns`.
#[btf_map]
static DUE: PerCpuArray<u64, 1> = PerCpuArray::new();
/// When [`generate`] ran last, and since when it has done so without a break.
#[btf_map]
static RUNNING: PerCpuArray<[u64; 2], 1> = PerCpuArray::new();
/// Requests of a real client on their way to [`generate`], which sends each in its place in the flood; a ring.
#[btf_map]
static HELD: Array<Held, HELD_MOST> = Array::new();
/// Where in the ring [`hold`] and [`generate`] are.
#[btf_map]
static HELD_NEXT: Array<[u32; 2], 1> = Array::new();
/// Frames that [`generate`] has sent, those of others not counted.
#[btf_map]
static SENT: PerCpuArray<u64, 1> = PerCpuArray::new();
/// Echo replies that [`sink`] received, by the number of their [`Family`].
#[btf_map]
static REPLIES: PerCpuArray<u64, 2> = PerCpuArray::new();
/// Errors about the flood that [`sink`] received.
#[btf_map]
static ERRORS: PerCpuArray<u64, 1> = PerCpuArray::new();

/// The first bytes of a frame: room for two VLAN tags and the headers of an ICMPv6 message.
///
/// It is copied in pieces that hold whole fields, because a load from bytes that two stores have just written
/// waits for both: that would be part of no packet's way.
#[derive(Clone, Copy)]
#[repr(C)]
struct Template {
    macs: Macs,
    ether_type: [u8; 2],
    rest: [[u8; 8]; 7],
}

const _: () = assert!(size_of::<Template>() == 70);

// SAFETY: bytes throughout; with alignment 1 there is no padding.
unsafe impl Wire for Template {}

impl Template {
    /// As [`Macs::write`].
    #[inline(always)]
    fn write(&mut self, template: &Self) {
        self.macs.write(template.macs);
        self.ether_type = u16::from_ne_bytes(template.ether_type).to_ne_bytes();
        for (to, from) in self.rest.iter_mut().zip(&template.rest) {
            *to = u64::from_ne_bytes(*from).to_ne_bytes();
        }
    }
}

/// The MAC addresses of a frame, each in two parts that are loaded and stored as a whole.
#[derive(Clone, Copy)]
#[repr(C)]
struct Macs {
    destination: [u8; 4],
    destination_end: [u8; 2],
    source: [u8; 4],
    source_end: [u8; 2],
}

// SAFETY: bytes throughout.
unsafe impl Wire for Macs {}

impl Macs {
    /// Writes word by word; the compiler would copy structures byte by byte.
    #[inline(always)]
    fn write(&mut self, macs: Self) {
        self.destination = u32::from_ne_bytes(macs.destination).to_ne_bytes();
        self.destination_end = u16::from_ne_bytes(macs.destination_end).to_ne_bytes();
        self.source = u32::from_ne_bytes(macs.source).to_ne_bytes();
        self.source_end = u16::from_ne_bytes(macs.source_end).to_ne_bytes();
    }
}

/// Frames that [`HELD`] has room for; a power of two.
const HELD_MOST: usize = 4;
/// How long one is held, in nanoseconds: long enough for the client's core to turn to something else, and for a flood to fill the ring
/// of a server that is too slow.
const HOLD: u64 = 500_000;

/// A longer pause of the generator, in nanoseconds, is a break.
const BREAK: u64 = 100_000;

/// A request that is held.
#[repr(C)]
struct Held {
    /// When it goes on; 0: there is none.
    due: u64,
    /// How it begins; the rest is the same as in every frame.
    frame: Template,
}

/// Some bytes of a frame.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Bytes<const N: usize>([u8; N]);

// SAFETY: bytes.
unsafe impl<const N: usize> Wire for Bytes<N> {}

/// Passes everything. XDP_TX on one end of a veth pair reaches the other end only if that has a program, too.
#[xdp(frags)]
fn pass(_context: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// Drops everything: what is left is what a packet takes to get here.
#[xdp(frags)]
fn discard(_context: XdpContext) -> u32 {
    xdp_action::XDP_DROP
}

/// The least that a program which answers has to do, and so the measure for one: exchanges the MAC addresses.
#[xdp(frags)]
fn mac_swap(context: XdpContext) -> u32 {
    let mut frame = PacketFrame::new(context.ctx);
    let Some(macs) = frame.write::<Macs>(0) else { return xdp_action::XDP_ABORTED };
    macs.write(Macs {
        destination: macs.source,
        destination_end: macs.source_end,
        source: macs.destination,
        source_end: macs.destination_end,
    });
    xdp_action::XDP_TX
}

/// What a ping's answer takes if nothing is asked that need not be: no address, no checksum, no setting, no counter.
#[xdp(frags)]
fn minimal_echo(context: XdpContext) -> u32 {
    match answer(&mut PacketFrame::new(context.ctx)) {
        Some(()) => xdp_action::XDP_TX,
        None => xdp_action::XDP_PASS,
    }
}

/// Makes a plain IPv4 echo request its reply; its TTL stays.
#[inline(always)]
fn answer(frame: &mut PacketFrame) -> Option<()> {
    let ip = size_of::<Ethernet>();
    if frame.read::<Ethernet>(0)?.ether_type() != ethernet::IPV4 {
        return None;
    }
    let Packet { ip: header, icmp } = frame.write::<Packet<Ipv4>>(ip)?;
    let is_plain =
        header.version_ihl() == ipv4::PLAIN && header.protocol == ipv4::ICMP && !header.is_fragment();
    if !is_plain || !icmp.is_plain(ECHO4.request) {
        return None;
    }
    header.reverse();
    icmp.set_type(ECHO4.reply, icmp.reply_checksum(ECHO4));
    frame.write::<Ethernet>(0)?.reverse();
    Some(())
}

/// What an error can't be made without: puts before the frame what an IPv4 error has more than the packet that it is about.
#[xdp(frags)]
fn grow(context: XdpContext) -> u32 {
    // SAFETY: the kernel calls an XDP program with a valid context.
    match unsafe { bpf_xdp_adjust_head(context.ctx, -((ipv4::HEADER + icmp::HEADER) as i32)) } {
        0 => xdp_action::XDP_TX,
        _ => xdp_action::XDP_ABORTED,
    }
}

/// Makes the frame the request again that the last round turned into a reply, and calls the program under test.
#[xdp(frags)]
fn enter(context: XdpContext) -> u32 {
    if shorten(context.ctx).is_some() && write_request(context.ctx).is_some() {
        // SAFETY: nothing here waits to be dropped.
        unsafe { PROGRAMS.tail_call(&context, 0) };
    }
    xdp_action::XDP_ABORTED
}

/// Sends a request out of the interface that the test run names. Frames come back from their journey as replies
/// and are used again as they are, so that this has to write the request anew as well. What is not due is dropped.
#[xdp(frags)]
fn generate(context: XdpContext) -> u32 {
    let gap = GAP.load();
    if gap != 0 {
        // SAFETY: the helper takes nothing.
        let now = unsafe { bpf_ktime_get_ns() };
        if release(context.ctx, now).is_some() {
            return xdp_action::XDP_TX;
        }
        if !is_due(now, gap) {
            return xdp_action::XDP_DROP;
        }
    }
    let (Some(()), Some(sent)) = (write_request(context.ctx), SENT.get_ptr_mut(0)) else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: this CPU's own value; XDP programs do not interrupt each other on one CPU.
    unsafe { *sent += 1 };
    xdp_action::XDP_TX
}

/// Counts echo replies to the flood and errors about it, by identifier and sequence number, and drops them; passes everything else.
#[xdp(frags)]
fn sink(context: XdpContext) -> u32 {
    let frame = PacketFrame::new(context.ctx);
    let count = match echo_reply(&frame) {
        Some(family) => REPLIES.get_ptr_mut(family as u32),
        None if is_error(&frame) == Some(true) => ERRORS.get_ptr_mut(0),
        None => return xdp_action::XDP_PASS,
    };
    if let Some(count) = count {
        // SAFETY: this CPU's own value; XDP programs do not interrupt each other on one CPU.
        unsafe { *count += 1 };
    }
    xdp_action::XDP_DROP
}

/// Takes echo requests from a real client, as long as those of the flood and with the same data behind what the template covers, for
/// [`generate`] to send; passes everything else. A client that sent them itself would stop the flood for a moment, or the server,
/// depending on whose core it runs on.
#[xdp(frags)]
fn hold(context: XdpContext) -> u32 {
    match take(context.ctx) {
        Some(()) => xdp_action::XDP_DROP,
        None => xdp_action::XDP_PASS,
    }
}

/// Puts an echo request into the ring.
#[inline(always)]
fn take(context: *mut xdp_md) -> Option<()> {
    let mut frame = PacketFrame::new(context);
    let ip = size_of::<Ethernet>();
    let is_v4 = frame.read::<Ethernet>(0)?.ether_type() == ethernet::IPV4;
    let is_icmp = frame.read::<Ipv4>(ip)?.protocol == ipv4::ICMP;
    let is_request = frame.read::<Icmp>(ip + ipv4::HEADER)?.icmp_type() == ECHO4.request;
    if !(is_v4 && is_icmp && is_request) {
        return None;
    }
    let next = HELD_NEXT.get_ptr_mut(0)?;
    // SAFETY: one client sends one request after another.
    let next = unsafe { &mut (*next)[0] };
    let held = HELD.get_ptr_mut(*next % HELD_MOST as u32)?;
    // SAFETY: as above; who takes it out does so after a while only.
    let held = unsafe { &mut *held };
    held.frame.write(frame.write::<Template>(0)?);
    // SAFETY: the helper takes nothing.
    held.due = unsafe { bpf_ktime_get_ns() } + HOLD;
    *next += 1;
    Some(())
}

/// Makes the frame the request that is held, if it has been so for long enough, and there was a flood all the while: after a break
/// nothing would stand in its way.
#[inline(always)]
fn release(context: *mut xdp_md, now: u64) -> Option<()> {
    let running = RUNNING.get_ptr_mut(0)?;
    // SAFETY: this CPU's own value; XDP programs do not interrupt each other on one CPU.
    let [last, since] = unsafe { &mut *running };
    if now - *last > BREAK {
        *since = now;
    }
    *last = now;
    if now < *since + HOLD {
        return None;
    }
    let next = HELD_NEXT.get_ptr_mut(0)?;
    // SAFETY: one CPU generates.
    let next = unsafe { &mut (*next)[1] };
    let held = HELD.get_ptr_mut(*next % HELD_MOST as u32)?;
    // SAFETY: who put it in did so a while ago, or it is not due.
    let held = unsafe { &mut *held };
    if held.due == 0 || now < held.due {
        return None;
    }
    PacketFrame::new(context).write::<Template>(0)?.write(&held.frame);
    held.due = 0;
    *next += 1;
    Some(())
}

/// Whether it is time for the next frame. Lost time is made up for, but not by many frames at once.
#[inline(always)]
fn is_due(now: u64, gap: u64) -> bool {
    let Some(due) = DUE.get_ptr_mut(0) else { return false };
    // SAFETY: this CPU's own value; XDP programs do not interrupt each other on one CPU.
    let due = unsafe { &mut *due };
    if now < *due {
        return false;
    }
    *due = (*due).max(now.saturating_sub(16 * gap)) + gap;
    true
}

/// Takes off what the last round has put before the frame.
#[inline(always)]
fn shorten(context: *mut xdp_md) -> Option<()> {
    let length = LENGTH.load();
    if length == 0 {
        return Some(());
    }
    // SAFETY: the kernel calls an XDP program with a valid context.
    let more = unsafe { bpf_xdp_get_buff_len(context) } - u64::from(length);
    if more == 0 {
        return Some(());
    }
    // SAFETY: as above.
    (unsafe { bpf_xdp_adjust_head(context, more as i32) } == 0).then_some(())
}

/// Writes the template, and the next source address if there are several.
#[inline(always)]
fn write_request(context: *mut xdp_md) -> Option<()> {
    let mut frame = PacketFrame::new(context);
    frame.write::<Template>(0)?.write(TEMPLATE.get(0)?);
    let mask = SOURCES_MASK.load();
    if mask == 0 {
        return Some(());
    }
    let state = WALK.get_ptr_mut(0)?;
    // A linear congruential generator (Numerical Recipes, 7.1): its low bits, too, take every value once before
    // they take one again.
    // SAFETY: this CPU's own value; XDP programs do not interrupt each other on one CPU.
    let step = unsafe { &mut *state };
    *step = step.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    let Bytes(source) = frame.write::<Bytes<4>>(SOURCE_AT.load() as usize)?;
    let old = u32::from_be_bytes(*source);
    let heavy = HEAVY_SOURCES.load();
    // The generator's upper bits tell one kind of source from the other: the lower ones are the address already.
    let new = if heavy != 0 && *step >> 31 != 0 {
        (old & !mask) + mask + 1 + (*step >> 20 & 0x7ff) % heavy
    } else {
        old & !mask | *step & mask
    };
    *source = new.to_be_bytes();
    let Bytes(sum) = frame.write::<Bytes<2>>(CHECKSUM_AT.load() as usize)?;
    let upper = checksum::update(u16::from_be_bytes(*sum), (old >> 16) as u16, (new >> 16) as u16);
    *sum = checksum::update(upper, old as u16, new as u16).to_be_bytes();
    Some(())
}

/// The family of an echo reply to the template, without VLAN tags, IP options or extension headers.
#[inline(always)]
fn echo_reply(frame: &PacketFrame) -> Option<Family> {
    let ip = size_of::<Ethernet>();
    let template = TEMPLATE.get(0)?.rest.as_flattened();
    // Identifier and sequence number, behind type, code and checksum.
    let ours = |header: usize, icmp: &Icmp| {
        let sent = template[header + 4..].first_chunk().copied();
        sent.map(u32::from_ne_bytes) == Some(u32::from_ne_bytes(icmp.rest))
    };
    match frame.read::<Ethernet>(0)?.ether_type() {
        ethernet::IPV4 => {
            let header = frame.read::<Ipv4>(ip)?;
            let icmp = frame.read::<Icmp>(ip + ipv4::HEADER)?;
            let plain = header.version_ihl() == ipv4::PLAIN && header.protocol == ipv4::ICMP;
            let reply = plain && icmp.icmp_type() == ECHO4.reply;
            (reply && ours(ipv4::HEADER, icmp)).then_some(Family::Ipv4)
        }
        ethernet::IPV6 => {
            let header = frame.read::<Ipv6>(ip)?;
            let icmp = frame.read::<Icmp>(ip + ipv6::HEADER)?;
            let reply = header.next_header == ipv6::ICMPV6 && icmp.icmp_type() == ECHO6.reply;
            (reply && ours(ipv6::HEADER, icmp)).then_some(Family::Ipv6)
        }
        _ => None,
    }
}

/// Whether it is the error "destination unreachable" of IPv4 about the template. A host that makes one can have written the quote's
/// header anew, so that is not looked at.
#[inline(always)]
fn is_error(frame: &PacketFrame) -> Option<bool> {
    let ip = size_of::<Ethernet>();
    let template = TEMPLATE.get(0)?.rest.as_flattened();
    if frame.read::<Ethernet>(0)?.ether_type() != ethernet::IPV4 {
        return Some(false);
    }
    let Packet { ip: header, icmp } = frame.read::<Packet<Ipv4>>(ip)?;
    let is_error = header.version_ihl() == ipv4::PLAIN
        && header.protocol == ipv4::ICMP
        && icmp.icmp_type() == UNREACHABLE4;
    let quote = frame.read::<Packet<Ipv4>>(ip + ipv4::HEADER + icmp::HEADER)?;
    let sent = template[ipv4::HEADER + 4..].first_chunk().copied().map(u32::from_ne_bytes);
    Some(is_error && sent == Some(u32::from_ne_bytes(quote.icmp.rest)))
}

/// The licence that the kernel reads.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Nothing here panics, and the kernel's verifier would refuse a program that could get here.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
