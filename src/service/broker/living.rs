//! Whether hits of now wait, for somebody who sends dead ones again.

use lapin::Connection;

use super::{BrokerError, CLOSE_TIMEOUT, close, connect_any, tls};
use crate::service::config::Broker;
use crate::service::session_end::SessionClosed;
use crate::service::topology::Topology;

/// The shards, as somebody sees them who makes room for the hits of now. It has a connection of its
/// own: a question for a queue that is not there closes a channel, and must not disturb those who
/// hold hits.
#[derive(Debug)]
pub struct Living {
    connection: Connection,
    shards: Vec<String>,
    topology: Topology,
}

impl Living {
    /// Connects, and finds the shards that there are, whatever `QUEUE_SHARDS` says here.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn open(settings: &Broker) -> Result<Self, BrokerError> {
        let (connection, _) =
            connect_any(&settings.urls, &tls(settings).await?, "dnma-relay dead, looking", None)
                .await?;
        let topology = Topology::new(settings);
        let mut shards = Vec::new();
        for name in (0..u16::MAX).map(|index| topology.shard(index)) {
            if topology.depth(&connection, &name).await?.is_none() {
                break;
            }
            shards.push(name);
        }
        Ok(Self { connection, shards, topology })
    }

    /// Hits that wait in the shards, and whether anybody reads them.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn waiting(&self) -> Result<(u64, bool), BrokerError> {
        let (mut hits, mut is_read) = (0, false);
        for name in &self.shards {
            let asked =
                tokio::time::timeout(CLOSE_TIMEOUT, self.topology.depth(&self.connection, name))
                    .await;
            let depth = asked.map_err(|_| {
                SessionClosed("the broker did not tell how many hits wait".to_owned())
            })??;
            hits += depth.map_or(0, |depth| u64::from(depth.ready));
            is_read |= depth.is_some_and(|depth| depth.consumers > 0);
        }
        Ok((hits, is_read))
    }

    /// Whether it makes sense to ask again.
    pub fn is_connected(&self) -> bool {
        self.connection.status().connected()
    }

    /// Says goodbye.
    pub async fn close(self) {
        close(&self.connection).await;
    }
}
