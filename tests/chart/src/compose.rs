//! `deploy/compose.yaml`: its variables are the relay's, its files are there, and its Matomo has
//! the dimensions of the plan.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::chart::{list, parse, read, root};
use crate::relay::check;

fn compose() -> Value {
    parse(&read("deploy/compose.yaml")).expect("YAML").remove(0)
}

#[test]
fn the_relay_takes_what_compose_gives_it() {
    let token = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(token.path(), "something").expect("written");
    let compose = compose();
    let given = compose["x-relay"]["environment"].as_object().expect("variables");
    let text = |value: &Value| {
        value.as_str().expect("text").replace("/token/token", &token.path().to_string_lossy())
    };
    let vars: BTreeMap<String, String> =
        given.iter().map(|(name, value)| (name.clone(), text(value))).collect();
    let settings = check(&vars).expect("settings");
    for name in vars.keys() {
        assert!(
            settings.contains_key(name.trim_end_matches("_FILE")),
            "{name} is no variable of the relay"
        );
    }
}

#[test]
fn every_file_that_is_mounted_is_there() {
    let compose = compose();
    let services = compose["services"].as_object().expect("services");
    let mounts =
        services.values().flat_map(|service| list(&service["volumes"])).filter_map(Value::as_str);
    let files: Vec<&str> = mounts
        .filter(|mount| mount.starts_with('.'))
        .filter_map(|mount| mount.split(':').next())
        .collect();
    assert!(files.len() > 5, "{files:?}");
    for file in files {
        assert!(root().join("deploy").join(file).is_file(), "{file}");
    }
}

#[test]
fn every_port_is_open_to_this_machine_only() {
    let compose = compose();
    for (name, service) in compose["services"].as_object().expect("services") {
        for port in list(&service["ports"]) {
            assert!(port.as_str().expect("a port").starts_with("127.0.0.1:"), "{name}: {port}");
        }
    }
}

/// Sections 3.2.2 and 3.2.3 of the plan: dimensions of visits and of actions.
#[test]
fn matomo_gets_the_dimensions_of_the_plan_in_their_scopes() {
    let plan = read("src/domain/plan/rfti-2.01.toml");
    let mut scopes = BTreeMap::new();
    for field in plan.split("[[fields]]").skip(1) {
        let value = |key: &str| {
            field
                .lines()
                .find_map(|line| line.strip_prefix(key))
                .map(|value| value.trim_matches([' ', '=', '"']))
        };
        let number = value("name")
            .and_then(|name| name.strip_prefix("dimension"))
            .and_then(|number| number.parse::<usize>().ok());
        if let (Some(number), Some(section)) = (number, value("section")) {
            scopes.insert(number, if section == "3.2.2" { "visit" } else { "action" });
        }
    }
    assert_eq!(scopes.len(), 10, "{scopes:?}");
    let script = read("deploy/compose/matomo.sh");
    let lines = script
        .split("dimensions=(\n")
        .nth(1)
        .and_then(|rest| rest.split("\n)").next())
        .expect("the dimensions");
    for (index, dimension) in lines.split('"').skip(1).step_by(2).enumerate() {
        let words: Vec<&str> = dimension.split(' ').collect();
        match scopes.remove(&(index + 1)) {
            Some(scope) => assert_eq!((words[1], words[2]), (scope, "1"), "dimension{}", index + 1),
            None => assert_eq!(words[2], "0", "dimension{} is none of the plan", index + 1),
        }
    }
    assert!(scopes.is_empty(), "{scopes:?}");
}
