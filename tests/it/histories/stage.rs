//! Where a history plays: a broker that may be killed, workers that come and go, and a cable on
//! either side of them.

use std::time::Duration;

use anyhow::{Context, ensure};

use super::schedule::Event;
use crate::drill::{IN_FLIGHT, PLACES, PREFETCH, PROBES, SMALL};
use crate::support::books::{Allowed, Balance, Books, at_rest};
use crate::support::cable::{Cable, Fault};
use crate::support::hits;
use crate::support::matomo::{Matomo, Situation};
use crate::support::queues::Queues;
use crate::support::rabbitmq::Broker;
use crate::support::worker::Worker;

const VISITORS: usize = 100;
/// `MATOMO_TIMEOUT` and ten seconds, and some patience.
const LEAVES_WITHIN: Duration = Duration::from_secs(30);
const MOST_WORKERS: usize = 4;

/// Visitors whose hits are poison while that event lasts.
const POISONOUS: [usize; 3] = [7, 31, 77];

pub(super) struct Stage<'b> {
    broker: &'b mut Broker,
    prefix: String,
    matomo: Matomo,
    queues: Queues,
    to_broker: Cable,
    to_matomo: Cable,
    workers: Vec<Worker>,
    /// Were asked to stop.
    leaving: Vec<Worker>,
    shards: u16,
    resharded: bool,
    books: Books,
    broken: usize,
    /// What the events so far excuse.
    allowed: Allowed,
}

impl<'b> Stage<'b> {
    pub(super) async fn set(broker: &'b mut Broker, prefix: String) -> anyhow::Result<Self> {
        let matomo = Matomo::start().await?;
        matomo.ledger().per_request = Duration::from_millis(20);
        let queues = Queues::connect(&broker.url, &prefix).await?;
        let port = url::Url::parse(&broker.url)?.port().unwrap_or(5672);
        let (to_broker, to_matomo) =
            (Cable::to(([127, 0, 0, 1], port).into()).await?, Cable::to(matomo.address()).await?);
        let (books, allowed) = (Books::default(), Allowed::default());
        let (workers, leaving) = (Vec::new(), Vec::new());
        let mut stage = Self {
            broker,
            prefix,
            matomo,
            queues,
            to_broker,
            to_matomo,
            workers,
            leaving,
            shards: 8,
            resharded: false,
            books,
            broken: 0,
            allowed,
        };
        stage.add_worker().await?.ready().await?;
        stage.add_worker().await?.ready().await?;
        Ok(stage)
    }

    async fn add_worker(&mut self) -> anyhow::Result<&Worker> {
        let broker =
            format!("amqp://guest:guest@127.0.0.1:{}/%2f?heartbeat=2", self.to_broker.port());
        let matomo = format!("http://127.0.0.1:{}/", self.to_matomo.port());
        let shards = self.shards.to_string();
        let vars = [
            ("AMQP_URL", broker.as_str()),
            ("QUEUE_PREFIX", &self.prefix),
            ("MATOMO_URL", &matomo),
            ("QUEUE_SHARDS", &shards),
        ];
        self.workers.push(Worker::start(&[&SMALL[..], &vars].concat()).await?);
        self.workers.last().context("just added")
    }

    /// A tenth of a second of load: hits of many visitors, and one in fifty that breaks the plan.
    pub(super) async fn publish(&mut self, count: usize) -> anyhow::Result<()> {
        let mut batch = self.books.load(count, VISITORS);
        if self.books.published() / 50 > self.broken {
            self.broken += 1;
            let visitor = hits::visitor(self.broken);
            let hit = hits::without(
                hits::valid(&visitor, &format!("broken {}", self.broken)),
                "dimension2",
            );
            batch.push(self.books.broken(&visitor, hit.to_string().into_bytes()));
        }
        while let Err(error) = self.queues.publish(batch.clone()).await {
            // Nobody knows what the broker took, so an ENT sends it again.
            println!("    publishing failed ({error}): once more");
            self.allowed.repeated += batch.len();
            self.queues = Queues::connect(&self.broker.url, &self.prefix).await?;
        }
        Ok(())
    }

    pub(super) async fn begin(&mut self, event: Event) -> anyhow::Result<()> {
        let workers = self.workers.len().max(1);
        let before = self.allowed.repeated;
        match event {
            Event::KillWorker => {
                self.allowed.repeated += PREFETCH;
                if let Some(worker) = self.workers.pop() {
                    worker.kill9().await?;
                }
            }
            Event::StopWorker => {
                // With the broker or Matomo gone it cannot settle what it knows.
                self.allowed.repeated += PREFETCH;
                if let Some(worker) = self.workers.pop() {
                    worker.signal("TERM")?;
                    self.leaving.push(worker);
                }
            }
            Event::AddWorker if self.workers.len() < MOST_WORKERS => {
                self.add_worker().await?;
            }
            Event::AddWorker => {}
            Event::RestartBroker => {
                self.allowed.repeated += PREFETCH * workers;
                self.broker.kill().await?;
                self.broker.revive().await?;
                self.queues = Queues::connect(&self.broker.url, &self.prefix).await?;
            }
            Event::Reshard => {
                self.allowed.repeated += PREFETCH * workers;
                for worker in &self.workers {
                    worker.signal("TERM")?;
                }
                for mut worker in std::mem::take(&mut self.workers) {
                    worker.wait(LEAVES_WITHIN).await?;
                }
                self.resharded = true;
                self.shards = if self.shards == 8 { 4 } else { 8 };
                for _ in 0..workers {
                    self.add_worker().await?;
                }
            }
            Event::CutToBroker => {
                self.allowed.repeated += PREFETCH * workers;
                self.to_broker.cut().await;
            }
            Event::ToBroker(fault) => {
                self.allowed.repeated += PREFETCH * workers;
                self.to_broker.set(fault);
            }
            Event::CutToMatomo => {
                self.allowed.repeated += (IN_FLIGHT + PROBES) * workers;
                self.to_matomo.cut().await;
            }
            Event::ToMatomo(fault) => {
                self.allowed.repeated += (IN_FLIGHT + PROBES) * workers;
                self.to_matomo.set(fault);
            }
            Event::Weather(situation) => self.matomo.set(situation),
            Event::SlowAnswers(time) => self.matomo.ledger().per_request = time,
            Event::Poison(fault) => {
                let mut ledger = self.matomo.ledger();
                ledger.faults.extend(POISONOUS.map(|visitor| (hits::visitor(visitor), fault)));
            }
        }
        self.allowed.overlaps += self.allowed.repeated - before;
        Ok(())
    }

    pub(super) async fn end(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::CutToBroker | Event::ToBroker(_) => {
                self.to_broker.set(Fault::None);
                self.to_broker.mend().await?;
            }
            Event::CutToMatomo | Event::ToMatomo(_) => {
                self.to_matomo.set(Fault::None);
                self.to_matomo.mend().await?;
            }
            Event::Weather(_) => self.matomo.set(Situation::Fine),
            Event::SlowAnswers(_) => self.matomo.ledger().per_request = Duration::from_millis(20),
            Event::Poison(_) => self.matomo.ledger().faults.clear(),
            Event::KillWorker if self.workers.len() < 2 => {
                self.add_worker().await?;
            }
            Event::StopWorker if self.workers.is_empty() => {
                self.add_worker().await?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Waits for rest and closes the books.
    pub(super) async fn close(mut self) -> anyhow::Result<(Balance, Allowed)> {
        if self.workers.is_empty() {
            self.add_worker().await?;
        }
        let (published, within) = (self.books.published(), Duration::from_secs(120));
        let rested =
            at_rest(published, &self.matomo, &self.queues, &PLACES, &self.workers, within).await;
        for mut worker in std::mem::take(&mut self.leaving) {
            worker.wait(LEAVES_WITHIN).await?;
        }
        let mut accounts = Vec::new();
        for worker in std::mem::take(&mut self.workers) {
            accounts.push(worker.accounts_for_all().await);
            match &rested {
                Ok(()) => worker.stop().await?,
                Err(_) => {
                    println!("{}", worker.log());
                    worker.kill9().await?;
                }
            }
        }
        let balance = self.books.balance(&self.matomo, &self.queues, &PLACES).await?;
        rested.with_context(|| balance.to_string())?;
        accounts.into_iter().collect::<anyhow::Result<Vec<()>>>()?;
        ensure!(balance.rejected == self.broken, "{} hits break the plan: {balance}", self.broken);
        let doubted = usize::try_from(self.matomo.ledger().doubted)?;
        self.allowed.repeated += doubted;
        self.allowed.overlaps += doubted;
        // A hit that was retried comes back behind later ones, and each event has its retries.
        self.allowed.out_of_order = balance.published;
        if self.resharded {
            // While old shards drain, a visitor may be in two hands.
            self.allowed.overlaps = usize::MAX;
        }
        self.queues.delete_all().await?;
        Ok((balance, self.allowed))
    }
}
