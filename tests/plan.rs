//! Cases of the tagging plan as data: a hit, changed in one way, and the codes that it must get.
//!
//! Every rule must have a case that it refuses; the valid hit at the top is the case that every rule accepts.
#![cfg(test)]

use std::collections::BTreeSet;

use dnma_relay::domain::hit::decode;
use dnma_relay::domain::plan::Plan;
use dnma_relay::domain::rule::Rule;
use dnma_relay::domain::validate::{Context, Validation, Violation, validate};
use jiff::Timestamp;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    now: String,
    valid: serde_json::Map<String, serde_json::Value>,
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
    /// The message itself, where it is no variation of the valid hit.
    message: Option<String>,
    /// Times to repeat the message.
    times: Option<usize>,
    default_site: Option<String>,
    /// The time of the AMQP message.
    sent_at: Option<String>,
    /// `code field`, or `code` alone.
    #[serde(default)]
    codes: Vec<String>,
    #[serde(default)]
    suggestion: Option<String>,
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
        serde_json::to_vec(&hit).expect("JSON")
    }
}

fn code(violation: &Violation) -> String {
    violation.field.as_ref().map_or_else(|| violation.rule.code().to_owned(), |field| format!("{} {field}", violation.rule.code()))
}

#[test]
fn every_case_gets_its_codes_and_every_rule_has_its_cases() {
    let plan = Plan::built_in().expect("plan");
    let cases: Cases = toml::from_str(include_str!("plan/cases.toml")).expect("cases.toml");
    let mut refused = BTreeSet::new();
    let mut accepted = false;
    for case in &cases.case {
        let message = case.message(&cases.valid);
        let (violations, sendable, sent) = match decode(&message, None) {
            Err(error) => (vec![Violation::from(error)], false, None),
            Ok(hit) => {
                let context = Context {
                    first_seen: cases.now(),
                    default_site: case.default_site.as_deref(),
                    sent_at: case.sent_at.as_ref().map(|text| text.parse().expect("a time")),
                    has_token: false,
                };
                let verdict = validate(&plan, &hit, context);
                let sent = case.sent.as_ref().map(|(field, _)| {
                    let hit = verdict.hit.as_ref().expect("sendable");
                    if field == "cdt" {
                        return hit.cdt.as_second().to_string();
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
            assert!(violations.iter().any(|v| v.suggestion.as_ref() == Some(suggestion)), "{}: {violations:?}", case.name);
        }
        accepted |= violations.is_empty() && Validation::Strict.passes(&plan, &violations);
        refused.extend(violations.iter().map(|v| v.rule));
    }
    assert!(accepted, "no case passes in strict mode");
    let forgotten: Vec<_> = Rule::ALL.iter().filter(|rule| !refused.contains(rule)).map(|rule| rule.code()).collect();
    assert!(forgotten.is_empty(), "rules without a case that they refuse: {forgotten:?}");
}

#[test]
fn every_value_of_every_closed_list_is_accepted() {
    let plan = Plan::built_in().expect("plan");
    let cases: Cases = toml::from_str(include_str!("plan/cases.toml")).expect("cases.toml");
    let mut checked = 0;
    for field in plan.fields() {
        for value in field.list.iter().flat_map(|list| plan.values(list)) {
            let mut hit = cases.valid.clone();
            hit.insert(field.name.clone(), value.as_str().into());
            let message = serde_json::to_vec(&hit).expect("JSON");
            let hit = decode(&message, None).expect("decodes");
            let verdict = validate(&plan, &hit, Context { first_seen: cases.now(), default_site: None, sent_at: None, has_token: false });
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
            let verdict = validate(&plan, &hit, Context { first_seen: cases.now(), default_site: None, sent_at: None, has_token: false });
            verdict.violations.iter().any(|v| v.rule == Rule::TooLong && v.field.as_deref() == Some(&field.name))
        };
        assert!(!too_long(max), "{} at {max}", field.name);
        assert!(too_long(max + 1), "{} at {}", field.name, max + 1);
    }
}

#[test]
fn validation_modes_let_pass_what_they_say() {
    let plan = Plan::built_in().expect("plan");
    let of = |rule| vec![Violation { rule, field: None, value: None, suggestion: None, max: None, length: None }];
    let (none, warning, error) = (vec![], of(Rule::CdtFuture), of(Rule::Missing));
    for (mode, passes) in
        [(Validation::Observe, [true, true, true]), (Validation::Filter, [true, true, false]), (Validation::Strict, [true, false, false])]
    {
        assert_eq!([&none, &warning, &error].map(|violations| mode.passes(&plan, violations)), passes, "{mode:?}");
    }
}

/// The example request of RFTI §3.2, with its placeholders: read, and its own faults found.
#[test]
fn the_plans_own_example_is_read_and_corrected() {
    let example = "URL_MATOMO/matomo.php?idsite=MATOMO_SITE_ID&rec=1&apiv=1&rand=39gle3v&uid=ID_USER_PSEUDONYMISE&_id=ID_USER_PSEUDONYMISE\
                   &url=URL_PAGE_TRACE&url_ref=URL_REF&pv_id=ID_USER_PSEUDONYMISE&dimension1=UAI&dimension2=PROFIL&dimension3=EXPLOITANT\
                   &dimension4=PLATEFORME&dimension6=OUTIL&dimension7=TYPE&dimension8=SERVICE&dimension9=MODULE&dimension10=RUBRIQUE\
                   &dimension11=TECHNO_ACCES&action_name=PAGE&cdt=TIMESTAMP";
    let example = example.replace("URL_MATOMO", "https://matomo.example.fr");
    let plan = Plan::built_in().expect("plan");
    let hit = decode(example.as_bytes(), None).expect("the plan's own form is read");
    let first_seen = "2024-12-02T00:00:00Z".parse().expect("a time");
    let verdict = validate(&plan, &hit, Context { first_seen, default_site: None, sent_at: None, has_token: false });
    let codes: BTreeSet<String> = verdict.violations.iter().map(code).collect();
    for expected in
        ["id-is-uid _id", "id-is-uid pv_id", "id-not-hex _id", "too-long _id", "missing ua", "cdt-unreadable cdt", "not-in-list dimension8"]
    {
        assert!(codes.contains(expected), "{expected} is not among {codes:?}");
    }
    assert!(!codes.iter().any(|code| code.starts_with("unknown-parameter")), "{codes:?}");
}
