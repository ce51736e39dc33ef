//! The verdict as text for people, and as JSON for machines.

use std::io::Write;

use serde_json::json;

use super::tally::{ViolationCounts, ViolationGroup, ViolationKey, not_checked};
use crate::domain::plan::Plan;
use crate::domain::prose::hits;
use crate::domain::rule::{Language, Severity};
use crate::domain::validate::{Report, Violation};

/// One hit as one JSON object.
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
        json!({"line": number, "violations": reports(plan, violations, language)})
    )?;
    Ok(())
}

/// The last JSON object.
pub(super) fn summary(
    tally: &ViolationCounts,
    plan: &Plan,
    language: Language,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let summary = json!({"summary": {
        "hits": tally.hits, "with_errors": tally.with_errors, "with_warnings": tally.with_warnings,
        "plan": plan.version, "not_checked": reports(plan, &not_checked(plan), language),
    }});
    writeln!(out, "{summary}")?;
    Ok(())
}

/// Everything, grouped.
pub(super) fn text(
    tally: &ViolationCounts,
    plan: &Plan,
    language: Language,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    for (ViolationKey { severity, rule, .. }, ViolationGroup { count, lines, message, .. }) in
        &tally.groups
    {
        let severity = match (severity.0, language) {
            (severity, Language::English) => severity.code(),
            (Severity::Error, Language::French) => "erreur",
            (Severity::Warning, Language::French) => "alerte",
            (Severity::Information, Language::French) => "note",
        };
        let shown: Vec<String> = lines.iter().map(ToString::to_string).collect();
        let more = if *count > lines.len() as u64 { ", …" } else { "" };
        let counts = if tally.counts == "line" { language.of("line", "ligne") } else { "hit" };
        writeln!(
            out,
            "{severity:<8} {:<24} {count:>8} ×  {message}  ({counts} {}{more})",
            rule.code(),
            shown.join(", ")
        )?;
    }
    if !tally.groups.is_empty() {
        writeln!(out)?;
    }
    for violation in not_checked(plan) {
        writeln!(out, "{}", violation.message(plan, language))?;
    }
    let (version, hits, fine, warned, wrong) =
        (&plan.version, hits(tally.hits), tally.fine(), tally.with_warnings, tally.with_errors);
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

fn reports(plan: &Plan, violations: &[Violation], language: Language) -> Vec<Report> {
    violations.iter().map(|violation| violation.report(plan, language)).collect()
}
