//! What is believed of a message is what the broker vouches for: a sender's own `x-dnma-*` headers
//! are not.

use std::time::Duration;

use anyhow::{Context, ensure};
use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable};

use crate::Scene;
use crate::refusals::broken;
use crate::support::books::Books;
use crate::support::matomo::HitFault;
use crate::support::{eventually, hits};

const SOON: Duration = Duration::from_secs(30);

/// Properties with a header, as somebody who knows the relay's own would set it.
fn claiming(name: &str, value: AMQPValue) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert(name.into(), value);
    BasicProperties::default().with_headers(headers)
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

pub(crate) async fn a_senders_history_is_not_believed(scene: Scene) -> anyhow::Result<()> {
    let worker = scene.worker(&[("RETRY_DELAYS", "1s,600s")]).await?;
    // When it was first seen, which is the time of a hit whose own lies in the future.
    let future = Timestamp::now().as_second() + 1_800;
    for (number, first) in ["2001-01-01T00:00:00Z", "2099-01-01T00:00:00Z"].iter().enumerate() {
        let visitor = hits::visitor(number);
        let hit = hits::valid_at(&visitor, &format!("first {number}"), future);
        let message = (visitor, hit.to_string().into_bytes());
        let properties = claiming("x-dnma-first-failed-at", text(first));
        scene.queues.publish_with([message], properties).await?;
    }
    eventually("both are stored", SOON, async || scene.matomo.stored() == 2).await?;
    let now = Timestamp::now().as_second();
    for stored in &scene.matomo.ledger().stored {
        let cdt = stored.parameters.get("cdt").context("cdt")?;
        let age = now - cdt.parse::<i64>()?;
        ensure!((0..60).contains(&age), "sent as {age} s old");
    }

    // How often it was sent: all its retries are before it.
    let visitor = hits::visitor(7);
    scene.matomo.ledger().faults.insert(visitor.clone(), HitFault::Exception);
    let message = (visitor.clone(), hits::valid(&visitor, "failing").to_string().into_bytes());
    let properties = claiming("x-dnma-attempt", AMQPValue::LongLongInt(9));
    scene.queues.publish_with([message], properties).await?;
    worker.until("retried_total", SOON, |n| n == 2.0).await?;
    let queue = "retry.600s";
    eventually("the second retry", SOON, async || {
        scene.queues.ready(queue).await.is_ok_and(|n| n == 1)
    })
    .await?;
    let retrying = scene.queues.list(queue).await?;
    let [hit] = retrying.as_slice() else { anyhow::bail!("{retrying:?}") };
    let attempts = hit.headers.get("x-dnma-attempt").map(String::as_str);
    ensure!(attempts == Some("2"), "our own count is believed: {attempts:?}");
    // By this the next relay knows that the history is ours.
    let signed = hit.properties.user_id().as_ref().map(|user| user.as_str());
    ensure!(signed == Some("guest"), "{signed:?}");

    // That it was replayed.
    let mut books = Books::default();
    let properties = claiming("x-dnma-replay", text("parked/20261124T080000Z-1a2b"));
    scene.queues.publish_with([broken(&mut books, 8)], properties).await?;
    worker.until("rejected_total", SOON, |n| n == 1.0).await?;
    let rejected = scene.queues.take("rejected").await?;
    ensure!(!rejected[0].headers.contains_key("x-dnma-replay"), "{:?}", rejected[0].headers);
    let (_, told) = worker.get("/books").await?;
    ensure!(!told.contains("\"replayed_parked\":1"), "{told}");
    worker.stop().await
}

/// How often it came back: by that a worker takes it for one that ends workers.
pub(crate) async fn a_senders_count_of_returns_is_not_believed(scene: Scene) -> anyhow::Result<()> {
    const HITS: usize = 50;
    let worker = scene.worker(&[]).await?;
    let properties = claiming("x-delivery-count", AMQPValue::LongLongInt(99));
    scene.queues.publish_with(hits::load(0..HITS, HITS), properties.clone()).await?;
    eventually("all are stored", SOON, async || scene.matomo.stored() == HITS).await?;
    // Once it has come back, the broker's own count stands there.
    scene.matomo.ledger().per_request = Duration::from_secs(300);
    scene.queues.publish_with(hits::load(HITS..HITS + 1, 1), properties).await?;
    eventually("it is sent", SOON, async || scene.matomo.ledger().under_way == 1).await?;
    let log = worker.log();
    worker.kill9().await?;
    scene.matomo.ledger().per_request = Duration::ZERO;
    let next = scene.worker(&[]).await?;
    eventually("it is stored", SOON, async || scene.matomo.copies().contains_key("hit 50")).await?;
    for log in [log, next.log()] {
        ensure!(!log.contains("came back again and again"), "{log}");
    }
    next.stop().await
}

/// A broker that knows the relay by another name says so in these words, by which the relay stops
/// signing.
pub(crate) async fn the_broker_names_who_signed_with_another_name(
    scene: Scene,
) -> anyhow::Result<()> {
    scene.declare(&[]).await?;
    let channel = scene.queues.connection().create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let properties = BasicProperties::default().with_user_id("somebody".into());
    let options = BasicPublishOptions::default();
    let prefix = scene.prefix.as_str();
    let sent = channel.basic_publish(prefix.into(), "u".into(), options, b"{}", properties).await?;
    let refused = sent.await.err().context("the broker took a foreign name")?;
    ensure!(refused.to_string().contains("user_id property set to"), "{refused}");
    Ok(())
}
