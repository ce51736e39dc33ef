//! The memory that keeps an ack lost with its connection from becoming a double.
//!
//! A hit that comes back marked as redelivered may be one that Matomo has stored: only its ack was
//! lost. Two hits can be byte for byte alike (a page reloaded within the second), so it may also be
//! another one that was never sent. So copies are counted when a session is lost: those that were
//! stored and whose ack may be lost, and those that were held unstored and are owed to Matomo. Of
//! what comes back the owed copies are sent first. After that a copy is taken for one that is
//! stored only if the worker never saw a second one like it: the broker may have sent more than
//! arrived before the line was cut. Whatever is in doubt is sent: repeated rather than lost.
//!
//! Nothing is recalled within a session: as long as its channels stand the broker gives nothing
//! back. After a session was lost, what it held comes back as soon as a worker subscribes, before
//! anything new of its shard. So the memory ends a minute after the next session began, and at once
//! where the broker has confirmed that it took every ack.

use std::collections::{HashMap, HashSet, VecDeque};
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
    /// Of which hits a lost session saw more than one.
    alike: HashSet<u64>,
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
        let Copies { recallable, owed, alike, .. } = &mut *memory;
        alike.extend(
            recallable
                .iter()
                .filter(|(identity, stored)| **stored > 1 || owed.contains_key(identity))
                .map(|(identity, _)| *identity),
        );
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
            memory.alike.clear();
        }
    }

    /// What a redelivered hit is. Each copy that was stored answers for one redelivery, once all
    /// copies that were not stored have come back.
    pub fn recall(&self, identity: u64, now: Instant) -> Known {
        let mut memory = self.memory();
        let Copies { recallable, owed, alike, since, .. } = &mut *memory;
        if since.is_some_and(|since| now.saturating_duration_since(since) > RETURN_TIME) {
            recallable.clear();
            alike.clear();
        }
        if take_one(owed, identity) || !take_one(recallable, identity) {
            Known::Unstored
        } else if alike.contains(&identity) {
            Known::InDoubt
        } else {
            Known::Stored
        }
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

/// What a hit is that comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Matomo has it: only its ack was lost.
    Stored,
    /// Matomo may have it, or another one that looks the same.
    InDoubt,
    /// Nothing is known of it that keeps it from being sent.
    Unstored,
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
