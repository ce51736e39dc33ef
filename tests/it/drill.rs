//! A drill: hits flow, something breaks in the middle, and at the end the books are closed.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;

use crate::Scene;
use crate::support::books::{Allowed, Balance, Books, Places, at_rest};
use crate::support::worker::Worker;
use crate::support::{eventually, report};

/// Small, so that the limits on what a fault may repeat mean something.
pub(crate) const SMALL: [(&str, &str); 5] = [
    ("QUEUE_PREFETCH", "80"),
    ("MATOMO_CONCURRENCY", "4"),
    ("MATOMO_BULK_SIZE", "10"),
    ("MATOMO_TIMEOUT", "2s"),
    ("RETRY_DELAYS", "1s,2s"),
];

/// Most hits that a small worker has in requests under way.
pub(crate) const IN_FLIGHT: usize = 4 * 10;

/// Most hits that a small worker holds unacked.
pub(crate) const PREFETCH: usize = 2 * IN_FLIGHT;

/// More probes than go out in any fault of a few seconds: half a second apart at first, then more.
pub(crate) const PROBES: usize = 10;

pub(crate) const PLACES: Places<'_> = Places { shards: 8, delays: &["1s", "2s"] };

pub(crate) struct Drill {
    pub(crate) scene: Scene,
    pub(crate) books: Books,
    /// How much was stored before the last hits were published.
    before: usize,
}

impl Drill {
    pub(crate) fn new(scene: Scene) -> Self {
        scene.matomo.ledger().per_request = Duration::from_millis(40);
        Self { scene, books: Books::default(), before: 0 }
    }

    /// A small worker, with these variables on top.
    pub(crate) async fn worker(&self, vars: &[(&str, &str)]) -> anyhow::Result<Worker> {
        self.scene.worker(&[&SMALL[..], vars].concat()).await
    }

    /// Publishes so many more hits of 200 visitors.
    pub(crate) async fn publish(&mut self, count: usize) -> anyhow::Result<()> {
        let load = self.books.load(count, 200);
        self.before = self.scene.matomo.stored();
        self.scene.queues.publish(load).await?;
        Ok(())
    }

    /// Waits until so many more hits were stored since the last ones were published.
    pub(crate) async fn flow(&self, more: usize) -> anyhow::Result<()> {
        eventually("hits flow", Duration::from_secs(60), async || {
            self.scene.matomo.stored() >= self.before + more
        })
        .await
    }

    /// Waits until one more hit was stored, or none is left.
    pub(crate) async fn flow_again(&self) -> anyhow::Result<()> {
        let (before, all) = (self.scene.matomo.stored(), self.books.published());
        let flows =
            async || self.scene.matomo.stored() > before || self.scene.matomo.copies().len() == all;
        eventually("hits flow again", Duration::from_secs(60), flows).await
    }

    /// Waits until every hit has come to rest, and stops the workers.
    pub(crate) async fn rest(&self, workers: Vec<Worker>) -> anyhow::Result<()> {
        let queues = &self.scene.queues;
        let (published, within) = (self.books.published(), Duration::from_secs(90));
        let rested =
            at_rest(published, &self.scene.matomo, queues, &PLACES, &workers, within).await;
        if rested.is_err() {
            // The balance says more than the wait that failed.
            for worker in workers {
                println!("{}", worker.log());
                worker.kill9().await?;
            }
            let balance = self.books.balance(&self.scene.matomo, queues, &PLACES).await?;
            return rested.with_context(|| balance.to_string());
        }
        for worker in workers {
            worker.stop().await?;
        }
        Ok(())
    }

    /// The books at the end.
    pub(crate) async fn balance(&self) -> anyhow::Result<Balance> {
        self.books.balance(&self.scene.matomo, &self.scene.queues, &PLACES).await
    }

    /// Waits for rest, closes the books, and puts the drill into the table.
    pub(crate) async fn close(
        &self,
        workers: Vec<Worker>,
        fault: &str,
        tried: usize,
        allowed: Allowed,
    ) -> anyhow::Result<()> {
        self.rest(workers).await?;
        let balance = self.balance().await?;
        report::record(fault, tried, &balance, allowed)?;
        balance.all_delivered()
    }
}

/// The broker's address, for a cable.
pub(crate) fn broker_address(scene: &Scene) -> anyhow::Result<SocketAddr> {
    let port = url::Url::parse(&scene.broker.url)?.port().unwrap_or(5672);
    Ok(([127, 0, 0, 1], port).into())
}
