//! Whatever the line to RabbitMQ does, no hit is lost, and a worker repeats nothing of which it
//! knows that it is stored.

use std::time::Duration;

use anyhow::ensure;

use crate::Scene;
use crate::drill::{Drill, PREFETCH, broker_address};
use crate::support::books::Allowed;
use crate::support::cable::{Cable, Fault};

const TIMES: usize = 3;

/// Whether the worker is to lose its session by it.
#[derive(PartialEq)]
enum Session {
    Stands,
    IsLost,
}

async fn drill(
    scene: Scene,
    name: &str,
    fault: Option<Fault>,
    lasts: Duration,
    session: Session,
) -> anyhow::Result<()> {
    let mut drill = Drill::new(scene);
    let mut cable = Cable::to(broker_address(&drill.scene)?).await?;
    // A heartbeat of a second: a silent broker is given up within three.
    let url = format!("amqp://guest:guest@127.0.0.1:{}/%2f?heartbeat=1", cable.port());
    let worker = drill.worker(&[("AMQP_URL", &url)]).await?;
    let sessions = worker.sum("broker_sessions_total").await?;
    for _ in 0..TIMES {
        drill.publish(600).await?;
        drill.flow(100).await?;
        match fault {
            None => cable.cut().await,
            Some(fault) => cable.set(fault),
        }
        if session == Session::IsLost {
            worker.until("broker_up", Duration::from_secs(30), |up| up == 0.0).await?;
        } else {
            // The fault is the time that it lasts: there is nothing to wait for but that.
            tokio::time::sleep(lasts).await;
        }
        cable.set(Fault::None);
        cable.mend().await?;
        drill.flow_again().await?;
    }
    let stood = worker.sum("broker_sessions_total").await? == sessions;
    ensure!(
        stood == (session == Session::Stands),
        "the session {} : {}",
        if stood { "stood" } else { "was lost" },
        worker.log()
    );
    let recalled = worker.sum("delivered_total{how=\"duplicate\"}").await?;
    println!("{recalled} redelivered hits were acked unsent");
    // A line that froze delivers late what it held, acks too.
    let ends = fault.is_none() || fault == Some(Fault::ResetOnAnswer);
    ensure!(!ends || recalled > 0.0, "no ack was lost: the drill shows nothing");
    // What was held comes back behind what was not, and nothing is sent twice: this worker knows
    // what Matomo stored.
    let allowed = match session {
        Session::Stands => Allowed::default(),
        Session::IsLost => Allowed { out_of_order: PREFETCH * TIMES, ..Allowed::default() },
    };
    drill.close(vec![worker], name, TIMES, allowed).await
}

pub(crate) async fn cut(scene: Scene) -> anyhow::Result<()> {
    drill(scene, "the line to RabbitMQ is cut", None, Duration::ZERO, Session::IsLost).await
}

pub(crate) async fn frozen(scene: Scene) -> anyhow::Result<()> {
    drill(
        scene,
        "the line to RabbitMQ freezes until the heartbeat fails",
        Some(Fault::Frozen),
        Duration::ZERO,
        Session::IsLost,
    )
    .await
}

pub(crate) async fn reset(scene: Scene) -> anyhow::Result<()> {
    let fault = Some(Fault::ResetOnAnswer);
    drill(scene, "RabbitMQ's connections are reset", fault, Duration::ZERO, Session::IsLost).await
}

pub(crate) async fn slow(scene: Scene) -> anyhow::Result<()> {
    let fault = Some(Fault::Delayed(Duration::from_millis(100)));
    drill(
        scene,
        "the line to RabbitMQ is 0.2 s slower",
        fault,
        Duration::from_secs(2),
        Session::Stands,
    )
    .await
}

pub(crate) async fn thin(scene: Scene) -> anyhow::Result<()> {
    let fault = Some(Fault::Throttled(50_000));
    drill(
        scene,
        "the line to RabbitMQ carries 50 kB/s",
        fault,
        Duration::from_secs(2),
        Session::Stands,
    )
    .await
}
