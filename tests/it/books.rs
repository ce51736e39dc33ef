//! The books close: every hit is in exactly one place.

use std::time::Duration;

use anyhow::ensure;

use crate::Scene;
use crate::support::books::{Allowed, Books, EIGHT_SHARDS};
use crate::support::worker::until;
use crate::support::{eventually, report};

const HITS: usize = 20_000;
const VISITORS: usize = 2_000;

/// Most hits that a worker with the default settings holds unacked.
pub(crate) const PREFETCH: usize = 4 * IN_REQUESTS;

/// Most hits that such a worker has in requests under way.
const IN_REQUESTS: usize = 8 * 50;

/// Most hits that are stored twice when such a worker dies: those in requests, and as many that
/// were answered and whose acks were not sent.
pub(crate) const REPEATED: usize = 2 * IN_REQUESTS;

pub(crate) async fn each_hit_once_and_in_order(scene: Scene) -> anyhow::Result<()> {
    scene.matomo.ledger().per_request = Duration::from_millis(20);
    // All of it waits before the first worker comes, however slow this machine is.
    scene.declare(&[]).await?;
    let mut books = Books::default();
    scene.queues.publish(books.load(HITS, VISITORS)).await?;
    // A broker on a slow disk gives the default prefetch out in drops, and drops are no backlog.
    let deep = [("QUEUE_PREFETCH", "8000")];
    let workers =
        [scene.worker(&deep).await?, scene.worker(&deep).await?, scene.worker(&deep).await?];
    eventually("every hit is stored", Duration::from_secs(120), async || {
        scene.matomo.stored() >= HITS
    })
    .await?;
    // The workers count as many.
    until(&workers, "delivered_total", Duration::from_secs(10), |n| n as usize == HITS).await?;
    for worker in workers {
        worker.stop().await?;
    }
    let balance = books.balance(&scene.matomo, &scene.queues, &EIGHT_SHARDS).await?;
    report::record("no fault, three workers", 1, &balance, Allowed::default())?;
    balance.all_delivered()?;
    {
        let ledger = scene.matomo.ledger();
        ensure!(ledger.moved == 0, "Matomo moved {} hits to its own time", ledger.moved);
        ensure!(
            ledger.requests < (HITS / 10) as u64,
            "{} requests: a backlog goes in bulks",
            ledger.requests
        );
    }
    Ok(())
}

pub(crate) async fn a_killed_worker_loses_nothing(scene: Scene) -> anyhow::Result<()> {
    scene.matomo.ledger().per_request = Duration::from_millis(20);
    let victim = scene.worker(&[]).await?;
    let others = [scene.worker(&[]).await?, scene.worker(&[]).await?];
    let mut books = Books::default();
    scene.queues.publish(books.load(HITS, VISITORS)).await?;
    eventually("half of it is stored", Duration::from_secs(120), async || {
        scene.matomo.stored() >= HITS / 2
    })
    .await?;
    victim.kill9().await?;
    eventually("every hit is stored", Duration::from_secs(120), async || {
        scene.matomo.copies().len() >= HITS
    })
    .await?;
    for worker in others {
        worker.stop().await?;
    }
    let balance = books.balance(&scene.matomo, &scene.queues, &EIGHT_SHARDS).await?;
    // What it had sent goes on in Matomo while the next worker gets it again.
    let allowed = Allowed { repeated: REPEATED, out_of_order: PREFETCH, overlaps: REPEATED };
    report::record("kill -9 of one worker of three", 1, &balance, allowed)?;
    balance.all_delivered()
}
