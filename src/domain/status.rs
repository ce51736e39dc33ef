//! The status of a worker: what it knows about itself, its queues and Matomo. The status page,
//! `/status.json` and `top` show it.
//!
//! [`Status::described`] puts into words what the facts mean; [`merge`](Status::merge) makes one
//! status of those of several workers.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::limiter::Limit;
use super::max_age::MaxAge;
use super::rule::Language;

mod forecast;
mod merge;
mod pace;
mod state;
mod words;

pub use forecast::{Earlier, Forecast};
pub use pace::{Bottleneck, DeliveryRate, LaneUse};
pub use state::RelayState;
pub use words::{hint_of_reason, hint_of_rule};

/// From how many waiting hits on there is a backlog. Fewer are the hits of the moment.
const BACKLOG: u64 = 1_000;

/// Everything that the page shows. Ages, pauses and durations are in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// When the facts were gathered.
    pub at: Timestamp,
    /// The name of the worker; the names of all if several statuses were merged.
    pub worker: String,
    /// The version of the program.
    pub version: String,
    /// The version of the tagging plan.
    pub plan: String,
    /// How long the worker has run.
    pub up_seconds: u64,
    /// What the facts amount to.
    pub state: RelayState,
    /// The state in a sentence.
    pub headline: String,
    /// Whatever else there is to know, each in a sentence.
    pub notes: Vec<String>,
    /// The broker, where hits come from.
    pub broker: BrokerStatus,
    /// Matomo, where hits go to.
    pub matomo: MatomoStatus,
    /// How many hits were taken from the broker and are not settled.
    pub in_flight: u64,
    /// What happened in the last half minute.
    #[serde(default)]
    pub pace: DeliveryRate,
    /// What limits the rate while a backlog waits.
    #[serde(default)]
    pub bottleneck: Option<Bottleneck>,
    /// What happened in the last hour.
    pub hour: Hour,
    /// The queues as the broker last reported them; `None` before it was asked.
    pub queues: Option<QueuesStatus>,
    /// When the shards will be empty, and when it will be too late.
    pub forecast: Forecast,
    /// Why hits were not delivered in the last 24 h, the most frequent first.
    pub causes: Vec<FailureCount>,
    /// The settings in force, with secrets masked.
    pub settings: Vec<Setting>,
}

/// The state of RabbitMQ, as a worker sees it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BrokerStatus {
    /// Whether there is a session.
    pub connected: bool,
    /// Whether the broker lets nobody publish because of a memory or disk alarm.
    pub blocked: bool,
    /// How many sessions there were since the worker started.
    pub sessions: u64,
    /// For how long there has been no session.
    pub away_seconds: Option<u64>,
    /// How many exchanges and queues that the relay needs are not on the broker.
    #[serde(default)]
    pub missing: u64,
    /// The queues that refuse hits, which wait with the worker meanwhile.
    #[serde(default)]
    pub refusing: Vec<RefusingQueue>,
}

/// A queue into which the broker takes no hits, because of a length limit for example.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusingQueue {
    /// The name of the queue.
    pub name: String,
    /// How many hits wait to be taken into it.
    pub hits: u64,
}

/// The state of Matomo, as a worker sees it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MatomoStatus {
    /// For how long it has taken no hits.
    pub away_seconds: Option<u64>,
    /// The code of the [`Reason`](super::answer::Reason) why it takes none.
    pub reason: Option<String>,
    /// What the reason means.
    pub hint: Option<String>,
    /// The HTTP status, if there was a response.
    pub http_status: Option<u16>,
    /// How long it is until the next try.
    pub next_try_seconds: Option<u64>,
    /// Whether there is a token, which lifts the age limit.
    pub has_token: bool,
    /// The age from which on it wants the token.
    #[serde(default)]
    pub max_age_seconds: MaxAge,
    /// What it is sent at a time at most, by how long its answers take.
    #[serde(default)]
    pub limit: Limit,
    /// What the settings allow at most.
    #[serde(default)]
    pub most: Limit,
}

/// What became of hits in the last hour, or since the start if that was later.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Hour {
    /// How long that time is.
    pub seconds: u64,
    /// Hits that were taken from the broker.
    pub received: u64,
    /// Hits that are in Matomo.
    pub delivered: u64,
    /// Hits that were sent to a retry queue.
    pub retried: u64,
    /// Hits that were parked because their retries are spent.
    pub parked: u64,
    /// Hits that were rejected for breaking the plan.
    pub rejected: u64,
    /// Hits that were delivered in each of at most 60 minutes. The last minute is still running.
    pub minutes: Vec<u64>,
    /// How long it is since a hit was last settled here, or since the start.
    pub still_seconds: u64,
}

/// The queues as the broker reported them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct QueuesStatus {
    /// How long ago the broker was asked.
    pub read_seconds_ago: u64,
    /// The shards, where hits wait to be delivered.
    pub shards: Vec<ShardStatus>,
    /// The retry queues, where hits wait to be sent again.
    pub retries: Vec<QueueStatus>,
    /// The queue *parked*, where hits stay whose retries are spent.
    pub parked: QueueStatus,
    /// The queue *rejected*, where hits stay that break the plan.
    pub rejected: QueueStatus,
}

/// A queue and its depth.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct QueueStatus {
    /// The name of the queue.
    pub name: String,
    /// How many hits are in it; `None` if there is no such queue.
    pub hits: Option<u64>,
}

/// A shard, its depth and its reader.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ShardStatus {
    /// The name and the depth, without the hits that a worker has and has not settled.
    #[serde(flatten)]
    pub queue: QueueStatus,
    /// How many readers there are: 1 as soon as workers are subscribed, of which the broker serves
    /// one.
    pub consumers: u32,
    /// The worker that reads it, if that is known. AMQP does not report it, so it is the worker
    /// that was given a hit in the last minute.
    pub holder: Option<String>,
    /// The age of the hit that was last taken out, while others wait: those behind it are younger.
    /// If none was taken, it is the time since hits were first seen here. It is `None` if nothing
    /// waits, and if another worker knows better.
    pub oldest_seconds: Option<u64>,
    /// For how long hits have waited here without any reader.
    pub unread_seconds: Option<u64>,
}

/// A reason or rule, and how many hits met it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FailureCount {
    /// What became of these hits.
    pub fate: Fate,
    /// The code of a [`Reason`](super::answer::Reason) or a [`Rule`](super::rule::Rule).
    pub code: String,
    /// How many hits met it.
    pub hits: u64,
    /// What it means, for people.
    pub hint: String,
}

/// What became of hits that were not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// They are sent again later.
    Retried,
    /// They were set aside because their retries are spent.
    Parked,
    /// They were set aside for breaking the plan.
    Rejected,
}

/// A variable of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// The name of the variable.
    pub name: String,
    /// Its value, or a mask if it is secret.
    pub value: String,
}

/// Adds up hits. The sum stops at the largest number, since what answers in a worker's place may
/// write any.
fn total(hits: impl IntoIterator<Item = u64>) -> u64 {
    hits.into_iter().fold(0, u64::saturating_add)
}

impl QueuesStatus {
    /// Returns how many hits are ready in all shards.
    pub fn ready(&self) -> u64 {
        total(self.shards.iter().filter_map(|shard| shard.queue.hits))
    }

    /// Returns how many hits are in all retry queues.
    pub fn retrying(&self) -> u64 {
        total(self.retries.iter().filter_map(|queue| queue.hits))
    }

    /// Returns the age of the oldest hit of all shards, as far as it is known.
    pub fn oldest_seconds(&self) -> Option<u64> {
        self.shards.iter().filter_map(|shard| shard.oldest_seconds).max()
    }
}

impl Hour {
    /// Returns how many hits were delivered per second.
    #[expect(clippy::cast_precision_loss, reason = "an hour's hits are far below 2^52")]
    pub fn rate(&self) -> f64 {
        self.delivered as f64 / self.seconds.max(1) as f64
    }

    /// Returns how many hits were settled.
    pub fn settled(&self) -> u64 {
        total([self.delivered, self.retried, self.parked, self.rejected])
    }

    /// Returns how many percent of the settled hits were rejected.
    fn rejected_percent(&self) -> u64 {
        self.rejected.saturating_mul(100) / self.settled().max(1)
    }
}

impl Status {
    /// Returns how many hits are on their way: in the shards, in flight and in the retry queues.
    pub fn waiting(&self) -> u64 {
        let queues = self.queues.as_ref();
        let queued = queues.map_or([0; 2], |queues| [queues.ready(), queues.retrying()]);
        total([self.in_flight].into_iter().chain(queued))
    }

    /// Returns whether more hits wait, in the shards and in flight, than those of the moment.
    fn has_backlog(&self) -> bool {
        let ready = self.queues.as_ref().map(QueuesStatus::ready);
        ready.is_some_and(|ready| ready.saturating_add(self.in_flight) >= BACKLOG)
    }

    /// Returns whether hits are ready in a shard that a worker of this status reads.
    fn has_hits_for_us(&self) -> bool {
        let mut shards = self.queues.iter().flat_map(|queues| &queues.shards);
        shards.any(|shard| shard.holder.is_some() && shard.queue.hits > Some(0))
    }

    /// Fills in state, headline and notes, which follow from the facts.
    #[must_use]
    pub fn described(mut self, language: Language) -> Self {
        self.state = RelayState::of(&self);
        self.bottleneck = Bottleneck::of(&self);
        self.headline = words::headline(&self, language);
        self.notes = words::notes(&self, language);
        self
    }
}

#[cfg(test)]
mod tests;
