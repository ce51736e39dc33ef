//! Hits that are over 24 h old go with the token, and are hits like others: they go side by side,
//! and hold up nobody who wants to stop.

use std::time::Duration;

use anyhow::ensure;

use crate::Scene;
use crate::support::{eventually, hits};

const SOON: Duration = Duration::from_secs(60);

/// Hits of a visitor each, too old to go without the token.
fn old(visitors: std::ops::Range<usize>) -> impl Iterator<Item = (String, Vec<u8>)> {
    let then = jiff::Timestamp::now().as_second() - 90_000;
    visitors.map(move |number| {
        let visitor = hits::visitor(number);
        let hit = hits::valid_at(&visitor, &format!("old {number}"), then);
        (visitor, hit.to_string().into_bytes())
    })
}

/// A good token is tried by one request; what comes after it need not go in single file.
pub(crate) async fn a_good_token_goes_in_several_requests_at_once(
    scene: Scene,
) -> anyhow::Result<()> {
    scene.matomo.ledger().token = Some("good".to_owned());
    let worker = scene.worker(&[("MATOMO_TOKEN_AUTH", "good"), ("MATOMO_BULK_SIZE", "10")]).await?;
    scene.queues.publish(old(0..1)).await?;
    eventually("the token is accepted", SOON, async || scene.matomo.stored() == 1).await?;
    scene.matomo.ledger().per_request = Duration::from_millis(200);
    scene.queues.publish(old(1..401)).await?;
    eventually("all are stored", SOON, async || scene.matomo.stored() == 401).await?;
    let most = scene.matomo.ledger().most_under_way;
    ensure!(most > 1, "{most} request with the token at a time, of 8 lanes that had some");
    worker.stop().await
}

/// Whoever waits for the token hears that the worker is to stop.
pub(crate) async fn old_hits_wait_for_no_token_at_the_end(scene: Scene) -> anyhow::Result<()> {
    const HITS: usize = 80;
    const LIMIT: Duration = Duration::from_secs(3 + 10);
    {
        let mut ledger = scene.matomo.ledger();
        ledger.token = Some("good".to_owned());
        // As many requests as there are lanes take longer than the drain may.
        ledger.per_request = Duration::from_millis(2_500);
    }
    scene.declare(&[]).await?;
    scene.queues.publish(old(0..HITS)).await?;
    let mut worker =
        scene.worker(&[("MATOMO_TOKEN_AUTH", "good"), ("MATOMO_TIMEOUT", "3s")]).await?;
    worker.until("received_total", SOON, |n| n as usize == HITS).await?;
    eventually("one is under way", SOON, async || scene.matomo.ledger().requests > 0).await?;
    worker.drain(LIMIT).await?;
    let stored = scene.matomo.stored();
    eventually("what is not stored waits again", SOON, async || {
        scene.queues.ready_in_shards(8).await.is_ok_and(|ready| ready == HITS - stored)
    })
    .await
}
