//! The only code that talks to the kernel: loading, attaching, pins, interfaces and their addresses.

pub mod attach;
pub mod bpf;
pub mod error;
pub mod interface;
pub mod load;
pub mod lock;
pub mod namespace;
pub mod pins;
pub mod privileges;
pub mod record;

pub use error::Error;
