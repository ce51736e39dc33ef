//! How much a worker may have under way at Matomo: the number of requests, and the hits of each.
//!
//! Rule: a Matomo that answers late is sent less at a time. Nobody tunes this, and the workers do
//! not talk to each other: each has a [`Limiter`] of its own, which is told of every request when
//! it begins and when it ends, and says what may begin next.
//!
//! # Why this one
//!
//! Netflix' concurrency-limits (Vegas, Gradient2, and tower-acc after them) hold an answer against
//! the fastest or the usual one, and so does Vector's adaptive request concurrency
//! (rate_limiter_aimd is a copy of it): a worker that starts while others wait takes their wait for
//! normal, requests are counted where the cost is in the hits, and lost answers are the price of
//! finding the limit, of which each is a copy here. So the latency is held against a target that
//! follows from the timeout alone, as Swift does in data centres, with a pause between requests
//! where even one at a time is too much. The target falls as a worker has more under way: all
//! workers see the same queue, so the one that has more gives way to the one that has less,
//! whenever they started.
//!
//! # How it works
//!
//! - `limiter/window.rs` holds the hits under way, a real number: it doubles each round trip while
//!   answers take less than half of the target, follows the target near it, and is cut at once
//!   where they take far longer, once per round trip.
//! - `limiter/split.rs` divides them into requests. Of the requests that a limit holds back, one in
//!   five has another size than the others: in the same queue, the difference of their latencies is
//!   the cost of the hits alone. Where that is most of the latency nobody waits, and more requests
//!   at a time help; where it is little, fewer and larger ones do the same with less to wait for.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::answer::{Interpretation, Reason};

mod split;
mod window;

use split::Split;
use window::{Window, real};

/// The rest after a refusal while no other request is under way; it doubles with each refusal.
const SHORTEST_REST: Duration = Duration::from_millis(50);

/// The longest rest after refusals. What is refused for longer is an outage, which is the
/// breaker's.
const LONGEST_REST: Duration = Duration::from_secs(2);

/// After a lost answer, and after the first answer since, the next request waits no longer than
/// this, so that the end of a stall is noticed soon.
const LONGEST_PAUSE_AFTER_LOSS: Duration = Duration::from_secs(5);

/// Without an answer for this share of the timeout, while requests are under way, none begins.
const SILENCE_SHARE: f64 = 0.25;

/// What a limiter stays within.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadBounds {
    /// `MATOMO_CONCURRENCY`: the most requests under way, at least 1.
    pub requests: usize,
    /// `MATOMO_BULK_SIZE`: the most hits of a request, at least 1.
    pub hits: usize,
    /// `MATOMO_TIMEOUT`: after this long a request is given up, and Matomo may store it still.
    pub timeout: Duration,
}

/// What the end of a request says of Matomo's load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadSignal {
    /// Matomo took its time and answered; how long it took counts.
    Answered,
    /// Something before Matomo, or its pool of processes, had no room: surely nothing was stored.
    Refused,
    /// No answer came, so what was sent may be stored.
    Lost,
    /// Nothing is learnt of the load.
    Unrelated,
}

impl From<&Interpretation> for LoadSignal {
    fn from(interpretation: &Interpretation) -> Self {
        match interpretation {
            Interpretation::Stored { .. }
            | Interpretation::Refused { .. }
            | Interpretation::Ambiguous(_) => Self::Answered,
            Interpretation::DownAmbiguous(_) => Self::Lost,
            Interpretation::Suspect(failure)
            | Interpretation::SuspectAmbiguous(failure)
            | Interpretation::Down(failure) => match failure.reason {
                Reason::TooManyRequests | Reason::BadGateway | Reason::Unavailable => Self::Refused,
                Reason::ServerError => Self::Answered,
                _ => Self::Unrelated,
            },
        }
    }
}

/// What may be under way now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// The most requests, from 1 to [`LoadBounds::requests`].
    pub requests: usize,
    /// The most hits of a request, from 1 to [`LoadBounds::hits`].
    pub hits: usize,
}

/// Whether a request may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Yes, with at most so many hits, at least 1.
    Go(usize),
    /// Not before this time.
    WaitUntil(Instant),
    /// Not before a request that is under way has ended.
    WaitForAnswer,
}

/// A request that is under way. Whoever has it gives it back with [`Limiter::end`] or
/// [`Limiter::abandon`].
#[derive(Debug)]
#[must_use]
pub struct Begun {
    /// When it began.
    at: Instant,
    /// How many hits it has.
    hits: usize,
    /// The hits under way when it began, its own included.
    hits_under_way: usize,
    /// Whether no other might be under way with it.
    alone: bool,
    /// Whether it was to have another size than others, so that the cost of a hit shows.
    odd: bool,
}

/// Decides how much one worker has under way.
#[derive(Debug)]
pub struct Limiter {
    /// What the settings allow.
    bounds: LoadBounds,
    /// How many hits may be under way.
    window: Window,
    /// In how many requests.
    split: Split,
    /// The requests under way.
    requests: usize,
    /// The hits in them.
    hits: usize,
    /// When an answer came last, or the only request under way began, whichever is later.
    heard: Option<Instant>,
    /// No request begins before this time.
    not_before: Option<Instant>,
    /// How many requests in a row were refused.
    refusals: u32,
    /// Whether no answer came since the last loss.
    is_after_loss: bool,
}

impl Limiter {
    /// A limiter that knows nothing yet: one request of one hit.
    pub fn new(bounds: LoadBounds) -> Self {
        let bounds =
            LoadBounds { requests: bounds.requests.max(1), hits: bounds.hits.max(1), ..bounds };
        Self {
            bounds,
            window: Window::new(bounds),
            split: Split::new(bounds),
            requests: 0,
            hits: 0,
            heard: None,
            not_before: None,
            refusals: 0,
            is_after_loss: false,
        }
    }

    /// What may be under way now.
    pub fn limit(&self) -> Limit {
        self.split.limit(self.window.hits())
    }

    /// What the settings allow at most.
    pub fn most(&self) -> Limit {
        Limit { requests: self.bounds.requests, hits: self.bounds.hits }
    }

    /// May a request begin now? Changes nothing: who goes calls [`Limiter::begin`].
    pub fn ask(&self, now: Instant) -> Room {
        if let Some(time) = self.not_before.filter(|time| now < *time) {
            return Room::WaitUntil(time);
        }
        let (limit, window) = (self.limit(), self.window.hits());
        if self.requests >= limit.requests || self.is_silent(now) {
            return Room::WaitForAnswer;
        }
        let hits = self.split.next(window).hits;
        // A request of another size may be larger than the others, and than what is left.
        let is_too_much = real(self.hits + hits) > window.ceil().max(real(limit.requests));
        if self.requests > 0 && is_too_much { Room::WaitForAnswer } else { Room::Go(hits) }
    }

    /// Whether requests are under way and nothing was heard for long.
    fn is_silent(&self, now: Instant) -> bool {
        let silence =
            self.heard.map_or(Duration::ZERO, |heard| now.saturating_duration_since(heard));
        self.requests > 0 && silence > self.bounds.timeout.mul_f64(SILENCE_SHARE)
    }

    /// A request of so many hits begins.
    pub fn begin(&mut self, hits: usize, now: Instant) -> Begun {
        let alone = self.limit().requests == 1;
        if self.requests == 0 {
            self.heard = Some(now);
        }
        self.requests += 1;
        self.hits += hits;
        let odd = self.split.begun(self.window.hits());
        Begun { at: now, hits, hits_under_way: self.hits, alone, odd }
    }

    /// The request that has begun has so many hits.
    pub fn resize(&mut self, request: &mut Begun, hits: usize) {
        let others = self.hits.saturating_sub(request.hits);
        request.hits_under_way = request.hits_under_way.saturating_sub(request.hits) + hits;
        request.hits = hits;
        self.hits = others + hits;
    }

    /// The request was not sent after all.
    pub fn abandon(&mut self, request: Begun) {
        self.requests = self.requests.saturating_sub(1);
        self.hits = self.hits.saturating_sub(request.hits);
    }

    /// The request has its answer, or is given up.
    pub fn end(&mut self, request: Begun, outcome: LoadSignal, now: Instant) {
        let latency = now.saturating_duration_since(request.at).as_secs_f64();
        match outcome {
            LoadSignal::Answered => self.answered(&request, latency, now),
            LoadSignal::Refused => self.refused(&request, now),
            LoadSignal::Lost => {
                self.is_after_loss = true;
                let others_answered = !self.is_silent(now);
                self.window.lost(request.at, others_answered, now);
                self.split.lost(others_answered);
            }
            LoadSignal::Unrelated => {}
        }
        if matches!(outcome, LoadSignal::Answered | LoadSignal::Refused) {
            self.heard = Some(now);
        }
        self.abandon(request);
        self.pause(latency, outcome, now);
    }

    /// Where even one request at a time is too much, the next one waits.
    fn pause(&mut self, latency: f64, outcome: LoadSignal, now: Instant) {
        let longest = if self.is_after_loss { LONGEST_PAUSE_AFTER_LOSS } else { Duration::MAX };
        match outcome {
            LoadSignal::Answered => self.is_after_loss = false,
            LoadSignal::Lost | LoadSignal::Refused => {}
            LoadSignal::Unrelated => return,
        }
        let pause = self.window.pause(latency).min(longest);
        let next = now + pause;
        self.not_before = Some(self.not_before.map_or(next, |time| time.max(next)));
    }

    fn answered(&mut self, request: &Begun, latency: f64, now: Instant) {
        self.refusals = 0;
        let growth = self.window.answered(request, latency, now);
        self.split.answered(request, latency, self.window.hits(), growth, now);
    }

    fn refused(&mut self, request: &Begun, now: Instant) {
        self.refusals = self.refusals.saturating_add(1);
        if self.window.refused(request.at, now) {
            self.split.refused(now);
        }
        if self.requests <= 1 {
            let doublings = self.refusals.saturating_sub(1).min(10);
            let rest = (SHORTEST_REST * 2_u32.pow(doublings)).min(LONGEST_REST);
            self.not_before = Some(now + rest);
        }
    }
}

#[cfg(test)]
mod tests;
