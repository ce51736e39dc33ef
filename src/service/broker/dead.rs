//! Dead hits, read from *parked* and *rejected* without taking them, and sent on or removed one by
//! one.
//!
//! AMQP has no way to look at a queue: whoever reads is given the messages, and gives them back
//! unacked by closing its channel. What is given back goes to the end of what was given back before
//! and has not been read again, so a reader who stops half-way would change the order. A [`QueueBrowser`]
//! therefore reads to the end and holds everything until it is finished; should its process
//! die, the broker takes everything back by itself.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection, Consumer};

use super::{BrokerError, CLOSE_TIMEOUT, Confirm, SET_UP_TIMEOUT, close, connect_any, tls};
use crate::domain::dead::DeadQueue;
use crate::domain::envelope::{self, Header};
use crate::service::config::Broker;
use crate::service::session_end::SessionClosed;
use crate::service::settler::properties;
use crate::service::topology::{Depth, NO_DELIVERY_LIMIT, Topology, TopologyError};

mod dead_letter;

pub use dead_letter::{AckHandle, DeadLetter};

/// What one consumer holds; when it is full, another goes on. (Without any limit, a quorum queue
/// gives 2,000.) It bounds what waits here to be read. A reader that is killed with several windows
/// full may leave their hits in another order.
const WINDOW: u16 = 20_000;

/// The broker has announced more hits and gives none for so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a reader that has just gone may still count.
const REST: Duration = Duration::from_secs(5);

const PAUSE: Duration = Duration::from_millis(50);

/// A connection for whoever looks after dead hits.
#[derive(Debug)]
pub struct DeadLetterClient {
    connection: Connection,
    topology: Topology,
    shown: String,
}

/// Everything that lies in one queue, held until it is given back.
#[derive(Debug)]
pub struct QueueBrowser<'d> {
    client: &'d DeadLetterClient,
    dead_queue: DeadQueue,
    queue: String,
    /// How many there were at the beginning.
    pub ready: u64,
    taken: u64,
    /// Channels that hold as much as they can, in the order of the queue.
    full: Vec<Consuming>,
    reader: Consuming,
}

/// One consumer on a channel of its own.
#[derive(Debug)]
struct Consuming {
    channel: Channel,
    consumer: Consumer,
    room: u16,
    /// Hits that it holds.
    kept: u64,
}

/// Sends hits through the main exchange again.
#[derive(Debug)]
pub struct Forwarder {
    channel: Channel,
    exchange: String,
    user: ShortString,
}

impl DeadLetterClient {
    /// Connects.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn open(settings: &Broker) -> Result<Self, BrokerError> {
        // A second installation in one process is refused, and the first one serves both.
        let _installed_before = rustls::crypto::ring::default_provider().install_default();
        let (connection, shown) =
            connect_any(&settings.urls, &tls(settings).await?, "dnma-relay dead", None).await?;
        Ok(Self { connection, topology: Topology::new(settings), shown })
    }

    /// The AMQP user.
    pub fn user(&self) -> String {
        self.connection.status().username()
    }

    /// Waits for an answer for as long as the connection stands: the client library leaves promises
    /// of a broken one open for good.
    ///
    /// # Errors
    /// Those of the work, or that the connection was lost.
    pub async fn or_lost<T, E: From<BrokerError>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let lost = async {
            while self.connection.status().connected() {
                tokio::time::sleep(PAUSE).await;
            }
            BrokerError::from(SessionClosed("the connection to RabbitMQ was lost".to_owned()))
        };
        tokio::select! {
            biased;
            done = work => done,
            lost = lost => Err(lost.into()),
        }
    }

    /// The broker's address, without user and password.
    pub fn address(&self) -> &str {
        &self.shown
    }

    /// The queue's name on the broker.
    pub fn queue(&self, dead_queue: DeadQueue) -> String {
        match dead_queue {
            DeadQueue::Parked => self.topology.parked(),
            DeadQueue::Rejected => self.topology.rejected(),
        }
    }

    /// Makes sure that looking at a queue cannot lose a hit of it, before it is touched.
    ///
    /// # Errors
    /// [`BrokerError::Limited`], [`BrokerError::LimitUnknown`], [`BrokerError::NoQueue`].
    pub async fn make_sure(&self, dead_queue: DeadQueue) -> Result<(), BrokerError> {
        let queue = self.queue(dead_queue);
        self.depth(&queue).await?;
        let limit = NO_DELIVERY_LIMIT;
        match self
            .or_lost(async {
                Ok::<_, BrokerError>(self.topology.compare_queue(&self.connection, &queue).await)
            })
            .await?
        {
            Ok(()) => Ok(()),
            Err(TopologyError::Different { detail, .. })
                if detail.contains("x-delivery-limit") && detail.contains("current is none") =>
            {
                let vhost = self.connection.status().vhost();
                Err(BrokerError::Unlimited {
                    pattern: queue.replace('.', "\\."),
                    queue,
                    vhost: vhost.to_string(),
                    limit,
                })
            }
            Err(TopologyError::Different { detail, .. }) if detail.contains("x-delivery-limit") => {
                Err(BrokerError::Limited { queue, detail, limit })
            }
            Err(
                TopologyError::Different { detail, .. } | TopologyError::Forbidden { detail, .. },
            ) => Err(BrokerError::LimitUnknown { queue, reason: detail, limit }),
            Err(error) => Err(error.into()),
        }
    }

    async fn depth(&self, queue: &str) -> Result<Depth, BrokerError> {
        let asking = async {
            let asked =
                tokio::time::timeout(SET_UP_TIMEOUT, self.topology.depth(&self.connection, queue))
                    .await;
            Ok(asked.map_err(|_| {
                SessionClosed(format!(
                    "the broker did not answer within {} s",
                    SET_UP_TIMEOUT.as_secs()
                ))
            })??)
        };
        let depth: Option<Depth> = self.or_lost::<_, BrokerError>(asking).await?;
        depth.ok_or_else(|| BrokerError::NoQueue(queue.to_owned()))
    }

    /// Begins to read a queue.
    ///
    /// # Errors
    /// [`BrokerError::Busy`] while somebody else does; or what the broker refuses.
    pub async fn browse(&self, dead_queue: DeadQueue) -> Result<QueueBrowser<'_>, BrokerError> {
        let queue = self.queue(dead_queue);
        let deadline = tokio::time::Instant::now() + REST;
        let ready = loop {
            let depth = self.depth(&queue).await?;
            if depth.consumers == 0 {
                break depth.ready.into();
            }
            // One that was killed a moment ago still counts.
            if tokio::time::Instant::now() > deadline {
                return Err(BrokerError::Busy(queue));
            }
            tokio::time::sleep(PAUSE).await;
        };
        let reader = self.reader(&queue).await?;
        let browser = QueueBrowser {
            client: self,
            dead_queue,
            ready,
            taken: 0,
            full: Vec::new(),
            reader,
            queue,
        };
        // Quorum queues ignore a claim to be the only consumer. Of two that begin at once, both see
        // the other, and neither goes on.
        if self.depth(&browser.queue).await?.consumers > 1 {
            let queue = browser.queue.clone();
            browser.finish().await?;
            return Err(BrokerError::Busy(queue));
        }
        Ok(browser)
    }

    /// Waits until so many hits are in the queue, or for as long as a goodbye may take: they come
    /// back by themselves.
    async fn returned(&self, queue: &str, hits: u64) -> Result<(), BrokerError> {
        let deadline = tokio::time::Instant::now() + CLOSE_TIMEOUT;
        while u64::from(self.depth(queue).await?.ready) < hits
            && tokio::time::Instant::now() < deadline
        {
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    async fn reader(&self, queue: &str) -> Result<Consuming, BrokerError> {
        let opening = async {
            let channel = self.connection.create_channel().await?;
            channel.basic_qos(WINDOW, BasicQosOptions { global: false }).await?;
            let consumer = channel
                .basic_consume(
                    queue.into(),
                    "".into(),
                    BasicConsumeOptions::default(),
                    FieldTable::default(),
                )
                .await?;
            Ok(Consuming { channel, consumer, room: WINDOW, kept: 0 })
        };
        self.or_lost(opening).await
    }

    /// A way back through the main exchange.
    ///
    /// # Errors
    /// [`BrokerError::NoExchange`], or what the broker refuses.
    pub async fn forwarder(&self) -> Result<Forwarder, BrokerError> {
        let opening = async {
            if !self.topology.is_there(&self.connection).await? {
                return Err(BrokerError::NoExchange(self.topology.main().to_owned()));
            }
            let channel = self.connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok(Forwarder {
                channel,
                exchange: self.topology.main().to_owned(),
                user: self.user().as_str().into(),
            })
        };
        self.or_lost(opening).await
    }

    /// Says goodbye.
    pub async fn close(self) {
        close(&self.connection).await;
    }
}

impl QueueBrowser<'_> {
    /// The next hit, in the order of the queue; none when all that were there at the beginning have
    /// been seen.
    ///
    /// # Errors
    /// When the connection is lost, or the broker does not give what it announced: everything is in
    /// its queue then.
    pub async fn next(&mut self) -> Result<Option<DeadLetter>, BrokerError> {
        if self.taken == self.ready {
            return Ok(None);
        }
        if self.reader.room == 0 {
            let next = self.client.reader(&self.queue).await?;
            self.full.push(std::mem::replace(&mut self.reader, next));
        }
        let (taken, ready, queue) = (self.taken, self.ready, &self.queue);
        let giving = async {
            let given = tokio::time::timeout(PATIENCE, self.reader.consumer.next()).await;
            given.map_err(|_| {
                SessionClosed(format!(
                    "{queue} gave {taken} of its {ready} hits, and then none for {} s",
                    PATIENCE.as_secs()
                ))
                .into()
            })
        };
        let delivery =
            self.client.or_lost::<_, BrokerError>(giving).await?.ok_or_else(|| {
                SessionClosed(format!("the broker ended the reading of {}", self.queue))
            })??;
        self.reader.room -= 1;
        self.reader.kept += 1;
        self.taken += 1;
        Ok(Some(DeadLetter { delivery, dead_queue: self.dead_queue, reader: self.full.len() }))
    }

    /// Takes a hit out of its queue for good. Only when everything has been read: a reader that has
    /// room again would be given what the next one waits for.
    ///
    /// # Errors
    /// When the connection is lost: the hit is still there then.
    pub async fn remove(&mut self, ack_handle: &AckHandle) -> Result<(), BrokerError> {
        let acking =
            async { Ok::<_, BrokerError>(ack_handle.acker.ack(BasicAckOptions::default()).await?) };
        if self.client.or_lost(acking).await? {
            let reader = self.full.get_mut(ack_handle.reader).unwrap_or(&mut self.reader);
            reader.kept = reader.kept.saturating_sub(1);
            return Ok(());
        }
        Err(SessionClosed(format!("the broker ended the reading of {}", self.queue)).into())
    }

    /// Gives everything that was not removed back, in its order, and waits until it is there again.
    ///
    /// # Errors
    /// When the connection is lost; the broker gives it back by itself then.
    pub async fn finish(self) -> Result<(), BrokerError> {
        let Self { client, queue, full, reader, .. } = self;
        let readers: Vec<Consuming> = full.into_iter().chain([reader]).collect();
        let closing = async {
            // Everybody stops first, or the last reader would be given what the first one gives
            // back. And of a busy quorum queue the broker stashes acks that it has
            // read, and forgets them with their channel: it answers a cancel after all of them.
            for Consuming { channel, consumer, .. } in &readers {
                channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await?;
            }
            let mut back = 0;
            for Consuming { channel, kept, .. } in &readers {
                channel.close(200, "looked".into()).await?;
                back += kept;
                // What a closed channel held is back a moment later: before the next one's, and
                // before anybody else looks.
                client.returned(&queue, back).await?;
            }
            Ok::<(), BrokerError>(())
        };
        let closing = async {
            let closed = tokio::time::timeout(SET_UP_TIMEOUT, closing).await;
            closed.map_err(|_| {
                SessionClosed(
                    "the broker did not take hits back in time: it does so by itself".to_owned(),
                )
            })?
        };
        client.or_lost(closing).await
    }
}

impl Forwarder {
    /// Sends a hit as if it came anew: its failures are forgotten, but not when it was first seen,
    /// and it bears the mark of the replay. `tenant` is who sent it, as far as the broker or a
    /// relay has verified; `mended` stands in for its body. It is still in its queue, and must
    /// be removed once this is confirmed.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn forward(
        &self,
        dead_letter: &DeadLetter,
        tenant: Option<&str>,
        mended: Option<&[u8]>,
        replay: &str,
    ) -> Result<Confirm, BrokerError> {
        let mut label = vec![(envelope::REPLAY, Header::Text(replay.to_owned()))];
        label.extend(
            dead_letter
                .header(envelope::FIRST_FAILED_AT)
                .map(|first| (envelope::FIRST_FAILED_AT, first)),
        );
        label.extend(tenant.map(|tenant| (envelope::TENANT, Header::Text(tenant.to_owned()))));
        let mut properties = properties(&dead_letter.delivery.properties, label);
        // A relay believes the tenant's name if it was written by one whose name the broker
        // verified.
        if tenant.is_some() {
            properties = properties.with_user_id(self.user.clone());
        }
        if mended.is_some() {
            properties = properties.with_content_type("application/json".into());
        }
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let key = dead_letter.delivery.routing_key.clone();
        let body = mended.unwrap_or(dead_letter.body());
        let sent = self
            .channel
            .basic_publish(self.exchange.as_str().into(), key, options, body, properties)
            .await?;
        Ok(Confirm(sent))
    }
}
