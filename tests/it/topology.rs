//! Exchanges and queues: verified where they may not be declared, and differences named.

use std::time::Duration;

use anyhow::ensure;
use lapin::options::{ExchangeDeleteOptions, QueueDeclareOptions};
use lapin::types::FieldTable;

use crate::Scene;
use crate::support::matomo::HitFault;
use crate::support::queues::Queues;
use crate::support::rabbitmq::Broker;
use crate::support::{eventually, hits};

pub(crate) async fn what_is_there_is_verified(scene: Scene) -> anyhow::Result<()> {
    let worker = scene.start(&[("TOPOLOGY", "verify"), ("QUEUE_SHARDS", "2")]).await?;
    eventually("it lists what is missing", Duration::from_secs(20), async || {
        worker.log().contains("missing on the broker")
    })
    .await?;
    for missing in ["", ".0", ".1", ".retry.600s", ".retry.1200s", ".parked", ".rejected"] {
        ensure!(
            worker.log().contains(&format!("{}{missing}", scene.prefix)),
            "{missing} is not listed: {}",
            worker.log()
        );
    }
    ensure!(matches!(worker.get("/readyz").await?, (503, _)), "ready without queues");
    scene.declare(&[("QUEUE_SHARDS", "2")]).await?;
    worker.ready().await?;
    let visitor = hits::visitor(1);
    scene
        .queues
        .publish([(visitor.clone(), hits::valid(&visitor, "a page").to_string().into_bytes())])
        .await?;
    eventually("hits flow", Duration::from_secs(20), async || scene.matomo.stored() == 1).await?;
    worker.stop().await
}

pub(crate) async fn other_arguments_are_named(scene: Scene) -> anyhow::Result<()> {
    let channel = scene.queues.connection().create_channel().await?;
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    channel
        .queue_declare(format!("{}.parked", scene.prefix).into(), durable, FieldTable::default())
        .await?;
    let worker = scene.start(&[]).await?;
    let expected = format!("{}.parked exists with other arguments", scene.prefix);
    eventually("it names the queue", Duration::from_secs(20), async || {
        worker.log().contains(&expected)
    })
    .await?;
    ensure!(
        worker.log().contains("x-queue-type") && worker.log().contains("QUEUE_PREFIX"),
        "no remedy: {}",
        worker.log()
    );
    worker.stop().await
}

pub(crate) async fn without_the_plugin_one_shard_works(scene: Scene) -> anyhow::Result<()> {
    let broker = Broker::start_without_plugin().await?;
    let vars = [("AMQP_URL", broker.url.as_str())];
    let many = scene.start(&vars).await?;
    let named = async || {
        many.log().contains("rabbitmq-plugins enable rabbitmq_consistent_hash_exchange")
            && many.log().contains("QUEUE_SHARDS=1")
    };
    eventually("it names the plugin and the setting", Duration::from_secs(20), named).await?;
    many.stop().await?;
    let one = scene.worker(&[&vars[..], &[("QUEUE_SHARDS", "1")]].concat()).await?;
    let visitor = hits::visitor(1);
    let queues = Queues::connect(&broker.url, &scene.prefix).await?;
    queues
        .publish([(visitor.clone(), hits::valid(&visitor, "one shard").to_string().into_bytes())])
        .await?;
    eventually("hits flow", Duration::from_secs(20), async || scene.matomo.stored() == 1).await?;
    one.stop().await
}

/// Somebody deletes the main exchange while the worker works, and with it every binding.
pub(crate) async fn what_is_deleted_is_declared_again(scene: Scene) -> anyhow::Result<()> {
    const SOON: Duration = Duration::from_secs(30);
    let worker = scene.worker(&[("RETRY_DELAYS", "1s,600s")]).await?;
    let visitor = hits::visitor(1);
    scene.matomo.ledger().faults.insert(visitor.clone(), HitFault::Exception);
    let hit = |id: &str| (visitor.clone(), hits::valid(&visitor, id).to_string().into_bytes());
    let exchange = scene.prefix.as_str().into();
    scene.queues.channel().exchange_delete(exchange, ExchangeDeleteOptions::default()).await?;
    worker.until_it_says("somebody deleted", SOON).await?;
    worker.until_it_says("declared again", SOON).await?;
    ensure!(worker.sum("topology_missing").await? == 0.0, "it says that something is missing");
    ensure!(worker.sum("broker_sessions_total").await? == 1.0, "it took a new session");

    // Hits get in, and back from a retry queue.
    scene.queues.publish([hit("comes back")]).await?;
    worker.until("retried_total", SOON, |n| n == 2.0).await?;
    worker.accounts_for_all().await?;
    worker.stop().await
}
