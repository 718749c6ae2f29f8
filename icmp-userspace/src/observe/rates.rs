//! Rates: what has been counted since an earlier reading, a second.

/// An earlier reading.
#[derive(Debug)]
pub struct Before<'a, T> {
    /// What was read.
    pub reading: &'a T,
    /// How long ago that was.
    pub seconds: f64,
}

impl<T> Clone for Before<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Before<'_, T> {}

impl<T> Before<'_, T> {
    /// So many packets since then, a second; to a tenth, which is as exact as anybody reads it.
    #[must_use]
    pub fn per_second(&self, packets: u64) -> f64 {
        // No two readings are at the same time, but clocks are coarse.
        (packets as f64 / self.seconds.max(0.001) * 10.0).round() / 10.0
    }
}
