//! The JSON Schema of a message agrees with the check: what one accepts, so does the other, within
//! what a schema can say.
#![cfg(test)]

use std::cell::Cell;

use dnma_relay::domain::hit::decode;
use dnma_relay::domain::plan::Plan;
use dnma_relay::domain::plan::schema::schema;
use dnma_relay::domain::rule::Severity;
use dnma_relay::domain::validate::{Context, validate};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn plan() -> Plan {
    let mut plan = Plan::built_in().expect("plan");
    plan.load("outils", vec!["PRONOTE".to_owned(), "Mon outil".to_owned()]).expect("a list");
    plan
}

fn valid() -> Map<String, Value> {
    let json = json!({
        "idsite": "1", "uid": "7c9e6679f4b44e1f8e0c5b6f0a3d2c1b",
        "url": "https://ent.example.fr/", "dimension1": "0750655E",
        "dimension2": "ELEVE", "dimension3": "EXPLOITANT", "dimension4": "PLATEFORME",
        "dimension6": "PRONOTE", "dimension7": "TIERS", "dimension8": "CAHIER_TEXTES",
        "dimension9": "Travail", "dimension10": "Semaine 48", "dimension11": "WEB-PWA",
        "action_name": "Cahier de textes", "cdt": 1_732_549_235, "ua": "Mozilla/5.0",
    });
    json.as_object().expect("an object").clone()
}

/// Whether the check finds no error.
fn is_accepted(plan: &Plan, hit: &Map<String, Value>) -> bool {
    let body = serde_json::to_vec(hit).expect("JSON");
    let Ok(raw) = decode(&body, None) else { return false };
    let now = "2026-11-23T12:00:00Z".parse().expect("a time");
    let verdict = validate(plan, &raw, Context { has_token: true, ..Context::at(now) });
    verdict.violations.iter().all(|violation| plan.severity(violation.rule) < Severity::Error)
}

/// A value of any kind, and often one that is nearly right.
fn value(plan: &Plan) -> BoxedStrategy<Value> {
    let legal: Vec<String> = plan.lists().iter().flat_map(|list| list.values().to_vec()).collect();
    let near = [
        "",
        " ",
        "0",
        "1",
        "é",
        "WEB_PWA",
        "APP_NATIVE",
        "national_ELV",
        "National_x",
        "DIC",
        " DOC ",
        "eleve",
        "a\tb",
        "a\u{7f}",
        "x\n",
    ];
    prop_oneof![
        4 => proptest::sample::select(legal).prop_map(Value::from),
        4 => proptest::sample::select(near.to_vec()).prop_map(Value::from),
        2 => (0_usize..300, proptest::sample::select(vec!["a", "é", "7"]))
            .prop_map(|(n, c)| Value::from(c.repeat(n))),
        1 => (1_000_usize..1_050).prop_map(|n| Value::from("é".repeat(n))),
        2 => (-10_i64..3_000_000_000).prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => Just(json!([])),
        1 => Just(json!({"a": 1})),
    ]
    .boxed()
}

#[test]
fn the_schema_is_a_schema_and_takes_the_valid_hit() {
    let plan = plan();
    let schema = schema(&plan);
    jsonschema::meta::validate(&schema).expect("a JSON Schema");
    let validator = jsonschema::validator_for(&schema).expect("a validator");
    assert!(validator.is_valid(&Value::Object(valid())));
    assert!(is_accepted(&plan, &valid()));
    for field in ["uid", "dimension8", "ua", "cdt"] {
        let mut hit = valid();
        hit.remove(field);
        assert!(!validator.is_valid(&Value::Object(hit)), "{field}");
    }
}

#[test]
fn what_the_schema_takes_the_check_takes_and_the_other_way_round() {
    let plan = plan();
    let validator = jsonschema::validator_for(&schema(&plan)).expect("a validator");
    // A time's meaning is no matter of a schema.
    let names: Vec<String> = plan
        .fields()
        .iter()
        .map(|field| field.name.clone())
        .filter(|name| name != "cdt")
        .chain(["other".to_owned()])
        .collect();
    let change = (proptest::sample::select(names), proptest::option::weighted(0.9, value(&plan)));
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 20_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let (taken, refused) = (Cell::new(0), Cell::new(0));
    let outcome = runner.run(&proptest::collection::vec(change, 0..4), |changes| {
        let mut hit = valid();
        for (name, value) in changes {
            match value {
                Some(value) => drop(hit.insert(name, value)),
                None => drop(hit.remove(&name)),
            }
        }
        let accepted = is_accepted(&plan, &hit);
        let count = if accepted { &taken } else { &refused };
        count.set(count.get() + 1);
        prop_assert_eq!(
            validator.is_valid(&Value::Object(hit.clone())),
            accepted,
            "{}",
            Value::Object(hit)
        );
        Ok(())
    });
    outcome.expect("schema and check agree");
    let (taken, refused) = (taken.get(), refused.get());
    assert!(
        taken > 1_000 && refused > 1_000,
        "{taken} taken, {refused} refused: the property says nothing"
    );
}
