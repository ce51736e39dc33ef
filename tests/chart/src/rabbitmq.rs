//! The objects for the RabbitMQ Messaging Topology Operator are what the relay itself would
//! declare.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::chart::{list, objects, of_kind};
use crate::relay::ask;

#[test]
fn the_operator_makes_what_the_relay_would_declare() {
    for (path, shards, delays, vhost) in
        [("topology", "3", "10m,20m", "dnma"), ("topology-one", "1", "90s", "/")]
    {
        let vars = [("QUEUE_SHARDS", shards), ("RETRY_DELAYS", delays)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let declared = ask(&["topology", "--vhost", vhost], &vars.into()).expect("definitions");
        let objects = objects(path);
        assert_eq!(
            specs(&objects, "Exchange", "name"),
            definitions(&declared["exchanges"], "name"),
            "{path}"
        );
        assert_eq!(
            specs(&objects, "Queue", "name"),
            definitions(&declared["queues"], "name"),
            "{path}"
        );
        assert_eq!(
            specs(&objects, "Binding", "destination"),
            definitions(&declared["bindings"], "destination"),
            "{path}"
        );
    }
}

#[test]
fn queues_outlive_the_release_and_the_relay_declares_nothing() {
    let objects = objects("topology");
    for kind in ["Exchange", "Queue", "Binding"] {
        for object in of_kind(&objects, kind) {
            assert_eq!(object["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
        }
    }
    let relay = &of_kind(&objects, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0];
    assert!(list(&relay["env"]).contains(&json!({"name": "TOPOLOGY", "value": "verify"})));
}

/// The objects of a kind as definitions, by name.
fn specs(objects: &[Value], kind: &str, key: &str) -> BTreeMap<String, Value> {
    let specs = of_kind(objects, kind).into_iter().map(|object| {
        let mut spec = object["spec"].as_object().expect("a spec").clone();
        spec.remove("rabbitmqClusterReference");
        let renamed = [
            ("autoDelete", "auto_delete"),
            ("destinationType", "destination_type"),
            ("routingKey", "routing_key"),
        ];
        for (theirs, ours) in renamed {
            if let Some(value) = spec.remove(theirs) {
                spec.insert(ours.to_owned(), value);
            }
        }
        if kind == "Queue" {
            // Told twice, in the object and among the arguments.
            assert_eq!(spec.remove("type"), Some("quorum".into()));
        }
        (spec[key].as_str().expect("a name").to_owned(), Value::Object(spec))
    });
    specs.collect()
}

fn definitions(list: &Value, key: &str) -> BTreeMap<String, Value> {
    let definitions = list.as_array().expect("a list").iter().map(|definition| {
        let mut definition = definition.as_object().expect("an object").clone();
        definition.remove("internal");
        if definition.get("arguments") == Some(&json!({})) {
            definition.remove("arguments");
        }
        (definition[key].as_str().expect("a name").to_owned(), Value::Object(definition))
    });
    definitions.collect()
}
