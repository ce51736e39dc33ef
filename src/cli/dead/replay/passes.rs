//! The passes of a replay over a queue: each chooses the most urgent hits, sends them, and gives
//! all others back.

use std::collections::BinaryHeap;
use std::time::Duration;

use indicatif::ProgressBar;
use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::forecast::ReplayForecast;
use super::pace::Pace;
use super::rules::ReplayRules;
use super::{FIXED, IN_DOUBT, REPLAYED};
use crate::cli::dead::digest::Digest;
use crate::cli::dead::receipt::Receipt;
use crate::domain::dead::DeadQueue;
use crate::domain::dead::outlook::{Sendable, Urgency};
use crate::service::amqp::browser::QueueBrowser;
use crate::service::amqp::dead_letter::DeadLetter;
use crate::service::amqp::dead_letter::DeadLetterClient;
use crate::service::amqp::dead_letter::Replayer;
use crate::service::amqp::publisher::PublishOutcome;

/// When an ack is taken to have arrived: so much time has passed, and the broker has confirmed
/// publishes since. The broker answers publishes, and not acks.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);

/// How many hits a pass sends at most, and no more than go within [`MAX_PASS_TIME`].
const MAX_PASS_HITS: usize = 10_000;

/// How many bytes of bodies a pass keeps at most.
const MAX_PASS_BYTES: usize = 32 * 1024 * 1024;

/// How long a pass may take, well inside the broker's consumer timeout of 30 min; its hits are
/// sent in half the time.
const MAX_PASS_TIME: Duration = Duration::from_secs(600);

/// A replay while it works.
pub(super) struct Replay<'r> {
    /// What decides which hits are sent.
    pub(super) rules: ReplayRules<'r>,
    /// The connection to the queues of dead hits.
    pub(super) client: &'r DeadLetterClient,
    /// How fast hits may be sent.
    pub(super) pace: Pace,
    /// The receipt that says what was done.
    pub(super) receipt: &'r mut Receipt,
    /// Cancelled by the first signal.
    pub(super) stop: CancellationToken,
    /// The progress bar.
    pub(super) progress: ProgressBar,
    /// Hits of this pass that the broker did not take.
    pub(super) refused: u64,
    /// When the latest acks were sent: those that may not have arrived.
    pub(super) acked: Vec<Instant>,
}

/// A hit that this pass will send.
struct Chosen {
    /// How urgent it is, and its place in the queue.
    order: (Urgency, u64),
    /// The message as it lies in its queue.
    dead_letter: DeadLetter,
    /// The AMQP user who sent it, as far as that is verified.
    tenant: Option<String>,
    /// Its body, if a fix changed it.
    fixed: Option<Vec<u8>>,
}

impl Replay<'_> {
    /// Makes pass after pass until nothing is left of the chosen hits. Returns why it stopped
    /// before, if it did.
    pub(super) async fn send_all(
        &mut self,
        forecast: &ReplayForecast,
    ) -> anyhow::Result<Option<String>> {
        let mut sets = forecast.sets();
        // With two queues, what is urgent in the second must not wait for all of the first.
        let rounds = if sets.len() > 1 && forecast.urgent() > 0 {
            vec![Some(forecast.seconds()), None]
        } else {
            vec![None]
        };
        for within in rounds {
            for (dead_queue, left) in &mut sets {
                loop {
                    self.refused = 0;
                    let sent = self.pass(*dead_queue, *left, within).await?;
                    *left -= sent;
                    self.receipt.save()?;
                    if self.stop.is_cancelled() {
                        return Ok(Some("stopped by a signal".to_owned()));
                    }
                    if sent > 0 {
                        continue;
                    }
                    if self.pace.gave_up() {
                        let remedy = "see whether the workers deliver, and replay the rest";
                        return Ok(Some(format!(
                            "live hits waited in the shards for {} min: {remedy}",
                            MAX_PASS_TIME.as_secs() / 60
                        )));
                    }
                    if self.refused > 0 {
                        let remedy = "is there a limit on the length of a shard?";
                        return Ok(Some(format!(
                            "the broker refused {} hits: {remedy}",
                            self.refused
                        )));
                    }
                    break;
                }
            }
        }
        Ok(None)
    }

    /// Reads a queue to its end once, and sends the most urgent of the first `set` hits that are
    /// chosen; with `within`, only those that must be sent within so many seconds. Returns how many
    /// were sent.
    async fn pass(
        &mut self,
        dead_queue: DeadQueue,
        set: u64,
        within: Option<i64>,
    ) -> anyhow::Result<u64> {
        let mark = format!("{}/{}", dead_queue.code(), self.receipt.id());
        self.rules.terms.now = Timestamp::now();
        let mut browser = self.client.browse(dead_queue).await?;
        let chosen = self.choose(&mut browser, set, within, &mark).await?;
        let before = self.receipt.count_of(REPLAYED);
        // The acks of the pass before have arrived: the broker has answered the close after them.
        self.acked.clear();
        let outcome = self.send(&mut browser, chosen, &mark).await;
        let sent = self.receipt.count_of(REPLAYED) - before;
        if let Err(error) = browser.finish().await {
            self.receipt.count(IN_DOUBT, self.acked.len() as u64);
            outcome?;
            return Err(error.into());
        }
        outcome.map(|()| sent)
    }

    /// Reads the queue to its end, and keeps the hits that go first.
    async fn choose(
        &self,
        browser: &mut QueueBrowser<'_>,
        set: u64,
        within: Option<i64>,
        mark: &str,
    ) -> anyhow::Result<Vec<Chosen>> {
        let max_hits = self.pace.hits_within(MAX_PASS_TIME / 2).clamp(1, MAX_PASS_HITS);
        let (mut chosen, mut bytes) = (BinaryHeap::new(), 0);
        let (mut seen, mut number) = (0, 0);
        while let Some(dead_letter) = browser.next().await? {
            number += 1;
            if seen == set || self.stop.is_cancelled() {
                continue;
            }
            let dead = dead_letter.read();
            // A hit that this replay has sent, and that is dead again, was not among the chosen.
            if dead.replay.as_deref() == Some(mark) || !self.rules.filter.admits(&dead) {
                continue;
            }
            seen += 1;
            let (_, sendable) = self.rules.evaluate(&dead_letter, &dead);
            let tenant = self.rules.tenant(&dead_letter, &dead).map(str::to_owned);
            drop(dead);
            let Some(Sendable { fixed, urgency }) = sendable else { continue };
            if within.is_some_and(|seconds| {
                !urgency.crosses_within(seconds, self.rules.terms.max_age, self.rules.terms.now)
            }) {
                continue;
            }
            bytes += dead_letter.message.body().len();
            chosen.push(Chosen { order: (urgency, number), dead_letter, tenant, fixed });
            while chosen.len() > max_hits || bytes > MAX_PASS_BYTES {
                bytes -= chosen
                    .pop()
                    .map_or(bytes, |least_urgent| least_urgent.dead_letter.message.body().len());
            }
        }
        Ok(chosen.into_sorted_vec())
    }

    /// Sends batch after batch, as fast as the pace allows.
    async fn send(
        &mut self,
        browser: &mut QueueBrowser<'_>,
        chosen: Vec<Chosen>,
        mark: &str,
    ) -> anyhow::Result<()> {
        let until = Instant::now() + MAX_PASS_TIME;
        let replayer = self.client.replayer().await?;
        let mut chosen = chosen.into_iter().peekable();
        while chosen.peek().is_some() {
            let client = self.client;
            let Some(count) = client.or_lost(self.pace.next_batch(&self.stop, until)).await? else {
                return Ok(());
            };
            let batch: Vec<Chosen> = chosen.by_ref().take(count).collect();
            let (before, refused) = (self.receipt.count_of(REPLAYED), self.refused);
            if let Err(error) =
                client.or_lost(self.send_batch(browser, &replayer, &batch, mark)).await
            {
                // What was published and not removed is in its queue, and may be on its way too.
                let settled = self.receipt.count_of(REPLAYED) - before + self.refused - refused;
                self.receipt.count(IN_DOUBT, (batch.len() as u64).saturating_sub(settled));
                return Err(error);
            }
            self.receipt.save_if_due()?;
        }
        Ok(())
    }

    /// Publishes a batch, awaits the confirms, and only then takes each hit out of its queue.
    async fn send_batch(
        &mut self,
        browser: &mut QueueBrowser<'_>,
        replayer: &Replayer<'_>,
        batch: &[Chosen],
        mark: &str,
    ) -> anyhow::Result<()> {
        let mut confirms = Vec::with_capacity(batch.len());
        for Chosen { dead_letter, tenant, fixed, .. } in batch {
            confirms.push(
                replayer.replay(dead_letter, tenant.as_deref(), fixed.as_deref(), mark).await?,
            );
        }
        let mut verdicts = Vec::with_capacity(batch.len());
        for confirm in confirms {
            verdicts.push(confirm.outcome().await?);
        }
        // The client library may ascribe a return to a neighbour in the batch, so after one none of
        // the batch is known to be taken.
        if verdicts.contains(&PublishOutcome::Returned) {
            anyhow::bail!(
                "no shard is bound to the exchange: start a relay, or load what `dnma-relay \
                 topology` prints"
            );
        }
        self.acked.retain(|at| at.elapsed() < ACK_TIMEOUT);
        for (Chosen { dead_letter, fixed, .. }, verdict) in batch.iter().zip(verdicts) {
            if verdict == PublishOutcome::Refused {
                self.refused += 1;
                continue;
            }
            browser.remove(&dead_letter.ack_handle()).await?;
            self.acked.push(Instant::now());
            self.receipt.add_hit(Digest::of(dead_letter.message.body()));
            self.receipt.count(REPLAYED, 1);
            self.receipt.count(FIXED, u64::from(fixed.is_some()));
            self.progress.inc(1);
        }
        Ok(())
    }
}

/// The most urgent hit is the least, and among equally urgent ones the first in the queue.
impl Ord for Chosen {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order.cmp(&other.order)
    }
}

impl PartialOrd for Chosen {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Chosen {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Chosen {}
