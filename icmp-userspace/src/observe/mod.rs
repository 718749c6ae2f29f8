//! What the program counted and captured, as people and programs want to read it.

pub mod captured;
pub mod counters;
pub mod decode;
pub mod events;
pub mod filter;
pub mod limits;
pub mod line;
pub mod metrics;
pub mod pcapng;
pub mod rates;
pub mod rules;
pub mod served;
pub mod snmp;
pub mod told;
pub mod top;
pub mod types;
