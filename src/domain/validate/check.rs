//! The steps in which a hit is checked against the plan.

use std::borrow::Cow;

use jiff::Timestamp;
use smallvec::SmallVec;

use super::{CheckedHit, Context, Values, Verdict, Violation, characters, is_blank};
use crate::domain::cdt::{self, CdtError, Lag};
use crate::domain::hit::{self, RawHit, Value};
use crate::domain::plan::{Field, FieldRole, Plan};
use crate::domain::rule::Rule;
use crate::domain::scan;
use crate::domain::shown::{HIDDEN, is_personal, shown};
use crate::domain::tenant::{Sender, Tenant};
use crate::domain::unicode;

/// The check of one hit.
pub(super) struct HitCheck<'p, 'h> {
    /// The plan in force.
    pub(super) plan: &'p Plan,
    /// The violations that were found so far.
    pub(super) violations: Vec<Violation>,
    /// The values in the order of the plan's fields, as they would be sent.
    pub(super) values: Values<'h>,
    is_plain: bool,
}

impl<'p, 'h> HitCheck<'p, 'h> {
    /// Begins a check in which no field has a value.
    pub(super) fn new(plan: &'p Plan) -> Self {
        Self {
            plan,
            violations: Vec::new(),
            values: SmallVec::from_elem(None, plan.fields().len()),
            is_plain: false,
        }
    }

    /// Sorts the parameters into the plan's order. A parameter that the plan does not know is not
    /// sent, and one that is null is not there.
    pub(super) fn read_fields(&mut self, hit: &'h RawHit<'_>) {
        self.is_plain = hit.is_plain();
        for (name, value) in hit.fields() {
            let Some(index) = self.plan.index(name) else {
                if *value != Value::Null {
                    self.violations.push(Violation::of(Rule::UnknownParameter, name));
                }
                continue;
            };
            let Some((field, place)) =
                self.plan.fields().get(index).zip(self.values.get_mut(index))
            else {
                continue;
            };
            let text = match value {
                Value::Text(text) => text,
                Value::Null => continue,
                Value::Wrong(kind) => {
                    self.violations.push(Violation {
                        value: Some((*kind).to_owned()),
                        ..Violation::of(Rule::WrongType, &field.name)
                    });
                    // The field is there, though useless: it is not reported as missing as well.
                    *place = Some(Cow::Borrowed(""));
                    continue;
                }
            };
            if place.is_some() {
                self.violations.push(Violation::of(Rule::DuplicateField, &field.name));
                continue;
            }
            if !self.is_plain && scan::any(text.as_bytes(), scan::is_control) {
                self.violations.push(Violation::of(Rule::ControlCharacter, &field.name));
            }
            if let Some(max) =
                field.max.filter(|max| text.len() > *max && text.chars().count() > *max)
            {
                let length = i64::try_from(text.chars().count()).ok();
                self.violations.push(Violation {
                    max: Some(max),
                    length,
                    ..Violation::of(Rule::TooLong, &field.name)
                });
            }
            *place = Some(Cow::Borrowed(text.as_ref()));
        }
    }

    /// Fills in the fields that the tenant's hits may leave out.
    pub(super) fn fill_in_defaults(&mut self, tenant: &Tenant) {
        for (field, value) in tenant.defaults() {
            if let Some(place) = self.plan.index(field).and_then(|index| self.values.get_mut(index))
                && place.as_deref().is_none_or(is_blank)
            {
                *place = Some(Cow::Owned(value.to_owned()));
            }
        }
    }

    /// Checks that the fields are there that are mandatory for the technology (RFTI §3.2.1).
    pub(super) fn check_mandatory(&mut self, context: &Context<'_>) {
        let plan = self.plan;
        let technology = self.value(FieldRole::Technology);
        let technology = technology.and_then(|t| plan.alias("technologies", t)).or(technology);
        let mut found = Vec::new();
        for index in plan.mandatory(technology) {
            let (Some(field), Some(value)) = (plan.fields().get(*index), self.values.get(*index))
            else {
                continue;
            };
            let value = value.as_deref();
            if value.is_some_and(|value| !is_blank(value)) {
                continue;
            }
            let is_supplied = (plan.role_index(FieldRole::Site) == Some(*index)
                && context.default_site.is_some())
                || (plan.role_index(FieldRole::Time) == Some(*index) && context.sent_at.is_some());
            let wrong = self
                .violations
                .iter()
                .any(|v| v.rule == Rule::WrongType && v.field.as_deref() == Some(&field.name));
            if is_supplied || wrong {
                continue;
            }
            let rule = match self.is_excepted(field) {
                Some(true) => continue,
                None if field.exceptions.is_some() => Rule::MissingUnlessException,
                _ if plan.role_index(FieldRole::Tool) == Some(*index) && self.is_native() => {
                    Rule::MissingUnlessNative
                }
                _ if value.is_some() => Rule::Empty,
                _ => Rule::Missing,
            };
            found.push(Violation::of(rule, &field.name));
        }
        if !self.violations.is_empty() {
            self.name_unknown(&mut found);
        }
        self.violations.append(&mut found);
    }

    /// Whether the page is the platform's own, so that no tool need be named (RFTI §2.2.4).
    fn is_native(&self) -> bool {
        self.plan.native_type.is_some()
            && self.value(FieldRole::Type) == self.plan.native_type.as_deref()
    }

    /// Whether hits of this tool or service may leave the field out; `None` if the list that says
    /// so is not loaded.
    fn is_excepted(&self, field: &Field) -> Option<bool> {
        let list = self.plan.exceptions_of(field).filter(|list| list.is_loaded())?;
        Some(
            [FieldRole::Tool, FieldRole::Service]
                .iter()
                .any(|place| self.value(*place).is_some_and(|value| list.contains(value))),
        )
    }

    /// Checks the fields that have a list. A reference list that is not loaded is not checked.
    pub(super) fn check_lists(&mut self) {
        for (field, place) in self.plan.fields().iter().zip(&mut self.values) {
            let (Some(list), Some(value)) = (self.plan.list_of(field), place.as_deref()) else {
                continue;
            };
            if !list.is_loaded() || list.contains(value) || is_blank(value) {
                continue;
            }
            let value = value.to_owned();
            if let Cow::Owned(composed) = unicode::compose(&value)
                && list.contains(&composed)
            {
                *place = Some(Cow::Owned(composed));
                self.violations.push(Violation::of(Rule::DecomposedText, &field.name));
            } else if let Some(meant) = self.plan.alias(&list.name, &value).map(str::to_owned) {
                *place = Some(Cow::Owned(meant.clone()));
                self.violations.push(Violation {
                    value: Some(value),
                    suggestion: Some(meant),
                    ..Violation::of(Rule::Alias, &field.name)
                });
            } else {
                let plain = characters::plain(&value);
                let suggestion = self
                    .plan
                    .value_meant(&list.name, &plain)
                    .or_else(|| list.nearest(&plain))
                    .map(str::to_owned);
                self.violations.push(Violation {
                    value: Some(value),
                    suggestion,
                    ..Violation::of(Rule::NotInList, &field.name)
                });
            }
        }
    }

    /// Checks the time, and returns the one to send. A time that cannot be read is replaced by the
    /// time of receipt: Matomo would put its own in its place, and another one at every retry.
    pub(super) fn check_time(&mut self, context: &Context<'_>) -> Timestamp {
        let first_seen = context.first_seen;
        let Some(text) = self.value(FieldRole::Time).filter(|text| !is_blank(text)) else {
            let Some(sent_at) = context.sent_at else { return first_seen };
            self.violations.push(Violation::of(Rule::CdtFromMessage, "cdt"));
            return sent_at.min(first_seen);
        };
        let (violation, cdt) = match cdt::parse(text) {
            Ok(cdt) => match cdt::lag(cdt, first_seen) {
                Lag::Past(age) => {
                    self.check_age(cdt, age, context);
                    return cdt;
                }
                Lag::Future(lead) => (
                    Violation { length: Some(lead), ..Violation::of(Rule::CdtFuture, "cdt") },
                    first_seen,
                ),
                Lag::LocalTime(lead) => (
                    Violation { length: Some(lead), ..Violation::of(Rule::CdtLocalTime, "cdt") },
                    first_seen,
                ),
            },
            Err(CdtError::Unreadable) => (Violation::of(Rule::CdtUnreadable, "cdt"), first_seen),
            Err(CdtError::Milliseconds(seconds)) => {
                let violation = Violation {
                    suggestion: Some(seconds.to_string()),
                    ..Violation::of(Rule::CdtMilliseconds, "cdt")
                };
                (violation, first_seen)
            }
        };
        self.violations.push(violation);
        cdt
    }

    /// Checks whether the time is older than the plan, or too old for Matomo.
    fn check_age(&mut self, cdt: Timestamp, age: i64, context: &Context<'_>) {
        if cdt < self.plan.in_force_since {
            let since = self.plan.in_force_since.strftime("%Y-%m-%d").to_string();
            self.violations.push(Violation {
                suggestion: Some(since),
                ..Violation::of(Rule::CdtBeforePlan, "cdt")
            });
        }
        if context.max_age.is_over(age) && !context.has_token {
            self.violations
                .push(Violation { length: Some(age), ..Violation::of(Rule::CdtTooOld, "cdt") });
        }
    }

    /// Decides what can be sent: nothing without visitor and site, and nothing that its sender may
    /// not send.
    pub(super) fn into_verdict(mut self, context: &Context<'_>, cdt: Timestamp) -> Verdict<'h> {
        let idsite = self
            .value_to_send(FieldRole::Site)
            .or_else(|| context.default_site.map(|site| Cow::Owned(site.to_owned())));
        let uid = self.value_to_send(FieldRole::User);
        if uid.as_deref() == Some("0") {
            self.violations.push(Violation::of(Rule::UidUnusable, "uid"));
        }
        self.check_routing_key(context.routing_key, uid.as_deref());
        let may_send = self.check_sender(context.sender, idsite.as_deref());
        self.hide_personal_data(
            &[uid.as_deref(), context.routing_key].map(Option::unwrap_or_default),
        );
        let hit = match (idsite, uid) {
            (Some(idsite), Some(uid)) if uid != "0" && may_send => {
                Some(CheckedHit { values: self.values, idsite, uid, cdt, is_plain: self.is_plain })
            }
            _ => None,
        };
        Verdict { violations: self.violations, hit }
    }

    /// Checks that the message went to the shard of its visitor. Both are compared as they were
    /// sent, since the broker hashes the bytes of the key and Matomo is sent the `uid` as it is. A
    /// hit without a visitor is reported by another rule. The violation shows neither of them.
    fn check_routing_key(&mut self, key: Option<&str>, uid: Option<&str>) {
        let (Some(key), Some(uid)) = (key, uid) else { return };
        if key != hit::routing_key(uid) {
            self.violations.push(Violation::of_message(Rule::RoutingKey));
        }
    }

    /// Checks whether the sender may send this hit, and returns the answer.
    fn check_sender(&mut self, sender: Sender<'_>, idsite: Option<&str>) -> bool {
        let tenant = match sender {
            Sender::Unchecked => return true,
            Sender::Unknown => {
                self.violations.push(Violation::of_message(Rule::UnknownTenant));
                return false;
            }
            Sender::Tenant(tenant) => tenant,
        };
        let mut may_send = true;
        for place in Tenant::GUARDED {
            let value = if place == FieldRole::Site { idsite } else { self.value(place) };
            // Without a value the hit enters nobody's figures. Another rule reports that it is
            // missing.
            let Some(value) =
                value.filter(|value| !is_blank(value) && !tenant.may_send(place, value))
            else {
                continue;
            };
            let value = Some(value.to_owned());
            self.violations
                .push(Violation { value, ..Violation::of(Rule::WrongTenant, place.code()) });
            may_send = false;
        }
        may_send
    }

    /// Makes every violation one that may be shown to anybody. What a sender wrote is in the
    /// values, and in the names of parameters that the plan does not know.
    fn hide_personal_data(&mut self, visitors: &[&str]) {
        for violation in &mut self.violations {
            if violation.rule == Rule::UnknownParameter
                && let Some(name) = &mut violation.field
            {
                *name = shown(name, visitors);
            }
            if let Some(value) = &mut violation.value {
                if is_personal(value, visitors) {
                    // What is similar to the value would tell of it.
                    violation.suggestion = violation
                        .suggestion
                        .take()
                        .filter(|_| violation.rule != Rule::NotInList)
                        .map(|_| HIDDEN.to_owned());
                }
                *value = shown(value, visitors);
            }
        }
    }

    /// Returns the value of the field of this role.
    pub(super) fn value(&self, role: FieldRole) -> Option<&str> {
        self.plan
            .role_index(role)
            .and_then(|index| self.values.get(index))
            .and_then(|value| value.as_deref())
    }

    /// Replaces the value of the field of this role.
    pub(super) fn set(&mut self, role: FieldRole, value: String) {
        if let Some(place) = self.plan.role_index(role).and_then(|index| self.values.get_mut(index))
        {
            *place = Some(Cow::Owned(value));
        }
    }

    /// Returns the value of the field of this role, unless it is blank.
    fn value_to_send(&self, role: FieldRole) -> Option<Cow<'h, str>> {
        let value = self
            .plan
            .role_index(role)
            .and_then(|index| self.values.get(index))
            .and_then(Clone::clone);
        value.filter(|value| !is_blank(value))
    }
}
