//! Alarms, runbook and dashboard: every metric and label in them is one that the relay has.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::{Value, json};

use crate::chart::{list, objects, of_kind, parse, read};
use crate::relay::metrics;

const ALERTS: &str = "helm/dnma-relay/files/alerts.yaml";
const DASHBOARD: &str = "helm/dnma-relay/files/dashboard.json";

/// What RabbitMQ's own plugin calls the metrics that are used, with and without `detailed`.
const OF_RABBITMQ: [&str; 2] =
    ["rabbitmq_(detailed_)?queue_consumers", "rabbitmq_(detailed_)?queue_messages"];

fn rules() -> Vec<Value> {
    let file = parse(&read(ALERTS)).expect("YAML").remove(0);
    list(&file["groups"]).iter().flat_map(|group| list(&group["rules"])).cloned().collect()
}

fn dashboard() -> Value {
    serde_json::from_str(&read(DASHBOARD)).expect("JSON")
}

/// Every query of the alarms and of the dashboard, with the dashboard's variables filled in.
fn queries() -> Vec<String> {
    let dashboard = dashboard();
    let targets = list(&dashboard["panels"]).iter().flat_map(|panel| list(&panel["targets"]));
    let exprs = rules()
        .into_iter()
        .chain(targets.cloned())
        .map(|item| item["expr"].as_str().expect("a query").to_owned());
    exprs
        .map(|expr| {
            expr.replace("$namespace", ".*").replace("$job", ".*").replace("$prefix", "dnma.hits")
        })
        .collect()
}

#[test]
fn every_metric_and_label_is_one_of_the_relay() {
    let known = samples(&metrics().expect("metrics"));
    let (queries, mut seen) = (queries(), BTreeSet::new());
    for query in &queries {
        for (name, labels) in selectors(query) {
            let values = known
                .get(&name)
                .unwrap_or_else(|| panic!("{name} is no metric of the relay: {query}"));
            for (label, wanted) in labels {
                assert!(
                    wanted
                        .split('|')
                        .all(|one| one == ".*" || values.contains(&format!("{label}={one}"))),
                    "{name}{{{label}={wanted}}}: {query}"
                );
            }
            seen.insert(name);
        }
        for name in query
            .split("__name__=~\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap_or_default())
        {
            assert!(OF_RABBITMQ.contains(&name), "{name}: {query}");
        }
    }
    assert!(seen.len() > 15, "{seen:?}");
}

#[test]
fn every_metric_of_the_relay_is_on_the_dashboard() {
    let queries = queries().join("\n");
    let shown = |name: &&String| queries.contains(name.as_str());
    let known = samples(&metrics().expect("metrics"));
    let plain = known.keys().filter(|name| {
        !name.ends_with("_bucket") && !name.ends_with("_sum") && !name.ends_with("_count")
    });
    let hidden: Vec<_> = plain.filter(|name| !shown(name)).collect();
    assert_eq!(hidden, Vec::<&String>::new());
}

#[test]
fn every_alarm_has_a_line_in_the_runbook_and_a_test() {
    let (runbook, tests) = (read("deploy/RUNBOOK.md"), read("deploy/alerts.test.yaml"));
    let titles: Vec<&str> = runbook.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let names: Vec<String> =
        rules().iter().map(|rule| rule["alert"].as_str().expect("a name").to_owned()).collect();
    assert_eq!(titles, names, "the runbook has the alarms in their order");
    for (rule, name) in rules().iter().zip(&names) {
        assert_eq!(
            rule["annotations"]["runbook"],
            json!(format!("deploy/RUNBOOK.md#{}", name.to_lowercase()))
        );
        assert!(
            ["warning", "critical"]
                .contains(&rule["labels"]["severity"].as_str().expect("a severity")),
            "{name}"
        );
        assert!(
            tests.contains(&format!("alertname=\"{name}\"")),
            "{name} is never seen to fire in deploy/alerts.test.yaml"
        );
    }
    for anchor in runbook.split("](#").skip(1).filter_map(|rest| rest.split(')').next()) {
        assert!(names.iter().any(|name| name.to_lowercase() == anchor), "#{anchor}");
    }
}

#[test]
fn the_chart_passes_the_files_on() {
    let objects = objects("monitoring");
    assert_eq!(
        of_kind(&objects, "PrometheusRule")[0]["spec"]["groups"][0]["rules"],
        Value::Array(rules())
    );
    let maps = of_kind(&objects, "ConfigMap");
    let map = maps
        .iter()
        .find(|map| map["metadata"]["labels"]["grafana_dashboard"] == "1")
        .expect("the dashboard");
    let shown: Value =
        serde_json::from_str(map["data"]["dnma-relay.json"].as_str().expect("text")).expect("JSON");
    assert_eq!(shown, dashboard());
}

#[test]
fn the_panels_of_the_dashboard_do_not_overlap() {
    let dashboard = dashboard();
    let panels = list(&dashboard["panels"]);
    let ids: BTreeSet<i64> =
        panels.iter().map(|panel| panel["id"].as_i64().expect("an id")).collect();
    assert_eq!(ids.len(), panels.len());
    let mut taken = BTreeMap::new();
    for panel in panels {
        let side = |name: &str| panel["gridPos"][name].as_u64().expect("a number");
        assert!(side("x") + side("w") <= 24, "{}", panel["title"]);
        for cell in (side("x")..side("x") + side("w"))
            .flat_map(|x| (side("y")..side("y") + side("h")).map(move |y| (x, y)))
        {
            assert_eq!(taken.insert(cell, &panel["title"]), None, "{}", panel["title"]);
        }
    }
}

#[test]
fn prometheus_can_read_every_query_and_the_alarms_do_as_they_say() {
    let promtool = |arguments: &[&str]| {
        Command::new("promtool").args(arguments).current_dir(crate::chart::root()).output()
    };
    let Ok(tested) = promtool(&["test", "rules", "deploy/alerts.test.yaml"]) else {
        println!("not checked: promtool is not installed, so no alarm was tried");
        return;
    };
    assert!(tested.status.success(), "{}", String::from_utf8_lossy(&tested.stderr));
    let rules: Vec<Value> =
        queries().iter().map(|query| json!({"record": "a:query", "expr": query})).collect();
    let numbered = rules.into_iter().enumerate().map(|(number, mut rule)| {
        rule["record"] = format!("query:{number}").into();
        rule
    });
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(
        file.path(),
        json!({"groups": [{"name": "queries", "rules": numbered.collect::<Vec<_>>()}]}).to_string(),
    )
    .expect("written");
    let checked = promtool(&["check", "rules", &file.path().to_string_lossy()]).expect("promtool");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

/// The names of all samples, each with its `label=value` pairs.
fn samples(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut known = BTreeMap::<String, BTreeSet<String>>::new();
    for line in text.lines().filter(|line| line.starts_with("dnma_relay_")) {
        let (name, rest) = line.split_once(['{', ' ']).expect("a sample");
        let values = known.entry(name.to_owned()).or_default();
        values.extend(
            pairs(rest.split('}').next().unwrap_or_default())
                .map(|(label, value)| format!("{label}={value}")),
        );
    }
    // A histogram without labels shows its buckets from the start; none is known to be missing.
    assert!(known.len() > 20, "{known:?}");
    known
}

/// The metrics in a query, each with the labels that it is selected by.
fn selectors(query: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut found = Vec::new();
    for (start, _) in query.match_indices("dnma_relay_") {
        let rest = &query[start..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let labels = rest[end..]
            .strip_prefix('{')
            .and_then(|rest| rest.split('}').next())
            .unwrap_or_default();
        // Namespace, job and pod are Prometheus's own.
        let own = pairs(labels).filter(|(label, _)| {
            !["namespace", "job", "pod", "instance"].contains(&label.as_str())
        });
        found.push((rest[..end].to_owned(), own.collect()));
    }
    found
}

fn pairs(labels: &str) -> impl Iterator<Item = (String, String)> {
    let parts = labels.split("\",").filter_map(|pair| pair.split_once('='));
    parts.map(|(label, value)| {
        (
            label.trim().to_owned(),
            value.trim_start_matches(['~', '"']).trim_end_matches('"').to_owned(),
        )
    })
}
