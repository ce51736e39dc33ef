//! `dnma-relay check`: the configuration in force.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;

use crate::service::config::Settings;

/// Options of `check`.
#[derive(Debug, Args)]
pub struct Options {
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// Prints every setting, secrets masked.
///
/// # Errors
/// A configuration mistake, or an output that cannot be written to.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let rows = Settings::from_env()?.rows();
    let mut out = std::io::stdout().lock();
    if options.json {
        let object: serde_json::Map<_, _> = rows.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&object)?)?;
    } else {
        for (name, value) in rows {
            writeln!(out, "{name:<22} {}", if value.is_empty() { "-" } else { &value })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
