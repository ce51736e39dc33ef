//! Log set-up.
//!
//! No log line may carry personal data or a secret: nothing that is in a hit is logged, whatever
//! `RUST_LOG` asks for.

use std::io::IsTerminal;

use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

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
            .finish()
            .with(filter_fn(is_harmless))
            .try_init(),
        LogFormat::Text => subscriber
            .with_ansi(terminal && std::env::var_os("NO_COLOR").is_none())
            .finish()
            .with(filter_fn(is_harmless))
            .try_init(),
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
    format!("{filter}{client}")
}

/// Whether a line may be logged if the filter asks for it. Below the level of information,
/// libraries log what passes through them: the client of RabbitMQ each frame, and so hits and the
/// password, that of HTTP its requests. A library that is not known yet is no exception.
fn is_harmless(line: &Metadata<'_>) -> bool {
    let target = line.target();
    // In this target the client of RabbitMQ warns with whole messages.
    let is_message = target.starts_with("lapin::returned_messages");
    let is_own = target == OWN_TARGET
        || target.strip_prefix(OWN_TARGET).is_some_and(|rest| rest.starts_with("::"));
    !is_message && (is_own || *line.level() <= Level::INFO)
}

/// The target of this program's own lines, which hold nothing of a hit at any level.
const OWN_TARGET: &str = env!("CARGO_CRATE_NAME");

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A log that is kept.
    #[derive(Debug, Clone, Default)]
    struct KeptLog(Arc<Mutex<Vec<u8>>>);

    impl Write for KeptLog {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("the log").write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_client_of_rabbitmq_is_quiet_unless_it_is_named() {
        assert_eq!(quiet("info"), "info,lapin=off");
        assert_eq!(quiet("lapin=warn"), "lapin=warn");
    }

    #[test]
    fn what_passes_through_a_library_is_logged_on_no_request() {
        let log = KeptLog::default();
        let kept = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new("trace,lapin=trace,lapin::returned_messages=trace"))
            .with_writer(move || kept.clone())
            .finish()
            .with(filter_fn(is_harmless));
        tracing::subscriber::with_default(subscriber, || {
            tracing::trace!(target: "lapin::frames", "frame");
            tracing::debug!(target: "hyper::proto", "request");
            tracing::debug!(target: "dnma_relay_not", "another");
            tracing::warn!(target: "lapin::returned_messages", "message");
            tracing::info!(target: "lapin::channel", "closed");
            tracing::error!(target: "rustls", "alert");
            tracing::trace!("ours");
        });
        let text = String::from_utf8(log.0.lock().expect("the log").clone()).expect("UTF-8");
        let said = |word| text.contains(word);
        assert!(!["frame", "request", "another", "message"].into_iter().any(said), "{text}");
        assert!(["closed", "alert", "ours"].into_iter().all(said), "{text}");
    }
}
