//! Values, schema and what they refuse.

use serde_json::Value;

use crate::chart::{helms, list, objects, of_kind, parse, read, template};

fn values() -> Value {
    parse(&read("helm/dnma-relay/values.yaml")).expect("YAML").remove(0)
}

fn schema() -> Value {
    serde_json::from_str(&read("helm/dnma-relay/values.schema.json")).expect("JSON")
}

#[test]
fn schema_and_values_know_the_same_keys() {
    fn walk<'a>(
        path: &str,
        values: &Value,
        mut schema: &'a Value,
        root: &'a Value,
        faults: &mut Vec<String>,
    ) {
        if let Some(name) =
            schema["$ref"].as_str().and_then(|name| name.strip_prefix("#/definitions/"))
        {
            schema = &root["definitions"][name];
        }
        let Some(properties) = schema["properties"].as_object() else { return };
        if schema["additionalProperties"] != false {
            faults.push(format!("{path}: a typo would pass"));
        }
        let values = values.as_object().expect("an object");
        faults.extend(
            values
                .keys()
                .filter(|key| !properties.contains_key(*key))
                .map(|key| format!("{path}.{key} is not in the schema")),
        );
        for (key, schema) in properties {
            match values.get(key) {
                Some(value) => walk(&format!("{path}.{key}"), value, schema, root, faults),
                None => faults.push(format!("{path}.{key} is not in values.yaml")),
            }
        }
    }
    let (schema, mut faults) = (schema(), Vec::new());
    walk("", &values(), &schema, &schema, &mut faults);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn what_cannot_work_is_refused_with_the_reason() {
    let refused: &[(&[&str], &str)] = &[
        (&["replicaCounts=3"], "replicaCounts"),
        (&["matomo.URL=https://m/"], "URL"),
        (&["queue.retryDelay=10m"], "retryDelay"),
        (&["metrics.podMonitor.enable=true"], "enable"),
        (&["matomo.url="], "url"),
        (&["matomo.url=matomo.example.fr"], "url"),
        (&["matomo.api=both"], "api"),
        (&["matomo.timeout=65"], "timeout"),
        (&["matomo.maxAge=3600"], "maxAge"),
        (&["queue.retryDelays={10}"], "retryDelays"),
        (&["queue.shards=0"], "shards"),
        (&["queue.shards=300"], "shards"),
        (&["http.port=80"], "port"),
        (&["retention.olderThan=90"], "olderThan"),
        (&["retention.olderThan=0d"], "olderThan"),
        (&["image.digest=sha256:abc"], "digest"),
        (&["amqp.existingSecret="], "amqp.existingSecret is empty"),
        (&["autoscaling.enabled=true", "keda.enabled=true", "keda.existingSecret=x"], "both true"),
        (
            &["autoscaling.enabled=true", "autoscaling.maxReplicas=9"],
            "autoscaling.maxReplicas (9) is above queue.shards (8)",
        ),
        (
            &["keda.enabled=true", "keda.existingSecret=x", "keda.maxReplicas=9"],
            "keda.maxReplicas (9) is above queue.shards (8)",
        ),
        (
            &["keda.enabled=true", "keda.existingSecret=x", "queue.shards=4"],
            "keda.maxReplicas (8) is above queue.shards (4)",
        ),
        (
            &["autoscaling.enabled=true", "autoscaling.minReplicas=5", "autoscaling.maxReplicas=4"],
            "minReplicas (5) is above maxReplicas (4)",
        ),
        (&["keda.enabled=true"], "keda.existingSecret is empty"),
        (&["terminationGracePeriodSeconds=74"], "terminationGracePeriodSeconds (74) is too short"),
        (&["matomo.timeout=2m", "terminationGracePeriodSeconds=120"], "130 s in all"),
        (
            &["metrics.podMonitor.enabled=true", "metrics.serviceMonitor.enabled=true"],
            "counted twice",
        ),
        (
            &["metrics.serviceMonitor.enabled=true", "service.enabled=false"],
            "needs service.enabled",
        ),
        (&["topologyOperator.enabled=true"], "rabbitmqClusterReference is empty"),
        (&["externalSecret.enabled=true"], "secretStoreRef.name and amqpUrl"),
        (&["amqp.caBundle.secret=a", "amqp.caBundle.configMap=b"], "choose one"),
    ];
    for program in helms() {
        for (sets, reason) in refused {
            let more: Vec<&str> = sets.iter().flat_map(|set| ["--set", *set]).collect();
            match template(&program, ".", "ci/default-values.yaml", &more) {
                Ok(_) => panic!("{program} renders {sets:?}"),
                Err(error) => {
                    assert!(error.to_string().contains(reason), "{program} {sets:?}: {error}")
                }
            }
        }
    }
}

#[test]
fn what_is_at_the_limit_is_not_refused() {
    for program in helms() {
        for sets in [
            "terminationGracePeriodSeconds=75",
            "autoscaling.enabled=true,autoscaling.maxReplicas=8",
            "keda.enabled=true,keda.existingSecret=x,keda.maxReplicas=8",
            "queue.shards=1,replicaCount=2",
            "global.anything=goes",
        ] {
            template(&program, ".", "ci/default-values.yaml", &["--set", sets]).expect(sets);
        }
    }
}

#[test]
fn a_site_is_a_number_or_text() {
    let site = |rendered: &str| {
        let objects = parse(rendered).expect("YAML");
        let deployment = of_kind(&objects, "Deployment")[0].clone();
        let env = deployment["spec"]["template"]["spec"]["containers"][0]["env"].clone();
        let set = list(&env).iter().find(|variable| variable["name"] == "MATOMO_SITE_ID");
        set.map(|variable| variable["value"].clone())
    };
    let file = std::env::temp_dir().join(format!("site-{}.yaml", std::process::id()));
    std::fs::write(&file, "matomo: {siteId: 1234567}\n").expect("written");
    for program in helms() {
        for (flag, value, expected) in [
            ("--set", "matomo.siteId=7", Some("7")),
            ("--set-string", "matomo.siteId=7", Some("7")),
            ("--set", "matomo.siteId=", None),
            ("--values", file.to_str().expect("UTF-8"), Some("1234567")),
        ] {
            let rendered =
                template(&program, ".", "ci/default-values.yaml", &[flag, value]).expect(value);
            assert_eq!(site(&rendered), expected.map(Value::from), "{program} {flag} {value}");
        }
        for value in ["matomo.siteId=0", "matomo.siteId=seven", "matomo.siteId=-1"] {
            let refused = template(&program, ".", "ci/default-values.yaml", &["--set", value]);
            assert!(refused.is_err_and(|error| error.to_string().contains("siteId")), "{value}");
        }
    }
    std::fs::remove_file(&file).expect("removed");
}

#[test]
fn an_autoscaler_alone_decides_on_the_number_of_replicas() {
    for path in ["hpa", "keda"] {
        assert!(
            of_kind(&objects(path), "Deployment")[0]["spec"].get("replicas").is_none(),
            "{path}"
        );
    }
    assert_eq!(of_kind(&objects("default"), "Deployment")[0]["spec"]["replicas"], 2);
}

#[test]
fn one_replica_has_no_disruption_budget_and_two_have() {
    assert_eq!(of_kind(&objects("servicemonitor"), "PodDisruptionBudget").len(), 0);
    assert_eq!(of_kind(&objects("default"), "PodDisruptionBudget").len(), 1);
}

#[test]
fn the_network_is_open_to_names_rabbitmq_matomo_and_each_other_only() {
    let ports = |path: &str| -> Vec<u64> {
        let objects = objects(path);
        let rules = list(&of_kind(&objects, "NetworkPolicy")[0]["spec"]["egress"]);
        rules
            .iter()
            .flat_map(|rule| list(&rule["ports"]))
            .filter_map(|port| port["port"].as_u64())
            .collect()
    };
    assert_eq!(ports("default"), [53, 53, 5671, 5672, 443, 8080]);
    assert_eq!(ports("settings"), [53, 53, 5671, 5672, 8443, 9090], "the port of matomo.url");
    assert_eq!(ports("extras"), [53, 53, 5672, 8080, 8080, 3128]);
}

#[test]
fn nobody_else_is_let_in_unless_the_values_say_so() {
    let peers = |path: &str| {
        let objects = objects(path);
        let policy = of_kind(&objects, "NetworkPolicy")[0]["spec"].clone();
        assert_eq!(list(&policy["ingress"]).len(), 1, "{path}");
        (policy["podSelector"].clone(), policy["ingress"][0].get("from").cloned())
    };
    let (own, from) = peers("default");
    assert_eq!(from, Some(serde_json::json!([{"podSelector": own}])));
    let (own, from) = peers("extras");
    let from = from.expect("peers");
    assert_eq!((list(&from).len(), &from[0]["podSelector"]), (2, &own));
    assert_eq!(
        from[1]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"],
        "monitoring"
    );
    assert_eq!(peers("servicemonitor").1, None, "everybody");
}
