//! Puts together what the status page shows: what this worker counts, and what the broker tells of
//! the queues.
//!
//! Nothing of it is on a hit's way: counters are sampled, and the broker is asked every few
//! seconds.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::domain::answer::Reason;
use crate::domain::rule::{Language, Rule};
use crate::domain::status::{
    BrokerStatus, FailureCount, Fate, Forecast, MatomoStatus, QueueStatus, QueuesStatus,
    RefusingQueue, RelayState, Setting, ShardStatus, Status, hint_of_reason, hint_of_rule,
};
use crate::service::amqp::depths::Depth;
use crate::service::amqp::session::Session;
use crate::service::config::Settings;
use crate::service::telemetry::{CounterSnapshot, MAIN};
use crate::service::worker::Worker;
use crate::service::worker::context::WorkerContext;

mod depth_sample;
mod history;
pub mod page;
mod recent;

use depth_sample::DepthSample;
use history::History;
use recent::Recent;

/// Between two readings of the depths. A reading is a dozen small questions.
const READ_EVERY: Duration = Duration::from_secs(5);

/// Reasons and rules that are told.
const MOST_CAUSES: usize = 12;

/// Sees the whole of a worker.
#[derive(Debug)]
pub struct StatusCollector {
    context: Arc<WorkerContext>,
    worker: Arc<Worker>,
    settings: Vec<Setting>,
    started: Instant,
    memory: Mutex<Memory>,
}

#[derive(Debug)]
struct Memory {
    history: History,
    recent: Recent,
    sample: Option<DepthSample>,
    /// Since when there is no session with the broker.
    left: Option<Instant>,
}

impl StatusCollector {
    /// Of a worker that has just started.
    pub fn new(settings: &Settings, context: Arc<WorkerContext>, worker: Arc<Worker>) -> Self {
        let topology = &context.topology;
        for queue in (0..topology.steps()).map(|step| topology.retry(step)) {
            context.metrics.waiting(topology.suffix(&queue), 0);
            context.metrics.refused_hits(topology.suffix(&queue), 0);
        }
        let started = Instant::now();
        let settings = settings
            .rows()
            .into_iter()
            .map(|(name, value)| Setting { name: name.to_owned(), value });
        let memory = Memory {
            history: History::new(started),
            recent: Recent::default(),
            sample: None,
            left: Some(started),
        };
        Self { settings: settings.collect(), context, worker, started, memory: Mutex::new(memory) }
    }

    /// Notes what the counters stand at. To be called about every half second.
    pub fn sample(&self) {
        let now = Instant::now();
        let away = self.worker.gate().open_for().unwrap_or_default();
        self.context.metrics.outage_seconds.set(away.as_secs_f64());
        let counts = self.context.metrics.counts();
        let connected = self.context.metrics.broker_up.get() == 1;
        let mut memory = self.memory();
        memory.left = if connected { None } else { memory.left.or(Some(now)) };
        memory.recent.sample(now, counts.delivered, &self.context.metrics);
        memory.history.sample(now, counts);
        let oldest = memory.sample.as_ref().and_then(|sample| self.queues(sample).oldest_seconds());
        drop(memory);
        #[expect(clippy::cast_precision_loss, reason = "an age in seconds is far below 2^52")]
        self.context.metrics.oldest_hit_seconds.set(oldest.unwrap_or_default() as f64);
    }

    /// Asks the broker for the depths, again and again, as long as the session lasts.
    pub async fn watch(&self, session: &Session) -> Infallible {
        let mut extra = session.extra_shards.clone();
        loop {
            match session.depths(&extra).await {
                Ok(depths) => {
                    // One that was drained and deleted is not asked for again.
                    extra.retain(|index| {
                        depths.shards.iter().any(|(shard, depth)| shard == index && depth.is_some())
                    });
                    let ready =
                        |depth: &Option<Depth>| depth.map_or(0, |depth| u64::from(depth.ready));
                    self.context
                        .metrics
                        .waiting(MAIN, depths.shards.iter().map(|(_, depth)| ready(depth)).sum());
                    for (queue, depth) in &depths.others {
                        self.context.metrics.waiting(queue, ready(depth));
                    }
                    let mut memory = self.memory();
                    memory.sample =
                        Some(DepthSample::after(memory.sample.take(), Instant::now(), depths));
                }
                Err(error) => tracing::debug!(%error, "the depths of the queues could not be read"),
            }
            tokio::time::sleep(READ_EVERY).await;
        }
    }

    /// All that is known now.
    pub fn status(&self, language: Language) -> Status {
        let now = Instant::now();
        let WorkerContext { metrics, rules, worker, .. } = &*self.context;
        let counts = metrics.counts();
        let memory = self.memory();
        let queues = memory.sample.as_ref().map(|sample| self.queues(sample));
        let matomo = self.matomo(language);
        let forecast = queues.as_ref().map_or_else(Forecast::default, |queues| {
            let earlier = memory.sample.as_ref().and_then(DepthSample::earlier);
            let limit = (!matomo.has_token).then_some(matomo.max_age_seconds);
            Forecast::new(queues.ready(), earlier, queues.oldest_seconds(), limit)
        });
        let status = Status {
            at: Timestamp::now(),
            worker: worker.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            plan: rules.current().plan.version.clone(),
            up_seconds: self.started.elapsed().as_secs(),
            state: RelayState::Starting,
            headline: String::new(),
            notes: Vec::new(),
            broker: BrokerStatus {
                connected: metrics.broker_up.get() == 1,
                blocked: metrics.broker_blocked.get() == 1,
                sessions: metrics.broker_sessions.get(),
                away_seconds: memory.left.map(|left| now.saturating_duration_since(left).as_secs()),
                missing: u64::try_from(metrics.topology_missing.get()).unwrap_or_default(),
                refusing: self.refusing(),
            },
            matomo,
            in_flight: counts.in_flight,
            pace: memory.recent.pace(),
            bottleneck: None,
            hour: memory.history.hour(now, &counts),
            queues,
            forecast,
            causes: self.causes(&counts, memory.history.a_day_ago(), language),
            settings: self.settings.clone(),
        };
        drop(memory);
        status.described(language)
    }

    /// The queues that refuse hits.
    fn refusing(&self) -> Vec<RefusingQueue> {
        let topology = &self.context.topology;
        let refused = |name: &String| self.context.metrics.refused_by(topology.suffix(name));
        let queues = topology.dead_letter_exchanges().map(|name| (refused(&name), name));
        let refusing = queues.filter(|(hits, _)| *hits > 0);
        refusing.map(|(hits, name)| RefusingQueue { name, hits }).collect()
    }

    fn matomo(&self, language: Language) -> MatomoStatus {
        let gate = self.worker.gate();
        let away = gate.open_for();
        let (limit, most) = gate.limit_of_most();
        let why = gate.why().filter(|_| away.is_some());
        MatomoStatus {
            away_seconds: away.map(|away| away.as_secs()),
            reason: why.map(|failure| failure.reason.code().to_owned()),
            hint: why.map(|failure| hint_of_reason(failure.reason, language)),
            http_status: why.and_then(|failure| failure.status),
            next_try_seconds: gate.pause_left().map(|pause| pause.as_secs()),
            has_token: self.worker.has_token(),
            max_age_seconds: self.worker.max_age(),
            limit,
            most,
        }
    }

    fn queues(&self, sample: &DepthSample) -> QueuesStatus {
        let topology = &self.context.topology;
        let queue = |name: String| {
            let suffix = topology.suffix(&name);
            let depth = sample
                .depths
                .others
                .iter()
                .find(|(other, _)| other == suffix)
                .and_then(|(_, depth)| *depth);
            QueueStatus { hits: depth.map(|depth| depth.ready.into()), name }
        };
        let parked = topology.parked();
        let rejected = topology.rejected();
        let retries =
            sample.depths.others.iter().map(|(suffix, _)| format!("{}.{suffix}", topology.main()));
        QueuesStatus {
            read_seconds_ago: sample.at.elapsed().as_secs(),
            shards: sample
                .depths
                .shards
                .iter()
                .map(|(index, depth)| self.shard(sample, *index, *depth))
                .collect(),
            retries: retries
                .filter(|name| *name != parked && *name != rejected)
                .map(queue)
                .collect(),
            parked: queue(parked),
            rejected: queue(rejected),
        }
    }

    fn shard(&self, sample: &DepthSample, index: u16, depth: Option<Depth>) -> ShardStatus {
        let last = self.worker.activity.last(index);
        let span = sample.span(index);
        let consumers = depth.map_or(0, |depth| depth.consumers);
        let ours = last.as_ref().is_some_and(|last| last.is_ours() && consumers > 0);
        let holds_hits = last.as_ref().is_some_and(|last| last.holds_hits());
        let waits = holds_hits || depth.is_some_and(|depth| depth.ready > 0);
        let away = self.worker.gate().open_for().is_some();
        let oldest = match &last {
            _ if !waits => None,
            // It was empty after that one: what waits came later.
            Some(last) if !holds_hits && span.filled.is_some_and(|filled| filled > last.at) => {
                span.filled.map(|filled| filled.elapsed().as_secs())
            }
            Some(last) if holds_hits || ours || away => {
                u64::try_from(Timestamp::now().duration_since(last.cdt).as_secs()).ok()
            }
            _ if consumers == 0 => span.filled.map(|filled| filled.elapsed().as_secs()),
            _ => None,
        };
        ShardStatus {
            queue: QueueStatus {
                name: self.context.topology.shard(index),
                hits: depth.map(|depth| depth.ready.into()),
            },
            consumers,
            holder: ours.then(|| self.context.worker.clone()),
            oldest_seconds: oldest,
            unread_seconds: span.unread.map(|since| since.elapsed().as_secs()),
        }
    }

    /// Reasons and rules of the last day, the most frequent first.
    fn causes(
        &self,
        counts: &CounterSnapshot,
        then: Option<&CounterSnapshot>,
        language: Language,
    ) -> Vec<FailureCount> {
        let rule_set = self.context.rules.current();
        let since = |now: &[u64], then: Option<&[u64]>, place: usize| {
            now.get(place).copied().unwrap_or_default()
                - then.and_then(|then| then.get(place)).copied().unwrap_or_default()
        };
        let rejected = Rule::ALL.iter().enumerate().map(|(place, rule)| {
            let hits = since(&counts.rejected, then.map(|then| then.rejected.as_slice()), place);
            FailureCount {
                fate: Fate::Rejected,
                code: rule.code().to_owned(),
                hits,
                hint: hint_of_rule(&rule_set.plan, *rule, language),
            }
        });
        let failed = |fate, now: &Vec<u64>, then: Option<&Vec<u64>>| {
            let causes = Reason::ALL.iter().enumerate().map(|(place, reason)| {
                let hits = since(now, then.map(Vec::as_slice), place);
                FailureCount {
                    fate,
                    code: reason.code().to_owned(),
                    hits,
                    hint: hint_of_reason(*reason, language),
                }
            });
            causes.collect::<Vec<_>>()
        };
        let parked = failed(Fate::Parked, &counts.parked, then.map(|then| &then.parked));
        let retried = failed(Fate::Retried, &counts.retried, then.map(|then| &then.retried));
        let mut causes: Vec<FailureCount> = parked
            .into_iter()
            .chain(rejected)
            .chain(retried)
            .filter(|cause| cause.hits > 0)
            .collect();
        causes.sort_by_key(|cause| std::cmp::Reverse(cause.hits));
        causes.truncate(MOST_CAUSES);
        causes
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
