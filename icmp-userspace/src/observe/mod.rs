//! What the program counted, as people and programs want to read it.

pub mod counters;
pub mod events;
pub mod limits;
pub mod metrics;
pub mod rates;
pub mod rules;
pub mod served;
pub mod snmp;
pub mod told;
pub mod types;
