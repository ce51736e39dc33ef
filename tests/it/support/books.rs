//! The books: what was published, and where each of it is now, read from the real queues and from
//! what Matomo stored.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use anyhow::{Context, ensure};

use super::eventually;
use super::hits;
use super::matomo::Matomo;
use super::queues::Queues;
use super::worker::{self, Worker};

/// Every message that was published. Each has an identity of its own, `visitor/number`, in the
/// order of its visitor.
#[derive(Default)]
pub struct Books {
    /// By routing key and body: a body that changed on its way is nobody's.
    messages: HashMap<(String, Vec<u8>), String>,
    /// How many hits each visitor has.
    numbers: HashMap<String, usize>,
}

/// Where the published messages are. A message stored by Matomo counts as delivered wherever else a
/// copy of it may be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Balance {
    pub published: usize,
    pub delivered: usize,
    /// In the shards.
    pub waiting: usize,
    pub retrying: usize,
    pub parked: usize,
    pub rejected: usize,
    /// Nowhere.
    pub lost: usize,
    /// Stored more than once: how many times too often.
    pub repeated: usize,
    /// First stored behind a later hit of its visitor.
    pub out_of_order: usize,
    /// Times that one visitor was in two requests at once.
    pub overlaps: usize,
}

/// What a fault may cost. Loss is never allowed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Allowed {
    pub repeated: usize,
    pub out_of_order: usize,
    pub overlaps: usize,
}

impl Allowed {
    pub const ANYTHING: Self =
        Self { repeated: usize::MAX, out_of_order: usize::MAX, overlaps: usize::MAX };
}

/// Waits until nothing moves any more and so many messages are accounted for.
pub async fn at_rest<W: Borrow<Worker>>(
    published: usize,
    matomo: &Matomo,
    queues: &Queues,
    places: &Places<'_>,
    workers: &[W],
    within: Duration,
) -> anyhow::Result<()> {
    let rests = async || {
        let settled = matomo.copies().len()
            + queues.ready("parked").await?
            + queues.ready("rejected").await?;
        // Asked last: what was stored a moment ago may still be in flight.
        let mut moving = queues.ready_in_shards(places.shards).await?;
        for delay in places.delays {
            moving += queues.ready(&format!("retry.{delay}")).await?;
        }
        moving += worker::sum_of(workers, "in_flight").await? as usize;
        anyhow::Ok(moving == 0 && settled >= published)
    };
    eventually("everything comes to rest", within, async || rests().await.unwrap_or(false)).await
}

/// The names of the queues that may hold hits.
pub struct Places<'p> {
    pub shards: u16,
    /// As in `RETRY_DELAYS`.
    pub delays: &'p [&'p str],
}

pub const EIGHT_SHARDS: Places<'_> = Places { shards: 8, delays: &[] };

impl Books {
    /// So many more hits, of so many visitors in turn.
    pub fn load(&mut self, count: usize, visitors: usize) -> Vec<(String, Vec<u8>)> {
        let turn = self.messages.len();
        (turn..turn + count).map(|n| self.hit(&hits::visitor(n % visitors))).collect()
    }

    /// One more hit of a visitor.
    pub fn hit(&mut self, visitor: &str) -> (String, Vec<u8>) {
        let number = self.numbers.entry(visitor.to_owned()).or_default();
        let id = format!("{visitor}/{number}");
        *number += 1;
        let message = (visitor.to_owned(), hits::valid(visitor, &id).to_string().into_bytes());
        self.messages.insert(message.clone(), id);
        message
    }

    /// A message that breaks the plan, or is none at all; it must differ from every other.
    pub fn broken(&mut self, key: &str, body: Vec<u8>) -> (String, Vec<u8>) {
        let message = (key.to_owned(), body);
        let id = format!("broken/{}", self.messages.len());
        self.messages.insert(message.clone(), id);
        message
    }

    pub fn published(&self) -> usize {
        self.messages.len()
    }

    /// Reads every queue and Matomo's record. To be asked when no worker runs any more: what a
    /// worker holds is in no queue.
    pub async fn balance(
        &self,
        matomo: &Matomo,
        queues: &Queues,
        places: &Places<'_>,
    ) -> anyhow::Result<Balance> {
        let mut balance = Balance { published: self.published(), ..self.stored(matomo)? };
        let mut found: HashSet<String> =
            matomo.ledger().stored.iter().map(|hit| hit.id.clone()).collect();
        let shards = (0..places.shards).map(|shard| (shard.to_string(), QueueKind::Waiting));
        let retries =
            places.delays.iter().map(|delay| (format!("retry.{delay}"), QueueKind::Retrying));
        let dead = [
            ("parked".to_owned(), QueueKind::Parked),
            ("rejected".to_owned(), QueueKind::Rejected),
        ];
        for (queue, place) in shards.chain(retries).chain(dead) {
            for message in queues.list(&queue).await? {
                let text =
                    String::from_utf8_lossy(&message.body).chars().take(80).collect::<String>();
                let id = self.messages.get(&(message.key, message.body));
                let id = id.with_context(|| {
                    format!("{queue} holds a message that nobody published: {text}")
                })?;
                if found.insert(id.clone()) {
                    *match place {
                        QueueKind::Waiting => &mut balance.waiting,
                        QueueKind::Retrying => &mut balance.retrying,
                        QueueKind::Parked => &mut balance.parked,
                        QueueKind::Rejected => &mut balance.rejected,
                    } += 1;
                }
            }
        }
        balance.lost = balance.published - found.len();
        Ok(balance)
    }

    /// What Matomo's record alone tells.
    fn stored(&self, matomo: &Matomo) -> anyhow::Result<Balance> {
        let known: HashSet<&String> = self.messages.values().collect();
        let record = matomo.ledger();
        let mut seen = HashSet::new();
        let mut latest: HashMap<&str, usize> = HashMap::new();
        let mut balance =
            Balance { overlaps: usize::try_from(record.overlaps)?, ..Balance::default() };
        for stored in &record.stored {
            ensure!(
                known.contains(&stored.id),
                "Matomo stored {:?}, which nobody published",
                stored.id
            );
            if !seen.insert(&stored.id) {
                balance.repeated += 1;
                continue;
            }
            let number: usize = stored
                .id
                .rsplit('/')
                .next()
                .and_then(|number| number.parse().ok())
                .context("a number")?;
            let last = latest.entry(&stored.uid).or_default();
            balance.out_of_order += usize::from(number < *last);
            *last = number.max(*last);
        }
        balance.delivered = seen.len();
        Ok(balance)
    }
}

#[derive(Clone, Copy)]
enum QueueKind {
    Waiting,
    Retrying,
    Parked,
    Rejected,
}

impl Balance {
    /// Fails on any loss, and on more disorder than the fault excuses.
    pub fn check(&self, allowed: Allowed) -> anyhow::Result<()> {
        ensure!(self.lost == 0, "{} hits are LOST: {self}", self.lost);
        ensure!(
            self.repeated <= allowed.repeated,
            "more than {} hits repeated: {self}",
            allowed.repeated
        );
        ensure!(
            self.out_of_order <= allowed.out_of_order,
            "more than {} hits out of order: {self}",
            allowed.out_of_order
        );
        ensure!(
            self.overlaps <= allowed.overlaps,
            "more than {} times one visitor in two requests: {self}",
            allowed.overlaps
        );
        Ok(())
    }

    /// Nothing is on its way any more, and nothing was set aside.
    pub fn all_delivered(&self) -> anyhow::Result<()> {
        ensure!(self.delivered == self.published, "not everything was delivered: {self}");
        Ok(())
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { published, delivered, waiting, retrying, parked, rejected, lost, .. } = self;
        write!(
            f,
            "{published} published = {delivered} delivered + {waiting} waiting + {retrying} \
             retrying + {parked} parked + {rejected} rejected + {lost} lost; {} repeated, {} out \
             of order, {} overlaps",
            self.repeated, self.out_of_order, self.overlaps
        )
    }
}
