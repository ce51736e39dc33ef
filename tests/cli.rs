//! Transcripts of the commands, and the README held against the code.
#![cfg(test)]

use dnma_relay::domain::hit::decode;
use dnma_relay::domain::plan::Plan;
use dnma_relay::domain::validate::{Context, validate};
use dnma_relay::service::config::VARIABLES;
use dnma_relay::service::telemetry::Metrics;

const README: &str = include_str!("../README.md");

/// `TRYCMD=overwrite cargo test --test cli` writes the transcripts anew.
#[test]
fn commands_say_what_the_transcripts_say() {
    trycmd::TestCases::new().case("tests/cli/*.trycmd").case("tests/cli/*.toml");
}

/// The document with the table of the settings.
const SETTINGS: &str = README;

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
fn every_metric_that_the_readme_names_exists() {
    let text = Metrics::new(2).text();
    let named: Vec<&str> = README
        .split('`')
        .filter(|word| {
            word.starts_with("dnma_relay_")
                || (word.ends_with("_total") && !word.contains(' '))
                || word.contains("_total{")
        })
        .collect();
    assert!(named.len() > 5, "{named:?}");
    for name in named {
        let name = name.split('{').next().expect("a name").trim_start_matches("dnma_relay_");
        assert!(text.contains(&format!("\ndnma_relay_{name}")), "{name} is not a metric");
    }
}
