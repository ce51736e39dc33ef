//! All depths in one go, for the status page and the metrics.

use lapin::Connection;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;

use super::ensure::{channel, is_not_found};
use super::{Depth, Topology, TopologyError};

/// What the broker tells of every queue. None: there is no such queue.
#[derive(Debug, Clone, Default)]
pub struct Depths {
    /// By number.
    pub shards: Vec<(u16, Option<Depth>)>,
    /// Names without the prefix: the retry queues, `parked` and `rejected`.
    pub others: Vec<(String, Option<Depth>)>,
}

impl Topology {
    /// A queue's name without the prefix.
    pub fn suffix<'n>(&self, name: &'n str) -> &'n str {
        name.strip_prefix(&self.prefix).and_then(|rest| rest.strip_prefix('.')).unwrap_or(name)
    }

    /// Asks for every queue, over one channel. `extra` are shards beyond `QUEUE_SHARDS`.
    ///
    /// # Errors
    /// [`TopologyError`] when the broker does not answer.
    pub async fn depths(
        &self,
        connection: &Connection,
        extra: &[u16],
    ) -> Result<Depths, TopologyError> {
        let mut asking = channel(connection, self.main()).await?;
        let mut depths = Depths::default();
        let shards = self
            .shards()
            .chain(extra.iter().copied())
            .map(|index| (Some(index), self.shard(index)));
        for (shard, name) in shards.chain(self.dead_letter_names().map(|name| (None, name))) {
            let passive = QueueDeclareOptions { passive: true, ..Default::default() };
            let depth = match asking
                .queue_declare(name.as_str().into(), passive, FieldTable::default())
                .await
            {
                Ok(queue) => {
                    Some(Depth { ready: queue.message_count(), consumers: queue.consumer_count() })
                }
                Err(error) if is_not_found(&error) => {
                    // A miss closes the channel.
                    asking = channel(connection, &name).await?;
                    None
                }
                Err(error) => return Err(self.explain(&name, error)),
            };
            match shard {
                Some(index) => depths.shards.push((index, depth)),
                None => depths.others.push((self.suffix(&name).to_owned(), depth)),
            }
        }
        self.close(&asking).await?;
        Ok(depths)
    }
}
