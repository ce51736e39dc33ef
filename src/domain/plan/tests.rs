use super::*;

#[test]
fn the_built_in_plan_is_the_rfti() {
    let plan = Plan::built_in().expect("the built-in plan parses");
    assert_eq!(plan.version, "2.01");
    let values = |list| plan.list(list).expect("a list").values();
    assert_eq!(
        values("services").len(),
        27,
        "26 services and the second spelling of the dictionaries"
    );
    assert_eq!(values("profils").len(), 6);
    assert_eq!(plan.fields()[plan.index("urlref").expect("urlref")].name, "url_ref");
    assert!(values("exploitants").is_empty(), "external lists are not guessed");
    for service in values("services") {
        assert!(
            plan.list("services").and_then(|list| list.description(service)).is_some(),
            "{service}"
        );
    }
}

#[test]
fn a_misspelt_key_or_a_forgotten_rule_is_refused() {
    let typo = BUILT_IN.replace("max = 1024", "maxx = 1024");
    assert!(matches!(Plan::parse(&typo), Err(PlanError::Syntax(_))));
    let forgotten = BUILT_IN.replace("[rules.too-long]", "[rules.too-wide]");
    assert!(matches!(Plan::parse(&forgotten), Err(PlanError::Syntax(_))));
    let list = BUILT_IN.replace("list = \"outils\"", "list = \"outil\"");
    assert!(matches!(Plan::parse(&list), Err(PlanError::ListMissing(_))));
    let uid = BUILT_IN.replace("name = \"uid\"", "name = \"user\"");
    assert!(matches!(Plan::parse(&uid), Err(PlanError::FieldMissing("uid"))));
    let hint = BUILT_IN.replace("field = \"cdt\"", "field = \"ctd\"");
    assert!(matches!(Plan::parse(&hint), Err(PlanError::FieldUnknown(_))));
    let hinted = BUILT_IN.replace("list = \"profils\"\nwritten", "list = \"profil\"\nwritten");
    assert!(matches!(Plan::parse(&hinted), Err(PlanError::ListMissing(_))));
}

#[test]
fn every_text_is_there_in_both_languages() {
    let plan = Plan::built_in().expect("the built-in plan parses");
    for rule in Rule::ALL {
        for language in [Language::English, Language::French] {
            assert!(!plan.text(*rule, language).is_empty(), "{}", rule.code());
        }
    }
}
