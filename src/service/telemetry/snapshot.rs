//! What the counters stand at, for those who want differences: the status page.

use super::Metrics;
use super::labels::{DELIVERED, HowLabel, QueueLabel, ReasonLabel, RetryLabels, RuleLabel};
use crate::domain::answer::Reason;
use crate::domain::rule::Rule;

/// The counters of settlements at one moment; each counts hits since the worker's start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CounterSnapshot {
    /// Hits taken from the broker.
    pub received: u64,
    /// Hits taken and not settled.
    pub in_flight: u64,
    /// Hits in Matomo, in whichever way.
    pub delivered: u64,
    /// Hits given back to the broker unsent.
    pub released: u64,
    /// Hits sent to a retry queue: one number for each of [`Reason::ALL`].
    pub retried: Vec<u64>,
    /// Hits parked: one number for each of [`Reason::ALL`].
    pub parked: Vec<u64>,
    /// Hits rejected: one number for each of [`Rule::ALL`].
    pub rejected: Vec<u64>,
}

impl CounterSnapshot {
    /// The number of hits that have met their fate.
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
    /// The counters as they stand.
    pub fn counts(&self) -> CounterSnapshot {
        let delivered = |how| self.delivered.get_or_create(&HowLabel { how }).get();
        let retried = |&reason: &Reason| {
            (0..=self.steps)
                .map(|attempt| self.retried.get_or_create(&RetryLabels { attempt, reason }).get())
                .sum()
        };
        let parked = |&reason: &Reason| self.parked.get_or_create(&ReasonLabel { reason }).get();
        let rejected = |&rule: &Rule| self.rejected.get_or_create(&RuleLabel { rule }).get();
        CounterSnapshot {
            received: self.received.get(),
            in_flight: u64::try_from(self.in_flight.get()).unwrap_or_default(),
            delivered: DELIVERED.into_iter().map(delivered).sum(),
            released: self.released.get(),
            retried: Reason::ALL.iter().map(retried).collect(),
            parked: Reason::ALL.iter().map(parked).collect(),
            rejected: Rule::ALL.iter().map(rejected).collect(),
        }
    }

    /// How many hits wait because this queue, which is named without its prefix, refuses them.
    pub fn refused_by(&self, queue: &str) -> u64 {
        let hits = self.refused_hits.get_or_create(&QueueLabel::of(queue)).get();
        u64::try_from(hits).unwrap_or_default()
    }
}
