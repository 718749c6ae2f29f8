//! The harness of the tests of the whole: what they stand on, apart from what they say.
//!
//! `host` and `loaded` run the data path in its two builds, `both` compares them, `frames` makes frames and `oracle` says what should
//! come of them, both with other people's encoders. `sketch` makes random frames of all sorts, `packets` random packets that rules are
//! about, `rules` random policies, and walks their rules; `seed` lets random tests be repeated. `netns` makes networks, `port` sends
//! raw frames in them, `ping` real pings, `flood` as many as the kernel can make, `scapy` what scapy makes of either, and `icmpctl`
//! runs the real binary there, also in a `terminal`; `prometheus` runs a real Prometheus, and `http` talks to both. `parity` lists in what a host with the
//! program may differ from one without; `conformance` lists what has to be done, and finds the tests that show it.
//! Tests that need a kernel are marked `#[ignore = "needs root and BPF"]`.

pub mod both;
pub mod conformance;
pub mod flood;
pub mod frames;
pub mod host;
pub mod http;
pub mod icmpctl;
pub mod loaded;
pub mod netns;
pub mod oracle;
pub mod packets;
pub mod parity;
pub mod ping;
pub mod port;
pub mod prometheus;
pub mod rules;
pub mod scapy;
pub mod seed;
pub mod sketch;
pub mod terminal;
