//! The kernel's clocks: jiffies, as the packet path reads them, and how far TAI is ahead.

use std::{fs, io, mem};

use icmp_common::bucket::TICK;
use rustix::time::{ClockId, clock_getres};

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

/// The time in ticks; `None` if the kernel does not tell, which only root learns (`/proc/timer_list`).
#[must_use]
pub fn now() -> Option<u64> {
    let text = fs::read_to_string("/proc/timer_list").ok()?;
    // One line for each CPU; they differ by what has happened while the file was written.
    let jiffies = text.lines().filter_map(|line| line.strip_prefix("jiffies:"));
    let now: u64 = jiffies.filter_map(|jiffies| jiffies.trim().parse().ok()).max()?;
    Some(now.wrapping_mul(jiffy().into()))
}

/// How many seconds the clock TAI is ahead of UTC; 0 as long as no time daemon has told the kernel.
pub fn tai_offset() -> io::Result<i32> {
    // SAFETY: all zeros are such a structure; with no mode set nothing is changed.
    let mut timex: libc::timex = unsafe { mem::zeroed() };
    // SAFETY: the structure outlives the call.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    if state < 0 { Err(io::Error::last_os_error()) } else { Ok(timex.tai) }
}
