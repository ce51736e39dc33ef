//! What the last half minute was like: how fast hits went, and what lanes waited for.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::domain::status::{DeliveryRate, LaneUse};
use crate::service::telemetry::{Metrics, WaitsFor};

/// How long is remembered.
const SPAN: Duration = Duration::from_secs(30);

/// Samples of a few moments, each older than the next, within the last [`SPAN`].
#[derive(Debug, Default)]
pub(super) struct Recent {
    samples: VecDeque<Sample>,
}

/// A moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    /// Hits that were delivered until then.
    delivered: u64,
    lanes: LaneUse,
}

impl Recent {
    /// To be called about every half second.
    pub(super) fn sample(&mut self, now: Instant, delivered: u64, metrics: &Metrics) {
        let waiting = |waits_for| f64::from(u16::try_from(metrics.lanes(waits_for)).unwrap_or(0));
        let lanes = LaneUse {
            hits: waiting(WaitsFor::Hits),
            max_rate: waiting(WaitsFor::MaxRate),
            room: waiting(WaitsFor::Room),
            answer: waiting(WaitsFor::Answer),
        };
        self.add(Sample { at: now, delivered, lanes });
    }

    fn add(&mut self, sample: Sample) {
        self.samples.retain(|old| sample.at.saturating_duration_since(old.at) <= SPAN);
        self.samples.push_back(sample);
    }

    /// The rate and the mean of the lanes.
    pub(super) fn pace(&self) -> DeliveryRate {
        let (Some(first), Some(last)) = (self.samples.front(), self.samples.back()) else {
            return DeliveryRate::default();
        };
        let seconds = last.at.saturating_duration_since(first.at).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "the hits of half a minute")]
        let hits = last.delivered.saturating_sub(first.delivered) as f64;
        let mean = |lanes: fn(&LaneUse) -> f64| {
            let sum: f64 = self.samples.iter().map(|sample| lanes(&sample.lanes)).sum();
            sum / f64::from(u32::try_from(self.samples.len()).unwrap_or(u32::MAX))
        };
        DeliveryRate {
            hits_per_second: if seconds > 0.0 { hits / seconds } else { 0.0 },
            lanes: LaneUse {
                hits: mean(|lanes| lanes.hits),
                max_rate: mean(|lanes| lanes.max_rate),
                room: mean(|lanes| lanes.room),
                answer: mean(|lanes| lanes.answer),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_half_minute_counts() {
        let start = Instant::now();
        let mut recent = Recent::default();
        assert_eq!(recent.pace(), DeliveryRate::default(), "nothing is known");
        for second in 0..100_u32 {
            let room = if second < 80 { 0.0 } else { 8.0 };
            let lanes = LaneUse { room, answer: 2.0, ..LaneUse::default() };
            let at = start + Duration::from_secs(second.into());
            recent.add(Sample { at, delivered: u64::from(second) * 40, lanes });
        }
        let DeliveryRate { hits_per_second, lanes } = recent.pace();
        assert!((hits_per_second - 40.0).abs() < 1e-9, "{hits_per_second}");
        assert!((lanes.room - 8.0 * 20.0 / 31.0).abs() < 1e-9, "{lanes:?}");
        assert!((lanes.answer - 2.0).abs() < 1e-9, "{lanes:?}");
    }

    #[test]
    fn a_lane_waits_for_one_thing() {
        let metrics = Metrics::new(2);
        let mut recent = Recent::default();
        let waits = metrics.lane_waits(WaitsFor::Room);
        recent.sample(Instant::now(), 0, &metrics);
        assert_eq!(recent.pace().lanes, LaneUse { room: 1.0, ..LaneUse::default() });
        drop(waits);
        assert_eq!(metrics.lanes(WaitsFor::Room), 0);
    }
}
