//! Merges the statuses of several workers into one, as if one worker did the work of all.

use super::{FailureCount, Hour, QueuesStatus, RefusingQueue, Status};
use crate::domain::limiter::Limit;

impl Status {
    /// Merges statuses; returns `None` if there is none. Broker and Matomo are available if they
    /// are for one worker: each worker's own state says whose network is at fault. State, headline
    /// and notes have to be [described](Self::described) anew.
    pub fn merge(statuses: &[Self]) -> Option<Self> {
        let first = statuses.first()?;
        let mut whole = first.clone();
        let best = statuses.iter().min_by_key(|status| {
            (!status.broker.connected, status.matomo.away_seconds.unwrap_or_default())
        });
        whole.matomo = best.unwrap_or(first).matomo.clone();
        whole.matomo.limit = together(statuses.iter().map(|status| status.matomo.limit));
        whole.matomo.most = together(statuses.iter().map(|status| status.matomo.most));
        for status in statuses.iter().skip(1) {
            whole.at = whole.at.max(status.at);
            whole.worker = format!("{}, {}", whole.worker, status.worker);
            if !whole.version.split(", ").any(|version| version == status.version) {
                whole.version = format!("{}, {}", whole.version, status.version);
            }
            whole.up_seconds = whole.up_seconds.max(status.up_seconds);
            whole.broker.connected |= status.broker.connected;
            whole.broker.blocked |= status.broker.blocked;
            whole.broker.sessions = whole.broker.sessions.max(status.broker.sessions);
            whole.broker.away_seconds =
                whole.broker.away_seconds.zip(status.broker.away_seconds).map(|(a, b)| a.max(b));
            whole.broker.missing = whole.broker.missing.max(status.broker.missing);
            add_refusing(&mut whole.broker.refusing, &status.broker.refusing);
            whole.in_flight = whole.in_flight.saturating_add(status.in_flight);
            whole.pace.add(&status.pace);
            add_hour(&mut whole.hour, &status.hour);
            whole.queues = match (whole.queues.take(), &status.queues) {
                (Some(one), Some(other)) => Some(merge_queues(one, other)),
                (one, other) => one.or_else(|| other.clone()),
            };
            for cause in &status.causes {
                add_cause(&mut whole.causes, cause);
            }
            whole.forecast.drained_seconds =
                whole.forecast.drained_seconds.or(status.forecast.drained_seconds);
            whole.forecast.limit_seconds =
                [whole.forecast.limit_seconds, status.forecast.limit_seconds]
                    .into_iter()
                    .flatten()
                    .min();
        }
        whole.causes.sort_by_key(|cause| std::cmp::Reverse(cause.hits));
        Some(whole)
    }
}

/// So many causes or queues are added up. There are fewer; who answers with more is no relay, and
/// must not keep the terminal busy.
const MAX_ENTRIES: usize = 1_000;

/// Returns what several workers may have under way: all their requests, of as many hits as any may
/// have.
fn together(limits: impl Iterator<Item = Limit>) -> Limit {
    limits.fold(Limit::default(), |all, one| Limit {
        requests: all.requests.saturating_add(one.requests),
        hits: all.hits.max(one.hits),
    })
}

/// Adds the hits that wait for queues.
fn add_refusing(queues: &mut Vec<RefusingQueue>, more: &[RefusingQueue]) {
    for queue in more {
        let has_room = queues.len() < MAX_ENTRIES;
        match queues.iter_mut().find(|known| known.name == queue.name) {
            Some(known) => known.hits = known.hits.saturating_add(queue.hits),
            None if has_room => queues.push(queue.clone()),
            None => {}
        }
    }
}

/// Adds the counts of an hour.
fn add_hour(sum: &mut Hour, hour: &Hour) {
    sum.seconds = sum.seconds.max(hour.seconds);
    sum.received = sum.received.saturating_add(hour.received);
    sum.delivered = sum.delivered.saturating_add(hour.delivered);
    sum.retried = sum.retried.saturating_add(hour.retried);
    sum.parked = sum.parked.saturating_add(hour.parked);
    sum.rejected = sum.rejected.saturating_add(hour.rejected);
    sum.still_seconds = sum.still_seconds.min(hour.still_seconds);
    // The minutes are added from the latest on, since one worker may have run for less time.
    let missing = hour.minutes.len().saturating_sub(sum.minutes.len());
    sum.minutes.splice(0..0, std::iter::repeat_n(0, missing));
    for (minute, more) in sum.minutes.iter_mut().rev().zip(hour.minutes.iter().rev()) {
        *minute = minute.saturating_add(*more);
    }
}

/// Returns the later reading, with what each worker knows about its own shards.
fn merge_queues(one: QueuesStatus, other: &QueuesStatus) -> QueuesStatus {
    let (mut later, earlier) = if one.read_seconds_ago <= other.read_seconds_ago {
        (one, other.clone())
    } else {
        (other.clone(), one)
    };
    for shard in &mut later.shards {
        let Some(same) = earlier.shards.iter().find(|same| same.queue.name == shard.queue.name)
        else {
            continue;
        };
        shard.holder = shard.holder.take().or_else(|| same.holder.clone());
        shard.oldest_seconds = shard.oldest_seconds.max(same.oldest_seconds);
    }
    later
}

/// Adds the hits of a reason or rule.
fn add_cause(causes: &mut Vec<FailureCount>, cause: &FailureCount) {
    let has_room = causes.len() < MAX_ENTRIES;
    match causes.iter_mut().find(|known| known.fate == cause.fate && known.code == cause.code) {
        Some(known) => known.hits = known.hits.saturating_add(cause.hits),
        None if has_room => causes.push(cause.clone()),
        None => {}
    }
}
