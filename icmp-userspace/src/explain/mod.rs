//! What the data path makes of a packet, and why.

pub mod host;
