//! Answers that leave doubt, again and again: an outage, before everything is stored twice.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::Scene;
use crate::slow::{MILLIS, PLACES, Speed, VARS, rate};
use crate::support::books::{Allowed, Books, at_rest};
use crate::support::matomo::Situation;
use crate::support::{eventually, report};

/// How long Matomo stands still: more than the timeout.
const STALL: Duration = Duration::from_secs(20);

/// After the end of a stall the full rate is back within so long.
const BACK: Duration = Duration::from_secs(10);

/// What was under way is stored when Matomo goes on, and is in doubt until then. Nothing else is
/// stored twice, and the rate comes back by itself.
pub(crate) async fn a_stall_repeats_only_what_was_under_way(scene: Scene) -> anyhow::Result<()> {
    const HITS: usize = 7_000;
    let speed = Speed {
        processes: 4,
        per_request: MILLIS(10),
        per_hit: MILLIS(20),
        most_waiting: usize::MAX,
    };
    speed.apply(&scene);
    let mut workers = Vec::new();
    for _ in 0..4 {
        workers.push(scene.worker(&VARS).await?);
    }
    let mut books = Books::default();
    scene.queues.publish(books.load(HITS, HITS / 4)).await?;
    let within = Duration::from_secs(120);
    eventually("they are under way", within, async || scene.matomo.stored() >= 2_000).await?;
    let pool = scene.matomo.ledger().pool.clone().context("a pool")?;
    pool.stand_still(true);
    let stalled = Instant::now();
    let (before, requests) = {
        let ledger = scene.matomo.ledger();
        (ledger.attempts.len() - ledger.stored.len(), ledger.requests)
    };
    eventually("the stall is over", 2 * STALL, async || stalled.elapsed() >= STALL).await?;
    let tried = scene.matomo.ledger().requests - requests;
    pool.stand_still(false);
    let moves = Instant::now();
    eventually("the rate may be back", 2 * BACK, async || moves.elapsed() >= BACK).await?;
    let (stored, since) = (scene.matomo.stored(), Instant::now());
    eventually("some more are stored", within, async || scene.matomo.stored() >= stored + 1_500)
        .await?;
    let share = rate(scene.matomo.stored() - stored, since.elapsed()) / speed.limit(50);
    at_rest(HITS, &scene.matomo, &scene.queues, &PLACES, &workers, within).await?;
    for worker in workers {
        worker.stop().await?;
    }
    let balance = books.balance(&scene.matomo, &scene.queues, &PLACES).await?;
    let late: Vec<usize> = {
        let ledger = scene.matomo.ledger();
        let late = ledger.answers.iter().filter(|answer| answer.too_late);
        late.map(|answer| answer.hits).collect()
    };
    let (late_requests, late_hits) = (late.len(), late.iter().sum::<usize>());
    println!(
        "{before} hits under way at the stall, {tried} requests tried during it; {late_requests} \
         requests of {late_hits} hits were answered too late; {share:.2} of the limit from 10 s \
         after it on"
    );
    // Each request of the stall is a probe, of one hit, but for those that were about to begin.
    let most = before + usize::try_from(tried)? * 2;
    ensure!(late_hits <= most, "{late_hits} hits are in doubt");
    let allowed = Allowed { repeated: late_hits, out_of_order: 2 * late_hits, overlaps: late_hits };
    report::record("Matomo stands still for 20 s, four workers", 1, &balance, allowed)?;
    balance.all_delivered()?;
    ensure!(share >= 0.9, "{share:.2} of the limit, 10 s after the stall");
    Ok(())
}

/// A Matomo that stores everything, and whose counts never say so.
pub(crate) async fn counts_that_never_add_up_are_an_outage(scene: Scene) -> anyhow::Result<()> {
    const HITS: usize = 2_000;
    scene.matomo.ledger().per_request = MILLIS(5);
    scene.declare(&VARS).await?;
    let mut books = Books::default();
    scene.queues.publish(books.load(HITS / 2, HITS / 4)).await?;
    let worker = scene.worker(&VARS).await?;
    let within = Duration::from_secs(60);
    eventually("half is stored", within, async || scene.matomo.stored() >= HITS / 2).await?;
    scene.matomo.set(Situation::CountsWrong);
    let (requests, wrong) = (scene.matomo.ledger().requests, Instant::now());
    scene.queues.publish(books.load(HITS / 2, HITS / 4)).await?;
    eventually("it has gone on for a while", 2 * STALL, async || wrong.elapsed() >= STALL).await?;
    let (doubted, tried) = {
        let ledger = scene.matomo.ledger();
        (usize::try_from(ledger.doubted)?, ledger.requests - requests)
    };
    let (_, page) = worker.get("/status.json?lang=en").await?;
    println!("{tried} requests in {STALL:?}, {doubted} hits in doubt");
    ensure!(page.contains("\"matomo_away\""), "{page}");
    ensure!(tried <= 40, "{tried} requests in {STALL:?}");
    scene.matomo.set(Situation::Fine);
    let workers = [worker];
    at_rest(HITS, &scene.matomo, &scene.queues, &PLACES, &workers, within).await?;
    let counted = workers[0].sum("doubtful_total").await?;
    let [worker] = workers;
    worker.stop().await?;
    let balance = books.balance(&scene.matomo, &scene.queues, &PLACES).await?;
    // Three requests of at most 50 hits for each of at most 8 lanes that were asking, and probes.
    let doubted = usize::try_from(scene.matomo.ledger().doubted)?.max(doubted);
    ensure!(doubted <= 8 * 50 + 40, "{doubted} hits in doubt");
    #[expect(clippy::cast_precision_loss, reason = "a few hundred hits")]
    let told = counted >= doubted as f64;
    ensure!(told, "{counted} hits are counted as in doubt, and {doubted} are");
    let allowed = Allowed { repeated: doubted, out_of_order: 2 * doubted, overlaps: 0 };
    let name = "Matomo's counts never add up for 20 s, and it stores everything";
    report::record(name, 1, &balance, allowed)?;
    balance.all_delivered()
}
