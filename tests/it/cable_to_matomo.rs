//! Whatever the line to Matomo does, no hit is lost, and only those that met the fault may be
//! repeated.

use std::time::Duration;

use crate::Scene;
use crate::drill::{Drill, IN_FLIGHT, PROBES};
use crate::support::books::Allowed;
use crate::support::cable::{Cable, Fault};

/// Times that each fault strikes in one drill.
const TIMES: usize = 3;

/// How the line breaks, and for how long.
enum Break {
    Cut,
    As(Fault),
}

async fn drill(
    scene: Scene,
    name: &str,
    how: Break,
    lasts: Duration,
    allowed: Allowed,
) -> anyhow::Result<()> {
    let mut drill = Drill::new(scene);
    let mut cable = Cable::to(drill.scene.matomo.address()).await?;
    let url = format!("http://127.0.0.1:{}/", cable.port());
    let worker = drill.worker(&[("MATOMO_URL", &url)]).await?;
    for _ in 0..TIMES {
        drill.publish(600).await?;
        drill.flow(100).await?;
        match how {
            Break::Cut => cable.cut().await,
            Break::As(fault) => cable.set(fault),
        }
        // The fault is the time that it lasts: there is nothing to wait for but that.
        tokio::time::sleep(lasts).await;
        cable.set(Fault::None);
        cable.mend().await?;
        drill.flow_again().await?;
    }
    let times = u32::try_from(TIMES)? as usize;
    let all = Allowed {
        repeated: allowed.repeated * times,
        out_of_order: allowed.out_of_order * times,
        overlaps: allowed.overlaps * times,
    };
    drill.close(vec![worker], name, TIMES, all).await
}

/// What was in requests when the line broke, and one hit for each probe of it.
const DOUBTFUL: Allowed = Allowed {
    repeated: IN_FLIGHT + PROBES,
    out_of_order: IN_FLIGHT + PROBES,
    overlaps: IN_FLIGHT + PROBES,
};

pub(crate) async fn cut(scene: Scene) -> anyhow::Result<()> {
    drill(scene, "the line to Matomo is cut", Break::Cut, Duration::from_secs(2), DOUBTFUL).await
}

pub(crate) async fn frozen(scene: Scene) -> anyhow::Result<()> {
    drill(
        scene,
        "the line to Matomo freezes",
        Break::As(Fault::Frozen),
        Duration::from_secs(4),
        DOUBTFUL,
    )
    .await
}

pub(crate) async fn reset_after_the_request(scene: Scene) -> anyhow::Result<()> {
    let how = Break::As(Fault::ResetOnAnswer);
    drill(
        scene,
        "Matomo stores, and the connection is reset before its answer",
        how,
        Duration::from_secs(1),
        DOUBTFUL,
    )
    .await
}

pub(crate) async fn corrupt_answers(scene: Scene) -> anyhow::Result<()> {
    let how = Break::As(Fault::CorruptAnswers);
    drill(
        scene,
        "Matomo stores, and its answer arrives corrupt",
        how,
        Duration::from_secs(1),
        DOUBTFUL,
    )
    .await
}

pub(crate) async fn slow(scene: Scene) -> anyhow::Result<()> {
    let how = Break::As(Fault::Delayed(Duration::from_millis(200)));
    drill(
        scene,
        "the line to Matomo is 0.4 s slower",
        how,
        Duration::from_secs(2),
        Allowed::default(),
    )
    .await
}

pub(crate) async fn thin(scene: Scene) -> anyhow::Result<()> {
    let how = Break::As(Fault::Throttled(20_000));
    drill(
        scene,
        "the line to Matomo carries 20 kB/s per connection",
        how,
        Duration::from_secs(2),
        Allowed::default(),
    )
    .await
}
