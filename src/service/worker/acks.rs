//! Acks: one for all hits of a shard up to a place (`multiple`) where everything before it is
//! settled, and one by one for those that would wait for long.
//!
//! Each ack costs the broker more than a hit in it, and what one makes room for is delivered
//! together. So a settled hit waits: a little for those behind it, and longer for one before it
//! that is still with Matomo.
//!
//! No ack may cover a hit that is not settled, whatever happens at the same time, because
//! - a delivery tag is an entry of `Unacked` from before anybody can settle it until its ack is
//!   sent; all tags of a channel come from one consumer, in growing order, so what is not an entry
//!   and lower than one has its ack;
//! - an entry is marked as settled only after Matomo, or the next queue, has the hit. A hit that is
//!   given back, or dropped by a task that failed, is never marked: it stays, and nothing beyond it
//!   is acked but one by one;
//! - lanes only mark. One task, [`AckWriter::write`], takes entries out and sends, and takes a tag
//!   out once: neither can two acks of a channel overtake each other, nor does one name a tag that
//!   is gone, for which the broker would close the channel.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::context::WorkerContext;
use crate::service::amqp::session_end::SessionEnd;
use crate::service::amqp::subscription::{AckChannel, Subscription};

mod unacked;

use unacked::Unacked;

/// Sends the acks of all shards of a round.
#[derive(Debug, Default)]
pub struct AckWriter {
    /// One for each shard.
    windows: Vec<Arc<AckWindow>>,
    /// Wakes the writer when hits were settled.
    settled: Arc<Notify>,
}

/// Gathers the acks of one shard.
#[derive(Debug)]
pub struct AckWindow {
    channel: AckChannel,
    unacked: Mutex<Unacked>,
    /// The writer's.
    settled: Arc<Notify>,
}

impl AckWriter {
    /// The window of one more shard.
    pub fn window(&mut self, subscription: &Subscription) -> Arc<AckWindow> {
        let unacked = Mutex::new(Unacked::new(subscription.prefetch.into()));
        let (channel, settled) = (subscription.ack_channel(), self.settled.clone());
        let window = Arc::new(AckWindow { channel, unacked, settled });
        self.windows.push(window.clone());
        window
    }

    /// Sends acks until nothing more will be settled (`over`), and then all that are left.
    pub async fn write(
        self,
        context: Arc<WorkerContext>,
        end: SessionEnd,
        over: CancellationToken,
    ) {
        loop {
            let first = self.windows.iter().filter_map(|window| window.unacked().deadline()).min();
            let long_enough = async {
                match first {
                    Some(first) => tokio::time::sleep_until(first).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.settled.notified() => self.send(&context, &end, false).await,
                () = long_enough => self.send(&context, &end, false).await,
                () = over.cancelled() => return self.send(&context, &end, true).await,
            }
        }
    }

    async fn send(&self, context: &WorkerContext, end: &SessionEnd, all: bool) {
        let mut acks = Vec::new();
        for window in &self.windows {
            let due = window.unacked().due(Instant::now(), all);
            // Before the ack is sent, so that there is no moment in which it can be lost and the
            // hit not known.
            context.stored.remember(due.stored);
            let ack = |(tag, multiple)| window.channel.ack(tag, multiple);
            acks.extend(due.acks.into_iter().map(ack));
        }
        // An ack fails only with its channel. The hit comes back then, and `Stored` or the next
        // queue knows it.
        let sent = end.or(join_all(acks)).await;
        if !sent.is_ok_and(|sent| sent.iter().all(Result::is_ok)) {
            tracing::debug!("an ack was lost with its channel");
        }
    }
}

impl AckWindow {
    /// A hit came in; in the order of the tags.
    pub(super) fn hold(&self, tag: u64) {
        self.unacked().hold(tag);
    }

    /// Matomo or the next queue has the hit. Its ack is sent after [`AckWindow::notify`].
    pub(super) fn settle(&self, tag: u64, identity: Option<u64>) {
        self.unacked().settle(tag, identity, Instant::now());
    }

    /// Lets no ack go from now on, so that the broker gives nothing more; or lets them go again.
    pub(super) fn withhold(&self, is_withheld: bool) {
        self.unacked().withhold(is_withheld);
        self.notify();
    }

    /// Whether no ack goes.
    pub(super) fn is_withheld(&self) -> bool {
        self.unacked().is_withheld()
    }

    /// Wakes the writer: hits were settled.
    pub(super) fn notify(&self) {
        self.settled.notify_one();
    }

    fn unacked(&self) -> MutexGuard<'_, Unacked> {
        self.unacked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
