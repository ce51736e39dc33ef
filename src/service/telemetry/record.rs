//! What happens → the metrics that count it.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::Metrics;
use super::labels::{
    ExploitantLabel, HowLabel, ListLabel, OutcomeLabel, QueueLabel, ReasonLabel, RequestOutcome,
    RetryLabels, RuleLabel, STATES, StateLabel, WaitLabel, WaitsFor,
};
use crate::domain::answer::{Interpretation, Reason};
use crate::domain::breaker::State;
use crate::domain::limiter::Limit;
use crate::domain::max_age::MaxAge;
use crate::domain::plan::Plan;
use crate::domain::settle::{Delivered, Settlement};
use crate::domain::validate::{Violation, rejecting_rule};

/// A lane waits; dropped when it no longer does.
#[derive(Debug)]
#[must_use]
pub struct LaneWait(Gauge);

impl Drop for LaneWait {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// A hit came in.
    pub fn received(&self) {
        self.received.inc();
        self.in_flight.inc();
    }

    /// A hit that was received is no longer in the relay's hands.
    pub fn no_longer_in_flight(&self) {
        self.in_flight.dec();
    }

    /// A hit has its fate: exactly once per received hit.
    pub fn settled(&self, plan: &Plan, settlement: &Settlement) {
        match settlement {
            Settlement::Delivered(Delivered::Stored) => self.stored.inc(),
            Settlement::Delivered(how) => {
                self.delivered.get_or_create(&HowLabel { how: *how }).inc()
            }
            Settlement::Retry { attempts, failure, .. } => {
                // A header of a former schedule, or a forged one, opens no new label.
                let attempt = (*attempts).min(self.steps);
                let labels = RetryLabels { attempt, reason: failure.reason };
                self.retried.get_or_create(&labels).inc()
            }
            Settlement::Park { failure, .. } => {
                self.parked.get_or_create(&ReasonLabel { reason: failure.reason }).inc()
            }
            Settlement::Reject { violations } => self
                .rejected
                .get_or_create(&RuleLabel { rule: rejecting_rule(plan, violations) })
                .inc(),
            Settlement::Release => self.released.inc(),
        };
    }

    /// A hit broke these rules, whatever becomes of it.
    pub fn violated(&self, violations: &[Violation]) {
        for violation in violations {
            self.violations.get_or_create(&RuleLabel { rule: violation.rule }).inc();
        }
    }

    /// A request with so many hits was answered, and took so long.
    pub fn answered(&self, interpretation: &Interpretation, hits: usize, took: Duration) {
        self.bulk_hits.observe(count(hits));
        let outcome = RequestOutcome::from(interpretation);
        self.request_seconds.get_or_create(&OutcomeLabel { outcome }).observe(took.as_secs_f64());
        if let Some(reason) = interpretation.doubt() {
            self.doubtful.get_or_create(&ReasonLabel { reason }).inc_by(hits as u64);
        }
    }

    /// A hit is sent again that Matomo may have stored.
    pub fn doubted(&self, reason: Reason) {
        self.doubtful.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// A hit was stored that many seconds after its `cdt`; from `warn_after` on it is near the
    /// limit of its age.
    pub fn age(&self, seconds: i64, warn_after: i64) {
        #[expect(clippy::cast_precision_loss, reason = "an age in seconds is far below 2^52")]
        self.hit_age.observe(seconds.max(0) as f64);
        if seconds >= warn_after {
            self.near_limit.inc();
        }
    }

    /// From this age on Matomo wants the token.
    pub fn age_limit(&self, max_age: MaxAge) {
        self.max_age_seconds.set(max_age.seconds());
    }

    /// A list has so many values.
    pub fn list_values(&self, list: &str, values: usize) {
        self.list_values
            .get_or_create(&ListLabel { list: list.to_owned() })
            .set(i64::try_from(values).unwrap_or(i64::MAX));
    }

    /// The counters of an exploitant's hits that were checked, and of those rejected, to be kept at
    /// hand. The exploitant is a value of the list of exploitants, or `other`: the label set is
    /// closed.
    pub fn of_exploitant(&self, exploitant: &str) -> [Counter; 2] {
        let label = ExploitantLabel::of(exploitant);
        [&self.exploitant_checked, &self.exploitant_rejected]
            .map(|family| family.get_or_create_owned(&label))
    }

    /// So many hits wait in a queue, which is named without its prefix.
    pub fn waiting(&self, queue: &str, hits: u64) {
        self.waiting
            .get_or_create(&QueueLabel::of(queue))
            .set(i64::try_from(hits).unwrap_or(i64::MAX));
    }

    /// The broker refused a publish, or could not route it.
    pub fn publish_refused(&self) {
        self.refused_publishes.inc();
    }

    /// So many hits wait because a queue, which is named without its prefix, refuses them.
    pub fn refused_hits(&self, queue: &str, hits: usize) {
        self.refused_hits
            .get_or_create(&QueueLabel::of(queue))
            .set(i64::try_from(hits).unwrap_or(i64::MAX));
    }

    /// So much may be under way.
    pub fn limit(&self, limit: Limit) {
        let gauge = |count| i64::try_from(count).unwrap_or(i64::MAX);
        self.requests_limit.set(gauge(limit.requests));
        self.bulk_limit.set(gauge(limit.hits));
    }

    /// A lane waits for this, until the result is dropped.
    pub fn lane_waits(&self, waits_for: WaitsFor) -> LaneWait {
        let gauge = self.lanes.get_or_create_owned(&WaitLabel { waits_for });
        gauge.inc();
        LaneWait(gauge)
    }

    /// How many lanes wait for this now.
    pub fn lanes(&self, waits_for: WaitsFor) -> i64 {
        self.lanes.get_or_create(&WaitLabel { waits_for }).get()
    }

    /// The breaker is in this state.
    pub fn breaker(&self, state: State) {
        for each in STATES {
            self.breaker.get_or_create(&StateLabel { state: each }).set(i64::from(each == state));
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a bulk has at most 1,000 hits")]
fn count(hits: usize) -> f64 {
    hits as f64
}
