//! Every answer that Matomo or a proxy can give has its fate: the table of the design, as a table.

use std::time::Duration;

use anyhow::{Context, ensure};

use crate::Scene;
use crate::support::matomo::{HitFault, Situation};
use crate::support::{eventually, hits};

/// Where a hit is after its first answer.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    /// Acked, counted so.
    Delivered(&'static str),
    /// In the first retry queue, for this reason; in doubt or not.
    Retry(&'static str, bool),
}

use Fate::{Delivered, Retry};

/// Situation, fate in bulk, fate in single mode.
const TABLE: &[(Situation, Fate, Fate)] = &[
    (Situation::Fine, Delivered("stored"), Delivered("stored")),
    (Situation::Maintenance, Delivered("stored"), Delivered("stored")),
    (Situation::NoContent, Delivered("queued"), Delivered("stored")),
    (Situation::QueuedTracking, Delivered("queued"), Delivered("stored")),
    (Situation::DatabaseDown, Retry("server-error", false), Retry("client-error", false)),
    (Situation::DatabaseDiesMidBulk, Retry("not-matomo", false), Retry("not-matomo", false)),
    (Situation::Deadlock, Retry("server-error", false), Retry("server-error", false)),
    (Situation::LockWait, Retry("tracker-off", false), Retry("client-error", false)),
    (Situation::TrackerOff, Retry("tracker-off", false), Retry("unavailable", false)),
    (Situation::NotInstalled, Retry("not-matomo", false), Retry("not-matomo", false)),
    (Situation::LoginPage, Retry("not-matomo", false), Retry("not-matomo", false)),
    (Situation::PhpFatal, Retry("server-error", false), Retry("server-error", false)),
    (Situation::AllButCommitted, Retry("server-error", true), Retry("client-error", false)),
    (Situation::NoTransaction, Retry("server-error", false), Retry("server-error", false)),
    (Situation::Notices, Delivered("stored"), Delivered("stored")),
    (Situation::TwoCounts, Retry("count-mismatch", true), Retry("not-matomo", false)),
    (Situation::BadGateway, Retry("bad-gateway", true), Retry("bad-gateway", true)),
    (Situation::GatewayTimeout, Retry("gateway-timeout", true), Retry("gateway-timeout", true)),
    (Situation::TooLarge, Retry("client-error", false), Retry("client-error", false)),
    (Situation::Forbidden, Retry("client-error", false), Retry("client-error", false)),
    (Situation::Redirect, Retry("redirect", false), Retry("redirect", false)),
    (
        Situation::TooManyRequests(0),
        Retry("too-many-requests", false),
        Retry("too-many-requests", false),
    ),
    (Situation::Slow(Duration::from_millis(1_500)), Retry("timeout", true), Retry("timeout", true)),
    (Situation::Broken, Retry("connection-lost", true), Retry("connection-lost", true)),
    (Situation::Endless, Retry("not-matomo", false), Retry("not-matomo", false)),
];

pub(crate) async fn every_answer_has_its_fate(scene: Scene) -> anyhow::Result<()> {
    for api in ["bulk", "single"] {
        for (number, (situation, in_bulk, in_single)) in TABLE.iter().enumerate() {
            let fate = if api == "bulk" { *in_bulk } else { *in_single };
            // A worker of its own each time: its breaker is closed and its counters are at zero.
            let worker = scene
                .worker(&[
                    ("MATOMO_API", api),
                    ("RETRY_DELAYS", "600s"),
                    ("MATOMO_TIMEOUT", "1s"),
                    ("QUEUE_SHARDS", "2"),
                ])
                .await?;
            scene.matomo.set(*situation);
            let visitor = hits::visitor(number);
            let body = hits::valid(&visitor, &format!("{api} {number}")).to_string().into_bytes();
            scene.queues.publish([(visitor, body.clone())]).await?;
            let counter = match fate {
                Delivered(_) => "delivered_total",
                Retry(..) => "retried_total",
            };
            worker
                .until(counter, Duration::from_secs(20), |n| n == 1.0)
                .await
                .with_context(|| format!("{api} {situation:?}: not {fate:?}"))?;
            let metrics = worker.metrics().await?;
            let value =
                |key: &str| metrics.get(&format!("dnma_relay_{key}")).copied().unwrap_or(-1.0);
            let in_queue = scene.queues.take("retry.600s").await?;
            match fate {
                Delivered(how) => {
                    ensure!(
                        value(&format!("delivered_total{{how=\"{how}\"}}")) == 1.0,
                        "{api} {situation:?}: not delivered as {how}"
                    );
                    ensure!(in_queue.is_empty(), "{api} {situation:?}: delivered and retried");
                }
                Retry(reason, in_doubt) => {
                    let message = in_queue
                        .first()
                        .with_context(|| format!("{api} {situation:?}: not in the retry queue"))?;
                    let found = message.headers.get("x-dnma-reason").map(String::as_str);
                    ensure!(
                        found == Some(reason),
                        "{api} {situation:?}: {found:?} instead of {reason}"
                    );
                    ensure!(
                        message.headers.get("x-dnma-attempt").is_some_and(|n| n == "1"),
                        "{api} {situation:?}: {:?}",
                        message.headers
                    );
                    ensure!(message.body == body, "{api} {situation:?}: the body changed");
                    let doubts = worker.sum("doubtful_total").await?;
                    ensure!((doubts == 1.0) == in_doubt, "{api} {situation:?}: {doubts} doubts");
                }
            }
            worker.stop().await?;
        }
    }
    Ok(())
}

pub(crate) async fn one_bad_hit_fails_alone(scene: Scene) -> anyhow::Result<()> {
    // One among a hundred that are fine, in each of the two ways that Matomo has.
    for (fault, reason) in [(HitFault::Exception, "server-error"), (HitFault::Invalid, "refused")] {
        let name = format!("{fault:?}");
        let bad = hits::visitor(10_000);
        {
            let mut ledger = scene.matomo.ledger();
            ledger.faults.insert(bad.clone(), fault);
            ledger.per_request = Duration::from_millis(50);
        }
        let worker = scene
            .worker(&[("QUEUE_SHARDS", "2"), ("MATOMO_CONCURRENCY", "1"), ("RETRY_DELAYS", "600s")])
            .await?;
        let before = scene.matomo.stored();
        let load = (0..101).map(|n| {
            let visitor = if n == 50 { bad.clone() } else { hits::visitor(n) };
            let body = hits::valid(&visitor, &format!("{name} {n}")).to_string().into_bytes();
            (visitor, body)
        });
        scene.queues.publish(load).await?;
        let stored = |wanted: usize| {
            scene.matomo.copies().keys().filter(|id| id.starts_with(&name)).count() == wanted
        };
        eventually("the others are stored", Duration::from_secs(30), async || stored(100)).await?;
        worker.until("retried_total", Duration::from_secs(30), |n| n == 1.0).await?;
        let retried = scene.queues.take("retry.600s").await?;
        ensure!(retried.len() == 1 && retried[0].key == bad, "{} hits were retried", retried.len());
        ensure!(
            retried[0].headers.get("x-dnma-reason").is_some_and(|found| found == reason),
            "{:?}",
            retried[0].headers
        );
        ensure!(worker.sum("outage_seconds").await? == 0.0, "one hit's fault opened the breaker");
        let repeats = scene.matomo.stored() - before - 100;
        println!("{name}: {repeats} of 100 good hits were stored again");
        ensure!(fault == HitFault::Invalid || repeats == 0, "halving stored {repeats} hits twice");
        worker.stop().await?;
    }
    Ok(())
}

pub(crate) async fn old_hits_need_a_token(scene: Scene) -> anyhow::Result<()> {
    let now = jiff::Timestamp::now().as_second();
    let at = |n: usize, age: i64| {
        let visitor = hits::visitor(n);
        let body = hits::valid_at(&visitor, &format!("{n}"), now - age).to_string().into_bytes();
        (visitor, body)
    };
    scene.matomo.ledger().token = Some("good".to_owned());
    let without = scene.worker(&[("QUEUE_SHARDS", "2")]).await?;
    scene.queues.publish([at(1, 86_400), at(2, 86_200), at(3, 80_000)]).await?;
    eventually("the younger ones are stored", Duration::from_secs(20), async || {
        scene.matomo.stored() == 2
    })
    .await?;
    eventually("the old one is parked", Duration::from_secs(20), async || {
        scene.queues.ready("parked").await.unwrap_or(0) == 1
    })
    .await?;
    let parked = scene.queues.take("parked").await?;
    ensure!(
        parked[0].headers.get("x-dnma-reason").is_some_and(|reason| reason == "too-old"),
        "{:?}",
        parked[0].headers
    );
    ensure!(scene.matomo.ledger().attempts.len() == 2, "the old one was sent all the same");
    // Hits over 20 h old are counted.
    without.until("near_limit_total", Duration::from_secs(10), |n| n == 2.0).await?;
    without.stop().await?;
    let with = scene
        .worker(&[
            ("QUEUE_SHARDS", "2"),
            ("MATOMO_TOKEN_AUTH", "good"),
            ("MATOMO_CONCURRENCY", "1"),
        ])
        .await?;
    scene.queues.publish([at(4, 90_000), at(5, 10), at(6, 200_000)]).await?;
    eventually("all are stored", Duration::from_secs(20), async || scene.matomo.stored() == 5)
        .await?;
    ensure!(
        scene.matomo.ledger().stored.iter().all(|hit| !hit.parameters.contains_key("token_auth")),
        "a token inside a hit"
    );
    with.stop().await
}

/// Where Matomo wants the token from an hour on and `MATOMO_MAX_AGE` says so, hits on both sides of
/// the line are stored once, and a hit is old at five sixths of it.
pub(crate) async fn another_age_limit_is_kept(scene: Scene) -> anyhow::Result<()> {
    const HITS: usize = 120;
    {
        let mut ledger = scene.matomo.ledger();
        ledger.token = Some("good".to_owned());
        ledger.max_age = 3_600;
    }
    let worker = scene
        .worker(&[("MATOMO_TOKEN_AUTH", "good"), ("MATOMO_MAX_AGE", "1h"), ("RETRY_DELAYS", "1s")])
        .await?;
    let now = jiff::Timestamp::now().as_second();
    let ages = [10, 3_300, 4_000, 90_000];
    let load = (0..HITS).map(|n| {
        let visitor = hits::visitor(n);
        let body = hits::valid_at(&visitor, &format!("{n}"), now - ages[n % ages.len()]);
        (visitor, body.to_string().into_bytes())
    });
    scene.queues.publish(load).await?;
    eventually("all are stored", Duration::from_secs(30), async || scene.matomo.stored() >= HITS)
        .await?;
    let near = (HITS - HITS / ages.len()) as f64;
    worker.until("near_limit_total", Duration::from_secs(10), |n| n == near).await?;
    worker.until("max_age_seconds", Duration::from_secs(10), |n| n == 3_600.0).await?;
    worker.stop().await?;
    ensure!(scene.matomo.stored() == HITS, "{} of {HITS} stored", scene.matomo.stored());
    ensure!(scene.queues.ready("parked").await? == 0, "hits are parked with a good token");
    ensure!(scene.matomo.ledger().failed_tokens == 0, "a good token was refused");
    Ok(())
}

pub(crate) async fn a_bad_token_rests(scene: Scene) -> anyhow::Result<()> {
    let now = jiff::Timestamp::now().as_second();
    let worker = scene
        .worker(&[("QUEUE_SHARDS", "2"), ("MATOMO_TOKEN_AUTH", "bad"), ("RETRY_DELAYS", "1s")])
        .await?;
    let load = (0..200).map(|n| {
        let visitor = hits::visitor(n);
        let age = if n % 2 == 0 { 90_000 } else { 10 };
        let body = hits::valid_at(&visitor, &format!("{n}"), now - age).to_string().into_bytes();
        (visitor, body)
    });
    scene.queues.publish(load).await?;
    eventually("the old ones are parked", Duration::from_secs(60), async || {
        scene.queues.ready("parked").await.unwrap_or(0) == 100
    })
    .await?;
    eventually("the young ones are stored", Duration::from_secs(20), async || {
        scene.matomo.copies().len() == 100
    })
    .await?;
    let failed = scene.matomo.ledger().failed_tokens;
    ensure!(
        (1..=3).contains(&failed),
        "{failed} failed token checks: over 20 an hour lock the address out"
    );
    ensure!(worker.log().contains("MATOMO_TOKEN_AUTH"), "the log does not name the setting");
    worker.stop().await
}

pub(crate) async fn the_worker_is_nobodys_browser(scene: Scene) -> anyhow::Result<()> {
    let worker = scene
        .worker(&[("QUEUE_SHARDS", "2"), ("VALIDATION", "observe"), ("MATOMO_SITE_ID", "1")])
        .await?;
    let visitor = hits::visitor(1);
    let hit = hits::without(hits::without(hits::valid(&visitor, "no browser"), "ua"), "idsite");
    let hit = hits::with(hit, "dimension5", "unknown to the plan".into());
    scene.queues.publish([(visitor, hit.to_string().into_bytes())]).await?;
    eventually("it is stored", Duration::from_secs(20), async || scene.matomo.stored() == 1)
        .await?;
    let (sent, user_agents) = {
        let ledger = scene.matomo.ledger();
        (ledger.stored[0].parameters.clone(), ledger.user_agents.clone())
    };
    ensure!(!sent.contains_key("ua") && !sent.contains_key("dimension5"), "{sent:?}");
    ensure!(
        user_agents.iter().all(Option::is_none),
        "a User-Agent header was sent: {user_agents:?}"
    );
    ensure!(sent.get("idsite").is_some_and(|site| site == "1"), "{sent:?}");
    ensure!(
        sent.get("rec").is_some_and(|rec| rec == "1")
            && sent.get("apiv").is_some_and(|apiv| apiv == "1"),
        "{sent:?}"
    );
    ensure!(sent.get("rand").is_some_and(|rand| rand.len() == 8), "{sent:?}");
    ensure!(sent.contains_key("urlref") && !sent.contains_key("url_ref"), "{sent:?}");
    worker.stop().await
}

pub(crate) async fn the_rate_is_kept(scene: Scene) -> anyhow::Result<()> {
    let worker = scene
        .worker(&[("QUEUE_SHARDS", "2"), ("MATOMO_MAX_RATE", "100"), ("MATOMO_BULK_SIZE", "10")])
        .await?;
    scene.queues.publish(hits::load(0..400, 400)).await?;
    eventually("all are stored", Duration::from_secs(30), async || scene.matomo.stored() == 400)
        .await?;
    let times: Vec<_> = scene.matomo.ledger().stored.iter().map(|hit| hit.at).collect();
    let (first, last) = (times[0], times[399]);
    let seconds = last.duration_since(first).as_secs_f64();
    ensure!((3.5..6.0).contains(&seconds), "400 hits at 100 a second took {seconds:.1} s");
    worker.stop().await
}
