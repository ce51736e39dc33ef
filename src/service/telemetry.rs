//! Every metric: name, help and labels in one place, label sets closed and initialised to zero.
//!
//! Nothing here may carry personal data: labels are codes from closed sets.
//!
//! A metric is a field of [`Metrics`] and an entry of [`Metrics::new`]. What counts in it is a
//! method in `telemetry/record.rs`, or the field itself where its one user sets it.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::domain::answer::Reason;
use crate::domain::books::OTHER;
use crate::domain::breaker::State;
use crate::domain::rule::Rule;
use crate::domain::settle::Delivered;

mod buckets;
mod labels;
mod record;
mod register;
mod snapshot;
#[cfg(test)]
mod tests;

pub use labels::WaitsFor;
pub use record::LaneWait;
pub use snapshot::CounterSnapshot;

use buckets::{BULK_HITS, HIT_AGES, request_times};
use labels::{
    DELIVERED, DOUBTS, ExploitantLabel, HowLabel, ListLabel, OUTCOMES, OutcomeLabel, QueueLabel,
    ReasonLabel, RetryLabels, RuleLabel, STATES, StateLabel, WAITS, WaitLabel,
};
use register::{family, family_of, register};

/// All shards together, as a label.
pub const MAIN: &str = "main";

/// Every metric of the relay, in the order in which they are scraped. What each is for says its
/// help text in [`Metrics::new`].
#[derive(Debug)]
pub struct Metrics {
    /// What is scraped.
    registry: Registry,
    /// The number of `RETRY_DELAYS`, which closes the label set of attempts.
    steps: u32,
    received: Counter,
    delivered: Family<HowLabel, Counter>,
    /// The member of `delivered` that nearly every hit counts in, at hand.
    stored: Counter,
    retried: Family<RetryLabels, Counter>,
    parked: Family<ReasonLabel, Counter>,
    rejected: Family<RuleLabel, Counter>,
    released: Counter,
    in_flight: Gauge,
    violations: Family<RuleLabel, Counter>,
    doubtful: Family<ReasonLabel, Counter>,
    refused_publishes: Counter,
    refused_hits: Family<QueueLabel, Gauge>,
    near_limit: Counter,
    bulk_hits: Histogram,
    request_seconds: Family<OutcomeLabel, Histogram, fn() -> Histogram>,
    hit_age: Histogram,
    max_age_seconds: Gauge,
    breaker: Family<StateLabel, Gauge>,
    requests_limit: Gauge,
    bulk_limit: Gauge,
    lanes: Family<WaitLabel, Gauge>,
    /// Seconds since Matomo went away, 0 while it is there.
    pub outage_seconds: Gauge<f64, AtomicU64>,
    /// Hits in queues, as the broker last reported, by queue without its prefix; the shards
    /// together are [`MAIN`].
    waiting: Family<QueueLabel, Gauge>,
    /// Age in seconds of the oldest hit that waits in the shards that this worker holds, 0 where
    /// none waits.
    pub oldest_hit_seconds: Gauge<f64, AtomicU64>,
    /// Shards that this worker is subscribed to.
    pub shards_subscribed: Gauge,
    /// Shards that gave this worker a hit in the last minute.
    pub shards_active: Gauge,
    /// 1 while connected to the broker.
    pub broker_up: Gauge,
    /// 1 while the broker lets nobody publish (a memory or disk alarm).
    pub broker_blocked: Gauge,
    /// Exchanges and queues that the relay needs and that are not on the broker.
    pub topology_missing: Gauge,
    /// 1 while the newest version of the reference lists and tenants is in force, 0 after it was
    /// refused.
    pub rules_valid: Gauge,
    list_values: Family<ListLabel, Gauge>,
    exploitant_checked: Family<ExploitantLabel, Counter>,
    exploitant_rejected: Family<ExploitantLabel, Counter>,
    /// Sessions with the broker, the first included.
    pub broker_sessions: Counter,
}

impl Metrics {
    /// Registers every metric, at zero. `steps` is the number of `RETRY_DELAYS`, which closes the
    /// label set of attempts.
    pub fn new(steps: usize) -> Arc<Self> {
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        let mut registry = Registry::with_prefix("dnma_relay");
        let r = &mut registry;
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        r.register("build", "Version of the relay", version);
        let received = register(
            r,
            "received",
            "Hits taken from the broker; the sum of all settlements and in_flight",
            Counter::default(),
        );
        let delivered: Family<HowLabel, Counter> = register(
            r,
            "delivered",
            "Hits in Matomo: stored, queued by its QueuedTracking plugin, or stored before an ack \
             was lost",
            family(DELIVERED.map(|how| HowLabel { how })),
        );
        let metrics = Self {
            steps,
            received,
            stored: delivered.get_or_create_owned(&HowLabel { how: Delivered::Stored }),
            delivered,
            retried: register(
                r,
                "retried",
                "Hits sent to a retry queue, by attempts spent and reason; attempt 0 is a failed \
                 probe, which costs no retry",
                family(Reason::ALL.iter().flat_map(|&reason| {
                    (0..=steps).map(move |attempt| RetryLabels { attempt, reason })
                })),
            ),
            parked: register(
                r,
                "parked",
                "Hits parked with their retries spent, by reason",
                family(Reason::ALL.iter().map(|&reason| ReasonLabel { reason })),
            ),
            rejected: register(
                r,
                "rejected",
                "Hits rejected for breaking the plan, by their first error",
                family(Rule::ALL.iter().map(|&rule| RuleLabel { rule })),
            ),
            released: register(
                r,
                "released",
                "Hits given back to the broker unsent",
                Counter::default(),
            ),
            in_flight: register(
                r,
                "in_flight",
                "Hits taken from the broker and not settled",
                Gauge::default(),
            ),
            violations: register(
                r,
                "violations",
                "Violations of the plan, by rule, of hits rejected or delivered",
                family(Rule::ALL.iter().map(|&rule| RuleLabel { rule })),
            ),
            doubtful: register(
                r,
                "doubtful",
                "Hits sent again although Matomo may have stored them, by reason",
                family(DOUBTS.map(|reason| ReasonLabel { reason })),
            ),
            refused_publishes: register(
                r,
                "refused_publishes",
                "Publishes that the broker refused or could not route; the hit was kept",
                Counter::default(),
            ),
            refused_hits: register(
                r,
                "refused_hits",
                "Hits that wait because the broker refuses to take them into this queue; others \
                 go on",
                family(["parked", "rejected"].map(QueueLabel::of)),
            ),
            near_limit: register(
                r,
                "near_limit",
                "Hits delivered when older than 5/6 of MATOMO_MAX_AGE (20 h of 24): beyond it \
                 Matomo wants a token",
                Counter::default(),
            ),
            bulk_hits: register(r, "bulk_hits", "Hits per request", Histogram::new(BULK_HITS)),
            request_seconds: register(
                r,
                "request_seconds",
                "Time of one request to Matomo, by outcome",
                family_of(
                    Family::new_with_constructor(request_times as fn() -> Histogram),
                    OUTCOMES.map(|outcome| OutcomeLabel { outcome }),
                ),
            ),
            hit_age: register(
                r,
                "hit_age_seconds",
                "Age of a hit (now - cdt) when Matomo stored it",
                Histogram::new(HIT_AGES),
            ),
            max_age_seconds: register(
                r,
                "max_age_seconds",
                "Age of a hit from which on Matomo wants a token: MATOMO_MAX_AGE",
                Gauge::default(),
            ),
            breaker: register(
                r,
                "breaker_state",
                "1 for the state the breaker is in",
                family(STATES.map(|state| StateLabel { state })),
            ),
            requests_limit: register(
                r,
                "requests_limit",
                "Requests that may be under way now: MATOMO_CONCURRENCY, or less while Matomo is \
                 slow",
                Gauge::default(),
            ),
            bulk_limit: register(
                r,
                "bulk_limit",
                "Hits that a request may have now: MATOMO_BULK_SIZE, or less while Matomo is slow",
                Gauge::default(),
            ),
            lanes: register(
                r,
                "lanes",
                "Lanes that wait now, by what for: hits from the broker, MATOMO_MAX_RATE, room at \
                 Matomo, or its answer. A lane has one request at a time",
                family(WAITS.map(|waits_for| WaitLabel { waits_for })),
            ),
            outage_seconds: register(
                r,
                "outage_seconds",
                "Time since Matomo went away, 0 while it is there",
                Gauge::default(),
            ),
            waiting: register(
                r,
                "waiting_hits",
                "Hits in queues, as the broker last told; main: all shards together, without what \
                 workers hold",
                family([MAIN, "parked", "rejected"].map(QueueLabel::of)),
            ),
            oldest_hit_seconds: register(
                r,
                "oldest_hit_seconds",
                "Age (now - cdt) of the hit last taken from a shard of this worker's where hits \
                 wait; those behind it are younger",
                Gauge::default(),
            ),
            shards_subscribed: register(
                r,
                "shards_subscribed",
                "Shards this worker is subscribed to",
                Gauge::default(),
            ),
            shards_active: register(
                r,
                "shards_active",
                "Shards that gave this worker a hit in the last minute",
                Gauge::default(),
            ),
            broker_up: register(
                r,
                "broker_up",
                "1 while connected to the broker",
                Gauge::default(),
            ),
            broker_blocked: register(
                r,
                "broker_blocked",
                "1 while the broker lets nobody publish",
                Gauge::default(),
            ),
            topology_missing: register(
                r,
                "topology_missing",
                "Exchanges and queues that the relay needs and somebody deleted",
                Gauge::default(),
            ),
            rules_valid: register(
                r,
                "rules_valid",
                "1 while the newest reference lists and tenants are in force, 0 when refused",
                Gauge::default(),
            ),
            list_values: register(
                r,
                "list_values",
                "Values of each list of the plan; 0: not loaded, so not checked",
                family([]),
            ),
            exploitant_checked: register(
                r,
                "exploitant_checked",
                "Hits checked against the plan, by exploitant (dimension3); other: not in the \
                 list of exploitants, or no list is loaded",
                family([ExploitantLabel::of(OTHER)]),
            ),
            exploitant_rejected: register(
                r,
                "exploitant_rejected",
                "Those of them that were rejected",
                family([ExploitantLabel::of(OTHER)]),
            ),
            broker_sessions: register(
                r,
                "broker_sessions",
                "Sessions with the broker, the first included",
                Counter::default(),
            ),
            // Last, for everything above registers in it.
            registry,
        };
        metrics.breaker(State::Closed);
        metrics.rules_valid.set(1);
        Arc::new(metrics)
    }

    /// The text that Prometheus scrapes.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _infallible = encode(&mut text, &self.registry);
        text
    }
}
