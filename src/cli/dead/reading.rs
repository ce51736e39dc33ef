//! Reads the queues of dead hits without taking anything.

use std::io::IsTerminal;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio_util::sync::CancellationToken;

use super::choice::Choice;
use crate::domain::dead::Dead;
use crate::domain::dead::filter::Filter;
use crate::service::amqp::dead_letter::{DeadLetter, DeadLetterClient};
use crate::service::config::BrokerSettings;

/// How many hits were read.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct HitsRead {
    /// Hits in the chosen queues.
    pub(super) read: u64,
    /// Of these, the hits that were chosen.
    pub(super) chosen: u64,
}

/// Connects, and makes sure that reading the chosen queues costs none of their hits.
pub(super) async fn open(
    settings: &BrokerSettings,
    choice: &Choice,
) -> anyhow::Result<DeadLetterClient> {
    let client = DeadLetterClient::open(settings).await?;
    for dead_queue in choice.dead_queues().iter().filter(|_| !choice.trust_limit) {
        client.make_sure(*dead_queue).await?;
    }
    Ok(client)
}

/// Calls `each` with every chosen hit of the chosen queues. All hits are back in their queues, in
/// their order, afterwards: also when `each` fails, and when a signal stops the command.
pub(super) async fn for_each_chosen(
    client: &DeadLetterClient,
    choice: &Choice,
    filter: &Filter,
    stop: &CancellationToken,
    mut each: impl FnMut(&DeadLetter, &Dead<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<HitsRead> {
    // On a terminal that shows both, a progress bar would wipe rows out.
    let prints_rows = choice.prints_rows && std::io::stdout().is_terminal();
    let mut counts = HitsRead::default();
    for dead_queue in choice.dead_queues() {
        let mut browser = client.browse(*dead_queue).await?;
        let progress = bar(browser.ready, format!("reading {}", client.queue(*dead_queue)))?;
        if prints_rows {
            progress.set_draw_target(ProgressDrawTarget::hidden());
        }
        let (mut of_queue, mut outcome) = (0, Ok(()));
        while let Some(dead_letter) = browser.next().await? {
            counts.read += 1;
            progress.inc(1);
            // Reading goes on to the end of the queue, or the order would change.
            if outcome.is_err()
                || stop.is_cancelled()
                || choice.max.is_some_and(|max| of_queue >= max)
            {
                continue;
            }
            let dead = dead_letter.read();
            if filter.admits(&dead) {
                of_queue += 1;
                outcome = each(&dead_letter, &dead);
            }
        }
        progress.finish_and_clear();
        browser.finish().await.context("the hits are in their queue")?;
        counts.chosen += of_queue;
        outcome?;
        anyhow::ensure!(
            !stop.is_cancelled(),
            "stopped: all hits are in their queues, as they were"
        );
    }
    Ok(counts)
}

/// Draws a progress bar on standard error, if that is a terminal.
pub(super) fn bar(length: u64, message: String) -> anyhow::Result<ProgressBar> {
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
    bar.set_style(ProgressStyle::with_template(
        "{bar:30} {pos} of {len}  {msg}  {elapsed} of about {duration}",
    )?);
    bar.set_message(message);
    Ok(bar)
}
