//! The hits of one shard that the broker has no ack for: which of them may be acked now, and which
//! had better wait.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// A settled hit waits no longer than this for those behind it.
const GATHER_TIME: Duration = Duration::from_millis(5);

/// One in so many of a shard's prefetch is acked together without waiting; and when no more of it
/// than that is still in the lanes, nothing waits either: the lanes must not run dry.
const SHARE: usize = 8;

/// A settled hit waits no longer than this for an earlier one. It would be repeated after a crash.
const MAX_WAIT: Duration = Duration::from_millis(20);

/// The unacked hits of one shard, in the order in which the broker gave them.
#[derive(Debug)]
pub(super) struct Unacked {
    /// The delivery tag of each hit, and whether it is settled.
    hits: VecDeque<(u64, AckState)>,
    /// How many settled hits at the front are acked together without waiting for more.
    enough: usize,
    /// How many settled hits are acked without waiting for an earlier one.
    crowd: usize,
    /// How many hits are settled.
    waiting: usize,
    /// Lower bound of the oldest settle time; `None` if nothing is settled.
    since: Option<Instant>,
    /// Whether no ack goes, so that the broker gives nothing more.
    is_withheld: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AckState {
    /// A lane has the hit.
    Held,
    /// Matomo or the next queue has the hit since then. The number is its identity, if it is to be
    /// remembered until its ack has arrived.
    Settled(Instant, Option<u64>),
}

/// The acks that are to be sent now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct DueAcks {
    /// Delivery tags, and whether each stands for all before it too.
    pub(super) acks: Vec<(u64, bool)>,
    /// The identities of those hits that are to be remembered.
    pub(super) stored: Vec<u64>,
}

impl Unacked {
    /// No hits yet, of a shard with this prefetch.
    pub(super) fn new(prefetch: usize) -> Self {
        let enough = (prefetch / SHARE).max(1);
        Self {
            hits: VecDeque::new(),
            enough,
            crowd: prefetch.saturating_sub(enough).max(1),
            waiting: 0,
            since: None,
            is_withheld: false,
        }
    }

    /// Lets no ack go from now on, but for the last of all, or lets them go again.
    pub(super) fn withhold(&mut self, is_withheld: bool) {
        self.is_withheld = is_withheld;
    }

    /// Whether no ack goes.
    pub(super) fn is_withheld(&self) -> bool {
        self.is_withheld
    }

    /// A hit came in. Tags come in growing order.
    pub(super) fn hold(&mut self, tag: u64) {
        self.hits.push_back((tag, AckState::Held));
    }

    /// Matomo or the next queue has the hit.
    pub(super) fn settle(&mut self, tag: u64, identity: Option<u64>, now: Instant) {
        let place = self.hits.binary_search_by_key(&tag, |(tag, _)| *tag);
        if let Some((_, state @ AckState::Held)) =
            place.ok().and_then(|place| self.hits.get_mut(place))
        {
            *state = AckState::Settled(now, identity);
            self.waiting += 1;
            self.since.get_or_insert(now);
        }
    }

    /// Takes out what can be acked, once it is much or has waited for long: up to the first hit
    /// that is not settled, and those beyond it. With `all`, nothing waits.
    pub(super) fn due(&mut self, now: Instant, all: bool) -> DueAcks {
        let mut due = DueAcks::default();
        if self.is_withheld && !all {
            return due;
        }
        if all
            || self.is_crowded()
            || self.is_enough()
            || self.front().is_some_and(|since| now >= since + GATHER_TIME)
        {
            let mut up_to = None;
            while let Some((tag, AckState::Settled(_, identity))) = self.hits.front().copied() {
                self.hits.pop_front();
                self.waiting -= 1;
                up_to = Some((tag, true));
                due.stored.extend(identity);
            }
            due.acks.extend(up_to);
        }
        if self.waiting == 0 {
            self.since = None;
        }
        if all || self.is_crowded() || self.have_waited_long(now) {
            self.hits.retain(|(tag, state)| {
                let AckState::Settled(_, identity) = state else { return true };
                due.acks.push((*tag, false));
                due.stored.extend(*identity);
                false
            });
            (self.waiting, self.since) = (0, None);
        }
        due
    }

    fn have_waited_long(&mut self, now: Instant) -> bool {
        let is_long = |since: Instant| now >= since + MAX_WAIT;
        if self.since.is_some_and(is_long) {
            // Whose time that was may be gone by now.
            let waiting = self.hits.iter().filter_map(|(_, state)| match state {
                AckState::Settled(since, _) => Some(*since),
                AckState::Held => None,
            });
            self.since = waiting.min();
        }
        self.since.is_some_and(is_long)
    }

    /// Whether so many are settled that the lanes may run dry.
    fn is_crowded(&self) -> bool {
        self.waiting >= self.crowd
    }

    /// Whether the first hits are settled, and so many that their ack does not wait.
    fn is_enough(&self) -> bool {
        self.hits.len() >= self.enough
            && self
                .hits
                .iter()
                .take(self.enough)
                .all(|(_, state)| matches!(state, AckState::Settled(..)))
    }

    /// Since when the first hit is settled, if it is.
    fn front(&self) -> Option<Instant> {
        match self.hits.front() {
            Some((_, AckState::Settled(since, _))) => Some(*since),
            _ => None,
        }
    }

    /// When there is something to do, if nothing is settled until then.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.is_withheld {
            return None;
        }
        let deadlines = [
            self.front().map(|since| since + GATHER_TIME),
            self.since.map(|since| since + MAX_WAIT),
        ];
        deadlines.into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// What the broker knows of a channel, and what it does about an ack.
    #[derive(Default)]
    struct Broker {
        unacked: BTreeSet<u64>,
    }

    impl Broker {
        fn take(&mut self, (tag, multiple): (u64, bool)) -> Vec<u64> {
            assert!(
                self.unacked.contains(&tag),
                "PRECONDITION_FAILED - unknown delivery tag {tag}"
            );
            let acked: Vec<u64> = self
                .unacked
                .iter()
                .copied()
                .filter(|t| *t == tag || multiple && *t < tag)
                .collect();
            acked.iter().for_each(|tag| assert!(self.unacked.remove(tag)));
            acked
        }

        fn check(&mut self, due: DueAcks, settled: &mut Vec<(u64, Instant)>) {
            let mut acked: Vec<u64> = due.acks.into_iter().flat_map(|ack| self.take(ack)).collect();
            acked.sort_unstable();
            let mut stored = due.stored;
            stored.sort_unstable();
            assert_eq!(acked, stored, "each hit is remembered when its ack goes");
            for tag in acked {
                let place = settled
                    .iter()
                    .position(|(other, _)| *other == tag)
                    .expect("only what is settled is acked");
                settled.remove(place);
            }
        }
    }

    #[test]
    fn what_comes_in_order_is_acked_together() {
        let mut unacked = Unacked::new(100);
        let now = Instant::now();
        (1..=50).for_each(|tag| unacked.hits.push_back((tag, AckState::Held)));
        (1..=11).for_each(|tag| unacked.settle(tag, Some(tag), now));
        assert_eq!(unacked.due(now, false), DueAcks::default(), "more may come");
        assert_eq!(
            unacked.due(now + GATHER_TIME, false),
            DueAcks { acks: vec![(11, true)], stored: (1..=11).collect() }
        );
        (12..=23).for_each(|tag| unacked.settle(tag, Some(tag), now));
        assert_eq!(
            unacked.due(now, false),
            DueAcks { acks: vec![(23, true)], stored: (12..=23).collect() },
            "an eighth of the prefetch"
        );
        (24..=50).for_each(|tag| unacked.settle(tag, Some(tag), now));
        assert_eq!(
            unacked.due(now, true),
            DueAcks { acks: vec![(50, true)], stored: (24..=50).collect() }
        );
        assert_eq!((unacked.due(now, true), unacked.deadline()), (DueAcks::default(), None));
    }

    #[test]
    fn what_waits_for_an_earlier_hit_goes_alone_in_the_end() {
        let mut unacked = Unacked::new(100);
        let start = Instant::now();
        (1..=9).for_each(|tag| unacked.hits.push_back((tag, AckState::Held)));
        unacked.settle(3, None, start);
        assert_eq!(unacked.due(start, false), DueAcks::default());
        (1..=2).for_each(|tag| unacked.settle(tag, None, start + MAX_WAIT / 2));
        unacked.settle(5, None, start + MAX_WAIT / 2);
        assert_eq!(
            unacked.due(start + MAX_WAIT, false).acks,
            [(3, true)],
            "5 has not waited for long"
        );
        assert_eq!(unacked.due(start + 2 * MAX_WAIT, false).acks, [(5, false)]);
        assert_eq!(unacked.hits.len(), 5, "what is not settled is not acked");
    }

    #[test]
    fn nothing_waits_while_the_lanes_run_dry() {
        let now = Instant::now();
        for (prefetch, crowd) in [(2, 1), (8, 7), (100, 88)] {
            let mut unacked = Unacked::new(prefetch);
            (1..=100).for_each(|tag| unacked.hits.push_back((tag, AckState::Held)));
            (2..=crowd).for_each(|tag| unacked.settle(tag, None, now));
            assert_eq!(unacked.due(now, false), DueAcks::default());
            unacked.settle(crowd + 1, None, now);
            let each = (2..=crowd + 1).map(|tag| (tag, false)).collect();
            assert_eq!(unacked.due(now, false), DueAcks { acks: each, stored: Vec::new() });
        }
    }

    #[test]
    fn what_is_withheld_goes_when_it_may_and_in_the_end() {
        let (mut unacked, now) = (Unacked::new(4), Instant::now());
        (1..=4).for_each(|tag| unacked.hold(tag));
        unacked.withhold(true);
        (1..=4).for_each(|tag| unacked.settle(tag, Some(tag), now));
        assert_eq!((unacked.due(now + MAX_WAIT, false), unacked.deadline()), Default::default());
        let mut at_the_end = Unacked { hits: unacked.hits.clone(), ..Unacked::new(4) };
        (at_the_end.waiting, at_the_end.is_withheld) = (4, true);
        let all = DueAcks { acks: vec![(4, true)], stored: vec![1, 2, 3, 4] };
        assert_eq!(at_the_end.due(now, true), all);
        unacked.withhold(false);
        assert_eq!(unacked.due(now, false), all);
    }

    proptest! {
        #[test]
        fn no_ack_covers_a_hit_that_is_not_settled(
            prefetch in 1..40_usize,
            steps in proptest::collection::vec((0..4_u8, 0..64_usize, 0..12_u64), 0..400),
        ) {
            let (mut unacked, mut broker) = (Unacked::new(prefetch), Broker::default());
            let (mut now, mut tag) = (Instant::now(), 0);
            // Held by a lane; settled, with a time; given back.
            let (mut held, mut settled, mut returned) = (Vec::new(), Vec::new(), Vec::new());
            for (step, pick, millis) in steps {
                now += Duration::from_millis(millis);
                match step {
                    0 if held.len() + settled.len() + returned.len() < prefetch => {
                        tag += 1;
                        unacked.hits.push_back((tag, AckState::Held));
                        broker.unacked.insert(tag);
                        held.push(tag);
                    }
                    1 if !held.is_empty() => {
                        let tag = held.remove(pick % held.len());
                        unacked.settle(tag, Some(tag), now);
                        settled.push((tag, now));
                    }
                    2 if !held.is_empty() && pick % 8 == 0 => {
                        returned.push(held.remove(pick % held.len()));
                    }
                    _ => {
                        broker.check(unacked.due(now, false), &mut settled);
                        prop_assert_eq!(unacked.waiting, settled.len());
                        prop_assert!(settled.len() < unacked.crowd, "the lanes do not run dry");
                        prop_assert!(settled.iter().all(|(_, since)| now < *since + MAX_WAIT));
                        let longest = settled.iter().map(|(_, since)| *since + MAX_WAIT).min();
                        let deadline = unacked.deadline();
                        prop_assert!(
                            longest.is_none_or(|longest| deadline.is_some_and(|at| at <= longest)),
                            "somebody looks in time"
                        );
                        prop_assert!(deadline.is_none_or(|at| at > now), "and not before");
                    }
                }
            }
            broker.check(unacked.due(now, true), &mut settled);
            prop_assert!(settled.is_empty());
            prop_assert_eq!(unacked.hits.len(), held.len() + returned.len());
        }
    }
}
