//! The state: the one fact of a status that a person should hear first.

use serde::{Deserialize, Serialize};

use super::Status;

/// After how many seconds without any hit being settled the hits in flight are stuck. This is
/// longer than any request takes, with a retry of its confirm.
const STUCK_AFTER: u64 = 600;

/// After how many seconds a shard without a reader is news. It may be without one while it is
/// handed over.
const UNREAD_AFTER: u64 = 60;

/// The percentage of rejected hits above which it is news, and how many hits must have been
/// rejected for that. The alarm `DnmaRelayManyRejects` has the same share.
const MANY_REJECTS: (u64, u64) = (5, 20);

/// What the facts of a status amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelayState {
    /// There is no session with the broker yet.
    Starting,
    /// There is no session with the broker any more.
    BrokerAway,
    /// The breaker is open.
    MatomoAway,
    /// The broker lets nobody publish.
    BrokerBlocked,
    /// The broker lacks an exchange or a queue.
    BrokerIncomplete,
    /// A queue takes no hits, and those that belong there wait. Others flow.
    QueueFull,
    /// Hits wait, and they do not move or nobody reads them.
    Stuck,
    /// Hits flow, but many break the plan.
    Rejecting,
    /// Hits flow, and a backlog is left.
    CatchingUp,
    /// Hits flow.
    Delivering,
    /// Nothing waits, and nothing came in the last hour.
    Idle,
}

impl RelayState {
    /// Finds the most severe state that holds.
    pub fn of(status: &Status) -> Self {
        let Status { broker, matomo, hour, .. } = status;
        let shards = status.queues.iter().flat_map(|queues| &queues.shards);
        let unread = shards.filter_map(|shard| shard.unread_seconds).max().unwrap_or_default();
        if broker.sessions == 0 {
            Self::Starting
        } else if !broker.connected {
            Self::BrokerAway
        } else if matomo.away_seconds.is_some() {
            Self::MatomoAway
        } else if broker.blocked {
            Self::BrokerBlocked
        } else if broker.missing > 0 {
            Self::BrokerIncomplete
        } else if !broker.refusing.is_empty() {
            Self::QueueFull
        } else if unread >= UNREAD_AFTER
            || (status.in_flight > 0 && hour.still_seconds >= STUCK_AFTER)
        {
            Self::Stuck
        } else if hour.rejected >= MANY_REJECTS.1 && hour.rejected_percent() > MANY_REJECTS.0 {
            Self::Rejecting
        } else if status.has_backlog() {
            Self::CatchingUp
        } else if hour.received == 0 && status.waiting() == 0 {
            Self::Idle
        } else {
            Self::Delivering
        }
    }

    /// Whether somebody should look.
    pub const fn is_wrong(self) -> bool {
        matches!(
            self,
            Self::BrokerAway
                | Self::MatomoAway
                | Self::BrokerBlocked
                | Self::BrokerIncomplete
                | Self::QueueFull
                | Self::Stuck
        )
    }

    /// Whether hits flow, and something is to be looked at all the same.
    pub const fn is_doubtful(self) -> bool {
        matches!(self, Self::Starting | Self::Rejecting | Self::CatchingUp)
    }
}
