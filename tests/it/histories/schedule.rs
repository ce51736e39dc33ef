//! A seed → what breaks, when, and for how long. The same on every machine.

use std::fmt;
use std::time::Duration;

use crate::support::cable::Fault;
use crate::support::hits::splitmix;
use crate::support::matomo::{HitFault, Situation};

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Event {
    KillWorker,
    StopWorker,
    AddWorker,
    /// Killed, and started again with its data.
    RestartBroker,
    /// 8 shards become 4, and 4 become 8.
    Reshard,
    CutToBroker,
    ToBroker(Fault),
    CutToMatomo,
    ToMatomo(Fault),
    Weather(Situation),
    /// Every request takes so long.
    SlowAnswers(Duration),
    /// Some visitors' hits make Matomo fail.
    Poison(HitFault),
}

/// An event, and when it is over; those that are not things of a moment last a while.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) at: Duration,
    pub(super) until: Duration,
    pub(super) event: Event,
}

const WEATHER: [Situation; 18] = [
    Situation::BadGateway,
    Situation::DatabaseDown,
    Situation::DatabaseDiesMidBulk,
    Situation::Deadlock,
    Situation::LockWait,
    Situation::TrackerOff,
    Situation::NotInstalled,
    Situation::PhpFatal,
    Situation::LoginPage,
    Situation::Redirect,
    Situation::Forbidden,
    Situation::TooLarge,
    Situation::TooManyRequests(1),
    Situation::GatewayTimeout,
    Situation::Slow(Duration::from_secs(3)),
    Situation::Broken,
    Situation::NoContent,
    Situation::Endless,
];

const LINE: [Fault; 3] =
    [Fault::Frozen, Fault::Delayed(Duration::from_millis(100)), Fault::Throttled(50_000)];

/// So many events, in the order of their times.
pub(super) fn schedule(seed: u64, count: usize) -> Vec<Step> {
    let mut state = seed;
    let mut roll = |most: usize| (splitmix(&mut state) % most as u64) as usize;
    let mut at = Duration::ZERO;
    let mut steps = Vec::with_capacity(count);
    for _ in 0..count {
        at += Duration::from_millis(200 + roll(1_500) as u64);
        let until = at + Duration::from_millis(300 + roll(2_700) as u64);
        let event = match roll(16) {
            0 | 1 => Event::KillWorker,
            2 => Event::StopWorker,
            3 | 4 => Event::AddWorker,
            5 => Event::RestartBroker,
            6 => Event::Reshard,
            7 => Event::CutToBroker,
            8 => Event::ToBroker(LINE[roll(LINE.len())]),
            9 => Event::CutToMatomo,
            10 => Event::ToMatomo(
                [LINE[roll(LINE.len())], Fault::ResetOnAnswer, Fault::CorruptAnswers][roll(3)],
            ),
            11 => Event::SlowAnswers(Duration::from_millis(100 + roll(900) as u64)),
            12 => Event::Poison([HitFault::Exception, HitFault::Invalid][roll(2)]),
            _ => Event::Weather(WEATHER[roll(WEATHER.len())]),
        };
        steps.push(Step { at, until, event });
    }
    steps
}

impl Event {
    /// Its kind, for the summary.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::KillWorker => "kill -9 of a worker",
            Self::StopWorker => "SIGTERM of a worker",
            Self::AddWorker => "a worker joins",
            Self::RestartBroker => "RabbitMQ killed and started again",
            Self::Reshard => "8 shards to 4, or 4 to 8",
            Self::CutToBroker => "the line to RabbitMQ cut",
            Self::ToBroker(_) => "the line to RabbitMQ frozen, slow or thin",
            Self::CutToMatomo => "the line to Matomo cut",
            Self::ToMatomo(_) => "the line to Matomo frozen, slow, thin, reset or corrupt",
            Self::Weather(_) => "Matomo answers otherwise",
            Self::SlowAnswers(_) => "Matomo answers slowly",
            Self::Poison(_) => "hits that make Matomo fail",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:5.1} s to {:4.1} s  {:?}",
            self.at.as_secs_f64(),
            self.until.as_secs_f64(),
            self.event
        )
    }
}
