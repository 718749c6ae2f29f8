//! The only code that talks to the kernel: loading, attaching, swapping, pins, interfaces and their addresses,
//! and what kernel and drivers can do.

pub mod attach;
pub mod bans;
pub mod bpf;
pub mod change;
pub mod channels;
pub mod clock;
pub mod device;
pub mod error;
pub mod events;
mod generic;
pub mod interface;
pub mod listing;
pub mod load;
pub mod lock;
pub mod namespace;
mod object;
pub mod pins;
pub mod privileges;
pub mod probe;
pub mod record;
pub mod release;
pub mod ring;
pub mod sets;
pub mod stack;
pub mod stamp;
pub mod state;
pub mod trial;

pub use error::Error;
