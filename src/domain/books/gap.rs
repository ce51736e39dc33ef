//! The gaps of a balance: what does not add up, each with its likely reason.

use std::fmt;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use thiserror::Error;

/// A kind of queue that hits stay in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum QueueKind {
    /// The retry queues together.
    Retry,
    /// The queue *parked*.
    Parked,
    /// The queue *rejected*.
    Rejected,
}

/// Something that does not add up. Its text gives the likely reason.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize)]
#[serde(tag = "code", rename_all = "kebab-case")]
pub enum Gap {
    /// A worker was asked and did not answer.
    #[error("{address} does not answer ({reason}): what it counts is missing here")]
    Silent {
        /// The address that was asked.
        address: String,
        /// Why it did not answer.
        reason: String,
    },
    /// The broker did not answer.
    #[error("the counters cannot be held against the queues: {reason}")]
    NoBroker {
        /// Why it did not answer.
        reason: String,
    },
    /// A worker is in the former books and not in these.
    #[error(
        "worker {worker} of the former books is gone or was not asked: what it counted since \
         {since} is missing here"
    )]
    Gone {
        /// The name of the worker.
        worker: String,
        /// When it last answered.
        since: Timestamp,
    },
    /// A worker was restarted, so that its counters began anew.
    #[error(
        "worker {worker} was started at {started_at}: what it counted before, since {since}, is \
         gone"
    )]
    Restarted {
        /// The name of the worker.
        worker: String,
        /// When it was started last.
        started_at: Timestamp,
        /// When it last answered before.
        since: Timestamp,
    },
    /// A worker ran already when the former books were made, but they lack it.
    #[error(
        "worker {worker} ran when the former books were made, and is not in them: all that it \
         counted since {started_at} is in these"
    )]
    New {
        /// The name of the worker.
        worker: String,
        /// When it was started.
        started_at: Timestamp,
    },
    /// The fates of a worker's hits are not as many as its hits, which is a bug of the relay.
    #[error(
        "worker {worker}, {account}: {received} hits received, {accounted} accounted for: please \
         report this"
    )]
    Account {
        /// The name of the worker.
        worker: String,
        /// The account.
        account: String,
        /// The hits that it received.
        received: u64,
        /// The hits that have a fate or are in flight.
        accounted: u64,
    },
    /// There are hits in a queue that no worker counted.
    #[error("{hits} hits in {place} are not in the workers' counters: {}", place.why_more())]
    More {
        /// The queue.
        place: QueueKind,
        /// How many hits there are.
        hits: i64,
    },
    /// There are hits that workers counted and that are not in their queue.
    #[error("{hits} hits that the workers sent to {place} are not there: {}", place.why_fewer())]
    Fewer {
        /// The queue.
        place: QueueKind,
        /// How many hits there are.
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
    /// Says why there may be hits that no worker counted.
    const fn why_more(self) -> &'static str {
        match self {
            Self::Retry => {
                "sent there before the workers started, or by one that is gone or was not asked"
            }
            Self::Parked => {
                "parked before the workers started, by one that is gone or was not asked, or by \
                 the broker itself: dnma-relay dead group tells (delivery-limit, expired, maxlen)"
            }
            Self::Rejected => {
                "rejected before the workers started, or by one that is gone or was not asked"
            }
        }
    }

    /// Says why hits may be missing that workers counted.
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
    /// Whether the gap may be gone at the next reading, because hits were on their way at this one.
    pub const fn may_pass(&self) -> bool {
        matches!(self, Self::More { .. } | Self::Fewer { .. })
    }
}

/// Writes each gap with its sentence for people.
pub(super) fn with_text<S: Serializer>(gaps: &[Gap], serializer: S) -> Result<S::Ok, S::Error> {
    /// A gap and its sentence.
    #[derive(Serialize)]
    struct GapWithText<'g> {
        #[serde(flatten)]
        gap: &'g Gap,
        text: String,
    }
    serializer.collect_seq(gaps.iter().map(|gap| GapWithText { gap, text: gap.to_string() }))
}
