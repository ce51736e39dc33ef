//! One round: the time between subscribing to shards and handing them over.
//!
//! Whatever ends a round (shutdown, a lost session, a long outage), the order is the same: stop
//! feeding the lanes, let what is in flight settle, and only then close the channels. So no visitor
//! is ever in two hands.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Worker;
use super::acks::AckWriter;
use super::feed::Feed;
use super::share::Holds;
use crate::service::amqp::BrokerError;
use crate::service::amqp::message::Message;
use crate::service::amqp::session::Session;
use crate::service::amqp::subscription::Subscription;

/// What a round subscribes to.
#[derive(Debug)]
pub(super) struct Assignment {
    /// Shards that `QUEUE_SHARDS` asks for.
    pub(super) shards: Vec<u16>,
    /// Shards beyond `QUEUE_SHARDS` that hold hits.
    pub(super) extra: Vec<u16>,
    /// The most unacked hits of each shard.
    pub(super) prefetch: u16,
    /// How many lanes run.
    pub(super) lanes: usize,
    /// Whether the round only probes a Matomo that has been away for long.
    pub(super) is_probe: bool,
}

/// Why a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RoundEnd {
    /// The worker is to end.
    Shutdown,
    /// The session with the broker is over.
    SessionLost,
    /// Matomo has been away for long, or is back: everything is given back and taken anew, in the
    /// other way.
    Outage,
    /// The shard that is read for probes has nothing: the next one may.
    Idle,
    /// Other extra shards hold hits now.
    Rebalance,
}

/// How many hits of each shard are in flight here.
#[derive(Debug, Default)]
pub(super) struct InFlight(HashMap<u16, Arc<AtomicUsize>>);

impl InFlight {
    /// Whether any hit is in flight.
    pub(super) fn any(&self) -> bool {
        self.0.values().any(|count| count.load(Ordering::Relaxed) > 0)
    }

    /// Whether a hit of this shard is in flight.
    pub(super) fn of(&self, shard: u16) -> bool {
        self.0.get(&shard).is_some_and(|count| count.load(Ordering::Relaxed) > 0)
    }
}

/// The tasks of a round.
#[derive(Default)]
struct RoundTasks {
    /// Each gives its subscription back to be closed.
    feeders: JoinSet<Subscription>,
    /// The lanes, and what settles hits that need no request.
    lanes: JoinSet<()>,
    /// The writer of acks.
    acks: JoinSet<()>,
    /// Ends feeders and lanes.
    stop: CancellationToken,
    /// Ends the writer of acks, once nothing more will be settled.
    settled: CancellationToken,
    in_flight: InFlight,
    holds: Holds,
}

impl Worker {
    /// Runs one round. `extra` are the shards beyond `QUEUE_SHARDS` that there are.
    pub(super) async fn run_round(
        self: &Arc<Self>,
        session: &Arc<Session>,
        shutdown: &CancellationToken,
        assignment: &Assignment,
        extra: &mut Vec<u16>,
    ) -> RoundEnd {
        let mut tasks = RoundTasks::default();
        let starting = self.start_round(session, assignment, &mut tasks);
        let not_begun = match shutdown.run_until_cancelled(starting).await {
            Some(Ok(())) => None,
            Some(Err(error)) => {
                session.end.because(format!("shards cannot be read: {error}"));
                Some(RoundEnd::SessionLost)
            }
            // Nothing was sent yet: what was given goes back with the session.
            None => Some(RoundEnd::Shutdown),
        };
        if let Some(end) = not_begun {
            // No task is left that knows the session, so that whoever has it can close it.
            drop(tasks.wind_down().await);
            return end;
        }
        let end = tokio::select! {
            end = self.until_end(session, shutdown, assignment, extra, &tasks.in_flight) => end,
            never = self.share(session, &tasks.holds) => match never {},
            // None of them ends before being told to: hits would wait here for good.
            _ = tasks.lanes.join_next() => RoundEnd::SessionLost,
            _ = tasks.feeders.join_next() => RoundEnd::SessionLost,
            _ = tasks.acks.join_next() => RoundEnd::SessionLost,
        };
        if end == RoundEnd::SessionLost {
            session.end.because("a task of this worker ended".to_owned());
        }
        let mut subscriptions = tasks.wind_down().await;
        for subscription in &mut subscriptions {
            self.give_back(&subscription.untaken());
        }
        let closing = subscriptions.into_iter().map(Subscription::close);
        let closed = join_all(closing).await.into_iter().all(|closed| closed);
        if end != RoundEnd::SessionLost && closed {
            self.context.stored.close_session();
        } else {
            self.context.stored.lose_session();
        }
        self.context.metrics.shards_subscribed.set(0);
        end
    }

    /// Notes what the broker gave and nobody took: it comes back.
    pub(super) fn give_back(&self, untaken: &[Message]) {
        let known = |message: &Message| (self.context.identity(message), message.is_redelivered());
        self.context.stored.give_back(untaken.iter().map(known));
    }

    async fn start_round(
        self: &Arc<Self>,
        session: &Arc<Session>,
        assignment: &Assignment,
        tasks: &mut RoundTasks,
    ) -> Result<(), BrokerError> {
        let mut acks = AckWriter::default();
        let mut feeds = Vec::new();
        let stop = tasks.stop.clone();
        let lanes = self.start_lanes(session, &stop, &mut tasks.lanes, assignment.lanes).await?;
        for index in assignment.shards.iter().chain(&assignment.extra) {
            match session.subscribe(*index, assignment.prefetch).await {
                Ok(subscription) => {
                    let window = acks.window(&subscription);
                    let in_flight = Arc::default();
                    let hold = Arc::default();
                    feeds.push(Feed { subscription, in_flight, window, hold, gave_new: false });
                }
                Err(error) => {
                    for feed in &mut feeds {
                        self.give_back(&feed.subscription.untaken());
                    }
                    return Err(error);
                }
            }
        }
        let (context, settled) = (self.context.clone(), tasks.settled.clone());
        tasks.acks.spawn(acks.write(context, session.end.clone(), settled));
        let subscribed = i64::try_from(feeds.len()).unwrap_or_default();
        self.context.metrics.shards_subscribed.set(subscribed);
        for feed in feeds {
            let index = feed.subscription.index;
            tasks.in_flight.0.insert(index, feed.in_flight.clone());
            if assignment.shards.contains(&index) {
                tasks.holds.insert(index, feed.hold.clone());
            }
            let worker = self.clone();
            tasks.feeders.spawn(worker.feed(feed, lanes.clone(), stop.clone(), session.clone()));
        }
        Ok(())
    }
}

impl RoundTasks {
    /// Stops in good order, and gives the subscriptions back to be closed.
    async fn wind_down(mut self) -> Vec<Subscription> {
        self.stop.cancel();
        let mut subscriptions = Vec::new();
        while let Some(outcome) = self.feeders.join_next().await {
            match outcome {
                Ok(subscription) => subscriptions.push(subscription),
                Err(error) => {
                    tracing::error!(%error, "a feeder failed: its hits stay on the broker");
                }
            }
        }
        while let Some(outcome) = self.lanes.join_next().await {
            if let Err(error) = outcome {
                tracing::error!(%error, "a lane failed: its hits stay on the broker");
            }
        }
        // Nothing is in flight now, and the last acks go.
        self.settled.cancel();
        while let Some(outcome) = self.acks.join_next().await {
            if let Err(error) = outcome {
                tracing::error!(%error, "acks failed: their hits stay on the broker");
            }
        }
        subscriptions
    }
}
