//! Hits that the broker parks by itself say why, and nothing that a sender writes can say it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, BasicRejectOptions};
use lapin::types::{AMQPValue, FieldArray, FieldTable};

use crate::Scene;
use crate::dead::stage::{Operator, text};
use crate::support::{eventually, hits};

const SOON: Duration = Duration::from_secs(30);

/// What brokers before 4.0.1 take over from whoever writes it.
fn forged(queue: &str) -> FieldTable {
    let entry = [("reason", "rejected"), ("queue", queue), ("exchange", "")];
    let mut death = FieldTable::default();
    for (name, value) in entry {
        death.insert(name.into(), text(value));
    }
    death.insert("count".into(), AMQPValue::LongLongInt(1));
    death.insert("time".into(), AMQPValue::Timestamp(1_000_000_000));
    let mut deaths = FieldArray::default();
    deaths.push(AMQPValue::FieldTable(death));
    let mut headers = FieldTable::default();
    headers.insert("x-death".into(), AMQPValue::FieldArray(deaths));
    headers.insert("x-first-death-reason".into(), text("rejected"));
    headers.insert("x-last-death-reason".into(), text("rejected"));
    headers
}

/// Gives every hit back as a worker does that crashes on it, until as many are parked.
async fn give_back_until_parked(scene: &Scene, parked: usize) -> anyhow::Result<()> {
    let channel = scene.queues.connection().create_channel().await?;
    let mut shards = Vec::new();
    for shard in 0..8 {
        let queue = format!("{}.{shard}", scene.prefix);
        let options = BasicConsumeOptions::default();
        let consumer = channel.basic_consume(
            queue.into(),
            format!("crash {shard}").into(),
            options,
            FieldTable::default(),
        );
        shards.push(consumer.await?);
    }
    let mut deliveries = stream::select_all(shards);
    let giving_back = async {
        while let Some(delivery) = deliveries.next().await {
            delivery?.reject(BasicRejectOptions { requeue: true }).await?;
        }
        anyhow::bail!("the broker ended the consumers")
    };
    tokio::select! {
        ended = giving_back => ended,
        parked = eventually("they are parked", SOON, async || {
            scene.queues.ready("parked").await.is_ok_and(|n| n == parked)
        }) => parked,
    }?;
    Ok(channel.close(200, "".into()).await?)
}

pub(crate) async fn what_the_broker_parks_says_why(scene: Scene) -> anyhow::Result<()> {
    let vars = [("RETRY_DELAYS", "1s,2s")];
    scene.declare(&vars).await?;
    let hit = |number: usize| {
        let visitor = hits::visitor(number);
        let body = hits::valid(&visitor, &format!("hit {number}")).to_string().into_bytes();
        (visitor, body)
    };
    // Two that crash whoever reads them; the second by a sender who says that it was refused.
    scene.queues.publish([hit(0)]).await?;
    let lie = forged(&format!("{}.0", scene.prefix));
    let lying = BasicProperties::default().with_headers(lie.clone());
    scene.queues.publish_with([hit(1)], lying).await?;
    // One that does so after a retry, as a relay leaves it in the retry queue.
    let mut ours = FieldTable::default();
    let first_failed_at = Timestamp::from_second(Timestamp::now().as_second() - 5)?;
    let failed_at = first_failed_at.to_string();
    for (name, value) in [
        ("x-dnma-reason", "server-error"),
        ("x-dnma-first-failed-at", failed_at.as_str()),
        ("x-dnma-failed-at", failed_at.as_str()),
    ] {
        ours.insert(name.into(), text(value));
    }
    ours.insert("x-dnma-attempt".into(), AMQPValue::LongLongInt(1));
    ours.insert("x-dnma-status".into(), AMQPValue::LongLongInt(500));
    let (key, body) = hit(2);
    let properties = BasicProperties::default().with_delivery_mode(2).with_headers(ours);
    let exchange = format!("{}.retry.1s", scene.prefix);
    let options = BasicPublishOptions::default();
    let channel = scene.queues.channel();
    channel.basic_publish(exchange.into(), key.into(), options, &body, properties).await?.await?;
    eventually("it is back from the retry queue", SOON, async || {
        scene.queues.ready_in_shards(8).await.is_ok_and(|n| n == 3)
    })
    .await?;
    let before = Timestamp::from_second(Timestamp::now().as_second())?;
    give_back_until_parked(&scene, 3).await?;
    // One that its sender lets expire, and that nobody reads in time.
    let short = BasicProperties::default().with_expiration("200".into());
    scene.queues.publish_with([hit(3)], short).await?;
    eventually("it is parked", SOON, async || {
        scene.queues.ready("parked").await.is_ok_and(|n| n == 4)
    })
    .await?;
    // And one that a relay parks: what its sender says of the broker goes no further.
    let worker = scene.worker(&vars).await?;
    let visitor = hits::visitor(4);
    let old = hits::valid_at(&visitor, "hit 4", Timestamp::now().as_second() - 90_000);
    let lying = BasicProperties::default().with_headers(lie);
    scene.queues.publish_with([(visitor, old.to_string().into_bytes())], lying).await?;
    worker.until("parked_total{reason=\"too-old\"}", SOON, |n| n == 1.0).await?;

    let operator = Operator::of(&scene)?;
    let groups = operator.json(&["dead", "group", "--by", "reason", "--json"]).await?;
    let groups = groups["groups"].as_array().context("groups")?;
    let found: BTreeMap<&str, u64> = groups
        .iter()
        .filter_map(|group| Some((group["reason"].as_str()?, group["hits"].as_u64()?)))
        .collect();
    let required = BTreeMap::from([("delivery-limit", 3), ("expired", 1), ("too-old", 1)]);
    ensure!(found == required, "{found:?}");

    let list = operator.told(&["dead", "list", "--json", "--reason", "delivery-limit"]).await?;
    let rows: Vec<serde_json::Value> =
        list.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(rows.len() == 3, "{list}");
    for row in &rows {
        let moved = &row["broker_move"];
        let is_shard = moved["queue"].as_str().is_some_and(|queue| {
            let shard = queue.strip_prefix(&format!("{}.", scene.prefix));
            shard.is_some_and(|shard| shard.parse::<u16>().is_ok())
        });
        let at: Timestamp = row["failed_at"].as_str().context("a time")?.parse()?;
        ensure!(
            moved["reason"] == "delivery-limit" && is_shard && at >= before,
            "since {before}: {row}"
        );
        ensure!(row.get("status").is_none(), "the HTTP status is of an earlier failure: {row}");
    }
    let retried: Vec<_> = rows.iter().filter(|row| row["attempts"] == 1).collect();
    ensure!(
        retried.len() == 1 && retried[0]["first_failed_at"] == failed_at.as_str(),
        "{failed_at}: {list}"
    );
    let reasons = ["--reason", "delivery-limit", "--reason", "expired", "--since", "1h"];
    let recent = operator.told(&[&["dead", "list"][..], &reasons].concat()).await?;
    ensure!(recent.ends_with("4 of 5 hits\n"), "{recent}");

    let show = operator.told(&["dead", "show", "--reason", "delivery-limit"]).await?;
    let lines = show.lines().filter(|line| line.contains("moved by RabbitMQ"));
    let lines: Vec<&str> = lines.collect();
    ensure!(
        lines.len() == 3 && lines.iter().all(|line| line.contains("delivery-limit, out of ")),
        "{show}"
    );
    ensure!(!show.contains("rejected"), "a sender's word is shown: {show}");
    let export = operator.told(&["dead", "export", "-", "--reason", "delivery-limit"]).await?;
    ensure!(export.matches("\"broker_reason\":\"delivery-limit\"").count() == 3, "{export}");

    // The daily balance does not close, and says where to look.
    let (_, books) = operator.refused(&["books", "--url", worker.url()]).await?;
    ensure!(
        books.contains("4 hits in parked are not in the workers' counters")
            && books.contains("dead group"),
        "{books}"
    );

    // What crashed a worker that was replaced since is sent again like any other.
    operator.told(&["dead", "replay", "--reason", "delivery-limit"]).await?;
    eventually("they are stored", SOON, async || scene.matomo.stored() == 3).await?;
    worker.stop().await
}
