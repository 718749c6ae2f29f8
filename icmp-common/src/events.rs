//! The layout of what is told: events, captured packets, and what tells them remembers.
//!
//! Both go to user space through ring buffers. Nobody is woken up for them; who reads looks from time to time.

use crate::{Family, Plain, reason::Reason};

/// Bytes of the ring buffer of events.
pub const EVENTS_BYTES: u32 = 1 << 20;
/// Most rules of a policy that log.
pub const MAX_LOGGED: usize = 1 << 10;
/// Most events of one rule that a CPU tells in a [`window`].
pub const MOST_OF_RULE: u32 = 100;
/// Most events of all rules that a CPU tells in a [`window`].
pub const MOST_OF_ALL: u32 = 1_000;

/// The window that a time in ticks of [`crate::bucket::TICK`] nanoseconds lies in: one takes 1.07 seconds.
#[inline(always)]
#[must_use]
pub const fn window(ticks: u64) -> u32 {
    (ticks >> 28) as u32
}

/// What a rule logs, by the slot of its counter; those of its rates have such a row, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Log {
    /// One packet in so many; 0: none.
    pub each: u32,
    /// The number among the rules that log, of which rates have one of their own.
    pub number: u32,
}

// SAFETY: integers without padding.
unsafe impl Plain for Log {}

/// One event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// Nanoseconds of the monotonic clock, a few milliseconds late at most.
    pub time: u64,
    /// The source address, as words in memory order; an IPv4 address in the lower half of the first one.
    pub source: [u64; 2],
    /// The destination address.
    pub destination: [u64; 2],
    /// The slot of the rule; with [`Event::OVER`], that of the rate.
    pub slot: u32,
    /// The interface's number.
    pub interface: u32,
    /// Events of this rule on this CPU that were suppressed since the last one that was told.
    pub suppressed: u32,
    /// Length of the IP packet in bytes, header included.
    pub length: u16,
    /// Number of the outer VLAN tag; [`Event::NO_VLAN`].
    pub vlan: u16,
    /// Number of the [`Family`].
    pub family: u8,
    /// Number of the [`Reason`].
    pub reason: u8,
    /// Type of the message.
    pub icmp_type: u8,
    /// Its code.
    pub code: u8,
    /// [`Event::OVER`] and so on.
    pub flags: u8,
    /// Zeros.
    pub reserved: [u8; 3],
}

// SAFETY: integers and arrays of integers; the assertion below leaves no room for padding.
unsafe impl Plain for Event {}

const _: () = assert!(size_of::<Event>() == 64);

impl Event {
    /// Whoever a rate counts for is over it as of now; not set: a packet that a rule logs.
    pub const OVER: u8 = 1 << 0;
    /// Type and code are not known: a fragment.
    pub const NO_TYPE: u8 = 1 << 1;
    /// The [`Event::vlan`] of a packet without a tag.
    pub const NO_VLAN: u16 = u16::MAX;

    /// The family, if the number is one's.
    #[must_use]
    pub fn family(&self) -> Option<Family> {
        Family::ALL.get(usize::from(self.family)).copied()
    }

    /// The reason, if the number is one's.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        reason(self.reason)
    }
}

fn reason(number: u8) -> Option<Reason> {
    Reason::ALL.iter().copied().find(|reason| *reason as u8 == number)
}

/// What one CPU remembers of what it has told, from one program to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Telling {
    /// The event about the packet that is under way.
    pub event: Event,
    /// 1: there is one.
    pub pending: u32,
    /// The [`window`] of the last event.
    pub window: u32,
    /// Events in it.
    pub used: u32,
    /// The slot of the rule that decides about the packet that is under way, if anybody captures; [`Captured::NO_RULE`].
    pub slot: u32,
    /// What has become of events.
    pub told: Told,
    /// What has become of captured packets, by channel.
    pub captured: [Told; CHANNELS],
    /// What is remembered by rule.
    pub rules: [Logged; MAX_LOGGED],
}

/// What has become of what was to be told, since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Told {
    /// Put into the ring buffer.
    pub told: u64,
    /// Suppressed, because there were too many.
    pub suppressed: u64,
    /// Lost, because the ring buffer was full.
    pub lost: u64,
}

impl Told {
    /// Adds another CPU's.
    pub const fn add(&mut self, other: &Self) {
        self.told = self.told.wrapping_add(other.told);
        self.suppressed = self.suppressed.wrapping_add(other.suppressed);
        self.lost = self.lost.wrapping_add(other.lost);
    }

    /// Counts one that came into the ring buffer, or did not.
    #[inline(always)]
    pub const fn count(&mut self, fits: bool) {
        let count = if fits { &mut self.told } else { &mut self.lost };
        *count = count.wrapping_add(1);
    }
}

/// What one CPU remembers of one rule that logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Logged {
    /// Packets since the last one that was to be told.
    pub seen: u32,
    /// The [`window`] of the last event.
    pub window: u32,
    /// Events in it.
    pub used: u32,
    /// Events that were suppressed since then.
    pub suppressed: u32,
}

impl Telling {
    /// Nothing told.
    pub const ZERO: Self = Self {
        event: Event {
            time: 0,
            source: [0; 2],
            destination: [0; 2],
            slot: 0,
            interface: 0,
            suppressed: 0,
            length: 0,
            vlan: 0,
            family: 0,
            reason: 0,
            icmp_type: 0,
            code: 0,
            flags: 0,
            reserved: [0; 3],
        },
        pending: 0,
        window: 0,
        used: 0,
        slot: 0,
        told: Told { told: 0, suppressed: 0, lost: 0 },
        captured: [Told { told: 0, suppressed: 0, lost: 0 }; CHANNELS],
        rules: [Logged { seen: 0, window: 0, used: 0, suppressed: 0 }; MAX_LOGGED],
    };

    /// Whether a packet that a rule logs is told. If so, how many events of the rule have been suppressed before stands in the
    /// event.
    #[inline(always)]
    pub const fn wants(&mut self, log: Log, window: u32) -> bool {
        if log.each == 0 {
            return false;
        }
        // Masked, because the kernel's verifier does not know what numbers there are.
        let rule = &mut self.rules[log.number as usize & (MAX_LOGGED - 1)];
        // A rule's rates log each time; that is not to disturb how the rule itself counts.
        if log.each > 1 {
            rule.seen = rule.seen.wrapping_add(1);
            if rule.seen < log.each {
                return false;
            }
            rule.seen = 0;
        }
        if rule.window != window {
            rule.window = window;
            rule.used = 0;
        }
        if self.window != window {
            self.window = window;
            self.used = 0;
        }
        if rule.used >= MOST_OF_RULE || self.used >= MOST_OF_ALL {
            rule.suppressed = rule.suppressed.wrapping_add(1);
            self.told.suppressed = self.told.suppressed.wrapping_add(1);
            return false;
        }
        rule.used += 1;
        self.used += 1;
        self.event.suppressed = rule.suppressed;
        rule.suppressed = 0;
        true
    }
}

/// Channels through which packets are captured: [`CAPTURE`] and [`SAMPLES`].
pub const CHANNELS: usize = 2;
/// The channel of `icmpctl capture`.
pub const CAPTURE: usize = 0;
/// The channel of `icmpctl top`, which wants a few packets of all.
pub const SAMPLES: usize = 1;

/// Most bytes of a frame that are captured.
pub const MAX_SNAPLEN: usize = 16_336;

/// What is captured through one channel: frozen settings of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Channel {
    /// 1: anything is.
    pub on: u8,
    /// Zeros.
    pub reserved: [u8; 3],
    /// Bytes of each frame at most: no more than [`MAX_SNAPLEN`].
    pub snaplen: u32,
    /// Packets of each CPU in a jiffy at most; 0: all.
    pub per_jiffy: u32,
    /// Those that the rule with this slot decided about; [`Channel::ANY_RULE`].
    pub slot: u32,
    /// Bit n: packets counted under reason n are.
    pub reasons: u64,
    /// What addresses and types, by the number of the [`Family`].
    pub families: [ChannelFamily; 2],
}

/// What packets of one family are captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ChannelFamily {
    /// Bit `n % 64` of word `n / 64`: messages of type n are.
    pub types: [u64; 4],
    /// Those whose source, as words in memory order, is this...
    pub source: [u64; 2],
    /// ...in these bits.
    pub source_mask: [u64; 2],
    /// The same of the destination.
    pub destination: [u64; 2],
    /// As above.
    pub destination_mask: [u64; 2],
}

// SAFETY: integers and arrays of integers; the assertion below leaves no room for padding.
unsafe impl Plain for Channel {}

const _: () = assert!(size_of::<Channel>() == 24 + 2 * 96);

impl Channel {
    /// The [`Channel::slot`] for any rule, or none.
    pub const ANY_RULE: u32 = u32::MAX;

    /// Nothing is captured.
    pub const OFF: Self = Self {
        on: 0,
        reserved: [0; 3],
        snaplen: 0,
        per_jiffy: 0,
        slot: Self::ANY_RULE,
        reasons: 0,
        families: [ChannelFamily::NONE; 2],
    };
}

impl ChannelFamily {
    /// No packets.
    pub const NONE: Self = Self { types: [0; 4], ..Self::ALL };
    /// All packets.
    pub const ALL: Self = Self {
        types: [u64::MAX; 4],
        source: [0; 2],
        source_mask: [0; 2],
        destination: [0; 2],
        destination_mask: [0; 2],
    };
}

/// What stands before the bytes of a captured frame in the ring buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Captured {
    /// Nanoseconds of the monotonic clock.
    pub time: u64,
    /// The slot of the rule that decided; [`Captured::NO_RULE`].
    pub slot: u32,
    /// The interface's number.
    pub interface: u32,
    /// Length of the frame in bytes.
    pub length: u32,
    /// How many of them follow.
    pub captured: u32,
    /// Number of the [`Family`].
    pub family: u8,
    /// Number of the [`Reason`].
    pub reason: u8,
    /// 0: as it came; 1: as it, or the answer to it, leaves.
    pub leaves: u8,
    /// Zeros.
    pub reserved: [u8; 5],
}

// SAFETY: integers; the assertion below leaves no room for padding.
unsafe impl Plain for Captured {}

const _: () = assert!(size_of::<Captured>() == 32);

impl Captured {
    /// No rule was asked.
    pub const NO_RULE: u32 = u32::MAX;

    /// The reason, if the number is one's.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        reason(self.reason)
    }
}

/// Where one CPU keeps a packet that is under way and may be captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Scratch {
    /// 1: there is one.
    pub pending: u32,
    /// The jiffy of the last one, in its lower bits.
    pub jiffy: u32,
    /// Packets in it.
    pub used: u32,
    /// Zero.
    pub reserved: u32,
    /// What is known of it.
    pub captured: Captured,
    /// Its first bytes.
    pub bytes: [u8; MAX_SNAPLEN],
}

const _: () = assert!(size_of::<Scratch>() == 16 << 10);
