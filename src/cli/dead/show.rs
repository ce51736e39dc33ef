//! `dead show`: one hit whole, and what would become of it now.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::choice::Choice;
use super::digest::Digest;
use super::list::DeadRow;
use super::reading;
use crate::cli::Lang;
use crate::cli::stop;
use crate::domain::dead::Dead;
use crate::domain::dead::mask::{masked, shown};
use crate::domain::dead::outlook::{Outlook, outlook};
use crate::domain::envelope::{self, Header};
use crate::domain::hit::Value;
use crate::domain::plan::Plan;
use crate::domain::rule::Language;
use crate::domain::validate::{Report, Violation};
use crate::service::broker::DeadLetter;
use crate::service::config::ReplaySettings;
use crate::service::rules::Rules;

/// Options of `dead show`.
#[derive(Debug, Args)]
pub struct DeadShowOptions {
    /// Beginning of the id that list and group show; without any, the first ten of the chosen hits
    id: Vec<String>,
    #[command(flatten)]
    choice: Choice,
    /// Language of what breaks the plan now
    #[arg(long, value_enum, default_value_t)]
    lang: Lang,
    /// One JSON object a hit
    #[arg(long)]
    json: bool,
    /// Show visitors, browsers and whole addresses too
    #[arg(long)]
    reveal: bool,
}

/// How many are shown when nobody says which.
const MOST: usize = 10;

/// How much of a message that is no hit is shown, in characters.
const MOST_SHOWN: usize = 2_000;

#[derive(Debug, Serialize)]
struct ShownHit {
    #[serde(flatten)]
    row: DeadRow,
    headers: std::collections::BTreeMap<String, Header>,
    routing_key: String,
    fields: Vec<(String, String)>,
    /// Why the body is no hit.
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable: Option<String>,
    now: Now,
}

/// What would become of it.
#[derive(Debug, Serialize)]
struct Now {
    outcome: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    violations: Vec<Report>,
}

/// Shows.
///
/// # Errors
/// A configuration mistake, a broker that goes away, or an output that cannot be written to.
pub(super) async fn run(options: &DeadShowOptions) -> anyhow::Result<ExitCode> {
    let settings = ReplaySettings::from_env()?;
    // Who names a hit means that one, however far behind it lies.
    let max = options.choice.max.filter(|_| options.id.is_empty());
    let choice = options.choice.for_rows(max);
    let rules = Rules::load(settings.rules.clone())?;
    let rule_set = rules.current();
    let filter = options.choice.filter();
    let client = reading::open(&settings.broker, &options.choice).await?;
    let terms = settings.terms(&rule_set.plan, &[]);
    let (mut out, mut found) = (std::io::BufWriter::new(std::io::stdout()), 0);
    reading::look(&client, &choice, &filter, &stop::on_signal()?, |dead_letter, dead| {
        let id = Digest::of(dead_letter.body()).hex();
        let asked_for = if options.id.is_empty() {
            found < MOST
        } else {
            options.id.iter().any(|asked| id.starts_with(asked.as_str()))
        };
        if !asked_for {
            return Ok(());
        }
        found += 1;
        let tenant = dead.tenant.as_deref();
        let now =
            outlook(&terms, dead, rule_set.sender(rules.verified(dead_letter.user(), tenant)));
        let whole = ShownHit::of(dead_letter, dead, &rule_set.plan, now, options);
        if options.json {
            serde_json::to_writer(&mut out, &whole).map_err(std::io::Error::from)?;
            writeln!(out)?;
        } else {
            if found > 1 {
                writeln!(out)?;
            }
            whole.print(&mut out)?;
        }
        Ok(())
    })
    .await?;
    client.close().await;
    out.flush()?;
    if found == 0 {
        eprintln!("no such hit");
    }
    Ok(if found == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

impl ShownHit {
    fn of(
        dead_letter: &DeadLetter,
        dead: &Dead<'_>,
        plan: &Plan,
        now: Outlook,
        options: &DeadShowOptions,
    ) -> Self {
        let language = Language::from(options.lang);
        let told = |name: &str, value: &str| {
            let value = if options.reveal { value.into() } else { masked(plan, name, value) };
            value.replace(char::is_control, "\u{fffd}")
        };
        let fields = dead.hit.iter().flat_map(|hit| hit.fields()).map(|(name, value)| {
            let value = match value {
                Value::Text(text) => told(name, text),
                Value::Wrong(kind) => format!("({kind})"),
            };
            // A name that the plan does not know may be anything.
            (if plan.index(name).is_some() { name.to_owned() } else { shown(name) }, value)
        });
        let unreadable = dead.hit.as_ref().err().map(|error| {
            let text = String::from_utf8_lossy(dead_letter.body());
            let text: String = text
                .chars()
                .take(MOST_SHOWN)
                .map(|c| if c.is_control() { '\u{fffd}' } else { c })
                .collect();
            if options.reveal {
                format!("{error}: {text}")
            } else {
                format!("{error}, {} bytes", dead_letter.body().len())
            }
        });
        // Only what relays and brokers write: an ENT's own headers may say anything.
        let is_told = |name: &str| {
            options.reveal || envelope::is_ours(name) || name.starts_with("x-first-death-")
        };
        let headers = dead_letter.headers().filter(|(name, _)| is_told(name));
        Self {
            row: DeadRow::of(dead_letter, dead, options.reveal),
            headers: headers.map(|(name, value)| (name.to_owned(), value)).collect(),
            routing_key: told("uid", dead_letter.key()),
            fields: fields.collect(),
            unreadable,
            now: Now::of(now, plan, language),
        }
    }

    fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        writeln!(out, "{} {}", self.row.queue, self.row.id)?;
        for (name, value) in &self.headers {
            let value = match value {
                Header::Text(text) => text.replace(char::is_control, "\u{fffd}"),
                Header::Number(number) => number.to_string(),
            };
            writeln!(out, "  {name:<24}  {value}")?;
        }
        writeln!(out, "  {:<24}  {}", "routing key", self.routing_key)?;
        for (name, value) in &self.fields {
            writeln!(out, "  {name:<24}  {value}")?;
        }
        if let Some(unreadable) = &self.unreadable {
            writeln!(out, "  {:<24}  {unreadable}", "no hit")?;
        }
        writeln!(out, "  {:<24}  {}", "sent again now", self.now.outcome)?;
        for report in &self.now.violations {
            writeln!(out, "  {:<24}  {} ({})", "", report.message, report.code)?;
        }
        Ok(())
    }
}

impl Now {
    fn of(outlook: Outlook, plan: &Plan, language: Language) -> Self {
        let told = |violation: Violation| Violation {
            field: violation.field.as_deref().map(shown),
            ..violation
        };
        let report = |violations: Vec<Violation>| {
            violations.into_iter().map(|violation| told(violation).report(plan, language)).collect()
        };
        match outlook {
            Outlook::Goes(_) => Self { outcome: "would be delivered", violations: Vec::new() },
            Outlook::Rejected(violations) => {
                Self { outcome: "would be rejected", violations: report(violations) }
            }
            Outlook::TooOld => Self {
                outcome: "would be parked: over 24 h old, and there is no MATOMO_TOKEN_AUTH",
                violations: Vec::new(),
            },
        }
    }
}
