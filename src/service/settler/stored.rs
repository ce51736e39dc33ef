//! The memory that keeps an ack lost with its connection from becoming a double.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Hashes of the latest hits that Matomo stored. Acks travel in order, so if one did not arrive, no later one did, and the
/// broker holds at most a prefetch of unacked hits: older entries cannot come back.
#[derive(Debug)]
pub struct Stored {
    most: usize,
    inner: Mutex<(VecDeque<u64>, HashMap<u64, u32>)>,
}

impl Stored {
    /// Room for this many.
    pub fn new(most: usize) -> Self {
        Self { most, inner: Mutex::default() }
    }

    pub(super) fn remember(&self, identity: u64) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let (order, counts) = &mut *inner;
        order.push_back(identity);
        *counts.entry(identity).or_default() += 1;
        if order.len() > self.most
            && let Some(oldest) = order.pop_front()
        {
            forget(counts, oldest);
        }
    }

    /// Every ack has arrived.
    pub fn clear(&self) {
        *self.inner.lock().unwrap_or_else(PoisonError::into_inner) = Default::default();
    }

    /// Whether a redelivered hit had been stored before. Each stored copy answers for one redelivery.
    pub fn recall(&self, identity: u64) -> bool {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let (order, counts) = &mut *inner;
        let Some(place) = order.iter().position(|stored| *stored == identity) else { return false };
        order.remove(place);
        forget(counts, identity);
        true
    }
}

fn forget(counts: &mut HashMap<u64, u32>, identity: u64) {
    if let Some(count) = counts.get_mut(&identity) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&identity);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stored_copy_answers_for_one_redelivery() {
        let stored = Stored::new(3);
        for identity in [7, 7, 1] {
            stored.remember(identity);
        }
        assert!(stored.recall(7) && stored.recall(7) && !stored.recall(7));
        for identity in [2, 3, 4] {
            stored.remember(identity);
        }
        assert!(!stored.recall(1), "the memory is bounded");
        assert!(stored.recall(4));
    }
}
