//! Ctrl-C and SIGTERM: the first one lets a command settle or give back what it holds, a second one
//! ends it at once.

use std::io::Write;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit code of a program that a signal ended.
const ENDED: i32 = 130;

/// From here on signals are heard.
pub(crate) fn on_signal() -> std::io::Result<CancellationToken> {
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        let mut activity = async || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        activity().await;
        told.cancel();
        // Nobody may read it.
        let _told =
            writeln!(std::io::stderr(), "stopping in good order; a second signal stops at once");
        activity().await;
        std::process::exit(ENDED);
    });
    Ok(stop)
}
