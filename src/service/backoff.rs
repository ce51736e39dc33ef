//! How long to wait before the n-th try: an interval policy with jitter.
//!
//! The only file that knows the `backoff` crate, which is no longer maintained (RUSTSEC-2025-0012):
//! to replace it, replace the two functions below.

use std::time::Duration;

use backoff::ExponentialBackoffBuilder;
use backoff::backoff::Backoff;

/// Before the n-th probe of a Matomo that is away, from 0: half a second, doubling to 5 s. Short at
/// first, so that a deployment of Matomo costs seconds; bounded, so that delivery resumes soon
/// after any outage.
pub fn probe(n: u32) -> Duration {
    interval(n, Duration::from_millis(500), Duration::from_secs(5))
}

/// Before the n-th attempt to reach the broker again, from 0: a fifth of a second, doubling to 10
/// s.
pub fn reconnect(n: u32) -> Duration {
    interval(n, Duration::from_millis(200), Duration::from_secs(10))
}

/// Enough doublings to reach any of the ceilings above.
const STEPS: u32 = 10;

fn interval(n: u32, first: Duration, most: Duration) -> Duration {
    let mut policy = ExponentialBackoffBuilder::new()
        .with_initial_interval(first)
        .with_multiplier(2.0)
        .with_randomization_factor(0.25)
        .with_max_interval(most)
        .with_max_elapsed_time(None)
        .build();
    (0..=n.min(STEPS)).filter_map(|_| policy.next_backoff()).last().unwrap_or(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_grow_to_their_ceiling_with_jitter() {
        for (n, expected) in [(0, 500), (1, 1_000), (3, 4_000), (4, 5_000), (1_000_000, 5_000)] {
            let millis = probe(n).as_millis();
            assert!(
                (expected * 3 / 4..=expected * 5 / 4).contains(&millis),
                "probe {n} after {millis} ms"
            );
        }
        let seen: std::collections::HashSet<_> = (0..20).map(|_| reconnect(3)).collect();
        assert!(seen.len() > 1, "replicas must not come back in step");
    }
}
