//! Into how many requests the hits under way are divided.

use std::time::{Duration, Instant};

use super::window::{Growth, real};
use super::{Begun, Limit, LoadBounds};

/// One request in so many has another size, while a limit holds requests back.
const ODD_ONE_IN: u32 = 5;

/// Of an answer's time, the hits' own cost should be this share. Above it, the slots of Matomo are
/// hardly waited for, and may be idle; below it, more is waited for than they need to be busy.
const OWN_SHARE: f64 = 0.5;

/// How fast the number of requests follows: by this factor times the difference of the share, per
/// request of the other size.
const GAIN: f64 = 0.5;

/// Above this share nobody waits at all: other slots are idle.
const IDLE_SHARE: f64 = 0.8;

/// As [`GAIN`], from the start, or from a loss, until slots are no longer idle: to about twice as
/// many requests. Later the same share may be chance.
const IDLE_GAIN: f64 = 2.0;

/// The weight of the latest answer in the mean.
const WEIGHT: f64 = 0.3;

/// While answers come fast, requests have at least so many hits before there are more requests.
const FIRST_HITS: f64 = 2.0;

/// A number of requests that was refused is not tried again for so long.
const CEILING_HOLDS: Duration = Duration::from_secs(3);

/// After that the ceiling rises by so many requests per second.
const CEILING_RISE: f64 = 1.0;

/// The next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NextSize {
    /// The most hits that it may have.
    pub(super) hits: usize,
    /// Whether it has another size than most.
    pub(super) odd: bool,
}

/// The number of requests, and what it is decided by.
#[derive(Debug)]
pub(super) struct Split {
    /// What the settings allow.
    bounds: LoadBounds,
    /// How many requests may be under way, a real number from 1.
    requests: f64,
    /// The most requests that were left by the last refusal, and when that was.
    ceiling: Option<(f64, Instant)>,
    /// How many requests have begun.
    begun: u32,
    /// The part of a hit, from 0 to 1, by which the last requests were smaller than they might have
    /// been: sizes are whole, and their mean is to be exact.
    rest: f64,
    /// The usual size of the last requests, and their mean latency in seconds.
    usual: Option<(f64, f64)>,
    /// Whether slots were idle ever since the start, or since a loss.
    is_new: bool,
}

impl Split {
    pub(super) fn new(bounds: LoadBounds) -> Self {
        Self {
            bounds,
            requests: 1.0,
            ceiling: None,
            begun: 0,
            rest: 0.5,
            usual: None,
            is_new: true,
        }
    }

    /// The limit for a window of so many hits.
    pub(super) fn limit(&self, window: f64) -> Limit {
        let requests = whole(self.requests, self.bounds.requests);
        let requests = requests.min(whole(window.floor(), self.bounds.requests));
        Limit { requests, hits: whole(window / real(requests), self.bounds.hits) }
    }

    /// How many hits the next request may have, and whether it is one of another size.
    pub(super) fn next(&self, window: f64) -> NextSize {
        let limit = self.limit(window);
        let full = Limit { requests: self.bounds.requests, hits: self.bounds.hits };
        if limit == full {
            return NextSize { hits: limit.hits, odd: false };
        }
        let exact = window / real(limit.requests);
        let usual = whole((exact + self.rest).floor(), self.bounds.hits);
        let is_turn = self.begun % ODD_ONE_IN == ODD_ONE_IN - 1;
        match usual {
            _ if !is_turn => NextSize { hits: usual, odd: false },
            // With one request of one hit at a time there is nothing to choose.
            1 if limit.requests == 1 || self.bounds.hits == 1 => NextSize { hits: 1, odd: false },
            1 => NextSize { hits: 2, odd: true },
            _ => NextSize { hits: usual / 2, odd: true },
        }
    }

    /// A request begins. Whether it was to be one of another size.
    pub(super) fn begun(&mut self, window: f64) -> bool {
        let next = self.next(window);
        self.begun = self.begun.wrapping_add(1);
        if !next.odd {
            let exact = window / real(self.limit(window).requests);
            self.rest = (self.rest + exact - real(next.hits)).clamp(0.0, 1.0);
        }
        next.odd
    }

    /// A request was answered, and the window has so many hits since.
    pub(super) fn answered(
        &mut self,
        request: &Begun,
        latency: f64,
        window: f64,
        growth: Growth,
        now: Instant,
    ) {
        if let Growth::Fast(factor) = growth {
            let first_hits = FIRST_HITS.min(real(self.bounds.hits));
            let grown = (self.requests * factor).min(window / first_hits);
            self.requests = self.requests.max(grown);
        }
        if !request.odd {
            self.learn(real(request.hits), latency);
        } else if let Some(share) = self.own_share(real(request.hits), latency) {
            self.is_new = self.is_new && share > IDLE_SHARE;
            let gain = if self.is_new { IDLE_GAIN } else { GAIN };
            self.requests *= (gain * (share - OWN_SHARE)).exp();
        }
        let least = (window / real(self.bounds.hits)).max(1.0);
        self.requests = self.requests.max(least).min(self.ceiling(now)).max(1.0);
    }

    /// Takes the latency of a request of the usual size in; another size begins a new mean.
    fn learn(&mut self, hits: f64, latency: f64) {
        let (size, mean) = self.usual.unwrap_or((hits, latency));
        let weight = if (size - hits).abs() > size / 4.0 { 1.0 } else { WEIGHT };
        self.usual = Some((size + weight * (hits - size), mean + weight * (latency - mean)));
    }

    /// The share of the usual latency that is the cost of the hits, by a request of another size.
    fn own_share(&self, hits: f64, latency: f64) -> Option<f64> {
        let differ = |(size, mean): &(f64, f64)| (size - hits).abs() > size / 4.0 && *mean > 0.0;
        let (size, mean) = self.usual.filter(differ)?;
        let per_hit = (mean - latency) / (size - hits);
        Some((per_hit * size / mean).clamp(-0.5, 1.5))
    }

    /// Requests were refused: so many at a time are too many.
    pub(super) fn refused(&mut self, now: Instant) {
        self.requests = (self.requests * 0.7).max(1.0);
        self.ceiling = Some((self.requests, now));
    }

    /// The most requests, by the last refusal.
    fn ceiling(&self, now: Instant) -> f64 {
        let most = real(self.bounds.requests);
        self.ceiling.map_or(most, |(requests, since)| {
            let rising = now.saturating_duration_since(since).saturating_sub(CEILING_HOLDS);
            (requests + rising.as_secs_f64() * CEILING_RISE).min(most)
        })
    }

    /// A request had no answer, while others had one or not.
    pub(super) fn lost(&mut self, others_answered: bool) {
        if !others_answered {
            self.requests = 1.0;
            self.usual = None;
            // The second request from now on shows whether there is room for more of them.
            self.begun = ODD_ONE_IN - 2;
            self.is_new = true;
        }
    }
}

/// The nearest whole number from 1 to `most`.
fn whole(number: f64, most: usize) -> usize {
    let most_real = real(most);
    // Within 1 and `most`, so that nothing is cut off.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within bounds")]
    let rounded = number.round().clamp(1.0, most_real) as usize;
    rounded.min(most).max(1)
}
