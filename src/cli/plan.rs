//! `dnma-relay plan`: the tagging plan that is applied.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::Lang;
use crate::domain::plan::Plan;
use crate::domain::rule::Rule;

/// Options of `plan`.
#[derive(Debug, Args)]
pub struct Options {
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
    /// Language of the rules
    #[arg(long, value_enum, default_value_t)]
    lang: Lang,
}

/// The technology of RFTI §3.2.2 that stands for both: the plan's two columns are the same.
const TECHNOLOGY: Option<&str> = Some("WEB-PWA");

/// Prints the plan.
///
/// # Errors
/// An output that cannot be written to.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let plan = Plan::built_in()?;
    let mut out = std::io::stdout().lock();
    if options.json {
        writeln!(out, "{:#}", as_json(&plan, options.lang))?;
    } else {
        as_text(&plan, options.lang, &mut out)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn as_json(plan: &Plan, lang: Lang) -> serde_json::Value {
    let fields = plan.fields().iter().map(|field| {
        json!({
            "name": field.name, "parameter": field.parameter(), "section": field.section, "max": field.max, "list": field.list,
            "mandatory": field.is_mandatory(TECHNOLOGY), "exceptions": field.exceptions, "supplied": field.relay,
        })
    });
    let lists = plan.lists().map(|(name, values)| (name.to_owned(), json!(values)));
    let gar = plan.gar().map(|(code, service)| (code.to_owned(), json!(service)));
    let rules = Rule::ALL.iter().map(|rule| json!({"code": rule, "severity": plan.severity(*rule), "text": plan.text(*rule, lang.into())}));
    json!({
        "version": plan.version,
        "fields": fields.collect::<Vec<_>>(),
        "lists": lists.collect::<serde_json::Map<_, _>>(),
        "gar": gar.collect::<serde_json::Map<_, _>>(),
        "rules": rules.collect::<Vec<_>>(),
    })
}

fn as_text(plan: &Plan, lang: Lang, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "RFTI {}\n\nFields", plan.version)?;
    for field in plan.fields() {
        let need = match (field.is_mandatory(TECHNOLOGY), field.relay, field.exceptions) {
            (true, true, _) => "supplied",
            (true, _, true) => "mandatory but for exceptions",
            (true, ..) => "mandatory",
            (false, ..) => "optional",
        };
        let max = field.max.map(|max| format!("at most {max} characters")).unwrap_or_default();
        let list = field.list.as_ref().map(|list| format!("list {list}")).unwrap_or_default();
        writeln!(out, "  {:<12} §{:<6} {need:<29} {max:<24} {list}", field.name, field.section)?;
    }
    for (name, values) in plan.lists() {
        writeln!(out, "\nList {name}")?;
        if values.is_empty() {
            writeln!(out, "  kept by the DNMA outside the plan: not checked")?;
        }
        values.iter().try_for_each(|value| writeln!(out, "  {value}"))?;
    }
    writeln!(out, "\nGAR codes")?;
    plan.gar().try_for_each(|(code, service)| writeln!(out, "  {code}  {service}"))?;
    writeln!(out, "\nRules")?;
    Rule::ALL.iter().try_for_each(|rule| {
        let severity = plan.severity(*rule).code();
        writeln!(out, "  {severity:<8} {:<24} {}", rule.code(), plan.text(*rule, lang.into()))
    })
}
