//! Reads a whole queue without taking a message from it.
//!
//! AMQP has no way to look at a queue: whoever reads is given the messages, and gives them back
//! unacked by closing its channel. What is given back goes to the end of what was given back
//! before and has not been read again, so a reader who stops half-way would change the order. A
//! [`QueueBrowser`] therefore reads to the end and holds everything until it is finished; should
//! its process die, the broker takes everything back by itself.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};

use super::BrokerError;
use super::connect::SET_UP_TIMEOUT;
use super::dead_letter::{AckHandle, DeadLetter, DeadLetterClient, POLL_INTERVAL};
use super::message::Message;
use super::session_end::SessionClosed;
use crate::domain::dead::DeadQueue;

/// The most messages that one channel holds; when it is full, another goes on. (Without any limit,
/// a quorum queue gives 2,000.) It bounds what waits here to be read. A reader that is killed with
/// several full channels may leave their messages in another order.
const MAX_PER_CHANNEL: u16 = 20_000;

/// How long the broker may give nothing although it has announced more messages.
const GIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a reader that was killed may still count as a consumer of its queue.
const READER_GONE_TIMEOUT: Duration = Duration::from_secs(5);

/// Everything that lies in one queue, held until it is given back.
#[derive(Debug)]
pub struct QueueBrowser<'c> {
    client: &'c DeadLetterClient,
    queue: DeadQueue,
    /// The queue's name on the broker.
    name: String,
    /// How many messages there were at the beginning.
    pub ready: u64,
    /// How many of them were read.
    read: u64,
    /// Channels that hold as much as they can, in the order of the queue.
    full: Vec<BrowserChannel>,
    /// The channel that reads now.
    current: BrowserChannel,
}

/// One consumer on a channel of its own.
#[derive(Debug)]
struct BrowserChannel {
    channel: Channel,
    consumer: Consumer,
    /// How many messages more it may be given.
    room: u16,
    /// How many messages it holds.
    kept: u64,
}

impl DeadLetterClient {
    /// Begins to read a queue.
    ///
    /// # Errors
    /// [`BrokerError::Busy`] while somebody else does; or what the broker refuses.
    pub async fn browse(&self, queue: DeadQueue) -> Result<QueueBrowser<'_>, BrokerError> {
        let name = self.queue(queue);
        let deadline = tokio::time::Instant::now() + READER_GONE_TIMEOUT;
        let ready = loop {
            let depth = self.depth(&name).await?;
            if depth.consumers == 0 {
                break depth.ready.into();
            }
            // One that was killed a moment ago still counts.
            if tokio::time::Instant::now() > deadline {
                return Err(BrokerError::Busy(name));
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        };
        let browser = QueueBrowser::open(self, queue, name.clone(), ready).await?;
        // Quorum queues ignore a claim to be the only consumer. Of two that begin at once, both
        // see the other, and neither goes on.
        if self.depth(&name).await?.consumers > 1 {
            browser.finish().await?;
            return Err(BrokerError::Busy(name));
        }
        Ok(browser)
    }
}

impl<'c> QueueBrowser<'c> {
    /// Begins to read the queue of that name, which has so many messages.
    async fn open(
        client: &'c DeadLetterClient,
        queue: DeadQueue,
        name: String,
        ready: u64,
    ) -> Result<Self, BrokerError> {
        let current = BrowserChannel::open(client, &name).await?;
        Ok(Self { client, queue, name, ready, read: 0, full: Vec::new(), current })
    }

    /// The next message, in the order of the queue; `None` when all that were there at the
    /// beginning have been seen.
    ///
    /// # Errors
    /// When the connection is lost, or the broker does not give what it announced: everything is
    /// in its queue then.
    pub async fn next(&mut self) -> Result<Option<DeadLetter>, BrokerError> {
        if self.read == self.ready {
            return Ok(None);
        }
        if self.current.room == 0 {
            let next = BrowserChannel::open(self.client, &self.name).await?;
            self.full.push(std::mem::replace(&mut self.current, next));
        }
        let (read, ready, name) = (self.read, self.ready, &self.name);
        let giving = async {
            let given = tokio::time::timeout(GIVE_TIMEOUT, self.current.consumer.next()).await;
            let silent = |_| {
                let seconds = GIVE_TIMEOUT.as_secs();
                let text = format!(
                    "{name} gave {read} of its {ready} hits, and then none for {seconds} s"
                );
                BrokerError::from(SessionClosed(text))
            };
            given.map_err(silent)
        };
        let given = self.client.or_lost(giving).await?;
        let delivery = given.ok_or_else(|| self.ended())??;
        self.current.room -= 1;
        self.current.kept += 1;
        self.read += 1;
        let (queue, channel) = (self.queue, self.full.len());
        Ok(Some(DeadLetter { message: Message::new(delivery), queue, channel }))
    }

    /// Takes a message out of its queue for good. Only when everything has been read: a channel
    /// that has room again would be given what the next one waits for.
    ///
    /// # Errors
    /// When the connection is lost: the message is still there then.
    pub async fn remove(&mut self, handle: &AckHandle) -> Result<(), BrokerError> {
        let acking =
            async { Ok::<_, BrokerError>(handle.acker.ack(BasicAckOptions::default()).await?) };
        if self.client.or_lost(acking).await? {
            let channel = self.full.get_mut(handle.channel).unwrap_or(&mut self.current);
            channel.kept = channel.kept.saturating_sub(1);
            return Ok(());
        }
        Err(self.ended())
    }

    /// Gives everything that was not removed back, in its order, and waits until it is there
    /// again.
    ///
    /// # Errors
    /// When the connection is lost; the broker gives it back by itself then.
    pub async fn finish(self) -> Result<(), BrokerError> {
        let Self { client, name, full, current, .. } = self;
        let channels: Vec<BrowserChannel> = full.into_iter().chain([current]).collect();
        let closing = async {
            // Everybody stops first, or the last channel would be given what the first one gives
            // back. And of a busy quorum queue the broker stashes acks that it has read, and
            // forgets them with their channel: it answers a cancel after all of them.
            for BrowserChannel { channel, consumer, .. } in &channels {
                channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await?;
            }
            let mut back = 0;
            for BrowserChannel { channel, kept, .. } in &channels {
                channel.close(200, "looked".into()).await?;
                back += kept;
                // What a closed channel held is back a moment later: before the next one's, and
                // before anybody else looks.
                client.wait_for_depth(&name, back).await?;
            }
            Ok::<(), BrokerError>(())
        };
        let closing = async {
            let silent = |_| {
                let text = "the broker did not take hits back in time: it does so by itself";
                SessionClosed(text.to_owned())
            };
            tokio::time::timeout(SET_UP_TIMEOUT, closing).await.map_err(silent)?
        };
        client.or_lost(closing).await
    }

    fn ended(&self) -> BrokerError {
        SessionClosed(format!("the broker ended the reading of {}", self.name)).into()
    }
}

impl BrowserChannel {
    async fn open(client: &DeadLetterClient, queue: &str) -> Result<Self, BrokerError> {
        let opening = async {
            let channel = client.connection.create_channel().await?;
            channel.basic_qos(MAX_PER_CHANNEL, BasicQosOptions { global: false }).await?;
            let options = BasicConsumeOptions::default();
            let consumer =
                channel.basic_consume(queue.into(), "".into(), options, FieldTable::default());
            let consumer = consumer.await?;
            Ok(Self { channel, consumer, room: MAX_PER_CHANNEL, kept: 0 })
        };
        client.or_lost(opening).await
    }
}
