//! A Matomo that is slow is sent less at a time, and no hit twice: several workers, and a stand-in
//! that serves a few requests at a time in order, and stores even what nobody waits for any more.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::Scene;
use crate::shards::share_by;
use crate::support::books::{Allowed, Books, EIGHT_SHARDS, Places, at_rest};
use crate::support::matomo::{Answer, Pool};
use crate::support::worker::Worker;
use crate::support::{eventually, hits, report};

/// A tenth of the defaults, so that a test takes a tenth of the time.
const TIMEOUT: Duration = Duration::from_secs(6);
pub(crate) const VARS: [(&str, &str); 2] = [("MATOMO_TIMEOUT", "6s"), ("RETRY_DELAYS", "8s,16s")];
pub(crate) const PLACES: Places<'_> = Places { shards: 8, delays: &["8s", "16s"] };

/// After so long the workers have settled.
const SETTLED: Duration = Duration::from_secs(10);

pub(crate) const MILLIS: fn(u64) -> Duration = Duration::from_millis;

/// A slow Matomo.
#[derive(Clone, Copy)]
pub(crate) struct Speed {
    pub(crate) processes: u32,
    pub(crate) per_request: Duration,
    pub(crate) per_hit: Duration,
    /// Requests beyond so many that wait are refused.
    pub(crate) most_waiting: usize,
}

impl Speed {
    /// Hits per second that it takes at most, in requests of so many hits.
    pub(crate) fn limit(&self, bulk: u32) -> f64 {
        let per_hit = self.per_hit + self.per_request / bulk;
        f64::from(self.processes) / per_hit.as_secs_f64()
    }

    pub(crate) fn apply(&self, scene: &Scene) {
        let mut ledger = scene.matomo.ledger();
        (ledger.per_request, ledger.per_hit) = (self.per_request, self.per_hit);
        ledger.pool = Some(Pool::new(self.processes as usize, self.most_waiting));
    }
}

/// A slow Matomo, and who sends to it.
struct Slow {
    name: &'static str,
    speed: Speed,
    vars: &'static [(&'static str, &'static str)],
    /// Hits of a full request.
    bulk: u32,
    replicas: usize,
    hits: usize,
    /// Of what the stand-in could take in full requests, so much is reached at least, from when
    /// the workers have settled until a tenth of the hits is left, of which one worker may have
    /// more than another.
    share: f64,
}

impl Slow {
    async fn deliver(self, scene: Scene) -> anyhow::Result<()> {
        let Self { name, speed, vars, .. } = self;
        let vars = [&VARS[..], vars].concat();
        speed.apply(&scene);
        let mut books = Books::default();
        let mut workers = Vec::new();
        for _ in 0..self.replicas {
            workers.push(scene.worker(&vars).await?);
        }
        let within = Duration::from_secs(120);
        share_out(&scene, PLACES.shards, self.replicas).await?;
        let started = Instant::now();
        scene.queues.publish(books.load(self.hits, self.hits / 4)).await?;
        let all = books.published();
        eventually("all are stored", within, async || scene.matomo.stored() >= all)
            .await
            .with_context(|| workers[0].log())?;
        let took = started.elapsed();
        let limit = speed.limit(self.bulk);
        let whole = rate(self.hits, took) / limit;
        let settled =
            settled(&scene.matomo.ledger().answers, started + SETTLED, all - self.hits / 10);
        let share = settled / limit;
        let p95 = percentile(&scene.matomo.ledger().answers, started + SETTLED, 0.95);
        println!(
            "{name}: {share:.2} of its limit, {whole:.2} from the first to the last hit in \
             {took:.1?}; 95 of 100 answers in {p95:.2?}"
        );
        at_rest(all, &scene.matomo, &scene.queues, &PLACES, &workers, within).await?;
        for worker in workers {
            worker.stop().await?;
        }
        let balance = books.balance(&scene.matomo, &scene.queues, &PLACES).await?;
        report::record(name, 1, &balance, Allowed::default())?;
        balance.all_delivered()?;
        ensure!(share >= self.share, "{share:.2} of its limit");
        ensure!(p95 < TIMEOUT / 5, "95 of 100 answers take up to {p95:.2?}");
        Ok(())
    }
}

/// The first worker has all shards until something comes that shows it what it has. What cannot be
/// read needs no request, so that Matomo is new to all of them afterwards. It ends when no shard
/// moves any more: what moves holds up its hits for a moment.
async fn share_out(scene: &Scene, shards: u16, replicas: usize) -> anyhow::Result<()> {
    let mut published = 0;
    let garbage = || {
        published += 400;
        (0..400).map(|n| (hits::visitor(n), b"no hit".to_vec()))
    };
    let at_rest = (0.99, Duration::from_secs(60));
    share_by(scene, shards, replicas, at_rest, garbage).await?;
    let is_rejected = async || scene.queues.ready("rejected").await.is_ok_and(|n| n == published);
    eventually("all of it is rejected", SETTLED, is_rejected).await?;
    scene.queues.take("rejected").await?;
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a few thousand hits")]
pub(crate) fn rate(hits: usize, time: Duration) -> f64 {
    hits as f64 / time.as_secs_f64()
}

/// Hits per second from then on until so many are stored.
fn settled(answers: &[Answer], since: Instant, until: usize) -> f64 {
    let (mut before, mut hits, mut end) = (0, 0, since);
    for answer in answers {
        if before + hits >= until {
            break;
        }
        if answer.at < since {
            before += answer.hits;
        } else {
            (hits, end) = (hits + answer.hits, answer.at);
        }
    }
    rate(hits, end - since)
}

/// How long so large a share of the answers since then took at most.
fn percentile(answers: &[Answer], since: Instant, share: f64) -> Duration {
    let later = answers.iter().filter(|answer| answer.at > since);
    let mut took: Vec<Duration> = later.map(|answer| answer.took).collect();
    took.sort();
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a few thousand answers"
    )]
    let place = (took.len() as f64 * share) as usize;
    took.get(place).copied().unwrap_or_default()
}

pub(crate) async fn the_full_rate_at_20_ms_a_hit(scene: Scene) -> anyhow::Result<()> {
    let slow = Slow {
        name: "Matomo takes 99 hits/s, four workers",
        speed: Speed {
            processes: 2,
            per_request: MILLIS(10),
            per_hit: MILLIS(20),
            most_waiting: usize::MAX,
        },
        vars: &[],
        bulk: 50,
        replicas: 4,
        hits: 2_000,
        share: 0.85,
    };
    slow.deliver(scene).await
}

pub(crate) async fn the_full_rate_at_100_ms_a_hit(scene: Scene) -> anyhow::Result<()> {
    let slow = Slow {
        name: "Matomo takes 20 hits/s, four workers",
        speed: Speed {
            processes: 2,
            per_request: MILLIS(10),
            per_hit: MILLIS(100),
            most_waiting: usize::MAX,
        },
        vars: &[],
        bulk: 50,
        replicas: 4,
        hits: 600,
        share: 0.85,
    };
    slow.deliver(scene).await
}

pub(crate) async fn one_whose_full_request_outlasts_the_timeout(
    scene: Scene,
) -> anyhow::Result<()> {
    let slow = Slow {
        name: "a full request to Matomo outlasts the timeout, two workers",
        speed: Speed {
            processes: 1,
            per_request: MILLIS(50),
            per_hit: MILLIS(500),
            most_waiting: usize::MAX,
        },
        vars: &[],
        bulk: 50,
        replicas: 2,
        hits: 60,
        share: 0.85,
    };
    slow.deliver(scene).await
}

pub(crate) async fn one_that_refuses_what_it_has_no_room_for(scene: Scene) -> anyhow::Result<()> {
    let slow = Slow {
        name: "Matomo answers 502 when more than 6 requests wait, four workers",
        speed: Speed {
            processes: 2,
            per_request: MILLIS(10),
            per_hit: MILLIS(20),
            most_waiting: 6,
        },
        vars: &[],
        bulk: 50,
        replicas: 4,
        hits: 2_000,
        share: 0.85,
    };
    slow.deliver(scene).await
}

pub(crate) async fn one_hit_a_request(scene: Scene) -> anyhow::Result<()> {
    let slow = Slow {
        name: "Matomo takes 40 single hits/s, four workers",
        speed: Speed {
            processes: 2,
            per_request: MILLIS(10),
            per_hit: MILLIS(40),
            most_waiting: usize::MAX,
        },
        vars: &[("MATOMO_API", "single")],
        bulk: 1,
        replicas: 4,
        hits: 800,
        share: 0.85,
    };
    slow.deliver(scene).await
}

/// Each request costs Matomo more than a hit in it, so a backlog goes in full ones.
pub(crate) async fn full_requests_while_a_backlog_waits(scene: Scene) -> anyhow::Result<()> {
    let speed = Speed {
        processes: 4,
        per_request: MILLIS(10),
        per_hit: MILLIS(3),
        most_waiting: usize::MAX,
    };
    speed.apply(&scene);
    let vars = [("MATOMO_CONCURRENCY", "4")];
    scene.declare(&vars).await?;
    let mut books = Books::default();
    scene.queues.publish(books.load(8_000, 2_000)).await?;
    let worker = scene.worker(&vars).await?;
    eventually("it is under way", Duration::from_secs(30), async || scene.matomo.stored() >= 2_000)
        .await?;
    let before = scene.matomo.ledger().answers.len();
    eventually("most are stored", Duration::from_secs(60), async || scene.matomo.stored() >= 7_000)
        .await?;
    let (hits, requests) = {
        let ledger = scene.matomo.ledger();
        let answers = &ledger.answers[before..];
        (answers.iter().map(|answer| answer.hits).sum::<usize>(), answers.len())
    };
    let (tenths, least) = (hits * 10 / requests, 450);
    println!("{}.{} hits a request of 50", tenths / 10, tenths % 10);
    ensure!(tenths >= least, "{hits} hits in {requests} requests");
    at_rest(8_000, &scene.matomo, &scene.queues, &EIGHT_SHARDS, &[&worker], SETTLED).await?;
    worker.stop().await
}

/// The page tells what keeps a backlog waiting.
pub(crate) async fn what_limits_the_rate_is_said(scene: Scene) -> anyhow::Result<()> {
    scene.declare(&[]).await?;
    let mut books = Books::default();
    scene.queues.publish(books.load(6_000, 1_500)).await?;
    let half_a_minute = 3 * SETTLED;
    // A worker alone, and a Matomo that answers at once.
    let worker = scene.worker(&[("MATOMO_MAX_RATE", "100"), ("MATOMO_BULK_SIZE", "10")]).await?;
    says(&worker, "max_rate", half_a_minute).await?;
    worker.stop().await?;
    scene.matomo.ledger().per_request = MILLIS(200);
    let vars = [("MATOMO_CONCURRENCY", "2"), ("MATOMO_BULK_SIZE", "20"), ("MATOMO_TIMEOUT", "65s")];
    let worker = scene.worker(&vars).await?;
    says(&worker, "settings", half_a_minute).await?;
    worker.stop().await?;
    // A Matomo that is slow.
    scene.matomo.ledger().per_hit = MILLIS(50);
    let worker = scene.worker(&VARS).await?;
    says(&worker, "matomo", half_a_minute).await?;
    let (_, page) = worker.get("/?lang=en").await?;
    ensure!(page.contains("hits/s and is the limit"), "{page}");
    worker.stop().await
}

async fn says(worker: &Worker, bottleneck: &str, within: Duration) -> anyhow::Result<()> {
    let words = format!("\"bottleneck\": \"{bottleneck}\"");
    eventually(&format!("the page says {bottleneck}"), within, async || {
        worker.get("/status.json").await.is_ok_and(|(_, status)| status.contains(&words))
    })
    .await
    .context(worker.get("/status.json").await?.1)
}

/// Whoever comes later gets as much of Matomo as those that were there.
pub(crate) async fn one_that_joins_three_gets_its_share(scene: Scene) -> anyhow::Result<()> {
    let speed = Speed {
        processes: 2,
        per_request: MILLIS(10),
        per_hit: MILLIS(20),
        most_waiting: usize::MAX,
    };
    // Enough shards that each worker has some. All that the workers have taken would last for 48 s.
    let vars = [&VARS[..], &[("QUEUE_SHARDS", "32")]].concat();
    speed.apply(&scene);
    let mut workers = Vec::new();
    for _ in 0..3 {
        workers.push(scene.worker(&vars).await?);
    }
    share_out(&scene, 32, 3).await?;
    let mut books = Books::default();
    // So much that nobody runs out of it.
    scene.queues.publish(books.load(16_000, 4_000)).await?;
    eventually("the three are under way", Duration::from_secs(30), async || {
        scene.matomo.stored() >= 1_000
    })
    .await?;
    workers.push(scene.worker(&vars).await?);
    let joined = Instant::now();
    let settled = joined + 3 * SETTLED;
    eventually("it has settled", 2 * 3 * SETTLED, async || Instant::now() >= settled).await?;
    let before = delivered(&workers).await?;
    let enough = scene.matomo.stored() + 2_500;
    eventually("some more are stored", 6 * SETTLED, async || scene.matomo.stored() >= enough)
        .await?;
    let after = delivered(&workers).await?;
    let counts: Vec<f64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
    let fair = counts.iter().sum::<f64>() / 4.0;
    let shares: Vec<f64> = counts.iter().map(|count| count / fair).collect();
    println!("shares {shares:.2?}, the last one joined the others");
    ensure!(
        shares.iter().all(|share| (0.75..=1.25).contains(share)),
        "shares {shares:?} of what is fair"
    );
    ensure!(scene.matomo.ledger().answers.iter().all(|answer| !answer.too_late), "a copy");
    for worker in workers {
        worker.stop().await?;
    }
    Ok(())
}

async fn delivered(workers: &[Worker]) -> anyhow::Result<Vec<f64>> {
    let mut counts = Vec::new();
    for worker in workers {
        counts.push(worker.sum("delivered_total").await?);
    }
    Ok(counts)
}
