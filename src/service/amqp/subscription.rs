//! One shard that this worker reads, on a channel of its own.

use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicCancelOptions};
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

/// What acks the messages of one subscription.
#[derive(Debug)]
pub struct AckChannel(Channel);

impl Subscription {
    pub(super) fn new(index: u16, prefetch: u16, channel: Channel, consumer: Consumer) -> Self {
        Self { index, prefetch, channel, consumer }
    }

    /// The next message; `None` when the subscription is over.
    pub async fn next(&mut self) -> Option<Message> {
        match self.consumer.next().await {
            Some(Ok(delivery)) => Some(Message::new(delivery)),
            Some(Err(error)) => {
                tracing::debug!(%error, shard = self.index, "a subscription ended");
                None
            }
            None => None,
        }
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
