//! One shard that this worker reads, on a channel of its own.

use futures_util::{FutureExt, StreamExt};
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
    BasicRejectOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};

use super::BrokerError;
use super::connect::CLOSE_TIMEOUT;
use super::message::Message;

/// A subscription to one shard. Dropping it would cancel the consumer with messages in flight:
/// [`Subscription::close`] it.
#[derive(Debug)]
pub struct Subscription {
    /// The shard's number.
    pub index: u16,
    /// The most messages that are unacked at a time, unless they go one by one.
    pub prefetch: u16,
    /// Whether the broker gives one message at a time.
    is_alone: bool,
    channel: Channel,
    consumer: Consumer,
    source: ShardSource,
}

/// What is subscribed to, and how.
#[derive(Debug)]
pub(super) struct ShardSource {
    pub(super) queue: String,
    /// This worker's name: the tag of its consumers, so that an operator sees whose they are.
    pub(super) worker: String,
}

/// What a shard gave.
#[derive(Debug)]
pub enum Received {
    /// A message, to be acked.
    Message(Message),
    /// A message that cannot be read. The broker has been asked to park it.
    Refused(Message),
}

/// What acks the messages of one subscription.
#[derive(Debug)]
pub struct AckChannel(Channel);

impl Subscription {
    /// Subscribes on a channel of its own.
    pub(super) async fn open(
        channel: Channel,
        index: u16,
        prefetch: u16,
        source: ShardSource,
    ) -> Result<Self, lapin::Error> {
        let consumer = source.consume(&channel, prefetch).await?;
        Ok(Self { index, prefetch, is_alone: false, channel, consumer, source })
    }

    /// Whether the broker gives one message at a time.
    pub fn is_alone(&self) -> bool {
        self.is_alone
    }

    /// Subscribes anew, so that the broker gives one message at a time, or a prefetch of them
    /// again. What it has given and nobody has taken, `untaken`, goes back. To be called when
    /// nothing of the shard is in flight.
    ///
    /// # Errors
    /// When the channel is gone.
    pub async fn resubscribe(
        &mut self,
        is_alone: bool,
        untaken: &mut Vec<Message>,
    ) -> Result<(), BrokerError> {
        self.channel.basic_cancel(self.consumer.tag(), BasicCancelOptions::default()).await?;
        untaken.extend(self.untaken());
        for message in untaken {
            message.acker().nack(BasicNackOptions { requeue: true, multiple: false }).await?;
        }
        let prefetch = if is_alone { 1 } else { self.prefetch };
        self.consumer = self.source.consume(&self.channel, prefetch).await?;
        self.is_alone = is_alone;
        Ok(())
    }

    /// The next message; `None` when the subscription is over.
    pub async fn next(&mut self) -> Option<Received> {
        let message = match self.consumer.next().await? {
            Ok(delivery) => Message::new(delivery),
            Err(error) => {
                tracing::debug!(%error, shard = self.index, "a subscription ended");
                return None;
            }
        };
        let Some(parts) = message.unreadable() else { return Some(Received::Message(message)) };
        // The broker moves the original, untouched, to *parked*, the dead-letter exchange of the
        // shard. It is refused before any later message is taken, so that no ack can cover it.
        let refusal = BasicRejectOptions { requeue: false };
        let is_refused = matches!(message.acker().reject(refusal).await, Ok(true));
        tracing::warn!(
            %parts,
            shard = self.index,
            is_refused,
            "a message that cannot be read goes to the parked queue as it is"
        );
        Some(Received::Refused(message))
    }

    /// What the broker has given and nobody has taken. It has no ack, and goes back.
    pub fn untaken(&mut self) -> Vec<Message> {
        let mut untaken = Vec::new();
        while let Some(Some(Ok(delivery))) = self.consumer.next().now_or_never() {
            untaken.push(Message::new(delivery));
        }
        untaken
    }

    /// Where the acks of this subscription go.
    pub fn ack_channel(&self) -> AckChannel {
        AckChannel(self.channel.clone())
    }

    /// Gives everything unacked back. To be called when nothing of the shard is in flight and its
    /// acks are sent. Returns whether the broker agreed, which it does after every ack has taken
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

impl ShardSource {
    async fn consume(&self, channel: &Channel, prefetch: u16) -> Result<Consumer, lapin::Error> {
        // Per consumer: a limit on the whole channel (global) is refused by quorum queues.
        channel.basic_qos(prefetch, BasicQosOptions { global: false }).await?;
        let options = BasicConsumeOptions { no_ack: false, ..Default::default() };
        let (queue, tag) = (self.queue.as_str().into(), self.worker.as_str().into());
        channel.basic_consume(queue, tag, options, FieldTable::default()).await
    }
}

impl AckChannel {
    /// Acks one message, or with `multiple` all up to it.
    ///
    /// # Errors
    /// When the channel is gone: the message is back in its queue then.
    pub async fn ack(&self, tag: u64, multiple: bool) -> Result<(), lapin::Error> {
        self.0.basic_ack(tag, BasicAckOptions { multiple }).await
    }
}
