//! What a file of hits covers: which sections of the plan hold, which values were seen, when the
//! hits were, and how late they came. Bounded, whatever the file holds; no visitor and no free text
//! is kept.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::domain::cdt::{self, CdtError, Lag};
use crate::domain::hit::RawHit;
use crate::domain::plan::{FieldRole, Plan};
use crate::domain::rule::{Rule, Severity};
use crate::domain::validate::{CheckedHit, Violation, hides};

/// Distinct values that are counted for a field; there are about 60,000 schools in France.
const MOST_VALUES: usize = 100_000;
/// Longest value that is kept, in bytes: no list has a longer one.
const LONGEST: usize = 255;
/// The section that speaks of a request as a whole.
pub(super) const WHOLE: &str = "3.2";
/// Hours that are counted apart: over two years.
const MOST_HOURS: usize = 20_000;

#[derive(Debug)]
pub(super) struct Survey {
    /// By section of the plan, in its order.
    pub(super) sections: Vec<SectionCounts>,
    /// Hits with a violation of this rule in this field of the plan; none for a message as a whole
    /// or a foreign parameter.
    pub(super) findings: BTreeMap<(Rule, Option<usize>), u64>,
    /// By field with a list, in the plan's order, and the schools first.
    pub(super) coverage: Vec<FieldCoverage>,
    /// Hits of which the file tells when they were received.
    pub(super) received: u64,
    /// By class of [`LAGS`].
    pub(super) lags: [u64; LAGS],
    /// Hits by hour of their time, UNIX hours.
    pub(super) hours: BTreeMap<i64, u64>,
}

/// How the fields of one section fared.
#[derive(Debug)]
pub(super) struct SectionCounts {
    pub(super) number: String,
    /// Hits with at least one error here.
    pub(super) with_errors: u64,
    /// Hits with warnings here, and no error.
    pub(super) with_warnings: u64,
}

/// The values that were seen of one field.
#[derive(Debug)]
pub(super) struct FieldCoverage {
    pub(super) field: String,
    index: usize,
    /// The list that the values come from, if any.
    pub(super) list: Option<String>,
    pub(super) seen: BTreeMap<String, u64>,
    /// Hits whose value found no place any more.
    pub(super) others: u64,
}

/// Classes of the time between a hit and its receipt.
pub(super) const LAGS: usize = 10;

/// The class of a `cdt`: ahead by two hours, by one, by something else; up to 10 s, 1 min, 10 min,
/// 1 h, 24 h old, older; no readable time.
fn class(text: &str, seen_at: Timestamp) -> usize {
    match cdt::parse(text).map(|cdt| cdt::lag(cdt, seen_at)) {
        Ok(Lag::LocalTime(lead)) if lead > 5_400 => 0,
        Ok(Lag::LocalTime(_)) => 1,
        Ok(Lag::Future(_)) => 2,
        Ok(Lag::Past(age)) => {
            3 + [10, 60, 600, 3_600, 86_400].iter().filter(|limit| age >= **limit).count()
        }
        Err(CdtError::Unreadable | CdtError::Milliseconds(_)) => LAGS - 1,
    }
}

impl Survey {
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
            lags: [0; LAGS],
            hours: BTreeMap::new(),
        }
    }

    /// Counts what was found in a message, were it a hit or not.
    pub(super) fn judge(&mut self, plan: &Plan, violations: &[Violation]) {
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

    /// Counts the values of a hit, mended where it can be sent: as the ministry would read them.
    pub(super) fn add(
        &mut self,
        plan: &Plan,
        hit: &RawHit<'_>,
        checked: Option<&CheckedHit<'_>>,
        seen_at: Timestamp,
    ) {
        for coverage in &mut self.coverage {
            let mended = checked.and_then(|checked| checked.values.get(coverage.index)?.as_deref());
            let text = mended.or_else(|| hit.text(&coverage.field)).unwrap_or_default();
            let schools = plan.role_index(FieldRole::Uai) == Some(coverage.index);
            for value in
                text.split(|c| schools && c == ',').map(str::trim).filter(|value| !value.is_empty())
            {
                coverage.count(value);
            }
        }
        let text = hit.text(FieldRole::Time.code()).unwrap_or_default();
        if let Some(count) = self.lags.get_mut(class(text, seen_at)) {
            *count += 1;
        }
        if let Ok(time) = cdt::parse(text) {
            let hour = time.as_second().div_euclid(3_600);
            if self.hours.len() < MOST_HOURS || self.hours.contains_key(&hour) {
                *self.hours.entry(hour).or_default() += 1;
            }
        }
    }
}

impl FieldCoverage {
    fn count(&mut self, value: &str) {
        if let Some(count) = self.seen.get_mut(value) {
            *count += 1;
        } else if self.seen.len() < MOST_VALUES && value.len() <= LONGEST && !hides(value) {
            self.seen.insert(value.to_owned(), 1);
        } else {
            // Among them what names a person: it is no value of a list, and is kept nowhere.
            self.others += 1;
        }
    }

    /// Legal values that no hit had; none where the list is not loaded. Of two spellings of one
    /// value, one is enough.
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
