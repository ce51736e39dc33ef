//! Each hit is counted once as received, once by its fate, and as in flight in between; and so for
//! its account.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::context::WorkerContext;
use crate::domain::books::Arrival;
use crate::domain::settle::{self, Settlement};
use crate::service::books::AccountCounters;
use crate::service::rules::source::RuleSet;

/// The counts of one hit. A hit that is dropped without a fate (a task that failed) goes back with
/// its channel, and counts as released.
#[derive(Debug)]
pub(super) struct FateCounter {
    context: Arc<WorkerContext>,
    /// The rules that the hit was checked against, by which a reject is counted.
    rule_set: Arc<RuleSet>,
    /// For whom the hit counts, once it was looked up.
    account: Option<Arc<AccountCounters>>,
    /// How many hits of its shard are in flight here.
    in_flight_of_shard: Arc<AtomicUsize>,
    /// By which a copy of the hit is known if it comes back.
    identity: u64,
    /// Whether the hit has its fate.
    is_settled: bool,
}

impl FateCounter {
    /// Counts a hit that came in.
    pub(super) fn new(
        context: Arc<WorkerContext>,
        rule_set: Arc<RuleSet>,
        in_flight_of_shard: Arc<AtomicUsize>,
        identity: u64,
    ) -> Self {
        context.metrics.received();
        in_flight_of_shard.fetch_add(1, Ordering::Relaxed);
        Self { context, rule_set, account: None, in_flight_of_shard, identity, is_settled: false }
    }

    pub(super) fn context(&self) -> &WorkerContext {
        &self.context
    }

    pub(super) fn identity(&self) -> u64 {
        self.identity
    }

    pub(super) fn rule_set(&self) -> &RuleSet {
        &self.rule_set
    }

    /// From here on the hit counts for this account.
    pub(super) fn count_for(&mut self, account: Arc<AccountCounters>, arrival: Arrival) {
        account.received(arrival);
        self.account = Some(account);
    }

    /// The hit goes to Matomo again, which may have stored it.
    pub(super) fn count_doubt(&self) {
        if let Some(account) = &self.account {
            account.doubted();
        }
    }

    /// The hit has its fate.
    pub(super) fn settle(&mut self, settlement: &Settlement) {
        self.context.metrics.settled(&self.rule_set.plan, settlement);
        if let Some(account) = &self.account {
            account.settled(&self.rule_set.plan, settlement);
        }
        self.is_settled = true;
    }
}

impl Drop for FateCounter {
    fn drop(&mut self) {
        if !self.is_settled {
            self.context.stored.owe(self.identity);
            self.settle(&settle::unsent());
        }
        self.in_flight_of_shard.fetch_sub(1, Ordering::Relaxed);
        self.context.metrics.no_longer_in_flight();
    }
}
