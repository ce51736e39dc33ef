//! What comes back is sent if it was not stored, whatever it looks like.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;

const BODY: &[u8] = b"b";

#[test]
fn only_copies_are_one_hit() {
    let stored = Stored::new(3);
    let plain = (None, None);
    assert_eq!(stored.identity("a", plain, BODY), stored.identity("a", plain, BODY));
    let others = [
        stored.identity("ab", plain, b""),
        stored.identity("a", (Some("1"), None), BODY),
        stored.identity("a", (None, Some(1)), BODY),
        Stored::new(3).identity("a", plain, BODY),
    ];
    assert!(!others.contains(&stored.identity("a", plain, BODY)), "one of them is taken for it");
}

/// A memory whose session, in which these were stored and those held, was lost a moment ago.
fn after_loss(most: usize, acked: &[u64], held: &[u64]) -> (Stored, Instant) {
    let (stored, now) = (Stored::new(most), Instant::now());
    stored.begin_session(now);
    stored.remember(acked.to_vec());
    held.iter().for_each(|identity| stored.owe(*identity));
    stored.lose_session();
    stored.begin_session(now);
    (stored, now)
}

#[test]
fn each_stored_copy_answers_for_one_redelivery() {
    let (stored, now) = after_loss(9, &[7, 1], &[]);
    let recalled = [7, 7, 1, 2].map(|identity| stored.recall(identity, now));
    assert_eq!(recalled, [Known::Stored, Known::Unstored, Known::Stored, Known::Unstored]);
}

#[test]
fn what_is_owed_is_sent_before_anything_is_taken_for_stored() {
    let (stored, now) = after_loss(9, &[7], &[7]);
    assert_eq!(stored.recall(7, now), Known::Unstored, "it may be the one that was not stored");
    assert_eq!(stored.recall(7, now), Known::InDoubt, "more may have been on their way");
    assert_eq!(stored.recall(7, now), Known::Unstored);
}

#[test]
fn of_several_that_look_the_same_none_is_taken_for_stored() {
    let (stored, now) = after_loss(9, &[7, 7], &[]);
    assert_eq!(stored.recall(7, now), Known::InDoubt);
}

#[test]
fn nothing_is_recalled_within_a_session() {
    let (stored, now) = (Stored::new(9), Instant::now());
    stored.begin_session(now);
    stored.remember(vec![7]);
    let known = stored.recall(7, now);
    assert_eq!(known, Known::Unstored, "another worker lost a hit that looks like ours");
}

#[test]
fn what_comes_late_or_after_a_close_in_good_order_is_sent() {
    let (stored, now) = after_loss(9, &[7], &[]);
    let late = now + RETURN_TIME + Duration::from_secs(1);
    assert_eq!(stored.recall(7, late), Known::Unstored);
    let stored = Stored::new(9);
    stored.remember(vec![7]);
    stored.close_session();
    stored.lose_session();
    assert_eq!(stored.recall(7, now), Known::Unstored, "the broker had taken its ack");
}

#[test]
fn the_memory_is_bounded() {
    let (stored, now) = after_loss(3, &[1, 2, 3, 4], &[]);
    assert_eq!([1, 4].map(|hit| stored.recall(hit, now)), [Known::Unstored, Known::Stored]);
    for identity in 0..1_000 {
        stored.owe(identity);
        stored.lose_session();
    }
    let memory = stored.memory();
    assert!(memory.owed.len() + memory.recallable.len() <= 12);
}

/// A shard, its consumer, and Matomo, with acks on their way.
#[derive(Default)]
struct World {
    /// Identities that wait, and whether they were delivered before.
    queue: VecDeque<(u64, bool)>,
    /// Delivered and not acked, as the broker sees it, by tag.
    unacked: BTreeMap<u64, u64>,
    next_tag: u64,
    /// Delivered, and not yet taken by the feeder.
    buffer: VecDeque<(u64, u64, bool)>,
    /// Taken by a lane and not stored.
    lane: VecDeque<(u64, u64)>,
    /// Whether the shard gave a new hit in this round.
    gave_new: bool,
    /// Acks that the broker has not read yet.
    acks: VecDeque<u64>,
    published: BTreeMap<u64, usize>,
    stored: BTreeMap<u64, usize>,
}

const PREFETCH: usize = 8;

impl World {
    /// The broker gives as much as the prefetch allows, at once.
    fn deliver(&mut self) {
        while self.unacked.len() < PREFETCH
            && let Some((identity, is_redelivered)) = self.queue.pop_front()
        {
            self.next_tag += 1;
            self.unacked.insert(self.next_tag, identity);
            self.buffer.push_back((self.next_tag, identity, is_redelivered));
        }
    }

    fn take(&mut self, memory: &Stored, now: Instant) {
        let Some((tag, identity, is_redelivered)) = self.buffer.pop_front() else { return };
        self.gave_new |= !is_redelivered;
        if !self.gave_new && memory.recall(identity, now) == Known::Stored {
            memory.remember(vec![identity]);
            self.acks.push_back(tag);
        } else {
            self.lane.push_back((tag, identity));
        }
    }

    fn store(&mut self, memory: &Stored) {
        if let Some((tag, identity)) = self.lane.pop_front() {
            *self.stored.entry(identity).or_default() += 1;
            memory.remember(vec![identity]);
            self.acks.push_back(tag);
        }
    }

    fn read_ack(&mut self) {
        if let Some(tag) = self.acks.pop_front() {
            self.unacked.remove(&tag);
        }
    }

    /// The broker gives back what has no ack, in its order.
    fn give_back(&mut self) {
        for (_, identity) in std::mem::take(&mut self.unacked).into_iter().rev() {
            self.queue.push_front((identity, true));
        }
        self.gave_new = false;
        self.buffer.clear();
        self.lane.clear();
        self.acks.clear();
    }

    /// The session is lost, and the line swallows the latest of what the broker has sent. Returns
    /// how many of it may be taken for a hit that this worker saw once and stored.
    fn lose(&mut self, swallowed: usize, memory: &Stored, now: Instant) -> usize {
        let from = self.buffer.len().saturating_sub(swallowed);
        let swallowed = self.buffer.split_off(from);
        self.end_round(memory, false, now);
        let copies = memory.memory();
        let may_be_taken = |identity: &u64| {
            copies.recallable.contains_key(identity) && !copies.alike.contains(identity)
        };
        swallowed.iter().filter(|(_, identity, _)| may_be_taken(identity)).count()
    }

    /// The round ends; `in_order` if the broker still answers.
    fn end_round(&mut self, memory: &Stored, in_order: bool, now: Instant) {
        self.lane.iter().for_each(|(_, identity)| memory.owe(*identity));
        memory
            .give_back(self.buffer.iter().map(|(_, identity, came_back)| (*identity, *came_back)));
        if in_order {
            while !self.acks.is_empty() {
                self.read_ack();
            }
            memory.close_session();
        } else {
            memory.lose_session();
        }
        self.give_back();
        memory.begin_session(now);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Three identities, so that most hits have a twin in flight.
    #[test]
    fn nothing_is_lost_and_little_repeated(
        steps in proptest::collection::vec((0..40_u8, 0..3_u64), 0..300),
    ) {
        let now = Instant::now();
        let (mut world, mut memory) = (World::default(), Stored::new(PREFETCH));
        memory.begin_session(now);
        let (mut may_repeat, mut may_be_lost) = (0, 0);
        for (step, identity) in steps {
            match step {
                0..10 => {
                    world.queue.push_back((identity, false));
                    *world.published.entry(identity).or_default() += 1;
                }
                10..20 => world.take(&memory, now),
                20..28 => world.store(&memory),
                28..36 => world.read_ack(),
                36..38 => {
                    may_repeat += world.unacked.len();
                    let swallowed = usize::try_from(identity).expect("few");
                    may_be_lost += world.lose(swallowed, &memory, now);
                }
                38 => world.end_round(&memory, true, now),
                _ => {
                    // What was in a worker's hands, now or when a session was lost before.
                    may_repeat += world.unacked.len();
                    may_repeat += world.queue.iter().filter(|(_, came_back)| *came_back).count();
                    world.give_back();
                    memory = Stored::new(PREFETCH);
                    memory.begin_session(now);
                }
            }
            world.deliver();
        }
        while !world.queue.is_empty() || !world.unacked.is_empty() {
            world.deliver();
            world.take(&memory, now);
            world.store(&memory);
            world.read_ack();
        }
        let (mut repeated, mut lost) = (0, 0);
        for (identity, published) in &world.published {
            let stored = world.stored.get(identity).copied().unwrap_or_default();
            repeated += stored.saturating_sub(*published);
            lost += published.saturating_sub(stored);
        }
        prop_assert!(lost <= may_be_lost, "{lost} lost, {may_be_lost} were swallowed unseen");
        prop_assert!(repeated <= may_repeat, "{repeated} repeated, {may_repeat} were held");
    }
}
