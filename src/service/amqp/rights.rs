//! What the AMQP user may do, tried without publishing a message and without taking one.

use lapin::options::{BasicGetOptions, BasicNackOptions, BasicPublishOptions};
use lapin::{BasicProperties, Connection};

/// Whether the user may publish to an exchange: tried in a transaction that is never committed.
///
/// # Errors
/// What the broker says.
pub async fn may_publish(connection: &Connection, exchange: &str) -> Result<(), lapin::Error> {
    let channel = connection.create_channel().await?;
    channel.tx_select().await?;
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    let key = "check".into();
    drop(channel.basic_publish(exchange.into(), key, options, b"", properties).await?);
    channel.tx_rollback().await?;
    channel.close(200, "done".into()).await
}

/// Whether the user may read a queue: a message that is taken goes back, which counts as a
/// delivery.
///
/// # Errors
/// What the broker says.
pub async fn may_read(connection: &Connection, queue: &str) -> Result<(), lapin::Error> {
    let channel = connection.create_channel().await?;
    if let Some(taken) = channel.basic_get(queue.into(), BasicGetOptions::default()).await? {
        let back = BasicNackOptions { requeue: true, ..Default::default() };
        taken.delivery.acker.nack(back).await?;
    }
    channel.close(200, "done".into()).await
}
