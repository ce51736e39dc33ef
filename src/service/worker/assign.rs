//! Which shards the worker reads: all of them while Matomo takes hits, and one at a time, for
//! probes, in a long outage.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::Worker;
use super::round::{Assignment, InFlight, RoundEnd};
use crate::service::amqp::session::Session;

/// A shard that gives the probe nothing for so long is empty, or another worker's.
const PROBE_IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// How often shards beyond `QUEUE_SHARDS` are looked at.
const EXTRA_SHARDS_INTERVAL: Duration = Duration::from_secs(5);

/// A hit is not held for longer than this while it may not be sent.
const MAX_PROBE_PAUSE: Duration = Duration::from_secs(60);

/// How often the worker looks whether its round should end.
const TICK: Duration = Duration::from_millis(500);

impl Worker {
    /// Works until shutdown or until the session is lost.
    pub async fn serve(self: &Arc<Self>, session: &Arc<Session>, shutdown: &CancellationToken) {
        self.context.stored.begin_session(Instant::now());
        let mut extra = session.extra_shards.clone();
        let mut turn = 0;
        loop {
            let assigning = self.assign(session, &extra, turn);
            let assignment = match shutdown.run_until_cancelled(assigning).await {
                Some(Some(assignment)) => assignment,
                // Shutdown, or the session is over.
                _ => return,
            };
            match self.run_round(session, shutdown, &assignment, &mut extra).await {
                RoundEnd::Shutdown | RoundEnd::SessionLost => return,
                RoundEnd::Outage if !assignment.is_probe => tracing::warn!(
                    "Matomo has been away for {} min: prefetched hits go back to the broker, and \
                     one hit at a time probes",
                    self.hold.as_secs() / 60
                ),
                RoundEnd::Idle => turn += 1,
                RoundEnd::Outage | RoundEnd::Rebalance => {}
            }
        }
    }

    /// What the next round reads; `None` when the session is over.
    async fn assign(&self, session: &Session, extra: &[u16], turn: usize) -> Option<Assignment> {
        if self.gate().open_for().is_some_and(|away| away > self.hold) {
            // Not before the probe may go: a hit that is held runs into the broker's consumer
            // timeout.
            let pause = tokio::time::sleep(self.gate().pause_left().unwrap_or_default());
            session.end.or(pause).await.ok()?;
            return Some(probing(session, turn));
        }
        let extra = self.with_hits(session, extra).await;
        let shards = session.claims();
        let prefetch = usize::from(self.prefetch) / (shards.len() + extra.len()).max(1);
        let prefetch = u16::try_from(prefetch.max(1)).unwrap_or(u16::MAX);
        Some(Assignment { shards, extra, prefetch, lanes: self.lanes, is_probe: false })
    }

    /// Waits until the round should end, and says why.
    pub(super) async fn until_end(
        &self,
        session: &Session,
        shutdown: &CancellationToken,
        assignment: &Assignment,
        extra: &mut Vec<u16>,
        in_flight: &InFlight,
    ) -> RoundEnd {
        let mut tick = tokio::time::interval(TICK);
        let (mut busy_at, mut looked_at) = (Instant::now(), Instant::now());
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return RoundEnd::Shutdown,
                () = session.end.wait() => return RoundEnd::SessionLost,
                _ = tick.tick() => {}
            }
            let away = self.gate().open_for();
            self.context.metrics.shards_active.set(self.activity.active_shards());
            if in_flight.any() {
                busy_at = Instant::now();
            }
            let pause = self.gate().pause_left().unwrap_or_default();
            match (away, assignment.is_probe) {
                (None, true) => return RoundEnd::Outage,
                (Some(_), true) if pause > MAX_PROBE_PAUSE => return RoundEnd::Outage,
                (Some(_), true) if busy_at.elapsed() > PROBE_IDLE_TIMEOUT => return RoundEnd::Idle,
                (Some(away), false) if away > self.hold => return RoundEnd::Outage,
                (None, false)
                    if looked_at.elapsed() > EXTRA_SHARDS_INTERVAL && !extra.is_empty() =>
                {
                    looked_at = Instant::now();
                    if self.look_at_extra(session, assignment, extra, in_flight).await {
                        return RoundEnd::Rebalance;
                    }
                }
                _ => {}
            }
        }
    }
}

/// One hit at a time of one shard, another one at each turn.
fn probing(session: &Session, turn: usize) -> Assignment {
    let shards = session.claims().into_iter().cycle().nth(turn).into_iter().collect();
    Assignment { shards, extra: Vec::new(), prefetch: 1, lanes: 1, is_probe: true }
}
