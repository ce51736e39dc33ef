//! A worker is small, however much waits for it.

use std::time::Duration;

use anyhow::ensure;

use crate::Scene;
use crate::support::matomo::Situation;
use crate::support::worker::program;
use crate::support::{eventually, hits};

const BACKLOG: usize = 500_000;

/// MiB that a worker may have at rest, and with a backlog.
///
/// The README promises 26 of a release build, which is tested where `DNMA_RELAY` names one. A debug
/// build carries more code and larger futures: it was measured at 31 at rest, 34 while the backlog
/// waits and 36 while it drains, each time the same. What is above that is for another allocator
/// and another number of cores. A worker that kept its backlog would have hundreds.
fn bounds() -> (u64, u64) {
    let release = program().parent().is_some_and(|folder| folder.ends_with("release"));
    if release { (26, 32) } else { (36, 42) }
}

pub(crate) async fn a_worker_stays_small(scene: Scene) -> anyhow::Result<()> {
    let worker = scene.worker(&[]).await?;
    let at_rest = worker.memory()?;
    println!("{at_rest} MiB at rest");
    let (most_at_rest, most) = bounds();
    ensure!(at_rest < most_at_rest, "{at_rest} MiB at rest");
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
    ensure!(waiting < most && draining < most, "{waiting} MiB, then {draining} MiB");
    worker.stop().await
}
