//! What the broker told of the queues, and since when: the depths, how long a shard has had hits,
//! and the trend.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use crate::domain::status::Earlier;
use crate::service::amqp::depths::Depths;

/// Readings that the trend is taken from: two minutes.
const TREND: usize = 24;

/// The latest reading.
#[derive(Debug)]
pub(super) struct DepthSample {
    pub(super) at: Instant,
    pub(super) depths: Depths,
    spans: HashMap<u16, Span>,
    trend: VecDeque<(Instant, u64)>,
}

/// Since when a shard has been as it is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Span {
    /// Every reading since then has found hits in it.
    pub(super) filled: Option<Instant>,
    /// It has had hits and no reader since then.
    pub(super) unread: Option<Instant>,
}

impl DepthSample {
    /// The next one.
    pub(super) fn after(earlier: Option<Self>, at: Instant, depths: Depths) -> Self {
        let (mut spans, mut trend) =
            earlier.map(|sample| (sample.spans, sample.trend)).unwrap_or_default();
        for (shard, depth) in &depths.shards {
            let span = spans.entry(*shard).or_default();
            let (has_hits, is_read) =
                depth.map_or((false, true), |depth| (depth.ready > 0, depth.consumers > 0));
            span.filled = if has_hits { span.filled.or(Some(at)) } else { None };
            span.unread = if has_hits && !is_read { span.unread.or(Some(at)) } else { None };
        }
        spans.retain(|shard, _| depths.shards.iter().any(|(index, _)| index == shard));
        let ready = depths
            .shards
            .iter()
            .filter_map(|(_, depth)| *depth)
            .map(|depth| u64::from(depth.ready))
            .sum();
        trend.push_back((at, ready));
        while trend.len() > TREND {
            trend.pop_front();
        }
        Self { at, depths, spans, trend }
    }

    /// Since when this shard has been as it is.
    pub(super) fn span(&self, shard: u16) -> Span {
        self.spans.get(&shard).copied().unwrap_or_default()
    }

    /// How many hits waited two minutes before.
    pub(super) fn earlier(&self) -> Option<Earlier> {
        let (at, waiting) = *self.trend.front()?;
        Some(Earlier { waiting, seconds: self.at.saturating_duration_since(at).as_secs() })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::service::amqp::depths::Depth;

    #[test]
    fn spans_begin_with_the_first_hit_and_end_with_the_last() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let read = |earlier, seconds, ready, consumers| {
            let shards = vec![(0, Some(Depth { ready, consumers }))];
            Some(DepthSample::after(earlier, at(seconds), Depths { shards, others: Vec::new() }))
        };
        let mut sample = read(None, 0, 0, 0);
        assert!(sample.as_ref().expect("one").span(0).filled.is_none());
        for (seconds, ready, consumers) in [(5, 90, 0), (10, 80, 0), (15, 70, 1), (20, 60, 1)] {
            sample = read(sample, seconds, ready, consumers);
        }
        let latest = sample.as_ref().expect("one");
        assert_eq!((latest.span(0).filled, latest.span(0).unread), (Some(at(5)), None));
        for turn in 0..30 {
            sample = read(sample, 25 + 5 * turn, 1_000 - u32::try_from(turn).expect("small"), 0);
        }
        let latest = sample.expect("one");
        assert_eq!(latest.span(0).unread, Some(at(25)));
        assert_eq!(latest.earlier(), Some(Earlier { waiting: 994, seconds: 115 }));
    }
}
