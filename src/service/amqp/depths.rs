//! How many messages lie in which queue: a look that takes nothing and changes nothing.

use lapin::Connection;

use super::BrokerError;
use super::connect::{CLOSE_TIMEOUT, SET_UP_TIMEOUT, close, connect};
use super::session_end::SessionClosed;
use super::topology::{Inquiry, Told, Topology, TopologyError, Untold};
use crate::domain::books::Queues;
use crate::service::config::BrokerSettings;

/// What a broker tells of one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// Messages that nobody holds.
    pub ready: u32,
    /// How many consumers it has. Of those that are subscribed to a shard, the broker counts the
    /// one that it serves.
    pub consumers: u32,
}

/// The depth of every queue; `None` stands for a queue that does not exist.
#[derive(Debug, Clone, Default)]
pub struct Depths {
    /// Each shard by its number.
    pub shards: Vec<(u16, Option<Depth>)>,
    /// The retry queues, `parked` and `rejected` by their names without the prefix.
    pub others: Vec<(String, Option<Depth>)>,
}

/// Asks for depths on a connection of its own, for commands. A question for a queue that is not
/// there closes a channel, and must not disturb those who hold messages.
#[derive(Debug)]
pub struct QueueDepths {
    connection: Connection,
    topology: Topology,
    /// The shards that there are, whatever `QUEUE_SHARDS` says here; `None` before the first look.
    shards: Option<Vec<String>>,
    untold: Untold,
}

impl Topology {
    /// The depth of one queue; `None` if there is no such queue.
    ///
    /// # Errors
    /// [`TopologyError`] when the broker does not answer, or does not tell this user.
    pub async fn depth(
        &self,
        connection: &Connection,
        name: &str,
        untold: &Untold,
    ) -> Result<Option<Depth>, TopologyError> {
        let mut inquiry = Inquiry::new(self, connection, untold);
        let depth = known(inquiry.queue(name).await?, name)?;
        inquiry.end().await?;
        Ok(depth)
    }

    /// The depth of every queue, asked over one channel. `extra` are shards beyond `QUEUE_SHARDS`.
    ///
    /// # Errors
    /// [`TopologyError`] when the broker does not answer, or does not tell this user.
    pub async fn depths(
        &self,
        connection: &Connection,
        extra: &[u16],
        untold: &Untold,
    ) -> Result<Depths, TopologyError> {
        let mut inquiry = Inquiry::new(self, connection, untold);
        let mut depths = Depths::default();
        for index in self.shards().chain(extra.iter().copied()) {
            let name = self.shard(index);
            depths.shards.push((index, known(inquiry.queue(&name).await?, &name)?));
        }
        for name in self.dead_letter_exchanges() {
            let depth = known(inquiry.queue(&name).await?, &name)?;
            depths.others.push((self.suffix(&name).to_owned(), depth));
        }
        inquiry.end().await?;
        Ok(depths)
    }
}

/// What is not told must not be taken for an empty queue.
fn known(told: Told<Depth>, name: &str) -> Result<Option<Depth>, TopologyError> {
    match told {
        Told::There(depth) => Ok(Some(depth)),
        Told::Missing => Ok(None),
        Told::Untold => Err(TopologyError::Untold(name.to_owned())),
    }
}

impl QueueDepths {
    /// Connects under the name of the command that asks.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn open(settings: &BrokerSettings, command: &str) -> Result<Self, BrokerError> {
        let (connection, _) = connect(settings, command, None).await?;
        Ok(Self {
            connection,
            topology: Topology::new(settings),
            shards: None,
            untold: Untold::default(),
        })
    }

    /// How many messages are ready in each kind of queue: those of these settings, and shards
    /// beyond `QUEUE_SHARDS`. A queue that does not exist holds nothing.
    ///
    /// # Errors
    /// When the broker refuses a look, or does not answer within a minute.
    pub async fn totals(&self) -> Result<Queues, BrokerError> {
        let asked = tokio::time::timeout(SET_UP_TIMEOUT, self.sums()).await;
        let silent = |_| {
            let seconds = SET_UP_TIMEOUT.as_secs();
            SessionClosed(format!("the broker did not answer within {seconds} s"))
        };
        Ok(asked.map_err(silent)??)
    }

    async fn sums(&self) -> Result<Queues, TopologyError> {
        let extra = self.topology.extra_shards(&self.connection).await?;
        let depths = self.topology.depths(&self.connection, &extra, &self.untold).await?;
        let ready = |depth: Option<Depth>| depth.map_or(0, |depth| u64::from(depth.ready));
        let waiting = depths.shards.iter().map(|(_, depth)| ready(*depth)).sum();
        let mut queues = Queues { waiting, ..Queues::default() };
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

    /// How many messages wait in the shards, and whether anybody reads them.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn waiting(&mut self) -> Result<(u64, bool), BrokerError> {
        let shards = match self.shards.take() {
            Some(shards) => shards,
            None => self.existing_shards().await?,
        };
        let (mut hits, mut is_read) = (0, false);
        for name in &shards {
            let asking = self.topology.depth(&self.connection, name, &self.untold);
            let asked = tokio::time::timeout(CLOSE_TIMEOUT, asking).await;
            let silent = |_| SessionClosed("the broker did not tell how many hits wait".to_owned());
            let depth = asked.map_err(silent)??;
            hits += depth.map_or(0, |depth| u64::from(depth.ready));
            is_read |= depth.is_some_and(|depth| depth.consumers > 0);
        }
        self.shards = Some(shards);
        Ok((hits, is_read))
    }

    async fn existing_shards(&self) -> Result<Vec<String>, TopologyError> {
        let mut shards = Vec::new();
        for name in (0..u16::MAX).map(|index| self.topology.shard(index)) {
            if self.topology.depth(&self.connection, &name, &self.untold).await?.is_none() {
                break;
            }
            shards.push(name);
        }
        Ok(shards)
    }

    /// Whether it makes sense to ask again.
    pub fn is_connected(&self) -> bool {
        self.connection.status().connected()
    }

    /// Closes the connection.
    pub async fn close(self) {
        close(&self.connection).await;
    }
}
