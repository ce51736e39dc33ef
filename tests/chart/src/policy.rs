//! Pod Security "restricted", as the Kubernetes documentation lists it, and what we ask on top. No
//! cluster is asked.

use serde_json::Value;

use crate::chart::{list, objects, of_kind, paths, pods};

/// Volume types that "restricted" allows.
const VOLUMES: [&str; 8] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

#[test]
fn every_pod_is_restricted() {
    for path in paths() {
        let objects = objects(&path);
        let pods = pods(&objects);
        let jobs = of_kind(&objects, "CronJob").len();
        assert_eq!(
            pods.len(),
            2 + jobs,
            "{path}: the workers, the Helm test, and what is retained"
        );
        for pod in pods {
            assert_eq!(breaches(pod), Vec::<String>::new(), "{path}");
        }
    }
}

#[test]
fn a_pod_that_is_not_would_be_found() {
    let objects = objects("default");
    for (pointer, value) in [
        ("/hostNetwork", Value::Bool(true)),
        ("/securityContext/runAsNonRoot", Value::Bool(false)),
        ("/securityContext/seccompProfile/type", "Unconfined".into()),
        ("/containers/0/securityContext/allowPrivilegeEscalation", Value::Bool(true)),
        ("/containers/0/securityContext/capabilities/drop/0", "NET_RAW".into()),
        ("/containers/0/securityContext/runAsUser", 0.into()),
        ("/containers/0/ports/0/hostPort", 80.into()),
    ] {
        let mut pod = pods(&objects)[0].clone();
        set(&mut pod, pointer, value);
        assert!(!breaches(&pod).is_empty(), "{pointer}");
    }
}

#[test]
fn the_relay_writes_nothing_and_knows_no_cluster() {
    for path in paths() {
        for pod in pods(&objects(&path)) {
            assert_eq!(pod["automountServiceAccountToken"], false, "{path}");
            let relay = &pod["containers"][0];
            assert_eq!(relay["securityContext"]["readOnlyRootFilesystem"], true, "{path}");
            assert!(relay["resources"]["limits"]["memory"].is_string(), "{path}");
            // A mount of a single file is never updated.
            assert!(
                list(&relay["volumeMounts"]).iter().all(|mount| mount.get("subPath").is_none()),
                "{path}"
            );
        }
    }
}

fn breaches(pod: &Value) -> Vec<String> {
    let mut breaches = Vec::new();
    let mut demand = |held: bool, what: String| {
        if !held {
            breaches.push(what);
        }
    };
    for key in ["hostNetwork", "hostPID", "hostIPC"] {
        demand(pod[key] != true, key.to_owned());
    }
    demand(pod["securityContext"].get("sysctls").is_none(), "sysctls".to_owned());
    for volume in list(&pod["volumes"]) {
        let kinds = volume.as_object().expect("a volume").keys().filter(|key| *key != "name");
        demand(
            kinds.into_iter().all(|kind| VOLUMES.contains(&kind.as_str())),
            format!("volume {volume}"),
        );
    }
    for container in ["containers", "initContainers", "ephemeralContainers"]
        .iter()
        .flat_map(|key| list(&pod[key]))
    {
        let name = &container["name"];
        let own = &container["securityContext"];
        // A container's own word goes before the pod's.
        let effective = |key: &str| own.get(key).unwrap_or(&pod["securityContext"][key]);
        demand(own["privileged"] != true, format!("{name}: privileged"));
        demand(
            own["allowPrivilegeEscalation"] == false,
            format!("{name}: allowPrivilegeEscalation"),
        );
        demand(effective("runAsNonRoot") == true, format!("{name}: runAsNonRoot"));
        demand(effective("runAsUser") != 0, format!("{name}: runAsUser"));
        let seccomp = &effective("seccompProfile")["type"];
        demand(
            seccomp == "RuntimeDefault" || seccomp == "Localhost",
            format!("{name}: seccompProfile"),
        );
        demand(
            list(&own["capabilities"]["drop"]).iter().any(|one| one == "ALL"),
            format!("{name}: drop ALL"),
        );
        demand(
            list(&own["capabilities"]["add"]).iter().all(|one| one == "NET_BIND_SERVICE"),
            format!("{name}: add"),
        );
        demand(
            own.get("procMount").is_none_or(|mount| mount == "Default"),
            format!("{name}: procMount"),
        );
        for key in ["seLinuxOptions", "appArmorProfile", "windowsOptions"] {
            demand(effective(key).is_null(), format!("{name}: {key}"));
        }
        demand(
            list(&container["ports"])
                .iter()
                .all(|port| port.get("hostPort").is_none_or(|port| port == 0)),
            format!("{name}: hostPort"),
        );
    }
    breaches
}

fn set(pod: &mut Value, pointer: &str, value: Value) {
    let mut place = pod;
    for part in pointer.split('/').skip(1) {
        place = match part.parse::<usize>() {
            Ok(index) => &mut place[index],
            Err(_) => &mut place[part],
        };
    }
    *place = value;
}
