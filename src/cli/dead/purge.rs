//! `dead purge`: deletes hits for good.

use std::collections::HashMap;
use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::choice::Choice;
use super::digest::Digest;
use super::reading;
use super::receipt::Receipt;
use crate::cli::stop;
use crate::domain::dead::DeadQueue;
use crate::domain::dead::filter::Filter;
use crate::domain::printable::printable_lines;
use crate::domain::prose::hits;
use crate::service::amqp::dead_letter::DeadLetterClient;
use crate::service::config::BrokerSettings;

/// The command line options of `dead purge`.
#[derive(Debug, Args)]
pub struct DeadPurgeOptions {
    #[command(flatten)]
    choice: Choice,
    /// Failed so long ago or longer (90days). For a schedule: it is no error if there is none
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = humantime::parse_duration,
        conflicts_with_all = ["all", "until"],
        help_heading = "Which hits"
    )]
    older_than: Option<Duration>,
    /// Everything in the chosen queues
    #[arg(long)]
    all: bool,
    /// Ask nothing
    #[arg(long)]
    yes: bool,
    /// File for the receipt; - for standard output [default: dnma-relay-purge-ID.json]
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
    /// Print the receipt as JSON instead of a sentence
    #[arg(long)]
    json: bool,
}

/// The count of deleted hits in the receipt.
const DELETED: &str = "deleted";

/// How often each message was counted. What comes after the counting is not deleted.
type MessageCounts = HashMap<(DeadQueue, Digest), u64>;

/// Counts the chosen hits, asks whether they shall be deleted, and deletes them.
///
/// # Errors
/// Fails for a configuration mistake, a receipt that cannot be written, and a broker that goes
/// away.
pub(super) async fn run(options: &DeadPurgeOptions) -> anyhow::Result<ExitCode> {
    let mut filter = options.choice.filter();
    if let Some(age) = options.older_than {
        let until = Timestamp::now().checked_sub(age);
        filter.until = Some(until.context("--older-than goes back beyond all times")?);
    }
    if !filter.is_set() && !options.all {
        eprintln!(
            "dnma-relay: purge wants filters (--reason, --older-than, …), or --all for everything \
             in the queue"
        );
        return Ok(ExitCode::from(2));
    }
    if filter.is_set() && options.all {
        eprintln!("dnma-relay: --all is everything, filters are less: give one of the two");
        return Ok(ExitCode::from(2));
    }
    let settings = BrokerSettings::from_env()?;
    let client = reading::open(&settings, &options.choice).await?;
    let stop = stop::on_signal()?;
    let mut counted = MessageCounts::new();
    let counts =
        reading::for_each_chosen(&client, &options.choice, &filter, &stop, |dead_letter, dead| {
            *counted
                .entry((dead.dead_queue, Digest::of(dead_letter.message.body())))
                .or_default() += 1;
            Ok(())
        })
        .await?;
    if counts.chosen == 0 {
        client.close().await;
        eprintln!("no hit is chosen, of {}: nothing was deleted", counts.read);
        let is_expected = options.older_than.is_some() && !stop.is_cancelled();
        return Ok(if is_expected { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    if !options.yes && !confirmed(counts.chosen, counts.read)? {
        client.close().await;
        eprintln!("Nothing was deleted.");
        return Ok(ExitCode::FAILURE);
    }
    let mut receipt = Receipt::begin(
        "purge",
        (options.receipt.as_ref(), options.json),
        &options.choice,
        &filter,
        &settings,
        &client,
    )?;
    receipt.count("chosen", counts.chosen);
    let outcome = delete(&client, &options.choice, &filter, counted, &mut receipt, &stop).await;
    let missed = counts.chosen - receipt.count_of(DELETED);
    let stopped = match &outcome {
        Ok(()) if stop.is_cancelled() => Some("stopped by a signal".to_owned()),
        Ok(()) if missed > 0 => {
            Some(format!("{missed} hits were gone before they could be deleted"))
        }
        Ok(()) => None,
        Err(error) => Some(format!("{error:#}")),
    };
    receipt.close(stopped.clone())?;
    client.close().await;
    if !receipt.is_printed {
        let reason = stopped.as_ref().map(|reason| format!("\nNot finished: {reason}"));
        let reason = reason.unwrap_or_default();
        let reason = printable_lines(&reason);
        // The hits are deleted all the same if standard output is closed.
        let _written = writeln!(
            std::io::stdout(),
            "{} deleted; receipt: {}{reason}",
            hits(receipt.count_of(DELETED)),
            receipt.path().display()
        );
    }
    outcome?;
    Ok(if stopped.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Asks the user to type how many hits will be deleted, since a number is not typed by mistake.
fn confirmed(hits: u64, read: u64) -> anyhow::Result<bool> {
    let mut err = std::io::stderr().lock();
    writeln!(
        err,
        "{hits} of {read} hits will be deleted for good. (`dead export` keeps a copy; `dead \
         replay` sends them again.)"
    )?;
    write!(err, "Type {hits} to delete them: ")?;
    err.flush()?;
    let mut typed = String::new();
    std::io::stdin().lock().read_line(&mut typed)?;
    if !std::io::stdin().is_terminal() {
        writeln!(err)?;
    }
    Ok(typed.trim() == hits.to_string())
}

/// Deletes the hits that were counted, one by one.
async fn delete(
    client: &DeadLetterClient,
    choice: &Choice,
    filter: &Filter,
    mut counted: MessageCounts,
    receipt: &mut Receipt,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    for dead_queue in choice.dead_queues() {
        if stop.is_cancelled() {
            break;
        }
        let mut browser = client.browse(*dead_queue).await?;
        let progress =
            reading::bar(browser.ready, format!("deleting from {}", client.queue(*dead_queue)))?;
        let mut chosen = Vec::new();
        while let Some(dead_letter) = browser.next().await? {
            progress.inc(1);
            if stop.is_cancelled() || !filter.admits(&dead_letter.read()) {
                continue;
            }
            let digest = Digest::of(dead_letter.message.body());
            let Some(left) = counted.get_mut(&(*dead_queue, digest)).filter(|left| **left > 0)
            else {
                continue;
            };
            *left -= 1;
            chosen.push((dead_letter.ack_handle(), digest));
        }
        for (ack_handle, digest) in chosen {
            if stop.is_cancelled() {
                break;
            }
            browser.remove(&ack_handle).await?;
            receipt.add_hit(digest);
            receipt.count(DELETED, 1);
            receipt.save_if_due()?;
        }
        progress.finish_and_clear();
        browser.finish().await?;
    }
    Ok(())
}
