//! A memory alarm: the broker reads nothing from whoever publishes. Delivery goes on, and what is
//! to go to another queue waits.

use std::time::Duration;

use anyhow::ensure;

use crate::Scene;
use crate::drill::SMALL;
use crate::refusals::{Ends, broken, close};
use crate::support::books::Books;
use crate::support::eventually;

const SOON: Duration = Duration::from_secs(30);

pub(crate) async fn delivery_goes_on_and_publishes_wait(_shared: Scene) -> anyhow::Result<()> {
    let scene = Scene::on_a_broker_of_its_own("alarm").await?;
    scene.declare(&SMALL).await?;
    // All of it waits before the alarm, which stops the test's own publishes too.
    let mut books = Books::default();
    scene.queues.publish((0..5).map(|n| broken(&mut books, n))).await?;
    scene.queues.publish(books.load(600, 200)).await?;
    scene.broker.raise_alarm().await?;
    let worker = scene.worker(&SMALL).await?;
    worker.until("broker_blocked", SOON, |blocked| blocked == 1.0).await?;
    eventually("the others are stored", SOON, async || scene.matomo.stored() == 600).await?;
    worker.until("in_flight", SOON, |n| n == 5.0).await?;
    ensure!(worker.sum("rejected_total").await? == 0.0, "a blocked publish was counted as done");
    ensure!(scene.queues.ready("rejected").await? == 0, "the broker is not blocked");
    ensure!(worker.log().contains("lets nobody publish"), "{}", worker.log());

    scene.broker.lift_alarm().await?;
    worker.until("broker_blocked", SOON, |blocked| blocked == 0.0).await?;
    worker.until("rejected_total", SOON, |n| n == 5.0).await?;
    ensure!(worker.sum("broker_sessions_total").await? == 1.0, "it took a new session");
    close(&scene, &books, worker, Ends { delivered: 600, rejected: 5 }).await
}
