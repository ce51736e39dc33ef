//! The worker's side of the daily balance: an [`AccountCounters`] for whom each hit counts, looked
//! up once and carried with the hit.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use rustc_hash::FxHashMap;

use super::telemetry::Metrics;
use crate::domain::books::{self, AccountName, Arrival, Books, Figures, OTHER};
use crate::domain::plan::Plan;
use crate::domain::settle::Settlement;

/// Accounts with a site of their own. A sender that makes up more is counted under the site
/// `other`, and so bounded again by the reference lists; beyond twice as many in all, everything
/// new is `other`.
const MOST: usize = 1_000;

/// Whose hits, at hand for those that count them.
#[derive(Debug)]
pub struct AccountCounters {
    name: AccountName,
    /// One lock for all, so that they close whenever somebody looks. It is held for an addition.
    figures: Mutex<Figures>,
    checked: Counter,
    rejected: Counter,
}

type ByName = FxHashMap<Box<str>, FxHashMap<Box<str>, FxHashMap<Box<str>, Arc<AccountCounters>>>>;

/// Every account of this worker.
#[derive(Debug)]
pub struct Ledger {
    worker: String,
    started_at: Timestamp,
    metrics: Arc<Metrics>,
    /// Of hits that nobody can read, and of names that nobody knows.
    nobodys: Arc<AccountCounters>,
    accounts: RwLock<(ByName, usize)>,
}

impl Ledger {
    /// Empty books of this worker.
    pub fn new(worker: String, metrics: Arc<Metrics>) -> Self {
        let name = AccountName {
            exploitant: OTHER.to_owned(),
            plateforme: OTHER.to_owned(),
            idsite: OTHER.to_owned(),
        };
        let nobodys = Arc::new(AccountCounters::new(name, &metrics));
        let mut accounts = (ByName::default(), 0);
        put(&mut accounts, nobodys.clone());
        Self {
            worker,
            started_at: whole_second(Timestamp::now()),
            metrics,
            nobodys,
            accounts: RwLock::new(accounts),
        }
    }

    /// The account of hits that nobody can read.
    pub fn nobodys(&self) -> Arc<AccountCounters> {
        self.nobodys.clone()
    }

    /// The account of these names, which come from closed lists; none stands for `other`.
    pub fn account(
        &self,
        exploitant: Option<&str>,
        plateforme: Option<&str>,
        idsite: Option<&str>,
    ) -> Arc<AccountCounters> {
        let [exploitant, plateforme, idsite] =
            [exploitant, plateforme, idsite].map(|name| name.unwrap_or(OTHER));
        if let Some(known) = get(
            &self.accounts.read().unwrap_or_else(PoisonError::into_inner).0,
            exploitant,
            plateforme,
            idsite,
        ) {
            return known;
        }
        let mut accounts = self.accounts.write().unwrap_or_else(PoisonError::into_inner);
        let idsite = if accounts.1 < MOST { idsite } else { OTHER };
        if let Some(known) = get(&accounts.0, exploitant, plateforme, idsite) {
            return known;
        }
        if accounts.1 >= 2 * MOST {
            return self.nobodys();
        }
        let name = AccountName {
            exploitant: exploitant.to_owned(),
            plateforme: plateforme.to_owned(),
            idsite: idsite.to_owned(),
        };
        let account = Arc::new(AccountCounters::new(name, &self.metrics));
        put(&mut accounts, account.clone());
        account
    }

    /// Every account that has counted anything, each closed in itself.
    pub fn books(&self) -> Books {
        let accounts: Vec<Arc<AccountCounters>> = {
            let accounts = self.accounts.read().unwrap_or_else(PoisonError::into_inner);
            accounts
                .0
                .values()
                .flat_map(FxHashMap::values)
                .flat_map(FxHashMap::values)
                .cloned()
                .collect()
        };
        let look = |account: Arc<AccountCounters>| {
            let figures = account.figures.lock().unwrap_or_else(PoisonError::into_inner).clone();
            books::Account { name: account.name.clone(), figures }
        };
        let mut accounts: Vec<_> =
            accounts.into_iter().map(look).filter(|account| account.figures.received > 0).collect();
        accounts.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Books {
            worker: self.worker.clone(),
            started_at: self.started_at,
            at: whole_second(Timestamp::now()),
            accounts,
        }
    }
}

impl AccountCounters {
    fn new(name: AccountName, metrics: &Metrics) -> Self {
        let [checked, rejected] = metrics.of_exploitant(&name.exploitant);
        Self { name, figures: Mutex::default(), checked, rejected }
    }

    /// A hit came in.
    pub fn received(&self, arrival: Arrival) {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner).receive(arrival);
    }

    /// It was checked against the plan.
    pub fn checked(&self, rejected: bool) {
        self.checked.inc();
        if rejected {
            self.rejected.inc();
        }
    }

    /// It has its fate.
    pub fn settled(&self, plan: &Plan, settlement: &Settlement) {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner).settle(plan, settlement);
    }

    /// It goes to Matomo again, which may have stored it.
    pub fn doubted(&self) {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner).doubtful += 1;
    }
}

fn get(
    accounts: &ByName,
    exploitant: &str,
    plateforme: &str,
    idsite: &str,
) -> Option<Arc<AccountCounters>> {
    accounts.get(exploitant)?.get(plateforme)?.get(idsite).cloned()
}

fn put((accounts, count): &mut (ByName, usize), account: Arc<AccountCounters>) {
    let AccountName { exploitant, plateforme, idsite } = &account.name;
    let of_exploitant = accounts.entry(exploitant.as_str().into()).or_default();
    of_exploitant
        .entry(plateforme.as_str().into())
        .or_default()
        .insert(idsite.as_str().into(), account.clone());
    *count += 1;
}

/// Enough to tell two starts apart, and easier to read.
fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        Ledger::new("w".to_owned(), Metrics::new(2))
    }

    #[test]
    fn an_account_is_made_once_and_told_when_it_counted() {
        let ledger = ledger();
        let account = ledger.account(Some("A"), Some("P"), Some("1"));
        assert!(Arc::ptr_eq(&account, &ledger.account(Some("A"), Some("P"), Some("1"))));
        assert!(Arc::ptr_eq(&ledger.nobodys(), &ledger.account(None, None, None)));
        account.received(Arrival::First);
        let names: Vec<_> =
            ledger.books().accounts.into_iter().map(|account| account.name.to_string()).collect();
        assert_eq!(names, ["A/P/1"]);
    }

    #[test]
    fn names_of_hostile_making_stay_bounded() {
        let ledger = ledger();
        for site in 0..3 * MOST {
            ledger.account(Some("A"), Some("P"), Some(&site.to_string())).received(Arrival::First);
        }
        assert_eq!(ledger.account(Some("A"), Some("P"), Some("new")).name.to_string(), "A/P/other");
        for exploitant in 0..3 * MOST {
            ledger.account(Some(&exploitant.to_string()), None, Some("1")).received(Arrival::First);
        }
        assert_eq!(ledger.account(Some("new"), None, None).name.to_string(), "other/other/other");
        let books = ledger.books();
        assert_eq!(books.accounts.len(), 2 * MOST);
        assert_eq!(
            books.accounts.iter().map(|account| account.figures.received).sum::<u64>(),
            6 * MOST as u64,
            "none is lost"
        );
    }

    #[test]
    fn every_look_at_a_busy_account_closes() {
        let ledger = Arc::new(ledger());
        let (account, plan) =
            (ledger.account(Some("A"), None, None), Plan::built_in().expect("plan"));
        let busy = std::thread::spawn(move || {
            for _ in 0..100_000 {
                account.received(Arrival::First);
                account.settled(&plan, &Settlement::Release);
            }
        });
        while !busy.is_finished() {
            let books = ledger.books();
            assert!(
                books
                    .accounts
                    .iter()
                    .all(|account| account.figures.accounted() == account.figures.received)
            );
        }
        busy.join().expect("counted");
        assert_eq!(ledger.books().accounts[0].figures.released, 100_000);
    }
}
