//! Hits that are over 24 h old go with the token, and are hits like others: they go side by side,
//! and hold up nobody who wants to stop.

use std::time::Duration;

use anyhow::ensure;

use crate::Scene;
use crate::support::matomo::Situation;
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

/// One ENT's site that the token has no rights for costs another ENT nothing.
pub(crate) async fn a_refusal_rests_the_token_for_its_site_only(
    scene: Scene,
) -> anyhow::Result<()> {
    {
        let mut ledger = scene.matomo.ledger();
        ledger.token = Some("good".to_owned());
        ledger.sites.insert("2".to_owned());
        ledger.foreign_sites.insert("2".to_owned());
    }
    let worker =
        scene.worker(&[("MATOMO_TOKEN_AUTH", "good"), ("RETRY_DELAYS", "600s,600s")]).await?;
    let then = jiff::Timestamp::now().as_second() - 90_000;
    let foreign = (0..10).map(|number| {
        let visitor = hits::visitor(number);
        let hit = hits::valid_at(&visitor, &format!("foreign {number}"), then);
        let hit = hits::with(hit, "idsite", "2".into());
        (visitor, hit.to_string().into_bytes())
    });
    scene.queues.publish(foreign).await?;
    worker.until("retried_total", SOON, |n| n == 10.0).await?;
    scene.queues.publish(old(100..120)).await?;
    eventually("the other ENT's are stored", SOON, async || scene.matomo.stored() == 20).await?;
    let failed = scene.matomo.ledger().failed_tokens;
    ensure!(failed <= 4, "{failed} refused tokens: over 20 an hour lock the address out");
    let log = worker.log();
    ensure!(log.contains("rests for this site"), "{log}");
    worker.stop().await
}

/// Matomo answers 500 to whatever carries a token, and takes everything else.
pub(crate) async fn a_locked_out_address_delivers_what_needs_no_token(
    scene: Scene,
) -> anyhow::Result<()> {
    {
        let mut ledger = scene.matomo.ledger();
        ledger.token = Some("good".to_owned());
        ledger.failed_tokens = 21;
    }
    let worker = scene.worker(&[("MATOMO_TOKEN_AUTH", "good"), ("RETRY_DELAYS", "600s")]).await?;
    scene.queues.publish(hits::load(1_000..1_100, 100)).await?;
    eventually("what is fresh is stored", SOON, async || scene.matomo.stored() == 100).await?;
    let fresh = hits::load(1_100..1_200, 100);
    scene.queues.publish(old(0..50).chain(fresh)).await?;
    eventually("the other fresh ones are", SOON, async || scene.matomo.stored() == 200).await?;
    worker.until("retried_total", SOON, |n| n == 50.0).await?;
    let outage = worker.sum("outage_seconds").await?;
    ensure!(outage == 0.0, "the breaker opened for {outage} s");
    let log = worker.log();
    ensure!(log.contains("locked this address out"), "{log}");
    worker.stop().await
}

/// `bulk_requests_require_authentication`: the token goes with every bulk once that is known.
pub(crate) async fn where_no_bulk_goes_without_a_token_each_has_it(
    scene: Scene,
) -> anyhow::Result<()> {
    {
        let mut ledger = scene.matomo.ledger();
        ledger.token = Some("good".to_owned());
        ledger.bulks_need_token = true;
    }
    let worker = scene.worker(&[("MATOMO_TOKEN_AUTH", "good"), ("RETRY_DELAYS", "1s,1s")]).await?;
    scene.queues.publish(hits::load(0..400, 100)).await?;
    eventually("all are stored", SOON, async || scene.matomo.stored() == 400).await?;
    // An outage that looks the same does not make it forget.
    scene.matomo.set(Situation::DatabaseDown);
    scene.queues.publish(hits::load(400..500, 100)).await?;
    worker.until("breaker_state{state=\"open\"}", SOON, |n| n == 1.0).await?;
    scene.matomo.set(Situation::Fine);
    eventually("the others are too", SOON, async || scene.matomo.stored() == 500).await?;
    ensure!(worker.sum("parked_total").await? == 0.0, "some are parked");
    worker.stop().await
}
