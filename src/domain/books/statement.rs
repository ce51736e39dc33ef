//! The balance of several workers: what became of the hits since the workers started or over a
//! period, compared with the queues of the broker, and what does not add up.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::gap::{self, Gap, QueueKind};
use super::{AccountName, Books, Figures, count};

/// The messages that are ready in the broker's queues.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queues {
    /// Messages in the shards, which no worker has taken yet.
    #[serde(deserialize_with = "count::hits")]
    pub waiting: u64,
    /// Messages in the retry queues.
    #[serde(deserialize_with = "count::hits")]
    pub retry: u64,
    /// Messages in *parked*.
    #[serde(deserialize_with = "count::hits")]
    pub parked: u64,
    /// Messages in *rejected*.
    #[serde(deserialize_with = "count::hits")]
    pub rejected: u64,
}

/// The queues before and after the workers were asked. Where both are the same, nothing moved
/// meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueReadings {
    /// The queues before the workers were asked.
    pub before: Queues,
    /// The queues after the workers were asked.
    pub after: Queues,
}

/// Everything that was read at one time. A later balance can begin with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BalanceRecord {
    /// When it was read.
    pub at: Timestamp,
    /// The books of each worker, once.
    pub workers: Vec<Books>,
    /// The queues; `None` if the broker was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queues: Option<QueueReadings>,
}

/// The figures of an account over all workers, in distinct hits: `carried + entered + replayed` is
/// the sum of everything below but `doubtful`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct StatementRow {
    /// Hits that were in flight, on their way to a retry, or given back when the period began.
    pub carried: i64,
    /// Hits that came in, each counted once however often it came.
    pub entered: i64,
    /// Hits that an operator sent again out of *parked* or *rejected*, where they had been counted
    /// when they came there.
    pub replayed: i64,
    /// Hits that are in Matomo.
    pub delivered: i64,
    /// Hits that were rejected for breaking the plan.
    pub rejected: i64,
    /// Hits that were parked.
    pub parked: i64,
    /// Hits that were sent to a retry and are not back yet.
    pub to_retry: i64,
    /// Hits that were given back to the broker and have not been taken again yet.
    pub given_back: i64,
    /// Hits that a worker has and that have no fate yet.
    pub in_flight: i64,
    /// How often a hit was sent again although Matomo may have stored it.
    pub doubtful: i64,
}

/// The figures of an account with its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StatementLine {
    /// Whose hits they are.
    #[serde(flatten)]
    pub name: AccountName,
    /// The figures.
    #[serde(flatten)]
    pub row: StatementRow,
    /// The rejected hits by rule.
    pub rejected_by: BTreeMap<Cow<'static, str>, u64>,
}

/// Since when the hits of a balance are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Since {
    /// They are counted since the former books.
    Former(Timestamp),
    /// They are counted since the start of the worker that has run for the longest time.
    Start(Timestamp),
}

/// The balance of all workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Statement {
    /// Since when the hits are counted; `None` if no worker answered.
    pub since: Option<Since>,
    /// Every account, in the order of their names.
    pub accounts: Vec<StatementLine>,
    /// The sum of all accounts.
    pub total: StatementRow,
    /// Whether the counters were compared with the broker's queues.
    pub compared: bool,
    /// What does not add up. If there is nothing, the books close.
    #[serde(serialize_with = "gap::with_text")]
    pub gaps: Vec<Gap>,
}

impl BalanceRecord {
    /// Makes a record of everything that answered. A worker that was asked at two addresses counts
    /// once.
    pub fn new(at: Timestamp, mut workers: Vec<Books>, queues: Option<QueueReadings>) -> Self {
        workers
            .sort_by(|a, b| (&a.worker, a.started_at, b.at).cmp(&(&b.worker, b.started_at, a.at)));
        workers.dedup_by(|a, b| a.worker == b.worker && a.started_at == b.started_at);
        Self { at, workers, queues }
    }

    /// Makes the balance of everything that is counted, or of what was counted since a former
    /// record.
    pub fn balance(&self, former: Option<&Self>) -> Statement {
        let mut gaps = Vec::new();
        let then = former.map(|former| self.continuing(former, &mut gaps)).unwrap_or_default();
        for books in &self.workers {
            let open = books
                .accounts
                .iter()
                .filter(|account| account.figures.accounted() != account.figures.received);
            gaps.extend(open.map(|account| Gap::Account {
                worker: books.worker.clone(),
                account: account.name.to_string(),
                received: account.figures.received,
                accounted: account.figures.accounted(),
            }));
        }
        let now = sum(&self.workers);
        let names: BTreeSet<&AccountName> = now.keys().chain(then.keys()).copied().collect();
        let none = Figures::default();
        let (mut accounts, mut total) = (Vec::new(), StatementRow::default());
        for name in names {
            let (now, then) = (now.get(name).unwrap_or(&none), then.get(name).unwrap_or(&none));
            let row = StatementRow::between(then, now);
            total += row;
            let rejected_by = now.rejected.iter().map(|(rule, hits)| {
                (rule.clone(), hits - then.rejected.get(rule).unwrap_or(&0).min(hits))
            });
            let rejected_by = rejected_by.filter(|(_, hits)| *hits > 0).collect();
            accounts.push(StatementLine { name: name.clone(), row, rejected_by });
        }
        // Over a period, what was added to the queue is compared. Without one, the sum of all
        // accounts is: what workers that are gone had sent to a retry is no gap once it is back.
        let retrying = if former.is_some() {
            retrying(now.values()) - retrying(then.values())
        } else {
            total.to_retry
        };
        let stayed = |parked: fn(&Figures) -> i64| {
            let of = |figures: &BTreeMap<&AccountName, Figures>| {
                figures.values().map(parked).sum::<i64>()
            };
            // Without a period, nobody has counted the hits that lay there before and were sent
            // again since, so the sum may be negative.
            if former.is_some() { of(&now) - of(&then) } else { of(&now).max(0) }
        };
        let counted = CountedInQueues {
            retry: retrying,
            parked: stayed(|figures| signed(figures.parked) - signed(figures.replayed_parked)),
            rejected: stayed(|figures| {
                signed(figures.rejected()) - signed(figures.replayed_rejected)
            }),
        };
        let compared = self.compare(former, counted, &mut gaps);
        let started = self.workers.iter().map(|books| books.started_at).min().map(Since::Start);
        Statement {
            since: former.map(|former| Since::Former(former.at)).or(started),
            accounts,
            total,
            compared,
            gaps,
        }
    }

    /// Returns what the workers that still run had counted then, and adds a gap for those that do
    /// not.
    fn continuing<'f>(
        &self,
        former: &'f Self,
        gaps: &mut Vec<Gap>,
    ) -> BTreeMap<&'f AccountName, Figures> {
        let mut continuing = Vec::new();
        for then in &former.workers {
            let of_that_name = self
                .workers
                .iter()
                .filter(|now| now.worker == then.worker)
                .max_by_key(|now| now.started_at);
            let (worker, since) = (then.worker.clone(), then.at);
            match of_that_name {
                Some(now) if now.started_at == then.started_at => continuing.push(then),
                Some(now) => {
                    gaps.push(Gap::Restarted { worker, started_at: now.started_at, since })
                }
                None => gaps.push(Gap::Gone { worker, since }),
            }
        }
        for now in &self.workers {
            if now.started_at < former.at
                && former.workers.iter().all(|then| then.worker != now.worker)
            {
                gaps.push(Gap::New { worker: now.worker.clone(), started_at: now.started_at });
            }
        }
        sum(continuing)
    }

    /// Compares counters with queues, both over the same time. If a queue moved while the workers
    /// were asked, anything between its two depths will do. Returns whether there was anything to
    /// compare with.
    fn compare(
        &self,
        former: Option<&Self>,
        counted: CountedInQueues,
        gaps: &mut Vec<Gap>,
    ) -> bool {
        let empty = QueueReadings { before: Queues::default(), after: Queues::default() };
        let Some((now, then)) = self.queues.zip(former.map_or(Some(empty), |former| former.queues))
        else {
            return false;
        };
        let added = |depth: fn(&Queues) -> u64| {
            let (now, then) = (now.range(depth), then.range(depth));
            (now.0 - then.1, now.1 - then.0)
        };
        // What a retry queue has let go is on its way back until a worker takes it out of its
        // shard.
        let ((min, max), waiting) = (added(|queues| queues.retry), added(|queues| queues.waiting));
        let in_retry = (min + waiting.0.min(0), max + waiting.1.max(0));
        for (place, counted, (min, max)) in [
            (QueueKind::Retry, counted.retry, in_retry),
            (QueueKind::Parked, counted.parked, added(|queues| queues.parked)),
            (QueueKind::Rejected, counted.rejected, added(|queues| queues.rejected)),
        ] {
            if counted < min {
                gaps.push(Gap::More { place, hits: min - counted });
            } else if counted > max {
                gaps.push(Gap::Fewer { place, hits: counted - max });
            }
        }
        true
    }
}

/// How many hits the workers have counted into each kind of queue.
#[derive(Debug, Clone, Copy)]
struct CountedInQueues {
    /// Hits in the retry queues together.
    retry: i64,
    /// Hits in *parked*.
    parked: i64,
    /// Hits in *rejected*.
    rejected: i64,
}

/// Adds up the accounts of the same name over all workers.
fn sum<'b>(workers: impl IntoIterator<Item = &'b Books>) -> BTreeMap<&'b AccountName, Figures> {
    let mut sums: BTreeMap<&AccountName, Figures> = BTreeMap::new();
    for account in workers.into_iter().flat_map(|books| &books.accounts) {
        *sums.entry(&account.name).or_default() += &account.figures;
    }
    sums
}

/// Returns how many hits were sent to a retry, less those that came back.
fn retrying<'f>(figures: impl IntoIterator<Item = &'f Figures>) -> i64 {
    figures.into_iter().map(|figures| signed(figures.retried) - signed(figures.came_back)).sum()
}

/// Makes a count a number that can be subtracted from.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl StatementRow {
    /// Returns what happened between two moments of the same counters.
    fn between(then: &Figures, now: &Figures) -> Self {
        let (then, now) = (Self::of(then), Self::of(now));
        Self {
            carried: then.to_retry + then.given_back + then.in_flight,
            entered: now.entered - then.entered,
            replayed: now.replayed - then.replayed,
            delivered: now.delivered - then.delivered,
            rejected: now.rejected - then.rejected,
            parked: now.parked - then.parked,
            doubtful: now.doubtful - then.doubtful,
            ..now
        }
    }

    /// Converts counters into distinct hits. A hit that comes out of a retry queue, or again,
    /// although none of these counters sent it there or gave it back, was with a worker that is
    /// gone: it counts as entering here.
    fn of(figures: &Figures) -> Self {
        let retrying = signed(figures.retried) - signed(figures.came_back);
        let given_back = signed(figures.released) - signed(figures.redelivered)
            + signed(figures.delivered_before);
        let replayed = signed(figures.replayed_parked) + signed(figures.replayed_rejected);
        let first = signed(figures.received)
            - signed(figures.came_back)
            - signed(figures.redelivered)
            - replayed;
        Self {
            carried: 0,
            entered: first + (-retrying).max(0) + (-given_back).max(0),
            replayed,
            delivered: signed(figures.delivered) - signed(figures.delivered_before),
            rejected: signed(figures.rejected()),
            parked: signed(figures.parked),
            to_retry: retrying.max(0),
            given_back: given_back.max(0),
            in_flight: signed(figures.in_flight),
            doubtful: signed(figures.doubtful),
        }
    }

    /// Whether what came in and what became of it are the same.
    pub fn closes(&self) -> bool {
        let fates = self.delivered
            + self.rejected
            + self.parked
            + self.to_retry
            + self.given_back
            + self.in_flight;
        self.carried + self.entered + self.replayed == fates
    }
}

impl AddAssign for StatementRow {
    fn add_assign(&mut self, other: Self) {
        self.carried += other.carried;
        self.entered += other.entered;
        self.replayed += other.replayed;
        self.delivered += other.delivered;
        self.rejected += other.rejected;
        self.parked += other.parked;
        self.to_retry += other.to_retry;
        self.given_back += other.given_back;
        self.in_flight += other.in_flight;
        self.doubtful += other.doubtful;
    }
}

impl QueueReadings {
    /// Returns the smaller and the larger of the two depths.
    fn range(&self, depth: fn(&Queues) -> u64) -> (i64, i64) {
        let [before, after] = [&self.before, &self.after].map(|queues| signed(depth(queues)));
        (before.min(after), before.max(after))
    }
}

#[cfg(test)]
mod tests;
