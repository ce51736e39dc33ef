//! What a worker knows of itself, of its queues and of Matomo: the facts of the status page, of
//! `/status.json` and of `top`.
//!
//! [`Status::told`] says in words what the facts mean; [`merge`](Status::merge) makes one of
//! several workers'.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::rule::Language;

mod forecast;
mod merge;
mod state;
mod words;

pub use forecast::{Earlier, Forecast};
pub use state::RelayState;
pub use words::{hint_of_reason, hint_of_rule};

/// Everything that the page shows. Times are in seconds, ages and pauses alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// When the facts were put together.
    pub at: Timestamp,
    /// Name of the worker; several names where several were merged.
    pub worker: String,
    /// Version of the program.
    pub version: String,
    /// Version of the tagging plan.
    pub plan: String,
    /// How long the worker has run.
    pub up_seconds: u64,
    /// What it all comes to.
    pub state: RelayState,
    /// The same in a sentence.
    pub headline: String,
    /// What else there is to know, a sentence each.
    pub notes: Vec<String>,
    /// The side that hits come from.
    pub broker: BrokerStatus,
    /// The side that they go to.
    pub matomo: MatomoStatus,
    /// Hits taken from the broker and not settled.
    pub in_flight: u64,
    /// The last hour.
    pub hour: Hour,
    /// As the broker last told; none before it was asked.
    pub queues: Option<QueuesStatus>,
    /// When all is delivered, and when it is too late.
    pub forecast: Forecast,
    /// Why hits were not delivered in the last 24 h, the most frequent first.
    pub causes: Vec<FailureCount>,
    /// What is in force, secrets masked.
    pub settings: Vec<Setting>,
}

/// RabbitMQ, as a worker sees it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BrokerStatus {
    /// There is a session.
    pub connected: bool,
    /// Nobody may publish (a memory or disk alarm).
    pub blocked: bool,
    /// Sessions since the worker started.
    pub sessions: u64,
    /// Since when there is none.
    pub away_seconds: Option<u64>,
}

/// Matomo, as a worker sees it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MatomoStatus {
    /// Since when it takes no hits.
    pub away_seconds: Option<u64>,
    /// A [`Reason`](super::answer::Reason)'s code.
    pub reason: Option<String>,
    /// What that means.
    pub hint: Option<String>,
    /// HTTP status, where there was one.
    pub http_status: Option<u16>,
    /// Before the next try.
    pub next_try_seconds: Option<u64>,
    /// A token lifts the limit of 24 h.
    pub has_token: bool,
}

/// What became of hits in the last hour, or since the start where that was later.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Hour {
    /// How long that is.
    pub seconds: u64,
    /// Taken from the broker.
    pub received: u64,
    /// In Matomo.
    pub delivered: u64,
    /// Sent to a retry queue.
    pub retried: u64,
    /// With their retries spent.
    pub parked: u64,
    /// For breaking the plan.
    pub rejected: u64,
    /// Delivered in each minute, the one that is running last; at most 60.
    pub minutes: Vec<u64>,
    /// Since a hit last met its fate here, or since the start.
    pub still_seconds: u64,
}

/// What the broker told.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct QueuesStatus {
    /// How long ago.
    pub read_seconds_ago: u64,
    /// Where hits wait to be delivered.
    pub shards: Vec<ShardStatus>,
    /// Where they wait to be tried again.
    pub retries: Vec<QueueStatus>,
    /// Where they stay with their retries spent.
    pub parked: QueueStatus,
    /// Where they stay that break the plan.
    pub rejected: QueueStatus,
}

/// A queue and its depth.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct QueueStatus {
    /// Its name.
    pub name: String,
    /// Hits in it; none if there is no such queue.
    pub hits: Option<u64>,
}

/// A shard, its depth and its reader.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ShardStatus {
    /// Name and depth; what a worker holds unsettled is not in it.
    #[serde(flatten)]
    pub queue: QueueStatus,
    /// Readers: 1 as soon as one worker or several are subscribed, of whom the broker serves one.
    pub consumers: u32,
    /// Who that is, where it is known: AMQP does not tell, so it is who was given a hit in the
    /// last minute.
    pub holder: Option<String>,
    /// Age of the hit that was last taken out, while others wait: those behind it are younger.
    /// Where none was taken, the time since hits were first seen here. None where nothing
    /// waits, and where another worker knows better.
    pub oldest_seconds: Option<u64>,
    /// How long hits have lain here without any reader.
    pub unread_seconds: Option<u64>,
}

/// A reason or rule, and how many hits met it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FailureCount {
    /// What became of these hits.
    pub fate: Fate,
    /// Code of a [`Reason`](super::answer::Reason) or a [`Rule`](super::rule::Rule).
    pub code: String,
    /// How many.
    pub hits: u64,
    /// What it means, for people.
    pub hint: String,
}

/// What became of hits that were not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Tried again later.
    Retried,
    /// Set aside with its retries spent.
    Parked,
    /// Set aside for breaking the plan.
    Rejected,
}

/// A variable of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// Its value; of a secret, a mask.
    pub value: String,
}

impl QueuesStatus {
    /// Ready in all shards.
    pub fn ready(&self) -> u64 {
        self.shards.iter().filter_map(|shard| shard.queue.hits).sum()
    }

    /// In all retry queues.
    pub fn retrying(&self) -> u64 {
        self.retries.iter().filter_map(|queue| queue.hits).sum()
    }

    /// Age of the oldest hit of all shards, as far as it is known.
    pub fn oldest_seconds(&self) -> Option<u64> {
        self.shards.iter().filter_map(|shard| shard.oldest_seconds).max()
    }
}

impl Hour {
    /// Hits delivered per second.
    #[expect(clippy::cast_precision_loss, reason = "an hour's hits are far below 2^52")]
    pub fn rate(&self) -> f64 {
        self.delivered as f64 / self.seconds.max(1) as f64
    }

    /// Percent of the checked hits that break the plan.
    fn rejected_percent(&self) -> u64 {
        self.rejected * 100 / (self.delivered + self.retried + self.parked + self.rejected).max(1)
    }
}

impl Status {
    /// Hits that are on their way: in the shards, in flight and in the retry queues.
    pub fn waiting(&self) -> u64 {
        self.in_flight + self.queues.as_ref().map_or(0, |queues| queues.ready() + queues.retrying())
    }

    /// With state, headline and notes as the facts have them.
    #[must_use]
    pub fn told(mut self, language: Language) -> Self {
        self.state = RelayState::of(&self);
        self.headline = words::headline(&self, language);
        self.notes = words::notes(&self, language);
        self
    }
}

#[cfg(test)]
mod tests;
