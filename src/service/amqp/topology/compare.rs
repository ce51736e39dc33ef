//! How a broker differs from the description, without changing it.

use lapin::options::{ExchangeDeclareOptions, ExchangeDeleteOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ExchangeKind};

use super::ensure::channel;
use super::{CONSISTENT_HASH, Inquiry, Told, Topology, TopologyError, Untold};
use crate::service::config::TopologyMode;

/// What a relay would stumble over.
#[derive(Debug, Default)]
pub struct Differences {
    /// Not there.
    pub missing: Vec<String>,
    /// Those of which the broker does not tell us whether they are there.
    pub untold: Vec<String>,
    /// There, but not as it should be, or not for us.
    pub wrong: Vec<TopologyError>,
}

impl Topology {
    /// Asks for each exchange and queue. With the right to declare, what is there is declared once
    /// more: the broker then says whether its arguments are the same, and changes nothing.
    ///
    /// # Errors
    /// [`TopologyError`] when the broker does not answer.
    pub async fn compare(
        &self,
        connection: &Connection,
        mode: TopologyMode,
    ) -> Result<Differences, TopologyError> {
        let mut differences = Differences::default();
        let mut told = |outcome: Result<(), TopologyError>| differences.wrong.extend(outcome.err());
        let mut missing = Vec::new();
        let untold = Untold::default();
        let mut inquiry = Inquiry::new(self, connection, &untold);
        for exchange in self.exchanges() {
            if inquiry.exchange(&exchange.name).await? == Told::Missing {
                missing.push(format!("exchange {}", exchange.name));
            } else if mode == TopologyMode::Declare {
                // A refusal closes the channel, so each has its own.
                let channel = channel(connection, &exchange.name).await?;
                told(self.declare_exchange(&channel, &exchange).await);
            }
        }
        for queue in self.queues() {
            if inquiry.queue(&queue.name).await? == Told::Missing {
                missing.push(format!("queue {}", queue.name));
            } else if mode == TopologyMode::Declare {
                let channel = channel(connection, &queue.name).await?;
                told(self.declare_queue(&channel, &queue).await);
            }
        }
        inquiry.end().await?;
        if mode == TopologyMode::Declare
            && missing.iter().any(|name| *name == format!("exchange {}", self.main()))
        {
            told(self.try_type(connection).await);
        }
        (differences.missing, differences.untold) = (missing, untold.names());
        Ok(differences)
    }

    /// Declares one queue, which must exist, once more: the broker says whether its arguments are
    /// the same, and changes nothing.
    ///
    /// # Errors
    /// [`TopologyError::Different`], [`TopologyError::Forbidden`] for a user who may not declare
    /// it, or what broke.
    pub async fn compare_queue(
        &self,
        connection: &Connection,
        name: &str,
    ) -> Result<(), TopologyError> {
        let channel = channel(connection, name).await?;
        for queue in self.queues().iter().filter(|queue| queue.name == name) {
            self.declare_queue(&channel, queue).await?;
        }
        self.close(&channel).await
    }

    /// Whether the broker knows the main exchange's type, by an exchange that lives for a moment.
    async fn try_type(&self, connection: &Connection) -> Result<(), TopologyError> {
        if self.shards == 1 {
            return Ok(());
        }
        let name = format!("{}.check", self.main());
        let channel = channel(connection, &name).await?;
        let kind = ExchangeKind::Custom(CONSISTENT_HASH.to_owned());
        let fleeting = ExchangeDeclareOptions { auto_delete: true, ..Default::default() };
        let declared = channel
            .exchange_declare(name.as_str().into(), kind, fleeting, FieldTable::default())
            .await;
        declared.map_err(|error| self.explain(&name, error))?;
        let deleted =
            channel.exchange_delete(name.as_str().into(), ExchangeDeleteOptions::default()).await;
        deleted.map_err(|error| self.explain(&name, error))?;
        self.close(&channel).await
    }
}
