//! Carries out a [`Settlement`]: publish mandatory and confirmed, then ack. The only place where a
//! hit changes queues.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use futures_util::future::join_all;
use jiff::Timestamp;
use lapin::message::Delivery;
use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, ShortString};
use lapin::{Channel, Confirmation, PublisherConfirm};

use super::backoff;
use super::books::{Account, Ledger};
use super::rules::Rules;
use super::session_end::SessionEnd;
use super::telemetry::Metrics;
use super::topology::Topology;
use crate::domain::answer::Failure;
use crate::domain::books::Arrival;
use crate::domain::envelope::{self, DeadLetterHeaders, Header, RetryHistory};
use crate::domain::rule::Language;
use crate::domain::settle::Settlement;
use crate::domain::validate::Violation;

mod acks;
mod properties;
mod stored;
mod tally;

pub use acks::Acks;
pub(super) use acks::Window;
pub(super) use properties::{as_number, as_text, properties};
pub use stored::Stored;
use tally::Tally;

/// A hit in our hands: unacked on the broker, and to be settled exactly once.
#[derive(Debug)]
#[must_use = "a hit that is held must be settled"]
pub struct Held {
    delivery: Delivery,
    past: RetryHistory,
    tally: Tally,
    window: Arc<Window>,
}

/// Everything that stays the same from one session with the broker to the next.
#[derive(Debug)]
pub struct WorkerContext {
    /// Names.
    pub topology: Topology,
    /// Plan and tenants.
    pub rules: Arc<Rules>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Counters by exploitant, plateforme and site.
    pub ledger: Arc<Ledger>,
    /// Name of this worker.
    pub worker: String,
    /// Hits that Matomo stored and whose ack may not have arrived.
    pub stored: Stored,
}

/// Settles hits through one channel of one session.
#[derive(Debug)]
pub struct Settler {
    office: Arc<WorkerContext>,
    channel: Channel,
    lost: SessionEnd,
    /// The AMQP user of this session.
    user: ShortString,
}

impl Held {
    /// Takes a delivery over.
    pub(super) fn new(
        delivery: Delivery,
        office: Arc<WorkerContext>,
        of_shard: Arc<AtomicUsize>,
        window: Arc<Window>,
    ) -> Self {
        window.hold(delivery.delivery_tag);
        let headers = delivery.properties.headers().as_ref();
        let value = |name: &str| headers.and_then(|table| table.inner().get(name));
        let past = envelope::retry_history(
            |name| value(name).and_then(as_number),
            |name| value(name).and_then(as_text),
        );
        Self { delivery, past, tally: Tally::new(office, of_shard), window }
    }

    /// From here on it counts for this account: once per hit, before anything becomes of it.
    pub fn counts_for(&mut self, account: Arc<Account>) {
        let arrival =
            match (self.delivery.redelivered, self.past.replayed, self.past.first_failed_at) {
                (true, ..) => Arrival::Redelivered,
                (false, Some(dead_queue), _) => Arrival::Replayed(dead_queue),
                (false, None, Some(_)) => Arrival::CameBack,
                (false, None, None) => Arrival::First,
            };
        self.tally.counts_for(account, arrival);
    }

    /// It goes to Matomo again, which may have stored it.
    pub fn doubted(&self) {
        self.tally.doubted();
    }

    /// The message.
    pub fn body(&self) -> &[u8] {
        &self.delivery.data
    }

    /// The AMQP property.
    pub fn content_type(&self) -> Option<&str> {
        self.delivery.properties.content_type().as_ref().map(|text| text.as_str())
    }

    /// The AMQP property, in whole seconds.
    pub fn sent_at(&self) -> Option<Timestamp> {
        let seconds = (*self.delivery.properties.timestamp())?;
        Timestamp::from_second(i64::try_from(seconds).ok()?).ok()
    }

    /// What earlier failures left in the headers.
    pub fn past(&self) -> RetryHistory {
        self.past
    }

    /// The AMQP user who sent the hit, if the broker verified one.
    pub fn sender(&self) -> Option<&str> {
        let properties = &self.delivery.properties;
        let header =
            properties.headers().as_ref().and_then(|table| table.inner().get(envelope::TENANT));
        let moved_for = header.and_then(|value| match value {
            AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
            _ => None,
        });
        self.tally
            .office()
            .rules
            .verified(properties.user_id().as_ref().map(|user| user.as_str()), moved_for)
    }

    /// Whether the broker gave this hit to somebody before.
    pub fn is_redelivered(&self) -> bool {
        self.delivery.redelivered
    }

    /// By it [`Stored`] knows a copy of this hit; to another process it means nothing.
    pub fn identity(&self) -> u64 {
        self.tally.office().stored.identity(self.delivery.routing_key.as_str(), &self.delivery.data)
    }
}

impl Settler {
    /// On a channel that confirms.
    pub(super) fn new(
        office: Arc<WorkerContext>,
        channel: Channel,
        lost: SessionEnd,
        user: ShortString,
    ) -> Self {
        Self { office, channel, lost, user }
    }

    /// Settles hits of one request, in order. Publishes are pipelined: all are sent, then all
    /// confirms awaited, then acked. A hit whose settlement cannot be carried out stays on the
    /// broker, unacked. The acks themselves are [`Acks`]'s to send.
    pub async fn settle(&self, hits: impl IntoIterator<Item = (Held, Settlement)>) {
        let mut moving = Vec::new();
        let mut window = None;
        for (held, settlement) in hits {
            match &settlement {
                Settlement::Delivered(_) => {
                    let identity = held.identity();
                    window = Some(done(held, &settlement, Some(identity)));
                }
                // Its channel will give it back.
                Settlement::Release => drop(held),
                Settlement::Retry { .. } | Settlement::Park { .. } | Settlement::Reject { .. } => {
                    moving.push((held, settlement))
                }
            }
        }
        if let Some(window) = window {
            window.tell();
        }
        // After a refusal those that were refused go once more, until none is left or the session
        // is over.
        for attempt in 0.. {
            if moving.is_empty() {
                return;
            }
            if attempt > 0 {
                let pause = tokio::time::sleep(backoff::reconnect(attempt - 1));
                if self.lost.or(pause).await.is_err() {
                    return;
                }
            }
            let Some(refused) = self.move_on(moving).await else { return };
            if attempt == 0 && !refused.is_empty() {
                tracing::warn!(
                    "the broker refuses to take hits (is a queue length limit set by policy?): \
                     trying again until it does"
                );
            }
            moving = refused;
        }
    }

    /// Publishes and confirms a batch, acks what the broker took, and gives back what it refused;
    /// none when the session is over. One return makes the whole batch unconfirmed: the client
    /// library may pin it on the confirm of a neighbour.
    async fn move_on(&self, moving: Vec<(Held, Settlement)>) -> Option<Vec<(Held, Settlement)>> {
        // Started in order, and written together rather than each by itself.
        let publishes = moving.iter().map(|(held, settlement)| self.publish(held, settlement));
        let pending: Vec<_> = join_all(publishes).await.into_iter().collect::<Option<_>>()?;
        let mut confirmations = Vec::with_capacity(moving.len());
        for confirm in pending {
            match self.lost.or(confirm).await.ok()? {
                Ok(confirmation) => confirmations.push(confirmation),
                Err(error) => {
                    self.lost.because(format!("a publish was not confirmed: {error}"));
                    return None;
                }
            }
        }
        for confirmation in &confirmations {
            if let Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned)) =
                confirmation
            {
                self.office.metrics.publish_refused();
                self.lost.because(format!(
                    "exchange {} has no queue ({})",
                    returned.delivery.exchange, returned.reply_text
                ));
                return None;
            }
        }
        let mut refused = Vec::new();
        let mut window = None;
        for ((held, settlement), confirmation) in moving.into_iter().zip(confirmations) {
            if confirmation == Confirmation::Ack(None) {
                window = Some(done(held, &settlement, None));
            } else {
                self.office.metrics.publish_refused();
                refused.push((held, settlement));
            }
        }
        if let Some(window) = window {
            window.tell();
        }
        Some(refused)
    }

    async fn publish(&self, held: &Held, settlement: &Settlement) -> Option<PublisherConfirm> {
        let (exchange, label) = self.address(held, settlement)?;
        let mut properties = properties(&held.delivery.properties, label);
        // The broker verifies our name; by it the next relay knows that the tenant's name in the
        // header is ours.
        if self.office.rules.current().tenants.is_some() {
            properties = properties.with_user_id(self.user.clone());
        }
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let key = held.delivery.routing_key.clone();
        match self
            .lost
            .or(self.channel.basic_publish(exchange.into(), key, options, held.body(), properties))
            .await
            .ok()?
        {
            Ok(confirm) => Some(confirm),
            Err(error) => {
                self.lost.because(format!("a publish failed: {error}"));
                None
            }
        }
    }

    fn address(
        &self,
        held: &Held,
        settlement: &Settlement,
    ) -> Option<(String, Vec<(&'static str, Header)>)> {
        let topology = &self.office.topology;
        let failed = |attempts: u32, failure: &Failure| {
            self.label(held, failure.reason.code(), attempts, failure.status, None)
        };
        Some(match settlement {
            Settlement::Retry { step, attempts, failure } => {
                (topology.retry(*step), failed(*attempts, failure))
            }
            Settlement::Park { attempts, failure } => {
                (topology.parked(), failed(*attempts, failure))
            }
            Settlement::Reject { violations } => {
                let violations = Some(self.report(violations));
                (
                    topology.rejected(),
                    self.label(held, envelope::REASON_PLAN, held.past.attempts, None, violations),
                )
            }
            Settlement::Delivered(_) | Settlement::Release => return None,
        })
    }

    fn label(
        &self,
        held: &Held,
        reason: &str,
        attempts: u32,
        status: Option<u16>,
        violations: Option<String>,
    ) -> Vec<(&'static str, Header)> {
        let label = DeadLetterHeaders {
            reason,
            attempts,
            status,
            first_failed_at: held.past.first_failed_at,
            failed_at: Timestamp::now(),
            violations,
            plan: &self.office.rules.current().plan.version,
            worker: &self.office.worker,
            tenant: held.sender(),
        };
        label.list()
    }

    /// Every violation, but for the tail of a hit that was made to have thousands.
    fn report(&self, violations: &[Violation]) -> String {
        let mut list = String::from("[");
        let rule_set = self.office.rules.current();
        for violation in violations {
            let report = violation.report(&rule_set.plan, Language::English);
            let Ok(report) = serde_json::to_string(&report) else { continue };
            if list.len() + report.len() > MOST_REPORTED {
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
}

/// It has its fate and can be acked, once the window that is given back is told.
fn done(mut held: Held, settlement: &Settlement, identity: Option<u64>) -> Arc<Window> {
    held.tally.settle(settlement);
    held.window.settle(held.delivery.delivery_tag, identity);
    held.window
}

/// Bytes of `x-dnma-violations`. A hit that breaks every rule once stays below 8 KiB.
const MOST_REPORTED: usize = 24 * 1024;
