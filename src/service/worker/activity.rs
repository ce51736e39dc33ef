//! What each shard last gave this worker: which shards are its own, and how old what waits in them
//! is.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustc_hash::FxHashMap;

/// A shard that gave nothing for so long may be another worker's: AMQP tells how many are
/// subscribed, not who is served.
const ACTIVE_FOR: Duration = Duration::from_secs(60);

/// The last hit of each shard, by the shard's number.
#[derive(Debug, Default)]
pub struct ShardActivity(Mutex<FxHashMap<u16, LastHit>>);

/// The hit that a shard gave last.
#[derive(Debug, Clone)]
pub struct LastHit {
    /// When it came.
    pub at: Instant,
    /// The hit's own time (`cdt`), or else when it came.
    pub cdt: Timestamp,
    /// How many hits of the shard are in flight here.
    in_flight: Arc<AtomicUsize>,
}

impl LastHit {
    /// Whether the shard is this worker's, as far as that can be known.
    pub fn is_ours(&self) -> bool {
        self.at.elapsed() < ACTIVE_FOR
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
        let mut shards = self.shards();
        match shards.get_mut(&shard) {
            Some(last) if Arc::ptr_eq(&last.in_flight, in_flight) => {
                (last.at, last.cdt) = (now, cdt);
            }
            _ => drop(shards.insert(shard, LastHit { at: now, cdt, in_flight: in_flight.clone() })),
        }
    }

    /// The shard goes to another worker, or may.
    pub fn forget(&self, shard: u16) {
        self.shards().remove(&shard);
    }

    /// The last hit of a shard.
    pub fn last(&self, shard: u16) -> Option<LastHit> {
        self.shards().get(&shard).cloned()
    }

    /// How many shards gave this worker a hit in the last minute.
    pub fn active_shards(&self) -> i64 {
        let active = self.shards().values().filter(|last| last.is_ours()).count();
        i64::try_from(active).unwrap_or_default()
    }

    fn shards(&self) -> MutexGuard<'_, FxHashMap<u16, LastHit>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
