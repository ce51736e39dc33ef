//! `dead group`: dead hits counted by what they have in common.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use clap::builder::PossibleValuesParser;
use clap::builder::TypedValueParser;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::choice::Choice;
use super::digest::Digest;
use super::reading::{self, HitsRead};
use crate::cli::columns::in_columns;
use crate::cli::stop;
use crate::domain::dead::group::{GroupKey, Groups};
use crate::service::config::ReplaySettings;

/// The command line options of `dead group`.
#[derive(Debug, Args)]
pub struct DeadGroupOptions {
    /// What to count by, in this order
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "KEYS",
        default_value = "queue,reason,field,value",
        value_parser = keys()
    )]
    by: Vec<GroupKey>,
    #[command(flatten)]
    choice: Choice,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// Reads the keys by their codes, so that the command line lists them.
fn keys() -> impl TypedValueParser<Value = GroupKey> {
    let named = |name: String| {
        GroupKey::ALL.iter().copied().find(|key| key.code() == name).ok_or("no such key")
    };
    PossibleValuesParser::new(GroupKey::ALL.iter().map(|key| key.code())).try_map(named)
}

/// Counts the chosen hits by the keys.
///
/// # Errors
/// Fails for a configuration mistake, a broker that goes away, and an output that cannot be written
/// to.
pub(super) async fn run(options: &DeadGroupOptions) -> anyhow::Result<ExitCode> {
    let settings = ReplaySettings::from_env()?;
    let plan = settings.rules.plan()?;
    let filter = options.choice.filter();
    let client = reading::open(&settings.broker, &options.choice).await?;
    let mut groups = Groups::new(options.by.clone());
    let counts = reading::for_each_chosen(
        &client,
        &options.choice,
        &filter,
        &stop::on_signal()?,
        |dead_letter, dead| {
            groups.add(&plan, dead, || Digest::of(dead_letter.message.body()).short());
            Ok(())
        },
    )
    .await?;
    client.close().await;
    if options.json { print_json(&groups, counts) } else { print_table(&groups, counts) }?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the groups as one JSON object.
fn print_json(groups: &Groups, counts: HitsRead) -> anyhow::Result<()> {
    let mut list = Vec::new();
    for (names, group) in groups.sorted() {
        let mut object = Map::new();
        for (key, name) in groups.keys().iter().zip(names) {
            object.insert(key.code().to_owned(), Value::from(name.as_str()));
        }
        if let Value::Object(counted) = serde_json::to_value(group)? {
            object.extend(counted);
        }
        list.push(Value::Object(object));
    }
    let whole = json!({
        "hits": groups.hits,
        "in_several_groups": groups.in_several,
        "in_no_group": groups.others,
        "read": counts.read,
        "groups": list,
    });
    writeln!(std::io::stdout().lock(), "{}", crate::cli::json::pretty(&whole)?)?;
    Ok(())
}

/// Prints the groups as a table.
fn print_table(groups: &Groups, counts: HitsRead) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let time = |time: Option<Timestamp>| {
        time.map(|time| format!("{time:.0}")).unwrap_or_else(|| "-".to_owned())
    };
    let mut lines: Vec<Vec<String>> =
        vec![groups.keys().iter().map(|key| key.code().to_owned()).collect()];
    let words = groups.keys().len();
    if let Some(head) = lines.first_mut() {
        head.extend(["hits", "first", "last", "example", "nearest legal value"].map(str::to_owned));
    }
    for (names, group) in groups.sorted() {
        let named =
            names.iter().map(|name| if name.is_empty() { "-".to_owned() } else { name.clone() });
        let counted = [
            group.hits.to_string(),
            time(group.first_failed_at),
            time(group.last_failed_at),
            group.example.clone(),
        ];
        lines.push(
            named.chain(counted).chain([group.nearest.clone().unwrap_or_default()]).collect(),
        );
    }
    if lines.len() > 1 {
        for line in in_columns(&lines, words) {
            writeln!(out, "{}", line.trim_end())?;
        }
    }
    writeln!(out, "{} of {} hits", groups.hits, counts.read)?;
    if groups.in_several > 0 {
        writeln!(
            out,
            "{} of them break several rules, and are in several groups",
            groups.in_several
        )?;
    }
    if groups.others > 0 {
        writeln!(out, "{} more in groups beyond the first {}", groups.others, lines.len() - 1)?;
    }
    Ok(())
}
