//! `dead replay`: hits sent through the main exchange again, at a pace that leaves room for those
//! of now.
//!
//! The queue is read from its beginning to its end in *sweeps*. A sweep sends the most urgent of
//! the chosen hits, no more than a few minutes' worth, and gives everything else back: so nothing
//! is held for as long as the broker's consumer timeout, and no more than a sweep's hits are in
//! memory, however many there are.

use std::collections::BinaryHeap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::choice::Choice;
use super::digest::Digest;
use super::reading;
use super::receipt::Receipt;
use crate::cli::stop;
use crate::domain::dead::filter::Filter;
use crate::domain::dead::fix::{self, Fix};
use crate::domain::dead::outlook::{Outlook, ReplayTerms, Sendable, Urgency, outlook};
use crate::domain::dead::{Dead, DeadQueue};
use crate::domain::prose::hits;
use crate::service::broker::{
    DeadLetter, DeadLetterClient, Forwarder, Living, QueueBrowser, Verdict,
};
use crate::service::config::ReplaySettings;
use crate::service::rules::Rules;
use crate::service::rules::source::RuleSet;

mod forecast;
mod pace;

use forecast::ReplayForecast;
use pace::Pace;

/// Options of `dead replay`.
#[derive(Debug, Args)]
pub struct DeadReplayOptions {
    #[command(flatten)]
    choice: Choice,
    /// Say what would happen, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Most hits per second
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// Mend hits on the way; may be given several times, and is applied in this order
    #[arg(long, value_name = "RULE")]
    fix: Vec<Fix>,
    /// Send what would be rejected or parked again too: the workers judge by other rules than
    /// those here
    #[arg(long)]
    unchecked: bool,
    /// File for the receipt; - for standard output [default: dnma-relay-replay-ID.json]
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
    /// One JSON object instead of sentences: the forecast with --dry-run, else the receipt
    #[arg(long)]
    json: bool,
}

/// Counts of the receipt.
const REPLAYED: &str = "replayed";
const MENDED: &str = "mended";
const IN_DOUBT: &str = "in_doubt";

/// Beside the bar.
const SENDING: &str = "sending again";

/// An ack has arrived when so much time has passed and the broker has confirmed publishes since: it
/// answers publishes, and not acks.
const ACKED_AFTER: Duration = Duration::from_secs(5);

/// A sweep sends no more hits than this, and no more than go within [`SWEEP`].
const MOST_HELD: usize = 10_000;

/// Bytes of bodies that a sweep keeps.
const MOST_BYTES: usize = 32 * 1024 * 1024;

/// How long a sweep may take, well inside the broker's consumer timeout of 30 min; its hits are
/// sent in half the time.
const SWEEP: Duration = Duration::from_secs(600);

/// What is needed to judge and to choose.
struct ReplayRules<'b> {
    terms: ReplayTerms<'b>,
    rules: &'b Rules,
    rule_set: &'b RuleSet,
    filter: &'b Filter,
    unchecked: bool,
}

/// A replay under way.
struct Replay<'r> {
    bench: ReplayRules<'r>,
    client: &'r DeadLetterClient,
    pace: Pace,
    receipt: &'r mut Receipt,
    stop: CancellationToken,
    progress: ProgressBar,
    /// Hits of this sweep that the broker did not take.
    refused: u64,
    /// When the latest were taken out of their queue, one by one.
    acked: Vec<Instant>,
}

/// A hit that this sweep will send.
struct Chosen {
    /// And its place in the queue.
    order: (Urgency, u64),
    dead_letter: DeadLetter,
    tenant: Option<String>,
    mended: Option<Vec<u8>>,
}

/// Replays.
///
/// # Errors
/// A configuration mistake, a receipt that cannot be written, or a broker that goes away: what was
/// confirmed is on its way, and everything else is in its queue.
pub(super) async fn run(options: &DeadReplayOptions) -> anyhow::Result<ExitCode> {
    let settings = ReplaySettings::from_env()?;
    let rules = Rules::load(settings.rules.clone())?;
    let rule_set = rules.current();
    for fix in &options.fix {
        if let Err(error) = fix.check(&rule_set.plan) {
            eprintln!("dnma-relay: --fix: {error}");
            return Ok(ExitCode::from(2));
        }
    }
    let filter = options.choice.filter();
    let client = reading::open(&settings.broker, &options.choice).await?;
    let stop = stop::on_signal()?;
    let terms = settings.terms(&rule_set.plan, &options.fix);
    let bench = ReplayRules {
        terms,
        rules: &rules,
        rule_set: &rule_set,
        filter: &filter,
        unchecked: options.unchecked,
    };
    let mut forecast = ReplayForecast::new(options.rate);
    reading::look(&client, &options.choice, &filter, &stop, |dead_letter, dead| {
        let (outlook, going) = bench.judge(dead_letter, dead);
        forecast.add(&bench.terms, dead, &outlook, going.as_ref());
        Ok(())
    })
    .await?;
    forecast.add_up(bench.terms.now);
    if options.dry_run || forecast.goes() == 0 {
        client.close().await;
        forecast.print(options.json)?;
        return Ok(if forecast.chosen() > 0 && forecast.stays() == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    // Before anything moves: nothing is done that cannot be written down.
    let file = (options.receipt.as_ref(), options.json);
    let mut receipt =
        Receipt::begin("replay", file, &options.choice, &filter, &settings.broker, &client)?;
    receipt.mending(&options.fix, options.rate);
    receipt.count("chosen", forecast.chosen());
    for (reason, hits) in forecast.left() {
        receipt.count(&reason, hits);
    }
    if !receipt.is_printed {
        // Whether anybody reads it or not, the work goes on.
        let _told = forecast.print(false);
    }
    let progress = reading::bar(forecast.goes(), SENDING.to_owned())?;
    let living = Living::open(&settings.broker).await?;
    let pace = Pace::new(options.rate, living, progress.clone());
    let mut replay = Replay {
        bench,
        client: &client,
        pace,
        receipt: &mut receipt,
        stop,
        progress,
        refused: 0,
        acked: Vec::new(),
    };
    let outcome = replay.all(&forecast).await;
    replay.progress.finish_and_clear();
    replay.pace.close().await;
    let missed = forecast.goes().saturating_sub(receipt.counted(REPLAYED));
    let stopped = match &outcome {
        Ok(None) if missed > 0 => Some(format!(
            "{missed} hits were gone, or had become too old, before they could be sent"
        )),
        Ok(stopped) => stopped.clone(),
        Err(error) => Some(format!("{error:#}")),
    };
    receipt.close(stopped.clone())?;
    client.close().await;
    if !receipt.is_printed {
        let _told = tell(&receipt, stopped.as_deref());
    }
    outcome?;
    Ok(if stopped.is_none() && forecast.stays() == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl Replay<'_> {
    /// Sweep after sweep, until nothing of the sets is left. Tells why it stopped before, if it
    /// did.
    async fn all(&mut self, forecast: &ReplayForecast) -> anyhow::Result<Option<String>> {
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
                    let sent = self.sweep(*dead_queue, *left, within).await?;
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
                            SWEEP.as_secs() / 60
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

    /// One reading of a queue, and the most urgent of the first `set` hits that are chosen; only
    /// those that must be sent `within` so many seconds, if any. Tells how many were sent.
    async fn sweep(
        &mut self,
        dead_queue: DeadQueue,
        set: u64,
        within: Option<i64>,
    ) -> anyhow::Result<u64> {
        let mark = format!("{}/{}", dead_queue.code(), self.receipt.id());
        self.bench.terms.now = Timestamp::now();
        let mut browser = self.client.browse(dead_queue).await?;
        let chosen = self.choose(&mut browser, set, within, &mark).await?;
        let before = self.receipt.counted(REPLAYED);
        // Those of the sweep before have arrived: its goodbye was answered.
        self.acked.clear();
        let outcome = self.send(&mut browser, chosen, &mark).await;
        let sent = self.receipt.counted(REPLAYED) - before;
        if let Err(error) = browser.finish().await {
            self.receipt.count(IN_DOUBT, self.acked.len() as u64);
            outcome?;
            return Err(error.into());
        }
        outcome.map(|()| sent)
    }

    /// Reads to the end, and keeps those that go first.
    async fn choose(
        &self,
        browser: &mut QueueBrowser<'_>,
        set: u64,
        within: Option<i64>,
        mark: &str,
    ) -> anyhow::Result<Vec<Chosen>> {
        let most = self.pace.within(SWEEP / 2).clamp(1, MOST_HELD);
        let (mut chosen, mut bytes) = (BinaryHeap::new(), 0);
        let (mut seen, mut number) = (0, 0);
        while let Some(dead_letter) = browser.next().await? {
            number += 1;
            if seen == set || self.stop.is_cancelled() {
                continue;
            }
            let dead = dead_letter.read();
            // Those of this replay that have died again are not of the set.
            if dead.replay.as_deref() == Some(mark) || !self.bench.filter.admits(&dead) {
                continue;
            }
            seen += 1;
            let (_, going) = self.bench.judge(&dead_letter, &dead);
            let tenant = self.bench.tenant(&dead_letter, &dead).map(str::to_owned);
            drop(dead);
            let Some(Sendable { mended, urgency }) = going else { continue };
            if within.is_some_and(|seconds| !urgency.crosses_within(seconds, self.bench.terms.now))
            {
                continue;
            }
            bytes += dead_letter.body().len();
            chosen.push(Chosen { order: (urgency, number), dead_letter, tenant, mended });
            while chosen.len() > most || bytes > MOST_BYTES {
                bytes -= chosen
                    .pop()
                    .map_or(bytes, |least_urgent| least_urgent.dead_letter.body().len());
            }
        }
        Ok(chosen.into_sorted_vec())
    }

    /// Batch after batch, at the pace that leaves room.
    async fn send(
        &mut self,
        browser: &mut QueueBrowser<'_>,
        chosen: Vec<Chosen>,
        mark: &str,
    ) -> anyhow::Result<()> {
        let until = Instant::now() + SWEEP;
        let forwarder = self.client.forwarder().await?;
        let mut chosen = chosen.into_iter().peekable();
        while chosen.peek().is_some() {
            let client = self.client;
            let Some(count) = client.or_lost(self.pace.turn(&self.stop, until)).await? else {
                return Ok(());
            };
            let batch: Vec<Chosen> = chosen.by_ref().take(count).collect();
            let (before, refused) = (self.receipt.counted(REPLAYED), self.refused);
            if let Err(error) = client.or_lost(self.batch(browser, &forwarder, &batch, mark)).await
            {
                // What was published and not removed is in its queue, and may be on its way too.
                let settled = self.receipt.counted(REPLAYED) - before + self.refused - refused;
                self.receipt.count(IN_DOUBT, (batch.len() as u64).saturating_sub(settled));
                return Err(error);
            }
            self.receipt.keep_up()?;
        }
        Ok(())
    }

    /// Publishes, awaits the confirms, and only then takes each out of its queue.
    async fn batch(
        &mut self,
        browser: &mut QueueBrowser<'_>,
        forwarder: &Forwarder,
        batch: &[Chosen],
        mark: &str,
    ) -> anyhow::Result<()> {
        let mut confirms = Vec::with_capacity(batch.len());
        for Chosen { dead_letter, tenant, mended, .. } in batch {
            confirms.push(
                forwarder.forward(dead_letter, tenant.as_deref(), mended.as_deref(), mark).await?,
            );
        }
        let mut verdicts = Vec::with_capacity(batch.len());
        for confirm in confirms {
            verdicts.push(confirm.verdict().await?);
        }
        // The client library may pin a return on a neighbour: then none of the batch is known to be
        // taken.
        if verdicts.contains(&Verdict::Returned) {
            anyhow::bail!(
                "no shard is bound to the exchange: start a relay, or load what `dnma-relay \
                 topology` prints"
            );
        }
        self.acked.retain(|at| at.elapsed() < ACKED_AFTER);
        for (Chosen { dead_letter, mended, .. }, verdict) in batch.iter().zip(verdicts) {
            if verdict == Verdict::Refused {
                self.refused += 1;
                continue;
            }
            browser.remove(&dead_letter.ack_handle()).await?;
            self.acked.push(Instant::now());
            self.receipt.done_to(Digest::of(dead_letter.body()));
            self.receipt.count(REPLAYED, 1);
            self.receipt.count(MENDED, u64::from(mended.is_some()));
            self.progress.inc(1);
        }
        Ok(())
    }
}

impl ReplayRules<'_> {
    /// Who sent the hit, as far as the broker or a relay has verified.
    fn tenant<'l>(&self, dead_letter: &'l DeadLetter, dead: &'l Dead<'_>) -> Option<&'l str> {
        self.rules.verified(dead_letter.user(), dead.tenant.as_deref())
    }

    /// What would become of a hit, and how it goes, if it does.
    fn judge(&self, dead_letter: &DeadLetter, dead: &Dead<'_>) -> (Outlook, Option<Sendable>) {
        let sender = self.rule_set.sender(self.tenant(dead_letter, dead));
        let outlook = outlook(&self.terms, dead, sender);
        let going = match &outlook {
            Outlook::Goes(going) => Some(going.clone()),
            Outlook::Rejected(_) | Outlook::TooOld if self.unchecked => {
                let seen = dead.first_failed_at.or(dead.sent_at);
                let mended = dead
                    .hit
                    .as_ref()
                    .ok()
                    .and_then(|hit| fix::mend(self.terms.plan, self.terms.fixes, hit, seen));
                Some(Sendable {
                    mended,
                    urgency: Urgency::of(seen.unwrap_or(self.terms.now), self.terms.now),
                })
            }
            Outlook::Rejected(_) | Outlook::TooOld => None,
        };
        (outlook, going)
    }
}

/// The most urgent is the least, and among equals the first in the queue.
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

fn tell(receipt: &Receipt, stopped: Option<&str>) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let mended = receipt.counted(MENDED);
    let of_them = if mended > 0 { format!(", {mended} of them mended") } else { String::new() };
    writeln!(
        out,
        "{} sent again{of_them}; receipt: {}",
        hits(receipt.counted(REPLAYED)),
        receipt.path().display()
    )?;
    if let Some(reason) = stopped {
        writeln!(out, "Not finished: {reason}. What was not sent is in its queue, as it was.")?;
    }
    let in_doubt = receipt.counted(IN_DOUBT);
    if in_doubt > 0 {
        writeln!(
            out,
            "Up to {in_doubt} hits may be in their queue although they were sent: another replay \
             may double them."
        )?;
    }
    Ok(())
}
