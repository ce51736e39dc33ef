//! Plan + hit + time → [`Verdict`]: every violation of a hit, not the first, each with a stable
//! code.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Serialize;
use smallvec::SmallVec;

use super::hit::{self, DecodeError, RawHit};
use super::plan::{Field, List, Plan};
use super::rule::{Language, Rule, Severity};
use super::tenant::Sender;

mod advise;
mod check;
mod mend;

use check::HitCheck;

/// What the check needs to know beside the hit.
#[derive(Debug, Clone, Copy)]
pub struct Context<'c> {
    /// When the relay first saw the hit: the latest time that its `cdt` can be.
    pub first_seen: Timestamp,
    /// `MATOMO_SITE_ID`: stands in for a missing `idsite`.
    pub default_site: Option<&'c str>,
    /// The time that the AMQP message carries: stands in for a missing `cdt`.
    pub sent_at: Option<Timestamp>,
    /// Hits over 24 h old can be delivered.
    pub has_token: bool,
    /// Who sent the message.
    pub sender: Sender<'c>,
}

impl Context<'_> {
    /// A hit seen at this time, of which nothing else is known.
    pub fn at(first_seen: Timestamp) -> Self {
        Self {
            first_seen,
            default_site: None,
            sent_at: None,
            has_token: false,
            sender: Sender::Unchecked,
        }
    }
}

/// What a hit breaks, and what can be sent of it.
#[derive(Debug)]
pub struct Verdict<'h> {
    /// Every violation, in the order of the plan's fields.
    pub violations: Vec<Violation>,
    /// What Matomo can be sent, errors or not: none when the hit has no visitor or no site,
    /// because Matomo would merge such a hit into somebody else's visit, or refuse it; and
    /// none when its sender may not send it.
    pub hit: Option<CheckedHit<'h>>,
}

/// Values in the order of the plan's fields.
pub type Values<'h> = SmallVec<[Option<Cow<'h, str>>; hit::USUAL_FIELDS]>;

/// A hit in the plan's order, mended where its meaning is certain.
#[derive(Debug)]
pub struct CheckedHit<'h> {
    /// One place per field of the plan, in the plan's order; `rec`, `apiv`, `rand` and `cdt` are
    /// left to the request.
    pub values: Values<'h>,
    /// Matomo's site.
    pub idsite: Cow<'h, str>,
    /// The visitor, whose hits must not overtake each other.
    pub uid: Cow<'h, str>,
    /// The time to send: never later than when the hit was first seen.
    pub cdt: Timestamp,
}

/// One broken rule. It carries no personal data: values only where they are meant to come from a
/// list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// The field, by the RFTI's name; none for the message as a whole.
    pub field: Option<String>,
    /// What was found, where that can be told.
    pub value: Option<String>,
    /// The nearest legal value, or the mended one.
    pub suggestion: Option<String>,
    /// The limit that was passed.
    pub max: Option<usize>,
    /// The measure that passed it: characters, bytes or seconds.
    pub length: Option<i64>,
}

/// A violation as `x-dnma-violations` and JSON reports carry it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Stable code of the rule.
    pub code: &'static str,
    /// Whether it is what rejects a hit.
    pub severity: Severity,
    /// Field by the RFTI's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// For people.
    pub message: String,
}

/// Which rules let a hit pass (`VALIDATION`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validation {
    /// Everything that can be sent is delivered, and counted.
    Observe,
    /// Errors are rejected, warnings delivered.
    Filter,
    /// Warnings are rejected too.
    Strict,
}

impl Validation {
    /// Whether a hit with these violations goes to Matomo.
    pub fn passes(self, plan: &Plan, violations: &[Violation]) -> bool {
        match self {
            // An ENT cannot write into another's figures, whatever else is let through.
            Self::Observe => violations
                .iter()
                .all(|v| !matches!(v.rule, Rule::WrongTenant | Rule::UnknownTenant)),
            Self::Filter => violations.iter().all(|v| plan.severity(v.rule) < Severity::Error),
            Self::Strict => violations.is_empty(),
        }
    }
}

/// The rule that is named as the cause when a hit with these violations is rejected: that of the
/// first error, or else that of the first violation.
pub fn rejecting_rule(plan: &Plan, violations: &[Violation]) -> Rule {
    let first_error = violations.iter().find(|v| plan.severity(v.rule) == Severity::Error);
    first_error.or(violations.first()).map_or(Rule::Malformed, |v| v.rule)
}

/// Whether a value seems to name a person, and so is told to nobody.
pub fn hides(value: &str) -> bool {
    advise::person(value).is_some()
}

/// Checks a hit against the plan.
pub fn validate<'h>(plan: &Plan, hit: &'h RawHit<'_>, context: Context<'_>) -> Verdict<'h> {
    let mut check = HitCheck::new(plan);
    check.read(hit);
    if let Sender::Tenant(tenant) = context.sender {
        check.defaults(tenant);
    }
    check.mend();
    check.present(&context);
    check.lists();
    let cdt = check.cdt(&context);
    check.advise();
    check.conclude(&context, cdt)
}

/// Nothing but white space. Nearly every value shows at its first byte that it is not.
fn is_blank(value: &str) -> bool {
    !value.starts_with(|first: char| first.is_ascii_graphic()) && value.trim().is_empty()
}

impl Violation {
    pub(super) fn of(rule: Rule, field: &str) -> Self {
        Self { field: Some(field.to_owned()), ..Self::of_message(rule) }
    }

    /// What is wrong with a message as a whole.
    pub fn of_message(rule: Rule) -> Self {
        Self { rule, field: None, value: None, suggestion: None, max: None, length: None }
    }

    /// Not wrong, but not checked: the list of this field is not loaded.
    pub fn list_not_loaded(field: &Field, list: &List) -> Self {
        Self { value: Some(list.name.clone()), ..Self::of(Rule::ListNotLoaded, &field.name) }
    }

    /// The sentence for people, from the plan's texts.
    pub fn message(&self, plan: &Plan, language: Language) -> String {
        // These rules tell in the code's own words what was found; all others in the sender's.
        let own = matches!(
            self.rule,
            Rule::Malformed | Rule::WrongType | Rule::PersonalData | Rule::UidNotPseudonymised
        );
        let told = |words: &Option<String>| match words.as_deref() {
            Some(words) if own => Some(plan.translate(words, language)),
            words => words.map(str::to_owned),
        };
        let text = if self.suggestion.is_some() {
            plan.text(self.rule, language)
        } else {
            plan.text_alone(self.rule, language)
        };
        text.replace("{{", "\u{1}")
            .replace("}}", "\u{2}")
            .replace("{field}", self.field.as_deref().unwrap_or_default())
            .replace("{suggestion}", told(&self.suggestion).as_deref().unwrap_or_default())
            .replace("{max}", &self.max.map(|max| max.to_string()).unwrap_or_default())
            .replace("{length}", &self.length.map(|length| length.to_string()).unwrap_or_default())
            .replace("{value}", told(&self.value).as_deref().unwrap_or_default())
            .replace('\u{1}', "{")
            .replace('\u{2}', "}")
    }

    /// The form of headers and JSON reports.
    pub fn report(&self, plan: &Plan, language: Language) -> Report {
        Report {
            code: self.rule.code(),
            severity: plan.severity(self.rule),
            field: self.field.clone(),
            message: self.message(plan, language),
        }
    }
}

impl From<DecodeError> for Violation {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::TooLarge(length) => Self {
                max: Some(hit::MAX_BYTES),
                length: i64::try_from(length).ok(),
                ..Self::of_message(Rule::TooLarge)
            },
            DecodeError::NotAnObject => Self::of_message(Rule::NotAnObject),
            DecodeError::TooManyFields => {
                Self { max: Some(hit::MAX_FIELDS), ..Self::of_message(Rule::TooManyFields) }
            }
            DecodeError::NameTooLong => {
                Self { max: Some(hit::MAX_NAME), ..Self::of_message(Rule::NameTooLong) }
            }
            DecodeError::Empty
            | DecodeError::NotUtf8
            | DecodeError::Json { .. }
            | DecodeError::UnknownForm => {
                Self { value: Some(error.to_string()), ..Self::of_message(Rule::Malformed) }
            }
        }
    }
}
