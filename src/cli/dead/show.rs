//! `dead show`: whole hits, each with what would become of it now.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::choice::Choice;
use super::digest::Digest;
use super::list::DeadRow;
use super::reading;
use crate::cli::{Lang, json, stop};
use crate::domain::dead::mask::masked;
use crate::domain::dead::outlook::{Outlook, outlook};
use crate::domain::dead::{BrokerMove, Dead};
use crate::domain::envelope::{self, Header};
use crate::domain::hit::Value;
use crate::domain::plan::Plan;
use crate::domain::printable::printable;
use crate::domain::rule::Language;
use crate::domain::shown::{has_identifier, is_of};
use crate::domain::validate::{Report, Violation, names_person};
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
                writeln!(out, "{}", json::compact(&whole)?)?;
            } else {
                if found > 1 {
                    writeln!(out)?;
                }
                writeln!(out, "{} {}", whole.row.queue, whole.row.id)?;
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
            if options.reveal {
                value.to_owned()
            } else {
                masked(plan, name, value, &dead.visitors()).into_owned()
            }
        };
        let fields = dead.hit.iter().flat_map(|hit| hit.fields()).map(|(name, value)| {
            let value = match value {
                Value::Text(text) => displayed(name, text),
                Value::Null => "(null)".to_owned(),
                Value::Wrong(kind) => format!("({kind})"),
            };
            // A name that the plan does not know may say anything.
            let is_known = options.reveal || plan.index(name).is_some();
            (if is_known { name.to_owned() } else { dead.shown(name) }, value)
        });
        let unreadable = dead.hit.as_ref().err().map(|error| {
            let text = String::from_utf8_lossy(dead_letter.message.body());
            let text: String = text.chars().take(MAX_BODY_CHARACTERS).collect();
            if options.reveal {
                format!("{error}: {text}")
            } else {
                format!("{error}, {} bytes", dead_letter.message.body().len())
            }
        });
        // An ENT's own headers may say anything.
        let is_displayed = |name: &str| options.reveal || envelope::is_ours(name);
        let headers = dead_letter.message.headers().filter(|(name, _)| is_displayed(name));
        let told = |header| if options.reveal { header } else { masked_header(dead, header) };
        Self {
            row: DeadRow::of(dead_letter, dead, options.reveal),
            headers: headers.map(|(name, value)| (name.to_owned(), told(value))).collect(),
            routing_key: displayed("uid", dead_letter.message.routing_key()),
            fields: fields.collect(),
            unreadable,
            now: OutlookNow::of(now, plan, language),
        }
    }

    /// Prints the hit for people.
    fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        let mut line = |name: &str, text: &str| {
            writeln!(out, "{}", printable(&format!("  {name:<24}  {text}")))
        };
        if let Some(BrokerMove { reason, queue, at }) = &self.row.broker_move {
            let reason = reason.code();
            let at = at.map(|at| format!(" at {at:.0}")).unwrap_or_default();
            line("moved by RabbitMQ", &format!("{reason}, out of {queue}{at}"))?;
        }
        for (name, value) in &self.headers {
            match value {
                Header::Text(text) => line(name, text),
                Header::Number(number) => line(name, &number.to_string()),
            }?;
        }
        line("routing key", &self.routing_key)?;
        for (name, value) in &self.fields {
            line(name, value)?;
        }
        if let Some(unreadable) = &self.unreadable {
            line("no hit", unreadable)?;
        }
        line("sent again now", self.now.outcome)?;
        for report in &self.now.violations {
            line("", &format!("{} ({})", report.message, report.code))?;
        }
        Ok(())
    }
}

/// Masks a header that relays write. A sender or an earlier version may have put a person into it,
/// and what the relay itself writes there (names of hosts, times) may look like an identifier.
fn masked_header(dead: &Dead<'_>, header: Header) -> Header {
    let Header::Text(text) = header else { return header };
    let is_violations = text.starts_with('[');
    if names_person(&text)
        || is_violations && has_identifier(&text)
        || dead.visitors().iter().any(|visitor| is_of(&text, visitor))
    {
        return Header::Text(format!("… ({} characters)", text.chars().count()));
    }
    Header::Text(text)
}

impl OutlookNow {
    /// Puts the outlook into words.
    fn of(outlook: Outlook, plan: &Plan, language: Language) -> Self {
        let report = |violations: Vec<Violation>| {
            violations.iter().map(|violation| violation.report(plan, language)).collect()
        };
        match outlook {
            Outlook::Deliverable(_) => {
                Self { outcome: "would be delivered", violations: Vec::new() }
            }
            Outlook::Rejected(violations) => {
                Self { outcome: "would be rejected", violations: report(violations) }
            }
            Outlook::TooOld => Self {
                outcome: "would be parked: over MATOMO_MAX_AGE old, with no MATOMO_TOKEN_AUTH",
                violations: Vec::new(),
            },
        }
    }
}
