//! The memory that keeps an ack lost with its connection from becoming a double.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Hashes of the latest hits that Matomo stored, in the order in which their acks were sent. Acks
/// travel in order, so if one did not arrive, no later one did, and the broker holds at most a
/// prefetch of unacked hits: older entries cannot come back.
#[derive(Debug)]
pub struct Stored {
    most: usize,
    latest: Mutex<VecDeque<u64>>,
    /// Nobody outside knows them, so nobody can make two hits that are taken for one.
    keys: RandomState,
}

impl Stored {
    /// Room for this many.
    pub fn new(most: usize) -> Self {
        Self { most, latest: Mutex::default(), keys: RandomState::new() }
    }

    /// Tells two hits apart, but not two copies of one.
    pub fn identity(&self, routing_key: &str, body: &[u8]) -> u64 {
        self.keys.hash_one((routing_key, body))
    }

    /// The acks of these are sent next.
    pub(super) fn remember(&self, identities: Vec<u64>) {
        if identities.is_empty() {
            return;
        }
        let mut latest = self.latest();
        latest.extend(identities);
        let too_many = latest.len().saturating_sub(self.most);
        latest.drain(..too_many);
    }

    /// Every ack has arrived.
    pub fn clear(&self) {
        self.latest().clear();
    }

    /// Whether a redelivered hit had been stored before. Each stored copy answers for one
    /// redelivery.
    pub fn recall(&self, identity: u64) -> bool {
        let mut latest = self.latest();
        let place = latest.iter().position(|stored| *stored == identity);
        place.and_then(|place| latest.remove(place)).is_some()
    }

    fn latest(&self) -> MutexGuard<'_, VecDeque<u64>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_copies_are_one_hit() {
        let stored = Stored::new(3);
        assert_eq!(stored.identity("a", b"b"), stored.identity("a", b"b"));
        assert_ne!(
            stored.identity("a", b"b"),
            stored.identity("ab", b""),
            "where the key ends counts"
        );
        assert_ne!(
            stored.identity("a", b"b"),
            Stored::new(3).identity("a", b"b"),
            "another memory has other keys"
        );
    }

    #[test]
    fn each_stored_copy_answers_for_one_redelivery() {
        let stored = Stored::new(3);
        stored.remember(vec![7, 7, 1]);
        assert!(stored.recall(7) && stored.recall(7) && !stored.recall(7));
        stored.remember(vec![2, 3]);
        stored.remember(vec![4]);
        assert!(!stored.recall(1), "the memory is bounded");
        assert!(stored.recall(4));
    }
}
