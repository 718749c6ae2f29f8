//! User space of icmpctl: `policy` turns text into tables, `kernel` loads and attaches, `observe` reads what
//! the program counted, `explain` says what becomes of a packet, `doctor` what a kernel and its
//! interfaces are good for. The command line on top of them is the binary's.
//!
//! Dependencies point one way: `policy` knows no kernel, `kernel` knows no text, and none of them prints.

pub mod doctor;
pub mod duration;
pub mod explain;
pub mod kernel;
pub mod observe;
pub mod policy;
