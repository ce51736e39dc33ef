//! Which shards a worker gives up, so that all workers have their share.
//!
//! The broker leaves a shard with the first that subscribed until that one goes, and gives it to
//! the others then in the order in which they subscribed. So a worker that holds more than its
//! share subscribes to the surplus anew, which puts it behind the others.
//!
//! Nobody tells a worker which shards it holds, but a shard that gave it a hit is its own. Of the
//! others the broker tells how many workers there are, and how many of them are [`short`] of their
//! share ([`Replicas`]). Each worker decides by itself, with no clock:
//!
//! 1. When the number of workers changes, or its own standing rises, a worker that is not short
//!    subscribes anew to all shards that it does not hold, so that those that are short wait before
//!    all others. One that needs nothing more does so twice, to wait behind those that could take
//!    one more.
//! 2. Then it gives up what it holds beyond the larger share, the weakest claims first.
//! 3. While somebody is short and nobody holds more than the larger share, one of those that hold
//!    the larger share must go down to the smaller. Which of them is left to chance.
//! 4. A new worker, and all of them when nobody is short any more, subscribe once more to what they
//!    do not hold, within a few looks: those with their strongest claim first. So what others give
//!    up, or leave behind, is shared out in about the order of claims.
//!
//! A worker that sees nobody short and holds no more than the larger share does nothing.
//!
//! [`short`]: Standing::Short

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

#[cfg(test)]
mod tests;

/// Over how many looks a worker takes its places in the order of its claims.
const STAGES: usize = 8;

/// At which look after a change those that are not short go behind those that are. Before that they
/// may hold shards that have not given them a hit yet.
const BEHIND: usize = 8;

/// At which look those that need nothing more go behind all others.
const LAST: usize = 10;

/// How many looks lie between a change and giving up, and between giving up and giving up more.
/// Those that were given a shard know it by then.
const PAUSE: usize = 12;

/// At which look since nobody is short all take their places in the order of their claims.
const CALM: usize = 16;

/// A worker's claim to a shard (rendezvous hashing): each replica ranks every shard by itself.
pub fn claim(worker: &str, shard: u16) -> i32 {
    let mut hasher = DefaultHasher::new();
    (worker, shard).hash(&mut hasher);
    i32::try_from(hasher.finish() % 1_000_000_000).unwrap_or_default()
}

/// What the broker tells of all workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replicas {
    /// How many there are; the one that asks among them.
    pub all: u32,
    /// How many of them say that they are short.
    pub short: u32,
}

/// How what a worker holds compares with its share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It holds less than the smaller share.
    #[default]
    Short,
    /// It holds the smaller share.
    Fair,
    /// It holds the larger share, or more. Where all shares are the same, that is the larger.
    Full,
}

/// What a worker does after a look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Handover {
    /// Shards that it holds and gives up.
    pub give_up: Vec<u16>,
    /// Shards that it does not hold and subscribes to anew, to wait behind the others.
    pub wait_behind: Vec<u16>,
}

/// What a worker remembers from one look to the next.
#[derive(Debug, Default)]
pub struct Sharing {
    standing: Standing,
    /// How many workers there were.
    workers: u32,
    /// How many looks there were since the last change.
    looks: usize,
    /// The number of looks since the last change while nobody was short: about the same for all
    /// workers.
    calm: usize,
    /// How many looks it waits before it gives up a shard.
    pause: usize,
}

impl Sharing {
    /// The standing at the last look.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Takes a look. `shards` are all of them, those with this worker's strongest claim first;
    /// `held` are those that gave it a hit since it subscribed to them; `chance` is a random number
    /// from 0 to below 1. Looks are half a second apart.
    pub fn look(
        &mut self,
        shards: &[u16],
        held: &BTreeSet<u16>,
        workers: Replicas,
        chance: f64,
    ) -> Handover {
        let share = Share::of(shards.len(), workers);
        self.count(share.standing(held.len()), workers);
        let (standing, is_equal) = (self.standing, share.larger == share.smaller);
        let mut step = Handover::default();
        if standing > Standing::Short && self.pause == 0 {
            let weakest = shards.iter().rev().filter(|shard| held.contains(shard));
            step.give_up = weakest.take(share.surplus(held.len(), chance)).copied().collect();
            // Chance is asked once in so many looks, whatever it says.
            if !step.give_up.is_empty() || standing == Standing::Full && workers.short > 0 {
                self.pause = PAUSE;
                return step;
            }
        }
        let behind = match standing {
            // What it holds may not have given it a hit yet, unless it is new.
            Standing::Short if held.is_empty() => stage(shards, Some(self.looks)),
            Standing::Short => &[],
            _ if self.looks == BEHIND => shards,
            Standing::Full if self.looks == LAST && !is_equal => shards,
            _ => stage(shards, self.calm.checked_sub(CALM)),
        };
        let waits = |shard: &&u16| !held.contains(shard);
        step.wait_behind = behind.iter().filter(waits).copied().collect();
        step
    }

    /// Counts the looks since the latest changes.
    fn count(&mut self, standing: Standing, workers: Replicas) {
        let is_other = workers.all != self.workers;
        let is_new = is_other || standing > self.standing;
        self.looks = if is_new { 0 } else { self.looks + 1 };
        self.calm = if is_other || workers.short > 0 { 0 } else { self.calm + 1 };
        let begins = is_other || is_new && self.pause == 0;
        self.pause = if begins { PAUSE } else { self.pause.saturating_sub(1) };
        (self.workers, self.standing) = (workers.all, standing);
    }
}

/// The shards of one stage of [`STAGES`].
fn stage(shards: &[u16], stage: Option<usize>) -> &[u16] {
    let length = shards.len().div_ceil(STAGES).max(1);
    stage.and_then(|stage| shards.chunks(length).nth(stage)).unwrap_or_default()
}

/// How many shards are a worker's share.
struct Share {
    smaller: usize,
    larger: usize,
    /// How many workers have the larger share.
    larger_ones: usize,
    short: usize,
}

impl Share {
    fn of(shards: usize, workers: Replicas) -> Self {
        let count = |workers: u32| usize::try_from(workers).unwrap_or(usize::MAX);
        let (all, short) = (count(workers.all).max(1), count(workers.short));
        Self {
            smaller: shards / all,
            larger: shards.div_ceil(all),
            larger_ones: shards % all,
            short,
        }
    }

    fn standing(&self, held: usize) -> Standing {
        if held < self.smaller {
            Standing::Short
        } else if held < self.larger {
            Standing::Fair
        } else {
            Standing::Full
        }
    }

    /// How many of the shards that it holds a worker gives up now.
    #[expect(clippy::cast_precision_loss, reason = "there are far fewer workers than 2^52")]
    fn surplus(&self, held: usize, chance: f64) -> usize {
        if held > self.larger {
            return held - self.larger;
        }
        let must_one_go_down = held == self.larger && self.larger > self.smaller && self.short > 0;
        // In the mean as many go down as are short.
        let candidates = (self.larger_ones + self.short) as f64;
        usize::from(must_one_go_down && chance * candidates < self.short as f64)
    }
}
