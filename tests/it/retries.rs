//! A failed hit comes back after each delay of the schedule, and is parked when the schedule is
//! spent.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};

use crate::Scene;
use crate::support::matomo::HitFault;
use crate::support::queues::Queues;
use crate::support::{eventually, hits};

pub(crate) async fn the_schedule_is_kept_and_then_parks(scene: Scene) -> anyhow::Result<()> {
    let visitor = hits::visitor(1);
    scene.matomo.ledger().faults.insert(visitor.clone(), HitFault::Exception);
    let worker = scene.worker(&[("RETRY_DELAYS", "2s,4s")]).await?;
    // Spaces, order and escapes of the ENT: nothing of it may change.
    let hit = hits::valid(&visitor, "always fails");
    let body =
        format!(" {}\n", serde_json::to_string_pretty(&hit)?.replace("é", "\\u00e9")).into_bytes();
    let properties = lapin::BasicProperties::default()
        .with_content_type("application/json".into())
        .with_message_id("m-1".into());
    scene.queues.publish_with([(visitor.clone(), body.clone())], properties).await?;
    eventually("the hit is parked", Duration::from_secs(30), async || {
        scene.queues.ready("parked").await.unwrap_or(0) == 1
    })
    .await?;
    let times: Vec<_> = scene.matomo.ledger().attempts.iter().map(|(at, _)| *at).collect();
    ensure!(times.len() == 3, "{} attempts", times.len());
    let gaps: Vec<f64> =
        times.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_secs_f64()).collect();
    for (gap, expected) in gaps.iter().zip([2.0, 4.0]) {
        ensure!((expected..expected + 1.5).contains(gap), "attempts {gaps:?} seconds apart");
    }
    let parked = scene.queues.take("parked").await?.pop().context("a parked hit")?;
    ensure!(parked.body == body, "the body changed: {}", String::from_utf8_lossy(&parked.body));
    ensure!(parked.key == visitor, "the routing key changed");
    ensure!(
        parked.properties.message_id().as_ref().is_some_and(|id| id.as_str() == "m-1"),
        "properties changed"
    );
    let header = |name: &str| {
        parked
            .headers
            .get(name)
            .map(String::as_str)
            .with_context(|| format!("no {name} in {:?}", parked.headers))
    };
    ensure!(header("x-dnma-attempt")? == "3", "{:?}", parked.headers);
    ensure!(header("x-dnma-reason")? == "server-error", "{:?}", parked.headers);
    ensure!(header("x-dnma-status")? == "500", "{:?}", parked.headers);
    ensure!(header("x-dnma-plan")? == "2.01", "{:?}", parked.headers);
    ensure!(
        header("x-dnma-worker")?.ends_with(&format!("-{}", worker.pid())),
        "{:?}",
        parked.headers
    );
    let first: jiff::Timestamp = header("x-dnma-first-failed-at")?.parse()?;
    let last: jiff::Timestamp = header("x-dnma-failed-at")?.parse()?;
    let between = last.as_millisecond() - first.as_millisecond();
    ensure!((6_000..9_000).contains(&between), "first and last failure {between} ms apart");
    ensure!(!parked.headers.contains_key("x-death"), "{:?}", parked.headers);
    worker.until("retried_total", Duration::from_secs(10), |n| n == 2.0).await?;
    worker.until("parked_total", Duration::from_secs(10), |n| n == 1.0).await?;
    worker.stop().await
}

pub(crate) async fn the_default_delays_are_the_rftis(scene: Scene) -> anyhow::Result<()> {
    scene.declare(&[]).await?;
    for (name, ttl) in [("retry.600s", 600_000_i64), ("retry.1200s", 1_200_000)] {
        // The broker accepts a second declaration only if every argument is the same.
        let declare = async |ttl: i64| {
            let text = |text: &str| AMQPValue::LongString(text.into());
            let mut arguments = FieldTable::default();
            arguments.insert("x-queue-type".into(), text("quorum"));
            arguments.insert("x-dead-letter-exchange".into(), text(&scene.prefix));
            arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
            arguments.insert("x-overflow".into(), text("reject-publish"));
            arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(ttl));
            let channel = scene.queues.connection().create_channel().await?;
            let durable = QueueDeclareOptions { durable: true, ..Default::default() };
            channel
                .queue_declare(format!("{}.{name}", scene.prefix).into(), durable, arguments)
                .await
        };
        declare(ttl).await.with_context(|| format!("{name} has another delay than {ttl} ms"))?;
        ensure!(
            declare(ttl + 1).await.is_err(),
            "the broker does not compare delays, so this test shows nothing"
        );
    }
    Ok(())
}

/// At-least-once expiry is the slowest thing that a broker does for the relay: 3,900 hits/s on
/// RabbitMQ 4.3, 10,000 before.
pub(crate) async fn ten_thousand_come_back(scene: Scene) -> anyhow::Result<()> {
    const COUNT: usize = 10_000;
    scene.declare(&[("RETRY_DELAYS", "10s")]).await?;
    let retry = Queues::connect(&scene.broker.url, &format!("{}.retry.10s", scene.prefix)).await?;
    let load = (0..COUNT).map(|number| {
        let visitor = hits::visitor(number % 500);
        let hit = hits::valid(&visitor, &format!("expires {number}")).to_string();
        (visitor, hit.into_bytes())
    });
    retry.publish(load).await?;
    let is_back =
        async |most: usize| scene.queues.ready_in_shards(8).await.is_ok_and(|ready| ready >= most);
    let limit = Duration::from_secs(40);
    eventually("the first is back", limit, async || is_back(1).await).await?;
    let began = Instant::now();
    eventually("all are back", limit, async || is_back(COUNT).await).await?;
    println!("{COUNT} hits came back within {:.1} s of the first", began.elapsed().as_secs_f64());
    ensure!(scene.queues.ready_in_shards(8).await? == COUNT, "some came back twice");
    ensure!(scene.queues.ready("retry.10s").await? == 0, "some are left");
    Ok(())
}
