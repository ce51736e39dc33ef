//! Every hit is counted: as received, by its one settlement, and as in flight in between; and so
//! for its account.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::WorkerContext;
use crate::domain::books::Arrival;
use crate::domain::settle::Settlement;
use crate::service::books::Account;

/// Counts one hit: once as received, once by its settlement, and as in flight in between. A hit
/// that is dropped without a settlement (a task that failed) goes back with its channel, and counts
/// so.
#[derive(Debug)]
pub(super) struct Tally {
    office: Arc<WorkerContext>,
    /// Whose hit it is, once somebody has looked.
    account: Option<Arc<Account>>,
    of_shard: Arc<AtomicUsize>,
    settled: bool,
}

impl Tally {
    /// A hit came in.
    pub(super) fn new(office: Arc<WorkerContext>, of_shard: Arc<AtomicUsize>) -> Self {
        office.metrics.received();
        of_shard.fetch_add(1, Ordering::Relaxed);
        Self { office, account: None, of_shard, settled: false }
    }

    pub(super) fn office(&self) -> &WorkerContext {
        &self.office
    }

    pub(super) fn counts_for(&mut self, account: Arc<Account>, arrival: Arrival) {
        account.received(arrival);
        self.account = Some(account);
    }

    pub(super) fn doubted(&self) {
        if let Some(account) = &self.account {
            account.doubted();
        }
    }

    pub(super) fn settle(&mut self, settlement: &Settlement) {
        let rule_set = self.office.rules.current();
        self.office.metrics.settled(&rule_set.plan, settlement);
        if let Some(account) = &self.account {
            account.settled(&rule_set.plan, settlement);
        }
        self.settled = true;
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        if !self.settled {
            self.settle(&Settlement::Release);
        }
        self.of_shard.fetch_sub(1, Ordering::Relaxed);
        self.office.metrics.no_longer_in_flight();
    }
}
