//! Questions about what there is on a broker, which change nothing there.

use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ExchangeKind};

use super::ensure::{channel, is_not_found};
use super::{QueueDeclaration, Topology, TopologyError};
use crate::service::amqp::depths::Depth;

/// Asks one question after the other, over one channel as long as it lasts: a question after
/// something that does not exist closes it.
pub(in crate::service::amqp) struct Inquiry<'t> {
    topology: &'t Topology,
    connection: &'t Connection,
    channel: Option<Channel>,
    /// Whether the broker does not tell about exchanges. It writes a line about each question.
    is_refused: bool,
}

impl<'t> Inquiry<'t> {
    pub(in crate::service::amqp) fn new(
        topology: &'t Topology,
        connection: &'t Connection,
    ) -> Self {
        Self { topology, connection, channel: None, is_refused: false }
    }

    /// Whether the broker does not tell us about exchanges.
    pub(super) fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// Whether there is such an exchange. RabbitMQ 4.3 tells that only to those who may configure
    /// it; for others an exchange that nobody may ask for counts as being there.
    ///
    /// # Errors
    /// [`TopologyError`] when the broker does not answer.
    pub(in crate::service::amqp) async fn exchange(
        &mut self,
        name: &str,
    ) -> Result<bool, TopologyError> {
        if self.is_refused {
            return Ok(true);
        }
        let asking = self.channel(name).await?;
        let passive = ExchangeDeclareOptions { passive: true, ..Default::default() };
        let kind = ExchangeKind::Custom("direct".to_owned());
        let asked = asking.exchange_declare(name.into(), kind, passive, FieldTable::default());
        match asked.await {
            Ok(()) => {
                self.channel = Some(asking);
                Ok(true)
            }
            Err(error) if is_not_found(&error) => Ok(false),
            Err(error) => match self.topology.explain(name, error) {
                TopologyError::Forbidden { detail, .. } => {
                    tracing::debug!(name, detail, "the broker does not tell whether it is there");
                    self.is_refused = true;
                    Ok(true)
                }
                error => Err(error),
            },
        }
    }

    /// The depth of a queue; `None` if there is no such queue.
    ///
    /// # Errors
    /// [`TopologyError`] when the broker does not answer.
    pub(in crate::service::amqp) async fn queue(
        &mut self,
        name: &str,
    ) -> Result<Option<Depth>, TopologyError> {
        let asking = self.channel(name).await?;
        let passive = QueueDeclareOptions { passive: true, ..Default::default() };
        match asking.queue_declare(name.into(), passive, FieldTable::default()).await {
            Ok(queue) => {
                self.channel = Some(asking);
                let (ready, consumers) = (queue.message_count(), queue.consumer_count());
                Ok(Some(Depth { ready, consumers }))
            }
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) => Err(self.topology.explain(name, error)),
        }
    }

    /// Those of these queues that are not there.
    ///
    /// # Errors
    /// [`TopologyError`] when the broker does not answer.
    pub(super) async fn missing(
        &mut self,
        queues: &[QueueDeclaration],
    ) -> Result<Vec<String>, TopologyError> {
        let mut missing = Vec::new();
        for queue in queues {
            if self.queue(&queue.name).await?.is_none() {
                missing.push(format!("queue {}", queue.name));
            }
        }
        Ok(missing)
    }

    /// Ends the questions.
    ///
    /// # Errors
    /// [`TopologyError`] when the broker does not answer.
    pub(in crate::service::amqp) async fn end(self) -> Result<(), TopologyError> {
        match &self.channel {
            Some(channel) => self.topology.close(channel).await,
            None => Ok(()),
        }
    }

    async fn channel(&mut self, name: &str) -> Result<Channel, TopologyError> {
        match self.channel.take() {
            Some(channel) => Ok(channel),
            None => channel(self.connection, name).await,
        }
    }
}
