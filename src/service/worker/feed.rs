//! From the shard to the lane: takes one message after the other, and hands it to the lane of its
//! visitor, or to the settling of hits that need no request.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Worker;
use super::acks::AckWindow;
use super::counter::FateCounter;
use super::delivery::Delivery;
use super::dispatch::{LaneHit, Load};
use super::intake::Prepared;
use super::moves::Mover;
use super::settle::Settler;
use super::share::Hold;
use super::stored::Known;
use crate::domain::answer::Reason;
use crate::domain::books::Arrival;
use crate::domain::settle;
use crate::service::amqp::BrokerError;
use crate::service::amqp::message::Message;
use crate::service::amqp::session::Session;
use crate::service::amqp::subscription::{Received, Subscription};

/// A hit that came back without an ack so often may be one that ends its workers. Each end counts a
/// return for everything that was given with it, so the hits of its shard go one by one from then
/// on: the broker parks that hit at its delivery limit (100), and its neighbours stay below.
const SUSPECT_AFTER: u64 = 5;

/// How often a feeder looks whether the hits of its shard are settled.
const SETTLING_INTERVAL: Duration = Duration::from_millis(20);

/// A shard that is read, with what counts and acks its hits.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) subscription: Subscription,
    /// How many hits of the shard are in flight here.
    pub(super) in_flight: Arc<AtomicUsize>,
    pub(super) window: Arc<AckWindow>,
    /// Whether the shard is this worker's, and for how long.
    pub(super) hold: Arc<Hold>,
    /// Whether the shard gave a hit that nobody had before.
    pub(super) gave_new: bool,
}

/// Where feeders put hits.
#[derive(Clone)]
pub(super) struct Lanes {
    /// One sender for each lane.
    deliver: Vec<mpsc::Sender<LaneHit>>,
    /// For hits that need no request: duplicates and rejects.
    settler: Settler,
}

impl Worker {
    /// Reads a shard until `stop`, and gives the subscription back to be closed.
    ///
    /// A shard that is to go to another worker has no ack from then on. So the broker gives nothing
    /// more than the prefetch, all of it is sent, and the next worker begins with what follows it.
    pub(super) async fn feed(
        self: Arc<Self>,
        mut feed: Feed,
        lanes: Lanes,
        stop: CancellationToken,
        session: Arc<Session>,
    ) -> Subscription {
        let index = feed.subscription.index;
        let hold = feed.hold.clone();
        let mut leaving = None;
        loop {
            let next = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = hold.asked_anew(), if leaving.is_none() => {
                    leaving = Some(self.dispatcher.shard_leaves());
                    feed.window.withhold(true);
                    continue;
                }
                message = feed.subscription.next() => Some(message),
                () = settled(&feed.in_flight), if leaving.is_some() => None,
            };
            if leaving.is_none() {
                hold.gave();
            }
            let (is_alone, untaken) = match next {
                None => (feed.subscription.is_alone(), Vec::new()),
                Some(None) => {
                    let text = format!("the broker ended the subscription to shard {index}");
                    session.end.because(text);
                    break;
                }
                Some(Some(Received::Refused(message))) => {
                    self.count_refused(&message, &feed);
                    self.activity.note(index, Timestamp::now(), &feed.in_flight);
                    continue;
                }
                Some(Some(Received::Message(message))) => {
                    let is_suspect = message.returns() >= SUSPECT_AFTER;
                    if is_suspect == feed.subscription.is_alone() {
                        let cdt = self.take(message, &mut feed, &lanes).await;
                        let cdt = cdt.unwrap_or_else(Timestamp::now);
                        self.activity.note(index, cdt, &feed.in_flight);
                        continue;
                    }
                    log_pace(index, &message, is_suspect);
                    (is_suspect, vec![message])
                }
            };
            leaving = None;
            let changing = self.subscribe_anew(&mut feed, is_alone, untaken);
            match stop.run_until_cancelled(session.end.or(changing)).await {
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(error))) => {
                    session.end.because(format!("shard {index} cannot be subscribed to: {error}"));
                    break;
                }
                // What was given goes back with its channel.
                Some(Err(_)) | None => break,
            }
        }
        feed.subscription
    }

    /// Takes the shard's hits one by one from now on, or as many as the prefetch allows, behind the
    /// other subscribers. What was not taken goes back first.
    async fn subscribe_anew(
        &self,
        feed: &mut Feed,
        is_alone: bool,
        mut untaken: Vec<Message>,
    ) -> Result<(), BrokerError> {
        settled(&feed.in_flight).await;
        let changed = feed.subscription.resubscribe(is_alone, &mut untaken).await;
        feed.hold.forget();
        self.activity.forget(feed.subscription.index);
        feed.window.withhold(false);
        self.give_back(&untaken);
        changed
    }

    /// Counts a message that was refused because it cannot be read.
    fn count_refused(&self, message: &Message, feed: &Feed) {
        let (context, in_flight) = (self.context.clone(), feed.in_flight.clone());
        let (rules, identity) = (context.rules.current(), context.identity(message));
        let mut counter = FateCounter::new(context, rules, in_flight, identity);
        let arrival = if message.is_redelivered() { Arrival::Redelivered } else { Arrival::First };
        counter.count_for(self.context.ledger.nobodys(), arrival);
        counter.settle(&settle::unreadable());
    }

    /// Puts a message where it belongs. Returns the hit's own time, if it has one.
    async fn take(&self, message: Message, feed: &mut Feed, lanes: &Lanes) -> Option<Timestamp> {
        let (in_flight, window) = (feed.in_flight.clone(), feed.window.clone());
        let mut delivery = Delivery::new(message, self.context.clone(), in_flight, window);
        let known = self.known(&delivery, feed);
        if known == Known::Stored {
            self.intake.attribute(&mut delivery);
            lanes.settler.settle([(delivery, settle::duplicate())]).await;
            return None;
        }
        let prepared = self.intake.prepare(&mut delivery);
        if known == Known::InDoubt {
            delivery.count_doubt();
            self.context.metrics.doubted(Reason::ConnectionLost);
        }
        match prepared {
            Ok(Prepared { lane, encoded, idsite, cdt }) => {
                let attempts = delivery.history().attempts;
                let load = Load { delivery, encoded };
                lanes.deliver(lane, LaneHit { cdt, idsite, attempts, load }).await;
                Some(cdt)
            }
            Err(violations) => {
                lanes.settler.settle([(delivery, settle::rejected(violations))]).await;
                None
            }
        }
    }

    /// What is known of a hit, which may have come back. What a lost session held comes back before
    /// anything new of its shard.
    fn known(&self, delivery: &Delivery, feed: &mut Feed) -> Known {
        if !delivery.message().is_redelivered() {
            feed.gave_new = true;
        }
        if feed.gave_new {
            return Known::Unstored;
        }
        self.context.stored.recall(delivery.identity(), Instant::now())
    }

    /// Starts the lanes of a round, and the task that moves hits to other queues.
    pub(super) async fn start_lanes(
        self: &Arc<Self>,
        session: &Arc<Session>,
        stop: &CancellationToken,
        tasks: &mut JoinSet<()>,
        count: usize,
    ) -> Result<Lanes, BrokerError> {
        // The prefetch bounds what waits here, so no send ever blocks for long.
        let room = usize::from(self.prefetch).max(1);
        let mover = Mover::open(self.context.clone(), session.clone(), stop.clone()).await?;
        let (moves, moving) = mpsc::channel(room);
        // Not ended by `stop`: what has its fate is settled, and the others' leaving ends it.
        tasks.spawn(mover.run(moving));
        let settler = Settler::new(moves);
        let mut deliver = Vec::with_capacity(count);
        for _ in 0..count {
            let (sender, receiver) = mpsc::channel(room);
            deliver.push(sender);
            let dispatcher = self.dispatcher.clone();
            tasks.spawn(dispatcher.run_lane(receiver, stop.clone(), settler.clone()));
        }
        Ok(Lanes { deliver, settler })
    }
}

/// Waits until nothing of a shard is in flight.
async fn settled(in_flight: &AtomicUsize) {
    while in_flight.load(Ordering::Relaxed) > 0 {
        tokio::time::sleep(SETTLING_INTERVAL).await;
    }
}

/// Says that the hits of a shard go one by one from now on, or together again.
fn log_pace(shard: u16, message: &Message, is_alone: bool) {
    if is_alone {
        tracing::warn!(
            shard,
            returns = message.returns(),
            "a hit came back again and again, as one that ends workers would: the hits of its \
             shard go one by one until it has its fate"
        );
    } else {
        tracing::info!(shard, "the hits of the shard go together again");
    }
}

impl Lanes {
    async fn deliver(&self, lane: usize, hit: LaneHit) {
        // A lane that is gone takes nothing, and the hit goes back with its channel.
        if let Some(sender) = self.deliver.get(lane % self.deliver.len().max(1)) {
            drop(sender.send(hit).await);
        }
    }
}
