//! Masks what may not be shown of a dead hit: everything that names or follows a person.

use std::borrow::Cow;

use crate::domain::plan::{FieldRole, Plan};
use crate::domain::printable::printable;
use crate::domain::shown::{has_identifier, is_of};
use crate::domain::validate::names_person;

/// Returns the value of a field as it may be shown: nothing of visitors, browsers and parameters
/// that are none of the plan's, nothing in which one of the `visitors` or another identifier
/// stands, and addresses without their query. It is printable.
pub fn masked<'v>(plan: &Plan, name: &str, value: &'v str, visitors: &[&str]) -> Cow<'v, str> {
    let Some(index) = plan.index(name) else { return hidden(value) };
    let is = |role: FieldRole| plan.role_index(role) == Some(index);
    if [FieldRole::User, FieldRole::VisitorId, FieldRole::PageView, FieldRole::UserAgent]
        .into_iter()
        .any(is)
    {
        return hidden(value);
    }
    let is_address = plan
        .fields()
        .get(index)
        .is_some_and(|field| matches!(field.name.as_str(), "url" | "url_ref"));
    let beginning =
        value.find(['?', '#', ';']).filter(|_| is_address).and_then(|end| value.get(..=end));
    let told = beginning.unwrap_or(value);
    if names_person(told)
        || has_identifier(told)
        || visitors.iter().any(|visitor| is_of(told, visitor))
    {
        return hidden(value);
    }
    match beginning {
        Some(beginning) => Cow::Owned(format!("{}…", printable(beginning))),
        None => printable(value),
    }
}

/// Says how long a value is that may not be shown.
fn hidden(value: &str) -> Cow<'static, str> {
    Cow::Owned(format!("… ({} characters)", value.chars().count()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_person_is_shown() {
        let plan = Plan::built_in().expect("plan");
        for (name, value, shown_as) in [
            ("uid", "abcdef", "… (6 characters)"),
            ("ua", "Firefox", "… (7 characters)"),
            ("cip", "192.0.2.1", "… (9 characters)"),
            ("url", "https://ent.fr/a?user=jean", "https://ent.fr/a?…"),
            ("urlref", "https://ent.fr/a#jean", "https://ent.fr/a#…"),
            ("action_name", "jean.dupont@example.fr", "… (22 characters)"),
            ("dimension8", "NOTES", "NOTES"),
            ("dimension1", "0750655E,0350029S", "0750655E,0350029S"),
            // Columns that were swapped.
            ("dimension3", "7c9e6679f4b44e1f8e0c5b6f0a3d2c1b", "… (32 characters)"),
            ("dimension3", "Eleve42", "… (7 characters)"),
            ("url", "https://ent.fr/7c9e6679f4b44e1f8e0c5b6f0a3d2c1b/a", "… (49 characters)"),
            ("dimension9", "a\u{9b}2Jb\u{202e}", "a\u{fffd}2Jb\u{fffd}"),
        ] {
            assert_eq!(masked(&plan, name, value, &["eleve42"]), shown_as, "{name}");
        }
    }
}
