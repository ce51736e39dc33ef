//! A RabbitMQ of three nodes: one of them may die, stop or be cut off at any moment, and the hits
//! flow on through the others.

use std::sync::Arc;

use crate::Scene;
use crate::drill::{Drill, PREFETCH};
use crate::support::books::Allowed;
use crate::support::cluster::Cluster;
use crate::support::queues::Queues;
use crate::support::rabbitmq::Broker;

enum Blow {
    KillLeader,
    StopOne,
    CutOneOff,
}

pub(crate) async fn one_node_of_three_may_fail(shared: Scene) -> anyhow::Result<()> {
    if !shared.broker.is_container() {
        println!("SKIPPED: a cluster of RabbitMQ takes Docker, and these tests run without it");
        return Ok(());
    }
    let cluster = Cluster::start().await?;
    println!("a cluster of three RabbitMQ {} nodes", cluster.version);
    drill(&cluster, "the leader of a shard is killed, of three nodes", Blow::KillLeader).await?;
    drill(&cluster, "a minority is stopped, of three nodes", Blow::StopOne).await?;
    drill(&cluster, "a node is cut off and healed, of three nodes", Blow::CutOneOff).await
}

async fn drill(cluster: &Cluster, name: &str, blow: Blow) -> anyhow::Result<()> {
    let place = match blow {
        Blow::KillLeader => "leader",
        Blow::StopOne => "minority",
        Blow::CutOneOff => "cut-off",
    };
    let scene = Scene::new(Arc::new(Broker::at(&cluster.urls(0)[0])?), place).await?;
    let mut drill = Drill::new(scene);
    let (first, second) = (cluster.urls(0).join(","), cluster.urls(1).join(","));
    let workers = vec![
        drill.worker(&[("AMQP_URL", &first)]).await?,
        drill.worker(&[("AMQP_URL", &second)]).await?,
    ];
    let victim = cluster.leader(&format!("{}.0", drill.scene.prefix)).await?;
    // The test's own eyes are on a node that stays.
    drill.scene.queues = Queues::connect(&cluster.urls(victim + 1)[0], &drill.scene.prefix).await?;
    drill.publish(3_000).await?;
    drill.flow(200).await?;
    match blow {
        Blow::KillLeader => cluster.kill(victim).await?,
        Blow::StopOne => cluster.stop(victim).await?,
        Blow::CutOneOff => cluster.cut_off(victim).await?,
    }
    // With a node missing, an ENT publishes on and hits are delivered on.
    drill.publish(1_000).await?;
    drill.flow(500).await?;
    match blow {
        Blow::KillLeader | Blow::StopOne => cluster.start_again(victim).await?,
        Blow::CutOneOff => cluster.heal(victim).await?,
    }
    drill.publish(500).await?;
    let both = PREFETCH * workers.len();
    drill
        .close(workers, name, 1, Allowed { repeated: both, out_of_order: both, overlaps: both })
        .await
}
