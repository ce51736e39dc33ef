//! Several workers' books, and what the broker says to them → one balance, over all or over a
//! period, and what does not add up.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::gap::{self, Gap, QueueKind};
use super::{AccountName, Books, Figures};

/// Messages ready in the broker's queues.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queues {
    /// In the shards: no worker has taken them yet.
    pub waiting: u64,
    /// In the retry queues.
    pub retry: u64,
    /// In *parked*.
    pub parked: u64,
    /// In *rejected*.
    pub rejected: u64,
}

/// The queues before and after the workers were asked. Where both are the same, nothing moved
/// meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looks {
    /// Before.
    pub before: Queues,
    /// After.
    pub after: Queues,
}

/// Everything that was asked at one time. What a later balance takes as its beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BalanceRecord {
    /// When.
    pub at: Timestamp,
    /// Each worker once.
    pub workers: Vec<Books>,
    /// None if the broker was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queues: Option<Looks>,
}

/// One account of all workers, in distinct hits: `carried + entered + replayed` is the sum of
/// everything below but `doubtful`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct StatementRow {
    /// At the beginning of the period: in flight, to come back from a retry, or given back.
    pub carried: i64,
    /// Came in, each counted once however often it came.
    pub entered: i64,
    /// Sent again by an operator, out of *parked* or *rejected*, where they had been counted when
    /// they came there.
    pub replayed: i64,
    /// In Matomo.
    pub delivered: i64,
    /// Rejected for breaking the plan.
    pub rejected: i64,
    /// Parked.
    pub parked: i64,
    /// Sent to a retry, and not back yet.
    pub to_retry: i64,
    /// Given back to the broker, and not taken again yet.
    pub given_back: i64,
    /// In a worker's hands.
    pub in_flight: i64,
    /// How often a hit was sent again although Matomo may have stored it.
    pub doubtful: i64,
}

/// A row with its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StatementLine {
    /// Whose.
    #[serde(flatten)]
    pub name: AccountName,
    /// How many.
    #[serde(flatten)]
    pub row: StatementRow,
    /// `rejected`, by rule.
    pub rejected_by: BTreeMap<Cow<'static, str>, u64>,
}

/// Since when the hits of a balance are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Since {
    /// The former books.
    Former(Timestamp),
    /// The start of the worker that has run for the longest.
    Start(Timestamp),
}

/// The balance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Statement {
    /// None if nobody answered.
    pub since: Option<Since>,
    /// Every account, in the order of their names.
    pub accounts: Vec<StatementLine>,
    /// Their sum.
    pub total: StatementRow,
    /// Whether the counters were held against the broker's queues.
    pub compared: bool,
    /// What does not add up. Empty: the books close.
    #[serde(serialize_with = "gap::told")]
    pub gaps: Vec<Gap>,
}

impl BalanceRecord {
    /// Of everything that answered; a worker that was asked by two addresses counts once.
    pub fn new(at: Timestamp, mut workers: Vec<Books>, queues: Option<Looks>) -> Self {
        workers
            .sort_by(|a, b| (&a.worker, a.started_at, b.at).cmp(&(&b.worker, b.started_at, a.at)));
        workers.dedup_by(|a, b| a.worker == b.worker && a.started_at == b.started_at);
        Self { at, workers, queues }
    }

    /// The balance: of all that is counted, or of what was counted since a former record.
    pub fn balance(&self, former: Option<&Self>) -> Statement {
        let mut gaps = Vec::new();
        let then = former.map(|former| self.continued(former, &mut gaps)).unwrap_or_default();
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
        // Over a period the queue tells what was added. Without one, what workers that are gone had
        // sent there is no gap any more once it is back.
        let retrying = if former.is_some() {
            retrying(now.values()) - retrying(then.values())
        } else {
            total.to_retry
        };
        let stayed = |parked: fn(&Figures) -> i64| {
            let of = |figures: &BTreeMap<&AccountName, Figures>| {
                figures.values().map(parked).sum::<i64>()
            };
            // Without a beginning nobody counted what had lain there before, and was sent again
            // since.
            if former.is_some() { of(&now) - of(&then) } else { of(&now).max(0) }
        };
        let counted = Queued {
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

    /// What the workers that still run had counted then; and names those that do not.
    fn continued<'f>(
        &self,
        former: &'f Self,
        gaps: &mut Vec<Gap>,
    ) -> BTreeMap<&'f AccountName, Figures> {
        let mut going_on = Vec::new();
        for then in &former.workers {
            let of_that_name = self
                .workers
                .iter()
                .filter(|now| now.worker == then.worker)
                .max_by_key(|now| now.started_at);
            let (worker, since) = (then.worker.clone(), then.at);
            match of_that_name {
                Some(now) if now.started_at == then.started_at => going_on.push(then),
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
        sum(going_on)
    }

    /// Counters against queues, both over the same time. Where a queue moved while the workers were
    /// asked, anything between its two depths will do. Tells whether there was anything to
    /// compare with.
    fn compare(&self, former: Option<&Self>, counted: Queued, gaps: &mut Vec<Gap>) -> bool {
        let empty = Looks { before: Queues::default(), after: Queues::default() };
        let Some((now, then)) = self.queues.zip(former.map_or(Some(empty), |former| former.queues))
        else {
            return false;
        };
        let added = |depth: fn(&Queues) -> u64| {
            let (now, then) = (now.range(depth), then.range(depth));
            (now.0 - then.1, now.1 - then.0)
        };
        // What a retry queue has released is on its way back until a worker takes it out of its
        // shard.
        let ((fewest, most), waiting) =
            (added(|queues| queues.retry), added(|queues| queues.waiting));
        let in_retry = (fewest + waiting.0.min(0), most + waiting.1.max(0));
        for (place, counted, (fewest, most)) in [
            (QueueKind::Retry, counted.retry, in_retry),
            (QueueKind::Parked, counted.parked, added(|queues| queues.parked)),
            (QueueKind::Rejected, counted.rejected, added(|queues| queues.rejected)),
        ] {
            if counted < fewest {
                gaps.push(Gap::More { place, hits: fewest - counted });
            } else if counted > most {
                gaps.push(Gap::Fewer { place, hits: counted - most });
            }
        }
        true
    }
}

/// What the counters say of the queues that hits stay in.
#[derive(Debug, Clone, Copy)]
struct Queued {
    retry: i64,
    parked: i64,
    rejected: i64,
}

/// By name, over all workers.
fn sum<'b>(workers: impl IntoIterator<Item = &'b Books>) -> BTreeMap<&'b AccountName, Figures> {
    let mut sums: BTreeMap<&AccountName, Figures> = BTreeMap::new();
    for account in workers.into_iter().flat_map(|books| &books.accounts) {
        *sums.entry(&account.name).or_default() += &account.figures;
    }
    sums
}

/// Sent to a retry, less what came back.
fn retrying<'f>(figures: impl IntoIterator<Item = &'f Figures>) -> i64 {
    figures.into_iter().map(|figures| signed(figures.retried) - signed(figures.came_back)).sum()
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl StatementRow {
    /// What happened between two moments of the same counters.
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

    /// In distinct hits. A hit that comes out of a retry queue, or again, although none of these
    /// counters sent it there or gave it back, was in the hands of a worker that is gone: here
    /// it enters.
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

impl Looks {
    /// Fewest and most.
    fn range(&self, depth: fn(&Queues) -> u64) -> (i64, i64) {
        let [before, after] = [&self.before, &self.after].map(|queues| signed(depth(queues)));
        (before.min(after), before.max(after))
    }
}

#[cfg(test)]
mod tests;
