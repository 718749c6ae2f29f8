//! The kernel's clock of jiffies, as the packet path reads it.

use std::fs;

use icmp_common::bucket::TICK;
use rustix::time::{ClockId, clock_getres};

/// Ticks of a jiffy: the resolution of the clock that advances with it.
#[must_use]
pub fn jiffy() -> u32 {
    let resolution = clock_getres(ClockId::MonotonicCoarse);
    (resolution.tv_nsec as u64 / TICK).max(1) as u32
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
