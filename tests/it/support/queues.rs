//! The test's own eyes and hands on the broker.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context;
use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};

pub struct Queues {
    connection: Connection,
    channel: Channel,
    prefix: String,
}

/// A message as it lies in a queue.
#[derive(Debug, Clone)]
pub struct Message {
    pub body: Vec<u8>,
    pub key: String,
    pub headers: HashMap<String, String>,
    pub properties: BasicProperties,
}

impl Message {
    fn of(delivery: Delivery) -> Self {
        let headers = delivery
            .properties
            .headers()
            .iter()
            .flat_map(FieldTable::inner)
            .map(|(k, v)| (k.to_string(), show(v)));
        Self {
            headers: headers.collect(),
            key: delivery.routing_key.to_string(),
            properties: delivery.properties.clone(),
            body: delivery.data,
        }
    }
}

impl Queues {
    pub async fn connect(url: &str, prefix: &str) -> anyhow::Result<Self> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Self { connection, channel, prefix: prefix.to_owned() })
    }

    /// Publishes as an ENT should: persistent, mandatory, confirmed.
    pub async fn publish(
        &self,
        messages: impl IntoIterator<Item = (String, Vec<u8>)>,
    ) -> anyhow::Result<usize> {
        self.publish_with(messages, BasicProperties::default()).await
    }

    pub async fn publish_with(
        &self,
        messages: impl IntoIterator<Item = (String, Vec<u8>)>,
        properties: BasicProperties,
    ) -> anyhow::Result<usize> {
        let mut confirms = Vec::new();
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let mut count = 0;
        for (key, body) in messages {
            let properties = properties.clone().with_delivery_mode(2);
            confirms.push(
                self.channel
                    .basic_publish(
                        self.prefix.as_str().into(),
                        key.into(),
                        options,
                        &body,
                        properties,
                    )
                    .await?,
            );
            count += 1;
            if confirms.len() == 1_000 {
                settle(confirms.drain(..)).await?;
            }
        }
        settle(confirms).await?;
        Ok(count)
    }

    pub async fn exists(&self, suffix: &str) -> bool {
        let Ok(channel) = self.connection.create_channel().await else { return false };
        let passive = QueueDeclareOptions { passive: true, ..Default::default() };
        channel
            .queue_declare(
                format!("{}.{suffix}", self.prefix).into(),
                passive,
                FieldTable::default(),
            )
            .await
            .is_ok()
    }

    /// Messages ready in a queue (`parked`, `3`, `retry.2s`); 0 if there is no such queue.
    pub async fn ready(&self, suffix: &str) -> anyhow::Result<usize> {
        let channel = self.connection.create_channel().await?;
        let passive = QueueDeclareOptions { passive: true, ..Default::default() };
        match channel
            .queue_declare(
                format!("{}.{suffix}", self.prefix).into(),
                passive,
                FieldTable::default(),
            )
            .await
        {
            Ok(queue) => {
                channel.close(200, "".into()).await?;
                Ok(queue.message_count() as usize)
            }
            Err(_) => Ok(0),
        }
    }

    /// Whether no consumer is subscribed to a queue.
    pub async fn is_unread(&self, suffix: &str) -> anyhow::Result<bool> {
        let channel = self.connection.create_channel().await?;
        let passive = QueueDeclareOptions { passive: true, ..Default::default() };
        let queue = format!("{}.{suffix}", self.prefix);
        let queue = channel.queue_declare(queue.into(), passive, FieldTable::default()).await?;
        channel.close(200, "".into()).await?;
        Ok(queue.consumer_count() == 0)
    }

    pub async fn ready_in_shards(&self, shards: u16) -> anyhow::Result<usize> {
        let mut sum = 0;
        for shard in 0..shards {
            sum += self.ready(&shard.to_string()).await?;
        }
        Ok(sum)
    }

    /// Takes everything out of a queue.
    pub async fn take(&self, suffix: &str) -> anyhow::Result<Vec<Message>> {
        let mut messages = Vec::new();
        let name = format!("{}.{suffix}", self.prefix);
        while let Some(got) =
            self.channel.basic_get(name.as_str().into(), BasicGetOptions::default()).await?
        {
            got.delivery.acker.ack(BasicAckOptions::default()).await?;
            messages.push(Message::of(got.delivery));
        }
        Ok(messages)
    }

    /// Reads all that is ready in a queue and gives it back; nothing if there is no such queue.
    /// Works for shards too, which answer no `basic.get`.
    pub async fn list(&self, suffix: &str) -> anyhow::Result<Vec<Message>> {
        let ready = self.ready(suffix).await?;
        if ready == 0 {
            return Ok(Vec::new());
        }
        let channel = self.connection.create_channel().await?;
        // Without a limit, a quorum queue gives 2,000.
        channel.basic_qos(u16::MAX, BasicQosOptions::default()).await?;
        let name = format!("{}.{suffix}", self.prefix);
        let mut consumer = channel
            .basic_consume(
                name.into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await?;
        let mut messages = Vec::new();
        while messages.len() < ready {
            let next = tokio::time::timeout(Duration::from_secs(20), consumer.next()).await;
            let delivery = next
                .with_context(|| format!("{} of {ready} messages of {suffix}", messages.len()))?
                .context("closed")??;
            messages.push(Message::of(delivery));
        }
        channel.close(200, "looked".into()).await?;
        Ok(messages)
    }

    pub async fn delete(&self, suffix: &str) -> anyhow::Result<()> {
        let name = format!("{}.{suffix}", self.prefix);
        let channel = self.connection.create_channel().await?;
        channel.queue_delete(name.into(), QueueDeleteOptions::default()).await?;
        Ok(())
    }

    /// A broker that others use keeps nothing of us.
    pub async fn delete_all(&self) -> anyhow::Result<()> {
        let delays = ["1s", "2s", "4s", "600s", "1200s"].map(|delay| format!(".retry.{delay}"));
        let dead = delays.iter().cloned().chain([".parked".to_owned(), ".rejected".to_owned()]);
        let channel = self.connection.create_channel().await?;
        for suffix in dead
            .clone()
            .chain((0..16).map(|shard| format!(".{shard}")))
            .chain([".workers", ".workers.short"].map(str::to_owned))
        {
            channel
                .queue_delete(
                    format!("{}{suffix}", self.prefix).into(),
                    QueueDeleteOptions::default(),
                )
                .await?;
        }
        for suffix in dead.chain([String::new()]) {
            channel
                .exchange_delete(
                    format!("{}{suffix}", self.prefix).into(),
                    ExchangeDeleteOptions::default(),
                )
                .await?;
        }
        Ok(())
    }

    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    pub fn channel(&self) -> &Channel {
        &self.channel
    }
}

async fn settle(confirms: impl IntoIterator<Item = lapin::PublisherConfirm>) -> anyhow::Result<()> {
    for confirm in confirms {
        let confirmation = confirm.await?;
        anyhow::ensure!(
            matches!(confirmation, Confirmation::Ack(None)),
            "not taken: {confirmation:?}"
        );
    }
    Ok(())
}

fn show(value: &AMQPValue) -> String {
    match value {
        AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        AMQPValue::LongLongInt(number) => number.to_string(),
        other => format!("{other:?}"),
    }
}
