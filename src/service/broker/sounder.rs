//! What lies in the queues, for `dnma-relay books`: a look that takes no hit and changes nothing.

use lapin::Connection;

use super::{BrokerError, SET_UP_TIMEOUT, close, connect_any, tls};
use crate::domain::books::Queues;
use crate::service::config::Broker;
use crate::service::session_end::SessionClosed;
use crate::service::topology::{Depth, Topology, TopologyError};

/// Asks how many messages are ready in each queue.
#[derive(Debug)]
pub struct Sounder {
    connection: Connection,
    topology: Topology,
}

impl Sounder {
    /// Connects.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn open(settings: &Broker) -> Result<Self, BrokerError> {
        // A second installation in one process is refused, and the first one serves both.
        let _installed_before = rustls::crypto::ring::default_provider().install_default();
        let (connection, _) =
            connect_any(&settings.urls, &tls(settings).await?, "dnma-relay books", None).await?;
        Ok(Self { connection, topology: Topology::new(settings) })
    }

    /// All queues of these settings, and shards beyond `QUEUE_SHARDS`. A queue that does not exist
    /// holds nothing.
    ///
    /// # Errors
    /// When the broker refuses a look, or does not answer in time.
    pub async fn look(&self) -> Result<Queues, BrokerError> {
        let looked = tokio::time::timeout(SET_UP_TIMEOUT, self.sums()).await;
        Ok(looked.map_err(|_| {
            SessionClosed(format!(
                "the broker did not answer within {} s",
                SET_UP_TIMEOUT.as_secs()
            ))
        })??)
    }

    async fn sums(&self) -> Result<Queues, TopologyError> {
        let extra = self.topology.extra_shards(&self.connection).await?;
        let depths = self.topology.depths(&self.connection, &extra).await?;
        let ready = |depth: Option<Depth>| depth.map_or(0, |depth| u64::from(depth.ready));
        let mut queues = Queues {
            waiting: depths.shards.iter().map(|(_, depth)| ready(*depth)).sum(),
            ..Queues::default()
        };
        let [parked, rejected] = [self.topology.parked(), self.topology.rejected()];
        for (suffix, depth) in depths.others {
            *match suffix {
                suffix if suffix == self.topology.suffix(&parked) => &mut queues.parked,
                suffix if suffix == self.topology.suffix(&rejected) => &mut queues.rejected,
                _ => &mut queues.retry,
            } += ready(depth);
        }
        Ok(queues)
    }

    /// Says goodbye.
    pub async fn close(self) {
        close(&self.connection).await;
    }
}
