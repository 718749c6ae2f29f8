//! The thin shell around the data path in the kernel: the packet, the maps, the helpers.

mod capture;
pub mod frame;
#[cfg(feature = "debug-log")]
mod log;
pub mod maps;
pub mod state;

/// The number that it is called with, which the verifier does not know of a function with a global name.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn icmpctl_forget(number: u32) -> u32 {
    crate::hidden(number as usize) as u32
}
