//! How many hits may be under way, by how long the answers take.

use std::time::{Duration, Instant};

use super::{Begun, LoadBounds};

/// With one hit under way, an answer should take this share of the timeout: 10.8 s of 65 s.
const TARGET_SHARE: f64 = 1.0 / 6.0;

/// However much is under way, an answer may take this share of the timeout, if that is less than
/// [`LEAST_TARGET_SECONDS`].
const LEAST_TARGET_SHARE: f64 = 1.0 / 60.0;

/// However much is under way, an answer may take so many seconds, if the share is not less.
const LEAST_TARGET_SECONDS: f64 = 0.25;

/// The part of the target above the least falls with this power of the hits under way, so that of
/// two workers that see the same latency the one with more gives way. A steeper fall is fairer, and
/// smaller bulks cost more where a request costs much more than a hit.
const TARGET_POWER: f64 = -0.3;

/// As above, below one hit under way.
const PAUSED_TARGET_POWER: f64 = -0.1;

/// Below this share of the target the window doubles each round trip.
const FAST_SHARE: f64 = 0.5;

/// Above this multiple of the target the window is cut at once.
const SLOW_MULTIPLE: f64 = 1.5;

/// A cut leaves at least this share.
const DEEPEST_CUT: f64 = 0.25;

/// What a refusal leaves of the window.
const REFUSAL_CUT: f64 = 0.5;

/// What a lost answer leaves of the window.
const LOSS_CUT: f64 = 0.5;

/// Above the target the window falls by this power of the ratio each round trip.
const DOWN_GAIN: f64 = 0.5;

/// Below the target the window grows by this power of the ratio each round trip.
const UP_GAIN: f64 = 0.5;

/// The smallest window: between two requests of one hit passes 31 times what the answer took.
const SMALLEST: f64 = 1.0 / 32.0;

/// The smallest window that a slow answer leaves at once; below it, the window falls by steps.
const SMALLEST_AFTER_CUT: f64 = 0.5;

/// A window that was not used by a quarter for this long is halved.
const UNUSED_FOR: Duration = Duration::from_secs(10);

/// How the window moves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Growth {
    /// Answers come far sooner than they need to: the window grew by this factor.
    Fast(f64),
    /// Near the target, or the answer says nothing.
    Steady,
}

/// The hits that may be under way.
#[derive(Debug)]
pub(super) struct Window {
    /// A real number; below 1 there is a pause between requests of one hit.
    hits: f64,
    /// The most that the settings allow.
    most: f64,
    /// The target with one hit under way, in seconds.
    target: f64,
    /// The target that is left however much is under way, in seconds.
    least_target: f64,
    /// The latency of the answer before, in seconds: one slow answer among many is no sign.
    previous: f64,
    /// When the window was cut last. What began earlier says nothing of the window since.
    cut: Option<Instant>,
    /// When at least a quarter of the window was under way last.
    used: Option<Instant>,
}

impl Window {
    pub(super) fn new(bounds: LoadBounds) -> Self {
        let timeout = bounds.timeout.as_secs_f64();
        Self {
            hits: 1.0,
            most: real(bounds.requests) * real(bounds.hits),
            target: timeout * TARGET_SHARE,
            least_target: (timeout * LEAST_TARGET_SHARE).min(LEAST_TARGET_SECONDS),
            previous: f64::INFINITY,
            cut: None,
            used: None,
        }
    }

    /// The hits that may be under way.
    pub(super) fn hits(&self) -> f64 {
        self.hits
    }

    /// How long an answer should take with what may be under way, in seconds.
    fn target(&self) -> f64 {
        let power = if self.hits < 1.0 { PAUSED_TARGET_POWER } else { TARGET_POWER };
        let extra = self.target - self.least_target;
        self.least_target + extra * self.hits.powf(power)
    }

    /// A request was answered after so many seconds.
    pub(super) fn answered(&mut self, request: &Begun, latency: f64, now: Instant) -> Growth {
        let usual = if request.alone { latency } else { latency.min(self.previous) };
        self.previous = latency;
        self.note_use(request, now);
        if self.cut.is_some_and(|cut| request.at < cut) {
            return Growth::Steady;
        }
        let target = self.target();
        if usual > target * SLOW_MULTIPLE && self.hits > SMALLEST_AFTER_CUT {
            self.cut((target / usual).max(DEEPEST_CUT), now);
            return Growth::Steady;
        }
        if request.odd {
            return Growth::Steady;
        }
        // What is not under way was not tried.
        let tried = (2.0 * real(request.hits_under_way)).max(self.hits);
        let share = (real(request.hits) / self.hits).min(1.0);
        let fast = latency < target * FAST_SHARE;
        let distance = (target / latency).max(1.0 / SLOW_MULTIPLE).ln();
        let exponent = if fast {
            std::f64::consts::LN_2
        } else if distance > 0.0 {
            UP_GAIN * distance
        } else {
            DOWN_GAIN * distance
        };
        let factor = (exponent * share).exp();
        let before = self.hits;
        self.hits = (self.hits * factor).min(tried).clamp(SMALLEST, self.most);
        if fast { Growth::Fast((self.hits / before).max(1.0)) } else { Growth::Steady }
    }

    /// Halves the window where little of it is used for long: nobody knows whether Matomo would
    /// stand the rest by now.
    fn note_use(&mut self, request: &Begun, now: Instant) {
        let used = *self.used.get_or_insert(now);
        if real(request.hits_under_way) * 4.0 >= self.hits {
            self.used = Some(now);
        } else if now.saturating_duration_since(used) > UNUSED_FOR {
            self.hits = (self.hits / 2.0).max(1.0);
            self.used = Some(now);
        }
    }

    /// A request was refused. Whether the window was cut for it.
    pub(super) fn refused(&mut self, began: Instant, now: Instant) -> bool {
        if self.cut.is_some_and(|cut| began < cut) {
            return false;
        }
        self.cut(REFUSAL_CUT, now);
        true
    }

    /// A request had no answer, while others had one or not.
    pub(super) fn lost(&mut self, began: Instant, others_answered: bool, now: Instant) {
        if self.cut.is_some_and(|cut| began < cut) {
            return;
        }
        if others_answered || self.hits <= 1.0 {
            self.hits = (self.hits * LOSS_CUT).max(SMALLEST);
        } else {
            self.hits = 1.0;
        }
        self.cut = Some(now);
    }

    fn cut(&mut self, factor: f64, now: Instant) {
        self.hits = (self.hits * factor).max(SMALLEST_AFTER_CUT.min(self.hits));
        self.cut = Some(now);
    }

    /// How long to wait after an answer that took so many seconds.
    pub(super) fn pause(&self, latency: f64) -> Duration {
        if self.hits >= 1.0 {
            return Duration::ZERO;
        }
        let seconds = latency.min(self.target) * (1.0 / self.hits - 1.0);
        Duration::try_from_secs_f64(seconds).unwrap_or_default()
    }
}

/// A count as a real number. Counts here are small.
pub(super) fn real(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}
