//! The broker goes away and comes back.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};

use dnma_relay::domain::books::{self as account, BalanceRecord};

use crate::Scene;
use crate::books::{PREFETCH, REPEATED};
use crate::drill::{self, Drill};
use crate::support::books::{Allowed, Books, EIGHT_SHARDS, at_rest};
use crate::support::rabbitmq::Broker;
use crate::support::{eventually, report};

pub(crate) async fn a_restart_under_load(_shared: Scene) -> anyhow::Result<()> {
    let mut broker = Broker::start_own().await?;
    let count = 5_000;
    let url = broker.url.clone();
    let scene = Scene::new(Arc::new(Broker::given(&broker)), "restart").await?;
    scene.matomo.ledger().per_request = Duration::from_millis(50);
    let workers = [scene.worker(&[]).await?, scene.worker(&[]).await?];
    let mut books = Books::default();
    scene.queues.publish(books.load(count, 500)).await?;
    eventually("hits flow", Duration::from_secs(30), async || scene.matomo.stored() > 500).await?;
    broker.kill().await?;
    workers[0].until("broker_up", Duration::from_secs(30), |up| up == 0.0).await?;
    ensure!(
        matches!(workers[0].get("/livez").await, Ok((200, _))),
        "a broker that is away is no reason for a restart"
    );
    ensure!(matches!(workers[0].get("/readyz").await, Ok((200, _))), "readiness is a latch");
    broker.revive().await?;
    eventually("everything is stored", Duration::from_secs(120), async || {
        scene.matomo.copies().len() == count
    })
    .await?;
    let queues = crate::support::queues::Queues::connect(&url, &scene.prefix)
        .await
        .context("the broker is back")?;
    let within = Duration::from_secs(30);
    at_rest(count, &scene.matomo, &queues, &EIGHT_SHARDS, &workers, within).await?;
    let mut accounts = Vec::new();
    for worker in &workers {
        accounts.push(serde_json::from_str::<account::Books>(&worker.get("/books.json").await?.1)?);
    }
    let total = BalanceRecord::new(jiff::Timestamp::now(), accounts, None).balance(None).total;
    // Counted as often as Matomo has them: a hit whose ack died with the broker may be there twice.
    let stored = scene.matomo.stored() as i64;
    ensure!(
        total.closes() && total.delivered == stored,
        "{stored} were stored, the workers tell {total:?}"
    );
    for worker in workers {
        ensure!(worker.log().contains("lost the session with RabbitMQ"), "{}", worker.log());
        worker.stop().await?;
    }
    let balance = books.balance(&scene.matomo, &queues, &EIGHT_SHARDS).await?;
    // An ack that died with the broker, of a hit that goes to the other worker then: that one
    // cannot know.
    let allowed =
        Allowed { repeated: 2 * REPEATED, out_of_order: 2 * PREFETCH, overlaps: 2 * REPEATED };
    report::record("RabbitMQ is killed and started again, two workers", 1, &balance, allowed)?;
    balance.all_delivered()
}

/// Matomo takes longer for a request than the broker lets anybody hold a hit: it takes all hits of
/// the shard back. The versions differ in how they tell.
pub(crate) async fn a_consumer_timeout_loses_nothing(_shared: Scene) -> anyhow::Result<()> {
    let broker = Broker::start_with_configuration("consumer_timeout = 5000\n").await?;
    broker.look_for_timeouts().await?;
    let mut drill = Drill::new(Scene::new(Arc::new(broker), "consumer-timeout").await?);
    let worker = drill.worker(&[("MATOMO_TIMEOUT", "60s")]).await?;
    drill.publish(200).await?;
    drill.flow(200).await?;
    drill.scene.matomo.ledger().per_request = Duration::from_secs(15);
    drill.publish(400).await?;
    worker.until("broker_sessions_total", Duration::from_secs(60), |n| n >= 2.0).await?;
    drill.scene.matomo.ledger().per_request = Duration::from_millis(40);
    // What was under way is sent again where its shard came back before Matomo answered.
    let most = 4 * drill::PREFETCH;
    let allowed = Allowed { repeated: most, out_of_order: most, overlaps: most };
    drill.close(vec![worker], "Matomo outlasts RabbitMQ's consumer timeout", 1, allowed).await
}
