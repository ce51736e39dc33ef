//! A worker is small, however much waits for it.

use std::time::Duration;

use anyhow::ensure;

use crate::Scene;
use crate::support::matomo::Situation;
use crate::support::{eventually, hits};

const BACKLOG: usize = 500_000;

pub(crate) async fn a_worker_stays_small(scene: Scene) -> anyhow::Result<()> {
    let worker = scene.worker(&[]).await?;
    let at_rest = worker.memory()?;
    println!("{at_rest} MiB at rest");
    ensure!(at_rest < 40, "{at_rest} MiB at rest");
    scene.matomo.set(Situation::BadGateway);
    let bodies: Vec<(String, Vec<u8>)> = (0..1_000)
        .map(|n| {
            let visitor = hits::visitor(n);
            (visitor.clone(), hits::valid(&visitor, "a page").to_string().into_bytes())
        })
        .collect();
    for _ in 0..BACKLOG / bodies.len() {
        scene.queues.publish(bodies.clone()).await?;
    }
    let waiting = worker.memory()?;
    scene.matomo.set(Situation::Fine);
    let before = scene.matomo.stored();
    eventually("the backlog drains", Duration::from_secs(60), async || {
        scene.matomo.stored() > before + 20_000
    })
    .await?;
    let draining = worker.memory()?;
    println!("{waiting} MiB with {BACKLOG} hits waiting, {draining} MiB while they drain");
    ensure!(waiting < 120 && draining < 120, "{waiting} MiB, then {draining} MiB");
    worker.stop().await
}
