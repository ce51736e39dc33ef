//! `dnma-relay validate`: a verdict on a file of hits before anything is sent.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde_json::json;

use super::Lang;
use super::lines::Lines;
use crate::domain::hit;
use crate::domain::plan::Plan;
use crate::domain::rule::{Language, Rule, Severity};
use crate::domain::validate::{Context, Violation, validate};

/// Options of `validate`.
#[derive(Debug, Args)]
pub struct Options {
    /// File of hits, one a line; - for standard input
    file: String,
    /// Text groups equal violations; json has one object a hit and a summary at the end
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Language of the messages
    #[arg(long, value_enum, default_value_t)]
    lang: Lang,
    /// Site for hits without idsite, as MATOMO_SITE_ID does
    #[arg(long)]
    site_id: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Format {
    #[default]
    Text,
    Json,
}

/// Equal violations are counted together; beyond so many kinds the rest of a rule and field is one kind, so that memory
/// stays bounded whatever the file holds.
const MOST_GROUPS: usize = 5_000;

/// Lines that are named for a group.
const LINES_SHOWN: usize = 3;

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    /// Errors first.
    severity: std::cmp::Reverse<Severity>,
    rule: Rule,
    field: Option<String>,
    value: Option<String>,
}

#[derive(Debug)]
struct Group {
    count: u64,
    lines: Vec<u64>,
    message: String,
}

#[derive(Debug, Default)]
struct Tally {
    hits: u64,
    with_errors: u64,
    with_warnings: u64,
    groups: BTreeMap<Key, Group>,
}

/// Reads every line, and prints what is wrong.
///
/// # Errors
/// A file that cannot be read, or an output that cannot be written to.
pub async fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let plan = Plan::built_in()?;
    let mut lines = Lines::open(&options.file).await?;
    lines.show_progress()?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut tally = Tally::default();
    while let Some((number, body)) = lines.next().await? {
        let violations = check(&plan, logged_call(body).unwrap_or(body), options);
        if matches!(options.format, Format::Json) {
            let reports: Vec<_> = violations.iter().map(|v| v.report(&plan, options.lang.into())).collect();
            writeln!(out, "{}", json!({"line": number, "violations": reports}))?;
        }
        tally.add(&plan, number, &violations, options.lang.into());
    }
    lines.finish();
    match options.format {
        Format::Text => tally.text(&plan, &mut out)?,
        Format::Json => writeln!(out, "{}", tally.json(&plan))?,
    }
    out.flush()?;
    Ok(if tally.with_errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn check(plan: &Plan, body: &[u8], options: &Options) -> Vec<Violation> {
    // A line of plain parameters has no first byte to know it by; a message would have its content type.
    let form = (!body.starts_with(b"{") && !body.starts_with(b"[") && body.contains(&b'=')).then_some("application/x-www-form-urlencoded");
    match hit::decode(body, form) {
        Err(error) => vec![Violation::from(error)],
        Ok(hit) => {
            // A file is no queue: how old its hits are says nothing of how old they would be when sent.
            let default_site = options.site_id.as_deref();
            let context = Context { first_seen: Timestamp::now(), default_site, sent_at: None, has_token: true };
            validate(plan, &hit, context).violations
        }
    }
}

/// The call of matomo.php in a line of an access log (`… "GET /matomo.php?idsite=1… HTTP/1.1" 204 …`).
fn logged_call(line: &[u8]) -> Option<&[u8]> {
    let start = line.windows(5).position(|window| window == b"\"GET ")? + 5;
    let rest = line.get(start..)?;
    let end = rest.iter().position(|byte| *byte == b' ' || *byte == b'"').unwrap_or(rest.len());
    rest.get(..end).filter(|call| call.windows(5).any(|window| window == b".php?"))
}

impl Tally {
    fn add(&mut self, plan: &Plan, line: u64, violations: &[Violation], language: Language) {
        self.hits += 1;
        match violations.iter().map(|violation| plan.severity(violation.rule)).max() {
            Some(Severity::Error) => self.with_errors += 1,
            Some(Severity::Warning) => self.with_warnings += 1,
            None => {}
        }
        for violation in violations {
            let severity = std::cmp::Reverse(plan.severity(violation.rule));
            let mut key = Key { severity, rule: violation.rule, field: violation.field.clone(), value: violation.value.clone() };
            if self.groups.len() >= MOST_GROUPS && !self.groups.contains_key(&key) {
                (key.field, key.value) = (None, None);
            }
            let group =
                self.groups.entry(key).or_insert_with(|| Group { count: 0, lines: Vec::new(), message: violation.message(plan, language) });
            group.count += 1;
            if group.lines.len() < LINES_SHOWN {
                group.lines.push(line);
            }
        }
    }

    fn text(&self, plan: &Plan, out: &mut dyn Write) -> std::io::Result<()> {
        for (Key { severity, rule, .. }, Group { count, lines, message }) in &self.groups {
            let severity = severity.0.code();
            let shown: Vec<String> = lines.iter().map(ToString::to_string).collect();
            let more = if *count > lines.len() as u64 { ", …" } else { "" };
            writeln!(out, "{severity:<8} {:<24} {count:>8} ×  {message}  (line {}{more})", rule.code(), shown.join(", "))?;
        }
        if !self.groups.is_empty() {
            writeln!(out)?;
        }
        let fine = self.hits - self.with_errors - self.with_warnings;
        writeln!(out, "{} hits: {fine} fine, {} with warnings, {} with errors", self.hits, self.with_warnings, self.with_errors)?;
        writeln!(
            out,
            "RFTI {}; not checked, because the DNMA keeps these lists outside the plan: {}",
            plan.version,
            unloaded(plan).join(", ")
        )
    }

    fn json(&self, plan: &Plan) -> serde_json::Value {
        json!({"summary": {
            "hits": self.hits, "with_errors": self.with_errors, "with_warnings": self.with_warnings,
            "plan": plan.version, "lists_not_checked": unloaded(plan),
        }})
    }
}

fn unloaded(plan: &Plan) -> Vec<&str> {
    plan.lists().filter(|(_, values)| values.is_empty()).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_found_in_an_access_log() {
        let line = br#"192.0.2.1 - - [25/Nov/2024:16:11:42 +0000] "GET /matomo.php?idsite=1&uid=x HTTP/1.1" 204 0 "-" "curl""#;
        assert_eq!(logged_call(line), Some(&b"/matomo.php?idsite=1&uid=x"[..]));
        assert_eq!(logged_call(br#"{"action_name":"\"GET it"}"#), None);
        assert_eq!(logged_call(b"GET"), None);
    }
}
