//! `dnma-relay run`: the order in which a worker starts, and the signals that stop it.

use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

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
    let shutdown = CancellationToken::new();
    listen_for_signals(shutdown.clone(), settings.matomo.timeout)?;
    let service = Service::build(settings).await?;
    tracing::info!(
        address = %service.http_address()?,
        "answering /livez, /readyz, /metrics and the status page /"
    );
    service.run(shutdown).await?;
    tracing::info!("dnma-relay stopped: nothing is in flight");
    Ok(ExitCode::SUCCESS)
}

/// Cancels `shutdown` at the first signal, and ends the process at the second.
fn listen_for_signals(shutdown: CancellationToken, timeout: Duration) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        let mut signal = async || {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            }
        };
        let (name, limit) = (signal().await, timeout.as_secs());
        tracing::info!(
            signal = name,
            "stopping: what is in flight settles first, within {limit} s; a second signal stops \
             at once"
        );
        shutdown.cancel();
        let name = signal().await;
        tracing::warn!(
            signal = name,
            "stopped at once: hits in flight come back from the broker and may be stored twice"
        );
        std::process::exit(1);
    });
    Ok(())
}
