//! Counts dead hits by what they have in common.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;

use super::{Dead, DeathCause};
use crate::domain::code::codes;
use crate::domain::plan::{FieldRole, Plan};
use crate::domain::validate::{Context, validate};

codes! {
    /// What hits can be grouped by.
    GroupKey {
        /// The queue groups them: *parked* or *rejected*.
        Queue = "queue",
        /// The code of the failure groups them, or that of each rule that rejected the hit.
        Reason = "reason",
        /// The field at fault groups them.
        Field = "field",
        /// What that field holds groups them, if the plan has a list for it.
        Value = "value",
        /// Matomo's site groups them.
        Site = "idsite",
        /// The value of `dimension3` groups them.
        Exploitant = "exploitant",
        /// The value of `dimension4` groups them.
        Plateforme = "plateforme",
        /// The value of `dimension1` groups them.
        Uai = "uai",
        /// The HTTP status of the latest failure groups them.
        Status = "status",
        /// How often they were sent groups them.
        Attempt = "attempt",
    }
}

/// How many groups are kept, which is more than anybody reads. Hits of further groups are counted
/// together, so that the memory is bounded whatever the hits say.
const MAX_GROUPS: usize = 10_000;

/// Groups of dead hits.
#[derive(Debug)]
pub struct Groups {
    /// What the hits are grouped by.
    keys: Vec<GroupKey>,
    /// The groups by the value of each key.
    groups: BTreeMap<Vec<String>, DeadGroup>,
    /// The number of hits, each counted once.
    pub hits: u64,
    /// Hits that are in more than one group, because several rules rejected them.
    pub in_several: u64,
    /// Hits of which a group is not kept.
    pub others: u64,
}

/// A group of dead hits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DeadGroup {
    /// How many hits there are.
    pub hits: u64,
    /// When the first of them failed.
    pub first_failed_at: Option<Timestamp>,
    /// When the last of them failed.
    pub last_failed_at: Option<Timestamp>,
    /// The id of one of them.
    pub example: String,
    /// The legal value that was probably meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<String>,
}

impl Groups {
    /// Begins with no group.
    pub fn new(keys: Vec<GroupKey>) -> Self {
        Self { keys, groups: BTreeMap::new(), hits: 0, in_several: 0, others: 0 }
    }

    /// Counts a hit once in each of its groups. `id` is called if it is the first of a group.
    pub fn add(&mut self, plan: &Plan, dead: &Dead<'_>, id: impl Fn() -> String) {
        self.hits += 1;
        let (mut counted, mut has_no_place) = (BTreeSet::new(), false);
        for cause in &dead.causes {
            let names: Vec<String> =
                self.keys.iter().map(|key| name(*key, plan, dead, cause)).collect();
            if counted.contains(&names) {
                continue;
            }
            if let Some(group) = self.groups.get_mut(&names) {
                group.count(dead);
            } else if self.groups.len() < MAX_GROUPS {
                let mut group = DeadGroup {
                    example: id(),
                    nearest: nearest(plan, dead, cause),
                    ..DeadGroup::default()
                };
                group.count(dead);
                self.groups.insert(names.clone(), group);
            } else {
                has_no_place = true;
            }
            counted.insert(names);
        }
        self.others += u64::from(has_no_place);
        self.in_several += u64::from(counted.len() > 1);
    }

    /// Returns what the hits are grouped by.
    pub fn keys(&self) -> &[GroupKey] {
        &self.keys
    }

    /// Returns the groups, the largest first.
    pub fn sorted(&self) -> Vec<(&[String], &DeadGroup)> {
        let mut groups: Vec<_> =
            self.groups.iter().map(|(names, group)| (names.as_slice(), group)).collect();
        // The sort is stable, so that groups of one size stay in the order of their names.
        groups.sort_by_key(|(_, group)| std::cmp::Reverse(group.hits));
        groups
    }
}

impl DeadGroup {
    /// Counts a hit.
    fn count(&mut self, dead: &Dead<'_>) {
        self.hits += 1;
        if let Some(at) = dead.failed_at {
            self.first_failed_at = Some(self.first_failed_at.map_or(at, |first| first.min(at)));
            self.last_failed_at = Some(self.last_failed_at.map_or(at, |last| last.max(at)));
        }
    }
}

/// Returns what a hit has for a key, as it may be shown.
fn name(key: GroupKey, plan: &Plan, dead: &Dead<'_>, cause: &DeathCause) -> String {
    let value = |value: Option<&str>| value.map(|value| dead.shown(value)).unwrap_or_default();
    match key {
        GroupKey::Queue => dead.dead_queue.code().to_owned(),
        GroupKey::Reason => dead.shown(&cause.code),
        GroupKey::Field => value(cause.field.as_deref()),
        GroupKey::Value => value(dead.listed(plan, cause.field.as_deref())),
        GroupKey::Site => value(dead.value(FieldRole::Site)),
        GroupKey::Exploitant => value(dead.value(FieldRole::Exploitant)),
        GroupKey::Plateforme => value(dead.value(FieldRole::Plateforme)),
        GroupKey::Uai => value(dead.value(FieldRole::Uai)),
        GroupKey::Status => dead.status.map(|status| status.to_string()).unwrap_or_default(),
        GroupKey::Attempt => dead.attempts.to_string(),
    }
}

/// Returns what the plan in force now suggests for the field at fault.
fn nearest(plan: &Plan, dead: &Dead<'_>, cause: &DeathCause) -> Option<String> {
    let hit = dead.hit.as_ref().ok()?;
    let context = Context { has_token: true, ..Context::at(dead.failed_at?) };
    let found = validate(plan, hit, context).violations.into_iter();
    found
        .filter(|violation| violation.rule.code() == cause.code && violation.field == cause.field)
        .find_map(|violation| violation.suggestion)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::dead::tests::{parked, rejected};

    #[test]
    fn hits_are_counted_by_what_they_share_the_largest_group_first() {
        let plan = Plan::built_in().expect("plan");
        let mut groups = Groups::new(vec![GroupKey::Reason, GroupKey::Field, GroupKey::Value]);
        groups.add(&plan, &parked("timeout", 504), || "first".to_owned());
        let twice = r#"[
            {"code":"not-in-list","field":"dimension8"},
            {"code":"missing","field":"dimension2"},
            {"code":"missing","field":"dimension2"}
        ]"#;
        for id in ["second", "third"] {
            groups.add(&plan, &rejected(twice), || id.to_owned());
        }
        let sorted = groups.sorted();
        let names: Vec<_> = sorted
            .iter()
            .map(|(names, group)| (names.join(" "), group.hits, group.example.as_str()))
            .collect();
        assert_eq!(
            names,
            [
                ("missing dimension2 ".to_owned(), 2, "second"),
                ("not-in-list dimension8 CANTINE".to_owned(), 2, "second"),
                ("timeout  ".to_owned(), 1, "first")
            ]
        );
        assert_eq!((groups.hits, groups.in_several, groups.others), (3, 2, 0));
        assert_eq!(sorted[1].1.first_failed_at, "2026-11-24T08:00:00Z".parse().ok());
    }

    #[test]
    fn the_legal_value_that_was_meant_stands_beside() {
        let plan = Plan::built_in().expect("plan");
        let header = |name: &str| {
            (name == crate::domain::envelope::FAILED_AT)
                .then(|| crate::domain::envelope::Header::Text("2026-11-24T08:00:00Z".into()))
        };
        let body = br#"{"uid":"u","dimension8":"CAHIER_DE_TEXTES"}"#;
        let message = crate::domain::dead::DeadMessage {
            dead_queue: crate::domain::dead::DeadQueue::Rejected,
            body,
            routing_key: "u",
            content_type: None,
            sent_at: None,
            header: &header,
            deaths: &[],
        };
        let dead = Dead::read(&message);
        let cause = DeathCause {
            code: "not-in-list".into(),
            field: Some("dimension8".into()),
            severity: crate::domain::rule::Severity::Error,
            message: None,
        };
        assert_eq!(nearest(&plan, &dead, &cause).as_deref(), Some("CAHIER_TEXTES"));
    }
}
