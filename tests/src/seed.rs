//! How often random tests try, and from which seed: each time the same, so that a run shows what a change has done; another one each
//! time with `--long`. `ICMPCTL_SEED=7 cargo xtask test NAME` tries what seed 7 comes to.

use std::{
    env,
    hash::{BuildHasher as _, RandomState},
};

use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Whether this is `cargo xtask test --long`.
#[must_use]
pub fn is_long() -> bool {
    env::var_os("ICMPCTL_LONG").is_some()
}

/// The seed of runs that are not long.
const USUAL: u64 = 8335;

/// What a test of random cases begins from; says so, which is shown if the test fails.
///
/// # Panics
///
/// Panics if `ICMPCTL_SEED` is no number.
#[must_use]
pub fn runner(cases: u32) -> TestRunner {
    let usual = || if is_long() { RandomState::new().hash_one(()) } else { USUAL };
    let seed = env::var("ICMPCTL_SEED").map_or_else(|_| usual(), |text| text.parse().unwrap());
    println!("to try this again: ICMPCTL_SEED={seed}");
    let mut bytes = [1; 16];
    bytes[..8].copy_from_slice(&u64::to_le_bytes(seed));
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::XorShift, &bytes))
}
