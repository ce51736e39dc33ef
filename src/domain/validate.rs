//! Checks a hit against the plan. The [`Verdict`] has every violation, not only the first, each
//! with a stable code.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Serialize;
use smallvec::SmallVec;

use super::hit::{self, DecodeError, RawHit};
use super::max_age::MaxAge;
use super::plan::{Field, List, Plan};
use super::rule::{Language, Rule, Severity};
use super::tenant::Sender;

mod characters;
mod check;
mod effects;
mod naming;
mod normalise;
mod warnings;

pub use characters::visible;

use check::HitCheck;

/// What the check needs to know beside the hit.
#[derive(Debug, Clone, Copy)]
pub struct Context<'c> {
    /// When the relay first saw the hit, which is the latest time that its `cdt` can be.
    pub first_seen: Timestamp,
    /// The site of hits without `idsite` (`MATOMO_SITE_ID`).
    pub default_site: Option<&'c str>,
    /// The time that the AMQP message carries, which is the time of hits without `cdt`.
    pub sent_at: Option<Timestamp>,
    /// Whether there is a token, with which hits over the age limit can be delivered.
    pub has_token: bool,
    /// The age from which on Matomo wants it.
    pub max_age: MaxAge,
    /// Who sent the message.
    pub sender: Sender<'c>,
    /// The routing key of the AMQP message; `None` where there is no message, as in a file.
    pub routing_key: Option<&'c str>,
}

impl Context<'_> {
    /// Makes the context of a hit that was first seen at this time, and of which nothing else is
    /// known.
    pub fn at(first_seen: Timestamp) -> Self {
        Self {
            first_seen,
            default_site: None,
            sent_at: None,
            has_token: false,
            max_age: MaxAge::default(),
            sender: Sender::Unchecked,
            routing_key: None,
        }
    }
}

/// Which rules a hit breaks, and what can be sent of it.
#[derive(Debug)]
pub struct Verdict<'h> {
    /// Every violation, in the order of the plan's fields.
    pub violations: Vec<Violation>,
    /// What can be sent to Matomo, whether there are errors or not. It is `None` if the hit has no
    /// visitor or no site, because Matomo would merge such a hit into somebody else's visit or
    /// refuse it; and if its sender may not send it.
    pub hit: Option<CheckedHit<'h>>,
}

/// The values of a hit in the order of the plan's fields.
pub type Values<'h> = SmallVec<[Option<Cow<'h, str>>; hit::USUAL_FIELDS]>;

/// A hit in the plan's order, normalised where its meaning is certain.
#[derive(Debug)]
pub struct CheckedHit<'h> {
    /// One place for each field of the plan, in the plan's order. The request supplies `rec`,
    /// `apiv`, `rand` and `cdt` itself.
    pub values: Values<'h>,
    /// Matomo's site.
    pub idsite: Cow<'h, str>,
    /// The visitor, whose hits must not overtake each other.
    pub uid: Cow<'h, str>,
    /// The time to send, which is never later than when the hit was first seen.
    pub cdt: Timestamp,
    /// Whether the values that are borrowed from the message are known to hold nothing that JSON
    /// would escape. If not, nobody has looked. To look again costs a twelfth of all that is done
    /// with a hit before it is sent.
    pub(super) is_plain: bool,
}

/// A broken rule. It carries no personal data: values are in it only if they are meant to come from
/// a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule that is broken.
    pub rule: Rule,
    /// The field, by the RFTI's name; `None` for the message as a whole.
    pub field: Option<String>,
    /// What was found, if that may be shown.
    pub value: Option<String>,
    /// The nearest legal value, or the one that is sent instead.
    pub suggestion: Option<String>,
    /// The limit that was passed.
    pub max: Option<usize>,
    /// What was measured against the limit, in characters, bytes or seconds.
    pub length: Option<i64>,
}

/// A violation as `x-dnma-violations` and JSON reports carry it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The stable code of the rule.
    pub code: &'static str,
    /// How severe the violation is, which decides whether it rejects the hit.
    pub severity: Severity,
    /// The field, by the RFTI's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The sentence for people.
    pub message: String,
}

/// Which violations let a hit pass (`VALIDATION`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validation {
    /// Everything that can be sent is delivered; violations are only counted.
    Observe,
    /// Hits with errors are rejected, and those with warnings delivered.
    Filter,
    /// Hits with warnings are rejected too.
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

/// Whether a value seems to name a person, and so must not be shown to anybody.
pub fn names_person(value: &str) -> bool {
    warnings::personal_data(value).is_some()
}

/// Checks a hit against the plan.
pub fn validate<'h>(plan: &Plan, hit: &'h RawHit<'_>, context: Context<'_>) -> Verdict<'h> {
    let mut check = HitCheck::new(plan);
    check.read_fields(hit);
    if let Sender::Tenant(tenant) = context.sender {
        check.fill_in_defaults(tenant);
    }
    check.normalise();
    check.check_mandatory(&context);
    check.check_lists();
    let cdt = check.check_time(&context);
    check.add_warnings();
    check.into_verdict(&context, cdt)
}

/// Whether a value is nothing but white space. The first byte of nearly every value says that it is
/// not, so that it need not be trimmed.
fn is_blank(value: &str) -> bool {
    !value.starts_with(|first: char| first.is_ascii_graphic()) && value.trim().is_empty()
}

impl Violation {
    /// Makes a violation of a rule in a field.
    pub(super) fn of(rule: Rule, field: &str) -> Self {
        Self { field: Some(field.to_owned()), ..Self::of_message(rule) }
    }

    /// Makes a violation of a rule by a message as a whole.
    pub fn of_message(rule: Rule) -> Self {
        Self { rule, field: None, value: None, suggestion: None, max: None, length: None }
    }

    /// Makes the violation which says that a field is not checked because its list is not loaded.
    pub fn list_not_loaded(field: &Field, list: &List) -> Self {
        Self { value: Some(list.name.clone()), ..Self::of(Rule::ListNotLoaded, &field.name) }
    }

    /// Writes the sentence for people, from the plan's texts.
    pub fn message(&self, plan: &Plan, language: Language) -> String {
        // What these rules have found is put in the code's own words, which have to be translated;
        // that of all others is the sender's.
        let own = matches!(
            self.rule,
            Rule::Malformed
                | Rule::ForeignForm
                | Rule::InvisibleCharacter
                | Rule::WrongType
                | Rule::PersonalData
                | Rule::UidNotPseudonymised
        );
        let translated = |words: &Option<String>| match words.as_deref() {
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
            .replace("{suggestion}", translated(&self.suggestion).as_deref().unwrap_or_default())
            .replace("{max}", &self.max.map(|max| max.to_string()).unwrap_or_default())
            .replace("{length}", &self.length.map(|length| length.to_string()).unwrap_or_default())
            .replace("{value}", translated(&self.value).as_deref().unwrap_or_default())
            .replace('\u{1}', "{")
            .replace('\u{2}', "}")
    }

    /// Writes the violation as headers and JSON reports carry it.
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
            DecodeError::Foreign(form) => Self {
                value: Some(form.name().to_owned()),
                suggestion: Some(form.remedy().to_owned()),
                ..Self::of_message(Rule::ForeignForm)
            },
            DecodeError::Empty
            | DecodeError::NotUtf8
            | DecodeError::Json { .. }
            | DecodeError::UnknownForm => {
                Self { value: Some(error.to_string()), ..Self::of_message(Rule::Malformed) }
            }
        }
    }
}
