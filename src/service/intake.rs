//! A message → what a lane can send, or what is wrong with it: decode, validate, encode.

use std::hash::{DefaultHasher, Hash, Hasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use super::books::Account;
use super::config::Settings;
use super::rules::source::RuleSet;
use super::settler::{Held, WorkerContext};
use crate::domain::books;
use crate::domain::hit::{self, RawHit};
use crate::domain::plan::FieldRole;
use crate::domain::request::{self, Api};
use crate::domain::rule::Rule;
use crate::domain::validate::{self, CheckedHit, Context, Validation, Violation};
use crate::domain::visits::Visits;

/// Visitors whose visit dimensions are remembered: about 3 MB, and at most twice that.
const VISITORS: usize = 30_000;

/// Applies the rules in force.
#[derive(Debug)]
pub struct Intake {
    office: Arc<WorkerContext>,
    validation: Validation,
    default_site: Option<String>,
    api: Api,
    has_token: bool,
    /// Visit dimensions of late, against change within a visit.
    visits: Mutex<Visits>,
}

/// A hit that can be sent.
#[derive(Debug)]
pub struct Prepared {
    /// Which lane: the visitor's. Any number; the relay knows how many there are.
    pub lane: usize,
    /// In the form of its [`Api`].
    pub encoded: Vec<u8>,
    /// Matomo's site.
    pub idsite: String,
    /// The time that is sent.
    pub cdt: Timestamp,
}

impl Intake {
    /// With these settings.
    pub fn new(settings: &Settings, office: Arc<WorkerContext>, has_token: bool) -> Self {
        Self {
            office,
            validation: settings.validation,
            default_site: settings.matomo.site_id.clone(),
            api: settings.matomo.api,
            has_token,
            visits: Mutex::new(Visits::new(VISITORS, RandomState::new())),
        }
    }

    /// Decodes, validates and encodes; and finds out whose hit it is.
    ///
    /// # Errors
    /// Every violation of a hit that may not be sent.
    pub fn prepare(&self, held: &mut Held) -> Result<Prepared, Vec<Violation>> {
        let rule_set = self.office.rules.current();
        let (account, outcome) = match hit::decode(held.body(), held.content_type()) {
            Ok(raw) => self.judge(&rule_set, &raw, held),
            Err(error) => {
                let violations = vec![Violation::from(error)];
                self.office.metrics.violated(&violations);
                (self.office.ledger.nobodys(), Err(violations))
            }
        };
        account.checked(outcome.is_err());
        held.counts_for(account);
        outcome
    }

    /// Finds out whose hit it is that needs no check, because it was stored before.
    pub fn recognise(&self, held: &mut Held) {
        let account = match hit::decode(held.body(), held.content_type()) {
            Ok(raw) => self.account(&self.office.rules.current(), &raw, None),
            Err(_) => self.office.ledger.nobodys(),
        };
        held.counts_for(account);
    }

    /// Whose hit it is, and what becomes of it.
    fn judge(
        &self,
        rule_set: &RuleSet,
        raw: &RawHit<'_>,
        held: &Held,
    ) -> (Arc<Account>, Result<Prepared, Vec<Violation>>) {
        let plan = &rule_set.plan;
        let context = Context {
            first_seen: held.past().first_failed_at.unwrap_or_else(Timestamp::now),
            default_site: self.default_site.as_deref(),
            sent_at: held.sent_at(),
            has_token: self.has_token,
            sender: rule_set.sender(held.sender()),
        };
        let mut verdict = validate::validate(plan, raw, context);
        let mut visits = self.visits.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = verdict.hit.as_ref().map(|hit| visits.snapshot(plan, hit));
        if let Some(snapshot) = &snapshot {
            verdict.violations.extend(visits.changed(plan, snapshot));
        }
        self.office.metrics.violated(&verdict.violations);
        // What a sender that may not send it claims is nobody's.
        let forged = verdict
            .violations
            .iter()
            .any(|v| matches!(v.rule, Rule::WrongTenant | Rule::UnknownTenant));
        let account = if forged {
            self.office.ledger.nobodys()
        } else {
            self.account(rule_set, raw, verdict.hit.as_ref())
        };
        let outcome = match verdict.hit {
            Some(hit) if self.validation.passes(plan, &verdict.violations) => {
                if let Some(snapshot) = snapshot {
                    visits.keep(snapshot);
                }
                drop(visits);
                let mut hasher = DefaultHasher::new();
                hit.uid.hash(&mut hasher);
                let lane = usize::try_from(hasher.finish() % (1 << 16)).unwrap_or_default();
                let encoded = request::encode(self.api, plan, &hit);
                Ok(Prepared { lane, encoded, idsite: hit.idsite.into_owned(), cdt: hit.cdt })
            }
            _ => Err(verdict.violations),
        };
        (account, outcome)
    }

    /// Looked up by the values as they were checked, or else as they were sent.
    fn account(
        &self,
        rule_set: &RuleSet,
        raw: &RawHit<'_>,
        hit: Option<&CheckedHit<'_>>,
    ) -> Arc<Account> {
        let named = |role: FieldRole| match hit {
            Some(hit) => rule_set
                .plan
                .role_index(role)
                .and_then(|index| hit.values.get(index))
                .and_then(|value| value.as_deref()),
            None => raw.text(role.code()),
        };
        let site = hit
            .map(|hit| hit.idsite.as_ref())
            .or_else(|| named(FieldRole::Site))
            .or(self.default_site.as_deref());
        let [exploitant, plateforme] = [FieldRole::Exploitant, FieldRole::Plateforme]
            .map(|place| rule_set.listed(place, named(place)));
        self.office.ledger.account(exploitant, plateforme, books::site(site))
    }
}
