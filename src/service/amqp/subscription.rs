//! One shard that this worker reads, on a channel of its own.

use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicRejectOptions};
use lapin::{Channel, Consumer};

use super::connect::CLOSE_TIMEOUT;
use super::message::Message;

/// A subscription to one shard. Dropping it would cancel the consumer with messages in flight:
/// [`Subscription::close`] it.
#[derive(Debug)]
pub struct Subscription {
    /// The shard's number.
    pub index: u16,
    /// The most messages that are unacked at a time.
    pub prefetch: u16,
    channel: Channel,
    consumer: Consumer,
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
    pub(super) fn new(index: u16, prefetch: u16, channel: Channel, consumer: Consumer) -> Self {
        Self { index, prefetch, channel, consumer }
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

impl AckChannel {
    /// Acks one message, or with `multiple` all up to it.
    ///
    /// # Errors
    /// When the channel is gone: the message is back in its queue then.
    pub async fn ack(&self, tag: u64, multiple: bool) -> Result<(), lapin::Error> {
        self.0.basic_ack(tag, BasicAckOptions { multiple }).await
    }
}
