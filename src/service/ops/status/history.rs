//! What the counters stood at earlier: the last hour by minutes, the last day by hours. Sampled
//! beside the work, so that a hit costs nothing, and bounded: 60 and 24 samples.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::domain::status::Hour;
use crate::service::telemetry::CounterSnapshot as Counts;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// Samples of the counters, each older than the next.
#[derive(Debug)]
pub(super) struct History {
    minutes: VecDeque<(Instant, Counts)>,
    hours: VecDeque<(Instant, Counts)>,
    /// When a hit last met its fate, and how many had until then.
    moved: (Instant, u64),
}

impl History {
    /// From now on. The counters start at 0.
    pub(super) fn new(now: Instant) -> Self {
        let start = || VecDeque::from([(now, Counts::default())]);
        Self { minutes: start(), hours: start(), moved: (now, 0) }
    }

    /// To be called at least once a second.
    pub(super) fn sample(&mut self, now: Instant, counts: Counts) {
        let settled = counts.settled();
        if settled != self.moved.1 {
            self.moved = (now, settled);
        }
        if is_due(&self.hours, now, HOUR) {
            keep(&mut self.hours, (now, counts.clone()), 24);
        }
        if is_due(&self.minutes, now, MINUTE) {
            keep(&mut self.minutes, (now, counts), 60);
        }
    }

    /// What came in the last hour.
    pub(super) fn hour(&self, now: Instant, counts: &Counts) -> Hour {
        let since = |count: fn(&Counts) -> u64| {
            count(counts).saturating_sub(self.minutes.front().map_or(0, |(_, then)| count(then)))
        };
        let delivered =
            self.minutes.iter().map(|(_, then)| then.delivered).chain([counts.delivered]);
        Hour {
            seconds: self
                .minutes
                .front()
                .map_or(0, |(at, _)| now.saturating_duration_since(*at).as_secs()),
            received: since(|counts| counts.received),
            delivered: since(|counts| counts.delivered),
            retried: since(|counts| counts.retried.iter().sum()),
            parked: since(|counts| counts.parked.iter().sum()),
            rejected: since(|counts| counts.rejected.iter().sum()),
            minutes: delivered
                .clone()
                .zip(delivered.skip(1))
                .map(|(then, next)| next.saturating_sub(then))
                .collect(),
            still_seconds: now.saturating_duration_since(self.moved.0).as_secs(),
        }
    }

    /// What the counters stood at a day ago.
    pub(super) fn a_day_ago(&self) -> Option<&Counts> {
        self.hours.front().map(|(_, counts)| counts)
    }
}

fn is_due(samples: &VecDeque<(Instant, Counts)>, now: Instant, every: Duration) -> bool {
    samples.back().is_none_or(|(at, _)| now.saturating_duration_since(*at) >= every)
}

fn keep(samples: &mut VecDeque<(Instant, Counts)>, sample: (Instant, Counts), most: usize) {
    samples.push_back(sample);
    while samples.len() > most {
        samples.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(delivered: u64) -> Counts {
        Counts { received: delivered, delivered, ..Counts::default() }
    }

    #[test]
    fn an_hour_has_sixty_minutes_and_a_day_its_hours() {
        let start = Instant::now();
        let mut history = History::new(start);
        let mut now = start;
        // 10 hits a minute, for 30 hours.
        for second in 1..=108_000 {
            now = start + Duration::from_secs(second);
            history.sample(now, counts(second / 6));
        }
        let hour = history.hour(now, &counts(18_000));
        assert_eq!(hour.minutes, [vec![10; 59], vec![0]].concat(), "the last has just begun");
        assert_eq!((hour.seconds, hour.delivered), (3_540, 590));
        assert_eq!(history.a_day_ago().expect("a sample").delivered, 18_000 - 23 * 600);
        assert_eq!((history.minutes.len(), history.hours.len()), (60, 24));
    }

    #[test]
    fn stillness_is_counted_from_the_last_hit() {
        let start = Instant::now();
        let mut history = History::new(start);
        let at = |seconds| start + Duration::from_secs(seconds);
        history.sample(at(5), counts(1));
        history.sample(at(50), counts(1));
        assert_eq!(history.hour(at(65), &counts(1)).still_seconds, 60);
        assert_eq!(history.hour(at(65), &counts(1)).delivered, 1, "from the start on");
    }
}
