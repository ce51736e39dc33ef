//! Questions about what there is on a broker, which change nothing there.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ExchangeKind};

use super::ensure::{channel, is_not_found};
use super::{QueueDeclaration, Topology, TopologyError};
use crate::service::amqp::depths::Depth;

/// What the broker answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::service::amqp) enum Told<T> {
    /// It is there.
    There(T),
    /// It is not.
    Missing,
    /// The broker does not tell this user. Before 4.2.6 it told everybody; 4.2.6 and 4.3.0 tell
    /// those who may configure it, and later versions those who have any right on it.
    Untold,
}

/// What the broker does not tell this user of, by its kind and name. It is not asked for again:
/// each question closes a channel, and the broker writes a line about it.
#[derive(Debug, Default)]
pub struct Untold(Mutex<BTreeSet<String>>);

impl Untold {
    /// Each exchange and queue, as `exchange dnma.hits`.
    pub fn names(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn has(&self, name: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }

    fn add(&self, name: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name);
    }
}

/// Asks one question after the other, over one channel as long as it lasts: a question after
/// something that does not exist closes it.
pub(in crate::service::amqp) struct Inquiry<'t> {
    topology: &'t Topology,
    connection: &'t Connection,
    channel: Option<Channel>,
    untold: &'t Untold,
}

impl<'t> Inquiry<'t> {
    pub(in crate::service::amqp) fn new(
        topology: &'t Topology,
        connection: &'t Connection,
        untold: &'t Untold,
    ) -> Self {
        Self { topology, connection, channel: None, untold }
    }

    /// Whether there is such an exchange.
    ///
    /// # Errors
    /// [`TopologyError`] when the broker does not answer.
    pub(in crate::service::amqp) async fn exchange(
        &mut self,
        name: &str,
    ) -> Result<Told<()>, TopologyError> {
        let described = format!("exchange {name}");
        if self.untold.has(&described) {
            return Ok(Told::Untold);
        }
        let asking = self.channel(name).await?;
        let passive = ExchangeDeclareOptions { passive: true, ..Default::default() };
        let kind = ExchangeKind::Custom("direct".to_owned());
        let asked = asking.exchange_declare(name.into(), kind, passive, FieldTable::default());
        let answer = asked.await;
        self.told(asking, described, name, answer)
    }

    /// The depth of a queue.
    ///
    /// # Errors
    /// [`TopologyError`] when the broker does not answer.
    pub(in crate::service::amqp) async fn queue(
        &mut self,
        name: &str,
    ) -> Result<Told<Depth>, TopologyError> {
        let described = format!("queue {name}");
        if self.untold.has(&described) {
            return Ok(Told::Untold);
        }
        let asking = self.channel(name).await?;
        let passive = QueueDeclareOptions { passive: true, ..Default::default() };
        let answer = asking.queue_declare(name.into(), passive, FieldTable::default()).await;
        let depth = answer.map(|queue| {
            let (ready, consumers) = (queue.message_count(), queue.consumer_count());
            Depth { ready, consumers }
        });
        self.told(asking, described, name, depth)
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
            if self.queue(&queue.name).await? == Told::Missing {
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

    fn told<T>(
        &mut self,
        asked: Channel,
        described: String,
        name: &str,
        answer: Result<T, lapin::Error>,
    ) -> Result<Told<T>, TopologyError> {
        match answer {
            Ok(found) => {
                self.channel = Some(asked);
                Ok(Told::There(found))
            }
            Err(error) if is_not_found(&error) => Ok(Told::Missing),
            Err(error) => match self.topology.explain(name, error) {
                TopologyError::Forbidden { detail, .. } => {
                    tracing::debug!(described, detail, "the broker does not tell of it");
                    self.untold.add(described);
                    Ok(Told::Untold)
                }
                error => Err(error),
            },
        }
    }

    async fn channel(&mut self, name: &str) -> Result<Channel, TopologyError> {
        match self.channel.take() {
            Some(channel) => Ok(channel),
            None => channel(self.connection, name).await,
        }
    }
}
