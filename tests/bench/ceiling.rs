//! The ceiling: bare lapin takes the same messages from the same shards, acknowledges them and does
//! nothing else.

use std::sync::Arc;

use anyhow::Context;
use futures_util::{FutureExt, StreamExt};
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties, Consumer};

use super::sink::{self, Behaviour, Sink};

/// `bench ceiling QUEUES PREFETCH EVERY`: counts as a sink does, so that it is watched in the same
/// way.
pub async fn process(arguments: &[String]) -> anyhow::Result<()> {
    let [queues, prefetch, every] = arguments else {
        anyhow::bail!("ceiling QUEUES PREFETCH EVERY")
    };
    let (prefetch, every): (u16, usize) = (prefetch.parse()?, every.parse()?);
    let url = std::env::var("AMQP_URL").context("AMQP_URL")?;
    let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
    let sink = Arc::new(Sink::new(Behaviour::default()));
    for queue in queues.split(',') {
        let channel = connection.create_channel().await?;
        channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
        let consumer = channel
            .basic_consume(
                queue.into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await?;
        tokio::spawn(consume(consumer, every, sink.clone()));
    }
    sink::serve(sink).await
}

/// Acks `every` so many together, and what there is when nothing more waits.
async fn consume(mut consumer: Consumer, every: usize, sink: Arc<Sink>) -> anyhow::Result<()> {
    let multiple = BasicAckOptions { multiple: every > 1 };
    let mut held = 0;
    while let Some(delivery) = consumer.next().await {
        let mut delivery = delivery?;
        held += 1;
        while held < every {
            match consumer.next().now_or_never() {
                Some(Some(next)) => (delivery, held) = (next?, held + 1),
                _ => break,
            }
        }
        delivery.acker.ack(multiple).await?;
        let mut tally = sink.tally.lock().expect("nobody panics with it");
        (tally.stored, tally.copies) = (tally.stored + held as u64, tally.copies + held as u64);
        if tally.first == 0 {
            tally.first = sink::now();
        }
        held = 0;
    }
    Ok(())
}
