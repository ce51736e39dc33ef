//! What the drills saw, as the table of docs/faults.md. Each run keeps its figures beside those of
//! other brokers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::Context;
use serde_json::{Value, json};

use super::books::{Allowed, Balance};

struct Row {
    fault: String,
    tried: usize,
    hits: usize,
    lost: usize,
    repeated: usize,
    out_of_order: usize,
    allowed: Allowed,
}

static ROWS: Mutex<Vec<Row>> = Mutex::new(Vec::new());

/// Adds a drill to the table and fails if it broke a promise. The same fault again adds to its row.
pub fn record(
    fault: &str,
    tried: usize,
    balance: &Balance,
    allowed: Allowed,
) -> anyhow::Result<()> {
    println!("{fault}: {balance}");
    let mut rows = ROWS.lock().expect("rows");
    let row = match rows.iter_mut().find(|row| row.fault == fault) {
        Some(row) => row,
        None => {
            let empty = Row {
                fault: fault.to_owned(),
                tried: 0,
                hits: 0,
                lost: 0,
                repeated: 0,
                out_of_order: 0,
                allowed,
            };
            rows.push(empty);
            rows.last_mut().expect("just pushed")
        }
    };
    row.tried += tried;
    row.hits += balance.published;
    row.lost += balance.lost;
    row.repeated += balance.repeated;
    row.out_of_order += balance.out_of_order;
    drop(rows);
    balance.check(allowed).with_context(|| fault.to_owned())
}

/// Where reports are read from, wherever cargo builds.
pub fn folder() -> anyhow::Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Writes `faults-VERSION.json`, and `faults.md` of all versions that were tried.
pub fn write(version: &str) -> anyhow::Result<PathBuf> {
    let rows = ROWS.lock().expect("rows");
    let folder = folder()?;
    let mine: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "fault": row.fault,
                "tried": row.tried,
                "hits": row.hits,
                "lost": row.lost,
                "repeated": row.repeated,
                "out_of_order": row.out_of_order,
                "most_repeated": limit(row.allowed.repeated),
                "most_out_of_order": limit(row.allowed.out_of_order),
            })
        })
        .collect();
    std::fs::write(
        folder.join(format!("faults-{version}.json")),
        serde_json::to_string_pretty(&mine)?,
    )?;
    let table = folder.join("faults.md");
    std::fs::write(&table, render(&versions(&folder)?))?;
    Ok(table)
}

/// As the table says it.
fn limit(most: usize) -> String {
    if most == usize::MAX { "–".to_owned() } else { most.to_string() }
}

/// The runs that are kept, by version.
fn versions(folder: &Path) -> anyhow::Result<BTreeMap<String, Vec<Value>>> {
    let mut versions = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some(version) =
            name.strip_prefix("faults-").and_then(|name| name.strip_suffix(".json"))
        {
            let rows = serde_json::from_str(&std::fs::read_to_string(folder.join(&name))?)
                .with_context(|| name.clone())?;
            versions.insert(version.to_owned(), rows);
        }
    }
    Ok(versions)
}

fn render(versions: &BTreeMap<String, Vec<Value>>) -> String {
    let names: Vec<&str> = versions.keys().map(String::as_str).collect();
    let mut faults: Vec<&Value> = Vec::new();
    for row in versions.values().flatten() {
        if !faults.iter().any(|other| other["fault"] == row["fault"]) {
            faults.push(row);
        }
    }
    faults.sort_by_key(|row| row["fault"].as_str());
    let mut table = format!(
        "Seen on RabbitMQ {}, in this order.\n\n| fault | tried | hits | lost | repeated | at \
         most | out of order | at most |\n|---|---|---|---|---|---|---|---|\n",
        names.join(" and ")
    );
    for row in faults {
        let seen = |key: &str| {
            let of = |rows: &Vec<Value>| {
                rows.iter()
                    .find(|other| other["fault"] == row["fault"])
                    .map(|found| found[key].to_string())
            };
            versions
                .values()
                .map(|rows| of(rows).unwrap_or_else(|| "–".to_owned()))
                .collect::<Vec<_>>()
                .join(" · ")
        };
        let fault = row["fault"].as_str().unwrap_or_default();
        table += &format!(
            "| {fault} | {} | {} | {} | {} | {} | {} | {} |\n",
            row["tried"],
            row["hits"],
            seen("lost"),
            seen("repeated"),
            row["most_repeated"].as_str().unwrap_or_default(),
            seen("out_of_order"),
            row["most_out_of_order"].as_str().unwrap_or_default()
        );
    }
    table
}

/// Faults of this run that the document does not name with the same limits. A limit that each run
/// finds anew is "in doubt" there.
pub fn missing_from(document: &str) -> Vec<String> {
    let documented: Vec<Vec<&str>> = document
        .lines()
        .filter(|line| line.starts_with("| "))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    let rows = ROWS.lock().expect("rows");
    let says = |cell: Option<&&str>, most: usize| {
        cell.is_some_and(|cell| *cell == "in doubt" || *cell == limit(most))
    };
    let known = |row: &Row| {
        documented.iter().any(|cells| {
            cells.get(1) == Some(&row.fault.as_str())
                && says(cells.get(6), row.allowed.repeated)
                && says(cells.get(8), row.allowed.out_of_order)
        })
    };
    rows.iter().filter(|row| !known(row)).map(|row| row.fault.clone()).collect()
}
