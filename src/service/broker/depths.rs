//! What lies in the queues, for `dnma-relay books`: a look that takes no hit and changes nothing.

use lapin::Connection;

use super::{BrokerError, SET_UP_TIMEOUT, close, connect_any, tls};
use crate::domain::books::Queues;
use crate::service::config::Broker;
use crate::service::lost::Over;
use crate::service::topology::{Topology, TopologyError};

/// Asks how many messages are ready in each queue.
#[derive(Debug)]
pub struct Depths {
    connection: Connection,
    topology: Topology,
}

impl Depths {
    /// Connects.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn open(settings: &Broker) -> Result<Self, BrokerError> {
        // A second installation in one process is refused, and the first one serves both.
        let _installed_before = rustls::crypto::ring::default_provider().install_default();
        let (connection, _) = connect_any(&settings.urls, &tls(settings).await?, "dnma-relay books", None).await?;
        Ok(Self { connection, topology: Topology::new(settings) })
    }

    /// All queues of these settings, and shards beyond `QUEUE_SHARDS`. A queue that does not exist holds nothing.
    ///
    /// # Errors
    /// When the broker refuses a look, or does not answer in time.
    pub async fn look(&self) -> Result<Queues, BrokerError> {
        let looked = tokio::time::timeout(SET_UP_TIMEOUT, self.sums()).await;
        Ok(looked.map_err(|_| Over(format!("the broker did not answer within {} s", SET_UP_TIMEOUT.as_secs())))??)
    }

    async fn sums(&self) -> Result<Queues, TopologyError> {
        let mut queues = Queues::default();
        for index in 0..=u16::MAX {
            match self.ready(&self.topology.shard(index)).await? {
                Some(ready) => queues.waiting += ready,
                None if self.topology.shards().contains(&index) => {}
                None => break,
            }
        }
        for name in self.topology.dead_letter_exchanges() {
            let ready = self.ready(&name).await?.unwrap_or_default();
            *match name {
                name if name == self.topology.parked() => &mut queues.parked,
                name if name == self.topology.rejected() => &mut queues.rejected,
                _ => &mut queues.retry,
            } += ready;
        }
        Ok(queues)
    }

    async fn ready(&self, queue: &str) -> Result<Option<u64>, TopologyError> {
        Ok(self.topology.depth(&self.connection, queue).await?.map(|depth| depth.ready.into()))
    }

    /// Says goodbye.
    pub async fn close(self) {
        close(&self.connection).await;
    }
}
