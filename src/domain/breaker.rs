//! Closed / open / half-open, fed with what an answer said and when.
//!
//! While the breaker is open the backlog waits in the shards and nothing is sent but single real
//! hits as probes, so an outage spends the retries of the hits that met it and of no others.

use std::time::{Duration, Instant};

use super::answer::Interpretation;

/// So many failures in a row, each of which could be one hit's fault, are Matomo's fault: a
/// database that is away answers 400 or 500 to every single hit.
pub const SUSPECT_RUN: u32 = 5;

/// So many answers in a row that leave doubt are an outage: each may be a hit stored twice.
pub const DOUBT_RUN: u32 = 3;

/// So many refusals in a row for want of room are an outage.
pub const BUSY_RUN: u32 = 5;

/// A `Retry-After` beyond this is not believed: in 24 h the hits need a token.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3_600);

/// What an answer tells of Matomo as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// It answers and stores.
    Works,
    /// It may be the hit, it may be Matomo.
    Unclear,
    /// It does not work.
    Down,
    /// It had no room for the request, and surely stored nothing of it. It had worked lately.
    Busy,
    /// It did not answer, and may have stored the request.
    Silent,
    /// It answers, and nobody knows what it stored.
    Ambiguous,
    /// Nothing to be learnt.
    Nothing,
}

impl From<&Interpretation> for Signal {
    fn from(interpretation: &Interpretation) -> Self {
        match interpretation {
            Interpretation::Stored { .. } | Interpretation::Refused { .. } => Self::Works,
            Interpretation::Suspect(_) | Interpretation::SuspectAmbiguous(_) => Self::Unclear,
            Interpretation::Down(_) => Self::Down,
            Interpretation::DownAmbiguous(_) => Self::Silent,
            Interpretation::Ambiguous(_) => Self::Ambiguous,
        }
    }
}

/// Whether a request may go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Yes.
    Go,
    /// Yes, with one hit, whose answer must be [`Breaker::record`]ed (or the probe
    /// [`Breaker::abandon`]ed).
    Probe,
    /// Not before this time.
    WaitUntil(Instant),
    /// Not before a request that is under way has its answer.
    WaitForAnswer,
}

/// A change worth a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Matomo went away.
    Opened,
    /// Matomo is back after so long.
    Closed(Duration),
}

/// For the metrics and the status page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Hits flow.
    Closed,
    /// Nothing is sent.
    Open,
    /// A probe is under way.
    HalfOpen,
}

/// The breaker. `pause` gives the wait after the n-th failed probe, counted from 0.
#[derive(Debug)]
pub struct Breaker {
    pause: fn(u32) -> Duration,
    /// For so long after an answer a failure that comes of load is load, and not an outage.
    lately: Duration,
    /// When it last answered and stored.
    worked_at: Option<Instant>,
    /// Failures in a row that may be a hit's fault.
    run: u32,
    /// Answers in doubt in a row.
    doubts: u32,
    /// Refusals in a row for want of room.
    refusals: u32,
    outage: Option<Outage>,
    recovery: Option<Recovery>,
}

#[derive(Debug)]
struct Outage {
    since: Instant,
    failures: u32,
    until: Instant,
    probing: bool,
}

/// After an outage the requests come back one by one: a Matomo that can answer one may not stand
/// all lanes at once.
#[derive(Debug)]
struct Recovery {
    room: u32,
    under_way: u32,
    /// Of the outage before: if Matomo falls over again, the pauses go on growing.
    failures: u32,
}

/// With so many answers at a time Matomo is well.
const RECOVERED_AT: u32 = 32;

impl Breaker {
    /// A closed breaker. For `lately` after a good answer a Matomo that refuses or does not answer
    /// some requests is taken for one that has too much to do, and not for one that is away.
    pub fn new(pause: fn(u32) -> Duration, lately: Duration) -> Self {
        Self {
            pause,
            lately,
            worked_at: None,
            run: 0,
            doubts: 0,
            refusals: 0,
            outage: None,
            recovery: None,
        }
    }

    /// Whether a request that Matomo had no room for may go again: it worked lately, and does not
    /// refuse everything.
    pub fn is_busy(&self, now: Instant) -> bool {
        self.outage.is_none() && self.worked_lately(now) && self.refusals + 1 < BUSY_RUN
    }

    fn worked_lately(&self, now: Instant) -> bool {
        let age = |at: Instant| now.saturating_duration_since(at);
        self.worked_at.is_some_and(|at| age(at) < self.lately)
    }

    /// May a request go out now? Whoever gets a yes answers with [`Breaker::record`] or
    /// [`Breaker::abandon`].
    pub fn ask(&mut self, now: Instant) -> Permission {
        match (&mut self.outage, &mut self.recovery) {
            (None, None) => Permission::Go,
            (None, Some(recovery)) if recovery.under_way >= recovery.room => {
                Permission::WaitForAnswer
            }
            (None, Some(recovery)) => {
                recovery.under_way += 1;
                Permission::Go
            }
            (Some(outage), _) if outage.probing => Permission::WaitForAnswer,
            (Some(outage), _) if now < outage.until => Permission::WaitUntil(outage.until),
            (Some(outage), _) => {
                outage.probing = true;
                Permission::Probe
            }
        }
    }

    /// Takes in the answer to a request. While the breaker is open only a probe's answer counts:
    /// others left before.
    pub fn record(
        &mut self,
        signal: Signal,
        probe: bool,
        retry_after: Option<Duration>,
        now: Instant,
    ) -> Option<Change> {
        let pause = self.pause;
        let wait = |failures| {
            retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER).max(pause(failures))
        };
        let Some(outage) = &mut self.outage else {
            let is_silent = signal == Signal::Silent && !self.worked_lately(now);
            self.answered(signal, now);
            if signal == Signal::Down
                || is_silent
                || self.run >= SUSPECT_RUN
                || self.doubts >= DOUBT_RUN
                || self.refusals >= BUSY_RUN
            {
                let failures =
                    self.recovery.take().map_or(0, |recovery| recovery.failures.saturating_add(1));
                self.outage = Some(Outage {
                    since: now,
                    failures,
                    until: now + wait(failures),
                    probing: false,
                });
                return Some(Change::Opened);
            }
            return None;
        };
        if !probe {
            return None;
        }
        outage.probing = false;
        match signal {
            Signal::Works => {
                let lasted = now.saturating_duration_since(outage.since);
                self.recovery = Some(Recovery { room: 1, under_way: 0, failures: outage.failures });
                self.outage = None;
                (self.run, self.doubts, self.refusals) = (0, 0, 0);
                self.worked_at = Some(now);
                return Some(Change::Closed(lasted));
            }
            // Whatever it was, the next probe has a pause before it.
            _ => {
                outage.failures = outage.failures.saturating_add(1);
                outage.until = now + wait(outage.failures);
            }
        }
        None
    }

    /// An answer while the breaker is closed.
    fn answered(&mut self, signal: Signal, now: Instant) {
        match signal {
            Signal::Works => {
                (self.run, self.doubts, self.refusals) = (0, 0, 0);
                self.worked_at = Some(now);
            }
            Signal::Unclear => self.run = self.run.saturating_add(1),
            Signal::Busy => self.refusals = self.refusals.saturating_add(1),
            Signal::Silent | Signal::Ambiguous => self.doubts = self.doubts.saturating_add(1),
            Signal::Down | Signal::Nothing => {}
        }
        if let Some(recovery) = &mut self.recovery {
            recovery.under_way = recovery.under_way.saturating_sub(1);
            if signal == Signal::Works {
                recovery.room *= 2;
            }
            if recovery.room > RECOVERED_AT {
                self.recovery = None;
            }
        }
    }

    /// The request was not sent after all.
    pub fn abandon(&mut self, probe: bool) {
        match (&mut self.outage, &mut self.recovery) {
            (Some(outage), _) if probe => outage.probing = false,
            (None, Some(recovery)) if !probe => {
                recovery.under_way = recovery.under_way.saturating_sub(1)
            }
            _ => {}
        }
    }

    /// How long before the next probe may go; none while hits flow.
    pub fn pause_left(&self, now: Instant) -> Option<Duration> {
        self.outage.as_ref().map(|outage| outage.until.saturating_duration_since(now))
    }

    /// How long Matomo has been away.
    pub fn open_for(&self, now: Instant) -> Option<Duration> {
        self.outage.as_ref().map(|outage| now.saturating_duration_since(outage.since))
    }

    /// For the metrics.
    pub fn state(&self) -> State {
        match &self.outage {
            None => State::Closed,
            Some(outage) if outage.probing => State::HalfOpen,
            Some(_) => State::Open,
        }
    }
}

#[cfg(test)]
mod tests;
