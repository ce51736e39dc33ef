//! `dnma-relay check`: the configuration in force, and whether broker and Matomo are as a relay
//! needs them.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use crate::service::config::Settings;
use crate::service::examine::{Finding, Outcome, examine};

/// Options of `check`.
#[derive(Debug, Args)]
pub struct CheckOptions {
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Ask RabbitMQ and Matomo too; exit code 1 if a relay would not work
    #[arg(long)]
    connect: bool,
    /// Store a hit in Matomo, for this site; and one of yesterday where there is a token
    #[arg(long, value_name = "SITE", requires = "connect", value_parser = clap::value_parser!(u32).range(1..))]
    send_test_hit: Option<u32>,
}

/// Prints every setting, secrets masked; or what was found at the broker and at Matomo.
///
/// # Errors
/// A configuration mistake, or an output that cannot be written to.
pub async fn run(options: &CheckOptions) -> anyhow::Result<ExitCode> {
    let settings = Settings::from_env()?;
    for (name, meant) in Settings::misspelt_in_env() {
        eprintln!("note: {name} is no setting of the relay and is not read; is {meant} meant?");
    }
    if options.connect {
        let findings = examine(&settings, options.send_test_hit).await;
        tell(&findings, options.json)?;
        let is_wrong = findings.iter().any(|finding| finding.outcome == Outcome::Wrong);
        return Ok(if is_wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS });
    }
    let rows = settings.rows();
    let mut out = std::io::stdout().lock();
    if options.json {
        let object: serde_json::Map<String, Value> =
            rows.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&object)?)?;
    } else {
        for (name, value) in rows {
            writeln!(out, "{name:<22} {}", if value.is_empty() { "-" } else { &value })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(findings: &[Finding], json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&json!({"findings": findings}))?)?;
        return Ok(());
    }
    let colours = out.is_terminal() && std::env::var_os("NO_COLOR").is_none();
    for Finding { subject, outcome, text, remedy } in findings {
        let (word, colour) = match outcome {
            Outcome::Fine => ("fine", 32),
            Outcome::Note => ("note", 33),
            Outcome::Wrong => ("wrong", 31),
        };
        let word = if colours {
            format!("\u{1b}[{colour}m{word:<5}\u{1b}[0m")
        } else {
            format!("{word:<5}")
        };
        writeln!(out, "{word}  {subject:<14} {text}")?;
        if let Some(remedy) = remedy {
            writeln!(out, "{:22}{remedy}", "")?;
        }
    }
    Ok(())
}
