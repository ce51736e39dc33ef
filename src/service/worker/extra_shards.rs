//! Shards beyond `QUEUE_SHARDS`: read while they hold hits, left when they are empty, and deleted
//! when every worker has left.

use super::Worker;
use super::round::{Assignment, InFlight};
use crate::service::amqp::session::Session;

impl Worker {
    /// The extra shards that hold hits.
    pub(super) async fn with_hits(&self, session: &Session, extra: &[u16]) -> Vec<u16> {
        let mut with_hits = Vec::new();
        for index in extra {
            match session.depth(*index).await {
                Ok(Some(depth)) if depth.ready > 0 => with_hits.push(*index),
                Ok(_) => {}
                Err(error) => log_unknown(*index, &error),
            }
        }
        with_hits
    }

    /// Looks at the extra shards and deletes those that are done with. Returns whether this worker
    /// reads the wrong ones.
    pub(super) async fn look_at_extra(
        &self,
        session: &Session,
        assignment: &Assignment,
        extra: &mut Vec<u16>,
        in_flight: &InFlight,
    ) -> bool {
        let mut rebalance = false;
        // The highest first, so that the numbers of those left have no gap.
        for index in extra.clone().into_iter().rev() {
            let depth = match session.depth(index).await {
                Ok(Some(depth)) => depth,
                Ok(None) => {
                    extra.retain(|other| *other != index);
                    continue;
                }
                Err(error) => {
                    log_unknown(index, &error);
                    return false;
                }
            };
            let is_read = assignment.extra.contains(&index);
            rebalance |=
                if is_read { depth.ready == 0 && !in_flight.of(index) } else { depth.ready > 0 };
            let is_abandoned = !is_read
                && depth.ready == 0
                && depth.consumers == 0
                && extra.last() == Some(&index);
            if is_abandoned && self.may_delete {
                match session.retire(index).await {
                    Ok(true) => {
                        extra.retain(|other| *other != index);
                        tracing::info!(shard = index, "an extra shard is drained and deleted");
                    }
                    Ok(false) => {}
                    Err(error) => {
                        tracing::debug!(%error, "an extra shard could not be deleted");
                    }
                }
            }
        }
        rebalance
    }
}

fn log_unknown(shard: u16, error: &crate::service::amqp::BrokerError) {
    tracing::warn!(shard, %error, "the broker does not say whether an extra shard holds hits");
}
