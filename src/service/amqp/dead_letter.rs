//! Access to *parked* and *rejected* for whoever looks after dead hits: one dead hit as a
//! [`DeadLetter`], and the connection that reads, replays and removes them.

use std::time::Duration;

use lapin::{Acker, Connection};

use super::BrokerError;
use super::connect::{CLOSE_TIMEOUT, SET_UP_TIMEOUT, close, connect};
use super::depths::Depth;
use super::filter::MessageParts;
use super::message::Message;
use super::publisher::{Changes, Confirm, ConfirmChannel};
use super::session_end::SessionClosed;
use super::signing::Signing;
use super::topology::{NO_DELIVERY_LIMIT, Topology, TopologyError, Untold};
use crate::domain::dead::{self, Dead, DeadQueue};
use crate::domain::envelope::{self, Header};
use crate::service::config::BrokerSettings;

/// The pause before the broker is asked the same again.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// One dead hit, still in its queue.
#[derive(Debug)]
pub struct DeadLetter {
    /// The message.
    pub message: Message,
    /// The queue that it lies in.
    pub queue: DeadQueue,
    /// Which of the browser's channels holds it.
    pub(super) channel: usize,
}

/// What it takes to remove a dead hit, without the hit.
#[derive(Debug)]
pub struct AckHandle {
    pub(super) acker: Acker,
    /// Which of the browser's channels holds the hit.
    pub(super) channel: usize,
}

/// A connection for whoever looks after dead hits.
#[derive(Debug)]
pub struct DeadLetterClient {
    pub(super) connection: Connection,
    topology: Topology,
    /// Whose history of a hit is believed.
    signing: Signing,
    /// The broker's address, without user and password.
    shown: String,
}

/// Sends dead hits through the main exchange again.
#[derive(Debug)]
pub struct Replayer<'c> {
    client: &'c DeadLetterClient,
    channel: ConfirmChannel,
    /// The main exchange.
    exchange: String,
}

impl DeadLetter {
    /// What it takes to remove the hit later.
    pub fn ack_handle(&self) -> AckHandle {
        AckHandle { acker: self.message.acker(), channel: self.channel }
    }

    /// What the hit says of itself.
    pub fn read(&self) -> Dead<'_> {
        let header = |name: &str| self.message.header(name);
        let deaths: Vec<dead::DeathEntry<'_>> = self.message.deaths().collect();
        Dead::read(&dead::DeadMessage {
            dead_queue: self.queue,
            body: self.message.body(),
            routing_key: self.message.routing_key(),
            content_type: self.message.content_type(),
            sent_at: self.message.sent_at(),
            header: &header,
            deaths: &deaths,
        })
    }
}

impl DeadLetterClient {
    /// Connects.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn open(settings: &BrokerSettings) -> Result<Self, BrokerError> {
        let (connection, shown) = connect(settings, "dnma-relay dead", None).await?;
        let (topology, signing) = (Topology::new(settings), Signing::new(settings));
        Ok(Self { connection, topology, signing, shown })
    }

    /// The AMQP user.
    pub fn user(&self) -> String {
        self.connection.status().username()
    }

    /// Waits for an answer for as long as the connection stands: the client library leaves
    /// promises of a broken one open for good.
    ///
    /// # Errors
    /// Those of the work, or that the connection was lost.
    pub async fn or_lost<T, E: From<BrokerError>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let lost = async {
            while self.connection.status().connected() {
                tokio::time::sleep(POLL_INTERVAL).await;
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
    pub fn queue(&self, queue: DeadQueue) -> String {
        match queue {
            DeadQueue::Parked => self.topology.parked(),
            DeadQueue::Rejected => self.topology.rejected(),
        }
    }

    /// Makes sure that looking at a queue cannot lose a hit of it, before it is touched.
    ///
    /// # Errors
    /// [`BrokerError::Limited`], [`BrokerError::LimitUnknown`], [`BrokerError::NoQueue`].
    pub async fn make_sure(&self, queue: DeadQueue) -> Result<(), BrokerError> {
        let queue = self.queue(queue);
        self.depth(&queue).await?;
        let limit = NO_DELIVERY_LIMIT;
        let comparing = self.topology.compare_queue(&self.connection, &queue);
        match self.or_lost(async { Ok::<_, BrokerError>(comparing.await) }).await? {
            Ok(()) => Ok(()),
            Err(TopologyError::Different { detail, .. })
                if detail.contains("x-delivery-limit") && detail.contains("current is none") =>
            {
                let vhost = self.connection.status().vhost().to_string();
                let pattern = queue.replace('.', "\\.");
                Err(BrokerError::Unlimited { queue, pattern, vhost, limit })
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

    pub(super) async fn depth(&self, queue: &str) -> Result<Depth, BrokerError> {
        let asking = async {
            let untold = Untold::default();
            let depth = self.topology.depth(&self.connection, queue, &untold);
            let silent = |_| {
                let seconds = SET_UP_TIMEOUT.as_secs();
                SessionClosed(format!("the broker did not answer within {seconds} s"))
            };
            Ok(tokio::time::timeout(SET_UP_TIMEOUT, depth).await.map_err(silent)??)
        };
        let depth: Option<Depth> = self.or_lost::<_, BrokerError>(asking).await?;
        depth.ok_or_else(|| BrokerError::NoQueue(queue.to_owned()))
    }

    /// Waits until so many hits are in the queue, or for as long as closing may take: they come
    /// back by themselves.
    pub(super) async fn wait_for_depth(&self, queue: &str, hits: u64) -> Result<(), BrokerError> {
        let deadline = tokio::time::Instant::now() + CLOSE_TIMEOUT;
        while u64::from(self.depth(queue).await?.ready) < hits
            && tokio::time::Instant::now() < deadline
        {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// A way back through the main exchange.
    ///
    /// # Errors
    /// [`BrokerError::NoExchange`], or what the broker refuses.
    pub async fn replayer(&self) -> Result<Replayer<'_>, BrokerError> {
        let opening = async {
            let exchange = self.topology.main().to_owned();
            if !self.topology.is_there(&self.connection).await? {
                return Err(BrokerError::NoExchange(exchange));
            }
            let channel = ConfirmChannel::open(&self.connection).await?;
            Ok(Replayer { client: self, channel, exchange })
        };
        self.or_lost(opening).await
    }

    /// Closes the connection.
    pub async fn close(self) {
        close(&self.connection).await;
    }
}

impl Replayer<'_> {
    /// Sends a hit as if it came anew: its failures are forgotten, but not when it was first seen,
    /// and it bears the mark of the replay. `tenant` is who sent it, as far as the broker or a
    /// relay has verified; `body` stands in for its own where a fix changed it. The hit is still in
    /// its queue, and must be removed once this is confirmed.
    ///
    /// # Errors
    /// [`BrokerError::TooLarge`] for a message whose body was left out on its way here, or when the
    /// connection is lost.
    pub async fn replay(
        &self,
        dead_letter: &DeadLetter,
        tenant: Option<&str>,
        body: Option<&[u8]>,
        replay: &str,
    ) -> Result<Confirm, BrokerError> {
        let message = &dead_letter.message;
        let left_out = message.unreadable().and_then(MessageParts::body_left_out);
        if let (Some(bytes), None) = (left_out, body) {
            return Err(BrokerError::TooLarge(bytes));
        }
        let mut headers = vec![(envelope::REPLAY, Header::Text(replay.to_owned()))];
        let signing = &self.client.signing;
        // What the broker itself put here has the headers of its sender.
        let is_moved = message.deaths().next().is_none() || signing.believes(message.user());
        let first = message.header(envelope::FIRST_FAILED_AT).filter(|_| is_moved);
        headers.extend(first.map(|first| (envelope::FIRST_FAILED_AT, first)));
        headers.extend(tenant.map(|name| (envelope::TENANT, Header::Text(name.to_owned()))));
        // A relay believes these headers of one whose name the broker verified.
        let signed = signing.signs();
        self.channel.forward(&self.exchange, message, Changes { headers, body, signed }).await
    }
}
