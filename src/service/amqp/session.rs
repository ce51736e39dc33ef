//! A supervised session with RabbitMQ: two connections, rebuilt from nothing on any loss.
//!
//! Consuming and publishing have a connection each: on a memory or disk alarm the broker stops
//! reading from connections that publish, and acks must not wait behind that.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::{Connection, Event};
use tokio::task::JoinSet;

use super::BrokerError;
use super::connect::{PUBLISH_FRAME, SET_UP_TIMEOUT, close, connect};
use super::depths::{Depth, Depths};
use super::publisher::ConfirmChannel;
use super::session_end::{SessionClosed, SessionEnd};
use super::subscription::{ShardSource, Subscription};
use super::topology::{Topology, Untold};
use super::workers::WorkerCount;
use crate::domain::sharing::{Replicas, claim};
use crate::service::config::{BrokerSettings, TopologyMode};
use crate::service::telemetry::Metrics;

/// How often a connection is looked at: some ends of a connection come without an event.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// One session: from connecting to the first loss.
#[derive(Debug)]
pub struct Session {
    /// The connection that reads shards, acks, and asks for depths.
    consume: Connection,
    /// The connection that moves hits to other queues.
    publish: Connection,
    /// The shards beyond `QUEUE_SHARDS`, which are drained and then deleted.
    pub extra_shards: Vec<u16>,
    /// Set when the session is over.
    pub end: SessionEnd,
    /// Whether we may declare.
    mode: TopologyMode,
    topology: Topology,
    /// The name of this worker, from which its claims to the shards follow.
    worker: String,
    /// What the broker does not tell us of.
    untold: Untold,
    /// The tasks that watch the two connections; they end with the session.
    watchers: JoinSet<()>,
}

impl Session {
    /// Connects, ensures the topology, and watches both connections.
    ///
    /// # Errors
    /// [`BrokerError`], whose text names the setting and the remedy.
    pub async fn open(
        settings: &BrokerSettings,
        topology: &Topology,
        worker: &str,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, BrokerError> {
        let (consume, shown) = connect(settings, &format!("{worker} consume"), None).await?;
        let name = format!("{worker} publish");
        let (publish, _) = connect(settings, &name, Some(PUBLISH_FRAME)).await?;
        let end = SessionEnd::default();
        let mut watchers = JoinSet::new();
        for (connection, role) in [(&consume, "consuming"), (&publish, "publishing")] {
            watch(&mut watchers, connection, role, metrics.clone(), end.clone());
        }
        let untold = Untold::default();
        let extra_shards = set_up(settings, topology, worker, &untold).await?;
        let (shards, prefetch) = (settings.shards, settings.prefetch);
        tracing::info!(broker = shown, shards, prefetch, "connected to RabbitMQ");
        let names = untold.names();
        if !names.is_empty() {
            tracing::warn!(
                untold = names.join(", "),
                "the broker does not tell this user whether these are there, so nobody notices \
                 when they are deleted: see \"Rights\" in docs/operate.md"
            );
        }
        let (topology, worker) = (topology.clone(), worker.to_owned());
        Ok(Self {
            consume,
            publish,
            extra_shards,
            end,
            mode: settings.topology,
            topology,
            worker,
            untold,
            watchers,
        })
    }

    /// Subscribes to a shard, behind those that have. At most `prefetch` of its messages are
    /// unacked at a time.
    ///
    /// # Errors
    /// When the session is lost.
    pub async fn subscribe(&self, index: u16, prefetch: u16) -> Result<Subscription, BrokerError> {
        let subscribing = async {
            let channel = self.consume.create_channel().await?;
            let source =
                ShardSource { queue: self.topology.shard(index), worker: self.worker.clone() };
            Ok(Subscription::open(channel, index, prefetch, source).await?)
        };
        self.end.or(subscribing).await?
    }

    /// A channel for publishes, one for each task that publishes.
    ///
    /// # Errors
    /// When the session is lost.
    pub async fn confirm_channel(&self) -> Result<ConfirmChannel, BrokerError> {
        self.end.or(ConfirmChannel::open(&self.publish)).await?
    }

    /// The shards in the order of this worker's claim to them, strongest first.
    pub fn claims(&self) -> Vec<u16> {
        let mut shards: Vec<u16> = self.topology.shards().collect();
        shards.sort_by_key(|index| std::cmp::Reverse(claim(&self.worker, *index)));
        shards
    }

    /// Puts this worker among those that share out the shards.
    ///
    /// # Errors
    /// When the queues for that cannot be declared or read, or the session is lost.
    pub async fn worker_count(&self) -> Result<WorkerCount, BrokerError> {
        self.end.or(WorkerCount::open(&self.consume, &self.topology, self.mode)).await?
    }

    /// How many workers share out the shards.
    ///
    /// # Errors
    /// When the broker does not tell, or the session is lost.
    pub async fn count_workers(&self, count: &WorkerCount) -> Result<Replicas, BrokerError> {
        self.end.or(count.ask(&self.consume, &self.topology)).await?
    }

    /// Tells the others whether this worker is short of its share.
    ///
    /// # Errors
    /// When the session is lost.
    pub async fn tell_short(
        &self,
        count: &mut WorkerCount,
        is_short: bool,
    ) -> Result<(), BrokerError> {
        self.end.or(count.tell(&self.topology, is_short)).await?
    }

    /// The depth of a shard; `None` if there is no such queue.
    ///
    /// # Errors
    /// When the session is lost.
    pub async fn depth(&self, index: u16) -> Result<Option<Depth>, BrokerError> {
        let queue = self.topology.shard(index);
        Ok(self.end.or(self.topology.depth(&self.consume, &queue, &self.untold)).await??)
    }

    /// The depth of every queue; `extra` are the shards beyond `QUEUE_SHARDS`.
    ///
    /// # Errors
    /// When the session is lost.
    pub async fn depths(&self, extra: &[u16]) -> Result<Depths, BrokerError> {
        Ok(self.end.or(self.topology.depths(&self.consume, extra, &self.untold)).await??)
    }

    /// The exchanges and queues that are not there (any more), as far as the broker tells.
    ///
    /// # Errors
    /// When the session is lost.
    pub async fn missing(&self) -> Result<Vec<String>, BrokerError> {
        let asking = self.topology.missing(&self.consume, &self.untold);
        Ok(self.end.or(asking).await??)
    }

    /// Declares everything once more.
    ///
    /// # Errors
    /// [`BrokerError`], whose text names the remedy.
    pub async fn restore(&self, settings: &BrokerSettings) -> Result<(), BrokerError> {
        self.end.or(set_up(settings, &self.topology, &self.worker, &self.untold)).await?.map(|_| ())
    }

    /// Deletes an extra shard if it is empty and nobody reads it.
    ///
    /// # Errors
    /// When the session is lost.
    pub async fn retire(&self, index: u16) -> Result<bool, BrokerError> {
        Ok(self.end.or(self.topology.retire(&self.consume, index)).await??)
    }

    /// Ends the session in good order: the broker has read every ack before it answers.
    pub async fn close(mut self) {
        self.watchers.shutdown().await;
        close(&self.publish).await;
        close(&self.consume).await;
    }
}

/// Ensures the topology. Returns the shards beyond `QUEUE_SHARDS` that there are.
async fn set_up(
    settings: &BrokerSettings,
    topology: &Topology,
    worker: &str,
    untold: &Untold,
) -> Result<Vec<u16>, BrokerError> {
    // A question after something that does not exist closes its channel, and the client library is
    // slow to forget such channels: they get a connection of their own.
    let (asking, _) = connect(settings, &format!("{worker} setup"), Some(PUBLISH_FRAME)).await?;
    let ensuring = topology.ensure(&asking, settings.topology, untold);
    let ensured = tokio::time::timeout(SET_UP_TIMEOUT, ensuring).await;
    close(&asking).await;
    let too_slow = |_| {
        let seconds = SET_UP_TIMEOUT.as_secs();
        SessionClosed(format!("the broker did not set up the topology within {seconds} s"))
    };
    Ok(ensured.map_err(too_slow)??)
}

/// Starts a task that turns a connection's events into metrics, log lines, and the end of the
/// session.
fn watch(
    watchers: &mut JoinSet<()>,
    connection: &Connection,
    role: &'static str,
    metrics: Arc<Metrics>,
    end: SessionEnd,
) {
    let mut events = Box::pin(connection.events_listener());
    let status = connection.status().clone();
    watchers.spawn(async move {
        loop {
            let event = tokio::select! {
                () = end.wait() => return,
                event = events.next() => event,
                () = tokio::time::sleep(WATCH_INTERVAL) => {
                    if status.connected() { continue } else { None }
                }
            };
            match event {
                Some(Event::ConnectionBlocked(reason)) => {
                    metrics.broker_blocked.set(1);
                    tracing::warn!(
                        reason,
                        "the broker lets nobody publish (memory or disk alarm): hits for other \
                         queues wait, delivery goes on"
                    );
                }
                Some(Event::ConnectionUnblocked) => {
                    metrics.broker_blocked.set(0);
                    tracing::info!("the broker lets us publish again");
                }
                // A channel's own error (a passive check that finds nothing, say) is an answer to
                // those who use the channel.
                Some(Event::Error(error)) if error.is_amqp_soft_error() => {}
                Some(Event::Error(error)) => {
                    return end.because(format!("the {role} connection broke: {error}"));
                }
                None => return end.because(format!("the {role} connection is closed")),
                Some(_) => {}
            }
        }
    });
}
