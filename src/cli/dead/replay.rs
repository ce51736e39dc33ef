//! `dead replay`: hits sent through the main exchange again, at a pace that leaves room for those of now.
//!
//! The queue is read from its beginning to its end in *sweeps*. A sweep sends the most urgent of the chosen hits, no more than a few
//! minutes' worth, and gives everything else back: so nothing is held for as long as the broker's consumer timeout, and no more
//! than a sweep's hits are in memory, however many there are.

use std::collections::BinaryHeap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::choice::Choice;
use super::reading;
use super::receipt::Receipt;
use crate::domain::dead::filter::Filter;
use crate::domain::dead::fix::{self, Fix};
use crate::domain::dead::outlook::{Going, Outlook, Terms, Urgency, outlook};
use crate::domain::dead::{Dead, Grave};
use crate::service::broker::{DeadLetters, Hold, Letter};
use crate::service::config::Judge;
use crate::service::rules::Rules;
use crate::service::rules::source::Book;

mod forecast;
mod pace;

use forecast::Forecast;
use pace::Pace;

/// Options of `dead replay`.
#[derive(Debug, Args)]
pub struct Options {
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
    /// Send what would be rejected or parked again too: the workers judge by other rules than those here
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

/// A sweep sends no more hits than this, and no more than go within [`SWEEP`].
const MOST_HELD: usize = 10_000;

/// Bytes of bodies that a sweep keeps.
const MOST_BYTES: usize = 32 * 1024 * 1024;

/// How long a sweep may take, well inside the broker's consumer timeout of 30 min; its hits are sent in half the time.
const SWEEP: Duration = Duration::from_secs(600);

/// What is needed to judge and to choose.
struct Bench<'b> {
    terms: Terms<'b>,
    rules: &'b Rules,
    book: &'b Book,
    filter: &'b Filter,
    unchecked: bool,
}

/// A replay under way.
struct Replay<'r> {
    bench: Bench<'r>,
    letters: &'r DeadLetters,
    pace: Pace,
    receipt: &'r mut Receipt,
    stop: CancellationToken,
    progress: ProgressBar,
}

/// A hit that this sweep will send.
struct Chosen {
    /// And its place in the queue.
    order: (Urgency, u64),
    letter: Letter,
    mended: Option<Vec<u8>>,
}

/// Replays.
///
/// # Errors
/// A configuration mistake, a receipt that cannot be written, or a broker that goes away: what was confirmed is on its way, and
/// everything else is in its queue.
pub(super) async fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let settings = Judge::from_env()?;
    let rules = Rules::load(settings.rules.clone())?;
    let book = rules.book();
    for fix in &options.fix {
        if let Err(error) = fix.check(&book.plan) {
            eprintln!("dnma-relay: --fix: {error}");
            return Ok(ExitCode::from(2));
        }
    }
    let filter = options.choice.filter();
    let letters = reading::open(&settings.broker, &options.choice).await?;
    let terms = settings.terms(&book.plan, &options.fix);
    let bench = Bench { terms, rules: &rules, book: &book, filter: &filter, unchecked: options.unchecked };
    // Before anything is looked at, so that nothing is done that cannot be written down.
    let mut receipt = match options.dry_run {
        true => None,
        false => {
            Some(Receipt::begin("replay", (options.receipt.as_ref(), options.json), &options.choice, &filter, &settings.broker, &letters)?)
        }
    };
    let mut forecast = Forecast::new(options.rate);
    reading::look(&letters, &options.choice, &filter, |letter, dead| {
        forecast.add(&bench.terms, dead, bench.judge(letter, dead), options.unchecked);
        Ok(())
    })
    .await?;
    forecast.add_up(bench.terms.now);
    let Some(receipt) = &mut receipt else {
        letters.close().await;
        forecast.print(options.json)?;
        return Ok(if forecast.stays() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    };
    receipt.mending(&options.fix, options.rate);
    receipt.count("chosen", forecast.chosen());
    for (reason, hits) in forecast.left() {
        receipt.count(&reason, hits);
    }
    if !receipt.is_printed {
        forecast.print(false)?;
    }
    let progress = reading::bar(forecast.goes(), "sending again".to_owned())?;
    let mut replay = Replay { bench, letters: &letters, pace: Pace::new(options.rate), receipt, stop: stop_on_signal()?, progress };
    let outcome = replay.all(&forecast.sets()).await;
    replay.progress.finish_and_clear();
    let stopped = match &outcome {
        Ok(stopped) => stopped.clone(),
        Err(error) => Some(format!("{error:#}")),
    };
    receipt.close(stopped.clone())?;
    letters.close().await;
    outcome?;
    if !receipt.is_printed {
        tell(receipt, stopped.as_deref())?;
    }
    Ok(if stopped.is_none() && forecast.stays() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Replay<'_> {
    /// Sweep after sweep, until nothing of the sets is left. Tells why it stopped before, if it did.
    async fn all(&mut self, sets: &[(Grave, u64)]) -> anyhow::Result<Option<String>> {
        for (grave, chosen) in sets {
            let mut left = *chosen;
            loop {
                let sent = self.sweep(*grave, left).await?;
                left -= sent;
                self.receipt.save()?;
                if self.stop.is_cancelled() {
                    return Ok(Some("stopped by a signal".to_owned()));
                }
                if self.pace.gave_up() {
                    let remedy = "see whether the workers deliver, and replay the rest";
                    return Ok(Some(format!("live hits waited in the shards for {} min: {remedy}", SWEEP.as_secs() / 60)));
                }
                if sent == 0 {
                    break;
                }
            }
        }
        Ok(None)
    }

    /// One reading of a queue, and the most urgent of the first `set` hits that are chosen. Tells how many were sent.
    async fn sweep(&mut self, grave: Grave, set: u64) -> anyhow::Result<u64> {
        let mark = format!("{}/{}", grave.code(), self.receipt.id());
        let mut hold = self.letters.hold(grave).await?;
        let chosen = self.choose(&mut hold, set, &mark).await?;
        let before = self.receipt.counted(REPLAYED);
        let outcome = self.send(&mut hold, chosen, &mark).await;
        hold.finish().await?;
        outcome.map(|()| self.receipt.counted(REPLAYED) - before)
    }

    /// Reads to the end, and keeps those that go first.
    async fn choose(&self, hold: &mut Hold<'_>, set: u64, mark: &str) -> anyhow::Result<Vec<Chosen>> {
        let most = self.pace.within(SWEEP / 2).clamp(1, MOST_HELD);
        let (mut chosen, mut bytes) = (BinaryHeap::new(), 0);
        let (mut seen, mut number) = (0, 0);
        while let Some(letter) = hold.next().await? {
            number += 1;
            if seen == set {
                continue;
            }
            let dead = letter.read();
            // Those of this replay that have died again are not of the set.
            if dead.replay.as_deref() == Some(mark) || !self.bench.filter.admits(&dead) {
                continue;
            }
            seen += 1;
            let going = self.bench.going(&letter, &dead);
            drop(dead);
            let Some(Going { mended, urgency }) = going else { continue };
            bytes += letter.body().len();
            chosen.push(Chosen { order: (urgency, number), letter, mended });
            while chosen.len() > most || bytes > MOST_BYTES {
                bytes -= chosen.pop().map_or(bytes, |least_urgent| least_urgent.letter.body().len());
            }
        }
        Ok(chosen.into_sorted_vec())
    }

    /// Publishes, awaits the confirms, and only then takes each out of its queue.
    async fn send(&mut self, hold: &mut Hold<'_>, chosen: Vec<Chosen>, mark: &str) -> anyhow::Result<()> {
        let until = Instant::now() + SWEEP;
        let forwarder = self.letters.forwarder().await?;
        let mut chosen = chosen.into_iter().peekable();
        while chosen.peek().is_some() {
            let Some(count) = self.pace.turn(self.letters, &self.stop, until).await? else { return Ok(()) };
            let batch: Vec<Chosen> = chosen.by_ref().take(count).collect();
            let mut confirms = Vec::with_capacity(batch.len());
            for Chosen { letter, mended, .. } in &batch {
                confirms.push(forwarder.forward(letter, mended.as_deref(), mark).await?);
            }
            let mut all_taken = true;
            for confirm in confirms {
                all_taken &= confirm.is_taken().await?;
            }
            // The client library may pin a refusal on a neighbour: then none of the batch is known to be taken.
            if !all_taken {
                self.receipt.count("in_doubt", u64::try_from(batch.len()).unwrap_or_default());
                anyhow::bail!(
                    "the broker did not take a hit (no shard behind the exchange, or a limit on a queue's length): it is still in its queue"
                );
            }
            for Chosen { letter, mended, .. } in &batch {
                hold.remove(letter).await?;
                self.receipt.done_to(letter.body());
                self.receipt.count(REPLAYED, 1);
                self.receipt.count(MENDED, u64::from(mended.is_some()));
                self.progress.inc(1);
            }
        }
        Ok(())
    }
}

impl Bench<'_> {
    fn judge(&self, letter: &Letter, dead: &Dead<'_>) -> Outlook {
        let sender = self.book.sender(self.rules.verified(letter.user(), dead.tenant.as_deref()));
        outlook(&self.terms, dead, sender)
    }

    /// How a hit goes, if it does.
    fn going(&self, letter: &Letter, dead: &Dead<'_>) -> Option<Going> {
        match self.judge(letter, dead) {
            Outlook::Goes(going) => Some(going),
            Outlook::Rejected(_) | Outlook::TooOld if self.unchecked => {
                let mended = dead.hit.as_ref().ok().and_then(|hit| fix::mend(self.terms.plan, self.terms.fixes, hit));
                let time = dead.first_failed_at.or(dead.failed_at).unwrap_or(self.terms.now);
                Some(Going { mended, urgency: Urgency::of(time, self.terms.now) })
            }
            Outlook::Rejected(_) | Outlook::TooOld => None,
        }
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

/// Ctrl-C and SIGTERM end a replay between two batches.
pub(super) fn stop_on_signal() -> std::io::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        told.cancel();
    });
    Ok(stop)
}

fn tell(receipt: &Receipt, stopped: Option<&str>) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let mended = receipt.counted(MENDED);
    let of_them = if mended > 0 { format!(", {mended} of them mended") } else { String::new() };
    writeln!(out, "{} hits sent again{of_them}; receipt: {}", receipt.counted(REPLAYED), receipt.path().display())?;
    if let Some(reason) = stopped {
        writeln!(out, "Not finished: {reason}. What was not sent is in its queue, as it was.")?;
    }
    Ok(())
}
