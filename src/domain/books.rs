//! The books of a worker: what became of the hits of each account (exploitant, plateforme, site).
//!
//! Within a worker every hit that was received has exactly one fate or is in flight, so that an
//! account closes. The [`Statement`] adds up the books of several workers and compares them with
//! the queues of the broker.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::dead::DeadQueue;
use super::plan::Plan;
use super::settle::{Delivered, Settlement};
use super::validate::rejecting_rule;

mod count;
mod gap;
mod statement;

pub use gap::{Gap, QueueKind};
pub use statement::{
    BalanceRecord, QueueReadings, Queues, Since, Statement, StatementLine, StatementRow,
};

/// The name that stands for every value that is not in the reference lists.
pub const OTHER: &str = "other";

/// How many digits the idsite of an account may have. No site has more, since Matomo's column does
/// not hold them.
const MAX_SITE_DIGITS: usize = 10;

/// The name of an account: whose hits it counts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AccountName {
    /// `dimension3`, or `other`.
    pub exploitant: String,
    /// `dimension4`, or `other`.
    pub plateforme: String,
    /// Matomo's site, or `other`.
    pub idsite: String,
}

/// How a hit came to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It came from an ENT.
    First,
    /// It came out of a retry queue.
    CameBack,
    /// An operator sent it again, out of this queue.
    Replayed(DeadQueue),
    /// The broker had given it to a worker before.
    Redelivered,
}

/// What one worker has counted for one account since it started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// Hits that were taken from the broker: the sum of all fates and `in_flight`.
    #[serde(deserialize_with = "count::hits")]
    pub received: u64,
    /// Of these, the hits that came out of a retry queue.
    #[serde(deserialize_with = "count::hits")]
    pub came_back: u64,
    /// Of these, the hits that had been given to a worker before.
    #[serde(deserialize_with = "count::hits")]
    pub redelivered: u64,
    /// Of these, the hits that an operator sent again out of *parked*.
    #[serde(deserialize_with = "count::hits")]
    pub replayed_parked: u64,
    /// Of these, the hits that an operator sent again out of *rejected*.
    #[serde(deserialize_with = "count::hits")]
    pub replayed_rejected: u64,
    /// Hits that are in Matomo.
    #[serde(deserialize_with = "count::hits")]
    pub delivered: u64,
    /// Of these, the hits that had been counted as delivered before, and whose ack was lost.
    #[serde(deserialize_with = "count::hits")]
    pub delivered_before: u64,
    /// Hits that were rejected for breaking the plan, by the code of the first error.
    #[serde(deserialize_with = "count::hits_by_rule")]
    pub rejected: BTreeMap<Cow<'static, str>, u64>,
    /// Hits that were sent to a retry queue.
    #[serde(deserialize_with = "count::hits")]
    pub retried: u64,
    /// Hits that were parked.
    #[serde(deserialize_with = "count::hits")]
    pub parked: u64,
    /// Hits that were given back to the broker unsent.
    #[serde(deserialize_with = "count::hits")]
    pub released: u64,
    /// Hits that were taken from the broker and have no fate yet.
    #[serde(deserialize_with = "count::hits")]
    pub in_flight: u64,
    /// How often a hit was sent again although Matomo may have stored it. This is no fate: such a
    /// hit has one as well.
    #[serde(deserialize_with = "count::hits")]
    pub doubtful: u64,
}

/// An account in a worker's books.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Whose hits it counts.
    #[serde(flatten)]
    pub name: AccountName,
    /// What became of them.
    #[serde(flatten)]
    pub figures: Figures,
}

/// The books of a worker, as it answers `/books.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Books {
    /// The name of the worker, unique among replicas.
    pub worker: String,
    /// When the worker started, with every figure 0.
    pub started_at: Timestamp,
    /// When it answered.
    pub at: Timestamp,
    /// Every account that has counted anything, in the order of their names.
    pub accounts: Vec<Account>,
}

/// Returns the site if it may name an account, which a plain number may.
pub fn site(value: Option<&str>) -> Option<&str> {
    value.filter(|value| {
        (1..=MAX_SITE_DIGITS).contains(&value.len())
            && value.bytes().all(|byte| byte.is_ascii_digit())
    })
}

impl Figures {
    /// Counts a hit that came in.
    pub fn receive(&mut self, arrival: Arrival) {
        self.received += 1;
        self.in_flight += 1;
        match arrival {
            Arrival::First => {}
            Arrival::CameBack => self.came_back += 1,
            Arrival::Replayed(DeadQueue::Parked) => self.replayed_parked += 1,
            Arrival::Replayed(DeadQueue::Rejected) => self.replayed_rejected += 1,
            Arrival::Redelivered => self.redelivered += 1,
        }
    }

    /// Counts the fate of a hit that came in.
    pub fn settle(&mut self, plan: &Plan, settlement: &Settlement) {
        self.in_flight = self.in_flight.saturating_sub(1);
        match settlement {
            Settlement::Delivered(how) => {
                self.delivered += 1;
                self.delivered_before += u64::from(*how == Delivered::Duplicate);
            }
            Settlement::Retry { .. } => self.retried += 1,
            Settlement::Park { .. } => self.parked += 1,
            Settlement::Reject { violations } => {
                *self
                    .rejected
                    .entry(Cow::Borrowed(rejecting_rule(plan, violations).code()))
                    .or_default() += 1;
            }
            Settlement::Release => self.released += 1,
        }
    }

    /// Returns how many hits were rejected, whatever the rule.
    pub fn rejected(&self) -> u64 {
        self.rejected.values().sum()
    }

    /// Returns how many hits have a fate or are in flight. If that is not `received`, hits are
    /// missing.
    pub fn accounted(&self) -> u64 {
        self.delivered
            + self.rejected()
            + self.retried
            + self.parked
            + self.released
            + self.in_flight
    }
}

impl AddAssign<&Figures> for Figures {
    fn add_assign(&mut self, other: &Figures) {
        let Figures {
            received, came_back, redelivered, delivered, delivered_before, rejected, ..
        } = other;
        self.received += received;
        self.came_back += came_back;
        self.redelivered += redelivered;
        self.replayed_parked += other.replayed_parked;
        self.replayed_rejected += other.replayed_rejected;
        self.delivered += delivered;
        self.delivered_before += delivered_before;
        for (rule, hits) in rejected {
            *self.rejected.entry(rule.clone()).or_default() += hits;
        }
        self.retried += other.retried;
        self.parked += other.parked;
        self.released += other.released;
        self.in_flight += other.in_flight;
        self.doubtful += other.doubtful;
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.exploitant, self.plateforme, self.idsite)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::answer::{Failure, Reason};
    use crate::domain::rule::Rule;
    use crate::domain::validate::Violation;

    #[test]
    fn every_fate_closes_the_account_by_one() {
        let plan = Plan::built_in().expect("plan");
        let failure = Failure { reason: Reason::Timeout, status: None };
        let fates = [
            Settlement::Delivered(Delivered::Stored),
            Settlement::Delivered(Delivered::Duplicate),
            Settlement::Retry { step: 0, attempts: 1, failure },
            Settlement::Park { attempts: 3, failure },
            Settlement::Reject { violations: vec![Violation::of_message(Rule::Malformed)] },
            Settlement::Release,
        ];
        let mut figures = Figures::default();
        for arrival in [
            Arrival::First,
            Arrival::CameBack,
            Arrival::Redelivered,
            Arrival::Replayed(DeadQueue::Parked),
        ]
        .iter()
        .cycle()
        .take(fates.len() + 1)
        {
            figures.receive(*arrival);
            assert_eq!(figures.accounted(), figures.received);
        }
        for fate in &fates {
            figures.settle(&plan, fate);
            assert_eq!(figures.accounted(), figures.received, "{fate:?}");
        }
        assert_eq!((figures.in_flight, figures.delivered, figures.delivered_before), (1, 2, 1));
        assert_eq!(figures.rejected.get("malformed"), Some(&1));
        let mut twice = figures.clone();
        twice += &figures;
        assert_eq!((twice.received, twice.accounted(), twice.rejected()), (14, 14, 2));
    }

    #[test]
    fn a_site_is_a_plain_number() {
        for (value, named) in [
            ("1", true),
            ("1234567890", true),
            ("12345678901", false),
            ("", false),
            ("-1", false),
            ("1 ", false),
            ("１", false),
        ] {
            assert_eq!(site(Some(value)).is_some(), named, "{value}");
        }
    }

    #[test]
    fn what_a_worker_answers_is_read_again() {
        let figures = Figures {
            received: 3,
            delivered: 2,
            rejected: BTreeMap::from([("malformed".into(), 1)]),
            ..Figures::default()
        };
        let name = AccountName {
            exploitant: "A".to_owned(),
            plateforme: OTHER.to_owned(),
            idsite: "1".to_owned(),
        };
        let at = "2026-11-24T06:00:00Z".parse().expect("a time");
        let books = Books {
            worker: "relay-0-1".to_owned(),
            started_at: at,
            at,
            accounts: vec![Account { name, figures }],
        };
        let json = serde_json::to_string(&books).expect("writes");
        assert_eq!(serde_json::from_str::<Books>(&json).expect("reads"), books);
        let older = r#"{
            "worker":"w","started_at":"2026-11-24T06:00:00Z","at":"2026-11-24T06:00:00Z",
            "accounts":[{
                "exploitant":"A","plateforme":"B","idsite":"1",
                "received":1,"delivered":1,"from_the_future":7
            }]
        }"#;
        assert_eq!(
            serde_json::from_str::<Books>(older).expect("reads").accounts[0].figures.received,
            1
        );
    }
}
