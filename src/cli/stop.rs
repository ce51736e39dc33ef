//! Ctrl-C and SIGTERM: the first one lets a command settle or give back what it holds, a second one
//! ends it at once.

use std::io::Write;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The exit code of a program that a signal ended.
const ENDED_BY_SIGNAL: i32 = 130;

/// Listens for signals from now on, and says on standard error what they do. The token that is
/// returned is cancelled by the first signal.
pub(crate) fn on_signal() -> std::io::Result<CancellationToken> {
    let first = |_| {
        // The command stops all the same if standard error is closed.
        let _written =
            writeln!(std::io::stderr(), "stopping in good order; a second signal stops at once");
    };
    on_signals(first, |_| ENDED_BY_SIGNAL)
}

/// Listens for signals from now on. The token that is returned is cancelled by the first signal,
/// with whose name `first` is called. `second` is called with the name of the second signal, and
/// returns the code that the process then exits with, at once.
pub(super) fn on_signals(
    first: impl FnOnce(&'static str) + Send + 'static,
    second: impl FnOnce(&'static str) -> i32 + Send + 'static,
) -> std::io::Result<CancellationToken> {
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let cancelled = stop.clone();
    tokio::spawn(async move {
        let mut next_signal = async || {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            }
        };
        first(next_signal().await);
        cancelled.cancel();
        std::process::exit(second(next_signal().await));
    });
    Ok(stop)
}
