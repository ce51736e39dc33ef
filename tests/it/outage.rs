//! An outage costs no retries but those of the hits that met it.

use std::time::{Duration, Instant};

use anyhow::ensure;

use dnma_relay::domain::books::{BalanceRecord, Books, StatementRow};
use dnma_relay::service::Service;
use dnma_relay::service::config::Settings;
use tokio_util::sync::CancellationToken;

use crate::Scene;
use crate::support::matomo::Situation;
use crate::support::worker::client;
use crate::support::{eventually, hits};

pub(crate) async fn thirty_seconds_cost_only_what_was_in_flight(
    mut scene: Scene,
) -> anyhow::Result<()> {
    scene.matomo.ledger().per_request = Duration::from_millis(20);
    let (concurrency, bulk) = (8, 50);
    let worker = scene.worker(&[("RETRY_DELAYS", "2s,4s")]).await?;
    scene.queues.publish(hits::load(0..5_000, 500)).await?;
    eventually("hits flow", Duration::from_secs(30), async || scene.matomo.stored() > 1_000)
        .await?;
    scene.matomo.stop_listening();
    scene.matomo.set(Situation::BadGateway);
    let down = Instant::now();
    scene.queues.publish(hits::load(5_000..10_000, 500)).await?;
    worker.until("outage_seconds", Duration::from_secs(10), |away| away > 0.0).await?;
    let stored_before = scene.matomo.stored();
    // What an outage costs depends on how long it lasts, so it lasts as long as the test says.
    tokio::time::sleep(Duration::from_secs(30).saturating_sub(down.elapsed())).await;
    let waiting = scene.queues.ready_in_shards(8).await?;
    ensure!(waiting > 3_000, "only {waiting} hits wait in the shards");
    ensure!(scene.queues.ready("parked").await? == 0, "an outage of 30 s parked hits");
    let retried = worker.sum("retried_total").await?;
    let free = worker
        .metrics()
        .await?
        .iter()
        .filter(|(name, _)| name.starts_with("dnma_relay_retried_total{attempt=\"0\""))
        .map(|(_, n)| n)
        .sum::<f64>();
    ensure!(
        retried - free <= f64::from(concurrency * bulk),
        "{} hits spent a retry, {} were in flight",
        retried - free,
        concurrency * bulk
    );
    ensure!(
        scene.matomo.stored() <= stored_before + (concurrency * bulk) as usize,
        "Matomo was not away"
    );
    scene.matomo.set(Situation::Fine);
    scene.matomo.listen_again().await?;
    let back = Instant::now();
    let before = scene.matomo.stored();
    eventually("delivery resumes", Duration::from_secs(10), async || {
        scene.matomo.stored() > before
    })
    .await?;
    println!(
        "delivery resumed {:.1} s after Matomo's return; {} retries spent, {free} probes",
        back.elapsed().as_secs_f64(),
        retried - free
    );
    eventually("everything is stored", Duration::from_secs(60), async || {
        scene.matomo.copies().len() == 10_000
    })
    .await?;
    ensure!(scene.queues.ready("parked").await? == 0, "hits were parked");
    worker.stop().await
}

pub(crate) async fn retry_after_is_honoured(scene: Scene) -> anyhow::Result<()> {
    let worker = scene.worker(&[("RETRY_DELAYS", "1s")]).await?;
    scene.matomo.set(Situation::TooManyRequests(4));
    let visitor = hits::visitor(1);
    scene
        .queues
        .publish([(visitor.clone(), hits::valid(&visitor, "first").to_string().into_bytes())])
        .await?;
    eventually("it is sent", Duration::from_secs(10), async || scene.matomo.ledger().requests == 1)
        .await?;
    let refused = Instant::now();
    scene.matomo.set(Situation::Fine);
    eventually("it is stored", Duration::from_secs(20), async || scene.matomo.stored() == 1)
        .await?;
    ensure!(
        refused.elapsed() > Duration::from_millis(3_500),
        "sent again after {:?}",
        refused.elapsed()
    );
    worker.stop().await
}

/// In this process, because the five minutes of patience are no setting.
pub(crate) async fn a_long_one_gives_hits_back(scene: Scene) -> anyhow::Result<()> {
    let url = scene.matomo.url();
    let vars = [
        ("AMQP_URL", scene.broker.url.as_str()),
        ("QUEUE_PREFIX", &scene.prefix),
        ("MATOMO_URL", &url),
        ("HTTP_LISTEN", "127.0.0.1:0"),
        ("QUEUE_SHARDS", "4"),
        ("RETRY_DELAYS", "1s,2s"),
    ];
    let mut settings =
        Settings::from_vars(vars.map(|(name, value)| (name.to_owned(), value.to_owned())))?;
    settings.matomo.hold = Duration::from_secs(3);
    let service = Service::build(settings).await?;
    let address = service.http_address()?;
    let stop = CancellationToken::new();
    let running = tokio::spawn(service.run(stop.clone()));
    eventually("the topology is there", Duration::from_secs(20), async || {
        let visitor = hits::visitor(0);
        let first = [(visitor.clone(), hits::valid(&visitor, "first").to_string().into_bytes())];
        scene.queues.channel().status().connected()
            && scene.queues.exists("parked").await
            && scene.queues.publish(first).await.is_ok()
    })
    .await?;
    eventually("hits flow", Duration::from_secs(20), async || scene.matomo.stored() == 1).await?;
    scene.matomo.set(Situation::BadGateway);
    let count = 300;
    scene.queues.publish(hits::load(0..count, 100)).await?;
    eventually("the worker takes them", Duration::from_secs(10), async || {
        scene.queues.ready_in_shards(4).await.is_ok_and(|ready| ready < 50)
    })
    .await?;
    eventually(
        "they go back, all but what is probed or waits for a retry",
        Duration::from_secs(20),
        async || scene.queues.ready_in_shards(4).await.is_ok_and(|ready| ready > count - 50),
    )
    .await?;
    let requests = scene.matomo.ledger().requests;
    eventually("probes go on", Duration::from_secs(30), async || {
        scene.matomo.ledger().requests > requests
    })
    .await?;
    ensure!(scene.queues.ready("parked").await? == 0, "an outage parked hits");
    scene.matomo.set(Situation::Fine);
    eventually("everything is stored", Duration::from_secs(30), async || {
        scene.matomo.copies().len() == count + 1
    })
    .await?;
    ensure!(scene.matomo.stored() == count + 1, "a hit was stored twice");
    ensure!(scene.matomo.ledger().overlaps == 0, "one visitor was in two requests");
    // A hit that was given back and taken again entered once.
    let books: Books = serde_json::from_str(
        &client()?.get(format!("http://{address}/books.json")).send().await?.text().await?,
    )?;
    let released: u64 = books.accounts.iter().map(|account| account.figures.released).sum();
    let total = BalanceRecord::new(books.at, vec![books], None).balance(None).total;
    let row = StatementRow {
        entered: count as i64 + 1,
        delivered: total.delivered,
        in_flight: total.in_flight,
        // A process that dies with a 502 has stored now and then. What was given back was not sent.
        doubtful: total.doubtful,
        ..StatementRow::default()
    };
    ensure!((0..50).contains(&total.doubtful), "{} hits in doubt", total.doubtful);
    ensure!(
        released > 200 && total.closes() && total == row,
        "{released} were given back: {total:?}"
    );
    stop.cancel();
    running.await?
}
