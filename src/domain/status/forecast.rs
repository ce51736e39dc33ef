//! The forecast: when the shards will be empty at this rate, and when it will be too late.

use serde::{Deserialize, Serialize};

use crate::domain::max_age::MaxAge;

/// How many seconds must lie between two readings of the depths for a trend to show.
const MIN_TREND_SECONDS: u64 = 15;

/// What is to be expected of the hits that wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    /// How long it takes until the shards are empty, at the rate of the last minutes; `None` if
    /// they do not get emptier.
    pub drained_seconds: Option<u64>,
    /// How long it takes until the oldest waiting hit is over the age limit; `None` with a token,
    /// and if its age is not known.
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
    /// Makes the forecast for so many waiting hits, the oldest of which has that age. `limit` is
    /// Matomo's age limit where there is no token, which lifts it.
    pub fn new(
        waiting: u64,
        earlier: Option<Earlier>,
        oldest_seconds: Option<u64>,
        limit: Option<MaxAge>,
    ) -> Self {
        let drained = |earlier: Earlier| {
            let fewer = earlier.waiting.checked_sub(waiting).filter(|fewer| *fewer > 0)?;
            Some(waiting.saturating_mul(earlier.seconds).div_ceil(fewer))
        };
        Self {
            drained_seconds: earlier
                .filter(|earlier| waiting > 0 && earlier.seconds >= MIN_TREND_SECONDS)
                .and_then(drained),
            limit_seconds: limit.zip(oldest_seconds).map(|(limit, age)| limit.left(age)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Option<MaxAge> = Some(MaxAge::OF_MATOMO);

    #[test]
    fn what_gets_less_ends_and_what_grows_does_not() {
        let drained = |waiting, before, seconds| {
            Forecast::new(waiting, Some(Earlier { waiting: before, seconds }), None, LIMIT)
                .drained_seconds
        };
        assert_eq!(drained(9_000, 10_000, 100), Some(900));
        assert_eq!(drained(10_000, 9_000, 100), None);
        assert_eq!(drained(10_000, 10_000, 100), None);
        assert_eq!(drained(9_000, 10_000, 5), None, "too short a time to tell");
        assert_eq!(drained(0, 10_000, 100), None);
        assert_eq!(Forecast::new(10, None, None, LIMIT), Forecast::default());
    }

    #[test]
    fn there_is_a_limit_without_a_token() {
        assert_eq!(Forecast::new(1, None, Some(54_000), LIMIT).limit_seconds, Some(32_400));
        assert_eq!(Forecast::new(1, None, Some(90_000), LIMIT).limit_seconds, Some(0));
        let hour = Some(MaxAge::new(std::time::Duration::from_secs(3_600)));
        assert_eq!(Forecast::new(1, None, Some(3_000), hour).limit_seconds, Some(600));
        assert_eq!(Forecast::new(1, None, Some(54_000), None).limit_seconds, None);
    }
}
