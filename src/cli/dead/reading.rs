//! Looking through the queues of dead hits, without taking anything.

use std::io::IsTerminal;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use tokio_util::sync::CancellationToken;

use super::choice::Choice;
use crate::domain::dead::Dead;
use crate::domain::dead::filter::Filter;
use crate::service::broker::{DeadLetter, DeadLetterClient};
use crate::service::config::Broker;

/// What was looked at.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct HitsRead {
    /// Hits in the queues.
    pub(super) read: u64,
    /// Of these, chosen.
    pub(super) chosen: u64,
}

/// Connects, and makes sure that looking at the chosen queues costs none of their hits.
pub(super) async fn open(settings: &Broker, choice: &Choice) -> anyhow::Result<DeadLetterClient> {
    let client = DeadLetterClient::open(settings).await?;
    for dead_queue in choice.dead_queues().iter().filter(|_| !choice.trust_limit) {
        client.make_sure(*dead_queue).await?;
    }
    Ok(client)
}

/// Shows every chosen hit of the chosen queues to `each`. Whatever `each` says, and when somebody
/// stops it, all hits are back in their queues, in their order, afterwards.
pub(super) async fn look(
    client: &DeadLetterClient,
    choice: &Choice,
    filter: &Filter,
    stop: &CancellationToken,
    mut each: impl FnMut(&DeadLetter, &Dead<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<HitsRead> {
    // A bar would wipe rows out on a terminal that shows both.
    let prints_rows = choice.prints_rows && std::io::stdout().is_terminal();
    let mut seen = HitsRead::default();
    for dead_queue in choice.dead_queues() {
        let mut browser = client.browse(*dead_queue).await?;
        let progress = bar(browser.ready, format!("reading {}", client.queue(*dead_queue)))?;
        if prints_rows {
            progress.set_draw_target(ProgressDrawTarget::hidden());
        }
        let (mut of_queue, mut outcome) = (0, Ok(()));
        while let Some(dead_letter) = browser.next().await? {
            seen.read += 1;
            progress.inc(1);
            // Reading goes on to the end, or the order would change.
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
        seen.chosen += of_queue;
        outcome?;
        anyhow::ensure!(
            !stop.is_cancelled(),
            "stopped: all hits are in their queues, as they were"
        );
    }
    Ok(seen)
}

/// A progress bar on standard error, on a terminal only.
pub(super) fn bar(length: u64, message: String) -> anyhow::Result<ProgressBar> {
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
    bar.set_style(ProgressStyle::with_template(
        "{bar:30} {pos} of {len}  {msg}  {elapsed} of about {duration}",
    )?);
    bar.set_message(message);
    Ok(bar)
}
