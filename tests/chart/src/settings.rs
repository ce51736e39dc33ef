//! What the chart gives to the relay: every variable can be set, and the relay takes every path's.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::chart::{list, objects, of_kind, paths, pods};
use crate::relay::check;

const FILES: &str = "/etc/dnma-relay";

#[test]
fn every_variable_of_the_relay_can_be_set() {
    let folder = tempfile::tempdir().expect("a folder");
    let untouched =
        check(&[("MATOMO_URL".to_owned(), "https://matomo.example.org/".to_owned())].into())
            .expect("defaults");
    let set = check(&environment("settings", folder.path())).expect("settings");
    assert_eq!(set.keys().collect::<Vec<_>>(), untouched.keys().collect::<Vec<_>>());
    for (name, value) in &untouched {
        assert_ne!(
            value, &set[name],
            "{name} stays at its default, whatever is set in ci/settings-values.yaml"
        );
    }
}

#[test]
fn the_relay_takes_what_every_path_gives_it() {
    for path in paths() {
        let folder = tempfile::tempdir().expect("a folder");
        check(&environment(&path, folder.path())).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
}

#[test]
fn the_helm_test_has_the_environment_of_the_workers() {
    for path in paths() {
        let objects = objects(&path);
        let environments: Vec<&Value> =
            pods(&objects).iter().map(|pod| &pod["containers"][0]["env"]).collect();
        assert_eq!(environments[0], environments[1], "{path}");
    }
}

/// The variables of a path's workers, with its mounted files in `folder`.
fn environment(path: &str, folder: &Path) -> BTreeMap<String, String> {
    let objects = objects(path);
    let pod = pods(&objects)[0].clone();
    for volume in list(&pod["volumes"]) {
        let place = folder.join(volume["name"].as_str().expect("a name"));
        std::fs::create_dir_all(&place).expect("a folder");
        let source = volume.get("secret").or(volume.get("configMap")).unwrap_or(&Value::Null);
        for item in list(&source["items"]) {
            let name = item["path"].as_str().expect("a path");
            let text = if name == "url" {
                "amqps://relay:secret@rabbitmq.example.fr/dnma"
            } else {
                "something"
            };
            std::fs::write(place.join(name), text).expect("written");
        }
        let maps = of_kind(&objects, "ConfigMap");
        for (name, text) in maps
            .iter()
            .filter(|map| map["metadata"]["name"] == source["name"])
            .flat_map(|map| map["data"].as_object())
            .flatten()
        {
            std::fs::write(place.join(name), text.as_str().expect("text")).expect("written");
        }
    }
    // Of an existing ConfigMap only the name is known here.
    let tenants = folder.join("tenants/tenants.toml");
    if !tenants.exists() {
        let any = "[[tenants]]\nuser = \"ent\"\nexploitants = [\"*\"]\nplateformes = \
                   [\"*\"]\nidsites = [\"*\"]\n";
        std::fs::write(tenants, any).ok();
    }
    let variables = list(&pod["containers"][0]["env"]).iter().map(|variable| {
        let value = variable["value"].as_str().expect("a value");
        (
            variable["name"].as_str().expect("a name").to_owned(),
            value.replace(FILES, &folder.to_string_lossy()),
        )
    });
    variables.collect()
}
