//! Plan + hit + time → [`Verdict`]: every violation of a hit, not the first, each with a stable code.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Serialize;

use super::cdt::{self, CdtError, Lag};
use super::hit::{self, DecodeError, RawHit, Value};
use super::plan::Plan;
use super::rule::{Language, Rule, Severity};

mod advise;
mod mend;

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
}

/// What a hit breaks, and what can be sent of it.
#[derive(Debug)]
pub struct Verdict<'h> {
    /// Every violation, in the order of the plan's fields.
    pub violations: Vec<Violation>,
    /// What Matomo can be sent, errors or not: none when the hit has no visitor or no site, because Matomo would merge such
    /// a hit into somebody else's visit, or refuse it.
    pub hit: Option<CheckedHit<'h>>,
}

/// A hit in the plan's order, mended where its meaning is certain.
#[derive(Debug)]
pub struct CheckedHit<'h> {
    /// One place per field of the plan, in the plan's order; `rec`, `apiv`, `rand` and `cdt` are left to the request.
    pub values: Vec<Option<Cow<'h, str>>>,
    /// Matomo's site.
    pub idsite: Cow<'h, str>,
    /// The visitor, whose hits must not overtake each other.
    pub uid: Cow<'h, str>,
    /// The time to send: never later than when the hit was first seen.
    pub cdt: Timestamp,
}

/// One broken rule. It carries no personal data: values only where they are meant to come from a list.
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
            Self::Observe => true,
            Self::Filter => violations.iter().all(|v| plan.severity(v.rule) < Severity::Error),
            Self::Strict => violations.is_empty(),
        }
    }
}

/// Checks a hit against the plan.
pub fn validate<'h>(plan: &Plan, hit: &'h RawHit<'h>, context: Context<'_>) -> Verdict<'h> {
    let mut check = Check { plan, violations: Vec::new(), values: vec![None; plan.fields().len()] };
    check.read(hit);
    check.mend();
    check.present(&context);
    check.lists();
    let cdt = check.cdt(&context);
    check.advise();
    let idsite = check.taken("idsite").or_else(|| context.default_site.map(|site| Cow::Owned(site.to_owned())));
    let uid = check.taken("uid");
    if uid.as_deref() == Some("0") {
        check.violations.push(Violation::of(Rule::UidUnusable, "uid"));
    }
    let hit = match (idsite, uid) {
        (Some(idsite), Some(uid)) if uid != "0" => Some(CheckedHit { values: check.values, idsite, uid, cdt }),
        _ => None,
    };
    Verdict { violations: check.violations, hit }
}

struct Check<'p, 'h> {
    plan: &'p Plan,
    violations: Vec<Violation>,
    values: Vec<Option<Cow<'h, str>>>,
}

impl<'h> Check<'_, 'h> {
    /// Sorts the parameters into the plan's order. A parameter that the plan does not know is not sent.
    fn read(&mut self, hit: &'h RawHit<'h>) {
        for (name, value) in hit.fields() {
            let Some(index) = self.plan.index(name) else {
                self.violations.push(Violation::of(Rule::UnknownParameter, name));
                continue;
            };
            let Some((field, place)) = self.plan.fields().get(index).zip(self.values.get_mut(index)) else { continue };
            let text = match value {
                Value::Text(text) => text,
                Value::Wrong(kind) => {
                    self.violations.push(Violation { value: Some((*kind).to_owned()), ..Violation::of(Rule::WrongType, &field.name) });
                    // Present, though useless: it is not reported as missing on top.
                    *place = Some(Cow::Borrowed(""));
                    continue;
                }
            };
            if place.is_some() {
                self.violations.push(Violation::of(Rule::DuplicateField, &field.name));
                continue;
            }
            if text.chars().any(|c| c.is_ascii_control()) {
                self.violations.push(Violation::of(Rule::ControlCharacter, &field.name));
            }
            if let Some(max) = field.max.filter(|max| text.len() > *max && text.chars().count() > *max) {
                let length = i64::try_from(text.chars().count()).ok();
                self.violations.push(Violation { max: Some(max), length, ..Violation::of(Rule::TooLong, &field.name) });
            }
            *place = Some(Cow::Borrowed(text.as_ref()));
        }
    }

    /// Mandatory fields, by technology (RFTI §3.2.1).
    fn present(&mut self, context: &Context<'_>) {
        let technology = self.value("dimension11").map(|t| self.plan.alias("technologies", t).unwrap_or(t).to_owned());
        for (field, value) in self.plan.fields().iter().zip(&self.values) {
            let empty = value.as_deref().is_none_or(|value| value.trim().is_empty());
            let stood_in = match field.name.as_str() {
                "idsite" => context.default_site.is_some(),
                "cdt" => context.sent_at.is_some(),
                _ => false,
            };
            let supplied = field.relay || (empty && stood_in);
            if supplied || !field.is_mandatory(technology.as_deref()) {
                continue;
            }
            let wrong = self.violations.iter().any(|v| v.rule == Rule::WrongType && v.field.as_deref() == Some(&field.name));
            let rule = match value.as_deref().map(str::trim) {
                _ if wrong => continue,
                Some("") if !field.exceptions => Rule::Empty,
                None if !field.exceptions => Rule::Missing,
                Some("") | None => Rule::MissingUnlessException,
                Some(_) => continue,
            };
            self.violations.push(Violation::of(rule, &field.name));
        }
    }

    /// Closed lists. An external list that is not loaded is not checked.
    fn lists(&mut self) {
        for (field, place) in self.plan.fields().iter().zip(&mut self.values) {
            let (Some(list), Some(value)) = (&field.list, place.as_deref()) else { continue };
            let legal = self.plan.values(list);
            if value.trim().is_empty() || legal.is_empty() || legal.iter().any(|l| l == value) {
                continue;
            }
            let value = value.to_owned();
            if let Some(meant) = self.plan.alias(list, &value).map(str::to_owned) {
                *place = Some(Cow::Owned(meant.clone()));
                self.violations.push(Violation { value: Some(value), suggestion: Some(meant), ..Violation::of(Rule::Alias, &field.name) });
            } else {
                let suggestion = nearest(&value, legal).map(str::to_owned);
                let value = Some(value.chars().take(SHOWN).collect());
                self.violations.push(Violation { value, suggestion, ..Violation::of(Rule::NotInList, &field.name) });
            }
        }
    }

    /// The time to send. What cannot be read is sent as the time of receipt: Matomo would put its own in its place, and
    /// another one at every retry.
    fn cdt(&mut self, context: &Context<'_>) -> Timestamp {
        let first_seen = context.first_seen;
        let Some(text) = self.value("cdt").filter(|text| !text.trim().is_empty()) else {
            let Some(sent_at) = context.sent_at else { return first_seen };
            self.violations.push(Violation::of(Rule::CdtFromMessage, "cdt"));
            return sent_at.min(first_seen);
        };
        let (violation, cdt) = match cdt::parse(text) {
            Ok(cdt) => match cdt::lag(cdt, first_seen) {
                Lag::Past(age) => {
                    self.old(cdt, age, context.has_token);
                    return cdt;
                }
                Lag::Future(lead) => (Violation { length: Some(lead), ..Violation::of(Rule::CdtFuture, "cdt") }, first_seen),
                Lag::LocalTime(lead) => (Violation { length: Some(lead), ..Violation::of(Rule::CdtLocalTime, "cdt") }, first_seen),
            },
            Err(CdtError::Unreadable) => (Violation::of(Rule::CdtUnreadable, "cdt"), first_seen),
            Err(CdtError::Milliseconds(seconds)) => {
                let violation = Violation { suggestion: Some(seconds.to_string()), ..Violation::of(Rule::CdtMilliseconds, "cdt") };
                (violation, first_seen)
            }
        };
        self.violations.push(violation);
        cdt
    }

    fn old(&mut self, cdt: Timestamp, age: i64, has_token: bool) {
        if cdt < self.plan.in_force_since {
            let since = self.plan.in_force_since.strftime("%Y-%m-%d").to_string();
            self.violations.push(Violation { suggestion: Some(since), ..Violation::of(Rule::CdtBeforePlan, "cdt") });
        }
        if age >= cdt::NEEDS_TOKEN_AFTER && !has_token {
            self.violations.push(Violation { length: Some(age), ..Violation::of(Rule::CdtTooOld, "cdt") });
        }
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.plan.index(name).and_then(|index| self.values.get(index)).and_then(|value| value.as_deref())
    }

    fn taken(&self, name: &str) -> Option<Cow<'h, str>> {
        let value = self.plan.index(name).and_then(|index| self.values.get(index)).and_then(Clone::clone);
        value.filter(|value| !value.trim().is_empty())
    }
}

/// How much of a wrong list value is shown, in characters.
const SHOWN: usize = 60;

/// The legal value that was probably meant, if any comes near.
fn nearest<'l>(value: &str, legal: &'l [String]) -> Option<&'l str> {
    let plain: String = value.trim().to_uppercase().chars().take(SHOWN).collect();
    legal
        .iter()
        .map(|candidate| (strsim::jaro_winkler(&plain, candidate), candidate))
        .filter(|(similarity, _)| *similarity > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate.as_str())
}

impl Violation {
    fn of(rule: Rule, field: &str) -> Self {
        Self { field: Some(field.to_owned()), ..Self::of_message(rule) }
    }

    fn of_message(rule: Rule) -> Self {
        Self { rule, field: None, value: None, suggestion: None, max: None, length: None }
    }

    /// The sentence for people, from the plan's texts.
    pub fn message(&self, plan: &Plan, language: Language) -> String {
        let none = match language {
            Language::English => "none",
            Language::French => "aucune",
        };
        plan.text(self.rule, language)
            .replace("{{", "\u{1}")
            .replace("}}", "\u{2}")
            .replace("{field}", self.field.as_deref().unwrap_or_default())
            .replace("{suggestion}", self.suggestion.as_deref().unwrap_or(none))
            .replace("{max}", &self.max.map(|max| max.to_string()).unwrap_or_default())
            .replace("{length}", &self.length.map(|length| length.to_string()).unwrap_or_default())
            .replace("{value}", self.value.as_deref().unwrap_or_default())
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
            DecodeError::TooLarge(length) => {
                Self { max: Some(hit::MAX_BYTES), length: i64::try_from(length).ok(), ..Self::of_message(Rule::TooLarge) }
            }
            DecodeError::NotAnObject => Self::of_message(Rule::NotAnObject),
            DecodeError::TooManyFields => Self { max: Some(hit::MAX_FIELDS), ..Self::of_message(Rule::TooManyFields) },
            DecodeError::NameTooLong => Self { max: Some(hit::MAX_NAME), ..Self::of_message(Rule::NameTooLong) },
            DecodeError::Empty | DecodeError::NotUtf8 | DecodeError::Json { .. } | DecodeError::UnknownForm => {
                Self { value: Some(error.to_string()), ..Self::of_message(Rule::Malformed) }
            }
        }
    }
}
