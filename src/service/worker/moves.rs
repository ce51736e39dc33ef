//! Moves hits to their next queues: publish, await the confirm, and then mark the hit for its ack.
//! This is the only place where a hit changes queues.
//!
//! One task does it for all lanes of a round, so that no lane waits for a queue that is full: what
//! such a queue refuses waits here, unacked, and hits of every other fate go on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::context::WorkerContext;
use super::delivery::Delivery;
use super::settle::{Settled, notify};
use crate::domain::envelope::{self, DeadLetterHeaders};
use crate::domain::rule::Language;
use crate::domain::settle::Settlement;
use crate::domain::validate::Violation;
use crate::service::amqp::BrokerError;
use crate::service::amqp::publisher::{Changes, Confirm, ConfirmChannel, PublishOutcome};
use crate::service::amqp::session::Session;
use crate::service::backoff;
use crate::service::rules::source::RuleSet;

/// Bytes of `x-dnma-violations`. A hit that breaks every rule once stays below 8 KiB.
const MAX_VIOLATIONS: usize = 24 * 1024;

/// How long a publish may go unconfirmed once the worker drains. Its hit then goes back to its
/// shard, and may lie in its next queue too: repeated rather than lost.
const DRAIN_CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);

/// The most hits that are published before their confirms are awaited.
const MOST_AT_ONCE: usize = 256;

/// Moves hits through one channel of one session.
#[derive(Debug)]
pub(super) struct Mover {
    context: Arc<WorkerContext>,
    session: Arc<Session>,
    /// Where hits are published.
    channel: ConfirmChannel,
    /// Cancelled when the round ends: what the broker refuses then goes back to its shard.
    stop: CancellationToken,
    /// What the broker refused, by exchange.
    refused: BTreeMap<String, RefusedHits>,
    /// Whether the broker did not answer while the worker drains.
    gave_up: bool,
}

/// Hits that wait because their next queue takes none.
#[derive(Debug)]
struct RefusedHits {
    hits: Vec<Move>,
    /// How often in a row the queue took none.
    failures: u32,
    retry_at: Instant,
}

/// A hit on its way to another queue.
#[derive(Debug)]
struct Move {
    delivery: Delivery,
    settlement: Settlement,
    /// The exchange of the next queue.
    exchange: String,
}

impl Mover {
    /// A mover on a channel of its own.
    ///
    /// # Errors
    /// When the session is lost.
    pub(super) async fn open(
        context: Arc<WorkerContext>,
        session: Arc<Session>,
        stop: CancellationToken,
    ) -> Result<Self, BrokerError> {
        let channel = session.confirm_channel().await?;
        Ok(Self { context, session, channel, stop, refused: BTreeMap::new(), gave_up: false })
    }

    /// Moves what comes until all senders are gone. What is refused then goes back to its shard.
    pub(super) async fn run(mut self, mut moves: mpsc::Receiver<Settled>) {
        let mut batch = Vec::new();
        loop {
            let retry_at = self.refused.values().map(|refused| refused.retry_at).min();
            let due = async {
                match retry_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                received = moves.recv_many(&mut batch, MOST_AT_ONCE) => {
                    if received == 0 {
                        break;
                    }
                    let moving = self.admitted(batch.drain(..));
                    self.move_on(moving).await;
                }
                () = due => self.retry().await,
            }
        }
        for exchange in self.refused.keys() {
            self.context.metrics.refused_hits(self.context.topology.suffix(exchange), 0);
        }
    }

    /// The hits that may be published. One for a queue that refuses waits behind those that it
    /// refused.
    fn admitted(&mut self, hits: impl Iterator<Item = Settled>) -> Vec<Move> {
        let mut admitted = Vec::new();
        for (delivery, settlement) in hits {
            let Some(exchange) = self.exchange(&settlement) else { continue };
            let moving = Move { delivery, settlement, exchange };
            match self.refused.get_mut(&moving.exchange) {
                Some(refused) => refused.hits.push(moving),
                None => admitted.push(moving),
            }
        }
        self.tell();
        admitted
    }

    /// Publishes once more what was refused and has waited for long enough.
    async fn retry(&mut self) {
        let now = Instant::now();
        let mut due = Vec::new();
        for (exchange, refused) in &self.refused {
            if refused.retry_at <= now {
                due.push(exchange.clone());
            }
        }
        for exchange in due {
            // RabbitMQ 3.10 goes on refusing on a channel that a full queue has refused, although
            // there is room again.
            match self.session.confirm_channel().await {
                Ok(channel) => self.channel = channel,
                // The session is over, and with it the round.
                Err(_) => return self.refused.clear(),
            }
            if let Some(refused) = self.refused.get_mut(&exchange) {
                let hits = std::mem::take(&mut refused.hits);
                self.move_on(hits).await;
            }
        }
    }

    /// Publishes and confirms a batch, marks what the broker took, and keeps what it refused. One
    /// return makes the whole batch unconfirmed: the client library may pin it on the confirm of
    /// a neighbour.
    async fn move_on(&mut self, moving: Vec<Move>) {
        if self.gave_up || moving.is_empty() {
            return;
        }
        let Some(outcomes) = self.publish_all(&moving).await else { return };
        if outcomes.contains(&PublishOutcome::Returned) {
            self.context.metrics.publish_refused();
            let text = "a dead-letter exchange has no queue for a hit";
            return self.session.end.because(text.to_owned());
        }
        let mut refused: BTreeMap<String, Vec<Move>> = BTreeMap::new();
        let mut taken = BTreeSet::new();
        let mut window = None;
        for (moving, outcome) in moving.into_iter().zip(outcomes) {
            if outcome == PublishOutcome::Taken {
                taken.insert(moving.exchange);
                window = Some(moving.delivery.finish(&moving.settlement, None));
            } else {
                self.context.metrics.publish_refused();
                refused.entry(moving.exchange.clone()).or_default().push(moving);
            }
        }
        notify(window);
        for exchange in &taken {
            if !refused.contains_key(exchange) {
                self.takes_again(exchange);
            }
        }
        for (exchange, hits) in refused {
            let takes_some = taken.contains(&exchange);
            self.keep(exchange, hits, takes_some);
        }
        self.tell();
    }

    /// A queue took a hit: one that had refused some may do so from now on.
    fn takes_again(&mut self, exchange: &str) {
        if self.refused.get(exchange).is_some_and(|refused| refused.hits.is_empty()) {
            self.refused.remove(exchange);
            let queue = self.context.topology.suffix(exchange);
            self.context.metrics.refused_hits(queue, 0);
            tracing::info!(queue, "the broker takes hits into this queue again");
        }
    }

    /// Keeps hits that a queue refused, which may have taken others at the same time.
    fn keep(&mut self, exchange: String, hits: Vec<Move>, takes_some: bool) {
        let queue = self.context.topology.suffix(&exchange);
        let refused = self.refused.entry(exchange.clone()).or_insert_with(|| {
            tracing::warn!(
                queue,
                "the broker refuses to take hits into this queue (is a length limit set by \
                 policy?): they wait and are tried again until it does, and others go on"
            );
            RefusedHits { hits: Vec::new(), failures: 0, retry_at: Instant::now() }
        });
        refused.hits.splice(0..0, hits);
        refused.failures = if takes_some { 0 } else { refused.failures + 1 };
        refused.retry_at = Instant::now() + backoff::reconnect(refused.failures);
    }

    /// Tells how many hits wait for each queue that refuses.
    fn tell(&self) {
        for (exchange, refused) in &self.refused {
            let queue = self.context.topology.suffix(exchange);
            self.context.metrics.refused_hits(queue, refused.hits.len());
        }
    }

    /// The broker's answers to a batch, in order; `None` if they are not all to be had: the
    /// session is over, or the worker drains and the broker does not answer.
    async fn publish_all(&mut self, moving: &[Move]) -> Option<Vec<PublishOutcome>> {
        // Started in order, and written together rather than each by itself.
        let publishes = moving.iter().map(|moving| self.publish(moving));
        let publishing = async {
            let confirms: Option<Vec<Confirm>> = join_all(publishes).await.into_iter().collect();
            let mut outcomes = Vec::with_capacity(moving.len());
            for confirm in confirms? {
                match confirm.answered().await {
                    Ok(outcome) => outcomes.push(outcome),
                    Err(error) => {
                        self.refused_as_signed(moving, &error);
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
            outcomes = self.session.end.or(publishing) => return outcomes.ok().flatten(),
            () = drained => {}
        }
        self.gave_up = true;
        None
    }

    /// Stops signing if the broker knows us by another name. Not where tenants are checked: an
    /// unsigned hit would be nobody's when it comes back.
    fn refused_as_signed(&self, moving: &[Move], error: &BrokerError) {
        let are_tenants_checked =
            moving.iter().any(|moving| moving.delivery.rule_set().tenants.is_some());
        if !are_tenants_checked {
            self.context.signing.stop_if_unknown(error);
        }
    }

    async fn publish(&self, moving: &Move) -> Option<Confirm> {
        let Move { delivery, settlement, exchange } = moving;
        let headers = self.headers(delivery, settlement).list();
        // The broker verifies our name; by it the next relay knows that the headers are ours.
        let signed = self.context.signing.signs();
        let changes = Changes { headers, body: None, signed };
        match self.channel.forward(exchange, delivery.message(), changes).await {
            Ok(confirm) => Some(confirm),
            Err(error) => {
                self.session.end.because(format!("a publish failed: {error}"));
                None
            }
        }
    }

    /// The exchange of the next queue; `None` of a fate that needs no other queue.
    fn exchange(&self, settlement: &Settlement) -> Option<String> {
        let topology = &self.context.topology;
        match settlement {
            Settlement::Retry { step, .. } => Some(topology.retry(*step)),
            Settlement::Park { .. } => Some(topology.parked()),
            Settlement::Reject { .. } => Some(topology.rejected()),
            Settlement::Delivered(_) | Settlement::Release => None,
        }
    }

    /// Our headers on the copy in the next queue.
    fn headers<'d>(
        &'d self,
        delivery: &'d Delivery,
        settlement: &Settlement,
    ) -> DeadLetterHeaders<'d> {
        let history = delivery.history();
        let headers = DeadLetterHeaders {
            reason: envelope::REASON_PLAN,
            attempts: history.attempts,
            status: None,
            first_failed_at: history.first_failed_at,
            failed_at: Timestamp::now(),
            violations: None,
            plan: &delivery.rule_set().plan.version,
            worker: &self.context.worker,
            tenant: delivery.sender(),
            replay: delivery.replay_mark(),
        };
        match settlement {
            Settlement::Retry { attempts, failure, .. }
            | Settlement::Park { attempts, failure } => DeadLetterHeaders {
                reason: failure.reason.code(),
                attempts: *attempts,
                status: failure.status,
                ..headers
            },
            Settlement::Reject { violations } => {
                let violations = Some(report(delivery.rule_set(), violations));
                DeadLetterHeaders { violations, ..headers }
            }
            Settlement::Delivered(_) | Settlement::Release => headers,
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
