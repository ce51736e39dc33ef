//! The result as text for people, and as JSON for programs.

use std::io::Write;

use serde_json::json;

use super::counts::{ViolationCounts, ViolationGroup, ViolationKey, not_checked};
use crate::cli::json::compact;
use crate::domain::plan::Plan;
use crate::domain::printable::printable;
use crate::domain::prose::hits;
use crate::domain::rule::{Language, Severity};
use crate::domain::validate::{Report, Violation};

/// Prints a hit as a JSON object.
pub(super) fn hit(
    plan: &Plan,
    number: u64,
    violations: &[Violation],
    language: Language,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    writeln!(
        out,
        "{}",
        compact(&json!({"line": number, "violations": reports(plan, violations, language)}))?
    )?;
    Ok(())
}

/// Prints the last JSON object, a summary.
pub(super) fn summary(
    counts: &ViolationCounts,
    plan: &Plan,
    language: Language,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let summary = json!({"summary": {
        "hits": counts.hits,
        "with_errors": counts.with_errors,
        "with_warnings": counts.with_warnings,
        "plan": plan.version,
        "not_checked": reports(plan, &not_checked(plan), language),
    }});
    writeln!(out, "{}", compact(&summary)?)?;
    Ok(())
}

/// Prints the groups of equal violations, and a summary.
pub(super) fn text(
    counts: &ViolationCounts,
    plan: &Plan,
    language: Language,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    for (ViolationKey { severity, rule, .. }, ViolationGroup { count, lines, message, .. }) in
        &counts.groups
    {
        let severity = match (severity.0, language) {
            (severity, Language::English) => severity.code(),
            (Severity::Error, Language::French) => "erreur",
            (Severity::Warning, Language::French) => "alerte",
            (Severity::Information, Language::French) => "note",
        };
        let shown: Vec<String> = lines.iter().map(ToString::to_string).collect();
        let more = if *count > lines.len() as u64 { ", …" } else { "" };
        let unit = if counts.unit == "line" { language.of("line", "ligne") } else { "hit" };
        writeln!(
            out,
            "{severity:<8} {:<24} {count:>8} ×  {}  ({unit} {}{more})",
            rule.code(),
            printable(message),
            shown.join(", ")
        )?;
    }
    if !counts.groups.is_empty() {
        writeln!(out)?;
    }
    for violation in not_checked(plan) {
        writeln!(out, "{}", printable(&violation.message(plan, language)))?;
    }
    let (version, hits, fine, warned, wrong) =
        (&plan.version, hits(counts.hits), counts.fine(), counts.with_warnings, counts.with_errors);
    match language {
        Language::English => writeln!(
            out,
            "RFTI {version}: {hits}, {fine} fine, {warned} with warnings, {wrong} with errors"
        )?,
        Language::French => writeln!(
            out,
            "RFTI {version} : {hits}, {fine} sans défaut, {warned} avec alertes, {wrong} avec \
             erreurs"
        )?,
    }
    Ok(())
}

/// Makes the reports of a hit's violations.
fn reports(plan: &Plan, violations: &[Violation], language: Language) -> Vec<Report> {
    violations.iter().map(|violation| violation.report(plan, language)).collect()
}
