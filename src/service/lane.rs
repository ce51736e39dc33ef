//! From the lane to Matomo: what waits → requests → answers → settlements; and what a worker learns
//! of Matomo on the way.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::config;
use super::gate::{Gate, Permit};
use super::matomo::Matomo;
use super::settler::{Held, Settler, WorkerContext};
use crate::domain::answer::{self, Answer, Failure, Interpretation, Reason};
use crate::domain::breaker::Signal;
use crate::domain::cdt::WARN_AFTER;
use crate::domain::request::{self, Age, Api};
use crate::domain::settle::{self, Decision, Settlement, Terms};

/// After so many refusals in a row the token is taken for bad, rather than the hits.
const TOKEN_TRIES: u32 = 3;

/// A bad token is not sent for this long: more than 20 failed checks an hour from one address make
/// Matomo answer 500 to every bulk that carries a token. Six an hour leave room for three replicas
/// behind one address.
const TOKEN_REST: Duration = Duration::from_secs(1_800);

/// What was cut into requests this long ago is cut anew.
const STALE: Duration = Duration::from_secs(5);

/// Sites that are known by name; a sender that makes up more is sent one by one.
const MOST_SITES: usize = 10_000;

/// Delivers for all lanes of a worker.
#[derive(Debug)]
pub struct Dispatcher {
    office: Arc<WorkerContext>,
    matomo: Matomo,
    /// Who may send.
    pub gate: Gate,
    /// Hits over 24 h old can be delivered.
    pub has_token: bool,
    api: Api,
    bulk_size: usize,
    /// Sites that Matomo is known to accept.
    sites: Mutex<HashSet<String>>,
    /// Held during each request that carries the token.
    token: tokio::sync::Mutex<TokenUse>,
}

/// How the token has fared.
#[derive(Debug, Default)]
struct TokenUse {
    refused_in_a_row: u32,
    rests_until: Option<Instant>,
}

/// A hit that may go to Matomo.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) held: Held,
    pub(super) encoded: Vec<u8>,
    pub(super) idsite: String,
    pub(super) cdt: Timestamp,
}

/// How hits travel, as far as it depends on the hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Batching {
    Together,
    WithToken,
    Alone,
}

impl Dispatcher {
    /// With `bulk_size` hits a request at most.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(
        settings: &config::Matomo,
        bulk_size: u16,
        office: Arc<WorkerContext>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            gate: Gate::new(settings.max_rate, bulk_size.into(), office.metrics.clone()),
            matomo: Matomo::new(settings)?,
            office,
            has_token: settings.token.is_some(),
            api: settings.api,
            bulk_size: bulk_size.into(),
            sites: Mutex::default(),
            token: tokio::sync::Mutex::default(),
        })
    }

    /// One request in flight at a time, so one visitor is.
    pub(super) async fn lane(
        self: Arc<Self>,
        mut hits: mpsc::Receiver<Ready>,
        stop: CancellationToken,
        settler: Settler,
    ) {
        let mut waiting = Vec::new();
        // To be sent as they are, before what waits.
        let mut pieces: VecDeque<Vec<Ready>> = VecDeque::new();
        while !stop.is_cancelled() {
            if pieces.is_empty() {
                if waiting.is_empty() {
                    let Some(first) = stop.run_until_cancelled(hits.recv()).await.flatten() else {
                        break;
                    };
                    waiting.push(first);
                    // What has been read from the broker already gets in too: each request costs
                    // Matomo more than a hit in it.
                    tokio::task::yield_now().await;
                }
                let piece;
                (piece, waiting) = self.cut(self.top_up(waiting, &mut hits), &settler).await;
                pieces.extend(piece);
            }
            let Some(size) = pieces.front().map(Vec::len) else { continue };
            let asked = Instant::now();
            // The pass comes last: whoever has one sends at once.
            let Some(pass) = stop.run_until_cancelled(self.permit(size)).await else { break };
            if asked.elapsed() > STALE {
                // Hits aged while they waited, and more came: what was cut may no longer be right.
                drop(pass);
                waiting.splice(..0, pieces.drain(..).flatten());
                continue;
            }
            let Some(mut piece) = pieces.pop_front() else { continue };
            if pass.is_probe() && piece.len() > 1 {
                pieces.push_front(piece.split_off(1));
            }
            for again in self.deliver(pass, piece, &settler).await.into_iter().rev() {
                pieces.push_front(again);
            }
        }
        // Unsent: they go back with their channel. A feeder may still be putting one in, so this
        // waits for the last.
        hits.close();
        let mut left: Vec<Ready> = pieces.into_iter().flatten().chain(waiting).collect();
        while let Some(late) = hits.recv().await {
            left.push(late);
        }
        settler.settle(left.into_iter().map(|ready| (ready.held, Settlement::Release))).await;
    }

    async fn permit(&self, size: usize) -> Permit<'_> {
        self.gate.within_rate(size).await;
        self.gate.pass().await
    }

    /// What waits goes along, without lingering for more: full bulks out of a backlog, single hits
    /// in a quiet hour.
    fn top_up(&self, mut waiting: Vec<Ready>, hits: &mut mpsc::Receiver<Ready>) -> Vec<Ready> {
        waiting.reserve(self.bulk_size.saturating_sub(waiting.len()).min(hits.len()));
        while waiting.len() < self.bulk_size {
            let Ok(next) = hits.try_recv() else { break };
            waiting.push(next);
        }
        waiting
    }

    /// Cuts the next request off what waits, in order, and settles what cannot be sent. The rest is
    /// cut when it is its turn: by then more is known of its sites, and more may wait.
    async fn cut(
        &self,
        mut waiting: Vec<Ready>,
        settler: &Settler,
    ) -> (Option<Vec<Ready>>, Vec<Ready>) {
        let now = Timestamp::now();
        let is_too_old =
            |ready: &mut Ready| !self.has_token && request::age(ready.cdt, now) == Age::NeedsToken;
        let too_old = waiting.extract_if(.., is_too_old).map(|ready| {
            let attempts = ready.held.past().attempts;
            (ready.held, Settlement::Park { attempts, failure: local(Reason::TooOld) })
        });
        settler.settle(too_old).await;
        let Some(way) = waiting.first().map(|ready| self.way(ready, now)) else {
            return (None, waiting);
        };
        let most = if way == Batching::Alone { 1 } else { self.bulk_size };
        let size =
            waiting.iter().take(most).take_while(|ready| self.way(ready, now) == way).count();
        let rest = waiting.split_off(size);
        (Some(waiting), rest)
    }

    fn way(&self, ready: &Ready, now: Timestamp) -> Batching {
        match request::age(ready.cdt, now) {
            // A bulk with one unknown site would be sent again one by one, and its other hits
            // stored twice.
            _ if !self.accepts(&ready.idsite) => Batching::Alone,
            Age::NeedsToken => Batching::WithToken,
            Age::Crossing => Batching::Alone,
            Age::Fresh => Batching::Together,
        }
    }

    /// Sends one request and settles its hits. Returns those to send again, in smaller requests.
    async fn deliver(
        &self,
        pass: Permit<'_>,
        piece: Vec<Ready>,
        settler: &Settler,
    ) -> Vec<Vec<Ready>> {
        let now = Timestamp::now();
        let with_token = self.has_token
            && piece.iter().any(|ready| request::age(ready.cdt, now) == Age::NeedsToken);
        if !with_token {
            return self.send(pass, piece, None, settler).await;
        }
        // One request with the token at a time, so that a bad one is noticed before it was used
        // often.
        let mut token = self.token.lock().await;
        if token.rests(Instant::now()) {
            drop(pass);
            let steps = self.office.topology.steps();
            let refused = |held: Held| {
                let attempts = held.past().attempts;
                (held, settle::failed(local(Reason::TokenRefused), attempts, steps))
            };
            settler.settle(piece.into_iter().map(|ready| refused(ready.held))).await;
            return Vec::new();
        }
        self.send(pass, piece, Some(&mut token), settler).await
    }

    async fn send(
        &self,
        pass: Permit<'_>,
        piece: Vec<Ready>,
        token: Option<&mut TokenUse>,
        settler: &Settler,
    ) -> Vec<Vec<Ready>> {
        let bodies: Vec<&[u8]> = piece.iter().map(|ready| ready.encoded.as_slice()).collect();
        let started = Instant::now();
        let answer = self.matomo.send(&bodies, token.is_some()).await;
        let interpretation = answer::interpret(self.api, &answer, piece.len());
        self.office.metrics.answered(&interpretation, piece.len(), started.elapsed());
        if interpretation.doubt().is_some() {
            piece.iter().for_each(|ready| ready.held.doubted());
        }
        tracing::debug!(hits = piece.len(), ?interpretation, "answered");
        let terms = Terms { steps: self.office.topology.steps(), probe: pass.is_probe() };
        let attempts: Vec<u32> = piece.iter().map(|ready| ready.held.past().attempts).collect();
        let decision = settle::decide(&interpretation, &attempts, terms);
        // What is halved next says nothing yet: only a hit that stands alone does.
        let signal = if decision == Decision::Halve {
            Signal::Nothing
        } else {
            Signal::from(&interpretation)
        };
        let retry_after = match &answer {
            Answer::Response { retry_after, .. } => *retry_after,
            _ => None,
        };
        pass.report(signal, retry_after, interpretation.failure());
        if let Some(token) = token {
            token.learn(&interpretation, Instant::now());
        }
        self.learn_sites(&interpretation, &piece);
        match decision {
            Decision::Settle(fates) => {
                let now = Timestamp::now().as_second();
                for (ready, fate) in piece.iter().zip(&fates) {
                    if matches!(fate, Settlement::Delivered(_)) {
                        self.office.metrics.age(now - ready.cdt.as_second(), WARN_AFTER);
                    }
                }
                settler.settle(piece.into_iter().map(|ready| ready.held).zip(fates)).await;
                Vec::new()
            }
            Decision::Halve => {
                let mut first = piece;
                let second = first.split_off(first.len() / 2);
                vec![first, second]
            }
            Decision::Singly => piece.into_iter().map(|ready| vec![ready]).collect(),
        }
    }

    // === What the worker learns of Matomo ===

    fn accepts(&self, idsite: &str) -> bool {
        self.sites.lock().unwrap_or_else(PoisonError::into_inner).contains(idsite)
    }

    fn learn_sites(&self, interpretation: &Interpretation, piece: &[Ready]) {
        let mut sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        for ready in piece {
            match interpretation {
                Interpretation::Stored { .. }
                    if sites.len() < MOST_SITES && !sites.contains(&ready.idsite) =>
                {
                    sites.insert(ready.idsite.clone());
                }
                Interpretation::Refused { .. } => {
                    sites.remove(&ready.idsite);
                }
                _ => {}
            }
        }
    }
}

impl TokenUse {
    fn rests(&self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| now < until)
    }

    fn learn(&mut self, interpretation: &Interpretation, now: Instant) {
        match interpretation {
            Interpretation::Stored { .. } => *self = Self::default(),
            // Of a bulk it may be one hit that is wrong; it is sent again alone, and then counts.
            Interpretation::Refused { places: Some(_), .. } => {
                self.refused_in_a_row += 1;
                if self.refused_in_a_row >= TOKEN_TRIES {
                    tracing::warn!(
                        "Matomo refuses hits that are over 24 h old although they come with \
                         MATOMO_TOKEN_AUTH: does the token have write access to their site, and \
                         is it not restricted to secure requests? It rests for {} min, so that \
                         Matomo does not lock this address out",
                        TOKEN_REST.as_secs() / 60
                    );
                    *self = Self { refused_in_a_row: 0, rests_until: Some(now + TOKEN_REST) };
                }
            }
            _ => {}
        }
    }
}

/// A failure that no request met.
const fn local(reason: Reason) -> Failure {
    Failure { reason, status: None }
}
