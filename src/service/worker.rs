//! One worker: the way of a hit from its shard to its fate. The hit goes through these files from
//! top to bottom, and no file calls one above it.
//!
//! | file | what happens there |
//! |---|---|
//! | [`assign`] | which shards the worker reads, and when that changes |
//! | `extra_shards` | shards beyond `QUEUE_SHARDS` are drained and deleted |
//! | `share` | shards beyond this worker's share go to others |
//! | `round` | shards are subscribed to, lanes run, and both end in good order |
//! | `feed` | a message is taken from its shard and goes to a lane |
//! | [`intake`] | it is read, checked against the plan, and encoded |
//! | [`dispatch`] | it waits in the lane of its visitor and is sent with others |
//! | [`gate`] | the request waits until the breaker, the token and the rate limit agree |
//! | [`matomo`] | the request goes to Matomo, and its answer comes back |
//! | [`settle`] | the hit's fate is carried out: it is marked for its ack, released, or moved |
//! | `moves` | a hit that goes to another queue is published there, and then marked for its ack |
//! | [`delivery`] | what the files above pass on: a message, its history, and its one count |
//! | [`acks`] | acks are gathered and sent |
//! | [`stored`] | what comes back is told from what Matomo has stored |
//! | [`activity`], [`counter`], [`context`] | what all of them share |

use std::sync::Arc;
use std::time::Duration;

use super::config::{Settings, TopologyMode};
use crate::domain::max_age::MaxAge;
use crate::domain::request::Api;

pub mod acks;
pub mod activity;
pub mod assign;
pub mod context;
pub mod counter;
pub mod delivery;
pub mod dispatch;
mod extra_shards;
mod feed;
pub mod gate;
pub mod intake;
pub mod matomo;
mod moves;
mod round;
pub mod settle;
mod share;
pub mod stored;

use activity::ShardActivity;
use context::WorkerContext;
use dispatch::Dispatcher;
use gate::Gate;
use intake::Intake;

/// One worker, whatever sessions with the broker it goes through.
#[derive(Debug)]
pub struct Worker {
    context: Arc<WorkerContext>,
    dispatcher: Arc<Dispatcher>,
    intake: Intake,
    /// How many lanes it has, which is the most requests under way.
    lanes: usize,
    /// The most unacked hits, over all its shards.
    prefetch: u16,
    /// How long prefetched hits wait in memory for Matomo to come back.
    hold: Duration,
    /// Whether it may delete shards that are no longer asked for (`TOPOLOGY=declare`).
    may_delete: bool,
    /// What each shard last gave this worker.
    pub activity: ShardActivity,
}

impl Worker {
    /// A worker that is not connected yet.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(settings: &Settings, context: Arc<WorkerContext>) -> anyhow::Result<Self> {
        let matomo = &settings.matomo;
        let bulk_size = if matomo.api == Api::Single { 1 } else { matomo.bulk_size };
        let dispatcher = Arc::new(Dispatcher::new(matomo, bulk_size, context.clone())?);
        Ok(Self {
            intake: Intake::new(settings, context.clone(), dispatcher.has_token),
            dispatcher,
            context,
            lanes: matomo.concurrency.into(),
            prefetch: settings.broker.prefetch,
            hold: matomo.hold,
            may_delete: settings.broker.topology == TopologyMode::Declare,
            activity: ShardActivity::default(),
        })
    }

    /// The gate, which knows whether hits may be sent now.
    pub fn gate(&self) -> &Gate {
        &self.dispatcher.gate
    }

    /// Whether hits of any age can be delivered.
    pub fn has_token(&self) -> bool {
        self.dispatcher.has_token
    }

    /// The age from which on Matomo wants the token.
    pub fn max_age(&self) -> MaxAge {
        self.dispatcher.max_age
    }
}
