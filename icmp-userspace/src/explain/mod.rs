//! What becomes of a packet, and why: the data path itself is run on it, and what it did is put into words.
//!
//! `packet` makes a packet, `capture` reads some from a file. `host` runs the host build, for a policy that is not loaded;
//! `loaded` a second instance of the program that is. `outcome` says what came of it.

pub mod capture;
pub mod host;
pub mod loaded;
pub mod outcome;
pub mod packet;
