//! The differences between two plans, so that they can be read before a new version is put in
//! force.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Plan;
use crate::domain::rule::{Language, Rule};

/// A difference. What was added has no `from`, and what was removed has no `to`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlanChange {
    /// What differs, for example `field dimension9: max` or `list services: value`.
    pub what: String,
    /// How the first plan has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// How the second plan has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// Lists every difference, in the order of what differs.
pub fn between(a: &Plan, b: &Plan) -> Vec<PlanChange> {
    let (from, to) = (facts(a), facts(b));
    let gone = from
        .iter()
        .filter(|(key, _)| !to.contains_key(*key))
        .map(|(key, value)| (key, Some(value), None));
    let there = to.iter().map(|(key, value)| (key, from.get(key), Some(value)));
    let mut changes: Vec<_> = gone.chain(there).filter(|(_, from, to)| from != to).collect();
    changes.sort_by_key(|(key, ..)| *key);
    let change = |(key, from, to): (&(String, String), Option<&String>, Option<&String>)| {
        PlanChange { what: key.0.clone(), from: from.cloned(), to: to.cloned() }
    };
    changes.into_iter().map(change).collect()
}

/// Lists everything that a plan says, each fact by what it is about and by what distinguishes it
/// from others of its kind.
fn facts(plan: &Plan) -> BTreeMap<(String, String), String> {
    let mut facts = BTreeMap::new();
    let mut add = |what: String, which: &str, value: &str| {
        facts.insert((what, which.to_owned()), value.to_owned())
    };
    add("version".to_owned(), "", &plan.version);
    add("in_force_since".to_owned(), "", &plan.in_force_since.to_string());
    add("recommended_length".to_owned(), "", &plan.recommended_length.to_string());
    add("stored_length".to_owned(), "", &plan.stored_length.to_string());
    add("gar_tool".to_owned(), "", &plan.gar_tool);
    let flag = |flag: bool| flag.then(|| "yes".to_owned());
    for field in plan.fields() {
        let facts = [
            ("section", Some(field.section.clone())),
            ("parameter", Some(field.parameter().to_owned())),
            ("max", field.max.map(|max| max.to_string())),
            ("mandatory for", (!field.mandatory.is_empty()).then(|| field.mandatory.join(", "))),
            ("list", field.list.clone()),
            ("exceptions", field.exceptions.clone()),
            ("coverage", field.coverage.clone()),
            ("supplied by the relay", flag(field.relay)),
            ("recommended length", flag(field.short)),
            ("free text", flag(field.free)),
            ("same for a visit", flag(field.visit)),
        ];
        for (key, value) in facts.into_iter().filter_map(|(key, value)| Some((key, value?))) {
            add(format!("field {}: {key}", field.name), "", &value);
        }
    }
    for rule in Rule::ALL {
        let code = rule.code();
        add(format!("rule {code}: severity"), "", plan.severity(*rule).code());
        add(format!("rule {code}: fr"), "", plan.text(*rule, Language::French));
        add(format!("rule {code}: en"), "", plan.text(*rule, Language::English));
        add(format!("rule {code}: fr, alone"), "", plan.text_alone(*rule, Language::French));
        add(format!("rule {code}: en, alone"), "", plan.text_alone(*rule, Language::English));
    }
    for section in plan.sections() {
        add(format!("section {}: fr", section.number), "", section.title(Language::French));
        add(format!("section {}: en", section.number), "", section.title(Language::English));
    }
    for (code, service) in plan.gar() {
        add(format!("GAR code {code}"), "", service);
        if let Some(also) = plan.other_spelling(service) {
            add(format!("GAR code {code}: also"), "", also);
        }
    }
    for word in &plan.words {
        add("word".to_owned(), &word.en, &word.fr);
    }
    for (name, profile) in plan.national() {
        add(format!("national profile {name}"), "", profile);
    }
    for list in plan.lists() {
        let name = &list.name;
        add(format!("list {name}: section"), "", &list.section);
        for value in list.values() {
            add(format!("list {name}: value"), value, value);
            if let Some(description) = list.description(value) {
                add(format!("list {name}: description of {value}"), "", description);
            }
        }
        for (alias, value) in plan.aliases(name) {
            add(format!("list {name}: alias {alias}"), "", value);
        }
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::BUILT_IN;

    #[test]
    fn a_new_version_is_its_differences() {
        let old = Plan::parse(BUILT_IN).expect("plan");
        assert_eq!(between(&old, &old), []);
        let text = BUILT_IN
            .replace("version = \"2.01\"", "version = \"2.02\"")
            .replacen("max = 200", "max = 100", 1)
            .replace("\"TIERS\"]", "\"EXTERNE\"]");
        let changes = between(&old, &Plan::parse(&text).expect("parses"));
        let change = |what: &str, from: Option<&str>, to: Option<&str>| PlanChange {
            what: what.to_owned(),
            from: from.map(str::to_owned),
            to: to.map(str::to_owned),
        };
        let expected = [
            change("field uid: max", Some("200"), Some("100")),
            change("list types: value", None, Some("EXTERNE")),
            change("list types: value", Some("TIERS"), None),
            change("version", Some("2.01"), Some("2.02")),
        ];
        assert_eq!(changes, expected);
    }
}
