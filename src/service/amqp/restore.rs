//! What somebody deletes from the broker while the relay works is noticed, and declared again.
//!
//! A shard that is deleted ends its subscription, and so the session. An exchange that is deleted
//! ends nothing: hits that leave a retry queue would wait for it unseen, and ENTs publish to
//! nobody.

use std::convert::Infallible;
use std::time::Duration;

use super::session::Session;
use crate::service::config::{BrokerSettings, TopologyMode};
use crate::service::telemetry::Metrics;

/// Between two looks. A look is a question for each exchange and queue.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// Looks again and again, as long as the session lasts, whether every exchange and queue is there.
pub async fn keep_topology(
    session: &Session,
    settings: &BrokerSettings,
    metrics: &Metrics,
) -> Infallible {
    let mut logged = Vec::new();
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let missing = match session.missing().await {
            Ok(missing) => missing,
            Err(error) => {
                tracing::debug!(%error, "whether the topology is complete could not be asked");
                continue;
            }
        };
        metrics.topology_missing.set(i64::try_from(missing.len()).unwrap_or(i64::MAX));
        if missing != logged && !missing.is_empty() {
            tracing::error!(
                missing = missing.join(", "),
                "somebody deleted what the relay needs on RabbitMQ: ENTs may publish to nobody, \
                 and hits do not come back from retry queues"
            );
        }
        if !missing.is_empty() && settings.topology == TopologyMode::Declare {
            match session.restore(settings).await {
                Ok(()) => {
                    metrics.topology_missing.set(0);
                    tracing::info!(restored = missing.join(", "), "declared again");
                }
                Err(error) => tracing::error!(%error, "it could not be declared again"),
            }
        }
        logged = missing;
    }
}
