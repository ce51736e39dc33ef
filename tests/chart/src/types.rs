//! Every object through the types of its API and back: what a type does not know is lost on the
//! way, and named.

use k8s_openapi::api;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::chart::{objects, paths};

/// The kinds of the RabbitMQ Messaging Topology Operator, for which nobody publishes types.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RabbitMq<Spec> {
    api_version: String,
    kind: String,
    metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
    spec: Spec,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Queue {
    name: String,
    vhost: String,
    r#type: String,
    durable: bool,
    auto_delete: bool,
    arguments: Option<serde_json::Map<String, Value>>,
    rabbitmq_cluster_reference: Reference,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Binding {
    vhost: String,
    source: String,
    destination: String,
    destination_type: String,
    routing_key: String,
    rabbitmq_cluster_reference: Reference,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Reference {
    name: Option<String>,
    namespace: Option<String>,
    connection_secret: Option<api::core::v1::LocalObjectReference>,
}

#[test]
fn no_key_is_misspelt_and_no_value_of_the_wrong_type() {
    let (mut faults, mut count) = (Vec::new(), 0);
    for path in paths() {
        for object in objects(&path) {
            let name = format!("{path}: {} {}", object["kind"], object["metadata"]["name"]);
            count += 1;
            match round_trip(&object) {
                Ok(after) => lost(&object, &after, &mut |key| {
                    faults.push(format!("{name}: {key} is unknown"))
                }),
                Err(error) => faults.push(format!("{name}: {error}")),
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(count > 50, "{count} objects");
}

#[test]
fn a_misspelt_key_would_be_found() {
    let mut object = objects("default")
        .into_iter()
        .find(|object| object["kind"] == "Deployment")
        .expect("a Deployment");
    let container = &mut object["spec"]["template"]["spec"]["containers"][0];
    container["securityContext"]["readOnlyRootFileSystem"] = true.into();
    let mut found = Vec::new();
    lost(&object, &round_trip(&object).expect("typed"), &mut |key| found.push(key));
    assert_eq!(found, [".spec.template.spec.containers[0].securityContext.readOnlyRootFileSystem"]);
    object["spec"]["replicas"] = "two".into();
    assert!(round_trip(&object).is_err());
}

fn round_trip(object: &Value) -> anyhow::Result<Value> {
    let kind = format!(
        "{} {}",
        object["apiVersion"].as_str().unwrap_or_default(),
        object["kind"].as_str().unwrap_or_default()
    );
    match kind.as_str() {
        "apps/v1 Deployment" => typed::<api::apps::v1::Deployment>(object),
        "batch/v1 CronJob" => typed::<api::batch::v1::CronJob>(object),
        "autoscaling/v2 HorizontalPodAutoscaler" => {
            typed::<api::autoscaling::v2::HorizontalPodAutoscaler>(object)
        }
        "networking.k8s.io/v1 NetworkPolicy" => typed::<api::networking::v1::NetworkPolicy>(object),
        "policy/v1 PodDisruptionBudget" => typed::<api::policy::v1::PodDisruptionBudget>(object),
        "v1 ConfigMap" => typed::<api::core::v1::ConfigMap>(object),
        "v1 Pod" => typed::<api::core::v1::Pod>(object),
        "v1 Service" => typed::<api::core::v1::Service>(object),
        "v1 ServiceAccount" => typed::<api::core::v1::ServiceAccount>(object),
        "keda.sh/v1alpha1 ScaledObject" => {
            typed::<kcr_keda_sh::v1alpha1::scaledobjects::ScaledObject>(object)
        }
        "keda.sh/v1alpha1 TriggerAuthentication" => {
            typed::<kcr_keda_sh::v1alpha1::triggerauthentications::TriggerAuthentication>(object)
        }
        "monitoring.coreos.com/v1 PodMonitor" => {
            typed::<kcr_monitoring_coreos_com::v1::podmonitors::PodMonitor>(object)
        }
        "monitoring.coreos.com/v1 ServiceMonitor" => {
            typed::<kcr_monitoring_coreos_com::v1::servicemonitors::ServiceMonitor>(object)
        }
        "monitoring.coreos.com/v1 PrometheusRule" => {
            typed::<kcr_monitoring_coreos_com::v1::prometheusrules::PrometheusRule>(object)
        }
        "external-secrets.io/v1 ExternalSecret" => {
            typed::<kcr_external_secrets_io::v1::externalsecrets::ExternalSecret>(object)
        }
        "rabbitmq.com/v1beta1 Exchange" | "rabbitmq.com/v1beta1 Queue" => {
            typed::<RabbitMq<Queue>>(object)
        }
        "rabbitmq.com/v1beta1 Binding" => typed::<RabbitMq<Binding>>(object),
        other => anyhow::bail!("{other} has no type here"),
    }
}

fn typed<T: DeserializeOwned + Serialize>(object: &Value) -> anyhow::Result<Value> {
    Ok(serde_json::to_value(serde_json::from_value::<T>(object.clone())?)?)
}

/// Names what is in `before` and not in `after`.
fn lost(before: &Value, after: &Value, name: &mut dyn FnMut(String)) {
    fn walk(path: &str, before: &Value, after: Option<&Value>, name: &mut dyn FnMut(String)) {
        match (before, after) {
            (Value::Null, _) => {}
            (Value::Object(fields), Some(after)) => {
                fields.iter().for_each(|(key, value)| {
                    walk(&format!("{path}.{key}"), value, after.get(key), name)
                });
            }
            (Value::Array(items), Some(after)) => {
                items.iter().enumerate().for_each(|(index, item)| {
                    walk(&format!("{path}[{index}]"), item, after.get(index), name)
                });
            }
            (before, Some(after)) if before == after => {}
            _ => name(path.to_owned()),
        }
    }
    walk("", before, Some(after), name);
}
