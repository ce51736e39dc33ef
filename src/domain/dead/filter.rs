//! The filter that chooses dead hits, the same for every command.

use jiff::Timestamp;
use serde::Serialize;

use super::{Dead, DeathCause};
use crate::domain::plan::FieldRole;

/// A choice of dead hits. Several values of one criterion are alternatives; different criteria must
/// all hold. Without any, every hit is chosen.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(default)]
pub struct Filter {
    /// The codes of failures or rules.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reason: Vec<String>,
    /// The fields at fault, by the RFTI's name. With a reason, both must be of the same cause.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub field: Vec<String>,
    /// The sites of Matomo.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub idsite: Vec<String>,
    /// The values of `dimension3`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exploitant: Vec<String>,
    /// The values of `dimension4`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub plateforme: Vec<String>,
    /// The schools, of which `dimension1` must name one, in upper or lower case.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uai: Vec<String>,
    /// The HTTP statuses of the latest failure.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<u16>,
    /// The numbers of attempts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attempt: Vec<u32>,
    /// The time at which, or after which, the hit failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The time before which the hit failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Filter {
    /// Whether there is any criterion.
    pub fn is_set(&self) -> bool {
        let Self {
            reason,
            field,
            idsite,
            exploitant,
            plateforme,
            uai,
            status,
            attempt,
            since,
            until,
        } = self;
        let texts = [reason, field, idsite, exploitant, plateforme, uai];
        texts.iter().any(|texts| !texts.is_empty())
            || !status.is_empty()
            || !attempt.is_empty()
            || since.is_some()
            || until.is_some()
    }

    /// Whether this hit is chosen. A hit whose time is not known is in no period.
    pub fn admits(&self, dead: &Dead<'_>) -> bool {
        let any = |wanted: &[String], value: Option<&str>| {
            wanted.is_empty()
                || value.is_some_and(|value| wanted.iter().any(|wanted| wanted == value))
        };
        let cause = |cause: &DeathCause| {
            any(&self.reason, Some(&cause.code)) && any(&self.field, cause.field.as_deref())
        };
        let schools = dead.value(FieldRole::Uai).unwrap_or_default();
        let school = |wanted: &String| {
            schools.split(',').any(|school| school.trim().eq_ignore_ascii_case(wanted))
        };
        dead.causes.iter().any(cause)
            && any(&self.idsite, dead.value(FieldRole::Site))
            && any(&self.exploitant, dead.value(FieldRole::Exploitant))
            && any(&self.plateforme, dead.value(FieldRole::Plateforme))
            && (self.uai.is_empty() || self.uai.iter().any(school))
            && (self.status.is_empty()
                || dead.status.is_some_and(|status| self.status.contains(&status)))
            && (self.attempt.is_empty() || self.attempt.contains(&dead.attempts))
            && self.since.is_none_or(|since| dead.failed_at.is_some_and(|at| at >= since))
            && self.until.is_none_or(|until| dead.failed_at.is_some_and(|at| at < until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::dead::tests::{parked, rejected};

    fn of(change: impl FnOnce(&mut Filter)) -> Filter {
        let mut filter = Filter::default();
        change(&mut filter);
        filter
    }

    #[test]
    fn each_kind_chooses_by_itself_and_all_must_hold() {
        let texts =
            |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
        let dead = parked("timeout", 504);
        let at = |text: &str| text.parse::<Timestamp>().ok();
        for (filter, admitted) in [
            (Filter::default(), true),
            (of(|f| f.reason = texts(&["refused", "timeout"])), true),
            (of(|f| f.reason = texts(&["refused"])), false),
            (of(|f| f.field = texts(&["dimension8"])), false),
            (of(|f| f.idsite = texts(&["7"])), true),
            (of(|f| f.exploitant = texts(&["BETA"])), false),
            (of(|f| f.uai = texts(&["0350029s"])), true),
            (of(|f| f.uai = texts(&["0350029"])), false),
            (of(|f| f.status = vec![504]), true),
            (of(|f| f.attempt = vec![1, 2]), false),
            (of(|f| f.since = at("2026-11-24T07:30:00Z")), true),
            (of(|f| f.until = at("2026-11-24T07:30:00Z")), false),
            (of(|f| (f.status, f.plateforme) = (vec![504], texts(&["PB"]))), false),
        ] {
            assert_eq!(filter.admits(&dead), admitted, "{filter:?}");
        }
    }

    #[test]
    fn reason_and_field_are_of_one_fault() {
        let dead = rejected(
            r#"[
                {"code":"missing","field":"dimension2"},
                {"code":"not-in-list","field":"dimension8"}
            ]"#,
        );
        let both = |reason: &str, field: &str| {
            of(|f| (f.reason, f.field) = (vec![reason.to_owned()], vec![field.to_owned()]))
        };
        assert!(both("missing", "dimension2").admits(&dead));
        assert!(!both("missing", "dimension8").admits(&dead));
    }
}
