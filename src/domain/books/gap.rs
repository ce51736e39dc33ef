//! What does not add up in a balance, each with its likely reason.

use std::fmt;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use thiserror::Error;

/// A queue that hits stay in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum QueueKind {
    /// The retry queues together.
    Retry,
    /// *parked*.
    Parked,
    /// *rejected*.
    Rejected,
}

/// What does not add up, and the likely reason.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize)]
#[serde(tag = "code", rename_all = "kebab-case")]
pub enum Gap {
    /// A worker was asked and did not answer.
    #[error("{address} does not answer ({reason}): what it counts is missing here")]
    Silent {
        /// Who was asked.
        address: String,
        /// Why it did not.
        reason: String,
    },
    /// The broker did not answer.
    #[error("the counters cannot be held against the queues: {reason}")]
    NoBroker {
        /// Why not.
        reason: String,
    },
    /// It is in the former books and not in these, or it started anew.
    #[error(
        "worker {worker} of the former books is gone or was not asked: what it counted since \
         {since} is missing here"
    )]
    Gone {
        /// Its name.
        worker: String,
        /// When it last answered.
        since: Timestamp,
    },
    /// The same worker, with counters that began anew.
    #[error(
        "worker {worker} was started at {started_at}: what it counted before, since {since}, is \
         gone"
    )]
    Restarted {
        /// Its name.
        worker: String,
        /// Its last start.
        started_at: Timestamp,
        /// When it last answered before.
        since: Timestamp,
    },
    /// It ran already, but the former books lack it.
    #[error(
        "worker {worker} ran when the former books were made, and is not in them: all that it \
         counted since {started_at} is in these"
    )]
    New {
        /// Its name.
        worker: String,
        /// Its start.
        started_at: Timestamp,
    },
    /// Fates and hits of one worker differ: a bug of the relay.
    #[error(
        "worker {worker}, {account}: {received} hits received, {accounted} accounted for: please \
         report this"
    )]
    Account {
        /// Its name.
        worker: String,
        /// The account.
        account: String,
        /// Hits received.
        received: u64,
        /// Hits with a fate, and in flight.
        accounted: u64,
    },
    /// Hits in a queue that no worker counted.
    #[error("{hits} hits in {place} are not in the workers' counters: {}", place.why_more())]
    More {
        /// The queue.
        place: QueueKind,
        /// How many.
        hits: i64,
    },
    /// Hits that workers counted and that are not in their queue.
    #[error("{hits} hits that the workers sent to {place} are not there: {}", place.why_fewer())]
    Fewer {
        /// The queue.
        place: QueueKind,
        /// How many.
        hits: i64,
    },
}

impl fmt::Display for QueueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Retry => "the retry queues",
            Self::Parked => "parked",
            Self::Rejected => "rejected",
        })
    }
}

impl QueueKind {
    const fn why_more(self) -> &'static str {
        match self {
            Self::Retry => {
                "sent there before the workers started, or by one that is gone or was not asked"
            }
            Self::Parked => {
                "parked before the workers started, by one that is gone or was not asked, or by \
                 the broker after too many deliveries"
            }
            Self::Rejected => {
                "rejected before the workers started, or by one that is gone or was not asked"
            }
        }
    }

    const fn why_fewer(self) -> &'static str {
        match self {
            Self::Retry => "taken out by hand, or back with a worker that is gone or was not asked",
            Self::Parked | Self::Rejected => {
                "purged, taken out by hand, or sent again and not back with a worker yet"
            }
        }
    }
}

impl Gap {
    /// Whether it may be gone at the next look, because hits were on their way at this one.
    pub const fn may_pass(&self) -> bool {
        matches!(self, Self::More { .. } | Self::Fewer { .. })
    }
}

/// With its sentence for people.
pub(super) fn told<S: Serializer>(gaps: &[Gap], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct GapWithText<'g> {
        #[serde(flatten)]
        gap: &'g Gap,
        text: String,
    }
    serializer.collect_seq(gaps.iter().map(|gap| GapWithText { gap, text: gap.to_string() }))
}
