//! The age from which on Matomo wants the token: 24 h, unless its administrator set another one
//! (`tracking_requests_require_authentication_when_custom_timestamp_newer_than`).

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How close, in seconds, a hit may be to the limit and still be sent with others. A hit that is
/// closer may cross the limit while the request is under way.
const TOKEN_MARGIN: i64 = 120;

/// How old a hit is for Matomo, which decides how it may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// Matomo takes it without a token.
    Fresh,
    /// It is about to cross Matomo's age limit. It is sent alone, so that a refusal means no other
    /// hit.
    Crossing,
    /// It is over the limit, and needs a token with write access.
    NeedsToken,
}

/// Matomo's age limit: it refuses a hit whose `cdt` is this old, unless the request carries a token
/// with write access. In seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MaxAge(u32);

impl MaxAge {
    /// What Matomo has where nobody changed it.
    pub const OF_MATOMO: Self = Self(86_400);

    /// The limit of so many seconds. What is longer than a `u32` holds is no limit at all.
    pub fn new(limit: Duration) -> Self {
        Self(u32::try_from(limit.as_secs()).unwrap_or(u32::MAX))
    }

    /// The limit in seconds.
    pub fn seconds(self) -> i64 {
        self.0.into()
    }

    /// How many seconds are left to a hit of this age; 0 if it is over the limit.
    pub fn left(self, age: u64) -> u64 {
        u64::from(self.0).saturating_sub(age)
    }

    /// How many seconds before the limit a hit is near it: a sixth of the limit, which is 4 h of
    /// 24.
    pub fn warning(self) -> u64 {
        u64::from(self.0 / 6)
    }

    /// The age in seconds from which on a hit is near the limit: 20 h of 24.
    pub fn warn_after(self) -> i64 {
        i64::from(self.0 - self.0 / 6)
    }

    /// Whether Matomo wants the token for a hit of this age in seconds.
    pub fn is_over(self, age: i64) -> bool {
        age >= self.seconds()
    }

    /// The age of a hit of this `cdt` at `now`.
    pub fn of(self, cdt: Timestamp, now: Timestamp) -> Age {
        // Most hits must be able to go with others, however short the limit is.
        let margin = TOKEN_MARGIN.min(self.seconds() / 2);
        match now.as_second() - cdt.as_second() {
            age if self.is_over(age) => Age::NeedsToken,
            age if age >= self.seconds() - margin => Age::Crossing,
            _ => Age::Fresh,
        }
    }
}

impl Default for MaxAge {
    fn default() -> Self {
        Self::OF_MATOMO
    }
}

impl fmt::Display for MaxAge {
    /// Writes the limit in its largest whole unit: `24 h`, `90 min`, `45 s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            seconds if seconds > 0 && seconds % 3_600 == 0 => write!(f, "{} h", seconds / 3_600),
            seconds if seconds > 0 && seconds % 60 == 0 => write!(f, "{} min", seconds / 60),
            seconds => write!(f, "{seconds} s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(seconds: u64) -> MaxAge {
        MaxAge::new(Duration::from_secs(seconds))
    }

    fn aged(limit: MaxAge, seconds: i64) -> Age {
        let at = |second| Timestamp::from_second(second).expect("in range");
        limit.of(at(1_800_000_000 - seconds), at(1_800_000_000))
    }

    #[test]
    fn the_24_hour_line_is_matomos() {
        let of = |seconds| aged(MaxAge::default(), seconds);
        assert_eq!(of(86_400), Age::NeedsToken);
        assert_eq!(of(86_399), Age::Crossing);
        assert_eq!(of(86_400 - TOKEN_MARGIN), Age::Crossing);
        assert_eq!(of(86_399 - TOKEN_MARGIN), Age::Fresh);
        assert_eq!(of(-10), Age::Fresh);
    }

    #[test]
    fn another_line_is_kept_to_the_second() {
        let hour = limit(3_600);
        assert_eq!(aged(hour, 3_600), Age::NeedsToken);
        assert_eq!(aged(hour, 3_599), Age::Crossing);
        assert_eq!(aged(hour, 3_479), Age::Fresh);
        assert_eq!(aged(limit(172_800), 90_000), Age::Fresh);
        // A short limit leaves most hits fresh.
        assert_eq!(
            [4, 5, 10].map(|age| aged(limit(10), age)),
            [Age::Fresh, Age::Crossing, Age::NeedsToken]
        );
    }

    #[test]
    fn a_warning_comes_at_five_sixths() {
        assert_eq!((MaxAge::default().warn_after(), MaxAge::default().warning()), (72_000, 14_400));
        assert_eq!((limit(3_600).warn_after(), limit(3_600).warning()), (3_000, 600));
        assert_eq!((limit(3_600).left(600), limit(3_600).left(4_000)), (3_000, 0));
    }

    #[test]
    fn it_reads_as_people_write_it() {
        assert_eq!(
            [86_400, 5_400, 45, 0].map(|seconds| limit(seconds).to_string()),
            ["24 h", "90 min", "45 s", "0 s"]
        );
    }
}
