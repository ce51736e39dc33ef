//! A Matomo that is slow is sent less at a time, and no hit twice: several workers, and a stand-in
//! that serves a few requests at a time in order, and stores even what nobody waits for any more.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::Scene;
use crate::support::books::{Allowed, Books, Places, at_rest};
use crate::support::matomo::Pool;
use crate::support::{eventually, report};

/// A tenth of the defaults, so that a test takes a tenth of the time.
const VARS: [(&str, &str); 2] = [("MATOMO_TIMEOUT", "6s"), ("RETRY_DELAYS", "8s,16s")];

const PLACES: Places<'_> = Places { shards: 8, delays: &["8s", "16s"] };

/// Hits of a full request.
const BULK: u32 = 50;

/// A slow Matomo, and who sends to it.
struct Slow {
    name: &'static str,
    processes: u32,
    per_request: Duration,
    per_hit: Duration,
    /// Requests beyond so many that wait are refused.
    most_waiting: usize,
    replicas: usize,
    hits: usize,
    /// Of what the stand-in could take in full requests, so much is reached at least.
    share: f64,
}

const MILLIS: fn(u64) -> Duration = Duration::from_millis;

impl Slow {
    /// Hits per second that it takes at most.
    fn limit(&self) -> f64 {
        let per_hit = self.per_hit + self.per_request / BULK;
        f64::from(self.processes) / per_hit.as_secs_f64()
    }

    async fn deliver(self, scene: Scene) -> anyhow::Result<()> {
        {
            let mut ledger = scene.matomo.ledger();
            (ledger.per_request, ledger.per_hit) = (self.per_request, self.per_hit);
            ledger.pool = Some(Pool::new(self.processes as usize, self.most_waiting));
        }
        scene.declare(&VARS).await?;
        let mut books = Books::default();
        scene.queues.publish(books.load(self.hits, self.hits / 4)).await?;
        let mut workers = Vec::new();
        let started = Instant::now();
        for _ in 0..self.replicas {
            workers.push(scene.worker(&VARS).await?);
        }
        let (all, within) = (self.hits, Duration::from_secs(120));
        eventually("all are stored", within, async || scene.matomo.stored() >= all)
            .await
            .with_context(|| workers[0].log())?;
        let took = started.elapsed();
        #[expect(clippy::cast_precision_loss, reason = "a few thousand hits")]
        let share = all as f64 / took.as_secs_f64() / self.limit();
        println!("{}: {share:.2} of its limit, in {took:.1?}", self.name);
        at_rest(all, &scene.matomo, &scene.queues, &PLACES, &workers, within).await?;
        for worker in workers {
            worker.stop().await?;
        }
        let balance = books.balance(&scene.matomo, &scene.queues, &PLACES).await?;
        println!("{}: {balance}", self.name);
        report::record(self.name, 1, &balance, Allowed::default())?;
        balance.all_delivered()?;
        ensure!(share >= self.share, "{share:.2} of its limit");
        Ok(())
    }
}

pub(crate) async fn the_full_rate_of_a_slow_one_and_no_copies(scene: Scene) -> anyhow::Result<()> {
    let slow = Slow {
        name: "Matomo takes 20 hits/s, four workers",
        processes: 2,
        per_request: MILLIS(10),
        per_hit: MILLIS(100),
        most_waiting: usize::MAX,
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
        processes: 1,
        per_request: MILLIS(50),
        per_hit: MILLIS(500),
        most_waiting: usize::MAX,
        replicas: 2,
        hits: 60,
        share: 0.7,
    };
    slow.deliver(scene).await
}

pub(crate) async fn one_that_refuses_what_it_has_no_room_for(scene: Scene) -> anyhow::Result<()> {
    let slow = Slow {
        name: "Matomo answers 502 when more than 6 requests wait, four workers",
        processes: 2,
        per_request: MILLIS(10),
        per_hit: MILLIS(20),
        most_waiting: 6,
        replicas: 4,
        hits: 2_000,
        share: 0.85,
    };
    slow.deliver(scene).await
}
