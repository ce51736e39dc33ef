//! Random histories: workers, RabbitMQ, Matomo and the lines between them fail as a seed says, hits
//! flow all the while, and at the end the books are closed.
//!
//! `HISTORY_SEED=17 cargo test --test it -- histories` plays one history again. `make soak
//! MINUTES=60` plays new ones for an hour and writes a page.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::Scene;
use crate::support::books::{Allowed, Balance};
use crate::support::rabbitmq::Broker;
use crate::support::report;

mod schedule;
mod stage;

use schedule::{Event, schedule};
use stage::Stage;

/// What every change is tested with.
const SEEDS: [u64; 3] = [1, 2, 3];

/// Events in a history.
const EVENTS: usize = 10;

/// Hits published every tenth of a second.
const LOAD: usize = 20;

const TICK: Duration = Duration::from_millis(100);

pub(crate) async fn random_faults_lose_nothing(_shared: Scene) -> anyhow::Result<()> {
    let mut broker = Broker::start_own().await?;
    let mut soak = Soak::default();
    if let Some(minutes) = number("SOAK_MINUTES")? {
        let end = Instant::now() + Duration::from_secs(60 * minutes);
        let mut seed = jiff::Timestamp::now().as_second().unsigned_abs();
        while Instant::now() < end {
            soak.play(&mut broker, seed).await?;
            seed += 1;
        }
    } else {
        for seed in number("HISTORY_SEED")?.map_or(SEEDS.to_vec(), |seed| vec![seed]) {
            soak.play(&mut broker, seed).await?;
        }
    }
    soak.summarize(&broker)
}

fn number(name: &str) -> anyhow::Result<Option<u64>> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty());
    text.map(|text| text.parse().with_context(|| format!("{name}={text} is not a number")))
        .transpose()
}

/// What the histories of a run add up to.
#[derive(Default)]
struct Soak {
    histories: usize,
    took: Duration,
    sum: Balance,
    excused: usize,
    events: BTreeMap<&'static str, usize>,
}

impl Soak {
    async fn play(&mut self, broker: &mut Broker, seed: u64) -> anyhow::Result<()> {
        let began = Instant::now();
        let steps = schedule(seed, EVENTS);
        println!("history {seed}:");
        for step in &steps {
            println!("  {step}");
            *self.events.entry(step.event.kind()).or_default() += 1;
        }
        let (balance, allowed) = history(broker, seed)
            .await
            .with_context(|| format!("HISTORY_SEED={seed} plays it again"))?;
        balance.check(allowed).with_context(|| format!("HISTORY_SEED={seed} plays it again"))?;
        // Each history excuses something else.
        report::record("a random history of ten faults", 1, &balance, Allowed::ANYTHING)?;
        self.histories += 1;
        self.took += began.elapsed();
        self.excused += allowed.repeated;
        let sum = &mut self.sum;
        sum.published += balance.published;
        sum.delivered += balance.delivered;
        sum.parked += balance.parked;
        sum.rejected += balance.rejected;
        sum.lost += balance.lost;
        sum.repeated += balance.repeated;
        sum.out_of_order += balance.out_of_order;
        sum.overlaps += balance.overlaps;
        Ok(())
    }

    /// One page.
    fn summarize(&self, broker: &Broker) -> anyhow::Result<()> {
        let mut page = format!(
            "{} random histories on {}, {:.1} min\n\n{}\nAt most {} repeats were excused by what \
             happened.\n\n",
            self.histories,
            broker.describe(),
            self.took.as_secs_f64() / 60.0,
            self.sum,
            self.excused
        );
        for (kind, times) in &self.events {
            page += &format!("{times:>6} × {kind}\n");
        }
        println!("{page}");
        let folder = report::folder()?;
        std::fs::write(folder.join(format!("soak-{}.txt", broker.version)), page)?;
        Ok(())
    }
}

/// Publishes while the schedule happens; then everything heals and comes to rest.
async fn history(broker: &mut Broker, seed: u64) -> anyhow::Result<(Balance, Allowed)> {
    let mut stage =
        Stage::set(broker, format!("test.history.{seed}.{}", std::process::id())).await?;
    let steps = schedule(seed, EVENTS);
    let begins = steps.iter().map(|step| (step.at, true, step.event));
    let ends = steps.iter().map(|step| (step.until, false, step.event));
    let mut moments: Vec<(Duration, bool, Event)> = begins.chain(ends).collect();
    moments.sort_by_key(|(at, ..)| *at);
    let mut clock = tokio::time::interval(TICK);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut now = Duration::ZERO;
    for (at, begins, event) in moments {
        while now < at {
            clock.tick().await;
            now += TICK;
            stage.publish(LOAD).await?;
        }
        if begins {
            stage.begin(event).await?;
        } else {
            stage.end(event).await?;
        }
    }
    stage.close().await
}
