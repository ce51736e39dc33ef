//! SIGTERM: what is in flight settles, and nothing is lost or repeated.

use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::Scene;
use crate::books::PREFETCH;
use crate::drill::{self, PLACES, SMALL, broker_address};
use crate::refusals::broken;
use crate::support::books::{Allowed, Books, EIGHT_SHARDS, at_rest};
use crate::support::cable::{Cable, Fault};
use crate::support::{eventually, hits, report};

const SOON: Duration = Duration::from_secs(30);

/// A small worker's `MATOMO_TIMEOUT`, and the ten seconds that it may take beyond it.
const DRAIN_LIMIT: Duration = Duration::from_secs(2 + 10);

pub(crate) async fn sigterm_under_load(scene: Scene) -> anyhow::Result<()> {
    scene.matomo.ledger().per_request = Duration::from_millis(100);
    let count = 5_000;
    scene.declare(&[]).await?;
    let mut books = Books::default();
    scene.queues.publish(books.load(count, 500)).await?;
    let mut worker = scene.worker(&[]).await?;
    eventually("hits flow", Duration::from_secs(30), async || scene.matomo.stored() > 500).await?;
    worker.drain(Duration::from_secs(20)).await?;
    let stored = scene.matomo.stored();
    ensure!(stored < count, "all was delivered before the signal: the test shows nothing");
    // The broker takes acks and gives hits back when its disk has written so, which may be after
    // the worker has left.
    let waiting =
        async || scene.queues.ready_in_shards(8).await.is_ok_and(|ready| ready == count - stored);
    let came_back =
        eventually("what is not stored waits again", Duration::from_secs(30), waiting).await;
    let balance = books.balance(&scene.matomo, &scene.queues, &EIGHT_SHARDS).await?;
    ensure!(
        came_back.is_ok() && balance.lost == 0 && balance.waiting == count - stored,
        "of {stored} stored: {balance}: {}",
        worker.log()
    );
    let next = scene.worker(&[]).await?;
    eventually("everything is stored", Duration::from_secs(60), async || {
        scene.matomo.stored() >= count
    })
    .await?;
    next.stop().await?;
    let balance = books.balance(&scene.matomo, &scene.queues, &EIGHT_SHARDS).await?;
    report::record(
        "SIGTERM under load",
        1,
        &balance,
        Allowed { out_of_order: PREFETCH, ..Allowed::default() },
    )?;
    balance.all_delivered()
}

/// A request is given up after `MATOMO_TIMEOUT`, also at the end.
pub(crate) async fn a_silent_matomo_holds_nobody_up(scene: Scene) -> anyhow::Result<()> {
    let count = 200;
    scene.declare(&SMALL).await?;
    let mut books = Books::default();
    scene.queues.publish(books.load(count, 50)).await?;
    scene.matomo.ledger().per_request = Duration::from_secs(300);
    let mut worker = scene.worker(&SMALL).await?;
    eventually("requests are under way", SOON, async || scene.matomo.ledger().requests > 0).await?;
    worker.drain(DRAIN_LIMIT).await?;
    come_back(&scene, count).await?;
    let balance = books.balance(&scene.matomo, &scene.queues, &PLACES).await?;
    ensure!(balance.lost == 0 && balance.parked == 0 && balance.delivered == 0, "{balance}");
    Ok(())
}

/// A broker that answers nothing any more leaves nothing to settle with.
pub(crate) async fn a_drain_that_takes_too_long_says_so(scene: Scene) -> anyhow::Result<()> {
    let count = 400;
    scene.matomo.ledger().per_request = Duration::from_millis(500);
    let mut books = Books::default();
    let mut cable = Cable::to(broker_address(&scene)?).await?;
    let url = format!("amqp://guest:guest@127.0.0.1:{}/%2f", cable.port());
    let mut worker = scene.worker(&[&SMALL[..], &[("AMQP_URL", &url)]].concat()).await?;
    scene.queues.publish(books.load(count, 100)).await?;
    eventually("hits flow", SOON, async || scene.matomo.stored() > 0).await?;
    cable.set(Fault::Frozen);
    let asked = Instant::now();
    worker.signal("TERM")?;
    let status = worker.wait(DRAIN_LIMIT + Duration::from_secs(10)).await?;
    let took = asked.elapsed();
    ensure!(
        status.code() == Some(1) && worker.log().contains("draining took longer than 12 s"),
        "{status}: {}",
        worker.log()
    );
    ensure!(took > DRAIN_LIMIT, "it gave up after {took:?}");
    // The line is gone with the worker, and the broker gives back what has no ack.
    cable.cut().await;
    scene.matomo.ledger().per_request = Duration::ZERO;
    let next = scene.worker(&SMALL).await?;
    let matomo = &scene.matomo;
    at_rest(count, matomo, &scene.queues, &PLACES, &[&next], Duration::from_secs(60)).await?;
    next.stop().await?;
    let balance = books.balance(matomo, &scene.queues, &PLACES).await?;
    balance.check(Allowed {
        repeated: drill::PREFETCH,
        out_of_order: drill::PREFETCH,
        overlaps: 0,
    })?;
    balance.all_delivered()
}

pub(crate) async fn a_second_signal_stops_at_once(scene: Scene) -> anyhow::Result<()> {
    let count = 100;
    scene.matomo.ledger().per_request = Duration::from_secs(300);
    scene.declare(&[]).await?;
    scene.queues.publish(hits::load(0..count, 50)).await?;
    let mut worker = scene.worker(&[("MATOMO_TIMEOUT", "60s")]).await?;
    eventually("requests are under way", SOON, async || scene.matomo.ledger().requests > 0).await?;
    worker.signal("TERM")?;
    worker.until_it_says("a second signal stops at once", SOON).await?;
    ensure!(worker.is_running()?, "one signal was enough: {}", worker.log());
    let asked = Instant::now();
    worker.signal("TERM")?;
    let status = worker.wait(SOON).await?;
    let took = asked.elapsed();
    ensure!(took < Duration::from_secs(2), "it took {took:?}");
    ensure!(
        status.code() == Some(1) && worker.log().contains("stopped at once"),
        "{status}: {}",
        worker.log()
    );
    come_back(&scene, count).await
}

/// The broker gives hits back after the worker has left.
async fn come_back(scene: &Scene, count: usize) -> anyhow::Result<()> {
    let all = async || {
        let mut waiting = scene.queues.ready_in_shards(8).await?;
        for delay in PLACES.delays {
            waiting += scene.queues.ready(&format!("retry.{delay}")).await?;
        }
        anyhow::Ok(waiting == count)
    };
    eventually("all wait again", SOON, async || all().await.unwrap_or(false)).await
}

/// A broker that takes no hits takes none at the end either: they stay with it.
pub(crate) async fn a_refusal_ends_with_the_worker(_shared: Scene) -> anyhow::Result<()> {
    let scene = Scene::on_a_broker_of_its_own("shutdown.refusal").await?;
    let mut books = Books::default();
    let worker = scene.worker(&SMALL).await?;
    scene.queues.publish((0..3).map(|n| broken(&mut books, n))).await?;
    worker.until("rejected_total", SOON, |n| n == 3.0).await?;
    scene.broker.limit(&format!("{}.rejected", scene.prefix), 1).await?;
    worker.stop().await?;

    let mut worker = scene.worker(&SMALL).await?;
    scene.queues.publish((3..8).map(|n| broken(&mut books, n))).await?;
    worker.until("refused_publishes_total", SOON, |n| n > 0.0).await?;
    worker.drain(DRAIN_LIMIT).await?;
    come_back(&scene, 5).await?;
    let balance = books.balance(&scene.matomo, &scene.queues, &PLACES).await?;
    ensure!(balance.lost == 0 && balance.rejected == 3 && balance.waiting == 5, "{balance}");
    Ok(())
}

/// Over a line on which all that a worker asks of the broker before it works takes half a minute.
async fn stops_while_it_asks(scene: Scene, vars: &[(&str, &str)]) -> anyhow::Result<()> {
    let cable = Cable::to(broker_address(&scene)?).await?;
    let url = format!("amqp://guest:guest@127.0.0.1:{}/%2f", cable.port());
    // Slow enough that there is a moment between the session and its subscriptions.
    cable.set(Fault::Delayed(Duration::from_millis(50)));
    let vars = [&SMALL[..], vars, &[("AMQP_URL", url.as_str())]].concat();
    let mut worker = scene.worker(&vars).await?;
    cable.set(Fault::Delayed(Duration::from_millis(700)));
    ensure!(worker.sum("shards_subscribed").await? == 0.0, "it has all that it asked for");
    worker.drain(DRAIN_LIMIT).await
}

pub(crate) async fn a_worker_that_subscribes_can_be_stopped(scene: Scene) -> anyhow::Result<()> {
    stops_while_it_asks(scene, &[]).await
}

pub(crate) async fn a_worker_that_asks_for_extra_shards_can_be_stopped(
    scene: Scene,
) -> anyhow::Result<()> {
    scene.declare(&[("QUEUE_SHARDS", "16")]).await?;
    stops_while_it_asks(scene, &[("QUEUE_SHARDS", "2")]).await
}
