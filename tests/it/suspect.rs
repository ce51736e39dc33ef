//! A hit that ends its workers ends alone: its neighbours, which come back with it each time, are
//! delivered and never parked.

use std::time::Duration;

use anyhow::ensure;

use crate::Scene;
use crate::support::matomo::HitFault;
use crate::support::{eventually, hits};

const SOON: Duration = Duration::from_secs(30);

/// More than the hits of one prefetch, so that every life takes innocent ones with it.
const INNOCENT: usize = 300;

/// In place of 100, so that the test ends sooner.
const DELIVERY_LIMIT: usize = 30;

pub(crate) async fn it_does_not_take_its_neighbours_along(_shared: Scene) -> anyhow::Result<()> {
    let scene = Scene::on_a_broker_of_its_own("suspect").await?;
    let vars = [("QUEUE_SHARDS", "1"), ("MATOMO_CONCURRENCY", "2"), ("MATOMO_BULK_SIZE", "5")];
    scene.declare(&vars).await?;
    scene.broker.limit_deliveries(&format!("{}.0", scene.prefix), DELIVERY_LIMIT).await?;
    let poison = hits::visitor(9_999);
    let body = hits::valid(&poison, "poison").to_string().into_bytes();
    // Whoever sends it is dead before an answer comes.
    scene.matomo.ledger().faults.insert(poison.clone(), HitFault::Silence);
    scene.queues.publish([(poison, body)]).await?;
    scene.queues.publish(hits::load(0..INNOCENT, INNOCENT)).await?;

    scene.matomo.ledger().per_request = Duration::from_millis(50);
    let mut lives = 0;
    while scene.queues.ready("parked").await? == 0 {
        lives += 1;
        // What came back more often than that is parked. Each life gives it back once, and before
        // RabbitMQ 4.3 a hit that a worker releases counts too.
        ensure!(lives <= DELIVERY_LIMIT + 1, "the broker does not park it");
        let before = sendings(&scene);
        let worker = scene.worker(&vars).await?;
        let comes = eventually("it is sent, or gone", SOON, async || {
            sendings(&scene) > before
                || scene.queues.ready("parked").await.is_ok_and(|parked| parked > 0)
        });
        comes.await?;
        worker.kill9().await?;
        // The broker gives back what it held.
        eventually("nobody reads the shard", SOON, async || {
            scene.queues.is_unread("0").await.unwrap_or(false)
        })
        .await?;
    }
    println!("parked after {lives} lives");
    scene.matomo.ledger().per_request = Duration::ZERO;
    let worker = scene.worker(&vars).await?;
    eventually("its neighbours are stored", SOON, async || {
        let copies = scene.matomo.copies();
        copies.keys().filter(|id| *id != "poison").count() == INNOCENT
    })
    .await?;
    let parked = scene.queues.take("parked").await?;
    ensure!(parked.len() == 1, "{} were parked", parked.len());
    ensure!(parked[0].key == hits::visitor(9_999), "another was parked: {:?}", parked[0].headers);
    worker.stop().await
}

/// How often the hit was sent.
fn sendings(scene: &Scene) -> usize {
    scene.matomo.ledger().attempts.iter().filter(|(_, id)| id == "poison").count()
}
