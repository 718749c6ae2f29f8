//! The kernel's clocks, as the packet path reads them.

use std::{fs, mem};

use icmp_common::bucket::TICK;
use rustix::time::{ClockId, Timespec, clock_getres, clock_gettime};

/// Of a second.
const NANOSECONDS: i64 = 1_000_000_000;

/// Ticks of a jiffy: the resolution of the clock that advances with it.
#[must_use]
pub fn jiffy() -> u32 {
    let resolution = clock_getres(ClockId::MonotonicCoarse);
    (resolution.tv_nsec as u64 / TICK).max(1) as u32
}

/// How many jiffies make a second.
#[must_use]
pub fn hz() -> u32 {
    let resolution = clock_getres(ClockId::MonotonicCoarse).tv_nsec.max(1);
    // The kernel's own nanoseconds of a jiffy are rounded.
    ((NANOSECONDS + resolution / 2) / resolution) as u32
}

/// Nanoseconds of the monotonic clock.
#[must_use]
pub fn monotonic() -> u64 {
    nanoseconds(clock_gettime(ClockId::Monotonic))
}

/// Nanoseconds of UTC since 1970 at a moment of the monotonic clock, if the clock of the day went then as it does now.
#[must_use]
pub fn utc_at(moment: u64) -> u64 {
    let ago = monotonic().saturating_sub(moment);
    nanoseconds(clock_gettime(ClockId::Realtime)).saturating_sub(ago)
}

fn nanoseconds(time: Timespec) -> u64 {
    time.tv_sec.unsigned_abs() * NANOSECONDS.unsigned_abs() + time.tv_nsec.unsigned_abs()
}

/// Seconds by which the clock of TAI is ahead of UTC: what has been told to the kernel, which mostly is a time server's client.
#[must_use]
pub fn tai_offset() -> u32 {
    // SAFETY: integers alone, for which zeros are values.
    let mut query: libc::timex = unsafe { mem::zeroed() };
    // SAFETY: a valid structure, whose modes ask for no change.
    let outcome = unsafe { libc::adjtimex(&raw mut query) };
    if outcome < 0 { 0 } else { query.tai.try_into().unwrap_or(0) }
}

/// The time in ticks; `None` if the kernel does not tell, which only root learns (`/proc/timer_list`).
#[must_use]
pub fn now() -> Option<u64> {
    let text = fs::read_to_string("/proc/timer_list").ok()?;
    // One line for each CPU; they differ by what has happened while the file was written.
    let jiffies = text.lines().filter_map(|line| line.strip_prefix("jiffies:"));
    let now: u64 = jiffies.filter_map(|jiffies| jiffies.trim().parse().ok()).max()?;
    Some(now.wrapping_mul(jiffy().into()))
}
