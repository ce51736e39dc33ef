//! Log set-up.
//!
//! No log line may carry personal data: nothing that is in a hit is logged.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::service::config::{LogFormat, LogSettings};

/// Starts logging to stderr: JSON for machines, text with colours on a terminal that wants them.
pub fn start_logging(log: &LogSettings) {
    let terminal = std::io::stderr().is_terminal();
    let format = log.format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    // The filter was checked with the configuration; a default beats a crash all the same.
    let filter = EnvFilter::try_new(quiet(&log.filter)).unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    // The subscriber would report a log line that cannot be written by another one, and panic when
    // that cannot be written either.
    let subscriber = subscriber.log_internal_errors(false);
    let started = match format {
        LogFormat::Json => subscriber
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init(),
        LogFormat::Text => {
            subscriber.with_ansi(terminal && std::env::var_os("NO_COLOR").is_none()).try_init()
        }
    };
    if started.is_err() {
        tracing::debug!("logging was set up before");
    }
}

/// The filter without what the AMQP client logs, unless the operator names it.
fn quiet(filter: &str) -> String {
    // It calls every closed channel an error, a question whether a queue exists included; the relay
    // itself logs what is lost.
    let client = if filter.contains("lapin") { "" } else { ",lapin=off" };
    // In this target it logs whole messages, which are personal data.
    format!("{filter}{client},lapin::returned_messages=off")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_messages_are_logged_on_no_request() {
        assert_eq!(quiet("info"), "info,lapin=off,lapin::returned_messages=off");
        assert_eq!(quiet("lapin=trace"), "lapin=trace,lapin::returned_messages=off");
    }
}
