//! The violations of a file, equal ones counted together.

use std::collections::BTreeMap;

use crate::domain::plan::Plan;
use crate::domain::rule::{Language, Rule, Severity};
use crate::domain::validate::Violation;

/// How many groups of equal violations are kept. Beyond, the rest of a rule is one group, so that
/// memory stays bounded whatever the file holds.
const MAX_GROUPS: usize = 5_000;

/// How many lines are named for a group.
const LINES_SHOWN: usize = 3;

/// What the violations of a group have in common.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ViolationKey {
    /// The severity; errors come first.
    pub(super) severity: std::cmp::Reverse<Severity>,
    /// The rule that is broken.
    pub(super) rule: Rule,
    /// The field, if there is one.
    pub(super) field: Option<String>,
    /// The value, if it may be shown.
    pub(super) value: Option<String>,
}

/// Equal violations.
#[derive(Debug)]
pub(super) struct ViolationGroup {
    /// How many there are.
    pub(super) count: u64,
    /// The first lines that have one.
    pub(super) lines: Vec<u64>,
    /// The sentence of the first one.
    pub(super) message: String,
    /// The value that was probably meant.
    pub(super) suggestion: Option<String>,
}

/// How many hits have violations, and which.
#[derive(Debug)]
pub(super) struct ViolationCounts {
    /// What the numbers of [`ViolationGroup::lines`] count: lines or hits.
    pub(super) unit: &'static str,
    /// Hits in the file.
    pub(super) hits: u64,
    /// Hits with at least one error.
    pub(super) with_errors: u64,
    /// Hits with warnings, and no error.
    pub(super) with_warnings: u64,
    /// The groups of equal violations.
    pub(super) groups: BTreeMap<ViolationKey, ViolationGroup>,
}

impl ViolationCounts {
    /// Counts nothing yet.
    pub(super) fn new(unit: &'static str) -> Self {
        Self { unit, hits: 0, with_errors: 0, with_warnings: 0, groups: BTreeMap::new() }
    }

    /// Counts a hit and its violations.
    pub(super) fn add(
        &mut self,
        plan: &Plan,
        line: u64,
        violations: &[Violation],
        language: Language,
    ) {
        self.hits += 1;
        match violations.iter().map(|violation| plan.severity(violation.rule)).max() {
            Some(Severity::Error) => self.with_errors += 1,
            Some(Severity::Warning) => self.with_warnings += 1,
            Some(Severity::Information) | None => {}
        }
        for violation in violations {
            let severity = std::cmp::Reverse(plan.severity(violation.rule));
            let mut key = ViolationKey {
                severity,
                rule: violation.rule,
                field: violation.field.clone(),
                value: violation.value.clone(),
            };
            if self.groups.len() >= MAX_GROUPS && !self.groups.contains_key(&key) {
                (key.field, key.value) = (None, None);
            }
            let group = self.groups.entry(key).or_insert_with(|| ViolationGroup {
                count: 0,
                lines: Vec::new(),
                message: violation.message(plan, language),
                suggestion: violation.suggestion.clone(),
            });
            group.count += 1;
            if group.lines.len() < LINES_SHOWN {
                group.lines.push(line);
            }
        }
    }

    /// Returns how many hits have neither error nor warning.
    pub(super) fn fine(&self) -> u64 {
        self.hits - self.with_errors - self.with_warnings
    }
}

/// Lists what was not checked because its list is not loaded: one violation for each field, the
/// same for every hit.
pub(super) fn not_checked(plan: &Plan) -> Vec<Violation> {
    let unloaded = plan.fields().iter().filter_map(|field| {
        let list = [plan.list_of(field), plan.exceptions_of(field)]
            .into_iter()
            .flatten()
            .find(|list| !list.is_loaded())?;
        Some(Violation::list_not_loaded(field, list))
    });
    unloaded.collect()
}
