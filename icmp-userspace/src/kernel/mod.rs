//! The only code that talks to the kernel: loading, attaching, swapping, pins, interfaces and their addresses.

pub mod attach;
pub mod bans;
pub mod bpf;
pub mod change;
pub mod clock;
pub mod error;
pub mod interface;
pub mod listing;
pub mod load;
pub mod lock;
pub mod namespace;
mod object;
pub mod pins;
pub mod privileges;
pub mod record;
pub mod sets;
pub mod stamp;
pub mod state;
pub mod trial;

pub use error::Error;
