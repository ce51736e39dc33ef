//! The books close: every hit is in exactly one place.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::ensure;

use crate::Scene;
use crate::support::matomo::Matomo;
use crate::support::{eventually, hits};

const HITS: usize = 20_000;
const VISITORS: usize = 2_000;

/// `HITS` hits, the n-th of each visitor after its (n-1)-th. The identity is `visitor/n`.
fn load() -> Vec<(String, Vec<u8>)> {
    let visitors: Vec<String> = (0..VISITORS).map(hits::visitor).collect();
    (0..HITS)
        .map(|n| {
            let visitor = &visitors[n % VISITORS];
            (visitor.clone(), hits::valid(visitor, &format!("{visitor}/{}", n / VISITORS)).to_string().into_bytes())
        })
        .collect()
}

/// How often a visitor's hits were first stored out of their order.
fn disorder(matomo: &Matomo) -> usize {
    let mut latest: HashMap<String, usize> = HashMap::new();
    let mut seen = std::collections::HashSet::new();
    let mut out_of_order = 0;
    for stored in &matomo.ledger().stored {
        if !seen.insert(stored.id.clone()) {
            continue;
        }
        let number: usize = stored.id.rsplit('/').next().and_then(|n| n.parse().ok()).expect("a number");
        let last = latest.entry(stored.uid.clone()).or_default();
        if number < *last {
            out_of_order += 1;
        }
        *last = number.max(*last);
    }
    out_of_order
}

pub(crate) async fn each_hit_once_and_in_order(scene: Scene) -> anyhow::Result<()> {
    scene.matomo.ledger().per_request = Duration::from_millis(20);
    let workers = [scene.worker(&[]).await?, scene.worker(&[]).await?, scene.worker(&[]).await?];
    scene.queues.publish(load()).await?;
    eventually("every hit is stored", Duration::from_secs(120), async || scene.matomo.stored() >= HITS).await?;
    let mut delivered = 0.0;
    for worker in &workers {
        delivered += worker.sum("delivered_total").await?;
    }
    for worker in workers {
        worker.stop().await?;
    }
    let copies = scene.matomo.copies();
    ensure!(copies.len() == HITS, "{} of {HITS} hits arrived", copies.len());
    ensure!(copies.values().all(|copies| *copies == 1), "a hit was stored twice");
    ensure!(delivered as usize == HITS, "the workers count {delivered}");
    {
        let ledger = scene.matomo.ledger();
        ensure!(ledger.overlaps == 0, "{} times one visitor was in two requests at once", ledger.overlaps);
        ensure!(ledger.moved == 0, "Matomo moved {} hits to its own time", ledger.moved);
        ensure!(ledger.requests < (HITS / 5) as u64, "{} requests: a backlog goes in bulks", ledger.requests);
    }
    ensure!(disorder(&scene.matomo) == 0, "{} hits overtook their visitor's earlier ones", disorder(&scene.matomo));
    ensure!(scene.queues.ready("parked").await? + scene.queues.ready("rejected").await? == 0, "parked or rejected");
    Ok(())
}

pub(crate) async fn a_killed_worker_loses_nothing(scene: Scene) -> anyhow::Result<()> {
    scene.matomo.ledger().per_request = Duration::from_millis(20);
    let prefetch = 800;
    let victim = scene.worker(&[]).await?;
    let others = [scene.worker(&[]).await?, scene.worker(&[]).await?];
    scene.queues.publish(load()).await?;
    eventually("half of it is stored", Duration::from_secs(120), async || scene.matomo.stored() >= HITS / 2).await?;
    victim.kill9().await?;
    eventually("every hit is stored", Duration::from_secs(120), async || scene.matomo.copies().len() >= HITS).await?;
    for worker in others {
        worker.stop().await?;
    }
    let copies = scene.matomo.copies();
    ensure!(copies.len() == HITS, "{} of {HITS} hits arrived", copies.len());
    let repeated: usize = copies.values().map(|copies| copies - 1).sum();
    ensure!(repeated <= prefetch, "{repeated} repeats, but only {prefetch} hits can have been unacked");
    ensure!(scene.queues.ready_in_shards(8).await? == 0, "hits are left in the shards");
    ensure!(scene.queues.ready("parked").await? + scene.queues.ready("rejected").await? == 0, "parked or rejected");
    Ok(())
}
