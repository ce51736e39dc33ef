//! The values of a field: those that were seen, those that are not in its list, and those that were
//! never seen.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::ShownList;
use crate::cli::validate::statistics::FieldCoverage;
use crate::domain::plan::{FieldRole, Plan};
use crate::domain::shown::shown;

/// How many values of one kind are shown at once.
const SHOWN: usize = 20;

/// The values that were seen of one field.
#[derive(Debug)]
pub(super) struct CoveredField<'p> {
    /// The name of the field.
    pub(super) field: &'p str,
    /// The name of its list; `None` for the schools, which have none.
    pub(super) list: Option<&'p str>,
    /// Whether the list is loaded.
    pub(super) checked: bool,
    /// How many values the list has, if it is loaded.
    pub(super) legal: usize,
    /// How many legal values were seen.
    pub(super) seen: usize,
    /// How many legal values were never seen.
    pub(super) unseen: usize,
    /// The legal values that were seen.
    pub(super) values: ShownList<SeenValue>,
    /// The values that are not in the list.
    pub(super) wrong: ShownList<SeenValue>,
    /// The legal values that were never seen, each with what the plan says about it.
    pub(super) never: ShownList<(&'p str, Option<&'p str>)>,
    /// Hits whose value is not kept.
    pub(super) others: u64,
}

/// A value that was seen.
#[derive(Debug)]
pub(super) struct SeenValue {
    /// The value, as it may be shown.
    pub(super) value: String,
    /// How many hits have it.
    pub(super) count: u64,
}

/// Sorts out the values of a field.
pub(super) fn covered<'p>(plan: &'p Plan, coverage: &'p FieldCoverage) -> CoveredField<'p> {
    let list =
        coverage.list.as_deref().and_then(|list| plan.list(list)).filter(|list| list.is_loaded());
    let is_school = plan
        .role_index(FieldRole::Uai)
        .and_then(|index| plan.fields().get(index))
        .is_some_and(|field| field.name == coverage.field);
    // A column in the wrong place may have put names there.
    let shown = |value: &str| {
        if is_school && !value.bytes().any(|byte| byte.is_ascii_digit()) {
            "…".to_owned()
        } else {
            shown(value, &[])
        }
    };
    // Values that may not be shown are counted together, as "…".
    let (mut legal, mut wrong): (BTreeMap<Cow<'_, str>, u64>, BTreeMap<_, u64>) =
        (BTreeMap::new(), BTreeMap::new());
    for (value, count) in &coverage.seen {
        match list {
            Some(list) if list.contains(value) => {
                *legal.entry(Cow::Borrowed(value.as_str())).or_default() += count
            }
            Some(_) => *wrong.entry(Cow::Owned(shown(value))).or_default() += count,
            None => *legal.entry(Cow::Owned(shown(value))).or_default() += count,
        }
    }
    let described = |value| (value, list.and_then(|list| list.description(value)));
    let never: Vec<_> = coverage.never_seen(plan).into_iter().map(described).collect();
    CoveredField {
        field: &coverage.field,
        list: coverage.list.as_deref().filter(|_| !is_school),
        checked: list.is_some(),
        legal: list.map_or(0, |list| list.values().len()),
        seen: legal.len(),
        unseen: never.len(),
        values: ShownList::of(by_count(legal), SHOWN),
        wrong: ShownList::of(by_count(wrong), SHOWN),
        never: ShownList::of(never, SHOWN),
        others: coverage.others,
    }
}

/// Sorts values, the most frequent first.
fn by_count(values: BTreeMap<Cow<'_, str>, u64>) -> Vec<SeenValue> {
    let mut values: Vec<SeenValue> = values
        .into_iter()
        .map(|(value, count)| SeenValue { value: value.into_owned(), count })
        .collect();
    values.sort_by_key(|seen| std::cmp::Reverse(seen.count));
    values
}

impl CoveredField<'_> {
    /// Whether the plan says something about the values that were never seen.
    pub(super) fn described(&self) -> bool {
        self.never.first.iter().any(|(_, meaning)| meaning.is_some())
    }
}
