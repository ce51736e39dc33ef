//! The table of values in the chart's README, made from the comments of `values.yaml`.

use serde_json::Value;

use crate::chart::{matches_file, parse, read};

const BEGIN: &str = "<!-- values: made from values.yaml -->\n";
const END: &str = "<!-- end of values -->\n";

#[test]
fn the_readme_has_every_value_with_its_default_and_meaning() {
    let path = "helm/dnma-relay/README.md";
    let readme = read(path);
    let (before, rest) = readme.split_once(BEGIN).expect("where the table begins");
    let (_, after) = rest.split_once(END).expect("where the table ends");
    matches_file(path, &format!("{before}{BEGIN}{}{END}{after}", table()));
}

fn table() -> String {
    let text = read("helm/dnma-relay/values.yaml");
    let values = parse(&text).expect("YAML").remove(0);
    let mut table = "\n| value | default | meaning |\n|---|---|---|\n".to_owned();
    let (mut keys, mut comment): (Vec<(usize, String)>, Option<String>) = (Vec::new(), None);
    let mut described = Vec::new();
    for line in text.lines() {
        let trimmed = line.trim_start();
        if let Some(first) = trimmed.strip_prefix("# -- ") {
            comment = Some(first.to_owned());
        } else if let (Some(more), Some(text)) = (trimmed.strip_prefix("# "), &mut comment) {
            text.push(' ');
            text.push_str(more);
        } else if let Some((key, _)) =
            trimmed.split_once(':').filter(|_| !trimmed.starts_with(['#', '-']))
        {
            let indent = line.len() - trimmed.len();
            keys.retain(|(level, _)| *level < indent);
            keys.push((indent, key.to_owned()));
            if let Some(comment) = comment.take() {
                let path: Vec<&str> = keys.iter().map(|(_, key)| key.as_str()).collect();
                let value = path.iter().fold(&values, |value, key| &value[key]);
                table += &format!("| `{}` | {} | {comment} |\n", path.join("."), default(value));
                described.push(path.join("."));
            }
        }
    }
    let bare: Vec<String> = leaves("", &values)
        .into_iter()
        .filter(|leaf| !described.iter().any(|name| leaf.starts_with(name.as_str())))
        .collect();
    assert!(bare.is_empty(), "without a description: {bare:?}");
    table + "\n"
}

fn default(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() => "–".to_owned(),
        Value::String(text) => format!("`{text}`"),
        Value::Array(items) if items.is_empty() => "–".to_owned(),
        Value::Object(fields) if fields.is_empty() => "–".to_owned(),
        other => format!("`{other}`"),
    }
}

fn leaves(path: &str, value: &Value) -> Vec<String> {
    match value.as_object().filter(|fields| !fields.is_empty()) {
        Some(fields) => {
            fields.iter().flat_map(|(key, value)| leaves(&format!("{path}.{key}"), value)).collect()
        }
        None => vec![path.trim_start_matches('.').to_owned()],
    }
}
