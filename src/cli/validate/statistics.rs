//! Statistics of a file of hits: which sections of the plan are kept to, which values were seen,
//! when the hits were, and how late they came. They are bounded whatever the file holds, and keep
//! no visitor and no free text.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::domain::cdt::{self, CdtError, Lag};
use crate::domain::hit::RawHit;
use crate::domain::plan::{FieldRole, Plan};
use crate::domain::rule::{Rule, Severity};
use crate::domain::shown::is_of;
use crate::domain::validate::{CheckedHit, Violation, names_person};

/// How many distinct values are counted for a field. There are about 60,000 schools in France.
const MAX_VALUES: usize = 100_000;
/// How many bytes a value has that is kept: no list has a longer one.
const MAX_VALUE_BYTES: usize = 255;
/// The number of the section about a request as a whole.
pub(super) const WHOLE: &str = "3.2";
/// How many hours are counted apart: those of over two years.
const MAX_HOURS: usize = 20_000;

/// The statistics of a file.
#[derive(Debug)]
pub(super) struct FileStatistics {
    /// The counts of each section of the plan, in its order.
    pub(super) sections: Vec<SectionCounts>,
    /// Hits that break this rule in this field of the plan. The field is `None` for a message as a
    /// whole and for a parameter that is none of the plan's.
    pub(super) findings: BTreeMap<(Rule, Option<usize>), u64>,
    /// The values of each field with a list: the schools first, then in the plan's order.
    pub(super) coverage: Vec<FieldCoverage>,
    /// Hits of which the file says when they were received.
    pub(super) received: u64,
    /// Hits by the time between them and their receipt: see [`lag_class`].
    pub(super) lags: [u64; LAG_CLASSES],
    /// Hits by the hour of their time, in UNIX hours.
    pub(super) hours: BTreeMap<i64, u64>,
}

/// How many hits break the plan in the fields of a section.
#[derive(Debug)]
pub(super) struct SectionCounts {
    /// The number of the section.
    pub(super) number: String,
    /// Hits with at least one error here.
    pub(super) with_errors: u64,
    /// Hits with warnings here, and no error.
    pub(super) with_warnings: u64,
}

/// The values that were seen of one field.
#[derive(Debug)]
pub(super) struct FieldCoverage {
    /// The name of the field.
    pub(super) field: String,
    /// Where the field stands in the plan.
    index: usize,
    /// The list that the values come from, if any.
    pub(super) list: Option<String>,
    /// Hits by value.
    pub(super) seen: BTreeMap<String, u64>,
    /// Hits whose value is not kept: there are too many values, or it may name a person.
    pub(super) others: u64,
}

/// How many classes [`lag_class`] has.
pub(super) const LAG_CLASSES: usize = 10;

/// Returns the class of a `cdt`: ahead by two hours, by one, by something else; up to 10 s, 1 min,
/// 10 min, 1 h, 24 h old, older; no readable time.
fn lag_class(text: &str, seen_at: Timestamp) -> usize {
    match cdt::parse(text).map(|cdt| cdt::lag(cdt, seen_at)) {
        Ok(Lag::LocalTime(lead)) if lead > 5_400 => 0,
        Ok(Lag::LocalTime(_)) => 1,
        Ok(Lag::Future(_)) => 2,
        Ok(Lag::Past(age)) => {
            3 + [10, 60, 600, 3_600, 86_400].iter().filter(|limit| age >= **limit).count()
        }
        Err(CdtError::Unreadable | CdtError::Milliseconds(_)) => LAG_CLASSES - 1,
    }
}

impl FileStatistics {
    /// Begins with no hit.
    pub(super) fn new(plan: &Plan) -> Self {
        let section = |section: &crate::domain::plan::Section| SectionCounts {
            number: section.number.clone(),
            with_errors: 0,
            with_warnings: 0,
        };
        let schools = plan.role_index(FieldRole::Uai);
        let listed = plan
            .fields()
            .iter()
            .enumerate()
            .filter(|(index, field)| field.list.is_some() && Some(*index) != schools);
        let coverage =
            schools.into_iter().chain(listed.map(|(index, _)| index)).filter_map(|index| {
                let field = plan.fields().get(index)?;
                Some(FieldCoverage {
                    field: field.name.clone(),
                    index,
                    list: field.list.clone().or_else(|| field.coverage.clone()),
                    seen: BTreeMap::new(),
                    others: 0,
                })
            });
        Self {
            sections: plan.sections().iter().map(section).collect(),
            findings: BTreeMap::new(),
            coverage: coverage.collect(),
            received: 0,
            lags: [0; LAG_CLASSES],
            hours: BTreeMap::new(),
        }
    }

    /// Counts the violations of a message, whether it can be read or not.
    pub(super) fn count_violations(&mut self, plan: &Plan, violations: &[Violation]) {
        let mut broken: BTreeMap<&str, Severity> = BTreeMap::new();
        let mut found = BTreeSet::new();
        for violation in violations {
            let index = violation.field.as_deref().and_then(|name| plan.index(name));
            let field = index.and_then(|index| plan.fields().get(index));
            let severity = broken
                .entry(field.map_or(WHOLE, |field| field.section.as_str()))
                .or_insert(Severity::Information);
            *severity = (*severity).max(plan.severity(violation.rule));
            found.insert((violation.rule, index));
        }
        for section in &mut self.sections {
            match broken.get(section.number.as_str()) {
                Some(Severity::Error) => section.with_errors += 1,
                Some(Severity::Warning) => section.with_warnings += 1,
                Some(Severity::Information) | None => {}
            }
        }
        for finding in found {
            *self.findings.entry(finding).or_default() += 1;
        }
    }

    /// Counts the values of a hit as the ministry would read them: normalised, if the hit can be
    /// sent.
    pub(super) fn add(
        &mut self,
        plan: &Plan,
        hit: &RawHit<'_>,
        checked: Option<&CheckedHit<'_>>,
        seen_at: Timestamp,
    ) {
        let visitor = hit.text(FieldRole::User.code()).unwrap_or_default();
        for coverage in &mut self.coverage {
            let normalised =
                checked.and_then(|checked| checked.values.get(coverage.index)?.as_deref());
            let text = normalised.or_else(|| hit.text(&coverage.field)).unwrap_or_default();
            let schools = plan.role_index(FieldRole::Uai) == Some(coverage.index);
            for value in
                text.split(|c| schools && c == ',').map(str::trim).filter(|value| !value.is_empty())
            {
                coverage.count(value, visitor);
            }
        }
        let text = hit.text(FieldRole::Time.code()).unwrap_or_default();
        if let Some(count) = self.lags.get_mut(lag_class(text, seen_at)) {
            *count += 1;
        }
        if let Ok(time) = cdt::parse(text) {
            let hour = time.as_second().div_euclid(3_600);
            if self.hours.len() < MAX_HOURS || self.hours.contains_key(&hour) {
                *self.hours.entry(hour).or_default() += 1;
            }
        }
    }
}

impl FieldCoverage {
    /// Counts a value.
    fn count(&mut self, value: &str, visitor: &str) {
        if let Some(count) = self.seen.get_mut(value) {
            *count += 1;
        } else if self.seen.len() < MAX_VALUES
            && value.len() <= MAX_VALUE_BYTES
            && !names_person(value)
            && !is_of(value, visitor)
        {
            self.seen.insert(value.to_owned(), 1);
        } else {
            // What names a person or the hit's own visitor is kept nowhere.
            self.others += 1;
        }
    }

    /// Returns the legal values that no hit had; none if the list is not loaded. Of two spellings
    /// of one value, one is enough.
    pub(super) fn never_seen<'p>(&self, plan: &'p Plan) -> Vec<&'p str> {
        let list = self.list.as_ref().and_then(|list| plan.list(list));
        let mut seen: BTreeSet<&str> = self.seen.keys().map(String::as_str).collect();
        seen.extend(self.seen.keys().filter_map(|value| plan.other_spelling(value)));
        let mut never = Vec::new();
        for value in list.into_iter().flat_map(|list| list.values()) {
            if seen.insert(value) {
                seen.extend(plan.other_spelling(value));
                never.push(value.as_str());
            }
        }
        never
    }
}
