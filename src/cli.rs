//! The command line: one enum, and one file or folder for each command.

use std::io::ErrorKind;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use thiserror::Error;

use crate::domain::printable::printable_lines;
use crate::domain::rule::Language;
use crate::service::config::ConfigError;

pub mod books;
pub mod check;
mod columns;
pub mod dead;
pub mod healthcheck;
mod input;
mod json;
pub mod plan;
pub mod publish;
pub mod run;
mod stop;
pub mod top;
pub mod topology;
pub mod validate;
pub mod workers;

/// Relays the page views (hits) of French school portals from RabbitMQ to the ministry's Matomo
/// (DNMA), losing none.
///
/// Settings are environment variables; `dnma-relay check` shows them all. Exit codes: 0 fine, 1 the
/// answer is no (something is unreachable or was refused), 2 wrong use or configuration.
#[derive(Debug, Parser)]
#[command(name = "dnma-relay", version, about, long_about, max_term_width = 110)]
pub struct Cli {
    /// The command; without one, the relay runs.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Take hits from RabbitMQ, check them, and deliver them to Matomo (the default)
    ///
    /// Runs until SIGTERM or Ctrl-C, then lets what is in flight settle and exits 0. Run as many as
    /// there are shards (QUEUE_SHARDS): they share out the work by themselves. /livez, /readyz,
    /// /metrics and the status page / answer on HTTP_LISTEN.
    Run,
    /// Show the configuration in force, secrets masked
    ///
    /// Reads the same environment as `run`. Every mistake is listed, each with its remedy; exit
    /// code 2 then. With --connect it asks RabbitMQ (rights, exchanges, queues) and Matomo (is
    /// it Matomo, does it look at hits, is its clock right), and says what to do about each
    /// finding; without, it contacts nobody.
    ///
    /// Example: dnma-relay check --connect --send-test-hit 99
    Check(check::CheckOptions),
    /// Check hits from a file against the tagging plan
    ///
    /// The form is known by its content: one hit a line (a JSON object of Matomo parameters, a
    /// query string or URL, or a line of a web server's access log that holds a call of
    /// matomo.php), a JSON array of objects, or CSV with a header; each also packed with gzip.
    /// Nothing is sent anywhere. What only a message has, its routing key and its sender, is not
    /// checked. Exit code 1 if any hit has an error.
    ///
    /// Example: dnma-relay validate --lang fr hits.ndjson
    Validate(validate::ValidateOptions),
    /// Print the tagging plan that is applied: fields, lists, GAR codes, rules
    ///
    /// `plan schema` prints the JSON Schema of a message, `plan diff A B` what changes from one
    /// plan to another.
    ///
    /// Example: dnma-relay plan diff 2.01 rfti-2.02.toml
    Plan(plan::PlanOptions),
    /// Publish hits from a file to the main exchange, with confirms
    ///
    /// Reads what `validate` reads. The routing key is the hit's uid, as the relay needs it. Exit
    /// code 1 if the broker did not take every hit.
    ///
    /// Example: dnma-relay publish --rate 200 hits.ndjson
    Publish(publish::PublishOptions),
    /// Watch one or several workers: whether hits flow, what waits, who reads it
    ///
    /// Shows what the status page of each worker shows, in one view, anew every 2 s until q or
    /// Ctrl-C. Workers that do not answer are named. Where the output is no terminal it prints
    /// once.
    ///
    /// Example: dnma-relay top --url relay.dnma.svc:8080
    Top(top::TopOptions),
    /// Print exchanges, queues and bindings as RabbitMQ definitions (JSON)
    ///
    /// For brokers where the relay may not declare them itself (TOPOLOGY=verify).
    ///
    /// Example: dnma-relay topology > dnma.json && rabbitmqctl import_definitions dnma.json
    Topology(topology::TopologyOptions),
    /// Balance the hits of all workers, by exploitant, plateforme and site
    ///
    /// Asks every worker for its counters, and says what became of the hits that came in:
    /// delivered, rejected (and by which rule), parked, waiting for a retry, in flight. With
    /// AMQP_URL set, the counters are held against the queues. What does not add up is named,
    /// with the likely reason. Exit code 0 if the books close, 1 if they do not or a worker does
    /// not answer.
    ///
    /// Example: dnma-relay books --url http://dnma-relay:8080 --since yesterday.json --json >
    /// today.json
    Books(books::BooksOptions),
    /// Look after dead hits: list, group, show, export, replay, purge
    ///
    /// Hits that could not be delivered lie in the queue *parked*, hits that break the plan in
    /// *rejected*, until somebody decides. Looking takes nothing, and is safe beside running
    /// workers; one person looks at a time.
    ///
    /// Example: dnma-relay dead group
    Dead {
        /// What to do.
        #[command(subcommand)]
        command: Box<dead::DeadCommand>,
    },
    /// Ask the relay that runs with this environment whether it lives
    ///
    /// Asks /livez on HTTP_LISTEN, for at most 3 s. Exit code 1 if it hangs or does not run. For
    /// containers, which have no shell.
    Healthcheck,
}

/// Runs a command.
pub async fn run(cli: Cli) -> ExitCode {
    crate::service::install_tls_provider();
    let outcome = match cli.command.unwrap_or(Command::Run) {
        Command::Run => run::run().await,
        Command::Check(options) => check::run(&options).await,
        Command::Validate(options) => validate::run(&options),
        Command::Plan(options) => plan::run(&options),
        Command::Publish(options) => publish::run(&options).await,
        Command::Top(options) => top::run(&options).await,
        Command::Topology(options) => topology::run(&options),
        Command::Books(options) => books::run(&options).await,
        Command::Dead { command } => dead::run(&command).await,
        Command::Healthcheck => healthcheck::run().await,
    };
    outcome.unwrap_or_else(|error| {
        if error
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
        {
            // The program that reads the output (`| head`) has read enough of it.
            return ExitCode::SUCCESS;
        }
        // It may quote a server, a worker or a file.
        eprintln!("dnma-relay: {}", printable_lines(&format!("{error:#}")));
        ExitCode::from(if error.is::<ConfigError>() || error.is::<Unusable>() { 2 } else { 1 })
    })
}

/// A file that was named and cannot be used. This is wrong use, which scripts must be able to tell
/// from hits with errors.
#[derive(Debug, Error)]
#[error("{0:#}")]
struct Unusable(anyhow::Error);

/// The option for the language of texts.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Lang {
    /// English
    #[default]
    En,
    /// French
    Fr,
}

impl From<Lang> for Language {
    fn from(lang: Lang) -> Self {
        match lang {
            Lang::En => Self::English,
            Lang::Fr => Self::French,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_name_of_a_user_has_room_in_amqp() {
        let parse = |bytes: usize| {
            let name = "u".repeat(bytes);
            Cli::try_parse_from(["dnma-relay", "publish", "--user-id", name.as_str(), "-"])
        };
        assert!(parse(255).is_ok());
        let error = parse(300).expect_err("too long").to_string();
        assert!(error.contains("--user-id") && error.contains("300 bytes"), "{error}");
    }
}
