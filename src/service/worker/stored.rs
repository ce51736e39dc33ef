//! The memory that keeps an ack lost with its connection from becoming a double.
//!
//! A hit that comes back marked as redelivered may be one that Matomo has stored: only its ack was
//! lost. Two hits can be byte for byte alike (a page reloaded within the second, an ENT that sends
//! no time), so it may also be another one that was never sent. Both are counted when a session is
//! lost: the copies that were stored and whose ack may be lost, and those that were held unstored
//! and are owed to Matomo. Of what comes back the owed copies are sent first, whichever they are,
//! and only then is a copy taken for one that is stored.
//!
//! Nothing is recalled within a session: as long as its channels stand the broker gives nothing
//! back. After a session was lost, everything that it held comes back as soon as a worker
//! subscribes. So the memory ends [`RETURN_TIME`] after the next session began, and at once where
//! the broker has confirmed that it took every ack. Whatever comes later is sent: repeated rather
//! than lost.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// After a session has begun, hits of the one before come back within this time.
const RETURN_TIME: Duration = Duration::from_secs(60);

/// Identities of hits of this session and of the one that was lost before it.
#[derive(Debug)]
pub struct Stored {
    /// The most identities of each kind: the prefetch, which bounds what the broker holds unacked.
    most: usize,
    memory: Mutex<Copies>,
    /// Nobody outside knows them, so nobody can make two hits that are taken for one.
    keys: RandomState,
}

#[derive(Debug, Default)]
struct Copies {
    /// Hits that Matomo stored in this session, in the order in which their acks were sent. Acks
    /// travel in order, so if one did not arrive, no later one did, and the broker holds at most a
    /// prefetch of unacked hits: older entries cannot come back.
    acked: VecDeque<u64>,
    /// What a lost session had stored and not surely acked.
    recallable: HashMap<u64, usize>,
    /// Copies that this worker took, and that go back unstored when the round ends.
    unstored: Vec<u64>,
    /// Copies that went back unstored and have not come again yet.
    owed: HashMap<u64, usize>,
    /// When this session began.
    since: Option<Instant>,
}

impl Stored {
    /// Room for this many hits.
    pub fn new(most: usize) -> Self {
        Self { most, memory: Mutex::default(), keys: RandomState::new() }
    }

    /// Tells two hits apart, but not two copies of one. `unique` is what its sender says to tell it
    /// from others, if anything: the AMQP properties `message_id` and `timestamp`.
    pub fn identity(
        &self,
        routing_key: &str,
        unique: (Option<&str>, Option<u64>),
        body: &[u8],
    ) -> u64 {
        self.keys.hash_one((routing_key, unique, body))
    }

    /// The acks of these are sent next.
    pub(super) fn remember(&self, identities: Vec<u64>) {
        if identities.is_empty() {
            return;
        }
        let acked = &mut self.memory().acked;
        acked.extend(identities);
        let too_many = acked.len().saturating_sub(self.most);
        acked.drain(..too_many);
    }

    /// A hit that this worker has taken goes back unstored when the round ends.
    pub(super) fn owe(&self, identity: u64) {
        self.memory().unstored.push(identity);
    }

    /// Hits that the broker has given and nobody has taken go back: each with its identity, and
    /// whether it was redelivered. What was known of them still holds.
    pub(super) fn give_back(&self, untaken: impl Iterator<Item = (u64, bool)>) {
        let mut memory = self.memory();
        let (mut stored, mut unstored) = (Vec::new(), Vec::new());
        for (identity, is_redelivered) in untaken {
            let is_owed = is_redelivered && take_one(&mut memory.owed, identity);
            if !is_owed && is_redelivered && take_one(&mut memory.recallable, identity) {
                stored.push(identity);
            } else {
                unstored.push(identity);
            }
        }
        add_all(&mut memory.recallable, stored);
        add_all(&mut memory.owed, unstored);
    }

    /// A session has begun: what the lost one held comes back from now on.
    pub(super) fn begin_session(&self, now: Instant) {
        self.memory().since = Some(now);
    }

    /// The session was lost: what it had stored may come back.
    pub(super) fn lose_session(&self) {
        let mut memory = self.memory();
        let acked = std::mem::take(&mut memory.acked);
        add_all(&mut memory.recallable, acked);
        self.end_round(&mut memory);
    }

    /// The broker has taken every ack of this session.
    pub(super) fn close_session(&self) {
        let mut memory = self.memory();
        memory.acked.clear();
        self.end_round(&mut memory);
    }

    fn end_round(&self, memory: &mut Copies) {
        let unstored = std::mem::take(&mut memory.unstored);
        add_all(&mut memory.owed, unstored);
        // What other workers took in the meantime never comes back here. To forget what was stored
        // may repeat a hit, and never loses one.
        if memory.recallable.len() + memory.owed.len() > 4 * self.most {
            memory.recallable.clear();
            memory.owed.clear();
        }
    }

    /// Whether a redelivered hit had been stored before. Each copy that was stored answers for one
    /// redelivery, once all copies that were not stored have come back.
    pub fn recall(&self, identity: u64, now: Instant) -> bool {
        let mut memory = self.memory();
        let Copies { recallable, owed, since, .. } = &mut *memory;
        if since.is_some_and(|since| now.saturating_duration_since(since) > RETURN_TIME) {
            recallable.clear();
        }
        !take_one(owed, identity) && take_one(recallable, identity)
    }

    fn memory(&self) -> MutexGuard<'_, Copies> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds a copy of each of these hits.
fn add_all(copies: &mut HashMap<u64, usize>, identities: impl IntoIterator<Item = u64>) {
    for identity in identities {
        *copies.entry(identity).or_default() += 1;
    }
}

/// Takes one of the copies of a hit. Returns whether there was one.
fn take_one(copies: &mut HashMap<u64, usize>, identity: u64) -> bool {
    match copies.get_mut(&identity) {
        Some(1) => copies.remove(&identity).is_some(),
        Some(count) => {
            *count -= 1;
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests;
