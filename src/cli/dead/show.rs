//! `dead show`: whole hits, each with what would become of it now.

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
use crate::domain::dead::mask::{masked, shown};
use crate::domain::dead::outlook::{Outlook, outlook};
use crate::domain::dead::{BrokerMove, Dead};
use crate::domain::envelope::{self, Header};
use crate::domain::hit::Value;
use crate::domain::plan::Plan;
use crate::domain::rule::Language;
use crate::domain::validate::{Report, Violation};
use crate::service::amqp::dead_letter::DeadLetter;
use crate::service::config::ReplaySettings;
use crate::service::rules::Rules;

/// The command line options of `dead show`.
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

/// How many hits are shown if none is named.
const MAX_UNNAMED: usize = 10;

/// How many characters are shown of a message that is no hit.
const MAX_BODY_CHARACTERS: usize = 2_000;

/// A hit with all that is known of it.
#[derive(Debug, Serialize)]
struct ShownHit {
    /// What `dead list` shows of it.
    #[serde(flatten)]
    row: DeadRow,
    /// The headers that relays write; with `--reveal` all of them.
    headers: std::collections::BTreeMap<String, Header>,
    /// The routing key, which is the visitor; masked without `--reveal`.
    routing_key: String,
    /// Names and values in the order of the message.
    fields: Vec<(String, String)>,
    /// Why the body is no hit, if it is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable: Option<String>,
    /// What would become of it if it were sent again now.
    now: OutlookNow,
}

/// What would become of a hit.
#[derive(Debug, Serialize)]
struct OutlookNow {
    /// A sentence without its subject.
    outcome: &'static str,
    /// What would reject it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    violations: Vec<Report>,
}

/// Prints the hits that are named, or the first of those that are chosen.
///
/// # Errors
/// Fails for a configuration mistake, a broker that goes away, and an output that cannot be written
/// to.
pub(super) async fn run(options: &DeadShowOptions) -> anyhow::Result<ExitCode> {
    let settings = ReplaySettings::from_env()?;
    // A hit that is named is shown however far behind it lies.
    let max = options.choice.max.filter(|_| options.id.is_empty());
    let choice = options.choice.for_rows(max);
    let rules = Rules::load(settings.rules.clone())?;
    let rule_set = rules.current();
    let filter = options.choice.filter();
    let client = reading::open(&settings.broker, &options.choice).await?;
    let terms = settings.terms(&rule_set.plan, &[]);
    let (mut out, mut found) = (std::io::BufWriter::new(std::io::stdout()), 0);
    reading::for_each_chosen(
        &client,
        &choice,
        &filter,
        &stop::on_signal()?,
        |dead_letter, dead| {
            let id = Digest::of(dead_letter.message.body()).hex();
            let asked_for = if options.id.is_empty() {
                found < MAX_UNNAMED
            } else {
                options.id.iter().any(|asked| id.starts_with(asked.as_str()))
            };
            if !asked_for {
                return Ok(());
            }
            found += 1;
            let tenant = dead.tenant.as_deref();
            let now = outlook(
                &terms,
                dead,
                rule_set.sender(rules.verified(dead_letter.message.user(), tenant)),
            );
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
        },
    )
    .await?;
    client.close().await;
    out.flush()?;
    if found == 0 {
        eprintln!("no such hit");
    }
    Ok(if found == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

impl ShownHit {
    /// Puts together what is shown of a hit.
    fn of(
        dead_letter: &DeadLetter,
        dead: &Dead<'_>,
        plan: &Plan,
        now: Outlook,
        options: &DeadShowOptions,
    ) -> Self {
        let language = Language::from(options.lang);
        let displayed = |name: &str, value: &str| {
            let value = if options.reveal { value.into() } else { masked(plan, name, value) };
            value.replace(char::is_control, "\u{fffd}")
        };
        let fields = dead.hit.iter().flat_map(|hit| hit.fields()).map(|(name, value)| {
            let value = match value {
                Value::Text(text) => displayed(name, text),
                Value::Null => "(null)".to_owned(),
                Value::Wrong(kind) => format!("({kind})"),
            };
            // A name that the plan does not know may say anything.
            (if plan.index(name).is_some() { name.to_owned() } else { shown(name) }, value)
        });
        let unreadable = dead.hit.as_ref().err().map(|error| {
            let text = String::from_utf8_lossy(dead_letter.message.body());
            let text: String = text
                .chars()
                .take(MAX_BODY_CHARACTERS)
                .map(|c| if c.is_control() { '\u{fffd}' } else { c })
                .collect();
            if options.reveal {
                format!("{error}: {text}")
            } else {
                format!("{error}, {} bytes", dead_letter.message.body().len())
            }
        });
        // An ENT's own headers may say anything.
        let is_displayed = |name: &str| options.reveal || envelope::is_ours(name);
        let headers = dead_letter.message.headers().filter(|(name, _)| is_displayed(name));
        Self {
            row: DeadRow::of(dead_letter, dead, options.reveal),
            headers: headers.map(|(name, value)| (name.to_owned(), value)).collect(),
            routing_key: displayed("uid", dead_letter.message.routing_key()),
            fields: fields.collect(),
            unreadable,
            now: OutlookNow::of(now, plan, language),
        }
    }

    /// Prints the hit for people.
    fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        writeln!(out, "{} {}", self.row.queue, self.row.id)?;
        if let Some(BrokerMove { reason, queue, at }) = &self.row.broker_move {
            let reason = reason.code();
            let at = at.map(|at| format!(" at {at:.0}")).unwrap_or_default();
            writeln!(out, "  {:<24}  {reason}, out of {queue}{at}", "moved by RabbitMQ")?;
        }
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

impl OutlookNow {
    /// Puts the outlook into words.
    fn of(outlook: Outlook, plan: &Plan, language: Language) -> Self {
        let displayed = |violation: Violation| Violation {
            field: violation.field.as_deref().map(shown),
            ..violation
        };
        let report = |violations: Vec<Violation>| {
            violations
                .into_iter()
                .map(|violation| displayed(violation).report(plan, language))
                .collect()
        };
        match outlook {
            Outlook::Deliverable(_) => {
                Self { outcome: "would be delivered", violations: Vec::new() }
            }
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
