//! The forecast: when the shards will be empty at this rate, and when it will be too late.

use serde::{Deserialize, Serialize};

use crate::domain::cdt::NEEDS_TOKEN_AFTER;

/// How many seconds must lie between two readings of the depths for a trend to show.
const MIN_TREND_SECONDS: u64 = 15;

/// What is to be expected of the hits that wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    /// How long it takes until the shards are empty, at the rate of the last minutes; `None` if
    /// they do not get emptier.
    pub drained_seconds: Option<u64>,
    /// How long it takes until the oldest waiting hit is 24 h old; `None` with a token, and if its
    /// age is not known.
    pub limit_seconds: Option<u64>,
}

/// How many hits waited some time ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Earlier {
    /// How many hits were in the shards.
    pub waiting: u64,
    /// How many seconds ago that was.
    pub seconds: u64,
}

impl Forecast {
    /// Makes the forecast for so many waiting hits, the oldest of which has that age.
    pub fn new(
        waiting: u64,
        earlier: Option<Earlier>,
        oldest_seconds: Option<u64>,
        has_token: bool,
    ) -> Self {
        let drained = |earlier: Earlier| {
            let fewer = earlier.waiting.checked_sub(waiting).filter(|fewer| *fewer > 0)?;
            Some(waiting.saturating_mul(earlier.seconds).div_ceil(fewer))
        };
        Self {
            drained_seconds: earlier
                .filter(|earlier| waiting > 0 && earlier.seconds >= MIN_TREND_SECONDS)
                .and_then(drained),
            limit_seconds: oldest_seconds
                .filter(|_| !has_token)
                .map(|age| NEEDS_TOKEN_AFTER.unsigned_abs().saturating_sub(age)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gets_less_ends_and_what_grows_does_not() {
        let drained = |waiting, before, seconds| {
            Forecast::new(waiting, Some(Earlier { waiting: before, seconds }), None, false)
                .drained_seconds
        };
        assert_eq!(drained(9_000, 10_000, 100), Some(900));
        assert_eq!(drained(10_000, 9_000, 100), None);
        assert_eq!(drained(10_000, 10_000, 100), None);
        assert_eq!(drained(9_000, 10_000, 5), None, "too short a time to tell");
        assert_eq!(drained(0, 10_000, 100), None);
        assert_eq!(Forecast::new(10, None, None, false), Forecast::default());
    }

    #[test]
    fn the_limit_is_24_h_without_a_token() {
        assert_eq!(Forecast::new(1, None, Some(54_000), false).limit_seconds, Some(32_400));
        assert_eq!(Forecast::new(1, None, Some(90_000), false).limit_seconds, Some(0));
        assert_eq!(Forecast::new(1, None, Some(54_000), true).limit_seconds, None);
    }
}
