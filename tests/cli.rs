//! Transcripts of the commands, and the documents held against the code.
#![cfg(test)]

use dnma_relay::domain::hit::decode;
use dnma_relay::domain::plan::Plan;
use dnma_relay::domain::validate::{Context, validate};
use dnma_relay::service::config::VARIABLES;
use dnma_relay::service::telemetry::Metrics;

#[path = "docs/files.rs"]
#[allow(dead_code, reason = "shared with the test of the documents")]
mod files;

const README: &str = include_str!("../README.md");
const SETTINGS: &str = include_str!("../docs/settings.md");

/// `TRYCMD=overwrite cargo test --test cli` writes the transcripts anew.
#[test]
fn commands_say_what_the_transcripts_say() {
    trycmd::TestCases::new().case("tests/cli/*.trycmd").case("tests/cli/*.toml");
}

#[test]
fn the_documented_settings_are_the_codes() {
    let documented: Vec<(&str, String, &str)> = SETTINGS
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |")?.split_once("` | "))
        .filter(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        .map(|(name, rest)| {
            let (default, meaning) = rest.split_once(" | ").expect("a default and a meaning");
            let default = if default == "–" { String::new() } else { default.replace('`', "") };
            (name, default, meaning)
        })
        .collect();
    let expected: Vec<(&str, String, &str)> = VARIABLES
        .iter()
        .map(|variable| (variable.name, variable.default.documented().to_owned(), variable.meaning))
        .collect();
    assert_eq!(documented, expected);
    for name in VARIABLES.iter().filter(|variable| variable.secret).map(|variable| variable.name) {
        assert!(SETTINGS.contains(&format!("`{name}_FILE`")), "{name}_FILE is not documented");
    }
}

#[test]
fn the_readmes_message_breaks_no_rule() {
    let json = README
        .split("```json\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .expect("an example");
    let hit = decode(json.as_bytes(), None).expect("decodes");
    let now = "2026-11-23T12:00:00Z".parse().expect("a time");
    let verdict = validate(
        &Plan::built_in().expect("plan"),
        &hit,
        Context { has_token: true, ..Context::at(now) },
    );
    assert_eq!(verdict.violations, []);
}

#[test]
fn every_metric_that_a_document_names_exists() {
    let metrics = Metrics::new(2);
    // Its labels are the lists of the plan in force, so it is not there before a plan is.
    metrics.list_values("outils", 0);
    let text = metrics.text();
    let documents = files::documents();
    let named: Vec<(&str, &str)> = documents
        .iter()
        .flat_map(|document| document.code_spans().map(move |span| (document, span)))
        // A name before an arrow is the former one.
        .filter(|(_, (_, after))| !after.starts_with(" →"))
        .map(|(document, (word, _))| (document.path.as_str(), word))
        .filter(|(_, word)| {
            word.starts_with("dnma_relay_")
                || (word.ends_with("_total") && !word.contains(' ') && !word.starts_with('_'))
                || word.contains("_total{")
        })
        .collect();
    assert!(named.len() > 20, "{named:?}");
    for (document, name) in named {
        let name = name.split(['{', ' ']).next().expect("a name");
        let name = name.trim_start_matches("dnma_relay_");
        assert!(
            text.contains(&format!("\ndnma_relay_{name}")),
            "{document} names {name}, which is not a metric"
        );
    }
}

#[test]
fn every_setting_that_a_document_names_exists() {
    let is_setting = |word: &str| {
        VARIABLES.iter().any(|variable| {
            word == variable.name
                || variable.secret && word.strip_suffix("_FILE") == Some(variable.name)
        })
    };
    // What begins like a setting (`MATOMO_…`) is one.
    let families: Vec<&str> =
        VARIABLES.iter().filter_map(|v| v.name.split_once('_')).map(|(first, _)| first).collect();
    let mut checked = 0;
    for document in files::documents() {
        let words = document.text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for word in words.filter(|word| {
            word.chars().all(|c| c.is_ascii_uppercase() || c == '_')
                && word.split_once('_').is_some_and(|(first, _)| families.contains(&first))
        }) {
            checked += 1;
            assert!(is_setting(word), "{} names {word}, which is no setting", document.path);
        }
    }
    assert!(checked > 100, "only {checked} settings are named");
}
