//! The [`State`] of the kernel: settings and tables from maps, the routing table from a helper.

use core::{arch::asm, hint::assert_unchecked, mem::transmute, ptr};

use aya_ebpf::{
    bindings::{BPF_RB_NO_WAKEUP, xdp_md},
    btf_maps::lpm_trie::Key,
    helpers::{
        bpf_fib_lookup,
        generated::{bpf_get_prandom_u32, bpf_jiffies64, bpf_ktime_get_coarse_ns, bpf_ktime_get_tai_ns},
    },
};
use icmp_common::{
    Family, Plain,
    bans::{self, BAN_LINES, Banned, Source},
    bucket::{self, Ask, CELLS, Lasting, Line, Place, Taken},
    config::{Config, DYNAMIC_DESTINATIONS, DYNAMIC_SOURCES},
    counters::{RULE_CHUNK, Slot},
    dynamic::{Membership, Until},
    events::{self, Event, Telling},
    limits::{self, Purse},
    tables::{CACHE_LINE, Decision, DestinationCell, HOST_SLOTS, Hosts, Kinds, Root4},
    wire::{
        ethernet::MacParts,
        ipv4,
        ipv6::{self, Halves},
    },
};

use super::{
    capture::{icmpctl_arrive, icmpctl_leave},
    frame::PacketFrame,
    maps::{
        BANS, BUCKETS, Bans, Buckets, CONFIG, COUNTERS, DST4_ROOT, DYNAMIC4, DYNAMIC6, EVENTS, HOSTS, KINDS,
        PURSES, RULES, SRC4_ROOT, TABLES, TELLING,
    },
};
use crate::{
    Facts, Frame, NextHop, Route, Side, State, ban,
    classify::{destination, sets_of, settle, source},
    hidden,
    limit::{Over, begins, over},
    parse::DOUBLE_TAGGED,
    tell::{logs, note},
};

/// The program's maps, and the context that helpers want.
pub struct Maps {
    context: *mut xdp_md,
}

impl Maps {
    /// The line of a bucket.
    #[inline(always)]
    fn buckets(&self, place: Place) -> Option<&Buckets> {
        BUCKETS.get(place.line & self.setting(|config| &config.bucket_mask))
    }

    /// The time in ticks.
    #[inline(always)]
    fn ticks(&self) -> u64 {
        // SAFETY: the helper takes nothing and changes nothing.
        let jiffies = unsafe { bpf_jiffies64() };
        jiffies.wrapping_mul(u64::from(self.setting(|config| &config.jiffy)))
    }

    /// Whether there are rules, in either family.
    #[inline(always)]
    fn has_rules(&self) -> bool {
        self.setting(|config| &config.acl[0].rules) != 0 || self.setting(|config| &config.acl[1].rules) != 0
    }

    #[inline(always)]
    fn longest_span(&self) -> u64 {
        self.setting(|config| &config.longest_span)
    }

    /// The maps, for an XDP program that was called with `context`.
    #[inline(always)]
    #[must_use]
    pub const fn new(context: *mut xdp_md) -> Self {
        Self { context }
    }
}

/// Reads a value from frozen read-only data. Volatile: the compiler must not take the object file's value for the loader's.
///
/// # Safety
///
/// `place` points into a `Global` of [`super::maps`].
#[inline(always)]
unsafe fn frozen<T: Copy>(place: *const T) -> T {
    // SAFETY: a `Global<T>` is a `T` in read-only data, which nobody writes once the program is loaded.
    unsafe { ptr::read_volatile(place) }
}

impl State for Maps {
    #[inline(always)]
    fn setting<T: Copy>(&self, field: impl FnOnce(&Config) -> &T) -> T {
        // SAFETY: a reference to read-only data that lives as long as the program.
        let config = unsafe { &*ptr::from_ref(&CONFIG).cast::<Config>() };
        // SAFETY: a field of `CONFIG`.
        unsafe { frozen(field(config)) }
    }

    #[inline(always)]
    fn host4(&self, slot: usize) -> u32 {
        // SAFETY: within `HOSTS`.
        unsafe { frozen(&raw const (*hosts()).v4[slot & (HOST_SLOTS - 1)]) }
    }

    #[inline(always)]
    fn host_class4(&self, slot: usize) -> u16 {
        // SAFETY: within `HOSTS`.
        unsafe { frozen(&raw const (*hosts()).class4[slot & (HOST_SLOTS - 1)]) }
    }

    #[inline(always)]
    fn host6(&self, slot: usize) -> [u64; 2] {
        let slot = slot & (HOST_SLOTS - 1);
        // SAFETY: within `HOSTS`.
        let high = unsafe { frozen(&raw const (*hosts()).v6[slot][0]) };
        // SAFETY: within `HOSTS`.
        let low = unsafe { frozen(&raw const (*hosts()).v6[slot][1]) };
        [high, low]
    }

    #[inline(always)]
    fn host_class6(&self, slot: usize) -> u16 {
        // SAFETY: within `HOSTS`.
        unsafe { frozen(&raw const (*hosts()).class6[slot & (HOST_SLOTS - 1)]) }
    }

    #[inline(always)]
    fn kind(&self, family: Family, message: u16) -> u16 {
        let kinds = ptr::from_ref(&KINDS).cast::<Kinds>();
        // SAFETY: within `KINDS`.
        unsafe { frozen(&raw const (*kinds)[family as usize][message as usize]) }
    }

    #[inline(always)]
    fn root4(&self, side: Side, begin: u16) -> u32 {
        let root = match side {
            Side::Source => ptr::from_ref(&SRC4_ROOT),
            Side::Destination => ptr::from_ref(&DST4_ROOT),
        };
        // SAFETY: within `SRC4_ROOT` or `DST4_ROOT`.
        unsafe { frozen(&raw const (*root.cast::<Root4>())[begin as usize]) }
    }

    #[inline(always)]
    fn table<T: Plain>(&self, byte: u32) -> Option<&T> {
        const { assert!(size_of::<T>() <= CACHE_LINE) };
        if byte > self.setting(|config| &config.tables_last) {
            return None;
        }
        // Hidden, because the compiler takes the tables to be what the object file holds.
        let value = hidden(ptr::from_ref(&TABLES) as usize) + byte as usize;
        // SAFETY: no table lies at address 0. Said here, because `Option<&T>` would otherwise ask again.
        unsafe { assert_unchecked(value != 0) };
        // SAFETY: the loader makes the tables so large that every value which begins up to `tables_last` ends within them, and
        // does not change them while the program runs; any bytes are a `T`, and those that are read are aligned.
        Some(unsafe { &*(value as *const T) })
    }

    #[inline(always)]
    fn destination(&self, family: Family, [high, low]: [u64; 2]) -> DestinationCell {
        DestinationCell(icmpctl_destination(family as u32, high, low))
    }

    #[inline(always)]
    fn source(&self, family: Family, [high, low]: [u64; 2]) -> u32 {
        icmpctl_source(family as u32, high, low)
    }

    #[inline(always)]
    fn settle(&self, decision: Decision, facts: Facts) -> Decision {
        Decision(icmpctl_settle(decision.0, facts.packet, facts.sets))
    }

    #[inline(always)]
    fn sets_of(&self, family: Family, [high, low]: [u64; 2]) -> u64 {
        icmpctl_sets_of(family as u32, high, low)
    }

    #[inline(always)]
    fn membership4(&self, address: [u8; 4]) -> Option<&Membership> {
        DYNAMIC4.get(&Key::new(32, address))
    }

    #[inline(always)]
    fn membership6(&self, address: Halves) -> Option<&Membership> {
        // SAFETY: sixteen bytes both.
        let address = unsafe { transmute::<Halves, [u8; 16]>(address) };
        DYNAMIC6.get(&Key::new(128, address))
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        // SAFETY: the helper takes nothing and changes nothing.
        unsafe { bpf_ktime_get_coarse_ns() }
    }

    #[inline(always)]
    fn utc(&self) -> u64 {
        // The only clock of the day that programs may ask (Linux 6.1).
        // SAFETY: the helper takes nothing and changes nothing.
        let tai = unsafe { bpf_ktime_get_tai_ns() };
        tai.wrapping_sub(u64::from(self.setting(|config| &config.tai_offset)) * 1_000_000_000)
    }

    #[inline(always)]
    fn over<F: Frame>(&mut self, _frame: &F, at: usize, family: Family, number: u32) -> Over {
        Over(icmpctl_over(self.context, at as u32, family as u32, number))
    }

    #[inline(always)]
    fn take(&mut self, place: Place, ask: Ask) -> Taken {
        match self.buckets(place) {
            Some(line) => bucket::take(line, place.tag, ask, self.longest_span(), self.ticks()),
            None => Taken::No,
        }
    }

    #[inline(always)]
    fn give_back(&mut self, place: Place, credit: u64) {
        if let Some(line) = self.buckets(place) {
            bucket::give_back(line, place.tag, credit, self.longest_span(), self.ticks());
        }
    }

    #[inline(always)]
    fn lasts(&mut self, place: Place, pause: u64) -> Lasting {
        let number = icmpctl_lasts(place.line, place.tag, pause);
        Lasting { ticks: number >> 2, begins: number & 2 != 0, evicting: number & 1 != 0 }
    }

    #[inline(always)]
    fn is_over(&mut self, rate: u32, family: Family, [high, low]: [u64; 2]) -> u64 {
        icmpctl_is_over(rate, family as u32, high, low)
    }

    #[inline(always)]
    fn bans(&mut self, rate: u32, family: Family, [high, low]: [u64; 2], ticks: u64) {
        icmpctl_bans(rate, family as u32, high, low, ticks);
    }

    #[inline(always)]
    fn holds_ban(&self, place: Place, source: &Source, now: Until) -> bool {
        let line = BANS.get(place.line & (BAN_LINES - 1));
        line.is_some_and(|line| bans::is_banned(line, place.tag, source, now))
    }

    #[inline(always)]
    fn put_ban(&mut self, place: Place, banned: Banned, end: Until, now: Until) {
        if let Some(line) = BANS.get(place.line & (BAN_LINES - 1)) {
            bans::ban(line, place.tag, banned, end, now);
        }
    }

    #[inline(always)]
    fn purse(&mut self, place: Place) -> Option<&mut Purse> {
        let purses = PURSES.get_ptr_mut(0)?;
        // SAFETY: this CPU's own value; XDP programs do not interrupt each other on one CPU.
        Some(unsafe { &mut (*purses).purses[place.line as usize % limits::PURSES] })
    }

    #[inline(always)]
    fn random(&mut self) -> u32 {
        // SAFETY: the helper takes nothing and changes nothing.
        unsafe { bpf_get_prandom_u32() }
    }

    #[inline(always)]
    fn next_hop(&mut self, route: &Route) -> Option<NextHop> {
        // SAFETY: the kernel calls an XDP program with a valid context.
        let interface = unsafe { (*self.context).ingress_ifindex };
        let mut lookup = FibLookup::new(interface, route);
        let size = size_of::<FibLookup>() as i32;
        // No flags: all routes count, and not only those out of this interface.
        // SAFETY: context and parameters are valid, and the size is that of the parameters.
        let outcome = unsafe { bpf_fib_lookup(self.context.cast(), (&raw mut lookup).cast(), size, 0) };
        (outcome == 0 && lookup.interface() == interface).then(|| lookup.next_hop())
    }

    #[inline(always)]
    fn count(&mut self, slot: Slot, message: Option<u32>) {
        let Some(counters) = COUNTERS.get_ptr_mut(0) else { return };
        // SAFETY: this CPU's own value; XDP programs do not interrupt each other on one CPU.
        let counters = unsafe { &mut *counters };
        counters.count(slot);
        if let Some(message) = message {
            counters.count_message(message, slot);
        }
    }

    #[inline(always)]
    fn count_rule(&mut self, slot: u32, length: u32) {
        if let Some(counters) = RULES.get_ptr_mut(slot / RULE_CHUNK as u32) {
            // SAFETY: as above.
            unsafe { (*counters).count(slot, length) };
        }
    }

    #[inline(always)]
    fn begins<F: Frame>(&mut self, _frame: &F, at: usize, family: Family, rate: u32) -> bool {
        icmpctl_begins(self.context, at as u32, family as u32, rate) != 0
    }

    #[inline(always)]
    fn telling(&mut self) -> Option<&mut Telling> {
        let telling = TELLING.get_ptr_mut(0)?;
        // SAFETY: as above.
        Some(unsafe { &mut *telling })
    }

    #[inline(always)]
    fn window(&self) -> u32 {
        events::window(self.ticks())
    }

    #[inline(always)]
    fn note<F: Frame>(&mut self, _frame: &F, slot: u32, flags: u8) {
        icmpctl_note(self.context, slot, flags.into());
    }

    #[inline(always)]
    fn tell(&mut self, slot: Slot) {
        icmpctl_tell(slot.number());
    }

    #[cfg(feature = "debug-log")]
    #[inline(always)]
    fn log(&self, step: crate::Step, number: u32) {
        super::log::icmpctl_log(step as u32, number);
    }

    #[inline(always)]
    fn arrive(&mut self, family: Family) {
        icmpctl_arrive(self.context, family as u32);
    }

    #[inline(always)]
    fn leave(&mut self, slot: Slot) {
        icmpctl_leave(self.context, slot.number());
    }
}

/// [`State::settle`]. With a global name and called, because the kernel's verifier then follows it on its own, once, and knows
/// nothing of its result: followed in its place, every way through it would be followed by all that comes after it.
///
/// It follows such functions whether they are called or not (Linux before 6.8), so each begins by asking whether the policy needs it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn icmpctl_settle(decision: u64, packet: u64, sets: u64) -> u64 {
    let state = Maps::new(ptr::null_mut());
    if !state.has_rules() {
        return decision;
    }
    settle(&state, Decision(decision), Facts { packet, sets }).0
}

/// [`State::destination`], a function of its own for the same reason.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn icmpctl_destination(family: u32, high: u64, low: u64) -> u32 {
    destination(&Maps::new(ptr::null_mut()), family_of(family), [high, low]).0
}

/// [`State::source`], a function of its own for the same reason.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn icmpctl_source(family: u32, high: u64, low: u64) -> u32 {
    let state = Maps::new(ptr::null_mut());
    if !state.has_rules() && state.setting(|config| &config.probe) == 0 {
        return 0;
    }
    source(&state, family_of(family), [high, low])
}

/// [`State::over`], a function of its own for the same reason.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn icmpctl_over(context: *mut xdp_md, at: u32, family: u32, number: u32) -> u32 {
    let mut state = Maps::new(context);
    let is_needed = state.has_rules() || state.setting(|config| &config.traceroute) != 0;
    if !is_needed || at as usize > DOUBLE_TAGGED {
        return 0;
    }
    over(&PacketFrame::new(context), &mut state, at as usize, family_of(family), number).0
}

/// [`State::sets_of`], a function of its own for the same reason.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn icmpctl_sets_of(family: u32, high: u64, low: u64) -> u64 {
    let state = Maps::new(ptr::null_mut());
    if state.setting(|config| &config.facts) & (DYNAMIC_SOURCES | DYNAMIC_DESTINATIONS) == 0 {
        return 0;
    }
    sets_of(&state, family_of(family), [high, low])
}

/// [`State::is_over`], a function of its own for the same reason.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn icmpctl_is_over(rate: u32, family: u32, high: u64, low: u64) -> u64 {
    let mut state = Maps::new(ptr::null_mut());
    if !ban::are_there(&state) {
        return 0;
    }
    ban::is_over(&mut state, rate, family_of(family), [high, low])
}

/// [`State::bans`], a function of its own for the same reason, and because the kernel gives a program and what it calls 512 bytes of
/// stack together. It returns a number because the verifier wants one.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn icmpctl_bans(rate: u32, family: u32, high: u64, low: u64, ticks: u64) -> u32 {
    let mut state = Maps::new(ptr::null_mut());
    if ban::are_there(&state) {
        ban::bans(&mut state, rate, family_of(family), [high, low], ticks);
    }
    0
}

/// [`State::lasts`], a function of its own for the same reason. From the lowest bit up: whether a bucket has given way, whether it begins,
/// and ticks.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn icmpctl_lasts(line: u32, tag: u32, pause: u64) -> u64 {
    let state = Maps::new(ptr::null_mut());
    if !logs(&state) && !ban::are_there(&state) {
        return 0;
    }
    let Some(line) = state.buckets(Place { line, tag }) else { return 0 };
    let Lasting { ticks, begins, evicting } =
        bucket::lasts(line, tag, pause, state.longest_span(), state.ticks());
    ticks << 2 | u64::from(begins) << 1 | u64::from(evicting)
}

/// [`State::begins`], a function of its own for the same reason; 1 if it begins.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn icmpctl_begins(context: *mut xdp_md, at: u32, family: u32, rate: u32) -> u32 {
    let mut state = Maps::new(context);
    if !logs(&state) || at as usize > DOUBLE_TAGGED {
        return 0;
    }
    begins(&PacketFrame::new(context), &mut state, at as usize, family_of(family), rate).into()
}

/// [`State::note`], a function of its own for the same reason.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn icmpctl_note(context: *mut xdp_md, slot: u32, flags: u32) -> u32 {
    let mut state = Maps::new(context);
    if logs(&state) {
        note(&PacketFrame::new(context), &mut state, slot, flags as u8);
    }
    0
}

/// [`State::tell`], a function of its own for the same reason.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn icmpctl_tell(slot: u32) -> u32 {
    let mut state = Maps::new(ptr::null_mut());
    if logs(&state)
        && let Some(telling) = state.telling()
    {
        telling.pending = 0;
        telling.event.reason = Slot::from_number(slot).reason() as u8;
        let outcome = EVENTS.output_untyped::<Event>(&telling.event, BPF_RB_NO_WAKEUP.into());
        telling.told.count(outcome.is_ok());
    }
    0
}

#[inline(always)]
pub(super) const fn family_of(number: u32) -> Family {
    if number == Family::Ipv4 as u32 { Family::Ipv4 } else { Family::Ipv6 }
}

impl bans::Bans for Bans {
    #[inline(always)]
    fn cells(&self) -> &impl Line {
        &self.cells
    }

    #[inline(always)]
    fn banned(&self, cell: usize) -> Banned {
        // SAFETY: a cell of the line; volatile, because other CPUs may change it at any time.
        unsafe { ptr::read_volatile(self.banned[cell % CELLS].get()) }
    }

    #[inline(always)]
    fn put(&self, cell: usize, banned: Banned) {
        // SAFETY: as above; nobody else writes to a cell that this CPU has claimed.
        unsafe { ptr::write_volatile(self.banned[cell % CELLS].get(), banned) }
    }
}

impl Line for Buckets {
    #[inline(always)]
    fn load(&self, cell: usize) -> u64 {
        // SAFETY: a cell of the line; volatile, because other CPUs may change it at any time.
        unsafe { ptr::read_volatile(self.0[cell].get()) }
    }

    #[inline(always)]
    fn exchange(&self, cell: usize, old: u64, new: u64) -> bool {
        let found: u64;
        // The compiler has no name for it on this target: the instruction compares with r0 and leaves there what it found
        // (Linux 5.12).
        // SAFETY: a cell of the line, which is aligned.
        unsafe {
            asm!(
                "r0 = cmpxchg_64({place} + 0, r0, {new})",
                place = in(reg) self.0[cell].get(),
                new = in(reg) new,
                inout("r0") old => found,
                options(nostack),
            );
        }
        found == old
    }
}

/// The served hosts.
#[inline(always)]
fn hosts() -> *const Hosts {
    ptr::from_ref(&HOSTS).cast()
}

/// The helper's parameters, `struct bpf_fib_lookup` of `linux/bpf.h`, as eight words: of smaller fields the compiler
/// would make accesses that are not aligned, which the verifier takes in packets but not on the stack. The target's
/// byte order is little-endian.
///
/// 0: family, protocol, two ports, length of the packet; 1: interface, type of service; 2, 3: source; 4, 5:
/// destination; 6, 7: VLAN, and then the answer: the interface's MAC address and the neighbour's, six bytes each.
struct FibLookup([u64; 8]);

/// Address families as the helper numbers them (`linux/socket.h`).
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

impl FibLookup {
    #[inline(always)]
    fn new(interface: u32, route: &Route) -> Self {
        let head = |family, protocol, length: u16| {
            let [low, high] = length.to_ne_bytes();
            u64::from_ne_bytes([family, protocol, 0, 0, 0, 0, low, high])
        };
        let interface = u64::from(interface);
        match *route {
            Route::Ipv4 { tos, total_length, source, destination } => {
                let [from, to] = [source, destination].map(|address| u32::from_ne_bytes(address).into());
                let head = head(AF_INET, ipv4::ICMP, total_length);
                Self([head, interface | u64::from(tos) << 32, from, 0, to, 0, 0, 0])
            }
            Route::Ipv6 { total_length, source, destination } => {
                let ([a, b], [c, d]) = (ipv6::words(source), ipv6::words(destination));
                Self([head(AF_INET6, ipv6::ICMPV6, total_length), interface, a, b, c, d, 0, 0])
            }
        }
    }

    /// The interface, of the packet at first, and then, in the answer, of the route.
    #[inline(always)]
    const fn interface(&self) -> u32 {
        self.0[1] as u32
    }

    /// The MAC addresses that the helper left.
    #[inline(always)]
    fn next_hop(&self) -> NextHop {
        let (begin, end) = (self.0[6] >> 32, self.0[7]);
        let part = |head: u64, tail: u64| MacParts { head: head as u32, tail: tail as u16, reserved: 0 };
        NextHop { source: part(begin, end), destination: part(end >> 16, end >> 48) }
    }
}
