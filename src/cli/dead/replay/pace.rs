//! How fast a replay may go: no faster than asked for, and not while hits that come in now wait.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use indicatif::ProgressBar;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::SENDING;
use crate::service::amqp::BrokerError;
use crate::service::amqp::depths::QueueDepths;
use crate::service::amqp::topology::TopologyError;

/// The time between two batches. With a rate below ten a second it is longer.
const BATCH_INTERVAL: Duration = Duration::from_millis(100);

/// How often the depths of the shards are read.
const DEPTH_INTERVAL: Duration = Duration::from_secs(1);

/// The pace of a replay.
#[derive(Debug)]
pub(super) struct Pace {
    /// The most hits per second.
    rate: u32,
    /// What keeps to the rate. It saves up no more than two batches, since what was missed is not
    /// made up for: a burst would be in front of somebody's hits.
    limiter: DefaultDirectRateLimiter,
    /// When the depths were last read.
    depths_read: Option<Instant>,
    /// The connection that reads the depths of the shards.
    depths: QueueDepths,
    /// The progress bar, which says why the replay waits.
    progress: ProgressBar,
    /// Whether standard error has a line that says why the replay takes so long.
    notified: bool,
    /// Whether live hits waited until the pass was over.
    gave_up: bool,
}

impl Pace {
    /// Starts a pace of so many hits per second.
    pub(super) fn new(rate: u32, depths: QueueDepths, progress: ProgressBar) -> Self {
        let per_second = NonZeroU32::new(rate).unwrap_or(NonZeroU32::MIN);
        let two_batches = NonZeroU32::new((rate / 5).max(2)).unwrap_or(NonZeroU32::MIN);
        let limiter = RateLimiter::direct(Quota::per_second(per_second).allow_burst(two_batches));
        // Nothing is saved up at the start: the most urgent hit goes before the others.
        while limiter.check().is_ok() {}
        Self { rate, limiter, depths_read: None, depths, progress, notified: false, gave_up: false }
    }

    /// Closes the connection that reads the depths.
    pub(super) async fn close(self) {
        self.depths.close().await;
    }

    /// Returns how many hits may be sent within this time.
    pub(super) fn hits_within(&self, time: Duration) -> usize {
        usize::try_from(u64::from(self.rate) * time.as_secs()).unwrap_or(usize::MAX)
    }

    /// Whether live hits had waited until the pass was over.
    pub(super) fn gave_up(&self) -> bool {
        self.gave_up
    }

    /// Waits for the next batch, and returns how many hits it may have; `None` if a signal stops
    /// the replay, or if the pass is over.
    pub(super) async fn next_batch(
        &mut self,
        stop: &CancellationToken,
        until: Instant,
    ) -> anyhow::Result<Option<usize>> {
        loop {
            let pause = BATCH_INTERVAL.max(Duration::from_secs(1) / self.rate);
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return Ok(None);
            }
            if self.depths_read.is_none_or(|read| read.elapsed() > DEPTH_INTERVAL) {
                self.depths_read = Some(Instant::now());
                if !self.wait_for_live_hits(stop, until).await? {
                    return Ok(None);
                }
            }
            if Instant::now() > until {
                return Ok(None);
            }
            let count = std::iter::from_fn(|| self.limiter.check().ok()).count();
            if count > 0 {
                return Ok(Some(count));
            }
        }
    }

    /// Waits while more than two seconds' worth of hits lie in the shards: those of this replay
    /// would only make them wait longer. Where the broker does not say how many there are, it is
    /// asked again. Returns whether the replay may go on.
    async fn wait_for_live_hits(
        &mut self,
        stop: &CancellationToken,
        until: Instant,
    ) -> anyhow::Result<bool> {
        let rate = u64::from(self.rate);
        let mut limit = 2 * rate;
        loop {
            let waiting = self.depths.waiting().await;
            if matches!(waiting, Err(BrokerError::Topology(TopologyError::Untold(_)))) {
                // The answer would be the same for ever.
                return waiting.map(|_| false).map_err(Into::into);
            }
            match &waiting {
                Ok((hits, _)) if *hits <= limit => break,
                Ok((hits, is_read)) => self.notify_waiting(*hits, *is_read),
                Err(_) => {}
            }
            limit = rate;
            self.gave_up = Instant::now() > until;
            if self.gave_up || !self.depths.is_connected() {
                waiting?;
                return Ok(false);
            }
            if stop.run_until_cancelled(tokio::time::sleep(DEPTH_INTERVAL / 4)).await.is_none() {
                return Ok(false);
            }
        }
        self.gave_up = false;
        self.progress.set_message(SENDING);
        Ok(true)
    }

    /// Says beside the progress bar why the replay waits, and once on standard error if there is no
    /// bar to see.
    fn notify_waiting(&mut self, hits: u64, is_read: bool) {
        let why =
            if is_read { "those of now go first" } else { "and no worker reads them: start one" };
        let text = format!("waiting: {hits} hits lie in the shards, {why}");
        if !self.notified && self.progress.is_hidden() {
            eprintln!("{text}");
        }
        self.notified = true;
        self.progress.set_message(text);
    }
}
