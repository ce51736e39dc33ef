//! `dnma-relay check`: the configuration in force, and whether broker and Matomo are as a relay
//! needs them.

use std::io::Write;
use std::process::ExitCode;

use anstyle::AnsiColor;
use clap::Args;
use serde_json::{Value, json};

use super::json::pretty;
use crate::domain::printable::printable;
use crate::service::config::Settings;
use crate::service::examine::{Finding, Outcome, examine};

/// The command line options of `check`.
#[derive(Debug, Args)]
pub struct CheckOptions {
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Ask RabbitMQ and Matomo too; exit code 1 if a relay would not work
    #[arg(long)]
    connect: bool,
    /// Store a hit in Matomo, for this site; and an old one where there is a token
    #[arg(
        long,
        value_name = "SITE",
        requires = "connect",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    send_test_hit: Option<u32>,
}

/// Prints every setting, secrets masked; or, with `--connect`, what was found at the broker and at
/// Matomo.
///
/// # Errors
/// Fails for a configuration mistake, and for an output that cannot be written to.
pub async fn run(options: &CheckOptions) -> anyhow::Result<ExitCode> {
    let settings = Settings::from_env()?;
    for (name, meant) in Settings::misspelt_in_env() {
        eprintln!("note: {name} is no setting of the relay and is not read; is {meant} meant?");
    }
    if options.connect {
        let findings = examine(&settings, options.send_test_hit).await;
        print_findings(&findings, options.json)?;
        let is_wrong = findings.iter().any(|finding| finding.outcome == Outcome::Wrong);
        return Ok(if is_wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS });
    }
    let rows = settings.rows();
    let mut out = std::io::stdout().lock();
    if options.json {
        let object: serde_json::Map<String, Value> =
            rows.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        writeln!(out, "{}", pretty(&object)?)?;
    } else {
        for (name, value) in rows {
            writeln!(out, "{name:<22} {}", if value.is_empty() { "-" } else { &value })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints what was found, in colours where the output is a terminal that wants them.
fn print_findings(findings: &[Finding], json: bool) -> anyhow::Result<()> {
    let mut out = anstream::stdout().lock();
    if json {
        writeln!(out, "{}", pretty(&json!({"findings": findings}))?)?;
        return Ok(());
    }
    for Finding { subject, outcome, text, remedy } in findings {
        let (word, colour) = match outcome {
            Outcome::Fine => ("fine", AnsiColor::Green),
            Outcome::Note => ("note", AnsiColor::Yellow),
            Outcome::Wrong => ("wrong", AnsiColor::Red),
        };
        let style = colour.on_default();
        // RabbitMQ and Matomo may have answered anything.
        writeln!(out, "{style}{word:<5}{style:#}  {subject:<14} {}", printable(text))?;
        if let Some(remedy) = remedy {
            writeln!(out, "{:22}{}", "", printable(remedy))?;
        }
    }
    Ok(())
}
