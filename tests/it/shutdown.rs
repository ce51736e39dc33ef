//! SIGTERM: what is in flight settles, and nothing is lost or repeated.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::Scene;
use crate::support::{eventually, hits};

pub(crate) async fn sigterm_under_load(scene: Scene) -> anyhow::Result<()> {
    scene.matomo.ledger().per_request = Duration::from_millis(100);
    let count = 5_000;
    let mut worker = scene.worker(&[]).await?;
    scene.queues.publish(hits::load(0..count, 500)).await?;
    eventually("hits flow", Duration::from_secs(30), async || scene.matomo.stored() > 500).await?;
    let asked = Instant::now();
    worker.signal("TERM")?;
    let status = worker.wait(Duration::from_secs(20)).await?;
    ensure!(status.success(), "{status}: {}", worker.log());
    println!("stopped within {:.2} s of SIGTERM", asked.elapsed().as_secs_f64());
    let stored = scene.matomo.stored();
    ensure!(stored < count, "all was delivered before the signal: the test shows nothing");
    let back = async || scene.queues.ready_in_shards(8).await.unwrap_or(0);
    eventually("the rest is back", Duration::from_secs(10), async || back().await == count - stored)
        .await
        .with_context(|| format!("{stored} of {count} were stored, {} later", scene.matomo.stored()))
        .with_context(|| worker.log())?;
    let next = scene.worker(&[]).await?;
    eventually("everything is stored", Duration::from_secs(60), async || scene.matomo.stored() >= count).await?;
    next.stop().await?;
    let copies = scene.matomo.copies();
    ensure!(copies.len() == count && copies.values().all(|copies| *copies == 1), "lost or repeated");
    ensure!(scene.matomo.ledger().overlaps == 0, "one visitor was in two hands");
    Ok(())
}
