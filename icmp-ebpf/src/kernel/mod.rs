//! The thin shell around the data path in the kernel: the packet, the maps, the helpers.

pub mod frame;
pub mod maps;
pub mod state;
