//! The end of a session with the broker, known to all its tasks at once.

use std::sync::{Arc, OnceLock};

use thiserror::Error;
use tokio_util::sync::CancellationToken;

/// The session ended before the broker answered.
#[derive(Debug, Error)]
#[error("the session ended: {0}")]
pub struct SessionClosed(pub String);

/// Tells everybody in a session that it is over, and why, once.
#[derive(Debug, Clone, Default)]
pub struct SessionEnd(Arc<(CancellationToken, OnceLock<String>)>);

impl SessionEnd {
    /// Ends the session. The first reason counts.
    pub fn because(&self, reason: String) {
        let first = self.0.1.set(reason).is_ok();
        self.0.0.cancel();
        if !first {
            tracing::debug!("a further sign that the session is over");
        }
    }

    /// Waits until the session is over.
    pub async fn wait(&self) {
        self.0.0.cancelled().await;
    }

    /// Waits for the client library, but not beyond the end of the session: it leaves some
    /// promises of a broken connection open for good.
    ///
    /// # Errors
    /// [`SessionClosed`] when the session ended first.
    pub async fn or<T>(&self, answer: impl Future<Output = T>) -> Result<T, SessionClosed> {
        tokio::select! {
            biased;
            answer = answer => Ok(answer),
            () = self.wait() => Err(SessionClosed(self.reason().unwrap_or_default().to_owned())),
        }
    }

    /// The reason, once the session is over.
    pub fn reason(&self) -> Option<&str> {
        self.0.1.get().map(String::as_str)
    }
}
