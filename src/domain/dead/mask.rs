//! Masks what may not be shown of a dead hit: everything that names or follows a person.

use std::borrow::Cow;

use crate::domain::plan::{FieldRole, Plan};
use crate::domain::validate::names_person;

/// How many characters of a value are shown.
const MAX_SHOWN: usize = 60;

/// Returns a value as lists and groups show it: its beginning, without control characters, and
/// nothing if it names a person.
pub fn shown(value: &str) -> String {
    if names_person(value) {
        return "…".to_owned();
    }
    value.chars().take(MAX_SHOWN).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Returns the value of a field as it may be shown: nothing of visitors, browsers and parameters
/// that are none of the plan's, and addresses without their query.
pub fn masked<'v>(plan: &Plan, name: &str, value: &'v str) -> Cow<'v, str> {
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
    match beginning {
        _ if names_person(beginning.unwrap_or(value)) => hidden(value),
        Some(beginning) => Cow::Owned(format!("{beginning}…")),
        None => Cow::Borrowed(value),
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
        ] {
            assert_eq!(masked(&plan, name, value), shown_as, "{name}");
        }
        assert_eq!(shown("a\u{1b}[2Jb"), "a\u{fffd}[2Jb");
        assert_eq!(shown("jean.dupont@example.fr"), "…");
    }
}
