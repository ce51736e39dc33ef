//! What each shard last gave this worker: which shards are its own, and how old what waits in them
//! is.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustc_hash::FxHashMap;

/// A shard that gave nothing for so long may be another worker's: AMQP tells how many are
/// subscribed, not who is served.
const OURS: Duration = Duration::from_secs(60);

/// By shard.
#[derive(Debug, Default)]
pub struct ShardActivity(Mutex<FxHashMap<u16, LastHit>>);

/// The hit that a shard gave last.
#[derive(Debug, Clone)]
pub struct LastHit {
    /// When it came.
    pub at: Instant,
    /// Its own time (`cdt`); of one that has none, when it came.
    pub cdt: Timestamp,
    in_flight: Arc<AtomicUsize>,
}

impl LastHit {
    /// Whether the shard is this worker's, as far as that can be known.
    pub fn is_ours(&self) -> bool {
        self.at.elapsed() < OURS
    }

    /// Whether this worker holds hits of the shard.
    pub fn holds_hits(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) > 0
    }
}

impl ShardActivity {
    /// A hit came. `in_flight` counts those of its shard.
    pub fn note(&self, shard: u16, cdt: Timestamp, in_flight: &Arc<AtomicUsize>) {
        let now = Instant::now();
        let mut lasts = self.lasts();
        match lasts.get_mut(&shard) {
            Some(last) if Arc::ptr_eq(&last.in_flight, in_flight) => {
                (last.at, last.cdt) = (now, cdt)
            }
            _ => drop(lasts.insert(shard, LastHit { at: now, cdt, in_flight: in_flight.clone() })),
        }
    }

    /// The last one of a shard.
    pub fn last(&self, shard: u16) -> Option<LastHit> {
        self.lasts().get(&shard).cloned()
    }

    /// Shards that are this worker's.
    pub fn shards_of_ours(&self) -> i64 {
        let ours = self.lasts().values().filter(|last| last.is_ours()).count();
        i64::try_from(ours).unwrap_or_default()
    }

    fn lasts(&self) -> MutexGuard<'_, FxHashMap<u16, LastHit>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
