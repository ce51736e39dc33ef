//! Carries out a [`Settlement`]: publish to the hit's next queue, await the confirm, and then mark
//! the hit for its ack. This is the only place where a hit changes queues.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::acks::AckWindow;
use super::context::WorkerContext;
use super::delivery::Delivery;
use crate::domain::answer::Failure;
use crate::domain::envelope::{self, DeadLetterHeaders, Header};
use crate::domain::rule::Language;
use crate::domain::settle::Settlement;
use crate::domain::validate::Violation;
use crate::service::amqp::publisher::{Changes, Confirm, ConfirmChannel, PublishOutcome};
use crate::service::amqp::session::Session;
use crate::service::backoff;
use crate::service::rules::source::RuleSet;

/// Bytes of `x-dnma-violations`. A hit that breaks every rule once stays below 8 KiB.
const MAX_VIOLATIONS: usize = 24 * 1024;

/// How long a publish may go unconfirmed once the worker drains. Its hit then goes back to its
/// shard, and may lie in its next queue too: repeated rather than lost.
const DRAIN_CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);

type Settled = (Delivery, Settlement);

/// Settles hits through one channel of one session.
#[derive(Debug)]
pub struct Settler {
    context: Arc<WorkerContext>,
    session: Arc<Session>,
    /// Where hits are published.
    channel: ConfirmChannel,
    /// Cancelled when the round ends: what the broker refuses then goes back to its shard.
    stop: CancellationToken,
}

/// What became of a batch of publishes.
enum Moved {
    /// The broker took all but these.
    AllBut(Vec<Settled>),
    /// Nobody knows: the session is over, or the worker drains and the broker does not answer.
    Unknown,
}

impl Settler {
    /// A settler on a channel of its own.
    ///
    /// # Errors
    /// When the session is lost.
    pub(super) async fn open(
        context: Arc<WorkerContext>,
        session: Arc<Session>,
        stop: CancellationToken,
    ) -> Result<Self, crate::service::amqp::BrokerError> {
        let channel = session.confirm_channel().await?;
        Ok(Self { context, session, channel, stop })
    }

    /// Settles hits of one request, in order. Publishes are pipelined: all are sent, then all
    /// confirms awaited, and then the hits marked for their acks, which
    /// [`AckWriter`](super::acks::AckWriter) sends. A hit whose settlement cannot be carried out
    /// stays on the broker, unacked.
    pub async fn settle(&mut self, hits: impl IntoIterator<Item = Settled>) {
        let mut moving = Vec::new();
        let mut window = None;
        for (delivery, settlement) in hits {
            match &settlement {
                Settlement::Delivered(_) => {
                    let identity = delivery.identity();
                    window = Some(delivery.finish(&settlement, Some(identity)));
                }
                // Its channel will give it back.
                Settlement::Release => drop(delivery),
                Settlement::Retry { .. } | Settlement::Park { .. } | Settlement::Reject { .. } => {
                    moving.push((delivery, settlement));
                }
            }
        }
        notify(window);
        self.move_all(moving).await;
    }

    /// Publishes until the broker has taken everything. What it refuses goes once more, after a
    /// pause that grows, until the session is over or the worker drains.
    async fn move_all(&mut self, mut moving: Vec<Settled>) {
        for attempt in 0.. {
            if moving.is_empty() {
                return;
            }
            if attempt > 0 {
                let pause = tokio::time::sleep(backoff::reconnect(attempt - 1));
                let paused = self.session.end.or(self.stop.run_until_cancelled(pause)).await;
                if !matches!(paused, Ok(Some(()))) {
                    return;
                }
                // RabbitMQ 3.10 goes on refusing on a channel that a full queue has refused,
                // although there is room again.
                match self.session.confirm_channel().await {
                    Ok(channel) => self.channel = channel,
                    Err(_) => return,
                }
            }
            let Moved::AllBut(refused) = self.move_on(moving).await else { return };
            if attempt == 0 && !refused.is_empty() {
                tracing::warn!(
                    "the broker refuses to take hits (is a queue length limit set by policy?): \
                     trying again until it does"
                );
            }
            moving = refused;
        }
    }

    /// Publishes and confirms a batch, marks what the broker took, and gives back what it refused.
    /// One return makes the whole batch unconfirmed: the client library may pin it on the confirm
    /// of a neighbour.
    async fn move_on(&self, moving: Vec<Settled>) -> Moved {
        let Some(outcomes) = self.publish_all(&moving).await else { return Moved::Unknown };
        if outcomes.contains(&PublishOutcome::Returned) {
            self.context.metrics.publish_refused();
            let text = "a dead-letter exchange has no queue for a hit";
            self.session.end.because(text.to_owned());
            return Moved::Unknown;
        }
        let mut refused = Vec::new();
        let mut window = None;
        for ((delivery, settlement), outcome) in moving.into_iter().zip(outcomes) {
            if outcome == PublishOutcome::Taken {
                window = Some(delivery.finish(&settlement, None));
            } else {
                self.context.metrics.publish_refused();
                refused.push((delivery, settlement));
            }
        }
        notify(window);
        Moved::AllBut(refused)
    }

    /// The broker's answers to a batch, in order; `None` if they are not all to be had.
    async fn publish_all(&self, moving: &[Settled]) -> Option<Vec<PublishOutcome>> {
        // Started in order, and written together rather than each by itself.
        let publishes = moving.iter().map(|(hit, settlement)| self.publish(hit, settlement));
        let publishing = async {
            let confirms: Option<Vec<Confirm>> = join_all(publishes).await.into_iter().collect();
            let mut outcomes = Vec::with_capacity(moving.len());
            for confirm in confirms? {
                match confirm.answered().await {
                    Ok(outcome) => outcomes.push(outcome),
                    Err(error) => {
                        let text = format!("a publish was not confirmed: {error}");
                        self.session.end.because(text);
                        return None;
                    }
                }
            }
            Some(outcomes)
        };
        let drained = async {
            self.stop.cancelled().await;
            tokio::time::sleep(DRAIN_CONFIRM_TIMEOUT).await;
        };
        tokio::select! {
            biased;
            outcomes = self.session.end.or(publishing) => outcomes.ok().flatten(),
            () = drained => None,
        }
    }

    async fn publish(&self, delivery: &Delivery, settlement: &Settlement) -> Option<Confirm> {
        let (exchange, headers) = self.address(delivery, settlement)?;
        // The broker verifies our name; by it the next relay knows that the tenant's name in the
        // header is ours.
        let signed = delivery.rule_set().tenants.is_some();
        let changes = Changes { headers, body: None, signed };
        match self.channel.forward(&exchange, delivery.message(), changes).await {
            Ok(confirm) => Some(confirm),
            Err(error) => {
                self.session.end.because(format!("a publish failed: {error}"));
                None
            }
        }
    }

    /// The exchange of the next queue, and our headers.
    fn address(
        &self,
        delivery: &Delivery,
        settlement: &Settlement,
    ) -> Option<(String, Vec<(&'static str, Header)>)> {
        let topology = &self.context.topology;
        let failed = |attempts: u32, failure: &Failure| DeadLetterHeaders {
            reason: failure.reason.code(),
            attempts,
            status: failure.status,
            ..self.headers(delivery)
        };
        let (exchange, headers) = match settlement {
            Settlement::Retry { step, attempts, failure } => {
                (topology.retry(*step), failed(*attempts, failure))
            }
            Settlement::Park { attempts, failure } => {
                (topology.parked(), failed(*attempts, failure))
            }
            Settlement::Reject { violations } => {
                let violations = Some(report(delivery.rule_set(), violations));
                (topology.rejected(), DeadLetterHeaders { violations, ..self.headers(delivery) })
            }
            Settlement::Delivered(_) | Settlement::Release => return None,
        };
        Some((exchange, headers.list()))
    }

    /// The headers of a hit that breaks the plan, but for its violations.
    fn headers<'d>(&'d self, delivery: &'d Delivery) -> DeadLetterHeaders<'d> {
        let history = delivery.history();
        DeadLetterHeaders {
            reason: envelope::REASON_PLAN,
            attempts: history.attempts,
            status: None,
            first_failed_at: history.first_failed_at,
            failed_at: Timestamp::now(),
            violations: None,
            plan: &delivery.rule_set().plan.version,
            worker: &self.context.worker,
            tenant: delivery.sender(),
        }
    }
}

/// Every violation as JSON, but for the tail of a hit that was made to have thousands.
fn report(rule_set: &RuleSet, violations: &[Violation]) -> String {
    let mut list = String::from("[");
    for violation in violations {
        let report = violation.report(&rule_set.plan, Language::English);
        let Ok(report) = serde_json::to_string(&report) else { continue };
        if list.len() + report.len() > MAX_VIOLATIONS {
            break;
        }
        if list.len() > 1 {
            list.push(',');
        }
        list.push_str(&report);
    }
    list.push(']');
    list
}

/// Wakes the writer of acks. All hits of a batch whose windows differ share one writer.
fn notify(window: Option<Arc<AckWindow>>) {
    if let Some(window) = window {
        window.notify();
    }
}
