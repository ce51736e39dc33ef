//! A message → what a lane can send, or what is wrong with it: decode, validate, encode.

use std::hash::{DefaultHasher, Hash, Hasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::context::WorkerContext;
use super::delivery::Delivery;
use crate::domain::books;
use crate::domain::hit::{self, RawHit};
use crate::domain::max_age::MaxAge;
use crate::domain::plan::FieldRole;
use crate::domain::request::{self, Api};
use crate::domain::rule::Rule;
use crate::domain::validate::{self, CheckedHit, Context, Validation, Verdict, Violation};
use crate::domain::visits::Visits;
use crate::service::books::AccountCounters;
use crate::service::config::Settings;
use crate::service::rules::source::RuleSet;

/// Visitors whose visit dimensions are remembered: about 3 MB, and at most twice that.
const MAX_VISITORS: usize = 30_000;

/// Applies the rules in force.
#[derive(Debug)]
pub struct Intake {
    context: Arc<WorkerContext>,
    /// Which violations reject a hit.
    validation: Validation,
    /// The site of hits that carry none.
    default_site: Option<String>,
    /// The form that hits are encoded in.
    api: Api,
    /// Whether hits over the age limit can be delivered.
    has_token: bool,
    /// The age from which on Matomo wants the token.
    max_age: MaxAge,
    /// The latest visit dimensions of each visitor, by which a change within a visit is seen.
    visits: Mutex<Visits>,
}

/// A hit that can be sent.
#[derive(Debug)]
pub struct Prepared {
    /// Which lane is its visitor's: any number, modulo the number of lanes.
    pub lane: usize,
    /// The hit in the form of its [`Api`].
    pub encoded: Vec<u8>,
    /// Matomo's site.
    pub idsite: String,
    /// The time that is sent.
    pub cdt: Timestamp,
}

impl Intake {
    /// Applies the rules as these settings ask.
    pub fn new(settings: &Settings, context: Arc<WorkerContext>, has_token: bool) -> Self {
        Self {
            context,
            validation: settings.validation,
            default_site: settings.matomo.site_id.clone(),
            api: settings.matomo.api,
            has_token,
            max_age: settings.matomo.max_age,
            visits: Mutex::new(Visits::new(MAX_VISITORS, RandomState::new())),
        }
    }

    /// Decodes, validates and encodes a hit, and counts it for its account.
    ///
    /// # Errors
    /// Every violation of a hit that may not be sent.
    pub fn prepare(&self, delivery: &mut Delivery) -> Result<Prepared, Vec<Violation>> {
        let message = delivery.message();
        let (account, outcome) = match hit::decode(message.body(), message.content_type()) {
            Ok(raw) => self.check(&raw, delivery),
            Err(error) => {
                let violations = vec![Violation::from(error)];
                self.context.metrics.violated(&violations);
                (self.context.ledger.nobodys(), Err(violations))
            }
        };
        account.checked(outcome.is_err());
        delivery.count_for(account);
        outcome
    }

    /// Counts a hit for its account that needs no check, because it was stored before.
    pub fn attribute(&self, delivery: &mut Delivery) {
        let message = delivery.message();
        let account = match hit::decode(message.body(), message.content_type()) {
            Ok(raw) => self.account(delivery.rule_set(), &raw, None),
            Err(_) => self.context.ledger.nobodys(),
        };
        delivery.count_for(account);
    }

    /// For whom the hit counts, and whether it can be sent.
    fn check(
        &self,
        raw: &RawHit<'_>,
        delivery: &Delivery,
    ) -> (Arc<AccountCounters>, Result<Prepared, Vec<Violation>>) {
        let rule_set = delivery.rule_set();
        let context = Context {
            first_seen: delivery.first_seen(),
            default_site: self.default_site.as_deref(),
            sent_at: delivery.message().sent_at(),
            has_token: self.has_token,
            max_age: self.max_age,
            sender: rule_set.sender(delivery.sender()),
            routing_key: Some(delivery.message().routing_key()),
        };
        let mut verdict = validate::validate(&rule_set.plan, raw, context);
        let passes = self.compare_with_visit(rule_set, &mut verdict);
        self.context.metrics.violated(&verdict.violations);
        // What a sender claims that it may not send counts for nobody.
        let is_forged = |v: &Violation| matches!(v.rule, Rule::WrongTenant | Rule::UnknownTenant);
        let account = if verdict.violations.iter().any(is_forged) {
            self.context.ledger.nobodys()
        } else {
            self.account(rule_set, raw, verdict.hit.as_ref())
        };
        let outcome = match verdict.hit {
            Some(hit) if passes => Ok(self.encode(rule_set, hit)),
            _ => Err(verdict.violations),
        };
        (account, outcome)
    }

    /// Adds what changed within the hit's visit to its violations. Returns whether the hit may be
    /// sent; then it is remembered as the latest of its visit.
    fn compare_with_visit(&self, rule_set: &RuleSet, verdict: &mut Verdict<'_>) -> bool {
        let plan = &rule_set.plan;
        let Some(hit) = &verdict.hit else { return false };
        let mut visits = self.visits();
        let snapshot = visits.snapshot(plan, hit);
        verdict.violations.extend(visits.changed(plan, &snapshot));
        let passes = self.validation.passes(plan, &verdict.violations);
        if passes {
            visits.keep(snapshot);
        }
        passes
    }

    fn encode(&self, rule_set: &RuleSet, hit: CheckedHit<'_>) -> Prepared {
        let mut hasher = DefaultHasher::new();
        hit.uid.hash(&mut hasher);
        let lane = usize::try_from(hasher.finish() % (1 << 16)).unwrap_or_default();
        let encoded = request::encode(self.api, &rule_set.plan, &hit);
        Prepared { lane, encoded, idsite: hit.idsite.into_owned(), cdt: hit.cdt }
    }

    /// The account of a hit, by its values as they were checked, or else as they were sent.
    fn account(
        &self,
        rule_set: &RuleSet,
        raw: &RawHit<'_>,
        hit: Option<&CheckedHit<'_>>,
    ) -> Arc<AccountCounters> {
        let named = |role: FieldRole| match hit {
            Some(hit) => {
                let index = rule_set.plan.role_index(role)?;
                hit.values.get(index)?.as_deref()
            }
            None => raw.text(role.code()),
        };
        let checked_site = hit.map(|hit| hit.idsite.as_ref());
        let site = checked_site.or_else(|| named(FieldRole::Site)).or(self.default_site.as_deref());
        // A visitor in the place of the site names no account.
        let site = site.filter(|site| Some(*site) != named(FieldRole::User));
        let [exploitant, plateforme] = [FieldRole::Exploitant, FieldRole::Plateforme]
            .map(|role| rule_set.listed(role, named(role)));
        self.context.ledger.account(exploitant, plateforme, books::site(site))
    }

    fn visits(&self) -> MutexGuard<'_, Visits> {
        self.visits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
