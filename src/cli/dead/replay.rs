//! `dead replay`: sends hits through the main exchange again, at a pace that leaves room for those
//! that come in now.
//!
//! The queue is read from its beginning to its end in several *passes*. A pass sends the most
//! urgent of the chosen hits, no more than a few minutes' worth, and gives everything else back: so
//! nothing is held for as long as the broker's consumer timeout, and no more than the hits of a
//! pass are in memory, however many there are.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::choice::Choice;
use super::reading;
use super::receipt::Receipt;
use crate::cli::stop;
use crate::domain::dead::fix::Fix;
use crate::domain::printable::printable;
use crate::domain::prose::hits;
use crate::service::amqp::depths::QueueDepths;
use crate::service::config::ReplaySettings;
use crate::service::rules::Rules;

mod forecast;
mod pace;
mod passes;
mod rules;

use forecast::ReplayForecast;
use pace::Pace;
use passes::Replay;
use rules::ReplayRules;

/// The command line options of `dead replay`.
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

/// The count of hits that were sent, in the receipt.
const REPLAYED: &str = "replayed";
/// The count of hits that a fix changed.
const FIXED: &str = "fixed";
/// The count of hits that were sent and may be in their queue all the same.
const IN_DOUBT: &str = "in_doubt";

/// What the progress bar says while hits are sent.
const SENDING: &str = "sending again";

/// Sends the chosen hits again; with `--dry-run`, says what would be sent.
///
/// # Errors
/// Fails for a configuration mistake, a receipt that cannot be written, and a broker that goes
/// away. What was confirmed is then on its way, and everything else is in its queue.
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
    let replay_rules = ReplayRules {
        terms,
        rules: &rules,
        rule_set: &rule_set,
        filter: &filter,
        unchecked: options.unchecked,
    };
    let mut forecast = ReplayForecast::new(options.rate);
    reading::for_each_chosen(&client, &options.choice, &filter, &stop, |dead_letter, dead| {
        let (outlook, sendable) = replay_rules.evaluate(dead_letter, dead);
        forecast.add(&replay_rules.terms, dead, &outlook, sendable.as_ref());
        Ok(())
    })
    .await?;
    forecast.add_up(replay_rules.terms.max_age, replay_rules.terms.now);
    if options.dry_run || forecast.sendable() == 0 {
        client.close().await;
        forecast.print(options.json)?;
        return Ok(if forecast.chosen() > 0 && forecast.staying() == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    // The receipt is created before anything moves: what cannot be written down is not done.
    let file = (options.receipt.as_ref(), options.json);
    let mut receipt =
        Receipt::begin("replay", file, &options.choice, &filter, &settings.broker, &client)?;
    receipt.set_replay_options(&options.fix, options.rate);
    receipt.count("chosen", forecast.chosen());
    for (reason, hits) in forecast.staying_by_reason() {
        receipt.count(&reason, hits);
    }
    if !receipt.is_printed {
        // The hits are sent all the same if standard output is closed.
        let _printed = forecast.print(false);
    }
    let progress = reading::bar(forecast.sendable(), SENDING.to_owned())?;
    let depths = QueueDepths::open(&settings.broker, "dnma-relay dead, looking").await?;
    let pace = Pace::new(options.rate, depths, progress.clone());
    let mut replay = Replay {
        rules: replay_rules,
        client: &client,
        pace,
        receipt: &mut receipt,
        stop,
        progress,
        refused: 0,
        acked: Vec::new(),
    };
    let outcome = replay.send_all(&forecast).await;
    replay.progress.finish_and_clear();
    replay.pace.close().await;
    let missed = forecast.sendable().saturating_sub(receipt.count_of(REPLAYED));
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
        let _printed = print_outcome(&receipt, stopped.as_deref());
    }
    outcome?;
    Ok(if stopped.is_none() && forecast.staying() == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Prints what was done.
fn print_outcome(receipt: &Receipt, stopped: Option<&str>) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let fixed = receipt.count_of(FIXED);
    let of_them = if fixed > 0 { format!(", {fixed} of them fixed") } else { String::new() };
    writeln!(
        out,
        "{} sent again{of_them}; receipt: {}",
        hits(receipt.count_of(REPLAYED)),
        receipt.path().display()
    )?;
    if let Some(reason) = stopped {
        let reason = printable(reason);
        writeln!(out, "Not finished: {reason}. What was not sent is in its queue, as it was.")?;
    }
    let in_doubt = receipt.count_of(IN_DOUBT);
    if in_doubt > 0 {
        writeln!(
            out,
            "Up to {in_doubt} hits may be in their queue although they were sent: another replay \
             may double them."
        )?;
    }
    Ok(())
}
