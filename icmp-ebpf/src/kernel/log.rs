//! What each step of a packet has come to, through aya-log: for whoever works on the data path. No release is built with it.

use core::ptr;

use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::info;
use icmp_common::{counters::Slot, tables::Outcome};

use crate::Step;

/// [`crate::State::log`]. With a global name and called, as those in `state.rs`.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn icmpctl_log(step: u32, number: u32) -> u32 {
    // The macros want one, but ask it for nothing.
    let context = XdpContext::new(ptr::null_mut());
    if step == Step::Parse as u32 {
        info!(&context, "parse: ICMP over IPv{}", if number == 0 { 4_u32 } else { 6 });
    } else if step == Step::Classify as u32 {
        let outcome = Outcome(number);
        info!(&context, "classify: ruling {} by the rule in slot {}", number >> 16, outcome.slot());
    } else if step == Step::Limit as u32 {
        info!(&context, "limit: within {}", number);
    } else if step == Step::Answer as u32 {
        if number == u32::MAX {
            info!(&context, "answer: another request than echo");
        } else {
            info!(&context, "answer: reason {}", number);
        }
    } else if step == Step::Reject as u32 {
        if number == u32::MAX {
            info!(&context, "reject: no error may be sent");
        } else {
            info!(&context, "reject: code {}", number);
        }
    } else {
        let slot = Slot::from_number(number);
        info!(
            &context,
            "count: IPv{} under reason {}",
            if slot.family() == 0 { 4_u32 } else { 6 },
            slot.reason()
        );
    }
    0
}
