//! Ctrl-C and SIGTERM: the first one lets a command settle or give back what it holds, a second one
//! ends it at once.

use std::io::Write;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The exit code of a program that a signal ended.
const ENDED_BY_SIGNAL: i32 = 130;

/// Listens for signals from now on. The token that is returned is cancelled by the first signal.
pub(crate) fn on_signal() -> std::io::Result<CancellationToken> {
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let cancelled = stop.clone();
    tokio::spawn(async move {
        let mut next_signal = async || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        next_signal().await;
        cancelled.cancel();
        // The command stops all the same if standard error is closed.
        let _written =
            writeln!(std::io::stderr(), "stopping in good order; a second signal stops at once");
        next_signal().await;
        std::process::exit(ENDED_BY_SIGNAL);
    });
    Ok(stop)
}
