//! A message → what a lane can send, or what is wrong with it: decode, validate, encode.

use std::hash::{DefaultHasher, Hash, Hasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use super::config::Settings;
use super::rules::source::Book;
use super::settler::{Held, Office};
use crate::domain::hit::{self, RawHit};
use crate::domain::plan::Place;
use crate::domain::request::{self, Api};
use crate::domain::validate::{self, Context, Validation, Violation};
use crate::domain::visits::Visits;

/// Visitors whose visit dimensions are remembered: about 3 MB, and at most twice that.
const VISITORS: usize = 30_000;

/// Applies the rules in force.
#[derive(Debug)]
pub struct Intake {
    office: Arc<Office>,
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
    pub fn new(settings: &Settings, office: Arc<Office>, has_token: bool) -> Self {
        Self {
            office,
            validation: settings.validation,
            default_site: settings.matomo.site_id.clone(),
            api: settings.matomo.api,
            has_token,
            visits: Mutex::new(Visits::new(VISITORS, RandomState::new())),
        }
    }

    /// Decodes, validates and encodes.
    ///
    /// # Errors
    /// Every violation of a hit that may not be sent.
    pub fn prepare(&self, held: &Held) -> Result<Prepared, Vec<Violation>> {
        let book = self.office.rules.book();
        let (exploitant, outcome) = match hit::decode(held.body(), held.content_type()) {
            Ok(raw) => self.judge(&book, &raw, held),
            Err(error) => {
                let violations = vec![Violation::from(error)];
                self.office.metrics.violated(&violations);
                (None, Err(violations))
            }
        };
        self.office.metrics.checked(exploitant.as_deref(), outcome.is_err());
        outcome
    }

    /// Whose hit it is, for the counters, and what becomes of it.
    fn judge(&self, book: &Book, raw: &RawHit<'_>, held: &Held) -> (Option<String>, Result<Prepared, Vec<Violation>>) {
        let plan = &book.plan;
        let context = Context {
            first_seen: held.past().first_failed_at.unwrap_or_else(Timestamp::now),
            default_site: self.default_site.as_deref(),
            sent_at: held.sent_at(),
            has_token: self.has_token,
            sender: book.sender(held.sender()),
        };
        let mut verdict = validate::validate(plan, raw, context);
        let mut visits = self.visits.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hit) = &verdict.hit {
            verdict.violations.extend(visits.changed(plan, hit));
        }
        self.office.metrics.violated(&verdict.violations);
        // As it was checked: what a sender that may not send it claims is nobody's.
        let of = plan.place(Place::Exploitant).zip(verdict.hit.as_ref());
        let named = of.and_then(|(index, hit)| hit.values.get(index)).and_then(|value| value.as_deref());
        let exploitant = book.exploitant(named).map(str::to_owned);
        let outcome = match verdict.hit {
            Some(hit) if self.validation.passes(plan, &verdict.violations) => {
                visits.keep(plan, &hit);
                drop(visits);
                let mut hasher = DefaultHasher::new();
                hit.uid.hash(&mut hasher);
                let lane = usize::try_from(hasher.finish() % (1 << 16)).unwrap_or_default();
                let encoded = request::encode(self.api, plan, &hit);
                Ok(Prepared { lane, encoded, idsite: hit.idsite.into_owned(), cdt: hit.cdt })
            }
            _ => Err(verdict.violations),
        };
        (exploitant, outcome)
    }
}
