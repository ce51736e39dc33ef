//! Log set-up, and every metric: name, help and labels in one place, label sets closed and
//! initialised to zero.
//!
//! Nothing here may carry personal data: labels are codes from closed sets, and log lines name hits
//! by nothing.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tracing_subscriber::EnvFilter;

use super::config::{Log, LogFormat};
use crate::domain::answer::{Interpretation, Reason};
use crate::domain::books::OTHER;
use crate::domain::breaker::State;
use crate::domain::plan::Plan;
use crate::domain::rule::Rule;
use crate::domain::settle::{Delivered, Settlement};
use crate::domain::validate::{Violation, rejecting_rule};

/// Log lines go to stderr: JSON for machines, text with colours on a terminal that wants them.
pub fn start_logging(log: &Log) {
    let terminal = std::io::stderr().is_terminal();
    let format = log.format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    // The filter was checked with the configuration; a default beats a crash all the same.
    // The client library calls every closed channel an error, a question whether a queue exists
    // included; the relay tells by itself what is lost.
    let quiet = if log.filter.contains("lapin") {
        log.filter.clone()
    } else {
        format!("{},lapin=off", log.filter)
    };
    // There it logs whole messages.
    let quiet = format!("{quiet},lapin::returned_messages=off");
    let filter = EnvFilter::try_new(quiet).unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    // It would tell of a log line that cannot be written by another one, and panic when that cannot
    // be written either.
    let subscriber = subscriber.log_internal_errors(false);
    let started = match format {
        LogFormat::Json => subscriber
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init(),
        LogFormat::Text => {
            subscriber.with_ansi(terminal && std::env::var_os("NO_COLOR").is_none()).try_init()
        }
    };
    if started.is_err() {
        tracing::debug!("logging was set up before");
    }
}

mod counts;

pub use counts::Counts;

type Labels = Vec<(&'static str, String)>;

/// Every metric of the relay.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    steps: usize,
    received: Counter,
    delivered: Family<Labels, Counter>,
    /// The member of `delivered` that nearly every hit counts in, at hand.
    stored: Counter,
    retried: Family<Labels, Counter>,
    parked: Family<Labels, Counter>,
    rejected: Family<Labels, Counter>,
    released: Counter,
    in_flight: Gauge,
    violations: Family<Labels, Counter>,
    doubtful: Family<Labels, Counter>,
    refused_publishes: Counter,
    near_limit: Counter,
    bulk_hits: Histogram,
    request_seconds: Family<Labels, Histogram, fn() -> Histogram>,
    hit_age: Histogram,
    breaker: Family<Labels, Gauge>,
    /// Seconds since Matomo went away, 0 while it is there.
    pub outage_seconds: Gauge<f64, AtomicU64>,
    /// Shards that this worker is subscribed to.
    pub shards_subscribed: Gauge,
    /// Shards that gave this worker a hit in the last minute.
    pub shards_active: Gauge,
    /// 1 while connected to the broker.
    pub broker_up: Gauge,
    /// 1 while the broker lets nobody publish (a memory or disk alarm).
    pub broker_blocked: Gauge,
    /// Sessions with the broker, the first included.
    pub broker_sessions: Counter,
    /// 1 while the newest version of the reference lists and tenants is in force, 0 after it was
    /// refused.
    pub rules_valid: Gauge,
    /// Hits in queues, as the broker last told, by queue without its prefix; the shards together
    /// are `main`.
    waiting: Family<Labels, Gauge>,
    /// Age of the oldest hit that waits in the shards that this worker holds, 0 where none waits.
    pub oldest_hit_seconds: Gauge<f64, AtomicU64>,
    list_values: Family<Labels, Gauge>,
    checked_of: Family<Labels, Counter>,
    rejected_of: Family<Labels, Counter>,
}

impl Metrics {
    /// All metrics at zero. `steps` is the number of `RETRY_DELAYS`, which closes the label set of
    /// attempts.
    pub fn new(steps: usize) -> Arc<Self> {
        let mut registry = Registry::with_prefix("dnma_relay");
        let delivered: Family<Labels, Counter> = Family::default();
        let metrics = Self {
            steps,
            received: Counter::default(),
            stored: delivered.get_or_create_owned(&delivered_labels(Delivered::Stored)),
            delivered,
            retried: Family::default(),
            parked: Family::default(),
            rejected: Family::default(),
            released: Counter::default(),
            in_flight: Gauge::default(),
            violations: Family::default(),
            doubtful: Family::default(),
            refused_publishes: Counter::default(),
            near_limit: Counter::default(),
            bulk_hits: Histogram::new([
                1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0,
            ]),
            request_seconds: Family::new_with_constructor(seconds_histogram),
            hit_age: Histogram::new([
                0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 1_800.0, 7_200.0, 28_800.0, 72_000.0,
                86_400.0,
            ]),
            breaker: Family::default(),
            outage_seconds: Gauge::default(),
            shards_subscribed: Gauge::default(),
            shards_active: Gauge::default(),
            broker_up: Gauge::default(),
            broker_blocked: Gauge::default(),
            broker_sessions: Counter::default(),
            rules_valid: Gauge::default(),
            waiting: Family::default(),
            oldest_hit_seconds: Gauge::default(),
            list_values: Family::default(),
            checked_of: Family::default(),
            rejected_of: Family::default(),
            registry: Registry::default(),
        };
        metrics.register(&mut registry);
        metrics.zero(steps);
        Arc::new(Self { registry, ..metrics })
    }

    fn register(&self, registry: &mut Registry) {
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "Version of the relay", Info::new(version));
        registry.register(
            "received",
            "Hits taken from the broker; the sum of all settlements and in_flight",
            self.received.clone(),
        );
        registry.register(
            "delivered",
            "Hits in Matomo: stored, queued by its QueuedTracking plugin, or stored before an ack \
             was lost",
            self.delivered.clone(),
        );
        registry.register(
            "retried",
            "Hits sent to a retry queue, by attempts spent and reason; attempt 0 is a failed \
             probe, which costs no retry",
            self.retried.clone(),
        );
        registry.register(
            "parked",
            "Hits parked with their retries spent, by reason",
            self.parked.clone(),
        );
        registry.register(
            "rejected",
            "Hits rejected for breaking the plan, by their first error",
            self.rejected.clone(),
        );
        registry.register(
            "released",
            "Hits given back to the broker unsent",
            self.released.clone(),
        );
        registry.register(
            "in_flight",
            "Hits taken from the broker and not settled",
            self.in_flight.clone(),
        );
        registry.register(
            "violations",
            "Violations of the plan, by rule, of hits rejected or delivered",
            self.violations.clone(),
        );
        registry.register(
            "doubtful",
            "Hits sent again although Matomo may have stored them, by reason",
            self.doubtful.clone(),
        );
        registry.register(
            "refused_publishes",
            "Publishes that the broker refused or could not route; the hit was kept",
            self.refused_publishes.clone(),
        );
        registry.register(
            "near_limit",
            "Hits delivered when over 20 h old: at 24 h Matomo wants a token",
            self.near_limit.clone(),
        );
        registry.register("bulk_hits", "Hits per request", self.bulk_hits.clone());
        registry.register(
            "request_seconds",
            "Time of one request to Matomo, by outcome",
            self.request_seconds.clone(),
        );
        registry.register(
            "hit_age_seconds",
            "Age of a hit (now - cdt) when Matomo stored it",
            self.hit_age.clone(),
        );
        registry.register(
            "breaker_state",
            "1 for the state the breaker is in",
            self.breaker.clone(),
        );
        registry.register(
            "outage_seconds",
            "Time since Matomo went away, 0 while it is there",
            self.outage_seconds.clone(),
        );
        registry.register(
            "waiting_hits",
            "Hits in queues, as the broker last told; main: all shards together, without what \
             workers hold",
            self.waiting.clone(),
        );
        registry.register(
            "oldest_hit_seconds",
            "Age (now - cdt) of the hit last taken from a shard of this worker's where hits wait; \
             those behind it are younger",
            self.oldest_hit_seconds.clone(),
        );
        registry.register(
            "shards_subscribed",
            "Shards this worker is subscribed to",
            self.shards_subscribed.clone(),
        );
        registry.register(
            "shards_active",
            "Shards that gave this worker a hit in the last minute",
            self.shards_active.clone(),
        );
        registry.register("broker_up", "1 while connected to the broker", self.broker_up.clone());
        registry.register(
            "broker_blocked",
            "1 while the broker lets nobody publish",
            self.broker_blocked.clone(),
        );
        registry.register(
            "rules_valid",
            "1 while the newest reference lists and tenants are in force, 0 when refused",
            self.rules_valid.clone(),
        );
        registry.register(
            "list_values",
            "Values of each list of the plan; 0: not loaded, so not checked",
            self.list_values.clone(),
        );
        registry.register(
            "exploitant_checked",
            "Hits checked against the plan, by exploitant (dimension3); other: not in the list of \
             exploitants, or no list is loaded",
            self.checked_of.clone(),
        );
        registry.register(
            "exploitant_rejected",
            "Those of them that were rejected",
            self.rejected_of.clone(),
        );
        registry.register(
            "broker_sessions",
            "Sessions with the broker, the first included",
            self.broker_sessions.clone(),
        );
    }

    /// A counter that is not there until it first counts hides its first increment from every rate.
    fn zero(&self, steps: usize) {
        for how in [Delivered::Stored, Delivered::Queued, Delivered::Duplicate] {
            drop(self.delivered.get_or_create(&delivered_labels(how)));
        }
        for reason in Reason::ALL {
            for attempt in 0..=steps {
                drop(self.retried.get_or_create(&retried_labels(attempt, *reason)));
            }
            drop(self.parked.get_or_create(&labels([("reason", reason.code())])));
            if doubt(*reason) {
                drop(self.doubtful.get_or_create(&labels([("reason", reason.code())])));
            }
        }
        for rule in Rule::ALL {
            drop(self.rejected.get_or_create(&labels([("rule", rule.code())])));
            drop(self.violations.get_or_create(&labels([("rule", rule.code())])));
        }
        for outcome in OUTCOMES {
            drop(self.request_seconds.get_or_create(&labels([("outcome", outcome)])));
        }
        for queue in [MAIN, "parked", "rejected"] {
            self.waiting(queue, 0);
        }
        self.breaker(State::Closed);
        self.rules_valid.set(1);
        for family in [&self.checked_of, &self.rejected_of] {
            drop(family.get_or_create(&labels([("exploitant", OTHER)])));
        }
    }

    /// The text that Prometheus scrapes.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _infallible = encode(&mut text, &self.registry);
        text
    }

    /// A hit came in.
    pub fn received(&self) {
        self.received.inc();
        self.in_flight.inc();
    }

    /// A hit that was received is no longer in our hands.
    pub fn no_longer_in_flight(&self) {
        self.in_flight.dec();
    }

    /// A hit has its fate: exactly once per received hit.
    pub fn settled(&self, plan: &Plan, settlement: &Settlement) {
        match settlement {
            Settlement::Delivered(Delivered::Stored) => self.stored.inc(),
            Settlement::Delivered(how) => {
                self.delivered.get_or_create(&delivered_labels(*how)).inc()
            }
            Settlement::Retry { attempts, failure, .. } => {
                // A header of a former schedule, or a forged one, opens no new label.
                let attempt = usize::try_from(*attempts).unwrap_or(usize::MAX).min(self.steps);
                self.retried.get_or_create(&retried_labels(attempt, failure.reason)).inc()
            }
            Settlement::Park { failure, .. } => {
                self.parked.get_or_create(&labels([("reason", failure.reason.code())])).inc()
            }
            Settlement::Reject { violations } => self
                .rejected
                .get_or_create(&labels([("rule", rejecting_rule(plan, violations).code())]))
                .inc(),
            Settlement::Release => self.released.inc(),
        };
    }

    /// Rules that a hit broke, whatever becomes of it.
    pub fn violated(&self, violations: &[Violation]) {
        for violation in violations {
            self.violations.get_or_create(&labels([("rule", violation.rule.code())])).inc();
        }
    }

    /// A request was answered. Tells whether its hits go again although Matomo may have stored
    /// them.
    pub fn answered(&self, interpretation: &Interpretation, hits: usize, took: Duration) -> bool {
        self.bulk_hits.observe(count(hits));
        let outcome = match interpretation {
            Interpretation::Stored { .. } => "stored",
            Interpretation::Refused { .. } => "refused",
            Interpretation::Suspect(_) => "suspect",
            Interpretation::Down(_) | Interpretation::DownAmbiguous(_) => "down",
            Interpretation::Ambiguous(_) => "ambiguous",
        };
        self.request_seconds
            .get_or_create(&labels([("outcome", outcome)]))
            .observe(took.as_secs_f64());
        let (reason, doubtful) = match interpretation {
            Interpretation::DownAmbiguous(failure) | Interpretation::Ambiguous(failure) => {
                (failure.reason, hits)
            }
            Interpretation::Refused { places: None, .. } => (Reason::Refused, hits),
            _ => return false,
        };
        self.doubtful.get_or_create(&labels([("reason", reason.code())])).inc_by(doubtful as u64);
        true
    }

    /// A hit of that age was stored.
    pub fn age(&self, seconds: i64, warn_after: i64) {
        #[expect(clippy::cast_precision_loss, reason = "an age in seconds is far below 2^52")]
        self.hit_age.observe(seconds.max(0) as f64);
        if seconds >= warn_after {
            self.near_limit.inc();
        }
    }

    /// A list has so many values.
    pub fn list_values(&self, list: &str, values: usize) {
        self.list_values
            .get_or_create(&labels([("list", list)]))
            .set(i64::try_from(values).unwrap_or(i64::MAX));
    }

    /// The counters of an exploitant's hits that were checked, and of those rejected, to be kept at
    /// hand. The label set is closed: names of the list of exploitants, and `other`.
    pub fn of_exploitant(&self, exploitant: &str) -> [Counter; 2] {
        let labels = labels([("exploitant", exploitant)]);
        [&self.checked_of, &self.rejected_of].map(|family| family.get_or_create_owned(&labels))
    }

    /// So many hits wait in a queue, which is named without its prefix.
    pub fn waiting(&self, queue: &str, hits: u64) {
        self.waiting
            .get_or_create(&labels([("queue", queue)]))
            .set(i64::try_from(hits).unwrap_or(i64::MAX));
    }

    /// A publish was refused or returned.
    pub fn publish_refused(&self) {
        self.refused_publishes.inc();
    }

    /// The breaker's state.
    pub fn breaker(&self, state: State) {
        for (label, this) in
            [("closed", State::Closed), ("open", State::Open), ("half_open", State::HalfOpen)]
        {
            self.breaker.get_or_create(&labels([("state", label)])).set(i64::from(this == state));
        }
    }
}

/// All shards together, as a label.
pub const MAIN: &str = "main";

/// `outcome` of request_seconds.
const OUTCOMES: [&str; 5] = ["stored", "refused", "suspect", "down", "ambiguous"];

/// Whether hits of this reason may be in Matomo already.
const fn doubt(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Timeout
            | Reason::ConnectionLost
            | Reason::GatewayTimeout
            | Reason::CountMismatch
            | Reason::Refused
    )
}

fn labels<const N: usize>(pairs: [(&'static str, &str); N]) -> Labels {
    pairs.into_iter().map(|(name, value)| (name, value.to_owned())).collect()
}

fn delivered_labels(how: Delivered) -> Labels {
    let how = match how {
        Delivered::Stored => "stored",
        Delivered::Queued => "queued",
        Delivered::Duplicate => "duplicate",
    };
    labels([("how", how)])
}

/// 5 ms to 82 s: a single hit takes 15 ms, and `MATOMO_TIMEOUT` is 65 s.
fn seconds_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.005, 2.0, 15))
}

fn retried_labels(attempt: usize, reason: Reason) -> Labels {
    labels([("attempt", &attempt.to_string()), ("reason", reason.code())])
}

#[expect(clippy::cast_precision_loss, reason = "a bulk has at most 1,000 hits")]
fn count(hits: usize) -> f64 {
    hits as f64
}
