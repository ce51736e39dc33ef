//! A broker that does not take a hit: the hit is kept and tried again, others go on, and nobody has
//! to restart anything.

use std::time::Duration;

use anyhow::ensure;
use lapin::types::FieldTable;

use crate::Scene;
use crate::drill::{PLACES, SMALL};
use crate::support::books::{Allowed, Books, Places, at_rest};
use crate::support::matomo::HitFault;
use crate::support::worker::Worker;
use crate::support::{eventually, hits};

const SOON: Duration = Duration::from_secs(30);

/// More than are ever sent here.
const ENOUGH: usize = 100_000;

/// A body that breaks the plan; each is another.
pub(crate) fn broken(books: &mut Books, number: usize) -> (String, Vec<u8>) {
    let visitor = hits::visitor(number);
    let hit = hits::valid(&visitor, &format!("broken {number}"));
    let hit = hits::with(hit, "dimension8", "CANTINE".into());
    books.broken(&visitor, hit.to_string().into_bytes())
}

/// How somebody makes room.
#[derive(PartialEq)]
enum Relief {
    HigherLimit,
    NoLimit,
}

/// Where all hits are in the end.
pub(crate) struct Ends {
    pub(crate) delivered: usize,
    pub(crate) rejected: usize,
}

/// Waits for rest, and closes the books without a loss or a repetition.
pub(crate) async fn close(
    scene: &Scene,
    books: &Books,
    worker: Worker,
    ends: Ends,
) -> anyhow::Result<()> {
    let (matomo, queues) = (&scene.matomo, &scene.queues);
    at_rest(books.published(), matomo, queues, &PLACES, &[&worker], SOON).await?;
    worker.accounts_for_all().await?;
    worker.stop().await?;
    let balance = books.balance(matomo, queues, &PLACES).await?;
    balance.check(Allowed::default())?;
    ensure!(balance.delivered == ends.delivered && balance.rejected == ends.rejected, "{balance}");
    Ok(())
}

pub(crate) async fn a_full_rejected_queue_holds_up_nothing_else(
    _shared: Scene,
) -> anyhow::Result<()> {
    full_rejected_queue("full.rejected", Relief::HigherLimit).await
}

/// RabbitMQ 3.10 forgets to tell a channel that it refused when the limit is taken away, rather
/// than raised: to that one it refuses on.
pub(crate) async fn a_limit_that_is_taken_away_is_noticed(_shared: Scene) -> anyhow::Result<()> {
    full_rejected_queue("full.relieved", Relief::NoLimit).await
}

async fn full_rejected_queue(name: &str, relief: Relief) -> anyhow::Result<()> {
    let scene = Scene::on_a_broker_of_its_own(name).await?;
    let mut books = Books::default();
    let worker = scene.worker(&SMALL).await?;
    scene.queues.publish((0..3).map(|n| broken(&mut books, n))).await?;
    worker.until("rejected_total", SOON, |n| n == 3.0).await?;
    let queue = format!("{}.rejected", scene.prefix);
    scene.broker.limit(&queue, 1).await?;
    scene.queues.publish((3..8).map(|n| broken(&mut books, n))).await?;
    worker.until("refused_publishes_total", SOON, |n| n > 0.0).await?;
    // Others go on, and those that are refused are kept, and tried again and again.
    scene.queues.publish(books.load(600, 200)).await?;
    eventually("the others are stored", SOON, async || scene.matomo.stored() == 600).await?;
    worker.until("refused_publishes_total", SOON, |n| n > 3.0).await?;
    ensure!(worker.sum("in_flight").await? == 5.0, "those that are refused are in flight");
    ensure!(scene.queues.ready("rejected").await? == 3, "the queue took more than its limit");
    ensure!(worker.sum("refused_hits{queue=\"rejected\"}").await? == 5.0, "the metric says so");
    ensure!(state(&worker).await? == "queue_full", "the page says so");

    match relief {
        Relief::HigherLimit => scene.broker.limit(&queue, ENOUGH).await?,
        Relief::NoLimit => scene.broker.lift_limit().await?,
    }
    worker.until("rejected_total", SOON, |n| n == 8.0).await?;
    ensure!(worker.sum("refused_hits").await? == 0.0, "nothing waits any more");
    ensure!(state(&worker).await? != "queue_full", "nor does the page say so");
    let sessions = worker.sum("broker_sessions_total").await?;
    ensure!(relief == Relief::NoLimit || sessions == 1.0, "it took {sessions} sessions");
    close(&scene, &books, worker, Ends { delivered: 600, rejected: 8 }).await
}

/// The state that the page tells.
async fn state(worker: &Worker) -> anyhow::Result<String> {
    let (_, text) = worker.get("/status.json").await?;
    let status: serde_json::Value = serde_json::from_str(&text)?;
    Ok(status["state"].as_str().unwrap_or_default().to_owned())
}

pub(crate) async fn a_full_retry_queue_holds_up_nothing_else(_shared: Scene) -> anyhow::Result<()> {
    const PLACES: Places<'_> = Places { shards: 8, delays: &["600s"] };
    const OTHERS: usize = 300;
    let scene = Scene::on_a_broker_of_its_own("full.retry").await?;
    let mut books = Books::default();
    let worker = scene.worker(&[("RETRY_DELAYS", "600s"), ("MATOMO_TIMEOUT", "2s")]).await?;
    let failing: Vec<String> = (1_000..1_004).map(hits::visitor).collect();
    let faults = failing.iter().map(|visitor| (visitor.clone(), HitFault::Exception));
    scene.matomo.ledger().faults.extend(faults);
    scene.queues.publish(failing[1..].iter().map(|visitor| books.hit(visitor))).await?;
    worker.until("retried_total", SOON, |n| n == 3.0).await?;
    let queue = format!("{}.retry.600s", scene.prefix);
    scene.broker.limit(&queue, 1).await?;
    scene.queues.publish([books.hit(&failing[0])]).await?;
    worker.until("refused_publishes_total", SOON, |n| n > 0.0).await?;
    scene.queues.publish(books.load(OTHERS, 150)).await?;
    eventually("all others are stored", SOON, async || scene.matomo.stored() == OTHERS).await?;
    worker.until("refused_publishes_total", SOON, |n| n > 3.0).await?;
    ensure!(worker.sum("retried_total").await? == 3.0, "the queue took more than its limit");

    scene.broker.limit(&queue, ENOUGH).await?;
    worker.until("retried_total", SOON, |n| n == 4.0).await?;
    ensure!(worker.sum("broker_sessions_total").await? == 1.0, "it took a new session");
    worker.until("in_flight", SOON, |n| n == 0.0).await?;
    worker.accounts_for_all().await?;
    worker.stop().await?;
    let balance = books.balance(&scene.matomo, &scene.queues, &PLACES).await?;
    balance.check(Allowed::default())?;
    ensure!(balance.delivered == OTHERS && balance.retrying == 4, "{balance}");
    Ok(())
}

/// Somebody removes a binding while the worker works.
pub(crate) async fn an_unroutable_hit_is_kept(scene: Scene) -> anyhow::Result<()> {
    let mut books = Books::default();
    let worker = scene.worker(&SMALL).await?;
    scene.queues.publish([broken(&mut books, 0)]).await?;
    worker.until("rejected_total", SOON, |n| n == 1.0).await?;
    ensure!(worker.sum("refused_publishes_total").await? == 0.0, "it was refused before");
    let rejected = format!("{}.rejected", scene.prefix);
    let (queue, exchange) = (rejected.as_str().into(), rejected.as_str().into());
    scene.queues.channel().queue_unbind(queue, exchange, "".into(), FieldTable::default()).await?;

    scene.queues.publish([broken(&mut books, 1)]).await?;
    worker.until("refused_publishes_total", SOON, |n| n > 0.0).await?;
    // The next session declares the binding anew.
    worker.until("broker_sessions_total", SOON, |n| n > 1.0).await?;
    worker.until("rejected_total", SOON, |n| n == 2.0).await?;
    worker.until_it_says("has no queue", SOON).await?;
    scene.queues.publish(books.load(100, 50)).await?;
    close(&scene, &books, worker, Ends { delivered: 100, rejected: 2 }).await
}
