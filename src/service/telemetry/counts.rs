//! What the counters stand at, for those who want differences: the status page.

use super::{Metrics, delivered_labels, labels, retried_labels};
use crate::domain::answer::Reason;
use crate::domain::rule::Rule;
use crate::domain::settle::Delivered;

/// All counters of settlements, since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Taken from the broker.
    pub received: u64,
    /// Taken and not settled.
    pub in_flight: u64,
    /// In Matomo, in whichever way.
    pub delivered: u64,
    /// Given back unsent.
    pub released: u64,
    /// Sent to a retry queue, by [`Reason::ALL`].
    pub retried: Vec<u64>,
    /// Parked, by [`Reason::ALL`].
    pub parked: Vec<u64>,
    /// Rejected, by [`Rule::ALL`].
    pub rejected: Vec<u64>,
}

impl Counts {
    /// All that met their fate.
    pub fn settled(&self) -> u64 {
        let sum = |counts: &[u64]| counts.iter().sum::<u64>();
        self.delivered
            + self.released
            + sum(&self.retried)
            + sum(&self.parked)
            + sum(&self.rejected)
    }
}

impl Metrics {
    /// As they stand.
    pub fn counts(&self) -> Counts {
        let delivered = [Delivered::Stored, Delivered::Queued, Delivered::Duplicate];
        let retried = |reason: &Reason| {
            (0..=self.steps)
                .map(|attempt| self.retried.get_or_create(&retried_labels(attempt, *reason)).get())
                .sum()
        };
        let parked =
            |reason: &Reason| self.parked.get_or_create(&labels([("reason", reason.code())])).get();
        let rejected =
            |rule: &Rule| self.rejected.get_or_create(&labels([("rule", rule.code())])).get();
        Counts {
            received: self.received.get(),
            in_flight: u64::try_from(self.in_flight.get()).unwrap_or_default(),
            delivered: delivered
                .into_iter()
                .map(|how| self.delivered.get_or_create(&delivered_labels(how)).get())
                .sum(),
            released: self.released.get(),
            retried: Reason::ALL.iter().map(retried).collect(),
            parked: Reason::ALL.iter().map(parked).collect(),
            rejected: Rule::ALL.iter().map(rejected).collect(),
        }
    }
}
