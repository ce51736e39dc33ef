//! What is wrong: equal violations by rule and field, and the values among them.

use std::collections::BTreeMap;

use super::ShownList;
use super::words::{private, shown, spaced};
use crate::cli::validate::survey::{Survey, WHOLE};
use crate::cli::validate::tally::{ViolationCounts, ViolationGroup, ViolationKey};
use crate::domain::plan::Plan;
use crate::domain::rule::{Language, Rule, Severity};
use crate::domain::validate::Violation;

/// Wrong values of one finding that are shown at once.
const SHOWN: usize = 8;

/// One rule that one field breaks.
#[derive(Debug)]
pub(super) struct ReportFinding {
    pub(super) code: &'static str,
    pub(super) field: Option<String>,
    pub(super) section: String,
    pub(super) message: String,
    pub(super) hits: u64,
    pub(super) lines: String,
    /// The values that break it, the most frequent first; none where there is only one, which the
    /// message names.
    pub(super) values: ShownList<WrongValue>,
}

/// A wrong value.
#[derive(Debug)]
pub(super) struct WrongValue {
    pub(super) value: String,
    pub(super) hint: Option<String>,
    pub(super) count: u64,
    pub(super) lines: String,
}

/// The findings of one severity, those that most hits have first.
pub(super) fn findings(
    tally: &ViolationCounts,
    survey: &Survey,
    plan: &Plan,
    language: Language,
    severity: Severity,
) -> Vec<ReportFinding> {
    let mut kinds: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (key, group) in tally.groups.iter().filter(|(key, _)| key.severity.0 == severity) {
        let index = key.field.as_deref().and_then(|field| plan.index(field));
        kinds.entry((key.rule, index)).or_default().push((key, group));
    }
    for rule in Rule::ALL {
        // Values beyond those that are told apart have lost their field: they are the others of the
        // one that there is.
        let fields: Vec<_> =
            kinds.keys().filter(|(of, index)| of == rule && index.is_some()).copied().collect();
        if let [field] = fields.as_slice()
            && let Some(others) = kinds.remove(&(*rule, None))
        {
            kinds.entry(*field).or_default().extend(others);
        }
    }
    let mut findings: Vec<ReportFinding> = kinds
        .into_iter()
        .map(|((rule, index), groups)| {
            let count: u64 = groups.iter().map(|(_, group)| group.count).sum();
            let hits =
                survey.findings.get(&(rule, index)).copied().unwrap_or(count.min(tally.hits));
            finding(plan, language, (rule, index), hits, groups)
        })
        .collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.hits));
    findings
}

fn finding(
    plan: &Plan,
    language: Language,
    (rule, index): (Rule, Option<usize>),
    hits: u64,
    mut groups: Vec<(&ViolationKey, &ViolationGroup)>,
) -> ReportFinding {
    let field = index.and_then(|index| plan.fields().get(index));
    // The beginning of a list of values is the top of them.
    groups.sort_by_key(|(_, group)| std::cmp::Reverse(group.count));
    let (message, lines, values) = match groups.as_slice() {
        [(key, group)] => (single(plan, language, key, group), lines(group), Vec::new()),
        several => {
            let any = || Some("…".to_owned());
            let field = field.map(|field| field.name.clone()).or_else(any);
            let pattern =
                Violation { field, value: any(), suggestion: any(), ..Violation::of_message(rule) };
            (
                pattern.message(plan, language).replace("….", "…"),
                String::new(),
                wrong(several, language),
            )
        }
    };
    ReportFinding {
        code: rule.code(),
        field: field.map(|field| field.name.clone()),
        section: field.map_or_else(|| WHOLE.to_owned(), |field| field.section.clone()),
        message: spaced(&message, language),
        hits,
        lines,
        values: ShownList::of(values, SHOWN),
    }
}

/// The values of a finding, the most frequent first; those that may not be told are one.
fn wrong(groups: &[(&ViolationKey, &ViolationGroup)], language: Language) -> Vec<WrongValue> {
    let mut wrong: Vec<WrongValue> = Vec::new();
    let mut untold: Option<WrongValue> = None;
    for (key, group) in groups {
        let found = key.value.as_deref().or(key.field.as_deref());
        let value = found.map_or_else(|| language.of("(others)", "(autres)").to_owned(), shown);
        let one = WrongValue {
            value,
            hint: group.suggestion.clone(),
            count: group.count,
            lines: lines(group),
        };
        match &mut untold {
            Some(untold) if found.is_some_and(private) => {
                untold.count += one.count;
                untold.hint = None;
                let first = untold.lines.trim_end_matches(", …").to_owned();
                untold.lines = first + ", …";
            }
            None if found.is_some_and(private) => untold = Some(one),
            _ => wrong.push(one),
        }
    }
    wrong.extend(untold);
    wrong.sort_by_key(|wrong| std::cmp::Reverse(wrong.count));
    wrong
}

/// The sentence of a finding that has one kind.
fn single(plan: &Plan, language: Language, key: &ViolationKey, group: &ViolationGroup) -> String {
    let mut message = group.message.clone();
    for found in [&key.field, &key.value].into_iter().flatten().filter(|found| private(found)) {
        message = message.replace(found.as_str(), "…");
    }
    if group.count > 1 && plan.text(key.rule, language).contains("{length}") {
        message.push_str(language.of(" (in the first case)", " (dans le premier cas)"));
    }
    message
}

fn lines(group: &ViolationGroup) -> String {
    let mut lines = group.lines.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if group.count > group.lines.len() as u64 {
        lines.push_str(", …");
    }
    lines
}
