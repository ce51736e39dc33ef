//! Cases of the tagging plan as data: a hit, changed in one way, and the codes that it must get.
//!
//! Every rule must have a case that it refuses; the valid hit at the top is the case that every
//! rule accepts.
#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::hash::RandomState;

use dnma_relay::domain::hit::decode;
use dnma_relay::domain::plan::Plan;
use dnma_relay::domain::rule::{Language, Rule, Severity};
use dnma_relay::domain::tenant::{Sender, Tenants};
use dnma_relay::domain::validate::{Context, Validation, Violation, validate};
use dnma_relay::domain::visits::Visits;
use jiff::Timestamp;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    now: String,
    valid: serde_json::Map<String, serde_json::Value>,
    /// The file of tenants, as text.
    tenants: String,
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// Fields that differ from the valid hit.
    #[serde(default)]
    set: serde_json::Map<String, serde_json::Value>,
    /// A field repeated this many times over, to reach a limit: `[field, text, times]`.
    repeat: Option<(String, String, usize)>,
    #[serde(default)]
    unset: Vec<String>,
    /// Fields that are null.
    #[serde(default)]
    null: Vec<String>,
    /// The message itself, where it is no variation of the valid hit.
    message: Option<String>,
    /// Times to repeat the message.
    times: Option<usize>,
    /// What stands before the message.
    #[serde(default)]
    before_message: String,
    /// What stands before and after the message.
    around_message: Option<(String, String)>,
    default_site: Option<String>,
    /// The time of the AMQP message.
    sent_at: Option<String>,
    /// The AMQP user of the message; without it nobody checks. The tenants are those at the top.
    user: Option<String>,
    /// The routing key of the AMQP message; without it there is no message, as in a file.
    routing_key: Option<String>,
    /// Reference lists that are loaded.
    #[serde(default)]
    lists: BTreeMap<String, Vec<String>>,
    /// What differs from the valid hit in a hit of the same visitor shortly before.
    before: Option<serde_json::Map<String, serde_json::Value>>,
    /// `code field`, or `code` alone.
    #[serde(default)]
    codes: Vec<String>,
    #[serde(default)]
    suggestion: Option<String>,
    /// What a violation shows of the value.
    value: Option<String>,
    /// What leaves for Matomo in a field.
    #[serde(default)]
    sent: Option<(String, String)>,
    /// Whether anything can be sent at all.
    #[serde(default = "yes")]
    sendable: bool,
}

const fn yes() -> bool {
    true
}

impl Cases {
    fn now(&self) -> Timestamp {
        self.now.parse().expect("a time")
    }
}

impl Case {
    fn message(&self, valid: &serde_json::Map<String, serde_json::Value>) -> Vec<u8> {
        if let Some(message) = &self.message {
            return message.repeat(self.times.unwrap_or(1)).into_bytes();
        }
        let mut hit = valid.clone();
        hit.extend(self.set.clone());
        if let Some((field, text, times)) = &self.repeat {
            hit.insert(field.clone(), text.repeat(*times).into());
        }
        hit.retain(|name, _| !self.unset.contains(name));
        hit.extend(self.null.iter().map(|name| (name.clone(), serde_json::Value::Null)));
        let json = serde_json::to_string(&hit).expect("JSON");
        let (before, after) = self.around_message.clone().unwrap_or_default();
        [self.before_message.as_str(), &before, &json, &after].concat().into_bytes()
    }
}

fn code(violation: &Violation) -> String {
    violation.field.as_ref().map_or_else(
        || violation.rule.code().to_owned(),
        |field| format!("{} {field}", violation.rule.code()),
    )
}

#[test]
fn every_case_gets_its_codes_and_every_rule_has_its_cases() {
    let plan = Plan::built_in().expect("plan");
    let cases: Cases = toml::from_str(include_str!("plan/cases.toml")).expect("cases.toml");
    let tenants = Tenants::parse(&cases.tenants, &plan, &["relay".to_owned()]).expect("tenants");
    let mut refused = BTreeSet::new();
    let mut accepted = false;
    for case in &cases.case {
        let mut plan = plan.clone();
        for (list, values) in &case.lists {
            plan.load(list, values.clone()).expect("a list of the plan");
        }
        let message = case.message(&cases.valid);
        let (violations, sendable, sent) = match decode(&message, None) {
            Err(error) => (vec![Violation::from(error)], false, None),
            Ok(hit) => {
                let context = Context {
                    first_seen: cases.now(),
                    default_site: case.default_site.as_deref(),
                    sent_at: case.sent_at.as_ref().map(|text| text.parse().expect("a time")),
                    sender: case
                        .user
                        .as_deref()
                        .map_or(Sender::Unchecked, |user| tenants.sender(Some(user))),
                    routing_key: case.routing_key.as_deref(),
                    ..Context::at(cases.now())
                };
                let mut verdict = validate(&plan, &hit, context);
                if let (Some(before), Some(now)) = (&case.before, &verdict.hit) {
                    let mut visits = Visits::new(10, RandomState::new());
                    let mut earlier = cases.valid.clone();
                    earlier.extend(before.clone());
                    let earlier = serde_json::to_vec(&earlier).expect("JSON");
                    let earlier = decode(&earlier, None).expect("decodes");
                    let earlier = validate(&plan, &earlier, context).hit.expect("sendable");
                    visits.keep(visits.snapshot(&plan, &earlier));
                    verdict.violations.extend(visits.changed(&plan, &visits.snapshot(&plan, now)));
                }
                let sent = case.sent.as_ref().map(|(field, _)| {
                    let hit = verdict.hit.as_ref().expect("sendable");
                    match field.as_str() {
                        "cdt" => return hit.cdt.as_second().to_string(),
                        "idsite" => return hit.idsite.to_string(),
                        _ => {}
                    }
                    let index = plan.index(field).expect("a field");
                    hit.values[index].as_deref().unwrap_or_default().to_owned()
                });
                (verdict.violations, verdict.hit.is_some(), sent)
            }
        };
        let codes: BTreeSet<String> = violations.iter().map(code).collect();
        let expected: BTreeSet<String> = case.codes.iter().cloned().collect();
        assert_eq!(codes, expected, "{}", case.name);
        assert_eq!(sendable, case.sendable, "{}", case.name);
        assert_eq!(sent.as_ref(), case.sent.as_ref().map(|(_, value)| value), "{}", case.name);
        if let Some(suggestion) = &case.suggestion {
            assert!(
                violations.iter().any(|v| v.suggestion.as_ref() == Some(suggestion)),
                "{}: {violations:?}",
                case.name
            );
        }
        if let Some(value) = &case.value {
            assert!(
                violations.iter().any(|v| v.value.as_ref() == Some(value)),
                "{}: {violations:?}",
                case.name
            );
        }
        accepted |= violations.is_empty() && Validation::Strict.passes(&plan, &violations);
        refused.extend(violations.iter().map(|v| v.rule));
    }
    assert!(accepted, "no case passes in strict mode");
    // Said of a whole check: `a_list_that_is_not_loaded_is_not_checked_and_not_valid`.
    let of_hits = Rule::ALL.iter().filter(|rule| **rule != Rule::ListNotLoaded);
    let forgotten: Vec<_> =
        of_hits.filter(|rule| !refused.contains(rule)).map(|rule| rule.code()).collect();
    assert!(forgotten.is_empty(), "rules without a case that they refuse: {forgotten:?}");
}

#[test]
fn a_routing_key_may_be_cut_where_it_must_be_and_a_violation_names_nobody() {
    let plan = Plan::built_in().expect("plan");
    let cases: Cases = toml::from_str(include_str!("plan/cases.toml")).expect("cases.toml");
    let uid = "é".repeat(200);
    let mut hit = cases.valid.clone();
    hit.insert("uid".to_owned(), uid.as_str().into());
    let message = serde_json::to_vec(&hit).expect("JSON");
    let raw = decode(&message, None).expect("decodes");
    for (characters, is_fine) in [(126, false), (127, true), (128, false), (200, false)] {
        let key = "é".repeat(characters);
        let context = Context { routing_key: Some(&key), ..Context::at(cases.now()) };
        let verdict = validate(&plan, &raw, context);
        let found: Vec<String> = verdict.violations.iter().map(code).collect();
        assert_eq!(found.is_empty(), is_fine, "{characters} characters: {found:?}");
        assert!(Validation::Filter.passes(&plan, &verdict.violations), "it is a warning");
        assert_eq!(Validation::Strict.passes(&plan, &verdict.violations), is_fine);
        for violation in &verdict.violations {
            let shown = format!("{violation:?} {}", violation.message(&plan, Language::French));
            assert!(!shown.contains("éé"), "{shown}");
        }
    }
}

#[test]
fn every_value_of_every_closed_list_is_accepted() {
    let plan = Plan::built_in().expect("plan");
    let cases: Cases = toml::from_str(include_str!("plan/cases.toml")).expect("cases.toml");
    let mut checked = 0;
    for field in plan.fields() {
        for value in field.list.iter().flat_map(|list| plan.list(list).expect("a list").values()) {
            let mut hit = cases.valid.clone();
            hit.insert(field.name.clone(), value.as_str().into());
            let message = serde_json::to_vec(&hit).expect("JSON");
            let hit = decode(&message, None).expect("decodes");
            let verdict = validate(&plan, &hit, Context::at(cases.now()));
            assert_eq!(verdict.violations, [], "{} = {value}", field.name);
            checked += 1;
        }
    }
    assert_eq!(checked, 27 + 6 + 2 + 2);
}

#[test]
fn every_limit_holds_at_n_and_n_plus_1_in_accented_characters() {
    let plan = Plan::built_in().expect("plan");
    let cases: Cases = toml::from_str(include_str!("plan/cases.toml")).expect("cases.toml");
    for field in plan.fields() {
        let Some(max) = field.max else { continue };
        let too_long = |length: usize| {
            let mut hit = cases.valid.clone();
            hit.insert(field.name.clone(), "é".repeat(length).into());
            let message = serde_json::to_vec(&hit).expect("JSON");
            let hit = decode(&message, None).expect("decodes");
            let verdict = validate(&plan, &hit, Context::at(cases.now()));
            verdict
                .violations
                .iter()
                .any(|v| v.rule == Rule::TooLong && v.field.as_deref() == Some(&field.name))
        };
        assert!(!too_long(max), "{} at {max}", field.name);
        assert!(too_long(max + 1), "{} at {}", field.name, max + 1);
    }
}

#[test]
fn validation_modes_let_pass_what_they_say() {
    let plan = Plan::built_in().expect("plan");
    let of = |rule| {
        vec![Violation {
            rule,
            field: None,
            value: None,
            suggestion: None,
            max: None,
            length: None,
        }]
    };
    let (none, warning, error) = (vec![], of(Rule::CdtFuture), of(Rule::Missing));
    for (mode, passes) in [
        (Validation::Observe, [true, true, true]),
        (Validation::Filter, [true, true, false]),
        (Validation::Strict, [true, false, false]),
    ] {
        assert_eq!(
            [&none, &warning, &error].map(|violations| mode.passes(&plan, violations)),
            passes,
            "{mode:?}"
        );
    }
}

#[test]
fn a_list_that_is_not_loaded_is_not_checked_and_not_valid() {
    let mut plan = Plan::built_in().expect("plan");
    let unloaded = |plan: &Plan| {
        plan.lists()
            .iter()
            .filter(|list| !list.is_loaded())
            .map(|list| list.name.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        unloaded(&plan),
        ["exploitants", "plateformes", "outils", "etablissements", "exceptions"]
    );
    let field = &plan.fields()[plan.index("dimension6").expect("a field")];
    let violation = Violation::list_not_loaded(field, plan.list_of(field).expect("a list"));
    assert!(
        violation.message(&plan, Language::English).contains("dimension6 is not checked"),
        "{violation:?}"
    );
    assert_eq!(plan.severity(violation.rule), Severity::Information);
    plan.load("outils", vec!["PRONOTE".to_owned()]).expect("loads");
    assert_eq!(unloaded(&plan), ["exploitants", "plateformes", "etablissements", "exceptions"]);
}

/// The example request of RFTI §3.2, with its placeholders: read, and its own faults found.
#[test]
fn the_plans_own_example_is_read_and_corrected() {
    let example = "URL_MATOMO/matomo.php?idsite=MATOMO_SITE_ID&rec=1&apiv=1&rand=39gle3v&\
                   uid=ID_USER_PSEUDONYMISE&_id=ID_USER_PSEUDONYMISE&url=URL_PAGE_TRACE&\
                   url_ref=URL_REF&pv_id=ID_USER_PSEUDONYMISE&dimension1=UAI&dimension2=PROFIL&\
                   dimension3=EXPLOITANT&dimension4=PLATEFORME&dimension6=OUTIL&dimension7=TYPE&\
                   dimension8=SERVICE&dimension9=MODULE&dimension10=RUBRIQUE&\
                   dimension11=TECHNO_ACCES&action_name=PAGE&cdt=TIMESTAMP";
    let example = example.replace("URL_MATOMO", "https://matomo.example.fr");
    let plan = Plan::built_in().expect("plan");
    let hit = decode(example.as_bytes(), None).expect("the plan's own form is read");
    let first_seen = "2024-12-02T00:00:00Z".parse().expect("a time");
    let verdict = validate(&plan, &hit, Context::at(first_seen));
    let codes: BTreeSet<String> = verdict.violations.iter().map(code).collect();
    for expected in [
        "id-is-uid _id",
        "id-is-uid pv_id",
        "id-not-hex _id",
        "too-long _id",
        "missing ua",
        "cdt-unreadable cdt",
        "not-in-list dimension8",
    ] {
        assert!(codes.contains(expected), "{expected} is not among {codes:?}");
    }
    assert!(!codes.iter().any(|code| code.starts_with("unknown-parameter")), "{codes:?}");
}
