//! Two hits may be byte for byte alike: a page that is reloaded within the second. Each is stored,
//! whatever happens to the line.

use std::time::Duration;

use anyhow::{Context, ensure};
use jiff::Timestamp;

use crate::Scene;
use crate::drill::{PREFETCH, SMALL, broker_address};
use crate::support::cable::{Cable, Fault};
use crate::support::worker::Worker;
use crate::support::{eventually, hits};

const SOON: Duration = Duration::from_secs(30);

/// How long the hits behind a slow request are held. Below [`TIMEOUT`].
const HELD: Duration = Duration::from_secs(5);

const TIMEOUT: (&str, &str) = ("MATOMO_TIMEOUT", "10s");

/// A worker whose line to RabbitMQ can be cut.
async fn worker_on_a_cable(scene: &Scene) -> anyhow::Result<(Cable, Worker)> {
    let cable = Cable::to(broker_address(scene)?).await?;
    let url = format!("amqp://guest:guest@127.0.0.1:{}/%2f?heartbeat=1", cable.port());
    let worker = scene.worker(&[&SMALL[..], &[("AMQP_URL", &url), TIMEOUT]].concat()).await?;
    Ok((cable, worker))
}

/// A hit of the moment `cdt`: all of that name are byte for byte alike.
fn named(visitor: &str, id: &str, cdt: i64) -> (String, Vec<u8>) {
    (visitor.to_owned(), hits::valid_at(visitor, id, cdt).to_string().into_bytes())
}

/// The first is stored and its ack has arrived; its copy waits behind a slow request, and the line
/// is cut.
pub(crate) async fn a_copy_that_was_held_is_sent_though_the_first_was_stored(
    scene: Scene,
) -> anyhow::Result<()> {
    let (mut cable, worker) = worker_on_a_cable(&scene).await?;
    let (visitor, cdt) = (hits::visitor(1), Timestamp::now().as_second());
    scene.queues.publish([named(&visitor, "same", cdt)]).await?;
    worker.until("in_flight", SOON, |n| n == 0.0).await?;
    eventually("it is stored", SOON, async || scene.matomo.stored() == 1).await?;

    scene.matomo.ledger().per_request = HELD;
    scene.queues.publish([named(&visitor, "slow", cdt)]).await?;
    eventually("a request is under way", SOON, async || scene.matomo.ledger().under_way == 1)
        .await?;
    scene.queues.publish([named(&visitor, "same", cdt)]).await?;
    worker.until("in_flight", SOON, |n| n == 2.0).await?;
    cable.cut().await;
    worker.until("broker_up", SOON, |up| up == 0.0).await?;
    ensure!(scene.matomo.ledger().under_way == 1, "the loss is told only when requests have ended");
    scene.matomo.ledger().per_request = Duration::ZERO;
    cable.set(Fault::None);
    cable.mend().await?;

    eventually("all three are stored", SOON, async || scene.matomo.stored() >= 3)
        .await
        .with_context(|| worker.log())?;
    worker.until("in_flight", SOON, |n| n == 0.0).await?;
    let copies = scene.matomo.copies();
    ensure!(copies.get("same") == Some(&2), "{copies:?}: {}", worker.log());
    ensure!(copies.get("slow") == Some(&1), "its ack was lost, and it was stored: {copies:?}");
    worker.accounts_for_all().await?;
    worker.stop().await
}

/// The line is cut again and again, while copies of few hits are stored, wait, and are on their
/// way. What the cut line swallowed looks like what was stored, so some are repeated.
pub(crate) async fn none_is_lost_however_often_the_line_is_cut(scene: Scene) -> anyhow::Result<()> {
    const CUTS: usize = 12;
    const COPIES: usize = 40;
    let (mut cable, worker) = worker_on_a_cable(&scene).await?;
    let cdt = Timestamp::now().as_second();
    scene.matomo.ledger().per_request = Duration::from_millis(30);
    for cut in 1..=CUTS {
        let published = (0..COPIES).map(|n| named(&hits::visitor(n % 4), "same", cdt));
        scene.queues.publish(published).await?;
        let some = (cut - 1) * COPIES + COPIES / 4;
        eventually("hits flow", SOON, async || scene.matomo.stored() >= some).await?;
        cable.cut().await;
        worker.until("broker_up", SOON, |up| up == 0.0).await?;
        cable.mend().await?;
        worker.until("broker_up", SOON, |up| up == 1.0).await?;
    }
    let all = CUTS * COPIES;
    eventually("everything is stored", SOON, async || scene.matomo.stored() >= all)
        .await
        .with_context(|| format!("{} of {all} stored: {}", scene.matomo.stored(), worker.log()))?;
    worker.until("in_flight", SOON, |n| n == 0.0).await?;
    eventually("the shards are empty", SOON, async || {
        scene.queues.ready_in_shards(8).await.is_ok_and(|ready| ready == 0)
    })
    .await?;
    let (stored, doubted) = (scene.matomo.stored(), worker.sum("doubtful_total").await?);
    println!("{} of {all} repeated, {doubted} were in doubt", stored - all);
    ensure!(stored <= all + CUTS * PREFETCH, "{stored} stored of {all}: {}", worker.log());
    ensure!(stored == all || doubted > 0.0, "doubt that is not counted: {}", worker.log());
    worker.accounts_for_all().await?;
    worker.stop().await
}
