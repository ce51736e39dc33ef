//! The processes of a Matomo that does not have as many as anybody wants.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit, watch};

/// Processes that serve one request each, in the order of arrival, whether or not the client waits.
#[derive(Debug)]
pub struct Pool {
    processes: Semaphore,
    /// Requests beyond so many that wait are answered with 502.
    most_waiting: usize,
    waiting: AtomicUsize,
    /// While it stands still no request ends.
    stands_still: watch::Sender<bool>,
}

impl Pool {
    pub fn new(processes: usize, most_waiting: usize) -> Arc<Self> {
        let (processes, waiting) = (Semaphore::new(processes), AtomicUsize::new(0));
        Arc::new(Self { processes, most_waiting, waiting, stands_still: watch::Sender::new(false) })
    }

    /// A process that serves; `None` if too many requests wait.
    pub(super) async fn process(&self) -> Option<SemaphorePermit<'_>> {
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        let process = if waiting < self.most_waiting {
            self.processes.acquire().await.ok()
        } else {
            self.processes.try_acquire().ok()
        };
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        process
    }

    /// From now on no request ends, or each that is under way does.
    pub fn stand_still(&self, still: bool) {
        self.stands_still.send_replace(still);
    }

    pub(super) async fn until_it_moves(&self) {
        // The sender lives as long as the pool.
        drop(self.stands_still.subscribe().wait_for(|still| !still).await);
    }
}
