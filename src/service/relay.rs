//! The path of a hit through a worker: shard → [`intake`](super::intake) → lane (by visitor); and
//! the drain. From the lane on, [`lane`](super::lane) has it.
//!
//! A *stretch* is the time between subscribing to shards and handing them over. Whatever ends a
//! stretch (shutdown, a lost session, a long outage), the order is the same: stop feeding the
//! lanes, let what is in flight settle, and only then close the channels. So no visitor is ever in
//! two hands.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::activity::ShardActivity;
use super::broker::{BrokerError, Session, Shard};
use super::config::{Settings, Topology};
use super::gate::Gate;
use super::intake::{Intake, Prepared};
use super::lane::{Dispatcher, Ready};
use super::settler::{Acks, Held, WorkerContext};
use crate::domain::request::Api;
use crate::domain::settle::{Delivered, Settlement};

/// A shard that gives the probe nothing for so long is empty, or another worker's.
const PROBE_PATIENCE: Duration = Duration::from_secs(10);

/// How often shards beyond `QUEUE_SHARDS` are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A hit is not held for longer than this while it may not be sent.
const LONG_PAUSE: Duration = Duration::from_secs(60);

/// One worker.
#[derive(Debug)]
pub struct Relay {
    office: Arc<WorkerContext>,
    dispatcher: Arc<Dispatcher>,
    intake: Intake,
    lanes: usize,
    bulk_size: usize,
    prefetch: u16,
    hold: Duration,
    /// `TOPOLOGY=declare`.
    may_delete: bool,
    /// What each shard last gave this worker.
    pub activity: ShardActivity,
}

/// Where feeders put hits.
#[derive(Clone)]
struct Lanes {
    deliver: Vec<mpsc::Sender<Ready>>,
    reject: mpsc::Sender<(Held, Settlement)>,
}

/// What a stretch subscribes to.
#[derive(Debug)]
struct Assignment {
    shards: Vec<u16>,
    /// Shards beyond `QUEUE_SHARDS` that hold hits.
    extra: Vec<u16>,
    prefetch: u16,
    lanes: usize,
    probing: bool,
}

/// Why a stretch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RoundEnd {
    Shutdown,
    SessionLost,
    /// Matomo has been away for long, or is back: everything is given back and taken anew, in the
    /// other way.
    Outage,
    /// The probing shard has nothing: try the next.
    Idle,
    /// Other extra shards hold hits now.
    Rebalance,
}

impl Relay {
    /// A worker that is not connected yet.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(settings: &Settings, office: Arc<WorkerContext>) -> anyhow::Result<Self> {
        let matomo = &settings.matomo;
        let bulk_size = if matomo.api == Api::Single { 1 } else { matomo.bulk_size };
        let dispatcher = Arc::new(Dispatcher::new(matomo, bulk_size, office.clone())?);
        Ok(Self {
            intake: Intake::new(settings, office.clone(), dispatcher.has_token),
            dispatcher,
            office,
            lanes: matomo.concurrency.into(),
            bulk_size: bulk_size.into(),
            prefetch: settings.broker.prefetch,
            hold: matomo.hold,
            may_delete: settings.broker.topology == Topology::Declare,
            activity: ShardActivity::default(),
        })
    }

    /// Works until shutdown or until the session is lost.
    pub async fn serve(self: &Arc<Self>, session: &Arc<Session>, shutdown: &CancellationToken) {
        let mut extra = session.extra_shards.clone();
        let mut turn = 0;
        loop {
            let assignment = if self.dispatcher.gate.open_for().is_some_and(|away| away > self.hold)
            {
                // Not before the probe may go: a hit that is held runs into the broker's consumer
                // timeout.
                let pause =
                    tokio::time::sleep(self.dispatcher.gate.pause_left().unwrap_or_default());
                if !matches!(
                    shutdown.run_until_cancelled(session.lost.or(pause)).await,
                    Some(Ok(()))
                ) {
                    return;
                }
                self.probing_assignment(session, turn)
            } else {
                self.full_assignment(session, &extra).await
            };
            match self.run_round(session, shutdown, &assignment, &mut extra).await {
                RoundEnd::Shutdown | RoundEnd::SessionLost => return,
                RoundEnd::Outage if !assignment.probing => tracing::warn!(
                    "Matomo has been away for {} min: prefetched hits go back to the broker, and \
                     one hit at a time probes",
                    self.hold.as_secs() / 60
                ),
                RoundEnd::Idle => turn += 1,
                RoundEnd::Outage | RoundEnd::Rebalance => {}
            }
        }
    }

    fn probing_assignment(&self, session: &Session, turn: usize) -> Assignment {
        let claims = session.claims();
        let shards = claims.into_iter().cycle().nth(turn).into_iter().collect();
        Assignment { shards, extra: Vec::new(), prefetch: 1, lanes: 1, probing: true }
    }

    async fn full_assignment(&self, session: &Session, extra: &[u16]) -> Assignment {
        let shards = session.claims();
        let mut full = Vec::new();
        for index in extra {
            if matches!(session.depth(*index).await, Ok(Some(depth)) if depth.ready > 0) {
                full.push(*index);
            }
        }
        let prefetch = usize::from(self.prefetch) / (shards.len() + full.len()).max(1);
        let prefetch = u16::try_from(prefetch.max(1)).unwrap_or(u16::MAX);
        Assignment { shards, extra: full, prefetch, lanes: self.lanes, probing: false }
    }

    async fn run_round(
        self: &Arc<Self>,
        session: &Arc<Session>,
        shutdown: &CancellationToken,
        assignment: &Assignment,
        extra: &mut Vec<u16>,
    ) -> RoundEnd {
        let stop = CancellationToken::new();
        let mut workers = JoinSet::new();
        let mut acks = Acks::new(self.office.clone());
        let opened = async {
            let mut subscriptions = Vec::new();
            for index in assignment.shards.iter().chain(&assignment.extra) {
                subscriptions
                    .push(session.subscribe(*index, assignment.prefetch, &mut acks).await?);
            }
            Ok::<_, BrokerError>((
                subscriptions,
                self.start_lanes(session, &stop, &mut workers, assignment.lanes).await?,
            ))
        };
        let (subscriptions, lanes) = match opened.await {
            Ok(opened) => opened,
            Err(error) => {
                session.lost.because(format!("shards cannot be read: {error}"));
                return RoundEnd::SessionLost;
            }
        };
        let settled = CancellationToken::new();
        let mut acking = JoinSet::new();
        acking.spawn(acks.write(session.lost.clone(), settled.clone()));
        self.office
            .metrics
            .shards_subscribed
            .set(i64::try_from(subscriptions.len()).unwrap_or_default());
        let held: HashMap<u16, Arc<AtomicUsize>> =
            subscriptions.iter().map(|shard| (shard.index, shard.in_flight.clone())).collect();
        let mut feeders = JoinSet::new();
        for shard in subscriptions {
            feeders.spawn(self.clone().feed(shard, lanes.clone(), stop.clone(), session.clone()));
        }
        drop(lanes);
        let end = tokio::select! {
            end = self.until_end(session, shutdown, assignment, extra, &held) => end,
            // Nobody ends before being told to: hits would wait here for good.
            _ = workers.join_next() => RoundEnd::SessionLost,
            _ = feeders.join_next() => RoundEnd::SessionLost,
            _ = acking.join_next() => RoundEnd::SessionLost,
        };
        if end == RoundEnd::SessionLost {
            session.lost.because("a task of this worker ended".to_owned());
            self.office.metrics.broker_up.set(0);
        }
        stop.cancel();
        let mut subscriptions = Vec::new();
        while let Some(outcome) = feeders.join_next().await {
            match outcome {
                Ok(shard) => subscriptions.push(shard),
                Err(error) => tracing::error!(%error, "a task failed: its hits stay on the broker"),
            }
        }
        while let Some(outcome) = workers.join_next().await {
            if let Err(error) = outcome {
                tracing::error!(%error, "a lane failed: its hits stay on the broker");
            }
        }
        // Nothing is in flight now, and the last acks go.
        settled.cancel();
        while let Some(outcome) = acking.join_next().await {
            if let Err(error) = outcome {
                tracing::error!(%error, "acks failed: their hits stay on the broker");
            }
        }
        let closed =
            futures_util::future::join_all(subscriptions.into_iter().map(Shard::close)).await;
        if end != RoundEnd::SessionLost && closed.iter().all(|in_order| *in_order) {
            self.office.stored.clear();
        }
        self.office.metrics.shards_subscribed.set(0);
        end
    }

    async fn until_end(
        &self,
        session: &Session,
        shutdown: &CancellationToken,
        assignment: &Assignment,
        extra: &mut Vec<u16>,
        held: &HashMap<u16, Arc<AtomicUsize>>,
    ) -> RoundEnd {
        let mut tick = tokio::time::interval(Duration::from_millis(500));
        let (mut busy, mut looked) = (Instant::now(), Instant::now());
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return RoundEnd::Shutdown,
                () = session.lost.wait() => return RoundEnd::SessionLost,
                _ = tick.tick() => {}
            }
            self.office.metrics.shards_active.set(self.activity.shards_of_ours());
            if held.values().any(|in_flight| in_flight.load(Ordering::Relaxed) > 0) {
                busy = Instant::now();
            }
            let pause = self.dispatcher.gate.pause_left().unwrap_or_default();
            match (self.dispatcher.gate.open_for(), assignment.probing) {
                (None, true) => return RoundEnd::Outage,
                (Some(_), true) if pause > LONG_PAUSE => return RoundEnd::Outage,
                (Some(_), true) if busy.elapsed() > PROBE_PATIENCE => return RoundEnd::Idle,
                (Some(away), false) if away > self.hold => return RoundEnd::Outage,
                (None, false) if looked.elapsed() > LOOK_EVERY && !extra.is_empty() => {
                    looked = Instant::now();
                    if self.look_at_extra(session, assignment, extra, held).await {
                        return RoundEnd::Rebalance;
                    }
                }
                _ => {}
            }
        }
    }

    /// Shards beyond `QUEUE_SHARDS`: read while they hold hits, left when they are dry, and deleted
    /// when everybody has left. Tells whether this worker reads the wrong ones.
    async fn look_at_extra(
        &self,
        session: &Session,
        assignment: &Assignment,
        extra: &mut Vec<u16>,
        held: &HashMap<u16, Arc<AtomicUsize>>,
    ) -> bool {
        let mut reshuffle = false;
        // The highest first, so that the numbers of those left have no gap.
        for index in extra.clone().into_iter().rev() {
            let depth = match session.depth(index).await {
                Ok(Some(depth)) => depth,
                Ok(None) => {
                    extra.retain(|other| *other != index);
                    continue;
                }
                Err(_) => return false,
            };
            let here = assignment.extra.contains(&index);
            let in_flight =
                held.get(&index).is_some_and(|in_flight| in_flight.load(Ordering::Relaxed) > 0);
            reshuffle |= if here { depth.ready == 0 && !in_flight } else { depth.ready > 0 };
            let abandoned =
                !here && depth.ready == 0 && depth.consumers == 0 && extra.last() == Some(&index);
            if abandoned && self.may_delete {
                match session.retire(index).await {
                    Ok(true) => {
                        extra.retain(|other| *other != index);
                        tracing::info!(shard = index, "an extra shard is drained and deleted");
                    }
                    Ok(false) => {}
                    Err(error) => tracing::debug!(%error, "an extra shard could not be deleted"),
                }
            }
        }
        reshuffle
    }

    /// Who may send now.
    pub fn gate(&self) -> &Gate {
        &self.dispatcher.gate
    }

    /// Whether hits of any age can be delivered.
    pub fn has_token(&self) -> bool {
        self.dispatcher.has_token
    }

    // === From the shard to the lane ===

    async fn feed(
        self: Arc<Self>,
        mut shard: Shard,
        lanes: Lanes,
        stop: CancellationToken,
        session: Arc<Session>,
    ) -> Shard {
        loop {
            let held = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                held = shard.next() => held,
            };
            let Some(held) = held else {
                session
                    .lost
                    .because(format!("the broker ended the subscription to shard {}", shard.index));
                break;
            };
            let cdt = self.take(held, &lanes, &session).await.unwrap_or_else(Timestamp::now);
            self.activity.note(shard.index, cdt, &shard.in_flight);
        }
        shard
    }

    /// Puts the hit where it belongs, and tells its own time, if it has one.
    async fn take(&self, mut held: Held, lanes: &Lanes, session: &Session) -> Option<Timestamp> {
        if held.is_redelivered() && self.office.stored.recall(held.identity()) {
            self.intake.recognise(&mut held);
            session.settler.settle([(held, Settlement::Delivered(Delivered::Duplicate))]).await;
            return None;
        }
        let prepared = self.intake.prepare(&mut held);
        let time = prepared.as_ref().ok().map(|prepared| prepared.cdt);
        let refused = match prepared {
            Ok(Prepared { lane, encoded, idsite, cdt }) => {
                match lanes.deliver.get(lane % lanes.deliver.len()) {
                    Some(lane) => {
                        let sent = lane.send(Ready { held, encoded, idsite, cdt }).await;
                        sent.err().map(|unsent| (unsent.0.held, Settlement::Release))
                    }
                    None => Some((held, Settlement::Release)),
                }
            }
            Err(violations) => {
                let rejected = lanes.reject.send((held, Settlement::Reject { violations })).await;
                rejected.err().map(|unsent| (unsent.0.0, Settlement::Release))
            }
        };
        // A lane that is gone takes nothing: the hit goes back with its channel.
        if let Some(unsent) = refused {
            session.settler.settle([unsent]).await;
        }
        time
    }

    async fn start_lanes(
        self: &Arc<Self>,
        session: &Arc<Session>,
        stop: &CancellationToken,
        workers: &mut JoinSet<()>,
        count: usize,
    ) -> Result<Lanes, BrokerError> {
        // The prefetch bounds what waits here, so no send ever blocks for long.
        let room = usize::from(self.prefetch).max(1);
        let mut deliver = Vec::with_capacity(count);
        for _ in 0..count {
            let (sender, receiver) = mpsc::channel(room);
            deliver.push(sender);
            workers.spawn(self.dispatcher.clone().lane(
                receiver,
                stop.clone(),
                session.new_settler().await?,
            ));
        }
        let (reject, mut receiver) = mpsc::channel(room);
        let (session, most) = (session.clone(), self.bulk_size);
        // Not ended by `stop`: what has been judged is settled, and the feeders' leaving ends it.
        workers.spawn(async move {
            let mut batch = Vec::new();
            while receiver.recv_many(&mut batch, most).await > 0 {
                session.settler.settle(batch.drain(..)).await;
            }
        });
        Ok(Lanes { deliver, reject })
    }
}
