//! `dnma-relay plan`: the tagging plan that is applied, its JSON Schema, and what changes from one
//! plan to another.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::json;

use super::{Lang, Unusable};
use crate::domain::plan::changes::{self, PlanChange};
use crate::domain::plan::list;
use crate::domain::plan::schema::schema;
use crate::domain::plan::{Field, Plan};
use crate::domain::rule::Rule;
use crate::service::rules::source::Source;

/// The command line options of `plan`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct PlanOptions {
    #[command(subcommand)]
    command: Option<PlanCommand>,
    #[command(flatten)]
    source: PlanSource,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
    /// Language of the rules
    #[arg(long, value_enum, default_value_t)]
    lang: Lang,
}

/// The options that say where the plan comes from.
#[derive(Debug, Args)]
pub(super) struct PlanSource {
    /// Directory with the DNMA's reference lists [default: the one of REFERENCE_LISTS]
    #[arg(long, value_name = "DIR")]
    lists: Option<PathBuf>,
    /// A plan of another version, in the form of the built-in one's data
    #[arg(long, value_name = "FILE", conflicts_with = "lists")]
    plan: Option<PathBuf>,
}

/// The commands of `plan`.
#[derive(Debug, Subcommand)]
enum PlanCommand {
    /// Print the JSON Schema of a message
    Schema {
        #[command(flatten)]
        source: PlanSource,
    },
    /// Print what changes from one plan to another; exit code 1 if anything does
    Diff {
        /// A plan's data, or 2.01 for the built-in one
        from: PathBuf,
        /// A plan's data, or 2.01 for the built-in one
        to: PathBuf,
        /// One JSON array instead of text
        #[arg(long)]
        json: bool,
    },
}

/// Prints the plan, its schema, or what differs between two plans.
///
/// # Errors
/// Fails for a plan that cannot be read, and for an output that cannot be written to.
pub fn run(options: &PlanOptions) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    match &options.command {
        None => {
            let plan = options.source.read().map_err(Unusable)?;
            if options.json {
                writeln!(out, "{:#}", as_json(&plan, options.lang))?;
            } else {
                as_text(&plan, options.lang, &mut out)?;
            }
        }
        Some(PlanCommand::Schema { source }) => {
            writeln!(out, "{:#}", schema(&source.read().map_err(Unusable)?))?
        }
        Some(PlanCommand::Diff { from, to, json }) => {
            let changes =
                changes::between(&named(from).map_err(Unusable)?, &named(to).map_err(Unusable)?);
            if *json {
                writeln!(out, "{}", serde_json::to_string_pretty(&changes)?)?;
            } else {
                changes.iter().try_for_each(|change| print_change(change, &mut out))?;
            }
            return Ok(if changes.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl PlanSource {
    /// Reads the plan.
    pub(super) fn read(&self) -> anyhow::Result<Plan> {
        if let Some(path) = &self.plan {
            return read(path);
        }
        let variable = || {
            std::env::var_os("REFERENCE_LISTS").filter(|path| !path.is_empty()).map(PathBuf::from)
        };
        let source = Source { lists: self.lists.clone().or_else(variable), ..Source::default() };
        source.plan().context("REFERENCE_LISTS (--lists)")
    }
}

/// Reads the plan of a file.
fn read(path: &Path) -> anyhow::Result<Plan> {
    let shown = path.display();
    let file = std::fs::File::open(path).with_context(|| format!("{shown} cannot be read"))?;
    let mut text = String::new();
    file.take(list::MAX_BYTES as u64)
        .read_to_string(&mut text)
        .with_context(|| format!("{shown} cannot be read"))?;
    Plan::parse(&text).with_context(|| format!("{shown} is not a plan"))
}

/// Reads the plan of a file, or takes the built-in one if its version is given.
fn named(path: &Path) -> anyhow::Result<Plan> {
    let built_in = Plan::built_in()?;
    if path.as_os_str() == built_in.version.as_str() && !path.exists() {
        Ok(built_in)
    } else {
        read(path)
    }
}

/// Prints one difference in a line.
fn print_change(change: &PlanChange, out: &mut dyn Write) -> std::io::Result<()> {
    let PlanChange { what, from, to } = change;
    match (from, to) {
        (Some(from), Some(to)) => writeln!(out, "~ {what}: {from} → {to}"),
        (Some(from), None) => writeln!(out, "- {what}: {from}"),
        (None, Some(to)) => writeln!(out, "+ {what}: {to}"),
        (None, None) => Ok(()),
    }
}

/// Writes the plan as a JSON object.
fn as_json(plan: &Plan, lang: Lang) -> serde_json::Value {
    let fields = plan.fields().iter().map(|field| {
        json!({
            "name": field.name,
            "parameter": field.parameter(),
            "section": field.section,
            "max": field.max,
            "list": field.list,
            "mandatory": field.mandatory,
            "exceptions": field.exceptions,
            "supplied": field.relay,
            "visit": field.visit,
        })
    });
    let lists = plan.lists().iter().map(|list| {
        let described =
            |value: &String| json!({"value": value, "description": list.description(value)});
        json!({
            "name": list.name,
            "section": list.section,
            "loaded": list.is_loaded(),
            "values": list.values().iter().map(described).collect::<Vec<_>>(),
        })
    });
    let rules = Rule::ALL.iter().map(|rule| {
        let text = plan.text(*rule, lang.into());
        json!({"code": rule, "severity": plan.severity(*rule), "text": text})
    });
    json!({
        "version": plan.version,
        "fields": fields.collect::<Vec<_>>(),
        "lists": lists.collect::<Vec<_>>(),
        "gar": plan.gar().collect::<std::collections::BTreeMap<_, _>>(),
        "national": plan.national().collect::<std::collections::BTreeMap<_, _>>(),
        "rules": rules.collect::<Vec<_>>(),
    })
}

/// Prints the plan for people.
fn as_text(plan: &Plan, lang: Lang, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "RFTI {}\n\nFields", plan.version)?;
    for field in plan.fields() {
        let max = field.max.map(|max| format!("at most {max} characters")).unwrap_or_default();
        let list = field.list.as_ref().map(|list| format!("list {list}")).unwrap_or_default();
        writeln!(
            out,
            "  {:<12} §{:<6} {:<29} {max:<24} {list}",
            field.name,
            field.section,
            need(field)
        )?;
    }
    for list in plan.lists() {
        writeln!(out, "\nList {}", list.name)?;
        if !list.is_loaded() {
            let why = if plan.is_checked(list) {
                "kept by the DNMA outside the plan, and not loaded: not checked"
            } else {
                "not loaded"
            };
            writeln!(out, "  {why}")?;
        }
        for value in list.values() {
            match list.description(value) {
                Some(description) => writeln!(out, "  {value}: {description}")?,
                None => writeln!(out, "  {value}")?,
            }
        }
    }
    writeln!(out, "\nGAR codes")?;
    plan.gar().try_for_each(|(code, service)| writeln!(out, "  {code}  {service}"))?;
    writeln!(out, "\nProfiles of the directory")?;
    plan.national().try_for_each(|(name, profile)| writeln!(out, "  {name}  {profile}"))?;
    writeln!(out, "\nRules")?;
    Rule::ALL.iter().try_for_each(|rule| {
        let severity = plan.severity(*rule).code();
        writeln!(out, "  {severity:<11} {:<24} {}", rule.code(), plan.text(*rule, lang.into()))
    })
}

/// Says whether a hit must carry the field.
fn need(field: &Field) -> &'static str {
    match (field.mandatory.is_empty(), field.relay, field.exceptions.is_some()) {
        (true, ..) => "optional",
        (_, true, _) => "supplied",
        (_, _, true) => "mandatory but for exceptions",
        _ => "mandatory",
    }
}
