//! Replicas share out the shards by themselves.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};

use crate::Scene;
use crate::support::books::{Allowed, Balance, Books, EIGHT_SHARDS, at_rest};
use crate::support::matomo::Situation;
use crate::support::report;
use crate::support::worker::Worker;
use crate::support::worker::until;
use crate::support::{eventually, hits};

/// Publishes a round of hits that touches every shard, and tells who delivered how many of them.
async fn round(scene: &Scene, workers: &[&Worker]) -> anyhow::Result<Vec<f64>> {
    let mut before = Vec::new();
    for worker in workers {
        before.push(worker.sum("received_total").await?);
    }
    let stored = scene.matomo.stored();
    // Every round has hits of its own, and all the visitors.
    let count = scene.queues.publish(hits::load(stored..stored + 400, 400)).await?;
    eventually("the round is stored", Duration::from_secs(30), async || {
        scene.matomo.stored() >= stored + count
    })
    .await?;
    let mut shares = Vec::new();
    for (worker, before) in workers.iter().zip(before) {
        shares.push(worker.sum("received_total").await? - before);
    }
    Ok(shares)
}

pub(crate) async fn a_worker_joins_and_leaves(scene: Scene) -> anyhow::Result<()> {
    let first = scene.worker(&[("QUEUE_SHARDS", "16")]).await?;
    ensure!(round(&scene, &[&first]).await? == [400.0], "alone, it delivers all");
    let second = scene.worker(&[("QUEUE_SHARDS", "16")]).await?;
    eventually("the second has a share", Duration::from_secs(30), async || {
        round(&scene, &[&first, &second])
            .await
            .is_ok_and(|shares| shares[0] > 0.0 && shares[1] > 0.0)
    })
    .await?;
    first.stop().await?;
    let shares = round(&scene, &[&second]).await?;
    ensure!(shares == [400.0], "the other takes over everything: {shares:?}");
    let third = scene.worker(&[("QUEUE_SHARDS", "16")]).await?;
    second.stop().await?;
    ensure!(round(&scene, &[&third]).await? == [400.0], "and so on");
    let twice: BTreeSet<_> =
        scene.matomo.copies().into_iter().filter(|(_, copies)| *copies > 1).collect();
    ensure!(twice.is_empty(), "stored twice: {twice:?}");
    ensure!(scene.matomo.ledger().overlaps == 0, "one visitor was in two hands");
    third.stop().await
}

/// Within this after each change every replica is served its share.
const SHARED_WITHIN: Duration = Duration::from_secs(30);

/// Publishes hits until all have their share of the shards.
async fn shared(scene: &Scene, books: &mut Books, replicas: usize) -> anyhow::Result<()> {
    let to_one = (1.0, SHARED_WITHIN);
    share_by(scene, EIGHT_SHARDS.shards, replicas, to_one, || books.load(400, 200)).await
}

/// Publishes messages and looks who is served which shards until all have their share, to so many
/// shards. A worker knows by what comes that a shard is its own.
pub(crate) async fn share_by<M>(
    scene: &Scene,
    shards: u16,
    replicas: usize,
    (slack, within): (f64, Duration),
    mut messages: impl FnMut() -> M,
) -> anyhow::Result<()>
where
    M: IntoIterator<Item = (String, Vec<u8>)>,
{
    let start = Instant::now();
    let mut last = Vec::new();
    while start.elapsed() < within {
        scene.queues.publish(messages()).await?;
        let served = scene.broker.served(&scene.prefix).await?;
        last = served.values().map(Vec::len).collect();
        last.sort_unstable();
        let fair = f64::from(shards) / replicas as f64;
        let is_fair = |shards: &usize| (*shards as f64 - fair).abs() <= slack;
        if last.len() == replicas && last.iter().all(is_fair) {
            println!("{last:?} shards, after {:.1} s", start.elapsed().as_secs_f64());
            return Ok(());
        }
    }
    bail!("{last:?} shards of {replicas} replicas after {within:?}")
}

/// Waits until everything is delivered, and stops the workers. If they were connected all the time,
/// none of them may have lost its session.
async fn all_delivered(
    scene: &Scene,
    books: &Books,
    workers: Vec<Worker>,
    is_connected: bool,
) -> anyhow::Result<Balance> {
    let (published, within) = (books.published(), Duration::from_secs(60));
    at_rest(published, &scene.matomo, &scene.queues, &EIGHT_SHARDS, &workers, within).await?;
    for worker in workers {
        ensure!(!is_connected || !worker.log().contains("lost the session"), "{}", worker.log());
        worker.stop().await?;
    }
    let balance = books.balance(&scene.matomo, &scene.queues, &EIGHT_SHARDS).await?;
    balance.all_delivered()?;
    Ok(balance)
}

/// From one replica to three, two and four, and then another one for each: all are served their
/// share, and nothing is lost, repeated, or in two hands.
pub(crate) async fn replicas_come_and_go(scene: Scene) -> anyhow::Result<()> {
    let mut books = Books::default();
    let start = async || scene.worker(&[]).await;
    let mut workers = vec![start().await?];
    shared(&scene, &mut books, 1).await?;
    for _ in 0..2 {
        workers.push(start().await?);
    }
    shared(&scene, &mut books, 3).await?;
    workers.remove(1).stop().await?;
    shared(&scene, &mut books, 2).await?;
    for _ in 0..2 {
        workers.push(start().await?);
    }
    shared(&scene, &mut books, 4).await?;
    for _ in 0..4 {
        workers.push(start().await?);
        scene.queues.publish(books.load(400, 200)).await?;
        workers.remove(0).stop().await?;
    }
    shared(&scene, &mut books, 4).await?;
    let balance = all_delivered(&scene, &books, workers, true).await?;
    // What a shard that moves had given and nobody had taken comes back behind what follows it.
    let moved = Allowed { out_of_order: 200, ..Allowed::default() };
    report::record("replicas join and leave, and all are replaced", 1, &balance, moved)
}

/// A replica that stands still is left by its line after the heartbeat, its shards are served by
/// the others, and it gets its share again when it goes on.
pub(crate) async fn a_frozen_replica_is_replaced(scene: Scene) -> anyhow::Result<()> {
    let mut books = Books::default();
    let mut workers = Vec::new();
    for _ in 0..3 {
        workers.push(scene.worker(&[]).await?);
    }
    shared(&scene, &mut books, 3).await?;
    workers[1].signal("STOP")?;
    let frozen = Instant::now();
    let gone = async || {
        let served = scene.broker.served(&scene.prefix).await;
        served.is_ok_and(|served| served.len() == 2)
    };
    eventually("the broker gives it up", Duration::from_secs(90), gone).await?;
    println!("given up after {:.0} s", frozen.elapsed().as_secs_f64());
    shared(&scene, &mut books, 2).await?;
    workers[1].signal("CONT")?;
    shared(&scene, &mut books, 3).await?;
    let balance = all_delivered(&scene, &books, workers, false).await?;
    // What it held when it froze, and the broker gave to another.
    let held = Allowed { repeated: 200, out_of_order: 400, overlaps: 8 };
    report::record("a replica of three stands still until the heartbeat fails", 1, &balance, held)
}

/// A worker that may not or cannot count the others says so once, and works with what it has.
pub(crate) async fn workers_that_cannot_be_counted_work_on(scene: Scene) -> anyhow::Result<()> {
    scene.declare(&[]).await?;
    // The queue of those who never had it: declared for an earlier relay, or without the right.
    scene.queues.delete("workers").await?;
    let worker = scene.worker(&[("TOPOLOGY", "verify")]).await?;
    worker.until_it_says("workers cannot be counted", Duration::from_secs(20)).await?;
    ensure!(worker.log().contains("dnma-relay topology"), "no remedy: {}", worker.log());
    let count = scene.queues.publish(hits::load(0..400, 200)).await?;
    eventually("all is stored", Duration::from_secs(30), async || scene.matomo.stored() == count)
        .await?;
    ensure!(!worker.log().contains("lost the session"), "{}", worker.log());
    worker.stop().await
}

pub(crate) async fn fewer_shards_lose_nothing(scene: Scene) -> anyhow::Result<()> {
    scene.declare(&[("QUEUE_SHARDS", "8")]).await?;
    scene.queues.publish(hits::load(0..800, 400)).await?;
    let worker = scene.worker(&[("QUEUE_SHARDS", "4")]).await?;
    scene.queues.publish(hits::load(800..1600, 400)).await?;
    eventually("everything is stored", Duration::from_secs(60), async || {
        scene.matomo.stored() == 1_600
    })
    .await?;
    let gone = async |shard: u16| !scene.queues.exists(&shard.to_string()).await;
    eventually("the extra shards are gone", Duration::from_secs(90), async || {
        gone(4).await && gone(5).await && gone(6).await && gone(7).await
    })
    .await?;
    ensure!(!gone(3).await, "a shard that is in use was deleted");
    scene.queues.publish(hits::load(1_600..2400, 400)).await?;
    eventually("hits still flow", Duration::from_secs(30), async || scene.matomo.stored() == 2_400)
        .await?;
    ensure!(scene.matomo.copies().len() == 2_400, "a hit was stored twice");
    worker.stop().await
}

/// What is ready says nothing of what another worker holds: a shard must not be deleted under its
/// hands.
pub(crate) async fn a_shard_in_use_is_not_deleted(scene: Scene) -> anyhow::Result<()> {
    scene.declare(&[("QUEUE_SHARDS", "4")]).await?;
    let count = 200;
    scene.queues.publish(hits::load(0..count, 100)).await?;
    scene.matomo.set(Situation::BadGateway);
    let vars = [("QUEUE_SHARDS", "2"), ("RETRY_DELAYS", "1s")];
    let workers = [scene.worker(&vars).await?, scene.worker(&vars).await?];
    until(&workers, "received_total", Duration::from_secs(20), |taken| taken > 150.0).await?;
    // Long enough for each worker to look at the extra shards twice, of which it gives no sign.
    let probes = scene.matomo.ledger().requests;
    let looked = Instant::now();
    eventually("they probe on", Duration::from_secs(40), async || {
        scene.matomo.ledger().requests > probes + 2 && looked.elapsed() > Duration::from_secs(12)
    })
    .await?;
    ensure!(
        scene.queues.exists("2").await && scene.queues.exists("3").await,
        "a shard was deleted under a worker's hands"
    );
    scene.matomo.set(Situation::Fine);
    eventually("everything is stored", Duration::from_secs(60), async || {
        scene.matomo.copies().len() == count
    })
    .await?;
    eventually("the extra shards are gone", Duration::from_secs(60), async || {
        !scene.queues.exists("2").await && !scene.queues.exists("3").await
    })
    .await?;
    for worker in workers {
        ensure!(
            !worker.log().contains("lost the session"),
            "deleting a shard cost a session: {}",
            worker.log()
        );
        worker.stop().await?;
    }
    Ok(())
}
