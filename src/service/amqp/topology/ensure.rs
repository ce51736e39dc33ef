//! The description on a broker: declared, verified, and rid of shards that are no longer asked for.

use lapin::options::{
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ErrorKind, ExchangeKind};
use serde_json::Value;
use thiserror::Error;

use super::inquiry::{Inquiry, Told, Untold};
use super::{Binding, CONSISTENT_HASH, ExchangeDeclaration, QueueDeclaration, Topology};
use crate::service::config::TopologyMode;

/// Why a broker does not have what the relay needs.
#[derive(Debug, Error)]
pub enum TopologyError {
    /// The consistent-hash plugin is off.
    #[error(
        "this RabbitMQ has no {CONSISTENT_HASH} exchange type, which {0} shards need: enable it \
         with `rabbitmq-plugins enable rabbitmq_consistent_hash_exchange`, or set QUEUE_SHARDS=1"
    )]
    PluginMissing(u16),
    /// Something of that name exists with other arguments.
    #[error(
        "{name} exists with other arguments ({detail}): delete it when it is empty, or set \
         another QUEUE_PREFIX"
    )]
    Different {
        /// The exchange or queue.
        name: String,
        /// The broker's own words.
        detail: String,
    },
    /// The user may not.
    #[error(
        "the broker refuses access to {name} ({detail}): grant the rights, or set TOPOLOGY=verify \
         and declare it otherwise"
    )]
    Forbidden {
        /// The exchange or queue.
        name: String,
        /// The broker's own words.
        detail: String,
    },
    /// The broker tells nothing of it to this user.
    #[error(
        "the broker tells this user nothing of queue {0}: from RabbitMQ 4.3 on, only a user with \
         some right on a queue may ask how many messages it has; see \"Rights\" in docs/operate.md"
    )]
    Untold(String),
    /// `TOPOLOGY=verify` found things missing.
    #[error(
        "missing on the broker: {}; `dnma-relay topology` prints their definitions",
        .0.join(", ")
    )]
    Missing(Vec<String>),
    /// Anything else, mostly a lost connection.
    #[error("{name}: {source}")]
    Broker {
        /// The exchange or queue.
        name: String,
        /// From the client library.
        source: lapin::Error,
    },
}

impl Topology {
    /// Makes the broker have it, or checks that it does, but for what it adds to `untold`. Returns
    /// shards beyond `QUEUE_SHARDS` that still exist.
    ///
    /// # Errors
    /// [`TopologyError`], whose text names the remedy.
    pub async fn ensure(
        &self,
        connection: &Connection,
        mode: TopologyMode,
        untold: &Untold,
    ) -> Result<Vec<u16>, TopologyError> {
        match mode {
            TopologyMode::Declare => self.declare(connection).await?,
            TopologyMode::Verify => self.verify(connection, untold).await?,
        }
        let extra = self.extra_shards(connection).await?;
        if mode == TopologyMode::Declare {
            for index in &extra {
                self.unbind(connection, *index).await?;
            }
        }
        Ok(extra)
    }

    async fn declare(&self, connection: &Connection) -> Result<(), TopologyError> {
        let channel = channel(connection, self.main()).await?;
        for exchange in self.exchanges() {
            self.declare_exchange(&channel, &exchange).await?;
        }
        for queue in self.queues() {
            self.declare_queue(&channel, &queue).await?;
        }
        for Binding { exchange, queue, key } in self.bindings() {
            let bound = channel.queue_bind(
                queue.as_str().into(),
                exchange.into(),
                key.into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            );
            bound.await.map_err(|error| self.explain(&queue, error))?;
        }
        self.close(&channel).await
    }

    /// Declares the queues by which workers count each other.
    ///
    /// # Errors
    /// [`TopologyError`], whose text names the remedy.
    pub(in crate::service::amqp) async fn declare_counts(
        &self,
        connection: &Connection,
    ) -> Result<(), TopologyError> {
        let channel = channel(connection, &self.workers()).await?;
        for queue in self.counts() {
            self.declare_queue(&channel, &queue).await?;
        }
        self.close(&channel).await
    }

    /// Checks that there are the queues by which workers count each other.
    ///
    /// # Errors
    /// [`TopologyError::Missing`], or what the broker refuses.
    pub(in crate::service::amqp) async fn verify_counts(
        &self,
        connection: &Connection,
    ) -> Result<(), TopologyError> {
        let untold = Untold::default();
        let mut inquiry = Inquiry::new(self, connection, &untold);
        let missing = inquiry.missing(&self.counts()).await?;
        inquiry.end().await?;
        if missing.is_empty() { Ok(()) } else { Err(TopologyError::Missing(missing)) }
    }

    pub(super) async fn declare_exchange(
        &self,
        channel: &Channel,
        exchange: &ExchangeDeclaration,
    ) -> Result<(), TopologyError> {
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let kind = ExchangeKind::Custom(exchange.kind.to_owned());
        let declared = channel
            .exchange_declare(exchange.name.as_str().into(), kind, durable, FieldTable::default())
            .await;
        declared.map_err(|error| self.explain(&exchange.name, error))
    }

    pub(super) async fn declare_queue(
        &self,
        channel: &Channel,
        queue: &QueueDeclaration,
    ) -> Result<(), TopologyError> {
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        let declared = channel
            .queue_declare(queue.name.as_str().into(), durable, table(&queue.arguments))
            .await;
        declared.map(|_| ()).map_err(|error| self.explain(&queue.name, error))
    }

    /// # Errors
    /// [`TopologyError::Missing`], or what the broker refuses.
    async fn verify(&self, connection: &Connection, untold: &Untold) -> Result<(), TopologyError> {
        let missing = self.missing(connection, untold).await?;
        if missing.is_empty() { Ok(()) } else { Err(TopologyError::Missing(missing)) }
    }

    /// The exchanges and queues that are not there. AMQP can only be asked whether a name exists:
    /// arguments and bindings of existing things cannot be read by it. What the broker does not
    /// tell of is added to `untold`, and counts as being there: whoever reads or publishes is told.
    ///
    /// # Errors
    /// [`TopologyError`] when the broker does not answer.
    pub async fn missing(
        &self,
        connection: &Connection,
        untold: &Untold,
    ) -> Result<Vec<String>, TopologyError> {
        let mut inquiry = Inquiry::new(self, connection, untold);
        let mut missing = Vec::new();
        for exchange in self.exchanges() {
            if inquiry.exchange(&exchange.name).await? == Told::Missing {
                missing.push(format!("exchange {} ({})", exchange.name, exchange.kind));
            }
        }
        missing.extend(inquiry.missing(&self.queues()).await?);
        inquiry.end().await?;
        Ok(missing)
    }

    /// Whether there is an exchange to publish to, as far as the broker tells: where it does not,
    /// whoever publishes is told.
    ///
    /// # Errors
    /// [`TopologyError`] when the broker does not answer.
    pub async fn is_there(&self, connection: &Connection) -> Result<bool, TopologyError> {
        let untold = Untold::default();
        let mut inquiry = Inquiry::new(self, connection, &untold);
        let is_there = inquiry.exchange(self.main()).await? != Told::Missing;
        inquiry.end().await?;
        Ok(is_there)
    }

    /// Shards beyond `QUEUE_SHARDS`, as far as the broker tells.
    ///
    /// # Errors
    /// [`TopologyError`] when the broker does not answer.
    pub async fn extra_shards(&self, connection: &Connection) -> Result<Vec<u16>, TopologyError> {
        // Of its own: nobody has to hear that a shard which nobody asked for may be there.
        let untold = Untold::default();
        let mut inquiry = Inquiry::new(self, connection, &untold);
        let mut extra = Vec::new();
        for index in self.shards..u16::MAX {
            let Told::There(_) = inquiry.queue(&self.shard(index)).await? else { break };
            extra.push(index);
        }
        inquiry.end().await?;
        Ok(extra)
    }

    async fn unbind(&self, connection: &Connection, index: u16) -> Result<(), TopologyError> {
        let name = self.shard(index);
        let channel = channel(connection, &name).await?;
        for key in ["100", "#"] {
            let unbound = channel
                .queue_unbind(
                    name.as_str().into(),
                    self.main().into(),
                    key.into(),
                    FieldTable::default(),
                )
                .await;
            unbound.map_err(|error| self.explain(&name, error))?;
        }
        self.close(&channel).await
    }

    /// Deletes a shard that is empty and that nobody reads. Quorum queues do not know "if-empty",
    /// and what is ready says nothing of what a consumer holds unacked: so without any
    /// consumer, and unbound before the question.
    ///
    /// # Errors
    /// [`TopologyError`] when the broker does not answer.
    pub async fn retire(&self, connection: &Connection, index: u16) -> Result<bool, TopologyError> {
        self.unbind(connection, index).await?;
        let name = self.shard(index);
        if self
            .depth(connection, &name, &Untold::default())
            .await?
            .is_some_and(|depth| depth.ready > 0 || depth.consumers > 0)
        {
            return Ok(false);
        }
        let channel = channel(connection, &name).await?;
        let deleted =
            channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await;
        deleted.map_err(|error| self.explain(&name, error))?;
        self.close(&channel).await.map(|()| true)
    }

    pub(super) async fn close(&self, channel: &Channel) -> Result<(), TopologyError> {
        channel.close(200, "done".into()).await.map_err(|error| self.explain(self.main(), error))
    }

    pub(super) fn explain(&self, name: &str, error: lapin::Error) -> TopologyError {
        let name = name.to_owned();
        let ErrorKind::ProtocolError(amqp) = error.kind() else {
            return TopologyError::Broker { name, source: error };
        };
        let detail = amqp.get_message().to_string();
        match amqp.kind() {
            AMQPErrorKind::Hard(AMQPHardError::COMMANDINVALID)
                if detail.contains("exchange type") =>
            {
                TopologyError::PluginMissing(self.shards)
            }
            AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED)
                if detail.contains("exchange type") =>
            {
                TopologyError::PluginMissing(self.shards)
            }
            AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => {
                TopologyError::Different { name, detail }
            }
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => {
                TopologyError::Forbidden { name, detail }
            }
            _ => TopologyError::Broker { name, source: error },
        }
    }
}

pub(super) async fn channel(connection: &Connection, name: &str) -> Result<Channel, TopologyError> {
    connection
        .create_channel()
        .await
        .map_err(|source| TopologyError::Broker { name: name.to_owned(), source })
}

pub(super) fn is_not_found(error: &lapin::Error) -> bool {
    let ErrorKind::ProtocolError(amqp) = error.kind() else { return false };
    matches!(amqp.kind(), AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND))
}

fn table(arguments: &[(&'static str, Value)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        let value = match value {
            Value::String(text) => AMQPValue::LongString(text.as_str().into()),
            Value::Bool(flag) => AMQPValue::Boolean(*flag),
            other => AMQPValue::LongLongInt(other.as_i64().unwrap_or_default()),
        };
        table.insert((*name).into(), value);
    }
    table
}
