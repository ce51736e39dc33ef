//! Everything that stays the same from one session with the broker to the next.

use std::sync::Arc;

use super::stored::Stored;
use crate::service::amqp::message::Message;
use crate::service::amqp::signing::Signing;
use crate::service::amqp::topology::Topology;
use crate::service::books::Ledger;
use crate::service::rules::Rules;
use crate::service::telemetry::Metrics;

/// What all files of a worker share.
#[derive(Debug)]
pub struct WorkerContext {
    /// The names of exchanges and queues.
    pub topology: Topology,
    /// Whose history of a hit is believed.
    pub signing: Signing,
    /// The plan and the tenants in force.
    pub rules: Arc<Rules>,
    /// The counters that Prometheus reads.
    pub metrics: Arc<Metrics>,
    /// The counters by exploitant, plateforme and site.
    pub ledger: Arc<Ledger>,
    /// The name of this worker: unique among replicas, and the same for the life of the process.
    pub worker: String,
    /// The hits that Matomo stored and whose ack may not have arrived.
    pub stored: Stored,
}

impl WorkerContext {
    /// A number by which [`Stored`] knows a copy of this message. To another process it means
    /// nothing.
    pub fn identity(&self, message: &Message) -> u64 {
        let unique = (message.id(), message.timestamp());
        self.stored.identity(message.routing_key(), unique, message.body())
    }
}
