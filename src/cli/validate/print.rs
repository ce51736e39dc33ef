//! The verdict as text for people, and as JSON for machines.

use std::io::Write;

use serde_json::json;

use super::tally::{Group, Key, Tally, not_checked};
use crate::domain::plan::Plan;
use crate::domain::rule::Language;
use crate::domain::validate::{Report, Violation};

/// One hit as one JSON object.
pub(super) fn hit(plan: &Plan, number: u64, violations: &[Violation], language: Language, out: &mut dyn Write) -> anyhow::Result<()> {
    writeln!(out, "{}", json!({"line": number, "violations": reports(plan, violations, language)}))?;
    Ok(())
}

/// The last JSON object.
pub(super) fn summary(tally: &Tally, plan: &Plan, language: Language, out: &mut dyn Write) -> anyhow::Result<()> {
    let summary = json!({"summary": {
        "hits": tally.hits, "with_errors": tally.with_errors, "with_warnings": tally.with_warnings,
        "plan": plan.version, "not_checked": reports(plan, &not_checked(plan), language),
    }});
    writeln!(out, "{summary}")?;
    Ok(())
}

/// Everything, grouped.
pub(super) fn text(tally: &Tally, plan: &Plan, language: Language, out: &mut dyn Write) -> anyhow::Result<()> {
    for (Key { severity, rule, .. }, Group { count, lines, message, .. }) in &tally.groups {
        let severity = severity.0.code();
        let shown: Vec<String> = lines.iter().map(ToString::to_string).collect();
        let more = if *count > lines.len() as u64 { ", …" } else { "" };
        let counts = tally.counts;
        writeln!(out, "{severity:<8} {:<24} {count:>8} ×  {message}  ({counts} {}{more})", rule.code(), shown.join(", "))?;
    }
    if !tally.groups.is_empty() {
        writeln!(out)?;
    }
    for violation in not_checked(plan) {
        writeln!(out, "{}", violation.message(plan, language))?;
    }
    writeln!(
        out,
        "RFTI {}: {} hits, {} fine, {} with warnings, {} with errors",
        plan.version,
        tally.hits,
        tally.fine(),
        tally.with_warnings,
        tally.with_errors
    )?;
    Ok(())
}

fn reports(plan: &Plan, violations: &[Violation], language: Language) -> Vec<Report> {
    violations.iter().map(|violation| violation.report(plan, language)).collect()
}
