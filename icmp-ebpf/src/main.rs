//! The XDP program `icmpctl`: entry, and what an object file needs besides.

#![no_std]
#![no_main]

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
use icmp_ebpf::{
    Verdict, handle,
    kernel::{frame::PacketFrame, state::Maps},
};

/// Entry of the XDP program. Inlined into the function that the macro makes of it: a call costs as much as half of the
/// packet's way.
#[xdp(frags)]
#[inline(always)]
fn icmpctl(context: XdpContext) -> u32 {
    let mut frame = PacketFrame::new(context.ctx);
    let mut state = Maps::new(context.ctx);
    match handle(&mut frame, &mut state) {
        Verdict::Pass => xdp_action::XDP_PASS,
        Verdict::Answer | Verdict::Reject => xdp_action::XDP_TX,
        Verdict::Deny | Verdict::Limit | Verdict::Malformed => xdp_action::XDP_DROP,
    }
}

/// The licence that the kernel reads; some helpers are for GPL-compatible programs alone.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
pub static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Arithmetic that overflows or indexes out of bounds would end here; the data path has none, and the kernel's
/// verifier would refuse a program that could get here.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
