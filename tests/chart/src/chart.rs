//! The chart on disk, and what helm makes of it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde_json::Value;

/// The values that a cluster would be given, one file a path through the chart.
pub(crate) fn paths() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder().join("ci"))
        .expect("ci/")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter_map(|name| name.strip_suffix("-values.yaml").map(str::to_owned))
        .collect();
    names.sort();
    assert!(names.len() > 5, "{names:?}");
    names
}

/// The repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub(crate) fn folder() -> PathBuf {
    root().join("helm/dnma-relay")
}

pub(crate) fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Compares with a file that is kept; `UPDATE=1` writes it anew.
pub(crate) fn matches_file(path: &str, text: &str) {
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(root().join(path), text).expect("written");
    }
    assert!(
        read(path) == text,
        "{path} is not up to date: run tests/chart/run with UPDATE=1 and look at the difference"
    );
}

/// The helms to test with.
pub(crate) fn helms() -> Vec<String> {
    let helms =
        std::env::var("HELM").expect("HELM has the paths of the helms: use tests/chart/run");
    helms.split(':').map(str::to_owned).collect()
}

pub(crate) fn helm(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).current_dir(folder()).output();
    output.unwrap_or_else(|error| panic!("{program}: {error}"))
}

/// What a helm renders for a values file, as text.
pub(crate) fn template(
    program: &str,
    chart: &str,
    values: &str,
    more: &[&str],
) -> anyhow::Result<String> {
    let arguments =
        [&["template", "relay", chart, "--namespace", "dnma", "--values", values], more].concat();
    let output = helm(program, &arguments);
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// The objects of a path through the chart, by the last of the helms.
pub(crate) fn objects(path: &str) -> Vec<Value> {
    let helm = helms().pop().expect("a helm");
    parse(&template(&helm, ".", &format!("ci/{path}-values.yaml"), &[]).expect(path)).expect(path)
}

/// Every document of a YAML file.
pub(crate) fn parse(text: &str) -> anyhow::Result<Vec<Value>> {
    let documents = serde_yaml_ng::Deserializer::from_str(text)
        .map(|document| Value::deserialize(document).context("YAML"));
    documents.filter(|document| !matches!(document, Ok(Value::Null))).collect()
}

pub(crate) fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

/// The pods that a path makes: those of the Deployment, that of the Helm test, and the CronJob's.
pub(crate) fn pods(objects: &[Value]) -> Vec<&Value> {
    let workers = of_kind(objects, "Deployment")
        .into_iter()
        .map(|deployment| &deployment["spec"]["template"]["spec"]);
    let tests = of_kind(objects, "Pod").into_iter().map(|pod| &pod["spec"]);
    let jobs = of_kind(objects, "CronJob")
        .into_iter()
        .map(|job| &job["spec"]["jobTemplate"]["spec"]["template"]["spec"]);
    workers.chain(tests).chain(jobs).collect()
}

pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
