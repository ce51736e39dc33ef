//! The limits of the histograms' buckets.

use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// Up to the most that `MATOMO_BULK_SIZE` can be.
pub(super) const BULK_HITS: [f64; 10] =
    [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0];

/// In seconds: up to 24 h, from which on Matomo wants a token by default; 72,000 s are the 20 h of
/// `near_limit`.
pub(super) const HIT_AGES: [f64; 12] =
    [0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 1_800.0, 7_200.0, 28_800.0, 72_000.0, 86_400.0];

/// 5 ms to 82 s: a single hit takes 15 ms, and `MATOMO_TIMEOUT` is 65 s.
pub(super) fn request_times() -> Histogram {
    Histogram::new(exponential_buckets(0.005, 2.0, 15))
}
