//! SIGTERM: what is in flight settles, and nothing is lost or repeated.

use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::Scene;
use crate::books::PREFETCH;
use crate::support::books::{Allowed, Books, EIGHT_SHARDS};
use crate::support::{eventually, report};

pub(crate) async fn sigterm_under_load(scene: Scene) -> anyhow::Result<()> {
    scene.matomo.ledger().per_request = Duration::from_millis(100);
    let count = 5_000;
    scene.declare(&[]).await?;
    let mut books = Books::default();
    scene.queues.publish(books.load(count, 500)).await?;
    let mut worker = scene.worker(&[]).await?;
    eventually("hits flow", Duration::from_secs(30), async || scene.matomo.stored() > 500).await?;
    let asked = Instant::now();
    worker.signal("TERM")?;
    let status = worker.wait(Duration::from_secs(20)).await?;
    ensure!(status.success(), "{status}: {}", worker.log());
    println!("stopped within {:.2} s of SIGTERM", asked.elapsed().as_secs_f64());
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
