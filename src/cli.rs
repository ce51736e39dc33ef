//! The command line: one enum, one file per command.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::service::config::ConfigError;

pub mod check;
pub mod publish;
pub mod run;
pub mod topology;

/// Relays the page views (hits) of French school portals from RabbitMQ to the ministry's Matomo (DNMA), losing none.
///
/// Settings are environment variables; `dnma-relay check` shows them all. Exit codes: 0 fine, 1 the answer is no (something
/// is unreachable or was refused), 2 wrong use or configuration.
#[derive(Debug, Parser)]
#[command(name = "dnma-relay", version, about, long_about, max_term_width = 110)]
pub struct Cli {
    /// Without a command: run.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Take hits from RabbitMQ, check them, and deliver them to Matomo (the default)
    ///
    /// Runs until SIGTERM or Ctrl-C, then lets what is in flight settle and exits 0. Run as many as there are shards
    /// (QUEUE_SHARDS): they share out the work by themselves. /livez, /readyz and /metrics answer on HTTP_LISTEN.
    Run,
    /// Show the configuration in force, secrets masked
    ///
    /// Reads the same environment as `run`. Every mistake is listed, each with its remedy; exit code 2 then.
    Check(check::Options),
    /// Publish hits from a file to the main exchange, with confirms
    ///
    /// One message a line: a JSON object of Matomo parameters, or a query string or URL. The routing key is the hit's uid,
    /// as the relay needs it. Exit code 1 if the broker did not take every hit.
    ///
    /// Example: dnma-relay publish --rate 200 hits.ndjson
    Publish(publish::Options),
    /// Print exchanges, queues and bindings as RabbitMQ definitions (JSON)
    ///
    /// For brokers where the relay may not declare them itself (TOPOLOGY=verify).
    ///
    /// Example: dnma-relay topology > dnma.json && rabbitmqctl import_definitions dnma.json
    Topology(topology::Options),
}

/// Runs a command.
pub async fn run(cli: Cli) -> ExitCode {
    let outcome = match cli.command.unwrap_or(Command::Run) {
        Command::Run => run::run().await,
        Command::Check(options) => check::run(&options),
        Command::Publish(options) => publish::run(&options).await,
        Command::Topology(options) => topology::run(&options),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("dnma-relay: {error:#}");
        ExitCode::from(if error.is::<ConfigError>() { 2 } else { 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
