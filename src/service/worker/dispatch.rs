//! From the lane to Matomo and back: drives the lanes of [`crate::domain::dispatch`].

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::context::WorkerContext;
use super::delivery::Delivery;
use super::gate::{Gate, Permit, TokenRests};
use super::matomo::MatomoClient;
use super::settle::Settler;
use crate::domain::answer::{self, Interpretation};
use crate::domain::dispatch::sites::SiteMemory;
use crate::domain::dispatch::{Lane, Outgoing};
use crate::domain::limiter::{LoadBounds, LoadSignal};
use crate::domain::max_age::MaxAge;
use crate::domain::request::Api;
use crate::domain::settle::{self, RequestFacts, Settlement};
use crate::service::config;
use crate::service::telemetry::WaitsFor;

/// A request that waited for so long is cut anew: its hits aged, and more of them may wait.
const STALE_AFTER: Duration = Duration::from_secs(5);

/// What a lane carries along with each hit.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) delivery: Delivery,
    /// The hit as it is sent, complete but for `rand`.
    pub(super) encoded: Vec<u8>,
}

/// A hit in a lane.
pub(super) type LaneHit = Outgoing<Load>;

/// Sends for all lanes of a worker.
#[derive(Debug)]
pub struct Dispatcher {
    context: Arc<WorkerContext>,
    matomo: MatomoClient,
    /// Lets one request after the other through.
    pub gate: Gate,
    /// Whether hits over the age limit can be delivered.
    pub has_token: bool,
    /// The age from which on Matomo wants the token.
    pub max_age: MaxAge,
    /// The form of a request.
    api: Api,
    /// The most hits of one request, by the settings.
    bulk_size: usize,
    /// The sites that Matomo is known to accept.
    sites: Mutex<SiteMemory>,
    /// How many shards wait for their last hits, to go to another worker.
    leaving: AtomicUsize,
}

/// A shard that waits for its last hits, until this is dropped.
pub(super) struct LeavingShard<'a>(&'a AtomicUsize);

impl Drop for LeavingShard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Dispatcher {
    /// A dispatcher whose requests have at most `bulk_size` hits.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(
        settings: &config::MatomoSettings,
        bulk_size: u16,
        context: Arc<WorkerContext>,
    ) -> anyhow::Result<Self> {
        let bounds = LoadBounds {
            requests: settings.concurrency.into(),
            hits: bulk_size.into(),
            timeout: settings.timeout,
        };
        context.metrics.age_limit(settings.max_age);
        Ok(Self {
            gate: Gate::new(bounds, settings.max_rate, context.metrics.clone()),
            matomo: MatomoClient::new(settings)?,
            context,
            has_token: settings.token.is_some(),
            max_age: settings.max_age,
            api: settings.api,
            bulk_size: bulk_size.into(),
            sites: Mutex::default(),
            leaving: AtomicUsize::new(0),
        })
    }

    /// A shard is to go to another worker. What it gave goes before all other hits, so that the
    /// shard need not wait for as long as a whole prefetch takes.
    pub(super) fn shard_leaves(&self) -> LeavingShard<'_> {
        self.leaving.fetch_add(1, Ordering::Relaxed);
        LeavingShard(&self.leaving)
    }

    /// Runs one lane until `stop`. It has one request under way at a time, and so has each of its
    /// visitors.
    pub(super) async fn run_lane(
        self: Arc<Self>,
        mut hits: mpsc::Receiver<LaneHit>,
        stop: CancellationToken,
        settler: Settler,
    ) {
        let mut lane = Lane::new(self.bulk_size, self.has_token, self.max_age);
        while !stop.is_cancelled() {
            if lane.is_empty() {
                let received = {
                    let _waits = self.context.metrics.lane_waits(WaitsFor::Hits);
                    stop.run_until_cancelled(hits.recv()).await.flatten()
                };
                let Some(first) = received else { break };
                lane.push(first);
                // What has been read from the broker already gets in too: each request costs
                // Matomo more than a hit in it.
                tokio::task::yield_now().await;
            }
            let too_old = self.fill(&mut lane, &mut hits, self.gate.bulk_size());
            settler.settle(with_fates(too_old)).await;
            let Some(next) = lane.next_request(Timestamp::now()) else { continue };
            let asked = Instant::now();
            let asking = self.gate.permit(next.hits, next.token);
            let mut permit = match stop.run_until_cancelled(asking).await {
                Some(Ok(permit)) => permit,
                Some(Err(TokenRests)) => {
                    let refused = lane.refuse_next(self.context.topology.steps());
                    settler.settle(with_fates(refused)).await;
                    continue;
                }
                None => break,
            };
            let is_stale = asked.elapsed() > STALE_AFTER;
            let has_room = permit.most() > next.hits && !hits.is_empty();
            if is_stale || has_room {
                lane.recut();
                let too_old = self.fill(&mut lane, &mut hits, permit.most());
                settler.settle(with_fates(too_old)).await;
            }
            let now = lane.next_request(Timestamp::now());
            if now.is_none_or(|now| now.token != *permit.token()) {
                drop(permit);
                lane.recut();
                continue;
            }
            let Some(request) = lane.take(permit.most()) else { continue };
            permit.sends(request.len());
            self.deliver(permit, request, &mut lane, &settler).await;
        }
        // What was not sent goes back with its channel. A feeder may still be putting a hit in, so
        // this waits for the last.
        hits.close();
        let mut unsent: Vec<LaneHit> = lane.into_unsent().collect();
        while let Some(late) = hits.recv().await {
            unsent.push(late);
        }
        settler.settle(unsent.into_iter().map(|hit| (hit.load.delivery, settle::unsent()))).await;
    }

    /// Cuts the next request, of at most so many hits. Returns those that cannot be sent at all.
    fn fill(
        &self,
        lane: &mut Lane<Load>,
        hits: &mut mpsc::Receiver<LaneHit>,
        most: usize,
    ) -> Vec<(LaneHit, Settlement)> {
        lane.limit(most);
        lane.token_goes_along(self.gate.token_goes_along());
        if self.leaving.load(Ordering::Relaxed) > 0 {
            while let Ok(hit) = hits.try_recv() {
                lane.push(hit);
            }
            lane.bring_forward(|load| load.delivery.leaves());
        } else {
            top_up(lane, hits);
        }
        lane.cut(Timestamp::now(), &self.sites())
    }

    /// Sends one request and settles its hits, but for those that are to be sent again in smaller
    /// requests: these are in the lane then.
    async fn deliver(
        &self,
        permit: Permit<'_>,
        request: Vec<LaneHit>,
        lane: &mut Lane<Load>,
        settler: &Settler,
    ) {
        let bodies: Vec<&[u8]> = request.iter().map(|hit| hit.load.encoded.as_slice()).collect();
        let started = Instant::now();
        let waits = self.context.metrics.lane_waits(WaitsFor::Answer);
        let answer = self.matomo.send(&bodies, permit.token().is_carried()).await;
        drop(waits);
        let took = started.elapsed();
        let interpretation = answer::interpret(self.api, &answer, request.len());
        if matches!(interpretation, Interpretation::Stored { .. }) {
            self.matomo.note_stored(started, took);
        }
        self.context.metrics.answered(&interpretation, request.len(), took);
        if interpretation.doubt().is_some() {
            request.iter().for_each(|hit| hit.load.delivery.count_doubt());
        }
        tracing::debug!(hits = request.len(), ?interpretation, "answered");
        self.sites().learn(&interpretation, request.iter().map(|hit| hit.idsite.as_str()));
        let (steps, probe) = (self.context.topology.steps(), permit.is_probe());
        let retry_after = answer.retry_after();
        let busy = !probe
            && retry_after.is_none()
            && LoadSignal::from(&interpretation) == LoadSignal::Refused
            && self.gate.is_busy();
        let facts = RequestFacts { steps, probe, busy };
        let answered = lane.answered(request, &interpretation, facts);
        permit.report(answered.signal, retry_after, &interpretation);
        let now = Timestamp::now().as_second();
        for (hit, fate) in &answered.settled {
            if matches!(fate, Settlement::Delivered(_)) {
                self.context.metrics.age(now - hit.cdt.as_second(), self.max_age.warn_after());
            }
        }
        settler.settle(with_fates(answered.settled)).await;
    }

    fn sites(&self) -> MutexGuard<'_, SiteMemory> {
        self.sites.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets what waits go along, as far as the next request has room.
fn top_up(lane: &mut Lane<Load>, hits: &mut mpsc::Receiver<LaneHit>) {
    lane.reserve(hits.len());
    while lane.room() > 0 {
        let Ok(next) = hits.try_recv() else { break };
        lane.push(next);
    }
}

fn with_fates(settled: Vec<(LaneHit, Settlement)>) -> impl Iterator<Item = (Delivery, Settlement)> {
    settled.into_iter().map(|(hit, fate)| (hit.load.delivery, fate))
}
