//! From the shard to the lane: takes one message after the other, and hands it to the lane of its
//! visitor, or to the settling of hits that need no request.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

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
use super::settle::Settler;
use crate::domain::books::Arrival;
use crate::domain::settle::{self, Settlement};
use crate::service::amqp::BrokerError;
use crate::service::amqp::message::Message;
use crate::service::amqp::session::Session;
use crate::service::amqp::subscription::{Received, Subscription};

/// A shard that is read, with what counts and acks its hits.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) subscription: Subscription,
    /// How many hits of the shard are in flight here.
    pub(super) in_flight: Arc<AtomicUsize>,
    pub(super) window: Arc<AckWindow>,
}

/// Where feeders put hits.
#[derive(Clone)]
pub(super) struct Lanes {
    /// One sender for each lane.
    deliver: Vec<mpsc::Sender<LaneHit>>,
    /// For hits that need no request: duplicates and rejects.
    settle: mpsc::Sender<(Delivery, Settlement)>,
}

impl Worker {
    /// Reads a shard until `stop`, and gives the subscription back to be closed.
    pub(super) async fn feed(
        self: Arc<Self>,
        mut feed: Feed,
        lanes: Lanes,
        stop: CancellationToken,
        session: Arc<Session>,
    ) -> Subscription {
        let index = feed.subscription.index;
        loop {
            let message = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                message = feed.subscription.next() => message,
            };
            let Some(received) = message else {
                let text = format!("the broker ended the subscription to shard {index}");
                session.end.because(text);
                break;
            };
            let cdt = match received {
                Received::Message(message) => self.take(message, &feed, &lanes).await,
                Received::Refused(message) => {
                    self.count_refused(&message, &feed);
                    None
                }
            };
            let cdt = cdt.unwrap_or_else(Timestamp::now);
            self.activity.note(index, cdt, &feed.in_flight);
        }
        feed.subscription
    }

    /// Counts a message that was refused because it cannot be read.
    fn count_refused(&self, message: &Message, feed: &Feed) {
        let (context, in_flight) = (self.context.clone(), feed.in_flight.clone());
        let mut counter = FateCounter::new(context, self.context.rules.current(), in_flight);
        let arrival = if message.is_redelivered() { Arrival::Redelivered } else { Arrival::First };
        counter.count_for(self.context.ledger.nobodys(), arrival);
        counter.settle(&settle::unreadable());
    }

    /// Puts a message where it belongs. Returns the hit's own time, if it has one.
    async fn take(&self, message: Message, feed: &Feed, lanes: &Lanes) -> Option<Timestamp> {
        let (in_flight, window) = (feed.in_flight.clone(), feed.window.clone());
        let mut delivery = Delivery::new(message, self.context.clone(), in_flight, window);
        if delivery.message().is_redelivered() && self.context.stored.recall(delivery.identity()) {
            self.intake.attribute(&mut delivery);
            lanes.settle(delivery, settle::duplicate()).await;
            return None;
        }
        match self.intake.prepare(&mut delivery) {
            Ok(Prepared { lane, encoded, idsite, cdt }) => {
                let attempts = delivery.history().attempts;
                let load = Load { delivery, encoded };
                lanes.deliver(lane, LaneHit { cdt, idsite, attempts, load }).await;
                Some(cdt)
            }
            Err(violations) => {
                lanes.settle(delivery, settle::rejected(violations)).await;
                None
            }
        }
    }

    /// Starts the lanes of a round, and the task that settles what needs no request.
    pub(super) async fn start_lanes(
        self: &Arc<Self>,
        session: &Arc<Session>,
        stop: &CancellationToken,
        tasks: &mut JoinSet<()>,
        count: usize,
    ) -> Result<Lanes, BrokerError> {
        // The prefetch bounds what waits here, so no send ever blocks for long.
        let room = usize::from(self.prefetch).max(1);
        let settler = || Settler::open(self.context.clone(), session.clone(), stop.clone());
        let mut deliver = Vec::with_capacity(count);
        for _ in 0..count {
            let (sender, receiver) = mpsc::channel(room);
            deliver.push(sender);
            let dispatcher = self.dispatcher.clone();
            tasks.spawn(dispatcher.run_lane(receiver, stop.clone(), settler().await?));
        }
        let (settle, mut receiver) = mpsc::channel(room);
        let (mut settler, most) = (settler().await?, self.bulk_size);
        // Not ended by `stop`: what has its fate is settled, and the feeders' leaving ends it.
        tasks.spawn(async move {
            let mut batch = Vec::new();
            while receiver.recv_many(&mut batch, most).await > 0 {
                settler.settle(batch.drain(..)).await;
            }
        });
        Ok(Lanes { deliver, settle })
    }
}

impl Lanes {
    async fn deliver(&self, lane: usize, hit: LaneHit) {
        // A lane that is gone takes nothing, and the hit goes back with its channel.
        if let Some(sender) = self.deliver.get(lane % self.deliver.len().max(1)) {
            drop(sender.send(hit).await);
        }
    }

    async fn settle(&self, delivery: Delivery, settlement: Settlement) {
        // The same holds for the task that settles.
        drop(self.settle.send((delivery, settlement)).await);
    }
}
