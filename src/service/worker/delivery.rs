//! A hit in our hands: unacked on the broker, and to be settled exactly once.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use jiff::Timestamp;

use super::acks::AckWindow;
use super::context::WorkerContext;
use super::counter::FateCounter;
use crate::domain::books::Arrival;
use crate::domain::envelope::{self, RetryHistory};
use crate::domain::settle::Settlement;
use crate::service::amqp::message::Message;
use crate::service::books::AccountCounters;
use crate::service::rules::source::RuleSet;

/// A message that the worker has taken, with all that is known of it before it is read.
#[derive(Debug)]
#[must_use = "a delivery that is dropped goes back to its shard"]
pub struct Delivery {
    message: Message,
    /// What earlier failures left in the headers.
    history: RetryHistory,
    /// Counts the hit once, whatever becomes of it.
    counter: FateCounter,
    /// Where its ack is gathered.
    window: Arc<AckWindow>,
}

impl Delivery {
    /// Takes a message over. It is checked against the rules in force now, and reported by them,
    /// even if newer ones come before it has its fate.
    pub(super) fn new(
        message: Message,
        context: Arc<WorkerContext>,
        in_flight_of_shard: Arc<AtomicUsize>,
        window: Arc<AckWindow>,
    ) -> Self {
        window.hold(message.tag());
        let history = if context.signing.believes(message.user()) {
            envelope::retry_history(|name| message.number(name), |name| message.text(name))
        } else {
            RetryHistory::default()
        };
        let rule_set = context.rules.current();
        let identity = context.identity(&message);
        let counter = FateCounter::new(context, rule_set, in_flight_of_shard, identity);
        Self { message, history, counter, window }
    }

    /// The message.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// What earlier failures left in the headers.
    pub fn history(&self) -> RetryHistory {
        self.history
    }

    /// The mark of the latest replay, if a relay wrote it.
    pub fn replay_mark(&self) -> Option<&str> {
        let is_believed = self.counter.context().signing.believes(self.message.user());
        self.message.text_ref(envelope::REPLAY).filter(|_| is_believed)
    }

    /// The rules that apply to this hit.
    pub fn rule_set(&self) -> &RuleSet {
        self.counter.rule_set()
    }

    /// When the hit was first seen: at its first failure, or else now.
    pub fn first_seen(&self) -> Timestamp {
        self.history.first_failed_at.unwrap_or_else(Timestamp::now)
    }

    /// The AMQP user who sent the hit, if the broker verified one.
    pub fn sender(&self) -> Option<&str> {
        let rules = &self.counter.context().rules;
        rules.verified(self.message.user(), self.message.text_ref(envelope::TENANT))
    }

    /// By which a copy of this hit is known if it comes back.
    pub fn identity(&self) -> u64 {
        self.counter.identity()
    }

    /// Counts the hit for an account: once, before anything becomes of it.
    pub fn count_for(&mut self, account: Arc<AccountCounters>) {
        let history = self.history;
        let arrival =
            match (self.message.is_redelivered(), history.replayed, history.first_failed_at) {
                (true, ..) => Arrival::Redelivered,
                (false, Some(queue), _) => Arrival::Replayed(queue),
                (false, None, Some(_)) => Arrival::CameBack,
                (false, None, None) => Arrival::First,
            };
        self.counter.count_for(account, arrival);
    }

    /// Whether the hit's shard is to go to another worker.
    pub(super) fn leaves(&self) -> bool {
        self.window.is_withheld()
    }

    /// Counts that the hit goes to Matomo again, which may have stored it.
    pub fn count_doubt(&self) {
        self.counter.count_doubt();
    }

    /// Ends it: the hit is in Matomo or in its next queue, and can be acked once the window that is
    /// given back is notified. With `identity` it is remembered until its ack has arrived.
    pub(super) fn finish(
        mut self,
        settlement: &Settlement,
        identity: Option<u64>,
    ) -> Arc<AckWindow> {
        self.counter.settle(settlement);
        self.window.settle(self.message.tag(), identity);
        self.window
    }
}
