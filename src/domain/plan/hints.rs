//! What senders write in place of the plan's values and names, and what they mean by it. A hint is
//! shown beside the violation; nothing is replaced by it.

use serde::Deserialize;

use super::{Field, Plan};

/// A value that senders take from their own data model in place of one of the plan's.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ValueHint {
    /// The name of the list that the legal value is from.
    pub(super) list: String,
    /// The other values, in any case.
    written: Vec<String>,
    /// The legal value that they mean.
    value: String,
}

/// A parameter name that senders use in place of one of the plan's.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NameHint {
    /// The field of the plan that they mean.
    pub(super) field: String,
    /// The other names, in any case.
    written: Vec<String>,
}

impl Plan {
    /// Returns the legal value of a list that is meant by a value which is none.
    pub(crate) fn value_meant(&self, list: &str, written: &str) -> Option<&str> {
        let is_written = |other: &String| other.eq_ignore_ascii_case(written);
        self.value_hints
            .iter()
            .find(|hint| hint.list == list && hint.written.iter().any(is_written))
            .map(|hint| hint.value.as_str())
    }

    /// Returns the field that is meant by a parameter name which the plan does not know: its own
    /// name in another case, the name that the plan's example of a request gives to its value, or
    /// one of other data models.
    pub(crate) fn field_meant(&self, written: &str) -> Option<&Field> {
        let is_written = |other: &String| other.eq_ignore_ascii_case(written);
        let is_own = |field: &&Field| {
            field.name.eq_ignore_ascii_case(written)
                || field.parameter().eq_ignore_ascii_case(written)
        };
        self.fields.iter().find(is_own).or_else(|| {
            let hint = self.name_hints.iter().find(|hint| hint.written.iter().any(is_written))?;
            self.fields.get(self.index(&hint.field)?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_names_and_other_names_are_known_in_any_case() {
        let plan = Plan::built_in().expect("plan");
        for (written, profile) in [
            ("Student", Some("ELEVE")),
            ("RELATIVE", Some("PARENT")),
            ("ENTEleve", Some("ELEVE")),
            ("ENTAuxEnseignant", Some("ENSEIGNANT")),
            ("ENTAuxNonEnsCollLoc", Some("PERSONNEL_COLLECTIVITE")),
            ("Personnel", Some("ADMIN_VIE_SCOL_TECH")),
            ("ELEVES DE 3E", None),
        ] {
            assert_eq!(plan.value_meant("profils", written), profile, "{written}");
        }
        assert_eq!(plan.value_meant("services", "Student"), None);
        for (written, field) in [
            ("date", Some("cdt")),
            ("UID", Some("uid")),
            ("Dimension11", Some("dimension11")),
            ("URLREF", Some("url_ref")),
            ("userAgent", Some("ua")),
            ("PROFIL", Some("dimension2")),
            ("dimension5", None),
        ] {
            assert_eq!(plan.field_meant(written).map(|f| f.name.as_str()), field, "{written}");
        }
    }

    #[test]
    fn every_hint_leads_to_something_legal() {
        let plan = Plan::built_in().expect("plan");
        for hint in &plan.value_hints {
            let list = plan.list(&hint.list).expect("a list");
            assert!(list.contains(&hint.value), "{hint:?}");
            assert!(hint.written.iter().all(|written| !list.contains(written)), "{hint:?}");
        }
        for hint in &plan.name_hints {
            assert!(plan.index(&hint.field).is_some(), "{hint:?}");
            assert!(hint.written.iter().all(|name| plan.index(name).is_none()), "{hint:?}");
        }
    }
}
