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

use super::broker::{BrokerError, Session, Shard};
use super::config::{Settings, Topology};
use super::gate::Gate;
use super::heard::Heard;
use super::intake::{Intake, Prepared};
use super::lane::{Courier, Ready};
use super::settler::{Acks, Held, Office};
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
    office: Arc<Office>,
    courier: Arc<Courier>,
    intake: Intake,
    lanes: usize,
    bulk_size: usize,
    prefetch: u16,
    hold: Duration,
    /// `TOPOLOGY=declare`.
    may_delete: bool,
    /// What each shard last gave this worker.
    pub heard: Heard,
}

/// Where feeders put hits.
#[derive(Clone)]
struct Lanes {
    deliver: Vec<mpsc::Sender<Ready>>,
    reject: mpsc::Sender<(Held, Settlement)>,
}

/// What a stretch subscribes to.
#[derive(Debug)]
struct Shift {
    shards: Vec<u16>,
    /// Shards beyond `QUEUE_SHARDS` that hold hits.
    extra: Vec<u16>,
    prefetch: u16,
    lanes: usize,
    probing: bool,
}

/// Why a stretch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Shutdown,
    Lost,
    /// Matomo has been away for long, or is back: everything is given back and taken anew, in the
    /// other way.
    Outage,
    /// The probing shard has nothing: try the next.
    Dry,
    /// Other extra shards hold hits now.
    Reshuffle,
}

impl Relay {
    /// A worker that is not connected yet.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(settings: &Settings, office: Arc<Office>) -> anyhow::Result<Self> {
        let matomo = &settings.matomo;
        let bulk_size = if matomo.api == Api::Single { 1 } else { matomo.bulk_size };
        let courier = Arc::new(Courier::new(matomo, bulk_size, office.clone())?);
        Ok(Self {
            intake: Intake::new(settings, office.clone(), courier.has_token),
            courier,
            office,
            lanes: matomo.concurrency.into(),
            bulk_size: bulk_size.into(),
            prefetch: settings.broker.prefetch,
            hold: matomo.hold,
            may_delete: settings.broker.topology == Topology::Declare,
            heard: Heard::default(),
        })
    }

    /// Works until shutdown or until the session is lost.
    pub async fn serve(self: &Arc<Self>, session: &Arc<Session>, shutdown: &CancellationToken) {
        let mut extra = session.extra_shards.clone();
        let mut turn = 0;
        loop {
            let shift = if self.courier.gate.open_for().is_some_and(|away| away > self.hold) {
                // Not before the probe may go: a hit that is held runs into the broker's consumer
                // timeout.
                let pause = tokio::time::sleep(self.courier.gate.pause_left().unwrap_or_default());
                if !matches!(
                    shutdown.run_until_cancelled(session.lost.or(pause)).await,
                    Some(Ok(()))
                ) {
                    return;
                }
                self.probing_shift(session, turn)
            } else {
                self.full_shift(session, &extra).await
            };
            match self.stretch(session, shutdown, &shift, &mut extra).await {
                End::Shutdown | End::Lost => return,
                End::Outage if !shift.probing => tracing::warn!(
                    "Matomo has been away for {} min: prefetched hits go back to the broker, and \
                     one hit at a time probes",
                    self.hold.as_secs() / 60
                ),
                End::Dry => turn += 1,
                End::Outage | End::Reshuffle => {}
            }
        }
    }

    fn probing_shift(&self, session: &Session, turn: usize) -> Shift {
        let claims = session.claims();
        let shards = claims.into_iter().cycle().nth(turn).into_iter().collect();
        Shift { shards, extra: Vec::new(), prefetch: 1, lanes: 1, probing: true }
    }

    async fn full_shift(&self, session: &Session, extra: &[u16]) -> Shift {
        let shards = session.claims();
        let mut full = Vec::new();
        for index in extra {
            if matches!(session.depth(*index).await, Ok(Some(depth)) if depth.ready > 0) {
                full.push(*index);
            }
        }
        let prefetch = usize::from(self.prefetch) / (shards.len() + full.len()).max(1);
        let prefetch = u16::try_from(prefetch.max(1)).unwrap_or(u16::MAX);
        Shift { shards, extra: full, prefetch, lanes: self.lanes, probing: false }
    }

    async fn stretch(
        self: &Arc<Self>,
        session: &Arc<Session>,
        shutdown: &CancellationToken,
        shift: &Shift,
        extra: &mut Vec<u16>,
    ) -> End {
        let stop = CancellationToken::new();
        let mut workers = JoinSet::new();
        let mut acks = Acks::new(self.office.clone());
        let opened = async {
            let mut subscriptions = Vec::new();
            for index in shift.shards.iter().chain(&shift.extra) {
                subscriptions.push(session.subscribe(*index, shift.prefetch, &mut acks).await?);
            }
            Ok::<_, BrokerError>((
                subscriptions,
                self.start_lanes(session, &stop, &mut workers, shift.lanes).await?,
            ))
        };
        let (subscriptions, lanes) = match opened.await {
            Ok(opened) => opened,
            Err(error) => {
                session.lost.because(format!("shards cannot be read: {error}"));
                return End::Lost;
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
            end = self.until_end(session, shutdown, shift, extra, &held) => end,
            // Nobody ends before being told to: hits would wait here for good.
            _ = workers.join_next() => End::Lost,
            _ = feeders.join_next() => End::Lost,
            _ = acking.join_next() => End::Lost,
        };
        if end == End::Lost {
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
        if end != End::Lost && closed.iter().all(|in_order| *in_order) {
            self.office.stored.clear();
        }
        self.office.metrics.shards_subscribed.set(0);
        end
    }

    async fn until_end(
        &self,
        session: &Session,
        shutdown: &CancellationToken,
        shift: &Shift,
        extra: &mut Vec<u16>,
        held: &HashMap<u16, Arc<AtomicUsize>>,
    ) -> End {
        let mut tick = tokio::time::interval(Duration::from_millis(500));
        let (mut busy, mut looked) = (Instant::now(), Instant::now());
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return End::Shutdown,
                () = session.lost.wait() => return End::Lost,
                _ = tick.tick() => {}
            }
            self.office.metrics.shards_held.set(self.heard.shards_of_ours());
            if held.values().any(|in_flight| in_flight.load(Ordering::Relaxed) > 0) {
                busy = Instant::now();
            }
            let pause = self.courier.gate.pause_left().unwrap_or_default();
            match (self.courier.gate.open_for(), shift.probing) {
                (None, true) => return End::Outage,
                (Some(_), true) if pause > LONG_PAUSE => return End::Outage,
                (Some(_), true) if busy.elapsed() > PROBE_PATIENCE => return End::Dry,
                (Some(away), false) if away > self.hold => return End::Outage,
                (None, false) if looked.elapsed() > LOOK_EVERY && !extra.is_empty() => {
                    looked = Instant::now();
                    if self.look_at_extra(session, shift, extra, held).await {
                        return End::Reshuffle;
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
        shift: &Shift,
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
            let here = shift.extra.contains(&index);
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
        &self.courier.gate
    }

    /// Whether hits of any age can be delivered.
    pub fn has_token(&self) -> bool {
        self.courier.has_token
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
            self.heard.note(shard.index, cdt, &shard.in_flight);
        }
        shard
    }

    /// Puts the hit where it belongs, and tells its own time, if it has one.
    async fn take(&self, mut held: Held, lanes: &Lanes, session: &Session) -> Option<Timestamp> {
        if held.is_redelivered() && self.office.stored.recall(held.identity()) {
            self.intake.recognise(&mut held);
            session.settler.settle([(held, Settlement::Delivered(Delivered::Before))]).await;
            return None;
        }
        let prepared = self.intake.prepare(&mut held);
        let time = prepared.as_ref().ok().map(|prepared| prepared.cdt);
        let refused = match prepared {
            Ok(Prepared { lane, encoded, idsite, cdt }) => {
                match lanes.deliver.get(lane % lanes.deliver.len()) {
                    Some(lane) => {
                        let sent = lane.send(Ready { held, encoded, idsite, cdt }).await;
                        sent.err().map(|unsent| (unsent.0.held, Settlement::Return))
                    }
                    None => Some((held, Settlement::Return)),
                }
            }
            Err(violations) => {
                let rejected = lanes.reject.send((held, Settlement::Reject { violations })).await;
                rejected.err().map(|unsent| (unsent.0.0, Settlement::Return))
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
            workers.spawn(self.courier.clone().lane(
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
