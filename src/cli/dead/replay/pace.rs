//! How fast a replay may go: no faster than asked for, and not while hits of now wait.

use std::time::Duration;

use indicatif::ProgressBar;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::SENDING;
use crate::service::amqp::depths::QueueDepths;

/// Time between two batches; with a rate below ten a second, longer.
const TURN: Duration = Duration::from_millis(100);

/// How often the shards are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Pace {
    rate: u32,
    /// Hits that may go; grows by [`Pace::rate`] a second.
    credit: f64,
    last: Instant,
    looked: Option<Instant>,
    depths: QueueDepths,
    progress: ProgressBar,
    /// Somebody was told why it takes so long.
    told: bool,
    gave_up: bool,
}

impl Pace {
    pub(super) fn new(rate: u32, depths: QueueDepths, progress: ProgressBar) -> Self {
        Self {
            rate,
            credit: 0.0,
            last: Instant::now(),
            looked: None,
            depths,
            progress,
            told: false,
            gave_up: false,
        }
    }

    pub(super) async fn close(self) {
        self.depths.close().await;
    }

    /// How many hits go within this time.
    pub(super) fn within(&self, time: Duration) -> usize {
        usize::try_from(u64::from(self.rate) * time.as_secs()).unwrap_or(usize::MAX)
    }

    /// Live hits had waited until a sweep was over.
    pub(super) fn gave_up(&self) -> bool {
        self.gave_up
    }

    /// Waits for the next turn, and tells how many hits may go: none when told to stop, or when the
    /// sweep is over.
    pub(super) async fn turn(
        &mut self,
        stop: &CancellationToken,
        until: Instant,
    ) -> anyhow::Result<Option<usize>> {
        loop {
            let pause = TURN.max(Duration::from_secs(1) / self.rate);
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return Ok(None);
            }
            if self.looked.is_none_or(|looked| looked.elapsed() > LOOK_EVERY) {
                self.looked = Some(Instant::now());
                if !self.wait_for_the_living(stop, until).await? {
                    return Ok(None);
                }
            }
            if Instant::now() > until {
                return Ok(None);
            }
            let rate = f64::from(self.rate);
            // What was missed is not made up for: a burst would be in front of somebody.
            self.credit = (self.credit + self.last.elapsed().as_secs_f64() * rate)
                .min(2.0 * rate * pause.as_secs_f64());
            self.last = Instant::now();
            let whole = self.credit.floor();
            if whole >= 1.0 {
                self.credit -= whole;
                // At most a fifth of the rate, which fits.
                return Ok(Some(whole as usize));
            }
        }
    }

    /// While more than two seconds' worth of hits wait in the shards, those of this replay would
    /// only make them wait longer. Where the broker does not tell, nobody knows, and it is
    /// asked again.
    async fn wait_for_the_living(
        &mut self,
        stop: &CancellationToken,
        until: Instant,
    ) -> anyhow::Result<bool> {
        let rate = u64::from(self.rate);
        let mut limit = 2 * rate;
        loop {
            let looked = self.depths.waiting().await;
            match &looked {
                Ok((hits, _)) if *hits <= limit => break,
                Ok((hits, is_read)) => self.tell(*hits, *is_read),
                Err(_) => {}
            }
            limit = rate;
            self.gave_up = Instant::now() > until;
            if self.gave_up || !self.depths.is_connected() {
                looked?;
                return Ok(false);
            }
            if stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY / 4)).await.is_none() {
                return Ok(false);
            }
        }
        self.gave_up = false;
        self.progress.set_message(SENDING);
        Ok(true)
    }

    /// Beside the bar, and once for those who see no bar.
    fn tell(&mut self, hits: u64, is_read: bool) {
        let why =
            if is_read { "those of now go first" } else { "and no worker reads them: start one" };
        let text = format!("waiting: {hits} hits lie in the shards, {why}");
        if !self.told && self.progress.is_hidden() {
            eprintln!("{text}");
        }
        self.told = true;
        self.progress.set_message(text);
    }
}
