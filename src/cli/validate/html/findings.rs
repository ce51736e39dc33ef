//! What is wrong: equal violations by rule and field, and the values among them.

use std::collections::BTreeMap;

use super::Rest;
use super::words::{private, shown, spaced};
use crate::cli::validate::survey::{Survey, WHOLE};
use crate::cli::validate::tally::{Group, Key, Tally};
use crate::domain::plan::Plan;
use crate::domain::rule::{Language, Rule, Severity};
use crate::domain::validate::Violation;

/// Wrong values of one finding that are shown at once.
const SHOWN: usize = 8;

/// One rule that one field breaks.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) code: &'static str,
    pub(super) field: Option<String>,
    pub(super) section: String,
    pub(super) message: String,
    pub(super) hits: u64,
    pub(super) lines: String,
    /// The values that break it, the most frequent first; none where there is only one, which the
    /// message names.
    pub(super) values: Rest<Wrong>,
}

/// A wrong value.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) value: String,
    pub(super) hint: Option<String>,
    pub(super) count: u64,
    pub(super) lines: String,
}

/// The findings of one severity, those that most hits have first.
pub(super) fn findings(
    tally: &Tally,
    survey: &Survey,
    plan: &Plan,
    language: Language,
    severity: Severity,
) -> Vec<Finding> {
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
    let mut findings: Vec<Finding> = kinds
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
    mut groups: Vec<(&Key, &Group)>,
) -> Finding {
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
    Finding {
        code: rule.code(),
        field: field.map(|field| field.name.clone()),
        section: field.map_or_else(|| WHOLE.to_owned(), |field| field.section.clone()),
        message: spaced(&message, language),
        hits,
        lines,
        values: Rest::of(values, SHOWN),
    }
}

/// The values of a finding, the most frequent first; those that may not be told are one.
fn wrong(groups: &[(&Key, &Group)], language: Language) -> Vec<Wrong> {
    let mut wrong: Vec<Wrong> = Vec::new();
    let mut untold: Option<Wrong> = None;
    for (key, group) in groups {
        let found = key.value.as_deref().or(key.field.as_deref());
        let value = found.map_or_else(|| language.of("(others)", "(autres)").to_owned(), shown);
        let one = Wrong {
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
fn single(plan: &Plan, language: Language, key: &Key, group: &Group) -> String {
    let mut message = group.message.clone();
    for found in [&key.field, &key.value].into_iter().flatten().filter(|found| private(found)) {
        message = message.replace(found.as_str(), "…");
    }
    if group.count > 1 && plan.text(key.rule, language).contains("{length}") {
        message.push_str(language.of(" (in the first case)", " (dans le premier cas)"));
    }
    message
}

fn lines(group: &Group) -> String {
    let mut lines = group.lines.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if group.count > group.lines.len() as u64 {
        lines.push_str(", …");
    }
    lines
}
