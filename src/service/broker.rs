//! A supervised session with RabbitMQ: two connections, rebuilt from nothing on any loss.
//!
//! Consuming and publishing have a connection each: on a memory or disk alarm the broker stops
//! reading from connections that publish, and acks must not wait behind that.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{
    BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, ConfirmSelectOptions,
};
use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionBuilder, ConnectionProperties, Consumer, Event};

use super::config::{Broker, BrokerUrl};
use super::session_end::{SessionClosed, SessionEnd};
use super::settler::{Acks, Held, Settler, Window, WorkerContext};
use super::topology::{Depth, Depths};

mod dead;
mod error;
mod living;
mod publisher;
mod sounder;

pub use dead::{AckHandle, DeadLetter, DeadLetterClient, Forwarder, QueueBrowser};
pub use error::BrokerError;
pub use living::Living;
pub use publisher::{Confirm, Publisher, Verdict};
pub use sounder::Sounder;

/// A broker that does not answer within this is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// A few dozen round trips, on a broker that is busy electing leaders.
const SET_UP_TIMEOUT: Duration = Duration::from_secs(60);

/// Seconds; a peer that is silent for this long is gone. RabbitMQ advises 5 to 20.
const HEARTBEAT: u16 = 20;

/// Bytes of a frame that we send. The client library keeps buffers of 64 frames per connection, and
/// our headers, which must fit into one, stay below 48 KiB.
const PUBLISH_FRAME: u32 = 65_536;

/// Closing is a courtesy; a broker that is away does not answer it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// One session: from connecting to the first loss.
#[derive(Debug)]
pub struct Session {
    consume: Connection,
    publish: Connection,
    /// Shards beyond `QUEUE_SHARDS`, which are drained and then deleted.
    pub extra_shards: Vec<u16>,
    /// Acks, and publishes for one task at a time: the rejects. Lanes have settlers of their own.
    pub settler: Settler,
    /// Set when the session is over.
    pub lost: SessionEnd,
    office: Arc<WorkerContext>,
}

/// A subscription to one shard. Dropping it would cancel the consumer with hits in flight: close
/// it.
#[derive(Debug)]
pub struct Shard {
    /// Its number.
    pub index: u16,
    /// How many of its hits are in flight here.
    pub in_flight: Arc<AtomicUsize>,
    office: Arc<WorkerContext>,
    window: Arc<Window>,
    channel: Channel,
    consumer: Consumer,
}

impl Session {
    /// Connects, ensures the topology, and watches both connections.
    ///
    /// # Errors
    /// [`BrokerError`], whose text names the setting and the remedy.
    pub async fn open(settings: &Broker, office: Arc<WorkerContext>) -> Result<Self, BrokerError> {
        let tls = tls(settings).await?;
        let (consume, shown) =
            connect_any(&settings.urls, &tls, &format!("{} consume", office.worker), None).await?;
        let (publish, _) = connect_any(
            &settings.urls,
            &tls,
            &format!("{} publish", office.worker),
            Some(PUBLISH_FRAME),
        )
        .await?;
        let lost = SessionEnd::default();
        watch(&consume, "consuming", office.clone(), lost.clone());
        watch(&publish, "publishing", office.clone(), lost.clone());
        // A question after something that does not exist closes its channel, and the client library
        // is slow to forget such channels: they get a connection of their own.
        let extra_shards = {
            let (asking, _) = connect_any(
                &settings.urls,
                &tls,
                &format!("{} setup", office.worker),
                Some(PUBLISH_FRAME),
            )
            .await?;
            let ensured = tokio::time::timeout(
                SET_UP_TIMEOUT,
                office.topology.ensure(&asking, settings.topology),
            )
            .await;
            close(&asking).await;
            ensured.map_err(|_| {
                SessionClosed(format!(
                    "the broker did not set up the topology within {} s",
                    SET_UP_TIMEOUT.as_secs()
                ))
            })??
        };
        let settler = lost.or(confirming(&office, &publish, &lost)).await??;
        tracing::info!(
            broker = shown,
            shards = settings.shards,
            prefetch = settings.prefetch,
            "connected to RabbitMQ"
        );
        if settings.shards > 1 {
            // The client library does not tell the broker's version, so the line holds for both.
            tracing::info!(
                "replicas share out the shards: on RabbitMQ 4 at once when one joins or leaves; \
                 on 3.x one that joins later is a hot standby until another leaves"
            );
        }
        Ok(Self { consume, publish, extra_shards, settler, lost, office })
    }

    /// Subscribes to a shard with this worker's priority for it. At most `prefetch` of its hits are
    /// unacked at a time, and `acks` sends their acks.
    ///
    /// # Errors
    /// When the session is lost.
    pub async fn subscribe(
        &self,
        index: u16,
        prefetch: u16,
        acks: &mut Acks,
    ) -> Result<Shard, BrokerError> {
        self.lost.or(self.consume_shard(index, prefetch, acks)).await?
    }

    async fn consume_shard(
        &self,
        index: u16,
        prefetch: u16,
        acks: &mut Acks,
    ) -> Result<Shard, BrokerError> {
        let channel = self.consume.create_channel().await?;
        // Per consumer: a limit on the whole channel (global) is refused by quorum queues.
        channel.basic_qos(prefetch, BasicQosOptions { global: false }).await?;
        let mut arguments = FieldTable::default();
        arguments
            .insert("x-priority".into(), AMQPValue::LongInt(priority(&self.office.worker, index)));
        let queue = self.office.topology.shard(index);
        let options = BasicConsumeOptions { no_ack: false, ..Default::default() };
        let consumer = channel.basic_consume(queue.into(), "".into(), options, arguments).await?;
        let window = acks.window(channel.clone(), prefetch);
        Ok(Shard {
            index,
            in_flight: Arc::default(),
            office: self.office.clone(),
            window,
            channel,
            consumer,
        })
    }

    /// Settles on a channel of its own.
    ///
    /// # Errors
    /// When the session is lost.
    pub async fn new_settler(&self) -> Result<Settler, BrokerError> {
        self.lost.or(confirming(&self.office, &self.publish, &self.lost)).await?
    }

    /// The shards in the order of this worker's claim to them, strongest first.
    pub fn claims(&self) -> Vec<u16> {
        let mut shards: Vec<u16> = self.office.topology.shards().collect();
        shards.sort_by_key(|index| std::cmp::Reverse(priority(&self.office.worker, *index)));
        shards
    }

    /// Messages ready in a shard, and whether anybody reads it; none if it does not exist.
    ///
    /// # Errors
    /// When the session is lost.
    pub async fn depth(&self, index: u16) -> Result<Option<Depth>, BrokerError> {
        Ok(self
            .lost
            .or(self.office.topology.depth(&self.consume, &self.office.topology.shard(index)))
            .await??)
    }

    /// What is in every queue; `extra` are the shards beyond `QUEUE_SHARDS`.
    ///
    /// # Errors
    /// When the session is lost.
    pub async fn depths(&self, extra: &[u16]) -> Result<Depths, BrokerError> {
        Ok(self.lost.or(self.office.topology.depths(&self.consume, extra)).await??)
    }

    /// Deletes an extra shard if it is empty and nobody reads it.
    ///
    /// # Errors
    /// When the session is lost.
    pub async fn retire(&self, index: u16) -> Result<bool, BrokerError> {
        Ok(self.lost.or(self.office.topology.retire(&self.consume, index)).await??)
    }

    /// Ends the session in good order: the broker has read every ack before it answers.
    pub async fn close(self) {
        close(&self.publish).await;
        close(&self.consume).await;
        self.office.metrics.broker_up.set(0);
        self.office.metrics.broker_blocked.set(0);
    }
}

impl Shard {
    /// The next hit; none when the subscription is over.
    pub async fn next(&mut self) -> Option<Held> {
        match self.consumer.next().await {
            Some(Ok(delivery)) => Some(Held::new(
                delivery,
                self.office.clone(),
                self.in_flight.clone(),
                self.window.clone(),
            )),
            Some(Err(error)) => {
                tracing::debug!(%error, shard = self.index, "a subscription ended");
                None
            }
            None => None,
        }
    }

    /// Gives everything unacked back. To be called when nothing of the shard is in flight and its
    /// acks are sent. Tells whether the broker agreed, which it does after every ack has taken
    /// effect.
    pub async fn close(self) -> bool {
        let closing = async {
            // Of a busy quorum queue the broker stashes acks that it has read, and forgets them
            // with their channel. It answers a cancel after all of them.
            self.channel.basic_cancel(self.consumer.tag(), BasicCancelOptions::default()).await?;
            self.channel.close(200, "handing over".into()).await
        };
        let in_order = matches!(tokio::time::timeout(CLOSE_TIMEOUT, closing).await, Ok(Ok(())));
        if !in_order {
            tracing::debug!(shard = self.index, "a channel was gone before it was closed");
        }
        in_order
    }
}

/// Says goodbye, which a broker that is away does not hear.
pub async fn close(connection: &Connection) {
    if !connection.status().connected() {
        return;
    }
    let closed = tokio::time::timeout(CLOSE_TIMEOUT, connection.close(200, "goodbye".into())).await;
    if !matches!(closed, Ok(Ok(()))) {
        tracing::debug!("a connection was gone before it was closed");
    }
}

async fn confirming(
    office: &Arc<WorkerContext>,
    publish: &Connection,
    lost: &SessionEnd,
) -> Result<Settler, BrokerError> {
    let channel = publish.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(Settler::new(office.clone(), channel, lost.clone(), publish.status().username().into()))
}

/// Connects to the first address that answers.
///
/// # Errors
/// [`BrokerError::Connect`] with the last address's reason.
pub async fn connect_any(
    urls: &[BrokerUrl],
    tls: &OwnedTLSConfig,
    name: &str,
    frame: Option<u32>,
) -> Result<(Connection, String), BrokerError> {
    let mut last =
        BrokerError::Connect { shown: String::new(), reason: "AMQP_URL is empty".to_owned() };
    for url in urls {
        let shown = url.to_string();
        let outcome = tokio::time::timeout(CONNECT_TIMEOUT, connect(url, tls, name, frame)).await;
        let reason = match outcome {
            Ok(Ok(connection)) => return Ok((connection, shown)),
            Ok(Err(reason)) => reason,
            Err(_) => format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()),
        };
        last = BrokerError::Connect { shown, reason };
    }
    Err(last)
}

async fn connect(
    url: &BrokerUrl,
    tls: &OwnedTLSConfig,
    name: &str,
    frame: Option<u32>,
) -> Result<Connection, String> {
    let mut uri: AMQPUri =
        url.expose().parse().map_err(|_| "AMQP_URL is not an AMQP address".to_owned())?;
    uri.query.heartbeat.get_or_insert(HEARTBEAT);
    uri.query.frame_max = uri.query.frame_max.or(frame);
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let builder = ConnectionBuilder::new().map_err(|e| e.to_string())?;
    let connected = builder
        .with_uri(uri)
        .with_properties(properties)
        .with_tls_config(tls.clone())
        .connect()
        .await;
    connected.map_err(|error| error.to_string())
}

/// Reads the certificates that `AMQP_*_FILE` name.
///
/// # Errors
/// [`BrokerError::File`].
pub async fn tls(settings: &Broker) -> Result<OwnedTLSConfig, BrokerError> {
    let read = async |path: &std::path::Path| {
        let bytes = tokio::fs::read(path).await;
        bytes.map_err(|source| BrokerError::File { path: path.display().to_string(), source })
    };
    let cert_chain = match &settings.ca_file {
        Some(path) => Some(String::from_utf8_lossy(&read(path).await?).into_owned()),
        None => None,
    };
    let identity = match &settings.client_identity {
        Some((certificate, key)) => {
            Some(OwnedIdentity::PKCS8 { pem: read(certificate).await?, key: read(key).await? })
        }
        None => None,
    };
    Ok(OwnedTLSConfig { identity, cert_chain })
}

/// A task per connection that turns its events into metrics, log lines, and the end of the session.
fn watch(
    connection: &Connection,
    role: &'static str,
    office: Arc<WorkerContext>,
    lost: SessionEnd,
) {
    let mut events = Box::pin(connection.events_listener());
    let status = connection.status().clone();
    tokio::spawn(async move {
        loop {
            let event = tokio::select! {
                () = lost.wait() => return,
                event = events.next() => event,
                // Some ends of a connection come without an event.
                () = tokio::time::sleep(Duration::from_secs(1)) => {
                    if status.connected() { continue } else { None }
                }
            };
            match event {
                Some(Event::ConnectionBlocked(reason)) => {
                    office.metrics.broker_blocked.set(1);
                    tracing::warn!(
                        reason,
                        "the broker lets nobody publish (memory or disk alarm): hits for other \
                         queues wait, delivery goes on"
                    );
                }
                Some(Event::ConnectionUnblocked) => {
                    office.metrics.broker_blocked.set(0);
                    tracing::info!("the broker lets us publish again");
                }
                // A channel's own error (a passive check that finds nothing, say) is told to those
                // who use the channel.
                Some(Event::Error(error)) if error.is_amqp_soft_error() => {}
                Some(Event::Error(error)) => {
                    return lost.because(format!("the {role} connection broke: {error}"));
                }
                None => return lost.because(format!("the {role} connection is closed")),
                Some(_) => {}
            }
        }
    });
}

/// Rendezvous hashing: each replica ranks every shard by itself, and the broker gives a shard to
/// the highest.
fn priority(worker: &str, shard: u16) -> i32 {
    let mut hasher = DefaultHasher::new();
    (worker, shard).hash(&mut hasher);
    i32::try_from(hasher.finish() % 1_000_000_000).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_replicas_share_out_the_shards_and_one_leaving_moves_only_its_own() {
        let owner = |workers: &[&str], shard| {
            workers.iter().max_by_key(|w| priority(w, shard)).map(|w| (*w).to_owned())
        };
        let all = ["relay-0", "relay-1", "relay-2"];
        let before: Vec<_> = (0..64).map(|s| owner(&all, s)).collect();
        for worker in all {
            let held = before.iter().filter(|o| o.as_deref() == Some(worker)).count();
            assert!((8..=36).contains(&held), "{worker} holds {held} of 64");
        }
        for (shard, owned) in (0..64).zip(&before) {
            if owned.as_deref() != Some("relay-2") {
                assert_eq!(&owner(&all[..2], shard), owned, "shard {shard} stays");
            }
        }
    }
}
