//! Whether a request may go now: the rate limit, and the shell around the breaker, the token policy
//! and the limiter, which decide.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::Notify;

use crate::domain::answer::{Failure, Interpretation};
use crate::domain::breaker::{Breaker, Change, Permission, Signal};
use crate::domain::dispatch::token::{
    TOKEN_REST, TokenChange, TokenPermission, TokenPolicy, TokenUse,
};
use crate::domain::limiter::{Begun, Limit, Limiter, LoadBounds, LoadSignal, Room};
use crate::domain::shown::shown;
use crate::service::backoff;
use crate::service::telemetry::{Metrics, WaitsFor};

/// For one in so many parts of the timeout after a good answer, refusals and silence are load.
const LATELY_SHARE: u32 = 4;

/// Lets requests through, one after the other, for all lanes of a worker.
#[derive(Debug)]
pub struct Gate {
    state: Mutex<GateState>,
    /// Who waits for room goes in the order of asking.
    turn: tokio::sync::Mutex<()>,
    /// Wakes the lanes that wait when an answer has come.
    changed: Notify,
    /// `MATOMO_MAX_RATE`, in hits per second.
    max_rate: Option<DefaultDirectRateLimiter>,
    /// Why Matomo is away, as the log last said.
    logged: Mutex<Option<Failure>>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct GateState {
    breaker: Breaker,
    token: TokenPolicy,
    limiter: Limiter,
}

/// The right to send one request. Dropped without a report, it is given back.
#[derive(Debug)]
#[must_use]
pub struct Permit<'g> {
    gate: &'g Gate,
    /// Whether only one hit may go.
    probe: bool,
    token: TokenUse,
    /// How many hits the request has, once it is sent.
    hits: usize,
    /// The most hits that the request may have.
    most: usize,
    /// The request, as the limiter knows it, until its end is reported.
    begun: Option<Begun>,
}

/// The request needs the token, which Matomo refused not long ago.
#[derive(Debug, PartialEq, Eq)]
pub struct TokenRests;

/// What a request that asks is told.
enum Reply {
    Go {
        probe: bool,
        most: usize,
        begun: Begun,
    },
    TokenRests,
    /// The token is on trial: others may go.
    WaitForToken,
    WaitForAnswer,
    WaitUntil(Instant),
}

impl GateState {
    /// Asks for a request of so many hits.
    fn ask(&mut self, hits: usize, token: &TokenUse, now: Instant) -> Reply {
        if let TokenUse::Needed(site) = token {
            match self.token.ask(site, now) {
                TokenPermission::Send => {}
                TokenPermission::Wait => return Reply::WaitForToken,
                TokenPermission::Resting => return Reply::TokenRests,
            }
        }
        let wait = match self.breaker.ask(now) {
            Permission::Probe => {
                let begun = self.limiter.begin(1, now);
                return Reply::Go { probe: true, most: 1, begun };
            }
            Permission::Go => match self.limiter.ask(now) {
                Room::Go(most) => {
                    let begun = self.limiter.begin(hits.min(most), now);
                    return Reply::Go { probe: false, most, begun };
                }
                Room::WaitUntil(time) => {
                    self.breaker.abandon(false);
                    Reply::WaitUntil(time)
                }
                Room::WaitForAnswer => {
                    self.breaker.abandon(false);
                    Reply::WaitForAnswer
                }
            },
            Permission::WaitUntil(time) => Reply::WaitUntil(time),
            Permission::WaitForAnswer => Reply::WaitForAnswer,
        };
        if let TokenUse::Needed(site) = token {
            self.token.abandon(site);
        }
        wait
    }
}

impl Gate {
    /// An open gate.
    pub fn new(bounds: LoadBounds, max_rate: Option<u32>, metrics: Arc<Metrics>) -> Self {
        let burst = u32::try_from(bounds.hits).unwrap_or(u32::MAX);
        let quota = max_rate.and_then(NonZeroU32::new).zip(NonZeroU32::new(burst));
        let max_rate = quota
            .map(|(rate, burst)| RateLimiter::direct(Quota::per_second(rate).allow_burst(burst)));
        let state = GateState {
            breaker: Breaker::new(backoff::probe, bounds.timeout / LATELY_SHARE),
            token: TokenPolicy::default(),
            limiter: Limiter::new(bounds),
        };
        Self {
            state: Mutex::new(state),
            turn: tokio::sync::Mutex::default(),
            changed: Notify::new(),
            max_rate,
            logged: Mutex::default(),
            metrics,
        }
    }

    /// Waits for the right to send a request of so many hits. The right comes last, after the rate
    /// limit: whoever has it sends at once. A caller that stops waiting drops the future.
    ///
    /// # Errors
    /// [`TokenRests`] for a request that needs the token while the token is not sent.
    pub async fn permit(&self, hits: usize, token: TokenUse) -> Result<Permit<'_>, TokenRests> {
        self.within_rate(hits).await;
        let _waits = self.metrics.lane_waits(WaitsFor::Room);
        let mut turn = Some(self.turn.lock().await);
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Listening before asking: a change in between is not missed.
            changed.as_mut().enable();
            let reply = {
                let mut state = self.state();
                let reply = state.ask(hits, &token, Instant::now());
                self.tell(&state);
                reply
            };
            match reply {
                Reply::Go { probe, most, begun } => {
                    // What is beyond the rate was not waited for.
                    let most = if self.max_rate.is_some() { most.min(hits) } else { most };
                    let begun = Some(begun);
                    return Ok(Permit { gate: self, probe, token, hits, most, begun });
                }
                Reply::TokenRests => return Err(TokenRests),
                Reply::WaitForToken => {
                    turn = None;
                    changed.await;
                }
                Reply::WaitForAnswer => changed.await,
                Reply::WaitUntil(time) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(time.into()) => {}
                        () = changed => {}
                    }
                }
            }
            if turn.is_none() {
                turn = Some(self.turn.lock().await);
            }
        }
    }

    /// The most hits that a request may have now.
    pub fn bulk_size(&self) -> usize {
        self.state().limiter.limit().hits
    }

    /// What Matomo is sent at a time at most, now and by the settings.
    pub fn limit_of_most(&self) -> (Limit, Limit) {
        let state = self.state();
        (state.limiter.limit(), state.limiter.most())
    }

    /// Whether every request carries the token, if there is one.
    pub fn token_goes_along(&self) -> bool {
        self.state().token.goes_along()
    }

    /// So many workers reach Matomo, and share the tries that it grants a token.
    pub fn set_workers(&self, workers: u32) {
        if self.state().token.set_workers(workers) {
            self.changed.notify_waiters();
        }
    }

    /// Whether a request that Matomo had no room for may go again as it is.
    pub fn is_busy(&self) -> bool {
        self.state().breaker.is_busy(Instant::now())
    }

    fn tell(&self, state: &GateState) {
        self.metrics.breaker(state.breaker.state());
        self.metrics.limit(state.limiter.limit());
    }

    /// Waits until this many hits are within `MATOMO_MAX_RATE`.
    async fn within_rate(&self, hits: usize) {
        let hits = u32::try_from(hits).ok().and_then(NonZeroU32::new);
        if let (Some(limiter), Some(hits)) = (&self.max_rate, hits) {
            let _waits = self.metrics.lane_waits(WaitsFor::MaxRate);
            // Beyond the burst nothing would ever pass; a request is at most as large as the burst.
            if limiter.until_n_ready(hits).await.is_err() {
                tracing::debug!("a request larger than the burst went unlimited");
            }
        }
    }

    /// How long Matomo has been away; `None` while hits flow.
    pub fn open_for(&self) -> Option<Duration> {
        self.state().breaker.open_for(Instant::now())
    }

    /// How long before the next probe may go; `None` while hits flow.
    pub fn pause_left(&self) -> Option<Duration> {
        self.state().breaker.pause_left(Instant::now())
    }

    /// Why Matomo is away, by the last answer.
    pub fn why(&self) -> Option<Failure> {
        *self.logged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs one line when Matomo goes away, when the reason changes, and when it is back.
    fn log(&self, change: Option<Change>, failure: Option<Failure>) {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Change::Closed(away)) = change {
            *logged = None;
            tracing::info!(
                away_seconds = away.as_secs(),
                "Matomo takes hits again: sending resumes"
            );
            return;
        }
        if failure.is_none() || *logged == failure {
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
        *logged = failure;
    }

    /// Logs why the token rests.
    fn log_token(&self, change: Option<TokenChange>, token: &TokenUse) {
        let minutes = TOKEN_REST.as_secs() / 60;
        match (change, token) {
            (Some(TokenChange::RestsForSite), TokenUse::Needed(site)) => tracing::warn!(
                site = shown(site, &[]),
                "Matomo refuses hits over the age limit although they come with \
                 MATOMO_TOKEN_AUTH: does the token have write access to their site, and is it not \
                 restricted to secure requests? It rests for this site for {minutes} min, so that \
                 Matomo does not lock this address out"
            ),
            (Some(TokenChange::TriesSpent), _) => tracing::warn!(
                "Matomo refused MATOMO_TOKEN_AUTH as often as this worker may try it within an \
                 hour, for whichever site: hits over the age limit are not sent until then, so \
                 that Matomo does not lock this address out"
            ),
            (Some(TokenChange::LockedOut), _) => tracing::warn!(
                "Matomo answers 500 to requests with MATOMO_TOKEN_AUTH and stores those without \
                 it: it has locked this address out, as it does for an hour after over 20 refused \
                 tokens. The token rests for {minutes} min, and hits that need none go on"
            ),
            _ => {}
        }
    }

    fn state(&self) -> MutexGuard<'_, GateState> {
        // The domain's code does not panic while it is locked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit<'_> {
    /// Whether only one hit may go.
    pub fn is_probe(&self) -> bool {
        self.probe
    }

    /// What the request has to do with the token.
    pub fn token(&self) -> &TokenUse {
        &self.token
    }

    /// The most hits that the request may have.
    pub fn most(&self) -> usize {
        self.most
    }

    /// The request is sent now, with so many hits.
    pub fn sends(&mut self, hits: usize) {
        self.hits = hits;
        if let Some(begun) = &mut self.begun {
            self.gate.state().limiter.resize(begun, hits);
        }
    }

    /// Reports what the answer said: `signal` to the breaker, and the whole of it to the token
    /// policy if the request carried the token.
    pub fn report(
        mut self,
        signal: Signal,
        retry_after: Option<Duration>,
        interpretation: &Interpretation,
    ) {
        let now = Instant::now();
        let (change, token_change) = {
            let mut state = self.gate.state();
            if let Some(begun) = self.begun.take() {
                state.limiter.end(begun, LoadSignal::from(interpretation), now);
            }
            let signal = match &self.token {
                TokenUse::Needed(_)
                    if signal == Signal::Unclear && state.token.is_of_the_token(now) =>
                {
                    Signal::Nothing
                }
                _ => signal,
            };
            let change = state.breaker.record(signal, self.probe, retry_after, now);
            self.gate.tell(&state);
            let hits = self.hits;
            let token_change = match &self.token {
                TokenUse::Needed(site) => state.token.record(site, interpretation, hits, now),
                other => {
                    let is_along = other.is_carried();
                    state.token.record_other(interpretation, is_along, hits, self.probe, now);
                    None
                }
            };
            (change, token_change)
        };
        self.gate.log_token(token_change, &self.token);
        let failure = interpretation.failure().filter(|_| self.probe || change.is_some());
        self.gate.log(change, failure);
        self.gate.changed.notify_waiters();
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let Some(begun) = self.begun.take() else { return };
        let mut state = self.gate.state();
        state.limiter.abandon(begun);
        state.breaker.abandon(self.probe);
        if let TokenUse::Needed(site) = &self.token {
            state.token.abandon(site);
        }
        self.gate.tell(&state);
        drop(state);
        self.gate.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
