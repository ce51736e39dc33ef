//! Which shards the worker gives up to others.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use super::Worker;
use crate::domain::dispatch::token::LIKELY_WORKERS;
use crate::domain::sharing::{Sharing, Standing};
use crate::service::amqp::BrokerError;
use crate::service::amqp::session::Session;

/// Between two looks, in the mean.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// How long after an error a session that broke has said so.
const END_TIME: Duration = Duration::from_secs(2);

/// Between two attempts to be counted among the workers.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// A shard that is subscribed to: what is known of it, and what is to be done with it.
#[derive(Debug, Default)]
pub(super) struct Hold {
    /// Whether it gave a hit since it was subscribed to. Then it is this worker's until that one
    /// subscribes anew.
    gave: AtomicBool,
    /// Asks for a new subscription, behind those of others.
    anew: Notify,
}

impl Hold {
    /// The shard gave a hit.
    pub(super) fn gave(&self) {
        self.gave.store(true, Ordering::Relaxed);
    }

    /// The shard was subscribed to anew.
    pub(super) fn forget(&self) {
        self.gave.store(false, Ordering::Relaxed);
    }

    /// Waits until the shard is to be subscribed to anew.
    pub(super) async fn asked_anew(&self) {
        self.anew.notified().await;
    }
}

/// The shards of a round that are shared out.
pub(super) type Holds = HashMap<u16, Arc<Hold>>;

impl Worker {
    /// Gives up what is beyond this worker's share, as long as the round lasts.
    pub(super) async fn share(&self, session: &Session, holds: &Holds) -> Infallible {
        if holds.len() < 2 {
            if session.claims().len() < 2 {
                // Whoever has the only shard is alone at work.
                self.dispatcher.gate.set_workers(1);
            }
            return std::future::pending().await;
        }
        let mut is_logged = false;
        loop {
            let Err(error) = self.share_until_error(session, holds).await;
            // A session that is over is no news of the counting.
            if tokio::time::timeout(END_TIME, session.end.wait()).await.is_ok() {
                return std::future::pending().await;
            }
            self.dispatcher.gate.set_workers(LIKELY_WORKERS);
            if is_logged {
                tracing::debug!(%error, "workers cannot be counted");
            } else {
                tracing::warn!(
                    %error,
                    "workers cannot be counted, so this one keeps the shards that it has"
                );
                is_logged = true;
            }
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    }

    async fn share_until_error(
        &self,
        session: &Session,
        holds: &Holds,
    ) -> Result<Infallible, BrokerError> {
        let claims = session.claims();
        let mut sharing = Sharing::default();
        let mut count = session.worker_count().await?;
        loop {
            session.tell_short(&mut count, sharing.standing() == Standing::Short).await?;
            // Not all at once.
            tokio::time::sleep(LOOK_INTERVAL.mul_f64(0.8 + 0.4 * rand::random::<f64>())).await;
            let workers = session.count_workers(&count).await?;
            // Of none at all this one is missing too: the queue is gone.
            let counted = if workers.all == 0 { LIKELY_WORKERS } else { workers.all };
            self.dispatcher.gate.set_workers(counted);
            let held: BTreeSet<u16> = holds
                .iter()
                .filter_map(|(shard, hold)| hold.gave.load(Ordering::Relaxed).then_some(*shard))
                .collect();
            let step = sharing.look(&claims, &held, workers, rand::random());
            if !step.give_up.is_empty() {
                tracing::info!(
                    shards = ?step.give_up,
                    held = held.len(),
                    workers = workers.all,
                    "shards beyond this worker's share go to others"
                );
            }
            for shard in step.give_up.iter().chain(&step.wait_behind) {
                if let Some(hold) = holds.get(shard) {
                    hold.forget();
                    hold.anew.notify_one();
                }
            }
        }
    }
}
