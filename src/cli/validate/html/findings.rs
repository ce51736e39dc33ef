//! The findings of the page: equal violations by rule and field, with the values among them.

use std::collections::BTreeMap;

use super::ShownList;
use super::words::spaced;
use crate::cli::validate::counts::{ViolationCounts, ViolationGroup, ViolationKey};
use crate::cli::validate::statistics::{FileStatistics, WHOLE};
use crate::domain::plan::Plan;
use crate::domain::rule::{Language, Rule, Severity};
use crate::domain::validate::Violation;

/// How many wrong values of a finding are shown at once.
const SHOWN: usize = 8;

/// A rule that hits break in a field.
#[derive(Debug)]
pub(super) struct ReportFinding {
    /// The code of the rule.
    pub(super) code: &'static str,
    /// The field, if it is one of the plan.
    pub(super) field: Option<String>,
    /// The number of the field's section.
    pub(super) section: String,
    /// The sentence for people.
    pub(super) message: String,
    /// Hits that break the rule in this field.
    pub(super) hits: u64,
    /// The first lines that do; empty if there are several values.
    pub(super) lines: String,
    /// The values that break it, the most frequent first. There are none if there is only one,
    /// since the message names it.
    pub(super) values: ShownList<WrongValue>,
}

/// A wrong value.
#[derive(Debug)]
pub(super) struct WrongValue {
    /// The value, as it may be shown.
    pub(super) value: String,
    /// The value that was probably meant.
    pub(super) hint: Option<String>,
    /// How often it occurs.
    pub(super) count: u64,
    /// The first lines that have it.
    pub(super) lines: String,
}

/// Makes the findings of one severity. Those that most hits have come first.
pub(super) fn findings(
    counts: &ViolationCounts,
    statistics: &FileStatistics,
    plan: &Plan,
    language: Language,
    severity: Severity,
) -> Vec<ReportFinding> {
    let mut kinds: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (key, group) in counts.groups.iter().filter(|(key, _)| key.severity.0 == severity) {
        let index = key.field.as_deref().and_then(|field| plan.index(field));
        kinds.entry((key.rule, index)).or_default().push((key, group));
    }
    for rule in Rule::ALL {
        // Violations beyond the groups that are kept have lost their field. If only one field
        // breaks the rule, they are its own.
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
                statistics.findings.get(&(rule, index)).copied().unwrap_or(count.min(counts.hits));
            finding(plan, language, (rule, index), hits, groups)
        })
        .collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.hits));
    findings
}

/// Makes one finding from its groups.
fn finding(
    plan: &Plan,
    language: Language,
    (rule, index): (Rule, Option<usize>),
    hits: u64,
    mut groups: Vec<(&ViolationKey, &ViolationGroup)>,
) -> ReportFinding {
    let field = index.and_then(|index| plan.fields().get(index));
    // The list shows the most frequent values first.
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

/// Lists the values of a finding, the most frequent first. Those that may not be shown are one
/// group already.
fn wrong(groups: &[(&ViolationKey, &ViolationGroup)], language: Language) -> Vec<WrongValue> {
    let others = || language.of("(others)", "(autres)").to_owned();
    let one = |(key, group): &(&ViolationKey, &ViolationGroup)| WrongValue {
        value: key.value.as_ref().or(key.field.as_ref()).map_or_else(others, Clone::clone),
        hint: group.suggestion.clone(),
        count: group.count,
        lines: lines(group),
    };
    groups.iter().map(one).collect()
}

/// Writes the sentence of a finding that has one group.
fn single(plan: &Plan, language: Language, key: &ViolationKey, group: &ViolationGroup) -> String {
    let mut message = group.message.clone();
    if group.count > 1 && plan.text(key.rule, language).contains("{length}") {
        message.push_str(language.of(" (in the first case)", " (dans le premier cas)"));
    }
    message
}

/// Writes the first lines of a group.
fn lines(group: &ViolationGroup) -> String {
    let mut lines = group.lines.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if group.count > group.lines.len() as u64 {
        lines.push_str(", …");
    }
    lines
}
