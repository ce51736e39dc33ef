//! Who may send now: the breaker's shell and the rate limit.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::Notify;

use super::backoff;
use super::telemetry::Metrics;
use crate::domain::answer::Failure;
use crate::domain::breaker::{Breaker, Change, Permission, Signal};

/// Shared by all lanes.
#[derive(Debug)]
pub struct Gate {
    breaker: Mutex<Breaker>,
    changed: Notify,
    limiter: Option<DefaultDirectRateLimiter>,
    /// Why Matomo is away, as last told in the log.
    told: Mutex<Option<Failure>>,
    metrics: Arc<Metrics>,
}

/// The right to send one request. Dropped without a report, it is given back.
#[derive(Debug)]
pub struct Permit<'g> {
    gate: &'g Gate,
    probe: bool,
    reported: bool,
}

impl Gate {
    /// An open gate. A request never has more hits than `burst`.
    pub fn new(max_rate: Option<u32>, burst: u32, metrics: Arc<Metrics>) -> Self {
        let quota = max_rate.and_then(NonZeroU32::new).zip(NonZeroU32::new(burst));
        let limiter = quota
            .map(|(rate, burst)| RateLimiter::direct(Quota::per_second(rate).allow_burst(burst)));
        Self {
            breaker: Mutex::new(Breaker::new(backoff::probe)),
            changed: Notify::new(),
            limiter,
            told: Mutex::default(),
            metrics,
        }
    }

    /// Waits for the right to send.
    pub async fn pass(&self) -> Permit<'_> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Listening before asking: a change in between is not missed.
            changed.as_mut().enable();
            let permission = {
                let mut breaker = self.breaker();
                let permission = breaker.ask(Instant::now());
                self.metrics.breaker(breaker.state());
                permission
            };
            match permission {
                Permission::Go => return Permit { gate: self, probe: false, reported: false },
                Permission::Probe => return Permit { gate: self, probe: true, reported: false },
                Permission::WaitForAnswer => changed.await,
                Permission::WaitUntil(time) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(time.into()) => {}
                        () = changed => {}
                    }
                }
            }
        }
    }

    /// Waits until this many hits are within `MATOMO_MAX_RATE`.
    pub async fn within_rate(&self, hits: usize) {
        let hits = u32::try_from(hits).ok().and_then(NonZeroU32::new);
        if let (Some(limiter), Some(hits)) = (&self.limiter, hits) {
            // Beyond the burst nothing would ever pass; a request is at most as large as the burst.
            if limiter.until_n_ready(hits).await.is_err() {
                tracing::debug!("a request larger than the burst went unlimited");
            }
        }
    }

    /// How long Matomo has been away.
    pub fn open_for(&self) -> Option<Duration> {
        let open = self.breaker().open_for(Instant::now());
        self.metrics.outage_seconds.set(open.unwrap_or_default().as_secs_f64());
        open
    }

    /// How long before the next probe may go; none while hits flow.
    pub fn pause_left(&self) -> Option<Duration> {
        self.breaker().pause_left(Instant::now())
    }

    /// Why Matomo is away, as the last answer told.
    pub fn why(&self) -> Option<Failure> {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One line when Matomo goes away, when the reason changes, and when it is back.
    fn tell(&self, change: Option<Change>, failure: Option<Failure>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Change::Closed(away)) = change {
            *told = None;
            tracing::info!(
                away_seconds = away.as_secs(),
                "Matomo takes hits again: sending resumes"
            );
            return;
        }
        if failure.is_none() || *told == failure {
            return;
        }
        let (reason, status) = (failure.map(|f| f.reason.code()), failure.and_then(|f| f.status));
        if change == Some(Change::Opened) {
            tracing::warn!(
                reason,
                status,
                "Matomo does not take hits: sending stops, single hits probe it, the others wait \
                 in their queues and nothing is lost"
            );
        } else {
            tracing::warn!(
                reason,
                status,
                "Matomo still does not take hits, now for another reason"
            );
        }
        *told = failure;
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        // The breaker's own code does not panic while it is locked.
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit<'_> {
    /// Whether only one hit may go.
    pub fn is_probe(&self) -> bool {
        self.probe
    }

    /// Tells the breaker what the answer said.
    pub fn report(
        mut self,
        signal: Signal,
        retry_after: Option<Duration>,
        failure: Option<Failure>,
    ) {
        self.reported = true;
        let change = {
            let mut breaker = self.gate.breaker();
            let change = breaker.record(signal, self.probe, retry_after, Instant::now());
            self.gate.metrics.breaker(breaker.state());
            change
        };
        self.gate.tell(change, failure.filter(|_| self.probe || change.is_some()));
        self.gate.changed.notify_waiters();
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if !self.reported {
            let mut breaker = self.gate.breaker();
            breaker.abandon(self.probe);
            self.gate.metrics.breaker(breaker.state());
            drop(breaker);
            self.gate.changed.notify_waiters();
        }
    }
}
