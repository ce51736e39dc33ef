//! The processes of a Matomo that does not have as many as anybody wants.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit, watch};

/// Processes that serve one request each, in the order of arrival, whether or not the client waits.
#[derive(Debug)]
pub struct Pool {
    processes: Semaphore,
    /// When each process that serves nobody has been free since. They keep their own time: what a
    /// machine under load wakes late is served no slower.
    free_since: Mutex<Vec<Instant>>,
    /// Requests beyond so many that wait are answered with 502.
    most_waiting: usize,
    waiting: AtomicUsize,
    /// While it stands still no request ends.
    stands_still: watch::Sender<bool>,
}

impl Pool {
    pub fn new(processes: usize, most_waiting: usize) -> Arc<Self> {
        Arc::new(Self {
            processes: Semaphore::new(processes),
            free_since: Mutex::new(vec![Instant::now(); processes]),
            most_waiting,
            waiting: AtomicUsize::new(0),
            stands_still: watch::Sender::new(false),
        })
    }

    /// A process that serves from now on, or from when it was free, which the machine told late;
    /// `None` if too many requests wait.
    pub(super) async fn process(&self, arrived: Instant) -> Option<Process<'_>> {
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        let permit = if waiting < self.most_waiting {
            self.processes.acquire().await.ok()
        } else {
            self.processes.try_acquire().ok()
        };
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        let permit = permit?;
        // As many are free as there are permits.
        let free_since = self.free_since.lock().expect("free processes").pop()?;
        Some(Process { pool: self, ends: arrived.max(free_since), _permit: permit })
    }

    /// From now on no request ends, or each that is under way does.
    pub fn stand_still(&self, still: bool) {
        self.stands_still.send_replace(still);
    }
}

/// A process that serves a request.
pub(super) struct Process<'p> {
    pool: &'p Pool,
    /// When it is free again.
    ends: Instant,
    _permit: SemaphorePermit<'p>,
}

impl Process<'_> {
    /// Works for so long, and longer while the pool stands still.
    pub(super) async fn work(&mut self, time: Duration) {
        self.ends += time;
        tokio::time::sleep_until(self.ends.into()).await;
        if *self.pool.stands_still.borrow() {
            // The sender lives as long as the pool.
            drop(self.pool.stands_still.subscribe().wait_for(|still| !still).await);
            self.ends = Instant::now();
        }
    }
}

impl Drop for Process<'_> {
    /// It is free before the permit is.
    fn drop(&mut self) {
        self.pool.free_since.lock().expect("free processes").push(self.ends);
    }
}
