//! `dnma-relay run`: the order in which a worker starts, and the signals that stop it.

use std::process::ExitCode;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::stop;
use crate::service::Service;
use crate::service::config::Settings;
use crate::service::ops::logging;

/// Reads the settings, starts the log, opens the sockets, works until a signal comes, and waits for
/// what is in flight.
///
/// # Errors
/// Fails for a configuration mistake, a port that is taken, and a drain that takes too long.
pub async fn run() -> anyhow::Result<ExitCode> {
    let settings = Settings::from_env()?;
    logging::start_logging(&settings.log);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        broker = settings.broker.urls.first().map(ToString::to_string),
        matomo = %settings.matomo.url,
        "dnma-relay starts"
    );
    for (name, meant) in Settings::misspelt_in_env() {
        tracing::warn!("{name} is no setting of the relay and is not read; is {meant} meant?");
    }
    let shutdown = shutdown_on_signal(settings.matomo.timeout)?;
    let service = Service::build(settings).await?;
    tracing::info!(
        address = %service.http_address()?,
        "answering /livez, /readyz, /metrics and the status page /"
    );
    service.run(shutdown).await?;
    tracing::info!("dnma-relay stopped: nothing is in flight");
    Ok(ExitCode::SUCCESS)
}

/// Returns the token that the first signal cancels. The second signal ends the process.
fn shutdown_on_signal(timeout: Duration) -> std::io::Result<CancellationToken> {
    let first = move |signal| {
        tracing::info!(
            signal,
            "stopping: what is in flight settles first, within {} s; a second signal stops at once",
            timeout.as_secs()
        );
    };
    let second = |signal| {
        tracing::warn!(
            signal,
            "stopped at once: hits in flight come back from the broker and may be stored twice"
        );
        1
    };
    stop::on_signals(first, second)
}
