//! What was found, equal violations counted together.

use std::collections::BTreeMap;

use crate::domain::plan::Plan;
use crate::domain::rule::{Language, Rule, Severity};
use crate::domain::validate::Violation;

/// Equal violations are counted together; beyond so many kinds the rest of a rule is one kind, so
/// that memory stays bounded whatever the file holds.
const MOST_GROUPS: usize = 5_000;

/// Lines that are named for a group.
const LINES_SHOWN: usize = 3;

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ViolationKey {
    /// Errors first.
    pub(super) severity: std::cmp::Reverse<Severity>,
    pub(super) rule: Rule,
    pub(super) field: Option<String>,
    pub(super) value: Option<String>,
}

#[derive(Debug)]
pub(super) struct ViolationGroup {
    pub(super) count: u64,
    /// The first ones.
    pub(super) lines: Vec<u64>,
    pub(super) message: String,
    pub(super) suggestion: Option<String>,
}

#[derive(Debug)]
pub(super) struct ViolationCounts {
    /// What the lines count: lines or hits.
    pub(super) counts: &'static str,
    pub(super) hits: u64,
    pub(super) with_errors: u64,
    pub(super) with_warnings: u64,
    pub(super) groups: BTreeMap<ViolationKey, ViolationGroup>,
}

impl ViolationCounts {
    pub(super) fn new(counts: &'static str) -> Self {
        Self { counts, hits: 0, with_errors: 0, with_warnings: 0, groups: BTreeMap::new() }
    }

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
            if self.groups.len() >= MOST_GROUPS && !self.groups.contains_key(&key) {
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

    /// Hits without error or warning.
    pub(super) fn fine(&self) -> u64 {
        self.hits - self.with_errors - self.with_warnings
    }
}

/// What was not checked, because the list is not loaded: one violation a field, the same for every
/// hit.
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
