//! `dead list`: one hit a line.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::choice::Choice;
use super::digest::Digest;
use super::reading;
use crate::cli::{json, stop};
use crate::domain::dead::{BrokerMove, Dead, DeadQueue, DeathCause};
use crate::domain::plan::FieldRole;
use crate::domain::printable::printable;
use crate::service::amqp::dead_letter::DeadLetter;
use crate::service::config::BrokerSettings;

/// How many bytes the id of a receipt has.
const MARK_LENGTH: usize = 21;

/// The command line options of `dead list`.
#[derive(Debug, Args)]
pub struct DeadListOptions {
    #[command(flatten)]
    choice: Choice,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    /// Show visitors too
    #[arg(long)]
    reveal: bool,
}

/// A dead hit as `--json` prints it.
#[derive(Debug, Serialize)]
pub(super) struct DeadRow {
    /// The queue in which it lies.
    pub(super) queue: &'static str,
    /// The SHA-256 of the body.
    pub(super) id: String,
    /// Why it is dead.
    reasons: Vec<ListedCause>,
    /// How the broker moved it here by itself, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) broker_move: Option<BrokerMove>,
    /// The HTTP status of the latest failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// How often it was sent.
    attempts: u32,
    /// When it first failed.
    first_failed_at: Option<Timestamp>,
    /// When it last failed, or was rejected.
    failed_at: Option<Timestamp>,
    /// Matomo's site.
    idsite: Option<String>,
    /// The value of `dimension3`.
    exploitant: Option<String>,
    /// The value of `dimension4`.
    plateforme: Option<String>,
    /// The value of `dimension1`.
    uai: Option<String>,
    /// The value of `dimension8`.
    service: Option<String>,
    /// The replay that sent it before, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    replay: Option<String>,
    /// The visitor, with `--reveal`.
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
}

/// Why the hit is dead.
#[derive(Debug, Serialize)]
struct ListedCause {
    /// The code of the failure or of the rule.
    code: String,
    /// The field at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
}

impl DeadRow {
    /// Makes the row of a hit. `reveal` says whether the visitor is shown.
    pub(super) fn of(dead_letter: &DeadLetter, dead: &Dead<'_>, reveal: bool) -> Self {
        let value = |role: FieldRole| dead.value(role).map(|value| dead.shown(value));
        let cause = |cause: &DeathCause| ListedCause {
            code: dead.shown(&cause.code),
            field: cause.field.as_deref().map(|field| dead.shown(field)),
        };
        Self {
            queue: dead.dead_queue.code(),
            id: Digest::of(dead_letter.message.body()).hex(),
            reasons: dead.causes.iter().map(cause).collect(),
            broker_move: dead
                .broker_move
                .clone()
                .map(|moved| BrokerMove { queue: dead.shown(&moved.queue), ..moved }),
            status: dead.status,
            attempts: dead.attempts,
            first_failed_at: dead.first_failed_at,
            failed_at: dead.failed_at,
            idsite: value(FieldRole::Site),
            exploitant: value(FieldRole::Exploitant),
            plateforme: value(FieldRole::Plateforme),
            uai: value(FieldRole::Uai),
            service: value(FieldRole::Service),
            replay: dead.replay.as_deref().map(|replay| shown_mark(dead, replay)),
            uid: dead.value(FieldRole::User).filter(|_| reveal).map(str::to_owned),
        }
    }

    /// Writes the titles of the columns.
    fn head(reveal: bool) -> String {
        let columns = [
            ("queue", 8),
            ("id", 12),
            ("failed at", 20),
            ("attempts", 8),
            ("status", 6),
            ("reason", 34),
            ("idsite", 6),
            ("exploitant", 16),
            ("plateforme", 16),
            ("uai", 18),
        ];
        let cells = columns
            .into_iter()
            .map(|(title, width)| format!("{title:<width$}"))
            .collect::<Vec<_>>()
            .join("  ");
        if reveal { format!("{cells}  uid") } else { cells.trim_end().to_owned() }
    }

    /// Writes the row as a line of the table.
    fn line(&self) -> String {
        let text = |value: &Option<String>, width: usize| {
            let value = value.as_deref().filter(|value| !value.is_empty()).unwrap_or("-");
            let cut: String = value.chars().take(width).collect();
            format!("{cut:<width$}")
        };
        let cause = self.reasons.first().map(|cause| match &cause.field {
            Some(field) => format!("{} {field}", cause.code),
            None => cause.code.clone(),
        });
        let more = self.reasons.len().saturating_sub(1);
        let cause = cause.map(|cause| if more > 0 { format!("{cause} +{more}") } else { cause });
        let time = self.failed_at.map(|time| format!("{:.0}", time));
        let status = self.status.map(|status| status.to_string());
        let line = [
            text(&Some(self.queue.to_owned()), 8),
            self.id.chars().take(12).collect(),
            text(&time, 20),
            format!("{:>8}", self.attempts),
            text(&status, 6),
            text(&cause, 34),
            text(&self.idsite, 6),
            text(&self.exploitant, 16),
            text(&self.plateforme, 16),
            text(&self.uai, 18),
        ];
        let uid = self.uid.as_deref().map(|uid| format!("  {uid}")).unwrap_or_default();
        format!("{}{uid}", line.join("  ")).trim_end().to_owned()
    }
}

/// Returns the mark of a replay as it is, since it names the receipt
/// (`parked/20261124T080000Z-1a2b`); of anything else that a sender wrote there what may be shown.
fn shown_mark(dead: &Dead<'_>, mark: &str) -> String {
    let is_mark = mark.split_once('/').is_some_and(|(queue, id)| {
        let is_of_receipt = |byte: u8| byte.is_ascii_hexdigit() || b"TZ-".contains(&byte);
        [DeadQueue::Parked, DeadQueue::Rejected].iter().any(|known| known.code() == queue)
            && id.len() == MARK_LENGTH
            && id.bytes().all(is_of_receipt)
    });
    if is_mark { mark.to_owned() } else { dead.shown(mark) }
}

/// Prints the chosen hits, one a line.
///
/// # Errors
/// Fails for a configuration mistake, a broker that goes away, and an output that cannot be written
/// to.
pub(super) async fn run(options: &DeadListOptions) -> anyhow::Result<ExitCode> {
    let settings = BrokerSettings::from_env()?;
    let choice = options.choice.for_rows(options.choice.max);
    let filter = options.choice.filter();
    let client = reading::open(&settings, &options.choice).await?;
    let mut out = std::io::BufWriter::new(std::io::stdout());
    if !options.json {
        writeln!(out, "{}", DeadRow::head(options.reveal))?;
    }
    let counts = reading::for_each_chosen(
        &client,
        &choice,
        &filter,
        &stop::on_signal()?,
        |dead_letter, dead| {
            let row = DeadRow::of(dead_letter, dead, options.reveal);
            if options.json {
                writeln!(out, "{}", json::compact(&row)?)?;
            } else {
                writeln!(out, "{}", printable(&row.line()))?;
            }
            Ok(())
        },
    )
    .await?;
    client.close().await;
    if !options.json {
        writeln!(out, "{} of {} hits", counts.chosen, counts.read)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
