//! Acks: one for all hits of a shard up to a place (`multiple`) where everything before it is
//! settled, and one by one for those that would wait for long.
//!
//! Each ack costs the broker more than a hit in it, and what one makes room for is delivered
//! together. So a settled hit waits: a little for those behind it, and longer for one before it
//! that is still with Matomo.
//!
//! No ack may cover a hit that is not settled, whatever happens at the same time, because
//! - a delivery tag is an entry of [`Unacked`] from before anybody can settle it until its ack is
//!   sent; all tags of a channel come from one consumer, in growing order, so what is not an entry
//!   and lower than one has its ack;
//! - an entry is marked as settled only after Matomo, or the next queue, has the hit. A hit that is
//!   given back, or dropped by a task that failed, is never marked: it stays, and nothing beyond it
//!   is acked but one by one;
//! - lanes only mark. One task, [`Acks::write`], takes entries out and sends, and takes a tag out
//!   once: neither can two acks of a channel overtake each other, nor does one name a tag that is
//!   gone, for which the broker would close the channel.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use lapin::Channel;
use lapin::options::BasicAckOptions;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::WorkerContext;
use crate::service::session_end::SessionEnd;

/// A settled hit waits no longer than this for those behind it.
const PATIENCE: Duration = Duration::from_millis(5);

/// One in so many of a shard's prefetch is acked together without waiting; and when no more of it
/// than that is still in the lanes, nothing waits either: the lanes must not run dry.
const SHARE: usize = 8;

/// A settled hit waits no longer than this for an earlier one. It would be repeated after a crash.
const LONGEST_WAIT: Duration = Duration::from_millis(20);

/// The acks of all shards of a stretch.
#[derive(Debug)]
pub struct Acks {
    office: Arc<WorkerContext>,
    windows: Vec<Arc<Window>>,
    settled: Arc<Notify>,
}

/// The hits of one shard that the broker has no ack for.
#[derive(Debug)]
pub(in crate::service) struct Window {
    channel: Channel,
    unacked: Mutex<Unacked>,
    settled: Arc<Notify>,
}

/// In the order in which the broker gave them.
#[derive(Debug)]
struct Unacked {
    hits: VecDeque<(u64, State)>,
    /// So many that can be acked together do not wait.
    enough: usize,
    /// So many that are settled do not wait for an earlier one.
    crowd: usize,
    /// How many are settled.
    waiting: usize,
    /// None of them is settled for longer than since then; nothing, if none is.
    since: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Held,
    /// Since when, and its identity, if that is to be remembered.
    Settled(Instant, Option<u64>),
}

/// Acks to send now.
#[derive(Debug, Default, PartialEq, Eq)]
struct Due {
    /// Tags, and whether all before them are meant too.
    acks: Vec<(u64, bool)>,
    /// Identities of those hits that are to be remembered.
    stored: Vec<u64>,
}

impl Acks {
    /// Of no shard yet.
    pub fn new(office: Arc<WorkerContext>) -> Self {
        Self { office, windows: Vec::new(), settled: Arc::default() }
    }

    /// One more shard, with its prefetch.
    pub(in crate::service) fn window(&mut self, channel: Channel, prefetch: u16) -> Arc<Window> {
        let unacked = Mutex::new(Unacked::new(prefetch.into()));
        let window = Arc::new(Window { channel, unacked, settled: self.settled.clone() });
        self.windows.push(window.clone());
        window
    }

    /// Sends acks until nothing more will be settled, and then all that are left.
    pub async fn write(self, lost: SessionEnd, over: CancellationToken) {
        loop {
            let first = self.windows.iter().filter_map(|window| window.unacked().deadline()).min();
            let long_enough = async {
                match first {
                    Some(first) => tokio::time::sleep_until(first).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.settled.notified() => self.send(&lost, false).await,
                () = long_enough => self.send(&lost, false).await,
                () = over.cancelled() => return self.send(&lost, true).await,
            }
        }
    }

    async fn send(&self, lost: &SessionEnd, all: bool) {
        let mut acks = Vec::new();
        for window in &self.windows {
            let due = window.unacked().due(Instant::now(), all);
            // Before the ack is sent, so that there is no moment in which it can be lost and the
            // hit not known.
            self.office.stored.remember(due.stored);
            let ack = |(tag, multiple)| window.channel.basic_ack(tag, BasicAckOptions { multiple });
            acks.extend(due.acks.into_iter().map(ack));
        }
        // An ack fails only with its channel; then the hit comes back, and `Stored` or the next
        // queue knows it.
        let sent = lost.or(join_all(acks)).await;
        if !sent.is_ok_and(|sent| sent.iter().all(Result::is_ok)) {
            tracing::debug!("an ack was lost with its channel");
        }
    }
}

impl Window {
    /// A hit came in; in the order of the tags.
    pub(super) fn hold(&self, tag: u64) {
        self.unacked().hits.push_back((tag, State::Held));
    }

    /// Matomo or the next queue has it. The ack is sent after [`Window::tell`].
    pub(super) fn settle(&self, tag: u64, identity: Option<u64>) {
        self.unacked().settle(tag, identity, Instant::now());
    }

    /// Some hits were settled.
    pub(super) fn tell(&self) {
        self.settled.notify_one();
    }

    fn unacked(&self) -> MutexGuard<'_, Unacked> {
        self.unacked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Unacked {
    fn new(prefetch: usize) -> Self {
        let enough = (prefetch / SHARE).max(1);
        Self {
            hits: VecDeque::new(),
            enough,
            crowd: prefetch.saturating_sub(enough).max(1),
            waiting: 0,
            since: None,
        }
    }

    fn settle(&mut self, tag: u64, identity: Option<u64>, now: Instant) {
        let place = self.hits.binary_search_by_key(&tag, |(tag, _)| *tag);
        if let Some((_, state @ State::Held)) =
            place.ok().and_then(|place| self.hits.get_mut(place))
        {
            *state = State::Settled(now, identity);
            self.waiting += 1;
            self.since.get_or_insert(now);
        }
    }

    /// Takes out what can be acked, once it is much or has waited for long: up to the first hit
    /// that is not settled, and those beyond it. With `all`, nothing waits.
    fn due(&mut self, now: Instant, all: bool) -> Due {
        let mut due = Due::default();
        if all
            || self.is_crowded()
            || self.is_enough()
            || self.front().is_some_and(|since| now >= since + PATIENCE)
        {
            let mut up_to = None;
            while let Some((tag, State::Settled(_, identity))) = self.hits.front().copied() {
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
                let State::Settled(_, identity) = state else { return true };
                due.acks.push((*tag, false));
                due.stored.extend(*identity);
                false
            });
            (self.waiting, self.since) = (0, None);
        }
        due
    }

    fn have_waited_long(&mut self, now: Instant) -> bool {
        let is_long = |since: Instant| now >= since + LONGEST_WAIT;
        if self.since.is_some_and(is_long) {
            // Whose time that was may be gone by now.
            let waiting = self.hits.iter().filter_map(|(_, state)| match state {
                State::Settled(since, _) => Some(*since),
                State::Held => None,
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
                .all(|(_, state)| matches!(state, State::Settled(..)))
    }

    /// Since when the first hit is settled, if it is.
    fn front(&self) -> Option<Instant> {
        match self.hits.front() {
            Some((_, State::Settled(since, _))) => Some(*since),
            _ => None,
        }
    }

    /// When there is something to do, if nothing is settled until then.
    fn deadline(&self) -> Option<Instant> {
        let deadlines = [
            self.front().map(|since| since + PATIENCE),
            self.since.map(|since| since + LONGEST_WAIT),
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

        fn check(&mut self, due: Due, settled: &mut Vec<(u64, Instant)>) {
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
        (1..=50).for_each(|tag| unacked.hits.push_back((tag, State::Held)));
        (1..=11).for_each(|tag| unacked.settle(tag, Some(tag), now));
        assert_eq!(unacked.due(now, false), Due::default(), "more may come");
        assert_eq!(
            unacked.due(now + PATIENCE, false),
            Due { acks: vec![(11, true)], stored: (1..=11).collect() }
        );
        (12..=23).for_each(|tag| unacked.settle(tag, Some(tag), now));
        assert_eq!(
            unacked.due(now, false),
            Due { acks: vec![(23, true)], stored: (12..=23).collect() },
            "an eighth of the prefetch"
        );
        (24..=50).for_each(|tag| unacked.settle(tag, Some(tag), now));
        assert_eq!(
            unacked.due(now, true),
            Due { acks: vec![(50, true)], stored: (24..=50).collect() }
        );
        assert_eq!((unacked.due(now, true), unacked.deadline()), (Due::default(), None));
    }

    #[test]
    fn what_waits_for_an_earlier_hit_goes_alone_in_the_end() {
        let mut unacked = Unacked::new(100);
        let start = Instant::now();
        (1..=9).for_each(|tag| unacked.hits.push_back((tag, State::Held)));
        unacked.settle(3, None, start);
        assert_eq!(unacked.due(start, false), Due::default());
        (1..=2).for_each(|tag| unacked.settle(tag, None, start + LONGEST_WAIT / 2));
        unacked.settle(5, None, start + LONGEST_WAIT / 2);
        assert_eq!(
            unacked.due(start + LONGEST_WAIT, false).acks,
            [(3, true)],
            "5 has not waited for long"
        );
        assert_eq!(unacked.due(start + 2 * LONGEST_WAIT, false).acks, [(5, false)]);
        assert_eq!(unacked.hits.len(), 5, "what is not settled is not acked");
    }

    #[test]
    fn nothing_waits_while_the_lanes_run_dry() {
        let now = Instant::now();
        for (prefetch, crowd) in [(2, 1), (8, 7), (100, 88)] {
            let mut unacked = Unacked::new(prefetch);
            (1..=100).for_each(|tag| unacked.hits.push_back((tag, State::Held)));
            (2..=crowd).for_each(|tag| unacked.settle(tag, None, now));
            assert_eq!(unacked.due(now, false), Due::default());
            unacked.settle(crowd + 1, None, now);
            let each = (2..=crowd + 1).map(|tag| (tag, false)).collect();
            assert_eq!(unacked.due(now, false), Due { acks: each, stored: Vec::new() });
        }
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
                        unacked.hits.push_back((tag, State::Held));
                        broker.unacked.insert(tag);
                        held.push(tag);
                    }
                    1 if !held.is_empty() => {
                        let tag = held.remove(pick % held.len());
                        unacked.settle(tag, Some(tag), now);
                        settled.push((tag, now));
                    }
                    2 if !held.is_empty() && pick % 8 == 0 => returned.push(held.remove(pick % held.len())),
                    _ => {
                        broker.check(unacked.due(now, false), &mut settled);
                        prop_assert_eq!(unacked.waiting, settled.len());
                        prop_assert!(settled.len() < unacked.crowd, "the lanes do not run dry");
                        prop_assert!(settled.iter().all(|(_, since)| now < *since + LONGEST_WAIT));
                        let longest = settled.iter().map(|(_, since)| *since + LONGEST_WAIT).min();
                        prop_assert!(longest.is_none_or(|longest| unacked.deadline().is_some_and(|at| at <= longest)), "somebody looks in time");
                        prop_assert!(unacked.deadline().is_none_or(|at| at > now), "and not before");
                    }
                }
            }
            broker.check(unacked.due(now, true), &mut settled);
            prop_assert!(settled.is_empty());
            prop_assert_eq!(unacked.hits.len(), held.len() + returned.len());
        }
    }
}
